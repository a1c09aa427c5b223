"""An image restored in bands of rows has the pixels, the estimate and the measures of the whole image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model import bands, metrics
from model.metrics_of_rows import Blockiness, Likeness
from model.restorer import Restorer, Task, sample_places

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture(scope="module")
def restorer(tiny_model: Path) -> Restorer:
    loaded = Restorer.load(tiny_model, precision="float32")
    # Several tiles each way, of a picture that takes no minutes.
    return Restorer(loaded._program, loaded.contract, tile=128, batch_pixels=3 * 128 * 128)


def tall(photo: Array) -> Array:
    return np.concatenate([photo, photo[::-1], photo[:, ::-1]])[:547]


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (7, 300), (128, 128), (129, 5), (300, 31), (547, 317)])
@pytest.mark.parametrize("most_pixels", [1, 100_000, 10**9])
def test_bands_paint_every_row_once_and_see_the_tiles_of_the_whole_image(
    rows: int, cols: int, most_pixels: int, photo: Array
) -> None:
    pixels = np.ascontiguousarray(tall(photo)[:rows, :cols])
    parts = bands.bands(rows, cols, 128, 48, most_pixels)

    painted = []
    for band in parts:
        top, bottom = band.needs
        tiles = bands.cut(pixels[top:bottom], band, 128, 48)
        painted.append(bands.stitch(tiles, band, cols))

    np.testing.assert_array_equal(np.concatenate(painted), pixels)
    assert [band.paints[0] for band in parts] == [0, *[band.paints[1] for band in parts][:-1]]
    if most_pixels == 1 and rows > 128:
        assert len(parts) > 1
    if most_pixels == 10**9:
        assert len(parts) == 1


@pytest.mark.parametrize("kind", ["colour", "grey", "deep"])
def test_bands_restore_to_exactly_the_pixels_of_the_whole_image(restorer: Restorer, photo: Array, kind: str) -> None:
    pixels = tall(photo) if kind == "colour" else tall(photo)[..., :1]
    pixels = pixels.astype(np.uint16) * 257 + 5 if kind == "deep" else pixels
    estimate = restorer.estimate([pixels])[0]
    whole = restorer.restore([Task(pixels, estimate=estimate)])[0]

    parts = restorer.bands(pixels.shape[0], pixels.shape[1], 60_000)
    restored = [restorer.restore_band(Task(pixels[slice(*band.needs)], estimate=estimate), band) for band in parts]

    assert len(parts) > 3
    assert np.mean(whole != pixels) > 0.1
    np.testing.assert_array_equal(np.concatenate(restored), whole)


def test_a_band_without_its_halo_or_without_the_whole_images_estimate_is_refused(
    restorer: Restorer, photo: Array
) -> None:
    band = restorer.bands(photo.shape[0], photo.shape[1], 1)[1]
    estimate = restorer.estimate([photo])[0]

    with pytest.raises(ValueError, match="rows from"):
        restorer.restore_band(Task(photo[slice(*band.paints)], estimate=estimate), band)
    with pytest.raises(ValueError, match="estimate"):
        restorer.restore_band(Task(photo[slice(*band.needs)]), band)


@pytest.mark.parametrize(("rows", "cols"), [(1, 1), (9, 17), (203, 317), (547, 5), (547, 317)])
def test_the_estimate_from_passing_rows_is_that_of_the_whole_image(
    restorer: Restorer, photo: Array, rows: int, cols: int
) -> None:
    pixels = np.ascontiguousarray(tall(photo)[:rows, :cols])
    sampler = bands.Sampler(sample_places(rows, cols), (rows, cols))

    for top in range(0, rows, 40):
        sampler.add(max(0, top - 7), pixels[max(0, top - 7) : top + 40])

    whole = restorer.estimate([pixels])[0]
    np.testing.assert_array_equal(restorer.estimate_pieces(sampler.pieces()).vector, whole.vector)


def test_rows_that_a_sample_lacks_are_an_error(photo: Array) -> None:
    sampler = bands.Sampler(sample_places(*photo.shape[:2]), (203, 317))

    sampler.add(0, photo[:100])

    with pytest.raises(ValueError, match="the piece at"):
        sampler.pieces()


@pytest.mark.parametrize("height", [1, 8, 13, 200, 1000])
def test_measures_of_rows_are_those_of_the_whole_picture(photo: Array, height: int) -> None:
    pixels, reference = tall(photo), np.roll(tall(photo), 1, axis=0)
    blockiness, likeness = Blockiness(), Likeness()

    for top in range(0, len(pixels), height):
        rows = slice(top, top + height)
        blockiness.add(pixels[rows])
        likeness.add(metrics.luma(pixels[rows]), metrics.luma(reference[rows]))

    mine, pristine = metrics.luma(pixels), metrics.luma(reference)
    assert blockiness.value() == pytest.approx(metrics.blockiness(pixels), rel=1e-12)
    assert likeness.psnr == pytest.approx(metrics.psnr(mine, pristine), rel=1e-12)
    assert likeness.ssim == pytest.approx(metrics.ssim(mine, pristine), rel=1e-9)
