"""Chroma's own way through a DeconvNet, beside and after that of luma.

JPEG codes luma and chroma apart, with other tables and mostly at half the size. One way for both spends channels on
chroma that luma then lacks, also in grey images. Here luma's way sees luma alone, so a photograph and its grey version
have the same luma restored, and a narrow way for chroma is led by luma's features, in which the edges are sharp.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from model.layers import ShuffledTranspose, new_block
from model.size import CHROMA_PLANES, CHROMA_WINDOW


@keras.saving.register_keras_serializable(package="relume")
class ChromaWay(layers.Layer):
    """From chroma and luma's features to the residual of chroma.

    It starts at 1/4, goes down to 1/8 and up to 1/2. Luma does not learn from chroma's errors: no gradient goes back
    into its features.

    Args:
        channels: at 1/2, 1/4 and 1/8 of the resolution.
        leaks: of what kind its blocks are; see `new_block`.

    Inputs:
        chroma: `(batch, rows, cols, 2)` float32, about -1..1; rows and cols multiples of 8.
        quarter, deep: the encoder's features of luma at 1/4 and 1/8.
        half: the decoder's last features of luma, at 1/2.
        condition: `(batch, n)` float.

    Output shape:
        `(batch, rows, cols, 2)` float32.
    """

    def __init__(self, channels: tuple[int, int, int], *, leaks: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.channels, self.leaks = channels, leaks
        c1, c2, c3 = channels
        self.stem = layers.Conv2D(c2, CHROMA_WINDOW, strides=4, padding="same", name="stem")
        self.from_quarter = _led(c2, name="from_quarter")
        self.down = layers.Conv2D(c3, 2, strides=2, name="down")
        self.from_deep = _led(c3, name="from_deep")
        self.deep = new_block(c3, leaks=leaks, name="deep")
        self.up2 = layers.Conv2DTranspose(c2, 2, strides=2, name="up2")
        self.quarter = new_block(c2, leaks=leaks, name="quarter")
        self.up1 = layers.Conv2DTranspose(c1, 2, strides=2, name="up1")
        self.from_half = _led(c1, name="from_half")
        self.tail = ShuffledTranspose(CHROMA_PLANES, 2, kernel_initializer="zeros", dtype="float32", name="tail")

    def build(self, luma: tuple[int, int, int], condition: tuple[int | None, int]) -> None:
        """Creates the weights.

        Args:
            luma: channels of luma's features at 1/2, 1/4 and 1/8.
            condition: the condition's shape.
        """
        c1, c2, c3 = self.channels
        self.stem.build((None, None, None, CHROMA_PLANES))
        led = (self.from_half, luma[0]), (self.from_quarter, luma[1]), (self.from_deep, luma[2])
        own = (self.down, c2), (self.up2, c3), (self.up1, c2), (self.tail, c1)
        for layer, channels in (*led, *own):
            layer.build((None, None, None, channels))
        for block, channels in ((self.deep, c3), (self.quarter, c2)):
            block.build((None, None, None, channels), condition)
        self.built = True

    def call(self, chroma: Any, quarter: Any, deep: Any, half: Any, condition: Any) -> Any:
        quarter, deep, half = (ops.stop_gradient(features) for features in (quarter, deep, half))
        own = self.stem(chroma) + self.from_quarter(quarter)
        below = self.deep(self.down(own) + self.from_deep(deep), condition)
        own = self.quarter(own + self.up2(below), condition)
        # Leaky: luma's features are large and change under way; a plain ReLU here died for good.
        return self.tail(ops.leaky_relu(self.up1(own) + self.from_half(half)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "channels": self.channels, "leaks": self.leaks}


def _led(channels: int, name: str) -> layers.Conv2D:
    """Takes in features of luma, little of them at first: they are larger than chroma's."""
    small = keras.initializers.VarianceScaling(0.01)
    return layers.Conv2D(channels, 1, kernel_initializer=small, name=name)
