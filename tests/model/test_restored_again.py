"""What a model for JPEG restored is clean to it when it comes again: an archive may pass through twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from model import contract, photos
from model.degradation import compress
from model.restorer import Restorer, Task

SAMPLE = Path(__file__).parents[2] / "samples" / "pristine"
GOOD = 90
"""From this quality on, `relume restore` leaves an image alone."""


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer.load(contract.built_in())


@pytest.mark.parametrize("quality", [10, 40])
def test_what_was_restored_looks_good_without_loss_and_written_as_jpeg(quality: int, restorer: Restorer) -> None:
    paths = [path for path in photos.find(SAMPLE) if path.suffix == ".webp"][:3]
    found = [compress(photos.as_rgb(photos.read(path)), quality) for path in paths]
    estimates = restorer.estimate([pixels for pixels, _ in found])
    tasks = [Task(*each, estimate) for each, estimate in zip(found, estimates, strict=True)]

    restored = restorer.restore(tasks)
    written = [compress(pixels, 95)[0] for pixels in restored]

    assert all(estimate.quality < GOOD for estimate in estimates)
    assert all(estimate.quality >= GOOD for estimate in restorer.estimate(restored))
    assert not any(estimate.contradicts(95) for estimate in restorer.estimate(written))
