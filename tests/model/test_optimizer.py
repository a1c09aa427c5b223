"""Kernels of convolutions are moved along all directions alike; the rest as AdamW moves it."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

from jobs import recipes
from model import deconvnet
from model.optimizer import new_optimizer
from model.size import SIZES

Array = np.ndarray[Any, np.dtype[Any]]

RECIPE = dataclasses.replace(recipes.load("smoke"), warm_up=1, learning_rate=1e-2, final_rate=1e-2, weight_decay=0.0)


def moved(shape: tuple[int, ...], gradient: Array, name: str = "kernel") -> Array:
    """How far a variable goes in the first step, in learning rates."""
    variable = keras.Variable(np.zeros(shape, np.float32), name=name)
    optimizer = new_optimizer(dataclasses.replace(RECIPE, clip=1e9))
    optimizer.build([variable])
    optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    return keras.ops.convert_to_numpy(variable) / RECIPE.learning_rate


def test_a_kernel_is_moved_along_all_directions_alike() -> None:
    """Of a gradient that points a thousand times further along one direction than along another."""
    rng = np.random.default_rng(0)
    left, right = np.linalg.qr(rng.normal(size=(36, 8)))[0], np.linalg.qr(rng.normal(size=(8, 8)))[0]
    gradient = (left * np.geomspace(1, 1e-2, 8)) @ right

    step = moved((3, 3, 4, 8), gradient.reshape(3, 3, 4, 8).astype(np.float32))

    lengths = np.linalg.svd(step.reshape(36, 8), compute_uv=False)
    assert lengths.min() > 0.5 * lengths.max()
    # The root mean square is that of AdamW's steps, so one learning rate serves both.
    assert np.sqrt(np.mean(step**2)) == pytest.approx(0.2, rel=0.3)
    assert np.sum(step * gradient.reshape(step.shape)) < 0


@pytest.mark.parametrize(
    ("shape", "name"), [((6, 6, 1, 8), "tail"), ((5, 8), "kernel"), ((8,), "bias"), ((1, 1, 4, 1, 4, 8), "phase")]
)
def test_all_else_is_moved_by_the_sign_at_first_as_adamw_does(shape: tuple[int, ...], name: str) -> None:
    gradient = np.random.default_rng(0).normal(size=shape).astype(np.float32)

    np.testing.assert_allclose(moved(shape, gradient, name), -np.sign(gradient), rtol=1e-3)


def test_most_weights_of_a_network_are_kernels_of_convolutions() -> None:
    network = deconvnet.build(SIZES["S"])
    optimizer = new_optimizer(RECIPE)
    optimizer.build(network.trainable_variables)

    by_adamw = [v for v in network.trainable_variables if optimizer._should_use_adamw(v)]

    assert {v.path.split("/")[-2] for v in by_adamw if len(v.shape) == 4} == {"tail"}
    assert sum(int(np.prod(v.shape)) for v in by_adamw) < 0.25 * network.count_params()


def test_the_rate_warms_up_and_falls_to_its_end() -> None:
    recipe = dataclasses.replace(RECIPE, steps=100, warm_up=10, learning_rate=1e-2, final_rate=1e-4)
    optimizer = new_optimizer(recipe)
    rates = []
    for step in (0, 10, 55, 100):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))

    assert rates == pytest.approx([1e-3, 1e-2, (1e-2 + 1e-4) / 2, 1e-4], rel=1e-4)
