"""What the head looks at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from keras import ops

from model import jpeg
from model.degradation import compress
from model.head import GRID_SIZE, HeadFeatures, grid_steps

Array = np.ndarray[Any, np.dtype[Any]]

EDGE = jpeg.BLOCK - 1


def found(luma: Array) -> Array:
    return np.asarray(ops.convert_to_numpy(grid_steps(luma[None].astype(np.float32))))[0]


@pytest.fixture(scope="module")
def grey(photo: Array) -> Array:
    rows, cols = (size // 8 * 8 for size in photo.shape[:2])
    return photo[:rows, :cols, 1]


def test_blocks_stand_out_at_their_edges(grey: Array) -> None:
    steps = found(compress(grey, 10)[0])

    assert steps.shape == (GRID_SIZE,)
    assert steps[:8].argmax() == steps[8:16].argmax() == EDGE
    assert steps[EDGE] > found(grey)[EDGE] + 1


@pytest.mark.parametrize(("down", "across"), [(4, 4), (3, 5)])
def test_an_earlier_grid_shows_where_it_lay(grey: Array, down: int, across: int) -> None:
    once, twice = compress(grey, 50)[0], grey.copy()
    twice[down:, across:], _ = compress(np.ascontiguousarray(grey[down:, across:]), 10)
    twice, _ = compress(twice, 50)

    risen = found(twice) - found(once)
    # Beside the edges steps sink where edges are high, and rise where they are not.
    columns, rows = risen[:16].reshape(2, 8)[:, 1 : EDGE - 1]
    assert columns.argmax() == across - 2
    assert rows.argmax() == down - 2
    assert (risen[16:] > 0.3).all()


def test_a_flat_picture_has_no_steps() -> None:
    np.testing.assert_allclose(found(np.full((16, 24), 90.0)), 0, atol=1e-5)


def test_turning_a_picture_swaps_columns_and_rows(grey: Array) -> None:
    steps, turned = found(grey), found(grey.T)

    np.testing.assert_allclose(turned[:8], steps[8:16], atol=1e-4)
    np.testing.assert_allclose(turned[16:], steps[:-3:-1], atol=1e-4)


def test_features_of_the_heads_own_have_a_cell_for_each_block() -> None:
    layer = HeadFeatures(5, 2)
    layer.build(3, 4)

    assert layer(np.zeros((2, 8, 12, 3), np.float32), np.zeros((2, 2, 3, 4), np.float32)).shape == (2, 2, 3, 5)
