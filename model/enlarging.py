"""Twice the size by bicubic interpolation: what an enlarging network adds its residual to."""

from __future__ import annotations

from typing import Any

from keras import ops

REACH = 2
"""How many pixels away from a pixel of the enlarged picture those are that it is made of."""

# Keys' cubic with a = -1/2, which is Pillow's and that of published tables, a quarter of a pixel left of a pixel: the
# weights of the two pixels before it, of itself, and of the one after it.
_WEIGHTS = (-0.0234375, 0.2265625, 0.8671875, -0.0703125)


def doubled(pixels: Any) -> Any:
    """Enlarges pictures by 2; beyond the border lies the mirror image.

    The sums are written out, so a pixel comes out the same, to the last bit, wherever the picture is cut around it.

    Args:
        pixels: `(batch, rows, cols, channels)` float32; rows and cols at least 2.

    Returns:
        `(batch, 2 * rows, 2 * cols, channels)` float32.
    """
    return _doubled_along(_doubled_along(pixels, 1), 2)


def _doubled_along(pixels: Any, axis: int) -> Any:
    size = ops.shape(pixels)[axis]
    padding = [(0, 0)] * 4
    padding[axis] = (REACH, REACH)
    padded = ops.pad(pixels, padding, mode="symmetric")

    def moved(by: int) -> Any:
        place: list[Any] = [slice(None)] * 4
        place[axis] = slice(REACH + by, REACH + by + size)
        return padded[tuple(place)]

    before = sum(weight * moved(by) for weight, by in zip(_WEIGHTS, (-2, -1, 0, 1), strict=True))
    after = sum(weight * moved(-by) for weight, by in zip(_WEIGHTS, (-2, -1, 0, 1), strict=True))
    both = ops.stack([before, after], axis=axis + 1)
    shape = list(ops.shape(pixels))
    shape[axis] = 2 * size
    return ops.reshape(both, shape)
