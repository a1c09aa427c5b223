"""What goes wrong on purpose: which request gets which fault, decided before the run and counted when it happens."""

from __future__ import annotations

import collections
import dataclasses
import random
import threading
from collections.abc import Collection
from typing import Literal, get_args

Kind = Literal["429", "503", "reset", "stall", "truncate", "lose-answer"]
"""
- `429`, `503`: answered so, nothing done.
- `reset`: the connection is reset, nothing done.
- `stall`: nothing is sent for `stall_s` seconds, then the request is done and answered. A client with a shorter timeout
  has given up by then, and its request takes effect all the same.
- `truncate`: half of the answer's body under the length of the whole, then the connection ends.
- `lose-answer`: done and stored, then the connection is reset in place of the answer.
"""

KINDS: tuple[Kind, ...] = get_args(Kind)
READS = frozenset({"get", "read", "list", "bucket-get", "bucket-list"})
WRITES = frozenset(
    {
        *("insert", "start-upload", "upload-chunk", "delete", "copy", "rewrite", "compose", "patch"),
        *("bucket-create", "bucket-delete"),
    }
)
OPERATIONS = READS | WRITES | {"batch"}


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault that is to happen exactly once.

    Attributes:
        kind: what goes wrong.
        operation: of `OPERATIONS`; None for any.
        name: of the object, exactly; None for any.
        nth: which of the requests that match, from 1; a retry is one more request.
    """

    kind: Kind
    operation: str | None = None
    name: str | None = None
    nth: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        if self.operation is not None and self.operation not in OPERATIONS:
            raise ValueError(f"operation must be one of {', '.join(sorted(OPERATIONS))}, got {self.operation!r}")
        if self.operation is not None and not applies(self.kind, self.operation, in_batch=False):
            raise ValueError(f"{self.kind} cannot happen to {self.operation}")
        if self.nth < 1:
            raise ValueError(f"nth must be at least 1, got {self.nth}")

    def matches(self, operation: str, name: str | None) -> bool:
        """Says whether a request counts towards `nth`."""
        return self.operation in (None, operation) and self.name in (None, name)


def applies(kind: Kind, operation: str, in_batch: bool) -> bool:
    """Says whether a fault can happen to an operation; a part of a batch has a status of its own, but no connection."""
    if in_batch and kind not in ("429", "503"):
        return False
    if kind == "truncate":
        return operation in READS
    if kind == "lose-answer":
        return operation not in READS
    return True


class FaultPlan:
    """Faults for chosen requests, and faults at a rate.

    At a rate, whether a request fails follows from the seed, its operation, its object and how often that was asked
    for before: the same whichever thread comes first, and a retry draws anew.

    Args:
        *faults: each happens once.
        seed: of the faults at a rate.
        rate: share of requests that fail, 0..1.
        kinds: what may happen at that rate.
        operations: which operations fail at that rate; all where empty.
        stall_s: how long a stall lasts.
    """

    def __init__(
        self,
        *faults: Fault,
        seed: int = 0,
        rate: float = 0.0,
        kinds: Collection[Kind] = KINDS,
        operations: Collection[str] = (),
        stall_s: float = 0.3,
    ) -> None:
        if not 0 <= rate <= 1:
            raise ValueError(f"rate must be in 0..1, got {rate}")
        if unknown := sorted(set[str](kinds) - set(KINDS)):
            raise ValueError(f"kinds must be of {', '.join(KINDS)}, got {', '.join(unknown)}")
        if unknown := sorted(set(operations) - OPERATIONS):
            raise ValueError(f"operations must be of {', '.join(sorted(OPERATIONS))}, got {', '.join(unknown)}")
        self.faults = faults
        self.stall_s = stall_s
        self._seed = seed
        self._rate = rate
        self._kinds = tuple(kind for kind in KINDS if kind in kinds)
        self._operations = frozenset(operations)
        self._lock = threading.Lock()
        self._matched = [0] * len(faults)
        self._happened = [0] * len(faults)
        self._asked: collections.Counter[tuple[str, str | None]] = collections.Counter()
        self._fired: collections.Counter[str] = collections.Counter()

    def draw(self, operation: str, name: str | None, in_batch: bool = False) -> Kind | None:
        """Decides what happens to the next request, and counts it as fired."""
        with self._lock:
            self._asked[operation, name] += 1
            kind = self._chosen(operation, name, in_batch) or self._at_rate(operation, name, in_batch)
            if kind is not None:
                self._fired[kind] += 1
            return kind

    def _chosen(self, operation: str, name: str | None, in_batch: bool) -> Kind | None:
        kind = None
        for index, fault in enumerate(self.faults):
            if not fault.matches(operation, name):
                continue
            self._matched[index] += 1
            due = self._matched[index] == fault.nth and applies(fault.kind, operation, in_batch)
            if due and kind is None:
                self._happened[index] = 1
                kind = fault.kind
        return kind

    def _at_rate(self, operation: str, name: str | None, in_batch: bool) -> Kind | None:
        if self._operations and operation not in self._operations:
            return None
        chance = random.Random(repr((self._seed, operation, name, self._asked[operation, name])))
        if chance.random() >= self._rate:
            return None
        possible = [kind for kind in self._kinds if applies(kind, operation, in_batch)]
        return chance.choice(possible) if possible else None

    @property
    def fired(self) -> dict[str, int]:
        """How often each kind has happened so far."""
        with self._lock:
            return dict(self._fired)

    def assert_all_fired(self) -> None:
        """Fails where a chosen fault did not happen, or where one of the kinds never happened at the given rate."""
        with self._lock:
            missing = [repr(fault) for fault, count in zip(self.faults, self._happened, strict=True) if not count]
            if self._rate:
                missing += [f"{kind} at a rate of {self._rate}" for kind in self._kinds if not self._fired[kind]]
        if missing:
            raise AssertionError(f"these planned faults did not happen: {'; '.join(missing)}")
