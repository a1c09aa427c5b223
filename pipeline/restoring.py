"""The middle of the way: batches of images through the model. Knows pixels only."""

from __future__ import annotations

import dataclasses
import resource
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.ml.inference import base
from apache_beam.ml.inference.base import ModelHandler, RunInference

from model.busy import CLOCK
from model.device import AUTO
from model.restorer import Estimate, RestorationError, Restorer, Task
from pipeline import logs, models
from pipeline.elements import Damage, DeadLetter, Image, Look, Restoration
from pipeline.failures import NotRestorableError, Outcome

# Beam 2.77 loses this module where an optional one beside it cannot be imported, and then warns at every load.
base.resource = resource

_CERTAIN = 0.8
"""Probability from which the model's word that this is no photograph is taken."""


@dataclasses.dataclass(frozen=True)
class RestoreSettings:
    """How images are restored.

    Attributes:
        model: as in `models.folder_of`.
        digest: that the model's contract must have.
        strength: 0..1; how much of the model's change is applied.
        assume_quality: quality factor of the compression that harmed the images, 1..100, where it is known; None has
            the model estimate it.
        keep_above_quality: quality factor from which an image is already good, 1..101; 101 restores everything.
        batch_pixels: at most so many pixels in a batch, unless a single image has more.
        threads, accelerated: as in `model.device.prepare`.
        precision: one of `model.device.PRECISIONS`.
        scale: of the model; a batch is weighed by what comes out.
    """

    model: str
    digest: str
    strength: float = 1.0
    assume_quality: float | None = None
    keep_above_quality: float = 90.0
    batch_pixels: int = 4_000_000
    threads: int | None = None
    accelerated: bool = False
    precision: str = AUTO
    scale: int = 1

    def load(self) -> Restorer:
        """Loads the model in this process."""
        return Restorer.load(
            models.folder_of(self.model, self.digest),
            expected_digest=self.digest,
            threads=self.threads,
            accelerated=self.accelerated,
            precision=self.precision,
        )

    def told(self, estimate: Estimate, header_quality: int | None) -> Estimate:
        """What the decoder is told of an image: the model's estimate, or what is known of the damage in its place."""
        return estimate if self.assume_quality is None else estimate.assuming(self.assume_quality, header_quality)

    def look(self, estimate: Estimate, header_quality: int | None, task: str) -> Look:
        """What a model of that task sees of a page, and whether it is spared."""
        damage = damage_of(estimate, header_quality, task)
        spared = triage(damage, self.keep_above_quality, self.assume_quality, task)
        # What comes of no strength at all is known, unless it is another size.
        idle = self.strength == 0 and self.scale == 1
        return Look(damage, spared or ("gate-changed" if idle else None))


def damage_of(estimate: Estimate, header_quality: int | None, task: str = "jpeg") -> Damage:
    """What pixels and header together say of an image, by a model of that task."""
    knows_jpeg = task == "jpeg"
    return Damage(
        kind=estimate.kind,
        confidence=estimate.classes[estimate.kind],
        quality=estimate.quality if knows_jpeg else None,
        noise=estimate.noise,
        blur=estimate.blur,
        header_quality=header_quality,
        recompressed=knows_jpeg and estimate.contradicts(header_quality),
    )


def triage(
    damage: Damage, keep_above_quality: float, assume_quality: float | None = None, task: str = "jpeg"
) -> str | None:
    """Why a page is left alone, or None where there is something to restore.

    For a model that undoes JPEG the header is believed, better or worse than the pixels look (a smooth sky hides its
    compression from the estimate), unless they contradict it: then the file was compressed before, and they count.
    Above both stands what the user knows of the quality; that a picture is no photograph remains the model's word.

    A model of another task says whether the image is clean of what it takes away. Twice the size is what is wanted of
    every image.
    """
    if task == "x2":
        return None
    if damage.kind == "graphics" and damage.confidence >= _CERTAIN:
        return "graphics"
    if damage.quality is None:
        return "already-good" if damage.kind == "clean" and keep_above_quality <= 100 else None
    believed = damage.quality if damage.header_quality is None or damage.recompressed else damage.header_quality
    if assume_quality is not None:
        believed = assume_quality
    return "already-good" if believed >= keep_above_quality else None


