"""What Google's newer APIs have in common: resources as JSON of protocol buffers, errors with a status by name.

Strict: what a twin does not act on (a path, a parameter, a field that the message does not have) is refused, so that no
test passes because something was ignored.
"""

from __future__ import annotations

import dataclasses
import json
import re
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar
from urllib.parse import unquote

from google.protobuf import json_format

from tests.cloud.errors import ApiError
from tests.cloud.faults import Kind
from tests.cloud.messages import Answer, Call
from tests.cloud.server import Twin

STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}
EVERYWHERE = frozenset({"alt", "$alt", "prettyPrint"})
MAX_PAGE = 500

Message = Any
"""A message of proto-plus, such as `dataflow_v1beta3.Job`."""


class RestError(Exception):
    """What a service answers instead of what was asked for.

    Attributes:
        status: of `STATUSES`.
        message: for people.
        name: of the status, where it is not the usual one.
    """

    def __init__(self, status: int, message: str, name: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.name = name or STATUSES[status]

    def answer(self) -> Answer:
        """Gives the answer that stands for the error."""
        return json_answer({"error": {"code": self.status, "message": self.message, "status": self.name}}, self.status)


@dataclasses.dataclass(frozen=True)
class RestRequest:
    """One request as the service saw it.

    Attributes:
        operation: name of the method that it means, or `unknown`.
        path: percent-decoded.
        query: its parameters.
        status: what was answered.
    """

    operation: str
    path: str
    query: dict[str, str]
    status: int


Handler = TypeVar("Handler", bound=Callable[..., Answer])


@dataclasses.dataclass(frozen=True)
class Route:
    """Where a method and path lead, and which parameters are acted on there."""

    method: str
    pattern: re.Pattern[str]
    parameters: frozenset[str]


def rest(method: str, path: str, *parameters: str) -> Callable[[Handler], Handler]:
    """Marks a handler `(service, call, **path) -> Answer`, whose name is the operation's.

    In a path `{job}` stands for a segment without slash or colon, and comes to the handler by that name.
    """
    pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/:]+)", path))

    def mark(handler: Handler) -> Handler:
        routes = [*getattr(handler, "routes", ()), Route(method, pattern, EVERYWHERE | {*parameters})]
        handler.routes = routes  # type: ignore[attr-defined]
        return handler

    return mark


class RestTwin(Twin):
    """A service whose handlers are marked by `rest`.

    Attributes:
        url: what a client takes as its `api_endpoint`; with the word localhost Beam chooses plain HTTP.
    """

    _operations: ClassVar[dict[str, list[Route]]] = {}

    def __init_subclass__(cls) -> None:
        cls._operations = {name: value.routes for name, value in vars(cls).items() if hasattr(value, "routes")}

    def __init__(self, name: str) -> None:
        self.lock = threading.RLock()
        self._log: list[RestRequest] = []
        self._refusals: list[tuple[str, RestError]] = []
        super().__init__(name)
        self.url = f"http://localhost:{self._server.port}"

    def refuse(self, operation: str, status: int, message: str, times: int = 1) -> None:
        """Lets the next requests for an operation fail, before anything is done.

        Args:
            operation: the name of a handler, such as `create_job`.
            status: of `STATUSES`.
            message: for people.
            times: how many requests; a retry is one more.
        """
        if operation not in self._operations:
            raise ValueError(f"operation must be one of {', '.join(self._operations)}, got {operation}")
        with self.lock:
            self._refusals += [(operation, RestError(status, message))] * times

    def requests(self, operation: str | None = None) -> list[RestRequest]:
        """Gives the requests so far, in the order in which they were answered."""
        with self.lock:
            return [one for one in self._log if operation in (None, one.operation)]

    def answer(self, call: Call) -> tuple[Answer, Kind | None]:
        """Performs one request that came over the connection."""
        return self.respond(call), None

    def respond(self, call: Call) -> Answer:
        """Performs one request and logs it."""
        operation = "unknown"
        try:
            operation, path = self._find(call)
            with self.lock:
                self._fail_if_planned(operation)
                answer: Answer = getattr(self, operation)(call, **path)
        except RestError as error:
            answer = error.answer()
        except ApiError as error:
            answer = RestError(error.status, error.message).answer()
        with self.lock:
            self._log.append(RestRequest(operation, unquote(call.path), call.query, answer.status))
        return answer

    def _find(self, call: Call) -> tuple[str, dict[str, str]]:
        for operation, routes in self._operations.items():
            for one in routes:
                match = one.pattern.fullmatch(call.path) if one.method == call.method else None
                if match is None:
                    continue
                if unknown := sorted(call.query.keys() - one.parameters):
                    raise RestError(501, f"The twin does not act on {', '.join(unknown)} of {call.method} {call.path}")
                return operation, {key: unquote(text) for key, text in match.groupdict().items()}
        raise RestError(501, f"The twin has no {call.method} {call.path}")

    def _fail_if_planned(self, operation: str) -> None:
        for planned in self._refusals:
            if planned[0] == operation:
                self._refusals.remove(planned)
                raise planned[1]


def read(call: Call, kind: type[Any]) -> Message:
    """Reads the body as a message; 400 for a field that it does not have or a value of another kind."""
    message = kind()
    try:
        json_format.ParseDict(call.json(), kind.pb(message))
    except json_format.ParseError as error:
        raise RestError(400, f"Invalid JSON payload received. {error}") from error
    return message


def plain(message: Message) -> dict[str, Any]:
    """Gives a message as the reference of the REST API shows it: names in camel case, enums by name."""
    value: dict[str, Any] = json_format.MessageToDict(type(message).pb(message))
    return value


def shown(call: Call, message: Message) -> Answer:
    """Answers with a message, its enums as numbers where the client asks for that."""
    as_numbers = "enum-encoding=int" in call.query.get("$alt", "")
    return json_answer(json_format.MessageToDict(type(message).pb(message), use_integers_for_enums=as_numbers))


def json_answer(value: Any, status: int = 200) -> Answer:
    """Answers with any JSON."""
    return Answer(status, json.dumps(value).encode(), {"Content-Type": "application/json; charset=UTF-8"})


def page(call: Call, items: Sequence[Any]) -> tuple[Sequence[Any], str]:
    """Cuts a listing down to the page asked for.

    Returns:
        its items, and the token of the next one, empty at the end.
    """
    size, token = call.query.get("pageSize", "0"), call.query.get("pageToken", "") or "0"
    if not (size.isdecimal() and token.isdecimal()):
        raise RestError(400, f"pageSize and pageToken must be as they were given out, got {size!r} and {token!r}")
    begin, count = int(token), min(int(size) or MAX_PAGE, MAX_PAGE)
    return items[begin : begin + count], str(begin + count) if begin + count < len(items) else ""
