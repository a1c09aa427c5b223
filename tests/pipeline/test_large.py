"""An image that is restored in bands comes out as one that is held: output, receipt and row."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as PilImage

import pipeline.large
from model import contract
from model.degradation import compress
from model.restorer import RestorationError, Restorer
from pipeline import large, recording, restoring
from pipeline.archive import Plan, RestoreArchive
from pipeline.codec import large_tiff
from pipeline.codec.ifd import EXIF, Directory, Entry
from pipeline.elements import Row
from pipeline.options import RestoreConfig
from tests.pipeline.picture_files import coded_pieces, tiff, with_tags

Array = np.ndarray[Any, np.dtype[Any]]

ROOT = Path(__file__).parents[2]
BANDS, HELD = 0.001, 50.0
"""Limits in megapixels under which everything here is restored in bands, and nothing."""


@pytest.fixture(scope="module")
def scene(photo: Array) -> Array:
    """A compressed picture of several rows of tiles, of no round size."""
    tiled = np.concatenate([np.concatenate([photo, photo[:, ::-1]], 1), np.concatenate([photo[::-1], photo], 1)] * 3)
    return compress(np.ascontiguousarray(tiled[:1101, :181]), 25)[0]


@pytest.fixture(autouse=True)
def small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "BAND_PIXELS", 1)
    monkeypatch.setattr(large, "JUDGED_BYTES", 200_000)
    monkeypatch.setattr(large, "MEASURED_BYTES", 50_000)
    monkeypatch.setattr(large_tiff, "DECODED_BYTES", 150_000)


def plan_of(archive: Path, output: Path, model: Path, **flags: Any) -> Plan:
    config = RestoreConfig(
        input=str(archive),
        output=str(output),
        run_id=flags.pop("run_id", "run"),
        **{"keep_above_quality": 101, **flags},
    )
    agreed = contract.read(model)
    digest = config.recipe_digest(agreed.digest)
    run = recording.RunInfo(config.run_id, "0", agreed.digest, digest, config.recipe_settings())
    return Plan(config, run, str(model))


def run(plan: Plan, *flags: str) -> dict[str, Row]:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions(list(flags))) as root:
        _ = root | RestoreArchive(plan)
    return {row.name: row for row in recording.read_rows(plan.config.output, plan.config.run_id)}


def images(output: Path) -> dict[str, bytes]:
    paths = (path for path in output.rglob("*") if path.is_file() and "_relume" not in path.parts)
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in paths}


def receipts(output: Path) -> dict[str, Any]:
    return {path.name: json.loads(path.read_text()) for path in (output / "_relume" / "receipts").rglob("*.json")}


def restored_in_bands(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects the names of images that went this way."""
    found: list[str] = []
    real = pipeline.large._Way.judged

    def watched(way: Any, find: Any) -> Any:
        found.append(way.file.ref.name)
        return real(way, find)

    monkeypatch.setattr(pipeline.large._Way, "judged", watched)
    return found


def fill(archive: Path, scene: Array) -> None:
    """Writes TIFFs that are restored in bands."""
    deep = scene.astype(np.uint16) * 257
    clear = np.dstack([scene, scene[::-1, :, 0]])
    files: dict[str, tuple[list[Array], dict[str, Any]]] = {
        "strips.tif": ([scene], {"rowsperstrip": 13, "description": "a caption", "resolution": (300, 300)}),
        "one-strip.tif": ([scene[:, :101]], {}),
        "tiles.tif": ([scene], {"tile": (128, 64), "compression": "zlib", "predictor": True}),
        "deep-grey.tif": ([deep[..., 1]], {"rowsperstrip": 40, "compression": "lzw", "bigtiff": True}),
        "alpha.tif": ([clear[:700]], {"rowsperstrip": 9, "compression": "zlib", "extrasamples": [2]}),
        "pages.tif": ([scene[:520, :100], scene[:90]], {"rowsperstrip": 32, "compression": "lzw"}),
    }
    for name, (pages, options) in files.items():
        with tifffile.TiffWriter(archive / name, bigtiff=options.pop("bigtiff", False)) as file:
            for page in pages:
                kind = "minisblack" if page.ndim == 2 else "rgb"
                file.write(np.ascontiguousarray(page), photometric=kind, metadata=None, **options)
    note = Directory({}, {EXIF: Directory({37500: Entry(7, 9, b"\x1a\0\0\0MAKER")})})
    (archive / "alpha.tif").write_bytes(with_tags((archive / "alpha.tif").read_bytes(), [note]))


@pytest.fixture
def archive(tmp_path: Path, scene: Array) -> Path:
    folder = tmp_path / "archive"
    folder.mkdir()
    fill(folder, scene)
    PilImage.fromarray(scene).save(folder / "other.jpg", quality=30)
    PilImage.fromarray(scene[:100]).save(folder / "jpeg-strips.tif", compression="jpeg")
    return folder


