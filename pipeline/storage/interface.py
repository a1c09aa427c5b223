"""What the pipeline needs of a place where bytes live."""

from __future__ import annotations

import abc
import base64
import enum
import hashlib
from collections.abc import Iterator

import google_crc32c

from pipeline.elements import File, ImageRef, LargeFile
from pipeline.spool import Content, Spool


class Created(enum.Enum):
    """What came of creating an object that must not exist yet."""

    CREATED = "created"
    """It was not there; now it is."""

    ALREADY_MINE = "already mine"
    """It was there, by the same attempt; its bytes may differ where a device does not compute to the last bit."""

    IDENTICAL = "identical"
    """It was there with the same bytes, whoever wrote it."""

    CONFLICT = "conflict"
    """Something else stands there; it was left alone."""


def make_file(ref: ImageRef, data: bytes) -> File:
    """Adds to bytes the two digests that name them."""
    return File(ref, data, crc32c_of(data), hashlib.sha256(data).hexdigest())


def crc32c_of(data: Content) -> str:
    """Computes CRC32C as Cloud Storage writes it: base64 of the big-endian value."""
    if isinstance(data, Spool):
        return data.crc32c
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


class Storage(abc.ABC):
    """A tree of objects under one root, each with a version; what the pipeline needs of a place where bytes live."""

    @property
    @abc.abstractmethod
    def uri(self) -> str:
        """The root: an absolute path or `gs://bucket/prefix`, without a slash at its end."""

    @abc.abstractmethod
    def list(self, prefix: str = "", *, recursive: bool = True) -> Iterator[ImageRef]:
        """Lists the objects whose names begin with `prefix`, as a stream, in an order that is the same every time.

        Args:
            prefix: any beginning of a name; it ends with a slash where a folder is meant.
            recursive: False leaves out what has a further slash behind the prefix.
        """

    @abc.abstractmethod
    def folders(self, prefix: str = "") -> Iterator[str]:
        """Lists the folders that `list(prefix, recursive=False)` leaves out: prefixes that end with a slash."""

    @abc.abstractmethod
    def stat(self, name: str) -> ImageRef | None:
        """Looks up the object as it is now; None where there is none."""

    @abc.abstractmethod
    def read(self, ref: ImageRef, max_bytes: int) -> File:
        """Reads exactly the version that was listed.

        Raises:
            MissingError: if the object is gone.
            ChangedError: if it is another version by now.
            TooLargeError: if it has more than `max_bytes`; nothing is read then.
            UnreadableError: if it may not or cannot be read, or its bytes are not those of its checksum.
        """

    @abc.abstractmethod
    def fetch(self, ref: ImageRef, max_bytes: int) -> LargeFile:
        """Reads exactly the version that was listed to this machine's disk; raises as `read`."""

    @abc.abstractmethod
    def read_small(self, name: str) -> bytes | None:
        """Reads an object of ours as it is now, a receipt or a recipe; None where there is none."""

    @abc.abstractmethod
    def create(self, name: str, data: Content, *, content_type: str, attempt: str) -> Created:
        """Creates an object, whole and durable, where none stands; what stands there already is left as it is.

        Args:
            name: must pass `names.check_name`.
            data: all of it.
            content_type: MIME type; a disk has no place for it.
            attempt: says whose object it is. A write that is tried again says the same.

        Raises:
            BadNameError: if the place cannot hold such a name.
            ConflictError: if a file stands where a folder of the name belongs, or the other way round.
        """

    @abc.abstractmethod
    def replace(self, ref: ImageRef, data: Content, *, content_type: str, attempt: str) -> None:
        """Overwrites exactly this version of an object that is known to be ours.

        Raises:
            ConflictError: if the object is another version by now, or this account may not overwrite.
        """

    @abc.abstractmethod
    def delete(self, ref: ImageRef) -> None:
        """Deletes exactly this version; one that is gone or another by now is no error.

        Raises:
            PermissionError: if this account may not delete.
        """

    @abc.abstractmethod
    def output_name(self, name: str, suffix: str = "") -> str:
        """Names the output of one image where this storage is the target; see `names.output_name`."""

    @abc.abstractmethod
    def check_readable(self, role: str) -> None:
        """Refuses a root that is not there or cannot be listed.

        Args:
            role: what the user calls it, as in `input`.

        Raises:
            UsageError: with role, place and what is wrong with it.
        """

    @abc.abstractmethod
    def check_writable(self, role: str) -> None:
        """Refuses a root below which nothing can be created, as far as that can be known without leaving anything.

        Raises:
            UsageError: with role, place and what is wrong with it.
        """

    def address(self, name: str) -> str:
        """Says where an object is, for people and receipts."""
        return f"{self.uri}/{name}"
