"""The benchmark of speed: a reference of the published cost, all measured on the same picture, and a table."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import speed
from benchmarks.speed import Contender
from model import device


def test_the_reference_is_the_network_that_was_published() -> None:
    network = speed.dncnn()

    assert speed.kmacs_of(network) == pytest.approx(665, abs=1)
    assert sum(len(weights.shape) == 4 for weights in network.weights) == 20
    assert network(np.zeros((1, 12, 16, 1), np.float32)).shape == (1, 12, 16, 1)


@pytest.mark.parametrize(("short", "precisions"), [(False, ["float32"]), (True, ["float32", "bfloat16"])])
def test_every_model_is_measured_in_every_way_and_a_megapixel_is_one_of_the_output(
    tiny_model: Path, tiny_x2_model: Path, short: bool, precisions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "has_bfloat16", lambda: short)

    found = speed.contenders([tiny_model, tiny_x2_model], 64, speed.dncnn(layers=3, width=4))

    ways = [f"program, {precision}" for precision in precisions]
    ways += [f"Restorer, {precisions[-1]}", f"Restorer, {precisions[-1]}, grey"]
    assert [(one.name, one.way) for one in found] == [
        ("DnCNN-3", "program, float32"),
        *(("tiny", way) for way in ways),
        *(("tiny-x2", way) for way in ways),
    ]
    for one in found:
        side = round((one.megapixels * 1e6) ** 0.5)
        assert side == (128 if one.name == "tiny-x2" else 64)
        assert np.asarray(one.restore()).shape[1:3] == (side, side)
    assert all(0 < seconds < 1000 for seconds in speed.measure(found[:1], 1))


def test_the_first_round_is_not_counted_and_the_least_of_the_others_is(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, left = [0.0], [1.0, 8.0, 4.0]

    def work() -> None:
        clock[0] += left.pop(0)

    monkeypatch.setattr(speed, "time", SimpleNamespace(process_time=lambda: clock[0]))
    (seconds,) = speed.measure([Contender("a", "raw", 1, 2.0, work)], 2)

    assert (seconds, left) == (2.0, [])


def test_the_table_gives_ratios_to_the_first() -> None:
    found = [Contender(name, "raw", kmacs, 1, lambda: None) for name, kmacs in (("DnCNN-3", 665), ("s", 19.2))]

    assert speed.markdown(found, [16.0, 0.5]).splitlines()[2:] == [
        "| DnCNN-3 | raw | 665 | 16.000 | 1 |",
        "| s | raw | 19 | 0.500 | 1/32.0 |",
    ]


@pytest.mark.parametrize("flags", [["--side", "100"], ["--rounds", "0"]])
def test_numbers_that_make_no_sense_are_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        speed.main(flags)

    assert ended.value.code == 2
    assert flags[0] in capsys.readouterr().err
