"""What a restore job can be told: one frozen config that checks itself, and the command line that makes it."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import re
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from model.device import AUTO, PRECISIONS
from pipeline import flags, logs, models
from pipeline.flags import FlagParser, UsageError, option
from pipeline.production.profiles import PROFILES

FORMATS = ("same", "png", "webp-lossless", "tiff")

RECIPE_VERSION = 1
"""Goes up when the pipeline itself would write other bytes from the same input, model and settings."""

_ACCELERATOR = re.compile(r"type:[a-z0-9-]+;count:[1-9][0-9]*(;install-nvidia-driver(:[a-z0-9.]+)?)?")
_MIN_RAM = re.compile(r"[1-9][0-9]*(MB|MiB|GB|GiB)")
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_GLOB_RULE = "may be given more than once, or hold one a line"

_PROG = "relume restore"
_USAGE = "--input DIR --output DIR [flags] [-- Beam's flags]"
_DESCRIPTION = """\
Restores the images of an archive into a copy of it, and accounts for each one.
Originals are only read. A run that was stopped goes on when it is run again."""
_EPILOG = """\
Beam's own flags (--runner, --direct_num_workers, --project, ...) may stand
among these or after a lone --; `relume restore -- --help` lists them.

examples:
  relume restore --input photos --output restored
  relume restore --input photos --output restored --dry_run
  relume restore --input photos --output restored --include '1998/*.jpg' \\
      --format png --runner DirectRunner --direct_num_workers 2

