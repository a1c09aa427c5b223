"""What becomes of a Dataflow job, decided before it is submitted: its states, its messages, its metrics."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

State = Literal[
    "QUEUED",
    "PENDING",
    "RUNNING",
    "STOPPED",
    "CANCELLING",
    "DRAINING",
    "RESOURCE_CLEANING_UP",
    "DONE",
    "FAILED",
    "CANCELLED",
    "UPDATED",
    "DRAINED",
]
STATES: tuple[State, ...] = get_args(State)
TERMINAL: frozenset[State] = frozenset({"DONE", "FAILED", "CANCELLED", "UPDATED", "DRAINED"})

Importance = Literal["DEBUG", "DETAILED", "BASIC", "WARNING", "ERROR"]
IMPORTANCES: tuple[Importance, ...] = get_args(Importance)
"""From the least important to the most."""


@dataclasses.dataclass(frozen=True)
class Message:
    """One line of a job's log.

    Attributes:
        text: of the line.
        importance: of `IMPORTANCES`.
        state: said when the job enters it; a state that it never enters leaves the line unsaid.
    """

    text: str
    importance: Importance = "BASIC"
    state: State = "RUNNING"


@dataclasses.dataclass(frozen=True)
class Distribution:
    """What a distribution metric says of the whole numbers that it was given."""

    count: int
    sum: int
    min: int
    max: int


@dataclasses.dataclass(frozen=True)
class Metric:
    """One metric of the user's code, or of the service where `namespace` is empty.

    Attributes:
        name: such as `pixels`.
        value: of a counter, or a distribution.
        namespace: such as `restore`.
        step: id of the transform in the pipeline's proto.
    """

    name: str
    value: int | Distribution
    namespace: str = ""
    step: str = ""

    def updates(self) -> list[dict[str, Any]]:
        """Gives the two entries of an answer: what was attempted so far, and what was committed."""
        context = {"namespace": self.namespace, "step": self.step}
        named = {key: text for key, text in context.items() if text}
        value: dict[str, Any] = {"scalar": self.value}
        if isinstance(self.value, Distribution):
            value = {"distribution": {**dataclasses.asdict(self.value), "mean": self.value.sum // self.value.count}}
        origin = "user" if self.namespace else "dataflow/v1b3"
        return [
            {"name": {"origin": origin, "name": self.name, "context": one}} | value
            for one in ({**named, "tentative": "true"}, named)
        ]


@dataclasses.dataclass(frozen=True)
class Script:
    """What becomes of a job.

    Attributes:
        states: the first is that of a job just created; with each time that the job is looked at it goes on by one, and
            stays in the last.
        messages: its log, beside a line for each state.
        metrics: from `RUNNING` on.
    """

    states: tuple[State, ...] = ("PENDING", "RUNNING", "DONE")
    messages: tuple[Message, ...] = ()
    metrics: tuple[Metric, ...] = ()

    def __post_init__(self) -> None:
        for state in self.states:
            if state not in STATES:
                raise ValueError(f"a state must be one of {', '.join(STATES)}, got {state!r}")
        if not self.states or TERMINAL & {*self.states[:-1]}:
            raise ValueError(f"states must have an end and nothing after it, got {self.states}")


def failing(text: str) -> Script:
    """A job that runs and then fails with an error."""
    return Script(("PENDING", "RUNNING", "FAILED"), (Message(text, "ERROR", "FAILED"),))
