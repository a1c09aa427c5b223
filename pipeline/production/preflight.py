"""What can be known to be wrong with a job before anything is created for it, anywhere."""

from __future__ import annotations

from typing import Any

from pipeline.flags import UsageError
from pipeline.options import RestoreConfig

PLACES = ("input", "output", "reference", "inventory", "model")
"""The fields of a restore job that say where something is."""


def check_reachable(config: RestoreConfig) -> None:
    """Refuses a place that only this machine has, for a job whose workers are elsewhere.

    Raises:
        UsageError: naming the first flag whose value is not in Cloud Storage.
    """
    for name in PLACES:
        place = getattr(config, name)
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
