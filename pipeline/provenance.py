"""What receipts say, read back with suspicion: whoever can write to an output can write anything into its receipts.

A receipt counts only where its content follows from its own name: the source's name and the key stand in both, and the
output is named after the source. So nothing that stands in a receipt leads out of the output.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline import names
from pipeline.elements import Damage, ImageRef, Measures
from pipeline.failures import BadNameError
from pipeline.recording import Output
from pipeline.storage import Storage

FORMAT = 1
"""Of the receipts that can be read."""

MAX_RECEIPT_BYTES = 2**20
"""A receipt has two or three thousand."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


class ReceiptError(ValueError):
    """A receipt that cannot be believed; the text says why."""


@dataclasses.dataclass(frozen=True)
class Check:
    """One check of the gate: its name, the value found, the limit it was held against, and whether it passed."""

    name: str
    value: float | None
    limit: float | None
    passed: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Receipt:
    """What a receipt says, each value of the type that it must have.

    Attributes:
        key: `names.image_key` of source and recipe.
        source: which object was restored, at which version.
        source_uri, source_crc32c, source_sha256, source_format: of that object.
        width, height, pages: of the picture; zeros where it was never decoded.
        output: the object that stands for it.
        output_format: of that object.
        run, code, model, recipe: as in `RunInfo`.
        device: as in `Judged`.
        assume_quality: as in `RestoreSettings`.
        decision, reason: as in `Verdict`.
        gate: every check that was made.
        before, after, damage: as in `Verdict`.
        kept, not_kept: short names of the source's metadata that the output has and lacks.
        values: the whole receipt, as JSON's values.
    """

    key: str
    source: ImageRef
    source_uri: str
    source_crc32c: str
    source_sha256: str
    source_format: str
    width: int
    height: int
    pages: int
    output: Output
    output_format: str
    run: str
    code: str
    model: str
    recipe: str
    device: str
    assume_quality: float | None
    decision: str
    reason: str
    gate: tuple[Check, ...]
    before: Measures
    after: Measures
    damage: Damage | None
    kept: tuple[str, ...]
    not_kept: tuple[str, ...]
    values: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class ReceiptRef:
    """A receipt as a listing shows it.

    Attributes:
        name: of the source.
        key: as in `Receipt`.
        ref: the receipt's object.
    """

    name: str
    key: str
    ref: ImageRef

    @property
    def written(self) -> int:
        """Grows with the time at which it was written; comparable within one storage."""
        return when(self.ref)


def when(ref: ImageRef) -> int:
    """Gives the time of an object's version: ns on disk, a generation in cloud storage; 0 where it has none."""
    text = ref.version.partition("-")[0]
    return int(text) if text.isdecimal() else 0


def by_image(refs: Iterable[ImageRef]) -> tuple[dict[str, list[ReceiptRef]], list[ImageRef]]:
    """Sorts listed receipts by the image they are of.

    Returns:
        For each source's name its receipts, the newest first; and the objects whose names are none of a receipt.
    """
    found: dict[str, list[ReceiptRef]] = defaultdict(list)
    strange = []
    for ref in refs:
        parts = names.receipt_of(ref.name)
        if parts:
            found[parts[0]].append(ReceiptRef(*parts, ref))
        else:
            strange.append(ref)
    for receipts in found.values():
        # As `listing.is_done` decides which of them counts.
        receipts.sort(key=lambda receipt: (receipt.written, receipt.key), reverse=True)
    return dict(found), strange


def receipts_of(target: Storage, name: str) -> list[ReceiptRef]:
    """Lists the receipts of one image, the newest first; none where its name is none that an output can hold."""
    try:
        names.check_name(name)
    except BadNameError:
        return []
    listed = target.list(f"{names.RECEIPTS}/{name}.", recursive=False)
    return by_image(listed)[0].get(name, [])


def read_receipt(target: Storage, found: ReceiptRef) -> Receipt:
    """Reads one receipt.

    Raises:
        ReceiptError: if it is gone, damaged, or does not say what its own name says.
    """
    if found.ref.size > MAX_RECEIPT_BYTES:
        raise ReceiptError(f"{found.ref.size} bytes, more than any receipt has")
    try:
        names.check_name(found.ref.name)
        data = target.read_small(found.ref.name)
    except (BadNameError, OSError) as error:
        raise ReceiptError(str(error)) from error
    if data is None:
        raise ReceiptError("is gone since it was listed")
    return parse(found.name, found.key, data)


def parse(name: str, key: str, data: bytes) -> Receipt:
    """Makes a receipt of its bytes.

    Args:
        name, key: what the name of its object says.
        data: its content.

    Raises:
        ReceiptError: if it is no JSON, lacks a value, has one of a wrong type, or contradicts its name.
    """
    receipt = _typed(_Values(load_json(data), ""))
    if receipt.source.name != name:
        raise ReceiptError(f"says that it is of {receipt.source.name!r}")
    if receipt.key != key or names.image_key(receipt.source, receipt.recipe) != key:
        raise ReceiptError("its key is not that of its source's name and version and of its recipe")
    if receipt.output.name not in {name + suffix for suffix in names.SUFFIXES}:
        raise ReceiptError(f"its output is called {receipt.output.name!r}, which is not named after its source")
    try:
        names.output_name(name, "", segment_bytes=None, total_bytes=None)
    except BadNameError as error:
        raise ReceiptError(str(error)) from error
    return receipt


