"""PNG: chunks, pixels of 8 and 16 bits, and a file made of new pixels and the old file's own chunks."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import imagecodecs
import numpy as np

from pipeline.codec import enlarging, exif, photoshop
from pipeline.codec.header import Header, Picture, density_of, names
from pipeline.elements import Metadata, Page, Pixels
from pipeline.failures import DamagedImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGB_ALPHA: 4}
DEPTHS = {GREY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GREY_ALPHA: (8, 16), RGB_ALPHA: (8, 16)}
XMP_HEAD = b"XML:com.adobe.xmp\0\0\0\0\0"
IPTC_HEAD = b"Raw profile type iptc\0\0"
COMMENT = (b"tEXt", b"Comment")
MAX_TEXT = 64 * 2**20
"""Bytes that one compressed chunk may unfold to."""

# Chunks that other pixels make untrue, and what is lost with them; a palette proposed for RGB and its histogram are a
# help for old screens, and a transparent colour becomes an alpha channel.
STALE = {b"PLTE": "", b"hIST": "", b"sPLT": "", b"tRNS": "colour-key", b"caBX": "jumbf"}


class Chunk(NamedTuple):
    """One chunk: its four letters and what it holds."""

    kind: bytes
    content: bytes

    def encoded(self) -> bytes:
        """Its bytes in a file."""
        check = zlib.crc32(self.kind + self.content)
        return struct.pack(">I", len(self.content)) + self.kind + self.content + struct.pack(">I", check)


def chunks(data: bytes) -> Iterator[Chunk]:
    """Yields the chunks up to and with the last one.

    Raises:
        DamagedImageError: if the file ends before, or a check sum is wrong.
    """
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise DamagedImageError(f"chunk {_name(kind)} reaches past the end at byte {len(data)}")
        content = data[at + 8 : end - 4]
        if zlib.crc32(content, zlib.crc32(kind)) != struct.unpack_from(">I", data, end - 4)[0]:
            raise DamagedImageError(f"chunk {_name(kind)} at byte {at} does not match its check sum")
        yield Chunk(kind, content)
        if kind == b"IEND":
            return
        at = end
    raise DamagedImageError("the end chunk is missing")


def _name(kind: bytes) -> str:
    """Spells a chunk's letters safely."""
    return kind.decode("ascii", "backslashreplace")


def _is_animated(data: bytes) -> bool:
    """Whether a chunk before the first pixels says so; what is in the chunks is not looked at."""
    at = 8
    while at + 8 <= len(data) and (kind := data[at + 4 : at + 8]) != b"IDAT":
        if kind == b"acTL":
            return True
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return False


def probe(data: bytes) -> Header:
    """Reads the first chunk, and whether an animation is announced before the pixels."""
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise DamagedImageError("no header chunk")
    width, height, bits, colour = struct.unpack_from(">IIBB", data, 16)
    if not width or not height or max(width, height) >= 2**31 or bits not in DEPTHS.get(colour, ()):
        raise DamagedImageError(f"a header of {width}x{height}, colour type {colour}, {bits} bits")
    keep = None
    if colour == PALETTE:
        keep = "palette"
    elif bits < 8:
        keep = "bilevel" if bits == 1 else "depth"
    pages = 1
    if _is_animated(data):
        keep, pages = "animated", 2
    return Header("png", width, height, CHANNELS[colour], bits, pages, width * height, keep)


def read(data: bytes) -> Picture:
    """Decodes a PNG that `probe` has looked at: grey or RGB of 8 or 16 bits, alpha beside."""
    parts = list(chunks(data))
    pixels = np.asarray(imagecodecs.png_decode(data))
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    alpha = None
    if pixels.shape[2] in (2, 4):
        alpha = np.ascontiguousarray(pixels[..., -1])
        pixels = np.ascontiguousarray(pixels[..., :-1])
    metadata = read_metadata(parts)
    if has_more_behind(data, parts):
        metadata = dataclasses.replace(metadata, not_kept=names(metadata.not_kept, ("bytes-behind-the-end",)))
    return Picture((Page(pixels, alpha, metadata),), encoding={"only_here": _only_here(parts)})


def check(data: bytes) -> None:
    """Walks through a file that is kept as it is; `DamagedImageError` where it ends early or a check sum is wrong."""
    for _ in chunks(data):
        pass


def has_more_behind(data: bytes, parts: list[Chunk]) -> bool:
    """Tells whether anything but zeros follows the last chunk."""
    end = len(SIGNATURE) + sum(12 + len(chunk.content) for chunk in parts)
    return bool(data[end:].strip(b"\0"))


def _only_here(parts: list[Chunk]) -> tuple[str, ...]:
    """Names what is carried from PNG to PNG, and no other container has a place for."""
    elsewhere = {b"iCCP", b"eXIf", b"pHYs"}
    found: list[str] = []
    for kind, content in carried(parts)[0]:
        if kind in (b"tEXt", b"zTXt", b"iTXt"):
            keyword = content.partition(b"\0")[0]
            if keyword not in (b"XML:com.adobe.xmp", b"Raw profile type iptc") and (kind, keyword) != COMMENT:
                found.append("text")
        elif kind not in elsewhere:
            found.append(f"chunk-{_name(kind)}")
    return names(found)


def read_metadata(parts: list[Chunk]) -> Metadata:
    """Collects what other containers can hold of a PNG's chunks."""
    first = {chunk.kind: chunk.content for chunk in reversed(parts)}
    raw_exif = first.get(b"eXIf")
    clean_exif, thumbnails = exif.without_thumbnail(raw_exif) if raw_exif else (None, ())
    xmp = iptc = comment = None
    for kind, content in parts:
        if kind == b"iTXt" and content.startswith(b"XML:com.adobe.xmp\0"):
            xmp = _international(content)
        elif kind in (b"tEXt", b"zTXt") and content.startswith(b"Raw profile type iptc\0"):
            iptc = _raw_profile(kind, content)
        elif kind == b"tEXt" and content.startswith(b"Comment\0"):
            comment = content[8:]
    icc = None
    if b"iCCP" in first:
        icc = _inflate(first[b"iCCP"].partition(b"\0")[2][1:])
    density = None
    if len(first.get(b"pHYs", b"")) == 9:
        across, down, unit = struct.unpack(">IIB", first[b"pHYs"])
        density = density_of(across / 100, down / 100, "cm") if unit == 1 else density_of(across, down, "none")
    _, dropped = carried(parts)
    return Metadata(icc, clean_exif, xmp, iptc, density, comment, names(thumbnails, dropped))


def _inflate(data: bytes) -> bytes | None:
    """Unfolds compressed bytes, or gives None where they are broken or too many."""
    unfold = zlib.decompressobj()
    try:
        content = unfold.decompress(data, MAX_TEXT)
    except zlib.error:
        return None
    return content if unfold.eof else None


def _international(content: bytes) -> bytes | None:
    """Reads the text of an iTXt chunk as UTF-8."""
    _, _, rest = content.partition(b"\0")
    compressed, text = rest[:1], rest[2:].split(b"\0", 2)
    if len(text) < 3:
        return None
    return _inflate(text[2]) if compressed == b"\1" else text[2]


def _raw_profile(kind: bytes, content: bytes) -> bytes | None:
    """Reads the IPTC records that ImageMagick and ExifTool write as hexadecimal text."""
    _, _, text = content.partition(b"\0")
    plain = _inflate(text[1:]) if kind == b"zTXt" else text
    try:
        block = bytes.fromhex(b"".join((plain or b"").split()[2:]).decode("ascii"))
    except ValueError:
        return None
    return photoshop.iptc_of(block) or (block or None)


def carried(parts: list[Chunk]) -> tuple[tuple[Chunk, ...], tuple[str, ...]]:
    """Picks the chunks that a new PNG of the same picture can have.

    Returns:
        The chunks, in order, the EXIF without its thumbnail; and what was left out, by name.
    """
    kept: list[Chunk] = []
    dropped: list[str] = []
    keyed = any(chunk.kind == b"tRNS" for chunk in parts)
    for kind, content in parts:
        if kind in (b"IHDR", b"IDAT", b"IEND"):
            if kind == b"IHDR" and content[12] == 1:
                dropped.append("interlacing")
        elif kind == b"sBIT" and keyed:  # it knows nothing of the alpha channel
            dropped.append("chunk-sBIT")
        elif kind in STALE:
            dropped.extend(filter(None, [STALE[kind]]))
        elif kind == b"eXIf":
            clean, found = exif.without_thumbnail(content)
            kept.append(Chunk(kind, clean))
            dropped.extend(found)
        elif kind in KNOWN or kind[3] & 0x20:  # the fourth letter small: safe to copy, says the format
            kept.append(Chunk(kind, content))
        else:
            dropped.append(f"chunk-{_name(kind)}")
    return tuple(kept), names(dropped)


