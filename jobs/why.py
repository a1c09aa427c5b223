"""`relume why`: tells what was done with one image and why."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence

from jobs.command_line import ExitCode, run_job
from pipeline import flags
from pipeline.flags import FlagParser, UsageError, option, unknown

_DESCRIPTION = """\
Tells what was done with one image of an archive and why: from its receipt, or
from what the runs say of an image that failed. NAME is its path below the
archive's root; one that begins with a dash stands behind a lone --."""
_EPILOG = """\
examples:
  relume why 1998/sea.jpg --output restored
  relume why 1998/sea.jpg --output gs://bucket/restored --json

exit codes: 0 it is told, 2 wrong usage or a name that nobody knows,
  3 its receipt cannot be read"""


@dataclasses.dataclass(frozen=True)
class WhyConfig:
    """Everything that the job can be told beside the name."""

    output: str = option("The output of a restore job, which is only read.", group="Flags", metavar="DIR")
    all: bool = option("Also older receipts, and every run in which it failed.", group="Flags", default=False)
    json: bool = option("Print it as one line of JSON.", group="Flags", default=False)
    verbose: bool = flags.verbose("Flags")

    def __post_init__(self) -> None:
        flags.check(self)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_job("why", _why, argv)


def _why(argv: list[str]) -> int:
    config, name = _parse(argv)

    from pipeline import explaining
    from pipeline.storage import open_storage

    try:
        target = open_storage(config.output)
    except UsageError as error:
        raise UsageError(f"--output: {error}") from error
    target.check_readable("--output")
    story = explaining.story_of(target, name, everything=config.all)
    if not story.receipts and not story.failures:
        near = explaining.nearest_names(target, name)
        hint = f"the nearest names: {', '.join(map(repr, near))}" if near else "nor is there anything like it"
        raise UsageError(f"NAME must be an image that a run in {config.output} met, got {name!r}; {hint}")
    if config.json:
        # A terminal acts on DEL too, the one control character that JSON may hold as it is.
        print(json.dumps(explaining.as_json(story)).replace("\x7f", "\\u007f"))
    else:
        for line in explaining.as_text(story):
            print(line)
    unreadable = story.receipts and isinstance(story.receipts[0][1], explaining.Unreadable)
    return ExitCode.DIFFERENCE if unreadable else ExitCode.DONE


def _parse(argv: list[str]) -> tuple[WhyConfig, str]:
    parser = FlagParser(
        WhyConfig,
        prog="relume why",
        usage="NAME --output DIR [--all] [--json]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    split = argv.index("--") if "--" in argv else len(argv)
    values, rest = parser.values_of(argv[:split])
    for argument in rest:
        if argument.startswith("-"):
            raise unknown(argument, (one.flag for one in parser.options))
    found = [*rest, *argv[split + 1 :]]
    if len(found) != 1 or not found[0]:
        got = " and ".join(map(repr, found)) or "none"
        raise UsageError(f"NAME must be one image's path below the archive's root, got {got}")
    parser.require(values)
    return WhyConfig(**values), found[0]


if __name__ == "__main__":
    sys.exit(main())
