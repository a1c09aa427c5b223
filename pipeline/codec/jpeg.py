"""JPEG: segments, quantisation tables, pixels, and a file made of new pixels and the old file's own segments."""

from __future__ import annotations

import dataclasses
import io
import re
import struct
from collections.abc import Iterator, Sequence

import numpy as np
import simplejpeg
from PIL import Image as PilImage

from pipeline.codec import enlarging, exif, photoshop
from pipeline.codec.header import Header, Picture, density_of, names
from pipeline.elements import Metadata, Page, Pixels, Tables
from pipeline.failures import DamagedImageError, UnsupportedImageError

QUALITY = 95
"""Of what is written: with 4:4:4 its own loss stays below what a restoration gains."""

FINE_QUALITY, FINE_FROM = 98, 76
"""Of what is written for a source of at least that quality: the steps of 95 are as wide as half the source's bins, and
a coefficient that they move leaves its bin (of twelve sources of quality 88 the gate refused all at 95, one at 98)."""

MAX_SIDE = 65_500
"""Of libjpeg."""

SOI, EOI, SOS, APP0, APP1, APP2, APP11, APP13, APP14, COM = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEE, 0xFE
FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA}  # baseline, extended and progressive, by Huffman or arithmetic coding
OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF}  # lossless and hierarchical
PROGRESSIVE = {0xC2, 0xCA}
ARITHMETIC = {0xC9, 0xCA}

JFIF, JFXX = b"JFIF\0", b"JFXX\0"
EXIF, XMP, EXTENDED_XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
ICC, PHOTOSHOP, ADOBE, MPF = b"ICC_PROFILE\0", b"Photoshop 3.0\0", b"Adobe", b"MPF\0"
UNITS = {0: "none", 1: "inch", 2: "cm"}

# A marker within coded data; 00 is an escaped byte, D0 to D7 restart the decoder, FF is padding.
MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")

# Warnings of libjpeg at which nothing of the picture is missing: cameras leave bytes over, and some encoders order the
# scans of a progressive file in ways of their own.
HARMLESS = ("extraneous bytes before marker", "Inconsistent progression")

# Annex K of ITU-T T.81, in natural order; libjpeg scales it by the quality factor.
LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.int64,
)


@dataclasses.dataclass(frozen=True)
class Segment:
    """One segment of a JPEG.

    Attributes:
        marker: its second byte.
        payload: without marker and length.
    """

    marker: int
    payload: bytes

    def encoded(self) -> bytes:
        """Its bytes in a file."""
        return struct.pack(">BBH", 0xFF, self.marker, len(self.payload) + 2) + self.payload


@dataclasses.dataclass(frozen=True)
class Layout:
    """A JPEG taken apart.

    Attributes:
        segments: all with a length, in order, those between scans too.
        end: offset behind the end marker.
    """

    segments: tuple[Segment, ...]
    end: int

    def frame(self) -> Segment:
        """The one that says size and kind."""
        for segment in self.segments:
            if segment.marker in OTHER_FRAMES:
                raise UnsupportedImageError(f"a lossless or hierarchical JPEG (marker FF{segment.marker:02X})")
            if segment.marker in FRAMES and len(segment.payload) >= 6:
                return segment
        raise DamagedImageError("no frame header")

    def starting(self, marker: int, prefix: bytes) -> Iterator[bytes]:
        """Yields what follows the prefix in each segment of a kind."""
        for segment in self.segments:
            if segment.marker == marker and segment.payload.startswith(prefix):
                yield segment.payload[len(prefix) :]


def layout(data: bytes, whole: bool = True) -> Layout:
    """Takes a JPEG apart.

    Args:
        data: the file.
        whole: look through the scans for the end too, rather than stop at the first one.

    Raises:
        DamagedImageError: if a segment or the end is missing.
    """
    segments: list[Segment] = []
    at = 2
    while True:
        while data[at : at + 2] == b"\xff\xff":  # padding before a marker
            at += 1
        if at + 2 > len(data) or data[at] != 0xFF:
            raise DamagedImageError(f"no marker at byte {at} of {len(data)}")
        marker = data[at + 1]
        if marker == EOI:
            return Layout(tuple(segments), at + 2)
        (length,) = struct.unpack_from(">H", data, at + 2) if at + 4 <= len(data) else (0,)
        if length < 2 or at + 2 + length > len(data):
            raise DamagedImageError(f"segment FF{marker:02X} at byte {at} reaches past the end at {len(data)}")
        segments.append(Segment(marker, data[at + 4 : at + 2 + length]))
        at += 2 + length
        if marker == SOS:
            if not whole:
                return Layout(tuple(segments), len(data))
            following = MARKER.search(data, at)
            if following is None:
                raise DamagedImageError("the end marker is missing")
            at = following.start()


def probe(data: bytes) -> Header:
    """Reads size and kind from the segments before the first scan.

    Raises:
        DamagedImageError, UnsupportedImageError: as their classes say.
    """
    parts = layout(data, whole=False)
    frame = parts.frame().payload
    bits, height, width, channels = struct.unpack_from(">BHHB", frame)
    if not width or not height:
        raise DamagedImageError(f"a frame of {width}x{height}")
    if bits != 8 or channels not in (1, 3, 4):
        raise UnsupportedImageError(f"a JPEG of {channels} channels with {bits} bits")
    keep = "cmyk" if channels == 4 else None
    if any(True for _ in parts.starting(APP2, MPF)):
        keep = "multi-picture"
    return Header("jpeg", width, height, channels, bits, 1, width * height, keep)


def read(data: bytes) -> Picture:
    """Decodes a JPEG that `probe` has looked at.

    Raises:
        DamagedImageError: if it ends early or contradicts itself.
    """
    parts = layout(data)
    check_coded(data)
    with PilImage.open(io.BytesIO(data), formats=("JPEG",)) as image:
        image.load()
        pixels = np.array(image).reshape(image.height, image.width, -1)
        mode, components, tables = image.mode, image.layer, image.quantization  # type: ignore[attr-defined]
    frame = parts.frame()
    luminous = mode == "L" or not _is_rgb(parts, [component[0] for component in components])
    quantization = np.zeros((2, 8, 8), np.uint16)
    for place, component in enumerate(components[:2]):
        if component[3] not in tables:
            raise DamagedImageError(f"no quantisation table {component[3]}")
        quantization[place] = np.reshape(tables[component[3]], (8, 8))
    page = Page(pixels, metadata=read_metadata(parts, data))
    # Steps of red and green say nothing of luma.
    return Picture(
        (page,),
        quantization if luminous else None,
        {
            "progressive": frame.marker in PROGRESSIVE,
            "subsampling": [[component[1], component[2]] for component in components],
            "only_here": _only_here(parts),
        },
    )


def check_coded(data: bytes) -> None:
    """Looks whether the coded data are all there and make sense.

    Where they do not, libjpeg only warns and paints the rest grey, and Pillow passes no warning on.

    Raises:
        DamagedImageError: with libjpeg's warning.
    """
    try:
        # One pixel of eight by eight: all is unpacked, but hardly anything computed (30 ms for 12 megapixels).
        simplejpeg.decode_jpeg(data, colorspace="GRAY", min_height=1, min_width=1, min_factor=1, strict=True)
    except ValueError as error:
        # An odd subsampling is beyond this interface of libjpeg; Pillow's reads it.
        if not any(said in str(error) for said in (*HARMLESS, "subsampling")):
            raise DamagedImageError(str(error)) from error


def check(data: bytes) -> None:
    """Walks through a file that is kept as it is; `DamagedImageError` where it ends early."""
    layout(data)


def has_more_behind(data: bytes) -> bool:
    """Tells whether a film, or another picture, follows the end of the first one."""
    behind = data[layout(data).end :]
    return behind.startswith(b"\xff\xd8\xff") or b"ftyp" in behind[:256] or behind.endswith(b"SEFT")


