"""Broken files: cut anywhere, bits turned over at random. A typed error or a picture; never anything else."""

from __future__ import annotations

import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import tifffile

from pipeline.codec import FORMS, KeepAsIs, Limits, boxes, decode, encode, encoding, jp2, tiff
from pipeline.codec.ifd import Directory, Entry
from pipeline.elements import Image, Metadata
from pipeline.failures import DamagedImageError, ImageError, UnsupportedImageError
from tests.pipeline.picture_files import COLOUR, KEPT, RESTORABLE, of, pillow, restorable
from tests.pipeline.test_codec_metadata import FULL

LIMITS = Limits(max_pixels=1_000_000)

# One of each reader and of each way through it.
KINDS = [
    *("jpeg 4:2:0", "jpeg progressive", "png rgb 16", "png colour key", "webp lossy alpha", "webp lossless", "bmp rgb"),
    *("bmp grey", "jp2 reversible", "jp2 alpha", "avif", "tiff", "tiff lzw", "tiff tiled", "tiff jpeg", "tiff big"),
]


def outcome_of(data: bytes) -> Image | str:
    """Decodes, and encodes what comes out; any exception but the typed ones gets through."""
    try:
        image = decode(of(data), LIMITS)
    except (ImageError, KeepAsIs) as error:
        return error.reason
    for form in FORMS:
        output = encode(image, tuple(page.pixels for page in image.pages), form)
        assert output.data
    return image


