"""A TIFF that is read and written in bands has the pixels, and the bytes, of one that is held."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from pipeline.codec import Limits, decode, encode, large_tiff
from pipeline.codec.large_tiff import LargeTiff, open_large, open_written, write_large
from pipeline.codec.transforms import run_here
from pipeline.elements import Pixels
from pipeline.failures import DamagedImageError
from pipeline.spool import Spool
from tests.pipeline.picture_files import deep, of, photo, tiff

Array = np.ndarray[Any, np.dtype[Any]]

COLOUR = photo(211, 157)
GREY = photo(211, 157, 1)
CLEAR = np.dstack([COLOUR, photo(211, 157, 1, seed=3)])

FILES: dict[str, Callable[[], bytes]] = {
    "one strip": lambda: tiff(COLOUR),
    "strips": lambda: tiff(COLOUR, rowsperstrip=7),
    "big-endian strips": lambda: tiff(deep(COLOUR), rowsperstrip=7, byteorder=">"),
    "grey 16 bit": lambda: tiff(deep(GREY), rowsperstrip=16),
    "lzw strips": lambda: tiff(COLOUR, rowsperstrip=5, compression="lzw"),
    "lzw with predictor": lambda: tiff(deep(COLOUR), rowsperstrip=5, compression="lzw", predictor=True),
    "deflate strips": lambda: tiff(COLOUR, rowsperstrip=33, compression="zlib", predictor=True),
    "packbits": lambda: tiff(GREY, rowsperstrip=10, compression="packbits"),
    "zstd": lambda: tiff(COLOUR, rowsperstrip=10, compression="zstd"),
    "tiles": lambda: tiff(COLOUR, tile=(32, 48)),
    "deflate tiles": lambda: tiff(COLOUR, tile=(48, 32), compression="zlib", predictor=True),
    "big-endian deflate tiles": lambda: tiff(deep(COLOUR), tile=(32, 32), compression="zlib", byteorder=">"),
    "jpeg tiles": lambda: tiff(COLOUR, tile=(32, 32), compression="jpeg"),
    "BigTIFF": lambda: tiff(deep(GREY), rowsperstrip=9, compression="zlib", bigtiff=True),
    "BigTIFF in big-endian tiles": lambda: tiff(COLOUR, tile=(64, 64), bigtiff=True, byteorder=">"),
    "alpha": lambda: tiff(CLEAR, rowsperstrip=9, extrasamples=[2]),
    "deep alpha in tiles": lambda: tiff(deep(CLEAR), tile=(32, 32), compression="lzw", extrasamples=["assocalpha"]),
    "white is zero": lambda: tiff(GREY, rowsperstrip=8, photometric="miniswhite", compression="zlib"),
    "planes": lambda: tiff(np.moveaxis(COLOUR, -1, 0), planarconfig="separate", photometric="rgb", rowsperstrip=9),
    "planes in deflate tiles": lambda: tiff(
        np.moveaxis(COLOUR, -1, 0), planarconfig="separate", photometric="rgb", tile=(32, 32), compression="zlib"
    ),
    "several pages": lambda: tiff(COLOUR, photo(100, 60), deep(GREY), rowsperstrip=11, compression="zlib"),
    "tags": lambda: tiff(
        COLOUR,
        rowsperstrip=11,
        description="a caption",
        resolution=(300, 300),
        extratags=[(34675, 7, 600, b"\1" * 600, True), (700, 1, 9, b"<x:xmp/>\n", True), (65000, 3, 2, (5, 6), True)],
    ),
}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes bands of a few rows, so that every file has several."""
    monkeypatch.setattr(large_tiff, "DECODED_BYTES", 9_000)


def spool(data: bytes) -> Spool:
    return Spool.written_by(lambda stream: stream.write(data))


def opened(data: bytes, form: str = "same") -> LargeTiff:
    large = open_large(spool(data), form, 0)
    assert large is not None
    return large


def changed(pixels: Array) -> Array:
    """Stands for a restoration: other values, in every row."""
    return np.ascontiguousarray(pixels ^ 1)


def bands_of(
    pages: list[tuple[Pixels, Pixels | None]], height: int
) -> Iterator[Iterator[tuple[Pixels, Pixels | None]]]:
    for pixels, alpha in pages:
        yield (
            (pixels[top : top + height], None if alpha is None else alpha[top : top + height])
            for top in range(0, len(pixels), height)
        )


