"""The loopback storage as the real google-cloud-storage client sees it."""

from __future__ import annotations

import base64
import io
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import google_crc32c
import pytest
from google.api_core import exceptions
from google.cloud import storage
from google.cloud.storage.exceptions import InvalidResponse

from tests.cloud.gcs import GcsTwin
from tests.cloud.names import MAX_NAME_BYTES

KIB = 1024


@pytest.fixture
def bucket(gcs: GcsTwin, monkeypatch: pytest.MonkeyPatch) -> storage.Bucket:
    # Else the client asks for the bucket too, from a thread and at any time.
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    gcs.create_bucket("archive")
    return storage.Client().bucket("archive")


def test_starting_and_stopping_waits_for_nothing() -> None:
    began = time.perf_counter()
    with GcsTwin() as twin:
        twin.create_bucket("archive")
    assert time.perf_counter() - began < 5


def test_one_write_and_one_pinned_read_are_one_request_each(gcs: GcsTwin, bucket: storage.Bucket) -> None:
    blob = bucket.blob("a.jpg")
    blob.upload_from_string(b"pixels", "image/jpeg", if_generation_match=0)
    data = bucket.blob("a.jpg", generation=blob.generation).download_as_bytes()

    assert data == b"pixels"
    seen = [(one.method, one.operation, one.name, one.status, one.generation) for one in gcs.requests()]
    assert seen == [
        ("POST", "insert", "a.jpg", 200, blob.generation),
        ("GET", "read", "a.jpg", 200, blob.generation),
    ]


def test_an_object_says_its_checksums_size_type_and_generations(gcs: GcsTwin, bucket: storage.Bucket) -> None:
    data = bytes(range(256))
    generation = gcs.put("archive", "a.bin", data, "application/x-a")

    blob = bucket.get_blob("a.bin")

    assert base64.b64decode(blob.crc32c) == google_crc32c.value(data).to_bytes(4, "big")
    assert base64.b64decode(blob.md5_hash).hex() == "e2c865db4162bed963bfaa9ef6ac18f0"
    assert (blob.size, blob.content_type) == (256, "application/x-a")
    assert (blob.generation, blob.metageneration) == (generation, 1)


@pytest.mark.parametrize("operation", ["upload", "resumable", "rewrite", "compose", "copy"])
def test_create_only_refuses_an_object_that_is_there_on_every_way_to_write(
    operation: str, gcs: GcsTwin, bucket: storage.Bucket
) -> None:
    gcs.put("archive", "source", b"new")
    gcs.put("archive", "taken", b"old")
    source, taken = bucket.blob("source"), bucket.blob("taken")
    write: dict[str, Callable[..., object]] = {
        "upload": lambda **only: taken.upload_from_string(b"new", **only),
        "resumable": lambda **only: bucket.blob("taken", chunk_size=256 * KIB).upload_from_file(io.BytesIO(), **only),
        "rewrite": lambda **only: taken.rewrite(source, **only),
        "compose": lambda **only: taken.compose([source, source], **only),
        "copy": lambda **only: bucket.copy_blob(source, bucket, "taken", **only),
    }

    with pytest.raises(exceptions.PreconditionFailed):
        write[operation](if_generation_match=0)

    assert gcs.content("archive", "taken") == b"old"
    assert len(gcs.generations("archive", "taken")) == 1


@pytest.mark.parametrize("operation", ["upload", "rewrite", "compose", "patch", "delete", "get", "read"])
@pytest.mark.parametrize("condition", ["if_generation_match", "if_metageneration_match"])
def test_a_match_that_fails_is_412_on_every_verb_and_changes_nothing(
    operation: str, condition: str, gcs: GcsTwin, bucket: storage.Bucket
) -> None:
    gcs.put("archive", "source", b"new")
    generation = gcs.put("archive", "a", b"old")
    wrong = {condition: 7}

    with pytest.raises(exceptions.PreconditionFailed):
        attempt(operation, bucket, wrong)

    left = bucket.get_blob("a")
    assert (left.generation, left.metageneration, gcs.content("archive", "a")) == (generation, 1, b"old")


