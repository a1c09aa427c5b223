"""Keeps the chatter of libraries away from what a command says."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


def tensorflow() -> Any:
    """Imports TensorFlow without the lines that its libraries write to stderr before its log level counts."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    with _no_stderr():
        import tensorflow
    return tensorflow


def float16() -> None:
    """Lets TensorFlow say to nobody what it says once of a processor that does not compute in float16: an error.

    It is none: weights are stored so, and nothing computes in it. To be called when the devices are set up.
    """
    with _no_stderr():
        tensorflow().constant(0, "float16")


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Meanwhile what is written to stderr goes nowhere, also by libraries that are no Python."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def stdout() -> contextlib.AbstractContextManager[Any]:
    """Sends to stderr what a library prints, as TFDS does: a command's own answer stands on stdout."""
    return contextlib.redirect_stdout(sys.stderr)
