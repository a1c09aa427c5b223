"""The sample archive is what its README says: every file there, damaged as said, and its reference beside it."""

import dataclasses
import importlib.util
import io
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, ImageCms, ImageOps, UnidentifiedImageError
from PIL import Image as PilImage

SAMPLES = Path(__file__).parents[1] / "samples"
ARCHIVE = SAMPLES / "archive"
PRISTINE = SAMPLES / "pristine"
MAX_BYTES = 6_000_000


@dataclasses.dataclass(frozen=True)
class Listed:
    """One row of the README's table; `size` and `reference` are None where the table says none, `made` says how."""

    name: str
    size: tuple[int, int] | None
    made: str
    reference: str | None
    expected: str


def listed() -> dict[str, Listed]:
    rows = {}
    for line in (SAMPLES / "README.md").read_text(encoding="utf-8").splitlines():
        if not line.startswith("| `"):
            continue
        name, _, size, made, suffix, expected = (cell.strip().strip("`") for cell in line.strip("|").split("|"))
        width, _, height = size.partition("x")
        reference = None if suffix == "none" else str(Path(name).with_suffix(suffix))
        rows[name] = Listed(name, None if size == "none" else (int(width), int(height)), made, reference, expected)
    return rows


TABLE = listed()
WITH_REFERENCE = sorted(row.name for row in TABLE.values() if row.reference)

# How each file that was compressed once was compressed, in the words of the writer that did it.
COMPRESSED_ONCE: Mapping[str, dict[str, Any]] = {
    "2009/city/night skyline.jpg": {"quality": 20},
    "2009/city/corner-shop.jpg": {"quality": 20},
    "2009/city/panorama.jpg": {"quality": 30},
    "2009/coast/Küste.jpg": {"quality": 10},
    "2009/coast/foam.png": {"quality": 20},
    "2016/garden/asters.jpg": {"quality": 40},
    "2016/garden/bulb.jpg": {"quality": 97, "subsampling": "4:4:4"},
    "2016/people/dog.jpg": {"quality": 30},
    "2016/people/girl with phone.jpg": {"quality": 10},
    "2016/studio/guitar.jpg": {"quality": 20},
}
COMPRESSED_TWICE = "2016/garden/sumac.jpg"


def loaded(path: Path) -> PilImage.Image:
    with PilImage.open(path) as image:
        image.load()
        return image


def reference_of(name: str) -> PilImage.Image:
    return loaded(PRISTINE / str(TABLE[name].reference))


def recompressed(picture: PilImage.Image, **settings: Any) -> PilImage.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", **{"subsampling": "4:2:0", **settings})
    with PilImage.open(stream) as image:
        image.load()
        return image


def psnr(one: PilImage.Image, other: PilImage.Image) -> float:
    error = np.mean((np.asarray(one, np.float64) - np.asarray(other, np.float64)) ** 2)
    return float(10 * np.log10(255**2 / error))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_samples", SAMPLES / "make_samples.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name while they are made.
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def files_below(folder: Path) -> Iterator[str]:
    return (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_table_names_every_file_of_the_archive_and_no_other() -> None:
    assert sorted(files_below(ARCHIVE)) == sorted(TABLE)


def test_the_table_names_every_reference_and_no_other() -> None:
    assert sorted(files_below(PRISTINE)) == sorted(str(row.reference) for row in TABLE.values() if row.reference)


def test_every_file_that_can_be_decoded_has_a_reference_and_the_broken_ones_have_none() -> None:
    outcomes = {name: row.expected.partition(":")[0] for name, row in TABLE.items()}

    assert set(outcomes.values()) == {"restored", "kept", "failed"}
    assert [name for name in sorted(TABLE) if outcomes[name] != "failed"] == WITH_REFERENCE


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_a_reference_has_the_dimensions_and_channels_of_its_file_and_the_table_names_them(name: str) -> None:
    image, reference = loaded(ARCHIVE / name), reference_of(name)

    assert image.size == reference.size == TABLE[name].size
    assert image.mode == reference.mode


@pytest.mark.parametrize("name", WITH_REFERENCE)
def test_a_file_to_restore_is_visibly_damaged_and_one_to_keep_is_not(name: str) -> None:
    distance = psnr(loaded(ARCHIVE / name), reference_of(name))

    if TABLE[name].expected == "kept":
        assert distance > 45
    else:
        assert 25 < distance < 34


@pytest.mark.parametrize("name", COMPRESSED_ONCE)
def test_a_file_compressed_once_is_its_reference_compressed_as_the_table_says(name: str) -> None:
    expected = recompressed(reference_of(name), **COMPRESSED_ONCE[name])

    found = loaded(ARCHIVE / name)

    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))
    assert re.search(rf"\bJPEG q{COMPRESSED_ONCE[name]['quality']}\b", TABLE[name].made)


