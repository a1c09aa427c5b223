"""A picture as a message between processes: a JSON object, and the bytes that it points at by number. No pickle."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.codec.header import Picture
from pipeline.elements import Metadata, Page

DTYPES = {"uint8", "uint16"}
BYTES = ("icc", "exif", "xmp", "iptc", "comment")


def pack(picture: Picture) -> tuple[dict[str, Any], list[Any]]:
    """Takes a picture apart: what JSON can hold, and buffers."""
    parts: list[Any] = []

    def put(value: Any) -> Any:
        if value is None:
            return None
        parts.append(value if isinstance(value, bytes) else np.ascontiguousarray(value))
        described = [] if isinstance(value, bytes) else [list(value.shape), value.dtype.name]
        return [len(parts) - 1, *described]

    pages = [
        {
            "pixels": put(page.pixels),
            "alpha": put(page.alpha),
            "metadata": {
                **{name: put(getattr(page.metadata, name)) for name in BYTES},
                "density": page.metadata.density,
                "not_kept": page.metadata.not_kept,
            },
        }
        for page in picture.pages
    ]
    return {"pages": pages, "quantization": put(picture.quantization), "encoding": dict(picture.encoding)}, parts


def unpack(fields: Mapping[str, Any], parts: Sequence[Any]) -> Picture:
    """Puts a picture together again; the inverse of `pack`."""

    def array(place: Any) -> Any:
        if place is None:
            return None
        number, shape, dtype = place
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {sorted(DTYPES)}, got {dtype}")
        return np.frombuffer(parts[number], dtype).reshape(shape)

    def metadata(found: Mapping[str, Any]) -> Metadata:
        density = found["density"]
        return dataclasses.replace(
            Metadata(),
            **{name: None if found[name] is None else bytes(parts[found[name][0]]) for name in BYTES},
            density=None if density is None else (float(density[0]), float(density[1]), str(density[2])),
            not_kept=tuple(found["not_kept"]),
        )

    pages = tuple(
        Page(array(page["pixels"]), array(page["alpha"]), metadata(page["metadata"])) for page in fields["pages"]
    )
    return Picture(pages, array(fields["quantization"]), fields["encoding"])
