"""The protocol: what is harmed how, and how scores become rows."""

from __future__ import annotations

import dataclasses
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model import evaluation, metrics
from model.evaluation import TASKS, Answer, Baseline, Condition, Harmed, Picture, Score

Array = np.ndarray[Any, np.dtype[Any]]


def picture(rows: int = 48, cols: int = 56, channels: int = 1, seed: int = 0) -> Picture:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :cols]
    shapes = 120 + 70 * np.sign(np.sin(y / 6 + seed) * np.cos(x / 9))
    values = shapes[..., None] + rng.normal(0, 6, (rows, cols, channels))
    return Picture(f"{seed}.png", np.clip(np.rint(values), 0, 255).astype(np.uint8))


def harmed(task: str, pixels: Array, *level: float) -> Harmed:
    return TASKS[task].harm(pixels, level, np.random.default_rng(0))


@dataclasses.dataclass(frozen=True)
class Oracle:
    """Knows the answer, and is wrong by a level."""

    name: str = "oracle"
    off: int = 0

    def restore(self, harmed: Harmed, condition: Condition) -> Answer:
        return Answer(np.clip(harmed.pristine.astype(int) + self.off, 0, 255).astype(np.uint8))


@dataclasses.dataclass(frozen=True)
class WrongAtTheBorder:
    """Knows the answer but for two pixels all round."""

    name: str = "border"

    def restore(self, harmed: Harmed, condition: Condition) -> Answer:
        inner = harmed.pristine[2:-2, 2:-2]
        return Answer(np.pad(inner, ((2, 2), (2, 2), (0, 0))))


def test_jpeg_is_what_pillow_makes_of_the_picture() -> None:
    pristine = picture().pixels
    buffer = io.BytesIO()
    Image.fromarray(pristine[..., 0]).save(buffer, "JPEG", quality=10)
    image = Image.open(buffer)

    found = harmed("jpeg", pristine, 10)

    np.testing.assert_array_equal(found.pixels[..., 0], np.asarray(image))
    assert found.tables is not None
    np.testing.assert_array_equal(found.tables[0].ravel(), image.quantization[0])  # type: ignore[attr-defined]
    assert found.header_quality == 10


def test_jpeg_of_colour_has_halved_chroma() -> None:
    pristine = picture(channels=3).pixels
    buffer = io.BytesIO()
    Image.fromarray(pristine).save(buffer, "JPEG", quality=30, subsampling="4:2:0")

    np.testing.assert_array_equal(harmed("jpeg", pristine, 30).pixels, np.asarray(Image.open(buffer)))


def test_the_second_grid_of_double_jpeg_is_at_the_corner_and_the_first_one_four_pixels_off() -> None:
    pristine = picture(96, 96).pixels

    found = harmed("double_jpeg", pristine, 5, 95)

    np.testing.assert_array_equal(found.pristine, pristine[4:, 4:])
    assert found.header_quality == 95
    assert metrics.blockiness(found.pixels, origin=(4, 4)) > metrics.blockiness(found.pixels) + 0.2


def test_the_same_noise_comes_from_the_names_alone() -> None:
    wanted = evaluation.conditions("denoise", [(25,)])
    methods = {"denoise": [Baseline("degraded")]}

    alone = list(evaluation.evaluate([picture(seed=1)], wanted, methods))
    after_another = list(evaluation.evaluate([picture(seed=0), picture(seed=1)], wanted, methods))

    assert alone[0].psnr == after_another[1].psnr
    assert alone[0].psnr == pytest.approx(20.3, abs=0.5)  # sigma 25: 10 log10(255^2 / 25^2), a little more by clipping


def test_classical_methods_gain_on_the_task_they_are_for() -> None:
    rows: dict[str, evaluation.Row] = {}
    for task, levels in (("deblur", [(1.6, 2.0)]), ("denoise", [(25.0,)])):
        methods = {task: [Baseline(name) for name in TASKS[task].baselines]}
        scores = evaluation.evaluate([picture(80, 80)], evaluation.conditions(task, levels), methods)
        rows |= {row.method: row for row in evaluation.summarise(scores)}

    assert rows["wiener"].gain is not None
    assert rows["wiener"].gain > 1.5
    assert rows["richardson-lucy"].gain is not None
    assert rows["richardson-lucy"].gain > 1.5
    assert rows["nl-means"].gain is not None
    assert rows["nl-means"].gain > 2


def test_wiener_without_noise_undoes_the_blur_up_to_the_border() -> None:
    found = harmed("deblur", picture(96, 96).pixels, 1.0, 0)

    restored = TASKS["deblur"].baselines["wiener"](found, (1.0, 0))

    assert metrics.psnr(restored, found.pristine) > metrics.psnr(found.pixels, found.pristine) + 6


def test_x2_is_scored_against_the_full_size_without_its_border() -> None:
    shown = picture(33, 40)
    wanted = evaluation.conditions("x2")

    methods: list[evaluation.Method] = [Baseline("bicubic"), Oracle(off=1), WrongAtTheBorder()]
    scores = list(evaluation.evaluate([shown], wanted, {"x2": methods}))

    assert harmed("x2", shown.pixels).pixels.shape == (16, 20, 1)
    assert scores[0].megapixels == pytest.approx(32 * 40 / 1e6)
    assert scores[1].psnr == pytest.approx(48.13, abs=0.01)
    assert scores[2].psnr == math.inf


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 9, 3), (3, 2, 1)])
@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_task_takes_tiny_pictures(task: str, shape: tuple[int, int, int]) -> None:
    pristine = np.full(shape, 77, np.uint8)
    level = TASKS[task].defaults[0]

    found = harmed(task, pristine, *level)
    for baseline in TASKS[task].baselines.values():
        restored = baseline(found, level)
        assert restored.shape == found.pristine.shape
        assert restored.dtype == np.uint8
    wanted = evaluation.conditions(task, [level])
    (score,) = evaluation.evaluate([Picture("tiny", pristine)], wanted, {task: [Oracle()]})
    assert score.psnr == math.inf


def test_rows_hold_means_of_single_values_and_name_the_worst_pictures() -> None:
    def score(image: str, method: str, psnr: float, error: float | None = None) -> Score:
        return Score(image, "jpeg q10", method, psnr, 0.5, psnr - 1, error, 0.5, 1.0, 2.0)

    before, after = evaluation.summarise(
        [
            score("a", "jpeg", 30),
            score("a", "net", 31, 4),
            score("b", "jpeg", 20),
            score("b", "net", 23, 2),
            score("c", "jpeg", 40),
            score("c", "net", 39, 0),
        ],
        worst=2,
    )

    assert (before.psnr, before.gain, before.quality_error, before.worst) == (30, None, None, ())
    assert (after.psnr, after.psnr_b, after.quality_error) == (31, 30, 2)
    assert after.gain == pytest.approx(1)
    assert after.worst == ("c", "a")
    assert (after.images, after.seconds_per_megapixel, after.cpu_seconds_per_megapixel) == (3, 2, 4)


def test_a_perfect_restoration_has_infinite_psnr_and_gains_nothing_over_a_perfect_picture() -> None:
    scores = evaluation.evaluate([picture()], evaluation.conditions("clean"), {"clean": [Baseline("clean"), Oracle()]})

    before, after = evaluation.summarise(scores)

    assert before.psnr == after.psnr == math.inf
    assert after.gain == 0


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [
        ("jpeg", "0", r"a level of jpeg is 1\.\.100 in whole numbers, got '0'"),
        ("jpeg", "12.5", r"in whole numbers, got '12\.5'"),
        ("jpeg", "10:50", r"got '10:50'"),
        ("double_jpeg", "10", r"a level of double_jpeg is 1\.\.100:1\.\.100 in whole numbers, got '10'"),
        ("denoise", "nan", r"got 'nan'"),
        ("denoise", "", r"got ''"),
    ],
)
def test_a_level_that_is_none_is_refused(task: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TASKS[task].level(text)


def test_a_model_is_told_what_a_file_would_tell_and_no_more(tiny_model: Path) -> None:
    from model.restorer import RECOMPRESSED_GAP, Restorer, Task

    restorer = Restorer.load(tiny_model, precision="float32")
    shown = picture(channels=3)
    found = harmed("jpeg", shown.pixels, 20)
    wanted = evaluation.conditions("jpeg", [(20,)])

    answer = evaluation.Model("tiny", restorer).restore(found, wanted[0])
    scores = evaluation.evaluate([shown], wanted, {"jpeg": [Baseline("jpeg"), evaluation.Model("tiny", restorer)]})
    row = evaluation.summarise(scores)[1]

    quality = restorer.estimate([found.pixels])[0].quality
    project = quality >= 20 - RECOMPRESSED_GAP
    np.testing.assert_array_equal(
        answer.pixels, restorer.restore([Task(found.pixels, found.tables, project=project)])[0]
    )
    assert row.quality_error == pytest.approx(abs(quality - 20))
    assert row.psnr == pytest.approx(metrics.psnr(answer.pixels, shown.pixels))


def test_grey_files_are_taken_as_they_are_and_colour_becomes_luma_of_the_studio_range(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 255).save(tmp_path / "a.png")
    Image.new("RGB", (8, 8), (255, 255, 255)).save(tmp_path / "b.png")

    grey = list(evaluation.read_pictures(str(tmp_path), colour=False))
    colour = list(evaluation.read_pictures(str(tmp_path), colour=True))

    assert [(p.name, p.pixels.shape, int(p.pixels.max())) for p in grey] == [
        ("a.png", (8, 8, 1), 255),
        ("b.png", (8, 8, 1), 235),
    ]
    assert [p.pixels.shape for p in colour] == [(8, 8, 1), (8, 8, 3)]


def test_a_limit_takes_pictures_evenly_spread(tmp_path: Path) -> None:
    for number in range(6):
        Image.new("L", (8, 8)).save(tmp_path / f"{number}.png")

    names = [p.name for p in evaluation.read_pictures(str(tmp_path), colour=False, limit=3)]

    assert names == ["0.png", "2.png", "4.png"]


def test_of_large_pictures_the_middle_is_taken_where_a_side_is_given(tmp_path: Path) -> None:
    pixels = np.arange(7 * 3, dtype=np.uint8).reshape(7, 3)
    Image.fromarray(pixels).save(tmp_path / "a.png")

    (middle,) = evaluation.read_pictures(str(tmp_path), colour=True, side=4)

    np.testing.assert_array_equal(middle.pixels[..., 0], pixels[1:5])
