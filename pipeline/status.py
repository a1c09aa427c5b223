"""How far a run is, or how it ended, by what lies in its output; the output is only read."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal

from pipeline import figures, lease, names, survey
from pipeline.flags import UsageError, nearest
from pipeline.recording import read_summary, runs_with
from pipeline.storage import open_storage

State = Literal["running", "ended", "stopped"]


@dataclasses.dataclass(frozen=True)
class RunStatus:
    """A run as its output shows it.

    Attributes:
        run_id: its name.
        state: `ended` where its summary stands; `running` where it holds the output's lease; else `stopped`: it was
            killed or failed, and the next run goes on.
        holder: who holds the lease of a run that is running, and until when; else empty.
        plan: its `plan.json`.
        receipts: images of the output that are done now, by this run or others.
        summary: its `summary.json`, or None.
        metrics: its `metrics.json`, or None.
    """

    run_id: str
    state: State
    holder: str
    plan: Mapping[str, Any]
    receipts: int
    summary: Mapping[str, Any] | None
    metrics: Mapping[str, Any] | None


def look_at(output: str, run_id: str | None = None, *, clock: lease.Clock = lease.utc_now) -> RunStatus:
    """Looks at one run.

    Args:
        output: the output's root.
        run_id: which run; the one that was planned last where None.
        clock: tells whether a lease is over.

    Raises:
        UsageError: if there is no such run.
    """
    target = open_storage(output)
    target.check_readable("--output")
    known = runs_with(target, "plan.json")
    if not known:
        raise UsageError(f"--output must be the output of a restore job, got {output}: no run was planned there")
    chosen = run_id or known[-1]
    if chosen not in known:
        near = nearest(chosen, known) or known[-1]
        raise UsageError(f"--run_id must be a run of {output}, such as {near}; got {chosen}")
    plan = json.loads(target.read_small(f"{names.RUNS}/{chosen}/plan.json") or b"{}")
    # The lease before the summary: a run that ends between the two looks has both, and has ended.
    held = lease.standing(output)
    summary = read_summary(output, chosen)
    running = held is not None and held.lease.run == chosen and not held.is_over(clock())
    state: State = "ended" if summary is not None else "running" if running else "stopped"
    holder = f"{held.lease.holder}, lease until {held.until:%Y-%m-%dT%H:%M:%SZ}" if held and state == "running" else ""
    return RunStatus(chosen, state, holder, plan, survey.receipts_in(output), summary, figures.read(output, chosen))
