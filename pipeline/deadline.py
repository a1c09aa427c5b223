"""When a run begins no further image: one moment for all workers, decided before the first image is read."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipeline.elements import ImageRef, Row

MAX_MINUTES, MAX_COST = "max-minutes", "max-cost"
"""Why an image can be left for the next run: the cap that was reached."""


@dataclasses.dataclass(frozen=True)
class Deadline:
    """The moment from which on no further image is begun.

    It is a time of day and not a length of time, because workers start at different times, and one that comes late must
    not begin the count anew. Their clocks are taken to agree to within a few seconds, as those of any cloud's machines
    do.

    Attributes:
        at: seconds since 1970 in UTC.
        reason: which cap this is: `max-minutes` or `max-cost`.
        clock: tells the time, in the same seconds.
    """

    at: float
    reason: str
    clock: Callable[[], float] = dataclasses.field(default=time.time, repr=False)

    @property
    def is_over(self) -> bool:
        """Whether it has come."""
        return self.clock() >= self.at


class Begun(NamedTuple):
    """What becomes of references.

    Attributes:
        begun: `PCollection[ImageRef]`: to be restored now.
        left: `PCollection[Row]`: left for the next run.
    """

    begun: beam.PCollection[ImageRef]
    left: beam.PCollection[Row]


@dataclasses.dataclass
class BeginInTime(beam.PTransform):
    """Lets images begin until the deadline: `PCollection[ImageRef]` -> `Begun`.

    Belongs right before reading: what has passed is finished, whatever the time, and what has not was not touched. An
    image whose bundle a runner repeats after the deadline may come out as left though its output stands; the next run
    skips it.

    Attributes:
        deadline: None where there is none.
    """

    deadline: Deadline | None

    def expand(self, refs: beam.PCollection[ImageRef]) -> Begun:
        out = refs | "Begin" >> beam.ParDo(_Begin(self.deadline)).with_outputs("left", main="begun")
        return Begun(out.begun, out.left)


class _Begin(beam.DoFn):
    """Counters, namespace `begin`: `begun`, `left`."""

    def __init__(self, deadline: Deadline | None) -> None:
        self._deadline = deadline
        self._begun = Metrics.counter("begin", "begun")
        self._left = Metrics.counter("begin", "left")

    def process(self, ref: ImageRef) -> Iterator[ImageRef | beam.pvalue.TaggedOutput]:
        if self._deadline is not None and self._deadline.is_over:
            self._left.inc()
            yield beam.pvalue.TaggedOutput("left", left_row(ref, self._deadline.reason))
        else:
            self._begun.inc()
            yield ref


def left_row(ref: ImageRef, reason: str) -> Row:
    """Reports an image that was not begun because a cap was reached."""
    return Row(ref.name, ref.version, ref.size, outcome="left", reason=reason)
