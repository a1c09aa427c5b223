"""Counts where coefficients lie in their bins, for `model/expectation.npy`: `python -m benchmarks.expectation`.

Photographs for training are harmed as they are for training, and restored by a model. Of every DCT coefficient of luma
it is then known how far the estimate was from the middle of its bin, and how far the truth: the table has the straight
lines between its nodes that fit the latter best by least squares, for all that `model/expectation.py` tells apart.
Where little was counted they are near the nearest place inside. Nowhere do they leave the bin: it seems that the truth
does where pixels were clipped at black or white, for what is then taken for the middle is not it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from model import contract, expectation, exporting, jpeg, photos
from model.dataset import DegradedPatches
from model.deconvnet import DeconvNet
from model.degradation import Degradation

Array = np.ndarray[Any, np.dtype[Any]]

DEGRADATION = Degradation(double_share=0.0, clean_share=0.0, other_share=0.0)
"""One JPEG of any quality: after another, or blur, the bins say nothing else."""

PATCH, BATCH = 256, 4

PRIOR = 200.0
"""The nearest place inside counts as so many coefficients."""


def observe(network: DeconvNet, batch: dict[str, Array]) -> tuple[tuple[Array, ...], Array]:
    """Where the coefficients of a batch stand in the table, as `expectation.place` and with the octave before the
    node, and how far the truth is from the middle, in steps; all flat.
    """
    degraded, pristine = (jpeg.to_ycc(batch[name]) for name in ("degraded", "pristine"))
    restored = degraded + network(degraded, batch["truth"], batch["tables"])
    middle, half = jpeg.bins(degraded[..., :1], batch["tables"][:, 0])
    steps = ops.maximum(2 * half, 1.0)
    stored, sign, node, on = expectation.place(jpeg.dct(restored[..., :1]), middle, steps)
    truth = sign * (jpeg.dct(pristine[..., :1]) - middle) / steps
    diagonal = expectation.DIAGONAL
    every = [np.broadcast_to(v, stored.shape).ravel() for v in (stored, diagonal, expectation.octave(steps), node, on)]
    return tuple(every), np.ravel(truth)


def count(network: DeconvNet, batches: DegradedPatches) -> Array:
    """The table that the batches give, shaped as `expectation.table`."""
    shape = (expectation.STORED, expectation.DIAGONALS, expectation.OCTAVES, expectation.NODES)
    nodes = np.arange(expectation.NODES)
    offsets = np.linspace(-expectation.REACH, expectation.REACH, expectation.NODES)
    trust = np.full(shape, PRIOR)
    # An estimate of 0 where 0 is stored says of neither sign that it is the likelier one.
    trust[0, :, :, offsets == 0] = 1e12
    inside = 0.5 - jpeg.MARGIN
    moments = trust * np.clip(offsets, -inside, inside)
    # The normal equations of each row of the table: a coefficient weighs on the two nodes beside it.
    products = np.zeros((*shape, expectation.NODES))
    products[..., nodes, nodes] = trust
    for step in range(len(batches)):
        (*cell, node, on), truth = observe(network, batches[step])
        weights = ((node, 1 - on), (node + 1, on))
        for at, weight in weights:
            index = np.ravel_multi_index((*cell, at), shape)
            moments += np.bincount(index, weight * truth, moments.size).reshape(shape)
            for other, beside in weights:
                pair = np.ravel_multi_index((*cell, at, other), products.shape)
                products += np.bincount(pair, weight * beside, products.size).reshape(products.shape)
    return np.clip(np.linalg.solve(products, moments[..., None])[..., 0], -inside, inside)


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.expectation", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of photographs for training")
    parser.add_argument("--model", type=Path, default=contract.built_in(), help="model folder, of a model for JPEG")
    parser.add_argument("--steps", type=int, default=500, help=f"batches of {BATCH} patches of {PATCH} pixels")
    parser.add_argument("--output", type=Path, default=Path("model/expectation.npy"))
    options = parser.parse_args(arguments)

    network, _ = exporting.load_network(options.model)
    sources = photos.read_folder(options.data)
    batches = DegradedPatches(
        sources, DEGRADATION, patch=PATCH, batch=BATCH, seed=1, steps=options.steps, drop_tables=0.0, reduced=0.5
    )
    np.save(options.output, count(network, batches).astype(np.float16))


if __name__ == "__main__":
    main()
