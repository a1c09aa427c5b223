"""`relume restore` as its user meets it: exit codes, one-line errors, kills and second runs."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage

from jobs import restore
from pipeline import keeper, lease
from pipeline.options import RestoreConfig

ROOT = Path(__file__).parents[2]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Three photographs and a file that is none, from the shipped samples."""
    folder = tmp_path / "archive"
    (folder / "a b").mkdir(parents=True)
    sources = sorted(path for path in (ROOT / "samples" / "archive").rglob("*.jpg") if path.stat().st_size < 60_000)
    for i, path in enumerate(source for source in sources if _opens(source)):
        if i < 3:
            shutil.copyfile(path, folder / "a b" / f"{i}.jpg")
    (folder / "text.jpg").write_text("no picture")
    return folder


def _opens(path: Path) -> bool:
    try:
        with PilImage.open(path) as image:
            image.load()
    except OSError:
        return False
    return True


def outputs(folder: Path) -> dict[str, str]:
    """Digest of every image in an output, by name."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "_relume" not in path.parts
    }


def command(archive: Path, output: Path, model: Path, *more: str) -> list[str]:
    flags = ["--input", str(archive), "--output", str(output), "--model", str(model), "--keep_above_quality", "101"]
    return [*flags, *more]


def last_line(text: str) -> dict[str, object]:
    return json.loads(text.strip().splitlines()[-1])


def test_failures_beyond_the_tolerated_give_exit_1_after_all_others_are_done(
    archive: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = restore.main(command(archive, tmp_path / "out", tiny_model))

    told = capsys.readouterr()
    assert code == 1
    assert "1 failed, --tolerate allows 0" in told.err
    line = last_line(told.out)
    assert (line["inputs"], line["failed"], line["exit"]) == (4, 1, 1)
    assert len(outputs(tmp_path / "out")) == 3
    assert restore.main(command(archive, tmp_path / "out", tiny_model, "--tolerate", "1")) == 0
    assert last_line(capsys.readouterr().out)["skipped"] == 3


def test_a_dry_run_counts_and_writes_nothing(
    archive: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = restore.main(command(archive, tmp_path / "out", tiny_model, "--dry_run"))

    assert code == 0
    assert "4 images: 4 to do" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_cap_of_time_ends_with_10_and_the_same_command_without_it_does_the_rest(
    archive: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = restore.main(command(archive, tmp_path / "out", tiny_model, "--max_minutes", "0"))

    told = capsys.readouterr()
    assert code == 10
    assert told.err.splitlines()[-1] == (
        "relume restore: --max_minutes 0 are over, 4 images are left; the same command again goes on"
    )
    line = last_line(told.out)
    assert (line["inputs"], line["left"], line["exit"]) == (4, 4, 10)
    assert outputs(tmp_path / "out") == {}

    code = restore.main(command(archive, tmp_path / "out", tiny_model, "--max_minutes", "60", "--tolerate", "1"))

    assert code == 0
    assert last_line(capsys.readouterr().out)["left"] == 0
    assert len(outputs(tmp_path / "out")) == 3


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"--input": "nowhere"}, ["--input", "nowhere", "no such folder"]),
        ({"--input": "empty"}, ["--input", "empty", "holds no files"]),
        ({"--output": "archive/out"}, ["--output", "archive/out", "outside --input"]),
        ({"--output": "file"}, ["--output", "file", "is a file"]),
        ({"--model": "nowhere"}, ["--model", "nowhere", "no model folder"]),
        ({"--model": "tampered"}, ["--model", "tampered", "was changed"]),
        ({"--reference": "empty"}, ["--reference", "empty", "holds no files"]),
        ({"--reference": "partial"}, ["--reference", "partial", "a b/1.jpg"]),
        ({"--reference": "nowhere"}, ["--reference", "nowhere", "no such folder"]),
        ({"--strength": "2"}, ["--strength", "2", "0..1"]),
        ({"--max_minutes": "-1"}, ["--max_minutes", "-1", "at least 0"]),
        ({"--runer": "DirectRunner"}, ["--runer", "--runner"]),
        ({"--tolerat": "1"}, ["--tolerat", "--tolerate"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_input_is_one_line_that_names_flag_and_value_and_writes_nothing(
    archive: Path,
    tmp_path: Path,
    tiny_model: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    flags: dict[str, str],
    said: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    shutil.copytree(tiny_model, tmp_path / "tampered")
    (tmp_path / "tampered" / "card.md").write_text("other")
    (tmp_path / "partial" / "a b").mkdir(parents=True)
    for name in ("a b/0.png", "a b/2.png"):
        PilImage.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "partial" / name)
    values = {"--input": "archive", "--output": "out", "--model": str(tiny_model)} | flags
    before = sorted(tmp_path.rglob("*"))

    code = restore.main([word for pair in values.items() for word in pair])

    told = capsys.readouterr()
    assert code == 2
    assert told.out == ""
    assert len(told.err.strip().splitlines()) == 1
    for part in said:
        assert part in told.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_known_jpeg_quality_is_refused_by_a_model_of_another_task(
    archive: Path, tmp_path: Path, tiny_x2_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--input", str(archive), "--output", str(tmp_path / "out"), "--model", str(tiny_x2_model)]

    code = restore.main([*flags, "--assume_quality", "20"])

    assert code == 2
    assert f"--assume_quality is for models of task jpeg, --model {tiny_x2_model} is of x2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_output_is_refused(archive: Path, tmp_path: Path, tiny_model: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)

    assert restore.main(command(archive, locked / "out", tiny_model)) == 2


def test_another_recipe_on_the_same_output_is_refused_with_both_digests(
    archive: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    restore.main(command(archive, tmp_path / "out", tiny_model, "--tolerate", "1"))
    before = outputs(tmp_path / "out")
    capsys.readouterr()

    code = restore.main(command(archive, tmp_path / "out", tiny_model, "--strength", "0.5"))

    assert code == 2
    assert restore.main(command(archive, tmp_path / "out", tiny_model, "--strength", "0.5", "--dry_run")) == 2
    recipe = json.loads((tmp_path / "out/_relume/recipe.json").read_text())["recipe"]
    assert recipe in capsys.readouterr().err
    assert outputs(tmp_path / "out") == before

    (used,) = (path.name for path in (tmp_path / "out/_relume/runs").iterdir())
    assert (
        restore.main(command(archive, tmp_path / "out", tiny_model, "--strength", "0.5", "--replace", "--run_id", used))
        == 2
    )
    assert json.loads((tmp_path / "out/_relume/recipe.json").read_text())["recipe"] == recipe

    mine = tmp_path / "out" / "a b" / "1.jpg"
    mine.write_bytes(b"edited by hand")
    code = restore.main(command(archive, tmp_path / "out", tiny_model, "--strength", "0.5", "--replace"))

    # The note and the edited file fail; the others are made again.
    assert code == 1
    line = last_line(capsys.readouterr().out)
    assert (line["failed"], line["skipped"]) == (2, 0)
    assert mine.read_bytes() == b"edited by hand"
    again = outputs(tmp_path / "out")
    assert any(again[name] != before[name] for name in ("a b/0.jpg", "a b/2.jpg"))


@pytest.mark.slow
def test_a_run_killed_at_any_moment_is_finished_by_the_next(archive: Path, tmp_path: Path, tiny_model: Path) -> None:
    flags = ["--tolerate", "1", "--batch_megapixels", "0.05"]
    assert restore.main(command(archive, tmp_path / "whole", tiny_model, *flags)) == 0
    rng = random.Random(3)

    for moment in range(3):
        output = tmp_path / f"killed {moment}"
        line = [sys.executable, "-m", "jobs.restore", *command(archive, output, tiny_model, *flags)]
        process = subprocess.Popen(
            line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        until = time.monotonic() + 60
        # From the first object on there is something to lose.
        while process.poll() is None and not output.exists() and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 6) if moment else 0)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

        assert restore.main(command(archive, output, tiny_model, *flags)) == 0

        assert outputs(output) == outputs(tmp_path / "whole")
        assert not [path for path in output.rglob("*") if path.name.endswith(".tmp")]


def lease_log(output: Path) -> list[str]:
    """The states that a folder's lease has gone through and that still stand."""
    return [json.loads(path.read_text())["state"] for path in sorted(output.glob("_relume/lease/*.json"))]


