"""The models that ship with the package: whole, small, and worth having."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model import contract, metrics, photos
from model.degradation import compress
from model.restorer import Restorer, Task

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "samples" / "pristine"

MOST_MEGABYTES = 4.0
"""Of a model folder."""


@pytest.mark.parametrize("name", contract.shipped())
def test_a_shipped_model_is_whole_and_small(name: str) -> None:
    folder = contract.shipped()[name]

    agreed = contract.read(folder)

    assert agreed.name == name
    assert {"weights.npz", "card.md", "before-after.webp"} <= set(agreed.files)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert size <= 1e6 * MOST_MEGABYTES


def test_loading_a_model_whose_weights_are_short_says_nothing_of_the_processor() -> None:
    """In a process of its own, for TensorFlow says it once."""
    load = "import sys; from model.restorer import Restorer; Restorer.load(sys.argv[1])"
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}

    done = subprocess.run(
        [sys.executable, "-c", load, str(contract.shipped()["jpeg-s"])],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        check=True,
    )

    assert "oneDNN" not in done.stderr


def test_the_built_in_model_undoes_much_of_a_harsh_compression() -> None:
    pristine = [photos.as_rgb(photos.read(path)) for path in photos.find(SAMPLE) if path.suffix == ".webp"][:3]
    harmed = [compress(pixels, 15) for pixels in pristine]

    restored = Restorer.load(contract.built_in()).restore([Task(*each) for each in harmed])

    gains = [
        metrics.psnr(after, before) - metrics.psnr(pixels, before)
        for after, before, (pixels, _) in zip(restored, pristine, harmed, strict=True)
    ]
    assert min(gains) > 0.5
