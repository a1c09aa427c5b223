"""Patches out of focus, noisy or at half the size: what is harmed how much, and that the head is told so."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model import metrics
from model.capture import Capture, blurred, gaussian
from model.dataset import DegradedPatches
from model.deconvnet import CLASSES
from model.degradation import MARGIN, Sample
from model.photos import Photo

Array = np.ndarray[Any, np.dtype[Any]]

DEBLUR = Capture("deblur", blur=(0.5, 3.0), noise=(0.0, 5.0), jpeg_share=0, clean_share=0)
DENOISE = Capture("denoise", noise=(5.0, 50.0), jpeg_share=0, clean_share=0)
X2 = Capture("x2", scale=2, jpeg_share=0)


def sample(capture: Capture, region: Array, seed: int = 0) -> Sample:
    return capture.degrade(region, np.random.default_rng(seed))


def region_of(photo: Array, capture: Capture, patch: int = 64) -> Array:
    side = capture.region_side(patch)
    return np.tile(photo, (2, 1, 1))[:side, :side]


def said(found: Sample) -> str:
    return CLASSES[int(found.truth[: len(CLASSES)].argmax())]


def test_noise_is_as_strong_as_the_head_is_told(photo: Array) -> None:
    flat = np.full((DENOISE.region_side(64),) * 2 + (3,), 128, np.uint8)

    for seed in range(8):
        found = sample(DENOISE, flat, seed)

        sigma = 50 * float(found.truth[-2])
        assert said(found) == "noise"
        assert 5 <= sigma <= 50
        assert float(np.std(found.degraded - found.pristine.astype(float))) == pytest.approx(sigma, rel=0.08)


def test_a_blurred_patch_is_what_a_blurred_picture_has_there(photo: Array) -> None:
    capture = dataclasses.replace(DEBLUR, noise=None, grey_share=0.0)
    region = region_of(photo, capture)

    for seed in range(4):
        found = sample(capture, region, seed)

        sigma = 4 * float(found.truth[-1])
        kernel = gaussian(sigma)[:, 0]
        reach = len(kernel) // 2
        centre, side = region[MARGIN - reach : 64 + MARGIN + reach, MARGIN - reach : 64 + MARGIN + reach], 64
        rows = sum(k * centre[i : i + side].astype(float) for i, k in enumerate(kernel))
        wanted = sum(k * rows[:, i : i + side] for i, k in enumerate(kernel))
        assert said(found) == "blur"
        assert 0.5 <= sigma <= 3
        assert np.abs(found.degraded - wanted).max() <= 0.501
        np.testing.assert_array_equal(found.pristine, region[MARGIN:-MARGIN, MARGIN:-MARGIN])


def test_half_the_size_is_what_pillow_makes_of_the_whole_picture(photo: Array) -> None:
    capture = dataclasses.replace(X2, grey_share=0.0)
    region = region_of(photo, capture, 32)
    half = Image.fromarray(region).resize((len(region) // 2,) * 2, Image.Resampling.BICUBIC)

    found = sample(capture, region)

    np.testing.assert_array_equal(found.degraded, np.asarray(half)[MARGIN:-MARGIN, MARGIN:-MARGIN])
    np.testing.assert_array_equal(found.pristine, region[2 * MARGIN : -2 * MARGIN, 2 * MARGIN : -2 * MARGIN])
    assert said(found) == "low_resolution"


def test_a_compressed_patch_has_tables_and_its_grid_at_its_corner(photo: Array) -> None:
    capture = dataclasses.replace(DEBLUR, jpeg_share=1.0, jpeg_quality=(20, 20))

    found = sample(capture, region_of(photo, capture))

    assert found.tables[0].any()
    assert found.truth[-3] == np.float32(0.2)
    assert metrics.blockiness(found.degraded) > 1.1


def test_clean_patches_are_called_clean_and_hardly_differ(photo: Array) -> None:
    capture = dataclasses.replace(DENOISE, clean_share=1.0)

    for seed in range(4):
        found = sample(capture, region_of(photo, capture), seed)

        assert said(found) == "clean"
        assert np.std(found.degraded - found.pristine.astype(float)) < 1.2


def test_blur_leaves_the_mean_and_takes_the_edges() -> None:
    step = np.repeat(np.array([[0, 200]], np.uint8), 20, axis=1).repeat(40, axis=0)

    found = blurred(step, 2.0)

    assert found.mean() == pytest.approx(100, abs=0.01)
    assert np.abs(np.diff(found[0])).max() < 45


@pytest.mark.parametrize("capture", [DEBLUR, DENOISE, X2], ids=lambda capture: capture.task)
def test_a_batch_depends_on_seed_and_step_alone_and_is_cheap(capture: Capture, photo: Array) -> None:
    photos = [Photo("a", np.tile(photo, (2, 1, 1)))]

    def patches(**options: Any) -> DegradedPatches:
        return DegradedPatches(photos, capture, **{"patch": 48, "batch": 32, "seed": 1, "steps": 6, **options})

    patches()[0]  # what is done once
    start = time.thread_time()
    whole = [patches()[step] for step in range(6)]
    seconds = (time.thread_time() - start) / 6
    again = patches(first=3)[1]

    assert all((whole[4][name] == again[name]).all() for name in again)
    assert not (whole[4]["degraded"] == whole[3]["degraded"]).all()
    assert not (patches(seed=2)[4]["degraded"] == again["degraded"]).all()
    assert again["pristine"].shape == (32, 48 * capture.scale, 48 * capture.scale, 3)
    assert seconds < 0.2  # 0.015 on an idle core: a step of training takes ten times that


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"task": "dehaze"}, "task must be one of deblur, denoise, x2, got dehaze"),
        ({"task": "x2", "scale": 3}, "scale must be 1 or 2, got 3"),
        ({"task": "deblur", "blur": (1.0, 9.0)}, r"blur must rise within 0\.\.4 pixels"),
    ],
)
def test_what_cannot_be_done_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Capture(**values)
