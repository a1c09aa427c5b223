"""The loopback Dataflow as the real clients see it."""

from __future__ import annotations

import json

import pytest
from google.api_core import exceptions
from google.cloud import dataflow_v1beta3 as v1b3

from tests.cloud.dataflow import REGION, DataflowTwin
from tests.cloud.gcs import GcsTwin
from tests.cloud.scripts import Distribution, Message, Metric, Script, failing

PLACE = {"project_id": "twin", "location": REGION}
SPEC = {
    "image": "gcr.io/twin/relume:1",
    "sdkInfo": {"language": "PYTHON"},
    "defaultEnvironment": {
        "machineType": "n2-standard-4",
        "sdkContainerImage": "gcr.io/twin/relume:1",
        "additionalExperiments": ["use_runner_v2"],
        "additionalPipelineOptions": ["number_of_worker_harness_threads=2"],
        "additionalUserLabels": {"relume-version": "1"},
    },
    "metadata": {
        "name": "restore",
        "parameters": [
            {"name": "input", "label": "Input", "helpText": "The archive.", "regexes": ["gs://.+"]},
            {"name": "output", "label": "Output", "helpText": "The copy."},
            {
                "name": "format",
                "label": "Format",
                "helpText": "Of outputs.",
                "isOptional": True,
                "enumOptions": [{"value": "same"}, {"value": "png"}],
            },
        ],
    },
}


@pytest.fixture
def jobs(dataflow: DataflowTwin, gcs: GcsTwin) -> v1b3.JobsV1Beta3Client:
    gcs.create_bucket("archive")
    gcs.put("archive", "pipeline.pb", b"")
    return v1b3.JobsV1Beta3Client(transport="rest", client_options={"api_endpoint": dataflow.url})


@pytest.fixture
def templates(dataflow: DataflowTwin, gcs: GcsTwin) -> v1b3.FlexTemplatesServiceClient:
    gcs.create_bucket("archive")
    gcs.put("archive", "relume.json", json.dumps(SPEC).encode())
    return v1b3.FlexTemplatesServiceClient(transport="rest", client_options={"api_endpoint": dataflow.url})


def submit(jobs: v1b3.JobsV1Beta3Client, name: str = "nightly", request_id: str = "1") -> v1b3.Job:
    options = {"options": {"pipelineUrl": "gs://archive/pipeline.pb"}}
    job = v1b3.Job(name=name, client_request_id=request_id, environment={"sdk_pipeline_options": options})
    return jobs.create_job({**PLACE, "job": job})


def state_of(jobs: v1b3.JobsV1Beta3Client, job: v1b3.Job) -> str:
    return jobs.get_job({**PLACE, "job_id": job.id}).current_state.name.removeprefix("JOB_STATE_")


def launch(templates: v1b3.FlexTemplatesServiceClient, environment: object = None, **parameters: str) -> v1b3.Job:
    parameter = {
        "job_name": "nightly",
        "container_spec_gcs_path": "gs://archive/relume.json",
        "parameters": {"input": "gs://archive/in", "output": "gs://archive/out", **parameters},
        "environment": environment or {},
    }
    return templates.launch_flex_template({**PLACE, "launch_parameter": parameter}).job


def test_a_job_goes_through_the_states_of_its_script_and_stays_in_the_last(
    dataflow: DataflowTwin, jobs: v1b3.JobsV1Beta3Client
) -> None:
    job = submit(jobs)

    assert job.current_state is v1b3.JobState.JOB_STATE_PENDING
    assert [state_of(jobs, job) for _ in range(3)] == ["RUNNING", "DONE", "DONE"]
    assert [one.operation for one in dataflow.requests()] == ["create_job", *["get_job"] * 3]
    assert dataflow.jobs[0].json["environment"]["sdkPipelineOptions"]["options"] == {
        "pipelineUrl": "gs://archive/pipeline.pb"
    }


def test_a_name_that_is_taken_gives_the_active_job_until_it_has_ended(jobs: v1b3.JobsV1Beta3Client) -> None:
    first = submit(jobs)

    second = submit(jobs, request_id="2")

    assert (second.id, second.client_request_id) == (first.id, "1")
    assert [state_of(jobs, first) for _ in range(2)] == ["RUNNING", "DONE"]
    assert submit(jobs, request_id="3").id != first.id


