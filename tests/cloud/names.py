"""Which names the service takes, which of them a listing asks for, and where its next page begins."""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Iterator, Sequence

from tests.cloud.errors import ApiError

MAX_NAME_BYTES = 1024


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which names a listing asks for; offsets are inclusive at the start and exclusive at the end."""

    prefix: str = ""
    delimiter: str = ""
    start: str = ""
    end: str = ""
    glob: str = ""
    include_trailing_delimiter: bool = False


def select(names: Sequence[str], wanted: Selection) -> Iterator[tuple[str, bool]]:
    """Yields the names asked for in order, and each common prefix once: `(text, is_prefix)`."""
    pattern = glob_pattern(wanted.glob) if wanted.glob else None
    last_prefix = None
    for name in names:
        if not name.startswith(wanted.prefix) or name < wanted.start or (wanted.end and name >= wanted.end):
            continue
        if pattern and not pattern.fullmatch(name):
            continue
        cut = name.find(wanted.delimiter, len(wanted.prefix)) if wanted.delimiter else -1
        if cut < 0:
            yield name, False
            continue
        common = name[: cut + len(wanted.delimiter)]
        if wanted.include_trailing_delimiter and name == common:
            yield name, False
        if common != last_prefix:
            last_prefix = common
            yield common, True


def glob_pattern(glob: str) -> re.Pattern[str]:
    """Translates a `matchGlob`: `*` and `?` stop at a slash, `**` does not, `{a,b}` is one of several."""
    tokens = re.findall(r"\*\*/|\*\*|\*|\?|\{[^{}]*\}|\[[^\]]+\]|\\.|.", glob, re.DOTALL)
    fixed = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = []
    for token in tokens:
        if token in fixed:
            parts.append(fixed[token])
        elif token.startswith("{") and len(token) > 1:
            choices = (glob_pattern(choice).pattern for choice in token[1:-1].split(","))
            parts.append(f"(?:{'|'.join(choices)})")
        elif token.startswith("[") and len(token) > 1:
            parts.append("[^" + token[2:] if token[1] == "!" else token)
        else:
            parts.append(re.escape(token.removeprefix("\\") or token))
    return re.compile("".join(parts), re.DOTALL)


def check_name(name: str) -> None:
    """Raises `ApiError` 400 for a name that the service refuses."""
    size = len(name.encode())
    if not 1 <= size <= MAX_NAME_BYTES:
        raise ApiError(400, f"The specified object name must have 1 to {MAX_NAME_BYTES} bytes, got {size}.")
    if name in (".", "..") or name.startswith(".well-known/acme-challenge/") or re.search(r"[\r\n]", name):
        raise ApiError(400, f"Disallowed object name: {name!r}")


def encode_token(entry: tuple[str, bool]) -> str:
    """Writes the last entry of a page as an opaque token."""
    text, is_prefix = entry
    return base64.urlsafe_b64encode(("p" if is_prefix else "o").encode() + text.encode()).decode()


def decode_token(token: str | None) -> tuple[str, bool] | None:
    """Reads a token again; 400 where it is none of ours."""
    if token is None:
        return None
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise ApiError(400, f"Invalid pageToken: {token!r}") from error
    if raw[:1] not in ("o", "p"):
        raise ApiError(400, f"Invalid pageToken: {token!r}")
    return raw[1:], raw[0] == "p"
