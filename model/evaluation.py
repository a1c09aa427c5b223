"""Measures how well models restore, beside the damage itself and classical methods, on pictures harmed in a known way.

The protocol is that of published tables: each picture is harmed, restored, rounded to uint8 and scored against what it
was; the values of all pictures are averaged. Grey means luma by ITU-R BT.601, 16..235, rounded; a grey file is taken as
it is. Models run through the same `Restorer` as in the pipeline.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np
from PIL import Image

from model import metrics, photos

Array = np.ndarray[Any, np.dtype[Any]]
Item = TypeVar("Item")
Level = tuple[float, ...]
"""How strongly a task harms: quality factors, or sigmas in grey levels and pixels."""

GRID_SHIFT = 4
"""How far the second grid of the double JPEG is shifted against the first, in both directions."""

PROTOCOLS: Mapping[bool, str] = {
    False: "grey: luma by ITU-R BT.601, 16..235, rounded; output rounded to uint8; mean over images",
    True: "colour: RGB; chroma of JPEGs 4:2:0; output rounded to uint8; mean over images",
}
"""What the numbers mean, by whether they are of colour."""


@dataclasses.dataclass(frozen=True, eq=False)
class Picture:
    """One pristine picture.

    Attributes:
        name: its path below the folder, with `/`.
        pixels: `(rows, cols, 1 or 3)` uint8.
    """

    name: str
    pixels: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Harmed:
    """A picture and what was made of it.

    Attributes:
        pristine: `(rows, cols, 1 or 3)` uint8: what a perfect restoration gives.
        pixels: uint8, as many channels; smaller by the task's scale.
        tables: `(2, 8, 8)` float32 quantisation steps of the JPEG that the pixels come from, or None.
        header_quality: the quality factor that they stand for, or None.
    """

    pristine: Array
    pixels: Array
    tables: Array | None = None
    header_quality: float | None = None


@dataclasses.dataclass(frozen=True)
class Task:
    """A kind of harm that is to be undone.

    Attributes:
        name: as in a model's contract, or a variant of it.
        limits: lowest and highest value of each number of a level.
        defaults: the levels that are measured where none are named.
        label: says a level in words; takes its numbers.
        whole: the numbers are whole, as quality factors are.
        harm: makes the harmed picture of a pristine one.
        baselines: methods that need no model, by name; the first one leaves the picture as it is, or nearly so.
        scale: pixels of the pristine picture to one of the harmed one, along an axis.
    """

    name: str
    limits: tuple[tuple[float, float], ...]
    defaults: tuple[Level, ...]
    label: str
    harm: Callable[[Array, Level, np.random.Generator], Harmed]
    baselines: Mapping[str, Callable[[Harmed, Level], Array]]
    scale: int = 1
    whole: bool = False

    def level(self, text: str) -> Level:
        """Reads a level from numbers with `:` between them.

        Raises:
            ValueError: if their number or one of them is not within the limits.
        """
        try:
            level = tuple(float(part) for part in text.split(":"))
        except ValueError:
            level = ()
        inside = len(level) == len(self.limits) and all(
            low <= value <= high and not (self.whole and value % 1)
            for value, (low, high) in zip(level, self.limits, strict=True)
        )
        if not inside:
            wanted = ":".join(f"{low:g}..{high:g}" for low, high in self.limits) or "no level"
            wanted += " in whole numbers" if self.whole else ""
            raise ValueError(f"a level of {self.name} is {wanted}, got {text!r}")
        return level


@dataclasses.dataclass(frozen=True)
class Condition:
    """A task at one level: a line of the table."""

    task: Task
    level: Level

    @property
    def label(self) -> str:
        """Such as `jpeg q10`."""
        return f"{self.task.name} {self.task.label.format(*self.level)}".strip()


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """What a method made of a harmed picture.

    Attributes:
        pixels: uint8, of the pristine picture's shape.
        quality: JPEG quality factor that the method took the picture for, or None.
    """

    pixels: Array
    quality: float | None = None


class Method(Protocol):
    """Something that restores."""

    @property
    def name(self) -> str:
        """As it stands in the table."""

    def restore(self, harmed: Harmed, condition: Condition) -> Answer:
        """Restores one picture; it must not look at the pristine one, but to choose a baseline's best setting."""


