"""The picture of a run: what was cut out, pixel by pixel, before above after."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage

from pipeline.report.crops import SIDE, crop_pair
from pipeline.report.picture import draw

Array = np.ndarray[Any, np.dtype[Any]]


def png(pixels: Array) -> bytes:
    buffer = io.BytesIO()
    PilImage.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_every_pixel_is_shown_twice_as_large_and_nothing_else(photo: Array) -> None:
    after = 255 - photo
    crops = crop_pair(png(photo), png(after))
    assert crops is not None

    with PilImage.open(io.BytesIO(draw([crops, crops]))) as drawn:
        picture = np.asarray(drawn)

    assert picture.shape == (4 * SIDE + 8, 4 * SIDE + 8, 3)
    upper, lower = picture[: 2 * SIDE : 2, : 2 * SIDE : 2], picture[2 * SIDE + 8 :: 2, : 2 * SIDE : 2]
    np.testing.assert_array_equal(lower, 255 - upper)
    np.testing.assert_array_equal(picture[1 : 2 * SIDE : 2, 1 : 2 * SIDE : 2], upper)
    windows = np.lib.stride_tricks.sliding_window_view(photo, (SIDE, SIDE, 3))[::8, ::8, 0]
    assert (windows == upper).all(axis=(2, 3, 4)).any()


def test_no_pair_is_no_picture() -> None:
    with pytest.raises(ValueError, match="at least one pair"):
        draw([])
