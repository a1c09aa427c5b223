"""BMP: bare pixels, with a density at most."""

from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image as PilImage

from pipeline.codec.header import Header, Picture, density_of
from pipeline.elements import Metadata, Page, Pixels
from pipeline.failures import DamagedImageError

HEADER_SIZES = {12, 16, 40, 52, 56, 64, 108, 124}
RAW, BITFIELDS = 0, 3
EMBEDDED_PROFILES = {b"DEBM": "icc", b"KNIL": "icc"}  # 'MBED' and 'LINK', little-endian


def probe(data: bytes) -> Header:
    """Reads the two headers."""
    (size,) = struct.unpack_from("<I", data, 14)
    if size not in HEADER_SIZES or len(data) < 14 + size:
        raise DamagedImageError(f"a header of {size} bytes in a file of {len(data)}")
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = RAW
    else:
        width, height, _, bits = struct.unpack_from("<iiHH", data, 18)
        compression = struct.unpack_from("<I", data, 30)[0] if size >= 40 else RAW
    if width < 1 or not height:
        raise DamagedImageError(f"a header of {width}x{height}")
    (start,) = struct.unpack_from("<I", data, 10)
    end = start + (width * bits + 31) // 32 * 4 * abs(height)
    if compression == RAW and (start < 14 + size or end > len(data)):
        raise DamagedImageError(f"pixels from byte {start} to {end} in a file of {len(data)}")
    keep = None
    if bits <= 8:
        keep = "bilevel" if bits == 1 else "palette"
    elif bits == 16:
        keep = "depth"
    elif compression != RAW or (bits == 32 and any(data[start + 3 : end : 4])):
        # Channels in places of their own, or a JPEG or PNG within; or a fourth byte, no alpha by the format, that some
        # writers mean as one.
        keep = "lossy-not-writable"
    elif size >= 124 and data[70:74] in EMBEDDED_PROFILES:
        keep = "colour-space"
    if keep == "palette" and bits == 8 and compression == RAW and _is_grey(data, size):
        keep = None
    return Header("bmp", width, abs(height), min(bits // 8, 3) or 1, min(bits, 8), 1, width * abs(height), keep)


def _is_grey(data: bytes, size: int) -> bool:
    """Tells whether the palette is the ramp of all 256 grey levels."""
    step = 3 if size == 12 else 4
    (used,) = struct.unpack_from("<I", data, 46) if size >= 40 else (0,)
    palette = np.frombuffer(data[14 + size : 14 + size + 256 * step], np.uint8)
    if used not in (0, 256) or palette.size != 256 * step:
        return False
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    return bool((palette.reshape(256, step)[:, :3] == ramp).all())


def read(data: bytes) -> Picture:
    """Decodes a BMP that `probe` has found restorable."""
    with PilImage.open(io.BytesIO(data), formats=("BMP",)) as image:
        image.load()
        if image.mode not in ("L", "RGB"):
            raise DamagedImageError(f"a BMP of mode {image.mode}")
        pixels = np.array(image).reshape(image.height, image.width, -1)
    density = None
    size, _, height = struct.unpack_from("<Iii", data, 14) if data[14] != 12 else (12, 0, 0)
    if size >= 40:
        across, down = struct.unpack_from("<ii", data, 38)
        density = density_of(across / 100, down / 100, "cm")
    (bits,) = struct.unpack_from("<H", data, 28 if size >= 16 else 24)
    start = struct.unpack_from("<I", data, 10)[0]
    end = start + (image.width * bits + 31) // 32 * 4 * image.height
    metadata = Metadata(density=density, not_kept=("bytes-behind-the-end",) if data[end:].strip(b"\0") else ())
    return Picture((Page(pixels, metadata=metadata),), encoding={"bits": bits, "downward": height < 0})


def check(data: bytes) -> None:
    """Leaves a file that is kept as it is: `probe` knows where its pixels end."""


def write(pixels: Pixels, density: tuple[float, float, str] | None, bits: int = 24) -> bytes:
    """Encodes 8-bit grey or RGB, from the bottom row up, with the density; RGB of 32 bits has an empty byte a pixel."""
    stream = io.BytesIO()
    if bits == 32:
        pixels = np.concatenate([pixels, np.zeros_like(pixels[..., :1])], axis=2)
    PilImage.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)).save(stream, "BMP")
    data = bytearray(stream.getvalue())
    across, down, _ = density or (0.0, 0.0, "cm")
    struct.pack_into("<ii", data, 38, round(across * 100), round(down * 100))
    return bytes(data)
