"""How the table of where coefficients lie in their bins is counted, and that it brings them nearer to the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from keras import ops

from benchmarks import expectation as counting
from model import expectation, exporting, jpeg
from model.contract import built_in
from model.dataset import DegradedPatches
from model.photos import Photo

Array = np.ndarray[Any, np.dtype[Any]]


def test_it_comes_nearer_to_what_was_compressed_than_the_nearest_place_does(photo: Array) -> None:
    network, _ = exporting.load_network(built_in())
    batches = DegradedPatches(
        [Photo("a", photo)], counting.DEGRADATION, patch=128, batch=8, seed=1, steps=3, drop_tables=0.0
    )
    errors = np.zeros(2)
    for step in range(len(batches)):
        batch = batches[step]
        degraded, pristine = (jpeg.to_ycc(batch[name]) for name in ("degraded", "pristine"))
        restored = (degraded + network(degraded, batch["truth"], batch["tables"]))[..., :1]
        for i, share in enumerate((0.0, expectation.SHARE)):
            expecting = np.full(len(restored), share, np.float32)
            placed = jpeg.project(restored, degraded[..., :1], batch["tables"][:, 0], expecting=expecting)
            errors[i] += np.mean(np.square(ops.convert_to_numpy(placed - pristine[..., :1])))

    assert errors[1] < 0.999 * errors[0]


def test_counting_finds_where_coefficients_lay(monkeypatch: pytest.MonkeyPatch) -> None:
    # A network that sees three quarters of the way from the middle to the truth.
    rng = np.random.default_rng(2)
    number = 200_000
    truth = rng.uniform(-0.5, 0.5, number)
    along = (0.75 * truth / expectation.REACH + 1) * (expectation.NODES - 1) / 2
    node = along.astype(int)
    cell = [np.full(number, value) for value in (1, 3, 4)]
    monkeypatch.setattr(counting, "observe", lambda *_: ((*cell, node, along - node), truth))

    found = counting.count(None, [None])  # type: ignore[arg-type]

    nodes = np.linspace(-expectation.REACH, expectation.REACH, expectation.NODES)
    seen = np.abs(nodes) < 0.25
    np.testing.assert_allclose(found[1, 3, 4, seen], nodes[seen] / 0.75, atol=0.01)
    inside = 0.5 - jpeg.MARGIN
    np.testing.assert_allclose(found[1, 5, 4], np.clip(nodes, -inside, inside), atol=1e-6)
