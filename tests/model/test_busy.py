"""The share of time in which a process is in the model."""

from __future__ import annotations

from model.busy import BusyClock


class Time:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_threads_that_are_in_the_model_together_count_once() -> None:
    time = Time()
    clock = BusyClock(time)
    one, other = clock, clock

    time.now += 1  # nobody
    one.__enter__()
    time.now += 2
    other.__enter__()
    time.now += 3
    one.__exit__(None, None, None)
    time.now += 4
    other.__exit__(None, None, None)
    time.now += 5

    assert clock.take() == (9000, 15000)


def test_what_is_taken_in_parts_adds_up_and_is_told_once() -> None:
    time = Time()
    clock = BusyClock(time)

    parts = []
    for _ in range(7):
        with clock:
            time.now += 0.03125
        time.now += 0.015625
        parts.append(clock.take())

    assert clock.take() == (0, 0)
    assert (sum(busy for busy, _ in parts), sum(wall for _, wall in parts)) == (218, 328)
    assert all(busy <= wall for busy, wall in parts)
