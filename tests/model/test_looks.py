"""Which photograph is for what: splits that share nothing, and looks that survive what people do to pictures."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from model import looks
from model.degradation import compress
from model.looks import Look

Array = np.ndarray[Any, np.dtype[Any]]


def landscape(seed: int, rows: int = 96, cols: int = 128) -> Array:
    """A picture of soft shapes, unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (6, 8, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (cols, rows), interpolation=cv2.INTER_CUBIC) + rng.normal(0, 3, (rows, cols, 3))
    return np.clip(smooth, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def sixty() -> list[Look]:
    """Looks of sixty photographs, a few for validation as their hashes fall."""
    return [looks.look_at(f"{seed:02}.png", landscape(seed)) for seed in range(60)]


def test_splits_share_nothing_and_lose_nothing(sixty: list[Look]) -> None:
    splits = looks.split(sixty)

    assert not set(splits["train"]) & set(splits["validation"])
    assert len(splits["train"]) + len(splits["validation"]) == 60
    assert 1 <= len(splits["validation"]) <= 9


def test_the_order_in_which_they_were_looked_at_changes_nothing(sixty: list[Look]) -> None:
    again = Look("70.png", *(sixty[0].digest, sixty[0].bits))

    assert looks.split([again, *reversed(sixty)]) == looks.split(sixty)


def test_adding_a_picture_moves_none_of_the_others(sixty: list[Look]) -> None:
    before = looks.split(sixty[::2])

    after = looks.split([*sixty[::2], looks.look_at("00_new.png", landscape(1000))])

    assert set(before["validation"]) == set(after["validation"]) - {"00_new.png"}
    assert set(before["train"]) == set(after["train"]) - {"00_new.png"}


def test_near_duplicates_of_training_pictures_are_left_out_of_validation(sixty: list[Look]) -> None:
    source = landscape(int(looks.split(sixty)["train"][0][:2]))
    # Every version falls by its own hash; enough of them, and some fall into validation.
    versions = [looks.look_at(f"q{quality}.png", compress(source, quality)[0]) for quality in range(30, 90)]

    found = looks.split([looks.look_at("original.png", source), looks.look_at("same pixels.png", source), *versions])

    assert found["validation"] == []
    assert "original.png" in found["train"]
    assert "same pixels.png" not in found["train"]
    assert len(found["train"]) < 61


@pytest.mark.parametrize("change", ["smaller", "brighter", "cut"])
def test_a_changed_picture_looks_like_itself_and_unlike_others(change: str) -> None:
    pixels = landscape(3)
    changed = {
        "smaller": cv2.resize(pixels, (80, 60), interpolation=cv2.INTER_AREA),
        "brighter": np.clip(pixels * 1.1 + 8, 0, 255).astype(np.uint8),
        "cut": pixels[1:-1, 1:-1],
    }[change]

    def differ(a: Array, b: Array) -> int:
        return (looks.bits_of(a) ^ looks.bits_of(b)).bit_count()

    assert differ(pixels, changed) <= looks.NEAR
    assert min(differ(landscape(seed), changed) for seed in range(4, 40)) > looks.NEAR


def test_pictures_of_the_same_bytes_and_another_shape_are_different() -> None:
    pixels = landscape(5, 60, 120)

    assert looks.look_at("a", pixels).digest != looks.look_at("a", pixels.reshape(120, 60, 3)).digest