@dataclasses.dataclass(frozen=True)
class Baseline:
    """One of the task's own methods."""

    name: str

    def restore(self, harmed: Harmed, condition: Condition) -> Answer:
        """See `Method`."""
        return Answer(condition.task.baselines[self.name](harmed, condition.level))


@dataclasses.dataclass(frozen=True)
class Model:
    """A loaded model.

    Attributes:
        name: as it stands in the table.
        restorer: a `model.restorer.Restorer`.
    """

    name: str
    restorer: Any

    def restore(self, harmed: Harmed, condition: Condition) -> Answer:
        """See `Method`; the model is told no more than a file would tell it."""
        from model import restorer

        estimate = self.restorer.estimate([harmed.pixels])[0]
        project = not estimate.contradicts(harmed.header_quality)
        task = restorer.Task(harmed.pixels, harmed.tables, estimate, project=project)
        return Answer(self.restorer.restore([task])[0], estimate.quality)


@dataclasses.dataclass(frozen=True)
class Score:
    """One picture, restored by one method under one condition.

    Attributes:
        image: the picture's name.
        condition, method: their labels.
        psnr, psnr_b: dB.
        ssim: -1..1.
        quality_error: how far the estimate of the quality factor was off, or None where there is none.
        megapixels: of the restored picture.
        seconds: of the restoration, by the clock.
        cpu_seconds: the same on all cores together.
    """

    image: str
    condition: str
    method: str
    psnr: float
    ssim: float
    psnr_b: float
    quality_error: float | None
    megapixels: float
    seconds: float
    cpu_seconds: float


@dataclasses.dataclass(frozen=True)
class Row:
    """The mean over all pictures for one method under one condition.

    Attributes:
        condition, method: their labels.
        images: so many.
        psnr, ssim, psnr_b: means of the pictures' values; PSNR is `inf` if one of them is.
        gain: of PSNR over the condition's first method, dB; None for that one itself.
        quality_error: mean absolute error of the estimated quality factor, or None.
        seconds_per_megapixel, cpu_seconds_per_megapixel: over all pictures together.
        worst: names of the pictures with the lowest gain, the worst one first.
    """

    condition: str
    method: str
    images: int
    psnr: float
    ssim: float
    psnr_b: float
    gain: float | None
    quality_error: float | None
    seconds_per_megapixel: float
    cpu_seconds_per_megapixel: float
    worst: tuple[str, ...]


def read_pictures(source: str, *, colour: bool, limit: int | None = None, side: int | None = None) -> Iterator[Picture]:
    """Reads pristine pictures, those of a folder one by one in the order of their names.

    Args:
        source: a folder of pictures, or a data set as for `photos.read_source`, whose split `validation` is taken.
        colour: RGB rather than luma 16..235; grey files are grey either way.
        limit: at most so many, evenly spread.
        side: at most so many rows and columns, from the middle.

    Raises:
        PhotoError: if there is none, or one cannot be read.
    """
    if photos.is_data_set(source):
        found: Iterable[tuple[str, Array]] = (
            (photo.name, photo.pixels) for photo in _spread(photos.read_source(source, "validation"), limit)
        )
    else:
        paths = _spread(photos.find(Path(source)), limit)
        found = ((path.relative_to(source).as_posix(), photos.read(path)) for path in paths)
    for name, whole in found:
        pixels = whole if side is None else middle(whole, side)
        yield Picture(name, pixels if colour else metrics.luma(pixels, studio=True)[..., None])


