"""The loopback Dataflow as Beam's own DataflowRunner sees it."""

from __future__ import annotations

import logging
import time

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.dataflow.dataflow_runner import DataflowRuntimeException
from apache_beam.runners.dataflow.internal.apiclient import DataflowJobAlreadyExistsError

from tests.cloud.dataflow import DataflowTwin
from tests.cloud.gcs import GcsTwin
from tests.cloud.scripts import Metric, Script, failing

PAUSE_S = time.sleep
NO_PIP = "--experiments=disable_logging_submission_environment"
"""Else Beam asks pip what is installed here, and stages that: a second a job."""


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch, gcs: GcsTwin) -> None:
    """Beam asks for a job's state every five seconds."""
    monkeypatch.setattr("time.sleep", lambda seconds: PAUSE_S(min(seconds, 0.01)))
    gcs.create_bucket("archive")


def submit(dataflow: DataflowTwin, *flags: str) -> beam.runners.runner.PipelineResult:
    # That it waits for the job is up to the test.
    flags = ("--runner=DataflowRunner", "--temp_location=gs://archive/temp", "--job_name=nightly", *flags)
    root = beam.Pipeline(options=PipelineOptions([*dataflow.beam_flags(), NO_PIP, *flags]))
    _ = root | "Names" >> beam.Create(["a.jpg"]) | "Count" >> beam.combiners.Count.Globally()
    return root.run()


def test_a_job_is_submitted_waited_for_and_its_metrics_are_read(dataflow: DataflowTwin) -> None:
    dataflow.script = Script(metrics=(Metric("pixels", 7, "restore"),))

    result = submit(dataflow, "--labels=team=archive", "--machine_type=n2-standard-4", "--max_num_workers=3")
    state = result.wait_until_finish()

    assert state == "DONE"
    job = dataflow.jobs[0]
    assert (job.name, job.json["labels"]) == ("nightly", {"team": "archive"})
    (pool,) = job.json["environment"]["workerPools"]
    assert (pool["machineType"], pool["autoscalingSettings"]) == ("n2-standard-4", {"maxNumWorkers": 3})
    counters = result.metrics().query()["counters"]
    assert [(one.key.metric.namespace, one.key.metric.name, one.committed) for one in counters] == [
        ("restore", "pixels", 7)
    ]
    names = {one.unique_name for one in dataflow.pipeline(job).components.transforms.values()}
    assert {"Names", "Count/CombineGlobally(CountCombineFn)"} <= {name.partition("/Key")[0] for name in names}


def test_a_job_that_fails_says_why(dataflow: DataflowTwin, caplog: pytest.LogCaptureFixture) -> None:
    dataflow.script = failing("Quota 'NVIDIA_L4_GPUS' exceeded.")

    with caplog.at_level(logging.CRITICAL), pytest.raises(DataflowRuntimeException, match="NVIDIA_L4_GPUS"):
        submit(dataflow).wait_until_finish()


def test_a_second_job_of_the_same_name_is_refused_and_the_first_can_be_cancelled(
    dataflow: DataflowTwin, caplog: pytest.LogCaptureFixture
) -> None:
    dataflow.script = Script(("PENDING", "RUNNING"))
    result = submit(dataflow)

    with pytest.raises(DataflowJobAlreadyExistsError, match="already active job named nightly"):
        submit(dataflow)
    result.cancel()

    assert result.state == "CANCELLED"
