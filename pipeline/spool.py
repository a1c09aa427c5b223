"""Bytes too many to be held in memory, kept on this machine's disk instead."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import os
import tempfile
import weakref
from collections.abc import Callable, Iterator
from typing import IO

import google_crc32c

CHUNK_BYTES = 4 * 2**20
"""So much of a spool is in memory at once."""

HELD_BYTES = 64 * 2**20
"""Files of more bytes are spooled before anyone looks at them."""


@dataclasses.dataclass(frozen=True, eq=False)
class Spool:
    """Bytes in a file without a name: it vanishes with its last user, and with a process that is killed.

    It lies where `tempfile` puts files, which TMPDIR moves. It is not written to any more, and cannot travel.

    Attributes:
        stream: the file; whoever reads it has to seek first.
        size: in bytes.
        crc32c, sha256: as in `File`.
    """

    stream: IO[bytes]
    size: int
    crc32c: str
    sha256: str

    @classmethod
    def of(cls, stream: IO[bytes]) -> Spool:
        """Seals a file that has been written: reads it through for its digests."""
        stream.flush()
        crc32c, sha256, size = google_crc32c.Checksum(), hashlib.sha256(), 0
        for chunk in _chunks(stream):
            crc32c.update(chunk)
            sha256.update(chunk)
            size += len(chunk)
        return cls(stream, size, base64.b64encode(crc32c.digest()).decode(), sha256.hexdigest())

    @classmethod
    def written_by(cls, write: Callable[[IO[bytes]], object]) -> Spool:
        """Makes a spool of what a function writes into an open file; whatever it raises, no file is left."""
        stream = tempfile.TemporaryFile(prefix="relume-")  # noqa: SIM115 - closed with the spool's last user
        try:
            write(stream)
            return cls.of(stream)
        except BaseException:
            stream.close()
            raise

    def __post_init__(self) -> None:
        weakref.finalize(self, self.stream.close)

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        # A runner pickles some elements only to learn how large they are. None can be brought back.
        return _refuse_to_travel, ()

    def __len__(self) -> int:
        return self.size

    def chunks(self) -> Iterator[bytes]:
        """Gives all bytes in order, in pieces."""
        yield from _chunks(self.stream)  # a generator, which keeps the spool while it runs

    def slice(self, start: int, size: int) -> bytes:
        """Gives `size` bytes from `start` on, fewer where the file ends."""
        return os.pread(self.stream.fileno(), size, start)

    def whole(self) -> bytes:
        """Gives all bytes at once: for those who know that they fit."""
        return b"".join(self.chunks())


Content = bytes | Spool
"""What an object holds."""


def chunks_of(content: Content) -> Iterator[bytes]:
    """Gives the bytes of either kind in pieces."""
    return content.chunks() if isinstance(content, Spool) else iter((content,))


def _refuse_to_travel() -> None:
    raise TypeError("a spool cannot travel: its bytes are on the disk of the worker that wrote them")


def piece_of(content: Content, start: int, size: int) -> bytes:
    """Gives `size` bytes of either kind from `start` on, fewer where they end."""
    return content.slice(start, size) if isinstance(content, Spool) else content[start : start + size]


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    # By place rather than by the file's position, which others may move meanwhile.
    place = 0
    while chunk := os.pread(stream.fileno(), CHUNK_BYTES, place):
        yield chunk
        place += len(chunk)
