"""The whole way of an image too large to be held: it is read, restored, judged and written a band of rows at a time.

Each step is that of its room, and the result is what the stages for images that are held would give. What passes from
step to step here is a file on this machine's disk, so the steps cannot be stages of their own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics

from model.bands import Sampler
from model.restorer import Estimate, RestorationError, Restorer, Task, sample_places
from pipeline import logs
from pipeline.codec.exif import changed_by_tiff
from pipeline.codec.header import Limits, names
from pipeline.codec.large_tiff import LargePage, LargeTiff, is_exact, open_large, open_written, write_large
from pipeline.codec.transforms import Run, run_here
from pipeline.elements import DeadLetter, File, ImageRef, Judged, LargeFile, Look, Pixels, Row, Verdict
from pipeline.failures import Failed, ImageError, NotRestorableError, UnsupportedImageError
from pipeline.judging import Gate, Tally, judge_tallies, kinds_of
from pipeline.recording import RunInfo, write_image
from pipeline.references import ReferenceFolder
from pipeline.restoring import RestoreSettings, count_busy, damage_of
from pipeline.spool import Content, Spool
from pipeline.storage import open_storage

BAND_PIXELS = 8_000_000
"""That a band needs, unless one row of tiles has more."""

JUDGED_BYTES = 2**24
"""Of a page's pixels that are read at once to be judged."""

MEASURED_BYTES = 2**22
"""Of those, about so many are measured at once: a measure needs some twenty times the memory of its pixels."""


@dataclasses.dataclass(frozen=True)
class LargeSettings:
    """What the steps are told.

    Attributes:
        source_uri, target_uri: roots of archive and output.
        run: with what the run works.
        model: how images are restored.
        form: container of the output, of `codec.FORMS`.
        limits: what a file may ask for.
        above_pixels: images of more are restored in bands, where that can be done.
        gate: what an output must not do.
        references: where pristine pictures are, or None; those that must be held are not looked at.
        decode: how the decoder is called: a `Guard`, or `run_here`.
    """

    source_uri: str
    target_uri: str
    run: RunInfo
    model: RestoreSettings
    form: str
    limits: Limits
    above_pixels: int
    gate: Gate
    references: ReferenceFolder | None = None
    decode: Run = run_here


class LargeOutcome(NamedTuple):
    """What becomes of files.

    Attributes:
        rows: `PCollection[Row]` of those that were restored in bands, or kept after a look at them in bands.
        others: `PCollection[File]` of those that are to be held.
        failed: `PCollection[DeadLetter]`.
    """

    rows: beam.PCollection[Row]
    others: beam.PCollection[File]
    failed: beam.PCollection[DeadLetter]


@dataclasses.dataclass
class RestoreLarge(beam.PTransform):
    """Takes out the images that are restored in bands: `PCollection[File | LargeFile]` -> `LargeOutcome`.

    Attributes:
        settings: of the steps.
    """

    settings: LargeSettings

    def expand(self, files: beam.PCollection[File | LargeFile]) -> LargeOutcome:
        out = files | "Bands" >> beam.ParDo(_RestoreLarge(self.settings)).with_outputs("rows", "failed", main="others")
        return LargeOutcome(out.rows, out.others, out.failed)


class _GivenUpError(Exception):
    """One image failed at a named stage."""

    def __init__(self, dead: DeadLetter) -> None:
        super().__init__(dead.detail)
        self.dead = dead


@contextlib.contextmanager
def _stage(ref: ImageRef, name: str) -> Iterator[None]:
    """Says at which stage an image failed; one inside another speaks first."""
    try:
        with logs.about(image=ref.name, stage=name):
            yield
    except ImageError as error:
        raise _GivenUpError(Failed(name)(ref, error)) from error


