"""TIFF: all pages, their tags carried over as bytes, pixels through tifffile."""

from __future__ import annotations

import dataclasses
import io
import math
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import IO, Any, NamedTuple

import numpy as np
import tifffile

from pipeline.codec import photoshop
from pipeline.codec.header import Header, Picture, density_of, names
from pipeline.codec.ifd import (
    SIZES,
    Directory,
    DirectoryError,
    Entry,
    Layout,
    Readable,
    as_wide_as_offsets,
    read_chain,
    read_layout,
    write_directory,
)
from pipeline.elements import Metadata, Page, Pixels
from pipeline.failures import DamagedImageError

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION, SAMPLES = 256, 257, 258, 259, 262, 270, 277
SUBFILE, ACROSS, DOWN, UNIT, PREDICTOR, EXTRA, FORMAT, SUB_IFDS = 254, 282, 283, 296, 317, 338, 339, 330
TILE_WIDTH, TILE_HEIGHT, PLANES = 322, 323, 284
SEGMENTS = ((273, 279), (324, 325))
"""Tags of offsets and of byte counts, of strips and of tiles."""
PAGE_NUMBER, XMP, IPTC, PHOTOSHOP, ICC, LAYERS, DNG = 297, 700, 33723, 34377, 34675, 37724, 50706
MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, CMYK, YCBCR, CFA, LINEAR_RAW = 0, 1, 2, 3, 5, 6, 32803, 34892
UNITS = {1: "none", 2: "inch", 3: "cm"}

# How pixels lie in the file: the writer sets these anew.
STRUCTURE = {
    *(WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PREDICTOR, EXTRA, FORMAT, SUB_IFDS),
    *(263, 264, 265, 266, 273, 278, 279, 280, 281, 284, 288, 289, 290, 291, 292, 293, 320, 322, 323, 324, 325),
    *(347, *range(512, 522), 529, 530, 531, 532),
}

LOSSLESS = {1: "none", 5: "lzw", 8: "adobe_deflate", 32946: "deflate", 32773: "packbits", 50000: "zstd", 34925: "lzma"}
JPEG = 7
JPEG_QUALITY = 95
SMALL = 512
"""Pixels a side up to which a reduced picture is a thumbnail, and above which one of several sizes."""


@dataclasses.dataclass(frozen=True)
class PageHeader:
    """What one directory says of its picture.

    Attributes:
        width, height, channels, bits: as stored, extra channels included.
        keep: None, or why it cannot be restored.
        reduced: a smaller version of another page.
    """

    width: int
    height: int
    channels: int
    bits: int
    keep: str | None
    reduced: bool


def _page_header(directory: Directory, layout: Layout) -> PageHeader:
    """Reads one directory.

    Raises:
        DamagedImageError, UnsupportedImageError: as their classes say.
    """
    width, height = (directory.integer(tag, layout) for tag in (WIDTH, HEIGHT))
    channels = directory.integer(SAMPLES, layout, 1)
    bits = directory.integers(BITS, layout, (1,)) or (1,)
    if not width or not height or not channels:
        raise DamagedImageError(f"a page of {width}x{height} with {channels} channels")
    tile = directory.integer(TILE_WIDTH, layout) * directory.integer(TILE_HEIGHT, layout)
    if tile > width * height * 64 + 2**22:  # a decoder would make room for it before it looks inside
        raise DamagedImageError(f"a tile of {tile} pixels in a page of {width}x{height}")
    photometric = directory.integer(PHOTOMETRIC, layout, -1)
    compression = directory.integer(COMPRESSION, layout, 1)
    formats = set(directory.integers(FORMAT, layout, (1,)))
    extra = directory.integers(EXTRA, layout)
    colours = channels - len(extra)
    keep = None
    if photometric in (CFA, LINEAR_RAW) or DNG in directory.entries:
        keep = "camera-raw"
    elif LAYERS in directory.entries:
        keep = "layers"
    elif photometric == PALETTE:
        keep = "palette"
    elif photometric == CMYK:
        keep = "cmyk"
    elif formats - {1, 4}:
        keep = "float"
    elif set(bits) == {1}:
        keep = "bilevel"
    elif set(bits) not in ({8}, {16}):
        keep = "depth"
    elif {MIN_IS_WHITE: 1, MIN_IS_BLACK: 1, RGB: 3, YCBCR: 3}.get(photometric) != colours or not _is_alpha(extra):
        keep = "colour-space"
    elif compression not in LOSSLESS and not (compression == JPEG and set(bits) == {8} and not extra):
        keep = "lossy-not-writable"
    elif photometric == YCBCR and compression != JPEG:
        keep = "colour-space"
    reduced = bool(directory.integer(SUBFILE, layout) & 1)
    return PageHeader(width, height, channels, bits[0], keep, reduced)


