"""What is known of the damage takes the estimate's place: about the same where it is true, smoother where it is low."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model import contract, metrics, photos
from model.deconvnet import CLASSES
from model.degradation import compress
from model.restorer import RECOMPRESSED_GAP, Restorer, Task

Array = np.ndarray[Any, np.dtype[Any]]

SAMPLE = Path(__file__).parents[2] / "samples" / "pristine"
QUALITY = 20


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    """The built-in model: what a number does to a picture shows in one that has learnt it."""
    return Restorer.load(contract.built_in())


@pytest.fixture(scope="module")
def harmed() -> tuple[Array, Array]:
    """A photograph after JPEG of a known quality, and its tables."""
    path = next(path for path in photos.find(SAMPLE) if path.suffix == ".webp")
    return compress(photos.as_rgb(photos.read(path))[:256, :256], QUALITY)


@pytest.mark.parametrize("has_tables", [False, True])
def test_the_true_quality_gives_about_what_the_estimate_gives(
    has_tables: bool, restorer: Restorer, harmed: tuple[Array, Array]
) -> None:
    pixels, tables = harmed[0], harmed[1] if has_tables else None
    estimate = restorer.estimate([pixels])[0]
    told = estimate.assuming(QUALITY, QUALITY if has_tables else None)

    own, known = restorer.restore([Task(pixels, tables, estimate), Task(pixels, tables, told)])

    assert np.abs(own.astype(int) - pixels).mean() > 1
    assert np.abs(known.astype(int) - own).mean() < 0.6


def test_a_lower_quality_smooths_more_and_every_step_is_small(restorer: Restorer, harmed: tuple[Array, Array]) -> None:
    pixels, _ = harmed
    estimate = restorer.estimate([pixels])[0]
    qualities = range(5, 96, 5)

    found = restorer.restore([Task(pixels, None, estimate.assuming(quality)) for quality in qualities])

    steps = [np.abs(np.diff(metrics.luma(each).astype(float), axis=1)).mean() for each in found]
    likely = steps[: qualities.index(75) + 1]
    assert all(low < high for low, high in itertools.pairwise(likely)), steps
    # Far above the truth it may stand still; a fall of a fiftieth of the whole way would be too much.
    assert all(low < high + 0.02 * (steps[-1] - steps[0]) for low, high in itertools.pairwise(steps)), steps
    apart = [np.abs(a.astype(int) - b).mean() for a, b in itertools.pairwise(found)]
    assert max(apart) < 1.5
    assert np.abs(found[0].astype(int) - found[-1]).mean() > max(apart)


def test_what_is_assumed_are_shares_that_move_smoothly(restorer: Restorer, harmed: tuple[Array, Array]) -> None:
    estimate = restorer.estimate([harmed[0]])[0]
    for header in (None, 75):
        vectors = np.array([estimate.assuming(quality, header).vector for quality in np.arange(5, 95.1, 0.5)])

        assert (vectors >= 0).all()
        np.testing.assert_allclose(vectors[:, : len(CLASSES)].sum(axis=1), 1, atol=1e-5)
        assert np.abs(np.diff(vectors, axis=0)).max() < 0.1


@pytest.mark.parametrize(
    ("quality", "header", "shares"),
    [
        (20, None, {"jpeg_15": 1.0}),
        (25, 25, {"jpeg_15": 0.5, "jpeg_25": 0.5}),
        (96, None, {"clean": 1.0}),
        (20, 75, {"double_jpeg": 1.0}),
        (20, 20 + RECOMPRESSED_GAP / 2, {"jpeg_15": 0.5, "double_jpeg": 0.5}),
        (20, 10, {"jpeg_15": 1.0}),
    ],
)
def test_a_quality_stands_for_the_classes_that_it_lies_between_and_below_the_header_for_two_compressions(
    quality: float, header: int | None, shares: dict[str, float], restorer: Restorer, harmed: tuple[Array, Array]
) -> None:
    estimate = restorer.estimate([harmed[0]])[0]

    assumed = estimate.assuming(quality, header)

    assert {name: share for name, share in assumed.classes.items() if share} == pytest.approx(shares)
    assert assumed.quality == quality
    np.testing.assert_allclose(assumed.vector[len(CLASSES) :], [quality / 100, estimate.noise / 50, estimate.blur / 4])
    assert list(assumed.classes) == list(CLASSES)
