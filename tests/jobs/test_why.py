"""`relume why` as its user meets it: one image's story, from its receipts or from the failures of the runs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage

from jobs import restore, why
from pipeline.names import RECEIPTS, RUNS
from tests.cloud.gcs import GcsTwin

Array = np.ndarray[Any, np.dtype[Any]]

RED = "red\x1b[31m\x9b.jpg"


@pytest.fixture(scope="module")
def restored(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, photo: Array) -> Path:
    """The output of two photographs, a palette graphic and two files that fail; made once, as Beam takes its time."""
    root = tmp_path_factory.mktemp("why")
    archive = root / "archive"
    (archive / "1998").mkdir(parents=True)
    for name, quality in (("sea side.jpg", 20), ("sky.jpg", 60)):
        PilImage.fromarray(photo[:72, :96]).save(archive / "1998" / name, quality=quality, dpi=(300, 300))
    PilImage.fromarray(photo[:16, :16]).quantize(4).save(archive / "map.png")
    (archive / "note.jpg").write_text("no picture")
    (archive / RED).write_text("a name that is none")
    flags = ["--input", str(archive), "--output", str(root / "out"), "--model", str(tiny_model), "--run_id", "first"]
    assert restore.main([*flags, "--keep_above_quality", "101", "--tolerate", "2"]) == 0
    return root / "out"


@pytest.fixture
def output(restored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(restored, tmp_path / "out"))


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def tell(output: Path | str, *arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        assert why.main([*arguments, "--output", str(output)]) == code
        told = capsys.readouterr()
        shown = told.err if code == 2 else told.out
        assert all(line.isprintable() for line in shown.splitlines())
        return shown

    return tell


def receipt(output: Path, name: str) -> Path:
    (path,) = (output / RECEIPTS).glob(f"{name}.*.json")
    return path


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    said = json.loads(path.read_bytes())
    change(said)
    path.write_text(json.dumps(said))


def test_an_image_that_was_done_is_told_with_all_that_its_receipt_says(output: Path, tell: Callable[..., str]) -> None:
    path = receipt(output, "1998/sea side.jpg")
    said = json.loads(path.read_text())

    told = tell(output, "1998/sea side.jpg")

    assert told.startswith(f"1998/sea side.jpg: {said['decision']}, {said['reason']}: ")
    for part in (
        said["source"]["uri"],
        f"version {said['source']['version']}",
        said["output"]["sha256"],
        said["damage"]["kind"],
        f"quality {said['damage']['header_quality']}",
        "quality estimate",
        "blockiness",
        "kept: density",
        "not kept: none",
        "run        first",
        said["process"]["model"],
        said["process"]["recipe"],
        path.name,
    ):
        assert part in told
    for check in said["gate"]:
        assert f"{'passed' if check['passed'] else 'FAILED'}  {check['check']} " in told
    assert "bins" in {check["check"] for check in said["gate"]}
    assert "must be at most 0.001" in told


def test_a_check_that_failed_is_told_with_its_value_and_limit(output: Path, tell: Callable[..., str]) -> None:
    def fail(said: dict[str, Any]) -> None:
        check = {"check": "drift", "value": 4.5, "limit": 4.25, "passed": False}
        said.update(decision="kept", reason="gate-drift", gate=[check])

    rewrite(receipt(output, "1998/sky.jpg"), fail)

    told = tell(output, "1998/sky.jpg")

    assert "1998/sky.jpg: kept, gate-drift: the restored picture did not pass the check drift" in told
    assert "FAILED  drift 4.5, must be at most 4.25 (root mean square" in told


def test_an_image_that_was_kept_is_told_with_the_reason_in_words(output: Path, tell: Callable[..., str]) -> None:
    told = tell(output, "map.png")

    assert told.startswith("map.png: kept, palette: an indexed palette")
    assert "the model never saw this image" in told


def test_an_image_that_failed_is_told_by_the_newest_run(output: Path, tell: Callable[..., str]) -> None:
    (first,) = (output / RUNS / "first").glob("failures-*.jsonl")
    second = output / RUNS / "a-second" / first.name
    second.parent.mkdir()
    lines = [json.loads(line) for line in first.read_text().splitlines()]
    second.write_text("".join(json.dumps({**line, "reason": "missing", "detail": "gone"}) + "\n" for line in lines))
    os.utime(first, (1, 1))

    told = tell(output, "note.jpg")
    both = tell(output, "note.jpg", "--all")

    assert told.startswith("note.jpg: failed, missing: ")
    assert "run        a-second" in told
    assert "run        first" not in told
    assert "relume restore --input" in told
    assert both.index("a-second") < both.index("not-an-image")


def test_a_failure_since_the_receipt_stands_first_and_an_older_one_is_for_all(
    output: Path, tell: Callable[..., str]
) -> None:
    line = {"name": "map.png", "version": "2", "stage": "read", "reason": "changed", "detail": "is another"}
    later = output / RUNS / "later" / "failures-00000-of-00001.jsonl"
    later.parent.mkdir()
    later.write_text("no JSON\n[]\n" + json.dumps(line) + "\n")

    told = tell(output, "map.png")
    os.utime(later, (1, 1))
    older = tell(output, "map.png")
    every = tell(output, "map.png", "--all")

    assert told.startswith("map.png: failed (since then), changed: ")
    assert "map.png: kept, palette" in told
    assert older.startswith("map.png: kept, palette")
    assert "failed" not in older
    assert "map.png: failed (before that), changed" in every


def test_older_receipts_are_counted_and_told_when_asked_for(output: Path, tell: Callable[..., str]) -> None:
    older = receipt(output, "map.png").with_name(f"map.png.{16 * '0'}.json")
    older.write_text("{")
    os.utime(older, (1, 1))

    assert tell(output, "map.png").endswith("1 older receipt of this image: --all shows them\n")
    assert "map.png: its receipt (superseded) cannot be read: is no JSON" in tell(output, "map.png", "--all")


def test_a_receipt_that_cannot_be_read_is_told_with_exit_3(output: Path, tell: Callable[..., str]) -> None:
    rewrite(receipt(output, "map.png"), lambda said: said["output"].update(name="../../\x1b]0;x\x07"))

    assert "cannot be read: its output is called '../../\\x1b]0;x\\x07'" in tell(output, "map.png", code=3)
    record = json.loads(tell(output, "map.png", "--json", code=3))
    assert "not named after its source" in record["receipts"][0]["unreadable"]


def test_nothing_from_a_file_reaches_the_terminal_unescaped(output: Path, tell: Callable[..., str]) -> None:
    def spoil(said: dict[str, Any]) -> None:
        said["source"]["uri"] = said["reason"] = said["process"]["run"] = "\x1b[2J\x9b\x7f\n\u202e"
        said["metadata"]["kept"] = ["\x1b[2J"]
        said["damage"] = None

    rewrite(receipt(output, "1998/sky.jpg"), spoil)

    told = tell(output, "1998/sky.jpg")
    record = tell(output, "1998/sky.jpg", "--json")
    failed = tell(output, RED)
    failed_record = tell(output, RED, "--json")

    assert "\\x1b[2J\\x9b\\x7f\\n\\u202e" in told
    assert json.loads(record)["receipts"][0]["reason"] == "\x1b[2J\x9b\x7f\n\u202e"
    assert failed.startswith("red\\x1b[31m\\x9b.jpg: failed, bad-name: ")
    assert json.loads(failed_record)["name"] == RED


def test_json_holds_the_receipts_as_they_are(output: Path, tell: Callable[..., str]) -> None:
    path = receipt(output, "1998/sky.jpg")

    record = json.loads(tell(output, "1998/sky.jpg", "--json"))

    (one,) = record["receipts"]
    assert one.pop("object") == path.relative_to(output).as_posix()
    assert one == json.loads(path.read_text())
    assert record["failures"] == []


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("sky.jpg", "1998/sky.jpg"),
        ("1998/sea_side.jpg", "1998/sea side.jpg"),
        ("notes.jpg", "note.jpg"),
        ("MAP.PNG", "map.png"),
        ("../../1998/sky.jpg", "1998/sky.jpg"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(
    output: Path, tell: Callable[..., str], name: str, near: str
) -> None:
    told = tell(output, name, code=2)

    assert told.startswith(f"relume why: NAME must be an image that a run in {output} met, got {name!r}; ")
    assert told.split("the nearest names: ")[1].split(", ")[0].strip() == repr(near)


def test_a_name_like_no_other_is_refused(output: Path, tell: Callable[..., str]) -> None:
    assert tell(output, "zzzz", code=2).endswith("got 'zzzz'; nor is there anything like it\n")


def test_a_bucket_is_asked_for_one_image_alone(output: Path, gcs: GcsTwin, tell: Callable[..., str]) -> None:
    gcs.create_bucket("photos")
    for path in sorted(output.rglob("*")):
        if path.is_file():
            gcs.put("photos", path.relative_to(output).as_posix(), path.read_bytes())

    assert tell("gs://photos", "map.png").startswith("map.png: kept, palette")
    read = [request.name for request in gcs.requests("read")]
    assert tell("gs://photos", "note.jpg").startswith("note.jpg: failed, not-an-image")

    assert str(receipt(output, "map.png").relative_to(output)) in read
    assert not [name for name in read if name and name.startswith(RECEIPTS) and "map.png" not in name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "out"], "NAME must be one image's path below the archive's root, got none"),
        (["a", "b", "--output", "out"], "NAME must be one image's path below the archive's root, got 'a' and 'b'"),
        (["a"], "--output DIR is needed: the output of a restore job, which is only read"),
        (["a", "--output", "{cwd}/nowhere"], "--output {cwd}/nowhere: no such folder"),
        (["a", "--output", "out", "--jsn"], "--jsn is no flag; did you mean --json?"),
        (
            ["--output", "out", "--", "-a"],
            "NAME must be an image that a run in out met, got '-a'; nor is there anything like it",
        ),
    ],
)
def test_a_wrong_line_is_refused_in_one_line(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()

    assert why.main([word.format(cwd=Path.cwd()) for word in arguments]) == 2

    assert capsys.readouterr() == ("", f"relume why: {message.format(cwd=Path.cwd())}\n")
