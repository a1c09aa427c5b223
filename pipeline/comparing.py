"""How far two image files show the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.codec import KeepAsIs
from pipeline.elements import File, Image, Pixels
from pipeline.failures import ImageError, MissingError
from pipeline.storage import Storage

Decode = Callable[[File], Image]
"""Decodes a file; raises as `codec.decode`."""


def share_alike(name: str, one: Storage, other: Storage, decode: Decode) -> float:
    """Says how many pixels of an image that stands in two places differ by at most one grey level of 255.

    Returns:
        0..1; 0 where they cannot be compared: another size, depth, alpha or metadata, or none that is decoded.
    """
    try:
        images = [_image(place, name, decode) for place in (one, other)]
    except (KeepAsIs, ImageError):
        return 0.0
    pages = [[(page.pixels, page.alpha, page.metadata) for page in image.pages] for image in images]
    if len(pages[0]) != len(pages[1]):
        return 0.0
    alike = total = 0
    for (mine, my_alpha, my_metadata), (theirs, their_alpha, their_metadata) in zip(*pages, strict=True):
        if not _same(my_alpha, their_alpha) or my_metadata != their_metadata:
            return 0.0
        if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
            return 0.0
        alike += pixels_alike(mine, theirs)
        total += mine.shape[0] * mine.shape[1]
    return alike / total


def pixels_alike(mine: Pixels, theirs: Pixels) -> int:
    """Counts pixels all of whose channels differ by at most one grey level of 255; shapes and types are equal."""
    level = 257 if mine.dtype == np.uint16 else 1
    # Larger less smaller: unsigned values do not go below 0, and nothing wider is needed.
    apart = np.maximum(mine, theirs) - np.minimum(mine, theirs)
    return int((apart <= level).all(axis=2).sum())


def _image(place: Storage, name: str, decode: Decode) -> Image:
    ref = place.stat(name)
    if ref is None:
        raise MissingError(f"{name} is gone")
    return decode(place.read(ref, ref.size))


def _same(mine: Pixels | None, theirs: Pixels | None) -> bool:
    if mine is None or theirs is None:
        return mine is theirs
    return np.array_equal(mine, theirs)
