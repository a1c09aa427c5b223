"""Batches of degraded patches, a function of the seed and the step alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import cv2
import keras
import numpy as np

from model.degradation import Degrading, Sample
from model.photos import Photo

Array = np.ndarray[Any, np.dtype[Any]]

_FLAT = 2.0
"""Standard deviation in grey levels below which a region is flat and mostly not worth a place in a batch."""

_MOST_REDUCED = 3.0
"""Photographs that are scaled down are so by a factor of 1 to this, evenly in its logarithm."""


class DegradedPatches(keras.utils.PyDataset):
    """Steps `first .. first + steps` of an endless row of batches.

    The batch of a step depends on seed and step only, so a run that goes on at step n sees what it would have seen.

    Args:
        photos: pristine pictures; those smaller than a region are enlarged by reflection when they are drawn.
        degradation: how often what is done to a patch.
        patch: side of a patch in pixels, a multiple of 8.
        batch: patches in a batch.
        seed: of all chance.
        first: the first step.
        steps: so many batches.
        drop_tables: share of samples whose header is hidden from the network.
        reduced: share of patches from photographs scaled down, by up to `_MOST_REDUCED`: small pictures hold more
            detail to a pixel than what cameras write.

    Items:
        A dictionary of `degraded`, `(batch, patch, patch, 3)` uint8; `pristine`, the same, or larger by the task's
        scale; `tables`, `(batch, 2, 8, 8)` float32; `truth`, `(batch, ESTIMATE_SIZE)` float32; `bound`, `(batch,)`
        float32, see `Sample`; `told`, `(batch, 1)` float32: 1 where the decoder is told the truth rather than the
        head's own estimate.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        degradation: Degrading,
        *,
        patch: int,
        batch: int,
        seed: int,
        first: int = 0,
        steps: int = 1,
        drop_tables: float = 0.3,
        reduced: float = 0.0,
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=4)
        if patch % 8 or patch < 8:
            raise ValueError(f"patch must be a positive multiple of 8, got {patch}")
        self._side = degradation.region_side(patch)
        self._photos = photos
        areas = np.array([math.prod(np.maximum(photo.pixels.shape[:2], self._side)) for photo in photos], np.float64)
        self._shares = np.cumsum(areas / areas.sum())
        self._degradation = degradation
        self._batch, self._seed, self._first, self._steps = batch, seed, first, steps
        self._drop_tables, self._reduced = drop_tables, reduced

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, index: int) -> dict[str, Array]:
        step = self._first + index
        samples, told = [], np.zeros((self._batch, 1), np.float32)
        for place in range(self._batch):
            rng = np.random.Generator(np.random.Philox(key=[self._seed, (step << 16) + place]))
            sample = self._draw(rng)
            told[place] = rng.random() < 0.5
            if rng.random() < self._drop_tables:
                sample = dataclasses.replace(sample, tables=np.zeros_like(sample.tables))
            samples.append(sample)
        names = [field.name for field in dataclasses.fields(Sample)]
        return {name: np.stack([getattr(sample, name) for sample in samples]) for name in names} | {"told": told}

    def _draw(self, rng: np.random.Generator) -> Sample:
        for attempt in range(2):
            place = min(int(np.searchsorted(self._shares, rng.random())), len(self._photos) - 1)
            photo = _at_least(self._photos[place], self._side)
            rows, cols = photo.pixels.shape[:2]
            side = self._side
            if self._reduced and rng.random() < self._reduced:
                side = min(round(side * _MOST_REDUCED ** rng.random()), rows, cols)
            top, left = int(rng.integers(rows - side + 1)), int(rng.integers(cols - side + 1))
            region = photo.pixels[top : top + side, left : left + side]
            if side != self._side:
                region = cv2.resize(region, (self._side, self._side), interpolation=cv2.INTER_AREA)
            # A flat region teaches little: half of them are drawn again.
            if attempt or region[..., 1].std() >= _FLAT or rng.random() < 0.5:
                break
        if rng.random() < 0.5:
            region = region[:, ::-1]
        if rng.random() < 0.5:
            region = region.transpose(1, 0, 2)
        return self._degradation.degrade(np.ascontiguousarray(region), rng, graphics=photo.graphics)


def _at_least(photo: Photo, side: int) -> Photo:
    rows, cols = photo.pixels.shape[:2]
    if rows >= side and cols >= side:
        return photo
    missing = ((0, max(0, side - rows)), (0, max(0, side - cols)), (0, 0))
    return dataclasses.replace(photo, pixels=np.pad(photo.pixels, missing, mode="symmetric"))
