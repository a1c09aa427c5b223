"""A run is a function of its recipe, pictures and first weights, whatever happens on the way."""

from __future__ import annotations

import dataclasses
import fcntl
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from jobs import recipes
from model import deconvnet, exporting, growing, jpeg, training
from model.capture import Capture
from model.dataset import DegradedPatches
from model.deconvnet import DeconvNet
from model.degradation import Degradation
from model.photos import Photo
from model.training import Part, Phase, Progress, Recipe, Run

Array = np.ndarray[Any, np.dtype[Any]]

RECIPE = dataclasses.replace(recipes.load("smoke"), steps=6, warm_up=2)


@pytest.fixture(scope="module")
def photos(photo: Array) -> list[Photo]:
    return [Photo("a.png", photo), Photo("b.png", photo[:90, ::-1].copy())]


def nothing(_: Progress) -> None:
    pass


def trained(run: Run, report: Callable[[Progress], None] = nothing, **options: Any) -> list[Array]:
    run.train(report, **options)
    return [np.array(v) for v in run.network.get_weights()] + run.averaged_weights()


class StopError(Exception):
    """Ends a run from within, as a kill would: nothing after the last checkpoint is kept."""


@pytest.fixture(scope="module")
def whole(photos: list[Photo], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Array]]:
    """A run that nothing disturbed: its folder and its weights."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, trained(Run(RECIPE, photos, folder))


def test_a_run_that_is_stopped_within_a_phase_ends_with_the_same_weights(
    whole: tuple[Path, list[Array]], photos: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(_: Progress) -> None:
        raise StopError

    monkeypatch.setattr(training, "_FIRST_STEPS", 2)
    with pytest.raises(StopError):
        Run(RECIPE, photos, tmp_path).train(stop)
    monkeypatch.undo()
    with np.load(tmp_path / "checkpoint.npz") as saved:
        assert int(saved["step"]) == 2
    parts = trained(Run(RECIPE, photos, tmp_path))

    for a, b in zip(whole[1], parts, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_how_often_checkpoints_are_written_changes_nothing(photos: list[Photo], tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, steps=16, phases=(Phase(1.0, 16, 2, squared=False),))
    steps: list[int] = []

    rare = trained(Run(recipe, photos, tmp_path / "rare"))
    often = trained(Run(recipe, photos, tmp_path / "often", checkpoint_seconds=0), lambda p: steps.append(p.step))

    assert steps[-6:] == [11, 12, 13, 14, 15, 16]
    for a, b in zip(rare, often, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_finished_run_does_nothing_more(whole: tuple[Path, list[Array]], photos: list[Photo], tmp_path: Path) -> None:
    calls: list[Progress] = []

    again = Run(RECIPE, photos, shutil.copytree(whole[0], tmp_path / "copy"))
    weights = trained(again, calls.append)

    assert not calls
    assert again.step == 6
    for a, b in zip(whole[1], weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_seed_gives_other_weights(photos: list[Photo], tmp_path: Path) -> None:
    first, same, other = (
        Run(dataclasses.replace(RECIPE, seed=seed), photos, tmp_path).network.get_weights() for seed in (1, 1, 2)
    )

    assert all((a == b).all() for a, b in zip(first, same, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("what", ["recipe", "pictures", "init"])
def test_a_checkpoint_of_another_run_is_refused(
    what: str, whole: tuple[Path, list[Array]], photos: list[Photo], tmp_path: Path
) -> None:
    folder = shutil.copytree(whole[0], tmp_path / "copy")
    recipe = dataclasses.replace(RECIPE, learning_rate=1e-4) if what == "recipe" else RECIPE
    other = photos[:1] if what == "pictures" else photos
    init = deconvnet.build(RECIPE.network) if what == "init" else None

    with pytest.raises(training.OtherRunError, match=rf"another run \({what} differ\): use another folder"):
        Run(recipe, other, folder, init=init).train(nothing)


def test_a_grown_run_goes_on_where_another_backend_would_draw_other_weights(
    photos: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = deconvnet.build(dataclasses.replace(RECIPE.network, channels=(1, 1, 1)))
    run = Run(RECIPE, photos, tmp_path, init=small)
    run.train(nothing)
    grow = growing.grow
    monkeypatch.setattr(growing, "grow", lambda *given: [2 * weights for weights in grow(*given)])

    again = Run(RECIPE, photos, tmp_path, init=small)
    again.train(nothing)

    for a, b in zip(run.averaged_weights(), again.averaged_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_two_processes_do_not_train_in_one_folder(photos: list[Photo], tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        with pytest.raises(training.BusyError, match="another process"):
            Run(RECIPE, photos, tmp_path).train(nothing)


def test_a_loss_that_is_no_number_stops_the_run_and_spares_the_checkpoint(photos: list[Photo], tmp_path: Path) -> None:
    init = deconvnet.build(RECIPE.network)
    init.stem.bias.assign(np.full(init.stem.bias.shape, np.nan))

    with pytest.raises(training.TrainingError, match=r"the loss is nan between steps 0 and 4.*learning rate below"):
        Run(RECIPE, photos, tmp_path, init=init, checkpoint_seconds=math.inf).train(nothing)

    assert not (tmp_path / "checkpoint.npz").exists()


def test_no_time_left_means_that_the_end_is_not_reached(photos: list[Photo], tmp_path: Path) -> None:
    run = Run(RECIPE, photos, tmp_path)

    assert not run.train(nothing, max_minutes=0)
    assert run.step == 0
    for a, b in zip(run.averaged_weights(), run.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_average_stands_in_for_the_weights_and_goes_again(
    whole: tuple[Path, list[Array]], photos: list[Photo], tmp_path: Path
) -> None:
    run = Run(RECIPE, photos, shutil.copytree(whole[0], tmp_path / "copy"))
    run.train(nothing)
    before = [np.array(v) for v in run.network.get_weights()]

    with run.averaged() as network:
        inside = [np.array(v) for v in network.get_weights()]

    for a, b in zip(inside, run.averaged_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(before, run.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(before, inside, strict=True))


def test_the_average_follows_the_weights_by_its_momentum(photos: list[Photo], tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, steps=30, ema=0.75, phases=(Phase(1.0, 16, 2, squared=True),))
    run = Run(recipe, photos, tmp_path, checkpoint_seconds=0)
    seen: list[tuple[Array, Array]] = []

    def look(_: Progress) -> None:
        seen.append((np.array(run.network.get_weights()[0]), np.array(run.averaged_weights()[0])))

    run.train(look)

    (_, before), (weights, after) = seen[-2:]
    np.testing.assert_allclose(after, 0.75 * before + 0.25 * weights, rtol=1e-5, atol=1e-8)


def test_a_short_run_exports_what_it_learned_and_not_what_it_started_from(photos: list[Photo], tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, steps=60, ema=0.999, phases=(Phase(1.0, 16, 2, squared=True),))
    start = deconvnet.build(RECIPE.network)
    before = start.get_weights()[0].copy()
    run = Run(recipe, photos, tmp_path, init=start)
    run.train(nothing)

    went = np.linalg.norm(run.network.get_weights()[0] - before)
    assert np.linalg.norm(run.averaged_weights()[0] - before) > 0.8 * went


def test_training_brings_the_loss_down(photos: list[Photo], tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, steps=120, phases=(Phase(1.0, 16, 8, squared=True),), learning_rate=1e-2)
    losses: list[float] = []

    Run(recipe, photos, tmp_path, checkpoint_seconds=math.inf).train(lambda progress: losses.append(progress.loss))

    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    ("ends", "steps", "message"),
    [((0.5,), 5, "phases must rise to 1"), ((0.7, 0.3, 1.0), 5, "must rise"), ((1.0,), 0, "steps must be at least 1")],
)
def test_a_recipe_that_makes_no_sense_is_refused(ends: tuple[float, ...], steps: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe("x", RECIPE.network, Degradation(), tuple(Phase(end, 16, 1, squared=False) for end in ends), steps)


def test_a_network_of_another_scale_than_its_patches_is_refused() -> None:
    with pytest.raises(ValueError, match="degradation must have the network's scale 1, got 2"):
        dataclasses.replace(RECIPE, degradation=Capture("x2", scale=2))


def test_a_recipes_digest_is_that_of_all_it_says() -> None:
    values = dataclasses.asdict(RECIPE)
    for later in ("scale", "chroma", "head_convs", "leaky"):  # named only where they say something: older runs go on
        del values["network"][later]

    assert RECIPE.digest == training._digest(values)
    assert dataclasses.replace(RECIPE, steps=7).digest != RECIPE.digest
    assert len({recipes.load(name).digest for name in recipes.NAMES}) == len(recipes.NAMES)


def test_phases_end_where_their_shares_say() -> None:
    recipe = dataclasses.replace(RECIPE, steps=10)

    assert [recipe.phase_at(step)[0].squared for step in range(10)] == [False] * 6 + [True] * 4
    assert recipe.phase_at(5)[1] == 6
    with pytest.raises(ValueError, match="step must be below 10"):
        recipe.phase_at(10)


@pytest.mark.slow
@pytest.mark.parametrize("name", recipes.NAMES)
def test_every_recipe_takes_a_step(name: str, photos: list[Photo], tmp_path: Path) -> None:
    recipe = recipes.load(name)
    assert recipe.name == name
    # The network of the recipe, on patches and batches that a test can afford.
    small = tuple(dataclasses.replace(phase, patch=16, batch=1) for phase in recipe.phases)

    run = Run(dataclasses.replace(recipe, steps=1, phases=small), photos, tmp_path)

    assert run.train(nothing)


HEAD = {"head_features", "squeeze", "hidden", "classes", "regressions"}
REST = {"stem", "phase", "down1", "down2", "mid_0", "up2", "up1", "dec1_0", "tail", "embed", "chroma"}


@pytest.mark.parametrize(("part", "expected"), [("head", HEAD), ("rest", REST)])
def test_the_head_alone_is_trained_where_asked_or_all_but_the_head(
    photos: list[Photo], tmp_path: Path, part: Part, expected: set[str]
) -> None:
    network = dataclasses.replace(RECIPE.network, chroma=(2, 2, 2), head_convs=1)
    phases = (Phase(1.0, 16, 4, squared=True),)
    recipe = dataclasses.replace(RECIPE, network=network, phases=phases, steps=3, part=part)
    init = deconvnet.build(network)
    start = init.get_weights()

    run = Run(recipe, photos, tmp_path, init=init)
    run.train(nothing)

    names = [variable.path.split("/")[1] for variable in run.network.weights]
    changed = {
        name for name, a, b in zip(names, start, run.averaged_weights(), strict=True) if not np.array_equal(a, b)
    }
    assert changed == expected
    again = Run(recipe, photos, tmp_path, init=init)
    again.train(nothing)
    for a, b in zip(run.averaged_weights(), again.averaged_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_head_alone_sees_a_quarter_of_the_patches_restored(
    photos: list[Photo], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = deconvnet.build(RECIPE.network)
    network.tail.bias.assign([3.0 / 128, 0, 0])  # of luma
    # Bins so wide that nothing is clipped to them.
    harsh = Degradation(quality=(10, 10), clean_share=0.0, other_share=0.0)
    patches = DegradedPatches(photos, harsh, patch=16, batch=4, seed=1)[0]
    task = training.RestorationTask(network, Phase(1.0, 16, 4, squared=True), part="head")
    seen: list[Array] = []

    def look(ycc: Any) -> Any:
        seen.append(ops.convert_to_numpy(ycc))
        return DeconvNet.encode(network, ycc)

    monkeypatch.setattr(network, "encode", look)
    task(patches)

    degraded = ops.convert_to_numpy(jpeg.to_ycc(patches["degraded"]))
    np.testing.assert_array_equal(seen[-1][1:], degraded[1:])
    # A pixel at its limit stays there, others are three grey levels brighter.
    brighter = np.clip(patches["degraded"][:1].astype(int) + 3, 0, 255)
    np.testing.assert_allclose(seen[-1][:1], ops.convert_to_numpy(jpeg.to_ycc(brighter)), atol=0.02)


def test_luma_is_trained_where_restoring_puts_it(photo: Array) -> None:
    network = deconvnet.build(RECIPE.network)
    network.tail.bias.assign([20.0 / 128, 0, 0])  # of luma: far out of the bins
    muted = [Photo("muted.png", (photo // 4 + 96).astype(np.uint8))]  # no value reaches its limit
    twice = Degradation(quality=(50, 50), double_share=0.5, clean_share=0.0, other_share=0.0)
    inputs = DegradedPatches(muted, twice, patch=16, batch=16, seed=1, drop_tables=0.3)[0] | {
        "told": np.ones((16, 1), np.float32)
    }
    once = inputs["bound"]
    bound = (once > 0) & inputs["tables"].any(axis=(1, 2, 3))
    ones = np.ones(16, np.float32)

    def restored(projected: bool) -> Array:
        task = training.RestorationTask(network, Phase(1.0, 16, 16, squared=True, projected=projected))
        return np.asarray(ops.convert_to_numpy(task(inputs)["restored"]))

    rgb = exporting.restore(
        network, inputs["degraded"].astype(np.float32), inputs["tables"], inputs["truth"], ones, once, 0 * ones
    )
    trained = restored(projected=True)
    np.testing.assert_allclose(trained, ops.convert_to_numpy(jpeg.to_ycc(rgb)), atol=0.01)
    moved = np.abs(trained - restored(projected=False))[..., 0].max(axis=(1, 2))
    assert 0 < bound.sum() < bound.size
    assert (moved[bound] > 5).all()
    assert not moved[~bound].any()


def test_chroma_is_measured_by_its_own_harm_where_it_goes_its_own_way() -> None:
    """Harmed a tenth as much as luma and undone, it is near half of the loss; in a common mean it would be a 100th."""
    rng = np.random.default_rng(0)
    pristine = rng.uniform(-50, 50, (1, 16, 16, 3)).astype(np.float32)
    degraded = pristine + rng.normal(0, 1, pristine.shape) * np.array([30, 3, 3])
    restored = np.concatenate([degraded[..., :1], pristine[..., 1:]], axis=-1)

    def loss(chroma: tuple[int, int, int] | None, *planes: Array) -> float:
        network = deconvnet.build(dataclasses.replace(RECIPE.network, chroma=chroma))
        task = training.RestorationTask(network, Phase(1.0, 16, 1, squared=True))
        return float(task._restoration(*(plane.astype(np.float32) for plane in planes))[0])

    apart = [loss((2, 2, 2), planes, degraded, pristine) for planes in (degraded, restored)]
    together = [loss(None, planes, degraded, pristine) for planes in (degraded, restored)]

    assert 0.5 < apart[1] / apart[0] < 0.7
    assert together[1] / together[0] > 0.97


def test_precision_is_of_the_layers_and_not_of_the_weights() -> None:
    try:
        assert training.set_precision("bfloat16") == "mixed_bfloat16"
        network = deconvnet.build(RECIPE.network)
        assert network.stem.compute_dtype == "bfloat16"
        assert network.tail.compute_dtype == "float32"
        assert all(v.dtype == "float32" for v in network.variables)
        assert training.set_precision("auto") in ("mixed_bfloat16", "float32")
    finally:
        training.set_precision("float32")
    assert isinstance(network, DeconvNet)
    assert keras.config.dtype_policy().name == "float32"
