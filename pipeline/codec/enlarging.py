"""What a file says of its picture's size, for the same picture at a multiple of it.

The density grows with the pixels, so the picture stays as large as it was on paper. Where a number has no room to grow
it stays as it was. Bytes of an EXIF stay where they are, for maker notes hold offsets.
"""

from __future__ import annotations

import dataclasses
import re
import struct
from collections.abc import Iterator

from pipeline.codec import photoshop
from pipeline.codec.header import names
from pipeline.codec.ifd import (
    INTEGERS,
    MAX_DEPTH,
    NESTED,
    SIZES,
    Directory,
    DirectoryError,
    Entry,
    Layout,
    read_directory,
    read_layout,
)
from pipeline.elements import Image, Metadata, Page, Pixels

PIXELS = {256, 257, 0xA002, 0xA003, 0x9214, 0xA214, 0x1001, 0x1002}
"""Tags of TIFF and EXIF that count pixels: sides of the picture, and where its subject is."""

PER_LENGTH = {282, 283, 0xA20E, 0xA20F}
"""Tags that count pixels to a length, as fractions: of the picture, and of the sensor's plane."""

GEOGRAPHIC = {33550, 33922, 34264}
"""Tags that tie pixels to places on earth; no multiple of them all would be right."""

_RESOLUTION = 0x03ED
"""Photoshop's resource of the density: two fixed-point numbers, of 16 bits before the point, at bytes 0 and 8."""

# In XMP, as an attribute or an element: sides of the picture, and its density as a fraction.
_XMP_PIXELS = re.compile(
    rb"((?:exif:Pixel[XY]Dimension|tiff:Image(?:Width|Length))\s*(?:=\s*[\"']|>)\s*)(\d{1,9})(?=\s*[\"'<])"
)
_XMP_DENSITY = re.compile(rb"(tiff:[XY]Resolution\s*(?:=\s*[\"']|>)\s*)(\d{1,9})(?=(?:/\d{1,9})?\s*[\"'<])")


def enlarged(image: Image, pages: tuple[Pixels, ...], scale: int) -> Image:
    """An image as if it had been decoded at a multiple of its size.

    Args:
        image: as decoded.
        pages: the pixels, one array for each page, `scale` times its size.
        scale: at least 1.

    Returns:
        The image with those pixels, alpha interpolated to their size, and metadata that fit; its file is the old one.
    """
    return dataclasses.replace(
        image,
        pages=tuple(
            Page(
                pixels,
                None if page.alpha is None else _alpha(page.alpha, scale),
                of_metadata(page.metadata, scale),
            )
            for page, pixels in zip(image.pages, pages, strict=True)
        ),
    )


def _alpha(alpha: Pixels, scale: int) -> Pixels:
    import cv2  # late: it costs the guard's processes 40 MB and they never encode

    # Linear: a cubic would overshoot at the hard edges that masks have.
    rows, cols = alpha.shape
    return cv2.resize(alpha, (scale * cols, scale * rows), interpolation=cv2.INTER_LINEAR)


def of_metadata(metadata: Metadata, scale: int) -> Metadata:
    """What other containers can hold."""
    density = metadata.density
    if density is not None and density[2] != "none":
        density = (scale * density[0], scale * density[1], density[2])
    return dataclasses.replace(
        metadata,
        exif=None if metadata.exif is None else of_exif(metadata.exif, scale),
        xmp=None if metadata.xmp is None else of_xmp(metadata.xmp, scale),
        density=density,
    )


def of_exif(exif: bytes, scale: int) -> bytes:
    """An EXIF, without JPEG's prefix; what cannot be read comes back as it was."""
    try:
        layout, first = read_layout(exif)
        read_directory(exif, layout, first)  # raises where it does not fit
        data = bytearray(exif)
        for place, entry in list(_entries(exif, layout, first)):
            _rewrite(data, layout, place, entry, scale)
    except DirectoryError:
        return exif
    return bytes(data)


