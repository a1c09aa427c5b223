"""What the head looks at, beside what the encoder hands to the decoder."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

_STRIDE = 4
"""From 1/2 to 1/8."""


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