@pytest.mark.parametrize("operation", ["upload", "rewrite", "compose", "patch", "delete", "get", "read"])
@pytest.mark.parametrize("condition", ["if_generation_match", "if_metageneration_match"])
def test_a_match_that_holds_goes_through_on_every_verb(
    operation: str, condition: str, gcs: GcsTwin, bucket: storage.Bucket
) -> None:
    gcs.put("archive", "source", b"new")
    generation = gcs.put("archive", "a", b"old")

    attempt(operation, bucket, {condition: generation if "metageneration" not in condition else 1})

    assert gcs.requests()[-1].status in (200, 204)


@pytest.mark.parametrize("operation", ["upload", "rewrite", "patch", "delete", "get", "read"])
def test_a_not_match_that_fails_is_304_and_changes_nothing(
    operation: str, gcs: GcsTwin, bucket: storage.Bucket
) -> None:
    gcs.put("archive", "source", b"new")
    generation = gcs.put("archive", "a", b"old")

    with pytest.raises(exceptions.NotModified):
        attempt(operation, bucket, {"if_generation_not_match": generation})

    assert gcs.requests()[-1].status == 304
    assert gcs.generations("archive", "a") == (generation,)
    assert gcs.names("archive") == ["a", "source"]


def attempt(operation: str, bucket: storage.Bucket, conditions: dict[str, int]) -> None:
    blob, source = bucket.blob("a"), bucket.blob("source")
    if operation == "upload":
        blob.upload_from_string(b"new", **conditions)
    elif operation == "rewrite":
        blob.rewrite(source, **conditions)
    elif operation == "compose":
        blob.compose([source], **conditions)
    elif operation == "patch":
        blob.metadata = {"key": "value"}
        blob.patch(**conditions)
    elif operation == "delete":
        blob.delete(**conditions)
    elif operation == "get":
        blob.reload(**conditions)
    else:
        blob.download_as_bytes(**conditions)


def test_a_source_condition_and_a_pinned_source_are_checked_too(gcs: GcsTwin, bucket: storage.Bucket) -> None:
    old = gcs.put("archive", "source", b"one")
    gcs.put("archive", "source", b"two")

    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("copy").rewrite(bucket.blob("source"), if_source_generation_match=old)
    with pytest.raises(exceptions.NotFound):
        bucket.blob("copy").rewrite(bucket.blob("source", generation=old))
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.blob("copy").compose([bucket.blob("source")], if_source_generation_match=[old])

    assert gcs.names("archive") == ["source"]


def test_a_read_pinned_to_an_overwritten_generation_is_404_and_not_the_new_bytes(
    gcs: GcsTwin, bucket: storage.Bucket
) -> None:
    old = gcs.put("archive", "a", b"one")
    new = gcs.put("archive", "a", b"two")

    for read in (lambda blob: blob.download_as_bytes(), lambda blob: blob.reload(), lambda blob: blob.delete()):
        with pytest.raises(exceptions.NotFound):
            read(bucket.blob("a", generation=old))
    assert bucket.blob("a", generation=new).download_as_bytes() == b"two"


def test_of_two_threads_that_create_one_name_at_once_one_wins(gcs: GcsTwin, bucket: storage.Bucket) -> None:
    barrier, outcomes = threading.Barrier(2), []

    def create(name: str, data: bytes) -> None:
        client = storage.Client()
        client.bucket("archive").exists()  # the connection is open before the race
        barrier.wait(10)
        try:
            client.bucket("archive").blob(name).upload_from_string(data, if_generation_match=0)
            outcomes.append((name, "created", data))
        except exceptions.PreconditionFailed:
            outcomes.append((name, "refused", data))

    for number in range(10):
        threads = [threading.Thread(target=create, args=(f"{number}.jpg", data)) for data in (b"one", b"two")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)

    for number in range(10):
        name = f"{number}.jpg"
        winners = [data for where, what, data in outcomes if where == name and what == "created"]
        assert winners == [gcs.content("archive", name)]
    assert len(outcomes) == 20


