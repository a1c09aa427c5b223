"""The whole way of an archive, read from top to bottom. Only this module knows the order of the stages."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import apache_beam as beam
import numpy as np

from model.restorer import Task
from pipeline import logs
from pipeline.codec import DecodeImages, EncodeImages, Limits
from pipeline.codec.transforms import decode_by, encode_restoration
from pipeline.counting import CountImages, SetUpLogs
from pipeline.deadline import BeginInTime, Deadline
from pipeline.elements import ImageRef, Restoration, Row
from pipeline.guard import Guard
from pipeline.judging import Gate, Judge, judge
from pipeline.keeper import HoldLease, ReleaseLease
from pipeline.large import LargeSettings, RestoreLarge
from pipeline.lease import Lease
from pipeline.listing import ListReceipts, ListSources, SplitPending
from pipeline.options import RestoreConfig
from pipeline.recording import RunInfo, WriteReport, WriteWithReceipt, row_of_failure
from pipeline.references import ReferenceFolder
from pipeline.report.writing import WritePage
from pipeline.restoring import RestorationHandler, RestoreImages, RestoreSettings
from pipeline.spool import HELD_BYTES
from pipeline.storage import ReadFiles, open_storage

_WARM_UP_SIDE = 256


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run does, all of it decided before the first image is read.

    Attributes:
        config: what the user asked for.
        run: with what it works; stands in every receipt.
        model: as the workers find it, as in `models.folder_of`.
        lease: the run's hold on its output, renewed by the workers and released at the end; None for a run that needs
            none, because nobody else knows of its output.
        deadline: from when on no further image is begun; None where the run has all the time that it needs.
        scale: output pixels to one of the source along an axis, as the model's contract says.
    """

    config: RestoreConfig
    run: RunInfo
    model: str
    lease: Lease | None = None
    deadline: Deadline | None = None
    scale: int = 1

    @property
    def limits(self) -> Limits:
        """What an image may cost before it is decoded: its pixels count as they will be written."""
        most = round(self.config.max_megapixels * 1e6 / self.scale**2)
        return Limits(max_bytes=self.config.max_bytes, max_pixels=max(1, most))

    @property
    def above_pixels(self) -> int:
        """Images of more pixels are restored in bands; a model that enlarges has none."""
        return round(self.config.band_megapixels * 1e6) if self.scale == 1 else sys.maxsize

    @property
    def restoring(self) -> RestoreSettings:
        """How images are restored."""
        c = self.config
        return RestoreSettings(
            model=self.model,
            digest=self.run.model_digest,
            strength=c.strength,
            assume_quality=c.assume_quality,
            keep_above_quality=c.keep_above_quality,
            batch_pixels=round(c.batch_megapixels * 1e6),
            threads=c.model_threads,
            accelerated=c.needs_gpu,
            precision=c.precision,
            scale=self.scale,
        )


