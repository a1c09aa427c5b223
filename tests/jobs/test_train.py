"""`relume train`, called as the command calls it: a tiny run, its folder, and a run that goes on after a kill."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jobs import recipes, train
from jobs.command_line import ExitCode

Array = np.ndarray[Any, np.dtype[Any]]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, photo: Array) -> Path:
    folder = tmp_path_factory.mktemp("data") / "photos"
    folder.mkdir()
    Image.fromarray(photo).save(folder / "a.png")
    Image.fromarray(photo[:100, :90, 0]).save(folder / "b.png")
    return folder


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory, photo: Array) -> Path:
    folder = tmp_path_factory.mktemp("data") / "others"
    folder.mkdir()
    Image.fromarray(photo[:, ::-1]).save(folder / "a.png")
    Image.fromarray(photo[:100, 90:0:-1, 0]).save(folder / "b.png")
    return folder


def command(data: Path, output: Path, *flags: str) -> list[str]:
    return ["--recipe", "smoke", "--data", str(data), "--output", str(output), "--precision", "float32", *flags]


@pytest.fixture(scope="module")
def run(data: Path, others: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    output = tmp_path_factory.mktemp("runs") / "run"
    assert train.main(command(data, output, "--steps", "8", "--validation", str(others))) == ExitCode.DONE
    return output


def test_a_run_ends_as_a_model_that_the_restorer_loads(run: Path, photo: Array) -> None:
    from model.restorer import Restorer, Task

    restorer = Restorer.load(run / "model")

    assert restorer.contract.name == "smoke"
    assert restorer.contract.recipe["steps"] == 8
    assert restorer.contract.data["photos"] == 2
    assert restorer.contract.data["megapixels"] == pytest.approx((203 * 317 + 100 * 90) / 1e6, abs=1e-3)
    assert restorer.restore([Task(photo)])[0].shape == photo.shape


def test_what_is_exported_is_the_average_of_the_weights(run: Path) -> None:
    from model import exporting

    network, _ = exporting.load_network(run / "model")
    exported = network.get_weights()
    with np.load(run / "checkpoint.npz") as saved:
        values = [saved[f"v{i}"] for i in range(len(saved.files) - 2)]

    same = [i for i, value in enumerate(values) if value.shape == exported[0].shape and _near(value, exported[0])]
    assert same
    assert 0 not in same  # the first variable is the stem's kernel itself; its average stands among the optimizer's


def _near(a: Array, b: Array) -> bool:
    return bool(np.allclose(a, b, rtol=1e-3, atol=1e-6))  # shipped as float16


def test_the_card_and_the_contract_hold_the_scores_that_were_measured(run: Path) -> None:
    card = (run / "model" / "card.md").read_text()
    scores = json.loads((run / "model" / "model.json").read_text())["scores"]

    assert card.startswith("# smoke\n")
    assert "Trained for 8 of 8 steps on 2 photographs" in card
    assert scores["pictures"] == 2
    grey, colour = scores["grey"]["rows"], scores["colour"]["rows"]
    assert [row["condition"] for row in grey][:8:2] == ["jpeg q10", "jpeg q20", "jpeg q30", "jpeg q40"]
    assert f"| {grey[0]['psnr']:.2f} |" in card
    assert f"| {colour[1]['psnr']:.2f} |" in card
    assert 0 <= scores["quality_error"]["with_header"] <= scores["quality_error"]["without_header"] <= 95


def test_the_card_shows_pictures_of_validation_that_the_contract_names(run: Path, tmp_path: Path) -> None:
    from model import contract

    model = shutil.copytree(run / "model", tmp_path / "model")
    (shown,) = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (model / "card.md").read_text())

    with Image.open(model / shown) as picture:
        assert picture.size == (3 * 160 + 2 * 4, 2 * (160 + 18))
    assert (model / shown).stat().st_size <= 200_000
    assert shown in contract.read(model).files
    (model / shown).write_bytes(b"another picture")
    with pytest.raises(contract.ModelError, match=f"{shown} was changed"):
        contract.read(model)


def test_the_card_of_a_tuned_model_tells_what_it_came_from_and_how_good_that_was(
    run: Path, data: Path, tmp_path: Path, photo: Array
) -> None:
    from model import contract

    (tmp_path / "others").mkdir()
    Image.fromarray(photo[:40, :48]).save(tmp_path / "others" / "a.png")
    flags = ["--init", str(run / "model"), "--max_minutes", "0", "--validation", str(tmp_path / "others")]
    assert train.main(command(data, tmp_path / "tuned", *flags)) == ExitCode.TIME_CAP

    start, tuned = contract.read(run / "model"), contract.read(tmp_path / "tuned" / "model-0")
    card = (tmp_path / "tuned" / "model-0" / "card.md").read_text()
    assert tuned.recipe["init"] == {"name": "smoke", "digest": start.digest}
    assert tuned.recipe["part"] == "rest"
    assert f"Tuned from the model `smoke`, digest `{start.digest[:12]}`" in card
    # Nothing was learnt yet: both do the same.
    rows = {row["method"]: row["psnr"] for row in tuned.scores["grey"]["rows"] if row["condition"] == "jpeg q10"}
    assert rows["before tuning"] == rows["smoke"]
    assert f"| jpeg q10 | before tuning | {rows['smoke']:.2f} |" in card


def test_a_run_shows_scalars_and_pictures_on_the_way(run: Path) -> None:
    (events,) = (run / "tensorboard").iterdir()

    assert b"learning_rate" in events.read_bytes()
    with Image.open(run / "preview.png") as preview:
        assert preview.size == (3 * 128, 2 * 128)


def test_a_second_call_finds_everything_done(
    run: Path, data: Path, others: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    before = (copy / "model" / "model.json").stat().st_mtime_ns

    code = train.main(command(data, copy, "--steps", "8", "--validation", str(others)))

    assert code == ExitCode.DONE
    assert json.loads(capsys.readouterr().out) == {
        "step": 8,
        "steps": 8,
        "finished": True,
        "model": str(copy / "model"),
    }
    assert (copy / "model" / "model.json").stat().st_mtime_ns == before


def test_the_same_folder_with_another_recipe_is_refused(
    run: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = train.main(command(data, run, "--steps", "9"))

    assert code == ExitCode.USAGE
    assert "of another run (recipe differ): use another folder" in capsys.readouterr().err


def test_no_time_writes_the_model_so_far_and_says_so(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = train.main(command(data, tmp_path / "run", "--max_minutes", "0"))

    assert code == ExitCode.TIME_CAP
    assert json.loads(capsys.readouterr().out)["finished"] is False
    card = (tmp_path / "run" / "model-0" / "card.md").read_text()
    assert "Trained for 0 of 60 steps" in card
    assert "Not measured" in card
    assert "![" not in card


def test_a_model_is_trained_on_from_its_weights_at_a_tenth_of_the_rate(run: Path, data: Path, tmp_path: Path) -> None:
    from model import exporting

    code = train.main(command(data, tmp_path / "tuned", "--init", str(run / "model"), "--max_minutes", "0"))

    before, _ = exporting.load_network(run / "model")
    after, agreed = exporting.load_network(tmp_path / "tuned" / "model-0")
    assert code == ExitCode.TIME_CAP
    assert agreed.recipe["learning_rate"] == pytest.approx(0.1 * recipes.load("smoke").learning_rate)
    for a, b in zip(before.get_weights(), after.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_tuning_on_odd_pictures_restores_them_better(tmp_path: Path) -> None:
    """Fine dark lines on a bright ground, as in old engravings: what the first pictures, soft ones, have not."""
    from model import evaluation
    from model.restorer import Restorer

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    soft = 128 + 60 * np.sin(y / 31) * np.cos(x / 23)
    lines = np.where((x + 3 * np.sin(y / 9)) % 6 < 2, 30.0, 225.0)
    for name, base in (("soft", soft), ("odd", lines), ("others", lines[::-1, ::-1])):
        (tmp_path / name).mkdir()
        for number in range(3):
            noisy = np.clip(base + rng.normal(0, 2, base.shape), 0, 255).astype(np.uint8)
            Image.fromarray(np.roll(noisy, 37 * number, axis=1)).save(tmp_path / name / f"{number}.png")

    train.main(command(tmp_path / "soft", tmp_path / "first", "--steps", "120"))
    first = tmp_path / "first" / "model"
    flags = ["--init", str(first), "--steps", "400"]
    train.main(command(tmp_path / "odd", tmp_path / "tuned", *flags))

    psnr = {}
    for name, folder in {"first": first, "tuned": tmp_path / "tuned" / "model"}.items():
        methods: list[evaluation.Method] = [evaluation.Model(name, Restorer.load(folder))]
        pictures = evaluation.read_pictures(str(tmp_path / "others"), colour=False)
        scores = evaluation.evaluate(pictures, evaluation.conditions("jpeg", [(10,)]), {"jpeg": methods})
        psnr[name] = evaluation.summarise(scores)[0].psnr
    assert psnr["tuned"] > psnr["first"] + 0.2


@pytest.mark.slow
def test_a_run_says_nothing_but_its_own_lines(data: Path, tmp_path: Path) -> None:
    """In a process of its own, at the log level that a command has; with leaky blocks, as what ships has them."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "2"}
    start = [sys.executable, "-m", "jobs.train", "--recipe", "jpeg_s", "--data", str(data), "--steps", "1"]
    start += ["--output", str(tmp_path / "run")]

    done = subprocess.run(start, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)

    assert [line for line in done.stderr.splitlines() if " jobs.train: " not in line] == []


