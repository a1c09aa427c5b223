"""What JPEG does to pixels, as fixed convolutions: the block DCT, quantisation bins, and the projection onto them.

A decoded JPEG says more than its pixels: each DCT coefficient of the original picture lay in a bin one quantisation
step wide around the stored value (ITU-T T.81, A.3.4). A restoration whose luma stays in those bins is a picture that
the file could have come from.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from keras import ops

from model import expectation

Array = np.ndarray[Any, np.dtype[Any]]

BLOCK = 8
"""Side of a JPEG block in pixels."""

MARGIN = 0.125
"""How far inside its bin a projected coefficient stays, in steps: room for rounding to uint8 and encoding again."""

TOLERANCE = 1.0
"""How far outside its bin a coefficient may lie and still count as inside, in DCT units: what rounding pixels does."""

# ITU-R BT.601 as JFIF 1.02 uses it, full range.
_TO_YCC = np.array(
    [
        [0.299, 0.587, 0.114],
        [-0.168735892, -0.331264108, 0.5],
        [0.5, -0.418687589, -0.081312411],
    ],
    np.float32,
)
# Subtracted from all three alike, it comes off luma alone: the weights of luma sum to 1, those of chroma to 0.
_MIDDLE = 128.0
_TO_RGB = np.array([[1.0, 0.0, 1.402], [1.0, -0.344136286, -0.714136286], [1.0, 1.772, 0.0]], np.float32)


def to_ycc(rgb: Any) -> Any:
    """RGB to YCbCr.

    Args:
        rgb: `(..., 3)` float, 0..255.

    Returns:
        `(..., 3)` float32: luma minus 128 and the two chroma differences, each -128..127.5.
    """
    return ops.matmul(ops.cast(rgb, "float32") - _MIDDLE, _TO_YCC.T)


def to_rgb(ycc: Any) -> Any:
    """The inverse of `to_ycc`; not clipped, not rounded."""
    return ops.matmul(ycc, _TO_RGB.T) + _MIDDLE


@functools.cache
def dct_basis() -> Array:
    """The orthonormal 8x8 DCT-II: `(8, 8, 64)` float32, rows, columns, coefficient `8 * v + u` (T.81, A.3.3)."""
    n = np.arange(BLOCK)
    rows = np.cos((2 * n[None, :] + 1) * n[:, None] * np.pi / (2 * BLOCK)) * np.sqrt(2 / BLOCK)
    rows[0] /= np.sqrt(2)
    return np.einsum("vy,ux->yxvu", rows, rows).reshape(BLOCK, BLOCK, BLOCK * BLOCK).astype(np.float32)


def dct(plane: Any) -> Any:
    """The DCT of every block: `(n, rows, cols, 1)` float32 to `(n, rows / 8, cols / 8, 64)`; whole blocks only."""
    return ops.conv(plane, dct_basis()[:, :, None, :], strides=BLOCK, padding="valid")


def inverse_dct(coefficients: Any) -> Any:
    """The inverse of `dct`, a transposed convolution with the same kernel.

    Its blocks do not overlap: each is a product with the kernel, and they are laid side by side. Written so, it takes a
    tenth of the time that TensorFlow's general transposed convolution takes on a CPU, and gives the same numbers.
    """
    _, down, across, size = ops.shape(coefficients)
    blocks = ops.matmul(coefficients, dct_basis().reshape(size, size).T)
    blocks = ops.reshape(blocks, (-1, down, across, BLOCK, BLOCK))
    return ops.reshape(ops.transpose(blocks, (0, 1, 3, 2, 4)), (-1, down * BLOCK, across * BLOCK, 1))


def bins(luma: Any, steps: Any) -> tuple[Any, Any]:
    """The middle and half width of the bin of every luma coefficient.

    Args:
        luma: `(n, rows, cols, 1)` float32, as decoded, minus 128.
        steps: `(n, 8, 8)` quantisation steps in natural order; 0 for an image that is no JPEG.

    Returns:
        `(n, rows / 8, cols / 8, 64)` middles and `(n, 1, 1, 64)` half widths, both float32 in DCT units.
    """
    width = ops.reshape(ops.cast(steps, "float32"), (-1, 1, 1, BLOCK * BLOCK))
    return ops.round(dct(luma) / ops.maximum(width, 1.0)) * width, width / 2


def project(luma: Any, decoded: Any, steps: Any, margin: float = MARGIN, *, expecting: Any = None) -> Any:
    """Moves a restored luma plane to one whose coefficients lie in the file's bins: the nearest, or a likelier one.

    The DCT is orthonormal and the bins are a box, so clipping each coefficient is the exact Euclidean projection.

    Args:
        luma: `(n, rows, cols, 1)` float32, restored, minus 128; whole blocks, on the file's grid.
        decoded: the same plane as the file decodes to.
        steps: `(n, 8, 8)` quantisation steps of the luma in natural order; 0 leaves that image as it is.
        margin: how far inside the bin to stay, in steps, 0..0.5.
        expecting: `(n,)` float32, 0..1: how far each coefficient goes on from the nearest place in its bin to the one
            where it is to be expected (`model/expectation.py`); None is 0.

    Returns:
        `(n, rows, cols, 1)` float32.
    """
    middle, half = bins(decoded, steps)
    reach = half * (1 - 2 * margin)
    estimated = dct(luma)
    inside = ops.clip(estimated, middle - reach, middle + reach)
    if expecting is not None:
        likely = expectation.expected(estimated, middle, ops.maximum(2 * half, 1.0))
        inside += ops.reshape(expecting, (-1, 1, 1, 1)) * (likely - inside)
    is_jpeg = ops.reshape(ops.max(half, axis=-1) > 0, (-1, 1, 1, 1))
    return ops.where(is_jpeg, inverse_dct(inside), luma)


def bin_share(luma: Any, decoded: Any, steps: Any, tolerance: float = TOLERANCE) -> Any:
    """The share of luma coefficients that lie in the file's bins, `(n,)` in 0..1; arguments as for `project`."""
    middle, half = bins(decoded, steps)
    inside = ops.abs(dct(luma) - middle) <= half + tolerance
    return ops.mean(ops.cast(inside, "float32"), axis=(1, 2, 3))
