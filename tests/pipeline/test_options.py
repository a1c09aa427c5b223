import argparse
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions

from pipeline.flags import UsageError, options_of
from pipeline.options import RestoreConfig, new_run_id, parse

ROOT = Path(__file__).parents[2]
NEEDED = ["--input", "photos", "--output", "restored"]


def test_two_folders_are_enough() -> None:
    config, beam_flags = parse(NEEDED)

    assert beam_flags == []
    assert config == RestoreConfig("photos", "restored", run_id=config.run_id)
    assert (config.model, config.format, config.strength, config.tolerate) == (None, "same", 1.0, 0)


def test_every_option_can_be_set_on_the_command_line() -> None:
    wanted = RestoreConfig(
        input="gs://a/in",
        output="gs://a/out",
        model="m",
        reference="r",
        include=("*.jpg", "b/*"),
        exclude=("c*",),
        inventory="names.csv",
        max_megapixels=12.5,
        max_bytes=1000,
        format="png",
        strength=0.5,
        assume_quality=20,
        keep_above_quality=80,
        batch_megapixels=1.5,
        band_megapixels=20.0,
        tolerate=3,
        profile="l4",
        replace=True,
        dry_run=True,
        run_id="night.1",
        verbose=True,
        max_minutes=90.0,
        model_threads=2,
        precision="float32",
        require_gpu=True,
        accelerator_hint="type:nvidia-l4;count:1;install-nvidia-driver:5xx",
        min_ram_hint="16GB",
        log_format="json",
        max_cost=12.5,
        prices="prices.toml",
        price_region="europe-west1",
    )
    arguments = []
    for one in options_of(RestoreConfig):
        value = getattr(wanted, one.name)
        assert value != one.default, f"{one.name} is not put to the test"
        arguments += [f"{one.flag}={each}" for each in (value if one.repeatable else [value])]

    assert parse(arguments) == (wanted, [])


