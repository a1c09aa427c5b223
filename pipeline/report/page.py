"""The report of a run as a page that is one file: no script, no request, all that comes from the archive escaped."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pipeline.elements import Row
from pipeline.report.charts import Series, histogram_svg, stack_svg
from pipeline.report.crops import Crops
from pipeline.report.summary import Summary
from pipeline.report.tally import EXAMPLES, Histogram, Tally
from pipeline.report.words import (
    DETAIL_LETTERS,
    MINUS,
    count,
    counted,
    duration,
    escaped,
    measure,
    name_html,
    printable,
    share,
    size,
)

MAX_REASONS = 12
"""Reasons listed in the open for each outcome; further ones are folded away."""

_MEANING = {
    "restored": "written, and measured to be better",
    "kept": "left as they were",
    "skipped": "done by an earlier run",
    "failed": "given up, each with a reason",
    "left": "not begun before a cap was reached; the next run takes them up",
}
_STATES: tuple[tuple[str, str, str, int], ...] = (
    ("psnr", "PSNR", " dB", 2),
    ("ssim", "SSIM", "", 4),
    ("blockiness", "Blockiness", "", 2),
    ("quality", "Estimated quality", "", 0),
)
_COMPARED = {"psnr", "ssim"}
# Whatever a hostile name might bring past the escaping, the browser neither runs nor fetches.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def make_page(summary: Summary, tally: Tally, crops_of: Callable[[Row], Crops | None]) -> str:
    """Writes the page.

    Args:
        summary: totals of the run.
        tally: of all its rows.
        crops_of: finds the crops of one restored image; called for a dozen rows at most. None where there are none.

    Returns:
        HTML; the same for the same arguments.
    """
    style = importlib.resources.files(__package__).joinpath("page.css").read_text(encoding="utf-8")
    sections = [
        _header(summary),
        _totals(summary),
        _figures(summary, tally),
        _distributions(tally),
        _pictures(tally, crops_of),
        _reasons(summary),
        _failures(summary, tally),
        _settings(summary),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>Relume: {escaped(summary.run_id)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<main>\n{''.join(sections)}</main>\n"
        f"<footer>Made by Relume {escaped(summary.version)} from the run's own tables. "
        "This file needs nothing but itself.</footer>\n</body>\n</html>\n"
    )


def _header(summary: Summary) -> str:
    facts = [
        f"started {escaped(summary.started)}" if summary.started else "",
        duration(summary.seconds) if summary.seconds else "",
        f"Relume {escaped(summary.version)}" + (f" on {escaped(summary.device)}" if summary.device else ""),
    ]
    verdict = (
        f'<p class="verdict">Every image is accounted for: {count(summary.inputs)} = '
        + " + ".join(f"{count(summary.count(outcome))} {outcome}" for outcome in summary.told)
        + "</p>"
        if summary.adds_up
        else f'<p class="verdict bad">The outcomes do not add up to {counted(summary.inputs, "input")}.</p>'
    )
    return (
        f'<header>\n<p class="mark">Relume</p>\n<h1>{escaped(summary.run_id)}</h1>\n'
        f'<p class="way"><bdi>{escaped(summary.output)}</bdi></p>\n'
        f"<p>{', '.join(filter(None, facts))}</p>\n{verdict}\n</header>\n"
    )


def _totals(summary: Summary) -> str:
    tiles = []
    for outcome in summary.told:
        number = summary.count(outcome)
        tiles.append(
            f'<li class="{outcome}"><b>{count(number)}</b> <span>{outcome}</span> '
            f"<small>{share(number, summary.inputs)}, {_MEANING[outcome]}</small></li>"
        )
    bar = stack_svg([(outcome, f"fill-{outcome}", summary.count(outcome)) for outcome in summary.told])
    return f'<section aria-label="Outcomes">\n{bar}\n<ul class="tiles">{"".join(tiles)}</ul>\n</section>\n'


def _figures(summary: Summary, tally: Tally) -> str:
    speed = summary.megapixels_per_second
    pace = f"{measure(speed)} MP/s, " if speed else ""
    figures = [("Restored", f"{measure(summary.megapixels)} MP", f"{pace}all pages together")]
    for field, name, unit, digits in _STATES:
        means = summary.change(field)
        if means:
            before, after = means
            change = f"{after - before:+.{digits}f}".replace("-", MINUS)
            over = f"{counted(summary.compared, 'image')} with a reference" if field in _COMPARED else "restored images"
            figures.append((name, f"{before:.{digits}f} → {after:.{digits}f}{unit}", f"{change}{unit}, mean of {over}"))
    if tally.output_bytes:
        figures.append(("Bytes", f"{size(tally.source_bytes)} → {size(tally.output_bytes)}", "of restored images"))
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{value} <small>{note}</small></dd></div>" for name, value, note in figures
    )
    return f'<section aria-label="Figures">\n<dl class="figures">{cells}</dl>\n</section>\n'


def _distributions(tally: Tally) -> str:
    charts = []
    if tally.gain.total:
        gained = Series("gain", "fill-restored", tally.gain)
        charts.append(_chart("What restoring gained", f"PSNR after {MINUS} before, dB", [gained]))
    if tally.blockiness_after.total:
        before = Series("before", "line-before", tally.blockiness_before, outline=True)
        after = Series("after", "fill-restored", tally.blockiness_after)
        charts.append(_chart("Blocks that show", "blockiness, 1 is none", [after, before]))
    quality = [Series(outcome, f"fill-{outcome}", tally.quality[outcome]) for outcome in ("restored", "kept")]
    if any(one.histogram.total for one in quality):
        charts.append(_chart("What the archive was like", "estimated JPEG quality", quality))
    for title, counts in (("Damage found", tally.kinds), ("Formats", tally.formats)):
        if counts:
            listed = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            table = _bar_table((name.replace("_", " "), number) for name, number in listed)
            charts.append(f"<figure><figcaption>{title}</figcaption>{table}</figure>")
    return _section("Distributions", f'<div class="charts">{"".join(charts)}</div>') if charts else ""


def _chart(title: str, unit: str, series: Sequence[Series]) -> str:
    there = [one for one in series if one.histogram.total]
    legend = "".join(f'<span class="key {one.style}">{one.name}</span>' for one in there) if len(series) > 1 else ""
    middle = f"median {measure(_median(there[0].histogram))}"
    return (
        f"<figure><figcaption>{title}<small>{middle} {legend}</small></figcaption>"
        f"{histogram_svg(title, unit, there)}</figure>"
    )


def _median(histogram: Histogram) -> float:
    return histogram.quantile(0.5)


def _bar_table(counts: Iterable[tuple[str, int]], style: str = "fill-restored") -> str:
    """Names with their counts, and bars as long as their counts."""
    listed = list(counts)
    most = max(number for _, number in listed)
    whole = sum(number for _, number in listed)
    rows = [
        f'<tr><th scope="row">{escaped(name, 60)}</th><td class="number">{count(number)}</td>'
        f'<td class="number">{share(number, whole)}</td><td class="bar" aria-hidden="true">'
        f'<svg viewBox="0 0 100 8" preserveAspectRatio="none"><rect class="{style}" x="0" y="0" '
        f'width="{max(100 * number / most, 1):.1f}" height="8"/></svg></td></tr>'
        for name, number in listed
    ]
    shown = f'<table class="bars"><tbody>{"".join(rows[:MAX_REASONS])}</tbody></table>'
    if len(rows) <= MAX_REASONS:
        return shown
    return (
        f"{shown}<details><summary>{count(len(rows) - MAX_REASONS)} more</summary>"
        f'<table class="bars"><tbody>{"".join(rows[MAX_REASONS:])}</tbody></table></details>'
    )


def _pictures(tally: Tally, crops_of: Callable[[Row], Crops | None]) -> str:
    by_psnr = bool(tally.gain.total)
    rank = "gain in PSNR" if by_psnr else "fall of blockiness"
    galleries = []
    for title, rows in zip(("Most improved", "Least improved"), tally.ends, strict=True):
        cards = "".join(_card(row, crops_of(row)) for row in rows)
        if cards:
            galleries.append(f"<h3>{title} <small>by {rank}</small></h3><div class='pairs'>{cards}</div>")
    if not galleries:
        return ""
    intro = (
        "<p>The part of each image that changed most, before on the left and after on the right, pixel by pixel.</p>"
    )
    return _section("Before and after", intro + "".join(galleries))


def _card(row: Row, crops: Crops | None) -> str:
    alt = escaped(row.name, 80)
    pictures = (
        "".join(
            f'<img src="{uri}" width="{crops.width}" height="{crops.height}" alt="{state}: {alt}">'
            for state, uri in (("Before", crops.before), ("After", crops.after))
        )
        if crops
        else '<p class="none">No picture: the files are gone, changed, or of a format that is not shown here.</p>'
    )
    return (
        f'<figure class="pair"><div>{pictures}</div><figcaption>{name_html(row.name)}'
        f"<small>{_numbers(row)}</small></figcaption></figure>"
    )


def _numbers(row: Row) -> str:
    parts = [f"{row.width} by {row.height}"] if row.width else []
    if row.before.psnr is not None and row.after.psnr is not None:
        parts.append(f"PSNR {row.before.psnr:.2f} → {row.after.psnr:.2f} dB")
    if row.before.blockiness is not None and row.after.blockiness is not None:
        parts.append(f"blockiness {row.before.blockiness:.2f} → {row.after.blockiness:.2f}")
    if row.before.quality is not None:
        parts.append(f"looked like quality {row.before.quality:.0f}")
    return " · ".join(parts)


def _reasons(summary: Summary) -> str:
    tables = []
    for outcome in summary.told:
        reasons = sorted(summary.reasons.get(outcome, {}).items(), key=lambda item: (-item[1], item[0]))
        # That what was restored was improved, and what was skipped was done before, goes without saying.
        if reasons and (len(reasons) > 1 or outcome in ("kept", "failed", "left")):
            head = f"<figcaption>{outcome.capitalize()}<small>{count(summary.count(outcome))}</small></figcaption>"
            tables.append(f"<figure>{head}{_bar_table(reasons, f'fill-{outcome}')}</figure>")
    return _section("Reasons", f'<div class="charts">{"".join(tables)}</div>') if tables else ""


def _failures(summary: Summary, tally: Tally) -> str:
    if not tally.failures:
        return ""
    groups: list[str] = []
    for (reason, stage), number in sorted(tally.failures.items(), key=lambda item: (-item[1], item[0])):
        rows = tally.examples[reason, stage].rows
        listed = "".join(
            f'<tr><td>{name_html(row.name)}</td><td class="detail">{escaped(row.detail, DETAIL_LETTERS)}</td></tr>'
            for row in rows
        )
        more = f"<p>and {count(number - len(rows))} more</p>" if number > len(rows) else ""
        groups.append(
            f"<details{' open' if len(groups) < MAX_REASONS else ''}><summary><b>{escaped(reason)}</b> "
            f"<span>at {escaped(stage)}</span> <span>{counted(number, 'image')}</span></summary>"
            f'<table class="names"><thead><tr><th scope="col">Image</th><th scope="col">Detail</th></tr></thead>'
            f"<tbody>{listed}</tbody></table>{more}</details>"
        )
    intro = (
        f"<p>{counted(summary.count('failed'), 'image')} given up, at most {EXAMPLES} named for each reason; "
        "all stand in <code>failures-*.jsonl</code> beside this page.</p>"
    )
    return _section("Failures", intro + "".join(groups))


def _settings(summary: Summary) -> str:
    digests = _pairs((name, str(value)) for name, value in summary.digests.items())
    settings = _pairs((name, _plain(value)) for name, value in _flat(summary.settings))
    parts = [f"<h3>{title}</h3>{table}" for title, table in (("Digests", digests), ("Options", settings)) if table]
    return _section("Settings", "".join(parts)) if parts else ""


def _pairs(items: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>" for name, value in items)
    return f'<dl class="settings">{cells}</dl>' if cells else ""


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _plain(value: Any) -> str:
    if value is None or value in ([], ()):
        return "none"
    return value if isinstance(value, str) else printable(json.dumps(value, ensure_ascii=False))


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{body}\n</section>\n"
