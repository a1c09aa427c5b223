"""What would be done, counted: the same as the pipeline then does, folder by folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline import names, survey
from pipeline.elements import ImageRef
from pipeline.flags import UsageError
from pipeline.options import RestoreConfig
from pipeline.recording import RunInfo
from pipeline.storage import open_storage
from pipeline.survey import Survey


@pytest.fixture
def config(tmp_path: Path) -> RestoreConfig:
    """Five images in three folders and the root, of which two are done and one was changed since."""
    config = RestoreConfig(input=str(tmp_path / "in"), output=str(tmp_path / "out"))
    for name in ("a.jpg", "x/b.jpg", "x/y/c.jpg", "z/d.jpg", "z/e.jpg"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(b"12345")
    for name in ("a.jpg", "x/y/c.jpg"):
        ref = open_storage(config.input).stat(name)
        assert ref is not None
        receipt(config, ref)
    receipt(config, ImageRef("z/d.jpg", 5, "an older version"))
    return config


def receipt(config: RestoreConfig, ref: ImageRef) -> None:
    path = Path(config.output) / names.receipt_name(ref, "recipe")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")


def test_done_is_what_has_a_receipt_of_its_version_and_recipe(config: RestoreConfig) -> None:
    assert survey.take(config, "recipe") == Survey(listed=5, done=2, unusable=0, pending=3, pending_bytes=15)
    assert survey.take(config, "another recipe").done == 0
    assert survey.receipts_in(config.output) == 3
    before = survey.newest_receipt(config.output)
    assert survey.receipts_in(config.output, before) == 0
    receipt(config, ImageRef("new.jpg", 5, "1"))
    os.utime(
        Path(config.output) / names.receipt_name(ImageRef("new.jpg", 5, "1"), "recipe"), ns=(before + 1, before + 1)
    )
    assert survey.receipts_in(config.output, before) == 1


def test_an_inventory_is_counted_alike_whatever_its_order(config: RestoreConfig, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("z/d.jpg\nx/y/c.jpg\na.jpg\n")
    chosen = RestoreConfig(input=config.input, output=config.output, inventory=str(tmp_path / "names.txt"))

    assert survey.take(chosen, "recipe") == Survey(listed=3, done=2, unusable=0, pending=1, pending_bytes=5)


def test_only_the_receipts_of_one_first_folder_are_held_at_a_time(config: RestoreConfig) -> None:
    held = [set(receipts) for _, receipts in survey._parts(config)]

    assert held == [{"a.jpg"}, {"x/y/c.jpg"}, {"z/d.jpg"}]


def test_a_name_of_a_run_is_used_once(config: RestoreConfig) -> None:
    run = RunInfo("night", "0", "m" * 64, "r" * 64, {})
    found = survey.take(config, "recipe")
    survey.write_plan(found, config.output, run, "first")

    with pytest.raises(UsageError, match="--run_id night was used before"):
        survey.write_plan(found, config.output, run, "second")


def test_a_reference_folder_without_files_is_refused(config: RestoreConfig, tmp_path: Path) -> None:
    (tmp_path / "pristine").mkdir()
    wanted = RestoreConfig(input=config.input, output=config.output, reference=str(tmp_path / "pristine"))

    with pytest.raises(UsageError, match=r"--reference .*pristine holds no files"):
        survey.take(wanted, "recipe")


def test_a_sample_is_the_same_in_whatever_order_images_are_listed_and_takes_in_all_there_are() -> None:
    refs = [ImageRef(f"{number}.jpg", number, "1") for number in range(200)]

    def chosen(order: list[ImageRef], most: int) -> tuple[ImageRef, ...]:
        sample = survey.Sample(most)
        for ref in order:
            sample.add(ref)
        return sample.refs

    assert chosen(refs, 20) == chosen(refs[::-1], 20)
    assert len(set(chosen(refs, 20))) == 20
    # By chance, and not from one end: with 20 of 200 either half is empty once in a million.
    assert {ref.size < 100 for ref in chosen(refs, 20)} == {True, False}
    assert set(chosen(refs, 500)) == set(refs)
    assert chosen(refs, 0) == ()


def test_only_what_is_to_be_done_is_shown_to_a_sample(config: RestoreConfig) -> None:
    sample = survey.Sample(10)

    survey.take(config, "recipe", sample)

    assert sorted(ref.name for ref in sample.refs) == ["x/b.jpg", "z/d.jpg", "z/e.jpg"]
