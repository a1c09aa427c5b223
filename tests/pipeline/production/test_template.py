"""The spec of the template, held against the options, the real parser, and Dataflow's own messages."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from google.cloud import dataflow_v1beta3 as dataflow
from google.protobuf import json_format

import pipeline
from jobs import template as job
from model import contract
from pipeline.flags import UsageError, options_of
from pipeline.options import RestoreConfig, parse
from pipeline.production import template
from pipeline.production.preflight import PLACES
from pipeline.production.profiles import PROFILES
from tests.cloud.gcs import GcsTwin

IMAGE = "europe-docker.pkg.dev/some-project/images/relume:0.1.0"
NEEDED = {"input": "gs://photos/a", "output": "gs://restored/a"}
OPTIONS = {one.name: one for one in options_of(RestoreConfig)}


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    return template.make_spec(IMAGE, PROFILES["l4"])


def parameters(spec: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in spec["metadata"]["parameters"]}


def matches(parameter: dict[str, Any], text: str) -> bool:
    """Whether a value passes the parameter's rules, as Dataflow would apply them."""
    return all(re.search(regex, text) for regex in parameter.get("regexes", [])) and (
        "enumOptions" not in parameter or text in [one["value"] for one in parameter["enumOptions"]]
    )


def read(values: dict[str, str]) -> RestoreConfig:
    """What the job makes of parameters, as the launcher hands them on."""
    config, others = parse([f"--{name}={text}" for name, text in {**NEEDED, **values}.items()])
    assert others == []
    return config


def test_dataflow_knows_every_key_and_value_of_the_spec(spec: dict[str, Any]) -> None:
    # ParseDict refuses a key that the message has not, and an enum's value that is none.
    metadata = json_format.ParseDict(spec["metadata"], dataflow.TemplateMetadata.pb()())
    json_format.ParseDict(spec["sdkInfo"], dataflow.SDKInfo.pb()())
    environment = json_format.ParseDict(spec["defaultEnvironment"], dataflow.FlexTemplateRuntimeEnvironment.pb()())

    assert set(spec) == {"image", "sdkInfo", "metadata", "defaultEnvironment"}
    assert len(metadata.parameters) == len(spec["metadata"]["parameters"])
    assert environment.sdk_container_image == spec["image"] == IMAGE
    assert environment.machine_type == "g2-standard-4"
    assert list(environment.additional_experiments) == [
        "worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver:5xx"
    ]
    assert list(environment.additional_pipeline_options) == ["number_of_worker_harness_threads=1"]
    assert environment.additional_user_labels["relume-version"] == "0-1-0" == pipeline.__version__.replace(".", "-")


def test_every_option_is_a_parameter_with_its_help_group_and_need(spec: dict[str, Any]) -> None:
    found = parameters(spec)

    assert list(found) == [name for name in OPTIONS if name not in template.LEFT_OUT]
    assert set(template.LEFT_OUT) == {"dry_run"}
    for name, parameter in found.items():
        assert parameter["helpText"].startswith(OPTIONS[name].text)
        assert parameter["groupName"] == OPTIONS[name].group
        assert parameter["isOptional"] is not OPTIONS[name].required
        assert re.fullmatch(r"[A-Z][a-z]*( [a-z]+)*", parameter["label"])


def test_every_option_has_the_type_that_its_values_have(spec: dict[str, Any]) -> None:
    found = {name: parameter["paramType"] for name, parameter in parameters(spec).items()}

    assert set(template.PLACE_TYPES) == set(PLACES)
    assert (found["input"], found["output"]) == ("GCS_READ_FOLDER", "GCS_WRITE_FOLDER")
    assert (found["format"], found["strength"], found["tolerate"]) == ("ENUM", "NUMBER", "NUMBER")
    assert (found["replace"], found["include"], found["run_id"]) == ("BOOLEAN", "TEXT", "TEXT")


@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in template.LEFT_OUT])
def test_a_parameters_default_passes_its_rules_and_is_the_options_own(name: str, spec: dict[str, Any]) -> None:
    parameter, option = parameters(spec)[name], OPTIONS[name]

    text = parameter.get("defaultValue")

    if text is None:
        assert option.default in (None, ())
    else:
        assert matches(parameter, text)
        assert getattr(read({name: text}), name) == option.default


@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in template.LEFT_OUT])
def test_a_parameters_rules_let_through_what_the_job_takes_and_stop_what_is_of_another_kind(
    name: str, spec: dict[str, Any]
) -> None:
    parameter, option = parameters(spec)[name], OPTIONS[name]
    edges = [option.kind(edge) for edge in (option.low, option.high) if edge is not None]
    good = [*option.choices, *(template.text_of(edge) for edge in edges)]
    good += ["true", "false"] if option.kind is bool else []
    bad = ["", "x", "-1", "nan", "1e9", "1,5", "tru", "same\n", "0x10"]

    for text in good:
        assert matches(parameter, text), text
        read({"profile": "cpu", name: text})  # a cap of money needs one
    if option.kind is not str:
        assert [text for text in bad if matches(parameter, text)] == []
    for text in filter(None, bad):
        if option.choices:
            assert not matches(parameter, text)
            with pytest.raises(UsageError, match=f"--{name} must be"):
                read({name: text})


