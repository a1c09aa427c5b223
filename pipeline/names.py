"""Which object belongs to which: names of outputs and receipts, all of them functions of the source's name alone."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from pipeline.elements import ImageRef
from pipeline.failures import BadNameError

BOOKKEEPING = "_relume"
"""Folder below the output that holds what is no image; nothing of a source may land there."""

RECEIPTS = f"{BOOKKEEPING}/receipts"
RUNS = f"{BOOKKEEPING}/runs"
RECIPE = f"{BOOKKEEPING}/recipe.json"
LEASE = f"{BOOKKEEPING}/lease"

SUFFIXES = ("", ".png", ".tiff", ".webp")
"""What may stand behind the source's name in the name of its output."""

_RECEIPT = re.compile(rf"{RECEIPTS}/(?P<name>.+)\.(?P<key>[0-9a-f]{{16}})\.json", re.DOTALL)
_DRIVE = re.compile(r"[A-Za-z]:")


def image_key(ref: ImageRef, recipe_digest: str) -> str:
    """Says what one image done means: this object, at this version, by this recipe.

    Returns:
        16 hexadecimal digits; the same on every machine.
    """
    # A zero byte is in no name of a file or object, so no two triples read the same. Names of a disk that are no UTF-8
    # hold lone surrogates, which must hash too.
    text = "\0".join((ref.name, ref.version, recipe_digest))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def receipt_name(ref: ImageRef, recipe_digest: str) -> str:
    """Names the receipt of one image, below the output's root."""
    return f"{RECEIPTS}/{ref.name}.{image_key(ref, recipe_digest)}.json"


def receipt_of(name: str) -> tuple[str, str] | None:
    """Takes a receipt's name apart, the inverse of `receipt_name`: the source's name and the key; None for others."""
    match = _RECEIPT.fullmatch(name)
    return (match["name"], match["key"]) if match else None


def check_name(name: str) -> None:
    """Refuses names that are no plain relative path.

    Raises:
        BadNameError: if the name could leave the root, is not the only spelling of its path, or cannot be written as
            UTF-8 on one line.
    """
    segments = name.split("/")
    if any(unicodedata.category(letter) == "Cs" for letter in name):
        raise BadNameError(f"{printable(name)}: not valid Unicode")
    if any(unicodedata.category(letter) == "Cc" for letter in name):
        raise BadNameError(f"{name!r}: holds a control character")
    if "" in segments:
        raise BadNameError(f"{name!r}: a leading, trailing or double slash leaves a part of the path empty")
    if "." in segments or ".." in segments:
        raise BadNameError(f"{name!r}: '.' and '..' are no names")
    if "\\" in name or _DRIVE.match(name):
        raise BadNameError(f"{name!r}: a backslash or a drive letter means another path on other systems")


def output_name(name: str, suffix: str, *, segment_bytes: int | None, total_bytes: int | None) -> str:
    """Names the output of one image, below the output's root.

    Letters stay as they are: names that differ by case or Unicode normalisation alone stay two names, and where a file
    system takes them for one, create-only writing turns the second into a conflict.

    Args:
        name: of the source.
        suffix: appended; empty where the container stays.
        segment_bytes: what the output takes between two slashes, as UTF-8; None without a limit.
        total_bytes: what the output takes below its root; None without a limit.

    Raises:
        BadNameError: if `check_name` refuses it, it is below `_relume/`, or it or its receipt's name is too long.
    """
    check_name(name)
    # A file system that ignores case would put `_Relume/` into `_relume/`.
    if name.split("/")[0].casefold() == BOOKKEEPING:
        raise BadNameError(f"{name!r}: {BOOKKEEPING}/ holds receipts and reports, no images")
    output = name + suffix
    for written in (output, f"{RECEIPTS}/{name}.{16 * '0'}.json"):
        longest = max(len(segment.encode()) for segment in written.split("/"))
        if segment_bytes is not None and longest > segment_bytes:
            raise BadNameError(
                f"{name!r}: {longest} bytes between slashes with the receipt's end, over {segment_bytes}"
            )
        if total_bytes is not None and len(written.encode()) > total_bytes:
            raise BadNameError(f"{name!r}: {len(written.encode())} bytes with its receipt's path, over {total_bytes}")
    return output


def printable(name: str) -> str:
    """Spells a text in valid Unicode: what is none, such as bytes of a disk's names that are no UTF-8, is escaped."""
    return name.encode("utf-8", "backslashreplace").decode()
