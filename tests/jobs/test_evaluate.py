"""`relume evaluate`, called as the command calls it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs import evaluate
from jobs.command_line import ExitCode
from model import contract

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture
def images(tmp_path: Path, photo: Array) -> Path:
    """Two photographs of odd sizes, and a file that is none."""
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    Image.fromarray(photo[:61, :75]).save(folder / "a.png")
    Image.fromarray(photo[100:170, 40:90, 1]).save(folder / "deep" / "grey.webp", lossless=True)
    (folder / "SOURCES.md").write_text("where they come from")
    return folder


def test_a_table_has_a_line_for_the_jpeg_and_for_the_model_at_every_quality(
    images: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = evaluate.main(["--images", str(images), "--model", str(tiny_model), "--quality", "10,40"])

    shown = capsys.readouterr().out
    lines = [
        [cell.strip() for cell in line.split("|")[1:3]] for line in shown.splitlines() if line.startswith("| jpeg")
    ]
    assert code == ExitCode.DONE
    assert lines == [["jpeg q10", "jpeg"], ["jpeg q10", "tiny"], ["jpeg q40", "jpeg"], ["jpeg q40", "tiny"]]
    assert "2 images; grey: luma by ITU-R BT.601, 16..235" in shown
    assert "Least gained by tiny at jpeg q10: " in shown


def test_json_holds_the_same_numbers_as_the_means_of_the_single_scores(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    single = tmp_path / "single.csv"
    flags = ["--task", "jpeg,double_jpeg", "--double", "10:50,20:70", "--format", "json", "--per_image", str(single)]

    code = evaluate.main(["--images", str(images), "--model", "none", "--quality", "30", *flags])

    rows = json.loads(capsys.readouterr().out)["rows"]
    scores = list(csv.DictReader(single.read_text().splitlines()))
    assert code == ExitCode.DONE
    assert [row["condition"] for row in rows] == [
        "jpeg q30",
        "double_jpeg q10, shifted, q50",
        "double_jpeg q20, shifted, q70",
    ]
    for row in rows:
        mine = [float(score["psnr"]) for score in scores if score["condition"] == row["condition"]]
        assert len(mine) == row["images"] == 2
        assert row["psnr"] == pytest.approx(np.mean(mine), rel=1e-5)


def test_json_has_null_for_the_infinite_psnr_of_equal_pictures(
    images: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate.main(["--images", str(images), "--model", str(tiny_model), "--task", "clean", "--format", "json"])

    before, after = json.loads(capsys.readouterr().out)["rows"]
    assert before["psnr"] is None
    assert 20 < after["psnr"] < 100


def test_a_baseline_is_measured_where_it_is_named_and_csv_has_a_header(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model", "none", "--task", "deblur", "--blur", "1.2:2", "--baseline", "wiener", "--format", "csv"]

    code = evaluate.main(["--images", str(images), *flags])

    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert code == ExitCode.DONE
    assert [row["method"] for row in rows] == ["degraded", "wiener"]
    assert float(rows[1]["gain"]) > 0.5


def test_colour_is_measured_in_rgb(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    psnr = {}
    for name, flags in {"grey": [], "colour": ["--color"]}.items():
        evaluate.main(["--images", str(images), "--model", "none", "--quality", "10", "--format", "json", *flags])
        psnr[name] = json.loads(capsys.readouterr().out)["rows"][0]["psnr"]

    assert psnr["colour"] < psnr["grey"] - 0.2


def test_two_models_of_one_name_are_told_apart_by_their_folders(
    images: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    twin = shutil.copytree(tiny_model, tmp_path / "twin")

    evaluate.main(["--images", str(images), "--model", str(tiny_model), "--model", str(twin), "--format", "json"])

    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["method"] for row in rows[:3]] == ["jpeg", str(tiny_model), str(twin)]
    assert rows[1]["psnr"] == rows[2]["psnr"]


def test_a_tuned_model_is_told_apart_from_the_shipped_one_whose_name_it_has(
    images: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = shutil.copytree(tiny_model, tmp_path / "twin")
    monkeypatch.setattr(contract, "shipped", lambda: {"tiny": tiny_model})

    evaluate.main(["--images", str(images), "--model", str(twin), "--model", "tiny", "--format", "json"])

    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["method"] for row in rows[:3]] == ["jpeg", str(twin), "tiny"]


def test_what_is_named_twice_counts_once(images: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = ["--model", str(tiny_model)]

    evaluate.main(["--images", str(images), *named, *named, "--quality", "10,10", "--format", "json"])

    table = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in table["rows"]] == ["jpeg", "tiny"]
    assert all(row["images"] == table["images"] for row in table["rows"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--images", "missing"], "--images must be a folder that exists, got missing"),
        (["--task", "jepg"], "did you mean jpeg?"),
        (["--qualty", "10"], "--qualty is no flag; did you mean --quality?"),
        (["--quality", "10,200"], "--quality: a level of jpeg is 1..100 in whole numbers, got '200'"),
        (["--noise", "25"], "--noise sets the levels of denoise, which is not in --task jpeg"),
        (["--baseline", "wiener"], "--baseline must be one of jpeg for jpeg, got wiener"),
        (["--model", "missing"], "--model: missing is no model folder"),
        (["--per_image", "no/such/folder.csv"], "--per_image must be in a folder that exists"),
        (["--limit", "0"], "--limit must be a whole number, at least 1, got 0"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(
    images: Path, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    named = [] if "--images" in flags else ["--images", str(images)]

    code = evaluate.main([*named, *flags])

    shown = capsys.readouterr()
    assert code == ExitCode.USAGE
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def test_a_model_that_does_not_double_the_size_is_refused_for_x2(
    images: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = evaluate.main(["--images", str(images), "--model", str(tiny_model), "--task", "x2"])

    assert code == ExitCode.USAGE
    assert "--task x2 needs a model that gives 2 times the size" in capsys.readouterr().err


def test_a_changed_model_is_refused(
    images: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = shutil.copytree(tiny_model, tmp_path / "changed")
    (changed / "card.md").write_text("something else")

    code = evaluate.main(["--images", str(images), "--model", str(changed)])

    assert code == ExitCode.USAGE
    assert "card.md was changed" in capsys.readouterr().err


def test_a_broken_image_is_named(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "broken.png").write_bytes(b"no picture")

    code = evaluate.main(["--images", str(images), "--model", "none"])

    assert code == ExitCode.USAGE
    assert "broken.png cannot be read as a picture" in capsys.readouterr().err
