"""What training minimises."""

from __future__ import annotations

from typing import Any

from keras import ops

CHROMA_WEIGHT = 0.5
"""Weight of each chroma plane against luma: the eye and the published figures judge luma first."""

_FLOOR = 2.0
"""Root mean square error in grey levels below which a patch counts as hardly harmed."""


def restoration_loss(restored: Any, degraded: Any, pristine: Any, *, squared: bool) -> Any:
    """The error that is left, relative to the error that was there.

    The mean of PSNR over images is what is reported, and it counts a decibel on a good image as much as one on a bad
    image. An absolute error would train for the worst images alone, so each patch's error is divided by its own before.

    Args:
        restored, degraded, pristine: `(batch, rows, cols, 3)` float32 YCbCr in grey levels.
        squared: mean squared error (what PSNR measures) instead of Charbonnier's robust error (arXiv 1701.03077).

    Returns:
        `(batch,)` float32; 1 is about the error of a patch left as it was.
    """
    weights = ops.convert_to_tensor([1.0, CHROMA_WEIGHT, CHROMA_WEIGHT], "float32")
    before = ops.mean(weights * ops.square(degraded - pristine), axis=(1, 2, 3))
    scale = before + _FLOOR**2
    difference = ops.square(restored - pristine)
    if squared:
        return ops.mean(weights * difference, axis=(1, 2, 3)) / scale
    return ops.mean(weights * ops.sqrt(difference + 0.1), axis=(1, 2, 3)) / ops.sqrt(scale)
