"""The codec's two steps in the pipeline: the way in, and its inverse on the way out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipeline import logs
from pipeline.codec.decoding import decode_message, image_of
from pipeline.codec.encoding import FORMS, decode_again, encode
from pipeline.codec.header import Limits
from pipeline.codec.keeping import KeepAsIs
from pipeline.codec.message import unpack
from pipeline.elements import Encoded, File, Image, Judged, Restoration, Verdict
from pipeline.failures import Failed, ImageError, Outcome

KEPT, FAILED = "kept", "failed"

Message = tuple[Mapping[str, Any], Sequence[Any]]
Run = Callable[[Callable[[Mapping[str, Any], Sequence[bytes]], Message], Mapping[str, Any], Sequence[bytes]], Message]
"""How a function of messages is called: `guard.Guard` runs it in a process of its own."""


def run_here(
    function: Callable[[Mapping[str, Any], Sequence[bytes]], Message], fields: Mapping[str, Any], parts: Sequence[bytes]
) -> Message:
    """Calls a function of messages in this process: for files that one trusts."""
    return function(fields, parts)


class DecodeOutcome(NamedTuple):
    """What decoding gives.

    Attributes:
        good: `PCollection[Image]`.
        kept: `PCollection[Judged]`: sound files that are not restored, with outcome, reason and their own bytes.
        failed: `PCollection[DeadLetter]`.
    """

    good: beam.PCollection[Image]
    kept: beam.PCollection[Judged]
    failed: beam.PCollection[Any]


@dataclasses.dataclass
class DecodeImages(beam.PTransform):
    """Files to pixels: `PCollection[File]` -> `DecodeOutcome`.

    Attributes:
        limits: what a file may ask for.
        run: how the decoder is called: a `Guard`, or `run_here`.
    """

    limits: Limits
    run: Run = run_here

    def expand(self, files: beam.PCollection[File]) -> DecodeOutcome:
        out = files | "Decode" >> beam.ParDo(DecodeFile(self.limits, self.run)).with_outputs(KEPT, FAILED, main="good")
        return DecodeOutcome(out.good, out[KEPT], out[FAILED])


@dataclasses.dataclass
class DecodeFile(beam.DoFn):
    """One file to one image, to a file kept as it is, or to a dead letter.

    Metrics, namespace `decode`: distribution `file_ms`.

    Attributes:
        limits, run: as in `DecodeImages`.
    """

    limits: Limits
    run: Run

    def process(self, file: File) -> Iterator[Any]:
        began = time.monotonic()
        with logs.about(image=file.ref.name, stage="decode"):
            result = self._decoded(file)
        Metrics.distribution("decode", "file_ms").update(round(1000 * (time.monotonic() - began)))
        yield result

    def _decoded(self, file: File) -> Any:
        try:
            return decode_by(self.run, file, self.limits)
        except KeepAsIs as kept:
            return beam.TaggedOutput(KEPT, kept_file(file, kept))
        except ImageError as error:
            return beam.TaggedOutput(FAILED, Failed("decode")(file.ref, error))


def decode_by(run: Run, file: File, limits: Limits) -> Image:
    """Decodes one file by a way of calling the decoder; raises as `decode`."""
    limits.check_bytes(len(file.data))  # before the bytes are handed over
    reply, parts = run(decode_message, dataclasses.asdict(limits), [file.data])
    if "keep" in reply:
        reason, name, size = reply["keep"]
        raise KeepAsIs(reason, name, tuple(size))
    return image_of(file, reply["format"], unpack(reply["picture"], parts))


def kept_file(file: File, kept: KeepAsIs) -> Judged:
    """Makes a file that is kept as it is ready to be written."""
    return Judged(file, Verdict(KEPT, kept.reason), file.data, kept.format, kept.format, "", kept.size)


@dataclasses.dataclass
class EncodeImages(beam.PTransform):
    """Restored pixels to files: `PCollection[Restoration]` -> `Outcome` of `Encoded`.

    Attributes:
        form: of `FORMS`.
    """

    form: str = "same"

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, got {self.form}")

    def expand(self, restorations: beam.PCollection[Restoration]) -> Outcome:
        out = restorations | "Encode" >> beam.ParDo(EncodeImage(self.form)).with_outputs(FAILED, main="good")
        return Outcome(out.good, out[FAILED])


@dataclasses.dataclass
class EncodeImage(beam.DoFn):
    """One restoration to one file; what was not restored passes with no data.

    Attributes:
        form: of `FORMS`.
    """

    form: str

    def process(self, restoration: Restoration) -> Iterator[Any]:
        with logs.about(image=restoration.ref.name, stage="encode"):
            result = self._encoded(restoration)
        yield result

    def _encoded(self, restoration: Restoration) -> Any:
        try:
            return encode_restoration(restoration, self.form)
        except ImageError as error:
            return beam.TaggedOutput(FAILED, Failed("encode")(restoration.ref, error))


def encode_restoration(restoration: Restoration, form: str) -> Encoded:
    """Encodes one restoration, and decodes it again for those who measure what was written."""
    if not restoration.pages:
        return Encoded(restoration, b"", "", "", (), ())
    output = encode(restoration.image, restoration.pages, form, restoration.scale)
    again = decode_again(restoration.image, restoration.pages, output, form)
    return Encoded(restoration, output.data, output.format, output.suffix, again, output.not_kept)
