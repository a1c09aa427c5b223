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

    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == ExitCode.DONE
    assert len(photos.read_source(summary["data"])) == summary["train"]
    assert summary["train"] > summary["validation"] >= 1

    flags = ["--images", summary["data"], "--model", "none", "--quality", "10", "--format", "json"]
    assert evaluate.main(flags) == ExitCode.DONE
    assert json.loads(capsys.readouterr().out)["images"] == summary["validation"]


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
