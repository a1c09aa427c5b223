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


def read(data: bytes) -> Picture:
    """Never decodes one: `probe` keeps them all."""
    raise KeepAsIs("palette", "gif", probe(data).size)