def _is_rgb(parts: Layout, identifiers: Sequence[int]) -> bool:
    """Tells whether three channels are RGB itself, by the rules of libjpeg."""
    if any(True for _ in parts.starting(APP0, JFIF)):
        return False
    for adobe in parts.starting(APP14, ADOBE):
        return len(adobe) >= 7 and adobe[6] == 0
    return list(identifiers) == [ord(letter) for letter in "RGB"]


def read_metadata(parts: Layout, data: bytes) -> Metadata:
    """Collects what other containers can hold of a JPEG's segments."""
    photoshop_block = b"".join(parts.starting(APP13, PHOTOSHOP))
    raw_exif = next(parts.starting(APP1, EXIF), None)
    clean_exif, thumbnails = exif.without_thumbnail(raw_exif) if raw_exif else (None, ())
    density = None
    for jfif in parts.starting(APP0, JFIF):
        if len(jfif) >= 7:
            unit, across, down = struct.unpack_from(">BHH", jfif, 2)
            if unit in UNITS and across and down and (unit, across, down) != (0, 1, 1):
                density = density_of(across, down, UNITS[unit])
        break
    _, dropped = carried(parts, data)
    return Metadata(
        icc=_icc(parts),
        exif=clean_exif,
        xmp=next(parts.starting(APP1, XMP), None),
        iptc=photoshop.iptc_of(photoshop_block),
        density=density,
        comment=b"\n".join(parts.starting(COM, b"")) or None,
        not_kept=names(thumbnails, dropped),
    )


def _only_here(parts: Layout) -> tuple[str, ...]:
    """Names what no other container has a place for."""
    found: list[str] = []
    if any(True for _ in parts.starting(APP1, EXTENDED_XMP)):
        found.append("extended-xmp")
    block = b"".join(parts.starting(APP13, PHOTOSHOP))
    elsewhere = (photoshop.IPTC, *photoshop.THUMBNAILS)
    # Not what is but padding behind the last one.
    if any(number not in elsewhere and part.strip(b"\0") for number, _, part in photoshop.resources(block)):
        found.append("photoshop-resources")
    known = {APP1: (EXIF, XMP, EXTENDED_XMP), APP2: (ICC,), APP13: (PHOTOSHOP,), APP0: (JFIF, JFXX), APP14: (ADOBE,)}
    for segment in parts.segments:
        is_app = APP0 <= segment.marker <= 0xEF and segment.marker != APP11
        if is_app and not segment.payload.startswith(known.get(segment.marker, ())):
            found.append(f"app{segment.marker - APP0}")
    return names(found)


def _icc(parts: Layout) -> bytes | None:
    """Joins the profile from its numbered pieces."""
    pieces = sorted(piece for piece in parts.starting(APP2, ICC) if len(piece) > 2)
    return b"".join(piece[2:] for piece in pieces) or None


def carried(parts: Layout, data: bytes) -> tuple[tuple[Segment, ...], tuple[str, ...]]:
    """Picks the segments that a new JPEG of the same picture can have byte for byte.

    Returns:
        The segments, in order, thumbnails taken out; and what was left out, by name.
    """
    kept: list[Segment] = []
    dropped: list[str] = []
    # Together: one block may go on from segment to segment.
    clean_blocks, small = photoshop.without_thumbnail(list(parts.starting(APP13, PHOTOSHOP)))
    blocks = iter(clean_blocks)
    dropped.extend(small)
    for segment in parts.segments:
        marker, payload = segment.marker, segment.payload
        if marker == APP0 and payload.startswith(JFIF):
            if len(payload) > 14:  # a small picture of bare RGB behind the density
                payload = payload[:12] + b"\0\0"
                dropped.append("thumbnail")
        elif marker == APP0 and payload.startswith(JFXX):
            dropped.append("thumbnail")
            continue
        elif marker == APP1 and payload.startswith(EXIF):
            clean, found = exif.without_thumbnail(payload[len(EXIF) :])
            payload = EXIF + clean
            dropped.extend(found)
        elif marker == APP11:  # JUMBF: a signature over the old bytes, or an extension of the old picture
            dropped.append("jumbf")
            continue
        elif marker == APP13 and payload.startswith(PHOTOSHOP):
            payload = PHOTOSHOP + next(blocks)
        elif marker == APP14 and payload.startswith(ADOBE) and payload[11:12] != b"\1":
            dropped.append("adobe-marker")  # of colours coded as RGB; the new ones are YCbCr
            continue
        elif not (APP0 <= marker <= 0xEF or marker == COM):
            continue
        kept.append(Segment(marker, payload))
    if any(segment.marker in ARITHMETIC for segment in parts.segments):
        dropped.append("arithmetic-coding")
    if data[parts.end :].strip(b"\0"):
        dropped.append("bytes-behind-the-end")
    return tuple(kept), names(dropped)


