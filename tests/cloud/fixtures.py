"""Fixtures over the loopback cloud, for tests of every folder; `tests/conftest.py` loads them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cloud.gcs import GcsTwin

if TYPE_CHECKING:
    from tests.cloud.dataflow import DataflowTwin
    from tests.cloud.scheduler import SchedulerTwin

_PHOTOS = Path(__file__).parents[2] / "samples" / "archive"

# The storage client leaves connections unclosed: of a download that was answered with 429 or 503, and of the thread in
# which it asks for the bucket. Python says so whenever the collector comes by, in whichever test that is.
UNCLOSED = r"unclosed <socket\.socket .*raddr=\('127\.0\.0\.1'"


def pytest_configure(config: pytest.Config) -> None:
    """Lets the client's unclosed connections pass in every test."""
    config.addinivalue_line("filterwarnings", f"ignore:{UNCLOSED}:ResourceWarning")


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Lets them pass at the end of the run too, where the collector comes by once more under older filters."""
    warnings.filterwarnings("ignore", UNCLOSED, ResourceWarning)


@pytest.fixture
def gcs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[GcsTwin]:
    """Gives an empty cloud storage that `google.cloud.storage`, Beam's `gs://` and sub-processes use.

    Sub-processes inherit it through the environment. It is stopped, and the environment as before, when the test ends.
    """
    with GcsTwin() as twin:
        use_twin(twin, tmp_path_factory.mktemp("gcs"), monkeypatch)
        yield twin


@pytest.fixture
def dataflow(gcs: GcsTwin) -> Iterator[DataflowTwin]:
    """Gives a Dataflow service beside the storage of `gcs`; Beam reaches it by `dataflow.beam_flags()`."""
    # Late: the clients of Dataflow take a second to import, and few tests need them.
    from tests.cloud.dataflow import DataflowTwin

    with DataflowTwin(gcs) as twin:
        yield twin


@pytest.fixture
def scheduler(dataflow: DataflowTwin) -> Iterator[SchedulerTwin]:
    """Gives a Cloud Scheduler whose calls go to the service of `dataflow`."""
    from tests.cloud.scheduler import SchedulerTwin

    with SchedulerTwin(dataflow) as twin:
        yield twin


@pytest.fixture
def cloud_archive(gcs: GcsTwin) -> GcsTwin:
    """The same with an archive of one photograph in gs://photos/a, and empty buckets for outputs and for jobs."""
    for bucket in ("photos", "restored", "jobs"):
        gcs.create_bucket(bucket)
    source = min(_PHOTOS.rglob("*.jpg"), key=lambda path: path.stat().st_size)
    gcs.put("photos", "a/b.jpg", source.read_bytes())
    return gcs


def use_twin(twin: GcsTwin, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Points this process and its sub-processes to a service, until the monkeypatch is undone."""
    # Late: most tests need no Beam, and importing it takes a second.
    from apache_beam.internal.gcp import auth
    from google.auth.credentials import CredentialsWithRegionalAccessBoundary

    for name, value in twin.environment(folder).items():
        monkeypatch.setenv(name, value)
    # Beam looks for credentials once in a process and keeps them; those of a service that has stopped get no token.
    monkeypatch.setattr(auth._Credentials, "_credentials_init", False)
    monkeypatch.setattr(auth._Credentials, "_credentials", None)
    # With a service account google-auth asks Google, in a thread of its own, in which regions it may be used. Never
    # undone: a client that outlives its test would ask then, and its warnings would stand in the next test's output.
    pytest.MonkeyPatch().setattr(
        CredentialsWithRegionalAccessBoundary, "_is_regional_access_boundary_lookup_required", lambda _: False
    )
