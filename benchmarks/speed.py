"""Seconds a megapixel of every shipped model, beside DnCNN-3 in the same run: `python -m benchmarks.speed`.

Seconds are of the processor, of one thread; the least of several rounds, in which all take turns, so that other work on
the machine troubles all alike. What counts is the ratio: seconds are of one machine on one day.

`program` is the exported program alone, on one tile that is the whole picture; in bfloat16 too where the device has
instructions for it. `Restorer` is what the pipeline runs, at the precision that it chooses: the estimate, tiles, the
program, stitching; in colour, and in grey, which is all that DnCNN-3 restores. DnCNN-3 computes in float32; its weights
are untrained, which cost what trained ones do.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model import contract
from model.device import FLOAT32

Array = np.ndarray[Any, np.dtype[Any]]

SHIPPED = contract.built_in().parent
"""Where the shipped model folders are."""

QUALITY = 20
"""Of the JPEG that is restored."""


@dataclasses.dataclass(frozen=True)
class Contender:
    """Something that restores a picture.

    Attributes:
        name: as it stands in the table.
        way: `program` or `Restorer`, and the precision.
        kmacs: thousands of multiplications and additions a pixel of its input.
        megapixels: that it gives.
        restore: does it once.
    """

    name: str
    way: str
    kmacs: float
    megapixels: float
    restore: Callable[[], Any]


def dncnn(layers: int = 20, width: int = 64) -> Any:
    """DnCNN-3 (Zhang et al., IEEE Trans. Image Processing 26(7), 2017): a luma plane to its residual.

    Batch normalisation is left out: it is folded into the convolutions where such a network is used.
    """
    import keras

    plane = keras.Input((None, None, 1))
    features = plane
    for _ in range(layers - 1):
        features = keras.layers.Conv2D(width, 3, padding="same", activation="relu")(features)
    return keras.Model(plane, plane - keras.layers.Conv2D(1, 3, padding="same")(features))


def kmacs_of(network: Any) -> float:
    """Thousands of multiplications and additions a pixel of a network whose convolutions all have stride 1."""
    return sum(float(np.prod(kernel.shape)) for kernel in network.weights if len(kernel.shape) == 4) / 1000


def contenders(folders: Sequence[Path], side: int, reference: Any) -> list[Contender]:
    """All that is measured, on the same picture of `side` x `side` pixels; the reference comes first.

    Args:
        folders: of models.
        side: a multiple of 8.
        reference: as `dncnn` gives it.
    """
    import tensorflow as tf

    from model.degradation import compress
    from model.restorer import SIGNATURES, Restorer, Task
    from model.size import DeconvNetConfig

    pixels, tables = compress(picture(side), QUALITY)
    run = tf.function(reference, input_signature=[tf.TensorSpec((None, None, None, 1), tf.float32)])
    plane = tf.constant(pixels[None, ..., :1].astype(np.float32) / 255)
    megapixels = side * side / 1e6
    found = [Contender("DnCNN-3", "program, float32", kmacs_of(reference), megapixels, lambda: run(plane).numpy())]
    for folder in folders:
        agreed = contract.read(folder)
        program = tf.saved_model.load(str(folder / "saved_model"))
        restorer = Restorer.load(folder)
        estimate = restorer.estimate([pixels])[0]
        one = {name: tf.ones(1) for name in ("strength", "project")} | {"grey": tf.zeros(1)}
        inputs = {
            "pixels": tf.constant(pixels[None]),
            "tables": tf.constant(tables[None]),
            "estimate": tf.constant(estimate.vector[None]),
            **one,
        }

        def alone(signature: Any, inputs: dict[str, Any] = inputs) -> Any:
            return signature(**inputs)["pixels"].numpy()

        def whole(pixels: Array, restorer: Restorer = restorer) -> Any:
            return restorer.restore([Task(pixels, tables)])

        kmacs = DeconvNetConfig.from_json(agreed.network).macs_per_pixel / 1000
        ways: dict[str, Callable[[], Any]] = {
            f"program, {precision}": functools.partial(alone, program.signatures[signature])
            for precision, signature in SIGNATURES.items()
            if precision == FLOAT32 or (precision == restorer.precision and signature in program.signatures)
        }
        ways[f"Restorer, {restorer.precision}"] = functools.partial(whole, pixels)
        ways[f"Restorer, {restorer.precision}, grey"] = functools.partial(whole, pixels[..., :1])
        for way, restore in ways.items():
            found.append(Contender(agreed.name, way, kmacs, megapixels * agreed.scale**2, restore))
    return found


def picture(side: int) -> Array:
    """A picture of soft shapes and grain, `(side, side, 3)` uint8; the same every time."""
    rows, cols = np.mgrid[:side, :side]
    soft = 128 + 80 * np.sin(rows / 53) * np.cos(cols / 37)
    grain = np.random.default_rng(1).normal(0, 6, (side, side, 3))
    return np.clip(np.rint(soft[..., None] + grain), 0, 255).astype(np.uint8)


def measure(found: Sequence[Contender], rounds: int) -> list[float]:
    """Processor's seconds a megapixel of each, the least of all rounds; a first round more is not counted."""
    least = [float("inf")] * len(found)
    for turn in range(rounds + 1):
        for place, one in enumerate(found):
            start = time.process_time()
            one.restore()
            seconds = (time.process_time() - start) / one.megapixels
            if turn:
                least[place] = min(least[place], seconds)
    return least


def markdown(found: Sequence[Contender], seconds: Sequence[float]) -> str:
    """The table; the first contender is the one that the others are compared with."""
    lines = [
        f"| model | way | kMAC a pixel | CPU s/MP | of {found[0].name}'s |",
        "|---|---|---:|---:|---:|",
    ]
    for one, each in zip(found, seconds, strict=True):
        ratio = "1" if one is found[0] else f"1/{seconds[0] / each:.1f}"
        lines.append(f"| {one.name} | {one.way} | {one.kmacs:.0f} | {each:.3f} | {ratio} |")
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", action="append", help="a model folder; without it every shipped one")
    parser.add_argument("--side", type=int, default=512, help="of the picture in pixels, a multiple of 8")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args(argv)
    if asked.side < 8 or asked.side % 8:
        parser.error(f"--side must be a positive multiple of 8, got {asked.side}")
    if asked.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {asked.rounds}")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    from model import device

    device.prepare(threads=1)
    folders = [Path(folder) for folder in asked.model or sorted(map(str, SHIPPED.iterdir()))]
    found = contenders(folders, asked.side, dncnn())
    print(markdown(found, measure(found, asked.rounds)), end="")
    print(f"\n{asked.side} x {asked.side} pixels, one thread, {platform.machine()}, {time.strftime('%F')}.")


if __name__ == "__main__":
    main()
