"""The command `relume`: which jobs there are, and what all share: exit codes, one-line errors, logs to stderr."""

from __future__ import annotations

import dataclasses
import enum
import importlib
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

import pipeline
from pipeline import logs
from pipeline.busy import BusyError
from pipeline.flags import UsageError, nearest
from pipeline.production.budget import TooExpensiveError

__all__ = ["COMMANDS", "Ending", "ExitCode", "UsageError", "main", "run_job", "run_to_the_end"]

COMMANDS: dict[str, tuple[str, str]] = {
    "restore": ("jobs.restore", "restore an archive of images into a copy of it"),
    "plan": ("jobs.plan", "tell what a restore job would take, in hours and money"),
    "prepare": ("jobs.prepare", "make a data set of photographs, for training"),
    "train": ("jobs.train", "train a model from photographs"),
    "evaluate": ("jobs.evaluate", "measure a model on photographs"),
    "status": ("jobs.status", "tell how far a run is or how it ended"),
    "report": ("jobs.report", "make the report page of a run again"),
    "verify": ("jobs.verify", "hold the receipts of an output against its objects"),
    "template": ("jobs.template", "write the template from which Dataflow launches jobs"),
    "launch": ("jobs.launch", "start a restore job on Dataflow"),
    "schedule": ("jobs.schedule", "start one every night"),
    "why": ("jobs.why", "tell what was done with one image and why"),
}
"""Each command: the module whose `main(argv) -> int` it calls, and its line in the help."""

log = logging.getLogger(__name__)


class ExitCode(enum.IntEnum):
    """How a command ended."""

    DONE = 0
    FAILURES = 1
    """More images failed than --tolerate allows; all that can be restored is."""
    USAGE = 2
    """A flag or a value is wrong; nothing was written."""
    DIFFERENCE = 3
    """What was verified is not as its receipt says."""
    FATAL = 7
    """An error stopped the job; a rerun goes on where it stopped."""
    COST_CAP = 8
    """The run was expected to cost more than --max_cost, or has done so; a rerun goes on."""
    TIME_CAP = 10
    """--max_minutes are over; a rerun goes on."""
    BUSY = 11
    """Another run is at work on the same output."""
    INTERRUPTED = 130
    """Stopped from the keyboard; the shell's code for it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: its name and flags; those of the process where None.

    Returns:
        An `ExitCode`.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    match arguments:
        case ["-h" | "--help", *_]:
            print(_help())
            return ExitCode.DONE
        case ["--version", *_]:
            print(f"relume {pipeline.__version__}")
            return ExitCode.DONE
        case []:
            print(_help(), file=sys.stderr)
            return ExitCode.USAGE
        case [command, *rest] if command in COMMANDS:
            module, _ = COMMANDS[command]
            return int(importlib.import_module(module).main(rest))
    near = nearest(arguments[0], COMMANDS)
    hint = f"did you mean {near}?" if near else "relume --help lists the commands"
    print(f"relume: {_shown(arguments[0])} is no command; {hint}", file=sys.stderr)
    return ExitCode.USAGE


def run_job(name: str, job: Callable[[list[str]], int], argv: Sequence[str] | None) -> int:
    """Runs a job, and turns whatever ends it into an exit code and at most one line on stderr.

    A job's `main` is `return run_job("restore", _restore, argv)`, so that it behaves alike as `relume restore`, as
    `python -m jobs.restore`, and in a test.

    Args:
        name: the command.
        job: takes the arguments, returns an `ExitCode`, and raises `UsageError` for what is wrong with them.
        argv: its arguments, without the command; those of the process where None.

    Returns:
        What the job returned, or the code for how it was stopped.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    logs.set_up(as_json=logs.asks_for_json(arguments))
    _log_to_stderr(verbose=bool({"--verbose", "--verbose=true"} & set(arguments)))
    try:
        return int(job(arguments))
    except UsageError as error:
        print(logs.say(name, _shown(error)), file=sys.stderr)
        return ExitCode.USAGE
    except BusyError as error:
        print(logs.say(name, _shown(error)), file=sys.stderr)
        return ExitCode.BUSY
    except TooExpensiveError as error:
        print(logs.say(name, _shown(error)), file=sys.stderr)
        return ExitCode.COST_CAP
    except KeyboardInterrupt:
        return _interrupted(name)
    except SystemExit as error:  # help was asked for
        return ExitCode.DONE if error.code is None else int(error.code)
    except Exception as error:
        if _was_interrupted(error):
            return _interrupted(name)
        log.debug("relume %s failed", name, exc_info=error)
        said = f"{type(error).__name__}: {_shown(error)} (--verbose shows where)"
        print(logs.say(name, said), file=sys.stderr)
        return ExitCode.FATAL


@dataclasses.dataclass
class Ending:
    """The one line of JSON with which a run ends on stdout, whichever way it ends.

    Attributes:
        run_id: of a run that was asked for; empty while there is none.
        told: that the line was written.
    """

    run_id: str = ""
    told: bool = False

    def tell(self, line: Mapping[str, Any]) -> None:
        """Writes the line."""
        self.told = True
        print(json.dumps(line))


def run_to_the_end(name: str, job: Callable[[list[str], Ending], int], argv: Sequence[str] | None) -> int:
    """Runs a job as `run_job` does, and ends with a line of JSON even where an error, another run or Ctrl-C stops it.

    Args:
        name: the command.
        job: takes the arguments and the ending that it has to tell.
        argv: its arguments, without the command; those of the process where None.

    Returns:
        As `run_job`.
    """
    ending = Ending()
    code = run_job(name, lambda arguments: job(arguments, ending), argv)
    if ending.run_id and not ending.told and code != ExitCode.USAGE:
        ending.tell({"run": ending.run_id, "exit": int(code)})
    return code


def _interrupted(name: str) -> ExitCode:
    said = "stopped; the same command again goes on where this one stopped"
    print(logs.say(name, said, level=logging.WARNING), file=sys.stderr)
    return ExitCode.INTERRUPTED


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether an error stands for the keyboard's: Beam raises what its threads died of as an error of its own."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt) or str(error).startswith("KeyboardInterrupt"):
            return True
        error = error.__cause__ or error.__context__
    return False


def _help() -> str:
    lines = [f"  {name:<10} {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: relume COMMAND [flags]",
            "",
            "Restores archives of images with a DeconvNet, and accounts for every image.",
            "",
            *lines,
            "",
            "relume COMMAND --help explains one; relume --version names the version.",
        ]
    )


def _shown(message: object) -> str:
    """One printable line of a message, which may hold a name from an archive."""
    text = " ".join(str(message).split())
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what stderr is at the time, which a progress bar replaces while it is shown."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, _: Any) -> None:
        raise AttributeError("stream is always sys.stderr")


def _log_to_stderr(*, verbose: bool) -> None:
    """Logs of our packages from INFO on and of others from WARNING on; DEBUG and INFO where it is verbose."""
    root = logging.getLogger()
    if not any(isinstance(handler, _StderrHandler) for handler in root.handlers):
        root.addHandler(_StderrHandler())
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    for handler in root.handlers:
        if isinstance(handler, _StderrHandler):
            handler.setFormatter(logs.JsonFormatter() if logs.is_json() else text)
    root.setLevel(logging.INFO if verbose else logging.WARNING)
    for package in ("jobs", "pipeline", "model"):
        logging.getLogger(package).setLevel(logging.DEBUG if verbose else logging.INFO)


if __name__ == "__main__":
    sys.exit(main())
