"""The recipes in docs: they parse, name flags and fields that exist, and give the roles that docs/security.md tells."""

from __future__ import annotations

import re
import runpy
import sys
import types
from pathlib import Path
from typing import Any

import hcl2
import pytest
from google.cloud import dataflow_v1beta3 as v1b3
from google.protobuf import json_format

from jobs import schedule
from jobs import template as template_job
from pipeline.options import parse
from pipeline.production import launching, preflight, scheduling
from pipeline.production.launching import LaunchConfig
from tests.cloud.dataflow import DataflowTwin
from tests.cloud.gcs import GcsTwin

DOCS = Path(__file__).parents[1] / "docs"
TERRAFORM = DOCS / "recipes" / "terraform"
IMAGE = "europe-docker.pkg.dev/some-project/images/relume:0.1.0"

# Of DataflowStartFlexTemplateOperator in apache-airflow-providers-google 12 and later, and of every operator.
OPERATOR = {
    *("body", "location", "project_id", "gcp_conn_id", "drain_pipeline", "cancel_timeout", "wait_until_finished"),
    *("impersonation_chain", "deferrable", "append_job_name", "expected_terminal_state", "poll_sleep"),
    *("task_id", "retries", "retry_delay", "execution_timeout"),
}
DAG_ARGUMENTS = {"dag_id", "schedule", "start_date", "catchup", "max_active_runs", "default_args", "tags"}


class _Recorded:
    """Stands for one class of Airflow's: keeps what it is called with."""

    calls: list[dict[str, Any]]

    def __init__(self, **arguments: Any) -> None:
        self.calls.append(arguments)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def dag(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], dict[str, Any]]:
    """Runs the DAG's file, and gives what the DAG and its one operator are called with; Airflow is not installed."""
    dags, operators = (type("Recorded", (_Recorded,), {"calls": []}) for _ in range(2))
    pendulum = types.ModuleType("pendulum")
    pendulum.datetime = lambda *date, tz: (date, tz)  # type: ignore[attr-defined]
    airflow = types.ModuleType("airflow")
    airflow.DAG = dags  # type: ignore[attr-defined]
    provider = types.ModuleType("airflow.providers.google.cloud.operators.dataflow")
    provider.DataflowStartFlexTemplateOperator = operators  # type: ignore[attr-defined]
    for module in (pendulum, airflow, provider):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    parts = provider.__name__.split(".")
    for i in range(2, len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[:i]), types.ModuleType(".".join(parts[:i])))

    runpy.run_path(str(DOCS / "recipes" / "nightly_restore.py"))

    (one,), (task,) = dags.calls, operators.calls  # type: ignore[attr-defined]
    return one, task


def test_the_dag_names_arguments_that_airflow_knows_and_lets_no_two_nights_overlap(
    dag: tuple[dict[str, Any], dict[str, Any]],
) -> None:
    nightly, task = dag

    assert set(nightly) <= DAG_ARGUMENTS
    assert set(task) <= OPERATOR
    assert (nightly["max_active_runs"], nightly["catchup"], task["append_job_name"]) == (1, False, False)
    assert "run_id" not in task["body"]["launchParameter"]["parameters"]


def test_the_dags_request_is_one_that_dataflow_and_the_job_understand(
    dag: tuple[dict[str, Any], dict[str, Any]], gcs: GcsTwin, dataflow: DataflowTwin
) -> None:
    _, task = dag
    gcs.create_bucket("my-jobs")
    assert template_job.main(["--output", "gs://my-jobs/relume.json", "--image", IMAGE]) == 0
    request = v1b3.LaunchFlexTemplateRequest(project_id=task["project_id"], location=task["location"])
    json_format.ParseDict(task["body"], v1b3.LaunchFlexTemplateRequest.pb(request))
    client = launching.client_of(v1b3.FlexTemplatesServiceClient, dataflow.url)

    client.launch_flex_template(request=request)

    config, _ = parse(dataflow.jobs[0].launcher_argv)
    assert (config.input, config.output, config.tolerate) == ("gs://my-photos/archive", "gs://my-restored/archive", 10)


