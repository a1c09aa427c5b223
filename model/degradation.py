"""Harms pristine patches the way archives do, with the real libjpeg, from a seed.

A patch is degraded from a region a little larger than itself, so that chroma upsampling at its border and a shifted
grid of an earlier compression look as they do inside a picture. Compression comes last and starts at the patch's corner
moved by `MARGIN`, a multiple of the largest MCU: the grid of the last JPEG is at (0, 0) of the patch.
"""

from __future__ import annotations

import dataclasses
import io
from typing import Any, ClassVar, Protocol

import cv2
import numpy as np
from PIL import Image

from model import metrics
from model.contract import CLEAN_QUALITY
from model.deconvnet import CLASSES, ESTIMATE_SIZE, QUALITY_BINS, REGRESSIONS

Array = np.ndarray[Any, np.dtype[Any]]

HARSH = 50
"""The highest quality factor of a harsh compression, from which there is much to gain."""

MARGIN = 16
"""Pixels around a patch that are degraded with it and cut off afterwards; a multiple of the MCU of 4:2:0."""

_SHIFT = 8
_FRAME = MARGIN + _SHIFT


class Degrading(Protocol):
    """What harms patches: a frozen dataclass whose fields say how."""

    @property
    def task(self) -> str:
        """Of the models that are trained with it, as in their contract."""

    @property
    def scale(self) -> int:
        """Pixels of the pristine patch to one of the degraded one, along an axis."""

    def region_side(self, patch: int) -> int:
        """Side of the pristine region that `degrade` wants for a patch of that side."""

    def degrade(self, region: Array, rng: np.random.Generator, *, graphics: bool = False) -> Sample:
        """Degrades one region; the same state of the generator gives the same sample."""


@dataclasses.dataclass(frozen=True)
class Degradation:
    """How often what is done by JPEG; every share is in 0..1.

    Attributes:
        quality: lowest and highest quality factor.
        harsh_share: how many qualities are drawn from those up to `HARSH`; the others are from the whole range.
        round_share: how many qualities are multiples of 10, as people choose them; the others are uniform.
        double_share: how many are compressed twice, with a shifted grid in between.
        clean_share: how many are not harmed, or only by a quality of at least `CLEAN_QUALITY`.
        other_share: how many carry blur, noise or low resolution under the JPEG. That harm is in the target too: the
            head learns to name it and the decoder to leave it alone.
        grey_share: how many are grey; half of them use luma 16..235 (ITU-R BT.601), half 0..255.
        foreign_table_share: how many are encoded with tables that are not libjpeg's.
        stored_share: how many were JPEGs of 75 to 98 on the same grid before, as cameras and the web store pictures,
            if that is better by 10. That one is the target: what it had lost is not to be guessed at.
    """

    quality: tuple[int, int] = (5, 95)
    harsh_share: float = 0.0
    round_share: float = 0.5
    double_share: float = 0.2
    clean_share: float = 0.08
    other_share: float = 0.06
    grey_share: float = 0.5
    foreign_table_share: float = 0.1
    stored_share: float = 0.0

    task: ClassVar[str] = "jpeg"
    scale: ClassVar[int] = 1

    def region_side(self, patch: int) -> int:
        """See `Degrading`."""
        return region_side(patch)

    def degrade(self, region: Array, rng: np.random.Generator, *, graphics: bool = False) -> Sample:
        """See `degrade`."""
        return degrade(region, rng, self, graphics=graphics)


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """One degraded patch.

    Attributes:
        degraded, pristine: `(side, side, 3)` uint8 RGB; three equal channels where grey. The pristine side is the
            degraded one times the task's scale.
        tables: `(2, 8, 8)` float32 quantisation steps in natural order, 0 where there is none.
        truth: `(ESTIMATE_SIZE,)` float32, what a perfect head would say.
        bound: `()` float32: 0 where an earlier compression was the harsher one, whose harm the bins of `tables` do not
            know of; else 1.
    """

    degraded: Array
    pristine: Array
    tables: Array
    truth: Array
    bound: Array


def compress(pixels: Array, quality: int, *, subsampling: int = 2, qtables: Any = None) -> tuple[Array, Array]:
    """Encodes with libjpeg and decodes again.

    Args:
        pixels: `(rows, cols, 3)` or `(rows, cols)` uint8.
        quality: quality factor 1..100; without effect where tables are given.
        subsampling: Pillow's: 0 is 4:4:4, 1 is 4:2:2, 2 is 4:2:0.
        qtables: two tables of 64 steps in natural order instead of the quality factor's.

    Returns:
        The decoded pixels, shaped as given, and the `(2, 8, 8)` float32 tables (chroma is 0 where grey).
    """
    buffer = io.BytesIO()
    options: dict[str, Any] = {"quality": quality} if qtables is None else {"qtables": qtables}
    if pixels.ndim == 3:
        options["subsampling"] = subsampling
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    with Image.open(buffer) as image:
        decoded = np.asarray(image)
        tables = tables_of(image)
    return decoded, tables


def tables_of(image: Image.Image) -> Array:
    """The quantisation tables of an opened JPEG, `(2, 8, 8)` float32 in natural order; 0 for what it has not."""
    tables = np.zeros((2, 64), np.float32)
    found: dict[int, Any] = getattr(image, "quantization", None) or {}
    colour = len(image.getbands()) > 1
    for place, steps in sorted(found.items())[: 2 if colour else 1]:
        tables[min(place, 1)] = steps
    if colour and len(found) == 1:
        tables[1] = tables[0]
    return tables.reshape(2, 8, 8)


