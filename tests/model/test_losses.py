"""What training minimises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from keras import ops

from model.losses import CHROMA_WEIGHT, restoration_loss

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

    assert first == pytest.approx((1 + 2 * CHROMA_WEIGHT) / 3 / 4)  # an error of one level against the floor of two


def test_luma_weighs_more_than_chroma(pristine: Array) -> None:
    degraded = pristine + 10
    off = np.eye(3) * 5

    luma, blue, red = (loss(pristine + off[i], degraded, pristine)[0] for i in range(3))

    assert luma * CHROMA_WEIGHT == pytest.approx(blue)
    assert blue == pytest.approx(red)
