"""What is to be done: the archive's images, what receipts say is done, and the difference."""

from __future__ import annotations

import csv
import dataclasses
import fnmatch
import io
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics

from pipeline import names
from pipeline.elements import DeadLetter, ImageRef, Row
from pipeline.failures import BadNameError, Failed
from pipeline.storage import CloudStorage, UsageError, open_storage

_NAME_COLUMNS = ("name", "object name", "object_name", "key")
"""How an inventory may call its column of names; Storage Insights says `name`."""


@dataclasses.dataclass
class ListSources(beam.PTransform):
    """Lists an archive: a pipeline's root -> `PCollection[ImageRef]`.

    The listing happens when the pipeline runs, one shard for each folder of the first level, and is never held whole.
    Names below `target_uri` and in any folder `_relume` are left out: they are what Relume wrote.

    Attributes:
        source_uri: the archive's root.
        target_uri: the output's root, or empty.
        include: globs, of which a name must match one; empty takes all. `*` goes across slashes: `*.jpg` matches at any
            depth, `2009/*` all below.
        exclude: globs, of which a name must match none.
        inventory: a file (or a glob of them) with one name a line, CSV or Parquet with a column `name`, taken
            instead of a listing. With columns `size` and `generation`, as Storage Insights writes them, no object is
            looked up. Names that do not exist come without a version and are `missing` when they are read.
    """

    source_uri: str
    target_uri: str = ""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    inventory: str | None = None

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[ImageRef]:
        start = root | "Start" >> beam.Impulse()
        if self.inventory is None:
            shards = start | "Shards" >> beam.FlatMap(lambda _, uri: shards_of(uri), self.source_uri)
            # A few folders fan out to millions of names: without this one worker would list them all.
            listed = shards | "Spread" >> beam.Reshuffle() | "List" >> beam.FlatMap(list_shard, self.source_uri)
        else:
            files = start | "Match" >> beam.FlatMap(lambda _, pattern: match_inventory(pattern), self.inventory)
            lines = files | "Lines" >> beam.FlatMap(read_inventory, self.source_uri)
            # One inventory file is read by one worker, but each name without a version costs a request.
            listed = lines | "Spread" >> beam.Reshuffle() | "LookUp" >> beam.Map(look_up, self.source_uri)
        return listed | "Choose" >> beam.ParDo(_Choose(self.source_uri, self.target_uri, self.include, self.exclude))


class Shard(NamedTuple):
    """A part of a listing: all that begins with `prefix`, or only what has no further slash."""

    prefix: str
    recursive: bool


def shards_of(uri: str) -> Iterator[Shard]:
    """Cuts the listing of a root into parts that can be listed at the same time and together are all of it."""
    yield Shard("", recursive=False)
    for folder in open_storage(uri).folders():
        yield Shard(folder, recursive=True)


def list_shard(shard: Shard, uri: str) -> Iterator[ImageRef]:
    """Lists one part."""
    return open_storage(uri).list(shard.prefix, recursive=shard.recursive)


class _Choose(beam.DoFn):
    """Keeps what is to be looked at. Counters, namespace `list`: `listed`, `left_out`."""

    def __init__(self, source_uri: str, target_uri: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> None:
        self._wanted = Wanted(source_uri, target_uri, include, exclude)
        self._listed = Metrics.counter("list", "listed")
        self._left_out = Metrics.counter("list", "left_out")

    def process(self, ref: ImageRef) -> Iterator[ImageRef]:
        if self._wanted(ref.name):
            self._listed.inc()
            yield ref
        else:
            self._left_out.inc()


class Wanted:
    """Says whether a listed name is to be looked at; arguments as in `ListSources`."""

    def __init__(self, source_uri: str, target_uri: str, include: tuple[str, ...], exclude: tuple[str, ...]) -> None:
        self._output = f"{_below(source_uri, target_uri)}/" if _below(source_uri, target_uri) else None
        self._include = include
        self._exclude = exclude

    def __call__(self, name: str) -> bool:
        ours = names.BOOKKEEPING in name.split("/")[:-1] or (self._output and name.startswith(self._output))
        included = not self._include or matches(name, self._include)
        return not ours and included and not matches(name, self._exclude)


def matches(name: str, globs: Iterable[str]) -> bool:
    """Says whether a name matches one of the globs; case counts, and `*` goes across slashes."""
    return any(fnmatch.fnmatchcase(name, glob) for glob in globs)


def _below(source_uri: str, target_uri: str) -> str:
    """Gives the target's path inside the source, or nothing where it is not inside."""
    if not target_uri:
        return ""
    source, target = open_storage(source_uri).uri, open_storage(target_uri).uri
    return target.removeprefix(f"{source}/") if target.startswith(f"{source}/") else ""


def match_inventory(pattern: str) -> Iterator[str]:
    """Finds the files of an inventory: Storage Insights writes several.

    Raises:
        UsageError: if there is none.
    """
    (found,) = FileSystems.match([pattern])
    if not found.metadata_list:
        raise UsageError(f"--inventory {pattern}: no such file; give a text, CSV or Parquet file, or a glob of them")
    return iter(sorted(metadata.path for metadata in found.metadata_list))


def read_inventory(path: str, source_uri: str) -> Iterator[ImageRef]:
    """Reads the names of one inventory file, as a stream; what stands in it without a version has version `?`.

    A line of a text file is a name below the source, or `gs://bucket/...` in full. A table with a column `bucket` holds
    full names of a whole bucket: those outside the source are no part of it.

    Raises:
        UsageError: if a table has no column of names.
    """
    # Beam unpacks by extension otherwise, and a Parquet file must stay seekable.
    with FileSystems.open(path, compression_type="uncompressed") as file:
        if path.endswith(".parquet"):
            yield from _rows_to_refs(_parquet_rows(file, path), source_uri, path)
        elif path.endswith(".csv"):
            with io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="") as text:
                yield from _rows_to_refs(csv.DictReader(text), source_uri, path)
        else:
            root = f"{open_storage(source_uri).uri}/"
            with io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="\n") as text:
                for line in text:
                    # `find .` writes its names with a dot in front.
                    if name := line.rstrip("\r\n").removeprefix("./"):
                        yield ImageRef(name.removeprefix(root), 0, _UNKNOWN)


