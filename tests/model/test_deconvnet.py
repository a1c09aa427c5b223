"""The network: identity at first, its reach, its cost, and that it sees what it is told."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from model import contract, deconvnet, exporting, jpeg
from model.contract import STRIDE
from model.deconvnet import CLASSES, ESTIMATE_SIZE, DeconvNet
from model.size import SIZES, DeconvNetConfig

Array = np.ndarray[Any, np.dtype[Any]]

TINY = DeconvNetConfig((4, 6, 8), (1, 1, 1, 1, 1), head=4)
DOUBLE = dataclasses.replace(TINY, scale=2)
APART = dataclasses.replace(TINY, chroma=(3, 4, 5))
LEAKY = dataclasses.replace(APART, leaky=True)


@pytest.fixture(scope="module")
def network() -> DeconvNet:
    """With every weight drawn at random, so that nothing hides behind a zero."""
    return drawn(TINY)


def drawn(config: DeconvNetConfig) -> DeconvNet:
    found = deconvnet.build(config)
    rng = np.random.default_rng(0)
    found.set_weights([rng.normal(0, 0.25, w.shape) for w in found.get_weights()])
    return found


def estimates(number: int = 1) -> Array:
    return np.random.default_rng(1).uniform(0, 1, (number, ESTIMATE_SIZE)).astype(np.float32)


def residual(network: DeconvNet, ycc: Array, estimate: Array | None = None, tables: Array | None = None) -> Array:
    estimate = estimates(len(ycc)) if estimate is None else estimate
    tables = np.zeros((len(ycc), 2, 8, 8), np.float32) if tables is None else tables
    return np.asarray(ops.convert_to_numpy(network(ycc, estimate, tables)))


def noise(rows: int, cols: int, number: int = 1) -> Array:
    return np.random.default_rng(2).uniform(-100, 100, (number, rows, cols, 3)).astype(np.float32)


@pytest.mark.parametrize("config", [TINY, DOUBLE, APART, LEAKY])
def test_a_new_network_adds_nothing(config: DeconvNetConfig) -> None:
    assert not residual(deconvnet.build(config), noise(16, 24)).any()


def test_the_residual_has_the_shape_of_the_pixels(network: DeconvNet) -> None:
    assert residual(network, noise(16, 40, 3)).shape == (3, 16, 40, 3)


def test_a_network_of_scale_2_gives_twice_the_size() -> None:
    network = drawn(DOUBLE)

    assert residual(network, noise(16, 40, 3)).shape == network.base(noise(16, 40, 3)).shape == (3, 32, 80, 3)


def test_what_came_later_changes_nothing_of_what_models_and_runs_go_by() -> None:
    """Files of weights go by the order of variables, checkpoints by the recipe's digest, contracts by their fields."""
    assert DeconvNetConfig.from_json({"channels": [4, 6, 8], "blocks": [1, 1, 1, 1, 1], "head": 4}) == TINY
    assert TINY.to_json().keys() == {"channels", "blocks", "head"}
    shapes = [tuple(v.shape) for v in deconvnet.build(TINY).variables]
    assert [tuple(v.shape) for v in deconvnet.build(DOUBLE).variables if "fine" not in v.path][: len(shapes)] == shapes
    network, agreed = exporting.load_network(contract.built_in())
    assert (agreed.scale, network.config) == (1, SIZES["S"])