def _spread(items: Sequence[Item], limit: int | None) -> Sequence[Item]:
    if limit is None or limit >= len(items):
        return items
    return [items[len(items) * i // limit] for i in range(limit)]


def middle(pixels: Array, side: int) -> Array:
    """The middle `(side, side, channels)` of a picture, or less where it is smaller."""
    top, left = (max(0, (length - side) // 2) for length in pixels.shape[:2])
    return pixels[top : top + side, left : left + side]


def conditions(task: str, levels: Sequence[Level] = ()) -> list[Condition]:
    """A task at several levels; at its default ones where none are given."""
    return [Condition(TASKS[task], level) for level in levels or TASKS[task].defaults]


def evaluate(
    pictures: Iterable[Picture], wanted: Sequence[Condition], methods: Mapping[str, Sequence[Method]]
) -> Iterator[Score]:
    """Scores every picture under every condition with every method.

    Args:
        pictures: pristine.
        wanted: the conditions.
        methods: by the name of the task; the first one is what the others' gain is measured against.

    Yields:
        Scores, a picture's together.
    """
    warm: set[str] = set()
    for picture in pictures:
        for condition in wanted:
            harmed = condition.task.harm(picture.pixels, condition.level, chance(picture.name, condition))
            for method in methods[condition.task.name]:
                if method.name not in warm:
                    # The first call loads and compiles what later ones find ready: it is no measure of speed.
                    method.restore(harmed, condition)
                    warm.add(method.name)
                clock, cpu = time.perf_counter(), time.process_time()
                answer = method.restore(harmed, condition)
                cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
                yield _score(picture.name, condition, method.name, harmed, answer, clock, cpu)


def chance(name: str, condition: Condition) -> np.random.Generator:
    """What harms a picture: a function of the names alone, so alike on every machine, whatever else is measured."""
    return np.random.Generator(np.random.Philox(zlib.crc32(f"{name}\0{condition.label}".encode())))


def _score(
    image: str, condition: Condition, method: str, harmed: Harmed, answer: Answer, clock: float, cpu: float
) -> Score:
    # Enlarging knows less at the border than inside; publications leave out as many pixels as the scale.
    border = condition.task.scale if condition.task.scale > 1 else 0
    if min(harmed.pristine.shape[:2]) <= 2 * border:
        border = 0
    inner = np.s_[border : harmed.pristine.shape[0] - border, border : harmed.pristine.shape[1] - border]
    pixels, pristine = answer.pixels[inner], harmed.pristine[inner]
    error = None
    if answer.quality is not None and harmed.tables is not None:
        error = abs(answer.quality - min(condition.level))
    return Score(
        image=image,
        condition=condition.label,
        method=method,
        psnr=metrics.psnr(pixels, pristine),
        ssim=metrics.ssim(pixels, pristine),
        psnr_b=metrics.psnr_b(pixels, pristine, published=True),
        quality_error=error,
        megapixels=answer.pixels.shape[0] * answer.pixels.shape[1] / 1e6,
        seconds=clock,
        cpu_seconds=cpu,
    )


def quality_errors(restorer: Any, pictures: Iterable[Picture], qualities: Sequence[int]) -> tuple[float, float]:
    """How far the estimate of the quality factor is off, without and with the file's header.

    With a header it is the header's value, unless the pixels look so much worse that the pipeline distrusts it.

    Args:
        restorer: a `model.restorer.Restorer`.
        pictures: pristine.
        qualities: each picture is compressed with each of them.

    Returns:
        Two mean absolute errors in points of quality factor.
    """
    alone, together = [], []
    for picture in pictures:
        for quality in qualities:
            pixels = _jpeg(picture.pixels, (quality,), np.random.default_rng(0)).pixels
            found = restorer.estimate([pixels])[0]
            alone.append(abs(found.quality - quality))
            together.append(alone[-1] if found.contradicts(quality) else 0.0)
    return _mean(alone), _mean(together)


def summarise(scores: Iterable[Score], worst: int = 3) -> list[Row]:
    """Averages scores over the pictures; rows come in the order of the scores.

    Args:
        scores: as `evaluate` gives them.
        worst: so many pictures are named.
    """
    groups: dict[str, dict[str, list[Score]]] = {}
    for score in scores:
        groups.setdefault(score.condition, {}).setdefault(score.method, []).append(score)
    return [
        _row(group, next(iter(methods.values())), worst) for methods in groups.values() for group in methods.values()
    ]


def markdown(rows: Sequence[Row]) -> str:
    """A Markdown table with a line for each row."""
    lines = [
        "| harm | method | PSNR | SSIM | PSNR-B | gain | quality off by | s/MP | CPU s/MP |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        gain = "" if row.gain is None else f"{row.gain:+.2f}"
        error = "" if row.quality_error is None else f"{row.quality_error:.1f}"
        lines.append(
            f"| {row.condition} | {row.method} | {row.psnr:.2f} | {row.ssim:.4f} | {row.psnr_b:.2f} | {gain} | {error} "
            f"| {row.seconds_per_megapixel:.2f} | {row.cpu_seconds_per_megapixel:.2f} |"
        )
    return "\n".join(lines) + "\n"


def _row(group: Sequence[Score], first: Sequence[Score], worst: int) -> Row:
    gains = {}
    if group is not first:
        before = {score.image: score.psnr for score in first}
        # Two perfect pictures are equally good, though inf - inf has no value.
        gains = {s.image: 0.0 if s.psnr == before[s.image] else s.psnr - before[s.image] for s in group}
    errors = [score.quality_error for score in group if score.quality_error is not None]
    megapixels = sum(score.megapixels for score in group)
    return Row(
        condition=group[0].condition,
        method=group[0].method,
        images=len(group),
        psnr=_mean([score.psnr for score in group]),
        ssim=_mean([score.ssim for score in group]),
        psnr_b=_mean([score.psnr_b for score in group]),
        gain=_mean(list(gains.values())) if gains else None,
        quality_error=_mean(errors) if errors else None,
        seconds_per_megapixel=sum(score.seconds for score in group) / megapixels,
        cpu_seconds_per_megapixel=sum(score.cpu_seconds for score in group) / megapixels,
        worst=tuple(sorted(gains, key=lambda image: (gains[image], image))[:worst]),
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _jpeg(pristine: Array, level: Level, _: np.random.Generator) -> Harmed:
    from model.degradation import compress

    pixels, tables = compress(_squeezed(pristine), int(level[0]))
    return Harmed(pristine, _channels(pixels), tables, level[0])


def _double_jpeg(pristine: Array, level: Level, rng: np.random.Generator) -> Harmed:
    from model.degradation import compress

    # Cut off as far as the grid is to move, but never all of a tiny picture.
    top, left = (min(GRID_SHIFT, side - 1) for side in pristine.shape[:2])
    once = _jpeg(pristine, level[:1], rng).pixels[top:, left:]
    pixels, tables = compress(_squeezed(np.ascontiguousarray(once)), int(level[1]))
    return Harmed(pristine[top:, left:], _channels(pixels), tables, level[1])


def _clean(pristine: Array, _level: Level, _: np.random.Generator) -> Harmed:
    return Harmed(pristine, pristine)


def _noise(pristine: Array, level: Level, rng: np.random.Generator) -> Harmed:
    return Harmed(pristine, _rounded(pristine + rng.normal(0, level[0], pristine.shape)))


def _blur(pristine: Array, level: Level, rng: np.random.Generator) -> Harmed:
    kernel = _kernel(level[0])
    blurred = cv2.sepFilter2D(pristine.astype(np.float64), -1, kernel, kernel, borderType=cv2.BORDER_REFLECT)
    return Harmed(pristine, _rounded(_channels(blurred) + rng.normal(0, level[1], pristine.shape)))


def _halve(pristine: Array, _level: Level, _: np.random.Generator) -> Harmed:
    rows, cols = (max(2, side // 2 * 2) for side in pristine.shape[:2])
    pristine = np.pad(pristine, ((0, pristine.shape[0] == 1), (0, pristine.shape[1] == 1), (0, 0)), "edge")
    pristine = pristine[:rows, :cols]
    return Harmed(pristine, _resized(pristine, rows // 2, cols // 2))


def _unchanged(harmed: Harmed, _level: Level) -> Array:
    return harmed.pixels


def _bicubic(harmed: Harmed, _level: Level) -> Array:
    return _resized(harmed.pixels, *harmed.pristine.shape[:2])


def _wiener(harmed: Harmed, level: Level) -> Array:
    """scikit-image's Wiener filter with the known kernel, at the balance that suits each picture best."""
    from skimage.restoration import wiener

    balances = 10.0 ** np.arange(-4.0, 1.0, 0.5)
    return _best(harmed, level, [functools.partial(wiener, balance=b, clip=False) for b in balances])


def _richardson_lucy(harmed: Harmed, level: Level) -> Array:
    """scikit-image's Richardson-Lucy with the known kernel, stopped where it suits each picture best."""
    from skimage.restoration import richardson_lucy

    return _best(harmed, level, [functools.partial(richardson_lucy, num_iter=n) for n in (3, 6, 12, 25, 50)])


def _best(harmed: Harmed, level: Level, filters: Sequence[Callable[[Array, Array], Array]]) -> Array:
    kernel = _kernel(level[0])
    psf = kernel @ kernel.T
    # The filters take the picture for periodic: mirrored beyond its border, it is smooth where it meets itself.
    frame = 2 * len(kernel)
    tries = []
    for each in filters:
        planes = []
        for channel in range(harmed.pixels.shape[2]):
            plane = np.pad(harmed.pixels[..., channel] / 255.0, frame, "symmetric")
            planes.append(each(plane, psf)[frame:-frame, frame:-frame] * 255)
        tries.append(_rounded(np.stack(planes, axis=-1)))
    return max(tries, key=lambda pixels: metrics.psnr(pixels, harmed.pristine))


def _nl_means(harmed: Harmed, level: Level) -> Array:
    """scikit-image's non-local means, told the noise's sigma."""
    from skimage.restoration import denoise_nl_means

    sigma = level[0] / 255
    rows, cols, _ = harmed.pixels.shape
    # scikit-image loses an axis of length 1.
    plane = _squeezed(np.pad(harmed.pixels, ((0, rows == 1), (0, cols == 1), (0, 0)), "edge")) / 255.0
    axis = 2 if plane.ndim == 3 else None
    restored = denoise_nl_means(plane, 5, 6, 0.8 * sigma, fast_mode=True, sigma=sigma, channel_axis=axis)
    return _rounded(255 * _channels(restored))[:rows, :cols]


def _kernel(sigma: float) -> Array:
    from model.capture import gaussian

    return gaussian(sigma)


def _resized(pixels: Array, rows: int, cols: int) -> Array:
    image = Image.fromarray(_squeezed(pixels))
    return _channels(np.asarray(image.resize((cols, rows), Image.Resampling.BICUBIC)))


def _rounded(values: Array) -> Array:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _squeezed(pixels: Array) -> Array:
    """As Pillow and libjpeg take it: grey has no axis of channels."""
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _channels(pixels: Array) -> Array:
    return pixels[..., None] if pixels.ndim == 2 else pixels


TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("jpeg", ((1, 100),), ((10,), (20,), (30,), (40,)), "q{:g}", _jpeg, {"jpeg": _unchanged}, whole=True),
        Task(
            "double_jpeg",
            ((1, 100), (1, 100)),
            ((10, 50),),
            "q{:g}, shifted, q{:g}",
            _double_jpeg,
            {"jpeg": _unchanged},
            whole=True,
        ),
        Task("clean", (), ((),), "", _clean, {"clean": _unchanged}),
        Task(
            "deblur",
            ((0.3, 10), (0, 50)),
            ((1.6, 2), (2.5, 2)),
            "sigma {:g}, noise {:g}",
            _blur,
            {"degraded": _unchanged, "wiener": _wiener, "richardson-lucy": _richardson_lucy},
        ),
        Task(
            "denoise",
            ((1, 100),),
            ((15,), (25,), (50,)),
            "sigma {:g}",
            _noise,
            {"degraded": _unchanged, "nl-means": _nl_means},
        ),
        Task("x2", (), ((),), "", _halve, {"bicubic": _bicubic}, scale=2),
    )
}
"""Every task by its name."""
