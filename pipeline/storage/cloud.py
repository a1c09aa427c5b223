"""Objects of a bucket in Cloud Storage."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from pipeline import names
from pipeline.elements import File, ImageRef, LargeFile
from pipeline.failures import BadNameError, ChangedError, ConflictError, MissingError, TooLargeError, UnreadableError
from pipeline.flags import UsageError
from pipeline.spool import CHUNK_BYTES, Content, Spool
from pipeline.storage.interface import Created, Storage, crc32c_of, make_file


class _Summed(Protocol):
    """What was made of an object's bytes, and their checksum."""

    @property
    def crc32c(self) -> str: ...


_F = TypeVar("_F", bound=_Summed)

_UPLOAD_CHUNK_BYTES = 8 * CHUNK_BYTES
"""Of a session that uploads a spool; the client holds one of them in memory."""

_ATTEMPT = "relume-attempt"
"""Custom metadata of an object in Cloud Storage: whose it is, so that a write whose answer was lost is known again."""


@dataclasses.dataclass(frozen=True)
class CloudStorage(Storage):
    """A prefix of a bucket in Cloud Storage; an object's version is its generation.

    One request a read and one a write (two above 8 MiB, where the client uploads in a session); the client's own policy
    repeats what may be repeated, for two minutes. What is left then is no property of an image and stops the run.

    Attributes:
        root: `gs://bucket` or `gs://bucket/prefix`.
    """

    root: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"gs://[a-z0-9][a-z0-9._-]+[a-z0-9](/.*)?", self.root, re.DOTALL):
            raise UsageError(f"{self.root!r} names no bucket: give gs://BUCKET or gs://BUCKET/PREFIX")

    @property
    def uri(self) -> str:
        return self.root.rstrip("/")

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return self.uri.removeprefix("gs://").split("/")[0]

    @property
    def prefix(self) -> str:
        """What every object's full name begins with: empty, or a path that ends with a slash."""
        path = self.uri.removeprefix(f"gs://{self.bucket}").removeprefix("/")
        return f"{path}/" if path else ""

    def list(self, prefix: str = "", *, recursive: bool = True) -> Iterator[ImageRef]:
        for blob in self._blobs(prefix, recursive):
            # The console marks a folder with an empty object whose name ends with a slash.
            if not (blob.name.endswith("/") and blob.size == 0):
                yield self._ref(blob)

    def folders(self, prefix: str = "") -> Iterator[str]:
        blobs = self._blobs(prefix, recursive=False)
        for page in blobs.pages:
            yield from sorted(folder.removeprefix(self.prefix) for folder in page.prefixes)

    def stat(self, name: str) -> ImageRef | None:
        blob = self._client.bucket(self.bucket).get_blob(self.prefix + name)
        return self._ref(blob) if blob else None

    def read(self, ref: ImageRef, max_bytes: int) -> File:
        return self._download(ref, max_bytes, lambda blob, how: make_file(ref, blob.download_as_bytes(**how)))

    def fetch(self, ref: ImageRef, max_bytes: int) -> LargeFile:
        def download(blob: Any, how: dict[str, Any]) -> LargeFile:
            return LargeFile(ref, Spool.written_by(lambda stream: blob.download_to_file(stream, **how)))

        return self._download(ref, max_bytes, download)

    def _download(self, ref: ImageRef, max_bytes: int, download: Callable[[Any, dict[str, Any]], _F]) -> _F:
        """Reads one object by a way of calling the client."""
        from google.api_core import exceptions
        from google.cloud.storage.exceptions import DataCorruption

        if not ref.version:
            raise MissingError("was not there when the archive was listed")
        if ref.size > max_bytes:
            raise TooLargeError(f"{ref.size} bytes, over the limit of {max_bytes}")
        blob = self._blob(ref.name)
        # Raw: an object stored with gzip encoding comes as its checksum says, not unpacked on the way.
        how = {"if_generation_match": int(ref.version), "raw_download": True, "checksum": "crc32c"}
        try:
            file = download(blob, how)
        except exceptions.NotFound as error:
            raise MissingError("is gone since the archive was listed") from error
        except exceptions.PreconditionFailed as error:
            raise ChangedError(f"is no longer the listed generation {ref.version}") from error
        except exceptions.Forbidden as error:
            raise UnreadableError(f"this account may not read it: {error.message}") from error
        except DataCorruption as error:
            raise UnreadableError("its bytes are not those of its checksum") from error
        # The client checks a whole answer only, not one that it put together from ranges after a break.
        if blob.crc32c != file.crc32c:
            raise UnreadableError(f"its bytes have CRC32C {file.crc32c}, storage says {blob.crc32c}")
        return file

    def read_small(self, name: str) -> bytes | None:
        from google.api_core import exceptions

        try:
            return self._blob(name).download_as_bytes(checksum="crc32c")
        except exceptions.NotFound:
            return None

    def create(self, name: str, data: Content, *, content_type: str, attempt: str) -> Created:
        from google.api_core import exceptions

        names.check_name(name)
        for _ in range(_TRIES):
            try:
                self._upload(name, data, content_type, attempt, if_generation_match=0)
            except exceptions.PreconditionFailed:
                # Perhaps our own write whose answer was lost, and which the client then tried again.
                stored = self._client.bucket(self.bucket).get_blob(self.prefix + name)
                if stored is not None:
                    return _classify(stored, data, attempt)
            else:
                return Created.CREATED
        raise RuntimeError(
            f"{self.address(name)} comes and goes while it is to be written: is something deleting there?"
        )

    def replace(self, ref: ImageRef, data: Content, *, content_type: str, attempt: str) -> None:
        from google.api_core import exceptions

        try:
            self._upload(ref.name, data, content_type, attempt, if_generation_match=int(ref.version))
        except exceptions.PreconditionFailed as error:
            stored = self._client.bucket(self.bucket).get_blob(self.prefix + ref.name)
            if stored is None or _classify(stored, data, attempt) is Created.CONFLICT:
                raise ConflictError(f"{self.address(ref.name)} changed while it was to be replaced") from error
        except exceptions.Forbidden as error:
            raise ConflictError(f"this account may not replace {self.address(ref.name)}: {error.message}") from error

    def delete(self, ref: ImageRef) -> None:
        from google.api_core import exceptions

        try:
            self._blob(ref.name).delete(if_generation_match=int(ref.version))
        except exceptions.Forbidden as error:
            raise PermissionError(f"this account may not delete {self.address(ref.name)}") from error
        except (exceptions.NotFound, exceptions.PreconditionFailed):
            pass

    def output_name(self, name: str, suffix: str = "") -> str:
        if name.startswith(".well-known/acme-challenge/"):
            raise BadNameError(f"{name!r}: Cloud Storage keeps .well-known/acme-challenge/ to itself")
        return names.output_name(name, suffix, segment_bytes=None, total_bytes=1024 - len(self.prefix.encode()))

    def check_readable(self, role: str) -> None:
        from google.api_core import exceptions

        try:
            next(self.list(), None)
        except (exceptions.NotFound, exceptions.Forbidden, exceptions.Unauthorized) as error:
            raise UsageError(f"{role} {self.root}: cannot be listed: {error.message}") from error

    def check_writable(self, role: str) -> None:
        # Whether objects may be created shows at the first one; asking for it needs a permission of its own.
        self.check_readable(role)

    def regions(self, role: str) -> tuple[str, ...]:
        """Says where the bucket is: a region, a multi-region such as `EU`, or the two regions that somebody chose.

        Args:
            role: what the user calls it, as in `--input`.

        Returns:
            Names in Google's words; none where this account may use the bucket's objects, but not look at it.

        Raises:
            UsageError: if there is no such bucket.
        """
        from google.api_core import exceptions

        try:
            bucket = self._client.get_bucket(self.bucket)
        except exceptions.NotFound as error:
            raise UsageError(f"{role} {self.root}: there is no bucket {self.bucket}") from error
        except (exceptions.Forbidden, exceptions.Unauthorized):
            return ()
        return tuple(bucket.data_locations or ()) or tuple(filter(None, (bucket.location,)))

    @property
    def _client(self) -> Any:
        return _client(os.environ.get("STORAGE_EMULATOR_HOST"))

    def _blob(self, name: str) -> Any:
        return self._client.bucket(self.bucket).blob(self.prefix + name)

    def _blobs(self, prefix: str, recursive: bool) -> Any:
        return self._client.list_blobs(
            self.bucket,
            prefix=self.prefix + prefix,
            delimiter=None if recursive else "/",
            fields="items(name,size,generation),prefixes,nextPageToken",
        )

    def _ref(self, blob: Any) -> ImageRef:
        return ImageRef(blob.name.removeprefix(self.prefix), blob.size, str(blob.generation))

    def _upload(self, name: str, data: Content, content_type: str, attempt: str, if_generation_match: int) -> None:
        blob = self._blob(name)
        blob.metadata = {_ATTEMPT: attempt}
        how = {"content_type": content_type, "if_generation_match": if_generation_match, "checksum": "crc32c"}
        if isinstance(data, Spool):
            blob.chunk_size = _UPLOAD_CHUNK_BYTES
            blob.upload_from_file(data.stream, rewind=True, size=data.size, **how)
        else:
            blob.upload_from_string(data, **how)


_TRIES = 3


def _classify(stored: Any, data: Content, attempt: str) -> Created:
    """Says what an object that stands in the way is, from its metadata alone."""
    if (stored.metadata or {}).get(_ATTEMPT) == attempt:
        return Created.ALREADY_MINE
    if stored.size == len(data) and stored.crc32c == crc32c_of(data):
        return Created.IDENTICAL
    return Created.CONFLICT


@functools.cache
def _client(_emulator: str | None) -> Any:
    """Opens one client a process, safe across threads, and another where a test moves to another emulator."""
    from google.cloud import storage

    # Else the client asks for the bucket's metadata too, for traces that nobody has switched on: a request for each.
    os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    # Objects need no project, and looking for one asks the machine's metadata server.
    return storage.Client(project=None)
