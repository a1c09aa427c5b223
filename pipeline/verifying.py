"""Holds the receipts of an output against its objects."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import enum
import functools
import logging
import random
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from pipeline import names
from pipeline.elements import ImageRef
from pipeline.failures import ImageError, MissingError
from pipeline.flags import UsageError
from pipeline.provenance import Receipt, ReceiptError, ReceiptRef, by_image, read_receipt
from pipeline.recording import read_rows, read_summary
from pipeline.storage import Storage
from pipeline.storage.digesting import digests_of

_LOG = logging.getLogger(__name__)

_THREADS = 8
"""Digests let other threads compute, and waiting for storage does too."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Kind(enum.StrEnum):
    """What can be found out about one receipt or object."""

    OK = "ok"
    MISSING = "missing"
    SIZE = "size differs"
    DIGEST = "digest differs"
    ORPHAN = "orphan"
    UNREADABLE = "unreadable receipt"
    NOT_REPRODUCED = "not reproduced"


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was found out about one receipt or object.

    Attributes:
        kind: what.
        name: of the image; of an orphan the object's own, of what is no receipt at all its object's too.
        detail: free text; empty where all is well.
    """

    kind: Kind
    name: str
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class _Folder:
    """One folder of the first level, or the files beside them: what is held in memory at a time.

    Attributes:
        receipts: of each image, the newest first.
        strange: objects among the receipts that are none.
        objects: the output's own, by name.
    """

    receipts: dict[str, list[ReceiptRef]]
    strange: list[ImageRef]
    objects: dict[str, ImageRef]


def check_output(target: Storage) -> None:
    """Refuses what is not the output of a restore job.

    Raises:
        UsageError: naming the flag and the place.
    """
    target.check_readable("--output")
    if next(target.list(f"{names.BOOKKEEPING}/"), None) is None:
        raise UsageError(f"--output must be the output of a restore job, got {target.uri}: it has no receipts")


def verify_fast(target: Storage) -> Iterator[Finding]:
    """Compares names and sizes, from a listing of the objects, one of the receipts, and the tables of the runs.

    No object is read for its own sake. Only a receipt that no table speaks of, as after a run that was killed, is
    opened. Memory grows with the images of the largest folder, and by about 250 bytes with every row of the tables.

    Yields:
        One finding for each image that has a receipt, and one for each object that has none.
    """
    known = _sizes_in_tables(target)
    for folder in _folders(target):
        newest = [receipts[0] for receipts in folder.receipts.values()]
        unknown = (found for found in newest if found.key not in known)
        read = {found.name: answer for found, answer in _in_threads(lambda found: _read(target, found), unknown)}
        claimed: set[str] = set()
        for found in newest:
            answer = read.get(found.name)
            if isinstance(answer, Finding):
                yield answer
                claimed.update(found.name + suffix for suffix in names.SUFFIXES)
                continue
            name, size = (answer.output.name, answer.output.size) if answer else known[found.key]
            claimed.add(name)
            yield _compare_size(found.name, folder.objects.get(name), name, size)
        yield from _left_over(folder, claimed)


def verify_full(target: Storage) -> Iterator[Finding]:
    """Reads every receipt that counts and digests its output, several at a time; yields as `verify_fast`."""
    for folder in _folders(target):
        claimed: set[str] = set()
        newest = (receipts[0] for receipts in folder.receipts.values())
        verify = functools.partial(_verify, target, folder.objects)
        for found, (finding, receipt) in _in_threads(verify, newest):
            yield finding
            claimed.update([receipt.output.name] if receipt else [found.name + suffix for suffix in names.SUFFIXES])
        yield from _left_over(folder, claimed)


def verify_some(target: Storage, number: int, seed: int) -> Iterator[tuple[Finding, Receipt | None]]:
    """Verifies receipts that are chosen at random, as `verify_full` does; all of them where there are not more.

    The same output and seed give the same choice.

    Yields:
        One finding a receipt, in the order of their names, with the receipt where it can be read.
    """
    rng = random.Random(seed)
    chosen: list[tuple[dict[str, ImageRef], ReceiptRef]] = []
    for place, candidate in enumerate(_with_objects(target)):
        if place < number:
            chosen.append(candidate)
        elif (instead := rng.randrange(place + 1)) < number:
            chosen[instead] = candidate
    chosen.sort(key=lambda pair: pair[1].name)
    return (answer for _, answer in _in_threads(lambda pair: _verify(target, *pair), chosen))


def _with_objects(target: Storage) -> Iterator[tuple[dict[str, ImageRef], ReceiptRef]]:
    """Yields each receipt that counts, behind the objects that may be its output."""
    for folder in _folders(target):
        for name, receipts in folder.receipts.items():
            outputs = [name + suffix for suffix in names.SUFFIXES]
            yield {output: folder.objects[output] for output in outputs if output in folder.objects}, receipts[0]


def _folders(target: Storage) -> Iterator[_Folder]:
    """Lists receipts and objects side by side, folder by folder; superseded receipts are behind the newest."""
    receipts = f"{names.RECEIPTS}/"
    of_objects = {*target.folders()} - {f"{names.BOOKKEEPING}/"}
    of_receipts = {folder.removeprefix(receipts) for folder in target.folders(receipts)}
    for folder in ["", *sorted(of_objects | of_receipts)]:
        recursive = folder != ""
        found, strange = by_image(target.list(receipts + folder, recursive=recursive))
        # A folder that only receipts speak of is not looked into: it may be a link that leads out of the output.
        objects = target.list(folder, recursive=recursive) if not folder or folder in of_objects else ()
        yield _Folder(found, strange, {ref.name: ref for ref in objects})


def _left_over(folder: _Folder, claimed: set[str]) -> Iterator[Finding]:
    for ref in folder.strange:
        yield Finding(Kind.UNREADABLE, ref.name, "is called as no receipt is")
    for name in folder.objects:
        if name not in claimed:
            yield Finding(Kind.ORPHAN, name, "no receipt speaks of it")


def _read(target: Storage, found: ReceiptRef) -> Receipt | Finding:
    try:
        return read_receipt(target, found)
    except ReceiptError as error:
        return Finding(Kind.UNREADABLE, found.name, f"receipt {found.key}: {error}")


def _verify(target: Storage, objects: dict[str, ImageRef], found: ReceiptRef) -> tuple[Finding, Receipt | None]:
    """Verifies one receipt against the objects that were listed: nothing else of the storage is touched."""
    receipt = _read(target, found)
    if isinstance(receipt, Finding):
        return receipt, None
    said = receipt.output
    ref = objects.get(said.name)
    finding = _compare_size(found.name, ref, said.name, said.size)
    if finding.kind is not Kind.OK or ref is None:
        return finding, receipt
    try:
        is_now = digests_of(target, ref)
    except MissingError as error:
        return Finding(Kind.MISSING, found.name, f"{said.name} {error}"), receipt
    except ImageError as error:
        return Finding(Kind.DIGEST, found.name, f"{said.name} cannot be digested: {error}"), receipt
    differing = [name for name in ("sha256", "crc32c") if getattr(is_now, name) != getattr(said, name)]
    if differing:
        which = differing[0]
        text = f"{said.name} has {which} {getattr(is_now, which)}, the receipt says {getattr(said, which)}"
        return Finding(Kind.DIGEST, found.name, text), receipt
    return finding, receipt


def _compare_size(image: str, ref: ImageRef | None, name: str, size: int) -> Finding:
    if ref is None:
        return Finding(Kind.MISSING, image, f"{name} is not there")
    if ref.size != size:
        return Finding(Kind.SIZE, image, f"{name} has {ref.size} bytes, the receipt says {size}")
    return Finding(Kind.OK, image)


def _sizes_in_tables(target: Storage) -> dict[str, tuple[str, int]]:
    """Reads the tables of all runs that have ended: name and size of the output for the key of each receipt."""
    known: dict[str, tuple[str, int]] = {}
    for folder in target.folders(f"{names.RUNS}/"):
        run_id = folder.removeprefix(f"{names.RUNS}/").rstrip("/")
        try:
            # Only where a run's summary stands are its tables whole.
            summary = read_summary(target.uri, run_id)
            if summary is None:
                continue
            recipe = str(summary["digests"]["recipe"])
            for row in read_rows(target.uri, run_id):
                if row.output:
                    source = ImageRef(row.name, int(row.size), row.version)
                    known[names.image_key(source, recipe)] = (row.output, int(row.output_size))
        except (ImageError, OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
            # A table can be made anew from receipts; where it is broken they are what is read.
            _LOG.warning("the tables of run %r cannot be read, its receipts are: %r", run_id, error)
    return known


def _in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """Works on several items at a time; yields each with its result, in order, and takes few in advance."""
    waiting: collections.deque[tuple[Item, concurrent.futures.Future[Result]]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="verify") as pool:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > 4 * _THREADS:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
