"""Runs what was submitted to the loopback Dataflow: its workers, played by Beam's portable runner."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.runners.portability.portable_runner import PortableRunner

ROOT = Path(__file__).parents[2]


def run_submitted(proto: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a pipeline by its proto alone, in a process of its own that has the package and nothing of the launcher.

    Where the proto names a container image, this environment stands for what is installed in it.

    Args:
        proto: a `beam_runner_api_pb2.Pipeline`, as it was staged.
        monkeypatch: for the environment that the process inherits.

    Returns:
        the state that it ended in, such as `DONE`.
    """
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # The job server's process has threads of gRPC when it starts the worker's.
    monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", "false")
    here = copy.deepcopy(proto)
    for environment in here.components.environments.values():
        environment.urn = python_urns.SUBPROCESS_SDK
        environment.payload = f"{sys.executable} -m apache_beam.runners.worker.sdk_worker_main".encode()
        del environment.dependencies[:]
    return str(
        PortableRunner().run_portable_pipeline(here, PipelineOptions(["--job_endpoint=embed"])).wait_until_finish()
    )
