"""Pristine pictures: where they come from, and which ones they were. Needs neither Keras nor TensorFlow."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from model import quiet

Array = np.ndarray[Any, np.dtype[Any]]

# Photographs to train on are one's own: no size of them is taken for an attack.
Image.MAX_IMAGE_PIXELS = None

SUFFIXES = frozenset({".png", ".webp", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp"})
"""Endings of files that are taken for pictures."""


class PhotoError(Exception):
    """Pictures that cannot be had; the message names the place and says what is wrong."""


@dataclasses.dataclass(frozen=True, eq=False)
class Photo:
    """One pristine picture.

    Attributes:
        name: where it came from; a folder named `*graphics*` holds drawings and screens.
        pixels: `(rows, cols, 3)` uint8 RGB.
    """

    name: str
    pixels: Array

    @property
    def graphics(self) -> bool:
        """That it is no photograph."""
        return any("graphics" in folder for folder in PurePosixPath(self.name).parts[:-1])


def find(folder: Path) -> list[Path]:
    """All pictures below a folder, in the order of their names.

    Raises:
        PhotoError: if it is no folder or holds none.
    """
    if not folder.is_dir():
        raise PhotoError(f"{folder} is no folder")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise PhotoError(f"{folder} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    return paths


def read(file: Path | BinaryIO, name: str | None = None) -> Array:
    """Reads a picture as stored, not turned by its orientation tag; 16 bits of grey become 8.

    Args:
        file: a path, or an open file.
        name: what errors call it; the path where None.

    Returns:
        `(rows, cols, 1)` where the file is grey, else `(rows, cols, 3)` RGB; uint8.

    Raises:
        PhotoError: if it cannot be decoded, or has values of 32 bits.
    """
    try:
        with Image.open(file) as image:
            # Pillow would clip these at 255.
            if image.mode in ("I", "F"):
                raise PhotoError(f"{name or file} has 32 bits a value: save it with 8 or 16")
            if image.mode.startswith("I;16"):
                return np.rint(np.asarray(image) / 257).astype(np.uint8)[..., None]
            grey = image.mode in ("1", "L", "LA")
            pixels = np.asarray(image.convert("L" if grey else "RGB"))
    # Pillow's decoders raise all of these for files that end early or contradict themselves.
    except (OSError, SyntaxError, ValueError) as error:
        raise PhotoError(f"{name or file} cannot be read as a picture: {error}") from error
    return pixels[..., None] if grey else pixels


def read_folder(folder: Path) -> list[Photo]:
    """Reads every picture below a folder, in the order of their names; grey ones become RGB.

    Raises:
        PhotoError: if there is none, or one cannot be decoded.
    """
    return [Photo(path.relative_to(folder).as_posix(), as_rgb(read(path))) for path in find(folder)]


def as_rgb(pixels: Array) -> Array:
    """`(rows, cols, 1 or 3)` to `(rows, cols, 3)`."""
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def fingerprint(photos: Sequence[Photo]) -> str:
    """SHA-256 over names and pixels: says of two runs that they saw the same pictures."""
    digest = hashlib.sha256()
    for photo in photos:
        digest.update(f"{photo.name}\0{photo.pixels.shape}\0".encode())
        digest.update(photo.pixels.tobytes())
    return digest.hexdigest()


def is_data_set(source: str) -> bool:
    """Whether a source is a data set of TFDS, by its name or its prepared folder, and not a folder of pictures."""
    return source.startswith("tfds:") or (Path(source) / "dataset_info.json").is_file()


def read_source(source: str, split: str = "train") -> list[Photo]:
    """Reads pictures from wherever they are.

    Args:
        source: a folder of pictures; a folder that TFDS prepared; or `tfds:NAME[#FEATURE][:SPLIT]`, any data set of
            images that TFDS knows; it is downloaded and prepared where it is not there yet. The feature is named
            where there are several of images.
        split: of a data set, where the source names none.

    Raises:
        PhotoError: if the pictures cannot be had.
    """
    if not is_data_set(source):
        return read_folder(Path(source))
    import tensorflow_datasets as tfds

    from model.photo_archive import read_tfds

    try:
        if not source.startswith("tfds:"):
            return read_tfds(tfds.builder_from_directory(source), split)
        data_set, _, named = source.removeprefix("tfds:").partition(":")
        name, _, feature = data_set.partition("#")
        builder = tfds.builder(name)
        with quiet.stdout():
            builder.download_and_prepare()
    # TFDS raises whatever it met on the way: a name unknown, a network that is not there, a folder half prepared.
    except PhotoError:
        raise
    except Exception as error:
        raise PhotoError(f"{source} cannot be had from TFDS: {' '.join(str(error).split())[:200]}") from error
    return read_tfds(builder, named or split, feature or None)
