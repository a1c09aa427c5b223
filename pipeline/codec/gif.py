"""GIF: looked at only, for its colours are a palette and stay as they are."""

from __future__ import annotations

import struct

from pipeline.codec.header import Header, Picture
from pipeline.codec.keeping import KeepAsIs
from pipeline.failures import DamagedImageError


def probe(data: bytes) -> Header:
    """Reads the size of the canvas."""
    if len(data) < 14:
        raise DamagedImageError(f"only {len(data)} bytes")
    width, height = struct.unpack_from("<HH", data, 6)
    if not width or not height:
        raise DamagedImageError(f"a header of {width}x{height}")
    return Header("gif", width, height, 1, 8, 1, width * height, "palette")


def check(data: bytes) -> None:
    """Walks through blocks and sub-blocks; `DamagedImageError` where the file ends before its end mark."""
    at = 13 + _palette_bytes(data, 10)
    while (mark := data[at : at + 1]) != b"\x3b":
        if mark == b"\x2c":  # a frame: place and size, perhaps a palette, and the code size
            at += 11 + _palette_bytes(data, at + 9)
        elif mark == b"\x21":  # an extension and its kind
            at += 2
        else:
            raise DamagedImageError(f"no block at byte {at} of {len(data)}")
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1


def _palette_bytes(data: bytes, at: int) -> int:
    """Reads the size of a palette from the flags at an offset."""
    flags = data[at] if at < len(data) else 0
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def read(data: bytes) -> Picture:
    """Never decodes one: `probe` keeps them all."""
    raise KeepAsIs("palette", "gif", probe(data).size)
