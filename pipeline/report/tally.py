"""Rows to what a page shows of them: distributions, the best and the worst, examples of failures.

A tally of millions of rows stays small, and two tallies make one, so that many workers can count.
"""

from __future__ import annotations

import bisect
import collections
import dataclasses
import math
from collections.abc import Iterable

from pipeline.elements import Row

EXTREMES = 6
"""Restored images shown at either end."""

EXAMPLES = 8
"""Names shown for each reason of failure."""


@dataclasses.dataclass
class Histogram:
    """Counts of values in bins of one width; bin `i` holds `[i * width, (i + 1) * width)`.

    Attributes:
        width: of a bin, in the unit of the values.
        bins: index -> count, only those with a value.
    """

    width: float
    bins: collections.Counter[int] = dataclasses.field(default_factory=collections.Counter)

    def add(self, value: float) -> None:
        """Counts one value; NaN and infinities are no values."""
        if math.isfinite(value):
            # The small addition takes a value that stands on a border, but for rounding, to the bin that it begins.
            self.bins[math.floor(value / self.width + 1e-9)] += 1

    @property
    def total(self) -> int:
        """How many values there are."""
        return self.bins.total()

    def quantile(self, part: float) -> float:
        """A value with about `part` (0..1) of the values below it: the middle of its bin."""
        below = 0
        for index in sorted(self.bins):
            below += self.bins[index]
            if below >= part * self.total:
                return (index + 0.5) * self.width
        raise ValueError("an empty histogram has no quantiles")


@dataclasses.dataclass
class Extremes:
    """The rows with the greatest ranks; ties go by name, so that the order of counting does not matter.

    Attributes:
        limit: rows kept at most.
        ranked: `(-rank, name, row)`, the greatest rank first.
    """

    limit: int
    ranked: list[tuple[float, str, Row]] = dataclasses.field(default_factory=list)

    def add(self, rank: float, row: Row) -> None:
        """Takes a row in if it is among the greatest."""
        bisect.insort(self.ranked, (-rank, row.name, row), key=_rank_and_name)
        del self.ranked[self.limit :]

    def merge(self, other: Extremes) -> None:
        """Takes in the rows of another."""
        self.ranked = sorted([*self.ranked, *other.ranked], key=_rank_and_name)[: self.limit]

    @property
    def rows(self) -> list[Row]:
        """The greatest first."""
        return [row for _, _, row in self.ranked]


def _rank_and_name(entry: tuple[float, str, Row]) -> tuple[float, str]:
    return entry[:2]


def _extremes() -> Extremes:
    return Extremes(EXTREMES)


@dataclasses.dataclass
class Tally:
    """What the page tells of all rows together.

    Attributes:
        gain: PSNR after minus before of restored images, dB.
        blockiness_before, blockiness_after: of restored images that have both.
        quality: outcome -> estimated JPEG quality before.
        kinds: how many images by the kind of damage estimated.
        formats: how many images by format.
        source_bytes, output_bytes: of the restored images together.
        best, worst: restored images by PSNR gain.
        smoothest, roughest: restored images by fall and rise of blockiness, for archives without references.
        failures: `(reason, stage)` -> how many.
        examples: `(reason, stage)` -> the first failed rows by name.
    """

    gain: Histogram = dataclasses.field(default_factory=lambda: Histogram(0.05))
    blockiness_before: Histogram = dataclasses.field(default_factory=lambda: Histogram(0.02))
    blockiness_after: Histogram = dataclasses.field(default_factory=lambda: Histogram(0.02))
    quality: dict[str, Histogram] = dataclasses.field(
        default_factory=lambda: {"restored": Histogram(5), "kept": Histogram(5)}
    )
    kinds: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    formats: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    source_bytes: int = 0
    output_bytes: int = 0
    best: Extremes = dataclasses.field(default_factory=_extremes)
    worst: Extremes = dataclasses.field(default_factory=_extremes)
    smoothest: Extremes = dataclasses.field(default_factory=_extremes)
    roughest: Extremes = dataclasses.field(default_factory=_extremes)
    failures: collections.Counter[tuple[str, str]] = dataclasses.field(default_factory=collections.Counter)
    examples: dict[tuple[str, str], Extremes] = dataclasses.field(default_factory=dict)

    def add(self, row: Row) -> Tally:
        """Counts one row in; returns itself."""
        if row.format:
            self.formats[row.format] += 1
        if row.damage is not None:
            self.kinds[row.damage.kind] += 1
        if row.outcome in self.quality and row.before.quality is not None:
            self.quality[row.outcome].add(row.before.quality)
        if row.outcome == "restored":
            self._add_restored(row)
        if row.outcome == "failed":
            self.failures[row.reason, row.stage] += 1
            self.examples.setdefault((row.reason, row.stage), Extremes(EXAMPLES)).add(0.0, row)
        return self

    def _add_restored(self, row: Row) -> None:
        self.source_bytes += row.size
        self.output_bytes += row.output_size
        gain = psnr_gain(row)
        if gain is not None:
            self.gain.add(gain)
            self.best.add(gain, row)
            self.worst.add(-gain, row)
        before, after = row.before.blockiness, row.after.blockiness
        if before is not None and after is not None:
            self.blockiness_before.add(before)
            self.blockiness_after.add(after)
            self.smoothest.add(before - after, row)
            self.roughest.add(after - before, row)

    def merge(self, other: Tally) -> Tally:
        """Counts in all that another tally has counted; returns itself."""
        for name in ("gain", "blockiness_before", "blockiness_after"):
            getattr(self, name).bins.update(getattr(other, name).bins)
        for outcome, histogram in other.quality.items():
            self.quality[outcome].bins.update(histogram.bins)
        for name in ("kinds", "formats", "failures"):
            getattr(self, name).update(getattr(other, name))
        for name in ("best", "worst", "smoothest", "roughest"):
            getattr(self, name).merge(getattr(other, name))
        for key, examples in other.examples.items():
            self.examples.setdefault(key, Extremes(EXAMPLES)).merge(examples)
        self.source_bytes += other.source_bytes
        self.output_bytes += other.output_bytes
        return self

    @property
    def ends(self) -> tuple[list[Row], list[Row]]:
        """The best and the worst restored images, none of them twice: by PSNR where known, else by blockiness."""
        best, worst = (self.best, self.worst) if self.gain.total else (self.smoothest, self.roughest)
        shown = {row.name for row in best.rows}
        return best.rows, [row for row in worst.rows if row.name not in shown]


def tally(rows: Iterable[Row]) -> Tally:
    """Counts all rows of a run."""
    counted = Tally()
    for row in rows:
        counted.add(row)
    return counted


def psnr_gain(row: Row) -> float | None:
    """What the restoration gained against the reference, dB; None without one, or where either state equals it."""
    gain = None if row.before.psnr is None or row.after.psnr is None else row.after.psnr - row.before.psnr
    return gain if gain is not None and math.isfinite(gain) else None