def test_places_must_be_in_cloud_storage(spec: dict[str, Any]) -> None:
    for name in PLACES:
        parameter = parameters(spec)[name]
        assert all(matches(parameter, good) for good in ("gs://photos", "gs://my.photos/a b/c*.csv", "gs://photos/"))
        assert not any(matches(parameter, bad) for bad in ("photos", "/photos", "gs://", "gs://P/a", "s3://photos/a"))


def test_a_job_comes_out_of_its_parameters_as_it_went_in(spec: dict[str, Any]) -> None:
    config = RestoreConfig(
        NEEDED["input"],
        NEEDED["output"],
        include=("1998/*.jpg", "a,b*"),
        format="png",
        strength=0.25,
        tolerate=3,
        replace=True,
        run_id="night1",
    )

    texts = template.parameters_of(config)

    assert texts == {
        **NEEDED, "include": "1998/*.jpg\na,b*", "format": "png", "strength": "0.25", "tolerate": "3",
        "replace": "true", "run_id": "night1",
    }  # fmt: skip
    assert read(texts) == config
    for small in (0.00001, 1 / 3, 1e-17):
        (text,) = {*template.parameters_of(dataclasses.replace(config, strength=small)).values()} - {*texts.values()}
        assert matches(parameters(spec)["strength"], text)
        assert float(text) == small
    with pytest.raises(UsageError, match="--exclude must hold no line break"):
        template.parameters_of(RestoreConfig("in", "out", exclude=("a\nb",)))


@pytest.mark.parametrize("image", ["relume", "a/b", "a/b:", "A/b:1", "a/b:1 2", "https://a/b:1", "a/b@sha256:12"])
def test_an_image_without_tag_or_digest_is_refused(image: str) -> None:
    with pytest.raises(UsageError, match="--image must be"):
        template.check_image(image)
    template.check_image(f"localhost:5000/a/b@sha256:{'0' * 64}")


@pytest.mark.parametrize("place", ["bucket", "disk"])
def test_a_template_is_written_once_and_overwritten_only_when_asked(
    place: str, gcs: GcsTwin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gcs.create_bucket("jobs")
    output = "gs://jobs/relume.json" if place == "bucket" else str(tmp_path / "relume.json")
    arguments = ["--output", output, "--image", IMAGE]

    assert job.main(arguments) == 0
    first = template.read(output)
    assert job.main(arguments) == 0
    assert job.main([*arguments, "--profile=t4"]) == 2
    assert template.read(output) == first
    assert "stands already" in capsys.readouterr().err
    assert job.main(["--output", output, "--image", "a/b:2", "--profile=t4", "--replace"]) == 0

    assert (first.version, first.image) == (pipeline.__version__, IMAGE)
    assert first.parameters == set(OPTIONS) - {"dry_run"}
    assert template.read(output).image == "a/b:2"
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["version"] == pipeline.__version__


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--output=x.json"], "--image HOST/PATH:TAG is needed"),
        (["--image=a/b:1"], "--output FILE is needed"),
        (["--output=x.json", "--image=a"], "--image must be HOST/PATH:TAG"),
        (["--output=gs://jobs", "--image=a/b:1"], "--output must name an object"),
        (["--output=gs://jobs/", "--image=a/b:1"], "--output must name an object"),
        (["--output=gs://nobodys/x.json", "--image=a/b:1"], "--output gs://nobodys: cannot be listed"),
        (["--output=x.json", "--image=a/b:1", "--profile=l5"], "--profile must be one of cpu, t4, l4, a100, got l5"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str],
    said: str,
    gcs: GcsTwin,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    gcs.create_bucket("jobs")

    code = job.main(arguments)

    told = capsys.readouterr()
    assert (code, told.out) == (2, "")
    assert said in told.err
    assert len(told.err.strip().splitlines()) == 1
    assert not [*tmp_path.iterdir(), *gcs.names("jobs")]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", "is no spec of a Flex Template"),
        (b"[]", "is no spec of a Flex Template"),
        (b'{"image": "a/b:1"}', "is no spec of a Flex Template"),
        (b'{"image": "a/b:1", "metadata": {"name": "Word Count", "parameters": []}}', "is a template of 'Word Count'"),
        (None, "no such object; `relume template --output gs://jobs/relume.json ...` writes it"),
    ],
)
def test_what_is_no_template_of_ours_is_refused(data: bytes | None, said: str, gcs: GcsTwin) -> None:
    gcs.create_bucket("jobs")
    if data is not None:
        gcs.put("jobs", "relume.json", data)

    with pytest.raises(UsageError, match=re.escape(said)):
        template.read("gs://jobs/relume.json")


def test_a_model_that_ships_is_named_by_its_name(spec: dict[str, Any]) -> None:
    parameter = parameters(spec)["model"]

    assert all(matches(parameter, name) for name in contract.shipped())
    assert not matches(parameter, "jpeg-s/x")
