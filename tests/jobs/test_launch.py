"""`relume launch` against the loopback Dataflow: what is refused, what is sent, and how a followed job ends."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import pipeline
from jobs import launch, restore
from jobs import template as template_job
from model.contract import built_in
from pipeline.elements import ImageRef, Row
from pipeline.flags import UsageError, options_of
from pipeline.production import launching
from pipeline.recording import RunInfo, WriteReport
from tests.cloud.dataflow import DataflowTwin
from tests.cloud.gcs import GcsTwin
from tests.cloud.scripts import Script, failing

IMAGE = "europe-docker.pkg.dev/some-project/images/relume:0.1.0"
SPEC = "gs://jobs/relume.json"
JOB = ["--input=gs://photos/a", "--output=gs://restored/a", "--run_id=night1"]
PLACE = ["--project=some-project", "--region=us-central1"]
BY_TEMPLATE = [*PLACE, *JOB, f"--template={SPEC}"]
DIRECTLY = [*PLACE, *JOB, "--via=direct", f"--image={IMAGE}", "--temp_location=gs://jobs/temp"]
L4 = "type:nvidia-l4;count:1;install-nvidia-driver:5xx"


@pytest.fixture
def cloud(cloud_archive: GcsTwin, dataflow: DataflowTwin) -> DataflowTwin:
    """A project with an archive of one photograph, a bucket for the output, and a template."""
    assert template_job.main(["--output", SPEC, "--image", IMAGE]) == 0
    return dataflow


def launched(cloud: DataflowTwin, arguments: Sequence[str]) -> int:
    return launch.main([*arguments, f"--dataflow_endpoint={cloud.url}", "--poll_seconds=0.01"])


def last_line(text: str) -> dict[str, Any]:
    return json.loads(text.strip().splitlines()[-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (PLACE, "--input DIR is needed: the archive: a folder, or gs://BUCKET/PREFIX. Only read"),
        ([*JOB, "--region=us-central1"], "--project ID is needed: the project that runs the job and pays for it"),
        ([*BY_TEMPLATE, "--max_worker=3"], "--max_worker is no flag; did you mean --max_num_workers?"),
        ([*BY_TEMPLATE, "--project=12345"], "--project must be a project's ID, not its number or title, got 12345"),
        (
            [*BY_TEMPLATE, "--region=us-central1-a"],
            "--region must be a region such as europe-west4, not a zone, got us-central1-a",
        ),
        (
            [*BY_TEMPLATE, "--job_name=Nightly"],
            "--job_name must be at most 63 small letters, digits and dashes, the first a letter, got Nightly",
        ),
        ([*BY_TEMPLATE, "--template=relume.json"], "--template must be gs://BUCKET/NAME, got relume.json"),
        ([*DIRECTLY, "--temp_location=/tmp"], "--temp_location must be gs://BUCKET/PREFIX, got /tmp"),
        ([*BY_TEMPLATE, "--profile=l5"], "--profile must be one of cpu, t4, l4, a100, got l5"),
        ([*BY_TEMPLATE, "--num_workers=0"], "--num_workers must be a whole number in 1..1000, got 0"),
        ([*BY_TEMPLATE, "--num_workers=two"], "--num_workers must be a whole number in 1..1000, got two"),
        ([*BY_TEMPLATE, "--num_workers=11"], "--num_workers must be at most --max_num_workers 10, got 11"),
        ([*BY_TEMPLATE, "--disk_size_gb=5"], "--disk_size_gb must be a whole number in 30..65536, got 5"),
        (
            [*BY_TEMPLATE, "--service_account_email=me@example.com"],
            "--service_account_email must be NAME@PROJECT.iam.gserviceaccount.com, got me@example.com",
        ),
        (
            [*BY_TEMPLATE, "--subnetwork=default"],
            "--subnetwork must be regions/REGION/subnetworks/NAME, got default",
        ),
        (
            [*BY_TEMPLATE, "--subnetwork=regions/europe-west4/subnetworks/default"],
            "--subnetwork must be in --region us-central1, got regions/europe-west4/subnetworks/default",
        ),
        (
            [*BY_TEMPLATE, "--dataflow_kms_key=projects/p/locations/global/keyRings/r/cryptoKeys/k"],
            "--dataflow_kms_key must be in --region us-central1, "
            "got projects/p/locations/global/keyRings/r/cryptoKeys/k",
        ),
        (
            [*BY_TEMPLATE, "--labels=Team=archive"],
            "--labels must be KEY=VALUE of small letters, digits, - and _, 63 at most, the first a letter, "
            "got Team=archive",
        ),
        (
            [*BY_TEMPLATE, "--labels=team=a", "--labels=team=b"],
            "--labels must name a key once, and relume-version is set already, got team",
        ),
        ([*BY_TEMPLATE, "--dataflow_endpoint=localhost"], "--dataflow_endpoint must be https://HOST, got localhost"),
        (
            [*PLACE, *JOB],
            "--template gs://... is needed; `relume template` writes one, --via direct needs none",
        ),
        (
            [*BY_TEMPLATE, f"--image={IMAGE}"],
            f"--image is the template's own with --via template: leave it out, got {IMAGE}",
        ),
        (
            [*DIRECTLY, f"--template={SPEC}"],
            f"--template is not used with --via direct: leave one of them out, got {SPEC}",
        ),
        (DIRECTLY[:6], "--image HOST/PATH:TAG is needed with --via direct: the workers' image"),
        (DIRECTLY[:7], "--temp_location gs://... is needed with --via direct: where the job's own files go"),
        (
            [*BY_TEMPLATE, "--input=photos"],
            "--input must be gs://BUCKET/... for a job on Dataflow, whose workers cannot reach this machine, "
            "got photos",
        ),
        (
            [*BY_TEMPLATE, "--profile=l4", "--flexrs"],
            f"--flexrs cannot be had with GPUs: leave it out, or take --profile cpu, got {L4}",
        ),
        (
            [*BY_TEMPLATE, "--profile=l4", "--machine_type=n1-standard-8"],
            "--machine_type must be of family g2 for nvidia-l4, got n1-standard-8",
        ),
        (
            [*BY_TEMPLATE, "--machine_type=g2-standard-8"],
            "--machine_type g2-standard-8 has GPUs: give --accelerator, or the profile that has that machine",
        ),
        (
            [*BY_TEMPLATE, "--profile=l4", "--accelerator=type:nvidia-l4;count:1"],
            "--accelerator must end in ;install-nvidia-driver:5xx: workers have no driver, "
            "got type:nvidia-l4;count:1",
        ),
        (
            [*BY_TEMPLATE, "--profile=l4", "--accelerator=type:nvidia-l4;count:1;install-nvidia-driver:470.82"],
            "--accelerator must ask for driver 525 or newer, as in install-nvidia-driver:5xx, for nvidia-l4 and "
            "TensorFlow's CUDA, got type:nvidia-l4;count:1;install-nvidia-driver:470.82",
        ),
        (
            [
                *BY_TEMPLATE,
                "--profile=l4",
                f"--accelerator={L4};use_nvidia_mps",
                "--experiments=no_use_multiple_sdk_containers",
            ],
            "no_use_multiple_sdk_containers cannot be had with use_nvidia_mps, which is for several processes",
        ),
        (
            [*BY_TEMPLATE, "--profile=l4", "--experiments=enable_secure_boot"],
            f"enable_secure_boot can keep NVIDIA's driver from loading: leave it out with a GPU, got {L4}",
        ),
        (
            [*BY_TEMPLATE, f"--experiments=worker_accelerator={L4}"],
            f"--accelerator is the flag for worker_accelerator={L4}: launches put it where each way wants it",
        ),
        (
            [*BY_TEMPLATE, "--accelerator=l4"],
            "--accelerator must be type:KIND;count:N;install-nvidia-driver:5xx, got l4",
        ),
        (
            [*BY_TEMPLATE, "--accelerator=type:nvidia-h9;count:1;install-nvidia-driver:5xx"],
            "--accelerator: an accelerator must be type:KIND;count:N with KIND of nvidia-tesla-t4, nvidia-l4, "
            "nvidia-tesla-a100, got type:nvidia-h9;count:1;install-nvidia-driver:5xx",
        ),
        (
            [*BY_TEMPLATE, "--flexrs", "--max_minutes=60"],
            "--max_minutes must be more than 360 with --flexrs, which may begin as late as that, got 60",
        ),
        (
            [*BY_TEMPLATE, "--flexrs", "--profile=cpu", "--max_cost=5"],
            "--flexrs cannot be had with --max_cost, which counts from the launch on: workers may come hours later",
        ),
        (
            [*BY_TEMPLATE, "--max_cost=5", "--machine_type=n2-standard-64"],
            "--machine_type cannot be had with --max_cost: only a profile's own workers have a price",
        ),
        (
            [*BY_TEMPLATE, "--prices=ours.toml"],
            "--prices must be gs://BUCKET/NAME with --via template, whose launcher reads it too, got ours.toml",
        ),
        (
            [*BY_TEMPLATE, "--flexrs", "--min_ram_hint=16GB"],
            "--flexrs cannot be had with --min_ram_hint: Dataflow fits no workers to steps there",
        ),
        (
            [*BY_TEMPLATE, "--profile=l4", f"--accelerator_hint={L4}"],
            f"--accelerator_hint cannot be had with a GPU for every worker, got {L4}: take --profile cpu, or leave it "
            "out",
        ),
        (
            [*BY_TEMPLATE, "--require_gpu"],
            "--require_gpu would stop every worker of --profile cpu, which has no GPU",
        ),
        ([*BY_TEMPLATE, "--exclude=a\nb", "--strength=2"], "--strength must be a number in 0..1, got 2.0"),
    ],
)  # fmt: skip
def test_what_is_wrong_by_itself_is_told_in_one_line_and_no_service_is_asked(
    arguments: list[str], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        launch.parse(arguments)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--template=gs://jobs/other.json"], "--template gs://jobs/other.json: no such object"),
        (["--template=gs://jobs/old.json"], "is of version 0.0.9, this is"),
        (["--template=gs://jobs/t4.json"], "gives every worker type:nvidia-tesla-t4"),
        (["--template=gs://jobs/few.json", "--tolerate=3"], "has no parameter tolerate: write it anew"),
        (["--input=gs://nobodys/a"], "--input gs://nobodys/a: there is no bucket nobodys"),
        (["--input=gs://photos/z"], "--input gs://photos/z holds no files"),
        (["--model=gs://jobs/model"], "--model gs://jobs/model"),
        (["--model=gs://jobs/tampered"], "does not match its own digest"),
        (["--temp_location=gs://nobodys/t"], "--temp_location gs://nobodys/t: there is no bucket nobodys"),
        (["--output=gs://restored/other"], "was made with recipe 12ab"),
        (["--output=gs://photos/a/b"], "--output must lie outside --input"),
    ],
)
def test_what_only_the_cloud_knows_is_wrong_is_told_in_one_line_before_anything_is_created(
    cloud: DataflowTwin, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    gcs, spec = cloud.gcs, json.loads(cloud.gcs.content("jobs", "relume.json"))
    gcs.put("jobs", "old.json", json.dumps({**spec, "metadata": {**spec["metadata"], "name": "Relume 0.0.9"}}).encode())
    few = [one for one in spec["metadata"]["parameters"] if one["name"] != "tolerate"]
    gcs.put("jobs", "few.json", json.dumps({**spec, "metadata": {**spec["metadata"], "parameters": few}}).encode())
    template_job.main(["--output=gs://jobs/t4.json", "--image", IMAGE, "--profile=t4"])
    gcs.put("restored", "other/_relume/recipe.json", b'{"recipe": "12ab"}')
    contract = (built_in() / "model.json").read_bytes()
    gcs.put("jobs", "tampered/model.json", contract.replace(b'"jpeg"', b'"x2"', 1))
    capsys.readouterr()
    before = [gcs.names(bucket) for bucket in ("photos", "restored", "jobs")]

    code = launched(cloud, [*BY_TEMPLATE, *arguments])

    told = capsys.readouterr()
    assert (code, told.out) == (2, "")
    assert said in told.err
    assert len(told.err.strip().splitlines()) == 1
    assert [gcs.names(bucket) for bucket in ("photos", "restored", "jobs")] == before
    assert cloud.jobs == []


def test_a_template_is_launched_with_parameters_and_environment_and_nothing_is_concluded(
    cloud: DataflowTwin, capsys: pytest.CaptureFixture[str]
) -> None:
    account = "worker@some-project.iam.gserviceaccount.com"
    key = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
    net = "regions/us-central1/subnetworks/inner"
    wanted = ["--profile=l4", "--max_num_workers=4", "--temp_location=gs://jobs/temp/", "--labels=team=archive"]
    wanted += [f"--service_account_email={account}", f"--subnetwork={net}", "--no_use_public_ips"]
    wanted += [f"--dataflow_kms_key={key}", "--dataflow_service_options=enable_google_cloud_profiler"]
    wanted += ["--include=*.jpg", "--include=*.png", "--tolerate=3"]

    code = launched(cloud, [*BY_TEMPLATE, *wanted])

    told, (job,) = capsys.readouterr(), cloud.jobs
    assert code == 0
    assert last_line(told.out)["job"] == job.id
    assert "done" not in told.out
    assert "1 images: 1 to do" in told.err
    assert f"up to 4 workers of g2-standard-4 with {L4} in us-central1" in told.err
    assert (job.state, job.project, job.region) == ("QUEUED", "some-project", "us-central1")
    assert job.launch["containerSpecGcsPath"] == SPEC
    assert job.launch["parameters"] == {
        "input": "gs://photos/a", "output": "gs://restored/a", "include": "*.jpg\n*.png", "tolerate": "3",
        "run_id": "night1", "profile": "l4", "batch_megapixels": "8.0", "model_threads": "1", "require_gpu": "true",
    }  # fmt: skip
    assert job.launch["environment"] == {
        "sdkContainerImage": IMAGE,
        "machineType": "g2-standard-4",
        "diskSizeGb": 100,
        "numWorkers": 1,
        "maxWorkers": 4,
        "additionalExperiments": [f"worker_accelerator={L4}"],
        "additionalPipelineOptions": [
            "number_of_worker_harness_threads=1",
            "dataflow_service_options=enable_google_cloud_profiler",
        ],
        "additionalUserLabels": {"team": "archive", "relume-version": pipeline.__version__.replace(".", "-")},
        "tempLocation": "gs://jobs/temp/",
        "stagingLocation": "gs://jobs/temp/staging",
        "serviceAccountEmail": account,
        "subnetwork": net,
        "ipConfiguration": "WORKER_IP_PRIVATE",
        "kmsKeyName": key,
    }
    assert cloud.gcs.names("restored") == []


def test_what_the_launcher_is_called_with_makes_the_job_that_was_asked_for(
    cloud: DataflowTwin, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launched(cloud, [*BY_TEMPLATE, "--profile=l4", "--temp_location=gs://jobs/temp"]) == 0
    (job,) = cloud.jobs

    code = restore.main(job.launcher_argv)
    cloud.finish_launch(job)

    assert (code, job.state) == (0, "QUEUED")
    environment = job.json["environment"]
    (pool,) = environment["workerPools"]
    assert f"worker_accelerator={L4}" in environment["experiments"]
    assert (pool["machineType"], pool["numThreadsPerWorker"], pool["diskSizeGb"]) == ("g2-standard-4", 1, 100)
    assert pool["workerHarnessContainerImage"] == IMAGE
    assert job.json["labels"]["relume-version"] == pipeline.__version__.replace(".", "-")
    assert not [name for name in cloud.gcs.names("restored") if name.endswith("summary.json")]


def test_submitted_directly_the_gpu_is_a_service_option_and_the_run_is_not_waited_for(
    cloud: DataflowTwin, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["--profile=l4", "--labels=team=archive", "--experiments=some_experiment", "--no_use_public_ips"]

    code = launched(cloud, [*DIRECTLY, *wanted])

    told, (job,) = capsys.readouterr(), cloud.jobs
    assert code == 0
    assert last_line(told.out) == {
        "run": "night1",
        "job": job.id,
        "console": f"https://console.cloud.google.com/dataflow/jobs/us-central1/{job.id}?project=some-project",
        "exit": 0,
    }
    assert job.state == "PENDING"
    environment = job.json["environment"]
    (pool,) = environment["workerPools"]
    assert environment["serviceOptions"] == [f"worker_accelerator={L4}"]
    assert "some_experiment" in environment["experiments"]
    assert not [one for one in environment["experiments"] if "worker_accelerator" in one]
    assert (pool["machineType"], pool["numThreadsPerWorker"]) == ("g2-standard-4", 1)
    assert pool["ipConfiguration"] == "WORKER_IP_PRIVATE"
    assert job.json["labels"] == {"team": "archive", "relume-version": pipeline.__version__.replace(".", "-")}
    names = cloud.gcs.names("restored")
    assert {"a/_relume/recipe.json", "a/_relume/runs/night1/plan.json"} <= set(names)
    assert not [name for name in names if name.endswith("summary.json")]


@pytest.mark.parametrize("way", [BY_TEMPLATE, DIRECTLY], ids=["template", "direct"])
def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(
    cloud: DataflowTwin, capsys: pytest.CaptureFixture[str], way: list[str]
) -> None:
    before = cloud.gcs.names("jobs")

    code = launched(cloud, [*way, "--flexrs", "--dry_run"])

    line = last_line(capsys.readouterr().out)
    assert code == 0
    if way is BY_TEMPLATE:
        assert line["request"]["launchParameter"]["environment"]["flexrsGoal"] == "FLEXRS_COST_OPTIMIZED"
        assert line["request"]["launchParameter"]["jobName"] == "relume-restore"
    else:
        assert {"--runner=DataflowRunner", "--flexrs_goal=COST_OPTIMIZED"} <= set(line["request"])
    assert cloud.jobs == []
    assert (cloud.gcs.names("restored"), cloud.gcs.names("jobs")) == ([], before)


@pytest.mark.parametrize("way", [BY_TEMPLATE, DIRECTLY], ids=["template", "direct"])
def test_while_a_job_of_the_name_is_at_work_another_is_not_started(
    cloud: DataflowTwin, capsys: pytest.CaptureFixture[str], way: list[str]
) -> None:
    cloud.script = Script(("PENDING", "RUNNING"))
    assert launched(cloud, [*BY_TEMPLATE, "--output=gs://restored/first"]) == 0

    code = launched(cloud, way)

    out, err = capsys.readouterr()
    assert (code, last_line(out)) == (11, {"run": "night1", "exit": 11})
    assert f"--job_name relume-restore: job {cloud.jobs[0].id} of this name is running" in err.splitlines()[-1]
    assert len(cloud.jobs) == 1
    assert cloud.gcs.names("restored") == []


def test_buckets_elsewhere_are_warned_of(cloud: DataflowTwin, capsys: pytest.CaptureFixture[str]) -> None:
    cloud.gcs.create_bucket("far", "EUROPE-WEST2")

    code = launched(cloud, [*BY_TEMPLATE, "--output=gs://far/a"])

    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert code == 0
    assert warnings == [
        "relume launch: warning: --output gs://far/a is in EUROPE-WEST2, the workers are in us-central1: reading and "
        "writing across regions costs money and time"
    ]


def test_what_a_launch_says_is_an_object_a_line_where_the_log_is(
    cloud: DataflowTwin, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launched(cloud, [*BY_TEMPLATE, "--log_format=json", "--dry_run"]) == 0

    said = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert any("1 images: 1 to do" in line for line in said)


def finished(outcomes: Sequence[str]) -> None:
    """Writes what a run of `JOB` leaves behind, with one row for each outcome."""
    run = RunInfo("night1", pipeline.__version__, "m", "r", {})
    rows = [Row(f"{place}.jpg", "1", 1, outcome, "some-reason") for place, outcome in enumerate(outcomes)]
    with beam.Pipeline(runner=FnApiRunner()) as root:
        every = root | "Rows" >> beam.Create(rows)
        listed = root | "Refs" >> beam.Create([ImageRef(row.name, row.size, row.version) for row in rows])
        _ = (every, listed) | WriteReport("gs://photos/a", "gs://restored/a", run)


@pytest.mark.parametrize(
    ("outcomes", "tolerate", "code"),
    [
        (["restored", "failed"], 1, 0),
        (["restored", "failed"], 0, 1),
        (["restored", "left"], 0, 10),
    ],
)
def test_a_followed_job_ends_with_the_code_that_its_summary_tells(
    cloud: DataflowTwin, capsys: pytest.CaptureFixture[str], outcomes: list[str], tolerate: int, code: int
) -> None:
    finished(outcomes)

    ended = launched(cloud, [*BY_TEMPLATE, "--wait", f"--tolerate={tolerate}"])

    told = capsys.readouterr()
    line = last_line(told.out)
    assert (ended, line["exit"], line["state"], line["inputs"]) == (code, code, "DONE", 2)
    assert re.findall(r"is (\w+)$", told.err, re.MULTILINE) == ["pending", "running", "done"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (Script(), "left no summary of run night1 in gs://restored/a"),
        (failing("Quota 'NVIDIA_L4_GPUS' exceeded."), "Quota 'NVIDIA_L4_GPUS' exceeded."),
        (Script(("PENDING", "CANCELLED")), "is cancelled"),
    ],
    ids=["no summary", "failed", "cancelled"],
)
def test_a_followed_job_that_left_no_summary_or_did_not_end_well_is_no_success(
    cloud: DataflowTwin, capsys: pytest.CaptureFixture[str], script: Script, said: str
) -> None:
    cloud.script = script

    code = launched(cloud, [*BY_TEMPLATE, "--wait"])

    told = capsys.readouterr()
    assert (code, last_line(told.out)["exit"]) == (7, 7)
    assert said in told.err


def test_who_stops_looking_does_not_stop_the_job(
    cloud: DataflowTwin, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.script = Script(("PENDING", "RUNNING"))

    class Pause:
        def wait(self, seconds: float) -> None:
            if len(cloud.jobs[0].states) > 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(launch, "threading", SimpleNamespace(Event=Pause))
    code = launched(cloud, [*BY_TEMPLATE, "--wait"])

    told = capsys.readouterr()
    assert (code, last_line(told.out)["exit"]) == (130, 130)
    assert "goes on: https://console" in told.err
    assert cloud.jobs[0].active


def test_help_names_every_flag_and_fits_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert launch.main(["--help"]) == 0

    text = capsys.readouterr().out
    assert all(f"\n  {one.flag}" in text for config in launch.CONFIGS for one in options_of(config))
    assert max(map(len, text.splitlines())) <= 80


def test_flags_of_one_way_reach_dataflow_by_the_other_too() -> None:
    how = launching.LaunchConfig(
        project="some-project", region="us-central1", template=SPEC, temp_location="gs://jobs/t", num_workers=2,
        max_num_workers=3, network="inner", machine_type="n2-standard-8", disk_size_gb=200, experiments=("e",),
        service_account_email="a@p.iam.gserviceaccount.com",
    )  # fmt: skip

    wanted = launching.on_workers({"input": "gs://a/b", "output": "gs://c/d"}, how)
    environment, flags = launching.environment_of(wanted, IMAGE), launching.beam_flags(wanted)

    pairs = {
        "machineType": "machine_type", "diskSizeGb": "disk_size_gb", "numWorkers": "num_workers",
        "maxWorkers": "max_num_workers", "network": "network", "tempLocation": "temp_location",
        "stagingLocation": "staging_location", "serviceAccountEmail": "service_account_email",
    }  # fmt: skip
    for ours, theirs in pairs.items():
        assert f"--{theirs}={environment[ours]}" in flags
    assert environment["additionalExperiments"] == ["e"]
    assert "--experiments=e" in flags


def test_a_launch_says_what_it_will_cost_and_one_beyond_the_cap_is_refused_before_anything_is_sent(
    cloud: DataflowTwin, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = ["--profile=l4", "--max_num_workers=4"]
    assert launched(cloud, [*BY_TEMPLATE, *wanted, "--max_cost=0.1", "--run_id=night2"]) == 8

    told = capsys.readouterr()
    said = told.err.splitlines()
    assert last_line(told.out) == {"run": "night2", "exit": 8}
    assert said[-2].startswith("relume launch: l4, 4 workers: 4.00 to 15.0 minutes, 0.26 to 0.96 USD")
    assert said[-1].startswith("relume launch: --max_cost 0.1: 1 images are expected to cost 0.51 USD")
    assert cloud.jobs == []

    assert launched(cloud, [*BY_TEMPLATE, *wanted, "--max_cost=2"]) == 0
    (job,) = cloud.jobs
    assert (job.launch["parameters"]["max_cost"], job.launch["parameters"]["profile"]) == ("2.0", "l4")


def test_a_launch_without_a_cap_goes_on_where_there_is_no_price(
    cloud: DataflowTwin, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = [word.replace("us-central1", "europe-west4") for word in BY_TEMPLATE]

    assert launched(cloud, [*elsewhere, "--dry_run"]) == 0
    assert "--prices built in has prices of us-central1" in capsys.readouterr().err
    assert launched(cloud, [*elsewhere, "--dry_run", "--max_cost=5"]) == 2
    assert "relume launch: --price_region europe-west4: " in capsys.readouterr().err.splitlines()[-1]
