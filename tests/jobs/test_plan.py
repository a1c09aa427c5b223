"""`relume plan` as its user meets it: on a folder and in a bucket, before and after a run; and what it caps."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from PIL import Image as PilImage

from jobs import plan, restore
from pipeline.flags import UsageError
from pipeline.options import RestoreConfig
from tests.cloud.gcs import GcsTwin

Array = np.ndarray[Any, np.dtype[Any]]


def files(photo: Array) -> dict[str, bytes]:
    """Three photographs, one of them in a folder, and a note."""
    found = {"note.txt": b"no picture"}
    for number, name in enumerate(("a.jpg", "b/c.jpg", "d.png")):
        buffer = io.BytesIO()
        picture = PilImage.fromarray(photo[: 100 + 8 * number, :200])
        picture.save(buffer, "PNG" if name.endswith("png") else "JPEG", quality=20)
        found[name] = buffer.getvalue()
    return found


MEGAPIXELS = pytest.approx((100 + 108 + 116) * 200 / 1e6)


@pytest.fixture
def archive(tmp_path: Path, photo: Array) -> Path:
    for name, data in files(photo).items():
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    return tmp_path / "in"


def told(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (line,) = capsys.readouterr().out.splitlines()
    return dict(json.loads(line))


def test_a_plan_measures_this_machine_counts_what_is_done_and_writes_nothing(
    archive: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--input", str(archive), "--output", str(tmp_path / "out"), "--model", str(tiny_model)]
    flags += ["--keep_above_quality", "101"]
    before = sorted(tmp_path.rglob("*"))

    assert plan.main([*flags, "--json"]) == 0

    first = told(capsys)
    assert sorted(tmp_path.rglob("*")) == before
    assert (first["listed"], first["done"], first["pending"], first["sampled"]) == (4, 0, 4, 4)
    assert first["bytes"] == sum(path.stat().st_size for path in archive.rglob("*") if path.is_file())
    assert first["sampled_as"] == {"restored": 3, "not-an-image": 1}
    assert first["megapixels"]["expected"] == MEGAPIXELS
    here, priced = first["ways"]
    assert (here["name"], here["cost"], priced["name"], priced["currency"]) == ("this machine", None, "cpu", "USD")
    seconds = here["speed"]["seconds_per_megapixel"]["expected"]
    assert here["hours"]["expected"] == pytest.approx(seconds * first["megapixels"]["expected"] / 3600)
    assert 0 < priced["cost"]["low"] < priced["cost"]["expected"] < priced["cost"]["high"]

    # What a run does, the next plan leaves out.
    assert restore.main([*flags, "--tolerate", "1"]) == 0
    capsys.readouterr()
    assert plan.main([*flags, "--profile", "t4"]) == 0

    text = capsys.readouterr().out
    assert "images   4 images: 1 to do, 3 done before, 0 with names that cannot be used" in text.splitlines()
    assert "not measured" in text
    assert f"{tiny_model}: the model's part of a profile's figure" in text


def test_a_plan_of_a_bucket_takes_a_profiles_figure_and_writes_no_object(
    gcs: GcsTwin, photo: Array, capsys: pytest.CaptureFixture[str]
) -> None:
    gcs.create_bucket("photos")
    gcs.create_bucket("restored")
    for name, data in files(photo).items():
        gcs.put("photos", f"all/{name}", data)
    flags = ["--input", "gs://photos/all", "--output", "gs://restored/all", "--profile", "l4", "--json"]

    assert plan.main([*flags, "--workers", "5", "--price_region", "europe-west1", "--max_cost", "0.1"]) == 0

    found = told(capsys)
    assert (found["listed"], found["megapixels"]["expected"]) == (4, MEGAPIXELS)
    (way,) = found["ways"]
    assert (way["name"], way["workers"]) == ("l4", 5)
    assert any("europe-west1" in line and "check before you rely on" in line for line in found["assumptions"])
    assert found["assumptions"][-1] == "--max_cost 0.1 is less than is to be expected: the run would not begin"
    assert gcs.names("restored") == []


def test_a_run_that_would_cost_too_much_ends_with_8_and_one_line_before_it_writes_anything(
    archive: Path, tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--input", str(archive), "--output", str(tmp_path / "out"), "--model", str(tiny_model), "--profile", "cpu"]

    code = restore.main([*flags, "--max_cost", "0.001"])

    said = capsys.readouterr()
    assert code == 8
    assert json.loads(said.out)["exit"] == 8
    assert said.err.startswith("relume restore: --max_cost 0.001: 4 images are expected to cost 0.02 USD (")
    assert len(said.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()

    assert restore.main([*flags, "--max_cost", "1", "--tolerate", "1"]) == 0


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--sample", "0"], "--sample must be a whole number in 1..10000, got 0"),
        (["--workers", "many"], "--workers must be a whole number in 1..1000, got many"),
        (["--profile", "h100"], "--profile must be one of cpu, t4, l4, a100, got h100; did you mean a100?"),
        (["--prices", "none.toml"], "--prices none.toml: cannot be read: No such file or directory"),
        (["--price_region", "mars"], "--price_region mars: --prices built in has prices of us-central1, europe-west1"),
        (["--jason"], "--jason is no flag; did you mean --json?"),
        (["--input", "nowhere"], "--input nowhere: no such folder"),
    ],
)
def test_a_wrong_line_is_one_line_and_exit_2(
    flags: list[str],
    said: str,
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    code = plan.main(["--input", "in", "--output", "out", *flags])

    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert err.strip() == f"relume plan: {said}"


@pytest.mark.parametrize("cap", [["--max_cost=5", "--profile=l4", "--price_region=mars"], ["--prices=none.toml"]])
def test_prices_that_cannot_be_had_end_a_dry_run_too(
    cap: list[str], archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = restore.main(["--input", str(archive), "--output", str(tmp_path / "out"), "--dry_run", *cap])

    out, err = capsys.readouterr()
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("relume restore: --price")


@pytest.mark.parametrize(("flags", "workers"), [(["--max_num_workers=7"], 7), (["--num_workers=3"], 0), ([], 0)])
def test_dataflow_must_say_how_many_workers_may_cost_money(flags: list[str], workers: int) -> None:
    options = PipelineOptions(["--runner=DataflowRunner", *flags])

    if workers:
        assert restore.paid_workers(options) == workers
        return
    with pytest.raises(UsageError, match="--max_cost needs --max_num_workers"):
        restore.paid_workers(options)
    assert restore.paid_workers(PipelineOptions([])) == 1


def test_money_is_not_counted_while_a_job_waits_for_cheap_workers(archive: Path, tmp_path: Path) -> None:
    config = RestoreConfig(str(archive), str(tmp_path / "out"), max_cost=5.0, profile="cpu")

    with pytest.raises(UsageError, match="--max_cost cannot be had with FlexRS"):
        restore.start(restore.prepare(config), PipelineOptions(["--flexrs_goal=COST_OPTIMIZED"]))

    assert not (tmp_path / "out").exists()
