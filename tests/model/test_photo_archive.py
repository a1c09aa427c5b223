"""A TFDS data set of one's own photographs: its splits, and reading it back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from model import photo_archive, photos
from model.degradation import compress

Array = np.ndarray[Any, np.dtype[Any]]

ROOT = Path(__file__).parents[2]

# tensorflow-datasets 4.9.10 asks protobuf 6 in a way that protobuf calls outdated.
pytestmark = pytest.mark.filterwarnings(r"ignore:label\(\) is deprecated:DeprecationWarning")


def landscape(seed: int, rows: int = 96, cols: int = 128) -> Array:
    """A picture of soft shapes, unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (6, 8, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (cols, rows), interpolation=cv2.INTER_CUBIC) + rng.normal(0, 3, (rows, cols, 3))
    return np.clip(smooth, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty photographs, a few for validation as their hashes fall."""
    found = tmp_path_factory.mktemp("photos")
    (found / "deep").mkdir()
    for seed in range(60):
        Image.fromarray(landscape(seed)).save(found / ("deep" if seed % 2 else ".") / f"{seed:02}.png")
    return found


def names(paths: list[Path]) -> set[str]:
    return {path.name for path in paths}


def test_splits_share_nothing_and_lose_nothing(folder: Path) -> None:
    splits = photo_archive.split(folder)

    assert not names(splits["train"]) & names(splits["validation"])
    assert len(splits["train"]) + len(splits["validation"]) == 60
    assert 1 <= len(splits["validation"]) <= 9


def test_adding_a_picture_moves_none_of_the_others(folder: Path, tmp_path: Path) -> None:
    for path in photos.find(folder)[::2]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    before = photo_archive.split(tmp_path)
    Image.fromarray(landscape(1000)).save(tmp_path / "00_new.png")

    after = photo_archive.split(tmp_path)

    assert names(before["validation"]) == names(after["validation"]) - {"00_new.png"}
    assert names(before["train"]) == names(after["train"]) - {"00_new.png"}


def test_near_duplicates_of_training_pictures_are_left_out_of_validation(folder: Path, tmp_path: Path) -> None:
    source = photos.read(photo_archive.split(folder)["train"][0])
    Image.fromarray(source).save(tmp_path / "original.png")
    Image.fromarray(source).save(tmp_path / "same pixels.png", compress_level=1)
    # Every version falls by its own hash; enough of them, and some fall into validation.
    for quality in range(30, 90):
        Image.fromarray(compress(source, quality)[0]).save(tmp_path / f"q{quality}.png")

    found = photo_archive.split(tmp_path)

    assert found["validation"] == []
    assert "same pixels.png" not in names(found["train"])
    assert len(found["train"]) < 61


@pytest.mark.parametrize("change", ["smaller", "brighter", "cut"])
def test_a_changed_picture_looks_like_itself_and_unlike_others(change: str) -> None:
    pixels = landscape(3)
    changed = {
        "smaller": cv2.resize(pixels, (80, 60), interpolation=cv2.INTER_AREA),
        "brighter": np.clip(pixels * 1.1 + 8, 0, 255).astype(np.uint8),
        "cut": pixels[1:-1, 1:-1],
    }[change]

    def differ(a: Array, b: Array) -> int:
        return (photo_archive.look(a) ^ photo_archive.look(b)).bit_count()

    assert differ(pixels, changed) <= photo_archive.NEAR
    assert min(differ(landscape(seed), changed) for seed in range(4, 40)) > photo_archive.NEAR


@pytest.fixture(scope="module")
def prepared(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photo_archive.prepare(folder, tmp_path_factory.mktemp("tfds"))


def test_a_prepared_archive_gives_back_the_same_pixels(prepared: Path, folder: Path) -> None:
    splits = photo_archive.split(folder)

    for name, paths in splits.items():
        found = {photo.name: photo.pixels for photo in photos.read_source(str(prepared), name)}
        assert set(found) == {path.relative_to(folder).as_posix() for path in paths}
        for path in paths:
            np.testing.assert_array_equal(found[path.relative_to(folder).as_posix()], photos.read(path))


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


def test_a_prepared_archive_of_another_format_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.fromarray(landscape(0)).save(tmp_path / "photos" / "a.png")
    builder = photo_archive.PhotoArchive(photos=tmp_path / "photos", data_dir=tmp_path / "tfds", file_format="tfrecord")
    builder.download_and_prepare()
    (name,) = builder.info.splits

    (photo,) = photos.read_source(str(builder.data_dir), name)

    assert photo.name == "a.png"
    np.testing.assert_array_equal(photo.pixels, landscape(0))


def test_any_data_set_with_an_image_feature_can_be_read_by_its_name() -> None:
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=3):
        found = photos.read_source("tfds:mnist:test")

    assert [photo.name for photo in found] == ["test/0", "test/1", "test/2"]
    assert {photo.pixels.shape for photo in found} == {(28, 28, 3)}


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
