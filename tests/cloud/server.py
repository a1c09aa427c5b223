"""An HTTP server on loopback that any twin of a cloud service answers through, and credentials that it accepts."""

from __future__ import annotations

import contextlib
import functools
import http.server
import json
import socket
import struct
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.cloud.faults import Kind
from tests.cloud.messages import Answer, Call

PROJECT = "twin"


class Service(Protocol):
    """What stands behind a server."""

    def answer(self, call: Call) -> tuple[Answer, Kind | None]:
        """Performs one request; the fault is what the connection has to play: `reset`, `truncate`, `lose-answer`."""


class Server:
    """Listens as soon as it is made, until `stop` or the end of a `with` block.

    Args:
        service: what answers; called from one thread for each connection.
        name: of the thread that listens.
    """

    def __init__(self, service: Service, name: str) -> None:
        self._listener = _Listener(service)
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.02,), name=name, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens, at 127.0.0.1."""
        return int(self._listener.server_address[1])

    def stop(self) -> None:
        """Ends the service and every connection."""
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()


class Twin:
    """A service that runs: started when made, stopped by `stop` or at the end of a `with` block."""

    def __init__(self, name: str) -> None:
        self._server = Server(self, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the service and every connection."""
        self._server.stop()

    def answer(self, call: Call) -> tuple[Answer, Kind | None]:
        """Performs one request, and says which fault the connection has to play."""
        raise NotImplementedError


def write_account(path: Path, token_url: str) -> None:
    """Writes a service account's key file, whose tokens come from `token_url`."""
    account = {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": "twin",
        "private_key": _private_key(),
        "client_email": f"worker@{PROJECT}.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": token_url,
    }
    path.write_text(json.dumps(account))


class _Listener(http.server.ThreadingHTTPServer):
    """Listens on a free port of loopback, one thread for each connection."""

    daemon_threads = True
    block_on_close = False
    # Many clients may connect at once, and none may be refused.
    request_queue_size = 128

    def __init__(self, service: Service) -> None:
        self.service = service
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Connection)

    def server_bind(self) -> None:
        """Binds without asking a name server for the name of the host, which `HTTPServer` does."""
        socket.socket.bind(self.socket, self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remembers the connection, so that closing the server ends it."""
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forgets a connection that has ended."""
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Ends the listening socket and all open connections."""
        super().server_close()
        with self._open_lock:
            still_open = list(self._open)
        for connection in still_open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Lets a bug of the twin be seen, but not a client that went away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Connection(http.server.BaseHTTPRequestHandler):
    """Reads requests off one connection, sends the answers, and plays the faults that are of the connection."""

    protocol_version = "HTTP/1.1"
    server: _Listener

    def do_GET(self) -> None:
        """Answers any request."""
        headers = {key.lower(): value for key, value in self.headers.items()}
        call = Call(self.command, self.path, headers, self._read_body(headers))
        answer, fault = self.server.service.answer(call)
        if fault in ("reset", "lose-answer"):
            self._reset()
        else:
            self._send(answer, truncate=fault == "truncate")

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

    def _read_body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "identity") == "identity":
            return self.rfile.read(int(headers.get("content-length", "0")))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, answer: Answer, truncate: bool) -> None:
        """Sends head and body in one piece: two would wait for each other's acknowledgement, 40 ms a request."""
        self.send_response(answer.status)
        for key, value in answer.headers.items():
            self.send_header(key, value)
        if answer.status not in (204, 304):
            self.send_header("Content-Length", str(len(answer.body)))
        body = answer.body
        if truncate:
            body = body[: len(body) // 2]
            self.close_connection = True
        # Where the base class collects the head, and what its `end_headers` would send apart from the body.
        buffer: list[bytes] = self.__dict__.pop("_headers_buffer")
        self.wfile.write(b"".join([*buffer, b"\r\n", body]))

    def _reset(self) -> None:
        """Ends the connection with RST instead of an answer: lingering for 0 s drops what is left to send."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        # Marked closed here, so that the server does not end it in the orderly way; closed for real with `rfile`.
        self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class names it so
        """Writes nothing: each service keeps a log of its own."""


@functools.cache
def _private_key() -> str:
    """Makes one key for all tests of a process: it signs requests for tokens that nobody checks."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
