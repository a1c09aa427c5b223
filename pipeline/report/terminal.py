"""The table at the end of a run."""

from __future__ import annotations

import io
import sys
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.report.summary import Summary
from pipeline.report.words import count, counted, duration, measure, printable, share, shortened

PLAIN_COLUMNS = 80
MAX_COLUMNS = 100
MAX_REASONS = 6

_COLOURS = {"restored": "green", "kept": "yellow", "skipped": "bright_black", "failed": "red", "left": "cyan"}
_MEASURES = (("psnr", "PSNR", ".2f", " dB"), ("ssim", "SSIM", ".4f", ""), ("blockiness", "blockiness", ".2f", ""))


def print_summary(summary: Summary, stream: TextIO | None = None) -> None:
    """Prints what became of a run's images: in colour on a terminal, as plain text of 80 columns elsewhere.

    Args:
        summary: totals of the run.
        stream: where to; stdout where None.
    """
    out = sys.stdout if stream is None else stream
    if out.isatty():
        console = Console(file=out, highlight=False)
        console.width = min(console.width, MAX_COLUMNS)
        _print(summary, console, box.SIMPLE_HEAD)
        return
    text = io.StringIO()
    _print(summary, Console(file=text, width=PLAIN_COLUMNS, highlight=False, color_system=None), None)
    out.writelines(f"{line.rstrip()}\n" for line in text.getvalue().splitlines())


def _print(summary: Summary, console: Console, lines: box.Box | None) -> None:
    table = Table(box=lines, padding=(0, 2, 0, 0), show_edge=False, expand=False)
    table.add_column("outcome", no_wrap=True)
    table.add_column("images", justify="right", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for outcome in summary.told:
        number = summary.count(outcome)
        table.add_row(
            Text(outcome, style=_COLOURS[outcome] if number else "bright_black"),
            count(number),
            share(number, summary.inputs),
            Text(_why(summary, outcome)),
        )
    table.add_row("inputs", count(summary.inputs), "", "" if summary.adds_up else "the outcomes do not add up to this")
    console.print(table)
    console.print()
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(summary):
        facts.add_row(name, Text(value))
    console.print(facts)


def _why(summary: Summary, outcome: str) -> str:
    reasons = sorted(summary.reasons.get(outcome, {}).items(), key=lambda item: (-item[1], item[0]))
    if outcome == "restored" or not reasons:
        return ""
    shown = [f"{shortened(printable(reason), 40)} {count(number)}" for reason, number in reasons[:MAX_REASONS]]
    rest = reasons[MAX_REASONS:]
    if rest:
        shown.append(f"{counted(len(rest), 'other reason')} {count(sum(number for _, number in rest))}")
    return ", ".join(shown)


def _facts(summary: Summary) -> list[tuple[str, str]]:
    """What there is to say beside the counts: name and value."""
    speed = summary.megapixels_per_second
    pace = f", {measure(speed)} MP/s, {duration(summary.seconds)}" if speed and summary.seconds else ""
    facts = [("pixels", f"{measure(summary.megapixels)} MP restored{pace}")]
    for name, title, form, unit in _MEASURES:
        means = summary.change(name)
        if means:
            before, after = means
            over = f", mean of {counted(summary.compared, 'image')}" if name != "blockiness" else ", mean; 1 is none"
            facts.append((title, f"{before:{form}} -> {after:{form}}{unit} ({after - before:+{form}}{over})"))
    facts += [("results", printable(summary.output)), ("run", printable(summary.run_id))]
    return facts
