"""What the loopback cloud storage keeps: buckets, objects at one generation each, and the rules for changing them.

No HTTP here. Buckets have no versioning and no soft delete: an overwritten or deleted generation is gone for good.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import functools
import hashlib
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import google_crc32c

from tests.cloud.errors import ApiError, integer
from tests.cloud.names import Selection, check_name, decode_token, encode_token, select

MAX_COMPOSE_SOURCES = 32
# Like the real ones 16 digits, but counted instead of read from a clock: each run of a test sees the same.
FIRST_GENERATION = 1_700_000_000_000_001
WRITABLE_FIELDS = (
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "contentType",
    "customTime",
    "metadata",
    "storageClass",
)


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
    """One object at one generation and metageneration.

    Attributes:
        bucket, name: where it lies; the name is any text of up to 1,024 bytes of UTF-8 without line breaks.
        data: all bytes.
        generation: larger than every one given out before it.
        metageneration: 1, and one more for each change of the fields.
        fields: what a client may set, named as in the JSON API.
        created, updated: UTC.
        components: how many parts it was composed of; None where it was uploaded or copied from an upload.
    """

    bucket: str
    name: str
    data: bytes
    generation: int
    metageneration: int
    fields: Mapping[str, Any]
    created: datetime.datetime
    updated: datetime.datetime
    components: int | None = None

    @functools.cached_property
    def crc32c(self) -> str:
        """Checksum of the bytes: base64 of the big-endian value."""
        return crc32c(self.data)

    @functools.cached_property
    def md5(self) -> str | None:
        """Digest of the bytes in base64; a composed object has none, as in the real service."""
        return md5(self.data) if self.components is None else None

    @property
    def etag(self) -> str:
        """Changes with generation and metageneration."""
        return base64.b64encode(f"{self.generation}/{self.metageneration}".encode()).decode()

    def resource(self, base_url: str) -> dict[str, Any]:
        """Gives the object resource of the JSON API."""
        path = f"b/{self.bucket}/o/{quote(self.name, safe='')}"
        hashes = {"crc32c": self.crc32c} | ({"md5Hash": self.md5} if self.md5 else {})
        return {
            "kind": "storage#object",
            "id": f"{self.bucket}/{self.name}/{self.generation}",
            "selfLink": f"{base_url}/storage/v1/{path}",
            "mediaLink": f"{base_url}/download/storage/v1/{path}?generation={self.generation}&alt=media",
            "name": self.name,
            "bucket": self.bucket,
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "storageClass": "STANDARD",
            "size": str(len(self.data)),
            "etag": self.etag,
            "timeCreated": timestamp(self.created),
            "updated": timestamp(self.updated),
            **({} if self.components is None else {"componentCount": self.components}),
            **hashes,
            **self.fields,
        }


@dataclasses.dataclass(frozen=True)
class Conditions:
    """The preconditions of one request; None where it has no such condition."""

    generation_match: int | None = None
    generation_not_match: int | None = None
    metageneration_match: int | None = None
    metageneration_not_match: int | None = None

    @classmethod
    def parse(cls, query: Mapping[str, str], prefix: str = "if") -> Conditions:
        """Reads them from parameters that begin with `if`, or `ifSource` for the source of a copy."""
        return cls(
            integer(query, f"{prefix}GenerationMatch"),
            integer(query, f"{prefix}GenerationNotMatch"),
            integer(query, f"{prefix}MetagenerationMatch"),
            integer(query, f"{prefix}MetagenerationNotMatch"),
        )

    def check(self, current: Stored | None) -> None:
        """Raises `ApiError` 412 where a match fails, 304 where a not-match fails.

        A missing object has generation 0; a condition on its metageneration, or a not-match of any generation, fails.
        """
        generation = current.generation if current else 0
        metageneration = current.metageneration if current else None
        if self.generation_match is not None and self.generation_match != generation:
            raise ApiError(412, "At least one of the pre-conditions you specified did not hold.")
        if self.metageneration_match is not None and self.metageneration_match != metageneration:
            raise ApiError(412, "At least one of the pre-conditions you specified did not hold.")
        if self.generation_not_match is not None and (current is None or self.generation_not_match == generation):
            raise ApiError(304, "The generation is the one that the request excludes.")
        if self.metageneration_not_match is not None and self.metageneration_not_match in (metageneration, None):
            raise ApiError(304, "The metageneration is the one that the request excludes.")


ALWAYS = Conditions()


@dataclasses.dataclass(frozen=True)
class Page:
    """One page of a listing, in the order of the names' UTF-8 bytes.

    Attributes:
        objects: those named on this page.
        prefixes: what stands for all names up to a delimiter.
        next_token: asks for the page after this one; None on the last.
    """

    objects: tuple[Stored, ...]
    prefixes: tuple[str, ...]
    next_token: str | None


class Store:
    """All buckets. Every method is atomic; two threads see each other's changes whole or not at all."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._buckets: dict[str, dict[str, Any]] = {}
        self._objects: dict[tuple[str, str], Stored] = {}
        self._history: dict[tuple[str, str], list[int]] = {}
        self._next_generation = FIRST_GENERATION

    def create_bucket(self, name: str, location: str = "US", regions: tuple[str, ...] = ()) -> dict[str, Any]:
        """Makes an empty bucket; 409 where there is one of that name."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", name):
            raise ApiError(400, f"Invalid bucket name: {name!r}")
        with self._lock:
            if name in self._buckets:
                raise ApiError(409, f"You already own the bucket {name}.")
            now = timestamp(utc_now())
            self._buckets[name] = {
                "kind": "storage#bucket",
                "id": name,
                "name": name,
                "projectNumber": "1",
                "metageneration": "1",
                "location": location,
                **({"customPlacementConfig": {"dataLocations": list(regions)}} if regions else {}),
                "storageClass": "STANDARD",
                "softDeletePolicy": {"retentionDurationSeconds": "0"},
                "timeCreated": now,
                "updated": now,
            }
            return self._buckets[name]

    def bucket(self, name: str) -> dict[str, Any]:
        """Gives the bucket resource; 404 where there is none."""
        with self._lock:
            if name not in self._buckets:
                raise ApiError(404, "The specified bucket does not exist.")
            return self._buckets[name]

    def bucket_names(self) -> list[str]:
        """Names all buckets, in order."""
        with self._lock:
            return sorted(self._buckets)

    def delete_bucket(self, name: str) -> None:
        """Removes an empty bucket; 409 where it holds objects."""
        with self._lock:
            self.bucket(name)
            if any(bucket == name for bucket, _ in self._objects):
                raise ApiError(409, "The bucket you tried to delete is not empty.")
            del self._buckets[name]

    def insert(
        self,
        bucket: str,
        name: str,
        data: bytes,
        fields: Mapping[str, Any],
        conditions: Conditions = ALWAYS,
        components: int | None = None,
    ) -> Stored:
        """Writes a whole object under a new generation."""
        check_name(name)
        with self._lock:
            self.check(bucket, name, conditions)
            now = utc_now()
            kept = {key: value for key, value in fields.items() if key in WRITABLE_FIELDS}
            stored = Stored(bucket, name, data, self._next_generation, 1, kept, now, now, components)
            self._next_generation += 1
            self._objects[bucket, name] = stored
            self._history.setdefault((bucket, name), []).append(stored.generation)
            return stored

    def check(self, bucket: str, name: str, conditions: Conditions) -> None:
        """Raises what writing this name under these conditions would raise now."""
        with self._lock:
            self.bucket(bucket)
            conditions.check(self._objects.get((bucket, name)))

    def get(self, bucket: str, name: str, generation: int | None = None, conditions: Conditions = ALWAYS) -> Stored:
        """Gives the live object; 404 where there is none, or where it is no longer at the generation asked for."""
        with self._lock:
            self.bucket(bucket)
            stored = self._objects.get((bucket, name))
            if stored is None or generation not in (None, stored.generation):
                pinned = "" if generation is None else f"#{generation}"
                raise ApiError(404, f"No such object: {bucket}/{name}{pinned}")
            conditions.check(stored)
            return stored

    def delete(self, bucket: str, name: str, generation: int | None = None, conditions: Conditions = ALWAYS) -> Stored:
        """Removes the live object and gives what it was."""
        with self._lock:
            stored = self.get(bucket, name, generation, conditions)
            del self._objects[bucket, name]
            return stored

    def patch(
        self,
        bucket: str,
        name: str,
        changes: Mapping[str, Any],
        generation: int | None = None,
        conditions: Conditions = ALWAYS,
    ) -> Stored:
        """Changes fields and raises the metageneration; a None removes a field or an entry of the custom metadata."""
        with self._lock:
            stored = self.get(bucket, name, generation, conditions)
            fields = dict(stored.fields)
            for key in changes.keys() & set(WRITABLE_FIELDS):
                value = changes[key]
                if key == "metadata" and value is not None:
                    merged = {**fields.get("metadata", {}), **value}
                    value = {entry: text for entry, text in merged.items() if text is not None} or None
                fields[key] = value
            patched = dataclasses.replace(
                stored,
                fields={key: value for key, value in fields.items() if value is not None},
                metageneration=stored.metageneration + 1,
                updated=utc_now(),
            )
            self._objects[bucket, name] = patched
            return patched

    def copy(
        self,
        source: tuple[str, str],
        target: tuple[str, str],
        fields: Mapping[str, Any],
        generation: int | None = None,
        source_conditions: Conditions = ALWAYS,
        conditions: Conditions = ALWAYS,
    ) -> Stored:
        """Writes the bytes of one object under another name; given fields replace those of the source."""
        with self._lock:
            found = self.get(*source, generation, source_conditions)
            return self.insert(*target, found.data, fields or found.fields, conditions, found.components)

    def compose(
        self,
        bucket: str,
        name: str,
        sources: Sequence[tuple[str, int | None, Conditions]],
        fields: Mapping[str, Any],
        conditions: Conditions = ALWAYS,
    ) -> Stored:
        """Joins objects of one bucket: name, pinned generation and conditions of each."""
        if not 1 <= len(sources) <= MAX_COMPOSE_SOURCES:
            raise ApiError(400, f"The number of source components must be 1 to 32, got {len(sources)}.")
        with self._lock:
            parts = [self.get(bucket, source, generation, wanted) for source, generation, wanted in sources]
            components = sum(part.components or 1 for part in parts)
            return self.insert(bucket, name, b"".join(part.data for part in parts), fields, conditions, components)

    def page(self, bucket: str, selection: Selection, page_size: int, token: str | None) -> Page:
        """Gives one page of at most `page_size` objects and prefixes together."""
        after = decode_token(token)
        with self._lock:
            self.bucket(bucket)
            live = {name: stored for (place, name), stored in self._objects.items() if place == bucket}
        entries = [entry for entry in select(sorted(live), selection) if after is None or entry > after]
        shown, more = entries[:page_size], len(entries) > page_size
        return Page(
            tuple(live[text] for text, is_prefix in shown if not is_prefix),
            tuple(text for text, is_prefix in shown if is_prefix),
            encode_token(shown[-1]) if more else None,
        )

    def names(self, bucket: str) -> list[str]:
        """Names all objects of a bucket, in order."""
        with self._lock:
            self.bucket(bucket)
            return sorted(name for place, name in self._objects if place == bucket)

    def generations(self, bucket: str, name: str) -> tuple[int, ...]:
        """Gives every generation that the name ever had, also those overwritten or deleted since."""
        with self._lock:
            return tuple(self._history.get((bucket, name), ()))


def crc32c(data: bytes) -> str:
    """Gives the checksum as base64 of the big-endian value."""
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def md5(data: bytes) -> str:
    """Gives the digest in base64."""
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def utc_now() -> datetime.datetime:
    """Gives the time of this machine in UTC."""
    return datetime.datetime.now(datetime.UTC)


def timestamp(moment: datetime.datetime) -> str:
    """Writes a time as the JSON API does."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
