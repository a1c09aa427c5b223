"""Event files, read back by TensorFlow's own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.event_log import EventLog


def read(folder: Path) -> list[Any]:
    """Every event of the one file of a folder; TensorFlow checks the checksums."""
    import tensorflow as tf
    from tensorflow.core.util import event_pb2

    (path,) = folder.iterdir()
    return [event_pb2.Event.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]


def test_scalars_come_back_with_their_steps(tmp_path: Path) -> None:
    log = EventLog(tmp_path)

    log.scalars(3, {"loss": 0.25, "learning_rate": 2e-3})
    log.scalars(70_000, {"loss": -1e9})

    first, *events = read(tmp_path)
    assert first.file_version == "brain.Event:2"
    assert [(e.step, {v.tag: v.simple_value for v in e.summary.value}) for e in events] == [
        (3, {"loss": 0.25, "learning_rate": pytest.approx(2e-3)}),
        (70_000, {"loss": -1e9}),
    ]
    assert 1.7e9 < events[0].wall_time <= events[1].wall_time


def test_a_picture_comes_back_with_its_pixels(tmp_path: Path) -> None:
    import tensorflow as tf

    pixels = np.random.default_rng(0).integers(0, 256, (130, 300, 3), np.uint8)

    EventLog(tmp_path).picture(5, "preview", pixels)

    (value,) = read(tmp_path)[1].summary.value
    assert (value.tag, value.image.height, value.image.width, value.image.colorspace) == ("preview", 130, 300, 3)
    np.testing.assert_array_equal(tf.io.decode_png(value.image.encoded_image_string).numpy(), pixels)
