"""Cutting and stitching: no pixel lost, none painted twice, every halo complete."""

from __future__ import annotations

import numpy as np
import pytest

from model import tiling


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (7, 9), (8, 8), (64, 64), (65, 63), (203, 317), (128, 136)])
@pytest.mark.parametrize(("side", "halo"), [(64, 0), (64, 16), (64, 24), (1024, 56)])
def test_stitch_undoes_pad_and_cut(size: tuple[int, int], side: int, halo: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)

    tiles = tiling.cut(tiling.pad(pixels), side, halo)

    np.testing.assert_array_equal(tiling.stitch(tiles[::-1], size), pixels)


@pytest.mark.parametrize("size", range(8, 400, 8))
@pytest.mark.parametrize(("side", "halo"), [(64, 24), (64, 0), (128, 56)])
def test_every_core_has_its_halo_or_the_border(size: int, side: int, halo: int) -> None:
    spans = tiling.spans(size, side, halo)

    painted = np.zeros(size, int)
    for span in spans:
        painted[span.core_start : span.core_stop] += 1
        assert span.start % 8 == span.stop % 8 == 0
        assert span.start == 0 or span.core_start - span.start >= halo
        assert span.stop == size or span.stop - span.core_stop >= halo
    assert (painted == 1).all()
    assert len({span.stop - span.start for span in spans}) == 1


def test_a_tile_too_few_or_too_many_is_refused() -> None:
    tiles = tiling.cut(np.zeros((128, 128, 1), np.uint8), 64, 8)

    with pytest.raises(ValueError, match="do not paint each of 128 x 128"):
        tiling.stitch(tiles[1:], (128, 128))
    with pytest.raises(ValueError, match="do not paint each of 128 x 128"):
        tiling.stitch([*tiles, tiles[0]], (128, 128))
    with pytest.raises(ValueError, match="no tiles"):
        tiling.stitch([], (1, 1))


@pytest.mark.parametrize(
    ("size", "side", "halo", "said"),
    [(65, 64, 8, "size must be a multiple of 8, got 65"), (64, 64, 32, "halo must be less"), (64, 60, 8, "side must")],
)
def test_wrong_geometry_names_the_argument(size: int, side: int, halo: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        tiling.spans(size, side, halo)
