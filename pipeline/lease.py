"""One run at a time on one output: a lease that is taken, renewed, released and taken over by creating objects alone.

The objects `_relume/lease/00000001.json`, `00000002.json`, ... are a log, and the one with the highest number says what
is. Who wants to change that creates the next number, which of many that try one alone can. So a worker needs no right
to overwrite or delete, and a taker and an owner that comes back late cannot both win. Why it is like this:
docs/decisions/lease.md.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import re
import secrets
import socket
from collections.abc import Callable
from typing import Any

from pipeline import names
from pipeline.busy import BusyError, Process
from pipeline.elements import ImageRef
from pipeline.storage import Created, LocalStorage, Storage, open_storage

LEASE_FORMAT = 1
"""Grows when an entry's fields change their meaning."""

TERM = datetime.timedelta(minutes=10)
"""How long a lease lasts without being renewed."""

LAUNCH_TERM = datetime.timedelta(minutes=70)
"""How long it lasts until workers begin to renew it: Dataflow gives a job up where none has been seen for an hour."""

FLEXRS_TERM = datetime.timedelta(hours=7, minutes=10)
"""The same of a job that Dataflow may keep waiting, for six hours, until resources are cheap (FlexRS)."""

ALLOWANCE = datetime.timedelta(minutes=1)
"""By how much clocks of different machines may differ: a lease is taken over this much after its end."""

Clock = Callable[[], datetime.datetime]

_ENTRY = re.compile(rf"{names.LEASE}/(\d{{8}})\.json")


class LostError(Exception):
    """The run no longer holds its lease, so it must not go on; the text says what became of it."""


def utc_now() -> datetime.datetime:
    """The time by this machine's clock."""
    return datetime.datetime.now(datetime.UTC)


@dataclasses.dataclass(frozen=True)
class Lease:
    """A run's hold on an output, as it travels to the workers that renew it.

    Attributes:
        output: the output's root.
        run: the run's id.
        token: names this hold: a run id may be given twice.
        since: when it was taken.
        holder: who took it, for people.
        process: of a run that ends with a process of this machine, that process; None for a run on a service.
    """

    output: str
    run: str
    token: str
    since: datetime.datetime
    holder: str
    process: Process | None


@dataclasses.dataclass(frozen=True)
class Entry:
    """What one object of the log says.

    Attributes:
        number: its place in the log, from 1.
        lease: whose it is.
        released: the run has ended.
        written, until: when it was written, and until when the lease lasts if nothing follows.
    """

    number: int
    lease: Lease
    released: bool
    written: datetime.datetime
    until: datetime.datetime

    def is_over(self, now: datetime.datetime) -> bool:
        """Whether another run may take the lease."""
        process = self.lease.process
        return self.released or now > self.until + ALLOWANCE or (process is not None and process.is_gone())

    def is_fresh(self, now: datetime.datetime) -> bool:
        """Whether it was renewed so lately that nobody need do so now."""
        return TERM / 2 < self.until - now <= TERM


def standing(output: str) -> Entry | None:
    """Reads what the log says now; None where no lease was ever taken.

    Raises:
        RuntimeError: if what stands there is no lease.
    """
    target = open_storage(output)
    while entries := _entries(target):
        number, ref = max(entries.items())
        data = target.read_small(ref.name)
        if data is not None:
            try:
                return _parse(data, number, output)
            except (ValueError, KeyError, TypeError) as error:
                raise RuntimeError(
                    f"{target.address(ref.name)} is no lease that this version of Relume reads ({error}): "
                    f"if no run is at work, delete the folder {target.address(names.LEASE)}"
                ) from error
        # Deleted since the listing, by who wrote a newer one: look again.
    return None


def check_free(output: str, *, clock: Clock = utc_now) -> None:
    """Looks whether a run could begin now, and writes nothing.

    Raises:
        BusyError: if another one holds the lease.
    """
    found = standing(output)
    if found is not None and not found.is_over(clock()):
        raise BusyError(_told(found))


def take(
    output: str, run: str, *, here: bool, term: datetime.timedelta = TERM, clock: Clock = utc_now, holder: str = ""
) -> Lease:
    """Takes the lease of an output that no run holds.

    Of several takers at once exactly one wins. A lease counts as free where it was released, where it ran out, and
    where it belongs to a process of this machine that has ended.

    Args:
        output: the output's root.
        run: the run's id.
        here: the run ends with this process, so that the lease may too.
        term: how long it lasts until it is first renewed.
        clock: gives the time.
        holder: who takes it, for people; the machine and the process where empty.

    Raises:
        BusyError: if another run holds it.
    """
    by = holder or f"process {os.getpid()} on {socket.gethostname()}"
    while True:
        now = clock().replace(microsecond=0)
        lease = Lease(output, run, secrets.token_hex(8), now, by, Process.this() if here else None)
        found = standing(output)
        if found is not None and not found.is_over(now):
            raise BusyError(_told(found))
        if _append(Entry(found.number + 1 if found else 1, lease, False, now, now + term)):
            return lease


