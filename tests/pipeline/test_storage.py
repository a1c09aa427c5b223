"""Both storages, by the same promises: what is listed is what is read, and nothing that stands is overwritten."""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import google_crc32c
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from pipeline.elements import ImageRef
from pipeline.failures import (
    BadNameError,
    ChangedError,
    ConflictError,
    MissingError,
    TooLargeError,
    UnreadableError,
)
from pipeline.spool import Spool
from pipeline.storage import Created, LocalStorage, ReadFiles, Storage, UsageError, open_storage
from tests.cloud.faults import Fault, FaultPlan
from tests.cloud.gcs import GcsTwin
from tests.pipeline.places import Bucket, Disk, Place

ODD_NAMES = [
    "a b.jpg",
    "100%2F.jpg",
    "K\u00fcste.jpg",
    "Ku\u0308ste.jpg",
    "x/%2e%2e/[1]*?.jpg",
    "日本/写真.jpg",
    "q?a=b&c#d.jpg",
]
LIMIT = 1 << 20


@pytest.fixture(params=["disk", "cloud"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "disk":
        return Disk(tmp_path / "archive")
    return Bucket(request.getfixturevalue("gcs"), "bucket")


@pytest.fixture
def storage(place: Place) -> Storage:
    return open_storage(place.uri)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "archive")


def create(storage: Storage, name: str, data: bytes, attempt: str = "mine") -> Created:
    return storage.create(name, data, content_type="image/jpeg", attempt=attempt)


def found(storage: Storage, name: str) -> ImageRef:
    ref = storage.stat(name)
    assert ref is not None
    return ref


# Both


def test_what_was_put_is_listed_and_read_with_its_digests(place: Place, storage: Storage) -> None:
    for name in ODD_NAMES:
        place.put(name, name.encode())

    files = [storage.read(ref, LIMIT) for ref in storage.list()]

    assert {file.ref.name: file.data for file in files} == {name: name.encode() for name in ODD_NAMES}
    for file in files:
        assert file.ref.size == len(file.data)
        assert file.sha256 == hashlib.sha256(file.data).hexdigest()
        assert file.crc32c == base64.b64encode(google_crc32c.Checksum(file.data).digest()).decode()


def test_folders_and_what_lies_beside_them_are_the_whole_listing(place: Place, storage: Storage) -> None:
    for name in ("top.jpg", "a/1.jpg", "a/b/2.jpg", "ab/3.jpg", "z/4.jpg"):
        place.put(name, b"x")

    folders = list(storage.folders())
    parts = [list(storage.list(folder)) for folder in folders]
    beside = list(storage.list(recursive=False))

    assert folders == ["a/", "ab/", "z/"]
    assert [ref.name for ref in beside] == ["top.jpg"]
    assert [[ref.name for ref in part] for part in parts] == [["a/1.jpg", "a/b/2.jpg"], ["ab/3.jpg"], ["z/4.jpg"]]
    assert sorted([*beside, *parts[0], *parts[1], *parts[2]]) == sorted(storage.list())
    assert list(storage.folders("a/")) == ["a/b/"]


def test_a_prefix_need_not_end_at_a_slash(place: Place, storage: Storage) -> None:
    for name in ("r/a.jpg.1.json", "r/a.jpg.x/b.json", "r/a.jpeg", "r/b", "a.jpg.2.json"):
        place.put(name, b"x")

    assert sorted(ref.name for ref in storage.list("r/a.jpg.")) == ["r/a.jpg.1.json", "r/a.jpg.x/b.json"]
    assert [ref.name for ref in storage.list("r/a.jpg.", recursive=False)] == ["r/a.jpg.1.json"]
    assert list(storage.list("none/")) == []
    assert list(storage.folders("none/")) == []


def test_two_listings_are_in_the_same_order(place: Place, storage: Storage) -> None:
    for name in ("c.jpg", "a/z.jpg", "b.jpg", "a/a.jpg"):
        place.put(name, b"x")

    assert list(storage.list()) == list(storage.list())
    assert len(list(storage.list())) == 4


def test_an_object_written_anew_is_changed_and_not_read_as_if_listed(place: Place, storage: Storage) -> None:
    place.put("a.jpg", b"first")
    (listed,) = storage.list()
    place.put("a.jpg", b"later")

    with pytest.raises(ChangedError):
        storage.read(listed, LIMIT)
    assert storage.read(found(storage, "a.jpg"), LIMIT).data == b"later"


def test_an_object_that_went_away_is_missing(place: Place, storage: Storage) -> None:
    place.put("a/b.jpg", b"x")
    (listed,) = storage.list()
    place.remove("a/b.jpg")

    with pytest.raises(MissingError):
        storage.read(listed, LIMIT)
    with pytest.raises(MissingError):
        storage.read(ImageRef("never.jpg", 0, ""), LIMIT)


def test_an_object_over_the_limit_is_too_large_and_one_at_it_is_not(place: Place, storage: Storage) -> None:
    place.put("a.jpg", bytes(100))
    (listed,) = storage.list()

    assert len(storage.read(listed, 100).data) == 100
    with pytest.raises(TooLargeError, match="100 bytes"):
        storage.read(listed, 99)


def test_small_objects_and_none(place: Place, storage: Storage) -> None:
    place.put("_relume/recipe.json", b"{}")

    assert storage.read_small("_relume/recipe.json") == b"{}"
    assert storage.read_small("_relume/none.json") is None
    assert storage.read_small("_relume/recipe.json/below") is None
    assert storage.stat("none.jpg") is None
    assert storage.stat("../none.jpg") is None


def test_creating_says_what_stood_there_and_never_overwrites(place: Place, storage: Storage) -> None:
    assert create(storage, "x/a b.jpg", b"one") is Created.CREATED
    first = storage.stat("x/a b.jpg")

    assert create(storage, "x/a b.jpg", b"one", attempt="another") is Created.IDENTICAL
    assert create(storage, "x/a b.jpg", b"two", attempt="another") is Created.CONFLICT
    assert create(storage, "x/a b.jpg", b"longer", attempt="another") is Created.CONFLICT
    assert storage.stat("x/a b.jpg") == first
    assert place.contents() == {"x/a b.jpg": b"one"}


def test_an_empty_object_and_one_above_the_clients_limit_for_one_request_arrive_whole(
    place: Place, storage: Storage
) -> None:
    large = os.urandom(9 << 20)

    assert create(storage, "empty", b"") is Created.CREATED
    assert create(storage, "large", large) is Created.CREATED
    assert create(storage, "large", large, attempt="another") is Created.IDENTICAL
    assert place.contents() == {"empty": b"", "large": large}


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "a//b.jpg", "a\\b.jpg", "a\n.jpg"])
def test_nothing_is_written_outside_the_root(name: str, place: Place, storage: Storage) -> None:
    with pytest.raises(BadNameError):
        create(storage, name, b"x")
    assert place.names() == []


