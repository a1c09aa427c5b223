"""TIFFs too large to be held: rows of their pages are read and written a band at a time.

A band is read by the reader of whole files: its strips or tiles are put into a small TIFF with the large one's own
tags, which the guarded decoder takes like any other. It is written by the writer of whole files in the same way, and
its strips or tiles are taken out of the small file into the large one. So a file comes out the same to the byte whether
it was held or not. Imports no Beam.
"""

from __future__ import annotations

import dataclasses
import itertools
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
import tifffile

from pipeline.codec import tiff
from pipeline.codec.decoding import decode_message
from pipeline.codec.header import Header, Limits
from pipeline.codec.ifd import Directory, DirectoryError, Entry, Layout, as_wide_as_offsets, write_directory
from pipeline.codec.message import unpack
from pipeline.elements import Metadata, Pixels
from pipeline.failures import DamagedImageError, ImageError, UnsupportedImageError
from pipeline.spool import Content, piece_of

FORMS = ("same", "tiff")
"""What `--format` may ask for where a TIFF is to be written in bands; the other containers are written at once."""

MOST_HEADER_BYTES = 2**27
MOST_HEADER_READS = 200_000
"""Of the directories of a file that is read in bands; one with more goes the way of others, through the guard."""

DECODED_BYTES = 2**24
"""About so many bytes of pixels are decoded or encoded at once."""

MOST_SEGMENT_BYTES = 3 * 2**26
"""Decoded bytes of a strip, or of one row of tiles, up to which a file can be read in bands."""

STRIP_OFFSETS, STRIP_COUNTS, TILE_OFFSETS, TILE_COUNTS, ROWS_PER_STRIP, PLANES = 273, 279, 324, 325, 278, 284

# What a decoder of strips and tiles has to know; all else of a page is no business of a band's.
_DECODING = {
    *(tiff.WIDTH, tiff.BITS, tiff.COMPRESSION, tiff.PHOTOMETRIC, tiff.SAMPLES, tiff.PREDICTOR, tiff.EXTRA, tiff.FORMAT),
    *(266, PLANES, ROWS_PER_STRIP, tiff.TILE_WIDTH, tiff.TILE_HEIGHT, 347, 529, 530, 531, 532),
}
_ANY_SIZE = Limits(max_bytes=2**62, max_pixels=2**62)

Run = Callable[[Callable[..., Any], Mapping[str, Any], Sequence[bytes]], tuple[Mapping[str, Any], Sequence[Any]]]
"""As in `codec.transforms`."""


class _Head:
    """A file as far as its directories need it: gives only so many bytes, and only so often."""

    def __init__(self, content: Content) -> None:
        self._content, self._bytes, self._reads = content, MOST_HEADER_BYTES, MOST_HEADER_READS

    def __len__(self) -> int:
        return len(self._content)

    @property
    def exhausted(self) -> bool:
        """Whether more was asked for than it gives."""
        return self._bytes < 0 or self._reads < 0

    def __getitem__(self, piece: slice, /) -> bytes:
        start, stop, _ = piece.indices(len(self._content))
        self._bytes, self._reads = self._bytes - max(0, stop - start), self._reads - 1
        if self.exhausted:
            raise DirectoryError("more directories than a file that is read in bands may have")
        return piece_of(self._content, start, max(0, stop - start))


@dataclasses.dataclass(frozen=True, eq=False)
class LargePage:
    """One page of a large TIFF.

    Attributes:
        height, width: in pixels.
        channels: 1 grey or 3 RGB.
        dtype: uint8 or uint16.
        metadata, setting: as `tiff.read` gives them.
        directory: of the page.
        segment_rows: height of a strip or tile.
        across: tiles in a row of them; 1 for strips.
        planes: 1, or the number of channels where each is stored for itself.
        offsets, counts: of the strips or tiles, plane by plane, from above to below, from left to right.
    """

    height: int
    width: int
    channels: int
    dtype: np.dtype[Any]
    metadata: Metadata
    setting: dict[str, Any]
    directory: Directory
    segment_rows: int
    across: int
    planes: int
    offsets: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def has_alpha(self) -> bool:
        """Whether a further channel stands beside the colours."""
        return bool(self.setting["extra"])

    @property
    def row_bytes(self) -> int:
        """Bytes of a decoded row, alpha included."""
        return self.width * (self.channels + self.has_alpha) * self.dtype.itemsize

    @property
    def plain(self) -> bool:
        """Whether rows stand one behind the other as they are, so that each can be read for itself."""
        return self.setting["compression"] == 1 and self.setting["tile"] is None


