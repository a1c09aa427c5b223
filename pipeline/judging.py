"""Measures what a restoration did and decides whether it may replace its input.

The numbers are taken from the bytes that would be written, decoded again. An image passes every check of the gate or is
kept as it was: no check is weighed against another.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import cv2
import numpy as np
import scipy.fft
from apache_beam.metrics import Metrics

from model import metrics, metrics_of_rows
from pipeline import logs
from pipeline.elements import (
    Check,
    Damage,
    Encoded,
    Image,
    Judged,
    Look,
    Measures,
    Metadata,
    Pixels,
    Restoration,
    Verdict,
)

_BLOCK = 8
_STRIPE = 32 * _BLOCK

References = Callable[[str], Pixels | None]
"""Finds the pristine pixels of an image by its name, or None."""


@dataclasses.dataclass(frozen=True)
class Gate:
    """What an output must not do.

    Attributes:
        outside_bins: largest share of luma coefficients more than one DCT unit outside the file's quantisation bins;
            for a JPEG that was compressed once.
        drift: largest root mean square of the change of 8x8 luma block means, in grey levels, where no bins bound it.
        drift_of_noise, drift_of_blur: by how much more for each grey level of noise, and each pixel of blur, that the
            model takes away: those move the means themselves (by 0.25 and 3.8 at most, over validation pictures).
        blockiness: how much the blockiness may rise.
        blockiness_hidden: the same for a model that takes away noise or blur, which hide whatever a picture happens to
            have on the grid: perfect restorations of validation pictures rose by up to 0.044.
        quality: how many points the model's own estimate may fall; of a model that undoes JPEG.
        noise, blur: by how many grey levels and pixels its estimate may rise; of a model that takes them away.
    """

    outside_bins: float = 0.001
    drift: float = 3.0
    drift_of_noise: float = 0.25
    drift_of_blur: float = 3.0
    blockiness: float = 0.02
    blockiness_hidden: float = 0.1
    quality: float = 3.0
    noise: float = 1.0
    blur: float = 0.1

    def of(self, task: str, damage: Damage) -> Gate:
        """This gate for a model of a task and what it found in an image."""
        match task:
            case "denoise":
                drift = self.drift + self.drift_of_noise * damage.noise
            case "deblur":
                drift = self.drift + self.drift_of_blur * damage.blur
            case _:
                return self
        return dataclasses.replace(self, drift=drift, blockiness=self.blockiness_hidden)


def outside_bins(written: Pixels, decoded: Pixels, steps: Any, tolerance: float = 1.0) -> float:
    """Share of luma coefficients that left the bins of the source's quantisation.

    Args:
        written, decoded: `(rows, cols, 1 or 3)` uint8, of the output and of the source.
        steps: `(8, 8)` luma quantisation steps in natural order.
        tolerance: DCT units beyond the bin's end that rounding pixels may cost.

    Returns:
        0..1 over whole blocks; 0 where the image has none.
    """
    width = np.maximum(np.asarray(steps, np.float32), 1)
    left = total = 0
    for before, after in _stripes(decoded, written):
        middle = np.rint(before / width) * width
        left += int(np.count_nonzero(np.abs(after - middle) > width / 2 + tolerance))
        total += after.size
    return left / total if total else 0.0


def block_drift(written: Pixels, decoded: Pixels) -> float:
    """Root mean square of the change of 8x8 luma block means, in grey levels of 255; 0 without a whole block."""
    total, blocks = _squared_drift(written, decoded)
    return math.sqrt(total / blocks) if blocks else 0.0


def _squared_drift(written: Pixels, decoded: Pixels) -> tuple[float, int]:
    """Sum of the squared changes of 8x8 luma block means, and the number of blocks."""
    total, blocks = 0.0, 0
    for before, after in _stripes(decoded, written):
        change = (after - before)[..., 0, 0] / _BLOCK
        total += float(np.square(change, dtype=np.float64).sum())
        blocks += int(change.size)
    return total, blocks


def _stripes(decoded: Pixels, written: Pixels) -> Iterator[tuple[Any, Any]]:
    """The coefficients of both, some rows at a time: those of a whole image take many times the room of its pixels."""
    for start in range(0, decoded.shape[0], _STRIPE):
        rows = np.s_[start : start + _STRIPE]
        yield _coefficients(decoded[rows]), _coefficients(written[rows])


def _coefficients(pixels: Pixels) -> Any:
    """DCT of whole luma blocks: `(rows, cols, 8, 8)` float32, orthonormal, in units of 8-bit levels minus 128."""
    levels = pixels.astype(np.float32) / (257 if pixels.dtype == np.uint16 else 1)
    plane = levels[..., 0] if pixels.shape[2] == 1 else levels @ np.array([0.299, 0.587, 0.114], np.float32)
    rows, cols = plane.shape[0] // _BLOCK, plane.shape[1] // _BLOCK
    blocks = (plane[: rows * _BLOCK, : cols * _BLOCK] - 128).reshape(rows, _BLOCK, cols, _BLOCK).transpose(0, 2, 1, 3)
    return scipy.fft.dctn(blocks, axes=(2, 3), norm="ortho")


def measure(
    pixels: Pixels, reference: Pixels | None, quality: float | None, *, compared: Pixels | None = None
) -> Measures:
    """Measures one state of a page.

    Args:
        pixels: as stored, or brought to the source's size.
        reference: the pristine pixels, or None; not compared where its size or depth differs.
        quality: the model's estimate.
        compared: what is held against the reference, where that is not `pixels`.
    """
    held = pixels if compared is None else compared
    rows = metrics_of_rows.Blockiness()
    for start in range(0, pixels.shape[0], _STRIPE):
        rows.add(pixels[start : start + _STRIPE])
    blockiness = rows.value()
    if reference is None or reference.shape[:2] != held.shape[:2] or reference.dtype != held.dtype:
        return _measures(None, None, blockiness, quality)
    mine, pristine = metrics.luma(held), metrics.luma(reference)
    return _measures(metrics.psnr(mine, pristine), metrics.ssim(mine, pristine), blockiness, quality)


def _measures(psnr: float | None, ssim: float | None, blockiness: float, quality: float | None) -> Measures:
    """Rounds what was measured to what is worth saying."""
    return Measures(
        # JSON and Parquet readers disagree on infinity; 100 dB is beyond anything that 16 bits can show.
        psnr=None if psnr is None else round(min(psnr, 100.0), 4),
        ssim=None if ssim is None else round(ssim, 5),
        blockiness=round(blockiness, 4),
        quality=None if quality is None else round(quality, 1),
    )


def judge(encoded: Encoded, gate: Gate, references: References | None = None) -> Judged:
    """Decides about one image.

    Args:
        encoded: what could be written.
        gate: what it must not do.
        references: finds the pristine picture, if there is any.

    Returns:
        The restored bytes, or the source's own, with the verdict.
    """
    restoration = encoded.restoration
    image, looks = restoration.image, restoration.looks
    reference = None if references is None else references(image.ref.name)
    if not encoded.pages:
        before = _before(restoration, 0, reference)
        verdict = Verdict("kept", str(looks[0].spared), before, damage=looks[0].damage)
        return _keep(image, verdict, restoration.device)
    # A pristine picture is one of the first page.
    found = [_found(encoded, number, gate, None if number else reference) for number in range(len(image.pages))]
    # A picture of another size is another picture.
    changed = [_changed(_share_changed(encoded))] if restoration.scale == 1 else []
    verdict = _verdict(changed, found, looks)
    if verdict.outcome == "kept":
        return _keep(image, verdict, restoration.device)
    return Judged(
        file=image.file,
        verdict=verdict,
        data=encoded.data,
        format=image.format,
        output_format=encoded.format,
        suffix=encoded.suffix,
        size=_size(image),
        quantization=image.quantization,
        kept_metadata=kinds_of(image.pages[0].metadata, encoded.not_kept),
        not_kept=encoded.not_kept,
        device=restoration.device,
    )


class _Found(NamedTuple):
    """What was found of one page: measures of its two states, and the checks that they had to pass."""

    before: Measures
    after: Measures
    checks: list[Check]


def _found(encoded: Encoded, number: int, gate: Gate, reference: Pixels | None) -> _Found:
    """Measures and checks one page."""
    restoration, written = encoded.restoration, encoded.pages[number]
    look, source = restoration.looks[number], restoration.image.pages[number].pixels
    gate = gate.of(restoration.task, look.damage)
    smaller = reduced(written, restoration.scale)
    before = _before(restoration, number, reference)
    after = measure(smaller, reference, _remaining_quality(look.remaining), compared=written)
    harm = _harm(restoration, smaller, source, gate)
    return _Found(before, after, [*harm, *_left(restoration.task, look, gate), *_worse(before, after, gate)])


def _before(restoration: Restoration, number: int, reference: Pixels | None) -> Measures:
    """Measures of a page as it came."""
    source, scale = restoration.image.pages[number].pixels, restoration.scale
    quality = restoration.looks[number].damage.quality
    return measure(source, reference, quality, compared=None if scale == 1 else enlarged(source, scale))


def _share_changed(encoded: Encoded) -> float:
    """Share of values that differ in the page that changed most."""
    pairs = zip(encoded.pages, encoded.restoration.image.pages, strict=True)
    return max(float(np.mean(written != page.pixels)) for written, page in pairs)


def _harm(restoration: Restoration, written: Pixels, decoded: Pixels, gate: Gate) -> list[Check]:
    """Checks of what was written, at the source's size, against what was decoded."""
    checks: list[Check] = []
    if restoration.image.quantization is not None and restoration.scale == 1:
        # Where the last bins do not bind, as after noise or an earlier compression, it is told what left them.
        limit = gate.outside_bins if restoration.projected else 1.0
        checks.append(_at_most("bins", outside_bins(written, decoded, restoration.image.quantization[0]), limit))
        if restoration.projected:
            return checks
    return [*checks, _at_most("drift", block_drift(written, decoded), gate.drift)]


