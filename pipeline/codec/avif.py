"""AVIF of 8 bits, through libavif."""

from __future__ import annotations

import dataclasses
import io
import struct
from typing import Any

import numpy as np
from PIL import AvifImagePlugin
from PIL import Image as PilImage

from pipeline.codec import exif
from pipeline.codec.boxes import boxes
from pipeline.codec.header import Header, Picture, names
from pipeline.elements import Metadata, Page, Pixels
from pipeline.failures import DamagedImageError

QUALITY = 95

MAX_SIDE = 32_768
"""Of libavif."""

HIDDEN = 0x0113
"""A tag that nothing uses: the orientation goes past Pillow under it."""

# Workers are as many as cores already, and each thread would take its stack from the guard's memory limit.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def brands(data: bytes) -> set[bytes]:
    """Collects the brands of the first box."""
    (size,) = struct.unpack_from(">I", data)
    content = data[8 : min(size, len(data), 264)]
    return {content[:4], *(content[at : at + 4] for at in range(8, len(content) - 3, 4))}


def probe(data: bytes) -> Header:
    """Reads the boxes and what libavif says of them."""
    parts = {box.kind: box for box in boxes(data)}
    if b"meta" not in parts:
        raise DamagedImageError("no meta box")
    meta = data[parts[b"meta"].start : parts[b"meta"].end]
    with PilImage.open(io.BytesIO(data), formats=("AVIF",)) as image:
        width, height, channels = image.width, image.height, len(image.getbands())
        frames = getattr(image, "n_frames", 1)
        turned, raw_exif = _turned(image), _exif(image)
    keep = None
    if frames > 1 or b"avis" in brands(data):
        keep, frames = "animated", max(frames, 2)
    elif b"tmap" in meta or b"urn:com:photo:aux:hdrgainmap" in meta:
        keep = "multi-picture"
    elif any(meta[at + 6] & 0x40 for at in _places(meta, b"av1C") if at + 6 < len(meta)):  # high_bitdepth
        keep = "depth"
    elif not _is_plain(meta):
        keep = "colour-space"
    elif turned and not exif.is_ascii(raw_exif or b""):  # Pillow turns no picture without writing its EXIF anew
        keep = "lossy-not-writable"
    return Header("avif", width, height, channels, 8, frames, width * height * frames, keep)


def _exif(image: Any) -> bytes | None:
    """Gives the EXIF as it lies in the file; what Pillow calls so it has written anew where there is an orientation."""
    raw: bytes | None = image._decoder.get_info()[4]
    return raw.removeprefix(b"Exif\0\0") if raw else None


def _turned(image: Any) -> bool:
    """Tells whether the boxes ask for the picture to be turned; only they count, whatever the EXIF says."""
    return bool(image._decoder.get_info()[5] != 1)


def _is_plain(meta: bytes) -> bool:
    """Tells whether the colours are those that the encoder writes, sRGB's, or said by a profile."""
    for at in _places(meta, b"nclx"):
        primaries, transfer = struct.unpack_from(">HH", meta, at + 4) if at + 8 <= len(meta) else (0, 0)
        if (primaries, transfer) not in {(1, 13), (2, 2), (1, 2), (2, 13)}:
            return b"colrprof" in meta
    return True


def _places(data: bytes, kind: bytes) -> list[int]:
    """Finds four letters wherever they stand."""
    places, at = [], data.find(kind)
    while at >= 0:
        places.append(at)
        at = data.find(kind, at + 4)
    return places


def read(data: bytes) -> Picture:
    """Decodes an AVIF that `probe` has found restorable; a turn that its boxes ask for becomes the orientation tag."""
    with PilImage.open(io.BytesIO(data), formats=("AVIF",)) as image:
        image.load()
        whole = np.array(image)
        whole = whole.reshape(*whole.shape[:2], -1)
        icc, raw_exif, xmp = (image.info.get(name) for name in ("icc_profile", "exif", "xmp"))
        turned = _turned(image)
        if not turned:
            raw_exif = _exif(image)
    lost = [("thumbnail",)] if b"thmb" in data[: data.find(b"mdat")] else []
    if [box.kind for box in boxes(data)].count(b"ftyp") > 1:
        lost.append(("bytes-behind-the-end",))
    clean_exif, thumbnails = exif.without_thumbnail(raw_exif.removeprefix(b"Exif\0\0")) if raw_exif else (None, ())
    alpha = np.ascontiguousarray(whole[..., -1]) if whole.shape[2] in (2, 4) else None
    pixels = np.ascontiguousarray(whole if alpha is None else whole[..., :-1])
    metadata = Metadata(icc, clean_exif, xmp, not_kept=names(thumbnails, *lost))
    return Picture((Page(pixels, alpha, metadata),), encoding={"turned": turned})


def check(data: bytes) -> None:
    """Walks through a file that is kept as it is; `DamagedImageError` where a box ends early."""
    for _ in boxes(data):
        pass


def write(pixels: Pixels, alpha: Pixels | None, metadata: Metadata, turned: bool) -> tuple[bytes, tuple[str, ...]]:
    """Encodes 8-bit pixels at quality 95, grey or 4:4:4, with profile, EXIF and XMP.

    Args:
        pixels, alpha, metadata: of the page.
        turned: that the orientation in the EXIF is to become a turn in the boxes, as `read` found it there.

    Returns:
        The file, and what it lacks: `exif` where that is broken, for the encoder looks into it.
    """
    lacks: tuple[str, ...] = ()
    if metadata.exif:
        try:
            parsed = PilImage.Exif()
            parsed.load(metadata.exif)
            parsed.tobytes()
        except Exception:  # Pillow raises what it stumbles over: SyntaxError, struct.error, KeyError, ...
            metadata, lacks = dataclasses.replace(metadata, exif=None), ("exif",)
    whole = pixels if alpha is None else np.concatenate([pixels, alpha[..., None]], axis=2)
    hidden = metadata.exif if turned or not metadata.exif else exif.with_orientation_as(metadata.exif, HIDDEN)
    options = {"icc_profile": metadata.icc, "exif": hidden, "xmp": metadata.xmp}
    stream = io.BytesIO()
    PilImage.fromarray(np.ascontiguousarray(whole[..., 0] if whole.shape[2] == 1 else whole)).save(
        stream,
        "AVIF",
        quality=QUALITY,
        subsampling="4:0:0" if pixels.shape[2] == 1 else "4:4:4",
        speed=6,
        max_threads=1,
        **{name: value for name, value in options.items() if value},
    )
    data = stream.getvalue()
    if hidden and metadata.exif and hidden != metadata.exif:
        at = data.index(hidden)
        data = data[:at] + metadata.exif + data[at + len(hidden) :]
    return data, lacks
