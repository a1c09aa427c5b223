"""The whole way on a small folder: every image accounted for, nothing lost, in one fused stage."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.common_urns import resource_hints
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from PIL import Image as PilImage

from jobs.command_line import ExitCode
from jobs.restore import exit_code_of
from model import contract
from model.degradation import compress
from pipeline import recording
from pipeline.archive import Plan, RestoreArchive
from pipeline.deadline import MAX_COST, MAX_MINUTES, Deadline
from pipeline.options import RestoreConfig
from pipeline.restoring import RestoreImages

Array = np.ndarray[Any, np.dtype[Any]]


def jpeg(pixels: Array, quality: int) -> bytes:
    buffer = io.BytesIO()
    PilImage.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


@pytest.fixture
def archive(tmp_path: Path, photo: Array) -> Path:
    """Seven good images of three kinds, one that is cut off, one that is none."""
    folder = tmp_path / "archive"
    (folder / "1998" / "sea").mkdir(parents=True)
    for i in range(4):
        (folder / "1998" / f"roll {i}.jpg").write_bytes(jpeg(photo[i * 8 :, : 200 + i], 20 + 10 * i))
    (folder / "1998" / "sea" / "grey.jpg").write_bytes(jpeg(photo[..., 0], 15))
    PilImage.fromarray(compress(photo, 20)[0]).save(folder / "saved.png")
    (folder / "dot.png").write_bytes(_png(photo[:1, :1]))
    (folder / "cut.jpg").write_bytes(jpeg(photo, 30)[:900])
    (folder / "note.jpg").write_text("no picture")
    return folder


def _png(pixels: Array) -> bytes:
    buffer = io.BytesIO()
    PilImage.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def plan_of(archive: Path, output: Path, model: Path, **flags: Any) -> Plan:
    # The tiny model's estimate is noise: nothing may be spared by it.
    config = RestoreConfig(input=str(archive), output=str(output), keep_above_quality=101, **flags)
    agreed = contract.read(model)
    digest = config.recipe_digest(agreed.digest)
    run = recording.RunInfo(config.run_id, "0", agreed.digest, digest, config.recipe_settings())
    return Plan(config, run, str(model))


def run(plan: Plan, *flags: str) -> dict[str, Any]:
    with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions(list(flags))) as root:
        _ = root | RestoreArchive(plan)
    summary = recording.read_summary(plan.config.output, plan.config.run_id)
    assert summary is not None
    return summary


def objects(output: Path) -> dict[str, str]:
    """Digest of every object that is no table of a run, by name."""
    paths = [path for path in sorted(output.rglob("*")) if path.is_file() and "runs" not in path.parts]
    return {path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_every_input_has_one_row_and_every_done_one_an_output_with_its_receipt(
    archive: Path, tmp_path: Path, tiny_model: Path
) -> None:
    plan = plan_of(archive, tmp_path / "out", tiny_model)

    summary = run(plan)

    counts = summary["counts"]
    assert summary["inputs"] == 9 == sum(counts.values())
    assert counts["restored"] >= 3
    assert summary["reasons"]["failed"] == {"damaged": 1, "not-an-image": 1}
    rows = list(recording.read_rows(plan.config.output, plan.config.run_id))
    assert sorted(row.name for row in rows) == sorted(
        path.relative_to(archive).as_posix() for path in archive.rglob("*") if path.is_file()
    )
    for row in rows:
        if row.outcome == "failed":
            continue
        output = tmp_path / "out" / row.output
        receipt = json.loads(next((tmp_path / "out/_relume/receipts").glob(f"{row.name}.*.json")).read_text())
        assert receipt["decision"] == row.outcome
        assert receipt["output"]["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
        assert receipt["source"]["sha256"] == hashlib.sha256((archive / row.name).read_bytes()).hexdigest()
        with PilImage.open(output) as written, PilImage.open(archive / row.name) as source:
            assert (written.size, written.mode) == (source.size, source.mode)
        if row.outcome == "kept":
            assert output.read_bytes() == (archive / row.name).read_bytes()
    dead = [
        json.loads(line)
        for path in (tmp_path / "out" / plan.run.folder).glob("failures-*.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert {(d["name"], d["stage"], d["reason"]) for d in dead} == {
        ("cut.jpg", "decode", "damaged"),
        ("note.jpg", "decode", "not-an-image"),
    }


def test_a_second_run_skips_what_is_done_and_changes_no_byte(archive: Path, tmp_path: Path, tiny_model: Path) -> None:
    first = plan_of(archive, tmp_path / "out", tiny_model)
    done = run(first)["counts"]
    before = objects(tmp_path / "out")
    changed = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*") if path.is_file()}

    again = run(plan_of(archive, tmp_path / "out", tiny_model))["counts"]

    skipped = done["restored"] + done["kept"]
    assert again == {"restored": 0, "kept": 0, "skipped": skipped, "failed": done["failed"], "left": 0}
    assert objects(tmp_path / "out") == before
    assert all(path.stat().st_mtime_ns == then for path, then in changed.items())


@pytest.mark.slow
def test_replayed_bundles_write_one_object_and_one_row_each(archive: Path, tmp_path: Path, tiny_model: Path) -> None:
    once = plan_of(archive, tmp_path / "once", tiny_model)
    run(once)
    thrice = plan_of(archive, tmp_path / "thrice", tiny_model, run_id=once.run.run_id)

    run(thrice, "--direct_runner_bundle_repeat=2")

    names = [row.name for row in recording.read_rows(thrice.config.output, thrice.config.run_id)]
    assert max(collections.Counter(names).values()) == 1
    assert len(names) == 9

    def outputs(folder: str) -> dict[str, str]:
        return {k: v for k, v in objects(tmp_path / folder).items() if not k.startswith("_relume")}

    assert outputs("thrice") == outputs("once")
    receipts = [name for name in objects(tmp_path / "thrice") if name.startswith("_relume/receipts")]
    assert len(receipts) == len(outputs("thrice"))


@pytest.mark.slow
def test_two_worker_processes_write_the_same_bytes_as_one(archive: Path, tmp_path: Path, tiny_model: Path) -> None:
    run(plan_of(archive, tmp_path / "one", tiny_model))

    run(
        plan_of(archive, tmp_path / "two", tiny_model),
        "--direct_running_mode=multi_processing",
        "--direct_num_workers=2",
    )

    def outputs(folder: str) -> dict[str, str]:
        return {k: v for k, v in objects(tmp_path / folder).items() if not k.startswith("_relume")}

    assert outputs("two") == outputs("one")


class ThirdLook:
    """A clock that stands at 0 for the first two looks and at 100 from the third on."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return 0.0 if self.looks <= 2 else 100.0