def _is_alpha(extra: Sequence[int]) -> bool:
    """Whether the further channels are none, or one of a kind that TIFF 6.0 knows; writers take no other."""
    return len(extra) <= 1 and set(extra) <= {0, 1, 2}


def _directories(data: Readable) -> tuple[Layout, list[Directory]]:
    """Reads all directories of the chain."""
    try:
        layout, chain = read_chain(data)
        return layout, list(chain)
    except DirectoryError as error:
        raise DamagedImageError(str(error)) from error


def pages_of(data: Readable) -> tuple[Layout, list[tuple[int, Directory, PageHeader]], bool]:
    """Reads layout, the pages that count with their place in the chain, and whether a thumbnail was passed over."""
    layout, directories = _directories(data)
    if not directories:
        raise DamagedImageError("no directory")
    pages = [(place, directory, _page_header(directory, layout)) for place, directory in enumerate(directories)]
    small = [
        place
        for place, _, page in pages
        if page.reduced and place > 0 and max(page.width, page.height) <= SMALL and max(page.width, page.height) > 0
    ]
    wanted = [page for page in pages if page[0] not in small]
    for place, directory, _ in wanted:
        _check_segments(directory, layout, place, len(data))
    return layout, wanted, bool(small)


def _check_segments(directory: Directory, layout: Layout, place: int, size: int) -> None:
    """Refuses a page whose compressed strips or tiles reach past the end: decoders paint over what is missing.

    Of bare pixels the reader itself knows how many there must be, and writers overstate their last strip.
    """
    if directory.integer(COMPRESSION, layout, 1) == 1:
        return
    for starts, counts in SEGMENTS:
        pairs = zip(directory.integers(starts, layout), directory.integers(counts, layout), strict=False)
        end = max((start + count for start, count in pairs), default=0)
        if end > size:
            raise DamagedImageError(f"a strip or tile of page {place} ends at byte {end} of {size}")


def check(data: bytes) -> None:
    """Leaves a file that is kept as it is: `probe` knows where its strips and tiles end."""


def probe(data: bytes) -> Header:
    """Reads every directory, and no pixel."""
    try:
        layout, _ = read_layout(data)
    except DirectoryError as error:
        raise DamagedImageError(str(error)) from error
    _, pages, _ = pages_of(data)
    header = header_of(pages)
    if data[8:10] == b"CR" or struct.unpack_from(layout.order + "H", data, 2)[0] not in (42, 43):
        return dataclasses.replace(header, keep="camera-raw")
    return header


def header_of(pages: Sequence[tuple[int, Directory, PageHeader]]) -> Header:
    """Sums up the pages of a file."""
    headers = [page for _, _, page in pages]
    reasons = [page.keep for page in headers]
    keep = next(filter(None, reasons), None)
    if any(page.reduced for page in headers) or any(SUB_IFDS in directory.entries for _, directory, _ in pages):
        keep = keep or "multi-resolution"
    if _values_announced(pages[0][1], headers[0]) > sum(page.width * page.height * page.channels for page in headers):
        keep = keep or "multi-picture"
    first = headers[0]
    pixels = sum(page.width * page.height for page in headers)
    return Header("tiff", first.width, first.height, first.channels, first.bits, len(headers), pixels, keep)


