"""The JSON API of cloud storage over a `Store`: one request in, one answer out, no sockets.

Strict: a parameter, method or path that this twin does not act on is answered with 501, so that no test passes because
something was ignored.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from tests.cloud.errors import ApiError, integer
from tests.cloud.messages import Answer, Call, header_hashes, multipart_pair, shown
from tests.cloud.names import Selection
from tests.cloud.store import Conditions, Page, Store, Stored, crc32c, md5

MAX_PAGE = 1000
CHUNK_MULTIPLE = 256 * 1024

CONDITIONS = {"ifGenerationMatch", "ifGenerationNotMatch", "ifMetagenerationMatch", "ifMetagenerationNotMatch"}
SOURCE_CONDITIONS = {condition.replace("if", "ifSource", 1) for condition in CONDITIONS}
EVERYWHERE = frozenset({"alt", "prettyPrint", "projection", "fields"})
UPLOAD = {"uploadType", "name", *CONDITIONS}
LISTING = {
    *("maxResults", "pageToken", "prefix", "delimiter", "startOffset", "endOffset", "matchGlob"),
    "includeTrailingDelimiter",
}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A request understood but not yet done, so that a fault may come before or after.

    Attributes:
        operation: of `faults.OPERATIONS`.
        bucket, name: what it is about; None where it is about no bucket or no object.
        perform: does it; raises `ApiError`.
    """

    operation: str
    bucket: str | None
    name: str | None
    perform: Callable[[], Answer]


@dataclasses.dataclass
class Session:
    """One resumable upload under way.

    Attributes:
        bucket, name, fields, conditions: of the object to be.
        hashes: what the client said of the whole before it sent it.
        received: the bytes so far.
        finished: the object, once the last chunk was there.
    """

    bucket: str
    name: str
    fields: Mapping[str, Any]
    conditions: Conditions
    hashes: Mapping[str, str]
    received: bytearray = dataclasses.field(default_factory=bytearray)
    finished: Stored | None = None


Handler = Callable[["JsonApi", Call, dict[str, str]], Prepared]


@dataclasses.dataclass(frozen=True)
class Route:
    """Where a method and path lead, and which parameters are acted on there."""

    method: str
    pattern: re.Pattern[str]
    parameters: frozenset[str]
    handler: Handler


ROUTES: list[Route] = []


def route(method: str, path: str, *parameters: str) -> Callable[[Handler], Handler]:
    """Registers a handler; `{bucket}` and the like stand for one percent-encoded path segment."""
    pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))

    def register(handler: Handler) -> Handler:
        ROUTES.append(Route(method, pattern, EVERYWHERE | {*parameters}, handler))
        return handler

    return register


