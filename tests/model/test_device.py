"""How a worker sets up its device, and what it says of it."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import pytest

from model import device


@dataclasses.dataclass
class Machine:
    """What TensorFlow would say of a machine with GPUs, and what it was told."""

    gpus: tuple[str, ...]
    grown: list[tuple[str, bool]] = dataclasses.field(default_factory=list)

    def details(self, gpu: str) -> dict[str, Any]:
        """A T4 is of capability 7.5, what came later of 8.0 or more."""
        return {"device_name": gpu, "compute_capability": (7, 5) if "T4" in gpu else (8, 9)}


@pytest.fixture
def with_gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives this machine GPUs that only TensorFlow's lists know of."""
    import tensorflow as tf

    def install(*gpus: str) -> Machine:
        machine = Machine(gpus)
        config = tf.config
        monkeypatch.setattr(config, "list_physical_devices", lambda kind: list(gpus) if kind == "GPU" else [])
        monkeypatch.setattr(config.experimental, "get_device_details", machine.details)
        monkeypatch.setattr(config.experimental, "set_memory_growth", lambda gpu, on: machine.grown.append((gpu, on)))
        return machine

    return install


def test_a_machine_without_a_gpu_is_called_cpu() -> None:
    assert device.prepare() == "cpu"


def test_every_gpu_takes_memory_as_it_needs_it_and_each_kind_is_named_once(with_gpus: Any) -> None:
    machine = with_gpus("NVIDIA L4", "NVIDIA L4", "NVIDIA A100")

    name = device.prepare(accelerated=True)

    assert name == "NVIDIA A100, NVIDIA L4"
    assert machine.grown == [(gpu, True) for gpu in machine.gpus]


def test_a_gpu_that_is_in_use_already_is_used_as_it_is(with_gpus: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the end of a training, when the model is measured in the process that trained it."""
    import tensorflow as tf

    def refuse(gpu: str, on: bool) -> None:
        raise RuntimeError("Physical devices cannot be modified after being initialized")

    with_gpus("NVIDIA L4")
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", refuse)

    assert device.prepare(accelerated=True) == "NVIDIA L4"


def test_gpus_compute_in_bfloat16_from_ampere_on(with_gpus: Any) -> None:
    with_gpus("NVIDIA L4", "NVIDIA A100")
    assert device.has_bfloat16()

    with_gpus("NVIDIA L4", "Tesla T4")
    assert not device.has_bfloat16()


def test_a_gpu_does_not_shorten_float32(with_gpus: Any) -> None:
    import tensorflow as tf

    with_gpus("NVIDIA L4")
    device.prepare()

    assert not tf.config.experimental.tensor_float_32_execution_enabled()


def test_a_worker_that_must_have_a_gpu_and_has_none_says_what_to_look_at() -> None:
    with pytest.raises(device.DeviceError, match="no GPU on this worker: is the driver installed"):
        device.prepare(accelerated=True)


def test_threads_that_cannot_be_set_any_more_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    import tensorflow as tf

    tf.constant(1) + 1  # TensorFlow starts its threads
    before = tf.config.threading.get_intra_op_parallelism_threads()

    with caplog.at_level(logging.WARNING, logger="model"):
        assert device.prepare(threads=before + 3) == "cpu"

    assert "keeps its threads" in caplog.text
    assert tf.config.threading.get_intra_op_parallelism_threads() == before