def test_2500_names_come_in_three_pages_complete_and_in_order(gcs: GcsTwin, bucket: storage.Bucket) -> None:
    names = [f"{number % 7}/{number:04}.jpg" for number in range(2500)]
    for name in names:
        gcs.put("archive", name, b"")

    listed = [blob.name for blob in bucket.client.list_blobs("archive")]

    assert listed == sorted(names)
    assert len(gcs.requests("list")) == 3


def test_shards_by_prefix_and_by_offsets_cover_every_name_once(gcs: GcsTwin, bucket: storage.Bucket) -> None:
    names = sorted(f"{number % 7}/{number:04}.jpg" for number in range(2500))
    for name in names:
        gcs.put("archive", name, b"")
    listing = bucket.client.list_blobs

    by_prefix = [blob.name for shard in range(7) for blob in listing("archive", prefix=f"{shard}/", page_size=100)]
    bounds = [None, "1/", "3/0500", "6/", None]
    by_offset = [
        blob.name
        for start, end in itertools.pairwise(bounds)
        for blob in listing("archive", start_offset=start, end_offset=end, fields="items(name),nextPageToken")
    ]

    assert by_prefix == names
    assert by_offset == names


def test_a_delimiter_folds_folders_across_pages_and_a_glob_selects(gcs: GcsTwin, bucket: storage.Bucket) -> None:
    for name in ("a.jpg", "b/1.jpg", "b/2.png", "b/c/3.jpg", "d/4.jpg", "e.png"):
        gcs.put("archive", name, b"")

    listing = bucket.client.list_blobs("archive", delimiter="/", page_size=1)
    files = [blob.name for blob in listing]

    assert (files, listing.prefixes) == (["a.jpg", "e.png"], {"b/", "d/"})
    assert len(gcs.requests("list")) == 4
    for glob, expected in {
        "*.jpg": ["a.jpg"],
        "**.jpg": ["a.jpg", "b/1.jpg", "b/c/3.jpg", "d/4.jpg"],
        "b/*.{jpg,png}": ["b/1.jpg", "b/2.png"],
        "?/[34].jpg": ["d/4.jpg"],
    }.items():
        assert [blob.name for blob in bucket.client.list_blobs("archive", match_glob=glob)] == expected


def test_fields_asked_for_are_all_that_comes(gcs: GcsTwin, bucket: storage.Bucket) -> None:
    gcs.put("archive", "a", b"123")
    [blob] = bucket.client.list_blobs("archive", fields="items(name,size),nextPageToken")
    assert (blob.name, blob.size, blob.generation) == ("a", 3, None)


@pytest.mark.parametrize("size", [0, 1, 256 * KIB, 256 * KIB + 1, 900_000])
def test_a_resumable_upload_comes_in_chunks_and_arrives_whole(size: int, gcs: GcsTwin, bucket: storage.Bucket) -> None:
    data = os.urandom(size)
    blob = bucket.blob("big.bin", chunk_size=256 * KIB)

    blob.upload_from_file(io.BytesIO(data), if_generation_match=0)

    assert gcs.content("archive", "big.bin") == data
    assert len(gcs.requests("start-upload")) == 1
    assert len(gcs.requests("upload-chunk")) == size // (256 * KIB) + 1  # the end is told apart from one more chunk
    assert gcs.generations("archive", "big.bin") == (blob.generation,)


def test_create_only_is_checked_again_when_a_resumable_upload_ends(gcs: GcsTwin, bucket: storage.Bucket) -> None:
    file = bucket.blob("a").open("wb", if_generation_match=0, chunk_size=256 * KIB)
    file.write(bytes(300 * KIB))
    gcs.put("archive", "a", b"in between")

    with pytest.raises(InvalidResponse) as refused:
        file.close()

    assert refused.value.response.status_code == 412

    assert gcs.content("archive", "a") == b"in between"


