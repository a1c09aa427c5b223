"""A tiny model and a picture, for tests of every room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with a small untrained network whose residual is visible: its far pixels matter too."""
    return _untrained(tmp_path_factory.mktemp("models") / "tiny", scale=1, task="jpeg")


@pytest.fixture(scope="session")
def tiny_x2_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, giving twice the size."""
    return _untrained(tmp_path_factory.mktemp("models") / "tiny-x2", scale=2, task="x2")


def _untrained(folder: Path, *, scale: int, task: str) -> Path:
    from model import deconvnet, exporting
    from model.size import DeconvNetConfig

    config = DeconvNetConfig((8, 8, 8), (0, 1, 1, 1, 1), head=8, scale=scale)
    network = deconvnet.build(config)
    rng = np.random.default_rng(5)
    # Wide kernels everywhere: a halo too small must show.
    weights = [rng.normal(0, 0.35 / np.sqrt(max(1, w.shape[-1])), w.shape) for w in network.get_weights()]
    tail = next(i for i, v in enumerate(network.weights) if "tail" in v.path and v.path.endswith("kernel"))
    weights[tail], weights[tail + 1] = 0.06 * weights[tail], 0 * weights[tail + 1]
    name, card = folder.name, f"# {folder.name}\n"
    exporting.export(config, weights, folder, name=name, task=task, recipe={}, data={}, scores={}, card=card)
    return folder


@pytest.fixture(scope="session")
def photo() -> Array:
    """A picture with edges, gradients and texture, `(203, 317, 3)` uint8: no multiple of 8 either way."""
    rng = np.random.default_rng(7)
    rows, cols = np.mgrid[0:203, 0:317]
    waves = 60 * np.sin(cols / 9.0) * np.cos(rows / 14.0)
    edges = 50.0 * ((rows // 40 + cols // 56) % 2)
    base = 100 + waves + edges + rng.normal(0, 4, rows.shape)
    colour = np.stack([base, 0.8 * base + cols / 8, 220 - 0.7 * base], axis=2)
    return np.clip(np.rint(colour), 0, 255).astype(np.uint8)
