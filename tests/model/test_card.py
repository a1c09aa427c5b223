"""A card tells of what its model is for, beside the classical method for that."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model import card
from model.restorer import Restorer

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.mark.parametrize(
    ("task", "said", "methods", "conditions"),
    [
        ("deblur", "out of focus", ["degraded", "wiener", "tiny"], {"deblur sigma 1.6, noise 2", "clean"}),
        ("denoise", "takes noise out", ["degraded", "nl-means", "tiny"], {"denoise sigma 25", "clean"}),
    ],
)
def test_a_model_is_measured_at_its_task_beside_the_classical_method(
    task: str, said: str, methods: list[str], conditions: set[str], tiny_model: Path, photo: Array, tmp_path: Path
) -> None:
    Image.fromarray(photo[:56, :64]).save(tmp_path / "a.png")
    loaded = Restorer.load(tiny_model, precision="float32")
    restorer = Restorer(loaded._program, dataclasses.replace(loaded.contract, task=task))

    measured = card.measure(restorer, str(tmp_path))
    about: dict[str, Any] = {"recipe": {}, "data": {"photos": 2, "megapixels": 0.1, "fingerprint": "f"}}
    text = card.text("tiny", task=task, **about, steps=(1, 2), measured=measured, parameters=9, macs_per_pixel=9)

    assert [row.method for row in measured.grey[:3]] == methods
    assert conditions <= {row.condition for row in measured.grey}
    assert measured.as_json().keys() == {"pictures", "grey", "colour"}
    assert said in text
    assert "quality factor, over" not in text
    assert f"| {measured.grey[2].psnr:.2f} |" in text


def test_of_many_large_pictures_a_bounded_part_is_measured(
    tiny_model: Path, photo: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        Image.fromarray(np.roll(photo, number, axis=1)).save(tmp_path / f"{number}.png")
    monkeypatch.setattr(card, "_MOST_PICTURES", 3)
    monkeypatch.setattr(card, "_MOST_SIDE", 40)

    found = list(card._pictures(str(tmp_path), colour=True))

    assert [picture.name for picture in found] == ["0.png", "1.png", "3.png"]
    assert all(picture.pixels.shape == (40, 40, 3) for picture in found)
