"""The gate: what may replace its input, and what every refusal is called."""

from __future__ import annotations

import dataclasses
import hashlib
import io
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.fft
from PIL import Image as PilImage

from model.degradation import compress
from pipeline.codec import Limits
from pipeline.elements import Damage, Encoded, File, Image, ImageRef, Look, Page, Restoration
from pipeline.judging import Gate, block_drift, judge, measure, outside_bins

Array = np.ndarray[Any, np.dtype[Any]]

DAMAGE = Damage("jpeg_15", 0.9, 20.0, 0.0, 0.0, 20, False)


def left(**changes: Any) -> Look:
    """A look at a page whose restored pixels show other damage."""
    return Look(DAMAGE, remaining=dataclasses.replace(DAMAGE, **changes))


IMPROVED = left(quality=60.0)


def encoded(decoded: Array, written: Array, tables: Array | None, **changes: Any) -> Encoded:
    data = decoded.tobytes()
    file = File(ImageRef("a.jpg", len(data), "1"), data, "", hashlib.sha256(data).hexdigest())
    image = Image(file, "jpeg", (Page(decoded),), quantization=tables, header_quality=20)
    values: dict[str, Any] = {"looks": (IMPROVED,), "projected": tables is not None, **changes}
    restoration = Restoration(image, (written,), **values)
    return Encoded(restoration, b"restored", "jpeg", "", (written,), ("thumbnail",))


@pytest.fixture(scope="module")
def pair(photo: Array) -> tuple[Array, Array]:
    grey = np.ascontiguousarray(photo[:200, :304, :1])
    decoded, tables = compress(grey[..., 0], 20)
    return decoded[..., None], tables


