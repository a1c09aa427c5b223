"""The first commands of a new user: what they say when the machine is not ready, and that they do nothing twice."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs make in the checkout and gives back what it said.

    The flags of a make that runs these tests stay out: they would name its VENV, and add lines about folders entered.
    """
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name and name != "MFLAGS"}
    return subprocess.run(["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture
def old_python(tmp_path: Path) -> Path:
    """An interpreter that is too old: it fails the question for its version."""
    path = tmp_path / "python3.8"
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def python_without_venv(tmp_path: Path) -> Path:
    """An interpreter as Debian ships it without python3-venv: it answers, but has no ensurepip."""
    path = tmp_path / "python3.11"
    path.write_text('#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\n')
    path.chmod(0o755)
    return path


def test_help_lists_every_command() -> None:
    listed = {line.split()[1] for line in make("help").stdout.splitlines()}

    assert listed == {"help", "setup", "setup-dev", "demo", "published", "test", "lint", "types", "lock", "clean"}


def test_the_published_protocol_is_measured_on_the_photographs_that_are_named(tmp_path: Path) -> None:
    done = make("--dry-run", "published", "IMAGES=photos", f"VENV={tmp_path}")

    assert f"{tmp_path}/bin/relume evaluate --images photos --quality 10,20,30,40" in done.stdout


def test_an_interpreter_that_does_not_exist_is_named_in_one_line(tmp_path: Path) -> None:
    done = make("setup", "PYTHON=/nowhere/python3", f"VENV={tmp_path}/venv")

    assert done.returncode == 2
    assert "PYTHON must be a Python 3.11, 3.12 or 3.13 that runs, got: /nowhere/python3" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_an_interpreter_of_another_version_is_named_in_one_line(tmp_path: Path, old_python: Path) -> None:
    done = make("setup", f"PYTHON={old_python}", f"VENV={tmp_path}/venv")

    assert done.returncode == 2
    assert f"PYTHON must be a Python 3.11, 3.12 or 3.13 that runs, got: {old_python}" in done.stderr


def test_no_interpreter_at_all_says_what_to_install(tmp_path: Path) -> None:
    done = make("setup", "PYTHON=", f"VENV={tmp_path}/venv")

    assert done.returncode == 2
    assert "no Python found: install python3.11" in done.stderr


def test_a_missing_venv_module_says_which_package_brings_it(tmp_path: Path, python_without_venv: Path) -> None:
    done = make("setup", f"PYTHON={python_without_venv}", f"VENV={tmp_path}/venv")

    assert done.returncode == 2
    assert "apt-get install python3-venv" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_a_finished_set_up_is_not_done_again(tmp_path: Path) -> None:
    # Sources of the stamps are older than they are, as after a set-up.
    for stamp in ("runtime.stamp", "dev.stamp"):
        (tmp_path / stamp).touch()

    done = make("setup-dev", f"VENV={tmp_path}")

    assert done.returncode == 0
    assert "pip" not in done.stdout


def test_a_changed_lock_is_installed(tmp_path: Path) -> None:
    done = make("--dry-run", "setup-dev", f"VENV={tmp_path}/venv", "--what-if=requirements/cpu.txt")

    assert "install --quiet --require-hashes --no-deps --no-build-isolation -r requirements/cpu.txt" in done.stdout
