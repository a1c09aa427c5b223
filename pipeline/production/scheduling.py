"""A restore job every night: a job of Cloud Scheduler that launches the template, under the same name each time."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import json
from collections.abc import Mapping
from typing import Any

from pipeline import flags
from pipeline.flags import UsageError, option
from pipeline.production import launching, naming
from pipeline.production.cron import check_cron, check_time_zone
from pipeline.production.launching import Launch

ENDPOINT = "https://cloudscheduler.googleapis.com"

_WHICH, _WHEN = "The schedule", "When, and as whom"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_FIELDS = ("description", "schedule", "time_zone", "http_target", "retry_config", "attempt_deadline")
"""What `put` sets of a schedule; the rest, such as that it is paused, is left as it is."""

_BUSY = (6, 10)
"""Codes of an attempt that found the job of the night before still running: ALREADY_EXISTS and ABORTED."""


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
    """Which schedule is meant, of those of a project.

    Raises:
        UsageError: from the constructor, where a value is not allowed.
    """

    schedule: str = option(
        "Name of the schedule, of which a region holds one.", group=_WHICH, default="relume-restore", metavar="NAME"
    )
    schedule_region: str | None = option(
        "Region of Cloud Scheduler, which is not in all of them.",
        group=_WHICH,
        default=None,
        default_text="--region",
        metavar="REGION",
    )
    scheduler_endpoint: str = option(
        "Another address of the Cloud Scheduler API.", group=_WHICH, default=ENDPOINT, metavar="URL"
    )

    def __post_init__(self) -> None:
        flags.check(self)
        naming.SCHEDULE.check("schedule", self.schedule)
        naming.REGION.check("schedule_region", self.schedule_region)
        naming.ENDPOINT.check("scheduler_endpoint", self.scheduler_endpoint)


@dataclasses.dataclass(frozen=True)
class PlaceConfig:
    """Where a schedule is, for the commands that need no more.

    Raises:
        UsageError: from the constructor, where a value is not allowed.
    """

    project: str = option("The project of the schedule.", group=_WHICH, metavar="ID")
    region: str = option("The region of the schedule.", group=_WHICH, metavar="REGION")

    def __post_init__(self) -> None:
        flags.check(self)
        naming.PROJECT.check("project", self.project)
        naming.REGION.check("region", self.region)


@dataclasses.dataclass(frozen=True)
class WhenConfig:
    """When a schedule comes round, and as whom it launches.

    Raises:
        UsageError: from the constructor, where a value is not allowed.
    """

    cron: str = option(
        "Minute, hour, day of the month, month, day of the week, as in '0 2 * * *'.", group=_WHEN, metavar="CRON"
    )
    scheduler_account: str = option(
        "The account that launches; it may create jobs on Dataflow and act as --service_account_email.",
        group=_WHEN,
        metavar="EMAIL",
    )
    time_zone: str = option(
        "Time zone of --cron. Where clocks are put forward, an hour of one night does not come.",
        group=_WHEN,
        default="Etc/UTC",
        metavar="AREA/CITY",
    )
    update: bool = option("Change the schedule of this name, if there is one.", group=_WHEN, default=False)

    def __post_init__(self) -> None:
        flags.check(self)
        check_cron(self.cron)
        check_time_zone(self.time_zone)
        naming.ACCOUNT.check("scheduler_account", self.scheduler_account)


@dataclasses.dataclass(frozen=True)
class Schedules:
    """The Cloud Scheduler of one project and region.

    Attributes:
        project, region: where.
        endpoint: address of the API.
    """

    project: str
    region: str
    endpoint: str = ENDPOINT

    def put(self, name: str, job: Mapping[str, Any], *, update: bool) -> str:
        """Creates a schedule, or with `update` changes the one of its name.

        Args:
            name: of the schedule.
            job: of `job_of`.
            update: lets it change one that is there.

        Returns:
            `created` or `updated`.

        Raises:
            UsageError: if there is one already and `update` is not set, or the service does not take the job.
        """
        from google.api_core import exceptions
        from google.cloud import scheduler_v1
        from google.protobuf import json_format

        wanted = scheduler_v1.Job(name=self._path(name))
        json_format.ParseDict(dict(job), scheduler_v1.Job.pb(wanted))
        client = self._client()
        try:
            try:
                client.create_job(parent=self._parent, job=wanted)
            except exceptions.Conflict as error:
                if not update:
                    raise UsageError(
                        f"--schedule {name} is there already in {self.region}: give --update to change it"
                    ) from error
                client.update_job(job=wanted, update_mask={"paths": list(_FIELDS)})
                return "updated"
        except exceptions.BadRequest as error:
            raise UsageError(f"--schedule {name}: Cloud Scheduler does not take it: {error.message}") from error
        return "created"

    def read(self, name: str) -> Scheduled:
        """Reads a schedule.

        Raises:
            UsageError: if there is none of this name.
        """
        from google.api_core import exceptions

        try:
            found = self._client().get_job(name=self._path(name))
        except exceptions.NotFound as error:
            raise self._none(name) from error
        return _scheduled(found)

    def delete(self, name: str) -> None:
        """Deletes a schedule; a run that it has launched goes on.

        Raises:
            UsageError: if there is none of this name.
        """
        from google.api_core import exceptions

        try:
            self._client().delete_job(name=self._path(name))
        except exceptions.NotFound as error:
            raise self._none(name) from error

    @property
    def _parent(self) -> str:
        return f"projects/{self.project}/locations/{self.region}"

    def _path(self, name: str) -> str:
        return f"{self._parent}/jobs/{name}"

    def _none(self, name: str) -> UsageError:
        return UsageError(
            f"--schedule {name}: there is none in {self.project}, {self.region}; `relume schedule create` makes one"
        )

    def _client(self) -> Any:
        from google.cloud import scheduler_v1

        return launching.client_of(scheduler_v1.CloudSchedulerClient, self.endpoint)


@dataclasses.dataclass(frozen=True)
class Scheduled:
    """A schedule as the service has it.

    Attributes:
        name: in full.
        state: `enabled`, `paused`, ...
        cron, time_zone: when it comes round.
        next: when it will the next time; None where it is paused.
        last: when it last did; None where it never has.
        code: how that ended, a code of google.rpc; 0 where the launch was taken.
        message: of the service, where it was not.
        output: where the restored archive goes.
        job_name: of the job that it launches.
    """

    name: str
    state: str
    cron: str
    time_zone: str
    next: datetime.datetime | None
    last: datetime.datetime | None
    code: int
    message: str
    output: str
    job_name: str

    @property
    def result(self) -> str:
        """What came of the last time, for people."""
        from google.rpc import code_pb2

        if self.last is None:
            return "none yet"
        if self.code == 0:
            return "launched"
        if self.code in _BUSY:
            return f"not launched: a job {self.job_name} was still at work"
        name = code_pb2.Code.Name(self.code)
        return f"not launched: {name}{f', {self.message}' if self.message else ''}"


def job_of(when: WhenConfig, launch: Launch, image: str) -> dict[str, Any]:
    """A schedule as Cloud Scheduler's REST API has it: whom it calls, when, as whom, and with what.

    The request is that of `relume launch` with three things left to the night itself: the run's name, which the job
    makes anew, and the image and version, which are the template's at the time. So a template that is written anew at
    its place is what the next night runs.

    Args:
        when: and as whom.
        launch: what and how.
        image: the template's.
    """
    body = launching.launch_body(launch, image)
    job = body["launchParameter"]
    job["parameters"].pop("run_id", None)
    job["environment"].pop("sdkContainerImage", None)
    labels = {key: text for key, text in launch.how.all_labels.items() if f"{key}={text}" in launch.how.labels}
    job["environment"].pop("additionalUserLabels", None)
    if labels:
        job["environment"]["additionalUserLabels"] = labels
    where = f"projects/{launch.how.project}/locations/{launch.how.region}"
    return {
        "description": f"relume: restores {launch.job.input} into {launch.job.output}",
        "schedule": when.cron,
        "timeZone": when.time_zone,
        "httpTarget": {
            "uri": f"{launch.how.dataflow_endpoint.rstrip('/')}/v1b3/{where}/flexTemplates:launch",
            "httpMethod": "POST",
            "headers": {"Content-Type": "application/json"},
            "body": base64.b64encode(json.dumps(body, sort_keys=True).encode()).decode(),
            "oauthToken": {"serviceAccountEmail": when.scheduler_account, "scope": _SCOPE},
        },
        # Launching twice does no harm: of one name only one job runs.
        "retryConfig": {"retryCount": 3, "minBackoffDuration": "60s", "maxBackoffDuration": "600s"},
        "attemptDeadline": "180s",
    }


def _scheduled(job: Any) -> Scheduled:
    from google.cloud import scheduler_v1

    try:
        launched = json.loads(job.http_target.body)["launchParameter"]
        output, job_name = launched["parameters"]["output"], launched["jobName"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--schedule {job.name.rpartition('/')[2]} launches no job of Relume's") from error
    return Scheduled(
        name=job.name,
        state=scheduler_v1.Job.State(job.state).name.lower(),
        cron=job.schedule,
        time_zone=job.time_zone,
        next=_time(job.schedule_time),
        last=_time(job.last_attempt_time),
        code=job.status.code,
        message=job.status.message,
        output=output,
        job_name=job_name,
    )


def _time(stamp: Any) -> datetime.datetime | None:
    return None if stamp is None else datetime.datetime.fromtimestamp(stamp.timestamp(), datetime.UTC)
