"""What the service answers instead of what was asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

REASONS = {
    304: "notModified",
    400: "invalid",
    404: "notFound",
    409: "conflict",
    412: "conditionNotMet",
    416: "requestedRangeNotSatisfiable",
    429: "rateLimitExceeded",
    501: "notImplemented",
    503: "backendError",
}


class ApiError(Exception):
    """What the service answers instead of what was asked for.

    Attributes:
        status: HTTP status.
        message: for people.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message

    def body(self) -> dict[str, Any]:
        """Gives the JSON that the service answers with."""
        detail = {"message": self.message, "domain": "global", "reason": REASONS[self.status]}
        return {"error": {"code": self.status, "message": self.message, "errors": [detail]}}


def integer(query: Mapping[str, str], key: str) -> int | None:
    """Reads a whole number, or None where the parameter is missing."""
    text = query.get(key)
    if text is None:
        return None
    if not re.fullmatch(r"\d+", text):
        raise ApiError(400, f"{key} must be a whole number, got {text!r}")
    return int(text)
