"""Batches are a function of the seed and the step alone."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from model.dataset import DegradedPatches
from model.deconvnet import ESTIMATE_SIZE
from model.degradation import Degradation
from model.photos import Photo

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture
def photos(photo: Array) -> list[Photo]:
    return [Photo("a.png", photo), Photo("small.png", photo[:20, :9])]


def patches(photos: list[Photo], **options: Any) -> DegradedPatches:
    return DegradedPatches(photos, Degradation(), **{"patch": 16, "batch": 3, "seed": 1, **options})


def same(one: dict[str, Array], two: dict[str, Array]) -> bool:
    assert set(one) == set(two)
    return all((one[name] == two[name]).all() for name in one)


def test_a_batch_has_the_shapes_and_types_that_the_network_takes(photos: list[Photo]) -> None:
    found = {name: (values.shape, values.dtype.name) for name, values in patches(photos)[0].items()}

    assert found == {
        "degraded": ((3, 16, 16, 3), "uint8"),
        "pristine": ((3, 16, 16, 3), "uint8"),
        "tables": ((3, 2, 8, 8), "float32"),
        "truth": ((3, ESTIMATE_SIZE), "float32"),
        "bound": ((3,), "float32"),
        "told": ((3, 1), "float32"),
    }


def test_a_step_has_the_same_batch_wherever_one_starts(photos: list[Photo]) -> None:
    whole = patches(photos, steps=6)
    part = patches(photos, first=4, steps=2)

    assert (len(whole), len(part)) == (6, 2)
    assert same(whole[4], part[0])
    assert same(whole[5], part[1])


def test_steps_and_seeds_have_batches_of_their_own(photos: list[Photo]) -> None:
    assert not same(patches(photos)[0], patches(photos)[1])
    assert not same(patches(photos)[0], patches(photos, seed=2)[0])


def test_the_first_batch_of_seed_1_is_the_one_it_always_was(photos: list[Photo]) -> None:
    """A sum over pristine crops, which no library's rounding can change, holds the order in which chance is drawn."""
    recipe = Degradation(grey_share=0, other_share=0)
    row = DegradedPatches(photos, recipe, patch=16, batch=3, seed=1)

    totals = [int(row[step]["pristine"].astype(np.int64).sum()) for step in (0, 1, 1000)]

    assert totals == [285972, 297941, 291670]


def test_pictures_are_drawn_by_their_area(photo: Array) -> None:
    large = Photo("large.png", np.full((400, 400, 3), 200, np.uint8))
    small = Photo("small.png", np.full((200, 200, 3), 50, np.uint8))
    recipe = Degradation(grey_share=0, other_share=0)

    batch = DegradedPatches([large, small], recipe, patch=8, batch=200, seed=1)[0]

    share = np.mean(batch["pristine"][:, 0, 0, 0] == 200)
    assert 0.7 < share < 0.9


def test_small_pictures_take_no_more_memory_than_they_are_large() -> None:
    small = [Photo(f"{number}.png", np.zeros((32, 32, 3), np.uint8)) for number in range(200)]
    tracemalloc.start()
    try:
        row = DegradedPatches(small, Degradation(), patch=128, batch=1, seed=1)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert taken < sum(photo.pixels.nbytes for photo in small)
    assert row[0]["pristine"].shape == (1, 128, 128, 3)


def test_the_header_is_hidden_as_often_as_asked(photos: list[Photo]) -> None:
    recipe = Degradation(clean_share=0)
    hidden = []
    for share in (0.0, 0.3, 1.0):
        batch = DegradedPatches(photos, recipe, patch=8, batch=100, seed=1, drop_tables=share)[0]
        hidden.append(float(np.mean(~batch["tables"].any(axis=(1, 2, 3)))))

    assert hidden[0] == 0
    assert 0.15 < hidden[1] < 0.45
    assert hidden[2] == 1


def test_patches_are_taken_from_photographs_scaled_down_as_often_as_asked() -> None:
    """Stripes of 2 pixels: scaled down they come out narrower, or grey."""
    stripes = np.tile(np.repeat([40, 200], 2).astype(np.uint8)[:, None], (300, 3)).reshape(1, -1, 3).repeat(900, axis=0)
    recipe = Degradation(grey_share=0, other_share=0)
    scaled = []
    for share in (0.0, 0.5, 1.0):
        row = DegradedPatches([Photo("a", stripes)], recipe, patch=8, batch=100, seed=1, reduced=share)
        scaled.append(float(np.mean([len(np.unique(patch)) > 2 for patch in row[0]["pristine"]])))

    assert scaled[0] == 0
    assert 0.35 < scaled[1] < 0.65
    assert scaled[2] > 0.95


def test_half_of_the_patches_are_told_the_truth(photos: list[Photo]) -> None:
    told = patches(photos, patch=8, batch=200)[0]["told"]

    assert set(told.ravel().tolist()) == {0, 1}
    assert 0.35 < told.mean() < 0.65


def test_flat_regions_are_rarer_than_their_area(photo: Array) -> None:
    half = np.full((300, 600, 3), 90, np.uint8)
    half[:, 300:] = np.random.default_rng(0).integers(0, 256, (300, 300, 3))
    recipe = Degradation(grey_share=0, other_share=0)

    batch = DegradedPatches([Photo("half.png", half)], recipe, patch=8, batch=200, seed=1)[0]

    flat = np.mean(batch["pristine"].std(axis=(1, 2, 3)) == 0)
    assert 0.2 < flat < 0.42  # half of the area, drawn again half of the time


@pytest.mark.parametrize("patch", [0, 12, -8])
def test_a_patch_that_is_no_multiple_of_a_block_is_refused(photos: list[Photo], patch: int) -> None:
    with pytest.raises(ValueError, match=f"patch must be a positive multiple of 8, got {patch}"):
        patches(photos, patch=patch)
