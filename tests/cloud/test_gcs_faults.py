"""Every fault of the plan, as the real client's own retry policy meets it."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable

import pytest
import requests
from google.api_core import exceptions
from google.api_core.retry import Retry
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from tests.cloud.faults import KINDS, Fault, FaultPlan, Kind, applies
from tests.cloud.gcs import GcsTwin

# The client's own policy of what to try again; only its pauses are shorter.
RETRY = DEFAULT_RETRY.with_delay(initial=0.01, maximum=0.05, multiplier=1.5).with_timeout(20)
SHORT = (5.0, 3.0)  # seconds to connect, and to wait for an answer: less than a stall


@pytest.fixture
def bucket(gcs: GcsTwin, monkeypatch: pytest.MonkeyPatch) -> storage.Bucket:
    # Else the client asks for the bucket too, from a thread and at any time.
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    gcs.create_bucket("archive")
    return storage.Client().bucket("archive")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if applies(kind, "read", in_batch=False)])
def test_a_pinned_read_survives_each_fault(kind: Kind, gcs: GcsTwin, bucket: storage.Bucket) -> None:
    data = os.urandom(100_000)
    generation = gcs.put("archive", "a", data)
    gcs.faults = FaultPlan(Fault(kind, "read", "a"), stall_s=60)

    read = bucket.blob("a", generation=generation).download_as_bytes(retry=RETRY, timeout=SHORT)

    assert read == data
    gcs.faults.assert_all_fired()
    assert gcs.faults.fired == {kind: 1}
    # A stalled request is answered, and so logged, when its client has long gone on.
    assert [one.fault for one in gcs.requests("read")] == ([None] if kind == "stall" else [kind, None])


@pytest.mark.parametrize("kind", ["429", "503", "reset"])
def test_a_create_only_write_survives_each_fault_that_comes_before_it(
    kind: Kind, gcs: GcsTwin, bucket: storage.Bucket
) -> None:
    gcs.faults = FaultPlan(Fault(kind, "insert", "a"))

    bucket.blob("a").upload_from_string(b"1", if_generation_match=0, retry=RETRY)

    gcs.faults.assert_all_fired()
    assert len(gcs.generations("archive", "a")) == 1
    assert [one.fault for one in gcs.requests("insert")] == [kind, None]


@pytest.mark.parametrize("kind", ["lose-answer", "stall"])
def test_a_create_only_write_that_was_stored_and_whose_answer_is_lost_ends_in_a_412_of_its_own_making(
    kind: Kind, gcs: GcsTwin, bucket: storage.Bucket
) -> None:
    gcs.faults = FaultPlan(Fault(kind, "insert", "a"), stall_s=6)

    def wait_until_stored(error: Exception) -> None:
        # The client gives a stalled write up before it takes effect: its next try comes after that, or wins.
        while not gcs.requests("insert", "a"):
            time.sleep(0.01)

    retry = Retry(predicate=DEFAULT_RETRY._predicate, initial=0.01, timeout=20, on_error=wait_until_stored)

    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("a").upload_from_string(b"mine", if_generation_match=0, retry=retry, timeout=SHORT)

    gcs.faults.assert_all_fired()
    assert gcs.content("archive", "a") == b"mine"
    assert len(gcs.generations("archive", "a")) == 1
    assert [one.status for one in gcs.requests("insert")] == [200, 412]


def test_a_write_without_a_precondition_is_stored_twice_when_its_answer_is_lost(
    gcs: GcsTwin, bucket: storage.Bucket
) -> None:
    gcs.faults = FaultPlan(Fault("lose-answer", "insert", "a"))

    bucket.blob("a").upload_from_string(b"mine", retry=RETRY)

    assert len(gcs.generations("archive", "a")) == 2


@pytest.mark.parametrize("kind", ["429", "503", "reset", "lose-answer"])
@pytest.mark.parametrize("operation", ["start-upload", "upload-chunk"])
def test_a_resumable_upload_goes_on_after_each_fault(
    kind: Kind, operation: str, gcs: GcsTwin, bucket: storage.Bucket
) -> None:
    data = os.urandom(600_000)
    nth = 2 if operation == "upload-chunk" else 1
    gcs.faults = FaultPlan(Fault(kind, operation, "a", nth))

    blob = bucket.blob("a", chunk_size=256 * 1024)
    blob.upload_from_file(io.BytesIO(data), if_generation_match=0, retry=RETRY)

    gcs.faults.assert_all_fired()
    assert gcs.content("archive", "a") == data
    assert len(gcs.generations("archive", "a")) == 1


@pytest.mark.parametrize("kind", ["429", "503", "reset", "truncate"])
def test_a_listing_misses_nothing_after_each_fault(kind: Kind, gcs: GcsTwin, bucket: storage.Bucket) -> None:
    names = [f"{number:04}" for number in range(30)]
    for name in names:
        gcs.put("archive", name, b"")
    gcs.faults = FaultPlan(Fault(kind, "list", nth=2))

    assert [blob.name for blob in bucket.client.list_blobs("archive", page_size=10, retry=RETRY)] == names

    gcs.faults.assert_all_fired()


@pytest.mark.parametrize("operation", ["delete", "rewrite", "compose", "patch"])
def test_what_was_done_although_the_answer_was_lost_shows_when_tried_again(
    operation: str, gcs: GcsTwin, bucket: storage.Bucket
) -> None:
    generation = gcs.put("archive", "a", b"1")
    gcs.faults = FaultPlan(Fault("lose-answer", operation))
    blob, target = bucket.blob("a"), bucket.blob("b")
    blob.metadata = {"key": "value"}
    act: dict[str, Callable[[], object]] = {
        "delete": lambda: blob.delete(if_generation_match=generation, retry=RETRY),
        "rewrite": lambda: target.rewrite(blob, if_generation_match=0, retry=RETRY),
        "compose": lambda: target.compose([blob], if_generation_match=0, retry=RETRY),
        "patch": lambda: blob.patch(if_metageneration_match=1, retry=RETRY),
    }

    with pytest.raises((exceptions.NotFound, exceptions.PreconditionFailed)):
        act[operation]()

    gcs.faults.assert_all_fired()
    assert [one.status < 300 for one in gcs.requests(operation)] == [True, False]


def run(bucket: storage.Bucket, count: int) -> None:
    shorter = (5.0, 0.5)  # it stalls often, and one more try for want of time changes nothing
    for number in range(count):
        name = f"{number:03}"
        try:
            bucket.blob(name).upload_from_string(name, if_generation_match=0, retry=RETRY, timeout=shorter)
        except exceptions.PreconditionFailed:
            assert bucket.blob(name).download_as_bytes(retry=RETRY, timeout=shorter) == name.encode()
        assert bucket.blob(name).download_as_bytes(retry=RETRY, timeout=shorter) == name.encode()


def test_seeded_faults_at_a_rate_hit_every_kind_and_lose_nothing(gcs: GcsTwin, bucket: storage.Bucket) -> None:
    gcs.faults = FaultPlan(seed=1, rate=0.3, stall_s=0.8)

    run(bucket, 40)

    gcs.faults.assert_all_fired()
    assert set(gcs.faults.fired) == set(KINDS)
    assert all(len(gcs.generations("archive", f"{number:03}")) == 1 for number in range(40))
    # A stalled request is logged when it is answered, which may be after its client has gone on.
    faulty = [one for one in gcs.requests() if one.fault not in (None, "stall")]
    assert len(faulty) == sum(count for kind, count in gcs.faults.fired.items() if kind != "stall")
    assert 0.15 < len(faulty) / len(gcs.requests()) < 0.45


def test_the_same_seed_fails_the_same_requests_in_any_order_and_another_seed_others() -> None:
    asked = [(operation, f"{number}") for number in range(200) for operation in ("read", "insert")]

    def draws(seed: int, order: list[tuple[str, str]]) -> dict[tuple[str, str], Kind | None]:
        plan = FaultPlan(seed=seed, rate=0.2)
        return {one: plan.draw(*one) for one in order}

    assert draws(1, asked) == draws(1, asked[::-1])
    assert draws(1, asked) != draws(2, asked)


def test_a_planned_fault_that_did_not_happen_is_named(gcs: GcsTwin, bucket: storage.Bucket) -> None:
    gcs.put("archive", "a", b"1")
    gcs.faults = FaultPlan(Fault("503", "read", "a", nth=2), Fault("429", "read", "a", nth=1))
    bucket.blob("a").download_as_bytes(retry=RETRY, raw_download=True)

    # The first read was refused and tried again, so both happened.
    gcs.faults.assert_all_fired()
    gcs.faults = FaultPlan(Fault("503", "read", "a", nth=3), rate=0.0)
    bucket.blob("a").download_as_bytes(retry=RETRY)
    with pytest.raises(AssertionError, match="nth=3"):
        gcs.faults.assert_all_fired()
    with pytest.raises(AssertionError, match="truncate at a rate"):
        FaultPlan(rate=0.5).assert_all_fired()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Fault("404"), "kind must be one of"),  # type: ignore[arg-type]
        (lambda: Fault("503", "insrt"), "operation must be one of"),
        (lambda: Fault("lose-answer", "read"), "lose-answer cannot happen to read"),
        (lambda: Fault("503", nth=0), "nth must be at least 1"),
        (lambda: FaultPlan(rate=2), "rate must be in 0..1"),
        (lambda: FaultPlan(rate=0.1, kinds=("404",)), "kinds must be of"),  # type: ignore[arg-type]
        (lambda: FaultPlan(rate=0.1, operations=("rd",)), "operations must be of"),
    ],
)
def test_a_plan_that_could_never_happen_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_stopping_does_not_wait_for_a_stalled_request() -> None:
    with GcsTwin(FaultPlan(Fault("stall"), stall_s=60)) as twin:
        twin.create_bucket("archive")
        with pytest.raises(requests.Timeout):
            requests.get(f"{twin.url}/storage/v1/b/archive", timeout=0.1)
        began = time.monotonic()
    assert time.monotonic() - began < 20
