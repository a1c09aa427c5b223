"""`relume status` before, during and after a run, here and on Dataflow."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from google.cloud import dataflow_v1beta3 as v1b3

from jobs import status
from pipeline import figures, lease, names
from pipeline.figures import Figures
from pipeline.recording import canonical_json
from pipeline.storage import open_storage
from tests.cloud.dataflow import REGION, DataflowTwin
from tests.cloud.gcs import GcsTwin
from tests.cloud.scripts import Distribution, Message, Metric, Script

PLAN = {"run": "night-1", "listed": 9, "pending": 7, "done": 2, "unusable": 0, "pending_bytes": 70}
PLACE = ["--project=twin-project", f"--region={REGION}"]


def put(output: str, name: str, values: Any) -> None:
    open_storage(output).create(name, canonical_json(values), content_type="application/json", attempt="test")


def plan(output: str, run_id: str = "night-1") -> None:
    put(output, f"{names.RUNS}/{run_id}/plan.json", PLAN)


def end(output: str, **counts: int) -> None:
    everything = {"restored": 0, "kept": 0, "skipped": 0, "failed": 0, "left": 0} | counts
    reasons: dict[str, dict[str, int]] = {outcome: {} for outcome in everything}
    reasons["left"] = {"max-minutes": everything["left"]}
    summary = {"counts": everything, "reasons": reasons, "inputs": sum(everything.values())}
    put(output, f"{names.RUNS}/night-1/summary.json", summary)


@pytest.fixture(params=["disk", "bucket"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a run was planned that is to restore seven images, two of which are done."""
    where = str(tmp_path / "out")
    if request.param == "bucket":
        request.getfixturevalue("gcs").create_bucket("restored")
        where = "gs://restored/a"
    plan(where)
    for number in range(4):
        put(where, f"{names.RECEIPTS}/{number}.jpg.{'0' * 16}.json", {})
    return where


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any], str]:
    code = status.main(list(arguments))
    out = capsys.readouterr().out
    return code, json.loads(out.splitlines()[-1]), out