@dataclasses.dataclass
class RestoreEach(beam.PTransform):
    """Images to rows, one fused stage: `PCollection[ImageRef]` -> `PCollection[Row]`.

    An image is read, restored and written by one worker; its pixels never cross a shuffle. Resource hints
    belong on the whole of this transform: on a part of it, they would cut the stage in pieces.

    Attributes:
        plan: of the run.
    """

    plan: Plan

    def expand(self, pending: beam.PCollection[ImageRef]) -> beam.PCollection[Row]:
        c, limits, model = self.plan.config, self.plan.limits, self.plan.restoring
        # As large as what is written.
        pristine = dataclasses.replace(limits, max_pixels=round(c.max_megapixels * 1e6))
        references = None if c.reference is None else ReferenceFolder(c.reference, pristine)
        gate, guard, above = Gate(), Guard(), self.plan.above_pixels
        bands = LargeSettings(
            c.input, c.output, self.plan.run, model, c.format, limits, above, gate, references, decode=guard
        )
        begun = pending | "Logs" >> SetUpLogs(c.run_id, logs.is_json())
        work = begun | "InTime" >> BeginInTime(self.plan.deadline)
        held = work.begun | "Hold" >> HoldLease(self.plan.lease)
        read = held | "Read" >> ReadFiles(c.input, c.max_bytes, HELD_BYTES)
        large = read.good | "Large" >> RestoreLarge(bands)
        decoded = large.others | "Decode" >> DecodeImages(limits, guard)
        restored = decoded.good | "Restore" >> RestoreImages(model)
        encoded = restored.good | "Encode" >> EncodeImages(c.format)
        judged = encoded.good | "Judge" >> Judge(gate, references)
        # Written on two ways rather than flattened into one: a runner may store what a flatten brings together, and
        # here that would be every image.
        written = judged | "Write" >> WriteWithReceipt(c.input, c.output, self.plan.run)
        kept = decoded.kept | "WriteKept" >> WriteWithReceipt(c.input, c.output, self.plan.run)
        failed = (
            read.failed,
            large.failed,
            decoded.failed,
            restored.failed,
            encoded.failed,
            written.failed,
            kept.failed,
        )
        rows = failed | "Failed" >> beam.Flatten() | "Failures" >> beam.Map(row_of_failure)
        return (work.left, large.rows, written.good, kept.good, rows) | "Rows" >> beam.Flatten()


class Trial:
    """The way of single images in this process, but for writing them: shows what they take.

    Args:
        plan: of a run; its model is loaded, and has worked once when this returns.
    """

    def __init__(self, plan: Plan) -> None:
        # This machine is tried as it is: whether the workers will have a GPU is another matter.
        self._plan, self._guard, self._source = plan, Guard(), open_storage(plan.config.input)
        self._handler = RestorationHandler(dataclasses.replace(plan.restoring, accelerated=False))
        self._restorer = self._handler.load_model()
        # The first call of a loaded model takes seconds that a run has only once.
        self._restorer.restore([Task(np.zeros((_WARM_UP_SIDE, _WARM_UP_SIDE, 3), np.uint8))])

    def restore(self, ref: ImageRef) -> None:
        """Reads, decodes, restores, encodes and judges one image.

        Raises:
            ImageError: if it is one to be given up.
            KeepAsIs: if its file is one to be kept.
        """
        image = decode_by(self._guard, self._source.read(ref, self._plan.limits.max_bytes), self._plan.limits)
        for result in self._handler.run_inference([image], self._restorer):
            if isinstance(result, Restoration):
                judge(encode_restoration(result, self._plan.config.format), Gate())


@dataclasses.dataclass
class RestoreArchive(beam.PTransform):
    """Restores an archive into a copy of it and reports on every image: a root -> `PCollection[dict]`, the summary.

    Attributes:
        plan: of the run.
    """

    plan: Plan

    def expand(self, root: beam.pvalue.PBegin) -> beam.PCollection[dict[str, Any]]:
        c, run = self.plan.config, self.plan.run
        if self.plan.lease is not None:
            # A stage of its own, so that the lease is renewed while the archive is listed.
            _ = root | "Begin" >> beam.Create([c.run_id]) | "Keep" >> HoldLease(self.plan.lease)
        sources = root | "List" >> ListSources(c.input, c.output, c.include, c.exclude, c.inventory)
        done = root | "ListReceipts" >> ListReceipts(c.output)
        work = (sources, done) | "Pending" >> SplitPending(c.output, run.recipe_digest)
        # A few folders fan out to millions of names: here they are dealt out to all workers.
        each = RestoreEach(self.plan).with_resource_hints(**c.hints)
        rows = work.pending | "Spread" >> beam.Reshuffle() | "Each" >> each
        unusable = work.failed | "Unusable" >> beam.Map(row_of_failure)
        every = (rows, work.skipped, unusable) | "Together" >> beam.Flatten() | "Count" >> CountImages()
        record = (every, sources) | "Report" >> WriteReport(c.input, c.output, run)
        page = (every, record) | "Page" >> WritePage(c.output)
        if self.plan.lease is not None:
            _ = page | "Release" >> ReleaseLease(self.plan.lease)
        return record
