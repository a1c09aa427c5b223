"""Histograms and bars as SVG that takes its colours from the page around it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from pipeline.report.tally import Histogram
from pipeline.report.words import MINUS, count, counted, escaped, measure, share

WIDTH, HEIGHT = 360, 170
"""Of a histogram, in the SVG's own units."""

MAX_BARS = 26

_LEFT, _RIGHT, _TOP, _BOTTOM = 8, 8, 16, 40
_TAIL = 0.003
_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


@dataclasses.dataclass(frozen=True)
class Series:
    """One kind of values in a histogram.

    Attributes:
        name: as the legend and the description have it.
        style: CSS class that colours it.
        histogram: its counts; those of one chart have bins of one width.
        outline: drawn as a line over the bars rather than as bars.
    """

    name: str
    style: str
    histogram: Histogram
    outline: bool = False


def histogram_svg(title: str, unit: str, series: Sequence[Series]) -> str:
    """Draws how often values are found, bars on top of each other, outlines over them.

    Values beyond the outermost 0.3 % are counted into the outermost bars, so that one stray value squeezes no chart.

    Args:
        title: what is counted; for those who hear the page.
        unit: below the axis.
        series: at least one, with at least one value altogether.
    """
    width, first, bars = _bars(series)
    solid = [index for index, one in enumerate(series) if not one.outline]
    stacked = [sum(bars[index][column] for index in solid) for column in range(len(bars[0]))]
    peak = max(*stacked, *(max(bars[index]) for index in range(len(series))), 1)
    scale_x = (WIDTH - _LEFT - _RIGHT) / len(stacked)
    scale_y = (HEIGHT - _TOP - _BOTTOM) / peak
    floor = HEIGHT - _BOTTOM

    parts = [
        f'<line class="zero" x1="{_LEFT}" y1="{_TOP}" x2="{WIDTH - _RIGHT}" y2="{_TOP}"/>',
        f'<text x="{WIDTH - _RIGHT}" y="{_TOP - 4}" text-anchor="end">{counted(peak, "image")}</text>',
        f'<line class="axis" x1="{_LEFT}" y1="{floor}" x2="{WIDTH - _RIGHT}" y2="{floor}"/>',
    ]
    lower = [0.0] * len(stacked)
    for index in solid:
        for column, number in enumerate(bars[index]):
            if number:
                high = max(number * scale_y, 1.0)
                left, top = _LEFT + column * scale_x, floor - lower[column] - high
                parts.append(
                    f'<rect class="{series[index].style}" x="{left + 0.5:.1f}" y="{top:.1f}" '
                    f'width="{max(scale_x - 1, 0.8):.1f}" height="{high:.1f}"/>'
                )
                lower[column] += high
    for one, numbers in zip(series, bars, strict=True):
        if one.outline:
            path = [f"M{_LEFT},{floor}"]
            for column, number in enumerate(numbers):
                path.append(f"V{floor - number * scale_y:.1f}H{_LEFT + (column + 1) * scale_x:.1f}")
            parts.append(f'<path class="outline {one.style}" d="{"".join(path)}V{floor}"/>')
    parts += _ticks(first * width, width, len(stacked), scale_x, floor)
    parts.append(f'<text class="unit" x="{WIDTH - _RIGHT}" y="{HEIGHT - 4}">{escaped(unit)}</text>')
    said = "; ".join(_said(one) for one in series if one.histogram.total)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escaped(title)}: {escaped(said)}">'
        f"{''.join(parts)}</svg>"
    )


def stack_svg(parts: Sequence[tuple[str, str, int]]) -> str:
    """Draws how a whole is divided, as one bar across the page.

    Args:
        parts: name, CSS class and count of each part. A part that is there is always seen, however small.
    """
    total = sum(number for _, _, number in parts)
    wide = 1000.0
    there = [(name, style, max(number / total * wide, 4.0)) for name, style, number in parts if number] if total else []
    shrink = wide / sum(width for _, _, width in there) if there else 1.0
    left, drawn = 0.0, []
    for _, style, width in there:
        drawn.append(f'<rect class="{style}" x="{left:.1f}" y="0" width="{width * shrink:.1f}" height="14"/>')
        left += width * shrink
    said = ", ".join(f"{name} {count(number)} ({share(number, total)})" for name, _, number in parts)
    return (
        f'<svg class="stack" viewBox="0 0 1000 14" preserveAspectRatio="none" role="img" aria-label="{escaped(said)}">'
        f'<rect class="empty" x="0" y="0" width="1000" height="14"/>{"".join(drawn)}</svg>'
    )


def _bars(series: Sequence[Series]) -> tuple[float, int, list[list[int]]]:
    """Puts fine bins together to at most `MAX_BARS` bars, the same for all series.

    Returns:
        The width of a bar in the values' unit, the number of the first bar (it begins at number times width), and the
        counts of each series, bar by bar.
    """
    fine = series[0].histogram.width
    ends = [(one.histogram.quantile(_TAIL), one.histogram.quantile(1 - _TAIL)) for one in series if one.histogram.total]
    low = math.floor(min(low for low, _ in ends) / fine)
    high = math.floor(max(high for _, high in ends) / fine)
    step = next((step for step in _STEPS if high // step - low // step + 1 <= MAX_BARS), _STEPS[-1])
    first, last = low // step, high // step
    # A single bar says nothing of where it stands: it gets room on both sides.
    while last - first < 5:
        first, last = first - 1, last + 1
        if low >= 0:
            first = max(first, 0)
    bars = []
    for one in series:
        numbers = [0] * (last - first + 1)
        for index, number in one.histogram.bins.items():
            numbers[min(max(index // step, first), last) - first] += number
        bars.append(numbers)
    return fine * step, first, bars


def _ticks(start: float, width: float, columns: int, scale_x: float, floor: float) -> list[str]:
    """Labels round values on the axis, at most six of them, and marks zero with a line where it lies inside."""
    span = width * columns
    exponent = 10.0 ** math.floor(math.log10(span / 5))
    step = next(exponent * nice for nice in (1, 2, 5, 10) if span / (exponent * nice) <= 6)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    parts = []
    for index in range(math.ceil(start / step - 1e-9), math.floor((start + span) / step + 1e-9) + 1):
        value = index * step
        x = _LEFT + (value - start) / width * scale_x
        anchor = "start" if x < _LEFT + 6 else "end" if x > WIDTH - _RIGHT - 6 else "middle"
        parts.append(f'<line class="axis" x1="{x:.1f}" y1="{floor}" x2="{x:.1f}" y2="{floor + 4}"/>')
        label = f"{value:.{digits}f}".replace("-", MINUS)
        parts.append(f'<text x="{x:.1f}" y="{floor + 16}" text-anchor="{anchor}">{label}</text>')
        if index == 0 and start < 0:
            parts.append(f'<line class="zero" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{floor}"/>')
    return parts


def _said(one: Series) -> str:
    low, middle, high = (measure(one.histogram.quantile(part)) for part in (0.05, 0.5, 0.95))
    return f"{one.name}, {count(one.histogram.total)} images, median {middle}, nine in ten from {low} to {high}"
