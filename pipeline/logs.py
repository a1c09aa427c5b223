"""Logs as one JSON object a line, with the run, the image and the stage that a line is about.

Who works on an image says so with `about`, and every line that is logged meanwhile in this thread carries it, whoever
logs it. On a worker the lines go to Beam's own handler, which sends their text to the service: there the object is the
text.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import datetime
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pipeline

FIELDS = ("run", "image", "stage", "reason")
"""What a line may carry beside time, severity, message and logger; those that are known."""

FORMATS = ("auto", "text", "json")
"""Of logs; `auto` is JSON for a job on Dataflow, where a service reads them, and text elsewhere."""

_BEAMS_HANDLER = "FnApiLogRecordHandler"

_about: contextvars.ContextVar[Mapping[str, str]] = contextvars.ContextVar("about", default={})  # noqa: B039


@dataclasses.dataclass
class _Process:
    """What all lines of this process have in common."""

    run: str = ""
    as_json: bool = False


_process = _Process()


def set_up(*, as_json: bool, run: str = "") -> None:
    """Says how this process logs from now on.

    Args:
        as_json: one JSON object a line.
        run: that all lines are about, if any.
    """
    _process.as_json, _process.run = as_json, run
    for handler in logging.getLogger().handlers:
        # By name: to import it takes as long as to import Beam, and where Beam is not it is not either.
        if as_json and type(handler).__name__ == _BEAMS_HANDLER:
            handler.setFormatter(JsonFormatter())


def is_json() -> bool:
    """Whether this process logs JSON."""
    return _process.as_json


def asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for JSON, before anything else of it is understood."""
    chosen, runner = "auto", ""
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        value = value if equals else next(iter(arguments[place + 1 : place + 2]), "")
        match name.replace("-", "_"):
            case "__log_format":
                chosen = value
            case "__runner":
                runner = value
    return chosen == "json" or (chosen == "auto" and runner == "DataflowRunner")


@contextlib.contextmanager
def about(*, image: str = "", stage: str = "") -> Iterator[None]:
    """Lets every line that is logged inside say what it is about; what is empty is not known.

    Not to be held over a `yield` of a generator: the caller's lines would carry it too.
    """
    token = _about.set({"image": image, "stage": stage})
    try:
        yield
    finally:
        _about.reset(token)


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON, in ASCII: `time`, `severity`, `message`, `logger`, `version`, `FIELDS`."""

    def format(self, record: logging.LogRecord) -> str:
        when = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
        line: dict[str, Any] = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "severity": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "version": pipeline.__version__,
        }
        known = {"run": _process.run, **_about.get()}
        for field in FIELDS:
            value = getattr(record, field, None) or known.get(field)
            if value:
                line[field] = str(value)
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def say(name: str, text: str, *, level: int = logging.ERROR) -> str:
    """What a command says on stderr of itself: `relume NAME: text`, or the same as a line of JSON."""
    if not is_json():
        return f"relume {name}: {text}"
    record = logging.LogRecord(f"jobs.{name}", level, "", 0, text, (), None)
    return JsonFormatter().format(record)
