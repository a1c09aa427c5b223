"""What was done with one image and why, in words: from its receipts, or from the failures of the runs."""

from __future__ import annotations

import dataclasses
import difflib
import heapq
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from pipeline import failures, names, provenance
from pipeline.codec import KEPT_REASONS
from pipeline.elements import Damage, ImageRef, Measures
from pipeline.provenance import Check, Receipt, ReceiptError, ReceiptRef
from pipeline.report.words import counted, printable, size
from pipeline.storage import Storage

_MAX_FAILURES_BYTES = 2**28
"""Of one shard of a run's failures: 50,000 lines of some hundred bytes."""

_REASONS = {
    "improved": "what the model made of it passed every check of the gate",
    "already-good": "it looks like a picture of good quality; there is nothing to restore",
    "graphics": "it is no photograph but a drawing, a page of text or a screenshot",
    **KEPT_REASONS,
    **{
        error.reason: " ".join((error.__doc__ or error.reason).split()).rstrip(".")
        for error in failures.ImageError.__subclasses__()
    },
}

_CHECKS = {
    "changed": "share of values that differ from the source's",
    "bins": "share of luma coefficients outside the bins of the file's quantisation",
    "drift": "root mean square of the change of 8x8 block means, in grey levels",
    "blockiness": "how much the blockiness rose",
    "quality": "points that the model's own estimate of the quality fell",
    "noise": "grey levels that the model's own estimate of the noise rose",
    "blur": "pixels that the model's own estimate of the blur rose",
    "psnr": "what was gained against the reference, in dB",
}

_MEASURES = (("psnr", "PSNR, dB", ".2f"), ("ssim", "SSIM", ".4f"), ("blockiness", "blockiness", ".3f"))
_ESTIMATE = ("quality", "quality estimate", ".1f")


@dataclasses.dataclass(frozen=True)
class Failure:
    """A dead letter, as a run's table of failures tells it.

    Attributes:
        run: that gave the image up.
        written: as in `ReceiptRef`, of the table.
        version, stage, reason, detail, repro: as in the table; empty where it does not say.
    """

    run: str
    written: int
    version: str
    stage: str
    reason: str
    detail: str
    repro: str


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A receipt that cannot be believed, and why."""

    found: ReceiptRef
    why: str


@dataclasses.dataclass(frozen=True)
class Story:
    """All that is known of one image.

    Attributes:
        name: of the image.
        receipts: the newest first; all but the first are superseded.
        failures: the newest first.
        not_shown: how many older receipts there are beside these.
    """

    name: str
    receipts: tuple[tuple[ReceiptRef, Receipt | Unreadable], ...]
    failures: tuple[Failure, ...]
    not_shown: int = 0

    @property
    def failed_since(self) -> tuple[Failure, ...]:
        """Failures that are newer than every receipt."""
        newest = max((found.written for found, _ in self.receipts), default=-1)
        return tuple(failure for failure in self.failures if failure.written > newest)


def story_of(target: Storage, name: str, *, everything: bool) -> Story:
    """Looks up one image; no more is read than its own receipts and the failures of runs newer than they are.

    Args:
        target: the output.
        name: of the image, below the archive's root.
        everything: also older receipts and failures.
    """
    found = provenance.receipts_of(target, name)
    receipts = tuple((one, _read(target, one)) for one in (found if everything else found[:1]))
    since = -1 if everything or not found else found[0].written
    failed: list[Failure] = []
    for failure in _failures(target, printable_name(name), since):
        failed.append(failure)
        if not everything:
            break
    return Story(name, receipts, tuple(failed), len(found) - len(receipts))


def nearest_names(target: Storage, name: str, number: int = 5) -> list[str]:
    """Finds the names most like one that nobody knows: the same file in another folder, then a similar spelling."""
    wanted = printable_name(name)
    known = {found[0] for ref in target.list(f"{names.RECEIPTS}/") if (found := names.receipt_of(ref.name))}
    known.update(entry["name"] for _, entry in _entries(target, -1))
    scored = ((_likeness(wanted, other), other) for other in known)
    near = heapq.nlargest(number, (pair for pair in scored if pair[0] > 0.6))
    return [other for _, other in near]


def printable_name(name: str) -> str:
    """Spells a name as tables do."""
    return names.printable(name)


def as_json(story: Story) -> dict[str, Any]:
    """Gives a story as JSON's values: receipts as they are, under the names of their objects."""
    receipts = [
        {"object": found.ref.name, "unreadable": said.why}
        if isinstance(said, Unreadable)
        else {"object": found.ref.name, **said.values}
        for found, said in story.receipts
    ]
    return {
        "name": story.name,
        "receipts": receipts,
        "failures": [dataclasses.asdict(failure) for failure in story.failures],
    }


