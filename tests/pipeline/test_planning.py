"""What a run would take: pixels from a sample, hours and money from known figures, caps held against both."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage

from model import contract
from model.size import SIZES, DeconvNetConfig
from pipeline.deadline import MAX_COST
from pipeline.elements import ImageRef
from pipeline.options import RestoreConfig
from pipeline.production import budget, planning
from pipeline.production.planning import Range, Sampled, Speed
from pipeline.production.prices import Prices, read_prices
from pipeline.production.profiles import profile_of
from pipeline.storage import open_storage
from pipeline.survey import Survey

Array = np.ndarray[Any, np.dtype[Any]]


@pytest.fixture
def prices(tmp_path: Path) -> Prices:
    """One a vCPU hour and ten a gigabyte that is shuffled; all else is free."""
    file = tmp_path / "own.toml"
    file.write_text(
        'date = 2027-01-02\ncurrency = "EUR"\nsource = "our contract"\n[regions.us-central1]\nbasis = "offer"\n'
        "vcpu_hour = 1\nmemory_gb_hour = 0\ndisk_gb_hour = 0\nshuffle_gb = 10\n"
    )
    return read_prices(str(file), "us-central1")


def sampled(sizes: Array, megapixels: Array) -> list[Sampled]:
    pairs = zip(sizes.tolist(), megapixels.tolist(), strict=True)
    return [Sampled(ImageRef(f"{i}", int(size), "1"), pixels) for i, (size, pixels) in enumerate(pairs)]


def test_pixels_are_exact_where_every_header_was_read_and_a_range_about_the_truth_where_not() -> None:
    rng = np.random.default_rng(11)
    hits = 0
    for _ in range(200):
        megapixels = rng.lognormal(1.0, 0.5, 400)
        sizes = np.rint(megapixels * 1e6 * rng.uniform(0.2, 0.6, 400))
        some = rng.permutation(400)[:40]

        found = planning.megapixels_of(sampled(sizes[some], megapixels[some]), 400, int(sizes.sum()))

        assert found.low < found.expected < found.high
        hits += found.low <= megapixels.sum() <= found.high
    # Two standard errors should hold the truth in 19 of 20 cases.
    assert 180 <= hits <= 198
    whole = planning.megapixels_of(sampled(sizes, megapixels), 400, int(sizes.sum()))
    assert [whole.low, whole.expected, whole.high] == pytest.approx(3 * [megapixels.sum()])


def test_a_sample_of_one_or_of_empty_files_is_a_wide_range_and_no_error() -> None:
    one = planning.megapixels_of(sampled(np.array([1000.0]), np.array([2.0])), 10, 20_000)
    empty = planning.megapixels_of(sampled(np.zeros(2), np.zeros(2)), 10, 0)

    assert one == Range(2.0, 40.0, 120.0)
    assert empty == Range(0.0, 0.0, 0.0)
    assert planning.megapixels_of([], 0, 0) == Range(0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="at least one of 5 images"):
        planning.megapixels_of([], 5, 100)


def test_headers_say_what_would_be_restored_kept_or_given_up(tmp_path: Path, photo: Array) -> None:
    def put(name: str, pixels: Array, kind: str) -> None:
        buffer = io.BytesIO()
        PilImage.fromarray(pixels).save(buffer, kind)
        (tmp_path / name).write_bytes(buffer.getvalue())

    put("a.jpg", photo, "JPEG")
    put("b.gif", photo[..., 0], "GIF")
    put("c.png", np.tile(photo, (4, 4, 1)), "PNG")
    (tmp_path / "d.txt").write_text("no picture")
    config = RestoreConfig(str(tmp_path), "out", max_megapixels=1.0)
    source = open_storage(config.input)
    gone = ImageRef("e.jpg", 5, "1-5")

    found = planning.read_headers(config, [*source.list(), gone])

    assert [(one.ref.name, one.megapixels, one.why) for one in found] == [
        ("a.jpg", 203 * 317 / 1e6, "restored"),
        ("b.gif", 0.0, "palette"),
        ("c.png", 0.0, "too-many-pixels"),
        ("d.txt", 0.0, "not-an-image"),
        ("e.jpg", 0.0, "missing"),
    ]


def test_hours_and_money_follow_from_pixels_speed_workers_and_prices(prices: Prices) -> None:
    speed = Speed(Range(1.0, 2.0, 4.0), "known")

    way = planning.way_by(profile_of("cpu"), speed, Range(3600.0, 7200.0, 7200.0), 1_000_000, prices, workers=10)

    # 7,200 MP at 2 s are 4 hours; a million images wait 0.15 s each in 4 processes; a worker starts in 4 minutes.
    work = 4 + 1e6 * 0.15 / 3600 / 4
    assert way.worker_hours.expected == pytest.approx(work + 10 * 4 / 60)
    assert way.hours.expected == pytest.approx(work / 10 + 4 / 60)
    # 4 vCPUs at 1 an hour, and 4 GB of references and rows through the shuffle at 10.
    assert way.cost is not None
    assert way.cost.expected == pytest.approx(4 * way.worker_hours.expected + 40)
    assert way.cost.low < way.cost.expected < way.cost.high
    assert way.currency == "EUR"


def test_a_figure_that_nobody_measured_has_the_wider_range() -> None:
    widths = {}
    for name in ("cpu", "l4"):
        figure = planning.speed_of(profile_of(name), None).seconds_per_megapixel
        widths[name] = figure.high / figure.low

    assert widths["l4"] > 2 * widths["cpu"]


def test_another_model_takes_as_long_as_the_multiplications_that_it_needs(tiny_model: Path) -> None:
    built_in, tiny = (
        planning.speed_of(profile_of("cpu"), model).seconds_per_megapixel.expected for model in (None, str(tiny_model))
    )

    macs = DeconvNetConfig.from_json(contract.read(tiny_model).network).macs_per_pixel
    assert built_in == pytest.approx((1.02 + 0.12) / 4)
    assert tiny == pytest.approx((1.02 * macs / SIZES["S"].macs_per_pixel + 0.12) / 4)


def test_a_cap_of_money_is_held_against_the_expected_cost(prices: Prices) -> None:
    config = RestoreConfig("in", "out", max_cost=2.5, profile="cpu", prices=prices.place)
    way = budget.expected(config, Survey(0, 0, 0, 0, 0), (), workers=10)
    assert way.cost is not None
    assert way.cost.expected == pytest.approx(10 * 4 / 60 * 4)

    budget.check(config, way, 0)  # a run with nothing to do may look and see
    with pytest.raises(budget.TooExpensiveError) as caught:
        budget.check(config, way, 7)
    budget.check(dataclasses.replace(config, max_cost=2.7), way, 7)

    assert str(caught.value) == (
        "--max_cost 2.5: 7 images are expected to cost 2.67 EUR (1.33 to 5.33) with --profile cpu and workers at most "
        "10; nothing was written"
    )


def test_the_money_is_spent_when_all_workers_could_have_spent_it(prices: Prices) -> None:
    config = RestoreConfig("in", "out", max_cost=20.0, profile="cpu", prices=prices.place)

    deadline = budget.deadline(config, 1000.0, workers=10)

    # 10 workers of 4 an hour spend 20 in half an hour.
    assert deadline is not None
    assert (deadline.at, deadline.reason) == (1000.0 + 1800, MAX_COST)
    assert budget.deadline(RestoreConfig("in", "out"), 1000.0, workers=10) is None
