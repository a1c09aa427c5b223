"""The device that a model runs on: how this process shares it, and what it is called."""

from __future__ import annotations

import logging
from typing import Any

from model.quiet import tensorflow

_LOG = logging.getLogger(__name__)

PROCESSOR = "cpu"
"""What a device is called where there is no accelerator."""


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
    for gpu in gpus:
        # Several worker processes share one GPU; without growth the first takes all of its memory.
        tf.config.experimental.set_memory_growth(gpu, True)
    if threads is not None:
        _use_threads(tf, threads)
    names = {_name_of(tf, gpu) for gpu in gpus}
    return ", ".join(sorted(names)) or PROCESSOR


def _use_threads(tf: Any, threads: int) -> None:
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
    except RuntimeError:
        # Threads are started with the first operation: in a worker that is after this, elsewhere it may be long ago.
        _LOG.warning("TensorFlow is at work already: it keeps its threads and does not use %d", threads)


def _name_of(tf: Any, gpu: Any) -> str:
    return str(tf.config.experimental.get_device_details(gpu).get("device_name", "gpu"))
