"""Writes a trained network as a model folder: the SavedModel that workers load, its weights and its contract."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from model import contract, deconvnet, expectation, jpeg, quiet
from model.deconvnet import CLASSES, ESTIMATE_SIZE, REGRESSIONS, DeconvNet
from model.size import DeconvNetConfig

Array = np.ndarray[Any, np.dtype[Any]]

TILE = 1024
"""Side of a restored tile in pixels: large enough that halos cost little, small enough for every machine's memory."""


def estimate_logits(network: DeconvNet, pixels: Any) -> dict[str, Any]:
    """What the head says of tiles: `(n, rows, cols, 3)` RGB 0..255 to logits, one row a tile."""
    ycc = jpeg.to_ycc(pixels)
    classes, regressions = network.logits(ycc, network.encode(ycc))
    return {"classes": classes, "regressions": regressions}


def restore(network: DeconvNet, pixels: Any, tables: Any, estimate: Any, strength: Any, project: Any, grey: Any) -> Any:
    """Restores tiles.

    Args:
        network: with its weights.
        pixels: `(n, rows, cols, 3)` RGB 0..255; rows and cols multiples of 8, the JPEG grid at (0, 0).
        tables: `(n, 2, 8, 8)` float32 quantisation steps, 0 where there is none.
        estimate: `(n, ESTIMATE_SIZE)` float32, of the whole image that a tile belongs to.
        strength: `(n,)` float32, 0..1: how much of the residual is added; 0 gives the pixels back.
        project: `(n,)` float32: 1 to keep the luma in the file's bins.
        grey: `(n,)` float32: 1 for an image of one channel: its chroma stays 0.

    Returns:
        `(n, scale * rows, scale * cols, 3)` float32 RGB, 0..255, not rounded. At strength 0 and scale 2 it is the
        bicubic enlargement.
    """

    def each(values: Any) -> Any:
        return ops.reshape(values, (-1, 1, 1, 1))

    ycc = jpeg.to_ycc(pixels)
    residual = network(ycc, estimate, tables, coloured=ops.any(grey < 1)) * each(strength)
    coloured = ops.concatenate([ops.ones_like(each(grey)), *2 * [1 - each(grey)]], axis=-1)
    restored = (network.base(ycc) + residual) * coloured
    rgb = jpeg.to_rgb(restored)
    if network.config.scale == 1:
        # At strength 0 the decoded plane may lie a rounding error outside its own bins: nothing is projected then.
        steps = ops.cast(tables, "float32")[:, 0] * ops.reshape(project * ops.cast(strength > 0, "float32"), (-1, 1, 1))
        luma = restored[..., :1]

        def moved() -> Any:
            return jpeg.project(luma, ycc[..., :1], steps, expecting=expectation.SHARE * strength) - luma

        # A change of luma is the same change of red, green and blue. Where no file has bins, nothing looks for them.
        rgb += ops.cond(ops.any(steps > 0), moved, lambda: ops.zeros_like(luma))
    return ops.clip(rgb, 0.0, 255.0)


def rounded(weights: Sequence[Array]) -> list[Array]:
    """Weights as float16 can hold them: half the bytes to ship, and the result differs by less than 0.001 dB."""
    return [np.asarray(w, np.float32).astype(np.float16).astype(np.float32) for w in weights]