def test_a_job_without_its_pipeline_or_with_labels_that_are_not_allowed_is_refused(
    gcs: GcsTwin, jobs: v1b3.JobsV1Beta3Client
) -> None:
    with pytest.raises(exceptions.BadRequest, match="Invalid label Night=1"):
        jobs.create_job({**PLACE, "job": v1b3.Job(name="a", labels={"Night": "1"})})
    gcs.remove("archive", "pipeline.pb")

    with pytest.raises(exceptions.BadRequest, match=r"Unable to open template file: gs://archive/pipeline\.pb"):
        submit(jobs)
    with pytest.raises(exceptions.BadRequest, match="job name must match"):
        submit(jobs, name="Nightly Run")


def test_a_job_is_cancelled_once_and_is_found_nowhere_else(
    dataflow: DataflowTwin, jobs: v1b3.JobsV1Beta3Client
) -> None:
    dataflow.script = Script(("PENDING", "RUNNING"))
    job = submit(jobs)
    cancel = {**PLACE, "job_id": job.id, "job": v1b3.Job(requested_state=v1b3.JobState.JOB_STATE_CANCELLED)}

    assert jobs.update_job(cancel).current_state is v1b3.JobState.JOB_STATE_CANCELLING
    assert state_of(jobs, job) == "CANCELLED"

    with pytest.raises(exceptions.BadRequest, match="has terminated in state Cancelled"):
        jobs.update_job(cancel)
    with pytest.raises(exceptions.NotFound, match="could not be found"):
        jobs.get_job({**PLACE, "job_id": job.id, "location": "europe-west1"})


def test_jobs_are_listed_newest_first_by_name_by_kind_and_page_by_page(jobs: v1b3.JobsV1Beta3Client) -> None:
    names = [f"night-{number}" for number in range(7)]
    made = [submit(jobs, name) for name in names]
    [state_of(jobs, made[0]) for _ in range(2)]
    kinds = v1b3.ListJobsRequest.Filter

    def listed(**how: object) -> list[str]:
        return [job.name for job in jobs.list_jobs({**PLACE, **how})]

    assert listed(page_size=3) == names[::-1]
    assert listed(filter=kinds.TERMINATED) == ["night-0"]
    assert listed(filter=kinds.ACTIVE) == names[:0:-1]
    assert listed(name="night-4") == ["night-4"]


def test_only_the_whole_view_shows_the_environment(jobs: v1b3.JobsV1Beta3Client) -> None:
    job = submit(jobs)

    assert not jobs.get_job({**PLACE, "job_id": job.id}).environment
    assert jobs.get_job({**PLACE, "job_id": job.id, "view": v1b3.JobView.JOB_VIEW_ALL}).environment


def test_messages_come_with_their_states_from_an_importance_on_and_after_a_time(
    dataflow: DataflowTwin, jobs: v1b3.JobsV1Beta3Client
) -> None:
    dataflow.script = failing("Out of quota.")
    client = v1b3.MessagesV1Beta3Client(transport="rest", client_options={"api_endpoint": dataflow.url})
    job = submit(jobs)
    least = v1b3.JobMessageImportance

    def said(importance: v1b3.JobMessageImportance, **how: object) -> list[v1b3.JobMessage]:
        request = {**PLACE, "job_id": job.id, "minimum_importance": importance, "page_size": 2, **how}
        return list(client.list_job_messages(request))

    assert said(least.JOB_MESSAGE_ERROR) == []
    [state_of(jobs, job) for _ in range(2)]
    lines = said(least.JOB_MESSAGE_DETAILED)

    assert [line.message_text for line in said(least.JOB_MESSAGE_ERROR)] == ["Out of quota."]
    assert [line.message_text.rpartition(" ")[2] for line in lines] == ["PENDING.", "RUNNING.", "FAILED.", "quota."]
    assert said(least.JOB_MESSAGE_DETAILED, start_time=lines[2].time) == lines[2:]


def test_metrics_appear_when_the_job_runs_tentative_and_committed(
    dataflow: DataflowTwin, jobs: v1b3.JobsV1Beta3Client
) -> None:
    pixels = Metric("pixels", 1_000_000, "restore", "s1")
    batches = Metric("batch_ms", Distribution(count=4, sum=200, min=20, max=90), "restore")
    dataflow.script = Script(metrics=(pixels, batches, Metric("TotalVcpuTime", 12)))
    client = v1b3.MetricsV1Beta3Client(transport="rest", client_options={"api_endpoint": dataflow.url})
    job = submit(jobs)

    before = client.get_job_metrics({**PLACE, "job_id": job.id}).metrics
    state_of(jobs, job)
    after = client.get_job_metrics({**PLACE, "job_id": job.id}).metrics

    assert not before
    assert [(one.name.origin, one.name.name, one.name.context.get("tentative")) for one in after] == [
        (origin, name, tentative)
        for origin, name in (("user", "pixels"), ("user", "batch_ms"), ("dataflow/v1b3", "TotalVcpuTime"))
        for tentative in ("true", None)
    ]
    assert after[0].scalar == 1_000_000
    assert dict(after[0].name.context) == {"namespace": "restore", "step": "s1", "tentative": "true"}
    assert dict(after[3].distribution) == {"count": 4, "sum": 200, "min": 20, "max": 90, "mean": 50}