def outputs_of(folder: Path) -> dict[str, str]:
    return {name: digest for name, digest in objects(folder).items() if not name.startswith("_relume")}


def test_a_deadline_leaves_what_is_not_begun_and_a_second_run_makes_the_whole(
    archive: Path, tmp_path: Path, tiny_model: Path
) -> None:
    whole, capped = plan_of(archive, tmp_path / "whole", tiny_model), plan_of(archive, tmp_path / "out", tiny_model)
    run(whole)
    in_the_middle = Deadline(50.0, MAX_MINUTES, ThirdLook())

    first = run(dataclasses.replace(capped, deadline=in_the_middle))

    # The two that had begun were in one batch, which was not full when the time was over: both were finished.
    rows = list(recording.read_rows(str(tmp_path / "out"), capped.run.run_id))
    assert first["accounted"]
    assert first["counts"]["left"] == 7 == first["reasons"]["left"]["max-minutes"]
    assert len(rows) == len({row.name for row in rows}) == 9
    begun = [row for row in rows if row.outcome != "left"]
    assert len(begun) == 2
    assert len(outputs_of(tmp_path / "out")) == sum(row.outcome in ("restored", "kept") for row in begun)

    second = run(plan_of(archive, tmp_path / "out", tiny_model))

    done = sum(row.outcome in ("restored", "kept") for row in begun)
    assert (second["counts"]["left"], second["counts"]["skipped"]) == (0, done)
    assert outputs_of(tmp_path / "out") == outputs_of(tmp_path / "whole")
    names = [{name for name in objects(tmp_path / folder) if "receipts" in name} for folder in ("out", "whole")]
    assert names[0] == names[1]