@dataclasses.dataclass(frozen=True, eq=False)
class LargeTiff:
    """A TIFF of which rows can be read.

    Attributes:
        content: the file.
        layout: of the file.
        header: of the file, as `tiff.probe` gives it.
        pages: at least one.
    """

    content: Content
    layout: Layout
    header: Header
    pages: tuple[LargePage, ...]

    def rows(self, run: Run, page: LargePage, start: int, stop: int) -> tuple[Pixels, Pixels | None]:
        """Decodes rows of a page.

        Args:
            run: how the decoder is called, as in `codec.DecodeImages`.
            page: one of `pages`.
            start, stop: the first row, and the one after the last.

        Returns:
            Pixels and alpha as `tiff.read` gives them of the whole page.

        Raises:
            ImageError: as `codec.decode`.
        """
        step = max(1, DECODED_BYTES // page.row_bytes)
        if page.plain:
            bands = [(top, min(top + step, stop)) for top in range(start, stop, step)]
        else:
            unit = page.segment_rows
            step = max(unit, step // unit * unit)
            last = min(page.height, stop + -stop % unit)
            bands = [(top, min(top + step, last)) for top in range(start // unit * unit, last, step)]
        parts = []
        for top, bottom in bands:
            pixels, alpha = _decoded(run, self._band(page, top, bottom), page, bottom - top)
            wanted = slice(max(start - top, 0), stop - top)
            parts.append((pixels[wanted], None if alpha is None else alpha[wanted]))
        if len(parts) == 1:
            return parts[0]
        alphas = [alpha for _, alpha in parts if alpha is not None]
        return np.concatenate([pixels for pixels, _ in parts]), np.concatenate(alphas) if alphas else None

    def _band(self, page: LargePage, top: int, bottom: int) -> bytes:
        """Makes a small TIFF of rows of a page."""
        pieces = list(self._plain_pieces(page, top, bottom) if page.plain else self._segments(page, top, bottom))
        tiled = page.setting["tile"] is not None
        entries = {tag: entry for tag, entry in page.directory.entries.items() if tag in _DECODING}
        number = struct.Struct(self.layout.order + "I")
        entries[tiff.HEIGHT] = Entry(4, 1, number.pack(bottom - top))
        if page.plain:
            entries[ROWS_PER_STRIP] = entries[tiff.HEIGHT]
        sizes = [len(piece) for piece in pieces]
        entries[TILE_COUNTS if tiled else STRIP_COUNTS] = as_wide_as_offsets(sizes, self.layout)
        where = TILE_OFFSETS if tiled else STRIP_OFFSETS
        head = _head(self.layout)

        def directory(start: int) -> bytes:
            """Writes the tags of pieces that stand one behind the other from `start` on."""
            places = list(itertools.accumulate(sizes[:-1], initial=start))
            there = {**entries, where: as_wide_as_offsets(places, self.layout)}
            return write_directory(Directory(there), self.layout, len(head))

        # Where the pixels begin depends on how long the directory is, which does not depend on the offsets in it.
        return b"".join((head, directory(len(head) + len(directory(0))), *pieces))

    def coded(self, numbers: Iterable[int]) -> Mapping[int, tiff.Coded]:
        """As `tiff.coded_in`, but of the pages that have a JPEG within; read as they are gone through."""
        jpegs = [number for number in numbers if self.pages[number].setting["compression"] == tiff.JPEG]
        pages = {number: self.pages[number] for number in jpegs}
        if sum(sum(page.counts) for page in pages.values()) > len(self.content):
            return {}
        return {
            number: tiff.Coded(page.directory, self._segments(page, 0, page.height)) for number, page in pages.items()
        }

    def _segments(self, page: LargePage, top: int, bottom: int) -> Iterator[bytes]:
        """Gives the strips or tiles of rows that begin with one, plane by plane."""
        down = -(-page.height // page.segment_rows)
        first, last = top // page.segment_rows, -(-bottom // page.segment_rows)
        for plane in range(page.planes):
            for place in range((plane * down + first) * page.across, (plane * down + last) * page.across):
                yield piece_of(self.content, page.offsets[place], page.counts[place])

    def _plain_pieces(self, page: LargePage, top: int, bottom: int) -> Iterator[bytes]:
        """Gives rows that are stored as they are, one piece a plane."""
        down, size = -(-page.height // page.segment_rows), page.row_bytes // page.planes
        for plane in range(page.planes):
            parts, row = [], top
            while row < bottom:
                strip, inside = divmod(row, page.segment_rows)
                rows = min(bottom - row, page.segment_rows - inside)
                parts.append(piece_of(self.content, page.offsets[plane * down + strip] + inside * size, rows * size))
                row += rows
            yield b"".join(parts)


def _head(layout: Layout) -> bytes:
    """Writes the first bytes of a TIFF whose directory follows them."""
    mark = {"<": b"II", ">": b"MM"}[layout.order]
    if layout.big:
        return mark + struct.pack(layout.order + "HHHQ", 43, 8, 0, 16)
    return mark + struct.pack(layout.order + "HI", 42, 8)


def _decoded(run: Run, data: bytes, page: LargePage, rows: int) -> tuple[Pixels, Pixels | None]:
    reply, parts = run(decode_message, dataclasses.asdict(_ANY_SIZE), [data])
    if "keep" in reply:
        raise UnsupportedImageError(f"a band of it is not restored: {reply['keep'][0]}")
    (found,) = unpack(reply["picture"], parts).pages
    expected = (rows, page.width, page.channels)
    if found.pixels.shape != expected or found.pixels.dtype != page.dtype or (found.alpha is None) == page.has_alpha:
        raise DamagedImageError(f"a band has the shape {found.pixels.shape} {found.pixels.dtype}, not {expected}")
    return found.pixels, found.alpha


def open_large(content: Content, form: str, above_pixels: int) -> LargeTiff | None:
    """Opens a file that is to be read and written in bands; reads no pixel.

    Args:
        content: the file.
        form: container of the output, of `codec.FORMS`.
        above_pixels: files of so many pixels or fewer are to be held.

    Returns:
        None where the file is to be held, or can only be read or written so: no TIFF, one that is not restored, or one
        whose strips or tiles are too large. The decoder of whole files then says what it is.

    Raises:
        DamagedImageError, UnsupportedImageError: as the decoder of whole files would, by the directories alone; also if
            pixels lie behind the file's end.
    """
    if form not in FORMS or piece_of(content, 0, 4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    head = _Head(content)
    try:
        layout, found, thumbnail = tiff.pages_of(head)
        header = tiff.header_of(found)
    except ImageError:
        if head.exhausted:
            return None
        raise
    except (struct.error, IndexError):
        return None
    if header.keep is not None or header.pixels <= above_pixels or piece_of(content, 8, 2) == b"CR":
        return None
    pages = [_page(directory, page, layout, thumbnail) for _, directory, page in found]
    whole = [page for page in pages if page is not None and _is_writable(tiff_setting(page.setting, form), page)]
    if len(whole) != len(pages):
        return None
    for number, page in enumerate(whole):
        end = max(offset + count for offset, count in zip(page.offsets, page.counts, strict=True))
        if end > len(content):
            raise DamagedImageError(f"page {number} has pixels up to byte {end} of a file of {len(content)}")
    return LargeTiff(content, layout, header, tuple(whole))


def tiff_setting(setting: dict[str, Any], form: str) -> dict[str, Any]:
    """Says how a page is written where a form is asked for, as `codec.encode` has it."""
    return setting if form == "same" else tiff.exactly(setting)


def is_exact(page: LargePage, form: str) -> bool:
    """Tells whether a page comes back exactly as it was written."""
    return bool(tiff_setting(page.setting, form)["compression"] != tiff.JPEG)


def _is_writable(setting: dict[str, Any], page: LargePage) -> bool:
    """Whether the writer cuts a page as it is asked to, rather than as it likes, into pieces that can be held."""
    if setting["tile"]:
        return not any(side % 16 for side in setting["tile"])
    if setting["compression"] == 1:
        return True
    return setting["compression"] != tiff.JPEG and setting["rows"] * page.row_bytes <= MOST_SEGMENT_BYTES


def _page(directory: Directory, header: tiff.PageHeader, layout: Layout, thumbnail: bool) -> LargePage | None:
    """Describes a page; None for one whose rows cannot be read by themselves."""
    tile = [directory.integer(tag, layout) for tag in (tiff.TILE_HEIGHT, tiff.TILE_WIDTH)]
    tiled = tiff.TILE_WIDTH in directory.entries
    rows = tile[0] if tiled else min(directory.integer(ROWS_PER_STRIP, layout, header.height), header.height)
    if rows < 1 or (tiled and tile[1] < 1):
        return None
    setting = tiff.setting_of(directory, layout, tile=tile if tiled else None, rows=None if tiled else rows)
    page = LargePage(
        height=header.height,
        width=header.width,
        channels=header.channels - len(setting["extra"]),
        dtype=np.dtype(f"uint{header.bits}"),
        metadata=tiff.read_metadata(directory, layout, thumbnail),
        setting=setting,
        directory=directory,
        segment_rows=rows,
        across=-(-header.width // tile[1]) if tiled else 1,
        planes=header.channels if directory.integer(PLANES, layout, 1) == 2 else 1,
        offsets=directory.integers(TILE_OFFSETS if tiled else STRIP_OFFSETS, layout),
        counts=directory.integers(TILE_COUNTS if tiled else STRIP_COUNTS, layout),
    )
    segments = page.planes * -(-page.height // rows) * page.across
    if not len(page.offsets) == len(page.counts) == segments or 0 in page.offsets or 0 in page.counts:
        return None
    if page.plain:
        last = page.height - (page.height - 1) // rows * rows
        heights = [rows] * (segments // page.planes - 1) + [last]
        least = [height * page.row_bytes // page.planes for height in heights] * page.planes
        return page if all(count >= size for count, size in zip(page.counts, least, strict=True)) else None
    return page if rows * page.row_bytes <= MOST_SEGMENT_BYTES else None


Rows = Iterable[tuple[Pixels, Pixels | None]]
"""Pixels and alpha of rows, one band after the other from above to below."""


def write_large(
    stream: IO[bytes], source: LargeTiff, pages: Iterable[Rows], form: str, spared: Collection[int] = ()
) -> None:
    """Writes what `codec.encode` would, without holding it.

    Args:
        stream: an empty file, open for reading and writing.
        source: whose tags, alpha and kind of file the output has.
        pages: of each page all rows, shaped and typed as the source's.
        form: of `FORMS`.
        spared: numbers of the pages that have the source's own pixels.
    """
    settings = [tiff_setting(page.setting, form) for page in source.pages]
    tags = tiff.carried([page.directory for page in source.pages])
    layout = Layout(source.layout.order, source.layout.big or not _fits_classic(source, settings))
    coded = source.coded(spared) if form == "same" else {}
    # tifffile asks a file for its name, and a spool has none.
    named = tifffile.FileHandle(stream, name="large.tif", size=0)
    with tifffile.TiffWriter(named, bigtiff=layout.big, byteorder=layout.order) as file:
        for number, (page, setting, rows) in enumerate(zip(source.pages, settings, pages, strict=True)):
            if number in coded:
                continue
            samples = page.channels + page.has_alpha
            file.write(
                _pieces(rows, page, setting, layout),
                shape=(page.height, page.width) if samples == 1 else (page.height, page.width, samples),
                dtype=page.dtype,
                **tiff.arguments_of((page.height, page.width, page.channels), page.has_alpha, setting),
            )
    tiff.add_tags(stream, tags, coded)


def _fits_classic(source: LargeTiff, settings: Sequence[dict[str, Any]]) -> bool:
    """Whether offsets of 4 bytes will do, whatever the pixels are; LZW makes noise half as large again."""
    sizes = [
        page.height * page.row_bytes * (1.0 if setting["compression"] == 1 else 1.5)
        for page, setting in zip(source.pages, settings, strict=True)
    ]
    return sum(sizes) + 2 * MOST_HEADER_BYTES < 2**32


def _pieces(rows: Rows, page: LargePage, setting: dict[str, Any], layout: Layout) -> Iterator[bytes]:
    """Encodes rows to the strips or tiles of the large file, in order."""
    as_they_are = setting["compression"] == 1 and not setting["tile"]
    unit = 1 if as_they_are else setting["tile"][0] if setting["tile"] else setting["rows"]
    step = unit * max(1, DECODED_BYTES // (unit * page.row_bytes))
    for pixels, alpha in _regrouped(rows, step):
        small = {**setting, "rows": len(pixels)} if as_they_are else setting
        data = tiff.write([(pixels, alpha)], [small], [Directory({})], layout)
        yield from tiff.coded_in(data, [0])[0].segments


def _regrouped(rows: Rows, step: int) -> Iterator[tuple[Pixels, Pixels | None]]:
    """Parts rows anew, `step` at a time; the last ones may be fewer."""
    held: list[tuple[Pixels, Pixels | None]] = []
    count = 0
    for pixels, alpha in rows:
        held.append((pixels, alpha))
        count += len(pixels)
        if count < step:
            continue
        pixels, alpha = _joined(held)
        whole = count // step * step
        for top in range(0, whole, step):
            yield pixels[top : top + step], None if alpha is None else alpha[top : top + step]
        held = [(pixels[whole:], None if alpha is None else alpha[whole:])]
        count -= whole
    if count:
        yield _joined(held)


def _joined(held: list[tuple[Pixels, Pixels | None]]) -> tuple[Pixels, Pixels | None]:
    alphas = [alpha for _, alpha in held if alpha is not None]
    return np.concatenate([pixels for pixels, _ in held]), np.concatenate(alphas) if alphas else None


def open_written(content: Content, source: LargeTiff) -> LargeTiff:
    """Opens what `write_large` wrote, to read it back.

    Raises:
        UnsupportedImageError: if it is not what was written, as where an odd tag misleads the decoder.
    """
    try:
        written = open_large(content, "same", 0)
    except DamagedImageError as error:
        raise UnsupportedImageError(f"as tiff it cannot be read back: {error}") from error
    shapes = [
        [(page.height, page.width, page.channels, page.dtype, page.has_alpha) for page in file.pages]
        for file in (source, written)
        if file is not None
    ]
    if written is None or shapes[0] != shapes[1]:
        raise UnsupportedImageError("as tiff it cannot be read back")
    return written
