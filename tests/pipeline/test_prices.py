"""The file of prices: dated, editable, and refused in one line where it is wrong."""

from __future__ import annotations

import datetime
import importlib.resources
from pathlib import Path

import pytest

from pipeline.flags import UsageError
from pipeline.production.prices import read_prices
from pipeline.production.profiles import PROFILES, profile_of
from tests.cloud.gcs import GcsTwin

SHIPPED = importlib.resources.files("pipeline.production").joinpath("prices.toml").read_text()


@pytest.mark.parametrize("region", ["us-central1", "europe-west1"])
def test_the_prices_that_ship_price_every_profile_and_say_when_and_whence(region: str) -> None:
    prices = read_prices(None, region)

    hours = {name: prices.worker_hour(profile) for name, profile in PROFILES.items()}

    assert 0.1 < hours["cpu"] < hours["t4"] < hours["l4"] < hours["a100"] < 10
    assert isinstance(prices.date, datetime.date)
    assert (prices.currency, "check before you rely on" in prices.source) == ("USD", True)


def test_a_workers_hour_is_its_vcpus_memory_disk_and_gpu_or_its_machines_own_price(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        'date = 2027-01-02\ncurrency = "EUR"\nsource = "our contract"\n[regions.moon]\nbasis = "offer 7"\n'
        "vcpu_hour = 1\nmemory_gb_hour = 0.5\ndisk_gb_hour = 0.01\nshuffle_gb = 0\n"
        "[regions.moon.gpu_hour]\nnvidia-tesla-t4 = 3\n"
        "[regions.moon.machine_hour]\nn2-standard-4 = 2\n"
    )

    prices = read_prices(str(own), "moon")

    # 4 vCPUs, 15 GB, 100 GB of disk, one GPU; and a machine of 2 with 50 GB of disk.
    assert prices.worker_hour(profile_of("t4")) == pytest.approx(4 + 7.5 + 1 + 3)
    assert prices.worker_hour(profile_of("cpu")) == pytest.approx(2 + 0.5)
    with pytest.raises(UsageError, match=r"--prices .*own.toml: region moon has no price of nvidia-l4"):
        prices.worker_hour(profile_of("l4"))


def test_prices_may_lie_in_a_bucket(gcs: GcsTwin) -> None:
    gcs.create_bucket("costs")
    gcs.put("costs", "a/prices.toml", SHIPPED.replace("0.056", "0.5").encode())

    assert read_prices("gs://costs/a/prices.toml", "us-central1").vcpu_hour == 0.5
    with pytest.raises(UsageError, match=r"--prices gs://costs/a/none\.toml: cannot be read: no such object"):
        read_prices("gs://costs/a/none.toml", "us-central1")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("0.056", "-1", "regions.us-central1.vcpu_hour must be a price, a number of at least 0, got -1"),
        ("0.056", '"0.056"', "regions.us-central1.vcpu_hour must be a price, a number of at least 0, got '0.056'"),
        ("0.056", "nan", "regions.us-central1.vcpu_hour must be a price, a number of at least 0, got nan"),
        ("0.42", "true", "regions.us-central1.gpu_hour.nvidia-tesla-t4 must be a price"),
        ("vcpu_hour", "vpcu_hour", "regions.us-central1 lacks vcpu_hour"),
        ("[regions.us-central1.gpu_hour]", "[regions.us-central1.gpus_hour]", "'gpus_hour', which is no key; did you"),
        ("date = 2026-11-22", 'date = "today"', "date must be a day such as 2026-11-22, without quotes, got 'today'"),
        ('currency = "USD"', "currency = 7", "currency must be text, got 7"),
        ("currency", "curency", "the file lacks currency"),
        ("date =", "date", "must be a TOML file of prices"),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_one_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(SHIPPED.replace(old, new))

    with pytest.raises(UsageError) as caught:
        read_prices(str(file), "us-central1")

    assert str(caught.value).startswith(f"--prices {file}: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_region_that_the_file_lacks_is_named_by_its_own_flag() -> None:
    with pytest.raises(UsageError) as caught:
        read_prices(None, "us-central2")

    assert str(caught.value) == (
        "--price_region us-central2: --prices built in has prices of us-central1, europe-west1; did you mean "
        "us-central1?"
    )


def test_a_file_that_is_not_there_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file or directory"):
        read_prices(str(tmp_path / "none.toml"), "us-central1")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        read_prices(str(tmp_path), "us-central1")