def _entries(data: bytes, layout: Layout, at: int, depth: int = 0) -> Iterator[tuple[int, Entry]]:
    """Yields the place of each tag in a directory and those nested in it, all known to lie within the data."""
    (count,) = layout.count.unpack_from(data, at)
    for number in range(count):
        place = at + layout.count.size + number * layout.entry.size
        tag, kind, values, inline = layout.entry.unpack_from(data, place)
        if kind not in SIZES:
            continue
        size = SIZES[kind] * values
        start = _start(layout, place, size, inline)
        if tag in NESTED:
            # As deep as they were read, and no deeper: one may point at itself.
            if kind in (4, 13) and values == 1 and depth < MAX_DEPTH:
                yield from _entries(data, layout, layout.offset.unpack(inline)[0], depth + 1)
        elif tag in PIXELS | PER_LENGTH:
            yield place, Entry(kind, values, data[start : start + size])


def _start(layout: Layout, place: int, size: int, inline: bytes) -> int:
    """Where the value of the entry at a place lies."""
    room = len(inline)
    return layout.offset.unpack(inline)[0] if size > room else place + layout.entry.size - room


def _rewrite(data: bytearray, layout: Layout, place: int, entry: Entry, scale: int) -> None:
    tag, _, values, inline = layout.entry.unpack_from(data, place)
    grown = _grown(tag, entry, layout, scale)
    start = _start(layout, place, len(entry.value), inline)
    if len(grown.value) == len(entry.value):
        data[start : start + len(grown.value)] = grown.value
    elif len(grown.value) <= len(inline):
        # One number of two bytes that needs four: there is room for them in the entry itself.
        layout.entry.pack_into(data, place, tag, grown.kind, values, grown.value.ljust(len(inline), b"\0"))


def of_directory(directory: Directory, layout: Layout, scale: int) -> tuple[Directory, tuple[str, ...]]:
    """The tags of a TIFF's page, and names of those that cannot be kept."""
    entries: dict[int, Entry] = {}
    for tag, entry in directory.entries.items():
        if tag in PIXELS | PER_LENGTH:
            entries[tag] = _grown(tag, entry, layout, scale)
        elif tag == 700:
            xmp = of_xmp(entry.value, scale)
            entries[tag] = Entry(entry.kind, len(xmp) // SIZES[entry.kind], xmp)
        elif tag == 34377:
            entries[tag] = Entry(entry.kind, entry.count, of_photoshop(entry.value, scale))
        elif tag not in GEOGRAPHIC:
            entries[tag] = entry
    nested = {tag: of_directory(one, layout, scale)[0] for tag, one in directory.nested.items()}
    lost = [f"tag-{tag}" for tag in GEOGRAPHIC & set(directory.entries)]
    return Directory(entries, nested), names(lost)


def _grown(tag: int, entry: Entry, layout: Layout, scale: int) -> Entry:
    """A tag's value for the larger picture; as it was where it has no room."""
    order = layout.order
    if tag in PER_LENGTH:
        if entry.kind != 5:
            return entry
        numbers = struct.unpack(f"{order}{2 * entry.count}I", entry.value)
        above = [scale * number for number in numbers[::2]]
        if max(above, default=0) >= 2**32:
            return entry
        pairs = [number for pair in zip(above, numbers[1::2], strict=True) for number in pair]
        return Entry(5, entry.count, struct.pack(f"{order}{2 * entry.count}I", *pairs))
    if entry.kind not in (3, 4):
        return entry
    values = [scale * value for value in struct.unpack(f"{order}{entry.count}{INTEGERS[entry.kind]}", entry.value)]
    kind = entry.kind
    if kind == 3 and max(values, default=0) >= 2**16:
        if entry.count > 1:
            return entry
        kind = 4
    if max(values, default=0) >= 2**32:
        return entry
    return Entry(kind, entry.count, struct.pack(f"{order}{entry.count}{INTEGERS[kind]}", *values))


def of_xmp(xmp: bytes, scale: int) -> bytes:
    """An XMP packet in UTF-8; one in another coding comes back as it was."""

    def grow(found: re.Match[bytes]) -> bytes:
        return found[1] + b"%d" % (scale * int(found[2]))

    return _XMP_DENSITY.sub(grow, _XMP_PIXELS.sub(grow, xmp))


def of_photoshop(block: bytes, scale: int) -> bytes:
    """Photoshop's resources, which lie side by side and keep their length."""
    data, at = bytearray(block), 0
    for number, content, whole in photoshop.resources(block):
        if number == _RESOLUTION and len(content) >= 12:
            start = at + whole.index(content, 8)
            for place in (start, start + 8):
                (density,) = struct.unpack_from(">I", data, place)
                if scale * density < 2**32:
                    struct.pack_into(">I", data, place, scale * density)
        at += len(whole)
    return bytes(data)