@pytest.mark.parametrize(("cap", "code"), [(MAX_MINUTES, ExitCode.TIME_CAP), (MAX_COST, ExitCode.COST_CAP)])
def test_a_deadline_that_is_over_begins_nothing_and_still_accounts_for_every_input(
    cap: str, code: ExitCode, archive: Path, tmp_path: Path, tiny_model: Path
) -> None:
    plan = plan_of(archive, tmp_path / "out", tiny_model)

    summary = run(dataclasses.replace(plan, deadline=Deadline(0.0, cap)))

    assert summary["counts"] == {"restored": 0, "kept": 0, "skipped": 0, "failed": 0, "left": 9}
    assert (summary["inputs"], summary["accounted"]) == (9, True)
    assert list(objects(tmp_path / "out")) == []
    assert exit_code_of(summary, tolerate=0) == code


STEPS = ("InTime/", "Hold/", "Read/", "Large/", "Decode/", "Restore/", "Encode/", "Judge/", "Write/", "WriteKept/")
HINTS = {"accelerator": "type:nvidia-l4;count:1", "min_ram": "24GB"}
RAM = resource_hints.MIN_RAM_BYTES.urn


def stages_of(root: beam.Pipeline) -> list[tuple[tuple[str, ...], list[str]]]:
    """The fused stages that hold steps of the bracket: those steps, and the names of all its transforms."""
    _, stages = FnApiRunner().create_stages(root.to_runner_api())
    found = []
    for stage in stages:
        names = [transform.unique_name for transform in stage.transforms]
        steps = tuple(step for step in STEPS if any(f"/Each/{step}" in name for name in names))
        if steps:
            found.append((steps, names))
    return found


def hints_in(root: beam.Pipeline) -> dict[str, dict[str, bytes]]:
    """What each transform that runs in an environment asks of it, by the transform's name."""
    components = root.to_runner_api().components
    return {
        transform.unique_name: dict(components.environments[transform.environment_id].resource_hints)
        for transform in components.transforms.values()
        if transform.environment_id
    }


def test_from_read_to_receipt_is_one_fused_stage(archive: Path, tmp_path: Path, tiny_model: Path) -> None:
    root = beam.Pipeline(runner=FnApiRunner())
    _ = root | RestoreArchive(plan_of(archive, tmp_path / "out", tiny_model))

    # Flattened rows may be stored by a runner; files and images may not, so all that touch them share one stage.
    assert [steps for steps, _ in stages_of(root)] == [STEPS]


def test_a_resource_hint_is_that_of_every_step_of_the_bracket_and_of_nothing_before_it(
    archive: Path, tmp_path: Path, tiny_model: Path
) -> None:
    plan = plan_of(
        archive, tmp_path / "out", tiny_model, accelerator_hint=HINTS["accelerator"], min_ram_hint=HINTS["min_ram"]
    )
    root = beam.Pipeline(runner=FnApiRunner())
    _ = root | RestoreArchive(plan)

    ((steps, names),) = stages_of(root)

    hints = hints_in(root)
    wanted = {resource_hints.ACCELERATOR.urn: b"type:nvidia-l4;count:1", RAM: b"24000000000"}
    assert steps == STEPS
    # What the runner itself puts in to store rows has no environment, so no hints, and is no step of ours.
    assert [hints[name] for name in names if name in hints] == [wanted] * len(hints.keys() & set(names))
    assert {name for name, found in hints.items() if found} == {name for name in hints if "/Each" in name}


