"""Model folders where they lie: shipped with the package, on this machine, or in Cloud Storage.

One in Cloud Storage is read twice. Who starts a run reads its contract, which names every file and its digest. Each
machine that restores fetches the files once, into a folder that is named by the contract's digest, and holds each one
against it before it gets its name: a SavedModel is a program. What is fetched already costs no request.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from model import contract
from model.contract import Contract, ModelError
from pipeline.flags import UsageError, nearest

if TYPE_CHECKING:
    from pipeline.storage import Storage

_LOG = logging.getLogger(__name__)

BUILT_IN = contract.BUILT_IN
"""The model that restores where no other is named."""

WHERE = (
    "A model folder, as `relume train` writes it, here or as gs://BUCKET/PREFIX; or one that ships with Relume: "
    f"{', '.join(contract.shipped())}."
)
"""What a flag that names a model says in the help."""

CACHE = "RELUME_MODELS"
"""Environment variable: the folder where fetched models are kept, instead of one below the system's temporary files."""


def contract_of(model: str) -> Contract:
    """Reads what a model promises, without fetching it.

    Every file of a folder on this machine is held against its digest. In Cloud Storage the contract is held against
    its own, and the names of the files against the contract: their bytes, when they are fetched.

    Args:
        model: the name of one that ships with the package, whose folder is another one on each machine; a folder; or
            `gs://BUCKET/PREFIX`.

    Raises:
        ModelError: one line that names the model and says what is wrong with it.
    """
    if not _is_remote(model):
        return contract.read(folder_of(model))
    with _reading(model) as storage:
        agreed = _contract(storage)
        contract.check_names(storage.uri, {ref.name for ref in storage.list()} - {contract.NAME}, agreed)
        return agreed


def folder_of(model: str, digest: str | None = None) -> Path:
    """Gives the folder of a model on this machine; one in Cloud Storage is fetched unless that was done before.

    Args:
        model: as in `contract_of`.
        digest: that the contract of a model in Cloud Storage must have; whatever it has, where None.

    Raises:
        ModelError: one line, if the model cannot be fetched or is not what its contract, or the digest, says.
    """
    if not _is_remote(model):
        return _folder_here(model)
    if digest is None:
        with _reading(model) as storage:
            digest = _contract(storage).digest
    root = _cache()
    # Of several processes of one machine the first fetches, and the others wait for it.
    with (root / f"{digest}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = root / digest
        if not _is_whole(folder, digest):
            _fetch(model, digest, folder)
        return folder


def _folder_here(model: str) -> Path:
    shipped, folder = contract.shipped(), Path(model)
    if model in shipped:
        return shipped[model]
    near = nearest(model, shipped)
    if near and not folder.exists():
        raise ModelError(f"{model} is no model folder; did you mean {near}?")
    return folder


def _is_remote(model: str) -> bool:
    return model.startswith("gs://")


def _cache() -> Path:
    """The folder of fetched models: this user's alone, for who can write there can run programs as this user."""
    chosen = os.environ.get(CACHE)
    root = Path(chosen) if chosen else Path(tempfile.gettempdir()) / f"relume-models-{os.getuid()}"
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = root.lstat()
    except OSError as error:
        raise ModelError(
            f"{root}: no model can be kept there: {error.strerror} ({CACHE} names another place)"
        ) from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise ModelError(f"{root} must be a folder that only this user can write to ({CACHE} names another place)")
    return root


def _is_whole(folder: Path, digest: str) -> bool:
    if not folder.exists():
        return False
    try:
        if contract.read(folder).digest == digest:
            return True
    except ModelError as error:
        _LOG.warning("%s: fetched again", error)
    shutil.rmtree(folder)
    return False


def _fetch(model: str, digest: str, folder: Path) -> None:
    """Fetches the files that the contract names; the folder appears whole, each file as its digest says, or not."""
    with _reading(model) as storage, tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as scratch:
        agreed = _contract(storage)
        if agreed.digest != digest:
            raise ModelError(f"{storage.uri} has digest {agreed.digest[:12]}, expected {digest[:12]}: it was replaced")
        draft = Path(scratch) / "model"
        for name, expected in agreed.files.items():
            data = storage.read_small(name)
            if data is None:
                raise ModelError(f"{storage.uri} lacks {name}, which its {contract.NAME} names")
            if hashlib.sha256(data).hexdigest() != expected:
                raise ModelError(f"{storage.uri}/{name} was changed: its digest is not the one in {contract.NAME}")
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        agreed.write(draft)
        draft.rename(folder)
    _LOG.info("fetched model %s, digest %s, from %s", agreed.name, digest[:12], storage.uri)


def _contract(storage: Storage) -> Contract:
    data = storage.read_small(contract.NAME)
    if data is None:
        raise ModelError(f"{storage.uri} is no model folder: it has no {contract.NAME}")
    return contract.parse(data, storage.address(contract.NAME))


@contextlib.contextmanager
def _reading(model: str) -> Iterator[Storage]:
    """Opens a model's storage, and tells in one line what storage says of it."""
    # Late: a command that reads no model from Cloud Storage needs neither Beam nor Google's clients.
    from google.api_core import exceptions
    from google.auth.exceptions import GoogleAuthError

    from pipeline.storage import open_storage

    try:
        yield open_storage(model)
    except UsageError as error:
        raise ModelError(str(error)) from error
    except exceptions.ClientError as error:
        raise ModelError(f"{model} cannot be read: {error.message}") from error
    except GoogleAuthError as error:
        raise ModelError(f"{model} cannot be read: {error}") from error
