"""One picture of a run for people who have not run it: crops before and after, side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

from PIL import Image as PilImage

from pipeline.report.crops import SIDE, Crops

_ZOOM = 2
_GAP = 8


def draw(pairs: Sequence[Crops]) -> bytes:
    """Draws crops as a PNG: a column each, before above after, every pixel as a square of 2 x 2.

    Args:
        pairs: at least one.
    """
    if not pairs:
        raise ValueError("pairs must hold at least one pair of crops")
    side = SIDE * _ZOOM
    canvas = PilImage.new("RGB", (len(pairs) * (side + _GAP) - _GAP, 2 * side + _GAP), "white")
    for column, pair in enumerate(pairs):
        for row, uri in enumerate((pair.before, pair.after)):
            with PilImage.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as crop:
                # Without smoothing: what is shown is what was written.
                size = (crop.width * _ZOOM, crop.height * _ZOOM)
                canvas.paste(crop.convert("RGB").resize(size, PilImage.Resampling.NEAREST), _place(column, row, side))
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _place(column: int, row: int, side: int) -> tuple[int, int]:
    return column * (side + _GAP), row * (side + _GAP)
