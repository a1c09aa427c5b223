"""`relume plan`: tells what a restore job would take, in hours and money, and writes nothing."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobs.command_line import ExitCode, run_job
from pipeline import flags
from pipeline.flags import FlagParser, option
from pipeline.options import RestoreConfig
from pipeline.production.budget import SAMPLE
from pipeline.production.profiles import profile_of

if TYPE_CHECKING:
    from jobs.restore import Prepared
    from pipeline.production.planning import Estimate, Range, Way

_DESCRIPTION = """\
Tells what `relume restore` with the same flags would take: images, megapixels,
bytes, what is done already, hours and money, each as a range with what it rests
on. Lists both ends, reads some files whole for their headers, and restores up
to three of them to take the time of this machine, or takes the figure of a
--profile. Writes nothing."""
_EPILOG = """\
examples:
  relume plan --input photos --output restored
  relume plan --input gs://bucket/photos --output gs://bucket/restored \\
      --profile l4 --workers 10 --price_region europe-west1 --json

exit codes: 0 it is told, 2 wrong usage, 7 stopped by an error"""


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    """What `relume plan` can be told beside the flags of the job that it is about."""

    sample: int = option(
        "Images whose files are read for their headers, chosen by chance.",
        group="Plan",
        default=SAMPLE,
        low=1,
        high=10_000,
    )
    workers: int = option("Workers of the profile that share the work.", group="Plan", default=1, low=1, high=1000)
    json: bool = option("Print one line of JSON.", group="Plan", default=False)

    def __post_init__(self) -> None:
        flags.check(self)


CONFIGS = (RestoreConfig, PlanConfig)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    return run_job("plan", _plan, argv)


def _plan(argv: list[str]) -> int:
    usage = "--input DIR --output DIR [--profile NAME] [flags]"
    parser = FlagParser(CONFIGS, prog="relume plan", usage=usage, description=_DESCRIPTION, epilog=_EPILOG)
    for_run, for_plan = flags.values_of_each(CONFIGS, parser, argv)
    config, asked = RestoreConfig(**for_run), PlanConfig(**for_plan)

    from jobs.restore import prepare
    from pipeline.production import planning
    from pipeline.production.prices import read_prices

    read_prices(config.prices, config.price_region)  # what is wrong with it is said before the listing
    prepared = prepare(dataclasses.replace(config, dry_run=True), asked.sample)
    made = estimate(config, asked, prepared)
    if asked.json:
        print(json.dumps(planning.as_json(made)))
    else:
        print("\n".join(planning.as_text(made)))
    return ExitCode.DONE


def estimate(config: RestoreConfig, asked: PlanConfig, prepared: Prepared) -> Estimate:
    """Makes the plan of a run.

    Args:
        config: of the run.
        asked: how to plan.
        prepared: the run, with a sample.

    Raises:
        UsageError: if there is no price of the profile.
    """
    from pipeline.production import planning
    from pipeline.production.prices import read_prices

    found = prepared.found
    prices = read_prices(config.prices, config.price_region)
    sampled = planning.read_headers(config, prepared.sample)
    profile = profile_of(config.profile or "cpu")

    def ways(megapixels: Range) -> list[Way]:
        if not found.pending:
            return []
        measured = None
        if config.profile is None:
            measured = planning.measure_here(prepared.plan, sampled)
        if measured is None:
            speed = planning.speed_of(profile, config.model)
            return [planning.way_by(profile, speed, megapixels, found.pending, prices, asked.workers)]
        return [
            planning.way_here(megapixels, measured),
            planning.way_by_vcpu(megapixels, found.pending, measured, prices, asked.workers),
        ]

    return planning.estimate(found, sampled, ways, prices=prices, own_model=config.model, max_cost=config.max_cost)


if __name__ == "__main__":
    sys.exit(main())
