"""Commands whose model lies in Cloud Storage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jobs import restore
from pipeline import models
from tests.cloud.gcs import GcsTwin

PHOTO = Path(__file__).parents[2] / "samples" / "archive" / "2016" / "garden" / "sumac.jpg"


@pytest.fixture
def command(gcs: GcsTwin, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A command that restores one photograph with a model in a bucket."""
    monkeypatch.setenv(models.CACHE, str(tmp_path / "cache"))
    (tmp_path / "archive").mkdir()
    shutil.copyfile(PHOTO, tmp_path / "archive" / "a.jpg")
    gcs.create_bucket("models")
    for path in tiny_model.rglob("*"):
        if path.is_file():
            gcs.put("models", f"tiny/{path.relative_to(tiny_model).as_posix()}", path.read_bytes())
    flags = ["--input", str(tmp_path / "archive"), "--keep_above_quality", "101"]
    return [*flags, "--model", "gs://models/tiny"]


def test_a_model_in_a_bucket_restores_as_the_same_folder_does(
    command: list[str], tmp_path: Path, tiny_model: Path
) -> None:
    assert restore.main([*command, "--output", str(tmp_path / "cloud")]) == 0
    assert restore.main([*command[:-1], str(tiny_model), "--output", str(tmp_path / "here")]) == 0

    assert (tmp_path / "cloud" / "a.jpg").read_bytes() == (tmp_path / "here" / "a.jpg").read_bytes()
    cloud, here = (
        json.loads(next((tmp_path / folder / "_relume/receipts").iterdir()).read_text()) for folder in ("cloud", "here")
    )
    assert cloud["key"] == here["key"]
    assert cloud["process"]["device"].partition(",")[0] == "cpu"


def test_a_file_changed_in_the_bucket_is_one_line_and_nothing_is_written(
    command: list[str], gcs: GcsTwin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gcs.put("models", "tiny/saved_model/saved_model.pb", b"another program")

    code = restore.main([*command, "--output", str(tmp_path / "out")])

    told = capsys.readouterr()
    assert (code, told.out) == (2, "")
    (line,) = told.err.strip().splitlines()
    assert line.startswith("relume restore: --model gs://models/tiny: gs://models/tiny/saved_model/saved_model.pb was")
    assert not (tmp_path / "out").exists()