def test_bytes_that_are_not_what_the_client_meant_to_send_are_refused(gcs: GcsTwin, bucket: storage.Bucket) -> None:
    session = bucket.client._http
    url = f"{gcs.url}/upload/storage/v1/b/archive/o?uploadType=media&name=a"
    headers = [
        {"x-goog-hash": "crc32c=AAAAAA=="},
        {"x-goog-hash": "md5=AAAAAAAAAAAAAAAAAAAAAA=="},
        {"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="},
    ]
    for wrong in headers:
        assert session.post(url, data=b"pixels", headers=wrong).status_code == 400
    blob = bucket.blob("a")
    blob.crc32c = "AAAAAA=="
    with pytest.raises(exceptions.BadRequest, match="doesn't match"):
        blob.upload_from_string(b"pixels", checksum=None)

    assert gcs.names("archive") == []
    right = base64.b64encode(google_crc32c.value(b"pixels").to_bytes(4, "big")).decode()
    assert session.post(url, data=b"pixels", headers={"x-goog-hash": f"crc32c={right}"}).status_code == 200


@pytest.mark.parametrize("promised_in", ["description", "header"])
def test_a_resumable_upload_with_a_wrong_checksum_is_refused_when_it_ends(
    promised_in: str, gcs: GcsTwin, bucket: storage.Bucket
) -> None:
    session, wrong = bucket.client._http, "AAAAAA=="
    url = f"{gcs.url}/upload/storage/v1/b/archive/o?uploadType=resumable&name=a"
    description = {"crc32c": wrong} if promised_in == "description" else {}
    started = session.post(url, json=description)

    headers = {"x-goog-hash": f"crc32c={wrong}"} if promised_in == "header" else {}
    ended = session.put(started.headers["location"], data=b"pixels", headers=headers)

    assert (started.status_code, ended.status_code) == (200, 400)
    assert gcs.names("archive") == []


@pytest.mark.parametrize("data", [b"", b"\r\n", b"\r", b"\n--", b"a\r\n\r\nb\r", bytes(range(256)) * 3, b"\r\n\r\n"])
def test_content_is_byte_exact_whatever_looks_like_a_boundary(
    data: bytes, gcs: GcsTwin, bucket: storage.Bucket
) -> None:
    bucket.blob("a").upload_from_string(data)
    assert gcs.content("archive", "a") == data
    assert bucket.blob("a").download_as_bytes() == data


def test_ranges_give_their_part_and_beyond_the_end_is_416(gcs: GcsTwin, bucket: storage.Bucket) -> None:
    gcs.put("archive", "a", b"0123456789")
    blob = bucket.blob("a")

    assert blob.download_as_bytes(start=2, end=4) == b"234"
    assert blob.download_as_bytes(start=8, end=99) == b"89"
    assert blob.download_as_bytes(start=-3) == b"789"
    with pytest.raises(exceptions.RequestRangeNotSatisfiable):
        blob.download_as_bytes(start=10)


def test_a_change_of_metadata_raises_the_metageneration_alone(gcs: GcsTwin, bucket: storage.Bucket) -> None:
    generation = gcs.put("archive", "a", b"1")
    blob = bucket.get_blob("a")
    blob.metadata = {"attempt": "7", "gone": "soon"}
    blob.patch()
    blob.metadata = {"gone": None}
    blob.patch()

    assert (blob.generation, blob.metageneration, blob.metadata) == (generation, 3, {"attempt": "7"})


def test_a_composed_object_has_no_md5_and_counts_its_parts(gcs: GcsTwin, bucket: storage.Bucket) -> None:
    gcs.put("archive", "1", b"one")
    gcs.put("archive", "2", b"two")
    blob = bucket.blob("both")

    blob.compose([bucket.blob("1"), bucket.blob("2")])

    blob.reload()
    assert (blob.component_count, blob.md5_hash, blob.download_as_bytes()) == (2, None, b"onetwo")


