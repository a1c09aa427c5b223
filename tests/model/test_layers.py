"""Our layers against plain loops, and through Keras's own way of saving."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

from model.layers import LEAK, ConditionalBlock, GridPhase, LeakyBlock, ShuffledTranspose

Array = np.ndarray[Any, np.dtype[Any]]


def filled(layer: Any, *shapes: Any) -> Any:
    """The layer, built, with weights that are not zero."""
    layer.build(*shapes)
    rng = np.random.default_rng(3)
    layer.set_weights([rng.normal(0, 0.3, w.shape) for w in layer.get_weights()])
    return layer


def test_a_grid_phase_adds_the_value_of_the_place_within_the_block() -> None:
    values = np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype(np.float32)
    layer = filled(GridPhase(4), values.shape)
    phase = layer.get_weights()[0][0, 0, :, 0, :, :]

    found = keras.ops.convert_to_numpy(layer(values))

    expected = values.copy()
    for y in range(8):
        for x in range(12):
            expected[:, y, x] += phase[y % 4, x % 4]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_new_grid_phase_changes_nothing() -> None:
    values = np.ones((1, 4, 4, 2), np.float32)

    np.testing.assert_array_equal(keras.ops.convert_to_numpy(GridPhase(2)(values)), values)


def convolve(values: Array, kernel: Array, bias: Array) -> Array:
    padded = np.pad(values, ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = np.zeros((*values.shape[:3], kernel.shape[3])) + bias
    for dy in range(3):
        for dx in range(3):
            out += padded[:, dy : dy + values.shape[1], dx : dx + values.shape[2]] @ kernel[dy, dx]
    return out


def modulate(values: Array, modulation: keras.layers.Dense | None, condition: Array | None) -> Array:
    if condition is None:
        return values
    assert modulation is not None
    kernel, bias = modulation.get_weights()
    gamma, beta = np.split(condition @ kernel + bias, 2, axis=1)
    return values * (1 + gamma[:, None, None]) + beta[:, None, None]


def conditional_by_hand(layer: ConditionalBlock, features: Array, condition: Array | None) -> Array:
    inner = modulate(convolve(features, *layer.first.get_weights()), layer.modulation, condition)
    return features + convolve(np.maximum(inner, 0), *layer.second.get_weights())


def leaky_by_hand(layer: LeakyBlock, features: Array, condition: Array | None) -> Array:
    def leaking(values: Array) -> Array:
        return np.where(values < 0, LEAK * values, values)

    features = features + leaking(modulate(convolve(features, *layer.first.get_weights()), layer.modulation, condition))
    return features + leaking(convolve(features, *layer.second.get_weights()))


@pytest.mark.parametrize("conditioned", [False, True])
@pytest.mark.parametrize(("kind", "by_hand"), [(ConditionalBlock, conditional_by_hand), (LeakyBlock, leaky_by_hand)])
def test_a_block_is_the_same_as_by_hand(kind: Any, by_hand: Any, conditioned: bool) -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(2, 5, 6, 4)).astype(np.float32)
    condition = rng.normal(size=(2, 7)).astype(np.float32) if conditioned else None
    layer = filled(kind(4), features.shape, condition.shape if condition is not None else None)

    found = keras.ops.convert_to_numpy(layer(features, condition))

    np.testing.assert_allclose(found, by_hand(layer, features, condition), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [ConditionalBlock, LeakyBlock])
def test_a_new_block_does_not_hear_its_condition_yet(kind: Any) -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(1, 4, 4, 3)).astype(np.float32)
    layer = kind(3)

    one, two = (keras.ops.convert_to_numpy(layer(features, np.full((1, 5), value, np.float32))) for value in (0, 9))

    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("layer", [GridPhase(4), ConditionalBlock(6), LeakyBlock(6)])
def test_a_layer_is_made_again_from_its_config(layer: Any) -> None:
    again = keras.layers.deserialize(keras.layers.serialize(layer))

    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="period must be at least 1, got 0"):
        GridPhase(0)
    for kind in (ConditionalBlock, LeakyBlock):
        with pytest.raises(ValueError, match="channels must be at least 1, got 0"):
            kind(0)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_a_shuffled_transpose_is_the_transposed_convolution_of_keras(stride: int) -> None:
    values = np.random.default_rng(0).normal(size=(2, 5, 7, 4)).astype(np.float32)
    ours = filled(ShuffledTranspose(3, stride), values.shape)
    theirs = filled(keras.layers.Conv2DTranspose(3, 3 * stride, strides=stride, padding="same"), values.shape)

    found, wanted = (keras.ops.convert_to_numpy(layer(values)) for layer in (ours, theirs))
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    again = filled(ShuffledTranspose.from_config(ours.get_config()), values.shape)
    np.testing.assert_array_equal(*(keras.ops.convert_to_numpy(layer(values)) for layer in (ours, again)))
