"""What a run would take, before it starts: pixels from headers, hours from a measured speed, money from prices.

Every figure is a range, and what it rests on is said beside it.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from model.size import SIZES, DeconvNetConfig
from pipeline import models, survey
from pipeline.codec import KeepAsIs
from pipeline.elements import ImageRef
from pipeline.failures import ImageError
from pipeline.options import RestoreConfig
from pipeline.production.prices import Prices
from pipeline.production.profiles import PROFILES, Profile
from pipeline.report.words import count, counted, measure, size

if TYPE_CHECKING:
    from pipeline.archive import Plan

MEASURED = 3
"""Images that are restored to measure the speed of this machine."""

MEASURED_PIXELS = 24_000_000
"""Larger ones are not: a plan should take a minute or so."""

SHUFFLED_BYTES = 4000
"""Of references, receipts' names and rows that cross a shuffle for one image."""

_MEASURED_HERE, _MEASURED_ELSEWHERE, _ASSUMED = (0.8, 1.4), (0.6, 1.8), (0.4, 3.0)
"""How far a speed may be off: measured on this very archive and machine, on another, not at all."""


@dataclasses.dataclass(frozen=True)
class Range:
    """A figure that is not known exactly: `low <= expected <= high`."""

    low: float
    expected: float
    high: float

    def __mul__(self, other: Range | float) -> Range:
        if not isinstance(other, Range):
            return Range(self.low * other, self.expected * other, self.high * other)
        return Range(self.low * other.low, self.expected * other.expected, self.high * other.high)

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.expected + other.expected, self.high + other.high)


@dataclasses.dataclass(frozen=True)
class Sampled:
    """What the header of one image says.

    Attributes:
        ref: which image.
        megapixels: that a run would restore: 0 where it would keep the file or give it up.
        why: `restored`, or the reason to keep the file or to give it up.
    """

    ref: ImageRef
    megapixels: float
    why: str = "restored"


@dataclasses.dataclass(frozen=True)
class Speed:
    """How fast one worker is.

    Attributes:
        seconds_per_megapixel: from read to receipt.
        basis: where the figure comes from, one sentence.
    """

    seconds_per_megapixel: Range
    basis: str


@dataclasses.dataclass(frozen=True)
class Measured:
    """What restoring a few images took on this machine.

    Attributes:
        images: how many.
        megapixels: of them together.
        seconds: on the clock.
        cpu_seconds: of all of this process's threads.
    """

    images: int
    megapixels: float
    seconds: float
    cpu_seconds: float


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to do the work, and what it takes.

    Attributes:
        name: of the profile, or `this machine`.
        workers: that share the work.
        speed: of one.
        hours: until the run is done.
        worker_hours: of all workers together.
        cost: None where nothing is charged.
        currency: of the cost; empty without.
    """

    name: str
    workers: int
    speed: Speed
    hours: Range
    worker_hours: Range
    cost: Range | None
    currency: str


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a run would take.

    Attributes:
        found: counts of the archive against its output.
        sampled: what headers say.
        megapixels: that are to be restored.
        ways: to do it.
        assumptions: what the figures rest on, a sentence each.
    """

    found: survey.Survey
    sampled: tuple[Sampled, ...]
    megapixels: Range
    ways: tuple[Way, ...]
    assumptions: tuple[str, ...]


def read_headers(config: RestoreConfig, refs: Iterable[ImageRef]) -> tuple[Sampled, ...]:
    """Reads the headers of images, each file as a whole; pixels are not decoded."""

    def look(ref: ImageRef) -> Sampled:
        try:
            header = survey.read_header(config, ref)
        except ImageError as error:
            return Sampled(ref, 0.0, error.reason)
        return Sampled(ref, 0.0, header.keep) if header.keep else Sampled(ref, header.pixels / 1e6)

    return tuple(look(ref) for ref in refs)


def megapixels_of(sampled: Sequence[Sampled], images: int, total_bytes: int) -> Range:
    """Estimates the pixels of all images from a sample, by pixels a byte.

    Args:
        sampled: some of the images, chosen by chance.
        images: how many there are.
        total_bytes: of all of them.

    Returns:
        Two standard errors to either side; exact where the sample is all there is.
    """
    known = sum(one.megapixels for one in sampled)
    if len(sampled) >= images:
        return Range(known, known, known)
    if not sampled:
        raise ValueError(f"a sample of at least one of {images} images is needed, got none")
    number, sampled_bytes = len(sampled), sum(one.ref.size for one in sampled)
    # Where no file has a byte there are no pixels either.
    density = known / sampled_bytes if sampled_bytes else 0.0
    expected = max(known, density * total_bytes)
    if number == 1:
        return Range(known, expected, 3 * expected)
    residuals = sum((one.megapixels - density * one.ref.size) ** 2 for one in sampled) / (number - 1)
    error = images * math.sqrt(residuals / number * (1 - number / images))
    return Range(max(known, expected - 2 * error), expected, expected + 2 * error)


