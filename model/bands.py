"""Bands of rows of an image too large to be held: their tiles are those of the whole image, and so are their pixels.

A band is one or more rows of the image's tiles. It needs the rows of their halos, which the bands beside it need too,
and paints the rows of their cores, which no other band paints.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from model import tiling
from model.contract import STRIDE
from model.tiling import Array, Span, Tile


@dataclasses.dataclass(frozen=True)
class Band:
    """Rows of tiles that are restored together.

    Attributes:
        spans: of its rows of tiles, from above to below, as in the whole image after `tiling.pad`.
        rows: of the image before `tiling.pad`.
    """

    spans: tuple[Span, ...]
    rows: int

    @property
    def needs(self) -> tuple[int, int]:
        """First row of the image that its tiles see, and the one after the last."""
        return self.spans[0].start, min(self.spans[-1].stop, self.rows)

    @property
    def paints(self) -> tuple[int, int]:
        """First row of the image that it restores, and the one after the last."""
        return self.spans[0].core_start, min(self.spans[-1].core_stop, self.rows)


def bands(rows: int, cols: int, side: int, halo: int, most_pixels: int) -> list[Band]:
    """Parts an image of `(rows, cols)` pixels into bands that paint each of its rows once, from above to below.

    Args:
        rows, cols: of the image.
        side, halo: of its tiles, as in `tiling.spans`.
        most_pixels: that a band needs, unless a single row of tiles has more.
    """
    found: list[list[Span]] = []
    for span in tiling.spans(rows + -rows % STRIDE, side, halo):
        if found and (span.stop - found[-1][0].start) * cols <= most_pixels:
            found[-1].append(span)
        else:
            found.append([span])
    return [Band(tuple(spans), rows) for spans in found]


def cut(pixels: Array, band: Band, side: int, halo: int) -> list[Tile]:
    """Cuts the rows that a band needs, `(rows, cols, channels)`, into the whole image's tiles."""
    top, bottom = band.needs
    if pixels.shape[0] != bottom - top:
        raise ValueError(f"pixels must be the {bottom - top} rows from {top} on, got {pixels.shape[0]}")
    # The band starts on a multiple of the stride and ends on one or with the image: it is padded as the image would be.
    padded = tiling.pad(pixels)
    return [
        Tile(rows, cols, padded[rows.start - top : rows.stop - top, cols.start : cols.stop])
        for rows in band.spans
        for cols in tiling.spans(padded.shape[1], side, halo)
    ]


def stitch(tiles: Sequence[Tile], band: Band, cols: int) -> Array:
    """Puts the cores of a band's tiles in place: the rows that it paints, `(rows, cols, channels)`."""
    top, bottom = band.paints
    lowered = [dataclasses.replace(tile, rows=_lowered(tile.rows, top)) for tile in tiles]
    return tiling.stitch(lowered, (bottom - top, cols))


def _lowered(span: Span, by: int) -> Span:
    return Span(span.start - by, span.stop - by, span.core_start - by, span.core_stop - by)


class Sampler:
    """Takes the pieces that an image's damage is estimated from out of its rows as they pass.

    Args:
        places: of the pieces in the padded image: top, left, rows, cols.
        size: rows and columns of the image.
    """

    def __init__(self, places: Sequence[tuple[int, int, int, int]], size: tuple[int, int]) -> None:
        self._places, (self._rows, self._cols) = places, size
        self._pieces: list[list[Array]] = [[] for _ in places]

    @property
    def needs(self) -> list[tuple[int, int]]:
        """First row and the one after the last of each stretch of rows that holds pieces, from above to below."""
        return sorted({(top, min(top + rows, self._rows)) for top, _, rows, _ in self._places})

    def add(self, start: int, pixels: Array) -> None:
        """Takes what it needs of the rows from `start` on; rows may come again, but in order and without a gap."""
        for (top, left, rows, cols), pieces in zip(self._places, self._pieces, strict=True):
            have = top + sum(len(piece) for piece in pieces)
            first, last = max(have, start), min(top + rows, self._rows, start + len(pixels))
            if first == have and first < last:
                right = min(left + cols, self._cols)
                pieces.append(pixels[first - start : last - start, left:right].copy())

    def pieces(self) -> list[Array]:
        """All pieces, whole and padded.

        Raises:
            ValueError: if rows are missing.
        """
        found = []
        for (top, left, rows, cols), pieces in zip(self._places, self._pieces, strict=True):
            piece = tiling.pad(np.concatenate(pieces)) if pieces else np.zeros((0, 0, 0))
            if piece.shape[:2] != (rows, cols):
                raise ValueError(f"the piece at {top}, {left} is {piece.shape}, not {rows} x {cols}")
            found.append(piece)
        return found