ODD_NAMES = [
    *("a b.jpg", "ä.jpg", "a\u0308.jpg", "a%2Fb", "a/b", "a//b", "a/./b", "/a", "//", "a/", "../up", "x/../y"),
    *("...", "%"),
    *("q?x=1&y#z", "+ +", "a/acl", "copyTo/b/z/o/q", "b/archive/o/a", "\x01\x1f\x7f", "\u202ejpg", "🖼.png", "\\a", '"'),
    *("x" * MAX_NAME_BYTES, "é" * (MAX_NAME_BYTES // 2)),
]


def test_odd_names_are_kept_byte_for_byte_and_never_meet(gcs: GcsTwin, bucket: storage.Bucket) -> None:
    for name in ODD_NAMES:
        bucket.blob(name).upload_from_string(name.encode(), if_generation_match=0)

    listed = [blob.name for blob in bucket.client.list_blobs("archive", page_size=5)]

    assert listed == sorted(ODD_NAMES, key=str.encode)
    for name in ODD_NAMES:
        assert bucket.blob(name).download_as_bytes() == name.encode()
        with bucket.client.batch():
            bucket.delete_blob(name)
    assert gcs.names("archive") == []


@pytest.mark.parametrize("name", ["x" * (MAX_NAME_BYTES + 1), "é" * 513, "a\nb", "a\rb", ".", ".."])
def test_names_that_the_service_forbids_are_400(name: str, bucket: storage.Bucket) -> None:
    with pytest.raises(exceptions.BadRequest):
        bucket.blob(name).upload_from_string(b"")


def test_a_batch_answers_each_call_by_itself(gcs: GcsTwin, bucket: storage.Bucket) -> None:
    gcs.put("archive", "a", b"")
    kept = gcs.put("archive", "b", b"")

    with bucket.client.batch(raise_exception=False) as batch:
        bucket.delete_blob("a")
        bucket.delete_blob("b", if_generation_match=7)
        bucket.delete_blob("missing")

    assert [answer.status_code for answer in batch._responses] == [204, 412, 404]
    assert gcs.generations("archive", "b") == (kept,)
    assert gcs.names("archive") == ["b"]
    assert [(one.operation, one.in_batch) for one in gcs.requests()] == [("delete", True)] * 3 + [("batch", False)]


def test_what_is_not_there_is_404_and_what_is_taken_409(gcs: GcsTwin, bucket: storage.Bucket) -> None:
    client = bucket.client
    assert bucket.get_blob("missing") is None
    for act in (
        lambda: bucket.blob("missing").download_as_bytes(),
        lambda: bucket.blob("missing").delete(if_generation_match=1),
        lambda: client.bucket("no-such-bucket").blob("a").upload_from_string(b""),
        lambda: list(client.list_blobs("no-such-bucket")),
    ):
        with pytest.raises(exceptions.NotFound):
            act()
    with pytest.raises(exceptions.Conflict):
        client.create_bucket("archive")
    gcs.put("archive", "a", b"")
    with pytest.raises(exceptions.Conflict):
        bucket.delete()


def test_a_parameter_that_the_twin_does_not_act_on_is_an_error_and_not_ignored(bucket: storage.Bucket) -> None:
    with pytest.raises((exceptions.MethodNotImplemented, InvalidResponse), match="versions"):
        list(bucket.client.list_blobs("archive", versions=True, retry=None))


CHILD = """
import google.auth, google.cloud.storage as storage
from google.auth.transport.requests import Request

credentials, project = google.auth.default(["https://www.googleapis.com/auth/devstorage.read_write"])
credentials.refresh(Request())
storage.Client(credentials=credentials).bucket("archive").blob("from a child").upload_from_string(project)
"""


def test_a_sub_process_finds_service_and_credentials_in_its_environment(gcs: GcsTwin) -> None:
    gcs.create_bucket("archive")
    began = time.monotonic()

    subprocess.run([sys.executable, "-c", CHILD], check=True, timeout=60)

    assert time.monotonic() - began < 15  # looking for a metadata server alone takes 20
    assert gcs.content("archive", "from a child") == b"twin"
    assert gcs.tokens_issued >= 1
