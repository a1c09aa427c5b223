"""The guard: whatever a decoder does to its process, one call fails with a typed error and the next one works."""

import importlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pipeline.codec.decoding import decode_message
from pipeline.failures import DamagedImageError, DecoderCrashError
from pipeline.guard import Guard, stop_idle

ROOT = Path(__file__).parents[2]
OURS = Guard(seconds=119)
"""Of a kind that no other test calls: processes that one before left waiting do not find the decoders below."""

# What a decoder may do, as functions of a module that the guarded process imports by name.
DECODERS = """
import ctypes, os, re, signal, sys, time
from pathlib import Path
from pipeline.failures import DamagedImageError

def echo(fields, parts):
    return {"pid": os.getpid(), **fields}, [part[::-1] for part in parts]

def damaged(fields, parts):
    raise DamagedImageError("ends at byte 7")

def mistaken(fields, parts):
    raise KeyError("a mistake of ours")

def crash(fields, parts):
    ctypes.string_at(1)

def killed_the_first_time(fields, parts):
    mark = Path(fields["mark"])
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return {"again": True}, []

def leave(fields, parts):
    os._exit(3)

def sleep(fields, parts):
    time.sleep(600)

def hold_the_interpreter(fields, parts):
    re.match("(a+)+$", "a" * 60 + "b")

def eat(fields, parts):
    return {}, [bytearray(2**40)]

def eat_slowly(fields, parts):
    kept = []
    while True:
        kept.append(os.urandom(2**20))

def modules(fields, parts):
    return {"modules": sorted(sys.modules)}, []

def chatter(fields, parts):
    os.write(1, b"x" * 2**20)
    os.write(2, b"x" * 2**20)
    return {}, []
"""


@pytest.fixture
def decoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "hostile_decoders.py").write_text(DECODERS)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("hostile_decoders")
    del sys.modules["hostile_decoders"]
    stop_idle()


def process_of(guard: Guard, decoders: ModuleType) -> int:
    return int(guard(decoders.echo, {}, [])[0]["pid"])


def is_alive(process: int) -> bool:
    """Tells whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends_within(process: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not is_alive(process):
            return True
        time.sleep(0.05)
    return False


def test_a_message_goes_there_and_comes_back(decoders: ModuleType) -> None:
    fields, parts = OURS(decoders.echo, {"name": "Küste", "list": [1, None]}, [b"abc", b"", b"\0\xff" * 1_000_000])

    assert fields["name"] == "Küste"
    assert fields["list"] == [1, None]
    assert parts == [b"cba", b"", b"\xff\0" * 1_000_000]
    assert fields["pid"] != os.getpid()


def test_one_process_serves_all_calls(decoders: ModuleType) -> None:
    assert len({process_of(OURS, decoders) for _ in range(5)}) == 1


def test_a_default_timeout_for_sockets_ends_no_process(decoders: ModuleType) -> None:
    """Beam sets one as soon as it asks for Google's credentials, and then every new socket is non-blocking."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(60)
    try:
        process = process_of(OURS, decoders)
        time.sleep(0.2)

        assert process_of(OURS, decoders) == process
    finally:
        socket.setdefaulttimeout(before)


def test_a_typed_error_comes_back_as_what_it_is(decoders: ModuleType) -> None:
    guard = OURS
    process = process_of(guard, decoders)

    with pytest.raises(DamagedImageError, match="ends at byte 7"):
        guard(decoders.damaged, {}, [])

    assert process_of(guard, decoders) == process


def test_a_mistake_of_ours_is_no_typed_error(decoders: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="KeyError: 'a mistake of ours'"):
        OURS(decoders.mistaken, {}, [])


@pytest.mark.parametrize(("decoder", "said"), [("crash", "SIGSEGV"), ("leave", "status 3")])
def test_a_crash_costs_one_call_and_the_next_is_served_by_a_fresh_process(
    decoders: ModuleType, decoder: str, said: str
) -> None:
    guard = OURS
    before = process_of(guard, decoders)

    with pytest.raises(DecoderCrashError, match=said):
        guard(getattr(decoders, decoder), {}, [b"file"])

    assert process_of(guard, decoders) != before
    assert not is_alive(before)


def test_a_process_killed_from_outside_is_not_held_against_the_image(decoders: ModuleType, tmp_path: Path) -> None:
    fields, _ = OURS(decoders.killed_the_first_time, {"mark": str(tmp_path / "mark")}, [])

    assert fields == {"again": True}


def test_a_process_killed_while_idle_is_replaced(decoders: ModuleType) -> None:
    guard = OURS
    before = process_of(guard, decoders)
    os.kill(before, signal.SIGKILL)

    assert process_of(guard, decoders) != before


@pytest.mark.parametrize("decoder", ["sleep", "hold_the_interpreter"])
def test_a_hang_ends_at_the_time_limit(decoders: ModuleType, decoder: str) -> None:
    guard = Guard(seconds=2)
    before = process_of(guard, decoders)

    started = time.monotonic()
    with pytest.raises(DecoderCrashError, match=r"the limit is 2 s"):
        guard(getattr(decoders, decoder), {}, [])

    assert time.monotonic() - started < 60
    assert ends_within(before, 5)
    assert process_of(guard, decoders) != before


@pytest.mark.parametrize("decoder", ["eat", "eat_slowly"])
def test_hunger_for_memory_ends_at_the_memory_limit(decoders: ModuleType, decoder: str) -> None:
    guard = Guard(memory_bytes=2**29)
    before = process_of(guard, decoders)

    with pytest.raises(DecoderCrashError, match="more memory than the limit of 536870912 bytes"):
        guard(getattr(decoders, decoder), {}, [])

    assert process_of(guard, decoders) != before


