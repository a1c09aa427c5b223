"""`relume launch`: starts a restore job on Dataflow, after everything that can be wrong with it was looked at."""

from __future__ import annotations

import dataclasses
import json
import sys
import threading
from collections.abc import Sequence
from typing import Any

from jobs import restore
from jobs.command_line import ExitCode, run_job
from pipeline import flags
from pipeline.flags import FlagParser, UsageError
from pipeline.options import RestoreConfig
from pipeline.production import budget, launching, preflight, template
from pipeline.production.launching import Launch, LaunchConfig

CONFIGS = (LaunchConfig, RestoreConfig)
"""The classes whose fields are the flags."""

_USAGE = "--project ID --region REGION --input gs://...\n           --output gs://... [flags]"
_DESCRIPTION = """\
Starts a restore job on Dataflow: by a Flex Template, which `relume template`
writes, or from here with --via direct. Takes every flag of `relume restore`
too; all places must be gs://. Before anything is created it looks at flags that
contradict each other, at places and where their buckets are, at the model, the
output's recipe and the template's version, and says what there is to do.
A launch is done when Dataflow has taken the job; --wait follows it to its end."""
_EPILOG = """\
examples:
  relume launch --project my-project --region europe-west4 \\
      --template gs://my-jobs/relume.json --profile l4 --max_num_workers 4 \\
      --input gs://my-photos/archive --output gs://my-restored/archive --dry_run

exit codes: 0 Dataflow has taken the job, 2 wrong usage, 7 refused by Dataflow
  or stopped by an error, 11 a job of this name or on this output is at work;
  with --wait those of the run: 0 done, 1 more failed than --tolerate allows,
  7 the job failed or was cancelled, 8 and 10 a cap was reached; without it
  8 more than --max_cost is to be expected"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_job("launch", _launch, argv)


def parse(argv: Sequence[str]) -> Launch:
    """Reads the command line of a launch.

    Raises:
        UsageError: one line, if a flag is unknown, missing, has a value that is not allowed, or contradicts another.
    """
    parser = FlagParser(CONFIGS, prog="relume launch", usage=_USAGE, description=_DESCRIPTION, epilog=_EPILOG)
    for_launch, for_job = flags.values_of_each(CONFIGS, parser, argv)
    launch = launching.on_workers(for_job, LaunchConfig(**for_launch))
    preflight.check_flags(launch)
    return launch


def _launch(argv: list[str]) -> int:
    try:
        return _start(parse(argv))
    except launching.AlreadyRunningError as error:
        _say(str(error))
        return ExitCode.BUSY


def _start(asked: Launch) -> int:
    # What is launched is the job itself; that this is a dry run is for this command to know.
    launch = dataclasses.replace(asked, job=dataclasses.replace(asked.job, dry_run=False))
    by_template = launch.how.via == launching.TEMPLATE
    if by_template:
        request: Any = _request(launch)
    else:
        request = launching.beam_flags(launch)
        options = restore.beam_options(launch.job, request)
    if not asked.job.dry_run:
        launching.check_free(launch.how)
    far = preflight.far_away(preflight.locations(launch), launch.how.region)
    prepared = restore.prepare(launch.job, budget.SAMPLE)
    for line in far:
        _say(f"warning: {line}")
    _say_plan(launch, prepared.found)
    _say_cost(launch, prepared)
    if asked.job.dry_run:
        print(json.dumps({"request": request, "exit": int(ExitCode.DONE)}))
        return ExitCode.DONE
    job = launching.submit(launch.how, request) if by_template else _submit(launch.how, prepared, options)
    _say(f"Dataflow has taken job {job.id}: {job.console}")
    if launch.how.wait:
        return _wait(launch, job)
    print(json.dumps({"run": launch.job.run_id, "job": job.id, "console": job.console, "exit": int(ExitCode.DONE)}))
    return ExitCode.DONE


def _request(launch: Launch) -> dict[str, Any]:
    found = template.read(launch.how.template or "")
    preflight.check_template(found, launch)
    return launching.launch_body(launch, found.image)


def _submit(how: LaunchConfig, prepared: restore.Prepared, options: Any) -> launching.Job:
    from apache_beam.runners.dataflow.internal.apiclient import DataflowJobAlreadyExistsError

    try:
        result = restore.start(prepared, options)
    except DataflowJobAlreadyExistsError as error:
        raise launching.AlreadyRunningError(f"--job_name {how.job_name}: {error}") from error
    return launching.Job(result.job_id(), how.project, how.region)


def _say_plan(launch: Launch, found: Any) -> None:
    _say(
        f"{found.listed} images: {found.pending} to do ({found.pending_bytes / 1e6:.1f} MB), {found.done} done before, "
        f"{found.unusable} with names that cannot be used"
    )
    gpu = f" with {launch.gpu}" if launch.gpu else ""
    _say(f"up to {launch.how.max_num_workers} workers of {launch.machine}{gpu} in {launch.how.region}")


def _say_cost(launch: Launch, prepared: restore.Prepared) -> None:
    """Says what the run is expected to take.

    Raises:
        TooExpensiveError: if that is more than `--max_cost`.
        UsageError: if there is such a cap, and no price of these workers.
    """
    from pipeline.production import planning

    how, job, found = launch.how, launch.job, prepared.found
    if not found.pending:
        return
    try:
        if how.machine_type or how.accelerator:
            raise UsageError("--machine_type and --accelerator have no price: only a profile's own workers have")
        way = budget.expected(job, found, prepared.sample, how.max_num_workers)
    except UsageError as error:
        if job.max_cost is not None:
            raise
        _say(f"cost not known: {error}")
        return
    _say(planning.line_of(way))
    budget.check(job, way, found.pending)


def _wait(launch: Launch, job: launching.Job) -> int:
    """Follows a job to its end, and says how the run ended: by its summary, where there is one."""
    pause = threading.Event()
    state = ""
    try:
        for state in launching.states(launch.how, job, lambda: pause.wait(launch.how.poll_seconds)):
            _say(f"job {job.id} is {state.lower().replace('_', ' ')}")
    except KeyboardInterrupt:
        _say(f"no longer looking; job {job.id} goes on: {job.console}")
        return ExitCode.INTERRUPTED
    line: dict[str, Any] = {"run": launch.job.run_id, "job": job.id, "state": state}
    code = ExitCode.FATAL
    if state == "DONE":
        code, counts = _conclude(launch.job)
        line |= counts
    else:
        for text in launching.errors_of(launch.how, job)[-1:]:
            _say(f"job {job.id}: {text}")
    print(json.dumps({**line, "exit": int(code)}))
    return code


def _conclude(config: RestoreConfig) -> tuple[ExitCode, dict[str, int]]:
    """The exit code of a run whose job is done, and its counts; without those where its summary cannot be read."""
    from google.api_core import exceptions

    from pipeline import recording
    from pipeline.report.summary import Summary
    from pipeline.report.terminal import print_summary

    try:
        record = recording.read_summary(config.output, config.run_id)
    except (exceptions.Forbidden, exceptions.Unauthorized) as error:
        _say(f"the job is done; this account may not read what became of the images: {error.message}")
        return ExitCode.DONE, {}
    if record is None:
        _say(f"the job is done, and left no summary of run {config.run_id} in {config.output}")
        return ExitCode.FATAL, {}
    print_summary(Summary.from_record(record, output=config.output))
    return restore.exit_code_of(record, config.tolerate), {**record["counts"], "inputs": record["inputs"]}


def _say(text: str) -> None:
    print(f"relume launch: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
