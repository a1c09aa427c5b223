"""The measures of `model.metrics` of a picture whose rows come one band after another.

Sums are taken in another order than over the whole picture, so the last of some 12 digits may differ.
"""

from __future__ import annotations

import numpy as np

from model import metrics
from model.metrics import BLOCK, Array


class Blockiness:
    """`metrics.blockiness` of rows that are added from above to below."""

    def __init__(self) -> None:
        self._on = self._off = 0.0
        self._edges = self._others = 0
        self._rows = 0
        self._last: Array | None = None

    def add(self, pixels: Array) -> None:
        """Adds the next rows, RGB or grey."""
        plane = metrics.levels(pixels)
        self._count(*metrics.steps(plane, (-self._rows, 0), np.abs))
        if self._last is not None:
            # The step from the rows before into these.
            across = float(np.abs(plane[0] - self._last).sum())
            on_edge = self._rows % BLOCK == 0
            self._count(
                across * on_edge, across * (not on_edge), plane.shape[1] * on_edge, plane.shape[1] * (not on_edge)
            )
        self._last = plane[-1].copy()
        self._rows += len(plane)

    def value(self) -> float:
        """The blockiness of all rows so far."""
        return metrics.blockiness_of_steps(self._on, self._off, self._edges, self._others)

    def _count(self, on: float, off: float, edges: int, others: int) -> None:
        self._on, self._off = self._on + on, self._off + off
        self._edges, self._others = self._edges + edges, self._others + others


class Likeness:
    """PSNR and SSIM of lumas whose rows are added from above to below."""

    def __init__(self) -> None:
        self._error, self._pixels, self._peak = 0.0, 0, 1.0
        self._similar, self._windows = 0.0, 0
        self._held: tuple[Array, Array] | None = None

    def add(self, luma: Array, reference: Array) -> None:
        """Adds the next rows of both, `(rows, cols)` of one type."""
        self._peak = float(np.iinfo(reference.dtype).max)
        self._error += float(np.square(luma.astype(np.float64) - reference.astype(np.float64)).sum())
        self._pixels += luma.size
        if self._held is not None:
            luma, reference = (np.concatenate(both) for both in zip(self._held, (luma, reference), strict=True))
        values = metrics.similarities(luma, reference)
        self._similar, self._windows = self._similar + float(values.sum()), self._windows + values.size
        # The windows that end in the rows to come begin in these; a window that was whole is not held once more.
        keep = min(len(luma), metrics.WINDOW - 1)
        self._held = luma[len(luma) - keep :].copy(), reference[len(luma) - keep :].copy()

    @property
    def psnr(self) -> float:
        """As `metrics.psnr`."""
        return metrics.decibel(self._error / self._pixels, self._peak)

    @property
    def ssim(self) -> float | None:
        """As `metrics.ssim`; None for a picture too narrow for a whole window."""
        return self._similar / self._windows if self._windows else None