def write(pixels: Pixels, source: bytes, progressive: bool, tables: Tables | None = None, scale: int = 1) -> bytes:
    """Encodes new pixels with the segments of the JPEG that they were restored from.

    Args:
        pixels: `(height, width, 1 or 3)` uint8, at most `MAX_SIDE` a side.
        source: the old file.
        progressive: whether the new one is.
        tables: the old file's, or None.
        scale: pixels of the new picture to one of the old, along an axis.
    """
    import cv2  # late: it costs the guard's processes 40 MB and they never encode

    # Pillow sizes a buffer by guess and fails on noise ("Suspension not allowed here"); OpenCV's grows.
    settings = {
        cv2.IMWRITE_JPEG_QUALITY: FINE_QUALITY if (quality(tables) or 0) >= FINE_FROM else QUALITY,
        cv2.IMWRITE_JPEG_OPTIMIZE: 1,
        cv2.IMWRITE_JPEG_PROGRESSIVE: int(progressive),
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    }
    order = np.ascontiguousarray(pixels[..., ::-1] if pixels.shape[2] == 3 else pixels)
    done, encoded = cv2.imencode(".jpg", order, [number for pair in settings.items() for number in pair])
    if not done:
        raise ValueError(f"no JPEG of {pixels.shape} {pixels.dtype}")
    data = encoded.tobytes()
    segments, _ = carried(layout(source), source)
    # The encoder's own JFIF segment goes: the old one says the density, and a file that had none gets none.
    bare = data[2:]
    if bare[:2] == bytes((0xFF, APP0)):
        bare = bare[2 + struct.unpack_from(">H", bare, 2)[0] :]
    if scale != 1:
        segments = tuple(_enlarged(segment, scale) for segment in segments)
    return b"\xff\xd8" + b"".join(segment.encoded() for segment in segments) + bare


def _enlarged(segment: Segment, scale: int) -> Segment:
    """A segment for the same picture with more pixels."""
    marker, payload = segment.marker, segment.payload
    if marker == APP0 and payload.startswith(JFIF) and len(payload) >= 12:
        unit, across, down = struct.unpack_from(">BHH", payload, 7)
        if unit and max(across, down) * scale < 2**16:
            payload = payload[:8] + struct.pack(">HH", scale * across, scale * down) + payload[12:]
    for start, of in ((EXIF, enlarging.of_exif), (XMP, enlarging.of_xmp), (PHOTOSHOP, enlarging.of_photoshop)):
        if payload.startswith(start):
            payload = start + of(payload[len(start) :], scale)
    return Segment(marker, payload)


def quality(tables: Tables | None) -> int | None:
    """Finds libjpeg's quality factor, 1..100, whose luma table is nearest to a file's; None without tables."""
    if tables is None:
        return None
    steps = np.asarray(tables[0], np.int64)
    factors = np.arange(1, 101)
    scales = np.where(factors < 50, 5000 // factors, 200 - 2 * factors)
    candidates = np.clip((LUMA * scales[:, None, None] + 50) // 100, 1, 255)
    # In logarithms: a step of 2 for 1 is as far off as one of 20 for 10.
    distances = np.abs(np.log(candidates) - np.log(np.maximum(steps, 1))).sum(axis=(1, 2))
    return int(factors[np.argmin(distances)])