class _RestoreLarge(beam.DoFn):
    """Metrics, namespaces `restore`, `judge` and `write`: the counters of those stages; and `restore`, `bands`."""

    def __init__(self, settings: LargeSettings) -> None:
        self._settings = settings
        self._restorer: Restorer | None = None
        self._find: Callable[[str], LargeTiff | None] | None = None

    def process(self, file: File | LargeFile) -> Iterator[Any]:
        settings, content = self._settings, file.data if isinstance(file, File) else file.spool
        try:
            with _stage(file.ref, "decode"):
                image = open_large(content, settings.form, settings.above_pixels)
                if image is not None:
                    settings.limits.check_pixels(image.header)
            if image is None:
                held = file if isinstance(file, File) else File(file.ref, file.spool.whole(), file.crc32c, file.sha256)
                yield held
                return
            row = self._write(_Way(file, image, settings, self._loaded()).judged(self._references()))
            count_busy()
        except _GivenUpError as given_up:
            yield beam.pvalue.TaggedOutput("failed", given_up.dead)
        else:
            yield beam.pvalue.TaggedOutput("rows", row)

    def _loaded(self) -> Restorer:
        # Loaded for the first large image: most archives have none.
        if self._restorer is None:
            self._restorer = self._settings.model.load()
        return self._restorer

    def _references(self) -> Callable[[str], LargeTiff | None] | None:
        if self._find is None and self._settings.references is not None:
            self._find = self._settings.references.large()
        return self._find

    def _write(self, judged: Judged) -> Row:
        settings = self._settings
        Metrics.counter("judge", judged.verdict.outcome).inc()
        with _stage(judged.ref, "write"):
            row = write_image(
                judged, open_storage(settings.source_uri), open_storage(settings.target_uri), settings.run
            )
        Metrics.counter("write", row.outcome).inc()
        Metrics.counter("write", "bytes").inc(row.output_size)
        return row


