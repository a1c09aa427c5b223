"""What can be known to be wrong with a job before anything is created for it, anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pipeline
from model import contract
from pipeline.flags import UsageError
from pipeline.options import RestoreConfig
from pipeline.production.launching import DIRECT, TEMPLATE, Launch
from pipeline.production.profiles import GPUS, Gpu, gpu_of
from pipeline.production.template import Template, parameters_of

PLACES = ("input", "output", "reference", "inventory", "model")
"""The fields of a restore job that say where something is."""

_MULTI_REGIONS = {
    "US": re.compile(r"us-.*"),
    # London and Zurich are no part of it.
    "EU": re.compile(r"europe-(?!west2$|west6$).*"),
    "ASIA": re.compile(r"asia-.*"),
}
_DUAL_REGIONS = {
    "NAM4": ("us-central1", "us-east1"),
    "EUR4": ("europe-north1", "europe-west4"),
    "ASIA1": ("asia-northeast1", "asia-northeast2"),
}
_FLEXRS_MINUTES = 360
"""Within so much time FlexRS begins a job."""
_DRIVER = re.compile(r"install-nvidia-driver(:(?P<version>[0-9]+|5xx)[0-9.]*)?")


def check_reachable(config: RestoreConfig) -> None:
    """Refuses a place that only this machine has, for a job whose workers are elsewhere.

    Raises:
        UsageError: naming the first flag whose value is not in Cloud Storage.
    """
    for name in PLACES:
        place = getattr(config, name)
        if name == "model" and place in contract.shipped():
            continue
        if place is not None and not place.startswith("gs://"):
            raise UsageError(
                f"--{name} must be gs://BUCKET/... for a job on Dataflow, whose workers cannot reach this machine, "
                f"got {place}"
            )


def check_staging(options: Any) -> None:
    """Refuses Beam's options for Dataflow that leave open where a job belongs and where its files go.

    Beam would choose a place for them itself, and make a bucket there while it looks at the options.

    Args:
        options: `PipelineOptions`.

    Raises:
        UsageError: naming the first flag that is missing, or whose value is no place in Cloud Storage.
    """
    from apache_beam.options.pipeline_options import GoogleCloudOptions

    cloud = options.view_as(GoogleCloudOptions)
    for flag, value in (("project", cloud.project), ("region", cloud.region), ("temp_location", cloud.temp_location)):
        if not value:
            raise UsageError(f"--{flag} is needed for a job on Dataflow")
    if "//localhost" in cloud.dataflow_endpoint:  # a service on this machine reaches this machine's folders
        return
    for flag, value in (("temp_location", cloud.temp_location), ("staging_location", cloud.staging_location)):
        if value and not value.startswith("gs://"):
            raise UsageError(f"--{flag} must be gs://BUCKET/... for a job on Dataflow, got {value}")


def check_flags(launch: Launch) -> None:
    """Refuses flags that contradict each other, by themselves alone: nothing is asked of any service.

    Raises:
        UsageError: naming the flags of the first contradiction.
    """
    for wrong in _contradictions(launch):
        raise UsageError(wrong)
    check_reachable(launch.job)
    if launch.gpu is not None:
        try:
            gpu = gpu_of(launch.gpu)
        except UsageError as error:
            raise UsageError(f"--accelerator: {error}") from error
        _check_gpu(launch, gpu)
    if launch.how.via == TEMPLATE:
        parameters_of(launch.job)


def _contradictions(launch: Launch) -> Iterator[str]:
    """What is wrong, the first first."""
    how = launch.how
    gpu, options = launch.gpu, {*how.experiments, *how.dataflow_service_options}
    hints = [f"--{name}_hint" for name in launch.job.hints]
    if how.via == TEMPLATE:
        if how.template is None:
            yield "--template gs://... is needed; `relume template` writes one, --via direct needs none"
        if how.image is not None:
            yield f"--image is the template's own with --via template: leave it out, got {how.image}"
    if how.via == DIRECT:
        if how.template is not None:
            yield f"--template is not used with --via direct: leave one of them out, got {how.template}"
        if how.image is None:
            yield "--image HOST/PATH:TAG is needed with --via direct: the workers' image"
        if how.temp_location is None:
            yield "--temp_location gs://... is needed with --via direct: where the job's own files go"
    if how.num_workers > how.max_num_workers:
        yield f"--num_workers must be at most --max_num_workers {how.max_num_workers}, got {how.num_workers}"
    for one in sorted(options):
        if one.partition("=")[0] == "worker_accelerator":
            yield f"--accelerator is the flag for {one}: launches put it where each way wants it"
    if how.flexrs and gpu is not None:
        yield f"--flexrs cannot be had with GPUs: leave it out, or take --profile cpu, got {gpu}"
    if how.flexrs and hints:
        yield f"--flexrs cannot be had with {hints[0]}: Dataflow fits no workers to steps there"
    if how.flexrs and launch.job.max_minutes is not None and launch.job.max_minutes <= _FLEXRS_MINUTES:
        yield (
            f"--max_minutes must be more than {_FLEXRS_MINUTES} with --flexrs, which may begin as late as that, got "
            f"{launch.job.max_minutes:g}"
        )
    yield from _uncountable(launch)
    if gpu is not None and hints:
        yield f"{hints[0]} cannot be had with a GPU for every worker, got {gpu}: take --profile cpu, or leave it out"
    if gpu is not None and "use_nvidia_mps" in gpu and "no_use_multiple_sdk_containers" in options:
        yield "no_use_multiple_sdk_containers cannot be had with use_nvidia_mps, which is for several processes"
    if gpu is not None and "enable_secure_boot" in options:
        yield f"enable_secure_boot can keep NVIDIA's driver from loading: leave it out with a GPU, got {gpu}"
    if gpu is None and launch.job.require_gpu and launch.job.accelerator_hint is None:
        yield f"--require_gpu would stop every worker of --profile {launch.workers.name}, which has no GPU"
    if gpu is None and _only_with_gpus(launch.machine):
        yield f"--machine_type {launch.machine} has GPUs: give --accelerator, or the profile that has that machine"


def _uncountable(launch: Launch) -> Iterator[str]:
    """What keeps `--max_cost` from being held, and where prices would not be found."""
    how, job = launch.how, launch.job
    if how.via == TEMPLATE and job.prices is not None and not job.prices.startswith("gs://"):
        yield f"--prices must be gs://BUCKET/NAME with --via template, whose launcher reads it too, got {job.prices}"
    if job.max_cost is None:
        return
    if own := launch.own_workers:
        yield f"{own[0]} cannot be had with --max_cost: only a profile's own workers have a price"
    if how.flexrs:
        yield "--flexrs cannot be had with --max_cost, which counts from the launch on: workers may come hours later"


def _only_with_gpus(machine: str) -> bool:
    """Whether a machine's family is one that always has GPUs; n1 may have them."""
    return any(gpu.fits(machine) for gpu in GPUS.values() if "n1" not in gpu.families)


