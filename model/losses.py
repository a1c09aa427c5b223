"""What training minimises."""

from __future__ import annotations

import math
from typing import Any

from keras import ops

_EFFECT = math.log2(8) / math.log2(321)
"""Weight of the blocking effect in PSNR-B of the pictures of BSDS500, whose short side is 321 pixels."""

FLOOR = 2.0
"""Root mean square error in grey levels, of all planes, below which a patch counts as hardly harmed."""

LUMA_FLOOR = math.sqrt(3) * FLOOR
"""The same of luma alone, where the other planes add nothing to the mean."""


def restoration_loss(
    restored: Any, degraded: Any, pristine: Any, *, squared: bool, blocking: float = 0.0, floor: float = FLOOR
) -> Any:
    """The error that is left, relative to the error that was there.

    The mean of PSNR over images is what is reported, and it counts a decibel on a good image as much as one on a bad
    image. An absolute error would train for the worst images alone, so each patch's error is divided by its own before.

    Args:
        restored, degraded, pristine: `(batch, rows, cols, planes)` float32 in grey levels; luma is the first plane.
        squared: mean squared error (what PSNR measures) instead of Charbonnier's robust error (arXiv 1701.03077).
        blocking: weight of the blocking effect of luma, which counts beside the squared error as PSNR-B counts it at 1.
        floor: root mean square error in grey levels below which a patch counts as hardly harmed.

    Returns:
        `(batch,)` float32; 1 is about the error of a patch left as it was.
    """
    before = ops.mean(ops.square(degraded - pristine), axis=(1, 2, 3))
    scale = before + floor**2
    difference = ops.square(restored - pristine)
    if squared:
        left = ops.mean(difference, axis=(1, 2, 3)) / scale
    else:
        left = ops.mean(ops.sqrt(difference + 0.1), axis=(1, 2, 3)) / ops.sqrt(scale)
    if blocking:
        # One plane of those that the mean above is over.
        left += blocking * _EFFECT / restored.shape[-1] * blocking_effect(restored[..., 0]) / scale
    return left


def blocking_effect(luma: Any) -> Any:
    """How far the mean squared step over the edges of JPEG blocks is above that elsewhere, or 0.

    What `metrics.psnr_b` weighs and adds to the squared error (Yim and Bovik, IEEE Trans. Image Processing 20, 2011).

    Args:
        luma: `(batch, rows, cols)` float32, rows and cols multiples of 8 and at least 16, the grid at (0, 0).

    Returns:
        `(batch,)` float32.
    """
    rows, cols = luma.shape[1:]
    down = ops.square(luma[:, 1:] - luma[:, :-1])
    across = ops.square(luma[:, :, 1:] - luma[:, :, :-1])
    on = ops.sum(down[:, 7::8], axis=(1, 2)) + ops.sum(across[:, :, 7::8], axis=(1, 2))
    off = ops.sum(down, axis=(1, 2)) + ops.sum(across, axis=(1, 2)) - on
    edges = (rows // 8 - 1) * cols + (cols // 8 - 1) * rows
    others = (rows - 1) * cols + (cols - 1) * rows - edges
    return ops.relu(on / edges - off / others)
