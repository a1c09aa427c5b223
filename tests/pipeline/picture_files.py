"""Tiny files of every kind that the codec knows, and of some that it does not, as real encoders write them."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from PIL import Image as PilImage

from pipeline.codec.ifd import Directory
from pipeline.codec.tiff import add_tags
from pipeline.elements import File, ImageRef

Array = np.ndarray[Any, np.dtype[Any]]


def photo(height: int = 37, width: int = 53, channels: int = 3, seed: int = 5) -> Array:
    """A soft scene with a little noise, uint8: what encoders are made for."""
    random = np.random.default_rng(seed)
    rows, cols = np.mgrid[:height, :width]
    waves = [128 + 90 * np.sin(rows / (5 + c) + cols / (9 - c) + c) for c in range(channels)]
    noisy = np.stack(waves, -1) + random.normal(0, 3, (height, width, channels))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def deep(pixels: Array) -> Array:
    """The same scene in 16 bits, with low bytes that an 8-bit detour would lose."""
    low = np.random.default_rng(1).integers(0, 256, pixels.shape)
    return (pixels.astype(np.uint16) << 8 | low.astype(np.uint16)).astype(np.uint16)


COLOUR, GREY = photo(), photo(channels=1)
ALPHA = np.linspace(0, 255, COLOUR.shape[0] * COLOUR.shape[1]).astype(np.uint8).reshape(COLOUR.shape[:2])
CLEAR = np.dstack([COLOUR, ALPHA])
DEEP, DEEP_GREY = deep(COLOUR), deep(GREY)
DEEP_CLEAR = np.dstack([DEEP, ALPHA.astype(np.uint16) * 257])


def of(data: bytes, name: str = "a.jpg") -> File:
    """Wraps bytes as the element that the pipeline reads; the name says nothing of the format."""
    return File(ImageRef(name, len(data), "1"), data, "", "")


def pillow(pixels: Array, kind: str, mode: str | None = None, **options: Any) -> bytes:
    """Encodes with Pillow."""
    stream = io.BytesIO()
    image = PilImage.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    (image.convert(mode) if mode else image).save(stream, kind, **options)
    return stream.getvalue()


def tiff(*pages: Array, **options: Any) -> bytes:
    """Encodes pages with tifffile."""
    stream = io.BytesIO()
    order = {"byteorder": options.pop("byteorder", "<"), "bigtiff": options.pop("bigtiff", False)}
    with tifffile.TiffWriter(stream, **order) as file:
        for page in pages:
            pixels = page[..., 0] if page.ndim == 3 and page.shape[2] == 1 else page
            photometric = "rgb" if page.ndim == 3 and page.shape[2] > 2 else "minisblack"
            file.write(np.ascontiguousarray(pixels), **{"photometric": photometric, "metadata": None, **options})
    return stream.getvalue()


def with_tags(data: bytes, tags: Sequence[Directory]) -> bytes:
    """Adds tags to the pages of a TIFF."""
    stream = io.BytesIO(data)
    add_tags(stream, tags)
    return stream.getvalue()


def coded_pieces(data: bytes) -> list[list[bytes]]:
    """Of each page of a TIFF the strips or tiles as they are coded, as tifffile finds them."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        places = [zip(page.dataoffsets, page.databytecounts, strict=True) for page in file.pages]
        return [[data[start : start + size] for start, size in page] for page in places]


def jp2(pixels: Array, **options: Any) -> bytes:
    """Encodes with OpenJPEG."""
    array = np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return bytes(imagecodecs.jpeg2k_encode(array, **{"codecformat": "jp2", **options}))


def png(pixels: Array) -> bytes:
    """Encodes with libpng, 16 bits as they are."""
    return bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)))