def measure_here(plan: Plan, sampled: Sequence[Sampled]) -> Measured | None:
    """Restores a few images the whole way but for writing them, and takes the time.

    Args:
        plan: of the run.
        sampled: images to choose from, in their order.

    Returns:
        None where none of them can be restored.
    """
    # Late: a plan by a profile's figure loads no model.
    from pipeline.archive import Trial

    chosen = [one for one in sampled if 0 < one.megapixels <= MEASURED_PIXELS / 1e6][:MEASURED]
    if not chosen:
        return None
    trial = Trial(plan)
    began, cpu_began = time.perf_counter(), time.process_time()
    images, megapixels = 0, 0.0
    for one in chosen:
        try:
            trial.restore(one.ref)
        except (ImageError, KeepAsIs):
            continue
        images, megapixels = images + 1, megapixels + one.megapixels
    if not images:
        return None
    return Measured(images, megapixels, time.perf_counter() - began, time.process_time() - cpu_began)


def speed_of(profile: Profile, model: str | None) -> Speed:
    """A profile's own figure for a model, as far as it can be trusted.

    Args:
        profile: of the worker.
        model: as `models.contract_of` takes it; the built-in one where None.
    """
    agreed = models.contract_of(model or models.BUILT_IN)
    config = DeconvNetConfig.from_json(agreed.network)
    low, high = _MEASURED_ELSEWHERE if profile.measured and config == SIZES["S"] else _ASSUMED
    figure = profile.seconds_per_megapixel(config.macs_per_pixel)
    return Speed(Range(low * figure, figure, high * figure), f"profile {profile.name}, {profile.basis}")


def way_here(megapixels: Range, measured: Measured) -> Way:
    """What the run would take on this machine, by what was measured on it."""
    figure, (low, high) = measured.seconds / measured.megapixels, _MEASURED_HERE
    basis = f"{counted(measured.images, 'image')} of {measure(measured.megapixels)} MP restored on this machine"
    speed = Speed(Range(low * figure, figure, high * figure), basis)
    hours = megapixels * speed.seconds_per_megapixel * (1 / 3600)
    return Way("this machine", 1, speed, hours, hours, None, "")


def way_by_vcpu(megapixels: Range, images: int, measured: Measured, prices: Prices, workers: int) -> Way:
    """What the run would take on workers of profile `cpu` whose vCPUs are as fast as a core of this machine."""
    profile = PROFILES["cpu"]
    figure, (low, high) = measured.cpu_seconds / measured.megapixels / profile.vcpus, _MEASURED_ELSEWHERE
    basis = f"CPU time measured on this machine, divided by {profile.vcpus} vCPUs"
    speed = Speed(Range(low * figure, figure, high * figure), basis)
    return way_by(profile, speed, megapixels, images, prices, workers)


def way_by(profile: Profile, speed: Speed, megapixels: Range, images: int, prices: Prices, workers: int) -> Way:
    """What the run would take on workers of a profile.

    Args:
        profile: of the workers.
        speed: of one.
        megapixels: that are to be restored.
        images: that are to be done.
        prices: of the region.
        workers: that share the work.

    Raises:
        UsageError: if the profile's GPU has no price.
    """
    requests = _seconds_per_image() * (images / (3600 * profile.processes))
    work = megapixels * speed.seconds_per_megapixel * (1 / 3600) + requests
    start = _start_hours(profile)
    worker_hours = work + start * workers
    shuffled = images * SHUFFLED_BYTES / 1e9 * prices.shuffle_gb
    cost = worker_hours * prices.worker_hour(profile) + Range(shuffled, shuffled, shuffled)
    return Way(profile.name, workers, speed, work * (1 / workers) + start, worker_hours, cost, prices.currency)


def _seconds_per_image() -> Range:
    """That requests to storage keep one process waiting: one to read, two to write."""
    return Range(0.05, 0.15, 0.4)


def _start_hours(profile: Profile) -> Range:
    """From a worker's start to its first image: machine, image, driver, model."""
    return Range(2 / 60, 4 / 60, 8 / 60) if profile.gpu is None else Range(4 / 60, 8 / 60, 15 / 60)


