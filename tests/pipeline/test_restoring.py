"""Batches through the model: what is restored, what is spared, and what a broken image costs."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from model import contract
from model.degradation import compress
from model.restorer import RestorationError, Restorer
from pipeline.elements import Damage, DeadLetter, File, Image, ImageRef, Page, Restoration
from pipeline.restoring import RestorationHandler, RestoreImages, RestoreSettings, damage_of, triage

Array = np.ndarray[Any, np.dtype[Any]]


def image(name: str, pixels: Array, tables: Array | None = None, quality: int | None = None) -> Image:
    data = pixels.tobytes()
    file = File(ImageRef(name, len(data), "1"), data, "", hashlib.sha256(data).hexdigest())
    return Image(file, "jpeg", (Page(pixels),), quantization=tables, header_quality=quality)


@pytest.fixture(scope="module")
def settings(tiny_model: Path) -> RestoreSettings:
    # The tiny model's estimate is noise: nothing may be spared by it.
    return RestoreSettings(str(tiny_model), contract.read(tiny_model).digest, keep_above_quality=101)


@pytest.fixture(scope="module")
def restorer(tiny_model: Path) -> Restorer:
    return Restorer.load(tiny_model, precision="float32")


DAMAGE = Damage("jpeg_35", 0.6, 40.0, 1.0, 0.1, None, False)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, None),
        ({"quality": 95.0}, "already-good"),
        ({"quality": 95.0, "header_quality": 30}, None),
        ({"quality": 88.0, "header_quality": 96}, "already-good"),
        ({"quality": 30.0, "header_quality": 96, "recompressed": True}, None),
        ({"kind": "graphics", "confidence": 0.9}, "graphics"),
        ({"kind": "graphics", "confidence": 0.5}, None),
        ({"kind": "clean", "confidence": 0.9, "quality": 97.0}, "already-good"),
    ],
)
def test_triage_believes_the_worse_of_header_and_pixels(change: dict[str, Any], expected: str | None) -> None:
    assert triage(dataclasses.replace(DAMAGE, **change), 90) == expected


@pytest.mark.parametrize(
    ("change", "assumed", "expected"),
    [
        ({"quality": 95.0, "header_quality": 95}, 30, None),
        ({"quality": 30.0, "header_quality": 30}, 95, "already-good"),
        ({"kind": "graphics", "confidence": 0.9}, 30, "graphics"),
    ],
)
def test_triage_believes_what_is_known_of_the_quality_first(
    change: dict[str, Any], assumed: float, expected: str | None
) -> None:
    assert triage(dataclasses.replace(DAMAGE, **change), 90, assumed) == expected


def test_what_is_known_of_the_quality_is_what_the_decoder_hears_and_not_what_is_measured(
    settings: RestoreSettings, restorer: Restorer, photo: Array
) -> None:
    decoded, tables = compress(photo, 75)
    picture = image("a", decoded, tables, 75)

    own, same, twice = (
        next(
            iter(
                RestorationHandler(dataclasses.replace(settings, assume_quality=quality)).run_inference(
                    [picture], restorer
                )
            )
        )
        for quality in (None, 75, 30)
    )

    assert isinstance(own, Restoration)
    assert isinstance(same, Restoration)
    assert isinstance(twice, Restoration)
    assert own.looks[0].damage == same.looks[0].damage == twice.looks[0].damage
    assert (own.pages[0] != same.pages[0]).any()
    # So far below the header the file was compressed before: the bins of the last time would hold on to that harm.
    assert same.projected
    assert not twice.projected


def test_mixed_images_come_back_restored_with_their_own_shape(settings: RestoreSettings, photo: Array) -> None:
    decoded, tables = compress(photo, 20)
    images = [
        image("a", decoded, tables, 20),
        image("grey", decoded[:50, :70, :1].copy()),
        image("dot", decoded[:1, :1].copy()),
        image("deep", decoded[:64, :64].astype(np.uint16) * 257),
    ]

    with TestPipeline(runner=FnApiRunner()) as root:
        results = root | beam.Create(images) | RestoreImages(settings)
        shapes = results.good | beam.Map(lambda r: (r.ref.name, r.pages[0].shape, str(r.pages[0].dtype), r.projected))
        assert_that(
            shapes,
            equal_to(
                [
                    ("a", (203, 317, 3), "uint8", True),
                    ("grey", (50, 70, 1), "uint8", False),
                    ("dot", (1, 1, 3), "uint8", False),
                    ("deep", (64, 64, 3), "uint16", False),
                ]
            ),
            label="good",
        )
        assert_that(results.failed, equal_to([]), label="failed")


def test_one_image_that_breaks_the_batch_is_the_only_dead_letter(
    settings: RestoreSettings, restorer: Restorer, photo: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [image(f"{i}", np.ascontiguousarray(photo[: 16 + i, :24])) for i in range(7)]
    restore, poison = Restorer.restore, images[4].pages[0].pixels.shape

    def brittle(self: Restorer, tasks: Any) -> Any:
        if any(task.pixels.shape == poison for task in tasks):
            raise RestorationError("the device gave up")
        return restore(self, tasks)

    monkeypatch.setattr(Restorer, "restore", brittle)

    results = list(RestorationHandler(settings).run_inference(images, restorer))

    dead = [result for result in results if isinstance(result, DeadLetter)]
    assert [(d.ref.name, d.stage, d.reason, d.detail) for d in dead] == [
        ("4", "restore", "not-restorable", "the device gave up")
    ]
    alive = [result for result in results if isinstance(result, Restoration)]
    assert sorted(r.ref.name for r in alive) == ["0", "1", "2", "3", "5", "6"]
    assert all(r.pages[0].shape == r.image.pages[0].pixels.shape for r in alive)


def test_a_mistake_of_ours_is_no_dead_letter(
    settings: RestoreSettings, restorer: Restorer, photo: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(self: Restorer, tasks: Any) -> Any:
        raise TypeError("ours")

    monkeypatch.setattr(Restorer, "restore", wrong)

    with pytest.raises(TypeError, match="ours"):
        list(RestorationHandler(settings).run_inference([image("a", photo)], restorer))


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_what_the_model_gives_back_unchanged_is_kept_as_it_came(
    settings: RestoreSettings, restorer: Restorer, photo: Array, monkeypatch: pytest.MonkeyPatch, strength: float
) -> None:
    """Encoding the same pixels once more would write them a little worse, and call that restored."""
    idle = dataclasses.replace(settings, strength=strength)
    if strength:
        monkeypatch.setattr(Restorer, "restore", lambda _, tasks: [task.pixels for task in tasks])

    (restoration,) = RestorationHandler(idle).run_inference([image("a", photo)], restorer)

    assert isinstance(restoration, Restoration)
    assert restoration.pages == ()
    assert [look.spared for look in restoration.looks] == ["gate-changed"]


def test_spared_images_cost_no_restoration(settings: RestoreSettings, restorer: Restorer, photo: Array) -> None:
    spare_all = dataclasses.replace(settings, keep_above_quality=0)

    (spared,) = RestorationHandler(spare_all).run_inference([image("a", photo)], restorer)

    assert isinstance(spared, Restoration)
    assert spared.pages == ()
    assert spared.looks[0].spared in ("already-good", "graphics")
    assert spared.looks[0].remaining is None


def test_a_page_of_text_among_photographs_stays_as_it_is(
    settings: RestoreSettings, restorer: Restorer, photo: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = np.full((40, 60, 3), 255, np.uint8)
    file = dataclasses.replace(image("scan.tif", photo), pages=(Page(text), Page(photo), Page(text)))
    real = Restorer.estimate

    def knows_text(self: Restorer, images: Any) -> Any:
        return [
            dataclasses.replace(
                found, classes={**dict.fromkeys(found.classes, 0.0), ("graphics" if pixels is text else "jpeg_35"): 1.0}
            )
            for found, pixels in zip(real(self, images), images, strict=True)
        ]

    monkeypatch.setattr(Restorer, "estimate", knows_text)

    (restoration,) = RestorationHandler(settings).run_inference([file], restorer)

    assert isinstance(restoration, Restoration)
    assert [look.spared for look in restoration.looks] == ["graphics", None, "graphics"]
    assert [look.remaining is None for look in restoration.looks] == [True, False, True]
    assert [
        bool((page == source.pixels).all()) for page, source in zip(restoration.pages, file.pages, strict=True)
    ] == [
        True,
        False,
        True,
    ]


def test_batches_are_weighed_in_pixels(settings: RestoreSettings, photo: Array) -> None:
    handler = RestorationHandler(dataclasses.replace(settings, batch_pixels=1000))
    options = handler.batch_elements_kwargs()
    images = [image(str(i), np.ascontiguousarray(photo[:20, :20])) for i in range(5)] + [image("large", photo)]

    with TestPipeline(runner=FnApiRunner()) as root:
        # One element of one collection: all of it is one bundle, batched in order.
        sizes = (
            root
            | beam.Create([images])
            | beam.FlatMap(lambda all_of_them: all_of_them)
            | beam.BatchElements(**options)
            | beam.Map(lambda batch: [i.ref.name for i in batch])
        )
        assert_that(sizes, equal_to([["0", "1"], ["2", "3"], ["4"], ["large"]]))


def test_a_recompressed_file_is_not_bound_to_the_bins_of_its_last_compression(
    settings: RestoreSettings, restorer: Restorer, photo: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, tables = compress(photo, 75)
    estimate = dataclasses.replace(restorer.estimate([decoded])[0], quality=20.0)
    monkeypatch.setattr(Restorer, "estimate", lambda self, images: [estimate for _ in images])

    results = RestorationHandler(settings).run_inference([image("twice", decoded, tables, 75)], restorer)

    (result,) = results
    assert isinstance(result, Restoration)
    assert result.looks[0].damage.recompressed
    assert not result.projected


@pytest.mark.parametrize(
    ("task", "change", "above", "expected"),
    [
        ("denoise", {"kind": "clean"}, 90, "already-good"),
        ("denoise", {"kind": "clean"}, 101, None),
        ("denoise", {"kind": "noise", "header_quality": 99}, 90, None),
        ("deblur", {"kind": "blur"}, 90, None),
        ("deblur", {"kind": "graphics", "confidence": 0.9}, 90, "graphics"),
        ("x2", {"kind": "clean"}, 90, None),
        ("x2", {"kind": "graphics", "confidence": 0.9}, 90, None),
    ],
)
def test_triage_asks_a_model_of_another_task_for_what_it_takes_away(
    task: str, change: dict[str, Any], above: float, expected: str | None
) -> None:
    damage = dataclasses.replace(DAMAGE, quality=None, **change)

    assert triage(damage, above, task=task) == expected


def test_a_model_that_does_not_undo_jpeg_speaks_of_no_quality_and_no_recompression(restorer: Restorer) -> None:
    estimate = dataclasses.replace(restorer.estimate([np.zeros((8, 8, 3), np.uint8)])[0], quality=5.0)

    mine, others = damage_of(estimate, 95), damage_of(estimate, 95, "denoise")

    assert (mine.quality, mine.recompressed) == (5.0, True)
    assert (others.quality, others.recompressed, others.header_quality) == (None, False, 95)


def test_twice_the_size_comes_out_and_weighs_four_times_as_much(tiny_x2_model: Path, photo: Array) -> None:
    digest = contract.read(tiny_x2_model).digest
    settings = RestoreSettings(str(tiny_x2_model), digest, batch_pixels=1000, scale=2)
    handler = RestorationHandler(settings)
    small, large = image("s", photo[:8, :8].copy()), image("l", photo[:40, :40].copy())

    (result,) = handler.run_inference([large], handler.load_model())

    assert isinstance(result, Restoration)
    assert (result.task, result.scale, result.projected) == ("x2", 2, False)
    assert result.pages[0].shape == (80, 80, 3)
    weigh = handler.batch_elements_kwargs()["element_size_fn"]
    assert (weigh(small), weigh(large)) == (256, 1000)
