"""Metrics against slow references that borrow nothing from them."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import structural_similarity

from model import metrics

Array = np.ndarray[Any, np.dtype[Any]]


def picture(rows: int, cols: int, channels: int = 0, dtype: Any = np.uint8, seed: int = 0) -> Array:
    """A smooth picture with texture."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :cols]
    shape = (rows, cols, channels) if channels else (rows, cols)
    base = 110 + 60 * np.sin(y / 7) + 50 * np.cos(x / 5)
    values = base.reshape(rows, cols, *([1] * bool(channels))) + rng.normal(0, 9, shape)
    peak = np.iinfo(dtype).max
    return np.clip(np.rint(values * (peak / 255)), 0, peak).astype(dtype)


def jpeg(pixels: Array, quality: int) -> Array:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def slow_psnr_b(pixels: Array, reference: Array, origin: tuple[int, int] = (0, 0), *, published: bool = False) -> float:
    """Yim and Bovik with loops, for one plane of uint8."""
    rows, cols = pixels.shape
    on: list[float] = []
    off: list[float] = []
    for y in range(rows):
        for x in range(cols):
            if x + 1 < cols:
                step = (float(pixels[y, x]) - float(pixels[y, x + 1])) ** 2
                (on if (x + 1 - origin[1]) % 8 == 0 else off).append(step)
            if y + 1 < rows:
                step = (float(pixels[y, x]) - float(pixels[y + 1, x])) ** 2
                (on if (y + 1 - origin[0]) % 8 == 0 else off).append(step)
    edges = float(len(on))
    if published:
        edges = rows * (cols // 8 - 1) + cols * (rows // 8 - 1)
    excess = sum(on) / edges - sum(off) / (len(on) + len(off) - edges)
    error = sum((float(p) - float(r)) ** 2 for p, r in zip(pixels.flat, reference.flat, strict=True)) / pixels.size
    error += max(0.0, excess) * 3 / math.log2(min(rows, cols))
    return 10 * math.log10(255**2 / error)


def test_luma_of_black_white_and_the_primaries_is_that_of_the_standard() -> None:
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)

    assert metrics.luma(colours).tolist() == [[0, 255, 76, 150, 29]]
    assert metrics.luma(colours, studio=True).tolist() == [[16, 235, 81, 145, 41]]


@pytest.mark.parametrize("studio", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_luma_is_the_exact_value_with_halves_rounded_to_even(dtype: Any, studio: bool) -> None:
    level = int(np.iinfo(dtype).max) // 255
    factor, divisor, black = (219, 255_000, 16 * level) if studio else (1, 1000, 0)

    def numerators(colours: Array) -> Array:
        return factor * (colours @ np.array([299, 587, 114]))

    drawn = np.random.default_rng(3).integers(0, 255 * level + 1, (20_000, 3))
    steps = level * np.arange(0, 256, 5 if studio else 15)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    halves = grid[numerators(grid) % divisor == divisor // 2]
    assert len(halves) > 1
    colours = np.concatenate([drawn, halves])

    found = metrics.luma(colours[None].astype(dtype), studio=studio)

    # Python rounds halves of exact fractions to even.
    assert found[0].tolist() == [round(Fraction(int(each), divisor)) + black for each in numerators(colours)]


def test_luma_of_sixteen_bits_spans_the_same_range() -> None:
    colours = np.array([[[0, 0, 0], [65535, 65535, 65535]]], np.uint16)

    assert metrics.luma(colours).tolist() == [[0, 65535]]
    assert metrics.luma(colours, studio=True).tolist() == [[16 * 257, 235 * 257]]


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1)])
def test_luma_leaves_grey_as_it_is(shape: tuple[int, ...]) -> None:
    grey = picture(5, 7).reshape(shape)

    assert metrics.luma(grey, studio=True).tolist() == grey.reshape(5, 7).tolist()


def test_psnr_of_an_error_of_one_level_is_the_textbook_value() -> None:
    reference = picture(9, 11)

    assert metrics.psnr(reference + np.uint8(1), reference) == pytest.approx(48.1308, abs=1e-4)


