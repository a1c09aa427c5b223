"""Opening a storage, and reading files as a stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipeline import logs
from pipeline.elements import DeadLetter, File, ImageRef, LargeFile
from pipeline.failures import Failed, ImageError, Outcome
from pipeline.flags import UsageError
from pipeline.storage.cloud import CloudStorage
from pipeline.storage.disk import LocalStorage
from pipeline.storage.interface import Storage


def open_storage(uri: str) -> Storage:
    """Chooses the storage for a folder or a `gs://bucket/prefix`; opens nothing.

    Raises:
        UsageError: if the URI is of another kind.
    """
    if uri.startswith("gs://"):
        return CloudStorage(uri)
    if not uri or "://" in uri:
        raise UsageError(f"{uri!r} is no place for images: give a folder or gs://BUCKET/PREFIX")
    return LocalStorage(uri)


@dataclasses.dataclass
class ReadFiles(beam.PTransform):
    """References to bytes: `PCollection[ImageRef]` -> `Outcome` of `File`, and of `LargeFile` where that is asked for.

    Attributes:
        source_uri: the archive's root.
        max_bytes: of one file; larger ones are dead letters.
        held_bytes: files with more become a `LargeFile`; None holds all.
    """

    source_uri: str
    max_bytes: int
    held_bytes: int | None = None

    def expand(self, refs: beam.PCollection[ImageRef]) -> Outcome:
        read = refs | "Read" >> beam.ParDo(_ReadFile(self.source_uri, self.max_bytes, self.held_bytes)).with_outputs(
            "failed", main="good"
        )
        return Outcome(read.good, read.failed)


class _ReadFile(beam.DoFn):
    """Reads one file. Counters, namespace `read`: `files`, `bytes`, `failed`."""

    def __init__(self, source_uri: str, max_bytes: int, held_bytes: int | None) -> None:
        self._source = open_storage(source_uri)
        self._max_bytes = max_bytes
        self._held_bytes = max_bytes if held_bytes is None else held_bytes
        self._files = Metrics.counter("read", "files")
        self._bytes = Metrics.counter("read", "bytes")
        self._failures = Metrics.counter("read", "failed")

    def process(self, ref: ImageRef) -> Iterator[File | LargeFile | beam.pvalue.TaggedOutput]:
        result: File | LargeFile | DeadLetter
        read = self._source.read if ref.size <= self._held_bytes else self._source.fetch
        try:
            with logs.about(image=ref.name, stage="read"):
                result = read(ref, self._max_bytes)
        except ImageError as error:
            result = Failed("read")(ref, error)
        if isinstance(result, DeadLetter):
            self._failures.inc()
            yield beam.pvalue.TaggedOutput("failed", result)
        else:
            self._files.inc()
            self._bytes.inc(ref.size)
            yield result
