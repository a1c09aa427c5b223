"""`relume report`: makes the report page of a run again, from the tables that it left in its output."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from jobs.command_line import ExitCode, run_job
from pipeline import flags
from pipeline.flags import FlagParser, UsageError, nearest, option, parse_flags


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """Everything that the job can be told."""

    output: str = option("The output of a restore job.", group="Flags", metavar="DIR")
    run_id: str | None = option(
        "Which of its runs.", group="Flags", default=None, default_text="the one that ended last", metavar="NAME"
    )
    verbose: bool = option("Log more, and show where in the code an error arose.", group="Flags", default=False)

    def __post_init__(self) -> None:
        flags.check(self)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_job("report", _report, argv)


def _report(argv: list[str]) -> int:
    parser = FlagParser(
        ReportConfig,
        prog="relume report",
        usage="--output DIR [--run_id NAME]",
        description="Prints the totals of a run and makes its report.html again.",
    )
    config = parse_flags(ReportConfig, parser, argv)

    from pipeline import recording
    from pipeline.report.summary import Summary
    from pipeline.report.tally import tally
    from pipeline.report.terminal import print_summary
    from pipeline.report.writing import write_page
    from pipeline.storage import open_storage

    try:
        target = open_storage(config.output)
    except ValueError as error:
        raise UsageError(f"--output: {error}") from error
    runs = _ended_runs(target)
    if not runs:
        raise UsageError(f"--output must be the output of a restore job that has ended, got {config.output}")
    run_id = config.run_id or runs[-1]
    record = recording.read_summary(config.output, run_id) if run_id in runs else None
    if record is None:
        near = nearest(run_id, runs) or runs[-1]
        raise UsageError(f"--run_id must be a run of {config.output} that has ended, such as {near}; got {run_id}")
    print_summary(Summary.from_record(record, output=config.output))
    page = write_page(record, config.output, tally(recording.read_rows(config.output, run_id)), replace=True)
    print(f"report   {target.address(page)}")
    return ExitCode.DONE


def _ended_runs(target: Any) -> list[str]:
    """Lists the runs that wrote their summary, the last of them at the end."""
    from pipeline import names

    ended = []
    for folder in target.folders(f"{names.RUNS}/"):
        summary = target.stat(f"{folder}summary.json")
        if summary is not None:
            # Modification time in ns, or generation: either grows.
            ended.append((int(summary.version.partition("-")[0]), folder.removeprefix(f"{names.RUNS}/").rstrip("/")))
    return [run_id for _, run_id in sorted(ended)]


if __name__ == "__main__":
    sys.exit(main())
