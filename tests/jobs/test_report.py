import os
import shutil
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from jobs.report import main
from pipeline.elements import ImageRef, Row
from pipeline.recording import RunInfo, WriteReport


def write_run(output: Path, run_id: str, rows: list[Row]) -> None:
    run = RunInfo(run_id, "0.1.0", "ab" * 32, "cd" * 32, {"strength": 1.0})
    with beam.Pipeline(runner=FnApiRunner()) as root:
        every = root | "Rows" >> beam.Create(rows)
        sources = root | "Sources" >> beam.Create([ImageRef(row.name, row.size, row.version) for row in rows])
        _ = (every, sources) | WriteReport("photos", str(output), run)


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output with two runs; made once, because Beam takes its time."""
    folder = tmp_path_factory.mktemp("report") / "out"
    write_run(folder, "z-first", [Row("a.jpg", "1", 10, "kept", "graphics", format="png")])
    write_run(folder, "b-last", [Row("a.jpg", "1", 10, "failed", "damaged", stage="decode", detail="ends early")])
    return folder


@pytest.fixture
def output(two_runs: Path, tmp_path: Path) -> Path:
    """The two runs and one that has no summary yet."""
    folder = Path(shutil.copytree(two_runs, tmp_path / "out"))
    (folder / "_relume/runs/c-still-at-work").mkdir()
    os.utime(folder / "_relume/runs/z-first/summary.json", (1, 1))
    return folder


def page(output: Path, run_id: str) -> Path:
    return output / "_relume/runs" / run_id / "report.html"


def test_the_run_that_ended_last_is_reported(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--output", str(output)]) == 0

    assert "ends early" in page(output, "b-last").read_text()
    assert not page(output, "z-first").exists()
    out = capsys.readouterr().out
    assert "damaged 1" in out
    assert out.splitlines()[-1] == f"report   {page(output, 'b-last')}"


def test_a_run_can_be_named_and_an_older_page_is_replaced(output: Path) -> None:
    page(output, "z-first").write_text("an older page")

    assert main(["--output", str(output), "--run-id", "z-first"]) == 0
    first = page(output, "z-first").read_bytes()
    assert main(["--output", str(output), "--run-id", "z-first"]) == 0

    assert b"graphics" in first
    assert page(output, "z-first").read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--output", "OUT", "--run_id", "b-lost"],
            "--run_id must be a run of OUT that has ended, such as b-last; got b-lost",
        ),
        (
            ["--output", "OUT", "--run_id", "c-still-at-work"],
            "--run_id must be a run of OUT that has ended, such as b-last; got c-still-at-work",
        ),
        (
            ["--output", "OUT", "--run_id", "../runs/b-last"],
            "--run_id must be a run of OUT that has ended, such as b-last; got ../runs/b-last",
        ),
        (["--output", "OUT/empty"], "--output must be the output of a restore job that has ended, got OUT/empty"),
        (["--output", "s3://x"], "--output: 's3://x' is no place for images: give a folder or gs://BUCKET/PREFIX"),
        (["--outptu", "OUT"], "--outptu is no flag; did you mean --output?"),
        ([], "--output DIR is needed: the output of a restore job"),
    ],
)
def test_a_wrong_line_is_refused_in_one_line(
    arguments: list[str], message: str, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([argument.replace("OUT", str(output)) for argument in arguments]) == 2

    assert capsys.readouterr() == ("", f"relume report: {message.replace('OUT', str(output))}\n")
