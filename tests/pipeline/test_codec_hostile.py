"""Broken files: cut anywhere, bits turned over at random. A typed error or a picture; never anything else."""

from __future__ import annotations

import random
import struct

import numpy as np
import pytest

from pipeline.codec import FORMS, KeepAsIs, Limits, decode, encode
from pipeline.elements import Image
from pipeline.failures import DamagedImageError, ImageError
from tests.pipeline.picture_files import KEPT, RESTORABLE, of, restorable
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
