"""Restores lists of images of any sizes with one loaded model.

TensorFlow is imported when a model is loaded and not before.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model import bands, busy, contract, device, quiet, tiling
from model.bands import Band
from model.contract import Contract, ModelError
from model.device import AUTO, BFLOAT16, FLOAT32

Array = np.ndarray[Any, np.dtype[Any]]

_LOG = logging.getLogger(__name__)

SAMPLE_SIDE = 256
"""Side in pixels of the tiles that an image's damage is estimated from."""

SIGNATURES = {FLOAT32: "restore", BFLOAT16: "restore_bfloat16"}
"""Which of a program's signatures computes in which precision."""

_SAMPLES = (1, 2)
"""So many sample tiles along an axis below and from `_LARGE` pixels: an estimate must cost less than a restoration."""

_LARGE = 768

_NO_DETAIL = 0.5
"""Grey levels: what a piece without any step still weighs."""

_QUALITY, _NOISE, _BLUR = 100.0, 50.0, 4.0
"""What the regressions' 1 stands for: quality factor, sigma in grey levels, sigma in pixels."""

RECOMPRESSED_GAP = 20
"""So many points of quality factor must the pixels look worse than the header says: the file was compressed before."""


@dataclasses.dataclass(frozen=True, eq=False)
class Estimate:
    """What the model says of one image.

    Attributes:
        vector: `(classes + regressions,)` float32, what the decoder is told.
        classes: probability of each class, by name; they add up to 1.
        quality: JPEG quality factor that the pixels look like, 0..100.
        noise: sigma in grey levels, 0..50.
        blur: sigma in pixels, 0..4.
    """

    vector: Array
    classes: dict[str, float]
    quality: float
    noise: float
    blur: float

    @property
    def kind(self) -> str:
        """The most likely class."""
        return max(self.classes, key=lambda name: self.classes[name])

    def contradicts(self, header_quality: int | None) -> bool:
        """Whether the pixels look compressed before: twice, or much worse than the header's quality factor."""
        if header_quality is None:
            return False
        return self.classes.get("double_jpeg", 0.0) > 0.5 or self.quality < header_quality - RECOMPRESSED_GAP

    def assuming(self, quality: float, header_quality: int | None = None) -> Estimate:
        """The estimate of an image of which it is known that it was compressed by JPEG, and how much.

        It moves smoothly with the quality. Noise and blur stay as the pixels look.

        Args:
            quality: quality factor that did the harm, 1..100.
            header_quality: that the file's header stands for, or None. As far as the quality is below it, the file
                counts as compressed twice, the first time more.
        """
        names, centres = _single_jpegs(self.classes)
        twice = 0.0
        if header_quality is not None:
            twice = min(max((header_quality - quality) / RECOMPRESSED_GAP, 0.0), 1.0)
        shares = dict.fromkeys(self.classes, 0.0) | {"double_jpeg": twice}
        for name, peak in zip(names, np.eye(len(names)), strict=True):
            shares[name] = (1 - twice) * float(np.interp(quality, centres, peak))
        measures = [quality / _QUALITY, self.noise / _NOISE, self.blur / _BLUR]
        vector = np.array([*shares.values(), *measures], np.float32)
        return Estimate(vector, shares, float(quality), self.noise, self.blur)


def _single_jpegs(classes: Iterable[str]) -> tuple[list[str], list[float]]:
    """The classes of pictures that were compressed once, the cleanest last, and the middles of their qualities."""
    lows = {name: float(name.removeprefix("jpeg_")) for name in classes if name.startswith("jpeg_")}
    lows |= {"clean": float(contract.CLEAN_QUALITY)}
    ends = [*list(lows.values())[1:], _QUALITY]
    return list(lows), [(low + end) / 2 for low, end in zip(lows.values(), ends, strict=True)]


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """One image to restore.

    Attributes:
        pixels: `(rows, cols, 1 or 3)` uint8 or uint16, at least 1x1.
        tables: `(2, 8, 8)` quantisation steps of the JPEG it comes from, or None.
        estimate: of this image; made from its pixels where None.
        strength: 0..1; 0 gives the pixels back.
        project: keep the luma in the bins of `tables`, where the model is one that undoes JPEG: another's harm is in
            the bins too.
    """

    pixels: Array
    tables: Array | None = None
    estimate: Estimate | None = None
    strength: float = 1.0
    project: bool = True

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or self.pixels.shape[2] not in (1, 3) or 0 in self.pixels.shape:
            raise ValueError(f"pixels must be (rows, cols, 1 or 3), got {self.pixels.shape}")
        if self.pixels.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"pixels must be uint8 or uint16, got {self.pixels.dtype}")
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength must be in 0..1, got {self.strength}")


