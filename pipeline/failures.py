"""Why an image can be given up: a closed set of reasons, each a class, safe to count by.

A typed error takes the side door as a dead letter and the run goes on. Any other exception is a mistake of ours and
stops the run.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from pipeline.elements import DeadLetter, ImageRef

if TYPE_CHECKING:  # the guard's processes import this module and must start fast
    import apache_beam as beam


class ImageError(Exception):
    """One image cannot be restored; the text is the detail, the class the reason."""

    reason: ClassVar[str]


class BadNameError(ImageError):
    """The name cannot become a name below the output, or two names would become one."""

    reason = "bad-name"


class MissingError(ImageError):
    """The object that was listed is gone."""

    reason = "missing"


class ChangedError(ImageError):
    """The object is no longer the version that was listed; the next run takes it up."""

    reason = "changed"


class TooLargeError(ImageError):
    """More bytes than the limit allows."""

    reason = "too-large"


class UnreadableError(ImageError):
    """Storage refuses to hand out the object, or its bytes do not match their checksum."""

    reason = "unreadable"


class ConflictError(ImageError):
    """An object that is not ours stands where the output belongs."""

    reason = "conflict"


class NotAnImageError(ImageError):
    """The bytes are of no format that the pipeline knows."""

    reason = "not-an-image"


class DamagedImageError(ImageError):
    """The file ends early or contradicts itself."""

    reason = "damaged"


class UnsupportedImageError(ImageError):
    """A known format in a variant that cannot be given back as it was."""

    reason = "unsupported"


class TooManyPixelsError(ImageError):
    """The header promises more pixels than the limit allows."""

    reason = "too-many-pixels"


class DecoderCrashError(ImageError):
    """The decoder crashed, hung or wanted too much memory on this file."""

    reason = "decoder-crash"


class NotRestorableError(ImageError):
    """The model fails on this image alone."""

    reason = "not-restorable"


REASONS: tuple[str, ...] = tuple(sorted(error.reason for error in ImageError.__subclasses__()))
"""Every reason there is."""


class Outcome(NamedTuple):
    """What a stage gives: the elements that go on, and the dead letters.

    Attributes:
        good: `PCollection` of the stage's elements.
        failed: `PCollection[DeadLetter]`.
    """

    good: beam.PCollection
    failed: beam.PCollection


@dataclasses.dataclass(frozen=True)
class Failed:
    """Turns a typed error into a dead letter of one stage.

    Attributes:
        stage: name of the stage, as in DESIGN: read, decode, restore, encode, write.
    """

    stage: str

    def __call__(self, ref: ImageRef, error: ImageError) -> DeadLetter:
        return DeadLetter(ref, self.stage, error.reason, str(error))