@pytest.mark.parametrize("name", [name for name in COMPRESSED_ONCE if name.endswith(".jpg")])
def test_a_jpeg_has_the_tables_of_the_quality_that_it_was_made_with(name: str) -> None:
    expected = recompressed(PilImage.new(loaded(ARCHIVE / name).mode, (8, 8)), **COMPRESSED_ONCE[name])

    assert quantization(loaded(ARCHIVE / name)) == quantization(expected)


def quantization(image: PilImage.Image) -> Any:
    return image.quantization  # type: ignore[attr-defined]  # JpegImageFile's own, and Image.open names no subclass


def test_the_tables_and_the_references_leave_no_restorable_file_unexplained() -> None:
    assert sorted([*COMPRESSED_ONCE, COMPRESSED_TWICE]) == WITH_REFERENCE


def test_the_twice_compressed_file_names_the_second_quality_and_shows_the_shifted_grid_of_the_first() -> None:
    image = loaded(ARCHIVE / COMPRESSED_TWICE)
    once = recompressed(reference_of(COMPRESSED_TWICE), quality=75)

    assert quantization(image) == quantization(once)
    # Steps between columns are largest where a block of the first, coarser pass ends: 4 columns before the own grid.
    assert int(np.argmax(steps_by_phase(image))) == 4
    assert steps_by_phase(image)[4] > 1.1 * np.median(steps_by_phase(image))
    assert steps_by_phase(once)[4] < 1.1 * np.median(steps_by_phase(once))


