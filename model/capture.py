"""Harms pristine patches as lenses, sensors and small files do: out of focus, noisy, or at half the size.

What is harmed so in an archive is often a JPEG of high quality on top; some patches are one, on the grid of their own
pixels. All chance comes from the generator that is handed in.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, ClassVar

import cv2
import numpy as np
from PIL import Image

from model.deconvnet import CLASSES, ESTIMATE_SIZE, REGRESSIONS
from model.degradation import MARGIN, Sample, compress, in_colours

Array = np.ndarray[Any, np.dtype[Any]]

REACH = 4.0
"""Where a Gaussian kernel ends, in sigmas."""

_BICUBIC_REACH = 2
"""How many pixels of the half size a border can spoil."""


@dataclasses.dataclass(frozen=True)
class Capture:
    """How strongly and how often what is done; every share is in 0..1.

    Attributes:
        task: of the models that this trains: `deblur`, `denoise` or `x2`.
        blur: lowest and highest sigma of a Gaussian in pixels, or None.
        noise: lowest and highest sigma of normal noise in grey levels, or None; each channel has its own noise.
        scale: 2 for pictures of half the size, by Pillow's bicubic filter; the pristine patch is then twice as large.
        clean_share: how many are not blurred and not noisy, or hardly.
        hardly: highest sigma of the noise that a clean patch may have: what no model needs to take away.
        grey_share: how many are grey; half of them use luma 16..235 (ITU-R BT.601), half 0..255.
        jpeg_share: how many are compressed at last.
        jpeg_quality: lowest and highest quality factor of those.
    """

    task: str
    blur: tuple[float, float] | None = None
    noise: tuple[float, float] | None = None
    scale: int = 1
    clean_share: float = 0.08
    hardly: float = 1.0
    grey_share: float = 0.5
    jpeg_share: float = 0.1
    jpeg_quality: tuple[int, int] = (85, 98)

    _LABELS: ClassVar[dict[str, str]] = {"deblur": "blur", "denoise": "noise", "x2": "low_resolution"}

    def __post_init__(self) -> None:
        if self.task not in self._LABELS:
            raise ValueError(f"task must be one of {', '.join(self._LABELS)}, got {self.task}")
        if self.scale not in (1, 2):
            raise ValueError(f"scale must be 1 or 2, got {self.scale}")
        if self.blur is not None and not 0 < self.blur[0] <= self.blur[1] <= MARGIN / REACH:
            raise ValueError(f"blur must rise within 0..{MARGIN / REACH:g} pixels, got {self.blur}")

    def region_side(self, patch: int) -> int:
        """Side of the pristine region that `degrade` wants for a patch of that side."""
        return self.scale * (patch + 2 * MARGIN)

    def degrade(self, region: Array, rng: np.random.Generator, *, graphics: bool = False) -> Sample:
        """Degrades one region of a pristine picture.

        Args:
            region: `(side, side, 3)` uint8 RGB, as large as `region_side` says.
            rng: where all chance comes from: the same state gives the same sample.
            graphics: that the region is of a drawing or a screen, not of a photograph.

        Returns:
            The sample; its pristine patch has `scale` times the side of the degraded one.
        """
        label, blur, noise = self._draw(rng)
        quality = None
        if rng.random() < self.jpeg_share:
            quality = int(rng.integers(self.jpeg_quality[0], self.jpeg_quality[1] + 1))
        subsampling = 2 if rng.random() < 0.7 else 0
        # No more of the region than the kernels reach, or chroma of a JPEG needs: the rest would be harmed in vain.
        frame = max(math.ceil(REACH * blur), _BICUBIC_REACH) if quality is None else MARGIN
        spare = self.scale * (MARGIN - frame)
        region = region[spare : len(region) - spare, spare : len(region) - spare]
        pristine = in_colours(region, rng, self.grey_share)
        pixels = halved(pristine) if self.scale == 2 else pristine
        pixels = blurred(pixels, blur) if blur else pixels
        inner = np.s_[frame:-frame, frame:-frame]
        if quality is None:
            pixels = pixels[inner]
        if noise:
            pixels = pixels + np.float32(noise) * rng.standard_normal(pixels.shape, np.float32)
        pixels = rounded(pixels)
        tables = np.zeros((2, 8, 8), np.float32)
        if quality is not None:
            pixels, tables = compress(np.ascontiguousarray(pixels), quality, subsampling=subsampling)
            pixels = pixels[inner]
        margin = self.scale * frame
        truth = np.zeros(ESTIMATE_SIZE, np.float32)
        truth[CLASSES.index("graphics" if graphics else label)] = 1
        truth[-len(REGRESSIONS) :] = (1.0 if quality is None else quality / 100, min(noise / 50, 1.0), blur / 4)
        pristine = pristine[margin:-margin, margin:-margin]
        return Sample(_as_rgb(pixels), _as_rgb(pristine), tables, truth, bound=np.ones((), np.float32))

    def _draw(self, rng: np.random.Generator) -> tuple[str, float, float]:
        """Class, sigma of the blur and sigma of the noise of one patch."""
        label = self._LABELS[self.task]
        if self.scale == 1 and rng.random() < self.clean_share:
            return "clean", 0.0, float(rng.uniform(0, self.hardly)) if rng.random() < 0.5 else 0.0
        blur = 0.0 if self.blur is None else float(rng.uniform(*self.blur))
        return label, blur, 0.0 if self.noise is None else float(rng.uniform(*self.noise))


def gaussian(sigma: float) -> Array:
    """A Gaussian that ends at `REACH` sigmas: `(n, 1)` float64 with a sum of 1."""
    return cv2.getGaussianKernel(2 * math.ceil(REACH * sigma) + 1, sigma, cv2.CV_64F)


def blurred(pixels: Array, sigma: float) -> Array:
    """Blurs `(rows, cols)` or `(rows, cols, channels)`; beyond the border lies the mirror image. Float32."""
    kernel = gaussian(sigma)
    return cv2.sepFilter2D(pixels.astype(np.float32), cv2.CV_32F, kernel, kernel, borderType=cv2.BORDER_REFLECT)


def halved(pixels: Array) -> Array:
    """Half the size by Pillow's bicubic filter, which is the antialiased one of published tables.

    Args:
        pixels: `(rows, cols)` or `(rows, cols, 3)` uint8; both sides even.
    """
    rows, cols = pixels.shape[:2]
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((cols // 2, rows // 2), Image.Resampling.BICUBIC))


def rounded(values: Array) -> Array:
    """Clips and rounds to uint8."""
    return values if values.dtype == np.uint8 else np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _as_rgb(pixels: Array) -> Array:
    return np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels
