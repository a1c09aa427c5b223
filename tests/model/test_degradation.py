"""Patches are harmed by the real libjpeg, on the grid, from the seed, and labelled with what was done."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest

from model import metrics
from model.deconvnet import CLASSES, QUALITY_BINS, REGRESSIONS
from model.degradation import HARSH, Degradation, Sample, compress, degrade, region_side

Array = np.ndarray[Any, np.dtype[Any]]

PATCH = 64
ALWAYS_JPEG = Degradation(
    double_share=0, clean_share=0, other_share=0, grey_share=0, foreign_table_share=0, round_share=1
)


@pytest.fixture
def region(photo: Array) -> Array:
    side = region_side(PATCH)
    return np.ascontiguousarray(photo[20 : 20 + side, 30 : 30 + side])


def drawn(region: Array, recipe: Degradation, number: int = 1, **options: Any) -> list[Sample]:
    rng = np.random.Generator(np.random.Philox(key=7))
    return [degrade(region, rng, recipe, **options) for _ in range(number)]


def label(sample: Sample) -> str:
    kinds = sample.truth[: len(CLASSES)]
    assert kinds.sum() == 1
    return CLASSES[int(kinds.argmax())]


def measure(sample: Sample, name: str) -> float:
    return float(sample.truth[len(CLASSES) + REGRESSIONS.index(name)])


def test_a_patch_is_cut_from_the_middle_of_a_larger_jpeg_on_its_grid(region: Array) -> None:
    recipe = dataclasses.replace(ALWAYS_JPEG, quality=(30, 30))

    (sample,) = drawn(region, recipe)

    frame = (region_side(PATCH) - PATCH) // 2
    np.testing.assert_array_equal(sample.pristine, region[frame:-frame, frame:-frame])
    both = [compress(np.ascontiguousarray(region[8:-8, 8:-8]), 30, subsampling=s) for s in (0, 2)]
    assert any((sample.degraded == pixels[16:-16, 16:-16]).all() for pixels, _ in both)
    np.testing.assert_array_equal(sample.tables, both[0][1])
    assert metrics.blockiness(sample.degraded) > 1.05 * metrics.blockiness(sample.degraded, origin=(4, 4))


def test_what_was_a_better_jpeg_before_is_to_become_that_one_again(region: Array) -> None:
    recipe = dataclasses.replace(ALWAYS_JPEG, stored_share=0.5, quality=(75, 75))
    middle = np.ascontiguousarray(region[8:-8, 8:-8])
    before = [(q, compress(middle, q, subsampling=s)[0][16:-16, 16:-16]) for q in range(75, 99) for s in (0, 2)]
    frame = (region_side(PATCH) - PATCH) // 2
    photograph = region[frame:-frame, frame:-frame]

    samples = drawn(region, recipe, 60)

    stored = [sample.pristine for sample in samples if (sample.pristine != photograph).any()]
    qualities = [[quality for quality, pixels in before if (target == pixels).all()] for target in stored]
    assert all(qualities), "a target is neither the photograph nor a JPEG on the patch's grid"
    assert min(min(found) for found in qualities) >= 85
    # Half of them, of whose 24 qualities 14 are better by 10.
    assert len(stored) / 60 == pytest.approx(14 / 48, abs=0.15)
    assert all(measure(sample, "quality") == pytest.approx(0.75) for sample in samples)


def test_the_same_state_gives_the_same_sample(region: Array) -> None:
    one, two = (drawn(region, Degradation(), 20) for _ in range(2))

    for a, b in zip(one, two, strict=True):
        for field in dataclasses.fields(Sample):
            np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))


def test_harsh_compressions_are_drawn_as_often_as_asked(region: Array) -> None:
    harsh = {}
    for share in (0.0, 0.5, 1.0):
        samples = drawn(region, dataclasses.replace(ALWAYS_JPEG, harsh_share=share), 200)
        harsh[share] = np.mean([round(100 * measure(sample, "quality")) <= HARSH for sample in samples])

    # Of 10, 20 .. 90 five ninths are harsh by chance.
    assert harsh[1.0] == 1
    assert harsh[0.0] == pytest.approx(5 / 9, abs=0.1)
    assert harsh[0.5] == pytest.approx(7 / 9, abs=0.1)


def test_a_range_of_qualities_holds_whatever_is_harsh(region: Array) -> None:
    for low, high in ((3, 7), (60, 80)):
        recipe = dataclasses.replace(ALWAYS_JPEG, quality=(low, high), harsh_share=0.5)
        assert all(low <= round(100 * measure(s, "quality")) <= high for s in drawn(region, recipe, 20))


def test_every_label_comes_up_and_says_what_was_done(region: Array) -> None:
    found: dict[str, list[Sample]] = {}
    for sample in drawn(region, dataclasses.replace(Degradation(), other_share=0.3), 300):
        found.setdefault(label(sample), []).append(sample)

    assert set(found) == set(CLASSES) - {"graphics"}
    assert all(measure(sample, "noise") >= 0.1 for sample in found["noise"])
    assert all(measure(sample, "blur") >= 0.25 for sample in found["blur"])
    assert all(measure(sample, "quality") >= 0.92 for sample in found["clean"])
    for name, samples in found.items():
        if name not in ("noise", "blur"):
            assert all(measure(sample, "noise") == measure(sample, "blur") == 0 for sample in samples)


@pytest.mark.parametrize(("quality", "kind"), [(5, 0), (14, 0), (15, 15), (44, 35), (45, 45), (91, 85)])
def test_a_quality_falls_into_its_class(region: Array, quality: int, kind: int) -> None:
    recipe = dataclasses.replace(ALWAYS_JPEG, quality=(quality, quality), round_share=0)

    (sample,) = drawn(region, recipe)

    assert kind in QUALITY_BINS
    assert label(sample) == f"jpeg_{kind:02}"
    assert measure(sample, "quality") == pytest.approx(quality / 100)


def test_drawings_are_labelled_as_such_and_harmed_all_the_same(region: Array) -> None:
    for sample in drawn(region, ALWAYS_JPEG, 5, graphics=True):
        assert label(sample) == "graphics"
        assert (sample.degraded != sample.pristine).any()


def test_a_second_compression_that_is_milder_is_labelled_double_and_keeps_the_first_ones_quality(region: Array) -> None:
    recipe = dataclasses.replace(ALWAYS_JPEG, double_share=1.0, quality=(10, 90))

    samples = [sample for sample in drawn(region, recipe, 60) if label(sample) == "double_jpeg"]

    assert samples
    for sample in samples:
        quality = round(100 * measure(sample, "quality"))
        _, first = compress(np.zeros((8, 8, 3), np.uint8), quality)
        assert sample.tables[0].sum() < first[0].sum()  # the header tells of the milder one


@pytest.mark.parametrize("graphics", [False, True])
def test_bins_bind_what_was_not_compressed_harder_before_whatever_it_is_labelled(region: Array, graphics: bool) -> None:
    recipe = dataclasses.replace(ALWAYS_JPEG, double_share=0.5, other_share=0.5, foreign_table_share=0.0)

    for sample in drawn(region, recipe, 60, graphics=graphics):
        _, told = compress(np.zeros((8, 8, 3), np.uint8), round(100 * measure(sample, "quality")))
        assert sample.bound == (sample.tables[0] == told[0]).all()


def test_the_first_grid_of_a_double_compression_falls_anywhere(region: Array) -> None:
    recipe = dataclasses.replace(ALWAYS_JPEG, double_share=1.0)
    origins = set()
    for sample in drawn(region, recipe, 120):
        if label(sample) == "double_jpeg" and measure(sample, "quality") <= 0.2:
            grid = {(y, x): metrics.blockiness(sample.degraded, origin=(y, x)) for y in range(8) for x in range(8)}
            origins.add(max(grid, key=lambda place: grid[place]))

    assert len(origins) > 5


def test_grey_patches_are_grey_in_both_and_have_no_chroma_table(region: Array) -> None:
    for sample in drawn(region, dataclasses.replace(ALWAYS_JPEG, grey_share=1.0), 8):
        for pixels in (sample.degraded, sample.pristine):
            assert (pixels[..., 0] == pixels[..., 1]).all()
            assert (pixels[..., 0] == pixels[..., 2]).all()
        assert sample.tables[0].any()
        assert not sample.tables[1].any()


def test_grey_patches_are_of_both_ranges_of_luma(photo: Array) -> None:
    white = np.full((region_side(PATCH), region_side(PATCH), 3), 255, np.uint8)

    peaks = {
        int(sample.pristine.max()) for sample in drawn(white, dataclasses.replace(ALWAYS_JPEG, grey_share=1.0), 20)
    }

    assert peaks == {235, 255}


def test_tables_of_other_encoders_are_what_the_file_was_made_with(region: Array) -> None:
    recipe = dataclasses.replace(ALWAYS_JPEG, foreign_table_share=1.0, quality=(50, 50))

    found = {sample.tables.tobytes() for sample in drawn(region, recipe, 6)}

    _, standard = compress(region, 50)
    assert len(found) == 6
    assert standard.tobytes() not in found
    for data in found:
        tables = np.frombuffer(data, np.float32)
        assert tables.min() >= 1
        assert tables.max() <= 255


def test_clean_patches_are_not_harmed_or_hardly(region: Array) -> None:
    samples = drawn(region, dataclasses.replace(ALWAYS_JPEG, clean_share=1.0), 20)

    untouched = [sample for sample in samples if not sample.tables.any()]
    assert 3 <= len(untouched) <= 17
    for sample in untouched:
        np.testing.assert_array_equal(sample.degraded, sample.pristine)
    for sample in samples:
        assert metrics.psnr(sample.degraded, sample.pristine) > 30


def test_other_harm_is_in_the_target_too(region: Array) -> None:
    frame = (region_side(PATCH) - PATCH) // 2
    for sample in drawn(region, dataclasses.replace(ALWAYS_JPEG, other_share=1.0, quality=(90, 90)), 12):
        # Of luma: halving the chroma takes noise away again.
        original, pristine, degraded = map(
            metrics.luma, (region[frame:-frame, frame:-frame], sample.pristine, sample.degraded)
        )
        assert metrics.psnr(pristine, original) < 40
        assert metrics.psnr(degraded, pristine) > metrics.psnr(degraded, original)


def test_the_region_is_left_as_it_was(region: Array) -> None:
    before = hashlib.sha256(region.tobytes()).digest()

    drawn(region, Degradation(), 60)

    assert hashlib.sha256(region.tobytes()).digest() == before