def steps_by_phase(image: PilImage.Image) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Mean absolute step of luma into each column, by column modulo 8."""
    luma = np.asarray(image.convert("L"), np.float64)
    steps = np.abs(np.diff(luma, axis=1)).mean(axis=0)
    return np.array([steps[(phase - 1) % 8 :: 8].mean() for phase in range(8)])


def test_the_cut_off_jpeg_has_a_good_header_and_cannot_be_loaded() -> None:
    with PilImage.open(ARCHIVE / "2009/city/tower.jpg") as image:
        assert (image.format, image.size) == ("JPEG", TABLE["2009/city/tower.jpg"].size)
        with pytest.raises(OSError, match="truncated"):
            image.load()


def test_the_text_file_is_no_image() -> None:
    with pytest.raises(UnidentifiedImageError):
        PilImage.open(ARCHIVE / "2016/slide-17.jpg")

    assert (ARCHIVE / "2016/slide-17.jpg").read_bytes().isascii()


def test_the_kinds_of_file_that_an_archive_has_are_there() -> None:
    modes = {name: loaded(ARCHIVE / name).mode for name in WITH_REFERENCE}
    progressive = [name for name in WITH_REFERENCE if loaded(ARCHIVE / name).info.get("progressive")]

    assert [name for name, mode in modes.items() if mode == "L"] == ["2009/city/corner-shop.jpg"]
    assert progressive == ["2009/city/panorama.jpg"]
    assert loaded(ARCHIVE / "2009/coast/foam.png").format == "PNG"
    assert any(" " in name for name in TABLE)
    assert any(not name.isascii() and unicodedata.is_normalized("NFC", name) for name in TABLE)
    assert {name.count("/") for name in TABLE} == {1, 2}
    sizes = [row.size for row in TABLE.values() if row.size]
    assert any(width % 8 and height % 8 for width, height in sizes)


def test_the_upright_photograph_lies_on_its_side_and_its_exif_has_all_three_parts() -> None:
    image, reference = loaded(ARCHIVE / "2016/people/dog.jpg"), reference_of("2016/people/dog.jpg")
    exif = image.getexif()
    camera, place = exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo)

    assert image.width > image.height
    assert ImageOps.exif_transpose(image).size == (image.height, image.width)
    assert exif[ExifTags.Base.Orientation] == reference.getexif()[ExifTags.Base.Orientation] == 6
    assert camera[ExifTags.Base.DateTimeOriginal] == "2016:05:14 10:31:07"
    assert camera[ExifTags.Base.ExposureTime] == pytest.approx(1 / 250)
    assert (camera[ExifTags.Base.ExifImageWidth], camera[ExifTags.Base.ExifImageHeight]) == image.size
    assert [float(part) for part in place[ExifTags.GPS.GPSLatitude]] == pytest.approx([51, 28, 40.12])
    assert place[ExifTags.GPS.GPSLongitudeRef] == "W"


def test_turned_by_its_tag_the_upright_photograph_has_the_grass_below_the_leaves() -> None:
    upright = ImageOps.exif_transpose(loaded(ARCHIVE / "2016/people/dog.jpg"))
    left = np.asarray(upright, np.float64)[:, :40]

    dark_leaves, light_grass = left[:100].mean(), left[-100:].mean()

    assert dark_leaves < 0.6 * light_grass


def test_the_studio_photograph_has_profile_xmp_and_density_and_its_reference_the_same_profile() -> None:
    image, reference = loaded(ARCHIVE / "2016/studio/guitar.jpg"), reference_of("2016/studio/guitar.jpg")

    assert image.info["dpi"] == (300, 300)
    assert b'<rdf:li xml:lang="x-default">Red guitar</rdf:li>' in image.info["xmp"]
    assert image.info["icc_profile"] == reference.info["icc_profile"]


def test_the_profile_is_readable_and_wider_than_srgb() -> None:
    data = loaded(ARCHIVE / "2016/studio/guitar.jpg").info["icc_profile"]
    profile, srgb = ImageCms.ImageCmsProfile(io.BytesIO(data)), ImageCms.createProfile("sRGB")

    red = ImageCms.profileToProfile(PilImage.new("RGB", (1, 1), (200, 30, 30)), srgb, profile)

    assert ImageCms.getProfileDescription(profile).strip() == "Relume sample, wide gamut"
    assert red is not None
    # The same red in Display P3, worked out by hand from the published matrices: its numbers lie nearer to grey.
    np.testing.assert_allclose(np.asarray(red)[0, 0], (184, 50, 41), atol=2)


def test_no_other_file_has_a_profile_or_exif() -> None:
    images = {name: loaded(ARCHIVE / name).info for name in WITH_REFERENCE}

    assert [name for name, info in images.items() if "icc_profile" in info] == ["2016/studio/guitar.jpg"]
    assert [name for name, info in images.items() if "exif" in info] == ["2016/people/dog.jpg"]


def test_all_samples_together_stay_small() -> None:
    assert sum((SAMPLES / name).stat().st_size for name in files_below(SAMPLES)) < MAX_BYTES


def test_the_script_makes_the_files_of_the_table(script: ModuleType) -> None:
    assert [sample.name for sample in script.SAMPLES] == list(TABLE)


def test_the_script_builds_the_profile_and_the_exif_that_are_in_the_files(script: ModuleType) -> None:
    dog = loaded(ARCHIVE / "2016/people/dog.jpg")

    assert script.wide_gamut_profile() == loaded(ARCHIVE / "2016/studio/guitar.jpg").info["icc_profile"]
    assert script.camera_exif(dog.size) == dog.info["exif"]


def test_the_script_refuses_other_photographs_and_writes_nothing(tmp_path: Path) -> None:
    photos, output = tmp_path / "photos", tmp_path / "output"
    photos.mkdir()
    for place in range(25):
        PilImage.new("RGB", (4, 4), (place, 0, 0)).save(photos / f"{place:02}.png")

    run = subprocess.run(
        [sys.executable, SAMPLES / "make_samples.py", photos, output], capture_output=True, text=True, check=False
    )

    assert run.returncode == 2
    assert re.fullmatch(
        r"PHOTOS must hold GB82 in its own order; image 2 must be 'bulb' .* got .*01.png .*\n", run.stderr
    )
    assert not output.exists()
