"""Before and after, for a model's card: pieces of photographs, pixel for pixel, with a line of text over each."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from model import evaluation, metrics
from model.evaluation import Condition, Harmed, Method, Picture

Array = np.ndarray[Any, np.dtype[Any]]

NAME = "before-after.webp"
"""Of the picture in a model folder."""

MOST_BYTES = 200_000
"""Of the picture: a model folder stays small."""

SIDE = 160
"""Side of a piece in pixels of the pristine picture."""

_LINE, _GAP = 18, 4
_QUALITIES = (95, 90, 80, 60, 30)


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """One piece with the text over it; `pixels` are `(SIDE, SIDE, 3)` uint8."""

    label: str
    pixels: Array


def before_after(pictures: Iterable[Picture], wanted: Sequence[Condition], methods: Sequence[Method]) -> Array:
    """Draws a row for each picture: as it was harmed, as each method restores it, and as it was.

    A piece is taken where the harm is greatest, so that nothing is hidden by the choice; its dB are of what is shown.

    Args:
        pictures: in colour; one a condition, in this order, at least one.
        wanted: how they are harmed.
        methods: what restores them.

    Returns:
        `(rows, cols, 3)` uint8 RGB.
    """
    rows = [_row(picture, condition, methods) for picture, condition in zip(pictures, wanted, strict=False)]
    width = len(rows[0]) * (SIDE + _GAP) - _GAP
    canvas = Image.new("RGB", (width, len(rows) * (SIDE + _LINE)), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(11)
    for down, row in enumerate(rows):
        for across, piece in enumerate(row):
            left, top = across * (SIDE + _GAP), down * (SIDE + _LINE)
            draw.text((left + 1, top + 2), piece.label, fill="black", font=font)
            canvas.paste(Image.fromarray(piece.pixels), (left, top + _LINE))
    return np.asarray(canvas)


def encode(pixels: Array) -> bytes:
    """Encodes what `before_after` drew as WebP of at most `MOST_BYTES`.

    Without loss where that is enough, else as well as it can be; where even the lowest quality needs more, as with
    grain and halftones, the last row is left out.
    """
    tries: list[dict[str, Any]] = [{"lossless": True}, *({"quality": quality} for quality in _QUALITIES)]
    while True:
        for options in tries:
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "WEBP", **options)
            if buffer.tell() <= MOST_BYTES:
                return buffer.getvalue()
        pixels = pixels[: -(SIDE + _LINE)]


def _row(picture: Picture, condition: Condition, methods: Sequence[Method]) -> list[Piece]:
    pristine = _at_least(picture.pixels, SIDE)
    harmed = condition.task.harm(pristine, condition.level, evaluation.chance(picture.name, condition))
    shown = _enlarged(harmed, condition.task.scale)
    place = _worst(shown, harmed.pristine)
    true = harmed.pristine[place]
    restored = [(method.name, method.restore(harmed, condition).pixels) for method in methods]
    pieces = [
        Piece(f"{label}, {metrics.psnr(pixels[place], true):.1f} dB", _rgb(pixels[place]))
        for label, pixels in ((condition.label, shown), *restored)
    ]
    return [*pieces, Piece("pristine", _rgb(true))]


def _worst(pixels: Array, pristine: Array) -> tuple[slice, slice]:
    """The square of `SIDE` in which the squared error is greatest, on the grid of 8 pixels."""
    error = np.square(pixels.astype(np.float32) - pristine).mean(axis=2)
    sums = cv2.integral(error)
    rows, cols = error.shape
    tops, lefts = np.arange(0, rows - SIDE + 1, 8), np.arange(0, cols - SIDE + 1, 8)
    corners = [sums[np.ix_(tops + down, lefts + right)] for down in (0, SIDE) for right in (0, SIDE)]
    totals = corners[3] - corners[2] - corners[1] + corners[0]
    top, left = np.unravel_index(int(totals.argmax()), totals.shape)
    return slice(int(tops[top]), int(tops[top]) + SIDE), slice(int(lefts[left]), int(lefts[left]) + SIDE)


def _enlarged(harmed: Harmed, scale: int) -> Array:
    """The harmed picture in the size of the pristine one, each pixel a square: no filter hides what was there."""
    return harmed.pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def _at_least(pixels: Array, side: int) -> Array:
    missing = [max(0, side - length) for length in pixels.shape[:2]]
    return np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), "symmetric") if any(missing) else pixels


def _rgb(pixels: Array) -> Array:
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels
