"""A look at a network in training: a few fixed pieces of pictures, harmed and restored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from model import exporting, metrics
from model.deconvnet import DeconvNet, estimate_of
from model.degradation import compress
from model.photos import Photo

Array = np.ndarray[Any, np.dtype[Any]]

QUALITIES = (10, 20, 40)
"""Quality factors that are looked at."""

_SIDE, _PIECES = 128, 6


def preview(network: DeconvNet, photos: Sequence[Photo]) -> tuple[dict[str, float], Array]:
    """Restores the middles of a few pictures.

    Args:
        network: with the weights to be looked at.
        photos: a few of them are taken, evenly spread; pieces beyond a picture's border are its mirror image.

    Returns:
        The gain in PSNR of luma over the JPEG, of all pieces together, in dB, by its name; and a picture,
        `(rows, cols, 3)` uint8, with a row for each piece: JPEG of the lowest quality, restored, pristine.
    """
    chosen = [photos[len(photos) * i // _PIECES] for i in range(min(_PIECES, len(photos)))]
    pristine = np.stack([_middle(photo.pixels) for photo in chosen])
    gains: dict[str, float] = {}
    rows: list[Array] = []
    for quality in QUALITIES:
        pairs = [compress(pixels, quality) for pixels in pristine]
        degraded, tables = (np.stack(part) for part in zip(*pairs, strict=True))
        restored = _restore(network, degraded, tables)
        before, after, true = (metrics.luma(np.concatenate(part)) for part in (degraded, restored, pristine))
        gains[f"gain_q{quality}"] = metrics.psnr(after, true) - metrics.psnr(before, true)
        if not rows:
            rows = [np.concatenate(row, axis=1) for row in zip(degraded, restored, pristine, strict=True)]
    return gains, np.concatenate(rows)


def _restore(network: DeconvNet, degraded: Array, tables: Array) -> Array:
    pixels = ops.convert_to_tensor(degraded.astype(np.float32))
    logits = exporting.estimate_logits(network, pixels)
    estimate = estimate_of(logits["classes"], logits["regressions"])
    ones, zeros = np.ones(len(degraded), np.float32), np.zeros(len(degraded), np.float32)
    restored = exporting.restore(network, pixels, tables, estimate, ones, ones, zeros)
    return np.rint(ops.convert_to_numpy(restored)).astype(np.uint8)


def _middle(pixels: Array) -> Array:
    missing = [max(0, _SIDE - side) for side in pixels.shape[:2]]
    pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), "symmetric")
    top, left = ((side - _SIDE) // 2 for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[top : top + _SIDE, left : left + _SIDE])
