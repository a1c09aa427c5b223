"""Digests of objects that are not held: the same as of their bytes, and of the version that was listed or none."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pipeline.failures import ChangedError, MissingError, UnreadableError
from pipeline.storage import Storage, crc32c_of, open_storage
from pipeline.storage.digesting import Digests, digests_of
from tests.cloud.faults import Fault, FaultPlan
from tests.cloud.gcs import GcsTwin
from tests.pipeline.places import Bucket, Disk, Place

DATA = bytes(range(256)) * 9_000 + b"no multiple of anything"
WANTED = Digests(len(DATA), crc32c_of(DATA), hashlib.sha256(DATA).hexdigest())


@pytest.fixture(params=["disk", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "disk":
        return Disk(tmp_path)
    return Bucket(request.getfixturevalue("gcs"), "photos")


def test_the_digests_are_those_of_the_bytes(place: Place) -> None:
    place.put("a b.jpg", DATA)
    place.put("empty.jpg", b"")
    storage = open_storage(place.uri)

    digests = {ref.name: digests_of(storage, ref) for ref in storage.list()}

    assert digests == {"a b.jpg": WANTED, "empty.jpg": Digests(0, crc32c_of(b""), hashlib.sha256().hexdigest())}


def test_another_version_or_none_is_a_typed_error(place: Place) -> None:
    place.put("a.jpg", DATA)
    storage: Storage = open_storage(place.uri)
    (ref,) = storage.list()

    place.put("a.jpg", DATA[1:])
    with pytest.raises(ChangedError, match="no longer the listed"):
        digests_of(storage, ref)
    place.remove("a.jpg")
    with pytest.raises(MissingError if isinstance(place, Disk) else (MissingError, ChangedError)):
        digests_of(storage, ref)


@pytest.mark.parametrize("kind", ["503", "reset", "truncate"])
def test_an_answer_that_breaks_off_is_asked_for_again(gcs: GcsTwin, kind: str) -> None:
    place = Bucket(gcs, "photos")
    place.put("a.jpg", DATA)
    storage = open_storage(place.uri)
    (ref,) = storage.list()
    gcs.faults = FaultPlan(Fault(kind, "read", "deep/archive/a.jpg"))  # type: ignore[arg-type]

    assert digests_of(storage, ref) == WANTED


def test_what_may_not_be_read_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "loop.jpg").write_bytes(b"1")
    storage = open_storage(str(tmp_path))
    (ref,) = storage.list()
    (tmp_path / "loop.jpg").unlink()
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")

    with pytest.raises(UnreadableError):
        digests_of(storage, ref)
