"""Runs code that reads hostile bytes in a process of its own, whose crash, hang or hunger costs one call and no more.

A guarded function takes and gives messages: a JSON object and byte buffers. Nothing is pickled, so a process that was
taken over runs nothing in the caller. The process is started fresh (not forked) by this module's own `-m`, imports
only what the function needs, lives until its socket closes, and serves one call after another; each thread that calls
at the same time has one.
"""

from __future__ import annotations

import atexit
import dataclasses
import importlib
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.failures import DecoderCrashError, ImageError

Message = tuple[Mapping[str, Any], Sequence[Any]]
Function = Callable[[Mapping[str, Any], Sequence[bytes]], Message]

LENGTH = struct.Struct("<Q")
MAX_FIELDS = 64 * 2**20
"""Bytes of JSON that a message may have."""

START_SECONDS = 60
GRACE_SECONDS = 10
"""How long the caller waits beyond the time limit, which the process itself keeps."""


@dataclasses.dataclass(frozen=True)
class Guard:
    """Calls functions in a guarded process. Holds no process itself, so it may be pickled, copied and shared.

    Attributes:
        memory_bytes: address space of the process; 250 megapixels of 16-bit RGB need about 4 GiB.
        seconds: for one call.
    """

    memory_bytes: int = 6 * 2**30
    seconds: float = 120.0

    def __post_init__(self) -> None:
        if self.memory_bytes < 2**28:
            raise ValueError(f"memory_bytes must be at least {2**28}, got {self.memory_bytes}")
        if not 0 < self.seconds <= 86_400:
            raise ValueError(f"seconds must be above 0 and at most 86400, got {self.seconds}")

    def __call__(self, function: Function, fields: Mapping[str, Any], parts: Sequence[bytes]) -> Message:
        """Calls a function of a module that the process can import.

        Args:
            function: at the top of its module; takes and gives a message.
            fields, parts: its arguments.

        Returns:
            What the function gives; parts as new `bytearray`s.

        Raises:
            ImageError: the same that the function raises.
            DecoderCrashError: if the process dies, wants too much memory or takes too long.
            RuntimeError: if the function raises anything else, or no process can be started: a mistake of ours.
        """
        name = f"{function.__module__}:{function.__qualname__}"
        for attempt in (1, 2):
            child = _take(self)
            try:
                reply, received = child.call({"function": name, "fields": fields}, parts)
            except _Lost as lost:
                child.stop()
                # A process may also be killed from outside, as by the kernel where the machine's memory runs out, and
                # then no image is to blame: only a second time is proof. One that took too long had its chance.
                if attempt == 1 and not lost.late:
                    continue
                raise DecoderCrashError(str(lost)) from None
            except BaseException:
                child.stop()  # in the middle of a message: of no more use
                raise
            if "crash" in reply:
                child.stop()  # what is left of its memory is in pieces
                raise DecoderCrashError(reply["crash"])
            _give(self, child)
            break
        if "error" in reply:
            raise ERRORS[reply["error"]](reply["detail"])
        if "mistake" in reply:
            raise RuntimeError(f"{name} failed in the guarded process:\n{reply['mistake']}")
        return reply["fields"], received


ERRORS = {error.reason: error for error in ImageError.__subclasses__()}


class _Lost(Exception):  # noqa: N818
    """The process is gone, or as good as gone.

    Attributes:
        late: it was the time limit.
    """

    def __init__(self, text: str, late: bool = False) -> None:
        super().__init__(text)
        self.late = late