def _values_announced(directory: Directory, first: PageHeader) -> int:
    """How many values the pictures have together by the first one's description, or 0 where it says nothing of it.

    Stacks of microscopes may lie behind one directory, which knows of the first picture alone: ImageJ writes large ones
    so, and tifffile where it is asked to.
    """
    entry = directory.entries.get(DESCRIPTION)
    text = entry.value.rstrip(b"\0") if entry else b""
    if text.startswith(b"ImageJ=") and (images := re.search(rb"^images=(\d{1,9})\s*$", text, re.MULTILINE)):
        return int(images[1]) * first.width * first.height * first.channels
    if text.startswith(b'{"shape": ['):
        shape = re.match(rb'\{"shape": \[([\d, ]{1,200})\]', text)
        return math.prod(int(side) for side in shape[1].split(b",") if side.strip()) if shape else 0
    return 0


def read(data: bytes) -> Picture:
    """Decodes every page of a TIFF that `probe` has found restorable."""
    layout, wanted, thumbnail = pages_of(data)
    pages: list[Page] = []
    settings: list[dict[str, Any]] = []
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        for place, directory, header in wanted:
            source = file.pages[place]
            if not isinstance(source, tifffile.TiffPage):
                raise DamagedImageError(f"page {place} is no page of its own")
            pixels = _channels_last(np.asarray(source.asarray(maxworkers=1)), source)
            if pixels.shape != (header.height, header.width, header.channels):
                raise DamagedImageError(f"page {place} has the shape {pixels.shape}")
            if pixels.dtype.itemsize * 8 != header.bits:
                raise DamagedImageError(f"page {place} has values of {pixels.dtype}")
            extra = directory.integers(EXTRA, layout)
            photometric = directory.integer(PHOTOMETRIC, layout)
            alpha = np.ascontiguousarray(pixels[..., -1]) if extra else None
            colours = np.ascontiguousarray(pixels[..., :-1] if extra else pixels)
            if photometric == MIN_IS_WHITE:  # the model knows light as large
                colours = np.invert(colours)
            pages.append(Page(colours, alpha, read_metadata(directory, layout, thumbnail)))
            settings.append(
                setting_of(
                    directory,
                    layout,
                    tile=[source.tilelength, source.tilewidth] if source.is_tiled else None,
                    rows=None if source.is_tiled else int(source.rowsperstrip),
                )
            )
    only_here = _only_here([directory for _, directory, _ in wanted])
    encoding = {"order": layout.order, "big": layout.big, "pages": settings, "only_here": only_here}
    return Picture(tuple(pages), encoding=encoding)


def setting_of(directory: Directory, layout: Layout, tile: list[int] | None, rows: int | None) -> dict[str, Any]:
    """Says how a page is to be written again, with values of JSON.

    Args:
        directory: of the page.
        layout: of the file.
        tile: height and width of its tiles, or None.
        rows: of its strips, or None.
    """
    return {
        "compression": directory.integer(COMPRESSION, layout, 1),
        "predictor": directory.integer(PREDICTOR, layout, 1),
        "inverted": directory.integer(PHOTOMETRIC, layout) == MIN_IS_WHITE,
        "extra": list(directory.integers(EXTRA, layout)),
        "tile": tile,
        "rows": rows,
    }


def _only_here(directories: Sequence[Directory]) -> tuple[str, ...]:
    """Names what is carried from TIFF to TIFF, and no other container has a place for."""
    elsewhere = {*STRUCTURE, *SHARED, SUBFILE, PAGE_NUMBER, XMP, IPTC, ICC}
    found = {tag for directory in directories for tag in directory.entries if tag not in elsewhere}
    return names([f"tag-{tag}" if tag != PHOTOSHOP else "photoshop-resources" for tag in found])


def _channels_last(pixels: Pixels, page: tifffile.TiffPage) -> Pixels:
    """Brings a page's array to `(height, width, channels)` in the machine's byte order."""
    if pixels.ndim == 3 and page.planarconfig == 2:
        pixels = np.moveaxis(pixels, 0, -1)
    pixels = pixels.reshape(page.imagelength, page.imagewidth, -1)
    return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))


