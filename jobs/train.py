"""`relume train`: makes a model folder from photographs; killed and called again, it goes on where it was."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import logging
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs import recipes
from jobs.command_line import ExitCode, UsageError, run_job
from model import contract, quiet
from model.device import AUTO, PRECISIONS
from pipeline import flags, models
from pipeline.flags import FlagParser, check, check_here, option, parse_flags

if TYPE_CHECKING:
    from model.deconvnet import DeconvNet
    from model.photos import Photo
    from model.training import Progress, Recipe, Run

_DESCRIPTION = """\
Trains a model on pristine photographs, which are harmed on the fly, and writes
it as a model folder. The same command again goes on with a run that was
stopped."""

_EPILOG = """what --output holds:
  model/             the model, for --model of the other commands
  model-STEP/        the model so far, where --max_minutes were over
  checkpoint.npz     the state of the run
  tensorboard/       scalars and pictures: tensorboard --logdir OUTPUT
  preview.png        a few pieces: degraded, restored, pristine

examples:
  relume train --recipe jpeg_s --data photos --output run --validation others
  relume train --recipe jpeg_s --init model --data photos --output tuned \\
      --steps 2000

exit codes: 0 done, 2 wrong usage, 7 stopped by an error,
  10 --max_minutes are over, 11 another process trains in --output"""

INIT_RATE = 0.1
"""Factor on the recipe's learning rate for a run from a trained model of its size: a full rate would first undo it."""

_PREVIEW_SECONDS = 300.0

_log = logging.getLogger("jobs.train")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that can be told to `relume train`; each field is a flag.

    Raises:
        UsageError: from the constructor, where a value is not allowed.
    """

    recipe: str = option(
        f"What is trained, and how: {', '.join(recipes.NAMES)}.", group="What", choices=recipes.NAMES, metavar="NAME"
    )
    data: str = option(
        "Pristine photographs: a folder, a folder prepared by TFDS, or tfds:NAME[#FEATURE][:SPLIT] for any TFDS data "
        "set of images. They are held in memory, 3 bytes a pixel.",
        group="What",
        metavar="DIR|tfds:NAME",
    )
    output: str = option("The folder of the run.", group="What", metavar="DIR")
    validation: str | None = option(
        "Other photographs: the model is measured on them, and they are previewed. A folder, or one prepared by TFDS, "
        "of which the split `validation` is taken.",
        group="What",
        default=None,
        metavar="DIR",
    )
    init: str | None = option(
        "What to start from; the learning rate is then a tenth of the recipe's, and the head stays as it is. One of a "
        f"smaller size grows into the recipe's, starts as good as it was, and learns at the full rate. {models.WHERE}",
        group="How",
        default=None,
        metavar="DIR",
    )
    steps: int | None = option("Instead of the recipe's.", group="How", default=None, low=1)
    learning_rate: float | None = option("Instead of the recipe's.", group="How", default=None, low=1e-7, high=1)
    seed: int | None = option("Instead of the recipe's.", group="How", default=None, low=0, high=2**31)
    max_minutes: float | None = option(
        "Stops training after so long, and writes the model so far.", group="How", default=None, low=0
    )
    precision: str = option(
        "Of the layers; auto takes bfloat16 on accelerators, and where the processor is built for it.",
        group="How",
        default=AUTO,
        choices=PRECISIONS,
    )
    verbose: bool = flags.verbose("How")

    def __post_init__(self) -> None:
        check(self)
        if not self.data.startswith("tfds:") and not Path(self.data).is_dir():
            raise UsageError(f"--data must be a folder that exists, or tfds:NAME, got {self.data}")
        if self.validation is not None and not Path(self.validation).is_dir():
            raise UsageError(f"--validation must be a folder that exists, got {self.validation}")
        check_here("output", self.output)
        output = Path(self.output)
        parent = next(path for path in (output, *output.absolute().parents) if path.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            raise UsageError(f"--output must be a folder that can be written to, got {self.output}")
        for name, source in (("data", self.data), ("validation", self.validation), ("init", self.init)):
            # The run's own pictures would be trained on when it goes on; a model folder holds nothing else.
            if source is not None and output.resolve().is_relative_to(Path(source).resolve()):
                raise UsageError(f"--output must not lie in --{name}, got {self.output}")
        if output.is_dir() and any(output.iterdir()) and not (output / "lock").exists():
            raise UsageError(f"--output must be new, empty, or the folder of a run to go on with, got {self.output}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns an `ExitCode`."""
    return run_job("train", _train, argv)


