"""What a run counts and logs of all its images, on the workers: metrics that show while it runs."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipeline import logs
from pipeline.elements import ImageRef, Row
from pipeline.report.words import printable

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass
class SetUpLogs(beam.PTransform):
    """Passes references on, each as it is, and has every worker process log as the launcher does.

    Attributes:
        run_id: that the lines are about.
        as_json: as in `logs.set_up`.
    """

    run_id: str
    as_json: bool

    def expand(self, refs: beam.PCollection[ImageRef]) -> beam.PCollection[ImageRef]:
        return refs | "Set" >> beam.ParDo(_SetUp(self.run_id, self.as_json))


class _SetUp(beam.DoFn):
    def __init__(self, run_id: str, as_json: bool) -> None:
        self._run_id, self._as_json = run_id, as_json

    def setup(self) -> None:
        logs.set_up(as_json=self._as_json, run=self._run_id)

    def process(self, ref: ImageRef) -> Iterator[ImageRef]:
        yield ref


@dataclasses.dataclass
class CountImages(beam.PTransform):
    """Counts what became of images, and logs those that failed: `PCollection[Row]` -> the same rows.

    Counters, namespace `images`: `restored`, `kept`, `skipped`, `failed`, `left`.
    """

    def expand(self, rows: beam.PCollection[Row]) -> beam.PCollection[Row]:
        return rows | "Count" >> beam.Map(_counted)


def _counted(row: Row) -> Row:
    Metrics.counter("images", row.outcome).inc()
    if row.outcome == "failed":
        name = printable(row.name)
        _LOG.warning(
            "%s: given up at %s, %s: %s",
            name,
            row.stage,
            row.reason,
            printable(row.detail),
            extra={"image": name, "stage": row.stage, "reason": row.reason},
        )
    return row