def renew(lease: Lease, *, clock: Clock = utc_now) -> Entry:
    """Makes a lease last for another term from now, unless another worker of the run has just done so.

    A lease that ran out and that nobody took is still the run's.

    Returns:
        What stands now.

    Raises:
        LostError: if the run holds the lease no longer.
    """
    while True:
        found, now = standing(lease.output), clock().replace(microsecond=0)
        if found is None:
            raise LostError(f"the lease of run {lease.run} on {lease.output} was deleted")
        if found.lease.token != lease.token:
            raise LostError(f"run {lease.run} has lost its lease: {_told(found)}")
        if found.released:
            raise LostError(f"run {lease.run} has ended and released its lease on {lease.output}")
        if found.is_fresh(now):
            return found
        renewed = Entry(found.number + 1, lease, False, now, now + TERM)
        if _append(renewed):
            return renewed


def check_not_taken(lease: Lease) -> None:
    """Makes sure that no other run has taken this one's place since.

    Raises:
        BusyError: if one has, and be it that it has ended by now.
    """
    found = standing(lease.output)
    if found is not None and found.lease.token != lease.token:
        raise BusyError(f"run {lease.run} has lost its lease: {_told(found)}")


def release(lease: Lease, *, clock: Clock = utc_now) -> None:
    """Gives a lease back, so that the next run may begin at once; one that is not held any more is let be."""
    while True:
        found, now = standing(lease.output), clock().replace(microsecond=0)
        if found is None or found.released or found.lease.token != lease.token:
            return
        if _append(Entry(found.number + 1, lease, True, now, now)):
            return


def _entries(target: Storage) -> dict[int, ImageRef]:
    """Lists the log: number -> object. What else lies there, such as a link that leads nowhere, is left out."""
    found = {}
    for ref in target.list(f"{names.LEASE}/", recursive=False):
        match = _ENTRY.fullmatch(ref.name)
        if match and ref.version:
            found[int(match[1])] = ref
    return found


def _append(entry: Entry) -> bool:
    """Tries to make an entry what the log says; False where another was quicker."""
    target = open_storage(entry.lease.output)
    how = target.create(
        f"{names.LEASE}/{entry.number:08d}.json",
        _json(entry),
        content_type="application/json",
        # Not the token alone: two workers of a run may renew at once, and the same write tried again is known by this.
        attempt=f"{entry.lease.token}-{entry.number}-{'released' if entry.released else secrets.token_hex(4)}",
    )
    if how is Created.CONFLICT:
        return False
    entries = _entries(target)
    if max(entries, default=entry.number) > entry.number:
        # Who fell asleep before it wrote may find its number free again, because the log has moved on and older
        # entries were deleted: its entry says nothing then. An entry of this lease above it is as good as this one.
        found = standing(entry.lease.output)
        return found is not None and found.lease.token == entry.lease.token
    if isinstance(target, LocalStorage):
        # In a bucket they stay: a worker may not delete, and a rule of the bucket takes them away.
        for number, ref in entries.items():
            if number < entry.number:
                with contextlib.suppress(PermissionError):
                    target.delete(ref)
    return True


def _told(entry: Entry) -> str:
    lease = entry.lease
    return (
        f"run {lease.run} ({lease.holder}) is at work on {lease.output} since {_text(lease.since)}, "
        f"its lease lasts until {_text(entry.until)} and is renewed while it works"
    )


def _text(time: datetime.datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def _json(entry: Entry) -> bytes:
    lease = entry.lease
    values = {
        "relume": LEASE_FORMAT,
        "run": lease.run,
        "token": lease.token,
        "holder": lease.holder,
        "state": "released" if entry.released else "held",
        "since": _text(lease.since),
        "written": _text(entry.written),
        "until": _text(entry.until),
        "process": None if lease.process is None else dataclasses.asdict(lease.process),
    }
    return (json.dumps(values, sort_keys=True, separators=(",", ":")) + "\n").encode()


def _parse(data: bytes, number: int, output: str) -> Entry:
    said: Any = json.loads(data)
    if said["relume"] != LEASE_FORMAT:
        raise ValueError(f"its format is {said['relume']}, not {LEASE_FORMAT}")
    if said["state"] not in ("held", "released"):
        raise ValueError(f"its state is {said['state']}")
    lease = Lease(
        output,
        str(said["run"]),
        str(said["token"]),
        _time(said["since"]),
        str(said["holder"]),
        Process.from_json(said["process"]),
    )
    return Entry(number, lease, said["state"] == "released", _time(said["written"]), _time(said["until"]))


def _time(text: str) -> datetime.datetime:
    return datetime.datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.UTC)
