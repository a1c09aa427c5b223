"""`relume verify`: holds the receipts of an output against its objects."""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from jobs.command_line import ExitCode, run_job
from pipeline import flags
from pipeline.flags import FlagParser, UsageError, option, parse_flags

if TYPE_CHECKING:
    from pipeline.storage import Storage
    from pipeline.verifying import Finding

_GROUP = "How thoroughly (one of these)"
_FOR_REPRODUCE = "For --reproduce"

_DESCRIPTION = """\
Holds the receipts of an output against its objects, and changes neither.
Prints each difference on a line, a table of counts, and a line of JSON."""
_EPILOG = """\
examples:
  relume verify --output restored
  relume verify --output gs://bucket/restored --fast
  relume verify --output restored --input photos --reproduce 20

exit codes: 0 all is as the receipts say, 2 wrong usage, 3 a difference,
  7 stopped by an error"""


@dataclasses.dataclass(frozen=True)
class VerifyConfig:
    """Everything that the job can be told.

    Raises:
        UsageError: from the constructor, where a value is not allowed or two contradict each other.
    """

    output: str = option("The output of a restore job, which is only read.", group="Where", metavar="DIR")
    fast: bool = option(
        "Names and sizes, from two listings and the tables of the runs; no request for an image.",
        group=_GROUP,
        default=False,
    )
    full: bool = option("Every receipt, and the digests of every output. The default.", group=_GROUP, default=False)
    reproduce: int | None = option(
        "The digests of so many outputs, chosen at random; then they are restored again and compared.",
        group=_GROUP,
        default=None,
        low=1,
    )
    input: str | None = option(
        "The archive that the output was made from. Only read.", group=_FOR_REPRODUCE, default=None, metavar="DIR"
    )
    model: str | None = option(
        "The model folder that the output was made with.",
        group=_FOR_REPRODUCE,
        default=None,
        default_text="the built-in model",
        metavar="DIR",
    )
    reference: str | None = option(
        "The pristine images that the output was made with, if any.",
        group=_FOR_REPRODUCE,
        default=None,
        metavar="DIR",
    )
    seed: int = option(
        "The same seed chooses the same images.",
        group=_FOR_REPRODUCE,
        default_factory=functools.partial(secrets.randbelow, 2**31),
        default_text="another one each time, told in the last line",
        low=0,
    )
    verbose: bool = flags.verbose("Other flags")

    def __post_init__(self) -> None:
        flags.check(self)
        chosen = [flag for flag in ("fast", "full", "reproduce") if getattr(self, flag)]
        if len(chosen) > 1:
            raise UsageError(f"--{chosen[0]} and --{chosen[1]} contradict each other: give one of them")
        if self.reproduce is None:
            for flag in ("input", "model", "reference"):
                if getattr(self, flag) is not None:
                    raise UsageError(f"--{flag} is for --reproduce N, which restores again; give both or neither")
        elif self.input is None:
            raise UsageError("--reproduce restores again: give --input DIR, the archive that the output was made from")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_job("verify", _verify, argv)


def _verify(argv: list[str]) -> int:
    parser = FlagParser(
        VerifyConfig,
        prog="relume verify",
        usage="--output DIR [--fast | --full |\n           --reproduce N --input DIR] [flags]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
    )
    config = parse_flags(VerifyConfig, parser, argv)
    began = time.monotonic()

    from pipeline import verifying
    from pipeline.report.words import printable

    target = _open(config.output, "--output")
    verifying.check_output(target)
    if config.fast:
        mode, findings = "fast", verifying.verify_fast(target)
    elif config.reproduce is None:
        mode, findings = "full", verifying.verify_full(target)
    else:
        mode, findings = "reproduce", _reproduce(config, target)
    counts = collections.Counter[str]()
    for finding in findings:
        counts[finding.kind] += 1
        if finding.detail:
            print(f"{finding.kind}: {printable(finding.name)}: {printable(finding.detail)}")
    for kind in verifying.Kind:
        print(f"{kind:<20}{counts[kind]:>12,}")
    code = ExitCode.DONE if counts.total() == counts[verifying.Kind.OK] else ExitCode.DIFFERENCE
    line: dict[str, Any] = {"output": target.uri, "mode": mode}
    if config.reproduce is not None:
        line["seed"] = config.seed
    line |= {kind.replace(" ", "_"): counts[kind] for kind in verifying.Kind}
    print(json.dumps({**line, "seconds": round(time.monotonic() - began, 1), "exit": int(code)}))
    return code


def _open(uri: str, flag: str) -> Storage:
    from pipeline.storage import open_storage

    try:
        return open_storage(uri)
    except UsageError as error:
        raise UsageError(f"{flag}: {error}") from error


def _reproduce(config: VerifyConfig, target: Storage) -> Iterator[Finding]:
    """Verifies some receipts, and restores again where the output is what its receipt says."""
    from model.contract import ModelError
    from pipeline import models, verifying
    from pipeline.codec import Limits
    from pipeline.codec.transforms import decode_by
    from pipeline.guard import Guard
    from pipeline.reproducing import Means, check_model, reproduce

    if config.input is None or config.reproduce is None:
        raise ValueError("config must have --input and --reproduce")
    _open(config.input, "--input").check_readable("--input")
    if config.reference is not None:
        _open(config.reference, "--reference").check_readable("--reference")
    model = config.model or models.BUILT_IN
    try:
        agreed = models.contract_of(model)
        models.folder_of(model, agreed.digest)
    except ModelError as error:
        raise UsageError(f"--model {model}: {error}") from error
    means = Means(config.input, model, agreed.digest, config.reference, agreed.scale)
    check_model(target, means)
    sound = []
    for finding, receipt in verifying.verify_some(target, config.reproduce, config.seed):
        if receipt is None or finding.kind is not verifying.Kind.OK:
            yield finding
        else:
            sound.append(receipt)
    # What stands in an output need not be ours: its decoder may crash, and is held by its memory alone.
    guard, limits = Guard(), Limits(max_bytes=2**40, max_pixels=2**40)
    yield from reproduce(target, sound, means, lambda file: decode_by(guard, file, limits))


if __name__ == "__main__":
    sys.exit(main())
