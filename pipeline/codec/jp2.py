"""JPEG 2000 of 8 and 16 bits: the boxes of its container, and pixels through OpenJPEG."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import imagecodecs
import numpy as np

from pipeline.codec import exif
from pipeline.codec.boxes import Box, boxes, encoded
from pipeline.codec.header import Header, Picture, density_of, names, profile_space
from pipeline.elements import Metadata, Page, Pixels
from pipeline.failures import DamagedImageError

SIGNATURE = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
CODESTREAM = b"\xff\x4f\xff\x51"
LOSSY_PSNR = 50
"""In dB, what an irreversible file is written with."""

SRGB, GREY, CMYK = 16, 17, 12
XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
EXIF = b"JpgTiffExif->JP2"
IPTC = bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38")


class Size(NamedTuple):
    """What the codestream's first segment says.

    Attributes:
        width, height, channels: of the picture.
        depths: byte of each channel: bits - 1, and 0x80 for signed.
        steps: subsampling of each channel, across and down.
    """

    width: int
    height: int
    channels: int
    depths: tuple[int, ...]
    steps: tuple[tuple[int, int], ...]


def _codestream(data: bytes) -> int:
    """Finds where the codestream starts."""
    if data.startswith(CODESTREAM):
        return 0
    for box in boxes(data):
        if box.kind == b"jp2c":
            return box.start
    raise DamagedImageError("no codestream")


def _size(data: bytes, at: int) -> Size:
    """Reads the segment SIZ at the front of the codestream."""
    if data[at : at + 4] != CODESTREAM:
        raise DamagedImageError("the codestream does not begin with its size")
    right, below, left, above = struct.unpack_from(">IIII", data, at + 8)
    (channels,) = struct.unpack_from(">H", data, at + 40)
    fields = data[at + 42 : at + 42 + 3 * channels]
    if right <= left or below <= above or not channels or len(fields) < 3 * channels:
        raise DamagedImageError(f"a picture of {right - left}x{below - above} with {channels} channels")
    steps = tuple(zip(fields[1::3], fields[2::3], strict=True))
    return Size(right - left, below - above, channels, tuple(fields[::3]), steps)


def _is_reversible(data: bytes, at: int) -> bool:
    """Tells whether the wavelet is the one of whole numbers: the last byte of segment COD."""
    at += 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0x90:
        (length,) = struct.unpack_from(">H", data, at + 2)
        if data[at + 1] == 0x52 and at + 14 <= len(data):
            return data[at + 13] == 1
        at += 2 + length
    return False


class Colours(NamedTuple):
    """What the header box says.

    Attributes:
        number: of the enumerated colour space, or None.
        icc: profile, or None.
        alpha: 1 straight, 2 premultiplied, of the last channel; 0 where there is none.
        indexed: it has a palette.
        density: from the capture resolution, or the display resolution.
    """

    number: int | None
    icc: bytes | None
    alpha: int
    indexed: bool
    density: tuple[float, float, str] | None

    @property
    def are_inks(self) -> bool:
        """The channels are cyan, magenta, yellow and black."""
        return self.number == CMYK or profile_space(self.icc) == b"CMYK"


def _colours(data: bytes, size: Size) -> Colours:
    """Reads the header box."""
    number, icc, alpha, density, indexed = None, None, 0, None, False
    for box in _within(data, b"jp2h"):
        content = data[box.start : box.end]
        # There may be several, for readers of different skill: the first counts, and a profile behind it all the same.
        if box.kind == b"colr" and len(content) >= 7:
            if content[0] == 1 and number is None and icc is None:
                (number,) = struct.unpack_from(">I", content, 3)
            elif content[0] in (2, 3) and icc is None:
                icc = content[3:]
        elif box.kind == b"pclr":
            indexed = True
        elif box.kind == b"cdef":
            for at in range(2, len(content) - 5, 6):
                channel, kind, _ = struct.unpack_from(">HHH", content, at)
                if kind in (1, 2):
                    alpha = kind if channel == size.channels - 1 else 3
        elif box.kind == b"res ":
            density = _density(data, box)
    said = Colours(number, icc, alpha, indexed, density)
    # Where nothing is said, a second or fourth channel is alpha.
    return said._replace(alpha=int(size.channels in (2, 4) and not said.are_inks)) if not alpha else said


OTHER_SPACES = (b"Lab ", b"XYZ ", b"Luv ", b"YCbr", b"Yxy ", b"HSV ", b"HLS ", b"CMY ")
"""Three channels that are not RGB, as profiles name them."""


def _within(data: bytes, kind: bytes) -> list[Box]:
    """Lists the boxes within a box of the file; none in a bare codestream."""
    if data.startswith(CODESTREAM):
        return []
    return [inner for box in boxes(data) if box.kind == kind for inner in boxes(data, box.start, box.end)]


def _density(data: bytes, box: Box) -> tuple[float, float, str] | None:
    """Reads a resolution: points per metre, as a fraction times a power of ten, down before across."""
    for inner in boxes(data, box.start, box.end):
        if inner.kind in (b"resc", b"resd") and inner.end - inner.start == 10:
            down, below, across, under, down_power, across_power = struct.unpack_from(">HHHHbb", data, inner.start)
            if down and below and across and under:
                sides = (across / under * 10.0**across_power, down / below * 10.0**down_power)
                return density_of(sides[0] / 100, sides[1] / 100, "cm")
    return None


def probe(data: bytes) -> Header:
    """Reads the header box and the first segment of the codestream."""
    at = _codestream(data)
    size = _size(data, at)
    colours = _colours(data, size)
    bits = (size.depths[0] & 0x7F) + 1
    keep = None
    if colours.indexed:
        keep = "palette"
    elif colours.are_inks:
        keep = "cmyk"
    elif set(size.depths) not in ({7}, {15}):
        keep = "depth"
    elif (
        set(size.steps) != {(1, 1)}
        or colours.alpha > 2
        or colours.number not in (None, SRGB, GREY)
        or profile_space(colours.icc) in OTHER_SPACES
        or size.channels - bool(colours.alpha) not in (1, 3)
    ):
        keep = "colour-space"
    return Header("jp2", size.width, size.height, size.channels, bits, 1, size.width * size.height, keep)


def read(data: bytes) -> Picture:
    """Decodes a JPEG 2000 that `probe` has found restorable."""
    at = _codestream(data)
    size = _size(data, at)
    colours = _colours(data, size)
    whole = np.asarray(imagecodecs.jpeg2k_decode(data))
    whole = whole.reshape(*whole.shape[:2], -1)
    if whole.shape[2] != size.channels or whole.dtype.itemsize * 8 != size.depths[0] + 1:
        raise DamagedImageError(f"pixels of shape {whole.shape} and {whole.dtype}")
    alpha = np.ascontiguousarray(whole[..., -1]) if colours.alpha else None
    pixels = np.ascontiguousarray(whole if alpha is None else whole[..., :-1])
    metadata = _metadata(data, colours)
    encoding = {
        "reversible": _is_reversible(data, at),
        "bare": data.startswith(CODESTREAM),
        "alpha": colours.alpha,
        "colours": colours.number,
    }
    return Picture((Page(pixels, alpha, metadata),), encoding=encoding)


def check(data: bytes) -> None:
    """Walks through a file that is kept as it is; `DamagedImageError` where a box ends early."""
    for _ in boxes(data) if not data.startswith(CODESTREAM) else ():
        pass


def _metadata(data: bytes, colours: Colours) -> Metadata:
    """Collects the boxes of the known kinds, and names those that are lost."""
    found: dict[bytes, bytes] = {}
    lost: list[str] = []
    thumbnails: tuple[str, ...] = ()
    for box in boxes(data) if not data.startswith(CODESTREAM) else ():
        content = data[box.start : box.end]
        if box.kind == b"uuid" and content[:16] in (XMP, EXIF, IPTC):
            found.setdefault(content[:16], content[16:])
        elif box.kind == b"xml ":
            lost.append("xml")
        elif box.kind not in (b"jP  ", b"ftyp", b"jp2h", b"jp2c"):
            lost.append(f"box-{box.kind.decode('ascii', 'backslashreplace').strip()}")
    raw_exif = found.get(EXIF)
    if raw_exif:
        raw_exif, thumbnails = exif.without_thumbnail(raw_exif.removeprefix(b"Exif\0\0"))
    return Metadata(
        icc=colours.icc,
        exif=raw_exif,
        xmp=found.get(XMP),
        iptc=found.get(IPTC),
        density=colours.density,
        not_kept=names(lost, thumbnails),
    )


def write(pixels: Pixels, alpha: Pixels | None, metadata: Metadata, encoding: Mapping[str, Any]) -> bytes:
    """Encodes pixels of 8 or 16 bits, with what the boxes can hold.

    Args:
        pixels, alpha: to encode.
        metadata: of the page; all but a comment has its box.
        encoding: as `read` gives it: reversible is exact, else the loss is 50 dB.
    """
    whole = pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], axis=2)
    array = np.ascontiguousarray(whole[..., 0] if whole.shape[2] == 1 else whole)
    exact = bool(encoding["reversible"])
    data = bytes(
        imagecodecs.jpeg2k_encode(
            array, None if exact else LOSSY_PSNR, codecformat="j2k", reversible=exact, numthreads=1
        )
    )
    if encoding["bare"]:
        return data
    height, width, channels = whole.shape
    depth = pixels.dtype.itemsize * 8 - 1
    header = encoded(b"ihdr", struct.pack(">IIHBBBB", height, width, channels, depth, 7, 0, 0))
    if metadata.icc:
        header += encoded(b"colr", b"\2\0\0" + metadata.icc)
    else:
        header += encoded(b"colr", struct.pack(">BBBI", 1, 0, 0, GREY if pixels.shape[2] == 1 else SRGB))
    if alpha is not None:
        fields = [(place, 0, place + 1) for place in range(channels - 1)] + [(channels - 1, encoding["alpha"], 0)]
        header += encoded(b"cdef", struct.pack(">H", channels) + b"".join(struct.pack(">HHH", *one) for one in fields))
    if metadata.density:
        header += encoded(b"res ", encoded(b"resc", _resolution(metadata.density)))
    kept = ((XMP, metadata.xmp), (EXIF, metadata.exif), (IPTC, metadata.iptc))
    extra = b"".join(encoded(b"uuid", mark + content) for mark, content in kept if content)
    kind = encoded(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return SIGNATURE + kind + encoded(b"jp2h", header) + extra + encoded(b"jp2c", data)


def _resolution(density: tuple[float, float, str]) -> bytes:
    """Writes points per metre, as hundredths of a power of ten."""
    metres = [side * {"inch": 1 / 0.0254, "cm": 100.0, "none": 1.0}[density[2]] for side in density[:2]]
    powers = [max(-20, len(str(int(metre))) - 4) if metre >= 1 else -4 for metre in metres]
    across, down = (min(65535, round(metre / 10.0**power)) for metre, power in zip(metres, powers, strict=True))
    return struct.pack(">HHHHbb", down, 1, across, 1, powers[1], powers[0])
