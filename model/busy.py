"""How much of its time a process spends in the model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType


class BusyClock:
    """Counts the time in which at least one thread is in the model, and the time that goes by meanwhile.

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._inside = 0
        self._began = self._counted = clock()
        self._busy = 0.0
        self._told = (0, 0)

    def __enter__(self) -> None:
        with self._lock:
            self._count()
            self._inside += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._count()
            self._inside -= 1

    def take(self) -> tuple[int, int]:
        """Milliseconds in the model, and altogether, since this was last asked, whoever asked; never more than goes by.

        So what all threads of a process are given adds up to its time.
        """
        with self._lock:
            self._count()
            now = (int(1000 * self._busy), int(1000 * (self._counted - self._began)))
            busy, wall = now[0] - self._told[0], now[1] - self._told[1]
            self._told = now
        return busy, wall

    def _count(self) -> None:
        now = self._clock()
        if self._inside:
            self._busy += now - self._counted
        self._counted = now


CLOCK = BusyClock()
"""Of this process, whichever models are loaded in it; time before a model is loaded counts for nobody."""
