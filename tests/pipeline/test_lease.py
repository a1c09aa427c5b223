"""The lease of an output: of all that want it one holds it, it ends by itself, and nobody needs to delete anything."""

from __future__ import annotations

import dataclasses
import datetime
import json
import logging
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipeline import keeper, lease, names
from pipeline.busy import BusyError, Process
from pipeline.lease import ALLOWANCE, LAUNCH_TERM, TERM, Lease, LostError
from tests.cloud.faults import Fault, FaultPlan
from tests.cloud.gcs import GcsTwin
from tests.pipeline.places import Bucket, Disk, Place

NOON = datetime.datetime(2026, 7, 1, 12, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime.datetime:
        return self.now


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture(params=["disk", "cloud"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "disk":
        return Disk(tmp_path / "out")
    return Bucket(request.getfixturevalue("gcs"), "bucket")


def take(place: Place, run: str, clock: lease.Clock, *, here: bool = False, **how: datetime.timedelta) -> Lease:
    return lease.take(place.uri, run, here=here, clock=clock, holder="the test", **how)


def travelled(held: Lease) -> Lease:
    """A lease as a worker gets it."""
    return pickle.loads(pickle.dumps(held))  # noqa: S301 - our own bytes


def now_at(place: Place) -> lease.Entry:
    """What the log says."""
    found = lease.standing(place.uri)
    assert found is not None
    return found


def log_of(place: Place) -> list[tuple[str, str]]:
    """Run and state of each entry that still stands, oldest first."""
    entries = [json.loads(data) for _, data in sorted(place.contents("_relume/lease/").items())]
    return [(entry["run"], entry["state"]) for entry in entries]


def test_a_second_run_is_told_who_works_since_when_and_until_when(place: Place, clock: Hands) -> None:
    take(place, "night-1", clock)
    clock.now += 3 * SECOND

    for attempt in (lambda: take(place, "night-2", clock), lambda: lease.check_free(place.uri, clock=clock)):
        with pytest.raises(BusyError) as busy:
            attempt()

        assert str(busy.value) == (
            f"run night-1 (the test) is at work on {place.uri} since 2026-07-01T12:00:00Z, "
            "its lease lasts until 2026-07-01T12:10:00Z and is renewed while it works"
        )
    assert log_of(place) == [("night-1", "held")]


def test_a_released_lease_is_free_at_once_and_releasing_again_changes_nothing(place: Place, clock: Hands) -> None:
    first = take(place, "night-1", clock)
    lease.release(first, clock=clock)
    lease.check_free(place.uri, clock=clock)

    second = take(place, "night-2", clock)
    lease.release(first, clock=clock)

    found = now_at(place)
    assert (found.number, found.lease, found.released) == (3, second, False)


def test_a_lease_ends_by_itself_and_not_before_clocks_that_differ_agree(place: Place, clock: Hands) -> None:
    take(place, "night-1", clock)
    clock.now = NOON + TERM + ALLOWANCE

    with pytest.raises(BusyError):
        take(place, "night-2", clock)
    clock.now += SECOND

    assert take(place, "night-2", clock).run == "night-2"


def test_an_owner_that_comes_back_after_a_takeover_has_lost(place: Place, clock: Hands) -> None:
    asleep = take(place, "night-1", clock)
    clock.now += TERM + ALLOWANCE + SECOND
    awake = take(place, "night-2", clock)

    with pytest.raises(LostError, match=r"night-1 has lost its lease: run night-2 \(the test\) is at work"):
        lease.renew(asleep, clock=clock)
    lease.release(asleep, clock=clock)

    assert lease.renew(awake, clock=clock).lease == awake
    lease.check_not_taken(awake)
    with pytest.raises(BusyError, match="night-1 has lost its lease: run night-2"):
        lease.check_not_taken(asleep)


def test_an_owner_that_comes_back_late_to_a_lease_that_nobody_took_goes_on(place: Place, clock: Hands) -> None:
    held = take(place, "night-1", clock)
    clock.now += 5 * TERM

    assert lease.renew(held, clock=clock).until == clock.now + TERM

    with pytest.raises(BusyError):
        take(place, "night-2", clock)


def test_one_worker_renews_for_all_and_not_before_half_the_term_is_over(place: Place, clock: Hands) -> None:
    held = take(place, "night-1", clock)
    clock.now += TERM / 2 - SECOND
    assert lease.renew(held, clock=clock).number == 1
    clock.now += SECOND

    numbers = [lease.renew(travelled(held), clock=clock).number for _ in range(3)]

    assert numbers == [2, 2, 2]


def test_the_long_term_of_a_launch_is_cut_short_by_the_first_worker(place: Place, clock: Hands) -> None:
    held = take(place, "night-1", clock, term=LAUNCH_TERM)
    clock.now += 6 * TERM
    with pytest.raises(BusyError):
        take(place, "night-2", clock)

    lease.renew(held, clock=clock)
    clock.now += TERM + ALLOWANCE + SECOND

    assert take(place, "night-2", clock).run == "night-2"


def test_renewing_what_was_released_or_deleted_is_refused(place: Place, clock: Hands) -> None:
    held = take(place, "night-1", clock)
    lease.release(held, clock=clock)
    with pytest.raises(LostError, match="night-1 has ended"):
        lease.renew(held, clock=clock)

    for name in place.contents("_relume/lease/"):
        place.remove(name)
    with pytest.raises(LostError, match="was deleted"):
        lease.renew(held, clock=clock)


@pytest.mark.parametrize("ended", ["released", "run out"])
def test_of_many_that_take_it_at_once_exactly_one_wins(place: Place, clock: Hands, ended: str) -> None:
    before = take(place, "night-0", clock)
    if ended == "released":
        lease.release(before, clock=clock)
    else:
        clock.now += TERM + ALLOWANCE + SECOND
    start, won, lost = threading.Barrier(6), [], []

    def race(run: str) -> None:
        start.wait()
        try:
            won.append(take(place, run, clock))
        except BusyError as error:
            lost.append(str(error))

    threads = [threading.Thread(target=race, args=(f"night-{i}",)) for i in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    (winner,) = won
    assert len(lost) == 5
    assert all(f"run {winner.run} " in line for line in lost)
    assert now_at(place).lease == winner


def test_in_a_bucket_a_lease_takes_no_overwriting_and_no_deleting(gcs: GcsTwin, clock: Hands) -> None:
    place = Bucket(gcs, "bucket")
    held = take(place, "night-1", clock)
    clock.now += TERM
    lease.renew(held, clock=clock)
    lease.release(held, clock=clock)
    take(place, "night-2", clock)

    assert log_of(place) == [("night-1", "held")] * 2 + [("night-1", "released"), ("night-2", "held")]
    assert {request.operation for request in gcs.requests()} == {"list", "read", "insert"}
    for name in gcs.names("bucket"):
        assert len(gcs.generations("bucket", name)) == 1


def test_on_disk_older_entries_do_not_pile_up(tmp_path: Path, clock: Hands) -> None:
    place = Disk(tmp_path / "out")
    held = take(place, "night-1", clock)
    for _ in range(5):
        clock.now += TERM
        lease.renew(held, clock=clock)
    lease.release(held, clock=clock)

    assert place.names() == ["_relume/lease/00000007.json"]


def test_who_slept_while_the_log_moved_on_and_was_cleared_has_not_won(tmp_path: Path, clock: Hands) -> None:
    """A taker that saw entry 1, and wrote number 2 only after 2 and 3 had come and 2 was deleted again."""
    place = Disk(tmp_path / "out")
    lease.release(take(place, "night-1", clock), clock=clock)
    holding = take(place, "night-2", clock)
    late = dataclasses.replace(holding, run="late", token="late")

    won = lease._append(lease.Entry(2, late, False, NOON, NOON + TERM))

    assert not won
    assert now_at(place).lease == holding


@pytest.mark.parametrize("kind", ["lose-answer", "reset", "503"])
def test_a_taker_whose_answer_was_lost_knows_its_entry_again(gcs: GcsTwin, clock: Hands, kind: str) -> None:
    place = Bucket(gcs, "bucket")
    gcs.faults = FaultPlan(Fault(kind, "insert"))  # type: ignore[arg-type]

    held = take(place, "night-1", clock)

    gcs.faults.assert_all_fired()
    assert (now_at(place).number, now_at(place).lease) == (1, held)
    with pytest.raises(BusyError):
        take(place, "night-2", clock)


def test_what_is_no_lease_is_named_and_nothing_is_taken(place: Place, clock: Hands) -> None:
    for data in (b"{", b"[]", b'{"relume":1,"state":"held"}', b'{"relume":9}'):
        place.put("_relume/lease/00000004.json", data)

        with pytest.raises(RuntimeError, match=r"00000004\.json is no lease.*delete the folder"):
            take(place, "night-1", clock)
    place.put("_relume/lease/notes.txt", b"not ours")
    place.remove("_relume/lease/00000004.json")

    assert take(place, "night-1", clock).run == "night-1"


def test_a_killed_process_of_this_machine_holds_nothing_and_a_living_one_does(tmp_path: Path) -> None:
    place = Disk(tmp_path / "out")
    program = (
        "import sys, time\nfrom pipeline import lease\n"
        "lease.take(sys.argv[1], 'killed', here=True)\nprint(flush=True)\ntime.sleep(60)"
    )
    root = Path(__file__).parents[2]
    line = [sys.executable, "-c", program, place.uri]
    with subprocess.Popen(line, cwd=root, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(BusyError, match=f"run killed .process {process.pid} on "):
            lease.take(place.uri, "mine", here=True)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)

        # It has ended and is not collected: its number is still taken.
        held = lease.take(place.uri, "mine", here=True)
        process.wait()

    assert log_of(place)[-1] == ("mine", "held")
    lease.release(held)


def test_a_process_elsewhere_or_of_another_start_is_told_apart() -> None:
    mine = Process.this()
    assert mine is not None

    assert not mine.is_gone()
    assert dataclasses.replace(mine, started=mine.started + 1).is_gone()
    assert dataclasses.replace(mine, pid=2**22 + 1).is_gone()
    assert not dataclasses.replace(mine, pid=2**22 + 1, space="another machine").is_gone()
    assert Process.from_json(json.loads(json.dumps(dataclasses.asdict(mine)))) == mine


def test_a_keeper_that_slept_over_the_end_asks_once_more(place: Place, clock: Hands) -> None:
    held = take(place, "night-1", clock)
    kept = keeper.Keeper(held, clock=clock)
    kept.start()
    clock.now += 3 * TERM
    kept.check()
    assert now_at(place).until == clock.now + TERM

    clock.now += 3 * TERM
    take(place, "night-2", clock)
    for _ in range(2):
        with pytest.raises(LostError, match="night-2"):
            kept.check()
    kept.stop()


def test_a_keeper_renews_by_itself_and_a_broken_storage_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    place = Disk(tmp_path / "out")
    monkeypatch.setattr(lease, "TERM", datetime.timedelta(seconds=2))
    monkeypatch.setattr(keeper, "_AGAIN_SECONDS", 0.01)
    held = lease.take(place.uri, "night-1", here=False, term=datetime.timedelta(seconds=2))
    monkeypatch.setattr(keeper.Keeper, "_pause", lambda _: 0.01)
    renew, turns, done = lease.renew, [], threading.Event()

    def unsteady(held: Lease, *, clock: lease.Clock) -> lease.Entry:
        turns.append(1)
        if len(turns) == 2:
            raise OSError("no route to the disk")
        if len(turns) == 4:
            done.set()
        return renew(held, clock=clock)

    monkeypatch.setattr(lease, "renew", unsteady)
    with caplog.at_level(logging.WARNING):
        keeper.keep(held)
        assert keeper.keep(held) is keeper.keep(held)
        assert done.wait(10)
        keeper.let_go(held)

    assert "could not be renewed: no route to the disk" in caplog.text
    assert log_of(place) == [("night-1", "released")]


def run_holding(held: Lease | None, names_of: list[str]) -> None:
    with beam.Pipeline(runner=FnApiRunner()) as root:
        passed = root | beam.Create(names_of) | keeper.HoldLease(held)
        if held is not None:
            _ = passed | beam.combiners.Count.Globally() | keeper.ReleaseLease(held)


def test_the_graph_releases_the_lease_at_its_end(tmp_path: Path) -> None:
    place = Disk(tmp_path / "out")
    run_holding(lease.take(place.uri, "night-1", here=False), ["a", "b"])

    assert log_of(place) == [("night-1", "released")]
    run_holding(None, ["a"])


def test_a_graph_whose_lease_another_run_has_taken_stops(tmp_path: Path) -> None:
    place, past = Disk(tmp_path / "out"), lease.utc_now() - 2 * TERM
    asleep = take(place, "night-1", lambda: past)
    take(place, "night-2", lease.utc_now)

    with pytest.raises(Exception, match="night-1 has lost its lease: run night-2"):
        run_holding(asleep, ["a"])

    assert log_of(place) == [("night-2", "held")]


def test_the_name_of_the_log_is_kept_out_of_the_images() -> None:
    assert names.LEASE.startswith(f"{names.BOOKKEEPING}/")