def load_json(data: bytes) -> Any:
    """Reads JSON without the numbers that JSON has not.

    Raises:
        ReceiptError: if it is none.
    """
    try:
        return json.loads(data, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ReceiptError(f"is no JSON: {error}") from error


def _refuse(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is no number")
    return number


class _Values:
    """A JSON object whose values are taken by name and type.

    Args:
        values: what should be an object.
        place: where it stands in the receipt, for messages.
    """

    def __init__(self, values: Any, place: str) -> None:
        if not isinstance(values, dict):
            raise ReceiptError(f"{place or 'all of it'} must be an object, is {_kind(values)}")
        self.values: dict[str, Any] = values
        self._place = place

    def text(self, name: str) -> str:
        return str(self._take(name, str))

    def digest(self, name: str) -> str:
        found = self.text(name)
        if not _SHA256.fullmatch(found):
            raise ReceiptError(f"{self._path(name)} must be 64 hexadecimal digits")
        return found

    def whole(self, name: str) -> int:
        """A whole number from 0 up."""
        found = int(self._take(name, int))
        if found < 0:
            raise ReceiptError(f"{self._path(name)} must be at least 0, is {found}")
        return found

    def number(self, name: str) -> float:
        try:
            return float(self._take(name, int, float))
        except OverflowError as error:
            raise ReceiptError(f"{self._path(name)} is too large") from error

    def number_or_none(self, name: str) -> float | None:
        return None if self._take(name, int, float, type(None)) is None else self.number(name)

    def truth(self, name: str) -> bool:
        return bool(self._take(name, bool))

    def part(self, name: str) -> _Values:
        return _Values(self._take(name, dict), self._path(name))

    def part_or_none(self, name: str) -> _Values | None:
        return None if self._take(name, dict, type(None)) is None else self.part(name)

    def parts(self, name: str) -> list[_Values]:
        return [_Values(item, f"{self._path(name)}[{i}]") for i, item in enumerate(self._take(name, list))]

    def texts(self, name: str) -> tuple[str, ...]:
        found = self._take(name, list)
        if not all(isinstance(item, str) for item in found):
            raise ReceiptError(f"{self._path(name)} must hold texts only")
        return tuple(found)

    def _take(self, name: str, *kinds: type) -> Any:
        if name not in self.values:
            raise ReceiptError(f"lacks {self._path(name)}")
        found = self.values[name]
        # True is an int to Python, and to nobody else.
        if not isinstance(found, kinds) or (isinstance(found, bool) and bool not in kinds):
            raise ReceiptError(f"{self._path(name)} must be {' or '.join(map(_named, kinds))}, is {_kind(found)}")
        return found

    def _path(self, name: str) -> str:
        return f"{self._place}.{name}" if self._place else name


_KINDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    type(None): "null",
}


def _named(kind: type) -> str:
    return _KINDS[kind]


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), type(value).__name__)


def _typed(said: _Values) -> Receipt:
    if said.whole("relume") != FORMAT:
        raise ReceiptError(f"has format {said.whole('relume')}, this version of Relume reads {FORMAT}")
    source, output, process = said.part("source"), said.part("output"), said.part("process")
    metadata, damage = said.part("metadata"), said.part_or_none("damage")
    return Receipt(
        key=said.text("key"),
        source=ImageRef(source.text("name"), source.whole("size"), source.text("version")),
        source_uri=source.text("uri"),
        source_crc32c=source.text("crc32c"),
        source_sha256=source.digest("sha256"),
        source_format=source.text("format"),
        width=source.whole("width"),
        height=source.whole("height"),
        pages=source.whole("pages"),
        output=Output(
            name=output.text("name"),
            uri=output.text("uri"),
            size=output.whole("size"),
            crc32c=output.text("crc32c"),
            sha256=output.digest("sha256"),
        ),
        output_format=output.text("format"),
        run=process.text("run"),
        code=process.text("code"),
        model=process.text("model"),
        recipe=process.text("recipe"),
        device=process.text("device"),
        assume_quality=process.number("assume_quality") if "assume_quality" in process.values else None,
        decision=said.text("decision"),
        reason=said.text("reason"),
        gate=tuple(
            Check(
                check.text("check"),
                check.number_or_none("value"),
                check.number_or_none("limit"),
                check.truth("passed"),
            )
            for check in said.parts("gate")
        ),
        before=_measures(said.part("before")),
        after=_measures(said.part("after")),
        damage=None if damage is None else _damage(damage),
        kept=metadata.texts("kept"),
        not_kept=metadata.texts("not_kept"),
        values=said.values,
    )


def _measures(said: _Values) -> Measures:
    return Measures(**{field.name: said.number_or_none(field.name) for field in dataclasses.fields(Measures)})


def _damage(said: _Values) -> Damage:
    header = said.number_or_none("header_quality")
    return Damage(
        kind=said.text("kind"),
        confidence=said.number("confidence"),
        quality=said.number_or_none("quality"),
        noise=said.number("noise"),
        blur=said.number("blur"),
        header_quality=None if header is None else int(header),
        recompressed=said.truth("recompressed"),
    )
