"""What the Flex Template service does between a launch request and a job: checks, and the launcher's command line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from google.cloud import dataflow_v1beta3 as v1b3

from tests.cloud.rest import RestError

UNDECLARED = {"sdk_container_image"}
"""Parameters that a template may be given without naming them in its metadata."""
RESERVED = {"runner", "project", "job_name", "template_location", "region"}
"""Pipeline options that are the launcher's own; a template that declares or sets them fails to launch."""

FIELDS = {
    "num_workers": "num_workers",
    "max_workers": "max_num_workers",
    "zone": "zone",
    "service_account_email": "service_account_email",
    "machine_type": "machine_type",
    "network": "network",
    "subnetwork": "subnetwork",
    "kms_key_name": "dataflow_kms_key",
    "worker_region": "worker_region",
    "worker_zone": "worker_zone",
    "sdk_container_image": "sdk_container_image",
    "disk_size_gb": "disk_size_gb",
}
"""Fields of a launch's environment, and the pipeline options that they become."""


def check_parameters(spec: v1b3.ContainerSpec, given: Mapping[str, str]) -> None:
    """Refuses a template without image or language, and parameters that its metadata does not allow."""
    if not spec.image or spec.sdk_info.language is not v1b3.SDKInfo.Language.PYTHON:
        raise RestError(400, "The template must name an image and its language.")
    declared = {one.name: one for one in spec.metadata.parameters}
    wrong = [f"{name}: Unrecognized parameter" for name in given if name not in {*declared, *UNDECLARED}]
    wrong += [f"{name}: Set by the launcher" for name in sorted(RESERVED & {*declared, *given})]
    wrong += [
        f"{name}: Missing required parameter"
        for name, one in declared.items()
        if not one.is_optional and name not in given
    ]
    for name in declared.keys() & given.keys():
        if any(not re.fullmatch(regex, given[name]) for regex in declared[name].regexes):
            wrong.append(f"{name}: Unmatched pattern {' '.join(declared[name].regexes)}")
        allowed = [one.value for one in declared[name].enum_options]
        if allowed and given[name] not in allowed:
            wrong.append(f"{name}: must be one of {', '.join(allowed)}")
    if wrong:
        raise RestError(400, "The template parameters are invalid. Details: " + "; ".join(sorted(wrong)))


def environment_of(
    spec: v1b3.ContainerSpec, wanted: v1b3.FlexTemplateRuntimeEnvironment
) -> v1b3.FlexTemplateRuntimeEnvironment:
    """Lays what a launch asks for over what the template brings; lists and labels of both come together."""
    both = v1b3.FlexTemplateRuntimeEnvironment(spec.default_environment)
    v1b3.FlexTemplateRuntimeEnvironment.pb(both).MergeFrom(v1b3.FlexTemplateRuntimeEnvironment.pb(wanted))
    return both


def launcher_argv(
    wanted: v1b3.LaunchFlexTemplateParameter,
    environment: v1b3.FlexTemplateRuntimeEnvironment,
    places: Mapping[str, str],
) -> list[str]:
    """Gives what the launcher runs the main program with: parameters and environment as flags, each once, sorted.

    Args:
        wanted: the launch.
        environment: of the template and the launch together.
        places: more flags: where the job will run, and where its files go if the environment does not say.
    """
    flags = {"runner": "DataflowRunner", "job_name": wanted.job_name, **places}
    fields = {**FIELDS, "staging_location": "staging_location", "temp_location": "temp_location"}
    flags |= {flag: str(value) for field, flag in fields.items() if (value := getattr(environment, field))}
    if environment.additional_experiments:
        flags["experiments"] = ",".join(environment.additional_experiments)
    if environment.additional_user_labels:
        flags["labels"] = json.dumps(dict(environment.additional_user_labels), sort_keys=True)
    if environment.flexrs_goal:
        flags["flexrs_goal"] = environment.flexrs_goal.name.removeprefix("FLEXRS_")
    if environment.autoscaling_algorithm:
        basic = environment.autoscaling_algorithm is v1b3.AutoscalingAlgorithm.AUTOSCALING_ALGORITHM_BASIC
        flags["autoscaling_algorithm"] = "THROUGHPUT_BASED" if basic else "NONE"
    argv = [f"--{name}={value}" for name, value in {**flags, **wanted.parameters}.items()]
    argv += [f"--{one.removeprefix('--')}" for one in environment.additional_pipeline_options]
    if environment.ip_configuration is v1b3.WorkerIPAddressConfiguration.WORKER_IP_PRIVATE:
        argv.append("--no_use_public_ips")
    return sorted(argv)


def template_location(argv: list[str]) -> str:
    """Finds where the main program has to write its job."""
    return next(flag.partition("=")[2] for flag in argv if flag.startswith("--template_location="))
