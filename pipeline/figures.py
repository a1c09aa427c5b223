"""What a run's metrics say: the same figures from a runner on this machine and from Dataflow."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from pipeline import names
from pipeline.recording import OUTCOMES, canonical_json
from pipeline.storage import open_storage


@dataclasses.dataclass(frozen=True)
class Spread:
    """What is known of many whole numbers.

    Attributes:
        count, sum, max: of them.
    """

    count: int
    sum: int
    max: int

    @property
    def mean(self) -> float:
        """0 where there are none."""
        return self.sum / self.count if self.count else 0.0


NONE = Spread(0, 0, 0)

Metrics = Mapping[tuple[str, str], int | Spread]
"""Value by namespace and name."""


@dataclasses.dataclass(frozen=True)
class Figures:
    """What a run has done, and how.

    Attributes:
        images: how many came to each outcome.
        megapixels: that the model restored, in millions.
        bytes_read, bytes_written: of sources and of outputs.
        batch_ms: milliseconds of a batch of images, from pixels to pixels.
        decode_ms: milliseconds of a file, from bytes to pixels.
        busy_share: 0..1: of the time since the model was loaded, that in which it was at work; mean over the worker
            processes, weighed by their time. None where no model was loaded.
    """

    images: Mapping[str, int]
    megapixels: float
    bytes_read: int
    bytes_written: int
    batch_ms: Spread
    decode_ms: Spread
    busy_share: float | None

    @classmethod
    def of(cls, metrics: Metrics) -> Figures:
        """Takes the figures out of all metrics of a job; those of steps that did not come to run are 0."""

        def counter(namespace: str, name: str) -> int:
            value = metrics.get((namespace, name), 0)
            return value if isinstance(value, int) else 0

        def spread(namespace: str, name: str) -> Spread:
            value = metrics.get((namespace, name), NONE)
            return value if isinstance(value, Spread) else NONE

        busy, wall = counter("restore", "busy_ms"), counter("restore", "wall_ms")
        return cls(
            images={outcome: counter("images", outcome) for outcome in OUTCOMES},
            megapixels=counter("restore", "pixels") / 1e6,
            bytes_read=counter("read", "bytes"),
            bytes_written=counter("write", "bytes"),
            batch_ms=spread("restore", "batch_ms"),
            decode_ms=spread("decode", "file_ms"),
            busy_share=round(busy / wall, 4) if wall else None,
        )

    def values(self) -> dict[str, Any]:
        """As JSON's values."""
        return {
            "images": dict(self.images),
            "megapixels": round(self.megapixels, 6),
            "bytes_read": self.bytes_read,
            "bytes_written": self.bytes_written,
            "batches": self.batch_ms.count,
            "batch_ms": _told(self.batch_ms),
            "decode_ms": _told(self.decode_ms),
            "busy_share": self.busy_share,
        }


def _told(spread: Spread) -> dict[str, Any]:
    return {"mean": round(spread.mean, 1), "max": spread.max}


def metrics_of(result: Any) -> Metrics:
    """Reads the metrics of a pipeline that ran on this machine.

    Args:
        result: Beam's `PipelineResult`.
    """
    found: dict[tuple[str, str], int | Spread] = {}
    queried = result.metrics().query()
    for kind in ("counters", "distributions"):
        for one in queried[kind]:
            name = (one.key.metric.namespace, one.key.metric.name)
            # Without a word of the runner on what it committed, what was attempted is the best that is known.
            value = one.attempted if one.committed is None else one.committed
            add(found, name, value if kind == "counters" else Spread(value.count, value.sum, value.max))
    return found


def add(found: dict[tuple[str, str], int | Spread], name: tuple[str, str], value: int | Spread) -> None:
    """Adds a metric of one step to those of others: a counter that two steps have is one figure."""
    known = found.get(name)
    if isinstance(value, Spread):
        if isinstance(known, Spread):
            value = Spread(known.count + value.count, known.sum + value.sum, max(known.max, value.max))
    elif isinstance(known, int):
        value = known + value
    found[name] = value


def write(figures: Figures, output: str, run_id: str) -> None:
    """Writes a run's `metrics.json`; unlike all else that a run writes it holds times, and two runs' differ.

    It is written by who started the run, after it ended, and so is not there where it ran on a service.
    """
    data = canonical_json(figures.values())
    open_storage(output).create(_name(run_id), data, content_type="application/json", attempt=run_id)


def read(output: str, run_id: str) -> dict[str, Any] | None:
    """Reads a run's `metrics.json`; None where there is none."""
    data = open_storage(output).read_small(_name(run_id))
    return None if data is None else json.loads(data)


def _name(run_id: str) -> str:
    return f"{names.RUNS}/{run_id}/metrics.json"
