"""What a model folder promises, and whether it is the folder it says it is.

saved_model/   the TensorFlow program that workers run
weights.npz    the same weights as float16 arrays, to train on from
model.json     this contract
card.md        what people should know, and the pictures that it shows
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.resources
import json
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

FORMAT = 1
"""Version of the contract's layout."""

STRIDE = 8
"""Total downsampling of every DeconvNet, in pixels: one cell of its deepest level is one JPEG block."""

CLEAN_QUALITY = 92
"""From this quality factor on a JPEG counts as clean: there is next to nothing to restore."""

NAME = "model.json"
"""Of the contract, in its folder."""


class ModelError(Exception):
    """A model folder that cannot be used; the message names it and says what is wrong."""


@dataclasses.dataclass(frozen=True)
class Contract:
    """The content of `model.json`.

    Attributes:
        name: of the model, such as `jpeg-s`.
        task: `jpeg`, `deblur`, `denoise` or `x2`.
        network: arguments of `DeconvNetConfig`.
        halo, stride, tile: geometry in pixels: what `tiling` needs.
        scale: output pixels to one input pixel along an axis.
        classes, regressions: names of the estimate's numbers, in order.
        recipe: how it was trained.
        data: pictures it was trained on: number, megapixels, fingerprint.
        scores: what was measured, with the protocol's name.
        files: SHA-256 of every other file, by its path in the folder.
    """

    name: str
    task: str
    network: Mapping[str, Any]
    halo: int
    stride: int
    tile: int
    scale: int
    classes: tuple[str, ...]
    regressions: tuple[str, ...]
    recipe: Mapping[str, Any]
    data: Mapping[str, Any]
    scores: Mapping[str, Any]
    files: Mapping[str, str]

    @property
    def digest(self) -> str:
        """SHA-256 over all of it, and so over every file: the identity of the model."""
        return hashlib.sha256(self._canonical().encode()).hexdigest()

    @property
    def identity(self) -> dict[str, str]:
        """Name and digest: what another model's recipe says of the one that it was tuned from."""
        return {"name": self.name, "digest": self.digest}

    def write(self, folder: Path) -> None:
        """Writes `model.json`."""
        values = json.loads(self._canonical()) | {"digest": self.digest}
        (folder / NAME).write_text(json.dumps(values, indent=1, sort_keys=True) + "\n")

    def _canonical(self) -> str:
        return json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, sort_keys=True, separators=(",", ":"))


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder but the contract, by its path with `/`."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / NAME)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


BUILT_IN = "jpeg-s"
"""The model that restores where no other is named."""


def shipped() -> dict[str, Path]:
    """The folders of the models that ship with the package, by their names."""
    root = Path(str(importlib.resources.files("model") / "pretrained"))
    return {path.parent.name: path.parent for path in sorted(root.glob(f"*/{NAME}"))}


def built_in() -> Path:
    """The folder of the model that restores where no other is named."""
    return shipped()[BUILT_IN]


def read(folder: Path) -> Contract:
    """Reads a folder's contract and checks every file against it.

    A SavedModel is a program: nothing of it is loaded before its digest is known to be right.

    Raises:
        ModelError: if there is no contract, it cannot be read, or a file is missing, changed or not named in it.
    """
    path = folder / NAME
    if not path.is_file():
        raise ModelError(f"{folder} is no model folder: it has no {NAME}")
    contract = parse(path.read_bytes(), str(path))
    found = file_digests(folder)
    check_names(str(folder), found.keys(), contract)
    for name in sorted(found):
        if found[name] != contract.files[name]:
            raise ModelError(f"{folder}/{name} was changed: its digest is not the one in {NAME}")
    return contract


def parse(data: bytes, path: str) -> Contract:
    """Reads a contract and holds it against its own digest.

    Args:
        data: content of `model.json`.
        path: where it stands, for errors.

    Raises:
        ModelError: if it cannot be read, is not as its digest says, or names a file outside its folder.
    """
    try:
        values = json.loads(data)
        version, digest = values.pop("format"), values.pop("digest")
        if version != FORMAT:
            raise ModelError(f"{path} has format {version}, this version of Relume reads {FORMAT}")
        contract = Contract(**values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} cannot be read: {error!r}") from error
    contract = dataclasses.replace(contract, classes=tuple(contract.classes), regressions=tuple(contract.regressions))
    if contract.digest != digest:
        raise ModelError(f"{path} does not match its own digest: it says {digest[:12]}, it is {contract.digest[:12]}")
    for name in contract.files:
        if name != PurePosixPath(name).as_posix() or name.startswith("/") or ".." in name.split("/") or name == NAME:
            raise ModelError(f"{path} names {name!r}, which is no file below its folder")
    return contract


def check_names(folder: str, found: Collection[str], contract: Contract) -> None:
    """Holds the names of a folder's files, but for the contract's own, against the contract.

    Raises:
        ModelError: if one is missing or not named.
    """
    for name in sorted({*found, *contract.files}):
        if name not in found:
            raise ModelError(f"{folder} lacks {name}, which its {NAME} names")
        if name not in contract.files:
            raise ModelError(f"{folder} holds {name}, which its {NAME} does not name")
