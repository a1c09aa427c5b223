"""A look at a network in training: a few fixed pieces of pictures, harmed and restored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from model import evaluation, exporting, metrics
from model.deconvnet import DeconvNet, estimate_of
from model.photos import Photo

Array = np.ndarray[Any, np.dtype[Any]]

LEVELS: dict[str, tuple[evaluation.Level, ...]] = {"jpeg": ((10,), (20,), (40,))}
"""What is looked at of a task; its default levels where it is not named."""

_SIDE, _PIECES = 128, 6


def preview(network: DeconvNet, photos: Sequence[Photo], task: str = "jpeg") -> tuple[dict[str, float], Array]:
    """Restores the middles of a few pictures.

    Args:
        network: with the weights to be looked at.
        photos: a few of them are taken, evenly spread; pieces beyond a picture's border are its mirror image.
        task: of `evaluation.TASKS`: how they are harmed.

    Returns:
        The gain in PSNR of luma over the task's first baseline, of all pieces together, in dB, by its name; and a
        picture, `(rows, cols, 3)` uint8, with a row for each piece: that baseline at the first level, restored,
        pristine.
    """
    chosen = [photos[len(photos) * i // _PIECES] for i in range(min(_PIECES, len(photos)))]
    pieces = [_middle(photo.pixels) for photo in chosen]
    gains: dict[str, float] = {}
    rows: list[Array] = []
    for condition in evaluation.conditions(task, LEVELS.get(task, ())):
        baseline = next(iter(condition.task.baselines.values()))
        rng = np.random.default_rng(0)
        harmed = [condition.task.harm(piece, condition.level, rng) for piece in pieces]
        degraded = np.stack([baseline(each, condition.level) for each in harmed])
        pristine = np.stack([each.pristine for each in harmed])
        restored = _restore(network, harmed, project=task == "jpeg")
        before, after, true = (metrics.luma(np.concatenate(part)) for part in (degraded, restored, pristine))
        level = condition.task.label.format(*condition.level).replace(", ", "_").replace(" ", "") or task
        gains[f"gain_{level}"] = metrics.psnr(after, true) - metrics.psnr(before, true)
        if not rows:
            rows = [np.concatenate(row, axis=1) for row in zip(degraded, restored, pristine, strict=True)]
    return gains, np.concatenate(rows)


def _restore(network: DeconvNet, harmed: Sequence[evaluation.Harmed], *, project: bool) -> Array:
    pixels = ops.convert_to_tensor(np.stack([each.pixels for each in harmed]).astype(np.float32))
    none = np.zeros((2, 8, 8), np.float32)
    tables = np.stack([none if each.tables is None else each.tables for each in harmed])
    logits = exporting.estimate_logits(network, pixels)
    estimate = estimate_of(logits["classes"], logits["regressions"])
    ones, zeros = np.ones(len(harmed), np.float32), np.zeros(len(harmed), np.float32)
    restored = exporting.restore(network, pixels, tables, estimate, ones, ones if project else zeros, zeros)
    return np.rint(ops.convert_to_numpy(restored)).astype(np.uint8)


def _middle(pixels: Array) -> Array:
    missing = [max(0, _SIDE - side) for side in pixels.shape[:2]]
    pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), "symmetric")
    return np.ascontiguousarray(evaluation.middle(pixels, _SIDE))
