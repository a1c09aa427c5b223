"""When a schedule comes round: the five fields of cron, and the names of time zones, checked before they are sent."""

from __future__ import annotations

import re
import zoneinfo

from pipeline.flags import UsageError, nearest

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_MOST_DAYS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

# Name, smallest and largest value, and words for them, the first for the smallest.
_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 7, _DAYS),
)
_PART = re.compile(r"(?P<all>\*)?(?P<low>\w+)?(-(?P<high>\w+))?(/(?P<step>\d+))?", re.ASCII)


def check_cron(text: str) -> None:
    """Refuses what is no time of cron, or one that never comes.

    Five fields, each `*`, a number, a range `1-5`, either with a step `*/2`, or several of them between commas; months
    and days of the week may be named by three letters. Sunday is 0 or 7.

    Raises:
        UsageError: naming the field that is wrong.
    """
    fields = text.split()
    if len(fields) != len(_FIELDS):
        names = ", ".join(name for name, *_ in _FIELDS)
        raise UsageError(f"--cron must have five fields, as in '0 2 * * *' ({names}), got {text!r}")
    _, _, days, months, _ = map(_values, fields, _FIELDS)
    if fields[4] == "*" and not any(min(days) <= _MOST_DAYS[month - 1] for month in months):
        raise UsageError(f"--cron must be a day that comes, got {text!r}: none of its months is that long")


def _values(text: str, field: tuple[str, int, int, tuple[str, ...]]) -> set[int]:
    """All values that one field names."""
    name, low, high, _ = field
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None or (match["all"] is None) == (match["low"] is None) or (match["all"] and match["high"]):
            raise UsageError(f"--cron: the {name} must be *, a number, a range or a list of them, got {part!r}")
        first = low if match["all"] else _number(match["low"], field)
        # A step after a single value means from there on.
        last = _number(match["high"], field) if match["high"] else high if match["all"] or match["step"] else first
        step = int(match["step"] or 1)
        if first > last or step < 1:
            raise UsageError(f"--cron: the {name} must go upwards, by a step of at least 1, got {part!r}")
        found |= set(range(first, last + 1, step))
    return found


def _number(text: str, field: tuple[str, int, int, tuple[str, ...]]) -> int:
    name, low, high, words = field
    if text.upper() in words:
        return low + words.index(text.upper())
    if not text.isdecimal() or not low <= int(text) <= high:
        named = f", or {words[0]}..{words[-1]}" if words else ""
        raise UsageError(f"--cron: the {name} must be in {low}..{high}{named}, got {text!r}")
    return int(text)


def check_time_zone(name: str) -> None:
    """Refuses a name that is no time zone; where this machine knows none, the service will say.

    Raises:
        UsageError: with the nearest name.
    """
    known = zoneinfo.available_timezones()
    if known and name not in known:
        near = nearest(name, sorted(known))
        hint = f"; did you mean {near}?" if near else ""
        raise UsageError(f"--time_zone must be a name such as Europe/Berlin or Etc/UTC, got {name}{hint}")