@pytest.mark.parametrize("name", KINDS)
def test_a_file_cut_anywhere_is_a_typed_error_or_a_picture(name: str) -> None:
    data = restorable(name)

    outcomes = [outcome_of(data[:end]) for end in range(0, len(data), max(1, len(data) // 60))]

    assert "damaged" in outcomes
    assert all(
        isinstance(one, Image) or one in {"damaged", "not-an-image", "unsupported", "decoder-crash"} for one in outcomes
    )


def turned(data: bytes, randomness: random.Random, front: int) -> bytes:
    """Turns a few bits over, half of the time within the first bytes, where the headers are."""
    broken = bytearray(data)
    for _ in range(randomness.choice((1, 1, 2, 8))):
        end = min(front, len(broken)) if randomness.random() < 0.5 else len(broken)
        broken[randomness.randrange(end)] ^= 1 << randomness.randrange(8)
    return bytes(broken)


@pytest.mark.parametrize("name", KINDS)
def test_turned_bits_are_a_typed_error_or_a_picture(name: str) -> None:
    data = restorable(name)
    randomness = random.Random(name)

    outcomes = [outcome_of(turned(data, randomness, 200)) for _ in range(60)]

    assert len(outcomes) == 60
    assert {type(one) for one in outcomes} <= {str, Image}


@pytest.mark.parametrize("name", FULL)
def test_turned_bits_in_metadata_are_a_typed_error_or_a_picture(name: str) -> None:
    data = FULL[name]()
    randomness = random.Random(name)

    outcomes = [outcome_of(turned(data, randomness, len(data))) for _ in range(60)]

    # Every chunk of a PNG has a check sum.
    assert any(isinstance(one, Image) for one in outcomes) == (name != "png")


def test_noise_behind_every_beginning_is_a_typed_error() -> None:
    randomness = np.random.default_rng(7)
    for name in RESTORABLE:
        for length in (4, 12, 24, 60):
            data = restorable(name)[:length] + randomness.bytes(400)

            assert not isinstance(outcome_of(data), Image) or length > 24, name


def with_size(data: bytes, width: int, height: int) -> bytes:
    """Makes a baseline JPEG promise another size."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


@pytest.mark.parametrize(("width", "height"), [(53, 300), (300, 37), (15_000, 15_000)])
def test_a_jpeg_that_promises_more_rows_than_it_has_is_damaged(width: int, height: int) -> None:
    data = with_size(restorable("jpeg 4:2:0"), width, height)

    with pytest.raises(DamagedImageError, match="premature end of data"):
        decode(of(data), Limits())


def test_a_jpeg_cut_short_and_closed_with_an_end_marker_is_damaged() -> None:
    data = restorable("jpeg 4:4:4")

    assert outcome_of(data[: len(data) * 3 // 4] + b"\xff\xd9") == "damaged"


def test_bytes_left_over_before_the_end_marker_of_a_jpeg_do_no_harm() -> None:
    data = restorable("jpeg 4:4:4")

    assert isinstance(outcome_of(data[:-2] + bytes(40) + data[-2:]), Image)


@pytest.mark.parametrize("name", ["gif", "animated gif", "palette png", "animated png", "animated webp", "cmyk jpeg"])
def test_a_file_to_be_kept_is_looked_through_to_its_end(name: str) -> None:
    data = KEPT[name][0]()

    assert outcome_of(data) == KEPT[name][1]
    assert outcome_of(data[:-1]) == "damaged"
    assert outcome_of(data[: len(data) * 2 // 3]) == "damaged"


@pytest.mark.parametrize("name", ["tiff lzw", "tiff jpeg", "tiff zstd"])
def test_a_compressed_tiff_that_lacks_its_last_bytes_is_damaged(name: str) -> None:
    # The pixels stand behind the directory.
    assert outcome_of(restorable(name)[:-3]) == "damaged"


def test_an_exif_that_points_at_itself_is_enlarged_all_the_same() -> None:
    circle = b"MM\0*" + struct.pack(">IHHHIII", 8, 1, 0x8769, 4, 1, 8, 0)
    image = decode(of(pillow(COLOUR, "WEBP", lossless=True, exif=b"Exif\0\0" + circle)), LIMITS)

    output = encode(image, tuple(page.pixels.repeat(2, 0).repeat(2, 1) for page in image.pages), "same", scale=2)

    assert decode(of(output.data), LIMITS).pages[0].metadata.exif == circle


def test_a_channel_of_an_unknown_kind_is_kept_as_it_is() -> None:
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.zeros((8, 8, 4), np.uint8), photometric="rgb", extrasamples=[0], byteorder="<")
    data = stream.getvalue()
    tag = struct.pack("<HHI", 338, 3, 1)

    assert not isinstance(outcome_of(data), str)
    assert outcome_of(data.replace(tag + b"\0\0", tag + struct.pack("<H", 999))) == "colour-space"


def test_what_an_encoder_trips_over_costs_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def trips(*_: object) -> None:
        raise KeyError("a tag that nobody knows")

    image = decode(of(restorable("png rgb 16")), LIMITS)
    monkeypatch.setitem(encoding.SAME, "png", trips)

    with pytest.raises(UnsupportedImageError, match="as png it cannot be written: KeyError: 'a tag that nobody knows'"):
        encode(image, tuple(page.pixels for page in image.pages), "same")


@pytest.mark.parametrize(("space", "kept"), [(b"CMYK", "cmyk"), (b"Lab ", "colour-space"), (b"RGB ", None)])
def test_a_jpeg_2000_is_of_the_colours_that_its_profile_is_for(space: bytes, kept: str | None) -> None:
    profile = bytes(16) + space + bytes(108)
    pixels = np.zeros((16, 24, 3), np.uint8)
    alpha = np.zeros((16, 24), np.uint8) if space == b"CMYK" else None
    written = jp2.write(pixels, alpha, Metadata(icc=profile), {"reversible": True, "bare": False, "alpha": 1})

    # Without its definition of channels a fourth one is what the profile says.
    outcome = outcome_of(written.replace(b"cdef", b"free"))

    assert (outcome if isinstance(outcome, str) else None) == kept


def test_a_profile_behind_a_number_of_a_jpeg_2000_is_kept() -> None:
    profile = bytes(16) + b"RGB " + bytes(108)
    pixels = np.zeros((16, 24, 3), np.uint8)
    written = jp2.write(pixels, None, Metadata(icc=profile), {"reversible": True, "bare": False, "alpha": 0})
    colours = boxes.encoded(b"colr", b"\2\0\0" + profile)
    both = boxes.encoded(b"colr", struct.pack(">BBBI", 1, 0, 0, jp2.SRGB)) + colours
    header = written.index(b"jp2h") - 4
    (length,) = struct.unpack_from(">I", written, header)
    grown = struct.pack(">I", length + len(both) - len(colours))
    data = written[:header] + grown + written[header + 4 :].replace(colours, both)

    image = decode(of(data), LIMITS)

    assert image.pages[0].metadata.icc == profile


def test_a_grey_profile_is_not_put_into_a_webp_of_three_channels() -> None:
    profile = bytes(16) + b"GRAY" + bytes(108)
    pixels = np.zeros((16, 24, 1), np.uint8)
    image = decode(of(pillow(pixels, "PNG", icc_profile=profile)), LIMITS)

    output = encode(image, (pixels,), "webp-lossless")

    assert output.format == "tiff"
    assert decode(of(output.data), LIMITS).pages[0].metadata.icc == profile


@pytest.mark.parametrize("form", ["same", "webp-lossless"])
def test_a_webp_that_came_with_a_grey_profile_stays_one(form: str) -> None:
    profile = bytes(16) + b"GRAY" + bytes(108)
    image = decode(of(pillow(COLOUR, "WEBP", icc_profile=profile)), LIMITS)

    output = encode(image, tuple(page.pixels for page in image.pages), form)

    assert (output.format, output.suffix) == ("webp", "")
    assert decode(of(output.data), LIMITS).pages[0].metadata.icc == profile


def test_an_animation_is_announced_by_a_chunk_and_not_by_a_text_before_it() -> None:
    still = pillow(COLOUR, "PNG")
    first = still.index(b"IDAT") - 4

    def with_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
        made = b"".join(
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
            for kind, content in chunks
        )
        return still[:first] + made + still[first:]

    text, control = (b"tEXt", b"Note\0IDAT"), (b"acTL", struct.pack(">II", 2, 0))
    assert outcome_of(with_chunks(text, control)) == "animated"
    assert not isinstance(outcome_of(with_chunks((b"tEXt", b"Note\0acTL"))), str)


def test_a_photoshop_tag_of_whole_numbers_is_carried_as_it_is() -> None:
    entry = Entry(4, 2, b"8BIMrest")
    (carried,) = tiff.carried([Directory({tiff.PHOTOSHOP: entry}, {})])

    assert carried.entries[tiff.PHOTOSHOP] == entry


@pytest.mark.parametrize(("kind", "after"), [(1, 1), (7, 7), (4, 7)])
def test_a_photoshop_tag_without_its_thumbnail_keeps_its_kind_where_that_counts_bytes(kind: int, after: int) -> None:
    block = b"8BIM\x04\x0c\0\0" + struct.pack(">I", 4) + b"jpeg" + b"8BIM\x04\x04\0\0" + struct.pack(">I", 4) + b"iptc"
    entry = Entry(kind, len(block) // (4 if kind == 4 else 1), block)
    (carried,) = tiff.carried([Directory({tiff.PHOTOSHOP: entry}, {})])

    assert carried.entries[tiff.PHOTOSHOP] == Entry(after, 16, block[16:])


@pytest.mark.parametrize(
    "options", [{"imagej": True}, {"metadata": {"axes": "ZYX"}, "photometric": "minisblack"}, {"photometric": "rgb"}]
)
def test_a_stack_behind_one_directory_is_kept_and_one_with_all_of_them_is_restored(options: dict[str, Any]) -> None:
    shape = (3, 24, 20, 3) if options.get("photometric") == "rgb" else (3, 24, 20)
    stack = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    whole, short = io.BytesIO(), io.BytesIO()
    tifffile.imwrite(whole, stack, **options)
    tifffile.imwrite(short, stack, truncate=True, **options)

    restored = outcome_of(whole.getvalue())

    assert isinstance(restored, Image)
    assert len(restored.pages) == 3
    assert outcome_of(short.getvalue()) == "multi-picture"
