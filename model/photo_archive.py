"""A TFDS data set of one's own photographs, split as `model.looks` says.

Where the photographs are and how they are read is not known here: whoever prepares the data set hands in an object that
finds them, and that gives them one after another or as a Beam transform.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import tensorflow_datasets as tfds

from model import looks, photos, quiet


class Photographs(Protocol):
    """Photographs to prepare from."""

    @property
    def looks(self) -> Sequence[looks.Look]:
        """What all of them look like.

        Raises:
            PhotoError: if there are none, or one cannot be read.
        """

    @property
    def beam_settings(self) -> Mapping[str, Any]:
        """Runner and options of Beam, as TFDS's `DownloadConfig` names them; empty where Beam is not used."""

    def examples(self, names: Sequence[str]) -> Any:
        """Pairs of a name and an example of these photographs: an iterator, or a Beam transform of a pipeline's root.

        An example is a dictionary of `image`, `(rows, cols, 3)` uint8, and `name`.
        """


class PhotoArchive(tfds.core.GeneratorBasedBuilder):
    """Photographs, lossless, in splits `train` and `validation`.

    Args:
        photographs: needed for preparing, not for reading.
        options: of the TFDS builder, such as `data_dir` and `file_format`.
    """

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, photographs: Photographs | None = None, **options: Any) -> None:
        self._photographs = photographs
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict(
            {"image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"), "name": tfds.features.Text()}
        )
        return self.dataset_info_from_configs(features=features, description="Photographs of a folder.")

    def _split_generators(self, _: tfds.download.DownloadManager) -> dict[str, Any]:
        if self._photographs is None:
            raise ValueError("photographs must be given to prepare from, got None")
        splits = looks.split(self._photographs.looks)
        return {name: self._generate_examples(names) for name, names in splits.items() if names}

    def _generate_examples(self, names: Sequence[str]) -> Any:
        assert self._photographs is not None
        return self._photographs.examples(names)


def prepare(photographs: Photographs, data_dir: Path) -> Path:
    """Makes the data set; which way the photographs are read changes nothing of it.

    Args:
        photographs: wherever they are.
        data_dir: where TFDS keeps data sets.

    Returns:
        The prepared folder, for `relume train --data`.

    Raises:
        PhotoError: if there are none, or one cannot be read; then nothing was written.
    """
    # Before the builder makes its folder.
    _ = photographs.looks
    # Records of this format are read without TensorFlow, and in any order.
    builder = PhotoArchive(photographs=photographs, data_dir=data_dir, file_format="array_record")
    with quiet.stdout():
        builder.download_and_prepare(download_config=tfds.download.DownloadConfig(**photographs.beam_settings))
    return Path(builder.data_dir)


def sizes(prepared: Path) -> dict[str, int]:
    """Pictures in each split of a prepared folder; 0 in one that nothing fell into."""
    splits = tfds.builder_from_directory(prepared).info.splits
    names = ("train", "validation")
    return {name: int(splits[name].num_examples) if name in splits else 0 for name in names}


def read_tfds(builder: Any, split_name: str, feature: str | None = None) -> list[photos.Photo]:
    """Reads the pictures of one split of a prepared data set, in its own order.

    Args:
        builder: a TFDS builder.
        split_name: such as `train` or `train[:10%]`.
        feature: that holds the pictures; the only one of images where None.

    Raises:
        PhotoError: if it has no such feature, or several and none is named; or no such split.
    """
    features = builder.info.features
    images = sorted(name for name, kind in features.items() if isinstance(kind, tfds.features.Image))
    if not images:
        raise photos.PhotoError(f"{builder.info.full_name} has no image feature, only {sorted(features)}")
    if feature not in images and (feature or len(images) > 1):
        wanted = " or ".join(f"tfds:{builder.info.full_name}#{name}" for name in images)
        raise photos.PhotoError(f"{builder.info.full_name} has the image features {images}: name one, as {wanted}")
    feature = feature or images[0]
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