def test_a_resource_hint_on_the_model_alone_would_cut_the_stage(
    archive: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above could fail: pixels would go to another stage and back."""
    monkeypatch.setattr(
        "pipeline.archive.RestoreImages", lambda settings: RestoreImages(settings).with_resource_hints(**HINTS)
    )
    root = beam.Pipeline(runner=FnApiRunner())
    _ = root | RestoreArchive(plan_of(archive, tmp_path / "out", tiny_model))

    assert sorted(steps for steps, _ in stages_of(root)) == [
        ("Encode/", "Judge/", "Write/"),
        ("InTime/", "Hold/", "Read/", "Large/", "Decode/", "WriteKept/"),
        ("Restore/",),
    ]


def test_a_reshuffle_in_the_middle_would_cut_the_stage(archive: Path, tmp_path: Path, tiny_model: Path) -> None:
    """The test above could fail: here is what it would see."""
    from pipeline.archive import RestoreEach
    from pipeline.listing import ListSources
    from pipeline.storage import ReadFiles

    plan = plan_of(archive, tmp_path / "out", tiny_model)

    class Cut(RestoreEach):
        def expand(self, pending: beam.PCollection) -> beam.PCollection:
            read = pending | "Read" >> ReadFiles(plan.config.input, plan.config.max_bytes)
            return read.good | beam.Reshuffle() | "Decode" >> beam.Map(lambda file: file.ref)

    root = beam.Pipeline(runner=FnApiRunner())
    _ = root | ListSources(plan.config.input) | "Each" >> Cut(plan)

    _, stages = FnApiRunner().create_stages(root.to_runner_api())

    assert sum(any("Each/" in t.unique_name for t in stage.transforms) for stage in stages) > 1


def test_a_changed_source_is_restored_again_and_others_are_not(
    archive: Path, tmp_path: Path, tiny_model: Path, photo: Array
) -> None:
    run(plan_of(archive, tmp_path / "out", tiny_model))
    (archive / "saved.png").write_bytes(_png(photo[:64, :64]))

    counts = run(plan_of(archive, tmp_path / "out", tiny_model))["counts"]

    assert counts["skipped"] == 6
    assert counts["restored"] + counts["kept"] == 1
    with PilImage.open(tmp_path / "out" / "saved.png") as written:
        assert written.size == (64, 64)


def test_a_file_that_is_not_ours_is_never_overwritten(archive: Path, tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "saved.png").write_bytes(b"somebody's own")

    summary = run(plan_of(archive, tmp_path / "out", tiny_model))

    assert (tmp_path / "out" / "saved.png").read_bytes() == b"somebody's own"
    assert summary["reasons"]["failed"]["conflict"] == 1


def test_references_are_found_by_name_whatever_their_format(
    archive: Path, tmp_path: Path, tiny_model: Path, photo: Array
) -> None:
    (tmp_path / "pristine" / "1998").mkdir(parents=True)
    PilImage.fromarray(photo[:, :200]).save(tmp_path / "pristine" / "1998" / "roll 0.webp", lossless=True)
    # Of a kind that is kept as it is: measures nothing.
    PilImage.fromarray(photo).quantize(16).save(tmp_path / "pristine" / "1998" / "roll 1.png")
    plan = plan_of(archive, tmp_path / "out", tiny_model, reference=str(tmp_path / "pristine"))

    run(dataclasses.replace(plan))

    rows = {row.name: row for row in recording.read_rows(plan.config.output, plan.config.run_id)}
    before = rows["1998/roll 0.jpg"].before.psnr
    assert before is not None
    assert 20 < before < 40
    assert rows["1998/roll 1.jpg"].before.psnr is None
