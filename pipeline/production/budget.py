"""The cap on what a run may cost: held against the plan before it starts, and against the clock while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line imports this module for its error, and must start fast
    from pipeline.deadline import Deadline
    from pipeline.elements import ImageRef
    from pipeline.options import RestoreConfig
    from pipeline.production.planning import Way
    from pipeline.survey import Survey


SAMPLE = 50
"""Images whose headers are read where nobody asks for another number."""


class TooExpensiveError(Exception):
    """A run is expected to cost more than it may; nothing was written."""


def check_prices(config: RestoreConfig) -> None:
    """Reads the prices that a run was given or has a cap for, before its images are looked at.

    Raises:
        UsageError: if they cannot be read, lack the region, or have no price of the profile's GPU.
    """
    from pipeline.production.prices import read_prices
    from pipeline.production.profiles import profile_of

    if config.prices is None and config.max_cost is None:
        return
    prices = read_prices(config.prices, config.price_region)
    if config.profile is not None:
        prices.worker_hour(profile_of(config.profile))


def expected(config: RestoreConfig, found: Survey, sample: Sequence[ImageRef], workers: int) -> Way:
    """Estimates what a run will take, by its profile's figure and the headers of a sample.

    Args:
        config: with a profile.
        found: what there is to do.
        sample: some of that, chosen by chance.
        workers: at most, at once.

    Raises:
        UsageError: if there is no profile, or no price of it.
    """
    from pipeline.production import planning
    from pipeline.production.prices import read_prices
    from pipeline.production.profiles import profile_of

    profile, prices = profile_of(config.profile or ""), read_prices(config.prices, config.price_region)
    prices.worker_hour(profile)  # before files are read for nothing
    megapixels = planning.megapixels_of(
        planning.read_headers(config, sample), images=found.pending, total_bytes=found.pending_bytes
    )
    return planning.way_by(
        profile, planning.speed_of(profile, config.model), megapixels, found.pending, prices, workers
    )


def check(config: RestoreConfig, way: Way, images: int) -> None:
    """Refuses a run whose expected cost is above its cap; one that has nothing to do may look and see.

    Raises:
        TooExpensiveError: one line with the cap, the cost and its range.
    """
    if not images or config.max_cost is None or way.cost is None or way.cost.expected <= config.max_cost:
        return
    raise TooExpensiveError(
        f"--max_cost {config.max_cost:g}: {images} images are expected to cost {way.cost.expected:.2f} {way.currency} "
        f"({way.cost.low:.2f} to {way.cost.high:.2f}) with --profile {way.name} and workers at most {way.workers}; "
        "nothing was written"
    )


def deadline(config: RestoreConfig, began: float, workers: int) -> Deadline | None:
    """The moment at which a run may have cost as much as it may; None where it has no such cap.

    No worker knows what the others do, so that all of them are taken to have worked since the start: a run that had
    fewer at first ends early, not late.

    Args:
        config: with a profile where it has a cap.
        began: seconds since 1970.
        workers: at most, at once.
    """
    from pipeline.deadline import MAX_COST, Deadline
    from pipeline.production.prices import read_prices
    from pipeline.production.profiles import profile_of

    if config.max_cost is None:
        return None
    hour = read_prices(config.prices, config.price_region).worker_hour(profile_of(config.profile or ""))
    if not hour:
        return None
    return Deadline(began + 3600 * config.max_cost / (workers * hour), MAX_COST)
