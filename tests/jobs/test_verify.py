"""`relume verify` as its user meets it: every way in which an output can differ from its receipts, and hostile ones."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage

from jobs import restore, verify, why
from pipeline.elements import ImageRef
from pipeline.names import RECEIPTS, image_key
from tests.cloud.gcs import GcsTwin

Array = np.ndarray[Any, np.dtype[Any]]

ROOT = Path(__file__).parents[2]
NAMES = ("1998/sea side.jpg", "1998/sky.jpg", "dot.png", "Küste.jpg")


def jpeg(pixels: Array, quality: int) -> bytes:
    buffer = io.BytesIO()
    PilImage.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, photo: Array) -> Path:
    """An archive of four images and its output; made once, because Beam takes its time."""
    root = tmp_path_factory.mktemp("verify")
    for i, name in enumerate(NAMES):
        path = root / "archive" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".png"):
            PilImage.fromarray(photo[:1, :1]).save(path)
        else:
            path.write_bytes(jpeg(photo[8 * i : 72 + 8 * i, :96], 20 + 10 * i))
    flags = ["--input", str(root / "archive"), "--output", str(root / "out"), "--model", str(tiny_model)]
    assert restore.main([*flags, "--keep_above_quality", "101"]) == 0
    return root


@pytest.fixture
def output(places: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(places / "out", tmp_path / "out"))


def receipt(output: Path, name: str) -> Path:
    (path,) = (output / RECEIPTS).glob(f"{name}.*.json")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Told:
    """What the command said: its lines about differences, and its last line."""

    def __init__(self, out: str, code: int) -> None:
        lines = out.splitlines()
        self.code = code
        self.summary = json.loads(lines[-1])
        self.differences = [line for line in lines[:-1] if ": " in line]

    @property
    def counts(self) -> dict[str, int]:
        about = {"output", "mode", "seconds", "exit", "seed"}
        return {kind: number for kind, number in self.summary.items() if kind not in about and number}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    def run(output: Path | str, *flags: str) -> Told:
        capsys.readouterr()
        code = verify.main(["--output", str(output), *flags])
        told = Told(capsys.readouterr().out, code)
        assert told.summary["exit"] == code
        return told

    return run


@pytest.mark.parametrize("mode", ["--fast", "--full"])
def test_an_untouched_output_is_as_its_receipts_say_and_stays_untouched(
    output: Path, run: Callable[..., Told], mode: str
) -> None:
    before = contents(output)

    told = run(output, mode)

    assert (told.code, told.counts, told.differences) == (0, {"ok": 4}, [])
    assert told.summary["mode"] == mode.removeprefix("--")
    assert contents(output) == before


@pytest.mark.parametrize("mode", ["--fast", "--full"])
def test_missing_grown_and_stray_objects_are_differences_one_line_each(
    output: Path, run: Callable[..., Told], mode: str
) -> None:
    (output / "1998/sky.jpg").unlink()
    with (output / "dot.png").open("ab") as file:
        file.write(b"!")
    (output / "1998" / "red\x1b[31m\n.jpg").write_bytes(b"not ours")
    (output / "elsewhere").mkdir()
    (output / "elsewhere" / "stray.jpg").write_bytes(b"not ours")

    told = run(output, mode)

    assert told.code == 3
    assert told.counts == {"ok": 2, "missing": 1, "size_differs": 1, "orphan": 2}
    assert [line.split(": ")[:2] for line in told.differences] == [
        ["size differs", "dot.png"],
        ["missing", "1998/sky.jpg"],
        ["orphan", "1998/red\\x1b[31m\\n.jpg"],
        ["orphan", "elsewhere/stray.jpg"],
    ]


def test_a_turned_bit_is_seen_by_digests_and_not_by_sizes(output: Path, run: Callable[..., Told]) -> None:
    path = output / "Küste.jpg"
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)

    assert run(output, "--fast").code == 0
    told = run(output)

    assert (told.code, told.counts, told.summary["mode"]) == (3, {"ok": 3, "digest_differs": 1}, "full")
    assert hashlib.sha256(data).hexdigest() in told.differences[0]


def test_fast_opens_receipts_only_where_no_table_speaks_of_them(output: Path, run: Callable[..., Told]) -> None:
    path = receipt(output, "dot.png")
    path.write_bytes(path.read_bytes()[:100])
    assert run(output, "--fast").code == 0

    shutil.rmtree(output / "_relume/runs")
    told = run(output, "--fast")

    assert (told.code, told.counts) == (3, {"ok": 3, "unreadable_receipt": 1})


def test_a_broken_table_sends_fast_to_the_receipts(output: Path, run: Callable[..., Told]) -> None:
    (table,) = output.glob("_relume/runs/*/images-*.parquet")
    table.write_bytes(table.read_bytes()[:-9])

    assert run(output, "--fast").counts == {"ok": 4}


def changed(path: Path, change: Callable[[dict[str, Any]], Any]) -> bytes:
    said = json.loads(path.read_bytes())
    change(said)
    return json.dumps(said).encode()


HOSTILE: dict[str, Callable[[Path], bytes]] = {
    "empty": lambda path: b"",
    "cut": lambda path: path.read_bytes()[:-40],
    "no utf-8": lambda path: b"\xff" + path.read_bytes(),
    "nested": lambda path: b"[" * 100_000,
    "a list": lambda path: b"[]",
    "infinite": lambda path: changed(path, lambda said: said["before"].update(blockiness=float("inf"))),
    "beyond floats": lambda path: changed(path, lambda said: said["before"].update(blockiness=10**400)),
    "without output": lambda path: changed(path, lambda said: said.pop("output")),
    "size as text": lambda path: changed(path, lambda said: said["output"].update(size="12")),
    "size below 0": lambda path: changed(path, lambda said: said["output"].update(size=-1)),
    "size true": lambda path: changed(path, lambda said: said["output"].update(size=True)),
    "gate of texts": lambda path: changed(path, lambda said: said.update(gate=["passed"])),
    "another format": lambda path: changed(path, lambda said: said.update(relume=2)),
    "another key": lambda path: changed(path, lambda said: said.update(key="0" * 16)),
    "another version": lambda path: changed(path, lambda said: said["source"].update(version="1")),
    "another source": lambda path: changed(path, lambda said: said["source"].update(name="dot.png")),
    "another output": lambda path: changed(path, lambda said: said["output"].update(name="dot.png")),
    "outside": lambda path: changed(path, lambda said: said["output"].update(name="../secret.txt")),
    "absolute": lambda path: changed(path, lambda said: said["output"].update(name="/etc/passwd")),
    "lone surrogate": lambda path: changed(path, lambda said: said["output"].update(name="\ud800")),
    "large": lambda path: path.read_bytes() + b" " * 2**20,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_receipt_is_a_counted_difference_and_its_output_no_orphan(
    output: Path, run: Callable[..., Told], kind: str
) -> None:
    secret = b"nobody may look at this"
    (output.parent / "secret.txt").write_bytes(secret)
    path = receipt(output, "1998/sky.jpg")
    path.write_bytes(HOSTILE[kind](path))

    told = run(output)

    assert (told.code, told.counts) == (3, {"ok": 3, "unreadable_receipt": 1})
    (line,) = told.differences
    assert line.startswith("unreadable receipt: 1998/sky.jpg: ")
    assert line.isprintable()
    assert hashlib.sha256(secret).hexdigest() not in line


def test_what_lies_among_the_receipts_and_is_none_is_counted(output: Path, run: Callable[..., Told]) -> None:
    (output / RECEIPTS / "notes.txt").write_text("no receipt")
    (output / RECEIPTS / f"gone.jpg.{16 * 'a'}.json").symlink_to("nowhere")

    told = run(output)

    assert (told.code, told.counts) == (3, {"ok": 4, "unreadable_receipt": 2})


def test_a_receipt_below_a_link_leads_nowhere(output: Path, run: Callable[..., Told]) -> None:
    outside = output.parent / "outside"
    outside.mkdir()
    (outside / "sky.jpg").write_bytes((output / "1998/sky.jpg").read_bytes())
    (output / "link").symlink_to(outside)
    path = receipt(output, "1998/sky.jpg")
    said = json.loads(path.read_bytes())
    said["source"]["name"] = said["output"]["name"] = "link/sky.jpg"
    ref = ImageRef("link/sky.jpg", 0, said["source"]["version"])
    said["key"] = image_key(ref, said["process"]["recipe"])
    forged = output / RECEIPTS / "link" / f"sky.jpg.{said['key']}.json"
    forged.parent.mkdir()
    forged.write_text(json.dumps(said))

    told = run(output)

    assert told.counts == {"ok": 4, "missing": 1}


def test_an_older_receipt_that_could_not_be_deleted_does_not_count(output: Path, run: Callable[..., Told]) -> None:
    path = receipt(output, "dot.png")
    older = path.with_name(f"dot.png.{16 * '0'}.json")
    older.write_text("of an earlier version")
    os.utime(older, (1, 1))

    assert run(output).counts == {"ok": 4}
    assert run(output, "--fast").counts == {"ok": 4}


def reproduce(places: Path, model: Path, number: int) -> list[str]:
    return ["--reproduce", str(number), "--input", str(places / "archive"), "--model", str(model)]


def test_images_restored_again_are_the_same_bytes(
    places: Path, output: Path, tiny_model: Path, run: Callable[..., Told]
) -> None:
    before = contents(output)

    told = run(output, *reproduce(places, tiny_model, 9))

    assert (told.code, told.counts, told.differences) == (0, {"ok": 4}, [])
    assert contents(output) == before


def forge(output: Path, name: str, data: bytes) -> None:
    """Puts other bytes in the place of an output, and a receipt beside them that agrees."""
    (output / name).write_bytes(data)
    path = receipt(output, name)
    said = json.loads(path.read_bytes())
    digest = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    # Of another length, CRC32C is not what the forger forgot.
    said["output"].update(digest, crc32c=_crc32c(data))
    path.write_text(json.dumps(said))


def _crc32c(data: bytes) -> str:
    from pipeline.storage import crc32c_of

    return crc32c_of(data)


def test_what_no_restoration_gives_is_not_reproduced_though_its_receipt_agrees(
    places: Path, output: Path, tiny_model: Path, photo: Array, run: Callable[..., Told]
) -> None:
    forge(output, "1998/sky.jpg", jpeg(np.flipud(photo[16:80, :96]), 95))
    forge(output, "dot.png", b"no picture at all")
    archive = Path(shutil.copytree(places / "archive", output.parent / "archive"))
    (archive / "Küste.jpg").write_bytes(jpeg(photo[:64, :96], 10))
    (archive / "1998/sea side.jpg").unlink()
    assert run(output).code == 0

    told = run(output, "--reproduce", "4", "--input", str(archive), "--model", str(tiny_model))

    assert (told.code, told.counts) == (3, {"not_reproduced": 4})
    reasons = dict(line.removeprefix("not reproduced: ").split(": ", 1) for line in told.differences)
    assert "within one grey level" in reasons["1998/sky.jpg"]
    assert reasons["dot.png"]
    assert reasons["Küste.jpg"] == "its source was changed since"
    assert "missing" in reasons["1998/sea side.jpg"]


def test_a_known_quality_stands_in_receipts_and_is_taken_again_when_the_output_is_reproduced(
    tmp_path: Path, run: Callable[..., Told], capsys: pytest.CaptureFixture[str]
) -> None:
    # By the built-in model: the tiny one improves nothing, and its images are kept.
    with PilImage.open(next((ROOT / "samples" / "pristine").rglob("foam.webp"))) as picture:
        (tmp_path / "archive").mkdir()
        (tmp_path / "archive" / "a.jpg").write_bytes(jpeg(np.asarray(picture)[:96, :96], 20))
    flags = ["--input", str(tmp_path / "archive"), "--output", str(tmp_path / "out")]

    assert restore.main([*flags, "--assume_quality", "15"]) == 0
    assert restore.main(flags) == 2
    refused = capsys.readouterr().err
    told = run(tmp_path / "out", "--reproduce", "1", "--input", str(tmp_path / "archive"))
    assert why.main(["a.jpg", "--output", str(tmp_path / "out")]) == 0

    said = json.loads(receipt(tmp_path / "out", "a.jpg").read_text())
    assert (said["decision"], said["process"]["assume_quality"]) == ("restored", 15)
    assert said["damage"]["header_quality"] == 20
    assert json.loads((tmp_path / "out/_relume/recipe.json").read_text())["settings"]["assume_quality"] == 15
    assert "recipe" in refused
    assert (told.counts, told.differences) == ({"ok": 1}, [])
    assert "taken for JPEG of quality 15" in capsys.readouterr().out


def test_the_same_seed_chooses_the_same_images(
    places: Path, output: Path, tiny_model: Path, run: Callable[..., Told]
) -> None:
    # Unsound outputs are told without a run of the pipeline.
    for name in NAMES:
        (output / name).unlink()
    chosen = {
        seed: run(output, *reproduce(places, tiny_model, 2), "--seed", str(seed)).differences for seed in range(6)
    }

    assert all(len(lines) == 2 for lines in chosen.values())
    assert len({tuple(lines) for lines in chosen.values()}) > 1
    assert run(output, *reproduce(places, tiny_model, 2), "--seed", "3").differences == chosen[3]


def test_a_model_that_the_output_was_not_made_with_is_named(
    places: Path, output: Path, tiny_model: Path, run: Callable[..., Told], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = json.loads((output / "_relume/recipe.json").read_text())
    recipe["settings"]["model"] = "ab" * 32
    (output / "_relume/recipe.json").write_text(json.dumps(recipe))

    assert verify.main(["--output", str(output), *reproduce(places, tiny_model, 1)]) == 2

    told = capsys.readouterr()
    assert told.out == ""
    assert "ab" * 32 in told.err
    assert json.loads(receipt(output, "dot.png").read_text())["process"]["model"] in told.err


def test_one_receipt_of_another_model_or_recipe_is_not_reproduced(
    places: Path, output: Path, tiny_model: Path, run: Callable[..., Told]
) -> None:
    for name, of, value in (("dot.png", "model", "cd" * 32), ("Küste.jpg", "recipe", "ef" * 32)):
        path = receipt(output, name)
        said = json.loads(path.read_bytes())
        said["process"][of] = value
        source = ImageRef(name, 0, said["source"]["version"])
        said["key"] = image_key(source, said["process"]["recipe"])
        path.unlink()
        path.with_name(f"{name}.{said['key']}.json").write_text(json.dumps(said))
    for folder in ("1998", "_relume/receipts/1998"):
        shutil.rmtree(output / folder)

    told = run(output, *reproduce(places, tiny_model, 4))

    assert told.counts == {"not_reproduced": 2}
    assert any("cd" * 32 in line for line in told.differences)
    assert any("ef" * 32 in line for line in told.differences)


def test_a_bucket_is_verified_fast_without_a_request_for_an_image(
    output: Path, gcs: GcsTwin, run: Callable[..., Told]
) -> None:
    gcs.create_bucket("photos")
    for path in sorted(output.rglob("*")):
        if path.is_file():
            gcs.put("photos", f"deep/{path.relative_to(output).as_posix()}", path.read_bytes())
    gcs.put("photos", f"deep/{RECEIPTS}/../../up.jpg.{16 * 'a'}.json", b"{}")

    assert run("gs://photos/deep").counts == {"ok": 4, "unreadable_receipt": 1}
    gcs.remove("photos", f"deep/{RECEIPTS}/../../up.jpg.{16 * 'a'}.json")
    gcs.put("photos", "deep/dot.png", b"longer or shorter, but not the same")
    gcs.put("photos", "deep//odd.jpg", b"not ours")
    gcs.forget_requests()
    told = run("gs://photos/deep", "--fast")

    assert (told.code, told.counts) == (3, {"ok": 3, "size_differs": 1, "orphan": 1})
    read = {request.name for request in gcs.requests("read")}
    assert read
    assert all("/_relume/runs/" in str(name) for name in read)
    assert {request.operation for request in gcs.requests()} <= {"read", "list", "stat", "get"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--output DIR is needed: the output of a restore job, which is only read"),
        (["--output", "{cwd}/nowhere"], "--output {cwd}/nowhere: no such folder"),
        (["--output", "other"], "--output must be the output of a restore job, got {cwd}/other: it has no receipts"),
        (["--output", "s3://x"], "--output: 's3://x' is no place for images: give a folder or gs://BUCKET/PREFIX"),
        (["--output", "out", "--fats"], "--fats is no flag; did you mean --fast?"),
        (["--output", "out", "--fast", "--full"], "--fast and --full contradict each other: give one of them"),
        (
            ["--output", "out", "--full", "--reproduce", "2", "--input", "x"],
            "--full and --reproduce contradict each other: give one of them",
        ),
        (
            ["--output", "out", "--reproduce", "0", "--input", "x"],
            "--reproduce must be a whole number, at least 1, got 0",
        ),
        (
            ["--output", "out", "--reproduce", "2"],
            "--reproduce restores again: give --input DIR, the archive that the output was made from",
        ),
        (
            ["--output", "out", "--input", "x"],
            "--input is for --reproduce N, which restores again; give both or neither",
        ),
        (["--output", "out", "--reproduce", "2", "--input", "{cwd}/nowhere"], "--input {cwd}/nowhere: no such folder"),
        (
            ["--output", "out", "--reproduce", "2", "--input", "other", "--model", "other"],
            "--model other: other is no model folder: it has no model.json",
        ),
    ],
)
def test_a_wrong_line_is_refused_in_one_line(
    flags: list[str],
    message: str,
    output: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(output.parent)
    (output.parent / "other").mkdir()
    (output.parent / "other" / "a.jpg").write_bytes(b"a file")

    assert verify.main([word.format(cwd=Path.cwd()) for word in flags]) == 2

    assert capsys.readouterr() == ("", f"relume verify: {message.format(cwd=Path.cwd())}\n")
