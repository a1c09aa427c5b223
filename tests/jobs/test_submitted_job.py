"""The real restore job as Dataflow is sent it, and the whole way of it: template, launcher, job, workers, bucket."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from apache_beam.portability.common_urns import resource_hints
from apache_beam.runners.portability.fn_api_runner import translations
from PIL import Image as PilImage

from jobs import launch, restore, template, verify
from pipeline.production.profiles import PROFILES
from tests.cloud.dataflow import REGION, DataflowJob, DataflowTwin
from tests.cloud.gcs import GcsTwin
from tests.cloud.running import run_submitted

ROOT = Path(__file__).parents[2]
IMAGE = "europe-docker.pkg.dev/twin/images/relume:0.1.0"
FLAGS = ["--input=gs://photos/a", "--output=gs://restored/a", "--run_id=night1"]
STEPS = ("InTime", "Hold", "Read", "Large", "Decode", "Restore", "Encode", "Judge", "Write", "WriteKept")


@pytest.fixture
def photos(gcs: GcsTwin) -> GcsTwin:
    """A bucket with a photograph under an odd name and a file that is none, one for the output, one for jobs."""
    for bucket in ("photos", "restored", "jobs"):
        gcs.create_bucket(bucket)
    sources = sorted((ROOT / "samples" / "archive").rglob("*.jpg"), key=lambda path: path.stat().st_size)
    gcs.put("photos", "a/1998/Zoë #1.jpg", sources[1].read_bytes())
    gcs.put("photos", "a/slide.jpg", sources[0].read_bytes())
    return gcs


def bracket(proto: Any) -> dict[str, Any]:
    """The transforms of the bracket that do something, by name: what an image goes through on one worker."""
    return {
        transform.unique_name.partition("/Each/")[2]: transform
        for transform in proto.components.transforms.values()
        if "/Each/" in transform.unique_name and not transform.subtransforms
    }


def stages_of_bracket(proto: Any) -> list[set[str]]:
    """Fuses a pipeline as runners do, and gives the steps of the bracket in each stage that has any."""
    _, stages = translations.create_and_optimize_stages(
        proto, translations.standard_optimize_phases(), frozenset(), use_state_iterables=True
    )
    found = []
    for stage in stages:
        names = [transform.unique_name.partition("/Each/")[2] for transform in stage.transforms]
        if steps := {name.partition("/")[0] for name in names if name} & {*STEPS}:
            found.append(steps)
    return found


def pool_of(job: DataflowJob) -> dict[str, Any]:
    (pool,) = job.json["environment"]["workerPools"]
    assert isinstance(pool, dict)
    return pool


def test_a_job_that_is_submitted_directly_asks_for_its_workers_where_dataflow_looks(
    photos: GcsTwin, dataflow: DataflowTwin, capsys: pytest.CaptureFixture[str]
) -> None:
    hints = ["--accelerator_hint=type:nvidia-l4;count:1", "--min_ram_hint=16GB"]
    beam_flags = [
        "--runner=DataflowRunner",
        "--no_wait_until_finish",
        "--job_name=nightly",
        "--temp_location=gs://jobs/temp",
        f"--sdk_container_image={IMAGE}",
        "--dataflow_service_options=worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver:5xx",
        "--experiments=no_use_multiple_sdk_containers",
        "--machine_type=g2-standard-4",
        "--disk_size_gb=100",
        "--num_workers=1",
        "--max_num_workers=8",
        "--number_of_worker_harness_threads=2",
        "--service_account_email=worker@twin.iam.gserviceaccount.com",
        "--subnetwork=regions/us-central1/subnetworks/private",
        "--no_use_public_ips",
        "--dataflow_kms_key=projects/twin/locations/us-central1/keyRings/r/cryptoKeys/k",
        "--labels=team=archive",
        *dataflow.beam_flags(),
    ]

    code = restore.main([*FLAGS, *hints, *beam_flags])

    assert code == 0, capsys.readouterr().err
    (job,) = dataflow.jobs
    environment, pool = job.json["environment"], pool_of(job)
    assert (job.name, job.json["type"], job.json["labels"]) == ("nightly", "JOB_TYPE_BATCH", {"team": "archive"})
    assert environment["serviceOptions"] == ["worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver:5xx"]
    assert "no_use_multiple_sdk_containers" in environment["experiments"]
    assert environment["serviceAccountEmail"] == "worker@twin.iam.gserviceaccount.com"
    assert environment["serviceKmsKeyName"] == "projects/twin/locations/us-central1/keyRings/r/cryptoKeys/k"
    assert environment["tempStoragePrefix"].startswith("storage.googleapis.com/jobs/temp/nightly.")
    assert (pool["machineType"], pool["diskSizeGb"], pool["numThreadsPerWorker"]) == ("g2-standard-4", 100, 2)
    assert (pool["numWorkers"], pool["autoscalingSettings"]) == (1, {"maxNumWorkers": 8})
    assert pool["subnetwork"] == "regions/us-central1/subnetworks/private"
    assert pool["ipConfiguration"] == "WORKER_IP_PRIVATE"
    assert {image["containerImage"] for image in pool["sdkHarnessContainerImages"]} == {IMAGE}
    assert environment["sdkPipelineOptions"]["options"]["save_main_session"] is False

    proto = dataflow.pipeline(job)
    wanted = {
        resource_hints.ACCELERATOR.urn: b"type:nvidia-l4;count:1",
        resource_hints.MIN_RAM_BYTES.urn: b"16000000000",
    }
    asked = {
        transform.unique_name: dict(proto.components.environments[transform.environment_id].resource_hints)
        for transform in proto.components.transforms.values()
        if transform.environment_id
    }
    steps = bracket(proto)
    assert {name.partition("/")[0] for name in steps} >= {*STEPS}
    assert {name for name, hints_of_it in asked.items() if hints_of_it} == {name for name in asked if "/Each" in name}
    assert all(found in ({}, wanted) for found in asked.values())
    assert stages_of_bracket(proto) == [{*STEPS}]
    # What was staged is the pipeline and a list of what is installed here: the package itself is in the image.
    staged = {name.rpartition("/")[2] for name in photos.names("jobs")}
    assert staged == {"pipeline.pb", "submission_environment_dependencies.txt"}


@pytest.mark.slow
def test_a_launched_template_becomes_a_job_whose_workers_restore_into_the_bucket(
    photos: GcsTwin, dataflow: DataflowTwin, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert template.main(["--output", "gs://jobs/relume.json", "--image", IMAGE]) == 0
    wanted = ["--template=gs://jobs/relume.json", "--profile=cpu", "--labels=team=archive", "--job_name=nightly"]
    place = ["--project=some-project", f"--region={REGION}", f"--dataflow_endpoint={dataflow.url}"]
    assert launch.main([*wanted, *place, "--temp_location=gs://jobs/temp", *FLAGS]) == 0
    (job,) = dataflow.jobs

    # The launcher: the main program of the image, with the arguments that the service makes, and none of ours.
    assert restore.main(job.launcher_argv) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    dataflow.finish_launch(job)

    assert said["template"] == f"gs://jobs/temp/staging/template_launches/{job.id}/job_object"
    assert job.state == "QUEUED"
    assert job.json["labels"] == {"relume-version": "0-1-0", "team": "archive"}
    pool = pool_of(job)
    assert (pool["kind"], pool["workerHarnessContainerImage"]) == ("harness", IMAGE)
    assert pool["machineType"] == PROFILES["cpu"].machine_type
    assert "worker_accelerator" not in json.dumps(job.json["environment"])
    assert photos.names("restored") == [
        "a/_relume/lease/00000001.json",
        "a/_relume/recipe.json",
        "a/_relume/runs/night1/plan.json",
    ]

    # The workers: nothing but the proto goes from here to there.
    assert run_submitted(dataflow.pipeline(job), monkeypatch) == "DONE"

    written = photos.names("restored")
    assert [name for name in written if "/_relume/" not in name] == ["a/1998/Zoë #1.jpg"]
    with (
        PilImage.open(io.BytesIO(photos.content("restored", "a/1998/Zoë #1.jpg"))) as after,
        PilImage.open(io.BytesIO(photos.content("photos", "a/1998/Zoë #1.jpg"))) as before,
    ):
        assert (after.format, after.size) == ("JPEG", before.size)
    (receipt,) = (json.loads(photos.content("restored", name)) for name in written if "/receipts/" in name)
    assert (receipt["decision"], receipt["process"]["run"]) == ("restored", "night1")
    summary = json.loads(photos.content("restored", "a/_relume/runs/night1/summary.json"))
    assert (summary["inputs"], summary["accounted"]) == (2, True)
    assert {outcome: count for outcome, count in summary["counts"].items() if count} == {"restored": 1, "failed": 1}
    # Taken by the launcher, which is gone; renewed by the workers; released by the job at its end.
    lease = [json.loads(photos.content("restored", name)) for name in written if "/lease/" in name]
    assert {(one["run"], one["token"], one["process"]) for one in lease} == {("night1", lease[0]["token"], None)}
    assert [one["state"] for one in lease] == ["held", "held", "released"]
    tables = [re.sub(r"-\d+-of-\d+", "", name.rpartition("/")[2]) for name in written if "/runs/night1/" in name]
    assert tables == ["failures.jsonl", "images.parquet", "plan.json", "report.html", "summary.json"]
    assert all(len(photos.generations("restored", name)) == 1 for name in written)
    assert verify.main(["--output", "gs://restored/a"]) == 0
