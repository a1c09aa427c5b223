"""What was done: outputs and receipts that survive kills and replays, one row an image, a summary that adds up."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from pipeline import names
from pipeline.elements import Check, Damage, DeadLetter, File, ImageRef, Judged, Measures, Row, Verdict
from pipeline.failures import BadNameError, ChangedError, ConflictError
from pipeline.listing import ListReceipts, ListSources, SplitPending
from pipeline.recording import (
    RunInfo,
    WriteReport,
    WriteWithReceipt,
    canonical_json,
    check_recipe,
    digest_of,
    failures_of,
    read_rows,
    read_summary,
    receipt,
    row_of_failure,
    rows_of,
    table_of,
    write_image,
)
from pipeline.storage import ReadFiles, Storage, UsageError, make_file, open_storage
from tests.cloud.faults import Fault, FaultPlan
from tests.cloud.gcs import GcsTwin
from tests.pipeline.places import Bucket, Disk, Place

DAMAGE = Damage("jpeg-10", 0.9, 11.5, 0.2, 0.0, 10, recompressed=False)
RESTORED = Verdict(
    "restored", "improved", Measures(28.0, 0.8, 1.9, 11.5), Measures(29.5, 0.85, 1.0, 60.0),
    (Check("bins", 0.0005, 0.001, True),), DAMAGE,
)  # fmt: skip
KEPT = Verdict("kept", "already-good")


def make_run(run_id: str = "run-1", recipe: str = "recipe") -> RunInfo:
    return RunInfo(run_id, "1.2.3", "m" * 64, recipe, {"format": "same", "input": "in"})


def judge(file: File) -> Judged:
    """Stands for all that happens between reading and writing: a restored image is its bytes and a mark."""
    if file.ref.name.startswith("clean"):
        return Judged(file, KEPT, file.data, "png", "png", "", (8, 4, 1))
    data, tables = file.data + b" restored", np.arange(128, dtype=np.uint16).reshape(2, 8, 8)
    kinds = ("icc",), ("thumbnail",)
    return Judged(file, RESTORED, data, "jpeg", "jpeg", "", (8, 4, 2), tables, *kinds, device="NVIDIA L4")


def judged(name: str = "a/b.jpg", data: bytes = b"pixels", version: str = "1") -> Judged:
    return judge(make_file(ImageRef(name, len(data), version), data))


@pytest.fixture(params=["disk", "cloud"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Place, Place]:
    """An archive and its output."""
    if request.param == "disk":
        return Disk(tmp_path / "in"), Disk(tmp_path / "out")
    gcs = request.getfixturevalue("gcs")
    return Bucket(gcs, "source"), Bucket(gcs, "target")


@pytest.fixture
def source(places: tuple[Place, Place]) -> Storage:
    return open_storage(places[0].uri)


@pytest.fixture
def target(places: tuple[Place, Place]) -> Storage:
    return open_storage(places[1].uri)


@pytest.fixture
def output(places: tuple[Place, Place]) -> Place:
    return places[1]


def restore(source_uri: str, target_uri: str, run: RunInfo, *flags: str) -> None:
    """Runs the way of an archive with `judge` in place of everything between reading and writing."""
    with beam.Pipeline(FnApiRunner(), PipelineOptions(list(flags))) as root:
        sources = root | "List" >> ListSources(source_uri)
        work = (sources, root | "Done" >> ListReceipts(target_uri)) | SplitPending(target_uri, run.recipe_digest)
        read = work.pending | beam.Reshuffle() | ReadFiles(source_uri, max_bytes=1 << 20)
        written = read.good | "Judge" >> beam.Map(judge) | WriteWithReceipt(source_uri, target_uri, run)
        failed = (work.failed, read.failed, written.failed) | "Failed" >> beam.Flatten()
        rows = (written.good, work.skipped, failed | beam.Map(row_of_failure)) | "Rows" >> beam.Flatten()
        (rows, sources) | WriteReport(source_uri, target_uri, run)


def outcomes(target_uri: str, run_id: str) -> dict[str, str]:
    return {row.name: row.outcome for row in read_rows(target_uri, run_id)}


def receipts(output: Place) -> dict[str, Any]:
    """Gives all receipts of an output by name of their source; each image has exactly one."""
    found: dict[str, Any] = {}
    for data in output.contents("_relume/receipts/").values():
        said = json.loads(data)
        assert said["source"]["name"] not in found
        found[said["source"]["name"]] = said
    return found


# Receipts


def test_a_receipt_says_from_what_with_what_and_why(source: Storage, target: Storage, output: Place) -> None:
    row = write_image(judged(), source, target, make_run())

    (said,) = receipts(output).values()
    ref = ImageRef("a/b.jpg", 6, "1")
    assert output.names() == [names.receipt_name(ref, "recipe"), "a/b.jpg"]
    assert said["key"] == names.image_key(ref, "recipe")
    assert said["source"]["uri"] == f"{source.uri}/a/b.jpg"
    assert {key: said["source"][key] for key in ("version", "size", "format", "pages")} == {
        "version": "1",
        "size": 6,
        "format": "jpeg",
        "pages": 2,
    }
    assert said["source"]["sha256"] == make_file(ref, b"pixels").sha256
    assert said["source"]["quantization"] == [list(range(64)), list(range(64, 128))]
    assert said["output"]["sha256"] == make_file(ref, b"pixels restored").sha256
    assert said["output"]["crc32c"] == make_file(ref, b"pixels restored").crc32c
    assert (said["output"]["name"], said["output"]["size"]) == ("a/b.jpg", 15)
    assert said["process"] == {
        "run": "run-1",
        "code": "1.2.3",
        "model": 64 * "m",
        "recipe": "recipe",
        "device": "NVIDIA L4",
    }
    assert (said["decision"], said["reason"]) == ("restored", "improved")
    assert said["gate"] == [{"check": "bins", "value": 0.0005, "limit": 0.001, "passed": True}]
    assert (said["before"]["psnr"], said["after"]["psnr"]) == (28.0, 29.5)
    assert said["damage"]["kind"] == "jpeg-10"
    assert said["metadata"] == {"kept": ["icc"], "not_kept": ["thumbnail"]}
    assert (row.output, row.output_size, row.pages, row.damage) == ("a/b.jpg", 15, 2, DAMAGE)


def test_a_kept_image_is_a_copy_to_the_last_byte_with_a_receipt(
    source: Storage, target: Storage, output: Place
) -> None:
    row = write_image(judged("clean.png", b"good"), source, target, make_run())

    assert output.images() == {"clean.png": b"good"}
    assert receipts(output)["clean.png"]["decision"] == "kept"
    assert (row.outcome, row.reason) == ("kept", "already-good")


def test_the_suffix_goes_behind_the_sources_name(source: Storage, target: Storage, output: Place) -> None:
    image = judged("scan.bmp")
    changed = Judged(image.file, RESTORED, b"png", "bmp", "png", ".png", (1, 1, 1))

    row = write_image(changed, source, target, make_run())

    assert row.output == "scan.bmp.png"
    assert output.images() == {"scan.bmp.png": b"png"}


def test_numbers_that_json_has_not_become_null_and_nothing_depends_on_order() -> None:
    assert canonical_json({"b": math.inf, "a": (math.nan, 1.5), "ü": "\udce9"}) == (
        '{"a":[null,1.5],"b":null,"ü":"\\udce9"}\n'.encode()
    )
    assert digest_of({"a": 1, "b": {"c": 2}}) == digest_of({"b": {"c": 2}, "a": 1})
    assert digest_of({"a": 1}) != digest_of({"a": 2})


def test_a_receipt_has_no_clock_in_it(source: Storage, target: Storage) -> None:
    image = judged()
    first = write_image(image, source, target, make_run())
    said = receipt(image, source, _stored(target), make_run())
    time.sleep(0.01)

    assert receipt(image, source, _stored(target), make_run()) == said
    assert write_image(image, source, target, make_run()) == first


def _stored(target: Storage) -> Any:
    from pipeline.recording import Output

    return Output("a/b.jpg", target.address("a/b.jpg"), 15, "c", "s")


# Again and again


def test_writing_again_changes_nothing(source: Storage, target: Storage, output: Place) -> None:
    first = write_image(judged(), source, target, make_run())
    before, standing = output.contents(), list(target.list())

    assert write_image(judged(), source, target, make_run()) == first
    # Another run beside this one: what it says of itself in the receipt does not matter.
    assert write_image(judged(), source, target, make_run("run-2")) == first
    assert output.contents() == before
    assert list(target.list()) == standing


def test_a_run_killed_between_output_and_receipt_is_completed(source: Storage, target: Storage, output: Place) -> None:
    expected = write_image(judged(), source, target, make_run())
    (receipt_name,) = output.contents("_relume/")
    whole = output.get(receipt_name)
    output.remove(receipt_name)
    standing = target.stat("a/b.jpg")

    row = write_image(judged(), source, target, make_run())

    assert row == expected
    assert output.get(receipt_name) == whole
    assert target.stat("a/b.jpg") == standing


def test_a_foreign_file_is_never_overwritten_and_gets_no_receipt(
    source: Storage, target: Storage, output: Place
) -> None:
    output.put("a/b.jpg", b"somebody's own picture")

    with pytest.raises(ConflictError, match=r"a/b\.jpg is not ours"):
        write_image(judged(), source, target, make_run())
    assert output.contents() == {"a/b.jpg": b"somebody's own picture"}


def test_an_output_that_was_edited_by_hand_is_left_alone(source: Storage, target: Storage, output: Place) -> None:
    write_image(judged(version="1"), source, target, make_run())
    edited = b"pixels RESTORED"
    assert len(edited) == len(output.get("a/b.jpg"))
    output.put("a/b.jpg", edited)

    with pytest.raises(ConflictError, match="not what any receipt"):
        write_image(judged(data=b"new", version="2"), source, target, make_run())
    assert output.get("a/b.jpg") == edited


def test_a_changed_source_replaces_the_output_that_its_receipt_proves_to_be_ours(
    source: Storage, target: Storage, output: Place
) -> None:
    write_image(judged(version="1"), source, target, make_run())
    write_image(judged("a/b.jpg.jpg"), source, target, make_run())

    row = write_image(judged(data=b"new", version="2"), source, target, make_run("run-2"))

    assert row.output_size == len(b"new restored")
    assert output.get("a/b.jpg") == b"new restored"
    assert receipts(output)["a/b.jpg"]["source"]["version"] == "2"
    # Its neighbour's receipt begins with the same letters.
    assert receipts(output)["a/b.jpg.jpg"]["source"]["version"] == "1"


def as_png(image: Judged) -> Judged:
    """The same image as `--format png` would write it, done before in some other way."""
    ref = dataclasses.replace(image.ref, again=True)
    file = dataclasses.replace(image.file, ref=ref)
    return dataclasses.replace(image, file=file, output_format="png", suffix=".png")


def test_an_output_that_gets_another_name_does_not_leave_the_older_one_beside_it(
    source: Storage, target: Storage, output: Place
) -> None:
    write_image(judged(), source, target, make_run(recipe="jpeg"))
    write_image(judged("a/other.jpg"), source, target, make_run(recipe="jpeg"))

    write_image(as_png(judged()), source, target, make_run(recipe="png"))

    assert set(output.images()) == {"a/b.jpg.png", "a/other.jpg"}
    assert receipts(output)["a/b.jpg"]["output"]["name"] == "a/b.jpg.png"


def test_a_change_of_name_killed_at_any_step_is_completed(source: Storage, target: Storage, output: Place) -> None:
    write_image(judged(), source, target, make_run(recipe="jpeg"))
    old = output.contents()
    write_image(as_png(judged()), source, target, make_run(recipe="png"))
    whole = output.contents()

    for killed in ({**old, "a/b.jpg.png": whole["a/b.jpg.png"]}, {**old, **whole}, {**whole, **old}):
        for name in output.names():
            output.remove(name)
        for name, data in killed.items():
            output.put(name, data)
        write_image(as_png(judged()), source, target, make_run(recipe="png"))
        assert output.contents() == whole


def test_an_older_output_that_was_edited_stays_beside_the_new_one(
    source: Storage, target: Storage, output: Place
) -> None:
    write_image(judged(), source, target, make_run(recipe="jpeg"))
    edited = b"pixels RESTORED"
    output.put("a/b.jpg", edited)

    write_image(as_png(judged()), source, target, make_run(recipe="png"))

    assert output.get("a/b.jpg") == edited


def test_an_older_output_that_is_another_images_too_stays(source: Storage, target: Storage, output: Place) -> None:
    write_image(as_png(judged()), source, target, make_run())
    same = dataclasses.replace(judged("a/b.jpg.png"), data=output.get("a/b.jpg.png"))
    write_image(same, source, target, make_run())
    image = dataclasses.replace(as_png(judged()), suffix="")

    write_image(image, source, target, make_run(recipe="other"))

    assert set(output.images()) == {"a/b.jpg", "a/b.jpg.png"}


def test_a_receipt_that_cannot_be_read_proves_nothing(source: Storage, target: Storage, output: Place) -> None:
    write_image(judged(version="1"), source, target, make_run())
    (receipt_name,) = output.contents("_relume/")

    for broken in (b"", b"{", b"[]", b'{"output": 7}', b'{"output": {"name": "../x"}, "source": {"version": "1"}}'):
        output.put(receipt_name, broken)
        with pytest.raises(ConflictError):
            write_image(judged(data=b"new", version="2"), source, target, make_run())

    assert output.get("a/b.jpg") == b"pixels restored"


def test_a_replacement_killed_at_any_step_is_completed(source: Storage, target: Storage, output: Place) -> None:
    write_image(judged(version="1"), source, target, make_run())
    old = output.contents("_relume/")
    write_image(judged(data=b"new", version="2"), source, target, make_run())
    whole = output.contents()
    new = output.contents("_relume/")

    for left in (old, {**old, **new}):  # output replaced; then the new receipt as well, the old one not yet deleted
        for name in new:
            output.remove(name)
        for name, data in left.items():
            output.put(name, data)
        write_image(judged(data=b"new", version="2"), source, target, make_run())
        assert output.contents() == whole


def test_a_source_changed_and_changed_back_is_restored_each_time(tmp_path: Path) -> None:
    archive, output = Disk(tmp_path / "in"), Disk(tmp_path / "out")
    archive.put("a.jpg", b"first")
    os.utime(archive.root / "a.jpg", ns=(10**18, 10**18))
    restore(archive.uri, output.uri, make_run("1"))
    archive.put("a.jpg", b"later")
    restore(archive.uri, output.uri, make_run("2"))
    assert output.images() == {"a.jpg": b"later restored"}

    archive.put("a.jpg", b"first")
    os.utime(archive.root / "a.jpg", ns=(10**18, 10**18))
    restore(archive.uri, output.uri, make_run("3"))

    assert output.images() == {"a.jpg": b"first restored"}
    assert len(receipts(output)) == 1
    assert outcomes(output.uri, "3") == {"a.jpg": "restored"}


def test_a_receipt_left_from_before_a_change_is_written_anew_when_the_source_is_changed_back(tmp_path: Path) -> None:
    output = Disk(tmp_path / "out")
    source, target = open_storage(str(tmp_path / "in")), open_storage(output.uri)
    write_image(judged(version="1"), source, target, make_run())
    old = output.contents("_relume/")
    write_image(judged(data=b"new", version="2"), source, target, make_run())
    for name, data in old.items():  # as where a run was killed before it could delete it
        output.put(name, data)
    inexact = dataclasses.replace(judged(), data=b"restored by another device")

    write_image(inexact, source, target, make_run())

    assert output.get("a/b.jpg") == b"restored by another device"
    said = receipts(output)["a/b.jpg"]
    assert (said["source"]["version"], said["output"]["size"]) == ("1", 26)


def test_in_the_cloud_an_older_version_does_not_replace_a_newer_one(gcs: GcsTwin) -> None:
    source, output = Bucket(gcs, "source"), Bucket(gcs, "target")
    target = open_storage(output.uri)
    write_image(judged(data=b"new", version="20"), open_storage(source.uri), target, make_run())
    before = output.contents()

    with pytest.raises(ChangedError, match="20"):
        write_image(judged(version="3"), open_storage(source.uri), target, make_run())
    assert output.contents() == before


def test_a_device_that_is_not_exact_agrees_with_what_its_first_attempt_wrote(
    source: Storage, target: Storage, output: Place
) -> None:
    first = write_image(judged(), source, target, make_run())
    before = output.contents()
    again = judged()
    inexact = Judged(again.file, RESTORED, b"pixels restored otherwise", "jpeg", "jpeg", "", (8, 4, 2))

    row = write_image(inexact, source, target, make_run())

    assert row.output_size == first.output_size
    assert output.contents() == before


def test_in_the_cloud_such_a_device_completes_its_own_output_even_without_a_receipt(gcs: GcsTwin) -> None:
    source, output = Bucket(gcs, "source"), Bucket(gcs, "target")
    target = open_storage(output.uri)
    write_image(judged(), open_storage(source.uri), target, make_run())
    (receipt_name,) = output.contents("_relume/")
    whole = output.get(receipt_name)
    output.remove(receipt_name)
    inexact = dataclasses.replace(judged(), data=b"other bytes")

    write_image(inexact, open_storage(source.uri), target, make_run())

    assert output.get(receipt_name) == whole
    assert output.get("a/b.jpg") == b"pixels restored"


def test_in_the_cloud_a_new_image_costs_two_requests(gcs: GcsTwin) -> None:
    source, output = Bucket(gcs, "source"), Bucket(gcs, "target")

    write_image(judged(), open_storage(source.uri), open_storage(output.uri), make_run())

    assert [one.operation for one in gcs.requests()] == ["insert", "insert"]


def test_in_the_cloud_lost_answers_leave_one_generation_of_output_and_receipt(gcs: GcsTwin) -> None:
    source, output = Bucket(gcs, "source"), Bucket(gcs, "target")
    gcs.faults = FaultPlan(Fault("lose-answer", "insert", nth=1), Fault("lose-answer", "insert", nth=3))

    row = write_image(judged(), open_storage(source.uri), open_storage(output.uri), make_run())

    gcs.faults.assert_all_fired()
    assert row.outcome == "restored"
    assert [len(gcs.generations("target", f"deep/archive/{name}")) for name in output.names()] == [1, 1]
    assert receipts(output)["a/b.jpg"]["output"]["sha256"] == make_file(ImageRef("", 0, ""), b"pixels restored").sha256


def test_a_name_that_cannot_be_written_is_refused_before_anything_is(
    source: Storage, target: Storage, output: Place
) -> None:
    with pytest.raises(BadNameError):
        write_image(judged("../b.jpg"), source, target, make_run())
    with pytest.raises(BadNameError):
        write_image(judged("_relume/b.jpg"), source, target, make_run())
    assert output.names() == []


# Whole runs


def archive_of(place: Place) -> None:
    for name in ("a/1.jpg", "a/2 ü.jpg", "b/3.jpg", "clean.png"):
        place.put(name, name.encode())


def test_every_bundle_may_be_replayed(places: tuple[Place, Place]) -> None:
    archive, output = places
    archive_of(archive)
    output.put("b/3.jpg", b"foreign")

    restore(archive.uri, output.uri, make_run("once"), "--direct_runner_bundle_repeat=2")

    expected = {"a/1.jpg": "restored", "a/2 ü.jpg": "restored", "b/3.jpg": "failed", "clean.png": "kept"}
    assert outcomes(output.uri, "once") == expected
    assert len(list(read_rows(output.uri, "once"))) == 4
    assert output.images() == {
        "a/1.jpg": b"a/1.jpg restored",
        "a/2 ü.jpg": "a/2 ü.jpg restored".encode(),
        "b/3.jpg": b"foreign",
        "clean.png": b"clean.png",
    }
    assert sorted(receipts(output)) == ["a/1.jpg", "a/2 ü.jpg", "clean.png"]
    summary = read_summary(output.uri, "once")
    assert summary is not None
    assert summary["counts"] == {"restored": 2, "kept": 1, "skipped": 0, "failed": 1, "left": 0}


def test_a_second_run_skips_what_is_done_and_writes_nothing_of_it_again(gcs: GcsTwin) -> None:
    archive, output = Bucket(gcs, "source"), Bucket(gcs, "target")
    archive_of(archive)
    restore(archive.uri, output.uri, make_run("1"), "--direct_runner_bundle_repeat=2")
    archive.put("new.jpg", b"new")

    restore(archive.uri, output.uri, make_run("2"))

    expected = dict.fromkeys(("a/1.jpg", "a/2 ü.jpg", "b/3.jpg", "clean.png"), "skipped") | {"new.jpg": "restored"}
    assert outcomes(output.uri, "2") == expected
    assert {len(gcs.generations("target", f"deep/archive/{name}")) for name in output.names()} == {1}
    assert gcs.requests("delete") == []


@pytest.mark.slow
def test_a_run_killed_at_any_moment_and_run_again_ends_like_one_that_was_not(tmp_path: Path) -> None:
    archive = Disk(tmp_path / "in")
    for number in range(30):
        archive.put(f"{number % 3}/{number}.jpg", os.urandom(1000))
    whole, killed = Disk(tmp_path / "whole"), Disk(tmp_path / "killed")
    restore(archive.uri, whole.uri, make_run("1"))
    program = textwrap.dedent("""
        import sys
        from tests.pipeline.test_recording import make_run, restore
        restore(sys.argv[1], sys.argv[2], make_run(sys.argv[3]))
    """)
    # Each time when one more file of the output has appeared: between outputs and receipts as well.
    for attempt, files in enumerate((1, 20, 45)):
        command = [sys.executable, "-c", program, archive.uri, killed.uri, f"killed-{attempt}"]
        run = subprocess.Popen(command, cwd=Path(__file__).parents[2], start_new_session=True)
        while run.poll() is None and (not killed.root.exists() or len(killed.names()) < files):
            time.sleep(0.0005)
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()

    restore(archive.uri, killed.uri, make_run("last"))

    assert killed.images() == whole.images()
    assert sorted(receipts(killed)) == sorted(receipts(whole))
    assert len(outcomes(killed.uri, "last")) == 30


# Rows, tables, summary


ROWS = [
    Row("b.jpg", "2", 20, "restored", "improved", "", "", 1000, 500, 2, "jpeg", "jpeg", "b.jpg", 40,
        Measures(28.0, 0.8, 2.0), Measures(30.0, 0.9, 1.0), DAMAGE),
    Row("a.jpg", "1", 10, "restored", "improved", "", "", 100, 100, 1, "png", "png", "a.jpg", 15,
        Measures(blockiness=1.5), Measures(math.inf, blockiness=1.1)),
    Row("c.jpg", "3", 30, "kept", "already-good", output="c.jpg", output_size=30),
    Row("caf\udce9 [1].jpg", "4", 40, "failed", "bad-name", "list", "no Unicode: \udce9"),
    Row("d.jpg", "5", 50, "skipped", "done-before"),
    Row("e.jpg", "6", 60, "left", "max-minutes"),
]  # fmt: skip


def test_a_table_gives_back_its_rows_sorted_by_name() -> None:
    back = list(rows_of(table_of(ROWS)))

    assert [row.name for row in back] == ["a.jpg", "b.jpg", "c.jpg", "caf\\udce9 [1].jpg", "d.jpg", "e.jpg"]
    assert back[1] == ROWS[0]
    assert back[0].after.psnr == math.inf
    assert (back[0].before.psnr, back[0].damage) == (None, None)
    assert back[4] == ROWS[4]


def test_the_same_rows_give_the_same_table_in_whatever_order_they_come() -> None:
    assert table_of(ROWS) == table_of(reversed(ROWS))
    assert list(rows_of(table_of([]))) == []


def test_a_failure_says_how_to_try_it_again() -> None:
    failure = json.loads(failures_of([ROWS[3]], "/my photos"))

    assert failure["reason"] == "bad-name"
    assert failure["stage"] == "list"
    assert failure["repro"] == (
        "relume restore --input '/my photos' --include 'caf\\udce9 [[]1].jpg' --output relume-repro"
    )


def test_a_dead_letter_becomes_a_row_with_stage_reason_and_detail() -> None:
    dead = DeadLetter(ImageRef("a.jpg", 3, "7"), "decode", "damaged", "ends early")

    assert row_of_failure(dead) == Row("a.jpg", "7", 3, "failed", "damaged", "decode", "ends early")


def report(rows: list[Row], inputs: int, target_uri: str, run: RunInfo) -> None:
    with TestPipeline("FnApiRunner") as root:
        listed = root | "Refs" >> beam.Create([ImageRef(f"{number}", 1, "1") for number in range(inputs)])
        made = (root | "Rows" >> beam.Create(rows, reshuffle=False), listed) | WriteReport("in", target_uri, run)
        # What the transform gives is what stands there.
        assert_that(made | beam.Map(lambda summary: summary["accounted"]), equal_to([True]))


def test_a_summary_adds_up_and_comes_with_its_tables(output: Place) -> None:
    report(ROWS, 6, output.uri, make_run())

    summary = read_summary(output.uri, "run-1")
    assert summary is not None
    assert summary["inputs"] == 6
    assert summary["counts"] == {"restored": 2, "kept": 1, "skipped": 1, "failed": 1, "left": 1}
    assert summary["reasons"]["failed"] == {"bad-name": 1}
    assert summary["megapixels"] == 1.01
    assert (summary["bytes_in"], summary["bytes_out"]) == (100, 85)
    # The other restored image has no reference; an infinite value is in no mean.
    assert summary["before"] == {"psnr": 28.0, "ssim": 0.8, "blockiness": 1.75, "quality": None}
    assert summary["after"] == {"psnr": 30.0, "ssim": 0.9, "blockiness": 1.05, "quality": None}
    assert summary["digests"] == {"model": 64 * "m", "recipe": "recipe"}
    assert summary["settings"] == {"format": "same", "input": "in"}
    folder = "_relume/runs/run-1"
    assert output.names() == [
        f"{folder}/failures-00000-of-00001.jsonl",
        f"{folder}/images-00000-of-00001.parquet",
        f"{folder}/summary.json",
    ]
    assert len(list(read_rows(output.uri, "run-1"))) == 6


def test_a_run_without_failures_has_no_file_of_them(output: Place) -> None:
    report(ROWS[:2], 2, output.uri, make_run())

    assert not [name for name in output.names() if "failures" in name]


@pytest.mark.parametrize(("rows", "inputs"), [(4, 5), (5, 4)])
def test_a_run_that_lost_or_doubled_an_input_says_so_and_fails(rows: int, inputs: int, output: Place) -> None:
    with pytest.raises(RuntimeError, match=f"{inputs} inputs were listed"):
        report(ROWS[:rows], inputs, output.uri, make_run())

    summary = read_summary(output.uri, "run-1")
    assert summary is not None
    assert summary["accounted"] is False


def test_two_runs_with_one_id_do_not_overwrite_each_other(output: Place) -> None:
    report(ROWS[:2], 2, output.uri, make_run())
    before = output.contents()

    with pytest.raises(RuntimeError, match="two runs have the same run id"):
        report(ROWS[1:3], 2, output.uri, make_run())
    assert output.contents() == before


def test_a_run_that_has_not_ended_has_no_summary(output: Place) -> None:
    assert read_summary(output.uri, "none") is None
    assert list(read_rows(output.uri, "none")) == []


@pytest.mark.parametrize("run_id", ["", "a/b", "..", "a\n"])
def test_a_run_id_is_a_plain_name(run_id: str) -> None:
    with pytest.raises((ValueError, BadNameError)):
        make_run(run_id)


# Recipes


def test_the_first_recipe_of_an_output_stays_its_recipe(output: Place) -> None:
    check_recipe(output.uri, "one", {"model": "1"})
    check_recipe(output.uri, "one", {"model": "1"})

    with pytest.raises(UsageError, match=r"recipe one, this run has two.*--replace"):
        check_recipe(output.uri, "two", {"model": "2"})
    (recipe,) = output.contents().values()
    assert json.loads(recipe) == {"relume": 1, "recipe": "one", "settings": {"model": "1"}}


def test_a_recipe_that_replaces_makes_all_again_and_leaves_alone_what_is_not_ours(tmp_path: Path) -> None:
    archive, output = Disk(tmp_path / "in"), Disk(tmp_path / "out")
    archive_of(archive)
    check_recipe(output.uri, "one", {})
    restore(archive.uri, output.uri, make_run("1", recipe="one"))
    output.put("b/3.jpg", b"edited by hand")

    check_recipe(output.uri, "two", {}, replace=True)
    restore(archive.uri, output.uri, make_run("2", recipe="two"))

    expected = {"a/1.jpg": "restored", "a/2 ü.jpg": "restored", "b/3.jpg": "failed", "clean.png": "kept"}
    assert outcomes(output.uri, "2") == expected
    assert output.get("b/3.jpg") == b"edited by hand"
    done = {name: said["process"]["recipe"] for name, said in receipts(output).items()}
    assert done == {"a/1.jpg": "two", "a/2 ü.jpg": "two", "b/3.jpg": "one", "clean.png": "two"}
    check_recipe(output.uri, "two", {})
    with pytest.raises(UsageError):
        check_recipe(output.uri, "one", {})
