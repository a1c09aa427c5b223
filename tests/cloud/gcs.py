"""A cloud storage service on loopback: strict, quick to start, and failing on request.

Tests get one that is ready to use from the fixture `gcs`; this is what it does:

    with GcsTwin() as gcs:
        gcs.create_bucket("archive")
        gcs.faults = FaultPlan(Fault("503", "read", "a.jpg"))
        os.environ |= gcs.environment(folder)  # for this process and those started from it
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from tests.cloud.errors import ApiError
from tests.cloud.faults import FaultPlan, Kind
from tests.cloud.json_api import JsonApi
from tests.cloud.messages import Answer, Call, batch_answer, batch_calls, error_answer
from tests.cloud.server import PROJECT, Twin, write_account
from tests.cloud.store import Store


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


class GcsTwin(Twin):
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
        super().__init__("gcs-twin")
        self._api = JsonApi(self._store, self.url)

    @property
    def url(self) -> str:
        """What STORAGE_EMULATOR_HOST must hold."""
        return f"http://127.0.0.1:{self._server.port}"

    def stop(self) -> None:
        """Ends the service and every connection; stalled requests end at once."""
        self.stopping.set()
        super().stop()

    def environment(self, folder: Path) -> dict[str, str]:
        """Gives what a process needs in its environment to use this service and no other.

        With credentials of its own a process does not look for a metadata server, which takes 20 s where there is none.

        Args:
            folder: where the service-account file is written.
        """
        path = folder / "twin-service-account.json"
        write_account(path, f"{self.url}/token")
        return {
            "STORAGE_EMULATOR_HOST": self.url,
            "GOOGLE_APPLICATION_CREDENTIALS": str(path),
            "GOOGLE_CLOUD_PROJECT": PROJECT,
        }

    def create_bucket(self, bucket: str, location: str = "US", regions: tuple[str, ...] = ()) -> None:
        """Makes an empty bucket in a region or multi-region, or in two of its regions, without a request."""
        self._store.create_bucket(bucket, location, regions)

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

    def answer(self, call: Call) -> tuple[Answer, Kind | None]:
        """Performs one request that came over the connection."""
        return (self.issue_token(), None) if call.path == "/token" else self.respond(call)

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
