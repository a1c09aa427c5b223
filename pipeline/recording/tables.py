"""A table with one row an image, the failures among them, and the summary of a run."""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import json
import math
import shlex
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam

from pipeline import names
from pipeline.elements import Damage, DeadLetter, ImageRef, Measures, Row
from pipeline.recording.receipts import RECEIPT_FORMAT, RunInfo, canonical_json
from pipeline.storage import Created, Storage, open_storage

_ROWS_IN_SHARD = 50_000
"""Of a table; one shard is held in memory by one worker (about 50 MB)."""


def row_of_failure(dead: DeadLetter) -> Row:
    """Reports an input that was given up."""
    ref = dead.ref
    return Row(ref.name, ref.version, ref.size, "failed", dead.reason, stage=dead.stage, detail=dead.detail)


def _columns() -> list[tuple[str, str, Callable[[Row], Any]]]:
    """Gives the table's columns: name, type, and how to take the value from a row."""

    def part(group: str, field: str) -> Callable[[Row], Any]:
        return lambda row: getattr(getattr(row, group), field, None)

    def plain(field: str) -> Callable[[Row], Any]:
        # Names and details may hold bytes that are no UTF-8, which a column of strings cannot.
        return lambda row: names.printable(value) if isinstance(value := getattr(row, field), str) else value

    types = {"str": "string", "int": "int64", "float": "float64", "bool": "bool"}
    columns = []
    for field in dataclasses.fields(Row):
        if field.name not in _GROUPS:
            columns.append((field.name, types[str(field.type)], plain(field.name)))
            continue
        for inner in dataclasses.fields(_GROUPS[field.name]):
            kind = types[str(inner.type).removesuffix(" | None")]
            columns.append((f"{field.name}_{inner.name}", kind, part(field.name, inner.name)))
    return columns


_GROUPS: dict[str, type[Measures] | type[Damage]] = {"before": Measures, "after": Measures, "damage": Damage}
"""Fields of a row that hold several numbers: a column each, such as `before_psnr`."""


def table_of(rows: Iterable[Row]) -> bytes:
    """Writes rows as a flat Parquet file, sorted by name; the same rows give the same bytes."""
    import pyarrow
    import pyarrow.parquet

    ordered = sorted(rows, key=lambda row: (row.name, row.version, row.outcome, row.reason, row.detail))
    columns = {
        name: pyarrow.array([value(row) for row in ordered], pyarrow.type_for_alias(kind))
        for name, kind, value in _columns()
    }
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def rows_of(table: bytes) -> Iterator[Row]:
    """Reads a table back, the inverse of `table_of`."""
    import pyarrow
    import pyarrow.parquet

    for cells in pyarrow.parquet.read_table(pyarrow.BufferReader(table)).to_pylist():
        groups: dict[str, Any] = {}
        for group, kind in _GROUPS.items():
            inner = {field.name: cells.pop(f"{group}_{field.name}") for field in dataclasses.fields(kind)}
            # An image that the model never saw has no damage at all, not one without numbers.
            groups[group] = None if kind is Damage and inner["kind"] is None else kind(**inner)
        yield Row(**cells, **groups)


def failures_of(rows: Iterable[Row], source_uri: str) -> bytes:
    """Writes failed rows as JSON lines, sorted by name, each with a command that tries this image alone again."""
    ordered = sorted(rows, key=lambda row: (row.name, row.version, row.stage, row.reason, row.detail))
    return b"".join(
        canonical_json(
            {
                "name": row.name,
                "version": row.version,
                "stage": row.stage,
                "reason": row.reason,
                "detail": row.detail,
                "repro": repro_of(row.name, source_uri),
            }
        )
        for row in ordered
    )


def repro_of(name: str, source_uri: str) -> str:
    """Gives the command line that restores one image alone into a folder beside."""
    include = glob.escape(names.printable(name))
    arguments = ["relume", "restore", "--input", source_uri, "--include", include, "--output", "relume-repro"]
    return shlex.join(arguments)


