"""The totals of a run, as they stand in its summary.json, typed for showing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pipeline.elements import Measures

OUTCOMES = ("restored", "kept", "skipped", "failed", "left")
"""What can become of an input, in the order in which it is told."""

_NOT_MEASURED = Measures()


@dataclasses.dataclass(frozen=True)
class Summary:
    """What became of a run's inputs, and what it took.

    Attributes:
        run_id: name of the run's folder.
        output: the output's root.
        inputs: how many were listed.
        reasons: outcome -> reason -> how many inputs.
        megapixels: of the restored images, in millions of pixels.
        before, after: means over the restored images whose value is known in both states; None where there is none.
        compared: restored images that have a reference.
        version: of the package.
        device: that computed.
        digests: hexadecimal, of the `model` and the `recipe`.
        settings: each option by name; values are JSON's.
        seconds: that the run took, or None where nobody measured: tables hold no clock.
        started: time in UTC, ISO 8601; empty where it is not known.
    """

    run_id: str
    output: str
    inputs: int
    reasons: Mapping[str, Mapping[str, int]]
    megapixels: float
    before: Measures = _NOT_MEASURED
    after: Measures = _NOT_MEASURED
    compared: int = 0
    version: str = ""
    device: str = ""
    digests: Mapping[str, str] = dataclasses.field(default_factory=dict)
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seconds: float | None = None
    started: str = ""

    def count(self, outcome: str) -> int:
        """How many inputs came to an outcome."""
        return sum(self.reasons.get(outcome, {}).values())

    @property
    def told(self) -> tuple[str, ...]:
        """The outcomes that are shown, even if there are none: images are left by no run but one with a cap."""
        return tuple(outcome for outcome in OUTCOMES if outcome != "left" or self.count(outcome))

    def change(self, measure: str) -> tuple[float, float] | None:
        """The means of a measure before and after; None where it was not taken."""
        before, after = getattr(self.before, measure), getattr(self.after, measure)
        return None if before is None or after is None else (before, after)

    @property
    def adds_up(self) -> bool:
        """Whether every input has exactly one outcome of the five."""
        return set(self.reasons) <= set(OUTCOMES) and self.inputs == sum(map(self.count, OUTCOMES))

    @property
    def megapixels_per_second(self) -> float | None:
        """Restored megapixels over the time of the whole run; None where that is not known."""
        return self.megapixels / self.seconds if self.seconds else None

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any], *, output: str, seconds: float | None = None, started: str = ""
    ) -> Summary:
        """Reads what summary.json holds.

        Args:
            record: as the recording room writes it; keys that are not shown are left aside.
            output: the output's root, as it is to be shown.
            seconds: that the run took.
            started: time in UTC, ISO 8601.

        Raises:
            ValueError: naming the key that is missing.
        """
        try:
            return cls(
                run_id=record["run_id"],
                output=output,
                inputs=record["inputs"],
                reasons=record["reasons"],
                megapixels=record["megapixels"],
                before=Measures(**record["before"]),
                after=Measures(**record["after"]),
                compared=record["compared"],
                version=record["version"],
                device=record["device"],
                digests=record["digests"],
                settings=record["settings"],
                seconds=seconds,
                started=started,
            )
        except KeyError as error:
            raise ValueError(f"a summary must have the key {error}") from error
