"""What tests of every folder may use: `gcs`, a cloud storage service on loopback; `tiny_model` and `photo`."""

import os
import signal

# A shell that puts a command into the background has it ignore Ctrl-C, its children too; some tests press it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Before anything imports Keras or TensorFlow: quiet, and on the backend that exports.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

pytest_plugins = ["tests.cloud.fixtures", "tests.model.fixtures"]