@pytest.mark.slow
def test_a_run_killed_twice_ends_with_the_weights_of_one_that_was_not(data: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def started(output: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.train", *command(data, output, "--steps", "40")],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
        )

    assert started(whole).wait() == ExitCode.DONE
    checkpoint = parts / "checkpoint.npz"
    for _ in range(2):
        seen = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = started(parts)
        while process.poll() is None and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == seen):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (parts / "model").exists()
    assert started(parts).wait() == ExitCode.DONE

    with np.load(whole / "checkpoint.npz") as a, np.load(checkpoint) as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])
    assert (whole / "model" / "weights.npz").read_bytes() == (parts / "model" / "weights.npz").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_a_run_on_jax_and_two_devices_is_exported_by_tensorflow(data: Path, tmp_path: Path) -> None:
    start = [sys.executable, "-m", "jobs.train", *command(data, tmp_path / "run", "--steps", "4")]
    two = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    trained = subprocess.run(start, cwd=ROOT, env={**os.environ, **two}, capture_output=True, text=True, check=False)
    before = (tmp_path / "run" / "checkpoint.npz").read_bytes()

    code = train.main(command(data, tmp_path / "run", "--steps", "4"))

    assert trained.returncode == ExitCode.DONE, trained.stderr
    assert "a model folder is written by TensorFlow" in trained.stderr
    assert code == ExitCode.DONE
    assert (tmp_path / "run" / "checkpoint.npz").read_bytes() == before
    assert (tmp_path / "run" / "model" / "model.json").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--recipe", "jpeg_x"], "smoke, x2_s, got jpeg_x; did you mean"),
        (["--data", "missing"], "--data must be a folder that exists, or tfds:NAME, got missing"),
        (["--validation", "missing"], "--validation must be a folder that exists, got missing"),
        (["--init", "missing"], "--init: missing is no model folder"),
        (["--steps", "0"], "--steps must be a whole number, at least 1, got 0"),
        (["--max_minutes", "-1"], "--max_minutes must be a number, at least 0, got -1"),
        (["--output", "gs://bucket/run"], "--output must be a folder on this machine, got gs://bucket/run"),
        (["--precision", "float16"], "--precision must be one of auto, float32, bfloat16"),
        (["--setps", "5"], "--setps is no flag; did you mean --steps?"),
        (["--data", "tfds:no_such_data_set"], "--data: tfds:no_such_data_set cannot be had from TFDS"),
        (["--init", "deblur-s"], "--init deblur-s must be a model for jpeg, got one for deblur"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(
    flags: list[str], message: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = train.main([*command(data, tmp_path / "run"), *flags])

    shown = capsys.readouterr()
    assert code == ExitCode.USAGE
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_that_the_run_cannot_have_is_refused_before_anything_is_read(
    run: Path, data: Path, others: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for output, message in (
        (data / "a.png" / "run", "--output must be a folder that can be written to, got"),
        (data / "run", "--output must not lie in --data, got"),
        (others / "more" / "run", "--output must not lie in --validation, got"),
        (run / "model" / "tuned", "--output must not lie in --init, got"),
    ):
        code = train.main(command(data, output, "--validation", str(others), "--init", str(run / "model")))

        assert code == ExitCode.USAGE
        assert message in capsys.readouterr().err
    assert not (data / "run").exists()
    assert not (others / "more").exists()
    assert not (run / "model" / "tuned").exists()


def test_photographs_for_validation_are_not_trained_on(
    data: Path, others: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    from model import contract

    both = shutil.copytree(data, tmp_path / "both")
    shutil.copytree(others, both / "held")
    command_line = command(both, tmp_path / "run", "--max_minutes", "0", "--validation")

    assert train.main([*command_line, str(both / "held")]) == ExitCode.TIME_CAP
    assert contract.read(tmp_path / "run" / "model-0").data["photos"] == 2
    assert "2 photographs are among those for validation too: not trained on" in caplog.text

    assert train.main([*command_line, str(both)]) == ExitCode.USAGE
    assert "--validation must leave photographs to train on" in capsys.readouterr().err


def test_another_run_s_folder_is_left_as_it_was(
    run: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    before = sorted(path.name for path in copy.rglob("*"))

    assert train.main(command(data, copy, "--steps", "9")) == ExitCode.USAGE

    assert sorted(path.name for path in copy.rglob("*")) == before


def test_a_model_that_was_written_unmeasured_is_said_to_be(
    data: Path, others: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flags = command(data, tmp_path / "run", "--max_minutes", "0")
    train.main(flags)
    assert "was written without --validation" not in caplog.text

    train.main([*flags, "--validation", str(others)])

    assert "model-0 was written without --validation: move it away" in caplog.text


def test_a_smaller_model_grows_into_the_recipe_s_size(data: Path, tmp_path: Path) -> None:
    from model import deconvnet, exporting

    network = recipes.load("smoke").network
    small = deconvnet.build(dataclasses.replace(network, channels=(3, 4, 4), blocks=(0, 0, 1, 0, 0)))
    small.set_weights([np.random.default_rng(0).normal(0, 0.2, w.shape) for w in small.get_weights()])
    about: dict[str, Any] = {"name": "small", "recipe": {}, "data": {}, "scores": {}, "card": ""}
    exporting.export(small.config, small.get_weights(), tmp_path / "small", **about)

    flags = ["--init", str(tmp_path / "small"), "--max_minutes", "0"]
    code = train.main(command(data, tmp_path / "run", *flags))

    assert code == ExitCode.TIME_CAP
    (model,) = (tmp_path / "run").glob("model-*")
    grown, agreed = exporting.load_network(model)
    assert grown.config == network
    assert agreed.recipe["grown_from"]["name"] == "small"
    assert agreed.recipe["learning_rate"] == recipes.load("smoke").learning_rate
    # Stopped before the first step, it restores what it grew from.
    pixels, zeros = np.random.default_rng(1).uniform(-99, 99, (1, 16, 24, 3)), np.zeros((1, 2, 8, 8))
    estimate = np.full((1, deconvnet.ESTIMATE_SIZE), 0.5)
    before, after = (np.asarray(each(pixels, estimate, zeros)) for each in (small, grown))
    np.testing.assert_allclose(after, before, rtol=0.02, atol=0.01 * np.abs(before).max())


def test_a_model_of_another_size_is_no_start(
    tiny_model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = train.main(command(data, tmp_path / "run", "--init", str(tiny_model)))

    assert code == ExitCode.USAGE
    assert "must have the network of recipe smoke" in capsys.readouterr().err


def test_a_folder_that_holds_something_else_is_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "letter.txt").write_text("dear reader")

    code = train.main(command(data, tmp_path))

    assert code == ExitCode.USAGE
    assert "--output must be new, empty, or the folder of a run to go on with" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_help_comes_without_keras() -> None:
    code = "import sys, jobs.train as t; t.main(['--help']); sys.exit('keras' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "--recipe NAME" in done.stdout
    assert all(name in done.stdout for name in recipes.NAMES)


@pytest.mark.parametrize("name", recipes.NAMES)
def test_the_documentation_says_what_a_recipe_costs(name: str) -> None:
    from model import deconvnet

    network = recipes.load(name).network
    parameters = deconvnet.build(network).count_params()

    line = f"| `{name}` | {network.macs_per_pixel:,} | {parameters:,} | {network.halo} |"
    assert line in (ROOT / "docs" / "training.md").read_text()
