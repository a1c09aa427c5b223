"""How far two files show the same: within one grey level, in whatever depth, and with the same things beside it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage

from pipeline.codec import Limits, decode
from pipeline.comparing import pixels_alike, share_alike
from pipeline.storage import open_storage

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.mark.parametrize(("dtype", "level"), [(np.uint8, 1), (np.uint16, 257)])
def test_a_pixel_is_alike_where_no_channel_is_more_than_one_level_off(dtype: Any, level: int) -> None:
    mine = np.zeros((2, 3, 3), dtype)
    theirs = mine.copy()
    theirs[0, 0] = level
    theirs[0, 1, 2] = level + 1
    theirs[1, 2] = np.iinfo(dtype).max

    assert pixels_alike(mine, theirs) == pixels_alike(theirs, mine) == 4


def png(pixels: Array, **how: Any) -> bytes:
    buffer = io.BytesIO()
    PilImage.fromarray(pixels).save(buffer, "PNG", **how)
    return buffer.getvalue()


def test_files_are_compared_by_all_that_they_show(tmp_path: Path) -> None:
    pixels = np.full((10, 10, 3), 100, np.uint8)
    near = pixels.copy()
    near[3] += 1
    near[4, 4] -= 2
    files = {
        "near": (png(near), 0.99),
        "other metadata": (png(pixels, dpi=(72, 72)), 0.0),
        "other size": (png(pixels[:9]), 0.0),
        "alpha": (png(np.dstack([pixels, pixels[..., :1]])), 0.0),
        "no image": (b"no image", 0.0),
    }

    for name, (data, share) in files.items():
        for place, content in (("one", png(pixels)), ("other", data)):
            (tmp_path / place).mkdir(exist_ok=True)
            (tmp_path / place / name).write_bytes(content)
        one, other = (open_storage(str(tmp_path / place)) for place in ("one", "other"))
        assert share_alike(name, one, other, lambda file: decode(file, Limits())) == share, name
    assert share_alike("gone", one, other, lambda file: decode(file, Limits())) == 0
