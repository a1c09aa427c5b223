"""From bytes to an image: the format by its first bytes, the limits by its header, then the pixels.

Imports no Beam: this runs in the guard's processes, which must start fast.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from pipeline.codec import avif, bmp, gif, jp2, jpeg, png, tiff, webp
from pipeline.codec.header import Header, Limits, Picture, frozen_encoding
from pipeline.codec.keeping import KeepAsIs
from pipeline.codec.message import pack
from pipeline.elements import File, Image
from pipeline.failures import DamagedImageError, DecoderCrashError, ImageError, NotAnImageError, UnsupportedImageError

T = TypeVar("T")


class Reader(NamedTuple):
    """How one format is read.

    Attributes:
        probe: reads the header; raises typed errors for what it looks at, anything for what it trips over.
        read: decodes what `probe` found restorable.
        check: walks through what `probe` found to be kept as it is, as far as that goes without decoding it.
    """

    probe: Callable[[bytes], Header]
    read: Callable[[bytes], Picture]
    check: Callable[[bytes], None]


READERS: dict[str, Reader] = {
    "avif": Reader(avif.probe, avif.read, avif.check),
    "bmp": Reader(bmp.probe, bmp.read, bmp.check),
    "gif": Reader(gif.probe, gif.read, gif.check),
    "jp2": Reader(jp2.probe, jp2.read, jp2.check),
    "jpeg": Reader(jpeg.probe, jpeg.read, jpeg.check),
    "png": Reader(png.probe, png.read, png.check),
    "tiff": Reader(tiff.probe, tiff.read, tiff.check),
    "webp": Reader(webp.probe, webp.read, webp.check),
}

# The first bytes of pictures that no decoder here is trusted with; longer beginnings first.
OTHER_PICTURES: tuple[tuple[bytes, str], ...] = (
    (b"8BPS", "Photoshop"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"FUJIFILMCCD-RAW", "Fujifilm raw"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"SIMPLE  =", "FITS"),
    (b"gimp xcf", "GIMP"),
    (b"AT&TFORM", "DjVu"),
    (b"\x00\x00\x01\x00", "Windows icon"),
)
HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"crx "}


def sniff(data: bytes) -> str:
    """Names the format by its first bytes; the name of a file says nothing.

    Raises:
        UnsupportedImageError: for a picture of a format that is not read here.
        NotAnImageError: for anything else.
    """
    head = bytes(data[:32])
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(png.SIGNATURE):
        return "png"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"IIU\0", b"IIRO", b"IIRS", b"MMOR"):
        return "tiff"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in bmp.HEADER_SIZES:
        return "bmp"
    if head.startswith((jp2.SIGNATURE, jp2.CODESTREAM)):
        return "jp2"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[4:8] == b"ftyp":
        brands = avif.brands(data)
        if brands & {b"avif", b"avis"}:
            return "avif"
        if brands & HEIF_BRANDS:
            raise UnsupportedImageError("a HEIF or Canon raw picture; its decoder is not among those used here")
    for beginning, name in OTHER_PICTURES:
        if head.startswith(beginning):
            raise UnsupportedImageError(f"a picture of the format {name}, which is not read here")
    raise NotAnImageError(f"{len(data)} bytes that begin with {head[:8].hex(' ') or 'nothing'}")


def probe(data: bytes) -> Header:
    """Reads a file's header, and none of its pixels.

    Raises:
        NotAnImageError: if the bytes are of no known format.
        UnsupportedImageError: if it is one that cannot be read here.
        DamagedImageError: if the header makes no sense.
    """
    name = sniff(data)
    return typed(lambda: READERS[name].probe(data))


def decode(file: File, limits: Limits) -> Image:
    """Decodes one file, all of its pages.

    Args:
        file: its bytes; the name is not looked at.
        limits: what it may ask for.

    Returns:
        The image, its pixels as stored: not turned by the orientation tag, in their own profile.

    Raises:
        KeepAsIs: if the file is sound but not to be restored.
        TooLargeError, TooManyPixelsError, NotAnImageError, UnsupportedImageError, DamagedImageError: as they say.
    """
    return image_of(file, *picture_of(file.data, limits))


def image_of(file: File, format: str, picture: Picture) -> Image:  # noqa: A002
    """Joins a picture with the file that it came from."""
    encoding, tables = frozen_encoding(picture.encoding), picture.quantization
    return Image(file, format, picture.pages, tables, encoding, header_quality=jpeg.quality(tables))


def picture_of(data: bytes, limits: Limits) -> tuple[str, Picture]:
    """Decodes bytes: the format's name and the picture; raises as `decode`."""
    limits.check_bytes(len(data))
    header = probe(data)
    if header.keep:
        typed(lambda: READERS[header.format].check(data))
        raise KeepAsIs(header.keep, header.format, header.size)
    limits.check_pixels(header)
    if header.format == "jpeg" and typed(lambda: jpeg.has_more_behind(data)):
        raise KeepAsIs("multi-picture", header.format, header.size)
    picture = typed(lambda: READERS[header.format].read(data))
    if not picture.pages or picture.pages[0].pixels.shape[:2] != (header.height, header.width):
        raise DamagedImageError("the pixels are not of the size that the header says")
    return header.format, picture


def decode_message(request: Mapping[str, Any], parts: Sequence[bytes]) -> tuple[dict[str, Any], list[Any]]:
    """Decodes in another process: bytes in, bytes out.

    Args:
        request: the fields of `Limits`.
        parts: the file.

    Returns:
        What `message.unpack` makes a picture of, or `keep` with reason, format and size; raises typed errors.
    """
    try:
        name, picture = picture_of(parts[0], Limits(**request))
    except KeepAsIs as kept:
        return {"keep": [kept.reason, kept.format, list(kept.size)]}, []
    fields, arrays = pack(picture)
    return {"format": name, "picture": fields}, arrays


def probe_message(_: Mapping[str, Any], parts: Sequence[bytes]) -> tuple[dict[str, Any], list[Any]]:
    """Reads a header in another process: the file in, the fields of `Header` out; raises as `probe`."""
    return dataclasses.asdict(probe(parts[0])), []


def typed(read: Callable[[], T]) -> T:
    """Runs a reader, and takes whatever it trips over for damage.

    The libraries raise nearly every built-in exception on broken bytes (Pillow `SyntaxError`, tifffile `KeyError`,
    imagecodecs `RuntimeError`), so no narrower class would do.
    """
    try:
        return read()
    except (ImageError, KeepAsIs):
        raise
    except MemoryError as error:
        raise DecoderCrashError("wanted more memory than there is") from error
    except Exception as error:
        raise DamagedImageError(f"{type(error).__name__}: {error}"[:500]) from error
