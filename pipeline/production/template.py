"""The spec of a Flex Template: what Dataflow must know to launch a restore job from our image.

Every parameter is made from a field of `RestoreConfig`, so that a new flag is a new parameter.
"""

from __future__ import annotations

import dataclasses
import decimal
import json
import re
from collections.abc import Mapping
from typing import Any

import pipeline
from model import contract
from pipeline.flags import SEPARATOR, Option, UsageError, options_of
from pipeline.options import RestoreConfig
from pipeline.production import naming
from pipeline.production.profiles import Profile

LEFT_OUT = ("dry_run",)
"""Flags of a restore job that are no parameters: a launcher that starts no job has failed, says Dataflow."""

VERSION_LABEL = "relume-version"
"""The label of a job that names the package's version, spelled as labels may be."""

PLACE_TYPES = {
    "input": "GCS_READ_FOLDER",
    "output": "GCS_WRITE_FOLDER",
    # The models that ship have names.
    "model": "TEXT",
    "reference": "GCS_READ_FOLDER",
    "inventory": "GCS_READ_FILE",
}
"""The parameters that are places in Cloud Storage, and what Dataflow calls such a place."""

_NAME = "Relume"
_DESCRIPTION = (
    "Restores the images of an archive into a copy of it, and accounts for each one. Originals are only read."
)
_IMAGE = re.compile(r"[a-z0-9][a-z0-9.-]*(:[0-9]+)?(/[a-z0-9][a-z0-9._-]*)+(:[A-Za-z0-9_][\w.-]*|@sha256:[0-9a-f]{64})")


@dataclasses.dataclass(frozen=True)
class Template:
    """A spec as it stands somewhere.

    Attributes:
        place: where it stands.
        version: of the package that wrote it.
        image: of launcher and workers.
        parameters: names of all that can be set.
        experiments: of every job whose launch has none of its own.
    """

    place: str
    version: str
    image: str
    parameters: frozenset[str]
    experiments: tuple[str, ...] = ()


def make_spec(image: str, profile: Profile) -> dict[str, Any]:
    """Makes the spec of this version's template, as JSON's values.

    Args:
        image: of launcher and workers, with tag or digest.
        profile: of the workers, where a launch asks for no other.

    Raises:
        UsageError: if the image's name has neither tag nor digest, or is no name of an image.
    """
    check_image(image)
    return {
        "image": image,
        "sdkInfo": {"language": "PYTHON"},
        "metadata": {
            "name": f"{_NAME} {pipeline.__version__}",
            "description": _DESCRIPTION,
            "parameters": [parameter_of(one) for one in options_of(RestoreConfig) if one.name not in LEFT_OUT],
        },
        "defaultEnvironment": {
            # Workers and launcher are one image: the graph that one builds, the other can run.
            "sdkContainerImage": image,
            "machineType": profile.machine_type,
            "diskSizeGb": profile.disk_gb,
            "additionalExperiments": experiments_of(profile.accelerator),
            "additionalPipelineOptions": pipeline_options_of(profile),
            "additionalUserLabels": {VERSION_LABEL: version_label(pipeline.__version__)},
        },
    }


def experiments_of(accelerator: str | None) -> list[str]:
    """The experiments that give the workers of a template's job a GPU; none without one.

    A template has no other place for it: the service option of the same name is for jobs that are submitted directly.
    """
    return [] if accelerator is None else [f"worker_accelerator={accelerator}"]


def pipeline_options_of(profile: Profile) -> list[str]:
    """Beam's options of a profile that an environment has no field for, as `name=value`."""
    return [f"number_of_worker_harness_threads={profile.threads}"]


def version_label(version: str) -> str:
    """A version as the value of a label, which has no dots: `0-1-0`."""
    return re.sub(r"[^a-z0-9_-]", "-", version.lower())[:63]


def check_image(image: str) -> None:
    """Refuses what cannot be the name of one fixed image.

    Raises:
        UsageError: if it is no name, or one without tag and digest, which may mean another image tomorrow.
    """
    if not _IMAGE.fullmatch(image):
        raise UsageError(
            "--image must be HOST/PATH:TAG or HOST/PATH@sha256:DIGEST, as in "
            f"europe-docker.pkg.dev/PROJECT/REPOSITORY/relume:{pipeline.__version__}, got {image}"
        )


def parameter_of(one: Option) -> dict[str, Any]:
    """Describes an option as Dataflow describes a parameter."""
    regex = _regex_of(one)
    about = {
        "name": one.name,
        "label": one.name.replace("_", " ").capitalize(),
        "helpText": _help_of(one),
        "isOptional": not one.required,
        "groupName": one.group,
        "paramType": type_of(one),
    }
    if regex:
        about["regexes"] = [f"^{regex}$"]
    if one.choices:
        about["enumOptions"] = [{"value": choice, "label": choice} for choice in one.choices]
    if one.default not in (None, ()):
        about["defaultValue"] = text_of(one.default)
    return about