def write_weights(path: Path, weights: Sequence[Array]) -> None:
    """Writes weights, in the order of the network's variables, as a `.npz` of float16 arrays."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{f"w{i:03d}": np.asarray(w, np.float16) for i, w in enumerate(weights)})  # type: ignore[arg-type]
    path.write_bytes(buffer.getvalue())


def read_weights(path: Path) -> list[Array]:
    """The inverse of `write_weights`, as float32."""
    with np.load(path) as saved:
        return [saved[name].astype(np.float32) for name in sorted(saved.files)]


def load_network(folder: Path) -> tuple[DeconvNet, contract.Contract]:
    """The network of a model folder, with its weights, to train on from."""
    agreed = contract.read(folder)
    network = deconvnet.build(DeconvNetConfig.from_json(agreed.network))
    network.set_weights(read_weights(folder / "weights.npz"))
    return network, agreed


def export(
    config: DeconvNetConfig,
    weights: Sequence[Array],
    folder: Path,
    *,
    name: str,
    task: str = "jpeg",
    recipe: Mapping[str, Any],
    data: Mapping[str, Any],
    scores: Mapping[str, Any],
    card: str,
    pictures: Mapping[str, bytes] | None = None,
) -> contract.Contract:
    """Writes a model folder; it appears whole or not at all.

    Args:
        config: of the network.
        weights: in the order of its variables.
        folder: must not exist yet.
        name, task, recipe, data, scores: see `Contract`.
        card: Markdown.
        pictures: further files that the card shows, by their names. The contract holds their digests like all others:
            nothing lies in a model folder that it does not name.

    Returns:
        The contract as written.

    Raises:
        FileExistsError: if the folder exists.
        RuntimeError: if Keras does not run on TensorFlow: a SavedModel is TensorFlow's.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(f"a SavedModel is written with KERAS_BACKEND=tensorflow, not {keras.backend.backend()}")
    if folder.exists():
        raise FileExistsError(f"{folder} exists already")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as scratch:
        draft = Path(scratch) / "model"
        draft.mkdir()
        write_weights(draft / "weights.npz", weights)
        _write_saved_model(config, rounded(weights), draft / "saved_model")
        (draft / "card.md").write_text(card)
        for file, content in (pictures or {}).items():
            (draft / file).write_bytes(content)
        agreed = contract.Contract(
            name=name,
            task=task,
            network=config.to_json(),
            halo=config.halo,
            stride=contract.STRIDE,
            tile=TILE // config.scale,
            scale=config.scale,
            classes=CLASSES,
            regressions=REGRESSIONS,
            recipe=recipe,
            data=data,
            scores=scores,
            files=contract.file_digests(draft),
        )
        agreed.write(draft)
        shutil.move(draft, folder)
    return agreed


def _write_saved_model(config: DeconvNetConfig, weights: Sequence[Array], path: Path) -> None:
    import tensorflow as tf

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        network = deconvnet.build(config)
    finally:
        keras.config.set_dtype_policy(policy)
    quiet.float16()
    # Two bytes a weight hold all that `rounded` leaves of it.
    stored = [tf.Variable(tf.cast(values, tf.float16), trainable=False) for values in weights]

    def weighted() -> keras.StatelessScope:
        values = [tf.cast(variable, tf.float32) for variable in stored]
        return keras.StatelessScope(list(zip(network.weights, values, strict=True)))

    def pixels(dtype: Any) -> Any:
        return tf.TensorSpec((None, None, None, 3), dtype, name="pixels")

    rest = [
        tf.TensorSpec((None, 2, 8, 8), tf.float32, name="tables"),
        tf.TensorSpec((None, ESTIMATE_SIZE), tf.float32, name="estimate"),
        tf.TensorSpec((None,), tf.float32, name="strength"),
        tf.TensorSpec((None,), tf.float32, name="project"),
        tf.TensorSpec((None,), tf.float32, name="grey"),
    ]

    def restore_uint8(pixels: Any, *rest: Any) -> dict[str, Any]:
        with weighted():
            restored = restore(network, tf.cast(pixels, tf.float32), *rest)
        return {"pixels": tf.cast(tf.round(restored), tf.uint8)}

    def restore_deep(pixels: Any, *rest: Any) -> dict[str, Any]:
        with weighted():
            return {"pixels": restore(network, pixels, *rest)}

    def estimate(pixels: Any) -> dict[str, Any]:
        with weighted():
            return estimate_logits(network, tf.cast(pixels, tf.float32))

    with network.computing_in("mixed_bfloat16"):
        short = tf.function(restore_uint8, input_signature=[pixels(tf.uint8), *rest]).get_concrete_function()
    module = tf.Module()
    module.weights = stored
    signatures = {
        "restore": tf.function(restore_uint8, input_signature=[pixels(tf.uint8), *rest]).get_concrete_function(),
        "restore_bfloat16": short,
        "restore_deep": tf.function(restore_deep, input_signature=[pixels(tf.float32), *rest]).get_concrete_function(),
        "estimate": tf.function(estimate, input_signature=[pixels(tf.uint8)]).get_concrete_function(),
    }
    # Without the debug information: it holds the paths of the machine that exported.
    options = tf.saved_model.SaveOptions(save_debug_info=False)
    tf.saved_model.save(module, str(path), signatures=signatures, options=options)
