"""Image file directories: the tags of TIFF, and of EXIF, which is a TIFF without pixels.

Values stay bytes in the file's own byte order: what nobody here understands is carried over exactly.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

EXIF, GPS, INTEROP = 34665, 34853, 40965
NESTED = (EXIF, GPS, INTEROP)
"""Tags whose value is the offset of a further directory that belongs to this one."""

# Bytes of one value by TIFF type; 13 is an offset of a directory, 16 to 18 are BigTIFF's.
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
INTEGERS = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
MAX_DEPTH = 3
"""How many directories may lead to one; those below are passed over."""

MAX_DIRECTORIES = 65_536
SLACK = 2**26
"""Bytes by which all values together may exceed four times the file, where pages share them; more is an attack."""


class Readable(Protocol):
    """The bytes of a file, or something that reads them from a file piece by piece."""

    def __len__(self) -> int: ...

    def __getitem__(self, piece: slice, /) -> bytes: ...


class DirectoryError(ValueError):
    """The directories lead outside the bytes, in a circle, or make no sense."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How numbers are written.

    Attributes:
        order: `<` or `>`.
        big: BigTIFF, with offsets of 8 bytes.
    """

    order: str
    big: bool = False

    @property
    def offset(self) -> struct.Struct:
        """An offset."""
        return struct.Struct(self.order + ("Q" if self.big else "I"))

    @property
    def count(self) -> struct.Struct:
        """The number of entries at the front of a directory."""
        return struct.Struct(self.order + ("Q" if self.big else "H"))

    @property
    def entry(self) -> struct.Struct:
        """An entry: tag, type, count, value or offset."""
        return struct.Struct(self.order + ("HHQ8s" if self.big else "HHI4s"))


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tag's value.

    Attributes:
        kind: TIFF type.
        count: of values.
        value: their bytes, in the file's order.
    """

    kind: int
    count: int
    value: bytes


