"""Writes scalars and pictures for TensorBoard, without TensorBoard or TensorFlow.

An event file is a row of TFRecords, each a serialised `Event` message; the few fields that are needed are written by
hand (tensorflow/core/util/event.proto and framework/summary.proto; records: tensorflow/core/lib/io/record_writer.h).
"""

from __future__ import annotations

import io
import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from PIL import Image

Array = np.ndarray[Any, np.dtype[Any]]

# Wire types of protocol buffers: varint, 8 bytes, length and content, 4 bytes.
_VARINT, _EIGHT, _CONTENT, _FOUR = 0, 1, 2, 5


class EventLog:
    """One event file of one process; TensorBoard shows all files of a folder as one run.

    Args:
        folder: made if missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 1_000_000_000}.{socket.gethostname()}.{os.getpid()}"
        self._path = folder / name
        self._write(_field(3, _CONTENT, b"brain.Event:2"))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Adds numbers, by their tag."""
        self._summary(step, {tag: _field(2, _FOUR, struct.pack("<f", value)) for tag, value in values.items()})

    def picture(self, step: int, tag: str, pixels: Array) -> None:
        """Adds an RGB picture, `(rows, cols, 3)` uint8."""
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        rows, cols, channels = (_varint(side) for side in pixels.shape)
        image = _field(1, _VARINT, rows) + _field(2, _VARINT, cols) + _field(3, _VARINT, channels)
        self._summary(step, {tag: _field(4, _CONTENT, image + _field(4, _CONTENT, buffer.getvalue()))})

    def _summary(self, step: int, values: Mapping[str, bytes]) -> None:
        summary = b"".join(
            _field(1, _CONTENT, _field(1, _CONTENT, tag.encode()) + value) for tag, value in values.items()
        )
        self._write(_field(2, _VARINT, _varint(step)) + _field(5, _CONTENT, summary))

    def _write(self, event: bytes) -> None:
        event = _field(1, _EIGHT, struct.pack("<d", time.time())) + event
        length = struct.pack("<Q", len(event))
        with self._path.open("ab") as file:
            file.write(length + _masked_crc(length) + event + _masked_crc(event))


def _field(number: int, kind: int, content: bytes) -> bytes:
    size = _varint(len(content)) if kind == _CONTENT else b""
    return _varint(number << 3 | kind) + size + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def _masked_crc(data: bytes) -> bytes:
    # Rotated and shifted: the CRC of data that holds its own CRC would say nothing (tensorflow/core/lib/hash/crc32c.h).
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