def type_of(one: Option) -> str:
    """What Dataflow calls the type of an option's values."""
    if one.name in PLACE_TYPES:
        return PLACE_TYPES[one.name]
    if one.choices:
        return "ENUM"
    if one.repeatable:
        return "TEXT"
    return {bool: "BOOLEAN", int: "NUMBER", float: "NUMBER", str: "TEXT"}[one.kind]


def text_of(value: Any) -> str:
    """A value as a parameter holds it, and as the flag of its name reads it back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return SEPARATOR.join(map(text_of, value))
    # Digits only: 1e-05 is no number to a parameter's regex.
    return f"{decimal.Decimal(repr(value)):f}" if isinstance(value, float) else str(value)


def parameters_of(config: RestoreConfig) -> dict[str, str]:
    """A restore job as the parameters of the template: all that differ from their defaults, and always the run's name.

    So a job runs with the defaults of the version that was asked for, which is the template's.

    Raises:
        UsageError: if a value cannot be handed on in one text.
    """
    texts = {}
    for one in options_of(RestoreConfig):
        value = getattr(config, one.name)
        if one.name in LEFT_OUT or value == one.default or value is None:
            continue
        if one.repeatable and any(SEPARATOR in part for part in value):
            raise UsageError(f"{one.flag} must hold no line break in a template's launch; write ? for it")
        texts[one.name] = text_of(value)
    return texts


def write(spec: Mapping[str, Any], place: str, *, replace: bool) -> None:
    """Writes a spec where none stands, or in place of the one that does.

    Args:
        spec: of `make_spec`.
        place: a file, or gs://BUCKET/NAME.
        replace: lets it overwrite another.

    Raises:
        UsageError: if another stands there and is not to be replaced, or the place cannot be written.
    """
    from pipeline.failures import ImageError
    from pipeline.storage import Created, open_storage

    root, name = _split(place)
    target = open_storage(root)
    target.check_writable("--output")
    data = (json.dumps(spec, indent=2, ensure_ascii=False) + "\n").encode()
    how: dict[str, Any] = {"content_type": "application/json", "attempt": f"template-{spec['image']}"}
    try:
        # Ours by its mark alone says little: only the same bytes are the same template.
        if target.create(name, data, **how) is Created.CREATED or target.read_small(name) == data:
            return
        standing = target.stat(name)
        if not replace or standing is None:
            raise UsageError(f"--output {place} stands already and is another template: give --replace to overwrite it")
        target.replace(standing, data, **how)
    except ImageError as error:
        raise UsageError(f"--output {place}: {error}") from error


def read(place: str) -> Template:
    """Reads a spec.

    Raises:
        UsageError: if there is none, or it is no template of ours.
    """
    from pipeline.storage import open_storage

    root, name = _split(place, flag="--template")
    storage = open_storage(root)
    storage.check_readable("--template")
    data = storage.read_small(name)
    if data is None:
        raise UsageError(f"--template {place}: no such object; `relume template --output {place} ...` writes it")
    try:
        spec = json.loads(data)
        metadata = spec["metadata"]
        title, _, version = metadata["name"].rpartition(" ")
        parameters = frozenset(one["name"] for one in metadata["parameters"])
        experiments = tuple(spec.get("defaultEnvironment", {}).get("additionalExperiments", ()))
        found = Template(place, version, spec["image"], parameters, experiments)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"--template {place} is no spec of a Flex Template: {error!r}") from error
    if title != _NAME:
        raise UsageError(f"--template {place} is a template of {metadata['name']!r}, not of {_NAME}")
    return found


def _split(place: str, flag: str = "--output") -> tuple[str, str]:
    """The storage's root and the name below it."""
    root, slash, name = place.rpartition("/")
    if not name or (place.startswith("gs://") and root in ("gs:/", "gs:")):
        raise UsageError(f"{flag} must name an object, as in gs://BUCKET/relume.json, got {place}")
    return (root or slash or "."), name


def _help_of(one: Option) -> str:
    """The help as it stands in a terminal, with the rule and the default that Dataflow would not show."""
    rule = one.rule if one.low is not None or one.high is not None else ""
    default = f"default: {one.default_text}" if one.default_text else ""
    notes = "; ".join(filter(None, (rule, default)))
    return f"{one.text} ({notes})" if notes else one.text


def _regex_of(one: Option) -> str:
    """What the text of a value looks like; empty where anything does. Bounds are for the job's own parser to hold."""
    if one.name in PLACE_TYPES:
        shipped = [re.escape(name) for name in contract.shipped()] if one.name == "model" else []
        return f"({'|'.join([naming.PLACE.pattern.pattern, *shipped])})"
    if one.choices:
        return f"({'|'.join(map(re.escape, one.choices))})"
    if one.kind is bool:
        return "(true|false)"
    if one.kind is str:
        return ""
    sign = "" if one.low is not None and one.low >= 0 else "-?"
    digits = f"{{1,{len(str(int(one.high)))}}}" if one.high is not None else "+"
    return f"{sign}[0-9]{digits}" + ("" if one.kind is int else "([.][0-9]+)?")
