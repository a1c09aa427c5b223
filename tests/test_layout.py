"""What stands where, which way imports point, and that the places that name a version name the same one."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGES = ("model", "pipeline", "jobs")
STAGE_ROOMS = {"listing", "codec", "guard", "restoring", "judging", "recording"}
FOUNDATIONS = {"elements", "failures", "flags", "logs", "models", "names", "spool", "storage"}
NETWORK_LIBRARIES = {"tensorflow", "tensorflow_datasets", "keras"}
LOCKS = ("build", "cpu", "gpu", "dev")

TOP_LEVEL = {
    *PACKAGES,
    "tests",
    "samples",
    "requirements",
    "setup.py",
    "pyproject.toml",
    "Makefile",
    "Dockerfile",
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    ".ci",
    ".dockerignore",
    ".gitignore",
}
LATER_AT_TOP_LEVEL = {"benchmarks", "docs"}

# A name, an exact version, perhaps a marker, then one or more hashes and nothing else: so no index, link, path or host.
LOCKED_LINE = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[\w.+!]+)( ; [^#@:]+?)?( --hash=sha256:[0-9a-f]{64})+")


def modules(package: str) -> dict[str, ast.Module]:
    """Parses every module of a package: dotted name -> syntax tree."""
    paths = sorted((ROOT / package).rglob("*.py"))
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): ast.parse(path.read_text())
        for path in paths
    }


def imports(tree: ast.AST) -> Iterator[str]:
    """Yields the dotted name of everything that a module imports, at any depth; `from a import b` gives `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports name their package in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_roots(package: str) -> dict[str, set[str]]:
    """Collects which top-level packages each module of a package imports."""
    return {name: {target.split(".")[0] for target in imports(tree)} for name, tree in modules(package).items()}


def tracked_files() -> list[Path]:
    """Lists the files that git tracks, as they stand in the working tree."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / name for name in listing.split("\0") if name and (ROOT / name).is_file()]


def locked(lock: str) -> dict[str, set[str]]:
    """Reads a lock: normalised name -> versions, more than one where they differ by Python version."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text().replace("\\\n", " ")
    lines = [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if not line.startswith("#")]
    versions: dict[str, set[str]] = {}
    for line in lines:
        match = LOCKED_LINE.fullmatch(line)
        assert match, f"requirements/{lock}.txt: not a hashed requirement: {line[:120]}"
        versions.setdefault(canonicalize_name(match["name"]), set()).add(match["version"])
    return versions


def setup_argument(name: str) -> ast.expr:
    """Finds the expression that setup.py hands to `setup` under a name."""
    for node in ast.walk(ast.parse((ROOT / "setup.py").read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setup":
            return next(keyword.value for keyword in node.keywords if keyword.arg == name)
    raise AssertionError("setup.py calls no setup()")


def requirements_of(extra: str | None = None) -> list[Requirement]:
    """Reads the direct requirements from setup.py, those of an extra where one is named."""
    texts = ast.literal_eval(setup_argument("extras_require" if extra else "install_requires"))
    return [Requirement(text) for text in (texts[extra] if extra else texts)]


def test_imports_point_one_way() -> None:
    above = {"model": {"pipeline", "jobs", "apache_beam"}, "pipeline": {"jobs"}}

    wrong = [
        f"{module} imports {target}"
        for package, forbidden in above.items()
        for module, roots in imported_roots(package).items()
        for target in sorted(roots & forbidden)
    ]

    assert wrong == []


def test_only_the_model_names_tensorflow_or_keras() -> None:
    wrong = [
        f"{module} imports {target}"
        for package in ("pipeline", "jobs")
        for module, roots in imported_roots(package).items()
        for target in sorted(roots & NETWORK_LIBRARIES)
    ]

    assert wrong == []


def test_importing_the_pipeline_and_the_jobs_loads_no_tensorflow() -> None:
    found = [name for package in ("pipeline", "jobs") for name in modules(package) if not name.endswith("__main__")]
    # A recipe holds the network's own config; only a training loads it.
    names = [name for name in found if not name.startswith("jobs.recipes.")]
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[2:]: importlib.import_module(name)\n"
        "print(*sorted(set(sys.argv[1].split(',')) & set(sys.modules)))"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, ",".join(NETWORK_LIBRARIES), *names], cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_stage_rooms_import_the_foundations_and_not_each_other() -> None:
    wrong = []
    for module, tree in modules("pipeline").items():
        room = module.split(".")[1] if "." in module else ""
        if room not in STAGE_ROOMS:
            continue
        for target in imports(tree):
            root, _, rest = target.partition(".")
            if root == "pipeline" and rest.split(".")[0] not in {*FOUNDATIONS, room, "__version__"}:
                wrong.append(f"{module} imports {target}")

    assert wrong == []


def test_only_the_archive_knows_the_order_of_the_stages() -> None:
    knows_stages = {
        module
        for module, tree in modules("pipeline").items()
        if len({target.split(".")[1] for target in imports(tree) if target.startswith("pipeline.")} & STAGE_ROOMS) > 1
    }

    # The survey looks at both ends before a run, as the archive will; a large image goes the whole way in one step.
    assert knows_stages <= {"pipeline.archive", "pipeline.survey", "pipeline.large"}


def test_the_top_level_holds_what_the_design_says() -> None:
    names = {path.relative_to(ROOT).parts[0] for path in tracked_files()}

    assert names - LATER_AT_TOP_LEVEL == TOP_LEVEL
    assert not list((ROOT / "tests").rglob("__init__.py")), "a package tests/pipeline would shadow pipeline"


def test_the_ci_script_is_executable_and_parses() -> None:
    script = ROOT / ".ci" / "run"

    assert script.stat().st_mode & 0o111 == 0o111
    subprocess.run(["bash", "-n", script], check=True)


def test_dockerfile_setup_and_locks_name_the_same_beam() -> None:
    (in_setup,) = (str(need.specifier) for need in requirements_of() if need.name == "apache-beam")
    dockerfile = (ROOT / "Dockerfile").read_text()

    in_dockerfile = re.findall(r"^FROM apache/beam_python3\.11_sdk:(\S+) AS beam$", dockerfile, re.MULTILINE)

    assert in_setup == f"=={in_dockerfile[0]}"
    for lock in ("cpu", "gpu"):
        assert locked(lock)["apache-beam"] == set(in_dockerfile)


def test_the_images_python_is_that_of_the_sdk_and_one_that_setup_allows() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    allowed = Requirement(f"python{ast.literal_eval(setup_argument('python_requires'))}").specifier

    versions = set(re.findall(r"^FROM (?:python:|apache/beam_python)(\d+\.\d+)", dockerfile, re.MULTILINE))

    assert len(versions) == 1
    assert allowed.contains(*versions)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_requirement_has_a_hash_and_names_no_host(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()

    assert len(locked(lock)) > 2
    assert not re.search(r"://|--(extra-)?index|--find-links|--trusted|file:", text)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_the_locks_meet_what_setup_asks_for(device: str) -> None:
    versions = locked(device)

    for need in [*requirements_of(), *requirements_of(device)]:
        assert versions.get(canonicalize_name(need.name)), f"{need} is not locked for {device}"
        for version in versions[canonicalize_name(need.name)]:
            assert need.specifier.contains(version), f"{need} is locked at {version} for {device}"


@pytest.mark.parametrize("other", ["build", "dev", "gpu"])
def test_the_other_locks_agree_with_the_runtime_lock(other: str) -> None:
    runtime = locked("cpu")

    differing = {name for name, versions in locked(other).items() if runtime.get(name, versions) != versions}

    assert differing == set()


def test_the_wheel_holds_every_tracked_file_of_the_packages(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "wheel"
    tracked = [path.relative_to(ROOT) for path in tracked_files()]
    wanted = {str(path) for path in tracked if path.parts[0] in PACKAGES}
    for path in tracked:
        if path.parts[0] in {*PACKAGES, "setup.py", "pyproject.toml", "LICENSE"}:
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, source / path)

    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-q"]
    subprocess.run([*command, "-w", target, source], check=True, capture_output=True)

    (wheel,) = target.glob("relume-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = (name for name in names if name.endswith(".dist-info/entry_points.txt"))
        assert b"relume = jobs.command_line:main" in archive.read(entry_points)
    assert {name for name in names if ".dist-info/" not in name} == wanted


def test_nothing_tracked_is_bigger_than_four_mebibytes() -> None:
    assert [path for path in tracked_files() if path.stat().st_size > 4 * 2**20] == []


def test_no_tracked_file_names_a_place_on_one_machine() -> None:
    # A folder that only a developer's machine has; not one below another folder or host, as in the address of a page.
    place = re.compile(rb"(?<![\w.*}~-])/(?:work|root|Users/\w+|tmp/w|opt/wheels|opt/pypi)/")

    found = {str(path.relative_to(ROOT)): place.search(path.read_bytes()) for path in tracked_files()}

    assert {name: match[0] for name, match in found.items() if match} == {}
