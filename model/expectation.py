"""Where inside its bin a coefficient is to be expected, when a network has estimated it.

What a network estimates is drawn towards zero the less it knows, and often lies outside the bin that the coefficient
must have come from. The nearest place inside (`jpeg.project`) is then possible, but the truth lies further in. Where it
lay on average was counted on photographs for training (`python -m benchmarks.expectation`): by how far the estimate is
from the middle of its bin, what the file stored, the frequency, and the size of the quantisation step. Models are
trained for this table (`Phase.projected`): with another they restore worse until they are trained again.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any

import numpy as np
from keras import ops

Array = np.ndarray[Any, np.dtype[Any]]

SHARE = 0.5
"""How far a coefficient goes from the nearest place in its bin to the expected one. All the way is best for PSNR, and
lets more of the blocks' edges show; see docs/decisions/expectation.md."""

STORED = 3
"""What the file stored, in steps: 0, 1, or more, of either sign."""

DIAGONALS = 15
"""Frequencies are told apart by the sum of the horizontal and the vertical one, 0..14."""

OCTAVES = 8
"""Quantisation steps are told apart by their power of two: 1, 2..3, 4..7 and so on up to 128..255."""

REACH = 1.0
"""Estimates further than so many steps from the middle count as that far."""

NODES = 17
"""The table has a value at so many distances of the estimate from the middle, evenly over `-REACH..REACH`."""

_BLOCK = 8
DIAGONAL = np.add.outer(np.arange(_BLOCK), np.arange(_BLOCK)).reshape(-1)


@functools.cache
def table() -> Array:
    """The expected distance from the middle in steps, `(STORED, DIAGONALS, OCTAVES, NODES)` float32.

    Distances are positive away from zero: of a stored 0, towards the estimate.
    """
    with resources.files("model").joinpath("expectation.npy").open("rb") as file:
        values: Array = np.load(file).astype(np.float32)
    return values


def place(estimated: Any, middle: Any, steps: Any) -> tuple[Any, Any, Any, Any]:
    """Where in the table a coefficient stands.

    Args:
        estimated: `(n, rows, cols, 64)` float32 DCT coefficients as a network restored them.
        middle: of their bins, the same shape.
        steps: `(n, 1, 1, 64)` quantisation steps, at least 1.

    Returns:
        What is stored, `0..STORED - 1` int32; which way is positive, -1 or 1 float32; the node below, int32, and how
        far the estimate is on to the next one, 0..1 float32; all of the shape of `estimated`.
    """
    offset = (estimated - middle) / steps
    sign = ops.where(ops.where(middle == 0, offset, middle) < 0, -1.0, 1.0)
    along = (ops.clip(offset * sign, -REACH, REACH) + REACH) * ((NODES - 1) / (2 * REACH))
    node = ops.minimum(ops.floor(along), NODES - 2.0)
    stored = ops.minimum(ops.round(ops.abs(middle) / steps), STORED - 1.0)
    return ops.cast(stored, "int32"), sign, ops.cast(node, "int32"), along - node


def octave(steps: Any) -> Any:
    """The octave of quantisation steps of at least 1, int32."""
    return ops.cast(ops.clip(ops.floor(ops.log2(steps) + 1e-3), 0, OCTAVES - 1), "int32")


def expected(estimated: Any, middle: Any, steps: Any) -> Any:
    """The coefficients where they are to be expected; arguments as for `place`, the result of their shape."""
    stored, sign, node, on = place(estimated, middle, steps)
    # One row a coefficient of an image: what remains to be told apart are its stored value and the node.
    by_image = ops.take(
        np.moveaxis(table(), 0, 2).reshape(-1, STORED, NODES), DIAGONAL * OCTAVES + octave(steps), axis=0
    )
    rows = ops.reshape(by_image, (-1,))
    image = ops.reshape(ops.arange(ops.shape(steps)[0]), (-1, 1, 1, 1))
    index = ((image * _BLOCK**2 + np.arange(_BLOCK**2)) * STORED + stored) * NODES + node
    below, above = ops.take(rows, index), ops.take(rows, index + 1)
    return middle + sign * (below + on * (above - below)) * steps