@dataclasses.dataclass
class WriteReport(beam.PTransform):
    """Writes a run's tables and then its summary: `(PCollection[Row], PCollection[ImageRef])` -> `PCollection[dict]`.

    The rows are all that became of all inputs, the references what was listed. In the run's folder stand then
    `images-*.parquet`, `failures-*.jsonl` where something failed, and last `summary.json`; all of them are created,
    never overwritten, and need no right to delete. The summary is the transform's one element. Where rows and inputs do
    not add up it is written too, and the pipeline fails.

    Attributes:
        source_uri: the archive's root, for the command that repeats a failure.
        target_uri: the output's root.
        run: with what the run works.
    """

    source_uri: str
    target_uri: str
    run: RunInfo

    def expand(
        self, inputs: tuple[beam.PCollection[Row], beam.PCollection[ImageRef]]
    ) -> beam.PCollection[dict[str, Any]]:
        rows, sources = inputs
        failed = rows | "Failed" >> beam.Filter(lambda row: row.outcome == "failed")
        source_uri, target_uri, folder = self.source_uri, self.target_uri, self.run.folder
        tables = rows | "Images" >> _WriteShards(target_uri, f"{folder}/images", "parquet", table_of)
        failures = failed | "Failures" >> _WriteShards(
            target_uri, f"{folder}/failures", "jsonl", lambda shard: failures_of(shard, source_uri)
        )
        totals = rows | "Totals" >> beam.CombineGlobally(_Totals())
        listed = sources | "Listed" >> beam.combiners.Count.Globally()
        return totals | "Summary" >> beam.Map(
            write_summary,
            target_uri,
            self.run,
            beam.pvalue.AsSingleton(listed),
            # Taken so that the summary waits for them: where it stands, the tables are whole.
            beam.pvalue.AsList(tables),
            beam.pvalue.AsList(failures),
        )


@dataclasses.dataclass
class _WriteShards(beam.PTransform):
    """Writes rows as shards of a table: `PCollection[Row]` -> `PCollection[str]`, the shards' names.

    Beam's own file sinks rename and delete, which a worker may not be allowed to do in the output.
    """

    target_uri: str
    prefix: str
    ending: str
    write: Callable[[Iterable[Row]], bytes]

    def expand(self, rows: beam.PCollection[Row]) -> beam.PCollection[str]:
        count = rows | "Count" >> beam.combiners.Count.Globally()
        shards = count | "Shards" >> beam.Map(lambda total: max(1, math.ceil(total / _ROWS_IN_SHARD)))
        # The only shuffle of rows: a shard's rows come together, whichever worker has made them.
        return (
            rows
            | "Number" >> beam.Map(lambda row, total: (_shard_of(row, total), row), beam.pvalue.AsSingleton(shards))
            | "Gather" >> beam.GroupByKey()
            | "Write" >> beam.Map(self._write_shard, beam.pvalue.AsSingleton(shards))
        )

    def _write_shard(self, shard: tuple[int, Iterable[Row]], total: int) -> str:
        number, rows = shard
        name = f"{self.prefix}-{number:05d}-of-{total:05d}.{self.ending}"
        _create_once(open_storage(self.target_uri), name, self.write(rows), "application/octet-stream")
        return name


def _shard_of(row: Row, total: int) -> int:
    """Chooses a row's shard by its name, the same on every worker: Python's own hash of a text is not."""
    return zlib.crc32(row.name.encode("utf-8", "surrogatepass")) % total


def _create_once(target: Storage, name: str, data: bytes, content_type: str) -> None:
    how = target.create(name, data, content_type=content_type, attempt=hashlib.sha256(data).hexdigest())
    if how is Created.CONFLICT:
        raise RuntimeError(f"{target.address(name)} holds something else: two runs have the same run id")


@dataclasses.dataclass
class _Sums:
    """What the rows of a run add up to, so far."""

    outcomes: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    pixels: int = 0
    compared: int = 0
    devices: set[str] = dataclasses.field(default_factory=set)
    bytes_in: int = 0
    bytes_out: int = 0
    measures: dict[str, list[float]] = dataclasses.field(default_factory=dict)


class _Totals(beam.CombineFn):
    """Adds rows up: `Row` -> `_Sums`; sums of measures are kept as `[before, after, count]`."""

    def create_accumulator(self) -> _Sums:
        return _Sums()

    def add_input(self, sums: _Sums, row: Row) -> _Sums:
        sums.outcomes[row.outcome, row.reason] += 1
        if row.outcome in ("skipped", "left"):
            return sums
        sums.bytes_in += row.size
        sums.bytes_out += row.output_size
        if row.damage is not None:
            sums.devices.add(row.device)
        if row.outcome == "restored":
            sums.pixels += row.width * row.height * max(row.pages, 1)
            sums.compared += row.after.psnr is not None
            for field in dataclasses.fields(Measures):
                before, after = getattr(row.before, field.name), getattr(row.after, field.name)
                if before is not None and after is not None and math.isfinite(before) and math.isfinite(after):
                    sums.measures[field.name] = _added(sums.measures.get(field.name), [before, after, 1])
        return sums

    def merge_accumulators(self, accumulators: Iterable[_Sums]) -> _Sums:
        merged = _Sums()
        for sums in accumulators:
            merged.outcomes.update(sums.outcomes)
            merged.pixels += sums.pixels
            merged.compared += sums.compared
            merged.devices |= sums.devices
            merged.bytes_in += sums.bytes_in
            merged.bytes_out += sums.bytes_out
            for name, values in sums.measures.items():
                merged.measures[name] = _added(merged.measures.get(name), values)
        return merged

    def extract_output(self, sums: _Sums) -> _Sums:
        return sums


