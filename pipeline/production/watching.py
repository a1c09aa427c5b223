"""A job on Dataflow as its API shows it: state, metrics, and what went wrong."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from pipeline.figures import Figures, Spread, add
from pipeline.flags import UsageError
from pipeline.production.launching import ENDED, client_of

_ID = re.compile(r"\d{4}-\d{2}-\d{2}_\d{2}_\d{2}_\d{2}-\d+")

_MOST_ERRORS = 5


@dataclasses.dataclass(frozen=True)
class JobStatus:
    """One job now.

    Attributes:
        id, name: as Dataflow knows it.
        state: such as `RUNNING`; `ENDED` lists those that it stays in.
        since: when it came into that state: time in UTC, ISO 8601.
        figures: what it has done so far.
        errors: the last things that went wrong, the oldest first.
    """

    id: str
    name: str
    state: str
    since: str
    figures: Figures
    errors: tuple[str, ...]

    @property
    def has_ended(self) -> bool:
        """Whether nothing more becomes of it."""
        return self.state in ENDED


def look_at(project: str, region: str, job: str, endpoint: str) -> JobStatus:
    """Looks at one job.

    Args:
        project, region: where it runs.
        job: its id, or its name: of several of one name the one that was created last.
        endpoint: address of the Dataflow API.

    Raises:
        UsageError: if there is no such job.
        google.api_core.exceptions.GoogleAPICallError: if Dataflow refuses otherwise.
    """
    from google.api_core import exceptions
    from google.cloud import dataflow_v1beta3 as dataflow

    jobs = client_of(dataflow.JobsV1Beta3Client, endpoint)
    place = {"project_id": project, "location": region}
    try:
        key = job if _ID.fullmatch(job) else _newest(jobs.list_jobs({**place, "name": job}), job)
        found = jobs.get_job({**place, "job_id": key})
    except (exceptions.NotFound, KeyError) as error:
        raise UsageError(f"--job must be the id or name of a job in {region} of {project}, got {job}") from error
    place["job_id"] = found.id
    metrics = client_of(dataflow.MetricsV1Beta3Client, endpoint).get_job_metrics(place)
    least = dataflow.JobMessageImportance.JOB_MESSAGE_ERROR
    messages = client_of(dataflow.MessagesV1Beta3Client, endpoint).list_job_messages(
        {**place, "minimum_importance": least}
    )
    return JobStatus(
        id=found.id,
        name=found.name,
        state=dataflow.JobState(found.current_state).name.removeprefix("JOB_STATE_"),
        since=f"{found.current_state_time:%Y-%m-%dT%H:%M:%SZ}",
        figures=Figures.of(_metrics(metrics.metrics)),
        errors=tuple(one.message_text for one in messages)[-_MOST_ERRORS:],
    )


def _newest(jobs: Any, name: str) -> str:
    """Id of the job of a name that was created last; `KeyError` if there is none."""
    # The service takes the name as a filter, and an older one takes no notice of it.
    named = [job for job in jobs if job.name == name]
    if not named:
        raise KeyError(name)
    return str(max(named, key=lambda job: job.create_time).id)


def _metrics(updates: Any) -> dict[tuple[str, str], int | Spread]:
    """Takes our metrics out of an answer: what was committed, and what was only attempted where nothing was."""
    attempted: dict[tuple[str, str], int | Spread] = {}
    committed: dict[tuple[str, str], int | Spread] = {}
    for update in updates:
        context = dict(update.name.context)
        if update.name.origin != "user" or "namespace" not in context:
            continue
        value = _value(update)
        if value is not None:
            where = attempted if "tentative" in context else committed
            add(where, (context["namespace"], update.name.name), value)
    return attempted | committed


def _value(update: Any) -> int | Spread | None:
    """A counter or a distribution; None for metrics of other kinds."""
    if isinstance(update.scalar, int | float):
        return int(update.scalar)
    if update.distribution is not None:
        told = dict(update.distribution)
        return Spread(int(told["count"]), int(told["sum"]), int(told["max"]))
    return None