class _Child:
    """One guarded process, as its caller sees it."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._socket, theirs = socket.socketpair()
        path = os.pathsep.join(part or str(os.getcwd()) for part in sys.path)  # noqa: PTH109
        # Threads and their arenas of memory count as address space, and none is needed.
        settings = {"PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        arguments = [str(theirs.fileno()), str(guard.memory_bytes), str(guard.seconds)]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pipeline.guard", *arguments],
                env={**os.environ, **settings},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        self._socket.settimeout(START_SECONDS)
        try:
            receive(self._socket, MAX_FIELDS)
        except OSError as error:
            self._process.kill()
            said = self._process.communicate()[1].decode(errors="replace").strip()
            self._socket.close()
            raise RuntimeError(f"the guarded process does not start: {said or error}") from error
        self._stderr().close()
        self._socket.settimeout(guard.seconds + GRACE_SECONDS)

    def _stderr(self) -> Any:
        return self._process.stderr

    def is_alive(self) -> bool:
        """Tells whether the process runs."""
        return self._process.poll() is None

    def call(self, fields: Mapping[str, Any], parts: Sequence[Any]) -> tuple[dict[str, Any], list[bytearray]]:
        """Sends one message and waits for the answer; `_Lost` if none comes."""
        started = time.monotonic()
        try:
            send(self._socket, fields, parts)
            return receive(self._socket, self._guard.memory_bytes)
        except OSError as error:
            # A process that the time limit ends dies of its own alarm clock; one that cannot even do that is stopped.
            late = isinstance(error, TimeoutError) or self._ending() == -signal.SIGALRM
            if late:
                text = f"took longer than {time.monotonic() - started:.0f} s; the limit is {self._guard.seconds:g} s"
                raise _Lost(text, late=True) from error
            raise _Lost(f"the decoder's process ended with {_named(self._ending())}") from error

    def _ending(self) -> int | None:
        """Waits a moment for the process to end; its return code, negative for a signal."""
        try:
            return self._process.wait(10)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """Ends the process at once."""
        self._socket.close()
        self._process.kill()
        self._process.wait()


def _named(code: int | None) -> str:
    """Spells a return code."""
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return "no answer" if code is None else f"status {code}"


_idle: dict[Guard, list[_Child]] = {}
_lock = threading.Lock()


def _take(guard: Guard) -> _Child:
    """Gives a process that nobody else uses: an idle one, or a new one."""
    with _lock:
        waiting = _idle.get(guard, [])
        while waiting:
            child = waiting.pop()
            if child.is_alive():
                return child
            child.stop()
    return _Child(guard)


def _give(guard: Guard, child: _Child) -> None:
    """Takes a process back for the next caller."""
    with _lock:
        _idle.setdefault(guard, []).append(child)


def stop_idle() -> None:
    """Ends all processes that wait for a call; the next call starts a new one."""
    with _lock:
        children = [child for waiting in _idle.values() for child in waiting]
        _idle.clear()
    for child in children:
        child.stop()


def _forget() -> None:
    """Leaves the processes to the parent after a fork; two callers on one socket would read each other's answers."""
    global _lock
    _lock = threading.Lock()
    for waiting in _idle.values():
        for child in waiting:
            child._socket.close()
            child._process.returncode = 0  # not ours to wait for
    _idle.clear()


atexit.register(stop_idle)
os.register_at_fork(after_in_child=_forget)


def send(to: socket.socket, fields: Mapping[str, Any], parts: Sequence[Any]) -> None:
    """Sends one message: length and text of a JSON object that knows the sizes of the buffers, then the buffers."""
    views = [memoryview(part).cast("B") if memoryview(part).nbytes else memoryview(b"") for part in parts]
    text = json.dumps({"fields": fields, "sizes": [view.nbytes for view in views]}).encode()
    to.sendall(LENGTH.pack(len(text)) + text)
    for view in views:
        to.sendall(view)


def receive(from_: socket.socket, max_bytes: int) -> tuple[dict[str, Any], list[bytearray]]:
    """Receives one message, the inverse of `send`.

    Raises:
        ConnectionError: if the other side is gone, or sends what is no message or more than `max_bytes`.
    """
    (length,) = LENGTH.unpack(_exactly(from_, LENGTH.size))
    if length > MAX_FIELDS:
        raise ConnectionError(f"a message of {length} bytes")
    try:
        message = json.loads(bytes(_exactly(from_, length)))
        fields, sizes = message["fields"], [int(size) for size in message["sizes"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ConnectionError(f"no message: {error}") from error
    if sum(sizes) > max_bytes or min(sizes, default=0) < 0:
        raise ConnectionError(f"buffers of {sum(sizes)} bytes")
    return fields, [_exactly(from_, size) for size in sizes]


def _exactly(from_: socket.socket, size: int) -> bytearray:
    """Receives a number of bytes."""
    data = bytearray(size)
    view = memoryview(data)
    while view:
        received = from_.recv_into(view)
        if not received:
            raise ConnectionError("the other side is gone")
        view = view[received:]
    return data


def serve(descriptor: int, memory_bytes: int, seconds: float) -> None:
    """Answers calls until the socket closes: the guarded process's whole life.

    Args:
        descriptor: of the socket.
        memory_bytes, seconds: as in `Guard`.
    """
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller decides when to stop
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process even where the decoder never comes back
    with socket.socket(fileno=descriptor) as caller:
        # Where the caller has a default timeout for sockets, as Beam sets one for Google's services, the pair was made
        # non-blocking, and to wait for a request would be an error.
        caller.setblocking(True)
        send(caller, {"ready": True}, [])
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 2)  # libraries complain there about every broken file
        os.close(silence)
        while True:
            try:
                request, parts = receive(caller, memory_bytes)
            except (ConnectionError, MemoryError):
                return
            signal.setitimer(signal.ITIMER_REAL, seconds)
            reply, results = _answer(request, parts, memory_bytes)
            signal.setitimer(signal.ITIMER_REAL, 0)
            try:
                send(caller, reply, results)
            except ConnectionError:
                return
            del parts, results


def _answer(request: Mapping[str, Any], parts: Sequence[bytearray], memory_bytes: int) -> Message:
    """Calls the function that a request names."""
    try:
        module, _, name = request["function"].partition(":")
        function = getattr(importlib.import_module(module), name)
        fields, results = function(request["fields"], [bytes(part) for part in parts])
        return {"fields": fields}, results
    except ImageError as error:
        return {"error": error.reason, "detail": str(error)}, []
    except MemoryError:
        return {"crash": f"wanted more memory than the limit of {memory_bytes} bytes"}, []
    except Exception:
        return {"mistake": traceback.format_exc()}, []


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
