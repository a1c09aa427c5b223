"""`relume schedule` against the loopback Cloud Scheduler, whose calls the loopback Dataflow takes."""

from __future__ import annotations

import base64
import datetime
import json
from typing import Any

import pytest
from google.cloud import scheduler_v1

from jobs import launch, schedule
from jobs import template as template_job
from pipeline.options import parse
from tests.cloud.dataflow import DataflowTwin
from tests.cloud.gcs import GcsTwin
from tests.cloud.scheduler import SchedulerTwin

IMAGE = "europe-docker.pkg.dev/some-project/images/relume:0.1.0"
SPEC = "gs://jobs/relume.json"
PLACE = ["--project=some-project", "--region=us-central1"]
NAME = "projects/some-project/locations/us-central1/jobs/relume-restore"
LAUNCH = [*PLACE, f"--template={SPEC}", "--input=gs://photos/a", "--output=gs://restored/a", "--labels=team=scans"]
NIGHT = "night@some-project.iam.gserviceaccount.com"
WHEN = [
    "--cron=0 2 * * *",
    "--time_zone=Europe/Berlin",
    "--scheduler_account=night@some-project.iam.gserviceaccount.com",
]
CREATE = ["create", *WHEN, *LAUNCH]


@pytest.fixture
def cloud(cloud_archive: GcsTwin, scheduler: SchedulerTwin) -> SchedulerTwin:
    """A project with an archive of one photograph, a bucket for the output, and a template."""
    assert template_job.main(["--output", SPEC, "--image", IMAGE]) == 0
    return scheduler


def run(cloud: SchedulerTwin, *arguments: str) -> int:
    return schedule.main([*arguments, f"--scheduler_endpoint={cloud.url}"])


def night_comes(cloud: SchedulerTwin) -> int:
    """Lets the schedule make its call; gives the status that it got."""
    client = scheduler_v1.CloudSchedulerClient(transport="rest", client_options={"api_endpoint": cloud.url})
    client.run_job(name=NAME)
    return cloud.attempts[-1].status


def last_line(text: str) -> dict[str, Any]:
    return json.loads(text.strip().splitlines()[-1])