def test_of_many_that_create_at_once_one_does(place: Place, storage: Storage) -> None:
    results: list[Created] = []
    barrier = threading.Barrier(6)

    def race(data: bytes) -> None:
        barrier.wait()
        results.append(create(storage, "a.jpg", data, attempt=data.decode()))

    threads = [threading.Thread(target=race, args=(str(number).encode(),)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(how.value for how in results) == 5 * ["conflict"] + ["created"]
    assert len(place.names()) == 1


def test_replacing_and_deleting_take_exactly_the_version_they_are_given(place: Place, storage: Storage) -> None:
    place.put("a.jpg", b"first")
    first = found(storage, "a.jpg")
    storage.replace(first, b"second!", content_type="image/jpeg", attempt="mine")
    second = found(storage, "a.jpg")

    with pytest.raises(ConflictError):
        storage.replace(first, b"third", content_type="image/jpeg", attempt="other")
    storage.delete(first)
    assert place.contents() == {"a.jpg": b"second!"}

    storage.delete(second)
    storage.delete(second)
    assert place.names() == []


def test_what_is_fetched_to_disk_is_what_is_read_and_refused_for_the_same_reasons(
    place: Place, storage: Storage
) -> None:
    for name in ("good.tif", "changed.tif", "gone.tif"):
        place.put(name, bytes(range(256)) * 50_000)
    good, changed, gone = (found(storage, name) for name in ("good.tif", "changed.tif", "gone.tif"))
    place.put("changed.tif", b"other")
    place.remove("gone.tif")

    fetched, read = storage.fetch(good, 1 << 30), storage.read(good, 1 << 30)

    assert fetched.spool.whole() == read.data
    assert (fetched.ref, fetched.crc32c, fetched.sha256) == (read.ref, read.crc32c, read.sha256)
    for ref, most, error in ((changed, 1 << 30, ChangedError), (gone, 1 << 30, MissingError), (good, 9, TooLargeError)):
        with pytest.raises(error):
            storage.fetch(ref, most)


def test_a_spool_is_created_once_and_replaced_by_version_as_bytes_are(place: Place, storage: Storage) -> None:
    # Above 8 MiB the storage client uploads in a session, and above 32 MiB in several requests.
    data = bytes(range(256)) * 160_000
    spool = Spool.written_by(lambda stream: stream.write(data))
    shorter = Spool.written_by(lambda stream: stream.write(data[:-1]))

    how = storage.create("a/b.tif", spool, content_type="image/tiff", attempt="mine")
    again = storage.create("a/b.tif", spool, content_type="image/tiff", attempt="another")
    same = storage.create("a/b.tif", data, content_type="image/tiff", attempt="another")
    other = storage.create("a/b.tif", shorter, content_type="image/tiff", attempt="another")

    assert (how, again, same, other) == (Created.CREATED, Created.IDENTICAL, Created.IDENTICAL, Created.CONFLICT)
    assert place.get("a/b.tif") == data
    storage.replace(found(storage, "a/b.tif"), shorter, content_type="image/tiff", attempt="mine")
    assert place.get("a/b.tif") == data[:-1]
    assert [name for name in place.names() if not name.startswith("a/")] == []


def test_a_storage_can_be_pickled_before_and_after_it_was_used(place: Place, storage: Storage) -> None:
    place.put("a.jpg", b"x")
    before = pickle.loads(pickle.dumps(storage))  # noqa: S301 - our own bytes

    assert list(before.list()) == list(storage.list())
    assert pickle.loads(pickle.dumps(before)) == storage  # noqa: S301 - our own bytes


def test_reading_as_a_stage_sends_each_failure_out_by_the_side_door(place: Place, storage: Storage) -> None:
    for name in ("good.jpg", "changed.jpg", "gone.jpg", "large.jpg"):
        place.put(name, b"x" if name != "large.jpg" else bytes(50))
    refs = list(storage.list())
    place.put("changed.jpg", b"other")
    place.remove("gone.jpg")

    with TestPipeline("FnApiRunner") as root:
        read = root | beam.Create(refs) | ReadFiles(place.uri, max_bytes=49)
        good = read.good | "Good" >> beam.Map(lambda file: (file.ref.name, file.data))
        failed = read.failed | "Bad" >> beam.Map(lambda dead: (dead.ref.name, dead.stage, dead.reason))

        assert_that(good, equal_to([("good.jpg", b"x")]), label="good")
        expected = [
            ("changed.jpg", "read", "changed"),
            ("gone.jpg", "read", "missing"),
            ("large.jpg", "read", "too-large"),
        ]
        assert_that(failed, equal_to(expected), label="failed")


@pytest.mark.parametrize("uri", ["", "s3://bucket/a", "file:///a", "gs://", "gs:///a", "gs://Bucket/a", "gs://a_b c/"])
def test_a_uri_of_no_known_kind_is_refused_by_name(uri: str) -> None:
    with pytest.raises(UsageError, match="give"):
        open_storage(uri)


# Disk


def test_on_disk_links_to_folders_are_not_followed_and_links_to_files_are(disk: Disk, tmp_path: Path) -> None:
    disk.put("a/real.jpg", b"x")
    Disk(tmp_path / "elsewhere").put("secret.jpg", b"secret")
    (disk.root / "loop").symlink_to(disk.root)
    (disk.root / "a" / "up").symlink_to("..")
    (disk.root / "out").symlink_to(tmp_path / "elsewhere")
    (disk.root / "self").symlink_to("self")
    (disk.root / "linked.jpg").symlink_to("a/real.jpg")
    (disk.root / "dangling.jpg").symlink_to("nowhere.jpg")
    storage = open_storage(disk.uri)

    refs = {ref.name: ref for ref in storage.list()}

    assert sorted(refs) == ["a/real.jpg", "dangling.jpg", "linked.jpg", "self"]
    assert list(storage.folders()) == ["a/"]
    assert storage.read(refs["linked.jpg"], LIMIT).data == b"x"
    for name in ("dangling.jpg", "self"):
        with pytest.raises(MissingError):
            storage.read(refs[name], LIMIT)


def test_on_disk_a_pipe_is_not_listed_and_one_in_a_files_place_does_not_hang(disk: Disk) -> None:
    disk.put("a.jpg", b"x")
    storage = open_storage(disk.uri)
    (listed,) = storage.list()
    disk.remove("a.jpg")
    os.mkfifo(disk.root / "a.jpg")

    assert list(storage.list()) == []
    with pytest.raises(ChangedError):
        storage.read(listed, LIMIT)


def test_on_disk_a_file_whose_bytes_cannot_be_read_is_unreadable(disk: Disk) -> None:
    # The first page of a process is never mapped: reading there is an input/output error, for root as well.
    disk.root.mkdir()
    (disk.root / "broken.jpg").symlink_to("/proc/self/mem")
    storage = open_storage(disk.uri)

    with pytest.raises(UnreadableError, match="Input/output error"):
        storage.read(found(storage, "broken.jpg"), LIMIT)


def test_on_disk_a_file_of_another_user_is_unreadable(disk: Disk, tmp_path: Path) -> None:
    disk.put("mine.jpg", b"x")
    (disk.root / "mine.jpg").chmod(0)
    program = textwrap.dedent("""
        import os, sys
        from pipeline.failures import UnreadableError
        from pipeline.storage import open_storage
        storage = open_storage(".")
        (ref,) = storage.list()
        if os.geteuid() == 0:
            os.seteuid(65534)
        try:
            storage.read(ref, 100)
        except UnreadableError as error:
            print("unreadable:", error)
    """)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=disk.root, env=environment, capture_output=True, text=True, check=False
    )

    assert done.stdout == "unreadable: Permission denied\n", done.stderr


def test_on_disk_what_may_not_be_looked_into_or_at_is_listed_itself_and_unreadable(disk: Disk) -> None:
    within = ("lost+found/x.jpg", "names/d.jpg", "names/in/e.jpg", "open/b.jpg", "open/shut/c.jpg")
    for name in ("a.jpg", *within, "z.jpg"):
        disk.put(name, b"x")
    (disk.root / "linked.jpg").symlink_to("names/d.jpg")
    program = textwrap.dedent("""
        from pipeline.elements import ImageRef
        from pipeline.failures import UnreadableError
        from pipeline.listing import list_shard, look_up, shards_of
        from pipeline.storage import open_storage
        storage = open_storage(".")
        print(*(ref.name for ref in storage.list()))
        refs = [ref for shard in shards_of(".") for ref in list_shard(shard, ".")]
        for ref in [*refs, look_up(ImageRef("names/d.jpg", 0, "?"), ".")]:
            try:
                storage.read(ref, 100)
            except UnreadableError as error:
                print(f"{ref.name}: {error}")
    """)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    # Root may look into everything, but for the capability that is taken from it here.
    lesser = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    if lesser and not shutil.which("setpriv"):
        pytest.skip("setpriv (Debian: util-linux) is not installed")
    shut = [disk.root / "lost+found", disk.root / "open" / "shut", disk.root / "names"]
    for folder, mode in zip(shut, (0, 0, 0o644), strict=True):
        folder.chmod(mode)

    command = [*lesser, sys.executable, "-c", program]
    done = subprocess.run(command, cwd=disk.root, env=environment, capture_output=True, text=True, check=False)

    for folder in shut:
        folder.chmod(0o700)
    unreadable = ("linked.jpg", "lost+found", "names/d.jpg", "names/in", "open/shut", "names/d.jpg")
    assert done.stdout.splitlines() == [
        "a.jpg linked.jpg lost+found names/d.jpg names/in open/b.jpg open/shut z.jpg",
        *(f"{name}: Permission denied" for name in unreadable),
    ], done.stderr


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_on_disk_a_file_that_cannot_be_looked_at_for_a_moment_is_unreadable_by_name(
    number: int, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.put("a.jpg", b"x")
    storage = open_storage(disk.uri)
    real = os.stat

    def failing(path: Any, **how: Any) -> os.stat_result:
        if Path(path).name == "a.jpg":
            raise OSError(number, os.strerror(number))
        return real(path, **how)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", failing)  # as disks fail that are at their end, or servers that were restarted
        ref = found(storage, "a.jpg")

    with pytest.raises(UnreadableError, match="could not be looked at"):
        storage.read(ref, LIMIT)


def test_on_disk_a_file_that_grows_while_it_is_read_is_changed(disk: Disk) -> None:
    disk.put("a.jpg", bytes(1000))
    (listed,) = open_storage(disk.uri).list()
    stamp = int(listed.version.split("-")[0])
    with (disk.root / "a.jpg").open("ab") as file:
        file.write(b"more")
    # The clock of some file systems is coarse: the size alone must give it away.
    os.utime(disk.root / "a.jpg", ns=(stamp, stamp))

    with pytest.raises(ChangedError):
        open_storage(disk.uri).read(listed, LIMIT)


def test_on_disk_a_name_that_is_no_utf8_is_listed_as_it_is(disk: Disk) -> None:
    disk.root.mkdir()
    Path(os.fsdecode(os.fsencode(disk.root) + b"/caf\xe9.jpg")).write_bytes(b"x")

    assert [ref.name for ref in open_storage(disk.uri).list()] == ["caf\udce9.jpg"]


def test_on_disk_folders_deeper_than_pythons_stack_are_listed(disk: Disk) -> None:
    disk.root.mkdir()
    handle = os.open(disk.root, os.O_RDONLY)
    # Step by step: the path as a whole is nearly as long as a path may be.
    for _ in range(1100):
        os.mkdir("d", dir_fd=handle)
        inner = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(os.open("a.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=handle))
    os.close(handle)

    (ref,) = open_storage(disk.uri).list()

    assert ref.name == 1100 * "d/" + "a.jpg"
    # Python 3.11 cannot remove it: it walks down by recursion.
    subprocess.run(["rm", "-r", disk.uri], check=True)


def test_on_disk_our_temporary_files_are_not_images(disk: Disk) -> None:
    disk.put(".relume-0123.tmp", b"half")
    disk.put("a/.relume-4567.tmp", b"half")
    disk.put("a/.hidden.jpg", b"x")

    assert [ref.name for ref in open_storage(disk.uri).list()] == ["a/.hidden.jpg"]


@pytest.mark.parametrize("unnamed_files", [True, False])
def test_on_disk_a_written_file_has_the_usual_rights_and_nothing_else_stays(
    unnamed_files: bool, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not unnamed_files:
        monkeypatch.delattr(os, "O_TMPFILE")  # as on systems that lack them
    disk.put("usual", b"")
    storage = open_storage(disk.uri)

    assert create(storage, "new/a.jpg", b"one") is Created.CREATED
    assert create(storage, "new/a.jpg", b"two") is Created.CONFLICT
    storage.replace(found(storage, "new/a.jpg"), b"three", content_type="", attempt="")

    assert disk.contents() == {"usual": b"", "new/a.jpg": b"three"}
    assert (disk.root / "new/a.jpg").stat().st_mode == (disk.root / "usual").stat().st_mode


def test_on_disk_a_kill_in_the_middle_of_a_write_leaves_nothing_behind(disk: Disk) -> None:
    program = textwrap.dedent("""
        import os, signal, sys
        from pipeline.storage import open_storage
        # The last thing before a file gets its name is that its bytes are made durable.
        real = os.fsync
        def kill(handle):
            real(handle)
            if os.fstat(handle).st_size == 1_000_000:
                os.kill(os.getpid(), signal.SIGKILL)
        os.fsync = kill
        open_storage(sys.argv[1]).create("a/b.jpg", bytes(1_000_000), content_type="", attempt="")
    """)

    done = subprocess.run([sys.executable, "-c", program, disk.uri], cwd=Path(__file__).parents[2], check=False)

    assert done.returncode == -9
    assert disk.names() == []
    assert create(open_storage(disk.uri), "a/b.jpg", bytes(1_000_000)) is Created.CREATED


@pytest.mark.parametrize("name", ["taken.jpg", "taken.jpg/below.jpg", "taken.jpg/deep/below.jpg", "folder"])
def test_on_disk_a_file_in_a_folders_place_or_the_other_way_round_is_a_conflict(name: str, disk: Disk) -> None:
    disk.put("taken.jpg", b"foreign")
    disk.put("folder/inside.jpg", b"foreign")
    before = disk.contents()

    if "/" in name:
        with pytest.raises(ConflictError):
            create(open_storage(disk.uri), name, b"mine")
    else:
        assert create(open_storage(disk.uri), name, b"mine") is Created.CONFLICT
    assert disk.contents() == before


def test_on_disk_a_link_in_the_outputs_place_is_a_conflict_and_its_target_stays(disk: Disk, tmp_path: Path) -> None:
    disk.root.mkdir()
    (tmp_path / "precious").write_bytes(b"foreign")
    (disk.root / "a.jpg").symlink_to(tmp_path / "precious")
    (disk.root / "b.jpg").symlink_to(tmp_path / "nothing")

    assert create(open_storage(disk.uri), "a.jpg", b"mine") is Created.CONFLICT
    assert create(open_storage(disk.uri), "b.jpg", b"mine") is Created.CONFLICT
    assert (tmp_path / "precious").read_bytes() == b"foreign"
    assert not (tmp_path / "nothing").exists()


def test_on_disk_a_name_too_long_for_the_file_system_is_a_bad_name(disk: Disk) -> None:
    with pytest.raises(BadNameError, match="File name too long"):
        create(open_storage(disk.uri), "a" * 256, b"x")
    with pytest.raises(BadNameError, match="File name too long"):
        create(open_storage(disk.uri), "a" * 256 + "/b.jpg", b"x")
    assert open_storage(disk.uri).stat("a" * 256) is None


def test_making_a_storage_opens_and_makes_nothing(tmp_path: Path) -> None:
    open_storage(str(tmp_path / "new"))
    open_storage("gs://nobody/has/this")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.write_bytes(b""), "is a file"),
    ],
)
def test_on_disk_an_input_that_is_no_folder_is_refused_by_name(
    spoil: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    spoil(tmp_path / "in")

    with pytest.raises(UsageError, match=f"input .*/in: {message}"):
        LocalStorage(str(tmp_path / "in")).check_readable("input")


def test_on_disk_an_output_below_a_file_is_refused_and_a_new_one_is_not_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(UsageError, match="file is a file"):
        open_storage(str(tmp_path / "file" / "out")).check_writable("output")
    open_storage(str(tmp_path / "new" / "out")).check_writable("output")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP])
@pytest.mark.parametrize("unnamed_files", [True, False])
def test_on_disk_an_output_on_a_file_system_without_hard_links_is_refused_before_anything_is_written(
    number: int, unnamed_files: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **how: Any) -> None:
        raise OSError(number, os.strerror(number))

    output = open_storage(str(tmp_path / "card" / "out"))
    output.check_writable("--output")
    monkeypatch.setattr(os, "link", refuse)  # as FAT does
    if not unnamed_files:
        monkeypatch.delattr(os, "O_TMPFILE")

    with pytest.raises(UsageError, match=r"--output .*/card/out: the file system of .* has no hard links.*; give"):
        output.check_writable("--output")
    assert list(tmp_path.iterdir()) == []


# Cloud Storage


@pytest.fixture
def bucket(gcs: GcsTwin) -> Bucket:
    return Bucket(gcs, "bucket")


def test_in_the_cloud_a_read_and_a_write_are_one_request_each(gcs: GcsTwin, bucket: Bucket) -> None:
    storage = open_storage(bucket.uri)
    bucket.put("a.jpg", b"pixels")
    (listed,) = storage.list()
    gcs.forget_requests()

    storage.read(listed, LIMIT)
    create(storage, "b.jpg", b"restored")

    assert [(one.operation, one.name) for one in gcs.requests()] == [
        ("read", "deep/archive/a.jpg"),
        ("insert", "deep/archive/b.jpg"),
    ]


def test_in_the_cloud_a_listing_of_many_pages_is_a_stream(gcs: GcsTwin, bucket: Bucket) -> None:
    for number in range(1100):
        bucket.put(f"{number:04}.jpg", b"")
    gcs.forget_requests()
    listing = open_storage(bucket.uri).list()

    first = next(listing)

    assert first.name == "0000.jpg"
    assert len(gcs.requests("list")) == 1
    assert len(list(listing)) == 1099
    assert len(gcs.requests("list")) == 2


def test_in_the_cloud_markers_of_folders_are_no_images(bucket: Bucket) -> None:
    bucket.put("a/", b"")
    bucket.put("a/1.jpg", b"x")

    assert [ref.name for ref in open_storage(bucket.uri).list()] == ["a/1.jpg"]


def test_in_the_cloud_names_with_empty_parts_are_listed_for_the_side_door(bucket: Bucket) -> None:
    for name in ("/a.jpg", "b//c.jpg", "../d.jpg"):
        bucket.put(name, b"x")

    assert sorted(ref.name for ref in open_storage(bucket.uri).list()) == ["../d.jpg", "/a.jpg", "b//c.jpg"]


def test_in_the_cloud_a_write_whose_answer_was_lost_is_known_as_ours(gcs: GcsTwin, bucket: Bucket) -> None:
    gcs.faults = FaultPlan(Fault("lose-answer", "insert"))

    how = create(open_storage(bucket.uri), "a.jpg", b"mine", attempt="key-restored")

    gcs.faults.assert_all_fired()
    assert how is Created.ALREADY_MINE
    assert len(gcs.generations("bucket", "deep/archive/a.jpg")) == 1


def test_in_the_cloud_the_same_attempt_is_ours_even_with_other_bytes(bucket: Bucket) -> None:
    storage = open_storage(bucket.uri)
    create(storage, "a.jpg", b"by one device", attempt="key-restored")

    assert create(storage, "a.jpg", b"by another", attempt="key-restored") is Created.ALREADY_MINE
    assert bucket.contents() == {"a.jpg": b"by one device"}


def test_in_the_cloud_a_broken_answer_is_completed_and_checked(gcs: GcsTwin, bucket: Bucket) -> None:
    data = os.urandom(100_000)
    bucket.put("a.jpg", data)
    gcs.faults = FaultPlan(Fault("truncate", "read"), Fault("503", "list"))
    storage = open_storage(bucket.uri)

    (listed,) = storage.list()

    assert storage.read(listed, LIMIT).data == data
    gcs.faults.assert_all_fired()


@pytest.mark.parametrize("faults", [FaultPlan(), FaultPlan(Fault("truncate", "read"))], ids=["whole", "in-parts"])
def test_in_the_cloud_bytes_that_are_not_those_of_their_checksum_are_unreadable(
    faults: FaultPlan, gcs: GcsTwin, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.cloud.store.crc32c", lambda data: "AAAAAA==")
    bucket.put("a.jpg", os.urandom(1000))
    (listed,) = open_storage(bucket.uri).list()
    gcs.faults = faults

    with pytest.raises(UnreadableError):
        open_storage(bucket.uri).read(listed, LIMIT)
    gcs.faults.assert_all_fired()


def test_in_the_cloud_a_replacement_whose_answer_was_lost_is_done(gcs: GcsTwin, bucket: Bucket) -> None:
    storage = open_storage(bucket.uri)
    bucket.put("a.jpg", b"old")
    gcs.faults = FaultPlan(Fault("lose-answer", "insert"))

    storage.replace(found(storage, "a.jpg"), b"new", content_type="image/jpeg", attempt="mine")

    gcs.faults.assert_all_fired()
    assert bucket.contents() == {"a.jpg": b"new"}


def test_in_the_cloud_names_must_leave_room_for_prefix_and_receipt(bucket: Bucket) -> None:
    storage = open_storage(bucket.uri)
    room = 1024 - len("deep/archive/_relume/receipts/.0123456789abcdef.json")

    assert storage.output_name("a" * room)
    with pytest.raises(BadNameError, match="over 1011"):
        storage.output_name("a" * (room + 1))
    with pytest.raises(BadNameError, match="acme"):
        open_storage("gs://bucket").output_name(".well-known/acme-challenge/a.jpg")


def test_in_the_cloud_a_bucket_that_is_not_there_is_refused_by_name(gcs: GcsTwin) -> None:
    with pytest.raises(UsageError, match="input gs://no-bucket/a: cannot be listed"):
        open_storage("gs://no-bucket/a").check_readable("input")
