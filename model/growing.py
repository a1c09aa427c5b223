"""A larger network that starts with what a smaller one has learned: it restores just as the smaller one does.

New channels are drawn as ever, and nothing that was there reads them yet; new blocks add nothing yet (Net2Net, arXiv
1511.05641, without its copies of channels). Training goes on from there, with all of the larger network.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from model import deconvnet
from model.deconvnet import DeconvNet
from model.size import DeconvNetConfig

Array = np.ndarray[Any, np.dtype[Any]]


def fits(small: DeconvNetConfig, large: DeconvNetConfig) -> bool:
    """Whether a network of the one can grow into one of the other; their heads must be alike."""

    def alike(config: DeconvNetConfig) -> tuple[Any, ...]:
        return config.head, config.head_convs, config.scale, config.chroma is None, config.leaky

    pairs = zip(
        (*small.channels, *small.blocks, *(small.chroma or ())),
        (*large.channels, *large.blocks, *(large.chroma or ())),
        strict=False,
    )
    return alike(small) == alike(large) and all(before <= after for before, after in pairs)


def grow(small: DeconvNet, config: DeconvNetConfig) -> list[Array]:
    """The weights of a larger network that restores as a smaller one does.

    Args:
        small: with its weights.
        config: of the larger network; `fits` says which can be.

    Returns:
        float32 weights in the order of the larger network's variables. What is new of them follows Keras's seed.

    Raises:
        ValueError: if the smaller network does not fit into the larger one.
    """
    if not fits(small.config, config):
        raise ValueError(f"config must be a larger network than {small.config}, got {config}")
    known = {_name(variable): np.asarray(keras.ops.convert_to_numpy(variable)) for variable in small.weights}
    large = deconvnet.build(config)
    # Both convolutions of a leaky block add to what goes by, of the other kind only the second.
    adding = ("first/kernel", "second/kernel") if config.leaky else ("second/kernel",)
    return [
        _grown(_name(v), np.array(keras.ops.convert_to_numpy(v)), known.get(_name(v)), adding) for v in large.weights
    ]


def _name(variable: Any) -> str:
    """Of a variable within its network, whatever that one is called."""
    return str(variable.path).split("/", 1)[1]


def _grown(name: str, drawn: Array, known: Array | None, adding: tuple[str, ...]) -> Array:
    if known is None:
        # A block that the smaller network has not: without these kernels it adds nothing.
        return np.zeros_like(drawn) if name.endswith(adding) else drawn
    if "modulation" in name:
        # A scale for every channel, then a shift for every channel.
        halves = zip(np.split(drawn, 2, axis=-1), np.split(known, 2, axis=-1), strict=True)
        return np.concatenate([_placed(into, values) for into, values in halves], axis=-1)
    if drawn.ndim == 4:
        inputs, outputs = (-1, -2) if _is_transposed(name) else (-2, -1)
        # What was there does not read what is new.
        reading = [slice(None)] * 4
        reading[inputs], reading[outputs] = slice(known.shape[inputs], None), slice(known.shape[outputs])
        drawn[tuple(reading)] = 0
    return _placed(drawn, known)


def _placed(into: Array, values: Array) -> Array:
    into[tuple(slice(side) for side in values.shape)] = values
    return into


def _is_transposed(name: str) -> bool:
    return name.split("/")[-2] in ("up0", "up1", "up2", "tail")
