"""`relume evaluate`: how well models restore photographs that were harmed in a known way, as a table."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import logging
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.command_line import ExitCode, UsageError, run_job
from model.device import AUTO, PRECISIONS
from pipeline import flags, models
from pipeline.flags import FlagParser, check, nearest, option, parse_flags

if TYPE_CHECKING:
    from model.evaluation import Condition, Method, Row, Score

FORMATS = ("markdown", "csv", "json")

_DESCRIPTION = """Measures models on pristine photographs: harms each in a known way, restores it
through the code that the pipeline runs, and compares with what it was. The
photographs are only read; the table goes to stdout."""

_EPILOG = """tasks, and levels as they are by default; colons join the numbers of a level:
  jpeg         --quality 10,20,30,40  libjpeg's quality factor, 1..100
  double_jpeg  --double 10:50         compressed twice, the grid 4 pixels off
  clean                               not harmed: what becomes of a good picture
  deblur       --blur 1.6:2,2.5:2     sigma in pixels, then noise in grey levels
  denoise      --noise 15,25,50       sigma in grey levels
  x2                                  half the size, by Pillow's bicubic filter

baselines:
  jpeg, clean, degraded               the harmed picture itself; always there
  bicubic                             for x2; always there
  wiener, richardson-lucy             for deblur; they know the kernel, and use
                                      the setting that suits each picture best
  nl-means                            for denoise; it knows the noise

examples:
  relume evaluate --images photos --quality 10,20,30,40
  relume evaluate --images photos --model old --model new --task jpeg,clean
  relume evaluate --images photos --model deblur-s --task deblur \\
      --baseline wiener

exit codes: 0 done, 2 wrong usage or an image that cannot be read"""

_REPORT_SECONDS = 10.0

_LOG = logging.getLogger("jobs.evaluate")


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Everything that can be told to `relume evaluate`; each field is a flag.

    Raises:
        UsageError: from the constructor, where a value is not allowed.
    """

    images: str = option(
        "Pristine photographs: a folder, or the validation split of one that `relume prepare` made.",
        group="What",
        metavar="DIR",
    )
    model: tuple[str, ...] = option(
        f"{models.WHERE} May be repeated. `none` measures no model.",
        group="What",
        default=(),
        default_text="the built-in model",
        metavar="DIR",
    )
    task: str = option("Tasks, with commas.", group="What", default="jpeg", metavar="TASKS")
    quality: str | None = option("Levels of jpeg.", group="What", default=None, metavar="LEVELS")
    double: str | None = option("Levels of double_jpeg.", group="What", default=None, metavar="LEVELS")
    blur: str | None = option("Levels of deblur.", group="What", default=None, metavar="LEVELS")
    noise: str | None = option("Levels of denoise.", group="What", default=None, metavar="LEVELS")
    color: bool = option("In RGB instead of the luma 16..235 of the published tables.", group="What", default=False)
    baseline: tuple[str, ...] = option(
        "Another method beside the models; may be repeated.", group="What", default=(), metavar="NAME"
    )
    precision: str = option(
        "What models compute in, as in `relume restore`.", group="What", default=AUTO, choices=PRECISIONS
    )
    limit: int | None = option("At most so many images, evenly spread.", group="What", default=None, low=1)
    format: str = option("Of the table.", group="How to show it", default="markdown", choices=FORMATS)
    per_image: str | None = option(
        "A new CSV file for every single score.", group="How to show it", default=None, metavar="FILE"
    )
    verbose: bool = flags.verbose("How to show it")

    def __post_init__(self) -> None:
        check(self)
        if not Path(self.images).is_dir():
            raise UsageError(f"--images must be a folder that exists, got {self.images}")
        if self.per_image is not None and Path(self.per_image).exists():
            raise UsageError(f"--per_image must be a file that does not exist yet, got {self.per_image}")
        if self.per_image is not None and not Path(self.per_image).parent.is_dir():
            raise UsageError(f"--per_image must be in a folder that exists, got {self.per_image}")


_LEVEL_FLAGS = {"jpeg": "quality", "double_jpeg": "double", "deblur": "blur", "denoise": "noise"}
"""Which flag sets the levels of a task; the other tasks have none."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns an `ExitCode`."""
    return run_job("evaluate", _evaluate, argv)


def _evaluate(argv: list[str]) -> int:
    parser = FlagParser(
        EvaluateConfig, prog="relume evaluate", usage="--images DIR [flags]", description=_DESCRIPTION, epilog=_EPILOG
    )
    config = parse_flags(EvaluateConfig, parser, argv)
    wanted = _conditions(config)
    methods = _methods(config, wanted)
    from model import evaluation, photos, quiet

    quiet.tensorflow()

    try:
        pictures = evaluation.read_pictures(config.images, colour=config.color, limit=config.limit)
        scores = list(_with_progress(evaluation.evaluate(pictures, wanted, methods)))
    except photos.PhotoError as error:
        raise UsageError(f"--images: {error}") from error
    if config.per_image is not None:
        Path(config.per_image).write_text(_csv(map(dataclasses.asdict, scores)), encoding="utf-8")
    rows = evaluation.summarise(scores)
    print(_shown(rows, scores, config, evaluation.PROTOCOLS[config.color]), end="")
    return ExitCode.DONE


