"""A model folder is what it says, or it is not loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from model import contract
from model.contract import ModelError
from model.restorer import Restorer


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def test_a_folder_as_written_is_accepted_and_its_digest_is_stable(folder: Path, tiny_model: Path) -> None:
    assert contract.read(folder).digest == contract.read(tiny_model).digest


def test_a_changed_byte_in_the_program_is_refused_before_it_is_loaded(folder: Path) -> None:
    program = folder / "saved_model" / "saved_model.pb"
    data = bytearray(program.read_bytes())
    data[len(data) // 2] ^= 1
    program.write_bytes(data)

    with pytest.raises(ModelError, match=r"saved_model/saved_model\.pb was changed"):
        Restorer.load(folder)


def test_a_file_more_or_less_is_refused(folder: Path) -> None:
    (folder / "saved_model" / "extra.so").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"holds saved_model/extra\.so"):
        contract.read(folder)
    (folder / "saved_model" / "extra.so").unlink()
    (folder / "card.md").unlink()
    with pytest.raises(ModelError, match=r"lacks card\.md"):
        contract.read(folder)


def test_a_contract_edited_by_hand_is_refused(folder: Path) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"halo": 0}))

    with pytest.raises(ModelError, match="does not match its own digest"):
        contract.read(folder)


@pytest.mark.parametrize(("content", "said"), [("{", "cannot be read"), ('{"format": 99, "digest": ""}', "format 99")])
def test_an_unreadable_contract_names_its_file(folder: Path, content: str, said: str) -> None:
    (folder / "model.json").write_text(content)

    with pytest.raises(ModelError, match=rf"model\.json.*{said}"):
        contract.read(folder)


def test_a_folder_without_contract_is_no_model_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no model folder"):
        contract.read(tmp_path)


def test_another_model_than_the_expected_one_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"has digest .*, expected 0000"):
        Restorer.load(folder, expected_digest="0000")