@pytest.mark.parametrize("config", [TINY, DOUBLE, APART, LEAKY])
def test_a_pixel_reaches_no_farther_than_the_radius(config: DeconvNetConfig) -> None:
    network, side = drawn(config), 2 * config.halo + 24
    for place in (side // 2, side // 2 + 5):
        black = np.zeros((1, side, side, 3), np.float32)
        dotted = black.copy()
        dotted[0, place, place] = 1000

        changed = np.argwhere((residual(network, black) != residual(network, dotted)).any(axis=-1)[0])

        reach = int(np.abs(changed // config.scale - place).max())
        assert config.radius // 2 < reach <= config.radius


def test_a_photograph_and_its_grey_version_have_the_same_luma_restored() -> None:
    network, coloured = drawn(APART), noise(16, 24)
    grey = coloured * np.array([1, 0, 0], np.float32)

    luma, chroma = np.split(residual(network, coloured), [1], axis=-1)

    np.testing.assert_array_equal(luma, residual(network, grey)[..., :1])
    assert np.abs(chroma - residual(network, grey)[..., 1:]).max() > 1


def test_chroma_that_nobody_wants_is_not_worked_out() -> None:
    network, ycc = drawn(APART), noise(16, 24)
    luma = residual(network, ycc)[..., 0]
    for variable in network.chroma.weights:
        variable.assign(np.full(variable.shape, np.nan))

    spared = network(ycc, estimates(), np.zeros((1, 2, 8, 8), np.float32), coloured=False)

    assert np.isnan(residual(network, ycc)[..., 1:]).all()
    np.testing.assert_array_equal(np.asarray(spared)[..., 0], luma)
    assert not np.asarray(spared)[..., 1:].any()


def test_bins_are_not_looked_for_where_no_file_has_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "project", lambda luma, *_, **__: np.nan * luma)
    network, pixels, one = drawn(APART), noise(16, 24, 2) + 100, np.ones(2, np.float32)

    def restored(project: Array, strength: Array = one) -> Array:
        tables = np.full((2, 2, 8, 8), 9, np.float32)
        return np.asarray(exporting.restore(network, pixels, tables, estimates(2), strength, project, 0 * one))

    assert np.isfinite(restored(0 * one)).all()
    assert np.isfinite(restored(one, strength=0 * one)).all()
    assert np.isnan(restored(np.array([0, 1], np.float32))).any()


def test_chroma_is_led_by_luma() -> None:
    network, coloured = drawn(APART), noise(16, 24)

    other = residual(network, coloured * np.array([0.5, 1, 1], np.float32))

    assert np.abs(other - residual(network, coloured))[..., 1:].max() > 1


def test_an_image_restores_alike_alone_and_in_a_batch(network: DeconvNet) -> None:
    batch, told = noise(16, 16, 4), estimates(4)

    together = residual(network, batch, told)
    alone = np.concatenate([residual(network, batch[i : i + 1], told[i : i + 1]) for i in range(4)])

    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("what", ["estimate", "tables"])
def test_the_decoder_hears_the_estimate_and_the_tables(network: DeconvNet, what: str) -> None:
    ycc, told = noise(16, 16), {"estimate": estimates(), "tables": np.full((1, 2, 8, 8), 8, np.float32)}

    before = residual(network, ycc, **told)
    told[what] = told[what] * 2

    assert np.abs(residual(network, ycc, **told) - before).max() > 1e-3


def test_an_estimate_holds_probabilities_and_shares(network: DeconvNet) -> None:
    logits = network.logits(noise(16, 16, 2), network.encode(noise(16, 16, 2)))

    estimate = ops.convert_to_numpy(deconvnet.estimate_of(*logits))

    assert estimate.shape == (2, ESTIMATE_SIZE)
    np.testing.assert_allclose(estimate[:, : len(CLASSES)].sum(axis=1), 1, rtol=1e-5)
    assert ((estimate >= 0) & (estimate <= 1)).all()


def test_without_jpeg_other_harm_stays() -> None:
    """Half a double JPEG, half noise, at quality 20: half clean, half noise, at quality 100."""
    estimate = np.zeros((1, ESTIMATE_SIZE), np.float32)
    estimate[0, [CLASSES.index("double_jpeg"), CLASSES.index("noise")]] = 0.5
    estimate[0, len(CLASSES) :] = 0.2, 0.4, 0.1

    left = ops.convert_to_numpy(deconvnet.without_jpeg(estimate))[0]

    expected = {"clean": 0.5, "noise": 0.5}
    np.testing.assert_allclose(left[: len(CLASSES)], [expected.get(name, 0) for name in CLASSES])
    np.testing.assert_allclose(left[len(CLASSES) :], [1, 0.4, 0.1])


def test_the_grid_is_seen_in_phase(network: DeconvNet) -> None:
    """Moved by a block, the residual moves along; moved by less, it is another one."""
    wide = np.zeros((1, 96, 160, 3), np.float32)
    wide[0, 40:48, 64:72] = noise(8, 8)[0]

    moved = {shift: residual(network, np.roll(wide, shift, axis=2)) for shift in (0, 8, 4)}

    middle = np.s_[0, 30:60, 56:96]
    back = {shift: np.roll(values, -shift, axis=2)[middle] for shift, values in moved.items()}
    np.testing.assert_allclose(back[8], back[0], rtol=1e-3, atol=1e-2)
    assert np.abs(back[4] - back[0]).max() > 0.1


@pytest.mark.parametrize(("name", "macs", "parameters"), [("S", 20e3, 0.6e6), ("M", 100e3, 2.5e6), ("L", 320e3, 10e6)])
def test_a_size_costs_no_more_than_it_may(name: str, macs: float, parameters: float) -> None:
    assert SIZES[name].macs_per_pixel <= macs
    assert deconvnet.build(SIZES[name]).count_params() <= parameters


@pytest.mark.parametrize("config", [TINY, DOUBLE, APART, LEAKY])
def test_the_cost_is_that_of_the_convolutions(config: DeconvNetConfig) -> None:
    """Counted over the layers: taps times channels, at the resolution where they are taken."""
    network = deconvnet.build(config)
    half = "stem enc1 dec1 tail chroma/from_half chroma/tail"
    quarter = "down1 enc2 dec2 up1 chroma/stem chroma/from_quarter chroma/quarter chroma/up1"
    eighth = "down2 mid up2 chroma/down chroma/from_deep chroma/deep chroma/up2"
    at = {name: cells for names, cells in ((half, 4), (quarter, 16), (eighth, 64)) for name in names.split()}
    if config.scale == 2:
        at |= {"skip": 1, "up0": 4, "fine": 1, "tail": 1}
    total = 0.0
    for variable in network.variables:
        _, *parts = variable.path.split("/")
        own = parts[0] == "chroma"
        layer = "/".join(parts[:2]) if own else parts[0].split("_")[0]
        if variable.path.endswith("kernel") and len(variable.shape) == 4 and layer in at:
            total += np.prod(variable.shape) / at[layer]

    assert network.config.macs_per_pixel == pytest.approx(total, rel=0.01)


@pytest.mark.parametrize("size", [SIZES["M"], DOUBLE, TINY, LEAKY])
def test_a_config_survives_json(size: DeconvNetConfig) -> None:
    again = DeconvNetConfig.from_json(json.loads(json.dumps(size.to_json())))

    assert again == size


def test_halos_are_multiples_of_the_stride_and_no_smaller_than_the_radius() -> None:
    for config in SIZES.values():
        assert config.halo % STRIDE == 0
        assert config.radius <= config.halo < config.radius + STRIDE


def test_a_network_is_made_again_from_its_config(network: DeconvNet) -> None:
    again = DeconvNet.from_config(json.loads(json.dumps(network.get_config())))
    again.build()
    again.set_weights(network.get_weights())

    ycc = noise(16, 16)
    np.testing.assert_array_equal(residual(again, ycc), residual(network, ycc))


@pytest.mark.parametrize(
    ("channels", "blocks", "message"),
    [((4, 4), (1,) * 5, "three positive numbers"), ((4, 4, 4), (1,) * 4, "five"), ((4, 0, 4), (1,) * 5, "three")],
)
def test_sizes_that_make_no_network_are_refused(channels: Any, blocks: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DeconvNetConfig(channels, blocks)


def test_pixels_stay_float32_under_a_mixed_policy() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        network = deconvnet.build(TINY)
        found = network(noise(16, 16), estimates(), np.zeros((1, 2, 8, 8), np.float32))
    finally:
        keras.config.set_dtype_policy("float32")

    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    assert jpeg.BLOCK == STRIDE
