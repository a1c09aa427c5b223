"""What is known of a file before any of its pixels is decoded, and the limits held against it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.elements import Page, Tables
from pipeline.failures import TooLargeError, TooManyPixelsError


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one file may ask for.

    Attributes:
        max_bytes: of the file as stored.
        max_pixels: of all its pages together.
    """

    max_bytes: int = 2**30
    max_pixels: int = 250_000_000

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def check_bytes(self, size: int) -> None:
        """Raises `TooLargeError` for a file of more bytes than allowed."""
        if size > self.max_bytes:
            raise TooLargeError(f"{size} bytes; the limit is {self.max_bytes}")

    def check_pixels(self, header: Header) -> None:
        """Raises `TooManyPixelsError` for a header that promises more pixels than allowed."""
        if header.pixels > self.max_pixels:
            raise TooManyPixelsError(
                f"{header.width}x{header.height}, {header.pages} page(s): {header.pixels} pixels; "
                f"the limit is {self.max_pixels}"
            )


@dataclasses.dataclass(frozen=True)
class Header:
    """A file by its own first words.

    Attributes:
        format: `jpeg`, `png`, `tiff`, `webp`, `bmp`, `jp2`, `avif` or `gif`.
        width, height: of the first page, in pixels, at least 1.
        channels: of the first page as stored, alpha included; a palette has 1.
        bits: a channel, of the first page.
        pages: pictures in the file; 2 stands for an animation whose frames were not counted.
        pixels: of all pages together.
        keep: None, or why the file is to be left alone: a key of `KEPT_REASONS`.
    """

    format: str
    width: int
    height: int
    channels: int
    bits: int
    pages: int
    pixels: int
    keep: str | None = None

    @property
    def size(self) -> tuple[int, int, int]:
        """Width, height, pages."""
        return self.width, self.height, self.pages


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """What a format's reader gives: an `Image` without its file.

    Attributes:
        pages, quantization: as in `Image`.
        encoding: by name, values of JSON.
    """

    pages: tuple[Page, ...]
    quantization: Tables | None = None
    encoding: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def frozen_encoding(encoding: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Orders an encoding by name, as an `Image` holds it; values become what JSON would give back."""
    return tuple(sorted(json.loads(json.dumps(dict(encoding))).items()))


def density_of(across: float, down: float, unit: str) -> tuple[float, float, str] | None:
    """Gives a density that every container can hold; None for one that no device has, as from a broken file."""
    if all(0.01 <= side <= 1_000_000 for side in (across, down)):
        return float(across), float(down), unit
    return None


def profile_space(icc: bytes | None) -> bytes:
    """The colour space that a profile is for, as its four letters (ICC.1, 7.2.6); empty where there is no profile."""
    return icc[16:20] if icc else b""


def names(*groups: Sequence[str]) -> tuple[str, ...]:
    """Joins short names in the order of the alphabet, each once."""
    return tuple(sorted({name for group in groups for name in group}))
