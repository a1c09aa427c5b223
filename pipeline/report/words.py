"""How names, numbers and times are written for people; nothing from a file passes here without being made harmless."""

from __future__ import annotations

import html

NAME_LETTERS = 120
DETAIL_LETTERS = 160
MINUS = "\N{MINUS SIGN}"


def printable(text: str) -> str:
    """Spells out what a terminal or browser would act on and not show: controls, direction marks, lone surrogates."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text
    )


def shortened(text: str, letters: int) -> str:
    """Leaves out the middle of a text that is too long: a path is told by its folder and its end."""
    if len(text) <= letters:
        return text
    head = (letters - 1) // 2
    return f"{text[:head]}…{text[len(text) - (letters - 1 - head) :]}"


def escaped(text: str, letters: int | None = None) -> str:
    """Makes any text safe inside an element or a quoted attribute of HTML."""
    shown = printable(text)
    return html.escape(shown if letters is None else shortened(shown, letters))


def name_html(name: str) -> str:
    """An image's name as HTML: kept from turning the line around it, whole in its tooltip where it is shortened."""
    whole, short = escaped(name), escaped(name, NAME_LETTERS)
    title = f' title="{whole}"' if short != whole else ""
    return f'<bdi class="name"{title}>{short}</bdi>'


def count(number: int) -> str:
    """A whole number with its thousands apart."""
    return f"{number:,}"


def counted(number: int, noun: str) -> str:
    """A number and what it counts: `1 image`, `1,200 images`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def measure(value: float) -> str:
    """A measured number with about three digits that matter."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def share(part: int, whole: int) -> str:
    """A part in percent; never rounded to nothing, and to everything only where it is."""
    if not whole or not part:
        return "0 %"
    percent = 100 * part / whole
    if percent < 0.1:
        return "< 0.1 %"
    if part < whole and percent > 99.9:
        return "> 99.9 %"
    return f"{percent:.0f} %" if percent >= 10 or part == whole else f"{percent:.1f} %"


def duration(seconds: float) -> str:
    """A time span in its two largest units: `0.8 s`, `42 s`, `3 min 20 s`, `2 h 05 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60:02d} min"


def size(number: int) -> str:
    """Bytes in a unit that leaves a small number."""
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            return f"{number} B" if unit == "B" else f"{measure(value)} {unit}"
        value /= 1024
    return f"{measure(value)} PiB"