exit codes: 0 done, 1 more failed than --tolerate allows, 2 wrong usage,
  7 stopped by an error, 8 --max_cost is not enough, 10 --max_minutes are over,
  11 another run is at work on the output; after 8 and 10 a rerun goes on"""


def new_run_id() -> str:
    """Makes a name for a run: the time in UTC, so that names sort by age, and six random digits against a clash."""
    return f"{datetime.datetime.now(datetime.UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


@dataclasses.dataclass(frozen=True)
class RestoreConfig:
    """Everything that a restore job can be told. Each field is a flag and its help is the manual.

    Raises:
        UsageError: from the constructor, where a value is not allowed or two contradict each other.
    """

    input: str = option("The archive: a folder, or gs://BUCKET/PREFIX. Only read.", group="Where", metavar="DIR")
    output: str = option(
        "Where the restored copy goes, with receipts and reports below _relume. Nothing there is overwritten.",
        group="Where",
        metavar="DIR",
    )
    model: str | None = option(
        models.WHERE,
        group="Where",
        default=None,
        default_text="the built-in model",
        metavar="DIR",
    )
    reference: str | None = option(
        "Pristine images under the same names, of any extension: adds PSNR and SSIM to what is measured.",
        group="Where",
        default=None,
        metavar="DIR",
    )
    include: tuple[str, ...] = option(
        f"Only names that match, as in '1998/*.jpg'; {_GLOB_RULE}.", group="Which images", default=(), metavar="GLOB"
    )
    exclude: tuple[str, ...] = option(
        f"No names that match, whatever else they match; {_GLOB_RULE}.",
        group="Which images",
        default=(),
        metavar="GLOB",
    )
    inventory: str | None = option(
        "A file that lists the names in place of a listing of the archive: text with one name a line, CSV or Parquet.",
        group="Which images",
        default=None,
        metavar="FILE",
    )
    max_megapixels: float = option(
        "Images with more pixels fail, by their header, before they are decoded.",
        group="Which images",
        default=250.0,
        default_text="250",
        low=0.001,
        high=100_000,
    )
    max_bytes: int = option(
        "Files with more bytes fail before they are read.",
        group="Which images",
        default=512 * 2**20,
        default_text="536870912, which is 512 MiB",
        low=1,
    )
    format: str = option("Container of the restored images.", group="How to restore", default="same", choices=FORMATS)
    strength: float = option(
        "How much of the restoration is applied; 0 changes nothing.",
        group="How to restore",
        default=1.0,
        default_text="1",
        low=0,
        high=1,
    )
    assume_quality: int | None = option(
        "The JPEG quality that harmed the images, where it is known: taken in place of the model's estimate of each. A "
        "lower one smooths more.",
        group="How to restore",
        default=None,
        default_text="the model's estimate",
        low=5,
        high=95,
    )
    keep_above_quality: int = option(
        "Images that look like JPEG of this quality or better are kept as they are; 101 tries all.",
        group="How to restore",
        default=90,
        low=1,
        high=101,
    )
    batch_megapixels: float = option(
        "Pixels that the model gets at once, in millions; memory grows with it.",
        group="How to run",
        default=4.0,
        default_text="4",
        low=0.01,
        high=1000,
    )
    band_megapixels: float = option(
        "TIFFs with more pixels are restored in bands of rows, to the same bytes: memory is then that of a band. What "
        "cannot be read in rows, and other formats, are held as a whole.",
        group="How to run",
        default=50.0,
        default_text="50",
        low=0.001,
        high=100_000,
    )
    model_threads: int | None = option(
        "Threads that the model uses in one worker process.",
        group="How to run",
        default=None,
        default_text="one for each core",
        low=1,
        high=1024,
    )
    precision: str = option(
        "What the model computes in: auto takes bfloat16 where the device has instructions for it, which is faster; "
        "some values then differ by one grey level from those of float32. 16-bit images are always done in float32.",
        group="How to run",
        default=AUTO,
        choices=PRECISIONS,
    )
    require_gpu: bool = option(
        "Stop the run at a worker on which no GPU is found; else it restores on its processor.",
        group="How to run",
        default=False,
    )
    accelerator_hint: str | None = option(
        "Accelerator that the workers that restore must have, and only they, where the runner fits workers to steps: "
        "type:KIND;count:N;install-nvidia-driver:5xx. Implies --require_gpu.",
        group="How to run",
        default=None,
        metavar="TEXT",
    )
    min_ram_hint: str | None = option(
        "Memory that the workers that restore must have, likewise: such as 16GB.",
        group="How to run",
        default=None,
        metavar="SIZE",
    )
    tolerate: int = option(
        "Images that may fail before the job itself counts as failed.", group="How to run", default=0, low=0
    )
    max_minutes: float | None = option(
        "Minutes from the start of the job after which no further image is begun: those in work are finished, the rest "
        "are left for the next run, and the exit code is 10.",
        group="How to run",
        default=None,
        low=0,
    )
    max_cost: float | None = option(
        "Money that the run may cost, with --profile: it does not start (exit code 8) if more is to be expected, and "
        "begins no further image once all workers may have cost that much since the start.",
        group="What it may cost",
        default=None,
        low=0,
    )
    profile: str | None = option(
        "The kind of worker that is paid for, and that a launch on Dataflow asks for (there cpu without it).",
        group="What it may cost",
        default=None,
        choices=tuple(PROFILES),
    )
    prices: str | None = option(
        "Your own file of prices, TOML, on this machine or gs://...",
        group="What it may cost",
        default=None,
        default_text="dated list prices, which nobody keeps up to date",
        metavar="FILE",
    )
    price_region: str = option(
        "The region in that file.", group="What it may cost", default="us-central1", metavar="REGION"
    )
    replace: bool = option(
        "Makes an output of another model or other settings again: each of its images is replaced, or deleted "
        "where another format gives it another name, if its receipt proves that Relume wrote it; all else stays.",
        group="How to run",
        default=False,
    )
    dry_run: bool = option("List and count what would be done, and write nothing.", group="How to run", default=False)
    run_id: str = option(
        "Name of the run's folder below _relume/runs.",
        group="How to run",
        default_factory=new_run_id,
        default_text="the time and six random digits",
        metavar="NAME",
    )
    log_format: str = option(
        "Of the log on stderr and of the workers: json is one object a line; auto is json with --runner "
        "DataflowRunner and text otherwise.",
        group="How to run",
        default="auto",
        choices=logs.FORMATS,
    )
    verbose: bool = flags.verbose("How to run")

    def __post_init__(self) -> None:
        flags.check(self)
        if not _RUN_ID.fullmatch(self.run_id):
            raise UsageError(
                "--run_id must be 1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit, "
                f"got {self.run_id!r}"
            )
        for flag, pattern, example in (
            ("accelerator_hint", _ACCELERATOR, "type:nvidia-l4;count:1;install-nvidia-driver:5xx"),
            ("min_ram_hint", _MIN_RAM, "16GB"),
        ):
            value = getattr(self, flag)
            if value is not None and not pattern.fullmatch(value):
                raise UsageError(f"--{flag} must be of the form {example}, got {value!r}")
        if self.max_cost is not None and self.profile is None:
            raise UsageError(f"--max_cost needs --profile, one of {', '.join(PROFILES)}: what is a worker?")
        # An output among the sources would be restored again by the next run, and so on.
        for flag, folder in (("--input", self.input), ("--reference", self.reference)):
            if folder is not None and (_lies_in(self.output, folder) or _lies_in(folder, self.output)):
                raise UsageError(f"--output must lie outside {flag} and not hold it, got {self.output} and {folder}")

    @property
    def hints(self) -> dict[str, str]:
        """Beam's resource hints for the workers that restore, by their names."""
        hints = {"accelerator": self.accelerator_hint, "min_ram": self.min_ram_hint}
        return {name: value for name, value in hints.items() if value is not None}

    @property
    def needs_gpu(self) -> bool:
        """Whether a worker without a GPU must stop the run."""
        return self.require_gpu or self.accelerator_hint is not None

    def recipe_settings(self) -> dict[str, Any]:
        """The settings that change what is written for an image, by name; values are JSON's.

        What came later is there only if it was given: outputs that were made before stay of the same recipe.
        """
        given = {} if self.assume_quality is None else {"assume_quality": self.assume_quality}
        return {
            **given,
            "format": self.format,
            "keep_above_quality": self.keep_above_quality,
            "strength": float(self.strength),
        }

    def recipe_digest(self, model_digest: str) -> str:
        """Names the recipe: images made by the same one need not be made again.

        Args:
            model_digest: digest of the model's contract, which names all its files.

        Returns:
            SHA-256 in hexadecimal of the settings, the model and the version of the recipe; the same on any machine.
        """
        recipe = {"recipe": RECIPE_VERSION, "model": model_digest, **self.recipe_settings()}
        return hashlib.sha256(json.dumps(recipe, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def parse(argv: Sequence[str]) -> tuple[RestoreConfig, list[str]]:
    """Reads the command line of a restore job.

    Args:
        argv: the arguments, without the program's name. Beam's flags stand among ours or after a lone `--`.

    Returns:
        The config, and Beam's flags as Beam spells them, ready for `PipelineOptions`.

    Raises:
        UsageError: one line, if a flag is unknown to both, missing, or has a value that is not allowed.
        SystemExit: with 0, once the help has been printed.
    """
    arguments = list(argv)
    split = arguments.index("--") if "--" in arguments else len(arguments)
    parser = FlagParser(RestoreConfig, prog=_PROG, usage=_USAGE, description=_DESCRIPTION, epilog=_EPILOG)
    values, among_ours = parser.values_of(arguments[:split])
    beam_flags = [*among_ours, *arguments[split + 1 :]]
    # Importing Beam takes more than a second: not before a line that has none of its flags is known to be right.
    if beam_flags:
        beam_flags = _check_beam_flags(beam_flags, [one.flag for one in parser.options])
    parser.require(values)
    return RestoreConfig(**values), beam_flags


def _check_beam_flags(arguments: Sequence[str], our_flags: Sequence[str]) -> list[str]:
    """Holds arguments against every flag that Beam's options register.

    Returns:
        The arguments with each flag spelled as Beam does.

    Raises:
        UsageError: if one is no flag of Beam's, with the nearest of Beam's and ours, or if Beam refuses a value.
    """
    from apache_beam.options.pipeline_options import PipelineOptions

    def refuse(message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))

    parsers: list[Any] = []
    # Beam hands its parser, with the flags of all its options classes, to this hook and nowhere else.
    PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
    (parser,) = parsers
    parser.prog, parser.error = f"{_PROG} --", refuse
    theirs = {flags.with_underscores(name): name for action in parser._actions for name in action.option_strings}
    spelled = []
    for argument in map(flags.with_underscores, arguments):
        name, equals, value = argument.partition("=")
        spelled.append(f"{theirs.get(name, name)}{equals}{value}")
    _, strange = parser.parse_known_args(spelled)
    if strange:
        raise flags.unknown(strange[0], [*our_flags, *theirs.values()])
    return spelled


def _lies_in(path: str, folder: str) -> bool:
    """Whether a path is a folder or below it: by name in cloud storage, links followed on disk."""
    if ("://" in path) != ("://" in folder):
        return False
    if "://" in path:
        return f"{path.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")
    return Path(path).resolve().is_relative_to(Path(folder).resolve())
