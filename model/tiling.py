"""Cuts images into tiles and puts the restored cores back.

A tile is a core and a halo. The halo lies only where the image goes on: at the image's border a tile ends as the image
does, and the network sees the same border that it would see in the whole image. So tiles restore to the same pixels as
the whole, and an image that fits into one tile costs nothing extra.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from model.contract import STRIDE

Array = np.ndarray[Any, np.dtype[Any]]


@dataclasses.dataclass(frozen=True)
class Span:
    """One tile along one axis, in pixels from the image's border.

    Attributes:
        start, stop: of the tile; multiples of the stride.
        core_start, core_stop: of the part that this tile paints.
    """

    start: int
    stop: int
    core_start: int
    core_stop: int

    def scaled(self, scale: int) -> Span:
        """The same stretch of an axis of `scale` times the length."""
        return Span(*(scale * place for place in dataclasses.astuple(self)))


@dataclasses.dataclass(frozen=True, eq=False)
class Tile:
    """A piece of an image.

    Attributes:
        rows, cols: where it lies.
        pixels: `(rows, cols, channels)`, core and halo.
    """

    rows: Span
    cols: Span
    pixels: Array

    def scaled(self, scale: int, pixels: Array) -> Tile:
        """This tile in the picture of `scale` times the size, with the pixels that it has there."""
        return Tile(self.rows.scaled(scale), self.cols.scaled(scale), pixels)


def pad(pixels: Array) -> Array:
    """Repeats the last row and column until both sides are multiples of the stride, as JPEG encoders fill blocks."""
    rows, cols = pixels.shape[:2]
    missing = ((0, -rows % STRIDE), (0, -cols % STRIDE), (0, 0))
    return np.pad(pixels, missing, mode="edge") if rows % STRIDE or cols % STRIDE else pixels


def spans(size: int, side: int, halo: int) -> list[Span]:
    """Tiles along one axis.

    Every tile of a long axis has the same length, so that few shapes reach the network: the last one is moved back to
    end with the image.

    Args:
        size: of the padded image along the axis, a multiple of the stride.
        side: of a tile, a multiple of the stride.
        halo: on each inner border, a multiple of the stride, less than half a side.

    Raises:
        ValueError: if one of them is not as said.
    """
    for name, value in (("size", size), ("side", side), ("halo", halo)):
        if value % STRIDE:
            raise ValueError(f"{name} must be a multiple of {STRIDE}, got {value}")
    if not 0 <= 2 * halo < side:
        raise ValueError(f"halo must be less than half a side of {side}, got {halo}")
    if size <= side:
        return [Span(0, size, 0, size)]
    found: list[Span] = []
    start, painted = 0, 0
    while painted < size:
        start = min(start, size - side)
        stop = start + side
        core_stop = size if stop == size else stop - halo
        found.append(Span(start, stop, painted, core_stop))
        painted = core_stop
        start = painted - halo
    return found


def cut(pixels: Array, side: int, halo: int) -> list[Tile]:
    """Cuts a padded image, `(rows, cols, channels)`, into tiles, row by row; their pixels are views."""
    return [
        Tile(rows, cols, pixels[rows.start : rows.stop, cols.start : cols.stop])
        for rows in spans(pixels.shape[0], side, halo)
        for cols in spans(pixels.shape[1], side, halo)
    ]


def stitch(tiles: Iterable[Tile], size: tuple[int, int]) -> Array:
    """Puts the cores of one image's tiles in place, in any order; the inverse of `pad` and `cut`.

    Args:
        tiles: all of one image; their halo is thrown away.
        size: rows and columns of the image before `pad`.

    Returns:
        `(rows, cols, channels)`, a new array.

    Raises:
        ValueError: if a pixel is left bare or painted twice.
    """
    parts = list(tiles)
    if not parts:
        raise ValueError("no tiles to stitch")
    padded = (max(tile.rows.stop for tile in parts), max(tile.cols.stop for tile in parts))
    pixels = np.zeros((*padded, parts[0].pixels.shape[2]), parts[0].pixels.dtype)
    painted = np.zeros(padded, np.uint8)
    for tile in parts:
        rows, cols = tile.rows, tile.cols
        place = np.s_[rows.core_start : rows.core_stop, cols.core_start : cols.core_stop]
        core = np.s_[
            rows.core_start - rows.start : rows.core_stop - rows.start,
            cols.core_start - cols.start : cols.core_stop - cols.start,
        ]
        pixels[place] = tile.pixels[core]
        painted[place] += 1
    if not (painted[: size[0], : size[1]] == 1).all() or padded[0] < size[0] or padded[1] < size[1]:
        raise ValueError(f"{len(parts)} tiles do not paint each of {size[0]} x {size[1]} pixels once")
    return pixels[: size[0], : size[1]]
