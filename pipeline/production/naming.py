"""How things of Google Cloud are named: what a flag that names one must look like, in one place for all commands."""

from __future__ import annotations

import dataclasses
import re

from pipeline.flags import UsageError


@dataclasses.dataclass(frozen=True)
class Form:
    """What a text must look like.

    Attributes:
        pattern: that the whole of it matches.
        rule: the same in words, as the end of `must be ...`.
    """

    pattern: re.Pattern[str]
    rule: str

    def check(self, flag: str, value: str | None) -> re.Match[str] | None:
        """Holds the value of a flag against it.

        Args:
            flag: its name, without dashes.
            value: None where it was not given.

        Returns:
            The match; None where there is no value.

        Raises:
            UsageError: if it looks otherwise.
        """
        found = None if value is None else self.pattern.fullmatch(value)
        if value is not None and found is None:
            raise UsageError(f"--{flag} must be {self.rule}, got {value}")
        return found


PROJECT = Form(
    re.compile(r"([a-z][a-z0-9.-]*[a-z0-9]:)?[a-z][a-z0-9-]{4,28}[a-z0-9]"), "a project's ID, not its number or title"
)
REGION = Form(re.compile(r"[a-z]+-[a-z]+[0-9]+"), "a region such as europe-west4, not a zone")
JOB_NAME = Form(
    re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?"), "at most 63 small letters, digits and dashes, the first a letter"
)
SCHEDULE = Form(re.compile(r"[A-Za-z0-9_-]{1,500}"), "letters, digits, dashes and underscores")
ACCOUNT = Form(re.compile(r"[^@\s]+@[a-z0-9.-]+\.gserviceaccount\.com"), "NAME@PROJECT.iam.gserviceaccount.com")
ENDPOINT = Form(re.compile(r"https?://[^/\s]+/?"), "https://HOST")
PLACE = Form(re.compile(r"gs://[a-z0-9][a-z0-9._-]+[a-z0-9](/.*)?"), "gs://BUCKET/PREFIX")
OBJECT = Form(PLACE.pattern, "gs://BUCKET/NAME")
KEY = Form(
    re.compile(r"projects/[^/]+/locations/(?P<region>[^/]+)/keyRings/[^/]+/cryptoKeys/[^/]+"),
    "projects/P/locations/REGION/keyRings/R/cryptoKeys/K",
)
SUBNETWORK = Form(
    re.compile(
        r"(https://www\.googleapis\.com/compute/v1/projects/[^/]+/)?regions/(?P<region>[^/]+)/subnetworks/[^/]+"
    ),
    "regions/REGION/subnetworks/NAME",
)
ACCELERATOR = Form(
    re.compile(r"type:[a-z0-9-]+;count:[1-9][0-9]?(;install-nvidia-driver(:[0-9]+[0-9.x]*)?)?(;use_nvidia_mps)?"),
    "type:KIND;count:N;install-nvidia-driver:5xx",
)
