"""The DCT against scipy, bins and projection against a real libjpeg."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import jpeglib
import numpy as np
import pytest
import scipy.fft
from keras import ops
from PIL import Image

from model import jpeg
from model.degradation import compress

Array = np.ndarray[Any, np.dtype[Any]]


def numpy(values: Any) -> Array:
    return np.asarray(ops.convert_to_numpy(values))


def blocks_of(plane: Array) -> Array:
    """`(rows, cols)` to `(rows / 8, cols / 8, 8, 8)`."""
    rows, cols = plane.shape
    return plane.reshape(rows // 8, 8, cols // 8, 8).transpose(0, 2, 1, 3)


@pytest.fixture(scope="module")
def grey(photo: Array) -> Array:
    return np.ascontiguousarray(photo[:160, :240, 1])


def centred(pixels: Array) -> Array:
    return pixels.astype(np.float32)[None, :, :, None] - 128


def test_the_dct_equals_that_of_scipy(grey: Array) -> None:
    expected = scipy.fft.dctn(blocks_of(centred(grey)[0, :, :, 0]), axes=(2, 3), norm="ortho")

    found = numpy(jpeg.dct(centred(grey)))

    np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=2e-3)


def test_the_inverse_undoes_the_dct(grey: Array) -> None:
    np.testing.assert_allclose(numpy(jpeg.inverse_dct(jpeg.dct(centred(grey)))), centred(grey), atol=1e-3)


def test_colour_goes_there_and_back_and_luma_is_that_of_pillow(photo: Array) -> None:
    ycc = numpy(jpeg.to_ycc(photo[None].astype(np.float32)))

    np.testing.assert_allclose(numpy(jpeg.to_rgb(ycc))[0], photo, atol=1e-3)
    pillow = np.asarray(Image.fromarray(photo).convert("YCbCr"), np.float32)
    assert np.abs(ycc[0] + 128 - pillow).max() <= 1.01


def test_the_inverse_is_the_transposed_convolution_of_the_dct() -> None:
    coefficients = np.random.default_rng(2).normal(0, 50, (2, 3, 5, 64)).astype(np.float32)

    general = ops.conv_transpose(coefficients, jpeg.dct_basis()[:, :, None, :], strides=8, padding="valid")

    np.testing.assert_allclose(numpy(jpeg.inverse_dct(coefficients)), numpy(general), atol=1e-3)


def test_neutral_colours_have_no_chroma() -> None:
    grey = np.linspace(0, 255, 16, dtype=np.float32).reshape(1, 4, 4, 1)

    assert np.abs(numpy(jpeg.to_ycc(np.repeat(grey, 3, axis=3)))[..., 1:]).max() < 1e-4


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_the_middles_of_the_bins_are_the_coefficients_in_the_file(grey: Array, quality: int, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(grey).save(path, quality=quality)
    decoded, tables = compress(grey, quality)
    in_file = jpeglib.read_dct(str(path))

    middle, half = (numpy(v) for v in jpeg.bins(centred(decoded), tables[None, 0]))

    stored = in_file.Y.reshape(20, 30, 64) * tables[0].reshape(64)
    share = np.mean(np.abs(middle[0] - stored) < 1e-3)
    assert share > (0.999 if quality < 90 else 0.98)
    np.testing.assert_array_equal(half[0, 0, 0], tables[0].reshape(64) / 2)


@pytest.mark.parametrize(("quality", "share"), [(10, 0.9995), (40, 0.999), (75, 0.995)])
def test_what_was_projected_encodes_to_the_same_file_again(grey: Array, quality: int, share: float) -> None:
    decoded, tables = compress(grey, quality)
    wild = centred(decoded) + np.random.default_rng(0).normal(0, 25, (1, *grey.shape, 1)).astype(np.float32)

    projected = numpy(jpeg.project(wild, centred(decoded), tables[None, 0]))

    rounded = np.clip(np.rint(projected[0, :, :, 0] + 128), 0, 255).astype(np.uint8)
    inside = np.abs(projected[0, :, :, 0] + 128 - rounded) <= 0.5 + 1e-3  # blocks that clipping did not touch
    whole = blocks_of(inside).all(axis=(2, 3))
    again, _ = compress(rounded, quality)
    first, second = (np.rint(scipy_dct(p) / tables[0]) for p in (decoded, again))
    assert whole.mean() > 0.3
    assert np.mean(first[whole] == second[whole]) > share


def scipy_dct(pixels: Array) -> Array:
    found: Array = scipy.fft.dctn(blocks_of(pixels.astype(np.float64) - 128), axes=(2, 3), norm="ortho")
    return found


def test_the_projection_is_the_nearest_point_of_the_bins(grey: Array) -> None:
    decoded, tables = compress(grey, 30)
    rng = np.random.default_rng(0)
    wild = centred(decoded) + rng.normal(0, 10, (1, *grey.shape, 1)).astype(np.float32)
    projected = numpy(jpeg.project(wild, centred(decoded), tables[None, 0], margin=0))

    # Any other point within the bins is farther away; and projecting twice changes nothing.
    middle, half = (numpy(v) for v in jpeg.bins(centred(decoded), tables[None, 0]))
    other = numpy(jpeg.inverse_dct((middle + half * rng.uniform(-1, 1, middle.shape)).astype(np.float32)))
    assert np.square(wild - projected).sum() < np.square(wild - other).sum()
    np.testing.assert_allclose(
        numpy(jpeg.project(projected, centred(decoded), tables[None, 0], margin=0)), projected, atol=1e-3
    )


def test_an_image_that_is_no_jpeg_is_not_projected(grey: Array) -> None:
    wild = centred(grey) * 3

    np.testing.assert_array_equal(numpy(jpeg.project(wild, centred(grey), np.zeros((1, 8, 8), np.float32))), wild)


def test_each_image_of_a_batch_has_its_own_bins(grey: Array) -> None:
    pairs = [compress(grey, quality) for quality in (10, 80)]
    decoded = np.concatenate([centred(pixels) for pixels, _ in pairs])
    steps = np.stack([tables[0] for _, tables in pairs])
    wild = decoded + np.random.default_rng(0).normal(0, 20, decoded.shape).astype(np.float32)

    together = numpy(jpeg.project(wild, decoded, steps))

    for i in range(2):
        alone = numpy(jpeg.project(wild[i : i + 1], decoded[i : i + 1], steps[i : i + 1]))
        np.testing.assert_allclose(together[i : i + 1], alone, atol=1e-3)


def test_the_bin_share_is_one_for_the_file_itself_and_falls_as_pixels_leave_it(grey: Array) -> None:
    decoded, tables = compress(grey, 50)
    noise = np.random.default_rng(0).normal(0, 1, (1, *grey.shape, 1)).astype(np.float32)

    shares = [
        float(numpy(jpeg.bin_share(centred(decoded) + sigma * noise, centred(decoded), tables[None, 0]))[0])
        for sigma in (0, 3, 30)
    ]

    assert shares[0] == 1
    assert 1 > shares[1] > shares[2]


def test_the_pristine_picture_lies_in_the_bins_of_its_jpeg(grey: Array) -> None:
    decoded, tables = compress(grey, 40)

    assert float(numpy(jpeg.bin_share(centred(grey), centred(decoded), tables[None, 0]))[0]) > 0.999


def test_tables_are_in_natural_order(grey: Array) -> None:
    buffer = io.BytesIO()
    steps = list(range(1, 65))
    Image.fromarray(grey).save(buffer, "JPEG", qtables=[steps])

    _, tables = compress(grey, 0, qtables=[steps])

    assert tables[0].ravel().tolist() == steps
    assert not tables[1].any()
