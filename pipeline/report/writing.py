"""The page of a run, written beside its tables: by the run itself, or again from what it left behind."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable
from typing import Any

import apache_beam as beam

from pipeline import names
from pipeline.elements import ImageRef, Row
from pipeline.failures import ImageError
from pipeline.report.crops import MAX_MEGAPIXELS, Crops, crop_pair
from pipeline.report.page import make_page
from pipeline.report.summary import Summary
from pipeline.report.tally import Tally
from pipeline.storage import Created, Storage, open_storage

_MAX_SOURCE_BYTES = 256 * 2**20


class TallyRows(beam.CombineFn):
    """Counts rows for the page: `Row` -> `Tally`."""

    def create_accumulator(self) -> Tally:
        return Tally()

    def add_input(self, counted: Tally, row: Row) -> Tally:
        return counted.add(row)

    def merge_accumulators(self, tallies: Iterable[Tally]) -> Tally:
        return functools.reduce(Tally.merge, tallies, Tally())

    def extract_output(self, counted: Tally) -> Tally:
        return counted


@dataclasses.dataclass
class WritePage(beam.PTransform):
    """Writes the page of a run: `(PCollection[Row], PCollection[dict])` -> `PCollection[str]`.

    The rows are all of the run, the dict is its summary, as `recording.WriteReport` gives it; the one element is the
    page's name below the output's root.

    Attributes:
        target_uri: the output's root.
    """

    target_uri: str

    def expand(self, inputs: tuple[beam.PCollection[Row], beam.PCollection[dict[str, Any]]]) -> beam.PCollection[str]:
        rows, record = inputs
        counted = rows | "Tally" >> beam.CombineGlobally(TallyRows())
        return record | "Page" >> beam.Map(write_page, self.target_uri, beam.pvalue.AsSingleton(counted))


def write_page(record: dict[str, Any], target_uri: str, counted: Tally, *, replace: bool = False) -> str:
    """Writes `report.html` into a run's folder.

    Args:
        record: the run's summary, as summary.json holds it.
        target_uri: the output's root.
        counted: all rows of the run.
        replace: puts the page in place of an older one that differs, which needs the right to; else that one stays.

    Returns:
        The page's name below the output's root.
    """
    target = open_storage(target_uri)
    summary = Summary.from_record(record, output=target.uri)
    page = make_page(summary, counted, lambda row: find_crops(row, target, summary.digests["recipe"]))
    data = page.encode()
    name = f"{names.RUNS}/{summary.run_id}/report.html"
    attempt = hashlib.sha256(data).hexdigest()
    if target.create(name, data, content_type="text/html", attempt=attempt) is Created.CONFLICT and replace:
        standing = target.stat(name)
        if standing is not None:
            target.replace(standing, data, content_type="text/html", attempt=attempt)
    return name


def find_crops(row: Row, target: Storage, recipe_digest: str) -> Crops | None:
    """Reads a restored image and its source, by what its receipt says, and cuts out where they differ most.

    Returns:
        The crops; None where either is gone, changed, too large, or cannot be shown.
    """
    if row.width * row.height > MAX_MEGAPIXELS * 10**6:
        return None
    ref = ImageRef(row.name, row.size, row.version)
    try:
        receipt = target.read_small(names.receipt_name(ref, recipe_digest))
        after = target.read_small(row.output)
        if receipt is None or after is None:
            return None
        root = json.loads(receipt)["source"]["uri"].removesuffix(f"/{row.name}")
        before = open_storage(root).read(ref, _MAX_SOURCE_BYTES)
    except (ImageError, OSError):
        return None
    return crop_pair(before.data, after)
