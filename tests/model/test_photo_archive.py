"""A TFDS data set of one's own photographs, and reading any other."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model import looks, photo_archive, photos
from model.looks import Look

Array = np.ndarray[Any, np.dtype[Any]]

ROOT = Path(__file__).parents[2]

# tensorflow-datasets 4.9.10 asks protobuf 6 in a way that protobuf calls outdated.
pytestmark = pytest.mark.filterwarnings(r"ignore:label\(\) is deprecated:DeprecationWarning")


@dataclasses.dataclass(frozen=True, eq=False)
class InMemory:
    """Pictures by their names, as `photo_archive.Photographs` wants them."""

    pictures: Mapping[str, Array]

    @property
    def looks(self) -> list[Look]:
        return [looks.look_at(name, pixels) for name, pixels in self.pictures.items()]

    @property
    def beam_settings(self) -> dict[str, Any]:
        return {}

    def examples(self, names: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        return ((name, {"image": self.pictures[name], "name": name}) for name in names)


@pytest.fixture(scope="module")
def pictures(photo: Array) -> InMemory:
    """Pieces of a photograph; their hashes put some into validation."""
    pieces = {
        f"deep/{number:02}.png": np.rot90(photo[3 * number :, 5 * number :][:50, :70], number) for number in range(48)
    }
    return InMemory({name: np.ascontiguousarray(pixels) for name, pixels in pieces.items()})


@pytest.fixture(scope="module")
def prepared(pictures: InMemory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photo_archive.prepare(pictures, tmp_path_factory.mktemp("tfds"))


def test_a_prepared_archive_gives_back_the_same_pixels(prepared: Path, pictures: InMemory) -> None:
    splits = looks.split(pictures.looks)

    assert all(splits.values())
    assert photo_archive.sizes(prepared) == {name: len(names) for name, names in splits.items()}
    for name, names in splits.items():
        found = {photo.name: photo.pixels for photo in photos.read_source(str(prepared), name)}
        assert set(found) == set(names)
        for one, pixels in found.items():
            np.testing.assert_array_equal(pixels, pictures.pictures[one])


def test_a_prepared_archive_is_read_in_the_same_order_without_tensorflow(prepared: Path) -> None:
    code = (
        "import sys; from model import photos; found = photos.read_source(sys.argv[1]);"
        "print([p.name for p in found]); sys.exit('tensorflow' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(prepared)], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str([photo.name for photo in photos.read_source(str(prepared))])


def test_a_prepared_archive_of_another_format_is_read_too(tmp_path: Path, photo: Array) -> None:
    builder = photo_archive.PhotoArchive(
        photographs=InMemory({"a.png": photo}), data_dir=tmp_path, file_format="tfrecord"
    )
    builder.download_and_prepare()
    (name,) = builder.info.splits

    (found,) = photos.read_source(str(builder.data_dir), name)

    assert found.name == "a.png"
    np.testing.assert_array_equal(found.pixels, photo)


def test_any_data_set_with_an_image_feature_can_be_read_by_its_name() -> None:
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=3):
        found = photos.read_source("tfds:mnist:test")

    assert [photo.name for photo in found] == ["test/0", "test/1", "test/2"]
    assert {photo.pixels.shape for photo in found} == {(28, 28, 3)}


def test_of_several_image_features_one_must_be_named() -> None:
    """DIV2K's first is the small, degraded one."""
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=1):
        with pytest.raises(photos.PhotoError, match=r"\['hr', 'lr'\]: name one, as tfds:div2k/.*#hr or"):
            photos.read_source("tfds:div2k")
        with pytest.raises(photos.PhotoError, match="name one"):
            photos.read_source("tfds:div2k#large")
        (found,) = photos.read_source("tfds:div2k#hr:train")

    assert found.pixels.shape[2] == 3


@pytest.mark.parametrize(
    ("source", "message"),
    [("tfds:no_such_data_set", "cannot be had from TFDS"), ("nowhere", "nowhere is no folder")],
)
def test_what_is_not_there_is_said(source: str, message: str) -> None:
    with pytest.raises(photos.PhotoError, match=message):
        photos.read_source(source)


def test_a_split_that_is_not_there_is_said(prepared: Path) -> None:
    with pytest.raises(photos.PhotoError, match=r"photo_archive/1\.0\.0 cannot be read"):
        photos.read_source(str(prepared), "test")
