"""Pristine pictures to measure against: found by the image's name, whatever their format."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath

from pipeline.codec import KeepAsIs, Limits, decode
from pipeline.codec.large_tiff import LargeTiff, open_large
from pipeline.elements import ImageRef, Pixels
from pipeline.failures import ImageError
from pipeline.storage import Storage, open_storage


def stem(name: str) -> str:
    """The name without its extension: what an image and its reference have in common."""
    return str(PurePosixPath(name).with_suffix(""))


@dataclasses.dataclass(frozen=True)
class ReferenceFolder:
    """A folder or prefix of pristine pictures under the archive's names.

    Called once by each worker, it lists the folder and gives the finder: a function from an image's name to the
    pristine pixels, or None where there are none.

    Attributes:
        uri: of the folder.
        limits: for reading them.
    """

    uri: str
    limits: Limits

    def __call__(self) -> Callable[[str], Pixels | None]:
        storage, refs = self._listed()

        def find(name: str) -> Pixels | None:
            ref = refs.get(stem(name))
            return None if ref is None else _read(storage, ref, self.limits)

        return find

    def large(self) -> Callable[[str], LargeTiff | None]:
        """As a call, but the finder gives pictures whose rows can be read; None for those that must be held."""
        storage, refs = self._listed()

        def find(name: str) -> LargeTiff | None:
            ref = refs.get(stem(name))
            try:
                return None if ref is None else open_large(storage.fetch(ref, self.limits.max_bytes).spool, "same", 0)
            except ImageError:
                return None

        return find

    def _listed(self) -> tuple[Storage, dict[str, ImageRef]]:
        storage = open_storage(self.uri)
        return storage, {stem(ref.name): ref for ref in storage.list()}

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of the names that have no reference here."""
        known = {stem(ref.name) for ref in open_storage(self.uri).list()}
        return [name for name in names if stem(name) not in known]


def _read(storage: Storage, ref: ImageRef, limits: Limits) -> Pixels | None:
    try:
        return decode(storage.read(ref, limits.max_bytes), limits).pages[0].pixels
    except (ImageError, KeepAsIs):
        # What cannot be read, or is of a kind that is kept as it is, measures nothing; the image is none the worse.
        return None