def _conditions(config: EvaluateConfig) -> list[Condition]:
    from model import evaluation

    names = config.task.split(",")
    for name in names:
        if name not in evaluation.TASKS:
            near = nearest(name, evaluation.TASKS)
            hint = f"; did you mean {near}?" if near else ""
            raise UsageError(f"--task must be some of {', '.join(evaluation.TASKS)}, got {name!r}{hint}")
    for name, flag in _LEVEL_FLAGS.items():
        if getattr(config, flag) is not None and name not in names:
            raise UsageError(f"--{flag} sets the levels of {name}, which is not in --task {config.task}")
    wanted: list[Condition] = []
    for name in dict.fromkeys(names):
        text = getattr(config, _LEVEL_FLAGS[name]) if name in _LEVEL_FLAGS else None
        try:
            levels = [evaluation.TASKS[name].level(one) for one in text.split(",")] if text else []
        except ValueError as error:
            raise UsageError(f"--{_LEVEL_FLAGS[name]}: {error}") from error
        wanted += evaluation.conditions(name, list(dict.fromkeys(levels)))
    return wanted


def _methods(config: EvaluateConfig, wanted: Sequence[Condition]) -> dict[str, list[Method]]:
    """What is measured, by task: the harmed picture first, then other baselines, then the models that fit."""
    from model import contract, evaluation
    from model.restorer import Restorer

    tasks = {condition.task.name: condition.task for condition in wanted}
    known = {name for task in tasks.values() for name in task.baselines}
    for name in config.baseline:
        if name not in known:
            raise UsageError(f"--baseline must be one of {', '.join(sorted(known))} for {config.task}, got {name}")
    restorers: dict[str, Restorer] = {}
    for folder in [] if config.model == ("none",) else config.model or (models.BUILT_IN,):
        try:
            restorers[folder] = Restorer.load(models.folder_of(folder), precision=config.precision)
        except contract.ModelError as error:
            raise UsageError(f"--model: {error}") from error
    # A tuned model has the name of the one it was tuned from: then all are called what was typed.
    distinct = len({restorer.contract.name for restorer in restorers.values()}) == len(restorers)
    measured = [
        evaluation.Model(restorer.contract.name if distinct else folder, restorer)
        for folder, restorer in restorers.items()
    ]
    methods: dict[str, list[Method]] = {}
    for task in tasks.values():
        first, *others = task.baselines
        methods[task.name] = [
            evaluation.Baseline(name) for name in (first, *others) if name in (first, *config.baseline)
        ]
        fitting = [model for model in measured if model.restorer.contract.scale == task.scale]
        if measured and not fitting:
            raise UsageError(f"--task {task.name} needs a model that gives {task.scale} times the size, got none")
        methods[task.name] += fitting
    return methods


def _with_progress(scores: Iterable[Score]) -> Iterator[Score]:
    last = time.monotonic()
    images: set[str] = set()
    for score in scores:
        yield score
        images.add(score.image)
        if time.monotonic() - last >= _REPORT_SECONDS:
            last = time.monotonic()
            _LOG.info("at image %d, %s", len(images), score.image)


def _shown(rows: Sequence[Row], scores: Sequence[Score], config: EvaluateConfig, protocol: str) -> str:
    from model import evaluation

    images = len({score.image for score in scores})
    about = {"images": images, "protocol": protocol, "machine": f"{os.cpu_count()} x {_processor()}"}
    match config.format:
        case "json":
            values = [{name: _finite(value) for name, value in dataclasses.asdict(row).items()} for row in rows]
            return json.dumps({**about, "rows": values}, indent=1, allow_nan=False) + "\n"
        case "csv":
            return _csv({**dataclasses.asdict(row), "worst": " ".join(row.worst)} for row in rows)
        case _:
            return (
                f"{about['images']} images; {protocol}; PSNR-B as in published tables.\n\n{evaluation.markdown(rows)}\n"
                + "".join(
                    f"Least gained by {row.method} at {row.condition}: {', '.join(row.worst)}\n"
                    for row in rows
                    if row.worst
                )
                + f"\nSeconds are of restoring alone, on {about['machine']}.\n"
            )


def _csv(rows: Iterable[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer: csv.DictWriter[str] | None = None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(out, list(row), lineterminator="\n")
            writer.writeheader()
        writer.writerow({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()})
    return out.getvalue()


def _finite(value: Any) -> Any:
    """JSON has no infinity, which is the PSNR of equal pictures: null stands for it."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "processor"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "processor")


if __name__ == "__main__":
    sys.exit(main())
