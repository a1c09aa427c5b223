"""The image: what its Dockerfile names exists and is pinned, its own steps run, and it starts what it is called for."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pipeline.production import entrypoint

ROOT = Path(__file__).parent.parent

WORKER_CALL = (
    "--id=1-1",
    "--logging_endpoint=localhost:12370",
    "--control_endpoint=localhost:12371",
    "--artifact_endpoint=localhost:12372",
    "--provision_endpoint=localhost:12373",
    "--semi_persist_dir=/var/opt/google",
)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One part of a Dockerfile.

    Attributes:
        name: behind AS.
        base: image, with its tag, or stage that it begins with.
        steps: instructions and what they say, in order.
    """

    name: str
    base: str
    steps: tuple[tuple[str, str], ...]

    def all_of(self, instruction: str) -> list[str]:
        return [text for name, text in self.steps if name == instruction]

    @property
    def environment(self) -> dict[str, str]:
        pairs = [pair for text in self.all_of("ENV") for pair in re.findall(r"(\w+)=(\S+)", text)]
        return dict(pairs)


@pytest.fixture(scope="module")
def stages() -> dict[str, Stage]:
    """The stages of the Dockerfile by name, in their order."""
    return {stage.name: stage for stage in read_stages((ROOT / "Dockerfile").read_text())}


