"""How near a picture is to its pristine reference, and how visible its JPEG grid is.

Pictures are `(rows, cols)` or `(rows, cols, channels)`, uint8 or uint16; their peak is the largest value of their type.
What was computed is rounded to integers before it is scored, as in publications.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

BLOCK = 8
"""Side of a JPEG block in pixels."""

# ITU-R BT.601-7: thousandths of R', G', B' (2.5.1), and 220 levels from 16 on for luma of 8 bits (2.5.3).
_THOUSANDTHS = np.array([299.0, 587.0, 114.0])
_STUDIO_BLACK, _STUDIO_SPAN = 16.0, 219.0

_SIGMA, _RADIUS = 1.5, 5

WINDOW = 2 * _RADIUS + 1
"""Side in pixels of the window of SSIM."""

_FLAT = 0.1
"""Added to steps, in levels of 255: a flat picture, where a ratio of small numbers says nothing, comes out near 1."""


def luma(pixels: Array, *, studio: bool = False) -> Array:
    """Luma by ITU-R BT.601, rounded, a half to the even neighbour; the same on every machine.

    Args:
        pixels: RGB or grey. Grey comes back as it is: it already is a luma, of whatever range.
        studio: black at 16 and white at 235 (of 255), as published results on JPEG have it, instead of the full range.

    Returns:
        `(rows, cols)` of the same type.
    """
    plane = _planes(pixels)
    if plane.shape[2] == 1:
        return pixels.reshape(pixels.shape[:2])
    if plane.shape[2] != 3:
        raise ValueError(f"pixels must have 1 or 3 channels, got {plane.shape[2]}")
    peak = _peak(pixels)
    # Sums of whole numbers are exact in whichever order a machine adds them, and one division is rounded alike by all:
    # so what lies on a half is seen to, and goes to the even neighbour everywhere.
    thousandths = plane @ _THOUSANDTHS
    if not studio:
        return np.rint(thousandths / 1000).astype(pixels.dtype)
    return (np.rint(_STUDIO_SPAN * thousandths / 255_000) + _STUDIO_BLACK * (peak / 255)).astype(pixels.dtype)


def psnr(pixels: Array, reference: Array) -> float:
    """Peak signal-to-noise ratio in dB, over all channels together; `inf` where the two are equal."""
    return decibel(_squared_error(pixels, reference), _peak(reference))


def psnr_b(pixels: Array, reference: Array, *, origin: tuple[int, int] = (0, 0), published: bool = False) -> float:
    """PSNR that also counts the blocking effect (Yim and Bovik, IEEE Trans. Image Processing 20(1), 2011, eq. 8-14).

    The mean squared step over block edges, as far as it is above the mean squared step elsewhere, is added to the mean
    squared error with the weight log2(8) / log2(min(rows, cols)).

    Args:
        pixels: whose block edges are looked at.
        reference: pristine.
        origin: row and column of a corner of a block.
        published: divide as the programs behind published tables do, by `side // 8 - 1` edges along a side: one too
            few where the side is no multiple of 8. On JPEGs of BSDS500 it takes away 0.06 dB at quality 10 and 0.13 dB
            at 40, so what is compared with such a table has to do the same.

    Returns:
        dB, at most the PSNR; with several channels their blocking effects are averaged.
    """
    planes = _planes(pixels)
    effect = 0.0
    if min(planes.shape[:2]) > 1:
        weight = math.log2(BLOCK) / math.log2(min(planes.shape[:2]))
        effects = [_excess(planes[..., i], origin, published=published) for i in range(planes.shape[2])]
        effect = weight * float(np.mean(effects))
    return decibel(_squared_error(pixels, reference) + effect, _peak(reference))


def ssim(pixels: Array, reference: Array) -> float:
    """Structural similarity (Wang et al., IEEE Trans. Image Processing 13(4), 2004), -1..1, 1 where the two are equal.

    Gaussian window of 11 x 11 with sigma 1.5, K1 = 0.01, K2 = 0.03, weighted (not sample) covariance. The mean is over
    windows that lie wholly inside; a side below 11 has none, and there windows reach over the mirrored border. With
    several channels it is the mean of theirs.
    """
    _same_shape(pixels, reference)
    a, b = _planes(pixels), _planes(reference)
    peak = _peak(reference)
    return float(np.mean([_ssim_of_planes(a[..., i], b[..., i], peak) for i in range(a.shape[2])]))


def blockiness(pixels: Array, *, origin: tuple[int, int] = (0, 0)) -> float:
    """How much steeper steps between neighbours are on the JPEG grid than off it: 1 is none, above is visible.

    The mean absolute step over block edges by the mean absolute step elsewhere, of luma, both directions together. No
    reference is needed. A picture without a block edge (at most 8 x 8) gives 1.

    Args:
        pixels: RGB or grey.
        origin: row and column of a corner of a block.
    """
    return blockiness_of_steps(*steps(levels(pixels), origin, np.abs))


def blockiness_of_steps(on: float, off: float, edges: int, others: int) -> float:
    """The blockiness of a picture with these `steps`."""
    if not edges or not others:
        return 1.0
    return (on / edges + _FLAT) / (off / others + _FLAT)


def levels(pixels: Array) -> Array:
    """Luma in levels of 255: `(rows, cols)` float64."""
    return luma(pixels).astype(np.float64) * (255.0 / _peak(pixels))


def _excess(plane: Array, origin: tuple[int, int], *, published: bool) -> float:
    """How far the mean squared step over block edges is above that elsewhere, or 0."""
    on, off, edges, others = steps(plane.astype(np.float64), origin, np.square)
    if published:
        rows, cols = plane.shape
        total = edges + others
        edges = rows * (cols // BLOCK - 1) + cols * (rows // BLOCK - 1)
        others = total - edges
    if edges <= 0 or others <= 0:
        return 0.0
    return max(0.0, on / edges - off / others)


def steps(plane: Array, origin: tuple[int, int], size: np.ufunc) -> tuple[float, float, int, int]:
    """Steps between neighbours in both directions: their summed size on block edges and off them, and their numbers."""
    sums, counts = [0.0, 0.0], [0, 0]
    for axis in (0, 1):
        sizes = size(np.diff(plane, axis=axis)).sum(axis=1 - axis)
        # A step crosses an edge where the row or column that it leads into is the first of a block.
        on_edge = (np.arange(1, plane.shape[axis]) - origin[axis]) % BLOCK == 0
        for kind, places in enumerate((on_edge, ~on_edge)):
            sums[kind] += float(sizes[places].sum())
            counts[kind] += int(places.sum()) * plane.shape[1 - axis]
    return sums[0], sums[1], counts[0], counts[1]


def _ssim_of_planes(a: Array, b: Array, peak: float) -> float:
    values = _similarity(a, b, peak)
    whole = values[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]
    return float((whole if whole.size else values).mean())


def similarities(a: Array, b: Array) -> Array:
    """The SSIM of every window that lies wholly inside: `(rows - 10, cols - 10)` float64 of two planes of one type."""
    return _similarity(a, b, _peak(b))[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]


def _similarity(a: Array, b: Array, peak: float) -> Array:
    a, b = a.astype(np.float64), b.astype(np.float64)

    def blur(plane: Array) -> Array:
        return cv2.GaussianBlur(plane, (WINDOW, WINDOW), _SIGMA, borderType=cv2.BORDER_REFLECT)

    mean_a, mean_b = blur(a), blur(b)
    variances = blur(a * a + b * b) - mean_a**2 - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    values = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    values /= (mean_a**2 + mean_b**2 + c1) * (variances + c2)
    return values


def _squared_error(pixels: Array, reference: Array) -> float:
    _same_shape(pixels, reference)
    return float(np.mean(np.square(pixels.astype(np.float64) - reference.astype(np.float64))))


def decibel(error: float, peak: float) -> float:
    """PSNR of a mean squared error; `inf` of none."""
    return 10 * math.log10(peak**2 / error) if error > 0 else math.inf


def _planes(pixels: Array) -> Array:
    if pixels.ndim not in (2, 3) or pixels.size == 0:
        raise ValueError(f"pixels must be (rows, cols) or (rows, cols, channels) and not empty, got {pixels.shape}")
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _peak(pixels: Array) -> float:
    if pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"pixels must be uint8 or uint16, got {pixels.dtype}")
    return float(np.iinfo(pixels.dtype).max)


def _same_shape(pixels: Array, reference: Array) -> None:
    if pixels.shape != reference.shape or pixels.dtype != reference.dtype:
        kinds = [f"{picture.shape} {picture.dtype}" for picture in (pixels, reference)]
        raise ValueError(f"pixels and reference must be alike, got {kinds[0]} and {kinds[1]}")
