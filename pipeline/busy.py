"""That somebody else is at work, and whether a process that left its mark somewhere still lives.

Apart from the lease itself, because every command must know the error and start fast: storage takes a second to import.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any


class BusyError(Exception):
    """Another run is at work on the output; the text is one line that says who, since when and until when."""


@dataclasses.dataclass(frozen=True)
class Process:
    """One process, so that no other is taken for it.

    Attributes:
        space: boot of the machine and namespace of the process numbers: containers of one machine have their own.
        pid: its number there.
        started: in clock ticks since the boot; numbers are given out again.
    """

    space: str
    pid: int
    started: int

    @classmethod
    def this(cls) -> Process | None:
        """This process; None where the system does not tell (it needs Linux's /proc)."""
        space, running = _space(), _running(os.getpid())
        return None if space is None or running is None else cls(space, os.getpid(), running)

    @classmethod
    def from_json(cls, values: Any) -> Process | None:
        """The inverse of `dataclasses.asdict`, of JSON that may hold None; KeyError or TypeError if it is another."""
        return None if values is None else cls(str(values["space"]), int(values["pid"]), int(values["started"]))

    def is_gone(self) -> bool:
        """Whether it is known to have ended; False of a process elsewhere, of which nothing can be known."""
        return self.space == _space() and _running(self.pid) != self.started


def _space() -> str | None:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _running(pid: int) -> int | None:
    """When a process was started; None where none of that number runs, or it has ended and waits to be collected."""
    try:
        # The second field is the program's name in brackets, which may hold blanks and brackets.
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in ("Z", "X") else int(fields[18])