def test_beam_flags_among_ours_and_after_a_lone_dash_dash_come_out_as_beam_spells_them() -> None:
    among_ours = ["--runner=DirectRunner", *NEEDED, "--direct-num-workers", "2", "--job_server_timeout=5"]

    _, beam_flags = parse(
        [*among_ours, "--tolerate", "1", "--", "--dry_run=True", "--direct_running_mode", "in_memory"]
    )

    directly = ["--runner=DirectRunner", "--direct_num_workers", "2", "--job-server-timeout=5"]
    assert beam_flags == [*directly, "--dry_run=True", "--direct_running_mode", "in_memory"]
    options = PipelineOptions(beam_flags).view_as(DirectOptions)
    assert (options.direct_num_workers, options.direct_running_mode) == (2, "in_memory")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--runer", "DirectRunner"], "--runer is no flag; did you mean --runner?"),
        (["--", "--runer=DirectRunner"], "--runer is no flag; did you mean --runner?"),
        (["--tolerat", "2"], "--tolerat is no flag; did you mean --tolerate?"),
        (["--num_workers", "many"], "--num_workers: invalid int value: 'many'"),
        (["--runner"], "--runner: expected one argument"),
        (["more"], "more stands where a flag was expected; values follow their flag, as in --name value"),
        (["--dry_run", "yes"], "yes stands where a flag was expected; values follow their flag, as in --name value"),
        (["--strength", "2"], "--strength must be a number in 0..1, got 2.0"),
        (["--model_threads", "0"], "--model_threads must be a whole number in 1..1024, got 0"),
        (
            ["--accelerator_hint", "nvidia-l4"],
            "--accelerator_hint must be of the form type:nvidia-l4;count:1;install-nvidia-driver:5xx, got 'nvidia-l4'",
        ),
        (["--min_ram_hint", "much"], "--min_ram_hint must be of the form 16GB, got 'much'"),
        (["--max_cost", "5"], "--max_cost needs --profile, one of cpu, t4, l4, a100: what is a worker?"),
        (["--max_minutes", "inf"], "--max_minutes must be a number, at least 0, got inf"),
        (["--profile", "l5"], "--profile must be one of cpu, t4, l4, a100, got l5"),
        (["--format", "tif"], "--format must be one of same, png, webp-lossless, tiff, got tif; did you mean tiff?"),
        (["--output", "photos/out"], "--output must lie outside --input and not hold it, got photos/out and photos"),
        (["--input", "restored/a"], "--output must lie outside --input and not hold it, got restored and restored/a"),
        (
            ["--reference", "restored"],
            "--output must lie outside --reference and not hold it, got restored and restored",
        ),
        (
            ["--input", "gs://b/a", "--output", "gs://b/a/c/"],
            "--output must lie outside --input and not hold it, got gs://b/a/c/ and gs://b/a",
        ),
        (
            ["--run_id", "../up"],
            "--run_id must be 1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit, "
            "got '../up'",
        ),
    ],
)
def test_a_wrong_line_is_refused_in_one_line(wrong: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse([*NEEDED, *wrong])

    assert str(caught.value) == message


def test_a_misspelt_flag_is_named_before_the_one_it_was_meant_to_be_is_missed() -> None:
    with pytest.raises(UsageError, match="--inptu is no flag; did you mean --input"):
        parse(["--inptu", "photos", "--output", "restored"])


def test_a_link_into_the_archive_is_no_way_around_the_check(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "photos")

    with pytest.raises(UsageError, match="must lie outside --input"):
        RestoreConfig(str(tmp_path / "photos"), str(tmp_path / "link" / "out"))


def test_folders_that_share_the_beginning_of_their_names_are_apart() -> None:
    RestoreConfig("gs://bucket/photos", "gs://bucket/photos-restored")
    RestoreConfig("photos", "photos-restored")
    RestoreConfig("photos", "gs://photos/restored")


def test_our_flags_and_beams_do_not_clash() -> None:
    parsers: list[argparse.ArgumentParser] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
    theirs = {name for action in parsers[0]._actions for name in action.option_strings}

    # Before the lone -- it is ours; Beam's own dry run can still be asked for after it.
    assert {one.flag for one in options_of(RestoreConfig)} & theirs == {"--dry_run"}


def test_the_recipe_digest_changes_with_what_changes_the_output_and_with_nothing_else() -> None:
    config = RestoreConfig("photos", "restored", profile="cpu")
    changes: dict[str, object] = {
        "input": "a", "output": "b", "model": "c", "reference": "d", "include": ("e",), "exclude": ("f",),
        "inventory": "g", "max_megapixels": 1.0, "max_bytes": 1, "format": "png", "strength": 0.5,
        "keep_above_quality": 50, "batch_megapixels": 1.0, "band_megapixels": 1.0, "tolerate": 1, "replace": True,
        "assume_quality": 20, "profile": "t4", "dry_run": True, "run_id": "h", "verbose": True, "max_minutes": 1.0,
        "model_threads": 1, "precision": "float32", "require_gpu": True, "accelerator_hint": "type:nvidia-l4;count:1",
        "min_ram_hint": "16GB", "log_format": "json",
        "max_cost": 1.0, "prices": "i", "price_region": "j",
    }  # fmt: skip
    assert changes.keys() == {one.name for one in options_of(RestoreConfig)}

    changed = {
        name
        for name, value in changes.items()
        if dataclasses.replace(config, **{name: value}).recipe_digest("m") != config.recipe_digest("m")  # type: ignore[arg-type]
    }

    assert (
        changed - {"assume_quality"} == {"format", "strength", "keep_above_quality"} == config.recipe_settings().keys()
    )
    assert changed == dataclasses.replace(config, assume_quality=20).recipe_settings().keys()
    assert config.recipe_digest("m") != config.recipe_digest("n")


def test_the_recipe_digest_stays_what_it_was_or_every_archive_is_restored_anew() -> None:
    assert RestoreConfig("photos", "restored", strength=1).recipe_digest("model") == (
        "113851309fbe13914aecf34cfc15a1de65952866878a6bb4812b4f20ec9c6dae"
    )


def test_run_ids_sort_by_time_and_differ_within_a_second() -> None:
    first, second = new_run_id(), new_run_id()

    assert first != second
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{6}", first)
    assert RestoreConfig("a", "b").run_id != RestoreConfig("a", "b").run_id


def test_help_names_every_flag_and_fits_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(["--help"])

    text = capsys.readouterr().out
    assert stopped.value.code == 0
    assert all(f"\n  {one.flag}" in text for one in options_of(RestoreConfig))
    assert max(map(len, text.splitlines())) <= 80


def test_a_line_without_beams_flags_is_judged_without_importing_beam() -> None:
    program = (
        "import sys\nfrom pipeline.options import parse\n"
        "parse(['--input', 'a', '--output', 'b'])\nprint('apache_beam' in sys.modules, 'numpy' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["False", "False"]
