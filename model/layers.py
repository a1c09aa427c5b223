"""The layers of a DeconvNet that Keras does not bring."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

_PACKAGE = "relume"


@keras.saving.register_keras_serializable(package=_PACKAGE)
class GridPhase(keras.layers.Layer):
    """Adds a learned value for each place within a JPEG block, so that every level knows where the block edges are.

    A convolution is blind to where it stands; the artefacts of JPEG are not: they repeat every 8 pixels. Without this
    layer only the 1/8 level sees the grid in phase.

    Args:
        period: cells of this level to one JPEG block, at least 1; the input's rows and columns are multiples of it.

    Input shape:
        `(batch, rows, cols, channels)`, float; rows and cols multiples of `period`, cell (0, 0) at a block's corner.

    Output shape:
        Same as the input.
    """

    def __init__(self, period: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if period < 1:
            raise ValueError(f"period must be at least 1, got {period}")
        self.period = period

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = (1, 1, self.period, 1, self.period, input_shape[-1])
        self.phase = self.add_weight(shape=shape, initializer="zeros", name="phase")

    def call(self, values: Any) -> Any:
        batch, rows, cols, channels = ops.shape(values)
        p = self.period
        blocks = ops.reshape(values, (batch, rows // p, p, cols // p, p, channels))
        return ops.reshape(blocks + self.phase, (batch, rows, cols, channels))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "period": self.period}


class _Block(keras.layers.Layer):
    """What both kinds of residual blocks have: two convolutions of 3x3, and a condition that scales and shifts.

    The modulation is `(1 + gamma) * features + beta` with gamma and beta a linear function of the condition
    (FiLM, arXiv 1709.07871); it starts as the identity. Without a condition there is none.

    Args:
        channels: of input and output, at least 1.
        first, second: how the kernels are drawn.

    Inputs:
        features: `(batch, rows, cols, channels)`, float.
        condition: `(batch, n)`, float, or None.

    Output shape:
        Same as `features`.
    """

    def __init__(self, channels: int, first: Any, second: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        self.channels = channels
        self.first = keras.layers.Conv2D(channels, 3, padding="same", kernel_initializer=first, name="first")
        self.second = keras.layers.Conv2D(channels, 3, padding="same", kernel_initializer=second, name="second")
        self.modulation: keras.layers.Dense | None = None

    def build(self, features_shape: Any, condition_shape: Any = None) -> None:
        self.first.build(features_shape)
        self.second.build(features_shape)
        if condition_shape is not None:
            self.modulation = keras.layers.Dense(2 * self.channels, kernel_initializer="zeros", name="modulation")
            self.modulation.build(condition_shape)

    def modulated_first(self, features: Any, condition: Any) -> Any:
        """The first convolution, modulated."""
        inner = self.first(features)
        if self.modulation is None:
            return inner
        gamma, beta = ops.split(self.modulation(condition)[:, None, None, :], 2, axis=-1)
        return inner * (1 + gamma) + beta

    def compute_output_shape(self, features_shape: Any, condition_shape: Any = None) -> Any:
        return features_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "channels": self.channels}


@keras.saving.register_keras_serializable(package=_PACKAGE)
class ConditionalBlock(_Block):
    """A residual block, `x + conv(relu(modulate(conv(x))))`, whose inside a condition scales and shifts."""

    def __init__(self, channels: int, **kwargs: Any) -> None:
        # A small second kernel starts the block near the identity: deep stacks then train at a high rate without norms.
        super().__init__(channels, keras.initializers.HeNormal(), keras.initializers.VarianceScaling(0.1), **kwargs)

    def call(self, features: Any, condition: Any = None) -> Any:
        return features + self.second(ops.relu(self.modulated_first(features, condition)))


LEAK = 0.2
"""Slope below 0 of what follows a convolution of a leaky network."""


def leaky(features: Any) -> Any:
    """A rectifier that lets a fifth of what is negative through."""
    return ops.leaky_relu(features, LEAK)


@keras.saving.register_keras_serializable(package=_PACKAGE)
class LeakyBlock(_Block):
    """Two residual convolutions, `x + leaky(conv(x))`, of which a condition scales and shifts the first.

    As many multiplications as a `ConditionalBlock`, and twice as many places where the network is not linear.
    """

    def __init__(self, channels: int, **kwargs: Any) -> None:
        # Small kernels, for the same reason.
        small = keras.initializers.VarianceScaling
        super().__init__(channels, small(0.3), small(0.3), **kwargs)

    def call(self, features: Any, condition: Any = None) -> Any:
        features = features + leaky(self.modulated_first(features, condition))
        return features + leaky(self.second(features))


def new_block(channels: int, *, leaks: bool, name: str) -> ConditionalBlock | LeakyBlock:
    """A residual block of the one kind or the other."""
    return (LeakyBlock if leaks else ConditionalBlock)(channels, name=name)


@keras.saving.register_keras_serializable(package=_PACKAGE)
class ShuffledTranspose(keras.layers.Conv2DTranspose):
    """A transposed convolution whose kernel is three strides wide, computed as a convolution and a shuffle.

    Each phase of the output sees three inputs along an axis, so a 3x3 convolution gives all phases of a cell as
    channels, which are then laid out as pixels. The sums are those of the transposed convolution (arXiv 1609.07009);
    with few output channels a processor needs a third of the time for them.

    Args:
        filters: output channels.
        stride: along both axes; the kernel is three times as wide.

    Input shape:
        `(batch, rows, cols, channels)`, float.

    Output shape:
        `(batch, stride * rows, stride * cols, filters)`.
    """

    def __init__(self, filters: int, stride: int, **kwargs: Any) -> None:
        super().__init__(filters, 3 * stride, strides=stride, padding="same", **kwargs)
        self.stride = stride

    def call(self, inputs: Any) -> Any:
        s, (batch, rows, cols, channels) = self.stride, ops.shape(inputs)
        # (row, col, filter, channel) of the kernel to (tap, tap, channel, phase, phase, filter); taps run backwards.
        taps = ops.reshape(self.kernel, (3, s, 3, s, self.filters, channels))
        taps = ops.transpose(ops.flip(taps, axis=(0, 2)), (0, 2, 5, 1, 3, 4))
        phases = ops.conv(inputs, ops.reshape(taps, (3, 3, channels, s * s * self.filters)), padding="same")
        phases = ops.reshape(phases + ops.tile(self.bias, s * s), (batch, rows, cols, s, s, self.filters))
        return ops.reshape(ops.transpose(phases, (0, 1, 3, 2, 4, 5)), (batch, s * rows, s * cols, self.filters))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {name: value for name, value in config.items() if name not in ("kernel_size", "strides", "padding")} | {
            "stride": self.stride
        }