def _train(argv: list[str]) -> int:
    parser = FlagParser(
        TrainConfig,
        prog="relume train",
        usage="--recipe NAME --data DIR --output DIR [flags]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    config = parse_flags(TrainConfig, parser, argv)
    _choose_backend()
    from model import training

    precision = training.set_precision(config.precision)
    training.use_all_devices(recipes.load(config.recipe))
    start = _start(config)
    recipe = _recipe(config, start)
    shown = _photos("--validation", config.validation, "validation") if config.validation else []
    photos = _apart(_photos("--data", config.data, "train"), shown)
    folder = Path(config.output)
    run = training.Run(recipe, photos, folder, init=start.network if start else None)
    _log.info("%s: %d photographs, %s parameters, %s", recipe.name, len(photos), f"{run.parameters:,}", precision)
    minutes = math.inf if config.max_minutes is None else config.max_minutes
    try:
        finished = run.train(_reporter(run, shown or photos), minutes)
    except training.OtherRunError as error:
        raise UsageError(f"--output: {error}") from error
    except training.BusyError as error:
        print(f"relume train: {error}", file=sys.stderr)
        return ExitCode.BUSY
    target = folder / ("model" if finished else f"model-{run.step}")
    summary: dict[str, Any] = {"step": run.step, "steps": recipe.steps, "finished": finished}
    if not target.exists():
        if not training.can_export():
            print(
                "relume train: a model folder is written by TensorFlow: run the same command where it is installed, "
                "with KERAS_BACKEND=tensorflow",
                file=sys.stderr,
            )
            return ExitCode.DONE if finished else ExitCode.TIME_CAP
        _export(run, photos, target, config, start)
    elif config.validation is not None and not contract.read(target).scores:
        _log.warning("%s was written without --validation: move it away, and the same command measures it", target)
    print(json.dumps({**summary, "model": str(target)}))
    return ExitCode.DONE if finished else ExitCode.TIME_CAP


def _choose_backend() -> None:
    """Names Keras's backend before it is imported: TensorFlow where it is installed, for it alone can export."""
    backend = "tensorflow" if importlib.util.find_spec("tensorflow") else "jax"
    os.environ.setdefault("KERAS_BACKEND", backend)
    # Errors only: that TensorFlow starts is no news.
    if os.environ["KERAS_BACKEND"] == "tensorflow":
        quiet.tensorflow()


def _photos(flag: str, source: str, split: str) -> list[Photo]:
    from model.photos import PhotoError, read_source

    try:
        return read_source(source, split)
    except PhotoError as error:
        raise UsageError(f"{flag}: {error}") from error


def _apart(photos: list[Photo], shown: Sequence[Photo]) -> list[Photo]:
    """The photographs that are not among those for validation: what was trained on would flatter the model."""
    from model.photos import fingerprint

    if not shown:
        return photos

    def pixels_of(photo: Photo) -> str:
        return fingerprint([dataclasses.replace(photo, name="")])

    held = {pixels_of(photo) for photo in shown}
    apart = [photo for photo in photos if pixels_of(photo) not in held]
    if not apart:
        raise UsageError("--validation must leave photographs to train on, but all of --data are among them")
    if len(apart) < len(photos):
        _log.warning("%d photographs are among those for validation too: not trained on", len(photos) - len(apart))
    return apart


@dataclasses.dataclass(frozen=True)
class _Start:
    """The model of --init. It is looked up once: another one may stand under its name when the run ends."""

    folder: Path
    contract: contract.Contract
    network: DeconvNet


def _start(config: TrainConfig) -> _Start | None:
    from model import exporting

    if config.init is None:
        return None
    try:
        folder = models.folder_of(config.init)
        network, agreed = exporting.load_network(folder)
    except contract.ModelError as error:
        raise UsageError(f"--init: {error}") from error
    return _Start(folder, agreed, network)


def _recipe(config: TrainConfig, start: _Start | None) -> Recipe:
    """The recipe with what the flags change of it."""
    from model import growing

    recipe = recipes.load(config.recipe)
    rate, part = recipe.learning_rate, recipe.part
    head_only = part == "head"
    if start is not None:
        task, network = start.contract.task, start.network.config
        if task != recipe.task:
            raise UsageError(f"--init {config.init} must be a model for {recipe.task}, got one for {task}")
        grows = network != recipe.network
        if grows and (head_only or not growing.fits(network, recipe.network)):
            smaller = "" if head_only else " or a smaller one with the same kind of head and chroma,"
            raise UsageError(
                f"--init {config.init} must have the network of recipe {config.recipe}, {recipe.network.to_json()},"
                f"{smaller} got {network.to_json()}"
            )
        # A head that is trained alone, and channels that are new, have all to learn.
        if not (head_only or grows):
            rate, part = INIT_RATE * rate, "rest"
    elif head_only:
        raise UsageError(f"--recipe {config.recipe} trains the head of a trained model: name one by --init")
    rate = config.learning_rate or rate
    steps = config.steps or recipe.steps
    return dataclasses.replace(
        recipe,
        steps=steps,
        learning_rate=rate,
        final_rate=min(rate, recipe.final_rate),
        warm_up=min(recipe.warm_up, steps // 5),
        part=part,
        seed=recipe.seed if config.seed is None else config.seed,
    )


def _reporter(run: Run, shown: Sequence[Photo]) -> Callable[[Progress], None]:
    """What is done after each checkpoint: a line in the log, scalars, and now and then a preview."""
    from model.event_log import EventLog
    from model.preview import preview

    events: EventLog | None = None
    next_preview = 0.0

    def report(progress: Progress) -> None:
        nonlocal events, next_preview
        # Not earlier: until the run has its folder for itself, that may be another run's.
        events = events or EventLog(run.folder / "tensorboard")
        _log.info(
            "step %d of %d, loss %.4f, %.3g steps/s, %s left",
            progress.step,
            progress.steps,
            progress.loss,
            1 / progress.seconds_per_step,
            _duration(progress.minutes_left),
        )
        scalars = {"loss": progress.loss, "learning_rate": progress.rate, "steps/s": 1 / progress.seconds_per_step}
        events.scalars(progress.step, scalars)
        if time.monotonic() >= next_preview or progress.step == progress.steps:
            next_preview = time.monotonic() + _PREVIEW_SECONDS
            with run.averaged() as network:
                gains, picture = preview(network, shown, run.recipe.task)
            events.scalars(progress.step, gains)
            events.picture(progress.step, "degraded, restored, pristine", picture)
            _write_picture(run.folder / "preview.png", picture)
            _log.info("preview: %s dB", ", ".join(f"{k[5:]} {v:+.2f}" for k, v in gains.items()))

    return report


def _duration(minutes: float) -> str:
    return (
        f"{minutes / 60:.1f} h" if minutes >= 120 else f"{minutes:.0f} min" if minutes >= 2 else f"{60 * minutes:.0f} s"
    )


def _write_picture(path: Path, pixels: Any) -> None:
    from PIL import Image

    draft = path.with_suffix(".draft")
    Image.fromarray(pixels).save(draft, "PNG")
    draft.replace(path)


def _export(run: Run, photos: Sequence[Photo], target: Path, config: TrainConfig, start: _Start | None) -> None:
    """Writes the model folder, with a card, scores and pictures that were made by the exported program itself."""
    from model import card, exporting
    from model.restorer import Restorer

    recipe = run.recipe
    name, init = recipe.name.replace("_", "-"), {}
    if start is not None:
        tuned = start.network.config == recipe.network
        init = {"init" if tuned else "grown_from": start.contract.identity}
        name = start.contract.name if recipe.part == "head" else name
    about: dict[str, Any] = {
        "name": name,
        "task": recipe.task,
        "recipe": dataclasses.asdict(recipe) | init,
        "data": {
            "photos": len(photos),
            "megapixels": round(sum(photo.pixels[..., 0].size for photo in photos) / 1e6, 3),
            "fingerprint": run.pictures,
        },
    }
    weights = run.averaged_weights()
    measured, shown = None, {}
    if config.validation is not None:
        with tempfile.TemporaryDirectory(dir=run.folder, prefix=".measure-") as scratch:
            draft = Path(scratch) / "model"
            exporting.export(recipe.network, weights, draft, **about, scores={}, card="")
            _log.info("measuring on %s", config.validation)
            restorer, before = Restorer.load(draft), Restorer.load(start.folder) if start else None
            measured = card.measure(restorer, config.validation, start=before)
            shown = card.show(restorer, config.validation, start=before)
    text = card.text(
        **about,
        steps=(run.step, recipe.steps),
        measured=measured,
        parameters=run.parameters,
        macs_per_pixel=recipe.network.macs_per_pixel,
        shown=bool(shown),
    )
    scores = measured.as_json() if measured else {}
    agreed = exporting.export(recipe.network, weights, target, **about, scores=scores, card=text, pictures=shown)
    _log.info("wrote %s, digest %s", target, agreed.digest[:12])


if __name__ == "__main__":
    sys.exit(main())