def read_metadata(directory: Directory, layout: Layout, thumbnail: bool = False) -> Metadata:
    """Collects what other containers can hold of a page's tags."""

    def content(tag: int) -> bytes | None:
        entry = directory.entries.get(tag)
        return entry.value or None if entry else None

    block, colours = content(PHOTOSHOP) or b"", directory.integer(SAMPLES, layout, 1)
    coding = directory.integer(COMPRESSION, layout, 1), directory.integer(PHOTOMETRIC, layout)
    density = None
    sides = [directory.entries.get(tag) for tag in (ACROSS, DOWN)]
    if all(side and side.kind == 5 and side.count for side in sides):
        (across, above), (down, below) = (struct.unpack_from(layout.order + "II", side.value) for side in sides if side)
        unit = UNITS.get(directory.integer(UNIT, layout, 2))
        square = across * below == down * above and unit == "none"  # says nothing
        if above and below and across and down and unit and not square:
            density = density_of(across / above, down / below, unit)
    return Metadata(
        icc=content(ICC),
        exif=_exif_of(directory, layout),
        xmp=content(XMP),
        iptc=content(IPTC) or photoshop.iptc_of(block),
        density=density,
        not_kept=names(
            ("thumbnail",) if thumbnail else (),
            # Pages are written with the channels of a pixel side by side.
            ("planes",) if directory.integer(PLANES, layout, 1) == 2 and colours > 1 else (),
            # JPEG within is written as YCbCr.
            ("rgb-coding",) if coding == (JPEG, RGB) else (),
            photoshop.without_thumbnail([block])[1],
        ),
    )


# What TIFF and EXIF both say of a picture as a whole: description, maker, orientation, density, software, time, author.
SHARED = {
    DESCRIPTION,
    271,
    272,
    274,
    ACROSS,
    DOWN,
    UNIT,
    305,
    306,
    315,
    33432,
    318,
    319,
    269,
    316,
    *range(40091, 40096),
}


def _exif_of(directory: Directory, layout: Layout) -> bytes | None:
    """Makes an EXIF of a page's tags, in the page's byte order; None where they say nothing of interest."""
    small = Layout(layout.order)
    entries = {tag: entry for tag, entry in directory.entries.items() if tag in SHARED and entry.kind < 16}
    if not directory.nested and not set(entries) - {ACROSS, DOWN, UNIT}:
        return None
    head = {"<": b"II", ">": b"MM"}[layout.order] + struct.pack(layout.order + "HI", 42, 8)
    return head + write_directory(Directory(entries, directory.nested), small, 8)


def tags_of(metadata: Metadata) -> tuple[Layout, Directory]:
    """Makes tags of the metadata of a file of another format, in the byte order of its EXIF."""
    layout, entries, nested = Layout("<"), dict[int, Entry](), {}
    if metadata.exif:
        try:
            layout, chain = read_chain(metadata.exif)
            first = next(chain, Directory({}))
        except DirectoryError:
            first = Directory({})
        entries.update({tag: entry for tag, entry in first.entries.items() if tag not in STRUCTURE})
        nested = dict(first.nested)
    for tag, kind, value in ((ICC, 7, metadata.icc), (XMP, 1, metadata.xmp), (IPTC, 7, metadata.iptc)):
        if value:
            entries[tag] = Entry(kind, len(value), value)
    if metadata.density:
        across, down, unit = metadata.density
        for tag, side in ((ACROSS, across), (DOWN, down)):
            entries[tag] = Entry(5, 1, struct.pack(layout.order + "II", round(side * 1_000), 1_000))
        number = next(number for number, name in UNITS.items() if name == unit)
        entries[UNIT] = Entry(3, 1, struct.pack(layout.order + "H", number))
    if metadata.comment and DESCRIPTION not in entries:
        text = metadata.comment.rstrip(b"\0") + b"\0"
        entries[DESCRIPTION] = Entry(2, len(text), text)
    return layout, Directory(entries, nested)


def tags_to_carry(data: bytes) -> list[Directory]:
    """Reads from a TIFF what a new one of the same pages can have, byte for byte, page by page."""
    _, wanted, _ = pages_of(data)
    return carried([directory for _, directory, _ in wanted])