def chunk(kind: bytes, content: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunks(data: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """Puts chunks behind a PNG's header."""
    return data[:33] + b"".join(chunk(kind, content) for kind, content in more) + data[33:]


def segment(marker: int, payload: bytes) -> bytes:
    """One segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def with_segments(data: bytes, *more: tuple[int, bytes]) -> bytes:
    """Puts segments at the front of a JPEG, behind its JFIF segment."""
    at = 2 + (2 + struct.unpack_from(">H", data, 4)[0] if data[3] == 0xE0 else 0)
    return data[:at] + b"".join(segment(marker, payload) for marker, payload in more) + data[at:]


# Files that are restored: how each is made, and the pixels that a reader must see where the format is exact.
RESTORABLE: dict[str, tuple[Callable[[], bytes], Array | None, Array | None]] = {
    "jpeg 4:2:0": (lambda: pillow(COLOUR, "JPEG", subsampling=2), None, None),
    "jpeg 4:2:2": (lambda: pillow(COLOUR, "JPEG", subsampling=1), None, None),
    "jpeg 4:4:4": (lambda: pillow(COLOUR, "JPEG", subsampling=0), None, None),
    "jpeg grey": (lambda: pillow(GREY, "JPEG"), None, None),
    "jpeg progressive": (lambda: pillow(COLOUR, "JPEG", progressive=True), None, None),
    "jpeg with restarts": (lambda: pillow(COLOUR, "JPEG", restart_marker_blocks=2), None, None),
    "jpeg rgb": (lambda: pillow(COLOUR, "JPEG", keep_rgb=True), None, None),
    "png grey": (lambda: png(GREY), GREY, None),
    "png rgb": (lambda: png(COLOUR), COLOUR, None),
    "png grey alpha": (lambda: pillow(np.dstack([GREY, ALPHA]), "PNG"), GREY, ALPHA),
    "png rgb alpha": (lambda: png(CLEAR), COLOUR, ALPHA),
    "png grey 16": (lambda: png(DEEP_GREY), DEEP_GREY, None),
    "png rgb 16": (lambda: png(DEEP), DEEP, None),
    "png rgb alpha 16": (lambda: png(DEEP_CLEAR), DEEP, DEEP_CLEAR[..., 3]),
    "png colour key": (
        lambda: with_chunks(png(COLOUR), (b"tRNS", struct.pack(">HHH", *map(int, COLOUR[0, 0])))),
        COLOUR,
        np.where((COLOUR[0, 0] == COLOUR).all(-1), 0, 255).astype(np.uint8),
    ),
    "webp lossy": (lambda: pillow(COLOUR, "WEBP", quality=60), None, None),
    "webp lossy alpha": (lambda: pillow(CLEAR, "WEBP", quality=60), None, ALPHA),
    "webp lossless": (lambda: pillow(COLOUR, "WEBP", lossless=True), COLOUR, None),
    "webp lossless alpha": (lambda: pillow(CLEAR, "WEBP", lossless=True, exact=True), COLOUR, ALPHA),
    "bmp rgb": (lambda: pillow(COLOUR, "BMP"), COLOUR, None),
    "bmp grey": (lambda: pillow(GREY, "BMP"), GREY, None),
    "bmp 32": (lambda: pillow(np.dstack([COLOUR, 0 * ALPHA]), "BMP"), COLOUR, None),
    "jp2 reversible": (lambda: jp2(COLOUR, reversible=True), COLOUR, None),
    "jp2 lossy": (lambda: jp2(COLOUR, level=40), None, None),
    "jp2 grey": (lambda: jp2(GREY, reversible=True), GREY, None),
    "jp2 16": (lambda: jp2(DEEP, reversible=True), DEEP, None),
    "jp2 grey 16": (lambda: jp2(DEEP_GREY, reversible=True), DEEP_GREY, None),
    "jp2 alpha": (lambda: jp2(CLEAR, reversible=True), COLOUR, ALPHA),
    "j2k": (lambda: jp2(COLOUR, reversible=True, codecformat="j2k"), COLOUR, None),
    "avif": (lambda: pillow(COLOUR, "AVIF", quality=60), None, None),
    "avif grey": (lambda: pillow(GREY, "AVIF", quality=60), None, None),
    "avif alpha": (lambda: pillow(CLEAR, "AVIF", quality=60), None, None),
    "tiff": (lambda: tiff(COLOUR), COLOUR, None),
    "tiff grey": (lambda: tiff(GREY), GREY, None),
    "tiff 16": (lambda: tiff(DEEP), DEEP, None),
    "tiff grey 16": (lambda: tiff(DEEP_GREY, byteorder=">"), DEEP_GREY, None),
    "tiff lzw": (lambda: tiff(COLOUR, compression="lzw", predictor=True), COLOUR, None),
    "tiff deflate": (lambda: tiff(DEEP, compression="deflate", predictor=True), DEEP, None),
    "tiff packbits": (lambda: tiff(COLOUR, compression="packbits"), COLOUR, None),
    "tiff zstd": (lambda: tiff(COLOUR, compression="zstd"), COLOUR, None),
    "tiff tiled": (lambda: tiff(DEEP, tile=(16, 32), compression="lzw"), DEEP, None),
    "tiff strips": (lambda: tiff(COLOUR, rowsperstrip=5), COLOUR, None),
    "tiff planes": (
        lambda: tiff(np.moveaxis(COLOUR, -1, 0), photometric="rgb", planarconfig="separate"),
        COLOUR,
        None,
    ),
    "tiff alpha": (lambda: tiff(CLEAR, extrasamples=["unassalpha"]), COLOUR, ALPHA),
    "tiff premultiplied": (lambda: tiff(DEEP_CLEAR, extrasamples=["assocalpha"]), DEEP, DEEP_CLEAR[..., 3]),
    "tiff white is zero": (lambda: tiff(GREY, photometric="miniswhite"), np.invert(GREY), None),
    "tiff jpeg": (lambda: tiff(COLOUR, compression="jpeg"), None, None),
    "tiff jpeg grey": (lambda: tiff(GREY, compression="jpeg"), None, None),
    "tiff big": (lambda: tiff(DEEP, bigtiff=True, byteorder=">"), DEEP, None),
}


def frames(kind: str, **options: Any) -> bytes:
    """An animation of two frames."""
    stream = io.BytesIO()
    first, second = (PilImage.fromarray(photo(seed=seed)) for seed in (1, 2))
    first.save(stream, kind, save_all=True, append_images=[second], duration=100, **options)
    return stream.getvalue()


def cmyk(kind: str) -> bytes:
    """Four inks."""
    return pillow(COLOUR, kind, "CMYK")


# Sound files that are left alone, and why.
KEPT: dict[str, tuple[Callable[[], bytes], str]] = {
    "gif": (lambda: pillow(COLOUR, "GIF"), "palette"),
    "animated gif": (lambda: frames("GIF"), "palette"),
    "animated png": (lambda: frames("PNG"), "animated"),
    "animated webp": (lambda: frames("WEBP"), "animated"),
    "animated avif": (lambda: frames("AVIF"), "animated"),
    "palette png": (lambda: pillow(COLOUR, "PNG", "P"), "palette"),
    "bilevel png": (lambda: pillow(COLOUR, "PNG", "1"), "bilevel"),
    "palette bmp": (lambda: pillow(COLOUR, "BMP", "P"), "palette"),
    "bmp with a fourth channel": (lambda: pillow(CLEAR, "BMP"), "lossy-not-writable"),
    "bilevel bmp": (lambda: pillow(COLOUR, "BMP", "1"), "bilevel"),
    "cmyk jpeg": (lambda: cmyk("JPEG"), "cmyk"),
    "cmyk tiff": (lambda: cmyk("TIFF"), "cmyk"),
    "two pictures in a jpeg": (lambda: frames("MPO"), "multi-picture"),
    "film behind a jpeg": (lambda: pillow(COLOUR, "JPEG") + b"\0\0\0\x18ftypmp42" + b"\0" * 90, "multi-picture"),
    "jpeg behind a jpeg": (lambda: pillow(COLOUR, "JPEG") + pillow(GREY, "JPEG"), "multi-picture"),
    "bilevel tiff": (lambda: pillow(COLOUR, "TIFF", "1"), "bilevel"),
    "palette tiff": (lambda: pillow(COLOUR, "TIFF", "P"), "palette"),
    "float tiff": (lambda: tiff(COLOUR.astype(np.float32)), "float"),
    "lab tiff": (lambda: tiff(COLOUR, photometric="cielab"), "colour-space"),
    "32-bit tiff": (lambda: tiff(GREY.astype(np.uint32)), "depth"),
    "pyramid tiff": (lambda: tiff(photo(1100, 1100), subifds=0, subfiletype=1), "multi-resolution"),
    "12-bit jp2": (lambda: jp2(DEEP >> 4, bitspersample=12, reversible=True), "depth"),
    "10-bit avif": (lambda: bytes(imagecodecs.avif_encode(DEEP >> 6, bitspersample=10)), "depth"),
}

ZIP = b"PK\x03\x04\x14\0\0\0\0\0" + bytes(50)
# Bytes that are no file that can be restored or kept, and the reason of their dead letter.
REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "not-an-image"),
    "one byte": (b"\xff", "not-an-image"),
    "zip": (ZIP, "not-an-image"),
    "web page": (b"<!DOCTYPE html><html><img src=x onerror=alert(1)></html>", "not-an-image"),
    "svg": (
        b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "a">]><svg xmlns="http://www.w3.org/2000/svg"/>',
        "not-an-image",
    ),
    "text": (b"This slide was lost.\n", "not-an-image"),
    "pdf": (b"%PDF-1.7\n", "not-an-image"),
    "film": (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "not-an-image"),
    "bm": (b"BM is no bitmap, only the beginning of a text about one.", "not-an-image"),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(60), "unsupported"),
    "jpeg xl": (b"\xff\x0a" + bytes(60), "unsupported"),
    "photoshop": (b"8BPS\0\1" + bytes(60), "unsupported"),
    "bare jpeg start": (b"\xff\xd8\xff", "damaged"),
    "bare png start": (b"\x89PNG\r\n\x1a\n", "damaged"),
    "bare tiff start": (b"II*\0\x08\0\0\0", "damaged"),
    "tiff in a circle": (
        struct.pack("<2sHIHHHII", b"II", 42, 8, 1, 256, 3, 1, 7) + struct.pack("<I", 8),
        "damaged",
    ),
    "lossless jpeg": (b"\xff\xd8\xff\xc3\0\x0b\x08\0\x10\0\x10\x01\x01\x11\0\xff\xd9", "unsupported"),
    "12-bit jpeg": (b"\xff\xd8\xff\xc1\0\x0b\x0c\0\x10\0\x10\x01\x01\x11\0\xff\xd9", "unsupported"),
}


@functools.cache
def restorable(name: str) -> bytes:
    """Bytes of a restorable file."""
    return RESTORABLE[name][0]()
