"""`relume report`: makes the report page of a run again, from the tables that it left in its output."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs.command_line import ExitCode, run_job
from pipeline import flags
from pipeline.flags import FlagParser, UsageError, nearest, option, parse_flags

_PICTURES = 3


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """Everything that the job can be told."""

    output: str = option("The output of a restore job.", group="Flags", metavar="DIR")
    run_id: str | None = option(
        "Which of its runs.", group="Flags", default=None, default_text="the one that ended last", metavar="NAME"
    )
    picture: str | None = option(
        "Also writes this PNG: where the most improved images changed most, before above after. Must not exist.",
        group="Flags",
        default=None,
        metavar="FILE",
    )
    verbose: bool = flags.verbose("Flags")

    def __post_init__(self) -> None:
        flags.check(self)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_job("report", _report, argv)


def _report(argv: list[str]) -> int:
    parser = FlagParser(
        ReportConfig,
        prog="relume report",
        usage="--output DIR [--run_id NAME] [--picture FILE]",
        description="Prints the totals of a run and makes its report.html again.",
    )
    config = parse_flags(ReportConfig, parser, argv)

    from pipeline import recording
    from pipeline.report.summary import Summary
    from pipeline.report.tally import tally
    from pipeline.report.terminal import print_summary
    from pipeline.report.writing import find_crops, write_page
    from pipeline.storage import open_storage

    try:
        target = open_storage(config.output)
    except ValueError as error:
        raise UsageError(f"--output: {error}") from error
    runs = recording.runs_with(target, "summary.json")
    if not runs:
        raise UsageError(f"--output must be the output of a restore job that has ended, got {config.output}")
    run_id = config.run_id or runs[-1]
    record = recording.read_summary(config.output, run_id) if run_id in runs else None
    if record is None:
        near = nearest(run_id, runs) or runs[-1]
        raise UsageError(f"--run_id must be a run of {config.output} that has ended, such as {near}; got {run_id}")
    summary = Summary.from_record(record, output=config.output)
    print_summary(summary)
    counted = tally(recording.read_rows(config.output, run_id))
    page = write_page(record, config.output, counted, replace=True)
    print(f"report   {target.address(page)}")
    if config.picture is not None:
        found = (find_crops(row, target, summary.digests["recipe"]) for row in counted.ends[0])
        _write_picture(Path(config.picture), [crops for crops in found if crops is not None])
        print(f"picture  {config.picture}")
    return ExitCode.DONE


def _write_picture(path: Path, pairs: list[Any]) -> None:
    from pipeline.report.picture import draw

    if not pairs:
        raise UsageError(f"--picture {path}: no image of the run can be shown")
    try:
        with path.open("xb") as file:
            file.write(draw(pairs[:_PICTURES]))
    except FileExistsError as error:
        raise UsageError(f"--picture {path} exists: give a name that does not") from error
    except OSError as error:
        raise UsageError(f"--picture {path}: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main())
