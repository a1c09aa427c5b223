"""What workers cost: a dated file that anyone can edit, read and checked."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.resources
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.flags import UsageError, nearest
from pipeline.production.profiles import Profile

_NUMBERS = ("vcpu_hour", "memory_gb_hour", "disk_gb_hour", "shuffle_gb")
_TABLES = ("gpu_hour", "machine_hour")


@dataclasses.dataclass(frozen=True)
class Prices:
    """The prices of one region, in one currency.

    Attributes:
        place: the file they come from, as it is shown.
        date: on which they were written down.
        currency: such as `USD`.
        source: where they come from, one sentence.
        region: of the cloud.
        basis: where this region's come from.
        vcpu_hour, memory_gb_hour, disk_gb_hour: of a worker.
        shuffle_gb: of what a shuffle processes.
        gpu_hour: kind of GPU -> price.
        machine_hour: machine type -> price that takes the place of its vCPUs and memory.
    """

    place: str
    date: datetime.date
    currency: str
    source: str
    region: str
    basis: str
    vcpu_hour: float
    memory_gb_hour: float
    disk_gb_hour: float
    shuffle_gb: float
    gpu_hour: Mapping[str, float]
    machine_hour: Mapping[str, float]

    def worker_hour(self, profile: Profile) -> float:
        """What one worker of a profile costs for an hour.

        Raises:
            UsageError: if its GPU has no price here.
        """
        compute = self.machine_hour.get(
            profile.machine_type, profile.vcpus * self.vcpu_hour + profile.memory_gb * self.memory_gb_hour
        )
        gpu = 0.0
        if profile.gpu is not None:
            if profile.gpu.kind not in self.gpu_hour:
                raise UsageError(f"--prices {self.place}: region {self.region} has no price of {profile.gpu.kind}")
            gpu = self.gpu_hour[profile.gpu.kind]
        return compute + gpu + profile.disk_gb * self.disk_gb_hour


def read_prices(file: str | None, region: str) -> Prices:
    """Reads the prices of a region.

    Args:
        file: a TOML file like the one that ships with the package, on this machine or `gs://...`; that one where None.
        region: that must be in it.

    Raises:
        UsageError: one line, if the file is not there, is no such file, or lacks the region.
    """
    place = "built in" if file is None else file
    try:
        values = tomllib.loads(_bytes_of(file).decode("utf-8"))
        return _prices(place, values, region)
    except OSError as error:
        raise UsageError(f"--prices {place}: cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"--prices {place}: must be a TOML file of prices: {error}") from error
    except _WrongError as error:
        raise UsageError(f"--prices {place}: {error}") from error


class _WrongError(Exception):
    """The file says something that is no price; the text says what would be right."""


def _bytes_of(file: str | None) -> bytes:
    if file is None:
        return importlib.resources.files(__package__).joinpath("prices.toml").read_bytes()
    if not file.startswith("gs://"):
        return Path(file).read_bytes()
    # Late: a price list on this machine needs no client of the cloud.
    from pipeline.storage import open_storage

    folder, _, name = file.rpartition("/")
    data = open_storage(folder).read_small(name)
    if data is None:
        raise FileNotFoundError(2, "no such object")
    return data


def _prices(place: str, values: dict[str, Any], region: str) -> Prices:
    _known(values, ("date", "currency", "source", "regions"), "the file")
    date = values["date"]
    if not isinstance(date, datetime.date) or isinstance(date, datetime.datetime):
        raise _WrongError(f"date must be a day such as 2026-11-22, without quotes, got {date!r}")
    regions = _table(values["regions"], "regions")
    if region not in regions:
        near = nearest(region, regions)
        there = f"--prices {place} has prices of {', '.join(regions) or 'no region'}"
        raise UsageError(f"--price_region {region}: {there}" + (f"; did you mean {near}?" if near else ""))
    found = _table(regions[region], f"regions.{region}")
    _known(found, ("basis", *_NUMBERS), f"regions.{region}", allowed=_TABLES)
    return Prices(
        place=place,
        date=date,
        currency=_text(values["currency"], "currency"),
        source=_text(values["source"], "source"),
        region=region,
        basis=_text(found["basis"], f"regions.{region}.basis"),
        vcpu_hour=_price(found["vcpu_hour"], f"regions.{region}.vcpu_hour"),
        memory_gb_hour=_price(found["memory_gb_hour"], f"regions.{region}.memory_gb_hour"),
        disk_gb_hour=_price(found["disk_gb_hour"], f"regions.{region}.disk_gb_hour"),
        shuffle_gb=_price(found["shuffle_gb"], f"regions.{region}.shuffle_gb"),
        gpu_hour=_price_table(found.get("gpu_hour", {}), f"regions.{region}.gpu_hour"),
        machine_hour=_price_table(found.get("machine_hour", {}), f"regions.{region}.machine_hour"),
    )


def _known(values: Mapping[str, Any], needed: tuple[str, ...], where: str, allowed: tuple[str, ...] = ()) -> None:
    """Refuses a table that lacks a key, or has one that nobody reads: a misspelt price would count as none."""
    for key in needed:
        if key not in values:
            raise _WrongError(f"{where} lacks {key}")
    for key in values:
        if key not in (*needed, *allowed):
            near = nearest(key, (*needed, *allowed))
            raise _WrongError(f"{where} has {key!r}, which is no key" + (f"; did you mean {near}?" if near else ""))


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _WrongError(f"{where} must be a table, got {value!r}")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise _WrongError(f"{where} must be text, got {value!r}")
    return value


def _price_table(value: Any, where: str) -> dict[str, float]:
    return {key: _price(price, f"{where}.{key}") for key, price in _table(value, where).items()}


def _price(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise _WrongError(f"{where} must be a price, a number of at least 0, got {value!r}")
    return float(value)