class RestorationHandler(ModelHandler[Image, "Restoration | DeadLetter", Restorer]):
    """Lets `RunInference` restore batches of images of any sizes with one model per worker process.

    A batch on which the model fails is halved until the one image is found that it cannot restore: that one is a dead
    letter, the others are restored.

    Metrics, namespace `restore`: counters `pixels`, `images_spared`, `batches_bisected`, `busy_ms` and `wall_ms` (the
    time in the model, and all the time, of each process from when it has loaded the model); distributions
    `batch_pixels`, `batch_ms`.
    """

    def __init__(self, settings: RestoreSettings) -> None:
        super().__init__()
        self._settings = settings

    def load_model(self) -> Restorer:
        return self._settings.load()

    def batch_elements_kwargs(self) -> Mapping[str, Any]:
        # The two ends are equal because the weight of a batch is a matter of memory; a time to aim at would only blur
        # it.
        weight = self._settings.batch_pixels
        return {
            "min_batch_size": weight,
            "max_batch_size": weight,
            "element_size_fn": _PixelWeight(weight, self._settings.scale),
        }

    def run_inference(
        self, batch: Sequence[Image], model: Restorer, inference_args: dict[str, Any] | None = None
    ) -> Iterator[Restoration | DeadLetter]:
        Metrics.distribution("restore", "batch_pixels").update(sum(image.pixel_count for image in batch))
        began = time.monotonic()
        with logs.about(image=batch[0].ref.name if len(batch) == 1 else "", stage="restore"):
            results = list(self._restore(list(batch), model))
        Metrics.distribution("restore", "batch_ms").update(round(1000 * (time.monotonic() - began)))
        count_busy()
        yield from results

    def get_num_bytes(self, batch: Sequence[Image]) -> int:
        return sum(page.pixels.nbytes for image in batch for page in image.pages)

    def get_metrics_namespace(self) -> str:
        return "restore"

    def _restore(self, batch: list[Image], model: Restorer) -> Iterable[Restoration | DeadLetter]:
        try:
            return self._restore_together(batch, model)
        except RestorationError as error:
            if len(batch) == 1:
                return [DeadLetter(batch[0].ref, "restore", NotRestorableError.reason, str(error))]
        Metrics.counter("restore", "batches_bisected").inc()
        middle = len(batch) // 2
        return [*self._restore(batch[:middle], model), *self._restore(batch[middle:], model)]

    def _restore_together(self, batch: list[Image], model: Restorer) -> list[Restoration]:
        plans = [self._plan(image, model) for image in batch]
        restored = iter(model.restore([task for tasks in plans for _, task in tasks if task is not None]))
        results: list[Restoration] = []
        for image, plan in zip(batch, plans, strict=True):
            tasks = [task for _, task in plan if task is not None]
            pages = tuple(
                page.pixels if task is None else next(restored)
                for page, (_, task) in zip(image.pages, plan, strict=True)
            )
            looks = tuple(
                self._again(image, look, page.pixels, pixels, model)
                for page, pixels, (look, _) in zip(image.pages, pages, plan, strict=True)
            )
            bound = any(task.project and task.tables is not None for task in tasks)
            if not tasks:
                Metrics.counter("restore", "images_spared").inc()
            Metrics.counter("restore", "pixels").inc(sum(task.pixels[..., 0].size for task in tasks))
            results.append(
                Restoration(
                    image,
                    # Writing the same pixels again would only lose some of them.
                    pages if any(look.spared is None for look in looks) else (),
                    looks,
                    projected=bound and self._settings.strength > 0,
                    task=model.contract.task,
                    scale=model.scale,
                    device=model.device,
                )
            )
        return results

    def _plan(self, image: Image, model: Restorer) -> list[tuple[Look, Task | None]]:
        """What the model sees of each page, and the task that it is, if it is one."""
        settings = self._settings
        plan: list[tuple[Look, Task | None]] = []
        for page, estimate in zip(image.pages, model.estimate([page.pixels for page in image.pages]), strict=True):
            look = settings.look(estimate, image.header_quality, model.contract.task)
            told = settings.told(estimate, image.header_quality)
            task = Task(
                page.pixels,
                tables=image.quantization,
                estimate=told,
                strength=settings.strength,
                # The bins are those of the last compression: they would hold on to the harm of an earlier one.
                project=model.projects and not told.contradicts(image.header_quality),
            )
            plan.append((look, task if look.spared is None else None))
        return plan

    def _again(self, image: Image, look: Look, before: Any, after: Any, model: Restorer) -> Look:
        """The look at a page, with what the model sees of it now."""
        if look.spared is not None:
            return look
        if np.array_equal(before, after):
            return dataclasses.replace(look, spared="gate-changed")
        left = model.estimate([after])[0]
        return dataclasses.replace(look, remaining=damage_of(left, image.header_quality, model.contract.task))


def count_busy() -> None:
    """Adds to the counters of how busy this process is with the model."""
    for name, milliseconds in zip(("busy_ms", "wall_ms"), CLOCK.take(), strict=True):
        Metrics.counter("restore", name).inc(milliseconds)


@dataclasses.dataclass(frozen=True)
class _PixelWeight:
    """Weight of an image in a batch: its pixels as they come out.

    One larger than a whole batch counts as a full one, so that it goes alone.
    """

    most: int
    scale: int = 1

    def __call__(self, image: Image) -> int:
        return min(self.scale**2 * image.pixel_count, self.most)


class RestoreImages(beam.PTransform):
    """Images to restorations: `PCollection[Image]` -> `Outcome` of `Restoration`."""

    def __init__(self, settings: RestoreSettings) -> None:
        super().__init__()
        self._settings = settings

    def expand(self, images: beam.PCollection[Image]) -> Outcome:
        results = images | "Model" >> RunInference(RestorationHandler(self._settings))
        good, failed = results | "Split" >> beam.Partition(lambda result, _: int(isinstance(result, DeadLetter)), 2)
        return Outcome(good, failed)