def _added(one: list[float] | None, other: list[float]) -> list[float]:
    return [a + b for a, b in zip(one, other, strict=True)] if one else list(other)


OUTCOMES = ("restored", "kept", "skipped", "failed", "left")
"""What can become of an input; one that is left was not begun before a cap of the run was reached."""


def summary_of(sums: _Sums, target_uri: str, run: RunInfo, listed: int) -> dict[str, Any]:
    """Says what became of all inputs together.

    Megapixels are of restored images, bytes of all but skipped and left ones; `before` and `after` are means over the
    restored images where both values were taken and are finite, or null; `compared` counts restored images with a
    reference. `device` names what the model ran on, each once; empty where it saw no image.
    """
    reasons: dict[str, dict[str, int]] = {outcome: {} for outcome in OUTCOMES}
    for (outcome, reason), count in sorted(sums.outcomes.items()):
        reasons[outcome][reason] = count
    counts = {outcome: sum(reasons[outcome].values()) for outcome in OUTCOMES}
    return {
        "relume": RECEIPT_FORMAT,
        "run_id": run.run_id,
        "output": open_storage(target_uri).uri,
        "inputs": listed,
        "counts": counts,
        "reasons": reasons,
        "accounted": listed == sum(counts.values()),
        "megapixels": sums.pixels / 1e6,
        "bytes_in": sums.bytes_in,
        "bytes_out": sums.bytes_out,
        "compared": sums.compared,
        "before": {field.name: _mean(sums.measures.get(field.name), 0) for field in dataclasses.fields(Measures)},
        "after": {field.name: _mean(sums.measures.get(field.name), 1) for field in dataclasses.fields(Measures)},
        "version": run.code_version,
        "digests": {"model": run.model_digest, "recipe": run.recipe_digest},
        "device": ", ".join(sorted(sums.devices)),
        "settings": dict(run.settings),
    }


def _mean(measure: list[float] | None, state: int) -> float | None:
    # Six digits: a sum of floats depends on the order in which workers hand in their parts.
    return None if measure is None else round(measure[state] / measure[2], 6)


def write_summary(
    sums: _Sums, target_uri: str, run: RunInfo, listed: int, tables: list[str], failures: list[str]
) -> dict[str, Any]:
    """Writes `summary.json` as the last object of a run, and gives what is in it.

    Raises:
        RuntimeError: if not every input has exactly one row.
    """
    summary = {**summary_of(sums, target_uri, run, listed), "tables": sorted(tables), "failures": sorted(failures)}
    data = canonical_json(summary)
    _create_once(open_storage(target_uri), f"{run.folder}/summary.json", data, "application/json")
    if not summary["accounted"]:
        raise RuntimeError(f"{listed} inputs were listed, but rows add up to {summary['counts']}")
    return json.loads(data)


def read_summary(target_uri: str, run_id: str) -> dict[str, Any] | None:
    """Reads a run's summary; None while the run has not ended."""
    data = open_storage(target_uri).read_small(f"{names.RUNS}/{run_id}/summary.json")
    return None if data is None else json.loads(data)


def runs_with(target: Storage, file: str) -> list[str]:
    """Lists the runs of an output whose folder holds a file, in the order in which these were written.

    Args:
        target: the output.
        file: `plan.json` for all runs that were begun, `summary.json` for those that have ended.
    """
    found = []
    for folder in target.folders(f"{names.RUNS}/"):
        written = target.stat(f"{folder}{file}")
        if written is not None:
            # Modification time in ns, or generation: either grows.
            found.append((int(written.version.partition("-")[0]), folder.removeprefix(f"{names.RUNS}/").rstrip("/")))
    return [run_id for _, run_id in sorted(found)]


def read_rows(target_uri: str, run_id: str) -> Iterator[Row]:
    """Reads a run's table, as a stream of shards."""
    target = open_storage(target_uri)
    for ref in target.list(f"{names.RUNS}/{run_id}/images-"):
        if data := target.read_small(ref.name):
            yield from rows_of(data)
