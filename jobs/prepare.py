"""`relume prepare`: makes a TFDS data set of photographs, split for training and validation."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.command_line import ExitCode, UsageError, run_job
from pipeline import flags
from pipeline.flags import FlagParser, check, check_here, option, parse_flags

_DESCRIPTION = """\
Makes a data set of a folder of photographs, for `relume train --data`:
lossless, with a split for validation that holds nothing that looks like a
photograph for training."""

_EPILOG = """example:
  relume prepare --input photos --output datasets
  relume prepare --input gs://my-photos/pristine --output datasets --workers 8
  relume train --recipe jpeg_s --data datasets/photo_archive/1.0.0 \\
      --validation datasets/photo_archive/1.0.0 --output run"""

_LOG = logging.getLogger("jobs.prepare")


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
    """Everything that can be told to `relume prepare`; each field is a flag.

    Raises:
        UsageError: from the constructor, where a value is not allowed.
    """

    input: str = option(
        "Pristine photographs: a folder, or gs://BUCKET/PREFIX. Only read.", group="Where", metavar="DIR"
    )
    output: str = option("Where data sets are kept; it becomes photo_archive in there.", group="Where", metavar="DIR")
    workers: int | None = option(
        "So many photographs are read side by side; from 2 on by Beam. The data set is the same.",
        group="How to run",
        default=None,
        default_text="1, or from 1,000 photographs on one a core",
        low=1,
        high=256,
    )
    verbose: bool = flags.verbose("How to run")

    def __post_init__(self) -> None:
        check(self)
        check_here("output", self.output)
        if "://" not in self.input and not Path(self.input).is_dir():
            raise UsageError(f"--input must be a folder that exists, or gs://BUCKET/PREFIX, got {self.input}")
        if (Path(self.output) / "photo_archive").exists():
            raise UsageError(f"--output must not hold a photo_archive yet, got {self.output}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns an `ExitCode`."""
    return run_job("prepare", _prepare, argv)


def _prepare(argv: list[str]) -> int:
    usage = "--input DIR --output DIR [flags]"
    parser = FlagParser(PrepareConfig, prog="relume prepare", usage=usage, description=_DESCRIPTION, epilog=_EPILOG)
    config = parse_flags(PrepareConfig, parser, argv)
    from model import photo_archive
    from model.photos import PhotoError
    from pipeline.photographs import Photographs
    from pipeline.storage import open_storage

    try:
        storage = open_storage(config.input)
    except UsageError as error:
        raise UsageError(f"--input: {error}") from error
    storage.check_readable("--input")
    photographs = Photographs(config.input, config.workers, os.cpu_count() or 1)
    try:
        prepared = photo_archive.prepare(photographs, Path(config.output))
    except PhotoError as error:
        raise UsageError(f"--input: {error}") from error
    sizes = photo_archive.sizes(prepared)
    for name in (name for name, number in sizes.items() if not number):
        _LOG.warning("too few photographs: none of them fell into the split %s", name)
    print(json.dumps({"data": str(prepared), **sizes}))
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
