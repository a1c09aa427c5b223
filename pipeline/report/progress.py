"""How far a run is: a bar on a terminal, a line every half minute elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from pipeline import logs
from pipeline.report.words import count, duration

_LOG = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30.0


class Progress:
    """Shows how much of something is done, on stderr, while it is entered.

    Args:
        label: what is done, such as `restoring`.
        stream: where to; stderr where None.
        clock: seconds that only grow.
    """

    def __init__(self, label: str, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._label = label
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._begin = self._last_line = clock()
        self._bar = _bar(self._stream) if self._stream.isatty() and not logs.is_json() else None
        self._task = self._bar.add_task(label, total=None) if self._bar else None

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, done: int, total: int | None) -> None:
        """Says how far it is; to be called as often as one likes, by one thread.

        Args:
            done: how many are done.
            total: of how many; None while that is not known.
        """
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=done, total=total)
            return
        now = self._clock()
        if now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            text = self._line(done, total, now - self._begin)
            if logs.is_json():
                _LOG.info("%s", text)
            else:
                print(text, file=self._stream, flush=True)

    def _line(self, done: int, total: int | None, seconds: float) -> str:
        if total is None:
            return f"{self._label}: {count(done)} done after {duration(seconds)}"
        percent = f"{100 * done // total} %" if total else "100 %"
        left = f", about {duration(seconds * (total - done) / done)} left" if 0 < done < total else ""
        return f"{self._label}: {count(done)} of {count(total)} ({percent}) after {duration(seconds)}{left}"


def _bar(stream: TextIO) -> RichProgress:
    return RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(file=stream),
        transient=True,
    )
