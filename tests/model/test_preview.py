"""A look at a network in training."""

from __future__ import annotations

from typing import Any

import numpy as np

from model import deconvnet
from model.degradation import compress
from model.photos import Photo
from model.preview import preview
from model.size import DeconvNetConfig

Array = np.ndarray[Any, np.dtype[Any]]


def test_a_new_network_shows_the_jpeg_itself_and_gains_nothing(photo: Array) -> None:
    network = deconvnet.build(DeconvNetConfig((4, 4, 4), (0, 0, 1, 0, 0), head=4))
    small = photo[:50, :60]

    gains, shown = preview(network, [Photo("a", photo), Photo("b", small)])

    middle = np.ascontiguousarray(photo[37:165, 94:222])
    assert list(gains) == ["gain_q10", "gain_q20", "gain_q40"]
    assert all(abs(gain) < 0.01 for gain in gains.values())
    assert shown.shape == (256, 384, 3)
    np.testing.assert_array_equal(shown[:128, :128], compress(middle, 10)[0])
    np.testing.assert_array_equal(shown[:128, 256:], middle)
    assert np.abs(shown[:, 128:256].astype(int) - shown[:, :128]).max() <= 1


def test_many_pictures_are_looked_at_in_a_few_pieces_evenly_spread(photo: Array) -> None:
    network = deconvnet.build(DeconvNetConfig((4, 4, 4), (0, 0, 0, 0, 0), head=4))
    photos = [Photo(str(i), np.full((128, 128, 3), 10 * i, np.uint8)) for i in range(12)]

    _, shown = preview(network, photos)

    assert shown[::128, -1, 0].tolist() == [0, 20, 40, 60, 80, 100]
