"""What the head looks at, beside what the encoder hands to the decoder."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from model.jpeg import BLOCK

GRID_SIZE = 2 * BLOCK + 2
"""So many numbers `grid_steps` gives."""

_STRIDE = 4
"""From 1/2 to 1/8."""

_KEENNESS = 4.0
"""Brings what an earlier grid leaves, 0.1 to 0.5 as a logarithm, to about the size of the head's other features."""

_FAINT = 0.05
"""Grey levels added to steps: what rounding makes in flat places counts for little."""


@keras.saving.register_keras_serializable(package="relume")
class HeadFeatures(layers.Layer):
    """Features of the head's own, at 1/8.

    The encoder is nearly linear, and what it keeps is what restores. Harm shows elsewhere: in how large steps between
    neighbours are, on the edges of blocks, on those of an earlier and shifted compression, and off them. The first
    convolution here sees each place within a block apart, and its ReLU makes sizes of steps, which then can be
    averaged. The decoder does not learn from the head's errors: no gradient goes back into the encoder.

    Args:
        channels: of the output.
        convs: 3x3 convolutions, at least 1.

    Inputs:
        half: `(batch, rows, cols, n)`, the encoder's features at 1/2; rows and cols multiples of 4.
        deep: `(batch, rows / 4, cols / 4, m)`, those at 1/8.

    Output shape:
        `(batch, rows / 4, cols / 4, channels)`.
    """

    def __init__(self, channels: int, convs: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels = channels
        self.from_half = layers.Conv2D(channels, _STRIDE, strides=_STRIDE, name="from_half")
        self.from_deep = layers.Conv2D(channels, 1, name="from_deep")
        self.convs = [
            layers.Conv2D(channels, 3, padding="same", kernel_initializer="he_normal", name=f"conv_{i}")
            for i in range(convs)
        ]

    def build(self, half: int, deep: int) -> None:
        """Creates the weights for features of so many channels."""
        self.from_half.build((None, None, None, half))
        self.from_deep.build((None, None, None, deep))
        for conv in self.convs:
            conv.build((None, None, None, self.channels))
        self.built = True

    def call(self, half: Any, deep: Any) -> Any:
        features = self.from_half(ops.stop_gradient(half)) + self.from_deep(ops.stop_gradient(deep))
        for conv in self.convs:
            features = features + conv(ops.relu(features))
        return features

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "channels": self.channels, "convs": len(self.convs)}


def grid_steps(luma: Any) -> Any:
    """Where in the JPEG grid the steps between neighbours stand out: on its edges, or on those of an earlier grid.

    A compression leaves steps along the edges of its blocks. Those of an earlier one, whose grid was another, lie at
    another place within the blocks of today, and stay visible below a second, milder compression.

    Args:
        luma: `(batch, rows, cols)` float32 in grey levels; rows and cols multiples of 8, the grid at (0, 0).

    Returns:
        `(batch, GRID_SIZE)` float32: for each of the 8 columns of a block, then its 8 rows, how far the step to the
        next one is above the steps on both sides of it, in the mean, as `_KEENNESS` times the logarithm of its ratio to
        the mean off the grid; then the largest of these off the grid, of columns and of rows.
    """
    found = [_stand_out(values) for values in (luma, ops.transpose(luma, (0, 2, 1)))]
    strays = [ops.max(steps[:, : BLOCK - 1], axis=1, keepdims=True) for steps in found]
    return ops.concatenate([*found, *strays], axis=1)


def _stand_out(luma: Any) -> Any:
    steps = ops.abs(luma[:, :, 1:] - luma[:, :, :-1])
    above = ops.relu(steps[:, :, 1:-1] - (steps[:, :, :-2] + steps[:, :, 2:]) / 2)
    # Two steps at the end and one at the start have no neighbour on one side, or are not seen at all.
    above = ops.pad(above, ((0, 0), (0, 0), (1, 2)), mode="symmetric")
    batch, rows, cols = ops.shape(above)
    mean = ops.mean(ops.reshape(above, (batch, rows, cols // BLOCK, BLOCK)), axis=(1, 2)) + _FAINT
    return _KEENNESS * ops.log(mean / ops.mean(mean[:, : BLOCK - 1], axis=1, keepdims=True))