def test_the_dags_workers_are_what_a_launch_would_ask_for(dag: tuple[dict[str, Any], dict[str, Any]]) -> None:
    _, task = dag
    launched = task["body"]["launchParameter"]
    how = LaunchConfig(
        project=task["project_id"],
        region=task["location"],
        template=launched["containerSpecGcsPath"],
        job_name=launched["jobName"],
        max_num_workers=4,
        service_account_email=launched["environment"]["serviceAccountEmail"],
        no_use_public_ips=True,
        subnetwork=launched["environment"]["subnetwork"],
    )
    own = {"input": "gs://my-photos/archive", "output": "gs://my-restored/archive", "tolerate": 10, "profile": "l4"}
    launch = launching.on_workers(own, how)
    preflight.check_flags(launch)

    asked = launching.launch_body(launch, IMAGE)["launchParameter"]

    # What is left to the template, so that one that is written anew needs no change here.
    for name in ("sdkContainerImage", "additionalUserLabels"):
        asked["environment"].pop(name)
    asked["parameters"].pop("run_id")
    assert launched == asked


@pytest.fixture(scope="module")
def module() -> dict[str, dict[str, Any]]:
    """The Terraform module, parsed: file -> what stands in it."""
    return {path.name: hcl2.loads(path.read_text()) for path in sorted(TERRAFORM.glob("*.tf"))}


def local_of(module: dict[str, dict[str, Any]], name: str) -> list[dict[str, str]]:
    """A list of objects among the locals of accounts.tf, without the quotes that the parser leaves."""
    found = [one[name] for one in module["accounts.tf"]["locals"] if name in one]
    return [{key: value.strip('"') for key, value in one.items()} for one in found[0]]


def test_the_module_gives_the_roles_that_the_page_of_security_tells(module: dict[str, dict[str, Any]]) -> None:
    text = (DOCS / "security.md").read_text()
    told = re.findall(r"^\| (worker|scheduler|launcher) \| (\w+) \| `(roles/[\w.]+)` \|", text, re.MULTILINE)

    given = [(one["who"], one["on"], one["role"]) for one in local_of(module, "bucket_roles")]
    given += [(one["who"], "project", one["role"]) for one in local_of(module, "project_roles")]
    given += [(one["who"], one["on"], "roles/iam.serviceAccountUser") for one in local_of(module, "act_as")]
    given.append(("worker", "image", "roles/artifactregistry.reader"))

    assert sorted(told) == sorted(given)
    assert len(told) == len(set(told))


def test_no_worker_may_delete_from_archive_or_output_unless_told_to(module: dict[str, dict[str, Any]]) -> None:
    harmless = {"roles/storage.objectViewer", "roles/storage.objectCreator"}

    roles = {(one["on"], one["role"]) for one in local_of(module, "bucket_roles") if one["who"] == "worker"}

    assert {role for on, role in roles if on == "input"} == {"roles/storage.objectViewer"}
    assert {role for on, role in roles if on == "output"} == harmless
    assert "var.replaces ?" in (TERRAFORM / "accounts.tf").read_text()


def test_every_variable_of_the_module_is_declared_and_used(module: dict[str, dict[str, Any]]) -> None:
    declared = {name.strip('"') for one in module["variables.tf"]["variable"] for name in one}
    text = "\n".join(path.read_text() for path in TERRAFORM.glob("*.tf"))
    example = re.search(
        r"^module \"relume\" \{\n(.*?)^\}", (DOCS / "security.md").read_text(), re.DOTALL | re.MULTILINE
    )

    assert set(re.findall(r"\bvar\.(\w+)", text)) == declared
    assert example
    assert set(re.findall(r"^  (\w+) +=", example[1], re.MULTILINE)) - {"source"} <= declared


def test_the_module_takes_a_schedule_as_it_is_printed() -> None:
    wanted = set(re.findall(r"local\.job\.([\w.]+)", (TERRAFORM / "main.tf").read_text()))
    place = ["--project=my-project", "--region=europe-west4", "--template=gs://my-jobs/relume.json"]
    account = "--scheduler_account=relume-scheduler@my-project.iam.gserviceaccount.com"
    places = ["--input=gs://my-photos/archive", "--output=gs://my-restored/archive"]
    _, (when, _, launch) = schedule.parse(["create", *place, "--cron=0 2 * * *", account, *places])

    job = scheduling.job_of(when, launch, IMAGE)

    for path in wanted:
        part: Any = job
        for name in path.split("."):
            part = part[name]
    assert {path.split(".")[0] for path in wanted} == set(job)


def test_the_module_clears_the_lease_and_nothing_else_of_an_output() -> None:
    text = (TERRAFORM / "main.tf").read_text()
    output = text[text.index('"google_storage_bucket" "output"') : text.index('"google_storage_bucket" "jobs"')]

    assert re.findall(r"matches_prefix = (.*)", output) == ['["${var.output_prefix}/_relume/lease/"]']
    assert output.count("lifecycle_rule") == 1
