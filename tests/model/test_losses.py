"""What training minimises."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from keras import ops

from model import metrics
from model.losses import blocking_effect, restoration_loss

Array = np.ndarray[Any, np.dtype[Any]]


def loss(restored: Array, degraded: Array, pristine: Array, *, squared: bool = True) -> Array:
    found = restoration_loss(*(a.astype(np.float32) for a in (restored, degraded, pristine)), squared=squared)
    return np.asarray(ops.convert_to_numpy(found))


@pytest.fixture
def pristine() -> Array:
    return np.random.default_rng(0).uniform(-100, 100, (2, 8, 8, 3))


@pytest.mark.parametrize("squared", [False, True])
def test_a_perfect_patch_costs_next_to_nothing_and_an_untouched_one_about_one(pristine: Array, squared: bool) -> None:
    degraded = pristine + np.random.default_rng(1).normal(0, 12, pristine.shape)

    assert (loss(pristine, degraded, pristine, squared=squared) < 0.06).all()
    untouched = loss(degraded, degraded, pristine, squared=squared)
    assert ((untouched > 0.6) & (untouched < 1.1)).all()


def test_each_patch_is_measured_by_the_harm_that_was_done_to_it(pristine: Array) -> None:
    """Half of the error taken away counts alike, however large the error was."""
    harm = np.random.default_rng(1).normal(0, 1, pristine.shape) * np.array([10, 40]).reshape(2, 1, 1, 1)

    mild, bad = loss(pristine + harm / 2, pristine + harm, pristine)

    assert mild == pytest.approx(0.25, abs=0.02)
    assert bad == pytest.approx(mild, abs=0.02)


def test_a_patch_that_was_hardly_harmed_is_not_blown_up(pristine: Array) -> None:
    (first, _) = loss(pristine + 1, pristine, pristine)

    assert first == pytest.approx(1 / 4)  # an error of one level against the floor of two


@pytest.mark.parametrize("shape", [(16, 16), (24, 40)])
def test_the_blocking_effect_is_that_of_psnr_b(shape: tuple[int, int]) -> None:
    """The metric is of another hand: NumPy, whole pictures, any origin of the grid."""
    blocks = np.kron(np.random.default_rng(3).integers(90, 160, (shape[0] // 8, shape[1] // 8)), np.ones((8, 8)))
    picture = np.clip(blocks + np.random.default_rng(4).normal(0, 2, shape), 0, 255).astype(np.uint8)
    error = 255**2 / 10 ** (metrics.psnr_b(picture, picture) / 10)
    weight = math.log2(8) / math.log2(min(shape))

    (found,) = np.asarray(ops.convert_to_numpy(blocking_effect(picture[None].astype(np.float32))))

    assert found == pytest.approx(error / weight, rel=1e-4)


def test_the_blocking_effect_is_never_below_zero() -> None:
    smooth_on_the_grid = np.kron(np.ones((3, 3)), np.random.default_rng(3).normal(0, 9, (8, 8)))
    smooth_on_the_grid[:, 7::8] = smooth_on_the_grid[:, 0:1]
    smooth_on_the_grid[7::8] = smooth_on_the_grid[0:1]

    assert float(blocking_effect(smooth_on_the_grid[None].astype(np.float32))[0]) == 0


@pytest.mark.parametrize("squared", [False, True])
def test_block_edges_cost_only_where_they_are_weighed(pristine: Array, squared: bool) -> None:
    flat = np.zeros((1, 16, 16, 3), np.float32)
    blocks = np.kron([[1.0, -1.0], [-1.0, 1.0]], np.full((8, 8), 3.0))[None, ..., None].repeat(3, -1).astype(np.float32)

    without, weighed = (
        float(restoration_loss(blocks, blocks, flat, squared=squared, blocking=weight)[0]) for weight in (0.0, 0.5)
    )

    assert weighed > without + 0.1
    assert float(restoration_loss(flat, blocks, flat, squared=squared, blocking=0.5)[0]) < 0.2
