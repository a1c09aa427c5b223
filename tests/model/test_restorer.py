"""Tiles, batches and depths of one model give the same answer."""

from __future__ import annotations

import dataclasses
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model import contract, photos
from model import restorer as restorer_module
from model.contract import ModelError
from model.degradation import compress
from model.restorer import Estimate, RestorationError, Restorer, Task
from model.size import DeconvNetConfig

Array = np.ndarray[Any, np.dtype[Any]]

PRISTINE = Path(__file__).parents[2] / "samples" / "pristine"


@pytest.fixture(scope="module")
def restorer(tiny_model: Path) -> Restorer:
    return Restorer.load(tiny_model, precision="float32")


@pytest.fixture(scope="module")
def enlarger(tiny_x2_model: Path) -> Restorer:
    return Restorer.load(tiny_x2_model, precision="float32")


def variant(restorer: Restorer, **options: Any) -> Restorer:
    return Restorer(restorer._program, restorer.contract, **options)


def test_tiles_restore_to_the_same_pixels_as_the_whole_image(restorer: Restorer, photo: Array) -> None:
    decoded, tables = compress(photo, 30)
    task = Task(decoded, tables)

    whole = restorer.restore([task])[0]
    tiled = variant(restorer, tile=128).restore([task])[0]

    assert np.abs(whole.astype(int) - decoded).max() > 3  # the model does something
    # The order of a sum may differ with a tile's shape, and a value on the edge between two levels falls either way.
    difference = np.abs(tiled.astype(int) - whole)
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 1e-4


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_tiles_are_those_of_the_whole_image_in_every_precision(tiny_model: Path, photo: Array, precision: str) -> None:
    restorer = Restorer.load(tiny_model, precision=precision)
    decoded, tables = compress(photo, 30)

    whole, tiled = (
        each.restore([Task(decoded, tables)])[0].astype(int)
        for each in (restorer, variant(restorer, tile=128, precision=precision))
    )

    assert np.mean(np.abs(tiled - whole) > 0) < 1e-4


def test_the_built_in_model_restores_a_photograph_alike_in_both_precisions() -> None:
    decoded, tables = compress(photos.read(next(PRISTINE.rglob("dog.webp"))), 30)
    restorers = [Restorer.load(contract.built_in(), precision=precision) for precision in ("float32", "bfloat16")]
    assert [restorer.device for restorer in restorers] == ["cpu", "cpu, bfloat16"]

    exact, short = (restorer.restore([Task(decoded, tables)])[0].astype(int) for restorer in restorers)

    assert 0 < np.mean(exact != short) < 0.2  # they are two programs
    assert np.mean(np.abs(exact - short) > 1) < 1e-4