@dataclasses.dataclass(frozen=True)
class Directory:
    """One directory.

    Attributes:
        entries: by tag, without those in `NESTED`.
        nested: further directories, by the tag that leads to them.
    """

    entries: Mapping[int, Entry]
    nested: Mapping[int, Directory] = dataclasses.field(default_factory=dict)

    def integers(self, tag: int, layout: Layout, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """Reads a tag of whole numbers; `default` where it is missing or of another type."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in INTEGERS:
            return default
        return struct.unpack(f"{layout.order}{entry.count}{INTEGERS[entry.kind]}", entry.value)

    def integer(self, tag: int, layout: Layout, default: int = 0) -> int:
        """Reads the first number of a tag."""
        return (self.integers(tag, layout) or (default,))[0]


def as_wide_as_offsets(numbers: Sequence[int], layout: Layout) -> Entry:
    """Makes an entry of whole numbers that have the size of the layout's offsets."""
    kind, form = (16, "Q") if layout.big else (4, "I")
    return Entry(kind, len(numbers), struct.pack(f"{layout.order}{len(numbers)}{form}", *numbers))


def _unpack(form: struct.Struct, data: Readable, at: int) -> tuple[int, ...]:
    """Reads numbers; those outside of `data` are a `struct.error`."""
    return form.unpack(data[at : at + form.size])


def read_layout(data: Readable) -> tuple[Layout, int]:
    """Reads the head of a TIFF or EXIF: its layout and where the first directory lies."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None or len(data) < 8:
        raise DirectoryError("no TIFF header")
    (magic,) = _unpack(struct.Struct(order + "H"), data, 2)
    # Panasonic and Olympus raw files have a magic of their own, with the same directories.
    if magic in (42, 0x55, 0x4F52, 0x5352):
        return Layout(order), _unpack(struct.Struct(order + "I"), data, 4)[0]
    if magic == 43 and len(data) >= 16:
        return Layout(order, big=True), _unpack(struct.Struct(order + "Q"), data, 8)[0]
    raise DirectoryError(f"no TIFF header: magic {magic}")


def read_directory(data: Readable, layout: Layout, at: int, depth: int = 0) -> tuple[Directory, int]:
    """Reads one directory with those nested in it.

    Args:
        data: the whole TIFF or EXIF.
        layout: of it.
        at: where the directory starts.
        depth: how many directories lead here.

    Returns:
        The directory, and where the next one of the chain starts, or 0.

    Raises:
        DirectoryError: if anything lies outside `data`.
    """
    number = at + layout.count.size
    if at < 8 or number > len(data):
        raise DirectoryError(f"a directory at {at} in {len(data)} bytes")
    (count,) = _unpack(layout.count, data, at)
    end = number + count * layout.entry.size
    if end + layout.offset.size > len(data):
        raise DirectoryError(f"a directory of {count} entries at {at} in {len(data)} bytes")
    entries: dict[int, Entry] = {}
    nested: dict[int, Directory] = {}
    total = 0
    for place in range(number, end, layout.entry.size):
        tag, kind, values, inline = layout.entry.unpack(data[place : place + layout.entry.size])
        if kind not in SIZES:
            continue  # TIFF 6.0: readers skip fields of a type they do not know
        size = SIZES[kind] * values
        start = layout.offset.unpack(inline)[0] if size > len(inline) else place + layout.entry.size - len(inline)
        if start + size > len(data):
            raise DirectoryError(f"tag {tag}: {size} bytes at {start} in {len(data)} bytes")
        total += size
        if total > len(data):
            raise DirectoryError(f"a directory whose values overlap: {total} bytes in {len(data)}")
        entry = Entry(kind, values, bytes(data[start : start + size]))
        if tag in NESTED and depth < MAX_DEPTH and kind in (4, 13, 16, 18) and values == 1:
            (target,) = struct.unpack(layout.order + INTEGERS[kind], entry.value)
            nested[tag] = read_directory(data, layout, target, depth + 1)[0]
        elif tag not in NESTED:
            entries[tag] = entry
    return Directory(entries, nested), _unpack(layout.offset, data, end)[0]


def read_chain(data: Readable) -> tuple[Layout, Iterator[Directory]]:
    """Reads the head, and one after another the directories of the chain; a circle is a `DirectoryError`."""
    layout, first = read_layout(data)

    def directories() -> Iterator[Directory]:
        at, seen, total = first, set[int](), 0
        while at:
            if at in seen or len(seen) >= MAX_DIRECTORIES:
                raise DirectoryError(f"the chain of directories returns to {at}")
            seen.add(at)
            directory, at = read_directory(data, layout, at)
            total += sum(len(entry.value) for entry in directory.entries.values())
            if total > 4 * len(data) + SLACK:
                raise DirectoryError(f"{len(seen)} directories that share {total} bytes")
            yield directory

    return layout, directories()


def write_directory(directory: Directory, layout: Layout, at: int, following: int = 0) -> bytes:
    """Writes one directory, its values and those nested in it, as they stand from offset `at` (even) on.

    Args:
        directory: what to write.
        layout: of the file; values already are in its order.
        at: offset in the file of the first byte given back.
        following: offset of the next directory of the chain, or 0.
    """
    tags = sorted({*directory.entries, *directory.nested})
    end = at + layout.count.size + len(tags) * layout.entry.size + layout.offset.size
    head, tail = bytearray(layout.count.pack(len(tags))), bytearray()
    for tag in tags:
        if tag in directory.nested:
            tail += b"\0" * (-(end + len(tail)) % 2)
            place = end + len(tail)
            tail += write_directory(directory.nested[tag], layout, place)
            kind, count, value = (18, 1, layout.offset.pack(place)) if layout.big else (4, 1, layout.offset.pack(place))
        else:
            entry = directory.entries[tag]
            kind, count, value = entry.kind, entry.count, entry.value
        if len(value) > layout.offset.size:
            tail += b"\0" * (-(end + len(tail)) % 2)
            place = end + len(tail)
            tail += value
            value = layout.offset.pack(place)
        head += layout.entry.pack(tag, kind, count, value)
    return bytes(head + layout.offset.pack(following) + tail)