_UNKNOWN = "?"


def _parquet_rows(file: Any, path: str) -> Iterator[dict[str, Any]]:
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(file)
    wanted = {*_NAME_COLUMNS, "bucket", "size", "generation"}
    columns = [column for column in table.schema_arrow.names if column.lower() in wanted]
    if not columns:
        raise UsageError(f"--inventory {path}: has columns {table.schema_arrow.names}; one must be called 'name'")
    for batch in table.iter_batches(batch_size=10_000, columns=columns):
        yield from batch.to_pylist()


def _rows_to_refs(rows: Iterable[dict[str, Any]], source_uri: str, path: str) -> Iterator[ImageRef]:
    source = open_storage(source_uri)
    for row in rows:
        cells = {str(column).strip().lower(): cell for column, cell in row.items()}
        column = next((column for column in _NAME_COLUMNS if column in cells), None)
        if column is None:
            raise UsageError(f"--inventory {path}: has columns {list(cells)}; one must be called 'name'")
        name = cells[column] or ""
        if isinstance(source, CloudStorage) and cells.get("bucket"):
            if cells["bucket"] != source.bucket or not name.startswith(source.prefix):
                continue
            name = name.removeprefix(source.prefix)
        name = name.removeprefix(f"{source.uri}/")
        size, generation = cells.get("size"), cells.get("generation")
        if isinstance(source, CloudStorage) and size not in (None, "") and generation:
            yield ImageRef(name, int(size), str(generation))
        else:
            yield ImageRef(name, 0, _UNKNOWN)


def look_up(ref: ImageRef, source_uri: str) -> ImageRef:
    """Adds size and version to a name that came without; a name that does not exist stays without a version."""
    if ref.version != _UNKNOWN:
        return ref
    return open_storage(source_uri).stat(ref.name) or ImageRef(ref.name, 0, "")


@dataclasses.dataclass(frozen=True)
class Done:
    """What one receipt's name says: an image is done.

    Attributes:
        name: of the source.
        key: `names.image_key` of the version and recipe it was done with.
        written: grows with the time at which the receipt was written; ns on disk, a generation in cloud storage.
    """

    name: str
    key: str
    written: int


@dataclasses.dataclass
class ListReceipts(beam.PTransform):
    """Lists what is done: a pipeline's root -> `PCollection[Done]`. Receipts are not opened.

    Attributes:
        target_uri: the output's root.
    """

    target_uri: str

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[Done]:
        start = root | "Start" >> beam.Impulse()
        shards = start | "Shards" >> beam.FlatMap(lambda _, uri: receipt_shards(uri), self.target_uri)
        # As in ListSources: receipts mirror the archive.
        return shards | "Spread" >> beam.Reshuffle() | "List" >> beam.FlatMap(list_receipts, self.target_uri)


def receipt_shards(uri: str) -> Iterator[Shard]:
    """Cuts the listing of an output's receipts into parts, as `shards_of` does for an archive."""
    yield Shard(f"{names.RECEIPTS}/", recursive=False)
    for folder in open_storage(uri).folders(f"{names.RECEIPTS}/"):
        yield Shard(folder, recursive=True)


def list_receipts(shard: Shard, uri: str) -> Iterator[Done]:
    """Lists one part of an output's receipts."""
    for ref in list_shard(shard, uri):
        # A link that leads nowhere has no version, and is no receipt.
        if ref.version and (parts := names.receipt_of(ref.name)):
            yield Done(*parts, int(ref.version.split("-")[0]))


