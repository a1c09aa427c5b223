"""Bicubic enlargement in the graph is Pillow's, and does not depend on where a picture is cut."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops
from PIL import Image

from model.enlarging import REACH, doubled

Array = np.ndarray[Any, np.dtype[Any]]


def twice(pixels: Array) -> Array:
    return np.asarray(ops.convert_to_numpy(doubled(pixels[None].astype(np.float32))))[0]


def test_it_is_what_pillow_makes_of_a_picture_but_for_its_border(photo: Array) -> None:
    small = photo[:40, :56]
    pillow = np.asarray(Image.fromarray(small).resize((112, 80), Image.Resampling.BICUBIC))

    found = twice(small)

    assert found.shape == (80, 112, 3)
    inner = np.s_[4:-4, 4:-4]
    # Pillow rounds twice, after each direction.
    assert np.abs(np.clip(found, 0, 255)[inner] - pillow[inner]).max() <= 1.1


def test_a_flat_picture_stays_flat_up_to_its_border() -> None:
    np.testing.assert_allclose(twice(np.full((8, 16, 1), 77.0)), 77.0, atol=1e-4)


def test_a_piece_is_enlarged_to_the_very_values_that_it_has_in_the_whole(photo: Array) -> None:
    pixels = photo[:64, :64] / np.float32(3)

    whole, piece = twice(pixels), twice(pixels[8:48, 16:64])

    inner = np.s_[2 * REACH : -2 * REACH, 2 * REACH : -2 * REACH]
    np.testing.assert_array_equal(piece[inner], whole[16:96, 32:128][inner])
