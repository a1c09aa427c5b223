"""The two places where an archive can live, behind one face, so that a test says its promise once for both."""

from __future__ import annotations

import abc
import os
from pathlib import Path

from tests.cloud.gcs import GcsTwin


class Place(abc.ABC):
    """An archive or an output as something other than our own code sees it."""

    uri: str

    @abc.abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Writes an object, or writes it anew."""

    @abc.abstractmethod
    def get(self, name: str) -> bytes:
        """Reads an object."""

    @abc.abstractmethod
    def remove(self, name: str) -> None:
        """Deletes an object."""

    @abc.abstractmethod
    def names(self) -> list[str]:
        """Names everything that stands there, hidden files as well, sorted."""

    def contents(self, below: str = "") -> dict[str, bytes]:
        """Reads all objects whose names begin with `below`."""
        return {name: self.get(name) for name in self.names() if name.startswith(below)}

    def images(self) -> dict[str, bytes]:
        """Reads all objects that are not bookkeeping."""
        return {name: data for name, data in self.contents().items() if not name.startswith("_relume/")}


class Disk(Place):
    """A folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uri = str(root)

    def put(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.stat().st_mtime_ns if path.exists() else 0
        path.write_bytes(data)
        # Some file systems' clocks tick every few milliseconds: what is written anew within one has its old time.
        if path.stat().st_mtime_ns <= before:
            os.utime(path, ns=(before + 1, before + 1))

    def get(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def remove(self, name: str) -> None:
        (self.root / name).unlink()

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_dir())


class Bucket(Place):
    """A prefix of a bucket of the loopback storage; beside it lies an object that is no part of it."""

    def __init__(self, gcs: GcsTwin, bucket: str) -> None:
        self._gcs = gcs
        self._bucket = bucket
        self.uri = f"gs://{bucket}/deep/archive"
        gcs.create_bucket(bucket)
        gcs.put(bucket, "deep/archive-of-others/a.jpg", b"not ours")

    def put(self, name: str, data: bytes) -> None:
        self._gcs.put(self._bucket, f"deep/archive/{name}", data)

    def get(self, name: str) -> bytes:
        return self._gcs.content(self._bucket, f"deep/archive/{name}")

    def remove(self, name: str) -> None:
        self._gcs.remove(self._bucket, f"deep/archive/{name}")

    def names(self) -> list[str]:
        names = self._gcs.names(self._bucket)
        return sorted(name.removeprefix("deep/archive/") for name in names if name.startswith("deep/archive/"))
