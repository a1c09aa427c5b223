"""Photographs for training, on disk or in Cloud Storage: found, looked at, and read one after another or by Beam."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import apache_beam as beam

from model import looks, photos
from model.looks import Look
from model.photos import PhotoError
from pipeline.elements import ImageRef, Pixels
from pipeline.failures import ImageError
from pipeline.storage import Storage, open_storage

MANY = 1000
"""From so many photographs on Beam is worth its start."""

MAX_BYTES = 2**31
"""Of one file; no picture of 8 bits that training could hold has more."""

Example = tuple[str, dict[str, Any]]


def workers_for(number: int, cores: int) -> int:
    """How many photographs are best read side by side, where nobody says."""
    return cores if number >= MANY else 1


@dataclasses.dataclass(frozen=True)
class Photographs:
    """All photographs below a folder or `gs://BUCKET/PREFIX`, by the endings of their names.

    Each is read twice, at the same version: once to be looked at, once to be stored. Memory holds what they look like
    and, at a time, as many of them as there are workers.

    Attributes:
        uri: of the folder.
        workers: so many are read side by side; from 2 on by Beam, in threads of this process. None decides by their
            number and the cores that there are.
        cores: that there are.
    """

    uri: str
    workers: int | None = None
    cores: int = 1

    @functools.cached_property
    def refs(self) -> Mapping[str, ImageRef]:
        """The photographs by their names, in the order of these.

        Raises:
            PhotoError: if there are none.
        """
        endings = photos.SUFFIXES
        refs = [ref for ref in self._storage.list() if PurePosixPath(ref.name).suffix.lower() in endings]
        if not refs:
            raise PhotoError(f"{self.uri} holds no pictures ({', '.join(sorted(endings))})")
        return {ref.name: ref for ref in sorted(refs)}

    @functools.cached_property
    def looks(self) -> tuple[Look, ...]:
        """What all of them look like, in the order of their names.

        Raises:
            PhotoError: if there are none, or one cannot be read: the first by name.
        """
        found = self._looks_by_beam() if self.beam_settings else (_look_at(ref, self.uri) for ref in self.refs.values())
        seen = []
        for look in found:
            if isinstance(look, str):
                raise PhotoError(look)
            seen.append(look)
        return tuple(seen)

    @functools.cached_property
    def beam_settings(self) -> Mapping[str, Any]:
        """Runner and options of Beam, as TFDS's `DownloadConfig` names them; empty where Beam is not used."""
        workers = workers_for(len(self.refs), self.cores) if self.workers is None else self.workers
        if workers == 1:
            return {}
        from apache_beam.options.pipeline_options import PipelineOptions
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner

        # Threads do: decoding, hashing and encoding let go of Python's lock.
        flags = ["--direct_running_mode=multi_threading", f"--direct_num_workers={workers}"]
        return {"beam_runner": FnApiRunner(), "beam_options": PipelineOptions(flags)}

    def examples(self, names: Sequence[str]) -> Iterator[Example] | beam.PTransform:
        """Pairs of a name and an example of these photographs: an iterator, or a transform of a pipeline's root."""
        refs = [self.refs[name] for name in names]
        return ReadExamples(self.uri, tuple(refs)) if self.beam_settings else (_example(ref, self.uri) for ref in refs)

    @property
    def _storage(self) -> Storage:
        return open_storage(self.uri)

    def _looks_by_beam(self) -> Iterator[Look | str]:
        with tempfile.TemporaryDirectory(prefix="relume-looks-") as scratch:
            runner, options = self.beam_settings["beam_runner"], self.beam_settings["beam_options"]
            with beam.Pipeline(runner=runner, options=options) as root:
                refs = root | "Photographs" >> beam.Create(list(self.refs.values())) | "Spread" >> beam.Reshuffle()
                found = refs | "LookAt" >> beam.Map(lambda ref, uri: (ref.name, _look_at(ref, uri)), self.uri)
                lines = found | "AsLine" >> beam.MapTuple(_as_line)
                _ = lines | "Write" >> beam.io.WriteToText(f"{scratch}/looks")
            found_lines = [line for path in Path(scratch).iterdir() for line in path.read_text().splitlines()]
        for _, look in sorted(json.loads(line) for line in found_lines):
            yield look if isinstance(look, str) else Look(*look)


@dataclasses.dataclass
class ReadExamples(beam.PTransform):
    """Reads photographs for a TFDS data set: a pipeline's root -> `PCollection[Example]`.

    Attributes:
        uri: of the folder.
        refs: the photographs.
    """

    uri: str
    refs: tuple[ImageRef, ...]

    def expand(self, root: Any) -> beam.PCollection[Example]:
        return (
            root
            | "Photographs" >> beam.Create(list(self.refs))
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.Map(_example, self.uri)
        )


def _as_line(name: str, look: Look | str) -> str:
    return json.dumps([name, look if isinstance(look, str) else dataclasses.astuple(look)])


def _look_at(ref: ImageRef, uri: str) -> Look | str:
    """What one looks like, or why that cannot be said."""
    try:
        return looks.look_at(ref.name, _read(ref, uri))
    except PhotoError as error:
        return str(error)


def _example(ref: ImageRef, uri: str) -> Example:
    return ref.name, {"image": _read(ref, uri), "name": ref.name}


def _read(ref: ImageRef, uri: str) -> Pixels:
    """Reads one as `(rows, cols, 3)` uint8.

    Raises:
        PhotoError: if it is not there as it was listed, or no picture.
    """
    storage = open_storage(uri)
    place = storage.address(ref.name)
    try:
        data = storage.read(ref, MAX_BYTES).data
    except ImageError as error:
        raise PhotoError(f"{place} {error}") from error
    return photos.as_rgb(photos.read(io.BytesIO(data), place))
