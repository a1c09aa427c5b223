"""Photographs of a folder and of a bucket, one after another and by Beam: always the same data set."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model import looks, photo_archive, photos
from model.degradation import compress
from model.photos import PhotoError
from pipeline import photographs
from pipeline.photographs import Photographs
from tests.cloud.gcs import GcsTwin

# tensorflow-datasets 4.9.10 asks protobuf 6 in a way that protobuf calls outdated.
pytestmark = pytest.mark.filterwarnings(r"ignore:label\(\) is deprecated:DeprecationWarning")

Array = np.ndarray[Any, np.dtype[Any]]


def png(pixels: Array) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def files(photo: Array) -> dict[str, bytes]:
    """Files of an archive: pieces of a photograph, the same again, others compressed, and what is no picture.

    A picture's versions fall by their own hashes: some into validation, where they must not stay.
    """
    pieces = {n: np.ascontiguousarray(np.rot90(photo[3 * n :, 5 * n :][:50, :70], n)) for n in range(40)}
    found = {f"{'deep/' if n % 2 else ''}{n:02}.png": png(pixels) for n, pixels in pieces.items()}
    found |= {f"worse/{quality}.png": png(compress(pieces[0], quality)[0]) for quality in range(60, 90)}
    return found | {"z same.png": found["00.png"], "grey.PNG": png(pieces[7][..., 0]), "note.txt": b"no picture"}


@pytest.fixture
def folder(files: dict[str, bytes], tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def records(prepared: Path) -> dict[str, bytes]:
    """The files of a data set that hold its records."""
    return {path.name: path.read_bytes() for path in prepared.iterdir() if "array_record" in path.name}


def splits_of(prepared: Path) -> list[Any]:
    """What the data set says of its splits."""
    splits: list[Any] = json.loads((prepared / "dataset_info.json").read_text())["splits"]
    return splits


def test_both_ways_and_both_places_give_the_same_splits_and_records(
    folder: Path, files: dict[str, bytes], gcs: GcsTwin, tmp_path: Path
) -> None:
    gcs.create_bucket("photos")
    for name, data in files.items():
        gcs.put("photos", f"deep/pristine/{name}", data)
    sources = {
        "disk": Photographs(str(folder), 1),
        "bucket by beam": Photographs("gs://photos/deep/pristine", 2),
    }

    prepared = {name: photo_archive.prepare(source, tmp_path / name) for name, source in sources.items()}

    first = prepared["disk"]
    read = {split: photos.read_source(str(first), split) for split in ("train", "validation")}
    assert len(read["train"]) > len(read["validation"]) >= 1
    names = {photo.name for split in read.values() for photo in split}
    assert not any(photo.name.startswith("worse") for photo in read["validation"])
    assert any(name.startswith("worse") for name in names)
    assert "grey.PNG" in names
    assert not names & {"z same.png", "note.txt"}
    for name, other in prepared.items():
        assert splits_of(other) == splits_of(first), name
        assert looks.split(sources[name].looks) == looks.split(sources["disk"].looks)
        for split, pictures in read.items():
            again = photos.read_source(str(other), split)
            assert photos.fingerprint(again) == photos.fingerprint(pictures), name
        assert records(other) == records(first), name


@pytest.mark.parametrize("workers", [1, 2])
def test_a_picture_that_cannot_be_read_is_named_and_nothing_is_written(
    workers: int, folder: Path, tmp_path: Path
) -> None:
    for name in ("deep/05.png", "12.png"):
        (folder / name).write_bytes((folder / name).read_bytes()[:200])

    with pytest.raises(PhotoError, match=r"photos/12\.png cannot be read as a picture"):
        photo_archive.prepare(Photographs(str(folder), workers), tmp_path / "sets")

    assert not (tmp_path / "sets").exists()


def test_a_picture_that_changes_on_the_way_is_no_part_of_the_data_set(folder: Path) -> None:
    source = Photographs(str(folder), 1)
    assert source.looks
    (folder / "02.png").write_bytes((folder / "04.png").read_bytes())

    with pytest.raises(PhotoError, match=r"02\.png was version"):
        list(source.examples(["00.png", "02.png"]))


def test_an_archive_without_pictures_says_so(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no picture")

    with pytest.raises(PhotoError, match="holds no pictures"):
        _ = Photographs(str(tmp_path)).looks


def test_beam_is_for_many() -> None:
    assert photographs.workers_for(photographs.MANY - 1, 8) == 1
    assert photographs.workers_for(photographs.MANY, 8) == 8
    assert photographs.workers_for(photographs.MANY, 1) == 1