def almost(one: Any, other: Any) -> bool:
    """Equal but for numbers that are summed in another order."""
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, abs=2e-6)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(almost(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(almost(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


@pytest.mark.parametrize("measured", [False, True])
def test_bands_and_whole_images_give_the_same_bytes_receipts_and_rows(
    archive: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, measured: bool
) -> None:
    flags: dict[str, Any] = {}
    if measured:
        flags["reference"] = str(tmp_path / "pristine")
        (tmp_path / "pristine").mkdir()
        for path in archive.glob("*.tif"):
            with tifffile.TiffFile(path) as file:
                page = file.pages[0].asarray()
            tifffile.imwrite(tmp_path / "pristine" / path.name, page ^ 1, rowsperstrip=50, metadata=None)
        (tmp_path / "pristine" / "other.jpg").write_bytes((archive / "other.jpg").read_bytes())

    whole = run(plan_of(archive, tmp_path / "whole", tiny_model, band_megapixels=HELD, **flags))
    ways = restored_in_bands(monkeypatch)
    parts = run(plan_of(archive, tmp_path / "bands", tiny_model, band_megapixels=BANDS, **flags))

    assert sorted(ways) == ["alpha.tif", "deep-grey.tif", "one-strip.tif", "pages.tif", "strips.tif", "tiles.tif"]
    assert images(tmp_path / "bands") == images(tmp_path / "whole")
    assert parts.keys() == whole.keys()
    for name in whole:
        assert almost(dataclasses.asdict(parts[name]), dataclasses.asdict(whole[name])), name
    before, after = (receipts(tmp_path / folder) for folder in ("whole", "bands"))
    assert before.keys() == after.keys()
    for name, said in before.items():
        for output in (said["output"], after[name]["output"]):
            del output["uri"]
        assert almost(after[name], said), name
        moved = said["source"]["name"] == "alpha.tif" and not measured
        assert ("maker-note-offsets" in said["metadata"]["not_kept"]) == moved
    assert {row.outcome for row in parts.values()} == {"kept" if measured else "restored"}
    assert all((row.before.psnr is not None) == measured for row in parts.values())


@pytest.mark.parametrize("spared", [0, 1])
@pytest.mark.parametrize(
    "options",
    [
        {"rowsperstrip": 32, "compression": "lzw"},
        {"tile": (64, 48), "compression": "jpeg", "compressionargs": {"level": 40}},
    ],
    ids=["lzw", "jpeg"],
)
def test_a_page_that_is_spared_keeps_its_pixels_among_others_in_bands_too(
    tmp_path: Path,
    scene: Array,
    tiny_model: Path,
    monkeypatch: pytest.MonkeyPatch,
    spared: int,
    options: dict[str, Any],
) -> None:
    archive = tmp_path / "archive"
    archive.mkdir()
    data = tiff(scene[:520, :100], scene[:90], **options)
    (archive / "pages.tif").write_bytes(data)
    sources = [tifffile.imread(archive / "pages.tif", key=page) for page in range(2)]
    noise = Restorer.load(tiny_model).estimate([sources[spared]])[0].noise
    monkeypatch.setattr(
        restoring, "triage", lambda damage, *_: "graphics" if damage.noise == pytest.approx(noise, abs=1e-6) else None
    )

    whole = run(plan_of(archive, tmp_path / "whole", tiny_model, band_megapixels=HELD))
    parts = run(plan_of(archive, tmp_path / "bands", tiny_model, band_megapixels=BANDS))

    assert whole["pages.tif"].outcome == "restored"
    assert almost(dataclasses.asdict(parts["pages.tif"]), dataclasses.asdict(whole["pages.tif"]))
    assert images(tmp_path / "bands") == images(tmp_path / "whole")
    output = tmp_path / "bands" / "pages.tif"
    same = [bool((tifffile.imread(output, key=page) == sources[page]).all()) for page in range(2)]
    assert same == [spared == 0, spared == 1]
    assert coded_pieces(output.read_bytes())[spared] == coded_pieces(data)[spared]


def test_at_no_strength_a_file_is_kept_to_the_byte(
    tmp_path: Path, scene: Array, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written anew, a JPEG within would lose something though the model took nothing away."""
    archive = tmp_path / "archive"
    archive.mkdir()
    tifffile.imwrite(archive / "tiles.tif", scene, tile=(64, 48), compression="jpeg", metadata=None)
    ways = restored_in_bands(monkeypatch)

    rows = run(plan_of(archive, tmp_path / "bands", tiny_model, band_megapixels=BANDS, strength=0))

    assert ways == ["tiles.tif"]
    assert (rows["tiles.tif"].outcome, rows["tiles.tif"].reason) == ("kept", "gate-changed")
    assert images(tmp_path / "bands") == {"tiles.tif": (archive / "tiles.tif").read_bytes()}


def test_what_is_good_already_is_kept_to_the_byte(
    archive: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags: dict[str, Any] = {"include": ("strips.tif",), "keep_above_quality": 1}
    whole = run(plan_of(archive, tmp_path / "whole", tiny_model, band_megapixels=HELD, **flags))
    ways = restored_in_bands(monkeypatch)

    # A file of more bytes than are held goes the same way from its spool.
    monkeypatch.setattr("pipeline.archive.HELD_BYTES", 1000)
    parts = run(plan_of(archive, tmp_path / "bands", tiny_model, band_megapixels=BANDS, **flags))

    assert ways == ["strips.tif"]
    assert parts == whole
    assert parts["strips.tif"].outcome == "kept"
    assert images(tmp_path / "bands") == {"strips.tif": (archive / "strips.tif").read_bytes()}


def test_files_on_disk_that_are_to_be_held_go_on_as_they_would_have(
    archive: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags: dict[str, Any] = {"include": ("other.jpg", "jpeg-strips.tif", "note.tif"), "band_megapixels": BANDS}
    (archive / "note.tif").write_text("no picture" * 1000)
    held = run(plan_of(archive, tmp_path / "held", tiny_model, **flags))

    monkeypatch.setattr("pipeline.archive.HELD_BYTES", 1000)
    spooled = run(plan_of(archive, tmp_path / "spooled", tiny_model, **flags))

    assert spooled == held
    assert held["note.tif"].reason == "not-an-image"
    assert images(tmp_path / "spooled") == images(tmp_path / "held")


def test_each_failure_names_its_stage_and_costs_one_image(
    archive: Path, tmp_path: Path, tiny_model: Path, scene: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in archive.iterdir():
        if path.name not in ("strips.tif", "tiles.tif"):
            path.unlink()
    good = (archive / "tiles.tif").read_bytes()
    (archive / "cut.tif").write_bytes((archive / "strips.tif").read_bytes()[:-5000])
    with tifffile.TiffFile(archive / "tiles.tif") as file:
        at = file.pages[0].dataoffsets[-3]
    (archive / "broken.tif").write_bytes(good[:at] + bytes(60) + good[at + 60 :])
    tifffile.imwrite(archive / "too-many.tif", np.concatenate([scene, scene]), metadata=None)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "strips.tif").write_bytes(b"somebody's own")

    limit = scene.shape[0] * scene.shape[1] / 1e6
    rows = run(plan_of(archive, tmp_path / "out", tiny_model, band_megapixels=BANDS, max_megapixels=limit))

    assert {name: (row.stage, row.reason) for name, row in rows.items()} == {
        "cut.tif": ("decode", "damaged"),
        "broken.tif": ("decode", "damaged"),
        "too-many.tif": ("decode", "too-many-pixels"),
        "strips.tif": ("write", "conflict"),
        "tiles.tif": ("", "improved"),
    }
    assert (tmp_path / "out" / "strips.tif").read_bytes() == b"somebody's own"


@pytest.mark.parametrize("keep_above_quality", [1, 101])
def test_a_reference_with_a_damaged_strip_measures_nothing_and_costs_nothing(
    keep_above_quality: int, archive: Path, tmp_path: Path, tiny_model: Path, scene: Array
) -> None:
    pristine = tmp_path / "pristine" / "strips.tif"
    pristine.parent.mkdir()
    tifffile.imwrite(pristine, scene, rowsperstrip=40, compression="zlib", metadata=None)
    with tifffile.TiffFile(pristine) as file:
        at = file.pages[0].dataoffsets[-3]
    content = pristine.read_bytes()
    pristine.write_bytes(content[:at] + bytes(60) + content[at + 60 :])
    flags: dict[str, Any] = {
        "include": ("strips.tif",),
        "band_megapixels": BANDS,
        "keep_above_quality": keep_above_quality,
    }

    measured = run(plan_of(archive, tmp_path / "measured", tiny_model, reference=str(pristine.parent), **flags))

    assert measured["strips.tif"].before.psnr is None
    assert measured == run(plan_of(archive, tmp_path / "alone", tiny_model, **flags))


def test_a_model_that_fails_on_a_band_costs_that_image_alone(
    archive: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Restorer.restore_band

    def failing(restorer: Restorer, task: Any, band: Any) -> Array:
        if task.pixels.dtype == np.uint16:
            raise RestorationError("no such kernel")
        return real(restorer, task, band)

    monkeypatch.setattr(Restorer, "restore_band", failing)

    flags: dict[str, Any] = {"include": ("deep-grey.tif", "strips.tif"), "band_megapixels": BANDS}
    rows = run(plan_of(archive, tmp_path / "out", tiny_model, **flags))

    assert (rows["deep-grey.tif"].stage, rows["deep-grey.tif"].reason) == ("restore", "not-restorable")
    assert rows["strips.tif"].outcome == "restored"


def test_an_output_that_reads_back_different_is_not_written(
    archive: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One pixel lost on the way to the file must not pass."""
    real = large_tiff.write_large

    def losing(stream: Any, source: Any, pages: Any, *how: Any) -> None:
        def changed(rows: Any) -> Any:
            for number, (pixels, alpha) in enumerate(rows):
                pixels = pixels.copy()
                pixels[0, 0, 0] ^= number == 1
                yield pixels, alpha

        real(stream, source, [changed(rows) for rows in pages], *how)

    monkeypatch.setattr(large, "write_large", losing)

    rows = run(plan_of(archive, tmp_path / "out", tiny_model, include=("strips.tif",), band_megapixels=BANDS))

    assert (rows["strips.tif"].stage, rows["strips.tif"].reason) == ("encode", "unsupported")
    assert images(tmp_path / "out") == {}


@pytest.mark.slow
def test_replayed_bundles_write_one_object_and_one_row_each(archive: Path, tmp_path: Path, tiny_model: Path) -> None:
    flags: dict[str, Any] = {"include": ("strips.tif", "tiles.tif"), "band_megapixels": BANDS}
    run(plan_of(archive, tmp_path / "once", tiny_model, **flags))

    rows = run(plan_of(archive, tmp_path / "thrice", tiny_model, **flags), "--direct_runner_bundle_repeat=2")

    assert sorted(rows) == ["strips.tif", "tiles.tif"]
    assert images(tmp_path / "thrice") == images(tmp_path / "once")
    assert len(receipts(tmp_path / "thrice")) == 2


RESTORE = "import sys; from jobs.restore import main; sys.exit(main(sys.argv[1:]))"


@pytest.mark.slow
def test_a_run_killed_in_the_middle_of_an_image_leaves_nothing_and_a_rerun_is_whole(
    archive: Path, tmp_path: Path, tiny_model: Path, scene: Array
) -> None:
    for path in archive.iterdir():
        path.unlink()
    pixels = np.tile(scene, (4, 12, 1))
    tifffile.imwrite(archive / "large.tif", pixels, rowsperstrip=40, compression="zlib", metadata=None)
    spools = tmp_path / "spools"
    spools.mkdir()
    arguments = [
        *("--input", str(archive), "--output", str(tmp_path / "out"), "--model", str(tiny_model)),
        *("--keep_above_quality", "101", "--band_megapixels", "1"),
    ]
    command, where = [sys.executable, "-c", RESTORE, *arguments], {**os.environ, "TMPDIR": str(spools)}
    child = subprocess.Popen(command, cwd=ROOT, env=where, start_new_session=True, stderr=subprocess.DEVNULL)
    while child.poll() is None and not _writes_a_spool(child.pid):
        time.sleep(0.02)
    os.killpg(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL

    assert images(tmp_path / "out") == {}
    assert receipts(tmp_path / "out") == {}
    assert [path.name for path in spools.iterdir() if path.name.startswith("relume")] == []
    subprocess.run(command, cwd=ROOT, env=where, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    held = plan_of(archive, tmp_path / "held", tiny_model)
    run(held)
    assert images(tmp_path / "out") == images(tmp_path / "held")
    assert len(receipts(tmp_path / "out")) == 1


def _writes_a_spool(process: int) -> bool:
    """Whether a process has a file without a name open, with something in it."""
    folder = Path(f"/proc/{process}/fd")
    try:
        links = [(path, path.readlink()) for path in folder.iterdir()]
        return any("/spools/" in str(link) and path.stat().st_size > 0 for path, link in links)
    except OSError:
        return False


@pytest.mark.slow
def test_memory_is_that_of_a_band_and_not_of_the_image(tmp_path: Path, tiny_model: Path) -> None:
    """Of the process and its decoder together; the larger of the two images is 40 megapixels larger."""
    from benchmarks import gigapixel

    found = {}
    for megapixels in (20, 60):
        archive = tmp_path / str(megapixels)
        archive.mkdir()
        gigapixel.make(archive / "large.tif", megapixels, 5000, bits=8, compression="lzw")
        flags = ["--model", str(tiny_model), "--keep_above_quality", "101", "--band_megapixels", "1"]
        found[megapixels] = gigapixel.measure(archive, tmp_path / f"out-{megapixels}", *flags)["gibibytes"]

    # Held, the pixels alone would take 0.11 GiB more, each time that they are copied.
    assert found[60] - found[20] < 0.25
    assert found[60] < 2.5
