"""Image files and pixels: what a format says, on the way in and on the way out.

`decode` and `encode` are each other's inverse; everything of a file but its pixels goes through untouched, or its name
stands in `not_kept`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL import Image as PilImage

from pipeline.codec.decoding import decode, probe
from pipeline.codec.encoding import FORMS, Output, decode_again, encode, is_lossless, kept_names
from pipeline.codec.header import Header, Limits
from pipeline.codec.jpeg import quality as jpeg_quality
from pipeline.codec.keeping import KEPT_REASONS, KeepAsIs

if TYPE_CHECKING:
    from pipeline.codec.transforms import DecodeImages, DecodeOutcome, EncodeImages, run_here

__all__ = [
    "FORMS",
    "KEPT_REASONS",
    "DecodeImages",
    "DecodeOutcome",
    "EncodeImages",
    "Header",
    "KeepAsIs",
    "Limits",
    "Output",
    "decode",
    "decode_again",
    "encode",
    "is_lossless",
    "jpeg_quality",
    "kept_names",
    "probe",
    "run_here",
]

# `Limits.check_pixels` looks at every header; Pillow's own, lower limit would speak in warnings.
PilImage.MAX_IMAGE_PIXELS = None


def __getattr__(name: str) -> Any:
    """Imports the transforms, and Beam with them, when they are asked for: the guard's processes never do."""
    if name in {"DecodeImages", "DecodeOutcome", "EncodeImages", "run_here"}:
        from pipeline.codec import transforms

        return getattr(transforms, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
