"""Where coefficients are expected in their bins: the table and the way into it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from keras import ops

from model import expectation, jpeg

Array = np.ndarray[Any, np.dtype[Any]]


def numpy(values: Any) -> Array:
    return np.asarray(ops.convert_to_numpy(values))


@pytest.fixture
def coefficients() -> tuple[Array, Array, Array]:
    """Estimates, middles and steps of two images, one of them compressed harder."""
    rng = np.random.default_rng(5)
    steps = rng.integers(1, 256, (2, 1, 1, 64)).astype(np.float32)
    middle = (rng.integers(-4, 5, (2, 3, 4, 64)) * steps).astype(np.float32)
    return (middle + steps * rng.uniform(-1.5, 1.5, middle.shape)).astype(np.float32), middle, steps


def test_what_is_expected_is_read_from_the_table_between_its_nodes(coefficients: tuple[Array, Array, Array]) -> None:
    estimated, middle, steps = coefficients

    found = (numpy(expectation.expected(*coefficients)) - middle) / steps

    nodes = np.linspace(-expectation.REACH, expectation.REACH, expectation.NODES)
    for image, row, col, place in np.ndindex(middle.shape):
        step, centre = steps[image, 0, 0, place], middle[image, row, col, place]
        offset = (estimated[image, row, col, place] - centre) / step
        away = np.sign(centre) or np.sign(offset)
        stored = min(round(abs(centre / step)), expectation.STORED - 1)
        line = expectation.table()[stored, place // 8 + place % 8, int(np.log2(step))]
        assert found[image, row, col, place] == pytest.approx(away * np.interp(away * offset, nodes, line), abs=1e-4)


def test_what_is_expected_lies_in_the_bin_and_is_as_likely_of_either_sign(
    coefficients: tuple[Array, Array, Array],
) -> None:
    estimated, middle, steps = coefficients

    found = numpy(expectation.expected(estimated, middle, steps))

    assert (np.abs(found - middle) <= (0.5 - jpeg.MARGIN) * steps * 1.001).all()
    np.testing.assert_allclose(numpy(expectation.expected(-estimated, -middle, steps)), -found, atol=1e-3)


def test_a_block_of_zeros_stays_one() -> None:
    nothing = np.zeros((1, 2, 2, 64), np.float32)

    assert not numpy(expectation.expected(nothing, nothing, np.full((1, 1, 1, 64), 20.0, np.float32))).any()


def test_octaves_are_powers_of_two_and_end_where_jpeg_of_8_bits_does() -> None:
    steps = np.array([1, 2, 3, 4, 127, 128, 255, 4000], np.float32)

    assert numpy(expectation.octave(steps)).tolist() == [0, 1, 1, 2, 6, 7, 7, 7]


def test_half_way_is_half_way() -> None:
    rng = np.random.default_rng(3)
    decoded = np.clip(np.rint(rng.normal(0, 40, (1, 64, 64, 1))), -128, 127).astype(np.float32)
    restored = decoded + rng.normal(0, 6, decoded.shape).astype(np.float32)
    steps = np.full((1, 8, 8), 24.0, np.float32)

    nearest, half, whole = (
        numpy(jpeg.project(restored, decoded, steps, expecting=np.array([share], np.float32))) for share in (0, 0.5, 1)
    )

    np.testing.assert_allclose(nearest, numpy(jpeg.project(restored, decoded, steps)), atol=1e-3)
    np.testing.assert_allclose(half, (nearest + whole) / 2, atol=1e-3)
    assert np.abs(whole - nearest).max() > 0.5
