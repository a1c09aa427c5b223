import importlib
import inspect
import logging
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import jobs
from jobs.command_line import COMMANDS, ExitCode, UsageError, main, run_job
from pipeline import __version__
from pipeline.busy import BusyError

ROOT = Path(__file__).parents[2]


def test_help_lists_each_command_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == ExitCode.DONE

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(COMMANDS)
    assert all(f"  {name:<10} {text}" in lines for name, (_, text) in COMMANDS.items())
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_is_a_module_whose_main_takes_the_arguments(name: str) -> None:
    module = importlib.import_module(COMMANDS[name][0])

    assert list(inspect.signature(module.main).parameters) == ["argv"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_fits_eighty_columns(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == ExitCode.DONE

    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_every_job_is_listed() -> None:
    modules = {f"jobs.{found.name}" for found in pkgutil.iter_modules(jobs.__path__) if not found.ispkg}

    assert modules - {"jobs.command_line"} <= {module for module, _ in COMMANDS.values()}


def test_help_imports_nothing_that_takes_time() -> None:
    program = (
        "import sys\nfrom jobs.command_line import main\nmain(['--help'])\n"
        "heavy = {'apache_beam', 'tensorflow', 'keras', 'numpy', 'PIL', 'rich'}\n"
        "print(*sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stderr.split() == []


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["restor", "--input", "x"]) == ExitCode.USAGE
    assert capsys.readouterr() == ("", "relume: restor is no command; did you mean restore?\n")

    assert main(["\x1b[2Jzz"]) == ExitCode.USAGE
    assert capsys.readouterr().err == "relume: \\x1b[2Jzz is no command; relume --help lists the commands\n"


def test_no_command_is_a_usage_error_that_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert "restore" in err


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == ExitCode.DONE
    assert capsys.readouterr().out == f"relume {__version__}\n"


def failing_with(error: BaseException) -> int:
    def job(_: list[str]) -> int:
        raise error

    return run_job("restore", job, [])


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UsageError("--tolerate must be 0, got 1"), 2, "--tolerate must be 0, got 1"),
        (BusyError("run a is at work on b"), 11, "run a is at work on b"),
        (KeyboardInterrupt(), 130, "stopped; the same command again goes on where this one stopped"),
        (ZeroDivisionError("by\nnought \x1b[31m"), 7, "ZeroDivisionError: by nought \\x1b[31m (--verbose shows where)"),
    ],
)
def test_whatever_stops_a_job_is_a_code_and_one_line(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert failing_with(error) == code
    assert capsys.readouterr() == ("", f"relume restore: {line}\n")


def test_a_jobs_own_code_and_that_of_its_help_come_through() -> None:
    assert run_job("restore", lambda _: ExitCode.FAILURES, []) == 1
    assert failing_with(SystemExit(0)) == 0
    assert failing_with(SystemExit()) == 0


def test_a_verbose_job_shows_where_the_error_arose(capsys: pytest.CaptureFixture[str]) -> None:
    def divide(_: list[str]) -> int:
        return 1 // 0

    assert run_job("restore", divide, ["--verbose"]) == ExitCode.FATAL
    assert "return 1 // 0" in capsys.readouterr().err


def test_a_job_gets_its_arguments_and_logs_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    def job(arguments: list[str]) -> int:
        logging.getLogger("pipeline.any").info("got %s", arguments)
        logging.getLogger("elsewhere").info("not ours")
        return 0

    assert run_job("restore", job, ["--input", "x"]) == 0
    assert run_job("restore", job, ["--input", "y"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(" INFO ")[1] for line in err.splitlines()] == [
        "pipeline.any: got ['--input', 'x']",
        "pipeline.any: got ['--input', 'y']",
    ]


def test_an_interrupt_that_beam_raised_as_its_own_error_is_an_interrupt(capsys: pytest.CaptureFixture[str]) -> None:
    def stopped_in_a_thread(arguments: list[str]) -> int:
        raise RuntimeError("KeyboardInterrupt [while running 'Each/Restore']")

    def stopped_below(arguments: list[str]) -> int:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise RuntimeError("a bundle failed") from error

    for job in (stopped_in_a_thread, stopped_below):
        assert run_job("restore", job, []) == 130
        assert "goes on where this one stopped" in capsys.readouterr().err
