"""`relume schedule`: makes, shows and deletes a schedule of Cloud Scheduler that launches a restore job."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

from jobs import restore
from jobs.command_line import ExitCode, run_job
from jobs.launch import say_plan
from pipeline import flags
from pipeline.flags import FlagParser, UsageError, nearest
from pipeline.options import RestoreConfig
from pipeline.production import budget, launching, preflight, scheduling, template
from pipeline.production.launching import Launch, LaunchConfig
from pipeline.production.scheduling import PlaceConfig, ScheduleConfig, Scheduled, Schedules, WhenConfig

CREATE, SHOW, DELETE = "create", "show", "delete"

CONFIGS: dict[str, tuple[type, ...]] = {
    CREATE: (WhenConfig, ScheduleConfig, LaunchConfig, RestoreConfig),
    SHOW: (PlaceConfig, ScheduleConfig),
    DELETE: (PlaceConfig, ScheduleConfig),
}
"""For each action the classes whose fields are its flags."""

_PLACE = "--project ID --region REGION"
_USAGES = {
    CREATE: f"{_PLACE} --cron CRON\n"
    "           --scheduler_account EMAIL --template gs://...\n"
    "           --input gs://... --output gs://... [flags]",
    SHOW: f"{_PLACE} [flags]",
    DELETE: f"{_PLACE} [flags]",
}
_DESCRIPTIONS = {
    CREATE: """\
Makes a schedule that launches a restore job by its template. Takes every flag
of `relume launch` and `relume restore` and looks at all that they look at; each
night's run has a name of its own. What was done before is not done again, so a
night that failed is made up for by the next. Two nights never overlap: of one
--job_name Dataflow runs one job at a time, and of one output the lease allows
one run.""",
    SHOW: "Shows when a schedule comes round next, and what came of the last time.",
    DELETE: "Deletes a schedule. A run that it has launched goes on.",
}
_EPILOG = """\
exit codes: 0 done, 2 wrong usage, 7 refused by Google or stopped by an error,
  8 more than --max_cost is to be expected"""

_HELP = """\
usage: relume schedule create|show|delete [flags]

A schedule of Cloud Scheduler that launches a restore job.

  create     make one, or change it with --update
  show       when it comes round next, and what came of the last time
  delete     delete it; a run that it has launched goes on

relume schedule create --help explains all flags, and so do the others.

examples:
  relume schedule create --project my-project --region europe-west4 \\
      --cron '0 2 * * *' --time_zone Europe/Berlin \\
      --scheduler_account nightly@my-project.iam.gserviceaccount.com \\
      --template gs://my-jobs/relume.json --profile l4 \\
      --input gs://my-photos/archive --output gs://my-restored/archive
  relume schedule show --project my-project --region europe-west4
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_job("schedule", _schedule, argv)


def parser_of(action: str) -> FlagParser:
    """The parser of one action."""
    return FlagParser(
        CONFIGS[action],
        prog=f"relume schedule {action}",
        usage=_USAGES[action],
        description=_DESCRIPTIONS[action],
        epilog=_EPILOG,
    )


def parse(argv: Sequence[str]) -> tuple[str, tuple[Any, ...]]:
    """Reads the command line: the action, and its configs in the order of `CONFIGS`, the last two as one `Launch`.

    Raises:
        UsageError: one line, if the action or a flag is unknown, missing, has a value that is not allowed, or
            contradicts another.
    """
    action, *arguments = argv or [""]
    if action not in CONFIGS:
        near = nearest(action, CONFIGS)
        hint = f"; did you mean {near}?" if near else ""
        raise UsageError(f"{action or 'nothing'} is no action: give create, show or delete{hint}")
    values = flags.values_of_each(CONFIGS[action], parser_of(action), arguments)
    if action != CREATE:
        return action, tuple(config(**one) for config, one in zip(CONFIGS[action], values, strict=True))
    for_when, for_schedule, for_launch, for_job = values
    how = LaunchConfig(**for_launch)
    for name, why in (("run_id", "each night has its own"), ("wait", "nobody is there to wait")):
        if name in for_job or for_launch.get(name):
            raise UsageError(f"--{name} must be left out of a schedule: {why}")
    if how.via != launching.TEMPLATE:
        raise UsageError(f"--via must be {launching.TEMPLATE} in a schedule: this machine will be off, got {how.via}")
    launch = launching.on_workers(for_job, how)
    preflight.check_flags(launch)
    return action, (WhenConfig(**for_when), ScheduleConfig(**for_schedule), launch)


def _schedule(argv: list[str]) -> int:
    if argv[:1] in (["-h"], ["--help"]):
        print(_HELP, end="")
        return ExitCode.DONE
    action, configs = parse(argv)
    if action == CREATE:
        return _create(*configs)
    place, schedule = configs
    schedules = _schedules(place, schedule)
    if action == DELETE:
        schedules.delete(schedule.schedule)
        print(f"relume schedule: {schedule.schedule} is deleted", file=sys.stderr)
        print(json.dumps({"schedule": schedule.schedule, "deleted": True, "exit": int(ExitCode.DONE)}))
        return ExitCode.DONE
    _show(schedules.read(schedule.schedule))
    return ExitCode.DONE


def _create(when: WhenConfig, schedule: ScheduleConfig, launch: Launch) -> int:
    how, asked = launch.how, launch.job
    found = template.read(how.template or "")
    preflight.check_template(found, launch)
    far = preflight.far_away(preflight.locations(launch), how.region)
    # As a dry run: that a run is at work now says nothing of the nights to come.
    prepared = restore.prepare(dataclasses.replace(asked, dry_run=True), budget.SAMPLE)
    say_plan("schedule", launch, prepared, far)
    job = scheduling.job_of(when, launch, found.image)
    if asked.dry_run:
        print(json.dumps({"schedule": schedule.schedule, "job": job, "exit": int(ExitCode.DONE)}))
        return ExitCode.DONE
    schedules = _schedules(how, schedule)
    done = schedules.put(schedule.schedule, job, update=when.update)
    print(f"relume schedule: {schedule.schedule} is {done}", file=sys.stderr)
    _show(schedules.read(schedule.schedule))
    return ExitCode.DONE


def _schedules(place: LaunchConfig | PlaceConfig, schedule: ScheduleConfig) -> Schedules:
    return Schedules(place.project, schedule.schedule_region or place.region, schedule.scheduler_endpoint)


def _show(found: Scheduled) -> None:
    """A few lines for people, and the same as JSON, the last line on stdout."""
    shown = {
        "schedule": found.name.rpartition("/")[2],
        "state": found.state,
        "cron": f"{found.cron} {found.time_zone}",
        "output": found.output,
        "next": None if found.next is None else f"{found.next:%Y-%m-%dT%H:%M:%SZ}",
        "last": None if found.last is None else f"{found.last:%Y-%m-%dT%H:%M:%SZ}",
        "result": found.result,
    }
    for name, value in shown.items():
        print(f"{name:<9} {value or 'none'}")
    print(json.dumps({**shown, "code": found.code, "exit": int(ExitCode.DONE)}))


if __name__ == "__main__":
    sys.exit(main())
