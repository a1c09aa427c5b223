"""Keeps the chatter of libraries away from what a command says."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any


def tensorflow() -> Any:
    """Imports TensorFlow without the lines that its libraries write to stderr before its log level counts."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        import tensorflow
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
    return tensorflow


def stdout() -> contextlib.AbstractContextManager[Any]:
    """Sends to stderr what a library prints, as TFDS does: a command's own answer stands on stdout."""
    return contextlib.redirect_stdout(sys.stderr)
