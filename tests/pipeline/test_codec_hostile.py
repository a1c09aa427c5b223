"""Broken files: cut anywhere, bits turned over at random. A typed error or a picture; never anything else."""

from __future__ import annotations

import random

import numpy as np
import pytest

from pipeline.codec import FORMS, KeepAsIs, Limits, decode, encode
from pipeline.elements import Image
from pipeline.failures import ImageError
from tests.pipeline.picture_files import RESTORABLE, of, restorable
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
