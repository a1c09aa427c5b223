"""The Beam pipeline: one room for each stage, from a listing of an archive to a report on every image."""

__version__ = "0.1.0"
