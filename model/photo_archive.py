"""A TFDS data set of one's own photographs.

A picture's split follows from its pixels alone, so adding pictures moves none of the others. Near-duplicates (another
size, another compression, a small correction) of a picture for training are left out of validation: they would be known
already.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds

from model import photos

Array = np.ndarray[Any, np.dtype[Any]]

_LOG = logging.getLogger(__name__)

VALIDATION_SHARE = 0.05
"""Share of the pictures that are for validation, as their hashes fall."""

NEAR = 10
"""Bits of 64 by which the looks of two pictures may differ while they count as one. Measured on 224 photographs: other
pictures differ by 14 and more; the same in two thirds of the size at quality 30, brighter, or cut by 4 pixels all round
by 10 at most."""


class PhotoArchive(tfds.core.GeneratorBasedBuilder):
    """Photographs of a folder, lossless, in splits `train` and `validation`.

    Args:
        photos: the folder; needed for preparing, not for reading.
        options: of the TFDS builder, such as `data_dir` and `file_format`.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, photos: Path | None = None, **options: Any) -> None:
        self._photos = photos
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {"image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"), "name": tfds.features.Text()}
        )
        return self.dataset_info_from_configs(features=features, description="Photographs of a folder.")

    def _split_generators(self, _: tfds.download.DownloadManager) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        if self._photos is None:
            raise ValueError("photos must name the folder to prepare from, got None")
        splits = split(self._photos)
        return {name: self._generate_examples(paths) for name, paths in splits.items() if paths}

    def _generate_examples(self, paths: list[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
        assert self._photos is not None
        for path in paths:
            name = path.relative_to(self._photos).as_posix()
            yield name, {"image": photos.as_rgb(photos.read(path)), "name": name}


def prepare(folder: Path, data_dir: Path) -> Path:
    """Makes the data set of a folder's photographs.

    Args:
        folder: the photographs, at any depth.
        data_dir: where TFDS keeps data sets.

    Returns:
        The prepared folder, for `relume train --data`.

    Raises:
        PhotoError: if there are none, or one cannot be read.
    """
    photos.find(folder)
    # Records of this format are read without TensorFlow, and in any order.
    builder = PhotoArchive(photos=folder, data_dir=data_dir, file_format="array_record")
    builder.download_and_prepare()
    return Path(builder.data_dir)


def sizes(prepared: Path) -> dict[str, int]:
    """Pictures in each split of a prepared folder."""
    splits = tfds.builder_from_directory(prepared).info.splits
    return {name: int(splits[name].num_examples) for name in ("train", "validation") if name in splits}


def split(folder: Path) -> dict[str, list[Path]]:
    """Which photographs are for `train` and which for `validation`; exact and near duplicates are left out.

    Of several pictures with the same pixels the first by name is taken; a picture for validation that looks like one
    for training is left out, and the log names it.
    """
    found: dict[str, list[Path]] = {"train": [], "validation": []}
    looks: dict[str, list[int]] = {"train": [], "validation": []}
    seen: set[bytes] = set()
    for path in photos.find(folder):
        pixels = photos.as_rgb(photos.read(path))
        digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).digest()
        if digest in seen:
            _LOG.info("%s has the same pixels as another picture: left out", path)
            continue
        seen.add(digest)
        name = "validation" if int.from_bytes(digest[:8]) < VALIDATION_SHARE * 2**64 else "train"
        found[name].append(path)
        looks[name].append(look(pixels))
    known = np.array(looks["train"], np.uint64)
    kept = []
    for path, bits in zip(found["validation"], looks["validation"], strict=True):
        if known.size and int(np.bitwise_count(known ^ np.uint64(bits)).min()) <= NEAR:
            _LOG.info("%s looks like a picture for training: left out", path)
        else:
            kept.append(path)
    return {"train": found["train"], "validation": kept}


def look(pixels: Array) -> int:
    """64 bits that hardly change with size, compression and tone.

    The signs of the lowest 8 x 8 frequencies of the picture at 32 x 32, against their median (the pHash of Zauner,
    "Implementation and benchmarking of perceptual image hash functions", 2010).

    Args:
        pixels: `(rows, cols, 3)` uint8.
    """
    grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
    # Frequency 0 is the mean of the picture, which a change of tone moves.
    low = cv2.dct(grey.astype(np.float32))[1:9, 1:9].ravel()
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes())


def read_tfds(builder: Any, split_name: str) -> list[photos.Photo]:
    """Reads the pictures of one split of a prepared data set, in its own order.

    Args:
        builder: a TFDS builder.
        split_name: such as `train` or `train[:10%]`.

    Raises:
        PhotoError: if it has no image feature, or no such split.
    """
    feature = next(
        (name for name, kind in builder.info.features.items() if isinstance(kind, tfds.features.Image)), None
    )
    if feature is None:
        raise photos.PhotoError(f"{builder.info.full_name} has no image feature, only {sorted(builder.info.features)}")
    found = []
    try:
        examples = _examples(builder, split_name, feature)
        for number, example in enumerate(examples):
            name = example.get("name", f"{split_name}/{number}")
            name = name.decode() if isinstance(name, bytes) else str(name)
            found.append(photos.Photo(name, photos.as_rgb(photos.read(io.BytesIO(example[feature]), name))))
    except (ValueError, KeyError) as error:
        raise photos.PhotoError(f"{builder.info.full_name} cannot be read: {error}") from error
    if not found:
        raise photos.PhotoError(f"{builder.info.full_name} has nothing in {split_name}")
    return found


def _examples(builder: Any, split_name: str, feature: str) -> Iterator[dict[str, Any]]:
    # Left encoded: Pillow decodes alike everywhere, and needs no TensorFlow.
    options = {"split": split_name, "decoders": {feature: tfds.decode.SkipDecoding()}}
    if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
        yield from builder.as_data_source(**options)
    else:
        yield from tfds.as_numpy(builder.as_dataset(**options, shuffle_files=False))
