"""What is trained on JAX, on one device or on several, is what TensorFlow runs afterwards."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs import recipes
from model import exporting
from model.deconvnet import ESTIMATE_SIZE
from model.restorer import Restorer

Array = np.ndarray[Any, np.dtype[Any]]

ROOT = Path(__file__).parents[2]

# A backend is chosen once in a process, and devices are made when it starts: so JAX has one of its own.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed"),
]

PROGRAM = """
import dataclasses, sys
from pathlib import Path
import keras, numpy as np
from jobs import recipes
from model import exporting, training
from model.photos import Photo

folder = Path(sys.argv[1])
with np.load(folder / "given.npz") as given:
    photos = [Photo("a.png", given["photo"])]
    pixels, tables, estimate = given["pixels"], given["tables"], given["estimate"]
phase = training.Phase(1.0, 16, 8, squared=False)
recipe = dataclasses.replace(recipes.load("smoke"), steps=8, warm_up=2, phases=(phase,))
of_three = dataclasses.replace(recipe, phases=(dataclasses.replace(phase, batch=3),))
found = {"of_three": training.use_all_devices(of_three), "devices": training.use_all_devices(recipe)}
for name in ("several", "one"):
    if name == "one":
        keras.distribution.set_distribution(None)
    run = training.Run(recipe, photos, folder / name)
    for i, weights in enumerate(run.network.get_weights()):
        found[f"first{i:03d}"] = np.asarray(weights)
    run.train(lambda progress: None)
    for i, weights in enumerate(run.network.get_weights()):
        found[f"{name}{i:03d}"] = np.asarray(weights)
run.network.set_weights(exporting.rounded(run.network.get_weights()))
ones, pixels = np.ones(1, np.float32), pixels[None].astype(np.float32)
restored = exporting.restore(run.network, pixels, tables[None], estimate[None], ones, ones, 0 * ones)
np.savez(folder / "found.npz", restored=keras.ops.convert_to_numpy(restored)[0], **found)
"""


@pytest.fixture(scope="module")
def given(photo: Array) -> dict[str, Array]:
    rng = np.random.default_rng(4)
    return {
        "photo": photo,
        "pixels": photo[:64, :96],
        "tables": rng.integers(4, 60, (2, 8, 8)).astype(np.float32),
        "estimate": rng.random(ESTIMATE_SIZE).astype(np.float32),
    }


@pytest.fixture(scope="module")
def found(given: dict[str, Array], tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Array]:
    """What a process on JAX with two virtual devices found: weights of both runs, and a picture restored by it."""
    folder = tmp_path_factory.mktemp("jax")
    np.savez(folder / "given.npz", **given)  # type: ignore[arg-type]
    two = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}

    command = [sys.executable, "-c", PROGRAM, str(folder)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **two}, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    with np.load(folder / "found.npz") as saved:
        return dict(saved)


def weights(found: Mapping[str, Array], name: str) -> list[Array]:
    return [found[key] for key in sorted(found) if key.startswith(name)]


def test_several_devices_train_what_one_trains(found: Mapping[str, Array]) -> None:
    assert found["devices"] == 2
    assert found["of_three"] == 1  # two do not divide three patches
    first, several, one = (
        np.concatenate([each.ravel() for each in weights(found, name)]) for name in ("first", "several", "one")
    )

    moved, apart = np.abs(one - first), np.abs(one - several)
    assert moved.max() > 1e-3
    # Sums over a batch are added in another order: 8e-8 was seen.
    assert apart.max() < 1e-5


def test_weights_trained_on_jax_restore_alike_on_tensorflow(
    found: Mapping[str, Array], given: dict[str, Array], tmp_path: Path
) -> None:
    recipe = recipes.load("smoke")
    trained = weights(found, "one")
    exporting.export(recipe.network, trained, tmp_path / "model", name="smoke", recipe={}, data={}, scores={}, card="")
    program = Restorer.load(tmp_path / "model")._signatures["restore_deep"]
    import tensorflow as tf

    ones = np.ones(1, np.float32)
    inputs = {
        "pixels": given["pixels"][None].astype(np.float32),
        "tables": given["tables"][None],
        "estimate": given["estimate"][None],
        "strength": ones,
        "project": ones,
        "grey": 0 * ones,
    }
    restored = program(**{name: tf.constant(value) for name, value in inputs.items()})["pixels"].numpy()[0]

    assert np.abs(restored - given["pixels"]).max() > 0.5
    # Grey levels; 6e-5 was seen, four units of the last place of white.
    assert np.abs(restored - found["restored"]).max() < 1e-3
