"""`relume restore` with a model that gives twice the size: the whole way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as PilImage

from jobs import evaluate, restore, verify, why

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, photo: Array) -> Path:
    """A JPEG with a density, a TIFF of two deep pages that would go in bands, and a picture that gets too large."""
    folder = tmp_path_factory.mktemp("x2") / "archive"
    folder.mkdir()
    # Its edges lie beside the JPEG grid, where none of them counts as blockiness.
    soft = photo[3:123, 5:165] // 2 + 60
    PilImage.fromarray(soft).save(folder / "sea.jpg", quality=90, dpi=(300, 300))
    pages = np.stack([soft[:64, :96].astype(np.uint16) * 257] * 2)
    tifffile.imwrite(folder / "deep.tif", pages, photometric="rgb", resolution=(150, 150), resolutionunit=2)
    PilImage.fromarray(np.zeros((300, 400), np.uint8)).save(folder / "wide.png")
    return folder


@pytest.fixture(scope="module")
def output(archive: Path, tiny_x2_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("x2") / "out"
    flags = ["--input", str(archive), "--output", str(folder), "--model", str(tiny_x2_model), "--strength", "0.05"]
    # Its pages would be restored in bands, and wide.png has 0.12 megapixels, but 0.48 when enlarged.
    limits = ["--band_megapixels", "0.001", "--max_megapixels", "0.4"]
    assert restore.main([*flags, *limits, "--tolerate", "1"]) == 0
    return folder


def test_every_picture_has_twice_the_pixels_and_the_size_on_paper_that_it_had(output: Path) -> None:
    with PilImage.open(output / "sea.jpg") as sea:
        assert sea.size == (320, 240)
        assert sea.info["dpi"] == (600, 600)
    with tifffile.TiffFile(output / "deep.tif") as deep:
        assert [page.shape for page in deep.pages] == [(128, 192, 3)] * 2
        assert deep.pages[0].tags["XResolution"].value == (300, 1)


def test_what_would_get_too_large_is_a_dead_letter_that_says_so(output: Path) -> None:
    (failures,) = output.glob("_relume/runs/*/failures-*.jsonl")
    (letter,) = [json.loads(line) for line in failures.read_text().splitlines()]

    assert (letter["name"], letter["reason"]) == ("wide.png", "too-many-pixels")
    assert "the limit is 100000" in letter["detail"]


def test_receipts_hold_reproduce_and_are_told(
    archive: Path, output: Path, tiny_x2_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--output", str(output), "--input", str(archive), "--model", str(tiny_x2_model), "--reproduce", "2"]

    assert verify.main(flags) == 0
    capsys.readouterr()
    assert why.main(["--output", str(output), "sea.jpg"]) == 0

    told = capsys.readouterr().out
    assert "restored, improved" in told
    assert "drift" in told
    assert "quality like JPEG" not in told


def test_it_is_scored_against_the_full_size_beside_bicubic(
    archive: Path, tiny_x2_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--images", str(archive), "--model", str(tiny_x2_model), "--task", "x2", "--limit", "1"]

    assert evaluate.main(flags) == 0

    lines = [line.split("|")[1:3] for line in capsys.readouterr().out.splitlines() if line.startswith("| x2")]
    assert [[cell.strip() for cell in line] for line in lines] == [["x2", "bicubic"], ["x2", "tiny-x2"]]
