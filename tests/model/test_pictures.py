"""Pictures of a card: the piece that is harmed most, pixel for pixel, and small enough for a model folder."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from model import evaluation, pictures
from model.evaluation import Answer, Condition, Harmed, Picture

Array = np.ndarray[Any, np.dtype[Any]]

NOISE = evaluation.conditions("denoise", [(25,)])[0]


class Perfect:
    """Gives back what the picture was."""

    name = "perfect"

    def restore(self, harmed: Harmed, condition: Condition) -> Answer:
        """See `Method`."""
        return Answer(harmed.pristine)


def piece(drawn: Array, row: int, column: int) -> Array:
    left, top = column * (pictures.SIDE + 4), row * (pictures.SIDE + 18) + 18
    return drawn[top : top + pictures.SIDE, left : left + pictures.SIDE]


def test_a_row_shows_the_harmed_the_restored_and_the_pristine_piece_pixel_for_pixel(photo: Array) -> None:
    drawn = pictures.before_after([Picture("a", photo)], [NOISE], [Perfect()])

    harmed, restored, pristine = (piece(drawn, 0, column) for column in range(3))
    assert drawn.shape[1] == 3 * pictures.SIDE + 2 * 4
    np.testing.assert_array_equal(restored, pristine)
    assert 20 < (harmed.astype(float) - pristine).std() < 26
    windows = np.lib.stride_tricks.sliding_window_view(photo, pristine.shape)[::8, ::8]
    assert any((windows[at] == pristine).all() for at in np.ndindex(windows.shape[:3]))


def test_the_piece_is_where_the_harm_is_greatest() -> None:
    calm = np.full((400, 520, 3), 128, np.uint8)
    calm[200:360, 320:480] = np.random.default_rng(1).integers(0, 255, (160, 160, 3), np.uint8)
    condition = evaluation.conditions("jpeg", [(10,)])[0]

    drawn = pictures.before_after([Picture("a", calm)], [condition], [])

    np.testing.assert_array_equal(piece(drawn, 0, 1), calm[200:360, 320:480])


def test_each_picture_has_a_row_and_its_own_condition_and_small_ones_are_mirrored(photo: Array) -> None:
    wanted = evaluation.conditions("x2") + evaluation.conditions("jpeg", [(10,)])
    some = [Picture("a", photo), Picture("b", photo[:40, :50])]

    drawn = pictures.before_after(some, wanted, [])

    assert drawn.shape[0] == 2 * (pictures.SIDE + 18)
    halved = piece(drawn, 0, 0)
    np.testing.assert_array_equal(halved[::2, ::2], halved[1::2, 1::2])
    assert (piece(drawn, 1, 1)[:40, :50] == photo[:40, :50]).all()


def test_a_picture_is_encoded_without_loss_where_that_is_small_and_within_the_limit_always(photo: Array) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (600, 800, 3), np.uint8)

    small, large = pictures.encode(photo), pictures.encode(noise[:300, :400])

    assert len(small) <= pictures.MOST_BYTES
    assert len(large) <= pictures.MOST_BYTES
    with Image.open(io.BytesIO(small)) as image:
        assert image.format == "WEBP"
        np.testing.assert_array_equal(np.asarray(image), photo)


def test_of_what_cannot_be_made_small_the_last_rows_are_left_out() -> None:
    row = pictures.SIDE + 18
    noise = np.random.default_rng(2).integers(0, 256, (4 * row, 800, 3), np.uint8)

    data = pictures.encode(noise)

    assert len(data) <= pictures.MOST_BYTES
    with Image.open(io.BytesIO(data)) as image:
        assert image.width == 800
        assert image.height in (row, 2 * row, 3 * row)
