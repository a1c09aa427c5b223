"""Reading pristine pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.photos import PhotoError, find, fingerprint, read, read_folder


def save(path: Path, mode: str = "RGB", value: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (9, 7), value if mode == "L" else (value,) * len(mode)).save(path)
    return path


def test_pictures_come_in_the_order_of_their_names_from_all_levels_and_other_files_are_passed_over(
    tmp_path: Path,
) -> None:
    for name in ("b/2.png", "a.webp", "b/1.JPG", "b/graphics/3.png", "photographics.png"):
        save(tmp_path / name)
    (tmp_path / "README.md").write_text("no picture")

    photos = read_folder(tmp_path)

    assert [photo.name for photo in photos] == ["a.webp", "b/1.JPG", "b/2.png", "b/graphics/3.png", "photographics.png"]
    assert [photo.graphics for photo in photos] == [False, False, False, True, False]


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 3), ("LA", 1)])
def test_grey_files_stay_grey_and_alpha_is_left_out(tmp_path: Path, mode: str, channels: int) -> None:
    pixels = read(save(tmp_path / "x.png", mode))

    assert pixels.shape == (7, 9, channels)
    assert (pixels == 90).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_of_grey_become_eight(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 128, 129, 30000, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"x.{suffix}")

    np.testing.assert_array_equal(read(tmp_path / f"x.{suffix}")[0, :, 0], [0, 0, 1, 117, 255])


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_values_of_32_bits_are_refused(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(np.zeros((4, 4), dtype)).save(tmp_path / "x.tif")

    with pytest.raises(PhotoError, match=r"x\.tif has 32 bits a value: save it with 8 or 16"):
        read(tmp_path / "x.tif")


def test_a_grey_picture_trains_as_rgb(tmp_path: Path) -> None:
    save(tmp_path / "x.png", "L")

    assert read_folder(tmp_path)[0].pixels.shape == (7, 9, 3)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n\0\0\0"])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.png").write_bytes(content)

    with pytest.raises(PhotoError, match=r"broken\.png cannot be read as a picture"):
        read_folder(tmp_path)


def test_a_cut_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:900])

    with pytest.raises(PhotoError, match=r"cut\.jpg"):
        read(path)


def test_a_folder_without_pictures_and_one_that_is_none_are_errors(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="holds no pictures"):
        find(tmp_path)
    with pytest.raises(PhotoError, match="is no folder"):
        find(tmp_path / "missing")


def test_the_fingerprint_tells_names_and_pixels_apart(tmp_path: Path) -> None:
    save(tmp_path / "one" / "a.png")
    save(tmp_path / "two" / "b.png")
    save(tmp_path / "three" / "a.png", value=91)

    found = {fingerprint(read_folder(tmp_path / name)) for name in ("one", "two", "three")}

    assert len(found) == 3
    assert fingerprint(read_folder(tmp_path / "one")) in found