def read_stages(text: str) -> Iterator[Stage]:
    """Takes a Dockerfile apart; comments are left out, lines that go on are joined."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    steps = [(line.split()[0], " ".join(line.split()[1:])) for line in lines.splitlines() if line.strip()]
    starts = [number for number, (name, _) in enumerate(steps) if name == "FROM"]
    for begin, end in zip(starts, [*starts[1:], len(steps)], strict=True):
        base, _, name = steps[begin][1].partition(" AS ")
        yield Stage(name, base, tuple(steps[begin + 1 : end]))


def site_packages(stages: dict[str, Stage]) -> str:
    version = re.search(r"python:(\d+\.\d+)", stages["build"].base)
    assert version
    return f"/opt/relume/lib/python{version[1]}/site-packages/"


def test_every_image_that_it_begins_with_is_named_with_a_fixed_tag(stages: dict[str, Stage]) -> None:
    images = [stage.base for stage in stages.values() if stage.base not in stages]

    assert len(images) == 4
    for image in images:
        name, _, tag = image.partition(":")
        assert tag not in ("", "latest"), image
        assert "python3.11" in name or "python311" in name or tag.startswith("3.11"), image


def test_the_last_stage_brings_both_programs_and_finds_them_on_its_path(stages: dict[str, Stage]) -> None:
    last = list(stages.values())[-1]
    brought = {target for text in last.all_of("COPY") for target in [text.split()[-1]]}
    path = last.environment["PATH"].split(":")

    assert brought == {"/opt/apache/beam", "/opt/google/dataflow/python_template_launcher"}
    assert path == ["$PATH", "/opt/apache/beam", "/opt/google/dataflow"]
    assert f"/opt/google/dataflow/{entrypoint.LAUNCHER}" in brought
    assert entrypoint.WORKER == "boot"
    assert {last.base, "beam", "launcher"} <= set(stages)


def test_the_launcher_runs_the_restore_job_of_the_installed_package_and_installs_nothing(
    stages: dict[str, Stage],
) -> None:
    environment = list(stages.values())[-1].environment

    main = environment["FLEX_TEMPLATE_PYTHON_PY_FILE"].removeprefix(site_packages(stages))

    assert main == "jobs/restore.py"
    assert 'if __name__ == "__main__":\n    sys.exit(main())' in (ROOT / main).read_text()
    assert [name for name in environment if name.startswith("FLEX_TEMPLATE")] == ["FLEX_TEMPLATE_PYTHON_PY_FILE"]
    assert (environment["PYTHONSAFEPATH"], environment["RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT"]) == ("1", "1")


def test_only_the_stage_for_dataflow_runs_as_root(stages: dict[str, Stage]) -> None:
    assert {name: stage.all_of("USER") for name, stage in stages.items() if stage.all_of("USER")} == {
        "command": ["1000:1000"],
        "worker": ["0:0"],
    }


def test_the_command_says_what_it_is_and_for_which_device(stages: dict[str, Stage]) -> None:
    (label,) = stages["command"].all_of("LABEL")

    assert dict(re.findall(r'([\w.]+)="([^"]+)"', label)) == {
        "org.opencontainers.image.title": "relume",
        "org.opencontainers.image.description": "Restores image archives with a DeconvNet in a Beam pipeline",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "relume.device": "${DEVICE}",
    }


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_dependencies_are_installed_by_hash_from_the_lock_of_the_device(device: str, stages: dict[str, Stage]) -> None:
    dependencies, _ = (text.replace("${DEVICE}", device) for text in stages["build"].all_of("RUN"))
    copied = stages["build"].all_of("COPY")[0].replace("${DEVICE}", device).split()[:-1]

    installs = [step.strip() for step in dependencies.split("&&") if "pip install" in step]

    assert installs == [
        "pip install --require-hashes --no-deps -r requirements/build.txt",
        f"pip install --require-hashes --no-deps --no-build-isolation -r requirements/{device}.txt",
    ]
    assert copied == ["requirements/build.txt", f"requirements/{device}.txt"]
    assert all((ROOT / name).is_file() for name in copied)


def test_the_image_is_installed_by_the_very_steps_of_make_setup(stages: dict[str, Stage]) -> None:
    # Which .ci/run takes in an empty environment, so that they are known to go through.
    makefile = (ROOT / "Makefile").read_text().replace("$(PIP)", "pip").replace("--quiet ", "")
    made = re.findall(r"^\tpip (install --require-hashes .*)$", makefile, re.MULTILINE)[:2]
    dependencies, package = (text.replace("${DEVICE}", "cpu") for text in stages["build"].all_of("RUN"))

    assert re.findall(r"pip (install .*?)(?: &&|$)", dependencies) == made
    assert "\tpip install --no-deps --no-build-isolation -e .\n" in makefile
    assert package == "pip install --no-deps --no-build-isolation . && pip check"


def test_the_lock_holds_everything_that_its_packages_ask_for() -> None:
    # What is locked is installed and nothing else: what it does not hold would be missed only where it is imported. All
    # of it is installed where the tests run, so what each package asks for is known without an index.
    locks = "".join((ROOT / "requirements" / f"{lock}.txt").read_text() for lock in ("build", "cpu"))
    lines = [Requirement(line) for line in re.findall(r"^([\w.-]+==.*) \\$", locks, re.MULTILINE)]
    here = [line for line in lines if line.marker is None or line.marker.evaluate()]
    locked = {canonicalize_name(line.name): str(line.specifier).removeprefix("==") for line in here}
    installed = {canonicalize_name(one.name): one for one in metadata.distributions()}
    wrong, seen = [], set()
    ahead = [(name, "") for name in locked.keys() & installed.keys()] + [(canonicalize_name("relume"), "cpu")]
    while ahead:
        name, extra = ahead.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for need in map(Requirement, installed[name].requires or ()):
            if need.marker is not None and not need.marker.evaluate({"extra": extra}):
                continue
            version = locked.get(canonicalize_name(need.name), "")
            if not need.specifier.contains(version):
                wrong.append(f"{name} asks for {need}, locked is {version or 'none'}")
            else:
                ahead += [(canonicalize_name(need.name), wanted) for wanted in need.extras]

    assert len(locked.keys() & installed.keys()) > 100
    assert wrong == []


def test_the_context_holds_what_is_copied_and_no_more(stages: dict[str, Stage]) -> None:
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}

    copied = {name for text in stages["build"].all_of("COPY") for name in text.split()[:-1]}

    assert ignored[0] == "*"
    assert {re.sub(r"^requirements/.*", "requirements/*.txt", name) for name in copied} == allowed


def test_the_last_step_of_the_build_leaves_the_package_the_command_and_what_the_launcher_runs(
    stages: dict[str, Stage], tmp_path: Path
) -> None:
    source, target = tmp_path / "src", tmp_path / "relume"
    source.mkdir()
    for text in stages["build"].all_of("COPY")[1:]:
        for name in text.split()[:-1]:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, source / name)
    # An environment of its own that sees the packages of this one, as if the lock had just been installed.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", target], check=True)
    here = next(path for path in sys.path if path.endswith("site-packages"))
    (installed,) = target.glob("lib/python*/site-packages")
    (installed / "lock.pth").write_text(here)
    pip = target / "bin" / "pip"
    pip.write_text('#!/bin/sh\nexec python -m pip "$@"\n')
    pip.chmod(0o755)
    environment = {"PATH": f"{target}/bin:/usr/bin:/bin", "PIP_NO_INDEX": "1", "HOME": str(tmp_path)}

    step = stages["build"].all_of("RUN")[1].replace("pip install", "pip install --quiet --ignore-installed")
    done = subprocess.run(["sh", "-ec", step], cwd=source, env=environment, capture_output=True, text=True)

    assert (done.returncode, done.stdout.strip()) == (0, "No broken requirements found."), done.stderr
    said = subprocess.run(["relume", "--version"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert said.stdout.startswith("relume ")
    main = stages["worker"].environment["FLEX_TEMPLATE_PYTHON_PY_FILE"].rpartition("site-packages/")[2]
    launched = subprocess.run(
        ["python", installed / main, "--input=gs://a/b", "--output=gs://a/c", "--strenght=1"],
        cwd=tmp_path,
        env={**environment, "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
    )
    assert (launched.returncode, launched.stderr) == (
        2,
        "relume restore: --strenght is no flag; did you mean --strength?\n",
    )


@pytest.fixture
def programs(tmp_path: Path) -> dict[str, str]:
    """An environment whose PATH leads to stand-ins for both programs, which say their names and arguments."""
    for name in ("boot", "python_template_launcher"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@"\necho "$PYTHONUNBUFFERED" >&2\nexit 7\n')
        program.chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONUNBUFFERED": "1"}


def start(stages: dict[str, Stage], environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Starts the entrypoint of the last stage as a container does."""
    program = re.findall(r'"([^"]+)"', stages["worker"].all_of("ENTRYPOINT")[0])
    assert program[0] == "/opt/relume/bin/python"
    return subprocess.run(
        [sys.executable, *program[1:], *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("arguments", "program"),
    [
        (WORKER_CALL, "boot"),
        (("-id", "1-1", "-provision_endpoint", "localhost:1"), "boot"),
        (("--worker_pool",), "boot"),
        ((), "python_template_launcher"),
        (("--template-container-args={}",), "python_template_launcher"),
        (("--identity=x",), "python_template_launcher"),
    ],
)
def test_the_entrypoint_becomes_the_program_that_it_is_called_for(
    arguments: tuple[str, ...], program: str, stages: dict[str, Stage], programs: dict[str, str]
) -> None:
    done = start(stages, programs, *arguments)

    assert done.stdout.split() == [program, *arguments]
    assert (done.returncode, done.stderr) == (7, "1\n")


def test_an_image_without_the_programs_says_so_in_one_line(stages: dict[str, Stage], programs: dict[str, str]) -> None:
    done = start(stages, {**programs, "PATH": "/usr/bin"}, *WORKER_CALL)

    assert done.returncode == 1
    assert done.stderr == "boot is not on the PATH: this is no image of the Dockerfile's last stage\n"