@dataclasses.dataclass(frozen=True, eq=False)
class _Restored:
    """What the model made of an image.

    Attributes:
        spool: the output.
        digests: SHA-256 of each page's pixels, rows in order.
        looks: one for each page.
    """

    spool: Spool
    digests: tuple[str, ...]
    looks: tuple[Look, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class _Way:
    """One image on its way.

    Attributes:
        file: the source.
        image: the source, open.
        settings: of the steps.
        restorer: the model.
    """

    file: File | LargeFile
    image: LargeTiff
    settings: LargeSettings
    restorer: Restorer

    def judged(self, find: Callable[[str], LargeTiff | None] | None) -> Judged:
        """Does all but write the output.

        Args:
            find: finds the pristine picture by the image's name; None where there are none.
        """
        estimates = [self._estimate(page) for page in self.image.pages]
        task, model = self.restorer.contract.task, self.settings.model
        looks = [model.look(estimate, None, task) for estimate in estimates]
        reference = None if find is None else find(self.file.ref.name)
        if all(look.spared for look in looks):
            Metrics.counter("restore", "images_spared").inc()
            before = self._tally(0, None, reference).before(looks[0].damage.quality)
            return self._kept(Verdict("kept", str(looks[0].spared), before, damage=looks[0].damage))
        restored = self._restored(looks, [model.told(estimate, None) for estimate in estimates])
        with _stage(self.file.ref, "encode"):
            written = open_written(restored.spool, self.image)
            tallies = [self._tally(0, written, reference)]
            tallies += [self._tally(number, written, None) for number in range(1, len(self.image.pages))]
            for number, (tally, digest) in enumerate(zip(tallies, restored.digests, strict=True)):
                if is_exact(self.image.pages[number], self.settings.form) and tally.digest != digest:
                    raise UnsupportedImageError(f"page {number} of a lossless tiff came back different")
        verdict = judge_tallies(tallies, restored.looks, self.settings.gate, task)
        return self._kept(verdict) if verdict.outcome == "kept" else self._replaced(verdict, restored.spool)

    def _rows(self, page: LargePage, start: int, stop: int) -> tuple[Pixels, Pixels | None]:
        with _stage(self.file.ref, "decode"):
            return self.image.rows(self.settings.decode, page, start, stop)

    def _estimate(self, page: LargePage) -> Estimate:
        size = page.height, page.width
        sampler = Sampler(sample_places(*size), size)
        for start, stop in sampler.needs:
            sampler.add(start, self._rows(page, start, stop)[0])
        return self.restorer.estimate_pieces(sampler.pieces())

    def _restored(self, before: list[Look], estimates: list[Estimate]) -> _Restored:
        """Restores the pages that are not spared, and writes all as they come."""
        pages, task = self.image.pages, self.restorer.contract.task
        digests = [hashlib.sha256() for _ in pages]
        looks = list(before)

        def rows(number: int) -> Iterator[tuple[Pixels, Pixels | None]]:
            page, digest = pages[number], digests[number]
            if looks[number].spared is not None:
                for start, stop in _stretches(page):
                    pixels, alpha = self._rows(page, start, stop)
                    digest.update(pixels.tobytes())
                    yield pixels, alpha
                return
            size = page.height, page.width
            sampler = Sampler(sample_places(*size), size)
            for top, pixels, alpha in self._bands(page, estimates[number]):
                digest.update(pixels.tobytes())
                sampler.add(top, pixels)
                yield pixels, alpha
            remaining = damage_of(self.restorer.estimate_pieces(sampler.pieces()), None, task)
            looks[number] = dataclasses.replace(looks[number], remaining=remaining)

        with _stage(self.file.ref, "encode"):
            all_rows = [rows(number) for number in range(len(pages))]
            spared = [number for number, look in enumerate(before) if look.spared is not None]
            spool = Spool.written_by(lambda to: write_large(to, self.image, all_rows, self.settings.form, spared))
        return _Restored(spool, tuple(digest.hexdigest() for digest in digests), tuple(looks))

    def _bands(self, page: LargePage, estimate: Estimate) -> Iterator[tuple[int, Pixels, Pixels | None]]:
        """Restores a page: first row, pixels and alpha of one band after another."""
        for band in self.restorer.bands(page.height, page.width, BAND_PIXELS):
            (start, stop), (top, bottom) = band.needs, band.paints
            pixels, alpha = self._rows(page, start, stop)
            task = Task(pixels, estimate=estimate, strength=self.settings.model.strength)
            with _stage(self.file.ref, "restore"):
                try:
                    painted = self.restorer.restore_band(task, band)
                except RestorationError as error:
                    raise NotRestorableError(str(error)) from error
            Metrics.counter("restore", "bands").inc()
            Metrics.counter("restore", "pixels").inc((bottom - top) * page.width)
            yield top, painted, None if alpha is None else alpha[top - start : bottom - start]

    def _tally(self, number: int, written: LargeTiff | None, reference: LargeTiff | None) -> _Tally:
        """Measures a page, its rows and those of output and reference side by side."""
        page, tally = self.image.pages[number], _Tally()
        size = page.height, page.width, page.dtype
        if reference is not None:
            pristine = reference.pages[0]
            reference = reference if (pristine.height, pristine.width, pristine.dtype) == size else None
        measured = max(8, MEASURED_BYTES // page.row_bytes // 8 * 8)
        for start, stop in _stretches(page):
            decoded = self._rows(page, start, stop)[0]
            # Our own bytes need no guard.
            after = None if written is None else written.rows(run_here, written.pages[number], start, stop)[0]
            pristine_rows = None
            if reference is not None:
                try:
                    pristine_rows = reference.rows(self.settings.decode, reference.pages[0], start, stop)[0]
                except ImageError:
                    # It measures nothing, and the image is none the worse: from the first row again, without it.
                    return self._tally(number, written, None)
            for top in range(0, stop - start, measured):
                rows = slice(top, top + measured)
                tally.add(
                    decoded[rows],
                    None if after is None else after[rows],
                    None if pristine_rows is None else pristine_rows[rows],
                )
        return tally

    def _kept(self, verdict: Verdict) -> Judged:
        content = self.file.data if isinstance(self.file, File) else self.file.spool
        return self._as(verdict, content, ())

    def _replaced(self, verdict: Verdict, spool: Spool) -> Judged:
        metadata = [page.metadata for page in self.image.pages]
        changed = [changed_by_tiff(page.exif) for page in metadata if page.exif]
        return self._as(verdict, spool, names(*(page.not_kept for page in metadata), *changed))

    def _as(self, verdict: Verdict, content: Content, not_kept: tuple[str, ...]) -> Judged:
        return Judged(
            file=self.file,
            verdict=verdict,
            data=content,
            format="tiff",
            output_format="tiff",
            suffix="",
            size=self.image.header.size,
            kept_metadata=kinds_of(self.image.pages[0].metadata, not_kept),
            not_kept=not_kept,
            device=self.restorer.device,
        )


def _stretches(page: LargePage) -> Iterator[tuple[int, int]]:
    """Parts a page's rows for judging: on the JPEG grid, and so that no strip or tile is decoded twice if that fits."""
    whole = math.lcm(8, 1 if page.plain else page.segment_rows)
    unit = whole if whole * page.row_bytes <= 2 * JUDGED_BYTES else 8
    step = max(unit, JUDGED_BYTES // page.row_bytes // unit * unit)
    for start in range(0, page.height, step):
        yield start, min(start + step, page.height)


class _Tally(Tally):
    """A tally that also digests the output's pixels."""

    def __init__(self) -> None:
        super().__init__()
        self._sha256 = hashlib.sha256()

    def add(self, decoded: Pixels, written: Pixels | None = None, reference: Pixels | None = None) -> None:
        super().add(decoded, written, reference)
        if written is not None:
            self._sha256.update(written.tobytes())

    @property
    def digest(self) -> str:
        """SHA-256 of the output's pixels, rows in order."""
        return self._sha256.hexdigest()