def test_a_schedule_sends_what_a_launch_sends_but_for_what_is_the_nights_own(
    cloud: SchedulerTwin, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch.main([*LAUNCH, "--run_id=night", "--dry_run"]) == 0
    launched = last_line(capsys.readouterr().out)["request"]["launchParameter"]

    assert run(cloud, *CREATE) == 0

    told = last_line(capsys.readouterr().out)
    job = cloud.jobs[NAME]
    target = job["httpTarget"]
    body = json.loads(base64.b64decode(target["body"]))["launchParameter"]
    assert launched["parameters"].pop("run_id") == "night"
    assert launched["environment"].pop("sdkContainerImage") == IMAGE
    del launched["environment"]["additionalUserLabels"]["relume-version"]
    assert body == launched
    assert body["environment"]["additionalUserLabels"] == {"team": "scans"}
    assert target["uri"] == (
        "https://dataflow.googleapis.com/v1b3/projects/some-project/locations/us-central1/flexTemplates:launch"
    )
    assert target["oauthToken"]["serviceAccountEmail"] == NIGHT
    assert (job["schedule"], job["timeZone"]) == ("0 2 * * *", "Europe/Berlin")
    assert (told["state"], told["cron"], told["result"]) == ("enabled", "0 2 * * * Europe/Berlin", "none yet")


def test_each_night_has_a_run_of_its_own_and_no_two_are_at_work_at_once(
    cloud: SchedulerTwin, dataflow: DataflowTwin, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cloud, *CREATE) == 0
    assert night_comes(cloud) == 200
    cloud.comes_next(NAME, datetime.datetime(2026, 7, 2, 0, 0, tzinfo=datetime.UTC))
    assert run(cloud, "show", *PLACE) == 0
    shown = last_line(capsys.readouterr().out)
    assert (shown["result"], shown["next"], shown["code"]) == ("launched", "2026-07-02T00:00:00Z", 0)
    assert shown["last"].startswith("20")

    assert night_comes(cloud) == 409
    assert run(cloud, "show", *PLACE) == 0
    assert "not launched: a job relume-restore was still at work" in capsys.readouterr().out
    dataflow.jobs[0].enter("DONE")

    assert night_comes(cloud) == 200
    first, second = (parse(job.launcher_argv)[0] for job in dataflow.jobs)
    assert first.run_id != second.run_id
    assert (first.input, first.output) == ("gs://photos/a", "gs://restored/a")


def test_a_template_written_anew_is_what_the_next_night_runs(cloud: SchedulerTwin, dataflow: DataflowTwin) -> None:
    assert run(cloud, *CREATE) == 0
    assert template_job.main(["--output", SPEC, "--image", f"{IMAGE}-later", "--replace"]) == 0

    assert night_comes(cloud) == 200

    assert f"--sdk_container_image={IMAGE}-later" in dataflow.jobs[0].launcher_argv


def test_a_schedule_is_made_once_changed_when_told_to_and_deleted(
    cloud: SchedulerTwin, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cloud, *CREATE) == 0
    capsys.readouterr()

    assert run(cloud, *CREATE, "--cron=30 4 * * *") == 2
    assert "--schedule relume-restore is there already in us-central1: give --update" in capsys.readouterr().err
    assert cloud.jobs[NAME]["schedule"] == "0 2 * * *"

    assert run(cloud, *CREATE, "--cron=30 4 * * *", "--update") == 0
    assert cloud.jobs[NAME]["schedule"] == "30 4 * * *"
    assert run(cloud, *CREATE, "--schedule=weekly", "--schedule_region=europe-west1", "--update") == 0
    assert sorted(cloud.jobs) == ["projects/some-project/locations/europe-west1/jobs/weekly", NAME]

    assert run(cloud, "delete", *PLACE) == 0
    for action in ("show", "delete"):
        capsys.readouterr()
        assert run(cloud, action, *PLACE) == 2
        assert capsys.readouterr().err == (
            "relume schedule: --schedule relume-restore: there is none in some-project, us-central1; "
            "`relume schedule create` makes one\n"
        )


def test_a_dry_run_shows_the_job_and_makes_none(cloud: SchedulerTwin, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cloud, *CREATE, "--dry_run") == 0

    told = capsys.readouterr()
    assert "1 images: 1 to do" in told.err
    assert last_line(told.out)["job"]["schedule"] == "0 2 * * *"
    assert cloud.requests() == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing is no action: give create, show or delete"),
        (["crate", *WHEN], "crate is no action: give create, show or delete; did you mean create?"),
        ([*CREATE, "--cron=0 25 * * *"], "--cron: the hour must be in 0..23, got '25'"),
        ([*CREATE, "--time_zone=Berlin"], "--time_zone must be a name such as Europe/Berlin"),
        (["create", *WHEN[1:], *LAUNCH], "--cron CRON is needed"),
        (
            [*CREATE, "--scheduler_account=me"],
            "--scheduler_account must be NAME@PROJECT.iam.gserviceaccount.com, got me",
        ),
        ([*CREATE, "--schedule=every night"], "--schedule must be letters, digits, dashes and underscores"),
        (
            [*CREATE, "--schedule_region=here"],
            "--schedule_region must be a region such as europe-west4, not a zone, got here",
        ),
        ([*CREATE, "--run_id=night"], "--run_id must be left out of a schedule: each night has its own"),
        ([*CREATE, "--wait"], "--wait must be left out of a schedule: nobody is there to wait"),
        ([*CREATE, "--via=direct"], "--via must be template in a schedule"),
        ([*CREATE, "--job_name=Nightly"], "--job_name must be at most 63 small letters"),
        ([*CREATE, "--flexrs", "--profile=l4"], "--flexrs"),
        ([*CREATE, "--input=photos"], "--input must be gs://"),
        ([*CREATE, "--input=gs://photos/none"], "--input gs://photos/none holds no files"),
        ([*CREATE, "--template=gs://jobs/none.json"], "--template gs://jobs/none.json: no such object"),
        (["show", *PLACE, "--cron=0 2 * * *"], "--cron is no flag"),
        (["show", "--project=some-project"], "--region REGION is needed"),
        (["delete", "--project=12345", "--region=us-central1"], "--project must be a project's ID"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_asked_of_the_service(
    arguments: list[str], said: str, cloud: SchedulerTwin, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(cloud, *arguments) if arguments else schedule.main([])

    told = capsys.readouterr()
    assert code == 2
    assert told.err.startswith("relume schedule: ")
    assert said in told.err
    assert len(told.err.splitlines()) == 1
    assert cloud.requests() == []


def test_nights_that_would_cost_more_than_they_may_are_not_scheduled(
    cloud: SchedulerTwin, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cloud, *CREATE, "--max_cost=0.001") == 8

    assert capsys.readouterr().err.splitlines()[-1].startswith("relume schedule: --max_cost 0.001: 1 images are")
    assert cloud.requests() == []


def test_what_the_service_refuses_is_one_line_too(cloud: SchedulerTwin, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.refuse("create_job", 403, "The principal lacks cloudscheduler.jobs.create.")
    assert run(cloud, *CREATE) == 7
    assert "The principal lacks cloudscheduler.jobs.create." in capsys.readouterr().err

    cloud.refuse("create_job", 400, "Schedule or time zone is invalid.")
    assert run(cloud, *CREATE) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("relume schedule: --schedule relume-restore: Cloud Scheduler does not take it: ")
    assert line.endswith("Schedule or time zone is invalid.")


def test_a_schedule_of_somebody_else_is_not_shown_as_ours(
    cloud: SchedulerTwin, capsys: pytest.CaptureFixture[str]
) -> None:
    client = scheduler_v1.CloudSchedulerClient(transport="rest", client_options={"api_endpoint": cloud.url})
    target = scheduler_v1.HttpTarget(uri="https://example.com")
    job = scheduler_v1.Job(name=NAME, schedule="0 2 * * *", http_target=target)
    client.create_job(parent=NAME.rpartition("/jobs/")[0], job=job)

    assert run(cloud, "show", *PLACE) == 2
    assert "--schedule relume-restore launches no job of Relume's" in capsys.readouterr().err


@pytest.mark.parametrize("action", [None, *schedule.CONFIGS])
def test_the_help_of_each_action_fits_a_terminal(action: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert schedule.main([*([action] if action else []), "--help"]) == 0

    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert ("--cron" in text) == (action in (None, "create"))
