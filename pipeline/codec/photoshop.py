"""Photoshop's image resources, as in JPEG's APP13 and TIFF's tag 34377: IPTC records and much else."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

IPTC = 0x0404
THUMBNAILS = (0x0409, 0x040C)
OTHER = 0
"""Stands for the number of what is no resource of Photoshop's own."""

OWN = b"8BIM"
SIGNATURES = (OWN, b"MeSa", b"AgHg", b"PHUT", b"DCSR")
"""Of resources: Photoshop's own, and those of other programs, as ImageReady, which may stand between them."""


def resources(block: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yields number, content and all bytes of each resource; all those bytes together are the block.

    What another program signed has the number `OTHER`, and so has all from where the block makes no more sense.
    """
    at = 0
    while block[at : at + 4] in SIGNATURES and at + 12 <= len(block):
        name = at + 6
        size = name + (block[name] // 2 + 1) * 2  # a Pascal string, padded to even
        if size + 4 > len(block):
            break
        (length,) = struct.unpack_from(">I", block, size)
        content = size + 4
        end = content + length
        if end > len(block):
            break
        number = struct.unpack_from(">H", block, at + 4)[0] if block.startswith(OWN, at) else OTHER
        if length % 2 and block[end : end + 4] not in SIGNATURES:  # some writers leave the padding out
            end += 1
        yield number, block[content : content + length], block[at:end]
        at = end
    if at < len(block):
        yield OTHER, block[at:], block[at:]


def iptc_of(block: bytes) -> bytes | None:
    """Finds the IPTC records, or None."""
    return next((content for number, content, _ in resources(block) if number == IPTC), None)


def without_thumbnail(pieces: Sequence[bytes]) -> tuple[list[bytes], tuple[str, ...]]:
    """Takes the thumbnails out of a block, and leaves every other byte in its piece.

    Args:
        pieces: the block, which a JPEG cuts at any byte if it is too long for one segment.

    Returns:
        As many pieces, and `thumbnail` or nothing.
    """
    thumbnails: list[tuple[int, int]] = []
    at = 0
    for number, _, part in resources(b"".join(pieces)):
        if number in THUMBNAILS:
            thumbnails.append((at, at + len(part)))
        at += len(part)
    clean: list[bytes] = []
    at = 0
    for piece in pieces:
        left = bytearray(piece)
        for start, end in reversed(thumbnails):
            del left[max(0, start - at) : max(0, end - at)]
        clean.append(bytes(left))
        at += len(piece)
    return clean, ("thumbnail",) if thumbnails else ()


def of_iptc(iptc: bytes) -> bytes:
    """Wraps IPTC records as a block of one resource."""
    return b"8BIM" + struct.pack(">HHI", IPTC, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