def blocks(plane: Array) -> Array:
    rows, cols = plane.shape
    cut = (plane.astype(np.float32) - 128).reshape(rows // 8, 8, cols // 8, 8).transpose(0, 2, 1, 3)
    return scipy.fft.dctn(cut, axes=(2, 3), norm="ortho")


def pixels_of(coefficients: Array) -> Array:
    rows, cols = coefficients.shape[:2]
    cut = scipy.fft.idctn(coefficients, axes=(2, 3), norm="ortho").transpose(0, 2, 1, 3)
    return np.clip(np.rint(cut.reshape(rows * 8, cols * 8) + 128), 0, 255).astype(np.uint8)[..., None]


def smoothed(decoded: Array, tables: Array) -> Array:
    """A mild deblocking whose luma is put back into the bins, in plain NumPy."""
    soft = cv2.GaussianBlur(decoded[..., 0].astype(np.float32), (0, 0), 0.6)
    middle = np.rint(blocks(decoded[..., 0]) / tables[0]) * tables[0]
    return pixels_of(np.clip(blocks(soft), middle - 0.375 * tables[0], middle + 0.375 * tables[0]))


def at_the_ends_of_the_bins(decoded: Array, tables: Array) -> Array:
    """A picture whose coefficients all lie where the projection stops: an eighth of a step from a bin's end."""
    middle = np.rint(blocks(decoded[..., 0]) / tables[0]) * tables[0]
    return pixels_of(middle + np.random.default_rng(1).choice([-0.375, 0.375], middle.shape) * tables[0])


def test_a_better_picture_in_its_bins_replaces_its_input(pair: tuple[Array, Array]) -> None:
    decoded, tables = pair

    judged = judge(encoded(decoded, smoothed(decoded, tables), tables), Gate())

    assert (judged.verdict.outcome, judged.verdict.reason) == ("restored", "improved")
    assert judged.data == b"restored"
    assert judged.not_kept == ("thumbnail",)
    after, before = judged.verdict.after.blockiness, judged.verdict.before.blockiness
    assert after is not None
    assert before is not None
    assert after < before


@pytest.mark.parametrize(
    ("written", "changes", "reason"),
    [
        (lambda d, t: d, {}, "gate-changed"),
        (lambda d, t: np.clip(d.astype(int) + 40, 0, 255).astype(np.uint8), {}, "gate-bins"),
        (lambda d, t: np.clip(d.astype(int) + 40, 0, 255).astype(np.uint8), {"projected": False}, "gate-drift"),
        (lambda d, t: compress(d[..., 0], 20)[0][..., None] ^ np.uint8(1), {"looks": (left(),)}, None),
        (lambda d, t: smoothed(d, t), {"looks": (left(quality=5.0),)}, "gate-quality"),
        (
            lambda d, t: smoothed(d, t),
            {"looks": (left(quality=5.0, kind="double_jpeg"),)},
            None,
        ),
    ],
)
def test_each_harm_has_a_name_and_keeps_the_original(
    pair: tuple[Array, Array], written: Any, changes: dict[str, Any], reason: str | None
) -> None:
    decoded, tables = pair

    judged = judge(encoded(decoded, written(decoded, tables), tables, **changes), Gate())

    if reason is None:
        assert judged.verdict.outcome in ("restored", "kept")
        return
    assert (judged.verdict.outcome, judged.verdict.reason) == ("kept", reason)
    assert judged.data == decoded.tobytes()
    assert judged.not_kept == ()


def test_a_picture_with_a_new_grid_is_refused(pair: tuple[Array, Array]) -> None:
    decoded, tables = pair
    rows, cols = np.mgrid[0 : decoded.shape[0], 0 : decoded.shape[1]]
    checked = 40 * ((rows // 8 + cols // 8) % 2)[..., None]
    blocky = np.clip(decoded.astype(int) + checked, 0, 255).astype(np.uint8)

    judged = judge(encoded(decoded, blocky, tables, projected=False), Gate(drift=100))

    assert judged.verdict.reason == "gate-blockiness"


def test_a_reference_that_says_worse_is_believed(pair: tuple[Array, Array]) -> None:
    decoded, tables = pair
    restored = smoothed(decoded, tables)

    worse = judge(encoded(decoded, restored, tables), Gate(), lambda name: decoded)
    better = judge(encoded(decoded, restored, tables), Gate(), lambda name: restored)

    assert worse.verdict.reason == "gate-psnr"
    assert better.verdict.outcome == "restored"
    assert better.verdict.after.psnr == 100.0
    assert better.verdict.after.ssim == pytest.approx(1)


def test_a_spared_image_is_kept_with_its_reason_and_bytes(pair: tuple[Array, Array]) -> None:
    decoded, tables = pair
    good = (Look(DAMAGE, spared="already-good"),)
    spared = dataclasses.replace(encoded(decoded, decoded, tables, looks=good), data=b"", pages=())

    judged = judge(spared, Gate())

    assert (judged.verdict.outcome, judged.verdict.reason) == ("kept", "already-good")
    assert judged.data == decoded.tobytes()


def test_the_outside_share_counts_coefficients_one_unit_beyond_their_bin() -> None:
    flat = np.full((8, 16, 1), 128, np.uint8)
    moved = flat.copy()
    moved[:, 8:] += 3  # the DC of the second block moves by 24 units
    steps = np.full((8, 8), 40)

    assert outside_bins(moved, flat, steps) == 1 / 128
    assert outside_bins(moved, flat, np.full((8, 8), 46)) == 0
    assert outside_bins(flat[:4], flat[:4], steps) == 0


def test_drift_is_in_grey_levels_at_any_depth(pair: tuple[Array, Array]) -> None:
    decoded, _ = pair
    moved = decoded // 2 + 50

    assert block_drift(decoded // 2 + 52, moved) == pytest.approx(2, abs=1e-3)
    deep = (moved.astype(np.uint16) * 257, (moved.astype(np.uint16) + 2) * 257)
    assert block_drift(deep[1], deep[0]) == pytest.approx(2, abs=1e-3)


def test_a_reference_of_another_size_is_not_compared(pair: tuple[Array, Array]) -> None:
    decoded, _ = pair

    assert measure(decoded, decoded[:8], 50.0).psnr is None
    assert measure(decoded, decoded, None).quality is None


@pytest.mark.parametrize("quality", [75, 88])
def test_writing_a_jpeg_again_leaves_its_coefficients_in_their_bins(pair: tuple[Array, Array], quality: int) -> None:
    """What is written lies in its bins up to the margin: what falls out is the writer's doing alone."""
    from pipeline.codec import decode, jpeg_quality
    from pipeline.codec.transforms import encode_restoration

    plane = pair[0][..., 0]
    buffer = io.BytesIO()
    PilImage.fromarray(plane).save(buffer, "JPEG", quality=quality)
    data = buffer.getvalue()
    file = File(ImageRef("a.jpg", len(data), "1"), data, "", "")
    image = decode(file, Limits(max_bytes=10**6, max_pixels=10**6))
    assert jpeg_quality(image.quantization) == quality
    assert image.quantization is not None

    restored = at_the_ends_of_the_bins(image.pages[0].pixels, image.quantization)
    written = encode_restoration(Restoration(image, (restored,), (Look(DAMAGE),)), "same").pages[0]

    assert outside_bins(written, image.pages[0].pixels, image.quantization[0]) <= Gate().outside_bins


def told(task: str, **changes: Any) -> dict[str, Any]:
    """Of a restoration by a model that knows no JPEG."""
    return {"projected": False, "task": task, "looks": (left(quality=None, **changes),)}


def test_bins_that_do_not_bind_are_told_and_drift_is_held(pair: tuple[Array, Array]) -> None:
    decoded, tables = pair
    sharper = np.clip(decoded.astype(int) * 2 - cv2.GaussianBlur(decoded, (0, 0), 2)[..., None], 0, 255)

    judged = judge(
        encoded(decoded, sharper.astype(np.uint8), tables, **told("deblur")), Gate(blockiness_hidden=9, drift=9)
    )

    checks = {check.name: check for check in judged.verdict.gate}
    assert judged.verdict.outcome == "restored"
    assert checks["bins"].value > Gate().outside_bins
    assert (checks["bins"].limit, checks["drift"].limit) == (1.0, 9)
    assert "quality" not in checks


def test_noise_and_blur_that_a_model_takes_away_may_move_block_means(pair: tuple[Array, Array]) -> None:
    decoded, tables = pair
    drifted = np.clip(decoded.astype(int) + 5, 0, 255).astype(np.uint8)

    def reason(task: str, **damage: Any) -> str:
        image = encoded(decoded, drifted, tables, **told(task))
        (look,) = image.restoration.looks
        harmed = dataclasses.replace(look, damage=dataclasses.replace(look.damage, quality=None, **damage))
        restoration = dataclasses.replace(image.restoration, looks=(harmed,))
        return judge(dataclasses.replace(image, restoration=restoration), Gate(blockiness_hidden=9)).verdict.reason

    assert Gate().of("denoise", DAMAGE).blockiness == Gate().of("deblur", DAMAGE).blockiness == 0.1
    assert Gate().of("x2", DAMAGE) == Gate().of("jpeg", DAMAGE) == Gate()
    assert reason("denoise", noise=2.0) == "gate-drift"
    assert reason("denoise", noise=25.0) == "improved"
    assert reason("deblur", blur=0.5) == "gate-drift"
    assert reason("deblur", blur=1.5) == "improved"


@pytest.mark.parametrize(("task", "change"), [("denoise", {"noise": 1.5}), ("deblur", {"blur": 0.2})])
def test_more_of_what_a_model_takes_away_is_refused(
    pair: tuple[Array, Array], task: str, change: dict[str, float]
) -> None:
    decoded, tables = pair

    judged = judge(encoded(decoded, smoothed(decoded, tables), tables, **told(task, **change)), Gate())

    assert judged.verdict.reason == f"gate-{next(iter(change))}"


def test_twice_the_size_is_judged_at_the_size_of_the_source(pair: tuple[Array, Array]) -> None:
    decoded, tables = pair
    larger = cv2.resize(decoded, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)[..., None]
    references = {"a.jpg": larger}

    good = judge(encoded(decoded, larger, tables, **told("x2"), scale=2), Gate(), references.get)
    dark = judge(encoded(decoded, larger // 2, tables, **told("x2"), scale=2), Gate())

    assert good.verdict.reason == "improved"
    assert [check.name for check in good.verdict.gate] == ["drift", "blockiness", "psnr"]
    assert good.size == (304, 200, 1)
    assert good.verdict.after.psnr == good.verdict.before.psnr == 100.0  # the source is held enlarged, as that is
    assert dark.verdict.reason == "gate-drift"


def pages(decoded: list[Array], written: list[Array], looks: list[Look]) -> Encoded:
    """A TIFF of several pages."""
    first = encoded(decoded[0], written[0], None)
    image = dataclasses.replace(first.restoration.image, pages=tuple(map(Page, decoded)))
    restoration = dataclasses.replace(first.restoration, image=image, pages=tuple(written), looks=tuple(looks))
    return dataclasses.replace(first, restoration=restoration, pages=tuple(written))


def test_one_page_that_fails_keeps_the_whole_file(pair: tuple[Array, Array]) -> None:
    decoded, tables = pair
    soft = smoothed(decoded, tables)

    def reason(written: list[Array], looks: list[Look]) -> str:
        return judge(pages([decoded, decoded], written, looks), Gate()).verdict.reason

    assert reason([soft, soft], [IMPROVED, IMPROVED]) == "improved"
    assert reason([soft, soft], [IMPROVED, left(quality=10.0)]) == "gate-quality"
    assert (
        reason([soft, np.clip(decoded.astype(int) + 5, 0, 255).astype(np.uint8)], [IMPROVED, IMPROVED]) == "gate-drift"
    )
    blocky = judge(pages([soft, soft], [soft, decoded], [IMPROVED, IMPROVED]), Gate()).verdict
    assert blocky.reason == "gate-blockiness"
    assert [check.name for check in blocky.gate] == ["changed", "drift", "blockiness", "quality"]


def test_the_first_page_that_was_restored_speaks_for_the_file(pair: tuple[Array, Array]) -> None:
    decoded, tables = pair
    soft = smoothed(decoded, tables)
    text = Look(dataclasses.replace(DAMAGE, kind="graphics"), spared="graphics")

    verdict = judge(pages([soft, decoded], [soft, soft], [text, IMPROVED]), Gate()).verdict

    assert (verdict.outcome, verdict.damage) == ("restored", DAMAGE)
    assert verdict.before == measure(decoded, None, 20.0)
    assert verdict.after == measure(soft, None, 60.0)
