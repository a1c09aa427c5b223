"""What tests of every folder may use: `gcs`, a cloud storage service on loopback; `tiny_model` and `photo`."""

import logging
import os
import signal
from collections.abc import Iterator

import pytest

# A shell that puts a command into the background has it ignore Ctrl-C, its children too; some tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before anything imports Keras or TensorFlow: quiet, and on the backend that exports.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

pytest_plugins = ["tests.cloud.fixtures", "tests.model.fixtures"]


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A job says what others log on stderr too, and goes on saying it."""
    names = [None, "jobs", "pipeline", "model"]
    handlers, levels = list(logging.getLogger().handlers), [logging.getLogger(name).level for name in names]
    yield
    logging.getLogger().handlers[:] = handlers
    for name, level in zip(names, levels, strict=True):
        logging.getLogger(name).setLevel(level)
