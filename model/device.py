"""The device that a model runs on: how this process shares it, and what it is called."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from model.quiet import tensorflow

_LOG = logging.getLogger(__name__)

PROCESSOR = "cpu"
"""What a device is called where there is no accelerator."""

AUTO, FLOAT32, BFLOAT16 = "auto", "float32", "bfloat16"

PRECISIONS = (AUTO, FLOAT32, BFLOAT16)
"""What a network can be told to compute in. With bfloat16 next to every value is within one grey level of float32's."""

_BFLOAT16_FROM = (8, 0)
"""Compute capability from which NVIDIA's GPUs have instructions for bfloat16."""


class DeviceError(Exception):
    """This machine lacks the device that the model is to run on."""


def prepare(*, threads: int | None = None, accelerated: bool = False) -> str:
    """Sets TensorFlow up before a model is loaded; may be called again, and changes nothing then.

    Args:
        threads: that an operation may use in this process; None leaves it to TensorFlow, which takes every core.
        accelerated: the model must find a GPU. Without this a worker whose driver is missing would restore on its
            processor, at the price of the GPU.

    Returns:
        The name of the GPU (of each kind, where there are several), such as `NVIDIA L4`, or `cpu`.

    Raises:
        DeviceError: if a GPU must be there and is not.
    """
    tf = tensorflow()
    gpus = tf.config.list_physical_devices("GPU")
    if accelerated and not gpus:
        raise DeviceError(
            "TensorFlow finds no GPU on this worker: is the driver installed, and TensorFlow the build for GPUs?"
        )
    try:
        for gpu in gpus:
            # Several worker processes share one GPU; without growth the first takes all of its memory.
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        _LOG.info("TensorFlow is at work already, as after a training: it keeps its way of taking a GPU's memory")
    # The short float32 that GPUs multiply by default is too coarse for colours and quantisation bins.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    if threads is not None:
        _use_threads(tf, threads)
    names = {_name_of(tf, gpu) for gpu in gpus}
    return ", ".join(sorted(names)) or PROCESSOR


def has_bfloat16() -> bool:
    """Whether what TensorFlow runs on here, all its GPUs or the processor, has instructions for bfloat16."""
    tf = tensorflow()
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return processor_has_bfloat16()
    details = (tf.config.experimental.get_device_details(gpu) for gpu in gpus)
    return all(found.get("compute_capability", (0, 0)) >= _BFLOAT16_FROM for found in details)


def processor_has_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16; without them it is slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def _use_threads(tf: Any, threads: int) -> None:
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        # Threads are started with the first operation: in a worker that is after this, elsewhere it may be long ago.
        _LOG.warning("TensorFlow is at work already: it keeps its threads and does not use %d", threads)


def _name_of(tf: Any, gpu: Any) -> str:
    return str(tf.config.experimental.get_device_details(gpu).get("device_name", "gpu"))