def test_of_two_runs_at_once_one_is_refused_and_nothing_is_lost(
    archive: Path, tmp_path: Path, tiny_model: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins when the first holds the lease and has restored nothing yet."""
    output, codes = tmp_path / "out", []
    flags = ["--tolerate", "1"]
    hand_over = restore._run

    def interrupted(plan: Any, options: Any) -> Any:
        monkeypatch.setattr(restore, "_run", hand_over)
        codes.append(restore.main(command(archive, output, tiny_model, *flags, "--run_id", "second")))
        assert outputs(output) == {}
        return hand_over(plan, options)

    monkeypatch.setattr(restore, "_run", interrupted)
    codes.append(restore.main(command(archive, output, tiny_model, *flags, "--run_id", "first")))

    told = capfd.readouterr()
    assert codes == [11, 0]
    (line,) = [line for line in told.err.splitlines() if line.startswith("relume restore:")]
    assert line.startswith(f"relume restore: run first (process {os.getpid()} on ")
    assert f"is at work on {output} since 2" in line
    assert last_line(told.out)["inputs"] == 4
    assert not (output / "_relume/runs/second").exists()
    assert lease_log(output) == ["released"]
    assert len(outputs(output)) == 3


def test_a_run_that_fails_or_is_refused_leaves_the_output_free(
    archive: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"

    def failing_with(error: BaseException) -> Callable[[Any, Any], Any]:
        def fails(plan: Any, options: Any) -> Any:
            raise error

        return fails

    for error, code in ((RuntimeError("no more disk"), 7), (KeyboardInterrupt(), 130)):
        with monkeypatch.context() as patched:
            patched.setattr(restore, "_run", failing_with(error))
            assert restore.main(command(archive, output, tiny_model, "--run_id", f"run-{code}")) == code
        assert lease_log(output) == ["released"]
    assert restore.main(command(archive, output, tiny_model, "--run_id", "run-7")) == 2

    assert lease_log(output) == ["released"]


def test_a_run_whose_place_was_taken_says_so(
    archive: Path,
    tmp_path: Path,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As where a laptop slept for an hour, and another machine has taken the lease over."""
    output = tmp_path / "out"
    hand_over = restore._run

    def slept(plan: Any, options: Any) -> Any:
        held = dataclasses.replace(plan.lease, run="other", token="other")
        now = lease.utc_now() + lease.TERM
        assert lease._append(lease.Entry(2, held, False, now, now + lease.TERM))
        keeper._keepers[plan.lease.token]._until -= 2 * lease.TERM
        return hand_over(plan, options)

    monkeypatch.setattr(restore, "_run", slept)

    assert restore.main(command(archive, output, tiny_model, "--run_id", "mine")) == 11
    assert "run mine has lost its lease: run other" in capsys.readouterr().err
    assert outputs(output) == {}


@pytest.mark.parametrize(
    ("flags", "term"), [([], lease.LAUNCH_TERM), (["--flexrs_goal=COST_OPTIMIZED"], lease.FLEXRS_TERM)]
)
def test_a_job_that_is_only_written_keeps_its_lease_for_the_workers(
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    term: datetime.timedelta,
) -> None:
    output, plans = tmp_path / "out", []
    monkeypatch.setattr(restore, "_run", lambda plan, options: plans.append(plan))
    monkeypatch.setattr(restore, "_runs_here", lambda options: False)

    options = restore.beam_options(RestoreConfig(input=str(archive), output=str(output)), flags)
    restore.start(restore.prepare(RestoreConfig(input=str(archive), output=str(output))), options)

    (plan,) = plans
    found = lease.standing(str(output))
    assert found is not None
    assert (found.lease, found.lease.process, found.released) == (plan.lease, None, False)
    assert found.until - found.written == term
