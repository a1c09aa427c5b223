"""A cloud storage service on loopback: strict, quick to start, and failing on request.

Tests get one that is ready to use from the fixture `gcs`; this is what it does:

    with GcsTwin() as gcs:
        gcs.create_bucket("archive")
        gcs.faults = FaultPlan(Fault("503", "read", "a.jpg"))
        os.environ |= gcs.environment(folder)  # for this process and those started from it
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import http.server
import json
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.cloud.errors import ApiError
from tests.cloud.faults import FaultPlan, Kind
from tests.cloud.json_api import JsonApi
from tests.cloud.messages import Answer, Call, batch_answer, batch_calls, error_answer
from tests.cloud.store import Store

PROJECT = "twin"


@dataclasses.dataclass(frozen=True)
class Request:
    """One request as the service saw it; the calls in a batch are logged each, before their batch.

    Attributes:
        method, path: as sent, the path percent-decoded.
        operation: of `faults.OPERATIONS`, or `unknown` for one that was not understood.
        bucket, name: what it was about; of a copy the target.
        status: what was answered, or would have been where the answer was lost; 0 where nothing was done.
        generation: of the object that was read, written or deleted, where it went well.
        fault: what went wrong on purpose.
        in_batch: that it was one of the calls of a batch.
    """

    method: str
    path: str
    operation: str
    bucket: str | None
    name: str | None
    status: int
    generation: int | None = None
    fault: Kind | None = None
    in_batch: bool = False


class GcsTwin:
    """The service: started when made, stopped by `stop` or at the end of a `with` block.

    Args:
        faults: what goes wrong; may be replaced at any time by `gcs.faults = FaultPlan(...)`.

    Attributes:
        faults: the plan in force.
        tokens_issued: how often a client came for an access token.
    """

    def __init__(self, faults: FaultPlan | None = None) -> None:
        self.faults = faults or FaultPlan()
        self.tokens_issued = 0
        self.stopping = threading.Event()
        self._store = Store()
        self._log: list[Request] = []
        self._lock = threading.Lock()
        self._server = _Server(self)
        self._api = JsonApi(self._store, self.url)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="gcs-twin", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """What STORAGE_EMULATOR_HOST must hold."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the service and every connection; stalled requests end at once."""
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def environment(self, folder: Path) -> dict[str, str]:
        """Gives what a process needs in its environment to use this service and no other.

        With credentials of its own a process does not look for a metadata server, which takes 20 s where there is none.

        Args:
            folder: where the service-account file is written.
        """
        path = folder / "twin-service-account.json"
        account = {
            "type": "service_account",
            "project_id": PROJECT,
            "private_key_id": "twin",
            "private_key": _private_key(),
            "client_email": f"worker@{PROJECT}.iam.gserviceaccount.com",
            "client_id": "1",
            "token_uri": f"{self.url}/token",
        }
        path.write_text(json.dumps(account))
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "GOOGLE_APPLICATION_CREDENTIALS": str(path),
            "GOOGLE_CLOUD_PROJECT": PROJECT,
        }

    def create_bucket(self, bucket: str) -> None:
        """Makes an empty bucket, without a request."""
        self._store.create_bucket(bucket)

    def put(self, bucket: str, name: str, data: bytes, content_type: str = "application/octet-stream") -> int:
        """Writes an object, without a request, and gives its generation."""
        return self._store.insert(bucket, name, data, {"contentType": content_type}).generation

    def content(self, bucket: str, name: str) -> bytes:
        """Gives the bytes of an object, without a request; `ApiError` 404 where there is none."""
        return self._store.get(bucket, name).data

    def remove(self, bucket: str, name: str) -> None:
        """Deletes an object, without a request."""
        self._store.delete(bucket, name)

    def names(self, bucket: str) -> list[str]:
        """Names all objects of a bucket, without a request, in the order of their UTF-8 bytes."""
        return self._store.names(bucket)

    def generations(self, bucket: str, name: str) -> tuple[int, ...]:
        """Gives every generation that a name ever had; exactly one where an object was written once."""
        return self._store.generations(bucket, name)

    def requests(self, operation: str | None = None, name: str | None = None) -> list[Request]:
        """Gives the requests so far, in the order in which they were answered; access tokens are not among them."""
        with self._lock:
            log = list(self._log)
        return [one for one in log if operation in (None, one.operation) and name in (None, one.name)]

    def forget_requests(self) -> None:
        """Empties the request log."""
        with self._lock:
            self._log.clear()

    def issue_token(self) -> Answer:
        """Answers a service account that asks for an access token."""
        with self._lock:
            self.tokens_issued += 1
        token = {"access_token": f"twin-{self.tokens_issued}", "expires_in": 3600, "token_type": "Bearer"}
        return Answer(200, json.dumps(token).encode(), {"Content-Type": "application/json"})

    def respond(self, call: Call, in_batch: bool = False) -> tuple[Answer, Kind | None]:
        """Performs one request as far as its fault lets it, and logs it before anything is sent.

        Returns:
            the answer, and the fault that the connection has to play: `reset`, `truncate` or `lose-answer`.
        """
        path = unquote(call.path)
        try:
            prepared = self._api.prepare(call)
        except ApiError as error:
            self._record(Request(call.method, path, "unknown", None, None, error.status, in_batch=in_batch))
            return error_answer(error), None
        fault = self.faults.draw(prepared.operation, prepared.name, in_batch)
        if fault == "stall":
            self.stopping.wait(self.faults.stall_s)
        if fault == "reset":
            answer = Answer(0)
        elif fault in ("429", "503"):
            answer = error_answer(ApiError(int(fault), "Try again later: a fault of the plan."))
        else:
            answer = self._perform(call, prepared.operation, prepared.perform)
        self._record(
            Request(
                call.method,
                path,
                prepared.operation,
                prepared.bucket,
                prepared.name,
                answer.status,
                answer.generation,
                fault,
                in_batch,
            )
        )
        return answer, fault

    def _perform(self, call: Call, operation: str, perform: Callable[[], Answer]) -> Answer:
        try:
            if operation == "batch":
                return batch_answer([self.respond(one, in_batch=True)[0] for one in batch_calls(call)])
            return perform()
        except ApiError as error:
            return error_answer(error)

    def _record(self, request: Request) -> None:
        with self._lock:
            self._log.append(request)


class _Server(http.server.ThreadingHTTPServer):
    """Listens on a free port of loopback, one thread for each connection."""

    daemon_threads = True
    block_on_close = False
    # Many clients may connect at once, and none may be refused.
    request_queue_size = 128

    def __init__(self, twin: GcsTwin) -> None:
        self.twin = twin
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
    server: _Server

    def do_GET(self) -> None:
        """Answers any request."""
        headers = {key.lower(): value for key, value in self.headers.items()}
        call = Call(self.command, self.path, headers, self._read_body(headers))
        if call.path == "/token":
            answer, fault = self.server.twin.issue_token(), None
        else:
            answer, fault = self.server.twin.respond(call)
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
        """Writes nothing: the request log is in `GcsTwin.requests`."""


@functools.cache
def _private_key() -> str:
    """Makes one key for all tests of a process: it signs requests for tokens that nobody checks."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