def test_psnr_of_equal_pictures_is_infinite() -> None:
    assert metrics.psnr(picture(4, 4), picture(4, 4)) == math.inf


@pytest.mark.parametrize("shape", [(64, 80), (33, 49)])
@pytest.mark.parametrize("origin", [(0, 0), (3, 5)])
@pytest.mark.parametrize("published", [False, True])
def test_psnr_b_is_the_same_as_with_loops(shape: tuple[int, int], origin: tuple[int, int], published: bool) -> None:
    reference = picture(*shape)
    pixels = jpeg(reference, 10)

    got = metrics.psnr_b(pixels, reference, origin=origin, published=published)

    assert got == pytest.approx(slow_psnr_b(pixels, reference, origin, published=published), abs=1e-9)


def test_psnr_b_is_below_psnr_where_the_grid_shows_and_equal_where_it_is_looked_for_elsewhere() -> None:
    reference = np.full((64, 64), 100, np.uint8)
    y, x = np.mgrid[:64, :64] // 8
    pixels = reference + ((y + x) % 2 * 6).astype(np.uint8)

    assert metrics.psnr_b(pixels, reference) < metrics.psnr(pixels, reference) - 1
    assert metrics.psnr_b(pixels, reference, origin=(4, 4)) == metrics.psnr(pixels, reference)


@pytest.mark.parametrize("shape", [(11, 11), (64, 80), (33, 49)])
def test_ssim_equals_that_of_scikit_image(shape: tuple[int, int]) -> None:
    reference = picture(*shape)
    pixels = jpeg(reference, 15)

    wang = structural_similarity(
        pixels, reference, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
    )

    assert metrics.ssim(pixels, reference) == pytest.approx(wang, abs=1e-12)


def test_ssim_of_colour_and_of_sixteen_bits_equals_that_of_scikit_image() -> None:
    reference = picture(40, 31, 3, np.uint16)
    pixels = picture(40, 31, 3, np.uint16, seed=1)

    wang = structural_similarity(
        pixels,
        reference,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=65535,
        channel_axis=2,
    )

    assert metrics.ssim(pixels, reference) == pytest.approx(wang, abs=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (10, 3)])
def test_pictures_smaller_than_a_window_or_a_block_have_metrics_too(shape: tuple[int, int]) -> None:
    reference = picture(*shape)
    pixels = reference + np.uint8(2)

    assert metrics.ssim(reference, reference) == pytest.approx(1)
    assert 0.9 < metrics.ssim(pixels, reference) < 1
    assert metrics.psnr_b(reference, reference) == math.inf or max(shape) > 8
    assert metrics.blockiness(reference) == 1 or max(shape) > 8


def test_blockiness_rises_as_quality_falls_and_is_one_without_a_grid() -> None:
    reference = picture(128, 120, 3)

    values = [metrics.blockiness(jpeg(reference, quality)) for quality in (90, 30, 5)]

    assert metrics.blockiness(reference) == pytest.approx(1, abs=0.05)
    assert values[0] < values[1] < values[2]
    assert values[2] > 2


def test_blockiness_finds_a_shifted_grid_only_at_its_origin() -> None:
    pixels = jpeg(picture(128, 128), 10)[3:, 5:]

    assert metrics.blockiness(pixels, origin=(5, 3)) > 1.3
    assert metrics.blockiness(pixels) < 1.05


def test_blockiness_of_a_flat_picture_and_of_deeper_bits_is_the_same() -> None:
    pixels = jpeg(picture(64, 64), 10)

    assert metrics.blockiness(np.full((64, 64), 7, np.uint8)) == 1
    assert metrics.blockiness(pixels.astype(np.uint16) * 257) == pytest.approx(metrics.blockiness(pixels))


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.zeros((4, 5), np.uint8), "must be alike"),
        (np.zeros((4, 4), np.uint16), "must be alike"),
    ],
)
def test_pictures_that_cannot_be_compared_are_refused(pixels: Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.psnr(pixels, np.zeros((4, 4), np.uint8))


def test_float_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8 or uint16, got float32"):
        metrics.blockiness(np.zeros((9, 9), np.float32))