def test_what_libraries_print_neither_blocks_nor_shows(decoders: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    OURS(decoders.chatter, {}, [])

    assert capfd.readouterr() == ("", "")


def test_a_process_that_decodes_has_loaded_neither_beam_nor_tensorflow(decoders: ModuleType) -> None:
    guard = OURS
    with pytest.raises(Exception, match="0 bytes"):
        guard(decode_message, {"max_bytes": 1, "max_pixels": 1}, [b""])

    loaded = set(guard(decoders.modules, {}, [])[0]["modules"])

    assert "pipeline.codec.decoding" in loaded
    assert loaded & {"apache_beam", "tensorflow", "keras", "cv2", "grpc"} == set()


def test_threads_call_at_the_same_time_and_each_gets_its_own_answer(decoders: ModuleType) -> None:
    guard = OURS

    def ask(number: int) -> tuple[int, bytes]:
        fields, parts = guard(decoders.echo, {"number": number}, [b"%d" % number * 1000])
        return fields["number"], bytes(parts[0])

    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(ask, range(60)))

    assert answers == [(number, (b"%d" % number * 1000)[::-1]) for number in range(60)]


# A worker that is killed in the middle of its life; it says which guarded process it has.
WORKER = """
import sys, threading, time
sys.path[:0] = sys.argv[1:3]
import hostile_decoders
from pipeline.guard import Guard
guard = Guard(seconds=5)
print(guard(hostile_decoders.echo, {}, [])[0]["pid"], flush=True)
if sys.argv[3] == "busy":
    guard(hostile_decoders.hold_the_interpreter, {}, [])
time.sleep(600)
"""


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_a_killed_worker_leaves_no_orphan(decoders: ModuleType, tmp_path: Path, state: str) -> None:
    command = [sys.executable, "-c", WORKER, str(ROOT), str(tmp_path), state]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout
        guarded = int(worker.stdout.readline())
        time.sleep(0.3)
        assert is_alive(guarded)

        worker.kill()

    assert ends_within(guarded, 20)


@pytest.mark.slow
def test_workers_of_several_processes_have_guarded_ones_of_their_own(decoders: ModuleType, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"}

    done = subprocess.run(
        [sys.executable, "-c", BEAM], capture_output=True, text=True, timeout=120, check=True, env=environment
    )

    lines = [line.split() for line in done.stdout.splitlines()]
    assert sorted(int(number) for number, _, _ in lines) == list(range(40))
    assert len({guarded for _, _, guarded in lines}) >= len({worker for _, worker, _ in lines}) > 0
    for guarded in {guarded for _, _, guarded in lines}:
        assert ends_within(int(guarded), 10)


BEAM = """
import os
import apache_beam as beam
import hostile_decoders
from apache_beam.options.pipeline_options import PipelineOptions
from pipeline.guard import Guard
guard = Guard()
def ask(number):
    fields, _ = guard(hostile_decoders.echo, {"number": number}, [])
    os.write(1, f"{fields['number']} {os.getpid()} {fields['pid']}\\n".encode())  # one write, one line
flags = ["--direct_running_mode=multi_processing", "--direct_num_workers=2", "--runner=FnApiRunner"]
if __name__ == "__main__":
    with beam.Pipeline(options=PipelineOptions(flags)) as root:
        root | beam.Create(range(40)) | beam.Reshuffle() | beam.Map(ask)
"""

FORKER = """
import os, sys
sys.path[:0] = sys.argv[1:3]
import hostile_decoders
from pipeline.guard import Guard
guard = Guard()
mine = guard(hostile_decoders.echo, {}, [])[0]["pid"]
if os.fork() == 0:
    theirs = guard(hostile_decoders.echo, {}, [])[0]["pid"]
    print(theirs != mine, flush=True)
    sys.exit()
os.wait()
print(guard(hostile_decoders.echo, {}, [])[0]["pid"] == mine)
"""


def test_a_forked_worker_starts_a_process_of_its_own(decoders: ModuleType, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKER, str(ROOT), str(tmp_path)], capture_output=True, text=True, timeout=60
    )

    assert (done.stdout.split(), done.stderr) == (["True", "True"], "")


PARENT_OF_A_LINGERER = """
import os, sys, time
sys.path[:0] = sys.argv[1:3]
import hostile_decoders
from pipeline.guard import Guard
print(Guard()(hostile_decoders.echo, {}, [])[0]["pid"], flush=True)
lingerer = os.fork()
if lingerer == 0:
    os.close(1)
    os.close(2)
    time.sleep(600)
print(lingerer, flush=True)
os._exit(0)
"""


def test_a_fork_that_outlives_the_worker_does_not_keep_its_process_alive(decoders: ModuleType, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PARENT_OF_A_LINGERER, str(ROOT), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    guarded, lingerer = map(int, done.stdout.split())

    try:
        assert ends_within(guarded, 10)
        assert is_alive(lingerer)
    finally:
        os.kill(lingerer, signal.SIGKILL)


def test_an_interpreter_that_cannot_start_the_process_says_why(
    decoders: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_idle()
    monkeypatch.setattr(sys, "executable", "/bin/false")

    with pytest.raises(RuntimeError, match="the guarded process does not start"):
        OURS(decoders.echo, {}, [])


@pytest.mark.parametrize("wrong", [{"memory_bytes": 1}, {"seconds": 0.0}, {"seconds": float("nan")}])
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Guard(**wrong)