def _check_gpu(launch: Launch, gpu: Gpu) -> None:
    """Holds what a GPU asks of machine and driver."""
    accelerator = launch.gpu or ""
    if not gpu.fits(launch.machine):
        raise UsageError(f"--machine_type must be {gpu.rule}, got {launch.machine}")
    driver = next(filter(None, map(_DRIVER.fullmatch, accelerator.split(";"))), None)
    if driver is None:
        raise UsageError(
            f"--accelerator must end in ;install-nvidia-driver:5xx: workers have no driver, got {accelerator}"
        )
    version = driver["version"]
    if version is None or (version != "5xx" and int(version) < gpu.min_driver):
        raise UsageError(
            f"--accelerator must ask for driver {gpu.min_driver} or newer, as in install-nvidia-driver:5xx, for "
            f"{gpu.kind} and TensorFlow's CUDA, got {accelerator}"
        )


def check_template(found: Template, launch: Launch) -> None:
    """Refuses a template that another version wrote, or that would not do what was asked for.

    Raises:
        UsageError: naming the template and what it says.
    """
    if found.version != pipeline.__version__:
        raise UsageError(
            f"--template {found.place} is of version {found.version}, this is {pipeline.__version__}: the job would be "
            "another program's; launch with that version, or write the template anew"
        )
    if unknown := sorted(set(parameters_of(launch.job)) - found.parameters):
        raise UsageError(f"--template {found.place} has no parameter {unknown[0]}: write it anew")
    # The lists of template and launch come together, and a worker cannot have two kinds of GPU.
    for one in found.experiments:
        name, _, gpu = one.partition("=")
        if name == "worker_accelerator" and gpu != launch.gpu:
            raise UsageError(
                f"--template {found.place} gives every worker {gpu}, the launch {launch.gpu or 'no GPU'}: launch with "
                "the profile that it was written with, or write it with --profile cpu, which fits them all"
            )


def locations(launch: Launch) -> Mapping[str, str]:
    """The places of a launch that should be near its workers: flag -> address."""
    named = {f"--{name}": getattr(launch.job, name) for name in ("input", "output", "reference")}
    return {flag: place for flag, place in {**named, "--temp_location": launch.how.temp_location}.items() if place}


def far_away(places: Mapping[str, str], region: str) -> list[str]:
    """Asks where buckets are, and tells which are elsewhere than the workers: reading there costs money and time.

    Args:
        places: flag -> address in Cloud Storage.
        region: of the workers.

    Returns:
        A line for each; none for buckets that this account may read, but not look at.

    Raises:
        UsageError: if there is no such bucket.
    """
    from pipeline.storage import CloudStorage

    lines = []
    for flag, place in places.items():
        found = CloudStorage(place).regions(flag)
        if found and not any(_is_in(region, one) for one in _regions_of(found)):
            lines.append(
                f"{flag} {place} is in {' and '.join(found)}, the workers are in {region}: reading and writing across "
                "regions costs money and time"
            )
    return lines


def _regions_of(found: Iterable[str]) -> Iterator[str]:
    for location in found:
        yield from _DUAL_REGIONS.get(location.upper(), (location,))


def _is_in(region: str, location: str) -> bool:
    """Whether a region is a bucket's, or a part of its multi-region."""
    parts = _MULTI_REGIONS.get(location.upper())
    return bool(parts.fullmatch(region)) if parts else location.lower() == region
