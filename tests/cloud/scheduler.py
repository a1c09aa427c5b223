"""Cloud Scheduler on loopback: keeps jobs as the real one does, and carries out their calls when told to.

Tests get one from the fixture `scheduler`; the real client reaches it like this:

    CloudSchedulerClient(transport="rest", client_options={"api_endpoint": scheduler.url})
"""

from __future__ import annotations

import dataclasses
import datetime
import re
import zoneinfo
from typing import Any
from urllib.parse import urlsplit

from google.cloud import scheduler_v1 as v1
from google.protobuf import json_format
from google.rpc import code_pb2, status_pb2

from tests.cloud.dataflow import DataflowTwin, stamp
from tests.cloud.messages import Answer, Call
from tests.cloud.rest import STATUSES, RestError, RestTwin, json_answer, page, plain, read, rest, shown

JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,500}")
# Minutes, hours, days of a month, months, days of a week: numbers, ranges, steps, lists, and names of months and days.
FIELD = r"(\*|[0-9]+(-[0-9]+)?|[A-Z]{3}(-[A-Z]{3})?)(/[0-9]+)?"
CRON = re.compile(rf"{FIELD}(,{FIELD})*( +{FIELD}(,{FIELD})*){{4}}", re.IGNORECASE)
DATAFLOW = "dataflow.googleapis.com"
PLACE = "/v1/projects/{project}/locations/{region}/jobs"


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One call that a job made.

    Attributes:
        job: its whole name.
        status: what was answered.
        body: the JSON that was answered.
    """

    job: str
    status: int
    body: dict[str, Any]


class SchedulerTwin(RestTwin):
    """The service: started when made, stopped by `stop` or at the end of a `with` block; no clock runs in it.

    Args:
        dataflow: what answers calls to Dataflow.

    Attributes:
        attempts: the calls that jobs made, when they were told to run.
    """

    def __init__(self, dataflow: DataflowTwin) -> None:
        self.dataflow = dataflow
        self.attempts: list[Attempt] = []
        self._jobs: dict[str, v1.Job] = {}
        super().__init__("scheduler-twin")

    @property
    def jobs(self) -> dict[str, dict[str, Any]]:
        """All jobs by their whole names, as the reference of the REST API shows them."""
        with self.lock:
            return {name: plain(job) for name, job in self._jobs.items()}

    def comes_next(self, name: str, at: datetime.datetime) -> None:
        """Sets what the service says of a job's next time, which it would count from its schedule."""
        with self.lock:
            json_format.ParseDict(stamp(at), v1.Job.pb(self._jobs[name]).schedule_time)

    @rest("POST", PLACE)
    def create_job(self, call: Call, project: str, region: str) -> Answer:
        job = read(call, v1.Job)
        parent = f"projects/{project}/locations/{region}/jobs/"
        if not (job.name.startswith(parent) and JOB_ID.fullmatch(job.name.removeprefix(parent))):
            raise RestError(400, f"Job name must be formatted: {parent}<JOB_ID>, got {job.name!r}.")
        if job.name in self._jobs:
            raise RestError(409, f"Job {job.name} already exists.")
        self._jobs[job.name] = checked(job)
        job.state = v1.Job.State.ENABLED
        return shown(call, job)

    @rest("GET", PLACE, "pageSize", "pageToken")
    def list_jobs(self, call: Call, project: str, region: str) -> Answer:
        parent = f"projects/{project}/locations/{region}/jobs/"
        here, token = page(call, [job for name, job in sorted(self._jobs.items()) if name.startswith(parent)])
        return shown(call, v1.ListJobsResponse(jobs=list(here), next_page_token=token))

    @rest("GET", PLACE + "/{job}")
    def get_job(self, call: Call, **path: str) -> Answer:
        return shown(call, self._find_job(**path))

    @rest("DELETE", PLACE + "/{job}")
    def delete_job(self, call: Call, **path: str) -> Answer:
        del self._jobs[self._find_job(**path).name]
        return json_answer({})

    @rest("PATCH", PLACE + "/{job}", "updateMask")
    def update_job(self, call: Call, **path: str) -> Answer:
        found, wanted = self._find_job(**path), read(call, v1.Job)
        mask = call.query.get("updateMask")
        if not mask:
            changed = wanted
        else:
            changed = v1.Job(found)
            for field in (re.sub(r"(?<!^)(?=[A-Z])", "_", one).lower() for one in mask.split(",")):
                if "." in field or field not in v1.Job.meta.fields:
                    raise RestError(400, f"Invalid update mask field {field!r}.")
                setattr(changed, field, getattr(wanted, field))
        changed.name, changed.state = found.name, found.state
        self._jobs[found.name] = checked(changed)
        return shown(call, changed)

    @rest("POST", PLACE + "/{job}:pause")
    def pause_job(self, call: Call, **path: str) -> Answer:
        found = self._find_job(**path)
        found.state = v1.Job.State.PAUSED
        return shown(call, found)

    @rest("POST", PLACE + "/{job}:resume")
    def resume_job(self, call: Call, **path: str) -> Answer:
        found = self._find_job(**path)
        found.state = v1.Job.State.ENABLED
        return shown(call, found)

    @rest("POST", PLACE + "/{job}:run")
    def run_job(self, call: Call, **path: str) -> Answer:
        found = self._find_job(**path)
        answer = self._call(found)
        self.attempts.append(Attempt(found.name, answer.status, Call("", "", {}, answer.body).json()))
        json_format.ParseDict(stamp(datetime.datetime.now(datetime.UTC)), v1.Job.pb(found).last_attempt_time)
        code = 0 if answer.status == 200 else code_pb2.Code.Value(STATUSES[answer.status])
        v1.Job.pb(found).status.CopyFrom(status_pb2.Status(code=code))
        return shown(call, found)

    def _call(self, job: v1.Job) -> Answer:
        """Does what the job is for: a call to Dataflow, with a token of the job's service account."""
        target, where = job.http_target, urlsplit(job.http_target.uri)
        if (where.scheme, where.netloc) != ("https", DATAFLOW):
            return RestError(501, f"The twin calls https://{DATAFLOW} only, got {target.uri}").answer()
        if not target.oauth_token.service_account_email:
            return RestError(401, "Request is missing required authentication credential.").answer()
        path = where.path + (f"?{where.query}" if where.query else "")
        return self.dataflow.respond(Call(v1.HttpMethod(target.http_method).name, path, {}, target.body))

    def _find_job(self, project: str, region: str, job: str) -> v1.Job:
        found = self._jobs.get(f"projects/{project}/locations/{region}/jobs/{job}")
        if found is None:
            raise RestError(404, "Job not found.")
        return found


def checked(job: v1.Job) -> v1.Job:
    """Refuses a job that the service would not keep; gives it back."""
    if not CRON.fullmatch(job.schedule):
        raise RestError(400, f"Schedule or time zone is invalid: {job.schedule!r}.")
    try:
        zoneinfo.ZoneInfo(job.time_zone or "Etc/UTC")
    except (ValueError, zoneinfo.ZoneInfoNotFoundError) as error:
        raise RestError(400, f"Schedule or time zone is invalid: {job.time_zone!r}.") from error
    if not urlsplit(job.http_target.uri).scheme:
        raise RestError(400, "The job must have an HTTP target with an absolute address.")
    if job.http_target.oauth_token.service_account_email and not urlsplit(job.http_target.uri).netloc.endswith(
        ".googleapis.com"
    ):
        raise RestError(400, "An OAuth token goes to *.googleapis.com only.")
    return job