_BYTES = 7
"""The type of values that are bytes and nothing else (TIFF 6.0: UNDEFINED)."""


def carried(directories: Sequence[Directory]) -> list[Directory]:
    """Leaves out of directories what a new file says anew."""
    found = []
    for directory in directories:
        entries = {tag: entry for tag, entry in directory.entries.items() if tag not in STRUCTURE}
        if PHOTOSHOP in entries:
            entry = entries[PHOTOSHOP]
            (block,), _ = photoshop.without_thumbnail([entry.value])
            if block != entry.value:
                # Its kind is one of single bytes, or of more of them where a writer knew no better.
                kind = entry.kind if SIZES[entry.kind] == 1 else _BYTES
                entries[PHOTOSHOP] = Entry(kind, len(block), block)
        found.append(Directory(entries, directory.nested))
    return found


PLAIN: dict[str, Any] = {
    "compression": 8,
    "predictor": 2,
    "inverted": False,
    "extra": [],
    "tile": None,
    "rows": None,
}
"""How pages of files of other formats are written: Deflate, with differences of neighbours."""


class Coded(NamedTuple):
    """A page's picture as it is coded in a TIFF, to be put into another of the same byte order.

    Attributes:
        directory: of the page.
        segments: its strips or tiles, in the order of their offsets.
    """

    directory: Directory
    segments: Iterable[bytes]


_NONE: Mapping[int, Coded] = MappingProxyType({})


def coded_in(data: bytes, numbers: Iterable[int]) -> Mapping[int, Coded]:
    """Takes pages out of a TIFF as they are coded.

    Args:
        data: the file.
        numbers: of the pages, counted as `read` gives them.

    Returns:
        Those that can be taken by their number; none where they share so much that they would outgrow the file.
    """
    layout, pages, _ = pages_of(data)
    found: dict[int, Coded] = {}
    for number in numbers:
        directory = pages[number][1]
        offsets, counts = (directory.integers(tag, layout) for tag in _segment_tags(directory))
        if len(offsets) != len(counts) or not offsets:
            continue  # a reader knows what is meant; a copy would not
        pairs = zip(offsets, counts, strict=True)
        found[number] = Coded(directory, [data[start : start + count] for start, count in pairs])
    return found if sum(len(segment) for page in found.values() for segment in page.segments) <= len(data) else {}


def _segment_tags(directory: Directory) -> tuple[int, int]:
    """Of a page, the tags of offsets and of byte counts."""
    return SEGMENTS[TILE_WIDTH in directory.entries]


def exactly(setting: dict[str, Any]) -> dict[str, Any]:
    """Makes a page's settings lossless where they are not."""
    return {**setting, "compression": 8, "predictor": 2} if setting["compression"] == JPEG else setting


def write(
    pages: Sequence[tuple[Pixels, Pixels | None]],
    settings: Sequence[dict[str, Any]],
    tags: Sequence[Directory],
    layout: Layout,
    coded: Mapping[int, Coded] = _NONE,
) -> bytes:
    """Encodes pages with their tags.

    Args:
        pages: pixels and alpha of each.
        settings: of each, as `read` gives them.
        tags: of each, values in the byte order of `layout`.
        layout: of the file.
        coded: pages by their number that are not encoded, but written as they are coded already.
    """
    stream = io.BytesIO()
    order = "<" if layout.order == "<" else ">"
    with tifffile.TiffWriter(stream, bigtiff=layout.big, byteorder=order) as file:
        for number, ((pixels, alpha), setting) in enumerate(zip(pages, settings, strict=True)):
            if number not in coded:
                _write_page(file, pixels, alpha, setting)
    add_tags(stream, tags, coded)
    return stream.getvalue()


def _write_page(file: tifffile.TiffWriter, pixels: Pixels, alpha: Pixels | None, setting: dict[str, Any]) -> None:
    """Appends the pixels of one page, with the tags that say how they lie and no other."""
    colours = np.invert(pixels) if setting["inverted"] else pixels
    whole = colours if alpha is None else np.concatenate([colours, alpha[..., None]], axis=2)
    file.write(
        np.ascontiguousarray(whole[..., 0] if whole.shape[2] == 1 else whole),
        **arguments_of(pixels.shape, alpha is not None, setting),
    )