@pytest.mark.parametrize("kind", FILES)
def test_rows_are_those_of_the_whole_page(kind: str) -> None:
    data = FILES[kind]()
    image, large = decode(of(data), Limits()), opened(data)

    assert [page.metadata for page in large.pages] == [page.metadata for page in image.pages]
    for whole, page in zip(image.pages, large.pages, strict=True):
        for start, stop in ((0, page.height), (0, 1), (13, 77), (page.height - 5, page.height)):
            pixels, alpha = large.rows(run_here, page, start, stop)
            np.testing.assert_array_equal(pixels, whole.pixels[start:stop])
            assert (alpha is None) == (whole.alpha is None)
            if alpha is not None:
                np.testing.assert_array_equal(alpha, whole.alpha[start:stop])  # type: ignore[index]


@pytest.mark.parametrize("form", large_tiff.FORMS)
@pytest.mark.parametrize("kind", FILES)
def test_what_is_written_in_bands_is_to_the_byte_what_is_written_at_once(kind: str, form: str) -> None:
    data = FILES[kind]()
    image = decode(of(data), Limits())
    pages = [(changed(page.pixels), page.alpha) for page in image.pages]
    at_once = encode(image, tuple(pixels for pixels, _ in pages), form)

    source = opened(data, form)
    written = Spool.written_by(lambda stream: write_large(stream, source, bands_of(pages, 24), form))

    assert written.whole() == at_once.data
    assert at_once.suffix == ""
    again = open_written(written, source)
    if kind != "jpeg tiles":
        for (pixels, _), page in zip(pages, again.pages, strict=True):
            np.testing.assert_array_equal(again.rows(run_here, page, 0, page.height)[0], pixels)


@pytest.mark.parametrize(
    ("data", "form"),
    [
        (b"no picture", "same"),
        (tiff(COLOUR), "png"),
        (tiff(COLOUR > 128), "same"),  # black and white only
        (tiff(COLOUR, compression="jpeg"), "same"),  # strips that the writer cuts as it likes
    ],
)
def test_what_cannot_be_done_in_bands_is_left_to_the_reader_of_whole_files(data: bytes, form: str) -> None:
    assert open_large(spool(data), form, 0) is None


def test_a_small_file_is_left_to_the_reader_of_whole_files() -> None:
    data = tiff(COLOUR)

    assert open_large(spool(data), "same", 211 * 157) is None
    assert open_large(spool(data), "same", 211 * 157 - 1) is not None


def test_strips_too_large_to_be_held_are_left_to_the_reader_of_whole_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_tiff, "MOST_SEGMENT_BYTES", 50_000)

    assert open_large(spool(tiff(COLOUR, compression="zlib")), "same", 0) is None
    assert open_large(spool(tiff(COLOUR, compression="zlib", rowsperstrip=50)), "same", 0) is not None
    assert open_large(spool(tiff(COLOUR)), "same", 0) is not None  # rows that stand as they are can be read one by one


def test_a_file_that_ends_early_is_damaged() -> None:
    data = tiff(COLOUR, rowsperstrip=7, compression="zlib")

    with pytest.raises(DamagedImageError, match="byte"):
        open_large(spool(data[: len(data) * 2 // 3]), "same", 0)
    with pytest.raises(DamagedImageError):
        open_large(spool(data[:60]), "same", 0)


def test_a_damaged_strip_is_damage_of_the_band_that_needs_it() -> None:
    data = bytearray(tiff(COLOUR, rowsperstrip=7, compression="zlib"))
    large = opened(bytes(data))
    at = large.pages[0].offsets[10]
    data[at : at + 40] = bytes(40)
    large = opened(bytes(data))

    large.rows(run_here, large.pages[0], 0, 70)
    with pytest.raises(DamagedImageError):
        large.rows(run_here, large.pages[0], 60, 80)


def test_directories_without_end_are_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_tiff, "MOST_HEADER_READS", 50)
    pages = tiff(*(photo(8, 8) for _ in range(20)))
    huge = tiff(COLOUR, extratags=[(65000, 1, 90_000, bytes(90_000), True)])

    assert open_large(spool(pages), "same", 0) is None
    assert open_large(spool(huge), "same", 0) is not None
    monkeypatch.setattr(large_tiff, "MOST_HEADER_BYTES", 80_000)
    assert open_large(spool(huge), "same", 0) is None


def test_an_output_that_may_pass_four_gigabytes_becomes_a_bigtiff(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiff(COLOUR, rowsperstrip=7, compression="lzw")
    source = opened(data)
    monkeypatch.setattr(large_tiff, "MOST_HEADER_BYTES", 2**31)
    image = decode(of(data), Limits())
    pages = [(page.pixels, page.alpha) for page in image.pages]

    written = Spool.written_by(lambda stream: write_large(stream, source, bands_of(pages, 50), "same"))

    assert struct.unpack("<H", written.slice(2, 2)) == (43,)
    np.testing.assert_array_equal(decode(of(written.whole()), Limits()).pages[0].pixels, image.pages[0].pixels)