def test_a_refusal_is_played_once_and_a_client_that_tries_again_gets_through(
    dataflow: DataflowTwin, jobs: v1b3.JobsV1Beta3Client
) -> None:
    dataflow.refuse("create_job", 403, "Permission 'dataflow.jobs.create' denied.")

    with pytest.raises(exceptions.Forbidden, match=r"dataflow\.jobs\.create"):
        submit(jobs)
    assert submit(jobs).id
    with pytest.raises(ValueError, match="operation must be one of"):
        dataflow.refuse("create_jbo", 403, "")


def test_a_launched_template_waits_for_its_launcher_whose_flags_are_sorted(
    dataflow: DataflowTwin, templates: v1b3.FlexTemplatesServiceClient
) -> None:
    environment = {
        "machine_type": "g2-standard-4",
        "max_workers": 3,
        "additional_experiments": ["worker_accelerator=type:nvidia-l4;count:1"],
        "additional_user_labels": {"team": "archive"},
        "ip_configuration": v1b3.WorkerIPAddressConfiguration.WORKER_IP_PRIVATE,
        "flexrs_goal": v1b3.FlexResourceSchedulingGoal.FLEXRS_SPEED_OPTIMIZED,
    }

    job = launch(templates, environment, format="png")

    assert job.current_state is v1b3.JobState.JOB_STATE_QUEUED
    kept = dataflow.jobs[0]
    assert kept.launch["environment"]["machineType"] == "g2-standard-4"
    bucket = "gs://dataflow-staging-us-central1-1"
    assert kept.launcher_argv == [
        "--experiments=use_runner_v2,worker_accelerator=type:nvidia-l4;count:1",
        "--flexrs_goal=SPEED_OPTIMIZED",
        "--format=png",
        "--input=gs://archive/in",
        "--job_name=nightly",
        '--labels={"relume-version": "1", "team": "archive"}',
        "--machine_type=g2-standard-4",
        "--max_num_workers=3",
        "--no_use_public_ips",
        "--number_of_worker_harness_threads=2",
        "--output=gs://archive/out",
        "--project=twin",
        "--region=us-central1",
        "--runner=DataflowRunner",
        "--sdk_container_image=gcr.io/twin/relume:1",
        f"--staging_location={bucket}/staging",
        f"--temp_location={bucket}/tmp",
        f"--template_location={bucket}/staging/template_launches/{job.id}/job_object",
    ]


def test_a_launcher_that_leaves_no_job_lets_the_launch_fail(
    dataflow: DataflowTwin, templates: v1b3.FlexTemplatesServiceClient
) -> None:
    launch(templates)

    dataflow.finish_launch(dataflow.jobs[0])

    assert dataflow.jobs[0].state == "FAILED"
    assert "Failed to read the job file" in dataflow.jobs[0].messages()[-1][1].text


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"strenght": "1"}, "strenght: Unrecognized parameter"),
        ({"input": "/data"}, "input: Unmatched pattern"),
        ({"format": "gif"}, "format: must be one of same, png"),
        ({"region": "us-east1"}, "region: Set by the launcher"),
    ],
)
def test_parameters_are_held_against_the_metadata_of_the_template(
    given: dict[str, str], complaint: str, templates: v1b3.FlexTemplatesServiceClient, dataflow: DataflowTwin
) -> None:
    with pytest.raises(exceptions.BadRequest, match=complaint):
        launch(templates, **given)

    assert dataflow.jobs == []


def test_a_template_that_is_missing_and_a_name_that_is_taken_are_refused(
    gcs: GcsTwin, templates: v1b3.FlexTemplatesServiceClient
) -> None:
    launch(templates)

    with pytest.raises(exceptions.Conflict, match="already an active job named nightly"):
        launch(templates)
    gcs.remove("archive", "relume.json")
    with pytest.raises(exceptions.BadRequest, match="Unable to open template file"):
        launch(templates)


def test_what_a_script_cannot_mean_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing after it"):
        Script(("DONE", "RUNNING"))
    with pytest.raises(ValueError, match="must be one of QUEUED"):
        Script(("WAITING",))  # type: ignore[arg-type]
    assert Message("a").importance == "BASIC"