def test_a_run_that_holds_the_lease_is_at_work(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    lease.take(output, "night-1", here=False, holder="the launcher")

    code, line, text = told(capsys, "--output", output)

    assert (code, line["state"], line["exit"]) == (11, "running", 11)
    assert line["planned"] == {"listed": 9, "pending": 7, "done": 2}
    assert "night-1: running (the launcher, lease until 2" in text
    assert "7 of 9 images to do, 2 done before" in text


def test_a_run_without_lease_and_summary_was_stopped(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    lease.take(output, "another", here=False)

    code, line, _ = told(capsys, "--output", output, "--run_id", "night-1")

    assert (code, line["state"], line["exit"]) == (7, "stopped", 7)


@pytest.mark.parametrize(
    ("counts", "flags", "expected"),
    [
        ({"restored": 5, "kept": 4}, (), 0),
        ({"restored": 7, "failed": 2}, (), 1),
        ({"restored": 7, "failed": 2}, ("--tolerate", "2"), 0),
        ({"restored": 1, "left": 8}, (), 10),
    ],
)
def test_a_run_that_ended_has_the_exit_code_of_its_summary(
    tmp_path: Path, counts: dict[str, int], flags: tuple[str, ...], expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    output = str(tmp_path / "out")
    plan(output)
    end(output, **counts)
    figures.write(Figures.of({("restore", "busy_ms"): 3, ("restore", "wall_ms"): 4}), output, "night-1")

    code, line, text = told(capsys, "--output", output, *flags)

    assert (code, line["state"], line["exit"], line["inputs"]) == (expected, "ended", expected, 9)
    assert line["metrics"]["busy_share"] == 0.75
    assert "at work 75 % of the time" in text


def test_the_run_that_was_planned_last_is_the_one_that_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for minute, run_id in enumerate(("z-first", "a-last")):
        plan(str(tmp_path), run_id)
        # A file system's clock ticks every few milliseconds: what is written within one tick has one time.
        os.utime(tmp_path / names.RUNS / run_id / "plan.json", (60 * minute, 60 * minute))

    assert told(capsys, "--output", str(tmp_path))[1]["run"] == "a-last"


def submit(dataflow: DataflowTwin, gcs: GcsTwin, states: tuple[Any, ...]) -> str:
    """Starts a job that is in the last of these states when it is looked at often enough; gives its id."""
    gcs.create_bucket("archive")
    gcs.put("archive", "pipeline.pb", b"")
    dataflow.script = Script(
        states,
        messages=(Message("worker lost\nits disk", "ERROR"), Message("all is well")),
        metrics=(
            Metric("restored", 6, "images"),
            Metric("bytes", 500_000, "write", step="s1"),
            Metric("bytes", 700_000, "write", step="s2"),
            Metric("pixels", 12_000_000, "restore"),
            Metric("busy_ms", 90, "restore"),
            Metric("wall_ms", 100, "restore"),
            Metric("batch_ms", Distribution(count=4, sum=200, min=20, max=90), "restore"),
            Metric("TotalVcpuTime", 77),
        ),
    )
    client = v1b3.JobsV1Beta3Client(transport="rest", client_options={"api_endpoint": dataflow.url})
    options = {"options": {"pipelineUrl": "gs://archive/pipeline.pb"}}
    job = v1b3.Job(name="nightly", client_request_id="1", environment={"sdk_pipeline_options": options})
    made = client.create_job({"project_id": "twin-project", "location": REGION, "job": job})
    return str(made.id)


def test_a_job_at_work_shows_its_state_its_metrics_and_its_last_errors(
    dataflow: DataflowTwin, gcs: GcsTwin, capsys: pytest.CaptureFixture[str]
) -> None:
    job = submit(dataflow, gcs, ("PENDING", "RUNNING"))

    code, line, text = told(capsys, *PLACE, "--job", "nightly", f"--dataflow_endpoint={dataflow.url}")

    assert (code, line["exit"]) == (11, 11)
    said = line["job"]
    assert (said["id"], said["state"], said["errors"]) == (job, "RUNNING", ["worker lost\nits disk"])
    assert said["metrics"]["images"]["restored"] == 6
    assert (said["metrics"]["bytes_written"], said["metrics"]["megapixels"]) == (1_200_000, 12.0)
    assert (said["metrics"]["batch_ms"], said["metrics"]["busy_share"]) == ({"mean": 50.0, "max": 90}, 0.9)
    assert "error     worker lost its disk\n" in text


@pytest.mark.parametrize(("state", "expected"), [("DONE", 0), ("FAILED", 7), ("CANCELLED", 7)])
def test_a_job_that_ended_has_the_exit_code_of_its_state(
    dataflow: DataflowTwin, gcs: GcsTwin, state: Any, expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    job = submit(dataflow, gcs, ("RUNNING", state))

    code, line, _ = told(capsys, *PLACE, "--job", job, f"--dataflow_endpoint={dataflow.url}")

    assert (code, line["job"]["state"]) == (expected, state)


def test_a_job_that_is_done_is_judged_by_its_runs_summary(
    dataflow: DataflowTwin, gcs: GcsTwin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = submit(dataflow, gcs, ("RUNNING", "DONE"))
    plan(str(tmp_path))
    end(str(tmp_path), restored=8, failed=1)

    code, line, _ = told(capsys, *PLACE, "--job", job, f"--dataflow_endpoint={dataflow.url}", "--output", str(tmp_path))

    assert (code, line["job"]["state"], line["failed"]) == (1, "DONE", 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--output DIR is needed, or --project, --region and --job"),
        (["--job", "nightly", "--project", "twin-project"], "--region is needed with --job, --project"),
        (
            ["--project=twin-project", "--region=us-central1", "--job=x", "--run_id=y"],
            "give --output DIR, got --run_id y",
        ),
        (["--project=twin-project", "--region=us-central1-a", "--job=x"], "--region must be a region such as"),
        ([*PLACE, "--job=x", "--dataflow_endpoint=localhost:1"], "--dataflow_endpoint must be https://HOST"),
        (["--output", "{tmp}/none"], "--output {tmp}/none: no such folder"),
        (["--output", "{tmp}"], "--output must be the output of a restore job, got {tmp}: no run was planned there"),
        (["--output", "{tmp}/out", "--run_id", "night-2"], "such as night-1; got night-2"),
        (["--output", "s3://a"], "--output: 's3://a' is no place"),
    ],
)
def test_what_is_not_there_is_one_line_on_stderr(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    plan(str(tmp_path / "out"))

    code = status.main([one.format(tmp=tmp_path) for one in arguments])

    told = capsys.readouterr()
    assert (code, told.out) == (2, "")
    assert said.format(tmp=tmp_path) in told.err
    assert len(told.err.splitlines()) == 1


@pytest.mark.parametrize("job", ["nobody", "2026-01-01_00_00_00-123"])
def test_a_job_that_nobody_knows_is_named(dataflow: DataflowTwin, capsys: pytest.CaptureFixture[str], job: str) -> None:
    code = status.main([*PLACE, "--job", job, f"--dataflow_endpoint={dataflow.url}"])

    assert code == 2
    assert f"--job must be the id or name of a job in {REGION} of twin-project, got {job}" in capsys.readouterr().err
