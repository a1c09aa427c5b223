"""A model in Cloud Storage is fetched once by each machine, and only what its contract names is loaded."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from model import contract
from model.contract import ModelError
from pipeline import models
from tests.cloud.gcs import GcsTwin

MODEL = "gs://models/jpeg/tiny"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where fetched models go."""
    monkeypatch.setenv(models.CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bucket(gcs: GcsTwin, tiny_model: Path) -> GcsTwin:
    """Cloud storage with the tiny model in it."""
    gcs.create_bucket("models")
    for path in tiny_model.rglob("*"):
        if path.is_file():
            gcs.put("models", f"jpeg/tiny/{path.relative_to(tiny_model).as_posix()}", path.read_bytes())
    gcs.forget_requests()
    return gcs


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_launcher_reads_the_contract_and_a_listing_alone(bucket: GcsTwin, tiny_model: Path, cache: Path) -> None:
    agreed = models.contract_of(MODEL)

    assert agreed == contract.read(tiny_model)
    assert len(bucket.requests()) == 2
    assert not cache.exists()


def test_a_worker_fetches_each_file_once_and_never_again(bucket: GcsTwin, tiny_model: Path) -> None:
    digest = contract.read(tiny_model).digest

    folder = models.folder_of(MODEL, digest)

    assert files_of(folder) == files_of(tiny_model)
    assert len(bucket.requests()) == len(files_of(tiny_model))
    bucket.forget_requests()
    assert models.folder_of(MODEL, digest) == folder
    assert bucket.requests() == []


def test_a_file_that_was_changed_in_the_bucket_is_named_and_leaves_nothing(
    bucket: GcsTwin, tiny_model: Path, cache: Path
) -> None:
    program = bytearray((tiny_model / "saved_model" / "saved_model.pb").read_bytes())
    program[len(program) // 2] ^= 1
    bucket.put("models", "jpeg/tiny/saved_model/saved_model.pb", bytes(program))

    with pytest.raises(ModelError, match=r"^gs://models/jpeg/tiny/saved_model/saved_model\.pb was changed: .*$"):
        models.folder_of(MODEL, models.contract_of(MODEL).digest)

    assert [path.name for path in cache.iterdir() if path.suffix != ".lock"] == []


def test_a_model_that_was_replaced_since_the_run_began_is_not_taken(bucket: GcsTwin, tiny_model: Path) -> None:
    with pytest.raises(ModelError, match=r"gs://models/jpeg/tiny has digest \w{12}, expected 0{12}: it was replaced"):
        models.folder_of(MODEL, "0" * 64)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("gs://models/none", "gs://models/none is no model folder: it has no model.json"),
        ("gs://nobody/tiny", "gs://nobody/tiny is no model folder: it has no model.json"),
        ("gs://X", "'gs://X' names no bucket"),
        ("gs://models/lacking", "gs://models/lacking lacks card.md, which its model.json names"),
        ("gs://models/stuffed", "gs://models/stuffed holds notes.txt, which its model.json does not name"),
        ("gs://models/edited", "gs://models/edited/model.json does not match its own digest"),
        ("gs://models/broken", "gs://models/broken/model.json cannot be read"),
        ("gs://models/leading", "gs://models/leading/model.json names '../out', which is no file below its folder"),
    ],
)
def test_what_is_wrong_with_a_model_is_known_before_a_worker_starts(
    bucket: GcsTwin, tiny_model: Path, tmp_path: Path, model: str, said: str
) -> None:
    agreed, text = contract.read(tiny_model), (tiny_model / "model.json").read_text()
    dataclasses.replace(agreed, files={**agreed.files, "../out": "0" * 64}).write(tmp_path)
    contracts = {
        "lacking": text,
        "stuffed": text,
        "edited": text.replace('"tiny"', '"titan"'),
        "broken": text[:-9],
        "leading": (tmp_path / "model.json").read_text(),
    }
    for folder, content in contracts.items():
        bucket.put("models", f"{folder}/model.json", content.encode())
        for name in {*agreed.files, "notes.txt"} - {"card.md" if folder == "lacking" else ""}:
            bucket.put("models", f"{folder}/{name}", b"")

    with pytest.raises(ModelError) as caught:
        models.contract_of(model)

    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_copy_that_was_damaged_is_fetched_again(bucket: GcsTwin, tiny_model: Path) -> None:
    folder = models.folder_of(MODEL)
    (folder / "weights.npz").write_bytes(b"")

    assert files_of(models.folder_of(MODEL)) == files_of(tiny_model)


def test_models_are_not_kept_where_others_could_change_them(bucket: GcsTwin, cache: Path) -> None:
    cache.mkdir(mode=0o777)
    cache.chmod(0o777)

    with pytest.raises(ModelError, match="must be a folder that only this user can write to"):
        models.folder_of(MODEL)


def test_a_model_on_this_machine_is_its_own_folder_and_the_built_in_one_that_of_the_package(tiny_model: Path) -> None:
    assert models.folder_of(str(tiny_model)) == tiny_model
    assert models.contract_of(str(tiny_model)) == contract.read(tiny_model)
    assert json.loads((models.folder_of("jpeg-s") / "model.json").read_text())["name"] == "jpeg-s"


def test_a_misspelt_name_of_a_shipped_model_gets_the_right_one_said(tmp_path: Path) -> None:
    for read in (models.folder_of, models.contract_of):
        with pytest.raises(contract.ModelError, match=r"jpeg_s is no model folder; did you mean jpeg-s\?"):
            read("jpeg_s")
    (tmp_path / "jpeg_s").mkdir()
    assert models.folder_of(str(tmp_path / "jpeg_s")) == tmp_path / "jpeg_s"