class JsonApi:
    """Understands requests and performs them on a store.

    Args:
        store: what is read and changed.
        base_url: what links in answers begin with.
    """

    def __init__(self, store: Store, base_url: str) -> None:
        self.store = store
        self.base_url = base_url
        self._sessions: dict[str, Session] = {}
        self._numbers = itertools.count(1)
        self._sessions_lock = threading.RLock()

    def prepare(self, call: Call) -> Prepared:
        """Finds out what a request is about; `ApiError` where it is malformed, unknown or not supported here."""
        methods = set()
        for candidate in ROUTES:
            match = candidate.pattern.fullmatch(call.path)
            if not match:
                continue
            methods.add(candidate.method)
            if candidate.method != call.method:
                continue
            if unknown := sorted(call.query.keys() - candidate.parameters):
                raise ApiError(501, f"The twin does not act on {', '.join(unknown)} of {call.method} {call.path}")
            return candidate.handler(self, call, {key: decode(text) for key, text in match.groupdict().items()})
        if methods:
            raise ApiError(501, f"The twin has no {call.method} {call.path}, only {', '.join(sorted(methods))}")
        raise ApiError(404, f"Not Found: {call.path}")

    @route("POST", "/storage/v1/b", "project")
    def _create_bucket(self, call: Call, path: dict[str, str]) -> Prepared:
        name = str(call.json().get("name", ""))
        return Prepared("bucket-create", name, None, lambda: shown(call, self.store.create_bucket(name)))

    @route("GET", "/storage/v1/b", "project", "maxResults", "prefix")
    def _list_buckets(self, call: Call, path: dict[str, str]) -> Prepared:
        prefix = call.query.get("prefix", "")

        def perform() -> Answer:
            buckets = [self.store.bucket(name) for name in self.store.bucket_names() if name.startswith(prefix)]
            return shown(call, {"kind": "storage#buckets", "items": buckets})

        return Prepared("bucket-list", None, None, perform)

    @route("GET", "/storage/v1/b/{bucket}")
    def _get_bucket(self, call: Call, path: dict[str, str]) -> Prepared:
        name = path["bucket"]
        return Prepared("bucket-get", name, None, lambda: shown(call, self.store.bucket(name)))

    @route("DELETE", "/storage/v1/b/{bucket}")
    def _delete_bucket(self, call: Call, path: dict[str, str]) -> Prepared:
        def perform() -> Answer:
            self.store.delete_bucket(path["bucket"])
            return Answer(204)

        return Prepared("bucket-delete", path["bucket"], None, perform)

    @route("GET", "/storage/v1/b/{bucket}/o", *LISTING)
    def _list(self, call: Call, path: dict[str, str]) -> Prepared:
        query = call.query
        wanted = Selection(
            query.get("prefix", ""),
            query.get("delimiter", ""),
            query.get("startOffset", ""),
            query.get("endOffset", ""),
            query.get("matchGlob", ""),
            query.get("includeTrailingDelimiter") == "true",
        )
        size = MAX_PAGE if (asked := integer(query, "maxResults")) is None else min(asked, MAX_PAGE)
        if size < 1:
            raise ApiError(400, "maxResults must be at least 1, got 0")

        def perform() -> Answer:
            page = self.store.page(path["bucket"], wanted, size, query.get("pageToken"))
            return shown(call, self._listing(page))

        return Prepared("list", path["bucket"], None, perform)

    def _listing(self, page: Page) -> dict[str, Any]:
        answer: dict[str, Any] = {"kind": "storage#objects"}
        if page.objects:
            answer["items"] = [stored.resource(self.base_url) for stored in page.objects]
        if page.prefixes:
            answer["prefixes"] = list(page.prefixes)
        if page.next_token:
            answer["nextPageToken"] = page.next_token
        return answer

    @route("GET", "/storage/v1/b/{bucket}/o/{name}", "generation", *CONDITIONS)
    @route("GET", "/download/storage/v1/b/{bucket}/o/{name}", "generation", *CONDITIONS)
    def _get(self, call: Call, path: dict[str, str]) -> Prepared:
        query, where = call.query, (path["bucket"], path["name"])
        generation, conditions = integer(query, "generation"), Conditions.parse(query)
        media = query.get("alt") == "media"

        def perform() -> Answer:
            stored = self.store.get(*where, generation, conditions)
            return media_answer(stored, call) if media else self._described(call, stored)

        return Prepared("read" if media else "get", *where, perform)

    @route("PATCH", "/storage/v1/b/{bucket}/o/{name}", "generation", *CONDITIONS)
    def _patch(self, call: Call, path: dict[str, str]) -> Prepared:
        changes, where = call.json(), (path["bucket"], path["name"])
        generation, conditions = integer(call.query, "generation"), Conditions.parse(call.query)

        def perform() -> Answer:
            return self._described(call, self.store.patch(*where, changes, generation, conditions))

        return Prepared("patch", *where, perform)

    @route("DELETE", "/storage/v1/b/{bucket}/o/{name}", "generation", *CONDITIONS)
    def _delete(self, call: Call, path: dict[str, str]) -> Prepared:
        where = (path["bucket"], path["name"])
        generation, conditions = integer(call.query, "generation"), Conditions.parse(call.query)

        def perform() -> Answer:
            return Answer(204, generation=self.store.delete(*where, generation, conditions).generation)

        return Prepared("delete", *where, perform)

    @route(
        "POST",
        "/storage/v1/b/{bucket}/o/{name}/(?P<verb>copyTo|rewriteTo)/b/{to_bucket}/o/{to_name}",
        *("sourceGeneration", *CONDITIONS, *SOURCE_CONDITIONS),
    )
    def _copy(self, call: Call, path: dict[str, str]) -> Prepared:
        target, fields = (path["to_bucket"], path["to_name"]), call.json()

        def perform() -> Answer:
            stored = self.store.copy(
                (path["bucket"], path["name"]),
                target,
                fields,
                integer(call.query, "sourceGeneration"),
                Conditions.parse(call.query, "ifSource"),
                Conditions.parse(call.query),
            )
            if path["verb"] == "copyTo":
                return self._described(call, stored)
            size = str(len(stored.data))
            answer = {
                "kind": "storage#rewriteResponse",
                "totalBytesRewritten": size,
                "objectSize": size,
                "done": True,
                "resource": stored.resource(self.base_url),
            }
            return dataclasses.replace(shown(call, answer), generation=stored.generation)

        return Prepared(path["verb"].removesuffix("To"), *target, perform)

    @route("POST", "/storage/v1/b/{bucket}/o/{name}/compose", *CONDITIONS)
    def _compose(self, call: Call, path: dict[str, str]) -> Prepared:
        where, wish = (path["bucket"], path["name"]), call.json()
        sources = [
            (
                str(source["name"]),
                integer(texts(source), "generation"),
                Conditions.parse(texts(source.get("objectPreconditions", {}))),
            )
            for source in wish.get("sourceObjects", [])
        ]

        def perform() -> Answer:
            fields = wish.get("destination", {})
            return self._described(call, self.store.compose(*where, sources, fields, Conditions.parse(call.query)))

        return Prepared("compose", *where, perform)

    @route("POST", "/upload/storage/v1/b/{bucket}/o", *UPLOAD)
    def _upload(self, call: Call, path: dict[str, str]) -> Prepared:
        kind = call.query.get("uploadType")
        if kind == "media":
            fields: dict[str, Any] = {"contentType": call.headers.get("content-type", "application/octet-stream")}
            data = call.body
        elif kind == "multipart":
            (_, described), (headers, data) = multipart_pair(call)
            fields = {"contentType": headers.get("content-type", "application/octet-stream"), **described}
        elif kind == "resumable":
            fields, data = call.json(), b""
            fields.setdefault("contentType", call.headers.get("x-upload-content-type", "application/octet-stream"))
        else:
            raise ApiError(400, f"uploadType must be media, multipart or resumable, got {kind!r}")
        name = str(call.query.get("name") or fields.get("name") or "")
        where, conditions = (path["bucket"], name), Conditions.parse(call.query)
        hashes = {key: fields[key] for key in ("crc32c", "md5Hash") if fields.get(key)} | header_hashes(call.headers)

        def perform() -> Answer:
            check_hashes(data, hashes)
            return self._described(call, self.store.insert(*where, data, fields, conditions))

        def begin() -> Answer:
            self.store.check(*where, conditions)
            with self._sessions_lock:
                upload_id = f"upload-{next(self._numbers)}"
                self._sessions[upload_id] = Session(*where, fields, conditions, hashes)
            location = f"{self.base_url}/upload/storage/v1/b/{path['bucket']}/o?uploadType=resumable"
            return Answer(200, headers={"Location": f"{location}&upload_id={upload_id}"})

        return Prepared("start-upload", *where, begin) if kind == "resumable" else Prepared("insert", *where, perform)

    @route("PUT", "/upload/storage/v1/b/{bucket}/o", *UPLOAD, "upload_id")
    def _chunk(self, call: Call, path: dict[str, str]) -> Prepared:
        session = self._session(call)
        return Prepared("upload-chunk", session.bucket, session.name, lambda: self._receive(call, session))

    @route("DELETE", "/upload/storage/v1/b/{bucket}/o", *UPLOAD, "upload_id")
    def _cancel(self, call: Call, path: dict[str, str]) -> Prepared:
        session = self._session(call)

        def perform() -> Answer:
            with self._sessions_lock:
                self._sessions.pop(call.query["upload_id"], None)
            # What the service answers to a cancelled upload: "client closed request".
            return Answer(499)

        return Prepared("upload-chunk", session.bucket, session.name, perform)

    def _session(self, call: Call) -> Session:
        with self._sessions_lock:
            session = self._sessions.get(call.query.get("upload_id", ""))
        if session is None:
            raise ApiError(404, "No such resumable upload session.")
        return session

    def _receive(self, call: Call, session: Session) -> Answer:
        """Takes one chunk, or says how far the upload is; an answer to a finished one is given again."""
        span = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)", call.headers.get("content-range", "bytes */*"))
        if span is None:
            raise ApiError(400, f"Invalid Content-Range: {call.headers['content-range']!r}")
        start, end, total = (int(text) if text and text != "*" else None for text in span.groups())
        with self._sessions_lock:
            if session.finished is not None:
                return self._described(call, session.finished)
            if start is not None and end is not None:
                if end - start + 1 != len(call.body):
                    raise ApiError(400, f"Content-Range says {end - start + 1} bytes, the body has {len(call.body)}.")
                if start > len(session.received):
                    raise ApiError(400, f"The chunk begins at {start}, but {len(session.received)} bytes are here.")
                last = total is not None and end + 1 == total
                if not last and len(call.body) % CHUNK_MULTIPLE:
                    raise ApiError(400, f"A chunk before the last must be a multiple of {CHUNK_MULTIPLE} bytes.")
                session.received += call.body[len(session.received) - start :]
            elif call.body:
                raise ApiError(400, "A chunk must say its place in Content-Range.")
            if total is None or len(session.received) < total:
                done = {"Range": f"bytes=0-{len(session.received) - 1}"} if session.received else {}
                return Answer(308, headers=done)
            data = bytes(session.received)
            check_hashes(data, {**session.hashes, **header_hashes(call.headers)})
            session.finished = self.store.insert(session.bucket, session.name, data, session.fields, session.conditions)
            return self._described(call, session.finished)

    @route("POST", "/batch/storage/v1")
    def _batch(self, call: Call, path: dict[str, str]) -> Prepared:
        """Stands for the envelope; `batch_calls` and `batch_answer` are its inside, which the service goes through."""
        return Prepared("batch", None, None, Answer)

    def _described(self, call: Call, stored: Stored) -> Answer:
        answer = shown(call, stored.resource(self.base_url))
        headers = {**answer.headers, **hash_header(stored), "ETag": stored.etag}
        return dataclasses.replace(answer, headers=headers, generation=stored.generation)


def media_answer(stored: Stored, call: Call) -> Answer:
    """Gives an object's bytes, or the range of them that was asked for."""
    encoding = stored.fields.get("contentEncoding")
    if encoding == "gzip" and "gzip" not in call.headers.get("accept-encoding", ""):
        raise ApiError(501, "The twin does not decompress what is stored with Content-Encoding gzip")
    headers = {
        "Content-Type": str(stored.fields.get("contentType", "application/octet-stream")),
        "ETag": stored.etag,
        "x-goog-generation": str(stored.generation),
        "x-goog-metageneration": str(stored.metageneration),
        "x-goog-storage-class": "STANDARD",
        "x-goog-stored-content-encoding": str(encoding or "identity"),
        "x-goog-stored-content-length": str(len(stored.data)),
        **hash_header(stored),
        **({"Content-Encoding": str(encoding)} if encoding else {}),
    }
    asked = call.headers.get("range")
    if asked is None:
        return Answer(200, stored.data, headers, stored.generation)
    size = len(stored.data)
    span = re.fullmatch(r"bytes=(\d*)-(\d*)", asked)
    if span is None or not any(span.groups()):
        raise ApiError(400, f"Invalid Range: {asked!r}")
    if span[1]:
        start, end = int(span[1]), min(int(span[2] or size), size - 1)
    else:
        start, end = max(0, size - int(span[2])), size - 1
    if start > end:
        raise ApiError(416, f"Requested range not satisfiable: {asked} of {size} bytes")
    headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    return Answer(206, stored.data[start : end + 1], headers, stored.generation)


def check_hashes(data: bytes, promised: Mapping[str, str]) -> None:
    """Raises `ApiError` 400 where the bytes are not those that the client meant to send."""
    for key, compute in (("crc32c", crc32c), ("md5Hash", md5)):
        if key in promised and promised[key] != compute(data):
            raise ApiError(400, f'Provided {key} "{promised[key]}" doesn\'t match calculated {key} "{compute(data)}".')


def hash_header(stored: Stored) -> dict[str, str]:
    """Gives the checksums of a whole object as a header."""
    return {"x-goog-hash": f"crc32c={stored.crc32c}" + (f",md5={stored.md5}" if stored.md5 else "")}


def texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Turns the numbers of a JSON object into text, as in a query; a null is as good as missing."""
    return {key: str(value) for key, value in values.items() if value is not None}


def decode(segment: str) -> str:
    """Percent-decodes one path segment; 400 where it is no UTF-8."""
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError as error:
        raise ApiError(400, f"Invalid UTF-8 in {segment!r}") from error