class RestorationError(Exception):
    """The model failed on these images; with fewer at once it may not."""


class Restorer:
    """A loaded model. Safe to share between threads.

    Args:
        program: the loaded SavedModel.
        agreed: its contract.
        tile: side of a tile in pixels instead of the contract's.
        halo: in pixels instead of the contract's.
        batch_pixels: at most so many pixels go through the model at once, counted as they come out; halved when the
            device runs out of memory.
        device: what the program runs on, for receipts.
        precision: of images of 8 bits, `float32` or `bfloat16`; what has more bits is always restored in float32.
    """

    def __init__(
        self,
        program: Any,
        agreed: Contract,
        *,
        tile: int | None = None,
        halo: int | None = None,
        batch_pixels: int = 2 * 1024 * 1024,
        device: str = device.PROCESSOR,
        precision: str = FLOAT32,
    ) -> None:
        self.contract = agreed
        self._program = program  # its signatures die with it
        self._signatures = {name: program.signatures[name] for name in ("restore_deep", "estimate")}
        self._signatures["restore"] = program.signatures[SIGNATURES[precision]]
        self.precision = precision
        self.tile = agreed.tile if tile is None else tile
        self.halo = agreed.halo if halo is None else halo
        self.batch_pixels = batch_pixels
        self.batches_halved = 0
        self.device = device

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        expected_digest: str | None = None,
        threads: int | None = None,
        accelerated: bool = False,
        precision: str = AUTO,
        **options: Any,
    ) -> Restorer:
        """Loads a model folder after checking every digest.

        Args:
            folder: on this machine.
            expected_digest: the contract's digest that it must have, or None.
            threads, accelerated: as in `device.prepare`.
            precision: one of `device.PRECISIONS`; auto takes bfloat16 where device and model have it.
            options: of the constructor.

        Raises:
            ModelError: if the folder is not what it says, not the one expected, or has no program for the precision.
            DeviceError: if this machine lacks the accelerator that must be there.
        """
        agreed = contract.read(Path(folder))
        if expected_digest is not None and agreed.digest != expected_digest:
            raise ModelError(f"{folder} has digest {agreed.digest[:12]}, expected {expected_digest[:12]}")
        name = device.prepare(threads=threads, accelerated=accelerated)
        quiet.float16()
        program = quiet.tensorflow().saved_model.load(str(Path(folder) / "saved_model"))
        if precision == AUTO:
            short = device.has_bfloat16() and SIGNATURES[BFLOAT16] in program.signatures
            precision = BFLOAT16 if short else FLOAT32
        if SIGNATURES[precision] not in program.signatures:
            raise ModelError(f"{folder} has no program for {precision}: it was made by an earlier version")
        busy.CLOCK.take()  # what went by before is no time of this model's
        if precision == BFLOAT16:
            name = f"{name}, {precision}"
        return cls(program, agreed, device=name, precision=precision, **options)

    @property
    def projects(self) -> bool:
        """Whether the model keeps the luma of a JPEG in its bins: they bound what JPEG did and no other harm."""
        return self.contract.task == "jpeg"

    def estimate(self, images: Sequence[Array]) -> list[Estimate]:
        """Estimates the damage of each image from a fixed sample of its tiles.

        Args:
            images: each `(rows, cols, 1 or 3)` uint8 or uint16.

        Returns:
            One estimate an image, in order.
        """
        found: list[Estimate] = []
        for pixels in images:
            padded = tiling.pad(pixels)
            places = sample_places(*pixels.shape[:2])
            found.append(
                self.estimate_pieces([padded[top : top + rows, left : left + cols] for top, left, rows, cols in places])
            )
        return found

    def estimate_pieces(self, pieces: Sequence[Array]) -> Estimate:
        """Estimates the damage of one image from its pieces at `sample_places`, each padded where the image is."""
        return self._combine(*self._logits(pieces), np.array([_detail(piece) for piece in pieces]))

    def _logits(self, pieces: Sequence[Array]) -> tuple[Array, Array]:
        """What the head says of each piece: logits of the classes and of the regressions."""
        import tensorflow as tf

        try:
            with busy.CLOCK:
                logits = self._signatures["estimate"](pixels=_tensor(np.stack([_as_rgb8(piece) for piece in pieces])))
                return np.asarray(logits["classes"]), np.asarray(logits["regressions"])
        except tf.errors.ResourceExhaustedError as error:
            if len(pieces) == 1:
                raise RestorationError("the device has no room for one piece of the image") from error
        middle = len(pieces) // 2
        one, other = self._logits(pieces[:middle]), self._logits(pieces[middle:])
        return np.concatenate([one[0], other[0]]), np.concatenate([one[1], other[1]])

    def restore(self, tasks: Sequence[Task]) -> list[Array]:
        """Restores images of any sizes together.

        Args:
            tasks: the images.

        Returns:
            Restored pixels, in order; each of the dtype of its task's, and of its shape times the model's scale.

        Raises:
            RestorationError: if the program fails, or the device has no room for a single tile.
        """
        estimates = [task.estimate or self.estimate([task.pixels])[0] for task in tasks]
        queue = [
            (place, tile)
            for place, task in enumerate(tasks)
            for tile in tiling.cut(tiling.pad(task.pixels), self.tile, self.halo)
        ]
        return [
            tiling.stitch(tiles, (self.scale * task.pixels.shape[0], self.scale * task.pixels.shape[1]))
            for task, tiles in zip(tasks, self._restore_tiles(queue, tasks, estimates), strict=True)
        ]

    @property
    def scale(self) -> int:
        """Output pixels to one input pixel, along an axis."""
        return self.contract.scale

    def bands(self, rows: int, cols: int, most_pixels: int) -> list[Band]:
        """Parts an image into bands of its tiles; see `model.bands.bands`.

        Raises:
            ValueError: if the model enlarges: it restores whole images only.
        """
        if self.scale != 1:
            raise ValueError(f"bands are of models of scale 1, got {self.scale}")
        return bands.bands(rows, cols, self.tile, self.halo, most_pixels)

    def restore_band(self, task: Task, band: Band) -> Array:
        """Restores a band of an image to exactly the pixels that it has in the whole image.

        Args:
            task: `pixels` are the rows that the band needs; `estimate` is of the whole image.
            band: one of `bands`.

        Returns:
            The rows that the band paints.

        Raises:
            ValueError: without an estimate, or if the pixels are not those rows.
            RestorationError: as `restore`.
        """
        if task.estimate is None:
            raise ValueError("estimate must be that of the whole image, got None")
        queue = [(0, tile) for tile in bands.cut(task.pixels, band, self.tile, self.halo)]
        (tiles,) = self._restore_tiles(queue, [task], [task.estimate])
        return bands.stitch(tiles, band, task.pixels.shape[1])

    def _restore_tiles(
        self, queue: list[tuple[int, tiling.Tile]], tasks: Sequence[Task], estimates: Sequence[Estimate]
    ) -> list[list[tiling.Tile]]:
        """Restores tiles, each beside the place of its task, and empties the queue; gives each task's tiles."""
        # Tiles of one shape and depth travel together, grey ones apart: where all are grey, the program spares chroma.
        # The order within a shape is that of the tasks.
        queue.sort(key=lambda item: (item[1].pixels.dtype.str, item[1].pixels.shape))
        done: list[list[tiling.Tile]] = [[] for _ in tasks]
        while queue:
            batch = self._next_batch(queue)
            try:
                restored = self._run(batch, tasks, estimates)
            except MemoryError as error:
                if len(batch) == 1:
                    raise RestorationError(f"one tile of {self.tile} pixels is too large for the device") from error
                self.batch_pixels = self.scale**2 * sum(t.pixels.shape[0] * t.pixels.shape[1] for _, t in batch) // 2
                self.batches_halved += 1
                _LOG.warning("out of device memory: from now on at most %d pixels at once", self.batch_pixels)
                continue
            del queue[: len(batch)]
            for (place, tile), pixels in zip(batch, restored, strict=True):
                done[place].append(tile.scaled(self.scale, pixels))
        return done

    def _next_batch(self, queue: list[tuple[int, tiling.Tile]]) -> list[tuple[int, tiling.Tile]]:
        first = queue[0][1].pixels
        most = max(1, self.batch_pixels // (self.scale**2 * first.shape[0] * first.shape[1]))
        batch: list[tuple[int, tiling.Tile]] = []
        for item in queue[:most]:
            pixels = item[1].pixels
            if pixels.shape != first.shape or pixels.dtype != first.dtype:
                break
            batch.append(item)
        return batch

    def _run(
        self, batch: list[tuple[int, tiling.Tile]], tasks: Sequence[Task], estimates: Sequence[Estimate]
    ) -> list[Array]:
        import tensorflow as tf

        deep = batch[0][1].pixels.dtype == np.uint16
        mine = [tasks[place] for place, _ in batch]
        stacked = np.stack([_as_rgb(tile.pixels) for _, tile in batch])
        none = np.zeros((2, 8, 8), np.float32)
        try:
            with busy.CLOCK:
                answer = self._signatures["restore_deep" if deep else "restore"](
                    pixels=_tensor(stacked.astype(np.float32) / 257 if deep else stacked),
                    tables=_tensor(np.stack([none if t.tables is None else t.tables for t in mine]).astype(np.float32)),
                    estimate=_tensor(np.stack([estimates[place].vector for place, _ in batch])),
                    strength=_tensor(np.array([task.strength for task in mine], np.float32)),
                    project=_tensor(np.array([task.project and self.projects for task in mine], np.float32)),
                    grey=_tensor(np.array([task.pixels.shape[2] == 1 for task in mine], np.float32)),
                )
                # A GPU works on behind the call; only its pixels say that it is done, or that it could not.
                restored = np.asarray(answer["pixels"])
        except tf.errors.ResourceExhaustedError as error:
            raise MemoryError(str(error)) from error
        except tf.errors.OpError as error:
            raise RestorationError(str(error).partition("\n")[0]) from error
        if deep:
            restored = np.rint(np.clip(restored * 257, 0, 65535)).astype(np.uint16)
        return [pixels[..., : tile.pixels.shape[2]] for pixels, (_, tile) in zip(restored, batch, strict=True)]

    def _combine(self, class_logits: Array, regression_logits: Array, weights: Array) -> Estimate:
        # The mean of logits is the geometric mean of the tiles' opinions: one odd tile cannot outvote the others.
        raised = np.average(class_logits, axis=0, weights=weights)
        shares = np.exp(raised - raised.max())
        shares /= shares.sum()
        # The logistic function; as a hyperbolic tangent it cannot overflow.
        measures = 0.5 + 0.5 * np.tanh(0.5 * np.average(regression_logits, axis=0, weights=weights))
        names = self.contract.classes
        return Estimate(
            vector=np.concatenate([shares, measures]).astype(np.float32),
            classes={name: float(share) for name, share in zip(names, shares, strict=True)},
            quality=_QUALITY * float(measures[0]),
            noise=_NOISE * float(measures[1]),
            blur=_BLUR * float(measures[2]),
        )


def _tensor(values: Array) -> Any:
    import tensorflow as tf

    return tf.constant(values)


def _as_rgb(pixels: Array) -> Array:
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def _as_rgb8(pixels: Array) -> Array:
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return _as_rgb(pixels)


def _detail(piece: Array) -> float:
    """The weight of a piece's opinion: its mean step between neighbours. In a clear sky all harm looks alike."""
    green = _as_rgb8(piece)[..., 1].astype(np.float32)
    return float(np.abs(np.diff(green, axis=1)).mean()) + _NO_DETAIL


def sample_places(rows: int, cols: int) -> list[tuple[int, int, int, int]]:
    """Equal pieces of an image after `tiling.pad`, on the JPEG grid, in the middles of equal parts of it.

    Not in its corners: what a photograph is of, and sharp, is seldom there.

    Args:
        rows, cols: of the image before `tiling.pad`.

    Returns:
        Top, left, rows and columns of each.
    """
    rows, cols = rows + -rows % contract.STRIDE, cols + -cols % contract.STRIDE
    height, width = min(rows, SAMPLE_SIDE), min(cols, SAMPLE_SIDE)
    return [(top, left, height, width) for top in _spread(rows, height) for left in _spread(cols, width)]


def _spread(size: int, side: int) -> list[int]:
    number = _SAMPLES[size >= _LARGE]
    return sorted({(size - side) * (2 * i + 1) // (2 * number) // 8 * 8 for i in range(number)})
