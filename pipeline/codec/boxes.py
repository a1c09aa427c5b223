"""The boxes of ISO base media files: AVIF and JPEG 2000 are made of them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.failures import DamagedImageError


class Box(NamedTuple):
    """One box.

    Attributes:
        kind: four letters.
        start: offset of its content.
        end: behind its content.
    """

    kind: bytes
    start: int
    end: int


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Box]:
    """Yields the boxes that lie side by side between two offsets.

    Raises:
        DamagedImageError: if one reaches past the end.
    """
    at, end = start, len(data) if end is None else end
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1 and at + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        elif size == 0:
            size = end - at
        if size < head or at + size > end:
            raise DamagedImageError(f"box {kind!r} at byte {at} reaches past the end at {end}")
        yield Box(kind, at + head, at + size)
        at += size


def encoded(kind: bytes, content: bytes) -> bytes:
    """A box's bytes in a file; content of less than 4 GiB."""
    return struct.pack(">I4s", len(content) + 8, kind) + content