def test_a_model_without_a_program_for_a_precision_says_so(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(restorer_module.SIGNATURES, "bfloat16", "restore_float8")

    assert Restorer.load(tiny_model).device == "cpu"
    with pytest.raises(ModelError, match="has no program for bfloat16"):
        Restorer.load(tiny_model, precision="bfloat16")


def test_a_halo_too_small_shows(restorer: Restorer, photo: Array) -> None:
    task = Task(photo)

    whole = restorer.restore([task])[0].astype(int)
    tiled = variant(restorer, tile=128, halo=0).restore([task])[0]

    assert np.mean(np.abs(tiled - whole) > 1) > 1e-3


def reach_of(restorer: Restorer) -> int:
    """How many pixels of the input away a restored pixel changes with one."""
    side, middle = 256, 128
    black, dotted = np.zeros((side, side, 3), np.uint8), np.zeros((side, side, 3), np.uint8)
    dotted[middle, middle] = 255
    estimate = restorer.estimate([black])[0]

    a, b = (restorer.restore([Task(pixels, estimate=estimate)])[0].astype(int) for pixels in (black, dotted))

    places = np.argwhere((a != b).any(axis=2)) // restorer.scale
    return int(np.abs(places - middle).max())


def test_the_contracts_halo_covers_the_receptive_field(restorer: Restorer) -> None:
    radius = DeconvNetConfig.from_json(restorer.contract.network).radius

    assert 8 < reach_of(restorer) <= radius <= restorer.halo


def test_tiles_enlarge_to_the_same_pixels_as_the_whole_image(enlarger: Restorer, photo: Array) -> None:
    whole = enlarger.restore([Task(photo)])[0]
    tiled = variant(enlarger, tile=128).restore([Task(photo)])[0]
    bare = variant(enlarger, tile=128, halo=0).restore([Task(photo)])[0]

    assert whole.shape == (406, 634, 3)
    difference = np.abs(tiled.astype(int) - whole)
    assert difference.max() <= 1
    assert np.mean(difference > 0) < 1e-4
    assert np.mean(np.abs(bare.astype(int) - whole) > 1) > 1e-3


def test_the_halo_of_an_enlarging_model_covers_what_a_pixel_can_reach(enlarger: Restorer) -> None:
    radius = DeconvNetConfig.from_json(enlarger.contract.network).radius

    assert 8 < reach_of(enlarger) <= radius <= enlarger.halo


def test_enlarged_sizes_depths_and_greys_are_those_of_the_image(enlarger: Restorer, photo: Array) -> None:
    tasks = [Task(np.ascontiguousarray(photo[:rows, :cols])) for rows, cols in [(1, 1), (9, 17), (64, 72)]]
    tasks += [Task(tasks[2].pixels[..., :1]), Task(tasks[2].pixels.astype(np.uint16) * 257)]

    together = enlarger.restore(tasks)

    for task, found in zip(tasks, together, strict=True):
        rows, cols, channels = task.pixels.shape
        assert found.shape == (2 * rows, 2 * cols, channels)
        assert found.dtype == task.pixels.dtype
        np.testing.assert_array_equal(found, enlarger.restore([task])[0])


def test_strength_zero_is_the_bicubic_enlargement(enlarger: Restorer, photo: Array) -> None:
    small = np.ascontiguousarray(photo[:64, :72])
    pillow = np.asarray(Image.fromarray(small).resize((144, 128), Image.Resampling.BICUBIC)).astype(int)

    none, full = (enlarger.restore([Task(small, strength=s)])[0].astype(int) for s in (0.0, 1.0))

    assert np.abs(none - pillow)[4:-4, 4:-4].max() <= 2
    assert np.abs(full - pillow).max() > 5


def test_memory_for_the_enlarged_pixels_is_what_a_batch_is_weighed_by(
    enlarger: Restorer, photo: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = variant(enlarger, tile=128, batch_pixels=4 * 128 * 128)
    whole = enlarger.restore([Task(photo)])[0]
    numbers: list[int] = []
    run = small._run

    def counted(batch: Any, *rest: Any) -> list[Array]:
        numbers.append(len(batch))
        return run(batch, *rest)

    monkeypatch.setattr(small, "_run", counted)

    found = small.restore([Task(photo)])[0]

    assert set(numbers) == {1}
    assert np.abs(found.astype(int) - whole).max() <= 1


def test_an_enlarging_model_has_no_bands(enlarger: Restorer) -> None:
    with pytest.raises(ValueError, match="bands are of models of scale 1, got 2"):
        enlarger.bands(5000, 5000, 8_000_000)


def test_a_batch_gives_what_each_image_gives_alone(restorer: Restorer, photo: Array) -> None:
    sizes = [(1, 1), (8, 8), (9, 17), (64, 64), (64, 64), (203, 317)]
    tasks = [Task(np.ascontiguousarray(photo[:rows, :cols])) for rows, cols in sizes]
    tasks += [Task(tasks[-1].pixels[..., :1]), Task(tasks[3].pixels.astype(np.uint16) * 257)]

    together = restorer.restore(tasks)
    alone = [restorer.restore([task])[0] for task in tasks]

    for task, a, b in zip(tasks, together, alone, strict=True):
        assert a.shape == task.pixels.shape
        assert a.dtype == task.pixels.dtype
        np.testing.assert_array_equal(a, b)


def test_grey_images_travel_apart_so_that_chroma_is_spared(restorer: Restorer, photo: Array) -> None:
    coloured, grey = Task(photo[:64, :64]), Task(photo[:64, :64, :1])
    seen: list[list[float]] = []

    def restore(**inputs: Any) -> Any:
        seen.append(inputs["grey"].numpy().tolist())
        return restorer._signatures["restore"](**inputs)

    spy = types.SimpleNamespace(signatures={**restorer._signatures, "restore": restore})
    Restorer(spy, restorer.contract).restore([grey, coloured, grey, coloured])

    assert seen == [[1, 1], [0, 0]]


def test_one_program_serves_all_sizes(restorer: Restorer, photo: Array) -> None:
    sizes = [(8, 11), (40, 43), (104, 107)]

    restored = [restorer.restore([Task(np.ascontiguousarray(photo[:rows, :cols]))])[0] for rows, cols in sizes]

    assert [pixels.shape[:2] for pixels in restored] == sizes
    asked = restorer._signatures["restore"].structured_input_signature[1]["pixels"]
    assert all(dimension is None for dimension in asked.shape[:3])


def test_strength_zero_gives_the_pixels_back_and_one_half_lies_between(restorer: Restorer, photo: Array) -> None:
    estimate = restorer.estimate([photo])[0]

    none, half, full = (
        restorer.restore([Task(photo, estimate=estimate, strength=s)])[0].astype(int) for s in (0.0, 0.5, 1.0)
    )

    np.testing.assert_array_equal(none, photo)
    unclipped = (full > 0) & (full < 255) & (half > 0) & (half < 255)
    assert np.abs(half - (photo + full) / 2)[unclipped].max() <= 1.5


def test_grey_stays_grey_and_deep_stays_deep(restorer: Restorer) -> None:
    ramp = np.linspace(0, 65535, 512).astype(np.uint16)
    deep = np.repeat(ramp[None, :, None], 64, axis=0)

    restored = restorer.restore([Task(deep)])[0]

    assert restored.dtype == np.uint16
    assert restored.shape == deep.shape
    # An 8-bit detour would leave multiples of 257 only.
    assert np.mean(restored % 257 == 0) < 0.1


def test_a_projected_image_lies_in_its_bins_and_a_free_one_does_not(restorer: Restorer, photo: Array) -> None:
    from pipeline.judging import outside_bins

    decoded, tables = compress(photo, 50, subsampling=0)
    estimate = restorer.estimate([decoded])[0]

    bound = restorer.restore([Task(decoded, tables, estimate)])[0]
    free = restorer.restore([Task(decoded, tables, estimate, project=False)])[0]

    # Colours that RGB cannot hold are clipped, and that moves luma a little.
    assert outside_bins(bound, decoded, tables[0]) < 0.001
    assert outside_bins(free, decoded, tables[0]) > 0.004


def test_only_a_model_that_undoes_jpeg_keeps_to_the_bins(restorer: Restorer, photo: Array) -> None:
    decoded, tables = compress(photo, 20)
    sharpener = Restorer(restorer._program, dataclasses.replace(restorer.contract, task="deblur"))

    free = sharpener.restore([Task(decoded, tables)])[0]

    assert restorer.projects
    assert not sharpener.projects
    np.testing.assert_array_equal(free, restorer.restore([Task(decoded, tables, project=False)])[0])


def hungry(restorer: Restorer, most_tiles: int, **options: Any) -> Restorer:
    """The same program, but with more tiles at once a step of it wants more memory than any machine has.

    The step is numpy's: TensorFlow's own allocator waits ten seconds for memory before it gives up.
    """
    import tensorflow as tf

    signatures = restorer._signatures

    @tf.function(autograph=False, reduce_retracing=True)
    def restore(**inputs: Any) -> Any:
        scratch = tf.numpy_function(work, [tf.shape(inputs["pixels"])[0]], tf.uint8)
        return {"pixels": signatures["restore"](**inputs)["pixels"] + 0 * scratch}

    def work(tiles: int) -> Any:
        # Beyond what 64-bit processors can address, so that no system promises it and hands it out later.
        return np.empty(2**60 if tiles > most_tiles else 1, np.uint8)[0]

    @tf.function(autograph=False, reduce_retracing=True)
    def estimate(pixels: Any) -> Any:
        scratch = tf.numpy_function(work, [tf.shape(pixels)[0]], tf.uint8)
        return signatures["estimate"](pixels=pixels + 0 * scratch)

    program = types.SimpleNamespace(signatures={**signatures, "restore": restore, "estimate": estimate})
    return Restorer(program, restorer.contract, **options)


def test_memory_that_runs_out_halves_the_batch_once_and_changes_no_pixel(restorer: Restorer, photo: Array) -> None:
    roomy, tight = variant(restorer, tile=128), hungry(restorer, 2, tile=128)
    task = Task(photo[:128])
    expected = roomy.restore([task])[0]

    np.testing.assert_array_equal(tight.restore([task])[0], expected)

    halved, left = tight.batches_halved, tight.batch_pixels
    assert halved >= 1
    assert left <= 2 * 128 * 128
    # Remembered: the next image runs out of nothing.
    np.testing.assert_array_equal(tight.restore([task])[0], expected)
    assert (tight.batches_halved, tight.batch_pixels) == (halved, left)


def test_memory_that_runs_out_for_an_estimate_makes_it_piece_by_piece(restorer: Restorer, photo: Array) -> None:
    expected = restorer.estimate([photo])[0]

    np.testing.assert_allclose(hungry(restorer, 1).estimate([photo])[0].vector, expected.vector, atol=1e-5)
    with pytest.raises(RestorationError, match="no room for one piece"):
        hungry(restorer, 0).estimate([photo])


def test_no_room_for_one_tile_is_an_error_that_says_so(restorer: Restorer, photo: Array) -> None:
    task = Task(photo, estimate=restorer.estimate([photo])[0])

    with pytest.raises(RestorationError, match="too large for the device"):
        hungry(restorer, 0).restore([task])


def test_the_estimate_is_a_distribution_and_the_same_every_time(restorer: Restorer, photo: Array) -> None:
    first, second = restorer.estimate([photo])[0], restorer.estimate([photo, photo[:8, :8]])[0]

    assert isinstance(first, Estimate)
    np.testing.assert_array_equal(first.vector, second.vector)
    assert sum(first.classes.values()) == pytest.approx(1, abs=1e-5)
    assert 0 <= first.quality <= 100


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pixels": np.zeros((4, 4), np.uint8)}, "pixels must be"),
        ({"pixels": np.zeros((0, 4, 3), np.uint8)}, "pixels must be"),
        ({"pixels": np.zeros((4, 4, 3), np.float32)}, "uint8 or uint16"),
        ({"strength": 1.5}, r"strength must be in 0\.\.1, got 1\.5"),
    ],
)
def test_a_wrong_task_names_its_field(change: dict[str, Any], said: str) -> None:
    task = Task(np.zeros((4, 4, 3), np.uint8))

    with pytest.raises(ValueError, match=said):
        dataclasses.replace(task, **change)