def estimate(
    found: survey.Survey,
    sampled: Sequence[Sampled],
    ways: Callable[[Range], Sequence[Way]],
    *,
    prices: Prices,
    own_model: str | None = None,
    max_cost: float | None = None,
) -> Estimate:
    """Puts an estimate together.

    Args:
        found: counts of the archive against its output.
        sampled: headers of some of the images that are to be done.
        ways: makes the ways to do it from the megapixels.
        prices: that the ways were priced by.
        own_model: a model folder that is not the one of the profiles' figures, or None.
        max_cost: what the run may cost, or None.
    """
    megapixels = megapixels_of(sampled, found.pending, found.pending_bytes)
    made = tuple(ways(megapixels))
    told = [*_assumptions(found, sampled, made, prices, own_model)]
    if max_cost is not None and any(way.cost is not None and way.cost.expected > max_cost for way in made):
        told.append(f"--max_cost {max_cost:g} is less than is to be expected: the run would not begin")
    return Estimate(found, tuple(sampled), megapixels, made, tuple(told))


def _assumptions(
    found: survey.Survey, sampled: Sequence[Sampled], ways: Sequence[Way], prices: Prices, own_model: str | None
) -> Iterable[str]:
    if len(sampled) < found.pending:
        yield (
            f"pixels: by the headers of {count(len(sampled))} of {count(found.pending)} images, chosen by chance; "
            "the range is two standard errors"
        )
    yield "every image that can be restored is: those that look good already take less"
    yield from (f"speed, {way.name}: {way.speed.basis}" for way in ways)
    if own_model is not None and any("profile " in way.speed.basis for way in ways):
        yield (
            f"{own_model}: the model's part of a profile's figure is the built-in model's, by the multiplications that "
            "each needs a pixel; a larger picture costs more to write"
        )
    if any(way.cost is not None for way in ways):
        yield "workers: one start of 2 to 8 minutes each, with a GPU 4 to 15; all of them work to the end"
        yield "requests: 0.05 to 0.4 seconds an image in which a process waits for storage"
        yield (
            f"prices: {prices.region}, {prices.date}, {prices.source}; {prices.basis}; without storage, requests, "
            "network and logs"
        )


def as_json(made: Estimate) -> dict[str, Any]:
    """Gives an estimate as JSON's values."""
    found, why = made.found, _reasons(made.sampled)
    return {
        "listed": found.listed,
        "done": found.done,
        "unusable": found.unusable,
        "pending": found.pending,
        "bytes": found.pending_bytes,
        "sampled": len(made.sampled),
        "sampled_as": why,
        "megapixels": dataclasses.asdict(made.megapixels),
        "ways": [dataclasses.asdict(way) for way in made.ways],
        "assumptions": list(made.assumptions),
    }


def as_text(made: Estimate) -> Iterable[str]:
    """Tells an estimate for people, a line each."""
    found = made.found
    yield (
        f"images   {counted(found.listed, 'image')}: {count(found.pending)} to do, {count(found.done)} done before, "
        f"{count(found.unusable)} with names that cannot be used"
    )
    yield f"bytes    {size(found.pending_bytes)} to read"
    yield f"pixels   {_shown(made.megapixels)} megapixels to restore"
    reasons = ", ".join(f"{why} {count(number)}" for why, number in _reasons(made.sampled).items())
    yield f"headers  {count(len(made.sampled))} read: {reasons or 'none'}"
    yield from map(line_of, made.ways)
    yield ""
    yield from (f"- {line}" for line in made.assumptions)


def line_of(way: Way) -> str:
    """Tells one way to do the work."""
    cost = "" if way.cost is None else f", {_shown(way.cost)} {way.currency}"
    return (
        f"{way.name}, {counted(way.workers, 'worker')}: {_hours(way.hours)}{cost} "
        f"({_shown(way.speed.seconds_per_megapixel)} seconds a megapixel)"
    )


def _reasons(sampled: Iterable[Sampled]) -> dict[str, int]:
    reasons: dict[str, int] = {}
    for one in sampled:
        reasons[one.why] = reasons.get(one.why, 0) + 1
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def _shown(figure: Range) -> str:
    low, high = _number(figure.low), _number(figure.high)
    return low if low == high else f"{low} to {high}"


def _number(value: float) -> str:
    """Two digits that matter below one, where seconds a megapixel and the money of a small run lie."""
    return f"{value:.2g}" if 0 < value < 1 else measure(value)


def _hours(figure: Range) -> str:
    if figure.high < 1:
        return f"{_shown(figure * 60)} minutes"
    return f"{_shown(figure)} hours"