# What describes the picture as a whole and stays true of the restored one, safe to copy or not.
KNOWN = {b"cHRM", b"gAMA", b"iCCP", b"sBIT", b"sRGB", b"cICP", b"mDCV", b"cLLI", b"bKGD", b"pHYs", b"tIME", b"oFFs"}


def enlarged(parts: tuple[Chunk, ...], scale: int) -> tuple[Chunk, ...]:
    """Chunks for the same picture with `scale` times the pixels along an axis."""
    return parts if scale == 1 else tuple(Chunk(kind, _enlarged(kind, content, scale)) for kind, content in parts)


def _enlarged(kind: bytes, content: bytes, scale: int) -> bytes:
    if kind == b"eXIf":
        return enlarging.of_exif(content, scale)
    if kind == b"iTXt" and content.startswith(XMP_HEAD):
        return XMP_HEAD + enlarging.of_xmp(content[len(XMP_HEAD) :], scale)
    # A density that is none is the shape of a pixel; an offset may be a length.
    if len(content) == 9 and ((kind == b"pHYs" and content[8] == 1) or (kind == b"oFFs" and content[8] == 0)):
        form = ">II" if kind == b"pHYs" else ">ii"
        numbers = [scale * number for number in struct.unpack_from(form, content)]
        if max(map(abs, numbers)) < 2**31:
            return struct.pack(form, *numbers) + content[8:]
    return content


def chunks_of(metadata: Metadata) -> tuple[Chunk, ...]:
    """Makes chunks of the metadata of a file of another format; PNG holds all kinds."""
    made: list[Chunk] = []
    if metadata.icc:
        made.append(Chunk(b"iCCP", b"icc\0\0" + zlib.compress(metadata.icc, 9)))
    if metadata.density:
        across, down, unit = metadata.density
        metres = {"inch": 1 / 0.0254, "cm": 100.0, "none": 1.0}[unit]
        made.append(
            Chunk(
                b"pHYs", struct.pack(">IIB", *(max(1, round(side * metres)) for side in (across, down)), unit != "none")
            )
        )
    if metadata.exif:
        made.append(Chunk(b"eXIf", metadata.exif))
    if metadata.xmp:
        made.append(Chunk(b"iTXt", XMP_HEAD + metadata.xmp))
    if metadata.iptc:
        block = photoshop.of_iptc(metadata.iptc)
        digits = block.hex().encode()
        lines = b"\n".join(digits[start : start + 72] for start in range(0, len(digits), 72))
        made.append(Chunk(b"zTXt", IPTC_HEAD + zlib.compress(b"\niptc\n%8d\n%s\n" % (len(block), lines), 9)))
    if metadata.comment:
        made.append(Chunk(b"tEXt", b"Comment\0" + metadata.comment.replace(b"\0", b" ")))
    return tuple(made)


def write(pixels: Pixels, alpha: Pixels | None, extra: tuple[Chunk, ...]) -> bytes:
    """Encodes pixels of 8 or 16 bits, with alpha beside them where there is one, and chunks before the pixels."""
    whole = pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], axis=2)
    array = np.ascontiguousarray(whole[..., 0] if whole.shape[2] == 1 else whole)
    # On photographs of 3 megapixels run lengths took 0.2 s, and zlib's usual search 2 s for a file 14 % larger.
    data = bytes(imagecodecs.png_encode(array, level=6, strategy=imagecodecs.PNG.STRATEGY.RLE))
    head = len(SIGNATURE) + 25
    return data[:head] + b"".join(chunk.encoded() for chunk in extra) + data[head:]
