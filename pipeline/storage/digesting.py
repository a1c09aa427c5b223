"""Digests of objects too large to be held: their bytes flow past and are dropped."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import stat
from typing import Any

import google_crc32c

from pipeline.elements import ImageRef
from pipeline.failures import ChangedError, MissingError, UnreadableError
from pipeline.storage.cloud import CloudStorage
from pipeline.storage.disk import LocalStorage
from pipeline.storage.interface import Storage

_CHUNK_BYTES = 2**20


@dataclasses.dataclass(frozen=True)
class Digests:
    """What names the bytes of an object.

    Attributes:
        size: in bytes.
        crc32c, sha256: as in `File`.
    """

    size: int
    crc32c: str
    sha256: str


def digests_of(storage: Storage, ref: ImageRef) -> Digests:
    """Digests exactly the version of an object that was listed; a mebibyte of it is in memory at a time.

    Raises:
        MissingError: if the object is gone.
        ChangedError: if it is another version by now.
        UnreadableError: if it may not or cannot be read, or its bytes are not those of its checksum.
    """
    sink = _Sink()
    if isinstance(storage, LocalStorage):
        _pour_file(storage, ref, sink)
    elif isinstance(storage, CloudStorage):
        _pour_object(storage, ref, sink)
    else:
        raise TypeError(f"storage must be a folder or a bucket, got {type(storage).__name__}")
    return sink.digests()


class _Sink:
    """A file that is written and never read: only digests are left of it."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._size, self._crc32c, self._sha256 = 0, google_crc32c.Checksum(), hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._size += len(data)
        self._crc32c.update(bytes(data))
        self._sha256.update(data)
        return len(data)

    def seek(self, place: int) -> int:
        """Starts anew: the storage client goes back to the beginning where it was sent all of an object again."""
        if place:
            raise ValueError(f"place must be 0, got {place}")
        self._start()
        return 0

    def digests(self) -> Digests:
        return Digests(self._size, base64.b64encode(self._crc32c.digest()).decode(), self._sha256.hexdigest())


def _pour_file(storage: LocalStorage, ref: ImageRef, sink: _Sink) -> None:
    try:
        # Not blocking: opening a pipe that took the file's place would wait for a writer.
        handle = os.open(storage._path(ref.name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(handle, "rb", buffering=0) as file:
            before = os.fstat(handle)
            while stat.S_ISREG(before.st_mode) and (part := file.read(_CHUNK_BYTES)):
                sink.write(part)
            after = os.fstat(handle)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingError("is gone since it was listed") from error
    except OSError as error:
        raise UnreadableError(os.strerror(error.errno or 0)) from error
    versions = {f"{info.st_mtime_ns}-{info.st_size}" for info in (before, after)}
    if not stat.S_ISREG(before.st_mode) or versions != {ref.version}:
        raise ChangedError(f"is no longer the listed version {ref.version}")


def _pour_object(storage: CloudStorage, ref: ImageRef, sink: _Sink) -> None:
    def download(blob: Any, how: dict[str, Any]) -> Digests:
        blob.download_to_file(sink, **how)
        return sink.digests()

    storage._download(ref, ref.size, download)