def as_text(story: Story) -> Iterator[str]:
    """Tells a story in lines that a terminal may be given: nothing in them acts on it.

    Args:
        story: of one image.
    """
    since = story.failed_since
    parts = [_failed(story, failure) for failure in since]
    parts += [_done(story, place) for place in range(len(story.receipts))]
    parts += [_failed(story, failure) for failure in story.failures if failure not in since]
    if story.not_shown:
        parts.append([f"{counted(story.not_shown, 'older receipt')} of this image: --all shows them"])
    for place, part in enumerate(parts):
        if place:
            yield ""
        yield from (printable(line) for line in part)


def _read(target: Storage, found: ReceiptRef) -> Receipt | Unreadable:
    try:
        return provenance.read_receipt(target, found)
    except ReceiptError as error:
        return Unreadable(found, str(error))


def _failures(target: Storage, name: str, since: int) -> Iterator[Failure]:
    for written, entry in _entries(target, since):
        if printable_name(entry["name"]) == name:
            texts = {field: entry.get(field) for field in ("run", "version", "stage", "reason", "detail", "repro")}
            yield Failure(**{k: v if isinstance(v, str) else "" for k, v in texts.items()}, written=written)


def _entries(target: Storage, since: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Reads the failures of all runs, the newest run first; lines that are no object with a name are left out."""
    runs: dict[str, list[ImageRef]] = defaultdict(list)
    for ref in target.list(f"{names.RUNS}/"):
        run, _, file = ref.name.removeprefix(f"{names.RUNS}/").partition("/")
        if file.startswith("failures-") and file.endswith(".jsonl") and ref.size <= _MAX_FAILURES_BYTES:
            runs[run].append(ref)
    newest = {run: max(map(provenance.when, shards)) for run, shards in runs.items()}
    for run in sorted(runs, key=lambda run: (newest[run], run), reverse=True):
        if newest[run] <= since:
            return
        for shard in runs[run]:
            for line in (target.read_small(shard.name) or b"").splitlines():
                try:
                    entry = provenance.load_json(line)
                except ReceiptError:
                    continue
                if isinstance(entry, dict) and isinstance(entry.get("name"), str):
                    yield newest[run], {**entry, "run": run}


def _likeness(wanted: str, other: str) -> float:
    matcher = difflib.SequenceMatcher(None, wanted.casefold(), other.casefold())
    bonus = 1.0 if wanted.rpartition("/")[2].casefold() == other.rpartition("/")[2].casefold() else 0.0
    # The quick ratios are upper bounds: most names are far off, and the real one is slow.
    if not bonus and (matcher.real_quick_ratio() <= 0.6 or matcher.quick_ratio() <= 0.6):
        return 0.0
    return bonus + matcher.ratio()


def _in_words(reason: str) -> str:
    if reason.startswith("gate-"):
        check = reason.removeprefix("gate-")
        return f"the restored picture did not pass the check {check}: {_CHECKS.get(check, check)}"
    return _REASONS.get(reason, "")


def _because(reason: str) -> str:
    words = _in_words(reason)
    return f"{reason}: {words}" if words else reason


def _failed(story: Story, failure: Failure) -> list[str]:
    when = ""
    if story.receipts:
        when = " (since then)" if failure in story.failed_since else " (before that)"
    facts = [
        ("stage", failure.stage),
        ("detail", failure.detail),
        ("version", failure.version),
        ("run", failure.run),
        ("try again", failure.repro),
    ]
    return [f"{story.name}: failed{when}, {_because(failure.reason)}", *_aligned(facts)]


def _done(story: Story, place: int) -> list[str]:
    name, (found, said) = story.name, story.receipts[place]
    older = " (superseded)" if place else ""
    if isinstance(said, Unreadable):
        return [f"{name}: its receipt{older} cannot be read: {said.why}", *_aligned([("receipt", found.ref.name)])]
    picture = f", {said.width}x{said.height}" if said.width else ""
    pages = f", {said.pages} pages" if said.pages > 1 else ""
    return [
        f"{name}: {said.decision}{older}, {_because(said.reason)}",
        *_aligned(
            [
                ("source", said.source_uri),
                ("", f"{said.source_format}{picture}{pages}, {size(said.source.size)}, version {said.source.version}"),
                ("", f"sha256 {said.source_sha256}"),
                ("output", said.output.uri),
                ("", f"{said.output_format}, {size(said.output.size)}, sha256 {said.output.sha256}"),
                *_damage(said.damage),
                (
                    "",
                    ""
                    if said.assume_quality is None
                    else f"taken for JPEG of quality {said.assume_quality:g}, as told",
                ),
                *_measures(said.before, said.after),
                *_gate(said.gate),
                ("metadata", f"kept: {_listed(said.kept)}; not kept: {_listed(said.not_kept)}"),
                ("run", f"{said.run}, Relume {said.code} on {said.device}"),
                ("model", said.model),
                ("recipe", said.recipe),
                ("receipt", found.ref.name),
            ]
        ),
    ]


def _aligned(facts: list[tuple[str, str]]) -> list[str]:
    return [f"  {title:<11}{text}" for title, text in facts if text]


def _listed(kinds: tuple[str, ...]) -> str:
    return ", ".join(kinds) or "none"


def _damage(damage: Damage | None) -> Iterator[tuple[str, str]]:
    if damage is None:
        yield "damage", "the model never saw this image"
        return
    yield "damage", f"most likely {damage.kind} ({100 * damage.confidence:.0f} % sure)"
    if damage.quality is not None:
        yield "", f"quality like JPEG {damage.quality:.0f}"
    yield "", f"noise {damage.noise:.1f} grey levels, blur {damage.blur:.1f} pixels"
    if damage.header_quality is not None:
        twice = "; the pixels look much worse: it was compressed before" if damage.recompressed else ""
        yield "", f"the file's own tables stand for quality {damage.header_quality}{twice}"


def _measures(before: Measures, after: Measures) -> Iterator[tuple[str, str]]:
    title = "measures"
    for field, words, form in (*_MEASURES, _ESTIMATE):
        values = [getattr(state, field) for state in (before, after)]
        if values == [None, None]:
            continue
        shown = ["not taken" if value is None else f"{value:{form}}" for value in values]
        yield title, f"{words:<18}{shown[0]:>10} -> {shown[1]}"
        title = ""


def _gate(gate: tuple[Check, ...]) -> Iterator[tuple[str, str]]:
    if not gate:
        yield "checks", "none: nothing was restored"
    for place, check in enumerate(gate):
        value = "no number" if check.value is None else f"{check.value:.6g}"
        verdict = "passed" if check.passed else "FAILED"
        meaning = _CHECKS.get(check.name, "unknown to this version of Relume")
        yield "" if place else "checks", f"{verdict}  {check.name} {value}{_must(check)} ({meaning})"


def _must(check: Check) -> str:
    """What the gate asked of a check, as the end of a phrase; empty where the receipt has no number."""
    if check.limit is None:
        return ""
    relation = {"changed": "above", "psnr": "at least"}.get(check.name, "at most")
    return f", must be {relation} {check.limit:g}"