def arguments_of(shape: tuple[int, ...], with_alpha: bool, setting: dict[str, Any]) -> dict[str, Any]:
    """Says to tifffile's writer how a page is to be written.

    Args:
        shape: rows, columns and colours of the page.
        with_alpha: that an alpha goes along.
        setting: as `setting_of` gives it.
    """
    grey = shape[2] == 1
    lossy = setting["compression"] == JPEG
    compression = "jpeg" if lossy else LOSSLESS[setting["compression"]]
    arguments: dict[str, Any] = {}
    if compression != "none":
        arguments["compression"] = compression
        if setting["predictor"] == 2 and compression not in ("jpeg", "packbits"):
            arguments["predictor"] = 2
    if lossy:
        arguments["compressionargs"] = {"level": JPEG_QUALITY}
        if not grey:
            arguments["subsampling"] = (1, 1)
    if setting["tile"] and not any(side % 16 for side in setting["tile"]):
        arguments["tile"] = tuple(setting["tile"])
    elif setting["rows"] and not lossy:
        arguments["rowsperstrip"] = min(setting["rows"], shape[0])
    if with_alpha:
        arguments["extrasamples"] = setting["extra"] or [2]
    photometric = "miniswhite" if setting["inverted"] else "minisblack" if grey else "rgb"
    return {
        "photometric": photometric,
        "planarconfig": None if grey and not with_alpha else "contig",
        "contiguous": False,
        "metadata": None,
        "software": False,
        "maxworkers": 1,
        **arguments,
    }


class StreamBytes:
    """The bytes of an open file, read as they are asked for.

    Args:
        stream: whose position moves.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def __len__(self) -> int:
        return self._stream.seek(0, io.SEEK_END)

    def __getitem__(self, piece: slice, /) -> bytes:
        start, stop, _ = piece.indices(len(self))
        self._stream.seek(start)
        return self._stream.read(max(0, stop - start))


def add_tags(stream: IO[bytes], tags: Sequence[Directory], coded: Mapping[int, Coded] = _NONE) -> None:
    """Writes the directories of a fresh TIFF anew behind its pixels, with more tags in them; reads no pixels.

    Args:
        stream: the fresh TIFF.
        tags: of each page.
        coded: pages by their number that the fresh TIFF lacks, to be put in between.
    """
    layout, directories = _directories(StreamBytes(stream))
    fresh = dict(zip([number for number in range(len(tags)) if number not in coded], directories, strict=True))
    link = layout.offset.size if layout.big else 4
    for number, more in enumerate(tags):
        directory = fresh[number] if number in fresh else _appended(stream, coded[number], layout)
        entries = {tag: entry for tag, entry in directory.entries.items() if tag in STRUCTURE}
        at = _even_end(stream)
        merged = Directory({**more.entries, **entries}, more.nested)
        stream.write(write_directory(merged, layout, at))
        stream.seek(link)
        stream.write(layout.offset.pack(at))
        link = at + layout.count.size + len({*merged.entries, *merged.nested}) * layout.entry.size


def _appended(stream: IO[bytes], page: Coded, layout: Layout) -> Directory:
    """Writes a page's strips or tiles to the end, and gives its directory with the places that they have there."""
    offsets, counts = [], []
    for segment in page.segments:
        offsets.append(_even_end(stream))
        counts.append(len(segment))
        stream.write(segment)
    where, sizes = _segment_tags(page.directory)
    entries = {where: as_wide_as_offsets(offsets, layout), sizes: as_wide_as_offsets(counts, layout)}
    return Directory({**page.directory.entries, **entries})


def _even_end(stream: IO[bytes]) -> int:
    """Goes to the end of a file, or one byte on where that is odd, as TIFF wants it."""
    end = stream.seek(0, io.SEEK_END)
    stream.write(b"\0" * (end % 2))
    return end + end % 2
