"""Photoshop's image resources, as in JPEG's APP13 and TIFF's tag 34377: IPTC records and much else."""

from __future__ import annotations

import struct
from collections.abc import Iterator

IPTC = 0x0404
THUMBNAILS = (0x0409, 0x040C)


def resources(block: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yields number, content and all bytes of each resource; stops where the block makes no more sense."""
    at = 0
    while block[at : at + 4] == b"8BIM" and at + 12 <= len(block):
        name = at + 6
        size = name + (block[name] // 2 + 1) * 2  # a Pascal string, padded to even
        if size + 4 > len(block):
            return
        (length,) = struct.unpack_from(">I", block, size)
        content = size + 4
        end = content + length + length % 2
        if content + length > len(block):
            return
        yield struct.unpack_from(">H", block, at + 4)[0], block[content : content + length], block[at:end]
        at = end


def iptc_of(block: bytes) -> bytes | None:
    """Finds the IPTC records, or None."""
    return next((content for number, content, _ in resources(block) if number == IPTC), None)


def without_thumbnail(block: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Takes the thumbnails out; gives the block and `thumbnail` or nothing."""
    parts = list(resources(block))
    if not any(number in THUMBNAILS for number, _, _ in parts):
        return block, ()
    return b"".join(part for number, _, part in parts if number not in THUMBNAILS), ("thumbnail",)


def of_iptc(iptc: bytes) -> bytes:
    """Wraps IPTC records as a block of one resource."""
    return b"8BIM" + struct.pack(">HHI", IPTC, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
