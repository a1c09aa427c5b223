"""What a run's metrics say of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import figures
from pipeline.figures import Figures, Spread


def test_figures_are_taken_from_metrics_by_their_names() -> None:
    metrics: figures.Metrics = {
        ("images", "restored"): 3,
        ("images", "failed"): 1,
        ("restore", "pixels"): 12_500_000,
        ("restore", "busy_ms"): 750,
        ("restore", "wall_ms"): 1000,
        ("restore", "batch_ms"): Spread(2, 700, 500),
        ("decode", "file_ms"): Spread(4, 100, 40),
        ("read", "bytes"): 100,
        ("write", "bytes"): 200,
        ("elsewhere", "pixels"): 7,
    }

    values = Figures.of(metrics).values()

    assert values == {
        "images": {"restored": 3, "kept": 0, "skipped": 0, "failed": 1, "left": 0},
        "megapixels": 12.5, "bytes_read": 100, "bytes_written": 200, "batches": 2,
        "batch_ms": {"mean": 350.0, "max": 500}, "decode_ms": {"mean": 25.0, "max": 40}, "busy_share": 0.75,
    }  # fmt: skip


def test_a_run_in_which_no_model_was_loaded_has_no_share_and_nothing_to_divide_by() -> None:
    values = Figures.of({}).values()

    assert values["busy_share"] is None
    assert values["batch_ms"] == {"mean": 0, "max": 0}


def test_a_metric_that_two_steps_have_is_one_figure() -> None:
    found: dict[tuple[str, str], int | Spread] = {}

    for spread in (Spread(1, 10, 10), Spread(2, 5, 4)):
        figures.add(found, ("decode", "file_ms"), spread)
    for number in (1, 2):
        figures.add(found, ("write", "bytes"), number)

    assert found == {("decode", "file_ms"): Spread(3, 15, 10), ("write", "bytes"): 3}


@pytest.mark.parametrize("times", [1, 2])
def test_figures_are_read_as_they_were_written_first(tmp_path: Path, times: int) -> None:
    assert figures.read(str(tmp_path), "night") is None

    for number in range(times):
        figures.write(Figures.of({("read", "bytes"): 5 + number}), str(tmp_path), "night")

    said = figures.read(str(tmp_path), "night")
    assert said is not None
    assert said["bytes_read"] == 5
