"""`relume restore` as the launcher of a template calls it: what it writes, and what it does not claim."""

from __future__ import annotations

import json
import time
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import pipeline
from jobs import restore
from pipeline.elements import ImageRef, Row
from pipeline.recording import RunInfo, WriteReport
from tests.cloud.dataflow import DataflowTwin
from tests.cloud.gcs import GcsTwin

PHOTO = Path(__file__).parents[2] / "samples" / "archive"
NO_PIP = "--experiments=disable_logging_submission_environment"
"""Else Beam asks pip what is installed here, and stages that: a second a job."""


def launcher(staging: Path, *more: str) -> list[str]:
    """The arguments that the launcher of a Flex Template adds to the user's."""
    return [
        "--runner=DataflowRunner",
        "--project=some-project",
        "--region=europe-west4",
        "--job_name=nightly",
        f"--staging_location={staging}",
        f"--temp_location={staging}",
        f"--template_location={staging}/job_object",
        "--service_account_email=worker@some-project.iam.gserviceaccount.com",
        "--sdk_container_image=europe-docker.pkg.dev/some-project/images/relume:0.1.0",
        '--labels={"goog-dataflow-provided-template-type": "flex"}',
        # Keeps the job on loopback, where nobody listens: a template needs no service.
        "--dataflow_endpoint=http://localhost:1",
        "--no_auth",
        NO_PIP,
        *more,
    ]


@pytest.fixture
def archive(gcs: GcsTwin) -> GcsTwin:
    """A bucket with one photograph, and one for the output."""
    for bucket in ("photos", "restored"):
        gcs.create_bucket(bucket)
    source = min((path for path in PHOTO.rglob("*.jpg")), key=lambda path: path.stat().st_size)
    gcs.put("photos", "a/b.jpg", source.read_bytes())
    return gcs


def test_called_by_the_launcher_of_a_template_it_writes_the_job_and_concludes_nothing(
    archive: GcsTwin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--input=gs://photos/a", "--output=gs://restored/a", "--run_id=night1", "--verbose=false"]

    code = restore.main([*arguments, *launcher(tmp_path)])

    told = capsys.readouterr()
    assert code == 0
    assert json.loads(told.out.splitlines()[-1]) == {"run": "night1", "template": f"{tmp_path}/job_object", "exit": 0}
    job = json.loads((tmp_path / "job_object").read_text())
    assert (job["name"], job["type"]) == ("nightly", "JOB_TYPE_BATCH")
    assert job["labels"]["goog-dataflow-provided-template-type"] == "flex"
    (pool,) = job["environment"]["workerPools"]
    assert pool["workerHarnessContainerImage"] == "europe-docker.pkg.dev/some-project/images/relume:0.1.0"
    # What is to be done is written; what was done is not, for nothing was.
    written = [name for name in archive.names("restored") if "/lease/" not in name]
    assert written == ["a/_relume/recipe.json", "a/_relume/runs/night1/plan.json"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--input=photos"], "--input must be gs://BUCKET/... for a job on Dataflow"),
        (["--model=models/mine"], "--model must be gs://BUCKET/... for a job on Dataflow"),
        (["--dry_run=true"], "--dry_run must be left out where a job is to be handed over"),
        (["--project="], "--project is needed for a job on Dataflow"),
        (
            ["--temp_location=here", "--dataflow_endpoint=https://dataflow.googleapis.com"],
            "--temp_location must be gs://BUCKET/... for a job on Dataflow, got here",
        ),
        (["--dataflow_job_file=file"], "--dataflow_job_file and --template_location are mutually exclusive"),
        (["--runner=Dataflo"], "--runner Dataflo: Unexpected pipeline runner: Dataflo"),
    ],
)
def test_what_dataflow_could_not_run_is_refused_in_one_line_before_anything_is_written(
    archive: GcsTwin, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    places = ["--input=gs://photos/a", "--output=gs://restored/a"]

    code = restore.main([*places, *launcher(tmp_path), *arguments])

    told = capsys.readouterr()
    assert (code, told.out) == (2, "")
    assert said in told.err
    assert len(told.err.strip().splitlines()) == 1
    assert archive.names("restored") == []
    assert list(tmp_path.iterdir()) == []


def finished() -> None:
    """Writes what the job leaves behind that Dataflow would have run."""
    run, row = RunInfo("night1", pipeline.__version__, "m", "r", {}), Row("b.jpg", "1", 1, "kept", "already-good")
    with beam.Pipeline(runner=FnApiRunner()) as root:
        rows = root | "Rows" >> beam.Create([row])
        listed = root | "Refs" >> beam.Create([ImageRef(row.name, row.size, row.version)])
        _ = (rows, listed) | WriteReport("gs://photos/a", "gs://restored/a", run)


def test_submitted_and_waited_for_it_ends_as_the_summary_says_and_never_without_one(
    archive: GcsTwin, dataflow: DataflowTwin, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.create_bucket("jobs")
    pause = time.sleep
    monkeypatch.setattr("time.sleep", lambda seconds: pause(min(seconds, 0.01)))  # Beam looks every five seconds
    where = ["--runner=DataflowRunner", "--temp_location=gs://jobs/temp", NO_PIP, *dataflow.beam_flags()]

    without = restore.main(["--input=gs://photos/a", "--output=gs://restored/none", *where])

    assert without == 7
    assert "the run ended without a summary in gs://restored/none" in capsys.readouterr().err

    finished()
    code = restore.main(["--input=gs://photos/a", "--output=gs://restored/a", "--run_id=night1", *where])

    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (code, line["run"], line["inputs"], line["kept"]) == (0, "night1", 1, 1)
    assert [job.state for job in dataflow.jobs] == ["DONE", "DONE"]
