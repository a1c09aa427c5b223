"""A network grown from a smaller one restores as that one does, and all of it can learn."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from model import deconvnet, growing
from model.deconvnet import ESTIMATE_SIZE, DeconvNet
from model.size import SIZES, DeconvNetConfig

Array = np.ndarray[Any, np.dtype[Any]]

SMALL = DeconvNetConfig((4, 6, 8), (0, 1, 1, 1, 1), head=4, chroma=(3, 4, 5), head_convs=1)
LARGE = DeconvNetConfig((6, 7, 12), (1, 2, 2, 2, 2), head=4, chroma=(4, 5, 8), head_convs=1)
PAIRS = [
    pytest.param(SMALL, LARGE, id="chroma apart"),
    pytest.param(*(dataclasses.replace(c, leaky=True) for c in (SMALL, LARGE)), id="leaky"),
    pytest.param(*(dataclasses.replace(c, chroma=None, scale=2) for c in (SMALL, LARGE)), id="twice the size"),
]


def drawn(config: DeconvNetConfig) -> DeconvNet:
    """With every weight drawn at random, so that nothing hides behind a zero."""
    network = deconvnet.build(config)
    rng = np.random.default_rng(0)
    network.set_weights([rng.normal(0, 0.25, w.shape) for w in network.get_weights()])
    return network


def grown(small: DeconvNet, config: DeconvNetConfig) -> DeconvNet:
    large = deconvnet.build(config)
    large.set_weights(growing.grow(small, config))
    return large


def inputs() -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(1)
    tables = rng.integers(1, 60, (2, 2, 8, 8)).astype(np.float32)
    estimate = rng.uniform(0, 1, (2, ESTIMATE_SIZE)).astype(np.float32)
    return rng.uniform(-100, 100, (2, 24, 32, 3)).astype(np.float32), estimate, tables


@pytest.mark.parametrize(("small", "large"), PAIRS)
def test_it_restores_and_estimates_as_before(small: DeconvNetConfig, large: DeconvNetConfig) -> None:
    before = drawn(small)
    after = grown(before, large)

    one, two = (ops.convert_to_numpy(network(*inputs())) for network in (before, after))
    np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-4 * np.abs(one).max())
    logits = [network.logits(inputs()[0], network.encode(inputs()[0])) for network in (before, after)]
    for old, new in zip(*logits, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(new), ops.convert_to_numpy(old), rtol=1e-4, atol=1e-4)


def test_what_is_new_is_not_read_yet_but_can_be_learned() -> None:
    keras.utils.set_random_seed(1)
    small = drawn(SMALL)

    names = [variable.path.split("/", 1)[1] for variable in deconvnet.build(LARGE).weights]
    weights = dict(zip(names, growing.grow(small, LARGE), strict=True))

    # Old channels come first. What leads into a new one is drawn, what leads out of it to an old one is not there.
    assert not weights["dec1_0/first/kernel"][:, :, 4:, :4].any()
    assert weights["dec1_0/first/kernel"][:, :, :, 4:].all()
    assert not weights["up1/kernel"][:, :, :4, 6:].any()
    assert weights["mid_1/first/kernel"].all()
    assert not weights["mid_1/second/kernel"].any()


def test_the_seed_decides_what_is_drawn() -> None:
    small = drawn(SMALL)
    found = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        found.append(np.concatenate([w.ravel() for w in growing.grow(small, LARGE)]))

    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


@pytest.mark.parametrize(
    "change",
    [
        {"channels": (3, 7, 12)},
        {"blocks": (0, 0, 1, 1, 1)},
        {"chroma": None},
        {"chroma": (2, 4, 8)},
        {"head": 8},
        {"head_convs": 2},
        {"chroma": None, "scale": 2},
        {"leaky": True},
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    other = dataclasses.replace(LARGE, **change)

    assert not growing.fits(SMALL, other)
    with pytest.raises(ValueError, match="config must be a larger network than"):
        growing.grow(deconvnet.build(SMALL), other)


def test_each_size_grows_into_the_next() -> None:
    assert growing.fits(SIZES["S"], SIZES["M"])
    assert growing.fits(SIZES["M"], SIZES["L"])
    assert not growing.fits(SIZES["M"], SIZES["S"])
