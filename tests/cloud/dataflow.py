"""The Dataflow service on loopback: takes jobs as the real one does, keeps what it was sent, and plays what follows.

Tests get one from the fixture `dataflow`; the real clients reach it like this:

    dataflow.script = Script(("PENDING", "RUNNING"))    # for jobs from now on; the default ends in DONE
    options = ["--runner=DataflowRunner", *dataflow.beam_flags(), "--temp_location=gs://archive/temp", ...]
    client = JobsV1Beta3Client(transport="rest", client_options={"api_endpoint": dataflow.url})
    dataflow.jobs[-1].json["environment"]["workerPools"]
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import random
import re
from typing import Any

from google.cloud import dataflow_v1beta3 as v1b3
from google.protobuf import json_format

from tests.cloud import flex
from tests.cloud.errors import ApiError
from tests.cloud.gcs import GcsTwin
from tests.cloud.messages import Answer, Call
from tests.cloud.rest import RestError, RestTwin, json_answer, page, plain, read, rest, shown
from tests.cloud.scripts import IMPORTANCES, TERMINAL, Message, Script, State
from tests.cloud.server import PROJECT

JOB_NAME = re.compile(r"[a-z]([-a-z0-9]{0,1022}[a-z0-9])?")
LABEL_KEY, LABEL_VALUE = re.compile(r"[a-z][a-z0-9_-]{0,62}"), re.compile(r"[a-z0-9_-]{0,63}")
REGION = "us-central1"
SUMMARY = ("id", "projectId", "name", "type", "currentState", "currentStateTime", "createTime", "startTime", "location")
JOBS = "/v1b3/projects/{project}/locations/{region}/jobs"


@dataclasses.dataclass
class DataflowJob:
    """One job as the service keeps it.

    Attributes:
        id, name, project, region: as in requests.
        json: the job that was submitted, as the reference of the REST API shows it: camel case, enums by name. Of a
            Flex Template it is empty until the launcher has run.
        client_request_id: what the submitter called it.
        script: what becomes of it.
        states: those that it was in so far and since when, the present one last.
        launch: the request of a Flex Template that it came from; else empty.
        launcher_argv: what the launcher runs the main program with; else empty.
    """

    id: str
    name: str
    project: str
    region: str
    json: dict[str, Any]
    client_request_id: str
    script: Script
    states: list[tuple[State, datetime.datetime]]
    launch: dict[str, Any] = dataclasses.field(default_factory=dict)
    launcher_argv: list[str] = dataclasses.field(default_factory=list)
    ahead: list[State] = dataclasses.field(default_factory=list)

    @property
    def state(self) -> State:
        """The present state."""
        return self.states[-1][0]

    @property
    def active(self) -> bool:
        """Whether it has not ended."""
        return self.state not in TERMINAL

    def enter(self, state: State) -> None:
        """Changes its state, now."""
        self.states.append((state, datetime.datetime.now(datetime.UTC)))

    def look(self) -> None:
        """Goes on by one state of the script."""
        if self.active and self.ahead:
            self.enter(self.ahead.pop(0))

    def messages(self) -> list[tuple[datetime.datetime, Message]]:
        """Gives the log so far."""
        said = []
        for state, since in self.states:
            lines = [Message(f"Job {self.id} is in state {state}.", "DETAILED", state)]
            lines += [one for one in self.script.messages if one.state == state]
            # Later lines are later: clients ask for what came after the last one that they have seen.
            said += [(since + datetime.timedelta(microseconds=n), line) for n, line in enumerate(lines)]
        return said

    def resource(self, *, whole: bool) -> v1b3.Job:
        """Gives what the service answers: the whole of it, or a summary without the environment."""
        (_, created), (state, since) = self.states[0], self.states[-1]
        value = {
            **self.json,
            "id": self.id,
            "projectId": self.project,
            "name": self.name,
            "type": "JOB_TYPE_BATCH",
            "location": self.region,
            "clientRequestId": self.client_request_id,
            "currentState": f"JOB_STATE_{state}",
            "currentStateTime": stamp(since),
            "createTime": stamp(created),
            "startTime": stamp(created),
        }
        if not whole:
            value = {key: value[key] for key in (*SUMMARY, "labels", "clientRequestId") if key in value}
        job = v1b3.Job()
        json_format.ParseDict(value, v1b3.Job.pb(job))
        return job


class DataflowTwin(RestTwin):
    """The service: started when made, stopped by `stop` or at the end of a `with` block.

    Args:
        gcs: where jobs stage their files and templates lie.

    Attributes:
        script: what becomes of jobs that are created from now on.
    """

    def __init__(self, gcs: GcsTwin) -> None:
        self.gcs = gcs
        self.script = Script()
        self._jobs: dict[str, DataflowJob] = {}
        super().__init__("dataflow-twin")

    @property
    def jobs(self) -> list[DataflowJob]:
        """All jobs, the oldest first."""
        with self.lock:
            return list(self._jobs.values())

    def beam_flags(self) -> list[str]:
        """Gives Beam's flags that lead to this service, with project and region."""
        return [f"--dataflow_endpoint={self.url}", "--no_auth", f"--project={PROJECT}", f"--region={REGION}"]

    def pipeline(self, job: DataflowJob) -> Any:
        """Reads the pipeline that a job was submitted with where it was staged: a `beam_runner_api_pb2.Pipeline`."""
        from apache_beam.portability.api import beam_runner_api_pb2

        url = job.json["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"]
        return beam_runner_api_pb2.Pipeline.FromString(self._staged(url))

    def finish_launch(self, job: DataflowJob) -> None:
        """Does what follows when the launcher of a Flex Template has ended: takes up the job that it has written.

        The launcher itself is played by the test, which calls the main program with `job.launcher_argv`. A job that
        was not written, or could not be started, has failed.
        """
        location, written = flex.template_location(job.launcher_argv), v1b3.Job()
        try:
            json_format.Parse(self._staged(location), v1b3.Job.pb(written))
            self._check(written)
        except (RestError, json_format.ParseError) as error:
            said = Message(f"Failed to read the job file : {location}: {error}", "ERROR", "FAILED")
            job.script = dataclasses.replace(job.script, messages=(said,))
            job.ahead.clear()
            job.enter("FAILED")
        else:
            job.json = plain(written)

    @rest("POST", JOBS, "view", "replaceJobId")
    def create_job(self, call: Call, project: str, region: str) -> Answer:
        submitted = read(call, v1b3.Job)
        self._check(submitted)
        if twin := self._active(project, region, submitted.name):
            # The caller finds out by comparing clientRequestId.
            return shown(call, twin.resource(whole=False))
        job = self._add(submitted.name, project, region, self.script.states, submitted.client_request_id)
        job.json = plain(submitted)
        return shown(call, job.resource(whole=True))

    @rest("GET", JOBS + "/{job}", "view")
    def get_job(self, call: Call, project: str, region: str, job: str) -> Answer:
        found = self._find_job(project, region, job)
        found.look()
        whole = call.query.get("view") in (str(int(v1b3.JobView.JOB_VIEW_ALL)), "JOB_VIEW_ALL")
        return shown(call, found.resource(whole=whole))

    @rest("PUT", JOBS + "/{job}", "updateMask")
    def update_job(self, call: Call, project: str, region: str, job: str) -> Answer:
        found, wanted = self._find_job(project, region, job), read(call, v1b3.Job).requested_state
        if wanted is not v1b3.JobState.JOB_STATE_CANCELLED:
            raise RestError(400, f"A batch job can be cancelled and no more, got {wanted.name}.")
        if not found.active:
            raise RestError(
                400,
                f"Job {job} has terminated in state {found.state.capitalize()} and cannot be modified.",
                "FAILED_PRECONDITION",
            )
        found.enter("CANCELLING")
        found.ahead[:] = ["CANCELLED"]
        return shown(call, found.resource(whole=False))

    @rest("GET", JOBS, "filter", "pageSize", "pageToken", "view", "name")
    @rest("GET", "/v1b3/projects/{project}/jobs:aggregated", "filter", "pageSize", "pageToken", "view", "name")
    def list_jobs(self, call: Call, project: str, region: str = "") -> Answer:
        chosen, name = call.query.get("filter", "0"), call.query.get("name")
        kinds = {one.name: one for one in v1b3.ListJobsRequest.Filter} | {
            str(int(one)): one for one in v1b3.ListJobsRequest.Filter
        }
        if chosen not in kinds:
            raise RestError(400, f"Invalid filter {chosen!r}.")
        wanted = {v1b3.ListJobsRequest.Filter.ACTIVE: (True,), v1b3.ListJobsRequest.Filter.TERMINATED: (False,)}
        found = [
            job
            for job in reversed(self.jobs)
            if job.project == project
            and region in ("", job.region)
            and name in (None, job.name)
            and job.active in wanted.get(kinds[chosen], (True, False))
        ]
        here, token = page(call, found)
        return shown(
            call, v1b3.ListJobsResponse(jobs=[job.resource(whole=False) for job in here], next_page_token=token)
        )

    @rest("GET", JOBS + "/{job}/messages", "minimumImportance", "pageSize", "pageToken", "startTime", "endTime")
    def list_job_messages(self, call: Call, project: str, region: str, job: str) -> Answer:
        found, query = self._find_job(project, region, job), call.query
        least = query.get("minimumImportance", "JOB_MESSAGE_BASIC")
        numbers = {str(int(one)): one.name for one in v1b3.JobMessageImportance}
        least = numbers.get(least, least).removeprefix("JOB_MESSAGE_")
        # Without a wish, the service leaves out what is for debugging.
        loud = IMPORTANCES[IMPORTANCES.index(least) :] if least in IMPORTANCES else IMPORTANCES[1:]
        began, ended = (
            query.get(key) and datetime.datetime.fromisoformat(query[key]) for key in ("startTime", "endTime")
        )
        lines = [
            {
                "id": f"msg-{number}",
                "time": stamp(when),
                "messageText": one.text,
                "messageImportance": f"JOB_MESSAGE_{one.importance}",
            }
            for number, (when, one) in enumerate(found.messages())
            if one.importance in loud and (not began or when >= began) and (not ended or when < ended)
        ]
        here, token = page(call, lines)
        answer = v1b3.ListJobMessagesResponse()
        json_format.ParseDict(
            {"jobMessages": list(here), "nextPageToken": token}, v1b3.ListJobMessagesResponse.pb(answer)
        )
        return shown(call, answer)

    @rest("GET", JOBS + "/{job}/metrics", "startTime")
    def get_job_metrics(self, call: Call, project: str, region: str, job: str) -> Answer:
        found = self._find_job(project, region, job)
        has_run = any(state == "RUNNING" for state, _ in found.states)
        now = stamp(datetime.datetime.now(datetime.UTC))
        metrics = [{**update, "updateTime": now} for one in found.script.metrics if has_run for update in one.updates()]
        return json_answer({"metricTime": now, "metrics": metrics})

    @rest("POST", "/v1b3/projects/{project}/locations/{region}/flexTemplates:launch")
    def launch_flex_template(self, call: Call, project: str, region: str) -> Answer:
        request = read(call, v1b3.LaunchFlexTemplateRequest)
        wanted = request.launch_parameter
        if not JOB_NAME.fullmatch(wanted.job_name):
            raise RestError(400, f"The job name must match {JOB_NAME.pattern}, got {wanted.job_name!r}.")
        check_labels(wanted.environment.additional_user_labels)
        spec = self._container_spec(wanted.container_spec_gcs_path)
        flex.check_parameters(spec, dict(wanted.parameters))
        if self._active(project, region, wanted.job_name):
            raise RestError(
                409,
                f"There is already an active job named {wanted.job_name}. If you want to submit a second job, try "
                "again by setting a different name.",
            )
        if request.validate_only:
            return shown(call, v1b3.LaunchFlexTemplateResponse())
        job = self._add(wanted.job_name, project, region, ("QUEUED", *self.script.states))
        bucket = f"dataflow-staging-{region}-1"
        with contextlib.suppress(ApiError):  # it is there from an earlier launch
            self.gcs.create_bucket(bucket)
        job.launch = plain(request)["launchParameter"]
        environment = flex.environment_of(spec, wanted.environment)
        staging = environment.staging_location or f"gs://{bucket}/staging"
        places = {
            "project": project,
            "region": region,
            "staging_location": staging,
            "temp_location": f"gs://{bucket}/tmp",
            "template_location": f"{staging}/template_launches/{job.id}/job_object",
        }
        job.launcher_argv = flex.launcher_argv(wanted, environment, places)
        return shown(call, v1b3.LaunchFlexTemplateResponse(job=job.resource(whole=False)))

    def _add(
        self, name: str, project: str, region: str, states: tuple[State, ...], client_request_id: str = ""
    ) -> DataflowJob:
        now = datetime.datetime.now(datetime.UTC)
        key = f"{now:%Y-%m-%d_%H_%M_%S}-{random.randrange(10**17, 10**18)}"
        job = DataflowJob(key, name, project, region, {}, client_request_id, self.script, [], ahead=[*states[1:]])
        job.enter(states[0])
        self._jobs[key] = job
        return job

    def _find_job(self, project: str, region: str, key: str) -> DataflowJob:
        job = self._jobs.get(key)
        if job is None or (job.project, job.region) != (project, region):
            raise RestError(404, f"Information about job {key} could not be found in our system. Please double check.")
        return job

    def _active(self, project: str, region: str, name: str) -> DataflowJob | None:
        same = (job for job in self.jobs if (job.project, job.region, job.name) == (project, region, name))
        return next((job for job in same if job.active), None)

    def _check(self, job: v1b3.Job) -> None:
        """Refuses a job that the service would not start."""
        if not JOB_NAME.fullmatch(job.name):
            raise RestError(400, f"The job name must match {JOB_NAME.pattern}, got {job.name!r}.")
        check_labels(job.labels)
        url = plain(job).get("environment", {}).get("sdkPipelineOptions", {}).get("options", {}).get("pipelineUrl", "")
        self._staged(url)

    def _staged(self, url: str) -> bytes:
        bucket, _, name = url.removeprefix("gs://").partition("/")
        if not (url.startswith("gs://") and name):
            raise RestError(400, f"A job's files must lie in Cloud Storage, got {url!r}.")
        try:
            return self.gcs.content(bucket, name)
        except ApiError as error:
            raise RestError(400, f"Unable to open template file: {url}.") from error

    def _container_spec(self, url: str) -> v1b3.ContainerSpec:
        spec = v1b3.ContainerSpec()
        try:
            json_format.Parse(self._staged(url), v1b3.ContainerSpec.pb(spec))
        except json_format.ParseError as error:
            raise RestError(400, f"Unable to parse template file {url}: {error}") from error
        return spec


def check_labels(labels: Any) -> None:
    """Refuses labels that Google Cloud does not allow."""
    if len(labels) > 64:
        raise RestError(400, f"A job has at most 64 labels, got {len(labels)}.")
    for key, value in labels.items():
        if not (LABEL_KEY.fullmatch(key) and LABEL_VALUE.fullmatch(value)):
            raise RestError(400, f"Invalid label {key}={value}: lower case letters, digits, - and _, 63 at most.")


def stamp(when: datetime.datetime) -> str:
    """Writes a time as JSON of protocol buffers has it."""
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