def degrade(region: Array, rng: np.random.Generator, recipe: Degradation, *, graphics: bool = False) -> Sample:
    """Degrades one region of a pristine picture.

    Args:
        region: `(side + 48, side + 48, 3)` uint8 RGB: the patch with `MARGIN` and the shift's 8 pixels on every side;
            the side is a multiple of 8.
        rng: where all chance comes from: the same state gives the same sample.
        recipe: how often what is done.
        graphics: that the region is of a drawing or a screen, not of a photograph.

    Returns:
        The sample, its pixels of `side` x `side`.
    """
    truth = np.zeros(ESTIMATE_SIZE, np.float32)
    pixels = in_colours(region, rng, recipe.grey_share)
    label, measures = "", np.array([1.0, 0.0, 0.0], np.float32)
    if rng.random() < recipe.other_share:
        pixels, label, measures = _other_harm(pixels, rng)
    if rng.random() < recipe.clean_share:
        quality = int(rng.integers(CLEAN_QUALITY, 100)) if rng.random() < 0.5 else None
        label = label or "clean"
    else:
        quality = _quality(rng, recipe)
        if quality >= CLEAN_QUALITY:
            label = label or "clean"
    subsampling = 2 if rng.random() < 0.7 else 0
    inner = np.s_[_SHIFT:-_SHIFT, _SHIFT:-_SHIFT]
    # Nothing is drawn where no recipe asks for it: those that do not keep their samples.
    if recipe.stored_share and quality is not None and rng.random() < recipe.stored_share:
        stored = int(rng.integers(75, 99))
        if stored >= quality + 10:
            pixels = pixels.copy()
            pixels[inner], _ = compress(pixels[inner], stored, subsampling=subsampling)
    pristine = pixels
    worst = 100 if quality is None else quality
    dy, dx = (int(v) for v in rng.integers(0, _SHIFT, 2))
    if quality is not None and rng.random() < recipe.double_share:
        first = _quality(rng, recipe)
        # Its grid starts at the shifted corner; (0, 0) of the whole frame is a multiple of 8 away from the patch's.
        pixels = pixels.copy()
        pixels[dy:, dx:], _ = compress(pixels[dy:, dx:], first, subsampling=subsampling)
        if first < quality:
            worst, label = first, label if label in ("noise", "blur", "low_resolution") else "double_jpeg"
    tables = np.zeros((2, 8, 8), np.float32)
    degraded = np.ascontiguousarray(pixels[inner])
    if quality is not None:
        foreign = _foreign_tables(quality, rng) if rng.random() < recipe.foreign_table_share else None
        degraded, tables = compress(degraded, quality, subsampling=subsampling, qtables=foreign)
    measures[0] = worst / 100
    label = "graphics" if graphics else label or CLASSES[int(np.searchsorted(QUALITY_BINS, worst, side="right")) - 1]
    truth[CLASSES.index(label)] = 1
    truth[-len(REGRESSIONS) :] = measures
    bound = np.array(quality is None or worst == quality, np.float32)
    return Sample(_patch(degraded, MARGIN), _patch(pristine, _FRAME), tables, truth, bound)


def region_side(patch: int) -> int:
    """Side of the region that `degrade` wants for a patch of that side."""
    return patch + 2 * _FRAME


def in_colours(region: Array, rng: np.random.Generator, grey_share: float) -> Array:
    """A region as it is, or, for a share in 0..1 of all, its luma `(rows, cols)`: half 16..235, half 0..255."""
    grey = rng.random() < grey_share
    return metrics.luma(region, studio=rng.random() < 0.5) if grey else region


def _patch(pixels: Array, frame: int) -> Array:
    inner = pixels[frame:-frame, frame:-frame]
    return np.repeat(inner[:, :, None], 3, axis=2) if inner.ndim == 2 else inner


def _quality(rng: np.random.Generator, recipe: Degradation) -> int:
    low, high = recipe.quality
    if rng.random() < recipe.harsh_share:
        high = max(low, min(high, HARSH))
    if rng.random() < recipe.round_share:
        return int(np.clip(10 * rng.integers(1, max(1, high // 10) + 1), low, high))
    return int(rng.integers(low, high + 1))


def _foreign_tables(quality: int, rng: np.random.Generator) -> list[list[int]]:
    """Tables of about the same strength with another balance of frequencies, as other encoders have them."""
    tables = []
    balance = rng.uniform(0.6, 1.2)
    for steps in _standard_tables(quality):
        logs = np.log(steps)
        shaped = np.exp(logs.mean() + balance * (logs - logs.mean()))
        tables.append([int(v) for v in np.clip(np.rint(shaped), 1, 255)])
    return tables


def _standard_tables(quality: int) -> Array:
    """libjpeg's tables for a quality factor, `(2, 64)` (jcparam.c: T.81 annex K, scaled)."""
    _, tables = compress(np.zeros((8, 8, 3), np.uint8), quality)
    return tables.reshape(2, 64)


def _other_harm(pixels: Array, rng: np.random.Generator) -> tuple[Array, str, Array]:
    kind = int(rng.integers(3))
    if kind == 0:
        sigma = float(rng.uniform(5, 40))
        noisy = pixels + rng.normal(0, sigma, pixels.shape)
        return np.clip(np.rint(noisy), 0, 255).astype(np.uint8), "noise", np.array([1.0, sigma / 50, 0.0], np.float32)
    if kind == 1:
        sigma = float(rng.uniform(1.0, 3.0))
        return cv2.GaussianBlur(pixels, (0, 0), sigma), "blur", np.array([1.0, 0.0, sigma / 4], np.float32)
    rows, cols = pixels.shape[:2]
    small = cv2.resize(pixels, (cols // 2, rows // 2), interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (cols, rows), interpolation=cv2.INTER_CUBIC)
    return large, "low_resolution", np.array([1.0, 0.0, 0.0], np.float32)
