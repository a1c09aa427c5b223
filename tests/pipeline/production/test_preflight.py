"""What a preflight knows of buckets, and what it asks of nobody."""

from __future__ import annotations

import pytest

from pipeline.flags import UsageError
from pipeline.production.preflight import far_away
from tests.cloud.gcs import GcsTwin


@pytest.mark.parametrize(
    ("location", "region", "near"),
    [
        ("EUROPE-WEST4", "europe-west4", True),
        ("EUROPE-WEST4", "europe-west1", False),
        ("EU", "europe-west4", True),
        ("EU", "europe-west2", False),
        ("EU", "us-central1", False),
        ("US", "us-east5", True),
        ("US", "northamerica-northeast1", False),
        ("ASIA", "asia-northeast1", True),
        ("NAM4", "us-east1", True),
        ("NAM4", "us-west1", False),
        ("EUR4", "europe-north1", True),
    ],
)
def test_a_bucket_is_near_in_its_own_region_and_in_the_regions_of_its_multi_region(
    gcs: GcsTwin, location: str, region: str, near: bool
) -> None:
    gcs.create_bucket("photos", location)

    lines = far_away({"--input": "gs://photos/a"}, region)

    assert bool(lines) is not near
    assert all(f"--input gs://photos/a is in {location}, the workers are in {region}" in line for line in lines)


def test_a_bucket_in_two_chosen_regions_is_near_in_both(gcs: GcsTwin) -> None:
    gcs.create_bucket("photos", "EU", regions=("EUROPE-WEST1", "EUROPE-WEST4"))

    places = {"--input": "gs://photos/a"}

    assert far_away(places, "europe-west1") == far_away(places, "europe-west4") == []
    assert "is in EUROPE-WEST1 and EUROPE-WEST4" in far_away(places, "europe-north1")[0]


def test_a_bucket_that_is_not_there_is_refused(gcs: GcsTwin) -> None:
    with pytest.raises(UsageError, match=r"--output gs://nobodys/a: there is no bucket nobodys"):
        far_away({"--output": "gs://nobodys/a"}, "europe-west4")
