"""Keeping a lease while a run works: in each process that works on it, and released by the graph itself at its end."""

from __future__ import annotations

import dataclasses
import logging
import random
import threading
from collections.abc import Iterator
from typing import Any

import apache_beam as beam

from pipeline import lease
from pipeline.lease import Clock, Lease, LostError

_LOG = logging.getLogger(__name__)

_AGAIN_SECONDS = 30.0
"""Pause after storage could not be reached; the client itself has tried for two minutes by then."""

_keepers: dict[str, Keeper] = {}
_keepers_lock = threading.Lock()


class Keeper:
    """Renews one lease from a thread of its own until the run ends or has lost it.

    Every process of a run has one, however many steps ask for it. Whoever comes first half a term before the end
    renews; the others see that and wait for the next time.

    Args:
        held: the lease.
        clock: gives the time.
    """

    def __init__(self, held: Lease, *, clock: Clock = lease.utc_now) -> None:
        self._held = held
        self._clock = clock
        self._lost: LostError | None = None
        self._stopped = threading.Event()
        self._until = held.since
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def start(self) -> None:
        """Renews now, and from now on.

        Raises:
            LostError: if the lease is held no longer.
        """
        self._renew()
        self._thread.start()

    def stop(self) -> None:
        """Ends the renewing; the lease stays as it is."""
        self._stopped.set()

    def check(self) -> None:
        """Makes sure that the lease is held; to be called before each piece of work.

        A process that slept over the end of its lease (a laptop that was closed) asks for it once more.

        Raises:
            LostError: if another run has it, or it was released or deleted.
        """
        if self._lost is None and self._clock() > self._until:
            self._renew()
        if self._lost is not None:
            raise self._lost

    def _renew(self) -> None:
        try:
            self._until = lease.renew(self._held, clock=self._clock).until
        except LostError as error:
            self._lost = error
            raise

    def _keep(self) -> None:
        pause = self._pause()
        while not self._stopped.wait(pause):
            try:
                self._renew()
                pause = self._pause()
            except LostError as error:  # also where the run has ended; work that goes on hears of it by `check`
                _LOG.info("%s", error)
                return
            except Exception as error:  # the run need not end with it: until the term is over nobody takes the lease
                _LOG.warning("the lease on %s could not be renewed: %s", self._held.output, error)
                pause = _AGAIN_SECONDS

    def _pause(self) -> float:
        """Seconds until the term is half over, and a little more: else all processes of a run would ask at once."""
        left = (self._until - self._clock() - lease.TERM / 2).total_seconds()
        return max(left, 0.0) + random.uniform(0, 0.2) * lease.TERM.total_seconds()


def keep(held: Lease) -> Keeper:
    """Gives this process's keeper of a lease, started at the first call.

    Raises:
        LostError: if the lease is held no longer.
    """
    with _keepers_lock:
        keeper = _keepers.get(held.token)
        if keeper is None:
            keeper = Keeper(held)
            keeper.start()
            _keepers[held.token] = keeper
        return keeper


def let_go(held: Lease) -> None:
    """Ends the keeping in this process and releases the lease; may be called again, and of a lease that was lost."""
    with _keepers_lock:
        keeper = _keepers.pop(held.token, None)
    if keeper is not None:
        keeper.stop()
    lease.release(held)


@dataclasses.dataclass
class HoldLease(beam.PTransform):
    """Passes elements on, each as it is, as long as the run holds its lease.

    A worker renews the lease from its first element on until its process ends. Where the lease is lost the run stops:
    another one is at work on the output.

    Attributes:
        held: the run's lease; None lets all pass.
    """

    held: Lease | None

    def expand(self, elements: beam.PCollection[Any]) -> beam.PCollection[Any]:
        return elements | "Check" >> beam.ParDo(_Hold(self.held))


class _Hold(beam.DoFn):
    """Starts this process's keeper and asks it before each element."""

    def __init__(self, held: Lease | None) -> None:
        self._held = held
        self._keeper: Keeper | None = None

    def setup(self) -> None:
        self._keeper = None if self._held is None else keep(self._held)

    def process(self, element: Any) -> Iterator[Any]:
        if self._keeper is not None:
            self._keeper.check()
        yield element


@dataclasses.dataclass
class ReleaseLease(beam.PTransform):
    """Releases the lease once a run's last object is written: a `PCollection` of one -> `PCollection[str]`, the run.

    It belongs at the very end of the graph: the launcher of a template is gone long before.

    Attributes:
        held: the run's lease.
    """

    held: Lease

    def expand(self, last: beam.PCollection[Any]) -> beam.PCollection[str]:
        return last | "Release" >> beam.Map(_released, self.held)


def _released(_: Any, held: Lease) -> str:
    let_go(held)
    return held.run