def _remaining_quality(remaining: Damage | None) -> float | None:
    """The quality factor that restored pixels look like, or None.

    A restored picture keeps faint traces of the grid it had. Where the model takes them for an earlier compression, the
    quality that it makes out is a guess at something below them, and no measure of what is left.
    """
    return None if remaining is None or remaining.kind == "double_jpeg" else remaining.quality


def _left(task: str, look: Look, gate: Gate) -> list[Check]:
    """Checks that there is no more of what a model takes away than there was, by its own estimate."""
    damage, remaining = look.damage, look.remaining
    if remaining is None:
        return []
    match task:
        case "denoise":
            return [_at_most("noise", remaining.noise - damage.noise, gate.noise)]
        case "deblur":
            return [_at_most("blur", remaining.blur - damage.blur, gate.blur)]
        case _:
            return []


def reduced(pixels: Pixels, scale: int) -> Pixels:
    """Brings an enlarged picture back to the size of its source: the means of `scale` x `scale` pixels."""
    if scale == 1:
        return pixels
    rows, cols = (side // scale for side in pixels.shape[:2])
    return _sized(pixels, rows, cols, cv2.INTER_AREA)


def enlarged(pixels: Pixels, scale: int) -> Pixels:
    """Enlarges a picture by interpolation, to be held against what is of that size."""
    return _sized(pixels, scale * pixels.shape[0], scale * pixels.shape[1], cv2.INTER_CUBIC)


def _sized(pixels: Pixels, rows: int, cols: int, interpolation: int) -> Pixels:
    # OpenCV gives grey back without its axis of channels.
    return cv2.resize(pixels, (cols, rows), interpolation=interpolation).reshape(rows, cols, pixels.shape[2])


def _changed(share: float) -> Check:
    return Check("changed", _finite(share), 0.0, share > 0)


def _at_most(name: str, value: float, limit: float) -> Check:
    return Check(name, _finite(value), limit, value <= limit)


def _verdict(changed: list[Check], found: Sequence[_Found], looks: Sequence[Look]) -> Verdict:
    """Decides by what was found of all pages; the first one that was restored speaks for the image in its row."""
    checks = (*changed, *_worst([page.checks for page in found]))
    first = next((number for number, look in enumerate(looks) if look.spared is None), 0)
    before, after, damage = found[first].before, found[first].after, looks[first].damage
    failed = [check.name for check in checks if not check.passed]
    if failed:
        return Verdict("kept", f"gate-{failed[0]}", before, gate=checks, damage=damage)
    return Verdict("restored", "improved", before, after, checks, damage)


def _worst(pages: Sequence[Sequence[Check]]) -> list[Check]:
    """Of each check the page that passed it worst, in the order in which they were made."""
    by_name: dict[str, list[Check]] = {}
    for check in itertools.chain(*pages):
        by_name.setdefault(check.name, []).append(check)
    return [min(checks, key=lambda check: (check.passed, check.limit - check.value)) for checks in by_name.values()]


def _worse(before: Measures, after: Measures, gate: Gate) -> list[Check]:
    """Checks that no measure has become worse."""
    checks: list[Check] = []
    if before.blockiness is not None and after.blockiness is not None:
        # Below 1 there is no grid to be seen, and a ratio may move as it likes.
        rise = max(after.blockiness, 1.0) - max(before.blockiness, 1.0)
        checks.append(_at_most("blockiness", rise, gate.blockiness))
    if before.quality is not None and after.quality is not None:
        fall = before.quality - after.quality
        checks.append(_at_most("quality", fall, gate.quality))
    if before.psnr is not None and after.psnr is not None:
        checks.append(Check("psnr", _finite(after.psnr - before.psnr), 0.0, after.psnr >= before.psnr))
    return checks


class Tally:
    """What a restoration did to one page, from rows that are added one band after another.

    Its numbers are those that `judge` finds in the whole page, but for the last of some seven digits.
    """

    def __init__(self) -> None:
        self._blockiness = metrics_of_rows.Blockiness(), metrics_of_rows.Blockiness()
        self._likeness = metrics_of_rows.Likeness(), metrics_of_rows.Likeness()
        self._compared = False
        self._values = self._changes = 0
        self._drift, self._blocks = 0.0, 0

    def add(self, decoded: Pixels, written: Pixels | None = None, reference: Pixels | None = None) -> None:
        """Adds the next rows: a multiple of 8 of them, but for the last.

        Args:
            decoded: of the source.
            written: of the output; None where nothing was restored.
            reference: pristine, of the same size and depth, or None.
        """
        for place, pixels in enumerate((decoded, written)):
            if pixels is None:
                continue
            self._blockiness[place].add(pixels)
            if reference is not None:
                self._compared = True
                self._likeness[place].add(metrics.luma(pixels), metrics.luma(reference))
        if written is not None:
            self._values += written.size
            self._changes += int(np.count_nonzero(written != decoded))
            total, blocks = _squared_drift(written, decoded)
            self._drift, self._blocks = self._drift + total, self._blocks + blocks

    def before(self, quality: float | None) -> Measures:
        """Measures of the source, with the model's estimate."""
        return self._state(0, quality)

    def after(self, quality: float | None) -> Measures:
        """Measures of the output, with the model's estimate."""
        return self._state(1, quality)

    @property
    def changed(self) -> float:
        """Share of values that differ."""
        return self._changes / self._values

    @property
    def drift(self) -> float:
        """As `block_drift`."""
        return math.sqrt(self._drift / self._blocks) if self._blocks else 0.0

    def _state(self, place: int, quality: float | None) -> Measures:
        likeness, blockiness = self._likeness[place], self._blockiness[place].value()
        if not self._compared:
            return _measures(None, None, blockiness, quality)
        return _measures(likeness.psnr, likeness.ssim, blockiness, quality)


def judge_tallies(pages: Sequence[Tally], looks: Sequence[Look], gate: Gate, task: str = "jpeg") -> Verdict:
    """Decides about an image of which no quantisation bins are known, as `judge` does.

    Args:
        pages, looks: of all its pages.
        gate: what an output must not do.
        task: of the model, of scale 1.
    """
    found = [_found_in(page, look, gate.of(task, look.damage), task) for page, look in zip(pages, looks, strict=True)]
    return _verdict([_changed(max(page.changed for page in pages))], found, looks)


def _found_in(page: Tally, look: Look, gate: Gate, task: str) -> _Found:
    before, after = page.before(look.damage.quality), page.after(_remaining_quality(look.remaining))
    checks = [_at_most("drift", page.drift, gate.drift), *_left(task, look, gate), *_worse(before, after, gate)]
    return _Found(before, after, checks)


def _finite(value: float) -> float:
    return round(value, 6) if math.isfinite(value) else 0.0


def _keep(image: Image, verdict: Verdict, device: str) -> Judged:
    return Judged(
        file=image.file,
        verdict=verdict,
        data=image.file.data,
        format=image.format,
        output_format=image.format,
        suffix="",
        size=_size(image),
        quantization=image.quantization,
        kept_metadata=kinds_of(image.pages[0].metadata, ()),
        device=device,
    )


def _size(image: Image) -> tuple[int, int, int]:
    rows, cols = image.pages[0].pixels.shape[:2]
    return cols, rows, len(image.pages)


def kinds_of(metadata: Metadata, lost: tuple[str, ...]) -> tuple[str, ...]:
    """Short names of the metadata that the source has and the output keeps."""
    kinds = ("icc", "exif", "xmp", "iptc", "density", "comment")
    return tuple(kind for kind in kinds if getattr(metadata, kind) is not None and kind not in lost)


class Judge(beam.PTransform):
    """Decides about every image: `PCollection[Encoded]` -> `PCollection[Judged]`.

    Args:
        gate: what an output must not do.
        references: a factory of the finder, called once a worker; None where there are no references.
    """

    def __init__(self, gate: Gate, references: Callable[[], References] | None = None) -> None:
        super().__init__()
        self._gate, self._references = gate, references

    def expand(self, encoded: beam.PCollection[Encoded]) -> beam.PCollection[Judged]:
        return encoded | "Image" >> beam.ParDo(_JudgeImage(self._gate, self._references))


class _JudgeImage(beam.DoFn):
    """Metrics, namespace `judge`: counters `restored` and `kept`."""

    def __init__(self, gate: Gate, references: Callable[[], References] | None) -> None:
        self._gate, self._factory = gate, references
        self._find: References | None = None

    def setup(self) -> None:
        self._find = self._factory() if self._factory else None

    def process(self, encoded: Encoded) -> Any:
        with logs.about(image=encoded.ref.name, stage="judge"):
            judged = judge(encoded, self._gate, self._find)
        Metrics.counter("judge", judged.verdict.outcome).inc()
        yield judged
