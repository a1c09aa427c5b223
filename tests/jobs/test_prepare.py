"""`relume prepare`: from photographs to a data set that the other commands take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs import evaluate, prepare
from jobs.command_line import ExitCode
from model import photos
from tests.cloud.gcs import GcsTwin

Array = np.ndarray[Any, np.dtype[Any]]

# tensorflow-datasets 4.9.10 asks protobuf 6 in a way that protobuf calls outdated.
pytestmark = pytest.mark.filterwarnings(r"ignore:label\(\) is deprecated:DeprecationWarning")


@pytest.fixture
def folder(tmp_path: Path, photo: Array) -> Path:
    """Pieces of a photograph; their hashes put some into validation."""
    found = tmp_path / "photos"
    found.mkdir()
    for number in range(48):
        top, left = 3 * number, 5 * number
        Image.fromarray(np.rot90(photo[top : top + 50, left : left + 70], number)).save(found / f"{number:02}.png")
    return found


def test_a_folder_becomes_a_data_set_that_can_be_trained_on_and_measured_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = prepare.main(["--input", str(folder), "--output", str(tmp_path / "sets")])

    summary = json.loads(capsys.readouterr().out)
    assert code == ExitCode.DONE
    assert len(photos.read_source(summary["data"])) == summary["train"]
    assert summary["train"] > summary["validation"] >= 1

    flags = ["--images", summary["data"], "--model", "none", "--quality", "10", "--format", "json"]
    assert evaluate.main(flags) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["images"] == summary["validation"]


def test_a_split_that_nothing_fell_into_is_named(
    photo: Array, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo).save(tmp_path / "photos" / "a.png")

    code = prepare.main(["--input", str(tmp_path / "photos"), "--output", str(tmp_path / "sets")])

    summary = json.loads(capsys.readouterr().out)
    assert code == ExitCode.DONE
    (empty,) = (name for name in ("train", "validation") if not summary[name])
    assert f"none of them fell into the split {empty}" in caplog.text


def test_photographs_in_a_bucket_become_the_same_data_set(
    folder: Path, gcs: GcsTwin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gcs.create_bucket("photos")
    for path in folder.iterdir():
        gcs.put("photos", f"pristine/{path.name}", path.read_bytes())
    summaries: list[dict[str, Any]] = []

    for source in (str(folder), "gs://photos/pristine"):
        flags = ["--input", source, "--output", str(tmp_path / f"sets{len(summaries)}"), "--workers", "1"]
        assert prepare.main(flags) == ExitCode.DONE
        summaries.append(json.loads(capsys.readouterr().out))

    one, two = (photos.fingerprint(photos.read_source(summary["data"])) for summary in summaries)
    assert one == two


@pytest.mark.parametrize("wrong", ["input", "output", "empty"])
def test_what_is_wrong_is_said_in_one_line(
    wrong: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = folder, tmp_path / "sets"
    match wrong:
        case "input":
            source = tmp_path / "missing"
        case "output":
            (target / "photo_archive").mkdir(parents=True)
        case "empty":
            source = tmp_path / "empty"
            source.mkdir()

    code = prepare.main(["--input", str(source), "--output", str(target)])

    message = capsys.readouterr().err
    assert code == ExitCode.USAGE
    assert message.count("\n") == 1
    assert f"--{'input' if wrong == 'empty' else wrong}" in message


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--input", "gs://missing/photos"], "--input gs://missing/photos: cannot be listed"),
        (["--input", "s3://photos"], "--input: 's3://photos' is no place for images: give a folder or gs://"),
        (["--output", "gs://sets"], "--output must be a folder on this machine, got gs://sets"),
        (["--workers", "0"], "--workers must be a whole number in 1..256, got 0"),
    ],
)
def test_a_place_that_cannot_be_used_is_said_in_one_line(
    flags: list[str],
    message: str,
    folder: Path,
    gcs: GcsTwin,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = prepare.main(["--input", str(folder), "--output", str(tmp_path / "sets"), *flags])

    shown = capsys.readouterr().err
    assert code == ExitCode.USAGE
    assert message in shown
    assert shown.count("\n") == 1
    assert not (tmp_path / "sets").exists()
