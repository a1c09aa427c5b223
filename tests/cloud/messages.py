"""Requests and answers as bytes: bodies of several parts, batches, partial answers, checksums in headers."""

from __future__ import annotations

import dataclasses
import email.parser
import email.policy
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.cloud.errors import ApiError

MAX_BATCH_CALLS = 100


@dataclasses.dataclass(frozen=True)
class Call:
    """One HTTP request.

    Attributes:
        method: such as `GET`.
        target: path and query as sent, still percent-encoded.
        headers: names in lower case.
        body: all of it.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """Percent-encoded, without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """Decoded parameters; `ApiError` 400 where they are no UTF-8."""
        text = urlsplit(self.target).query
        try:
            return dict(parse_qsl(text, keep_blank_values=True, errors="strict"))
        except UnicodeDecodeError as error:
            raise ApiError(400, f"Invalid UTF-8 in {text!r}") from error

    def json(self) -> dict[str, Any]:
        """Reads the body as one JSON object; empty where there is no body."""
        try:
            value = json.loads(self.body or b"{}")
        except ValueError as error:
            raise ApiError(400, f"Parse Error: {error}") from error
        if not isinstance(value, dict):
            raise ApiError(400, "Parse Error: the body must be a JSON object")
        return value


@dataclasses.dataclass(frozen=True)
class Answer:
    """One HTTP response.

    Attributes:
        status: such as 200.
        body: all of it.
        headers: beside Content-Length.
        generation: of the object that was read, written or deleted, for the request log.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    generation: int | None = None


def shown(call: Call, value: dict[str, Any]) -> Answer:
    """Answers with JSON, cut down to the `fields` asked for."""
    if fields := call.query.get("fields"):
        value = partial(value, parse_fields(fields))
    body = json.dumps(value, ensure_ascii=False).encode()
    return Answer(200, body, {"Content-Type": "application/json; charset=UTF-8"})


def error_answer(error: ApiError) -> Answer:
    """Gives the answer that stands for an error; a 304 has no body."""
    if error.status == 304:
        return Answer(304)
    return Answer(error.status, json.dumps(error.body()).encode(), {"Content-Type": "application/json; charset=UTF-8"})


def batch_calls(call: Call) -> list[Call]:
    """Takes a batch apart into its requests; 400 for an upload, a download or more than 100."""
    calls = []
    for _, content in split_multipart(call):
        head, _, rest = content.lstrip(b"\r\n").partition(b"\n")
        line = re.fullmatch(r"([A-Z]+) (\S+) HTTP/1\.1", head.decode("ascii").strip())
        if line is None:
            raise ApiError(400, f"Invalid request line in a batch: {head!r}")
        headers, body = split_headers(rest)
        parts = urlsplit(line[2])
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        if parts.path.startswith(("/upload/", "/download/")) or "alt=media" in parts.query:
            raise ApiError(400, "A batch cannot upload or download media.")
        calls.append(Call(line[1], target, headers, body.strip()))
    if not 1 <= len(calls) <= MAX_BATCH_CALLS:
        raise ApiError(400, f"A batch must have 1 to {MAX_BATCH_CALLS} calls, got {len(calls)}.")
    return calls


def batch_answer(answers: Sequence[Answer]) -> Answer:
    """Puts the answers of a batch together, in the order of its requests."""
    parts = []
    for number, answer in enumerate(answers, 1):
        headers = {**answer.headers, "Content-Length": str(len(answer.body))}
        lines = [f"HTTP/1.1 {answer.status} Status", *(f"{key}: {value}" for key, value in headers.items()), "", ""]
        head = f"--batch_twin\r\nContent-Type: application/http\r\nContent-ID: <response-{number}>\r\n\r\n"
        parts.append(head.encode() + "\r\n".join(lines).encode() + answer.body + b"\r\n")
    body = b"".join(parts) + b"--batch_twin--\r\n"
    return Answer(200, body, {"Content-Type": "multipart/mixed; boundary=batch_twin"})


Mask = dict[str, "Mask"]


def parse_fields(text: str) -> Mask:
    """Reads a partial-response mask such as `items(name,size),nextPageToken`; an empty mask below keeps everything."""
    root: Mask = {}
    stack, last = [root], root
    for token in re.findall(r"[^,()/\s]+|[,()/]", text):
        if token == "(":
            stack.append(last)
        elif token == ")":
            if len(stack) == 1:
                raise ApiError(400, f"Invalid field selection {text!r}")
            stack.pop()
        elif token == "/":
            raise ApiError(501, f"The twin reads nested fields in brackets only, got {text!r}")
        elif token != ",":
            last = stack[-1].setdefault(token, {})
    if len(stack) > 1:
        raise ApiError(400, f"Invalid field selection {text!r}")
    return root


def partial(value: Any, mask: Mask) -> Any:
    """Keeps what a mask names, in each element of a list."""
    if not mask or "*" in mask:
        return value
    if isinstance(value, list):
        return [partial(element, mask) for element in value]
    return {key: partial(value[key], below) for key, below in mask.items() if key in value}


def multipart_pair(call: Call) -> tuple[tuple[dict[str, str], dict[str, Any]], tuple[dict[str, str], bytes]]:
    """Takes a multipart upload apart: the description as JSON, and the content, each with its headers."""
    parts = split_multipart(call)
    if len(parts) != 2:
        raise ApiError(400, f"A multipart upload must have two parts, got {len(parts)}.")
    (headers, description), content = parts
    return (headers, Call("POST", call.target, headers, description).json()), content


def split_multipart(call: Call) -> list[tuple[dict[str, str], bytes]]:
    """Takes a body apart at its boundary, byte for byte: headers and content of each part."""
    found = re.search(r'boundary="?([^";]+)"?', call.headers.get("content-type", ""))
    if found is None:
        raise ApiError(400, f"Content-Type must name a boundary, got {call.headers.get('content-type')!r}")
    # Not one expression over the body: that takes 70 ms for 500 kB.
    _, *pieces, last = call.body.split(b"--" + found[1].encode())
    if not pieces or not last.startswith(b"--"):
        raise ApiError(400, "The multipart body does not end with its boundary.")
    # A piece begins with the line break that ends its boundary's line, and ends with the one before the next boundary.
    return [split_headers(re.sub(rb"\A[ \t]*\r?\n", b"", without_line_break(piece), count=1)) for piece in pieces]


def without_line_break(piece: bytes) -> bytes:
    """Takes off the line break at the end, which belongs to the boundary behind it."""
    return piece[:-2] if piece.endswith(b"\r\n") else piece.removesuffix(b"\n")


def split_headers(data: bytes) -> tuple[dict[str, str], bytes]:
    """Parts headers and content at the first empty line; names come in lower case."""
    head, content = (*re.split(rb"\A\r?\n|\r?\n\r?\n", data, maxsplit=1), b"")[:2]
    parsed = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + b"\r\n\r\n")
    return {key.lower(): str(value) for key, value in parsed.items()}, content


def header_hashes(headers: Mapping[str, str]) -> dict[str, str]:
    """Reads the checksums that a request's headers promise, named as in the JSON API."""
    promised = dict(part.strip().split("=", 1) for part in headers.get("x-goog-hash", "").split(",") if part)
    hashes = {"crc32c": promised.get("crc32c"), "md5Hash": promised.get("md5", headers.get("content-md5"))}
    return {key: value for key, value in hashes.items() if value}
