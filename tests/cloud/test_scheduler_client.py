"""The loopback Cloud Scheduler as the real client sees it."""

from __future__ import annotations

import json

import pytest
from google.api_core import exceptions
from google.cloud import scheduler_v1 as v1

from tests.cloud.dataflow import REGION, DataflowTwin
from tests.cloud.gcs import GcsTwin
from tests.cloud.scheduler import SchedulerTwin

PARENT = f"projects/twin/locations/{REGION}"
NAME = f"{PARENT}/jobs/nightly"
LAUNCH = f"https://dataflow.googleapis.com/v1b3/{PARENT}/flexTemplates:launch"


@pytest.fixture
def client(scheduler: SchedulerTwin) -> v1.CloudSchedulerClient:
    return v1.CloudSchedulerClient(transport="rest", client_options={"api_endpoint": scheduler.url})


def job(changed: dict[str, object] | None = None, *, account: str = "night@twin.iam.gserviceaccount.com") -> v1.Job:
    parameters = {"input": "gs://archive/in"}
    body = {
        "launchParameter": {
            "jobName": "nightly",
            "containerSpecGcsPath": "gs://archive/relume.json",
            "parameters": parameters,
        }
    }
    target = {
        "uri": LAUNCH,
        "http_method": v1.HttpMethod.POST,
        "body": json.dumps(body).encode(),
        "oauth_token": {"service_account_email": account},
    }
    kept: dict[str, object] = {"name": NAME, "schedule": "0 3 * * 1-5", "time_zone": "Europe/Zurich"}
    return v1.Job({**kept, "http_target": target, **(changed or {})})


def test_a_job_is_made_once_shown_listed_changed_and_deleted(
    scheduler: SchedulerTwin, client: v1.CloudSchedulerClient
) -> None:
    assert client.create_job(parent=PARENT, job=job()).state is v1.Job.State.ENABLED
    with pytest.raises(exceptions.Conflict, match="already exists"):
        client.create_job(parent=PARENT, job=job())

    assert client.get_job(name=NAME).http_target.uri == LAUNCH
    assert [one.name for one in client.list_jobs(parent=PARENT)] == [NAME]
    changed = client.update_job(job=v1.Job(name=NAME, schedule="30 4 * * *"), update_mask={"paths": ["schedule"]})
    assert (changed.schedule, changed.time_zone) == ("30 4 * * *", "Europe/Zurich")
    assert scheduler.jobs[NAME]["schedule"] == "30 4 * * *"

    client.delete_job(name=NAME)
    for ask in (client.get_job, client.delete_job, client.run_job):
        with pytest.raises(exceptions.NotFound, match="Job not found"):
            ask(name=NAME)


def test_jobs_are_listed_page_by_page(client: v1.CloudSchedulerClient) -> None:
    names = [f"{PARENT}/jobs/night-{number}" for number in range(5)]
    for name in names:
        client.create_job(parent=PARENT, job=job({"name": name}))

    assert [one.name for one in client.list_jobs(request={"parent": PARENT, "page_size": 2})] == names


def test_a_job_is_paused_and_resumed(client: v1.CloudSchedulerClient) -> None:
    client.create_job(parent=PARENT, job=job())

    assert client.pause_job(name=NAME).state is v1.Job.State.PAUSED
    assert client.resume_job(name=NAME).state is v1.Job.State.ENABLED


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"schedule": "every night"}, "Schedule or time zone is invalid"),
        ({"schedule": "0 3 * *"}, "Schedule or time zone is invalid"),
        ({"time_zone": "Europe/Nowhere"}, "Schedule or time zone is invalid"),
        ({"name": f"{PARENT}/jobs/every night"}, "must be formatted"),
        ({"http_target": {"uri": "dataflow"}}, "absolute address"),
    ],
)
def test_a_job_that_cannot_be_is_refused(
    changed: dict[str, object], complaint: str, client: v1.CloudSchedulerClient, scheduler: SchedulerTwin
) -> None:
    with pytest.raises(exceptions.BadRequest, match=complaint):
        client.create_job(parent=PARENT, job=job(changed))

    assert scheduler.jobs == {}


def test_a_job_that_runs_launches_its_template(
    gcs: GcsTwin, dataflow: DataflowTwin, scheduler: SchedulerTwin, client: v1.CloudSchedulerClient
) -> None:
    gcs.create_bucket("archive")
    parameters = [{"name": "input", "label": "Input", "helpText": "The archive."}]
    spec = {"image": "i:1", "sdkInfo": {"language": "PYTHON"}, "metadata": {"name": "r", "parameters": parameters}}
    gcs.put("archive", "relume.json", json.dumps(spec).encode())
    client.create_job(parent=PARENT, job=job())

    first, second = client.run_job(name=NAME), client.run_job(name=NAME)

    assert [one.name for one in dataflow.jobs] == ["nightly"]
    assert [one.status for one in scheduler.attempts] == [200, 409]  # the first one is still active
    assert (first.status.code, second.status.code) == (0, 6)
    assert second.last_attempt_time >= first.last_attempt_time


def test_a_job_without_an_account_is_turned_away(
    dataflow: DataflowTwin, scheduler: SchedulerTwin, client: v1.CloudSchedulerClient
) -> None:
    client.create_job(parent=PARENT, job=job(account=""))

    assert client.run_job(name=NAME).status.code == 16
    assert [one.status for one in scheduler.attempts] == [401]
    assert dataflow.jobs == []
