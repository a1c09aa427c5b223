"""`relume status`: how far a run is or how it ended, by its output and, on Dataflow, by its job."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jobs.command_line import ExitCode, run_job
from pipeline import flags
from pipeline.flags import FlagParser, UsageError, option, parse_flags
from pipeline.production import naming
from pipeline.production.launching import ENDPOINT

if TYPE_CHECKING:
    from pipeline.production.watching import JobStatus
    from pipeline.status import RunStatus

_RUN, _JOB, _OTHER = "The run", "Its job on Dataflow", "Other flags"

_DESCRIPTION = """\
Tells how far a run is or how it ended: by what lies in its output, and of a job
on Dataflow by its state, its metrics and its last errors. Changes nothing. The
last line is JSON."""
_EPILOG = """\
examples:
  relume status --output restored
  relume status --output gs://bucket/restored --run_id night-7
  relume status --project my-project --region europe-west4 --job relume-restore

exit codes: 0 it is done, 1 done, but more images failed than --tolerate allows,
  2 wrong usage, 7 it failed or was stopped (the next run goes on),
  8 or 10 a cap was reached and images are left, 11 it is at work"""


@dataclasses.dataclass(frozen=True)
class StatusConfig:
    """Everything that the job can be told.

    Raises:
        UsageError: from the constructor, where a value is not allowed or something is missing.
    """

    output: str | None = option("The output of a restore job. Only read.", group=_RUN, default=None, metavar="DIR")
    run_id: str | None = option(
        "Which of its runs.", group=_RUN, default=None, default_text="the one that was planned last", metavar="NAME"
    )
    tolerate: int = option("Images that may fail before a run counts as failed.", group=_RUN, default=0, low=0)
    job: str | None = option(
        "Id or name of a job; of several of one name the last.", group=_JOB, default=None, metavar="JOB"
    )
    project: str | None = option("The project that it runs in.", group=_JOB, default=None, metavar="ID")
    region: str | None = option("The region that it runs in.", group=_JOB, default=None, metavar="REGION")
    dataflow_endpoint: str = option(
        "Another address of the Dataflow API, such as a private one.",
        group=_JOB,
        default=ENDPOINT,
        metavar="URL",
    )
    verbose: bool = flags.verbose(_OTHER)

    def __post_init__(self) -> None:
        flags.check(self)
        naming.PROJECT.check("project", self.project)
        naming.REGION.check("region", self.region)
        naming.ENDPOINT.check("dataflow_endpoint", self.dataflow_endpoint)
        where = {"--job": self.job, "--project": self.project, "--region": self.region}
        missing = [flag for flag, value in where.items() if value is None]
        if 0 < len(missing) < len(where):
            raise UsageError(f"{missing[0]} is needed with {', '.join(flag for flag in where if flag not in missing)}")
        if self.output is None and self.job is None:
            raise UsageError("--output DIR is needed, or --project, --region and --job: where is the run?")
        if self.output is None and self.run_id is not None:
            raise UsageError(f"--run_id names a run of an output: give --output DIR, got --run_id {self.run_id}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_job("status", _status, argv)


def _status(argv: list[str]) -> int:
    parser = FlagParser(
        StatusConfig,
        prog="relume status",
        usage="[--output DIR [--run_id NAME]]\n           [--project ID --region REGION --job JOB]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    config = parse_flags(StatusConfig, parser, argv)
    job = _look_at_job(config)
    run = _look_at_run(config)
    for label, text in [*_lines_of_job(job), *_lines_of_run(run)]:
        print(f"{label:<10}{text}")
    code = _code(config, job, run)
    print(json.dumps({**_values_of_run(run), **_values_of_job(job), "exit": int(code)}))
    return code


def _look_at_job(config: StatusConfig) -> JobStatus | None:
    if config.job is None or config.project is None or config.region is None:
        return None
    from pipeline.production import watching

    return watching.look_at(config.project, config.region, config.job, config.dataflow_endpoint)


def _look_at_run(config: StatusConfig) -> RunStatus | None:
    if config.output is None:
        return None
    from pipeline import status

    try:
        return status.look_at(config.output, config.run_id)
    except UsageError as error:
        text = str(error)
        raise UsageError(text if text.startswith("--") else f"--output: {text}") from error


def _code(config: StatusConfig, job: JobStatus | None, run: RunStatus | None) -> ExitCode:
    """What the state means; a job that has ended is judged by its run's summary, where that can be seen."""
    from jobs.restore import exit_code_of

    if job is not None and not job.has_ended:
        return ExitCode.BUSY
    if job is not None and job.state != "DONE":
        return ExitCode.FATAL
    if run is None:
        return ExitCode.DONE
    if run.summary is not None:
        return exit_code_of(run.summary, config.tolerate)
    return ExitCode.BUSY if run.state == "running" else ExitCode.FATAL


def _lines_of_run(run: RunStatus | None) -> Iterator[tuple[str, str]]:
    from pipeline.report.words import count, printable

    if run is None:
        return
    yield "run", f"{run.run_id}: {run.state}" + (f" ({printable(run.holder)})" if run.holder else "")
    listed, pending, done = (run.plan.get(key, 0) for key in ("listed", "pending", "done"))
    yield "planned", f"{count(pending)} of {count(listed)} images to do, {count(done)} done before"
    yield "receipts", f"{count(run.receipts)} images are done now"
    if run.summary is not None:
        yield "images", ", ".join(f"{name} {count(number)}" for name, number in run.summary["counts"].items())
    if run.metrics is not None:
        yield from _lines_of_figures(run.metrics)


def _lines_of_job(job: JobStatus | None) -> Iterator[tuple[str, str]]:
    from pipeline.report.words import count, printable

    if job is None:
        return
    yield "job", f"{job.name} ({job.id}): {job.state.lower().replace('_', ' ')} since {job.since}"
    figures = job.figures.values()
    yield "images", ", ".join(f"{name} {count(number)}" for name, number in figures["images"].items())
    yield from _lines_of_figures(figures)
    for error in job.errors:
        yield "error", printable(" ".join(error.split()))


def _lines_of_figures(figures: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    from pipeline.report.words import count

    yield "pixels", f"{figures['megapixels']:.1f} MP in {count(figures['batches'])} batches"
    yield "bytes", f"{figures['bytes_read'] / 1e6:.1f} MB read, {figures['bytes_written'] / 1e6:.1f} MB written"
    for label, key in (("batch", "batch_ms"), ("decoding", "decode_ms")):
        yield label, f"{figures[key]['mean']:.0f} ms on average, {figures[key]['max']} ms at most"
    if figures["busy_share"] is not None:
        yield "model", f"at work {100 * figures['busy_share']:.0f} % of the time"


def _values_of_run(run: RunStatus | None) -> dict[str, Any]:
    if run is None:
        return {}
    counts = {} if run.summary is None else {**run.summary["counts"], "inputs": run.summary["inputs"]}
    planned = {key: run.plan.get(key, 0) for key in ("listed", "pending", "done")}
    values = {"run": run.run_id, "state": run.state, "planned": planned, "receipts": run.receipts}
    return values | counts | ({} if run.metrics is None else {"metrics": dict(run.metrics)})


def _values_of_job(job: JobStatus | None) -> dict[str, Any]:
    if job is None:
        return {}
    values = {"id": job.id, "name": job.name, "state": job.state, "since": job.since, "errors": list(job.errors)}
    return {"job": values | {"metrics": job.figures.values()}}


if __name__ == "__main__":
    sys.exit(main())
