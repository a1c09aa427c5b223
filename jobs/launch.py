"""`relume launch`: starts a restore job on Dataflow, after everything that can be wrong with it was looked at."""

from __future__ import annotations

import dataclasses
import logging
import sys
import threading
from collections.abc import Sequence
from typing import Any

from jobs import restore
from jobs.command_line import Ending, ExitCode, run_to_the_end
from pipeline import flags, logs
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
    return run_to_the_end("launch", _launch, argv)


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


def _launch(argv: list[str], ending: Ending) -> int:
    asked = parse(argv)
    logs.set_up(as_json=logs.is_json(), run=asked.job.run_id)
    ending.run_id = asked.job.run_id
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
    prepared = restore.prepare(asked.job, budget.SAMPLE)
    say_plan("launch", asked, prepared, far)
    if asked.job.dry_run:
        ending.tell({"request": request, "exit": int(ExitCode.DONE)})
        return ExitCode.DONE
    job = launching.submit(launch.how, request) if by_template else _submit(launch.how, prepared, options)
    _say(f"Dataflow has taken job {job.id}: {job.console}")
    if launch.how.wait:
        return _wait(launch, job, ending)
    ending.tell({"run": launch.job.run_id, "job": job.id, "console": job.console, "exit": int(ExitCode.DONE)})
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


def say_plan(command: str, launch: Launch, prepared: restore.Prepared, warnings: Sequence[str]) -> None:
    """Says what there is to do, on which workers, and what that is expected to take.

    Args:
        command: that says it.
        launch: what is launched.
        prepared: the same, looked at, with a sample.
        warnings: of `preflight.far_away`.

    Raises:
        TooExpensiveError: if it is expected to cost more than `--max_cost`.
        UsageError: if there is such a cap, and no price of these workers.
    """
    from pipeline.production import planning

    how, job, found = launch.how, launch.job, prepared.found
    for line in warnings:
        _say(f"warning: {line}", command, level=logging.WARNING)
    _say(found.told, command)
    gpu = f" with {launch.gpu}" if launch.gpu else ""
    _say(f"up to {how.max_num_workers} workers of {launch.machine}{gpu} in {how.region}", command)
    if not found.pending:
        return
    try:
        if own := launch.own_workers:
            raise UsageError(f"{own[0]} makes workers that have no price: only a profile's own have")
        way = budget.expected(job, found, prepared.sample, how.max_num_workers)
    except UsageError as error:
        if job.max_cost is not None:
            raise
        _say(f"cost not known: {error}", command, level=logging.WARNING)
        return
    _say(planning.line_of(way), command)
    budget.check(job, way, found.pending)


def _wait(launch: Launch, job: launching.Job, ending: Ending) -> int:
    """Follows a job to its end, and says how the run ended: by its summary, where there is one."""
    pause = threading.Event()
    state = ""
    try:
        for state in launching.states(launch.how, job, lambda: pause.wait(launch.how.poll_seconds)):
            _say(f"job {job.id} is {state.lower().replace('_', ' ')}")
    except KeyboardInterrupt:
        _say(f"no longer looking; job {job.id} goes on: {job.console}", level=logging.WARNING)
        ending.tell({"run": launch.job.run_id, "job": job.id, "exit": int(ExitCode.INTERRUPTED)})
        return ExitCode.INTERRUPTED
    line: dict[str, Any] = {"run": launch.job.run_id, "job": job.id, "state": state}
    code = ExitCode.FATAL
    if state == "DONE":
        code, counts = _conclude(launch.job)
        line |= counts
    else:
        for text in launching.errors_of(launch.how, job)[-1:]:
            _say(f"job {job.id}: {text}", level=logging.ERROR)
    ending.tell({**line, "exit": int(code)})
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
        said = f"the job is done; this account may not read what became of the images: {error.message}"
        _say(said, level=logging.WARNING)
        return ExitCode.DONE, {}
    if record is None:
        _say(f"the job is done, and left no summary of run {config.run_id} in {config.output}", level=logging.ERROR)
        return ExitCode.FATAL, {}
    print_summary(Summary.from_record(record, output=config.output))
    return restore.exit_code_of(record, config.tolerate), {**record["counts"], "inputs": record["inputs"]}


def _say(text: str, command: str = "launch", *, level: int = logging.INFO) -> None:
    print(logs.say(command, text, level=level), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
