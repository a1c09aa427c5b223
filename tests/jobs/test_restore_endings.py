"""How a run ends for those who watch it: the last line of stdout, the log, the metrics."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from jobs import restore
from pipeline import figures, lease

SAMPLES = Path(__file__).parents[2] / "samples" / "archive" / "2016"


@pytest.fixture
def command(tiny_model: Path, tmp_path: Path) -> list[str]:
    """Restores a photograph, and fails on a file that is none."""
    (tmp_path / "archive").mkdir()
    shutil.copyfile(SAMPLES / "garden" / "sumac.jpg", tmp_path / "archive" / "a.jpg")
    (tmp_path / "archive" / "note ü.jpg").write_text("no picture")
    flags = ["--input", str(tmp_path / "archive"), "--output", str(tmp_path / "out"), "--model", str(tiny_model)]
    return [*flags, "--keep_above_quality", "101", "--run_id", "night"]


def test_a_log_in_json_is_an_object_a_line_and_metrics_say_what_the_summary_says(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = restore.main([*command, "--log_format", "json"])

    told = capsys.readouterr()
    lines = [json.loads(line) for line in told.err.splitlines()]
    line = json.loads(told.out.splitlines()[-1])
    assert (code, line["exit"], line["run"]) == (1, 1, "night")
    assert {one["run"] for one in lines} == {"night"}
    (failed,) = [one for one in lines if "reason" in one]
    assert (failed["severity"], failed["image"], failed["stage"], failed["reason"]) == (
        "WARNING", "note ü.jpg", "decode", "not-an-image",
    )  # fmt: skip
    assert lines[-1]["message"].startswith("1 failed, --tolerate allows 0")
    said = figures.read(str(tmp_path / "out"), "night")
    assert said is not None
    assert said["images"] == {name: line[name] for name in said["images"]}
    assert said["images"]["restored"] == 1
    assert said["bytes_read"] == sum(path.stat().st_size for path in (tmp_path / "archive").iterdir())
    assert said["bytes_written"] == (tmp_path / "out" / "a.jpg").stat().st_size
    assert said["batches"] == 1
    assert said["decode_ms"]["max"] > 0
    assert 0 < said["busy_share"] <= 1


def test_a_worker_without_the_gpu_that_it_must_have_stops_the_run_and_the_last_line_says_so(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = restore.main([*command, "--require_gpu"])

    told = capsys.readouterr()
    assert code == 7
    assert json.loads(told.out.splitlines()[-1]) == {"run": "night", "exit": 7}
    assert "no GPU on this worker" in told.err
    assert not (tmp_path / "out" / "a.jpg").exists()


def test_a_run_that_finds_another_at_work_says_so_in_its_last_line(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lease.take(str(tmp_path / "out"), "other", here=False)

    code = restore.main(command)

    told = capsys.readouterr()
    assert code == 11
    assert json.loads(told.out.splitlines()[-1]) == {"run": "night", "exit": 11}
    assert "run other" in told.err
