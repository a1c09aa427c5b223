"""A restored image and its source, cut to the square where they differ most, as pictures that a page can hold."""

from __future__ import annotations

import base64
import dataclasses
import io
import warnings
from typing import Any

import numpy as np
from PIL import Image as PilImage
from PIL import ImageOps

SIDE = 160
"""Of a crop, in pixels."""

MAX_MEGAPIXELS = 32
"""Larger images are not decoded again for a crop, which takes some 20 bytes a pixel."""

_STEP = 8
_ROWS = 64 * _STEP
_MAX_PROFILE_BYTES = 4096

Array = np.ndarray[Any, np.dtype[Any]]


@dataclasses.dataclass(frozen=True)
class Crops:
    """The same part of an image before and after.

    Attributes:
        before, after: `data:` URIs of lossless WebP, 8 bit RGB.
        width, height: of both, in pixels; at most `SIDE`.
    """

    before: str
    after: str
    width: int
    height: int


def crop_pair(before: bytes, after: bytes) -> Crops | None:
    """Cuts the same square out of two files of one image.

    Args:
        before: the source's file.
        after: the restored file; may be larger in pixels, the source is enlarged to it without smoothing.

    Returns:
        The crops, upright as the files' orientation says; None where a file cannot be shown (a format that Pillow
        lacks, too many pixels), which is no reason to go without a page.
    """
    try:
        with warnings.catch_warnings():
            # More pixels than Pillow likes are more than `MAX_MEGAPIXELS` too.
            warnings.simplefilter("error", PilImage.DecompressionBombWarning)
            old, new, profile = *map(_upright, (before, after)), _profile(after)
    except Exception:
        # Decoders raise errors of many kinds, and Pillow turns a picture by writing its EXIF again, mistyped tags too.
        return None
    if old.size != new.size:
        old = old.resize(new.size, PilImage.Resampling.NEAREST)
    left, top = most_different(np.asarray(old), np.asarray(new), SIDE)
    box = (left, top, min(left + SIDE, new.width), min(top + SIDE, new.height))
    return Crops(_uri(old.crop(box), profile), _uri(new.crop(box), profile), box[2] - box[0], box[3] - box[1])


def most_different(before: Array, after: Array, side: int) -> tuple[int, int]:
    """Finds the square in which two pictures differ most.

    Args:
        before, after: `(height, width, channels)` uint8, alike in shape.
        side: of the square in pixels, a multiple of 8.

    Returns:
        Its left and upper border, multiples of 8 pixels as JPEG's blocks are; zeros where the picture is no larger.
    """
    height, width = before.shape[:2]
    # Block by block, a few rows at a time: sums over single pixels would need many times the memory of the picture.
    change = np.concatenate(
        [_change_of_blocks(before[top : top + _ROWS], after[top : top + _ROWS]) for top in range(0, height, _ROWS)]
    )
    # Sums over all rectangles that begin at the origin: any square is then four numbers away.
    sums = np.pad(change.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    blocks = -(-side // _STEP)
    tops = np.arange(max(height - side, 0) // _STEP + 1)[:, None]
    lefts = np.arange(max(width - side, 0) // _STEP + 1)[None, :]
    bottoms, rights = np.minimum(tops + blocks, change.shape[0]), np.minimum(lefts + blocks, change.shape[1])
    inside = sums[bottoms, rights] - sums[tops, rights] - sums[bottoms, lefts] + sums[tops, lefts]
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(lefts[0, column]) * _STEP, int(tops[row, 0]) * _STEP


def _change_of_blocks(before: Array, after: Array) -> Array:
    """Sums the change over blocks of 8 x 8 pixels, fewer at the right and lower border: `(rows, cols)` int64."""
    change = np.abs(before.astype(np.int16) - after.astype(np.int16)).sum(axis=2, dtype=np.int64)
    rows, cols = (np.arange(0, size, _STEP) for size in change.shape)
    return np.add.reduceat(np.add.reduceat(change, rows, axis=0), cols, axis=1)


def _upright(data: bytes) -> PilImage.Image:
    """Decodes the first page of a file to 8 bit RGB, turned as its orientation says."""
    with PilImage.open(io.BytesIO(data)) as opened:
        if opened.width * opened.height > MAX_MEGAPIXELS * 10**6:
            raise ValueError(f"{opened.width} x {opened.height} pixels are too many for a crop")
        upright = ImageOps.exif_transpose(opened)
        if upright.mode.startswith("I"):
            return PilImage.fromarray((np.asarray(upright) >> 8).astype(np.uint8)).convert("RGB")
        return upright.convert("RGB")


def _profile(data: bytes) -> bytes | None:
    """The colour profile to show an RGB file's crops with; None where it has none or one as large as the crop."""
    with PilImage.open(io.BytesIO(data)) as opened:
        profile = opened.info.get("icc_profile")
        return profile if opened.mode == "RGB" and profile and len(profile) <= _MAX_PROFILE_BYTES else None


def _uri(crop: PilImage.Image, profile: bytes | None) -> str:
    buffer = io.BytesIO()
    crop.save(buffer, "WEBP", lossless=True, method=4, icc_profile=profile or b"")
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