class Work(NamedTuple):
    """The images of an archive, sorted by what is to become of them.

    Attributes:
        pending: `PCollection[ImageRef]`: to be restored.
        skipped: `PCollection[Row]`: done before.
        failed: `PCollection[DeadLetter]`: names that cannot be used.
    """

    pending: beam.PCollection
    skipped: beam.PCollection
    failed: beam.PCollection


@dataclasses.dataclass
class SplitPending(beam.PTransform):
    """Takes off what is done: `(PCollection[ImageRef], PCollection[Done])` -> `Work`.

    A join of two listings by name; no request is made for an image, and nothing is held in memory but one name's
    versions. Counters, namespace `pending`: `pending`, `skipped`, `failed`.

    Attributes:
        target_uri: the output's root, whose limits the names must meet.
        recipe_digest: of this run.
    """

    target_uri: str
    recipe_digest: str

    def expand(self, inputs: tuple[beam.PCollection[ImageRef], beam.PCollection[Done]]) -> Work:
        sources, receipts = inputs
        # Before the join: a name that is not valid Unicode cannot be the key of a shuffle.
        named = sources | "Names" >> beam.ParDo(_CheckName(self.target_uri)).with_outputs("failed", main="good")
        keyed = named.good | "ByName" >> beam.Map(lambda ref: (ref.name, ref))
        done = receipts | "ByDone" >> beam.Map(lambda receipt: (receipt.name, receipt))
        split = (
            {"refs": keyed, "done": done}
            | "Join" >> beam.CoGroupByKey()
            | "Split" >> beam.ParDo(_Split(self.recipe_digest)).with_outputs("skipped", "failed", main="pending")
        )
        failed = (named.failed, split.failed) | "Failed" >> beam.Flatten()
        return Work(split.pending, split.skipped, failed)


class _CheckName(beam.DoFn):
    """Sends names that cannot be used below the output to the side door."""

    def __init__(self, target_uri: str) -> None:
        self._target = open_storage(target_uri)
        self._failed = Metrics.counter("pending", "failed")

    def process(self, ref: ImageRef) -> Iterator[ImageRef | beam.pvalue.TaggedOutput]:
        failure: DeadLetter | None = None
        try:
            self._target.output_name(ref.name)
        except BadNameError as error:
            failure = Failed("list")(ref, error)
        if failure is None:
            yield ref
        else:
            self._failed.inc()
            yield beam.pvalue.TaggedOutput("failed", failure)


class _Split(beam.DoFn):
    """Decides about all that was listed under one name."""

    def __init__(self, recipe_digest: str) -> None:
        self._recipe_digest = recipe_digest
        self._counters = {way: Metrics.counter("pending", way) for way in ("pending", "skipped", "failed")}

    def process(self, group: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[ImageRef | beam.pvalue.TaggedOutput]:
        refs = sorted(group[1]["refs"])
        for ref in refs[1:]:
            self._counters["failed"].inc()
            error = BadNameError(f"{ref.name!r}: listed {len(refs)} times; only the first is taken")
            yield beam.pvalue.TaggedOutput("failed", Failed("list")(ref, error))
        for ref in refs[:1]:
            done = list(group[1]["done"])
            if is_done(ref, done, self._recipe_digest):
                self._counters["skipped"].inc()
                yield beam.pvalue.TaggedOutput("skipped", skipped_row(ref))
            else:
                self._counters["pending"].inc()
                yield dataclasses.replace(ref, again=bool(done))


def is_done(ref: ImageRef, receipts: Iterable[Done], recipe_digest: str) -> bool:
    """Says whether the output that stands is of this version by this recipe.

    That is what the newest receipt says: a source that was changed and then changed back has an older one too, which
    its output no longer is.
    """
    newest = max(receipts, key=lambda receipt: (receipt.written, receipt.key), default=None)
    return newest is not None and newest.key == names.image_key(ref, recipe_digest)


def skipped_row(ref: ImageRef) -> Row:
    """Reports an image that an earlier run has done."""
    return Row(ref.name, ref.version, ref.size, outcome="skipped", reason="done-before")


def check_places(source_uri: str, target_uri: str) -> None:
    """Looks at both ends before anything is built, and changes neither.

    Raises:
        UsageError: if the source is missing or empty, or the output is inside it or it inside the output, or the output
            cannot be written.
    """
    source, target = open_storage(source_uri), open_storage(target_uri)
    source.check_readable("--input")
    if f"{target.uri}/".startswith(f"{source.uri}/"):
        raise UsageError(f"--output {target_uri} is inside --input {source_uri}: give a place beside it")
    if f"{source.uri}/".startswith(f"{target.uri}/"):
        raise UsageError(f"--input {source_uri} is inside --output {target_uri}: give a place beside it")
    target.check_writable("--output")
    if next(source.list(), None) is None:
        raise UsageError(f"--input {source_uri} holds no files")
