"""What tests of every folder may use: `gcs`, a cloud storage service on loopback; `tiny_model` and `photo`."""

import os

# Before anything imports Keras or TensorFlow: quiet, and on the backend that exports.
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

pytest_plugins = ["tests.cloud.fixtures", "tests.model.fixtures"]
