"""EXIF as it lies in a file: bytes to carry over, less the small picture in them, which would show the old one."""

from __future__ import annotations

import struct

from pipeline.codec.ifd import EXIF, Directory, DirectoryError, Layout, read_directory, read_layout

THUMBNAIL = "thumbnail"
ORIENTATION = 274
MAKER_NOTE = 37500
TEXT = 2
"""TIFF type of texts."""
# Where a thumbnail's bytes lie, and how many: a JPEG stream, or strips of pixels.
THUMBNAIL_PLACES = ((0x0201, 0x0202), (0x0111, 0x0117))


def without_thumbnail(exif: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Takes the thumbnail out of an EXIF and leaves every other byte where it was.

    Maker notes hold offsets that only their maker knows, so nothing may move: the link to the second directory is cut,
    the thumbnail's bytes become 0, and they go altogether where they are the end.

    Args:
        exif: TIFF structure, without the `Exif` prefix of JPEG.

    Returns:
        The bytes, and what was taken out: `thumbnail` or nothing. What cannot be read comes back as it was.
    """
    try:
        layout, first = read_layout(exif)
        link = _link(exif, layout, first)
        (second,) = layout.offset.unpack_from(exif, link)
        if not second:
            return exif, ()
        thumbnail, _ = read_directory(exif, layout, second)
    except DirectoryError:
        return exif, ()
    data = bytearray(exif)
    layout.offset.pack_into(data, link, 0)
    for starts, sizes in THUMBNAIL_PLACES:
        places = zip(thumbnail.integers(starts, layout), thumbnail.integers(sizes, layout), strict=False)
        for start, size in sorted(places, reverse=True):
            end = min(start + size, len(data))
            if start <= second:
                continue  # a thumbnail before its own directory is no thumbnail that any camera wrote
            data[start:end] = bytes(max(0, end - start))
            if len(data) - end < 4 and not any(data[end:]):  # the end, but for padding
                del data[start:]
    return bytes(data), (THUMBNAIL,)


def changed_by_tiff(exif: bytes) -> tuple[str, ...]:
    """Names what an EXIF loses on its way into a TIFF, or out of one, where directories are laid out anew.

    A maker note goes along byte for byte, but stands elsewhere, and the offsets in it that its maker counts from the
    header of the file then lead astray.

    Args:
        exif: as in `Metadata`.

    Returns:
        `maker-note-offsets` where it has a maker note, `exif` where it cannot be read, or nothing.
    """
    try:
        first, _ = read_directory(exif, *read_layout(exif))
    except DirectoryError:
        return ("exif",)
    return ("maker-note-offsets",) if MAKER_NOTE in first.nested.get(EXIF, Directory({})).entries else ()


def is_ascii(exif: bytes) -> bool:
    """Tells whether texts are of the letters that the standard allows; many a program writes UTF-8 there."""
    try:
        layout, first = read_layout(exif)
        directories = [read_directory(exif, layout, first)[0]]
    except DirectoryError:
        return exif.isascii()
    for directory in directories:
        directories.extend(directory.nested.values())
    return all(entry.value.isascii() for one in directories for entry in one.entries.values() if entry.kind == TEXT)


def with_orientation_as(exif: bytes, tag: int) -> bytes:
    """Gives the orientation of the first directory another number; all else stays, also what cannot be read."""
    try:
        layout, first = read_layout(exif)
        end = _link(exif, layout, first)
    except DirectoryError:
        return exif
    data = bytearray(exif)
    number = struct.Struct(layout.order + "H")
    for place in range(first + layout.count.size, end, layout.entry.size):
        if number.unpack_from(data, place)[0] == ORIENTATION:
            number.pack_into(data, place, tag)
    return bytes(data)


def _link(exif: bytes, layout: Layout, first: int) -> int:
    """Finds where the first directory says where the second one is."""
    read_directory(exif, layout, first)  # raises where it does not fit
    (count,) = layout.count.unpack_from(exif, first)
    return first + layout.count.size + count * layout.entry.size
