"""Where bytes live: folders and Cloud Storage behind one interface that creates, and never overwrites by accident.

Names are relative to a root, with `/`. Constructors open nothing, and a storage can be pickled: clients and files are
opened where they are used.
"""

from pipeline.flags import UsageError
from pipeline.storage.cloud import CloudStorage
from pipeline.storage.disk import LocalStorage
from pipeline.storage.interface import Created, Storage, crc32c_of, make_file
from pipeline.storage.reading import ReadFiles, open_storage

__all__ = [
    "CloudStorage",
    "Created",
    "LocalStorage",
    "ReadFiles",
    "Storage",
    "UsageError",
    "crc32c_of",
    "make_file",
    "open_storage",
]
