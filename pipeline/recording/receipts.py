"""Outputs, and the receipts that say what they are."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics

from pipeline import logs, names
from pipeline.elements import DeadLetter, ImageRef, Judged, Row
from pipeline.failures import ChangedError, ConflictError, Failed, ImageError, Outcome
from pipeline.spool import HELD_BYTES, Content, Spool
from pipeline.storage import CloudStorage, Created, Storage, UsageError, crc32c_of, open_storage

RECEIPT_FORMAT = 1
"""Grows when a receipt's fields change their meaning."""

_CONTENT_TYPES = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "tiff": "image/tiff",
    "webp": "image/webp",
    "bmp": "image/bmp",
    "gif": "image/gif",
    "jp2": "image/jp2",
    "avif": "image/avif",
    "heic": "image/heic",
    "heif": "image/heif",
}


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """With what a run works; stands in every receipt.

    Attributes:
        run_id: names the run's folder; a plain name without slashes.
        code_version: of this package.
        model_digest: of the model folder.
        recipe_digest: of all that decides what becomes of an image (`digest_of`).
        settings: of the run, JSON's values.
    """

    run_id: str
    code_version: str
    model_digest: str
    recipe_digest: str
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        names.check_name(self.run_id)
        if "/" in self.run_id:
            raise ValueError(f"run_id must be a plain name without slashes, got {self.run_id!r}")

    @property
    def folder(self) -> str:
        """Where the run's tables and summary stand, below the output's root."""
        return f"{names.RUNS}/{self.run_id}"


@dataclasses.dataclass(frozen=True)
class Output:
    """The object that stands for one image.

    Attributes:
        name: below the output's root.
        uri: in full.
        size: in bytes.
        crc32c, sha256: as in `File`.
    """

    name: str
    uri: str
    size: int
    crc32c: str
    sha256: str


def canonical_json(value: Any) -> bytes:
    """Writes JSON in one way only: keys sorted, UTF-8, one line.

    Numbers that JSON has not (the PSNR of two equal images is infinite) become null.
    """
    text = json.dumps(_finite(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return (text + "\n").encode("utf-8", "backslashreplace")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def digest_of(settings: Mapping[str, Any]) -> str:
    """Digests settings: SHA-256 of their canonical JSON, hexadecimal; the recipe digest of a run."""
    return hashlib.sha256(canonical_json(settings)).hexdigest()


def receipt(judged: Judged, source: Storage, output: Output, run: RunInfo) -> dict[str, Any]:
    """Says what was done with one image and why, as JSON's values; without a clock.

    It can be mapped to PREMIS (object, event, agent), C2PA actions and XMP history.
    """
    ref, verdict = judged.ref, judged.verdict
    tables = judged.quantization
    return {
        "relume": RECEIPT_FORMAT,
        "key": names.image_key(ref, run.recipe_digest),
        "source": {
            "name": ref.name,
            "uri": source.address(ref.name),
            "version": ref.version,
            "size": ref.size,
            "crc32c": judged.file.crc32c,
            "sha256": judged.file.sha256,
            "format": judged.format,
            "width": judged.size[0],
            "height": judged.size[1],
            "pages": judged.size[2],
            "quantization": None if tables is None else tables.reshape(len(tables), -1).tolist(),
        },
        "output": {**dataclasses.asdict(output), "format": judged.output_format},
        "process": {
            "run": run.run_id,
            "code": run.code_version,
            "model": run.model_digest,
            "recipe": run.recipe_digest,
            "device": judged.device,
            **{name: run.settings[name] for name in ("assume_quality",) if name in run.settings},
        },
        "decision": verdict.outcome,
        "reason": verdict.reason,
        "gate": [
            {"check": one.name, "value": float(one.value), "limit": float(one.limit), "passed": bool(one.passed)}
            for one in verdict.gate
        ],
        "before": dataclasses.asdict(verdict.before),
        "after": dataclasses.asdict(verdict.after),
        "damage": None if verdict.damage is None else dataclasses.asdict(verdict.damage),
        "metadata": {"kept": list(judged.kept_metadata), "not_kept": list(judged.not_kept)},
    }


def write_image(judged: Judged, source: Storage, target: Storage, run: RunInfo) -> Row:
    """Writes one output and then its receipt, which says that the image is done.

    May be called again at any time, by the same run, a later one or another beside it: what is written already is left
    as it is. An output of an older version of the source, or of an older recipe, is replaced if its receipt proves that
    its bytes are ours, and deleted if the new one has another name (`a.png` kept, `a.png.tiff` restored); nothing else
    is ever overwritten.

    Raises:
        BadNameError: if the names do not fit below the output.
        ConflictError: if something that is not ours stands there.
        ChangedError: if a newer version of the source was restored meanwhile.
    """
    ref, key = judged.ref, names.image_key(judged.ref, run.recipe_digest)
    name = target.output_name(ref.name, judged.suffix)
    attempt = f"{key}-{judged.verdict.outcome}"
    content_type = _CONTENT_TYPES.get(judged.output_format, "application/octet-stream")
    output = _output(target, name, judged.data)

    # An image that is new costs no look at receipts.
    receipts = list(_receipts_of(target, ref.name)) if ref.again else []
    _check_newest(target, ref, receipts)
    how = target.create(name, judged.data, content_type=content_type, attempt=attempt)
    if how is not Created.CREATED and not ref.again:
        receipts = list(_receipts_of(target, ref.name))
    own = next((found for found in receipts if found.key == key), None)
    outdated = [found for found in receipts if found.key != key]
    if how is Created.ALREADY_MINE:
        output = _standing(target, name).output
    elif how is Created.CONFLICT:
        standing = _standing(target, name, [found.output_size for found in receipts])
        if own and own.describes(standing.output):
            # An earlier attempt ended with its receipt; a device that does not compute to the last bit differs from it.
            return _row(judged, standing.output)
        owner = next((found for found in outdated if found.describes(standing.output)), None)
        if owner is None:
            raise ConflictError(
                f"{target.address(name)} is not what any receipt of {ref.name!r} describes; left as it is"
            )
        _check_newest(target, ref, [owner])
        target.replace(standing.ref, judged.data, content_type=content_type, attempt=attempt)
        if own:
            # The source was changed and changed back. Its first receipt goes, so that the one below is the newest.
            target.delete(own.ref)

    # Before the receipt: a run that is killed here comes by again.
    for found in outdated:
        if found.output_name != name:
            _delete_output(target, ref.name, found)
    data = canonical_json(receipt(judged, source, output, run))
    # One that stands already has this image's key: it says the same of it, perhaps in the name of another run.
    target.create(names.receipt_name(ref, run.recipe_digest), data, content_type="application/json", attempt=attempt)
    for found in outdated:
        # What may not be deleted does no harm: the newest receipt counts.
        with contextlib.suppress(PermissionError):
            target.delete(found.ref)
    return _row(judged, output)


def _check_newest(target: Storage, ref: ImageRef, receipts: Iterable[_Receipt]) -> None:
    """Raises `ChangedError` where a version that is known to be newer was restored."""
    for found in receipts if isinstance(target, CloudStorage) else ():
        if _generation(found.source_version) > _generation(ref.version):
            raise ChangedError(f"version {found.source_version}, which is newer, was restored meanwhile")


def _delete_output(target: Storage, image: str, found: _Receipt) -> None:
    """Deletes the output of an image that now has another name, if its bytes are those of its receipt.

    Another image may have the very same output (`a.jpg` as PNG, and `a.jpg.png` kept): then its own receipt says so,
    and it stays.
    """
    try:
        standing = _standing(target, found.output_name, [found.output_size])
    except ImageError:
        return  # gone, or not ours
    suffixes = [suffix for suffix in names.SUFFIXES if found.output_name.endswith(suffix)]
    others = {found.output_name.removesuffix(suffix) for suffix in suffixes} - {image}
    claims = (claim for other in sorted(others) for claim in _receipts_of(target, other))
    if found.describes(standing.output) and not any(claim.describes(standing.output) for claim in claims):
        # What may not be deleted stands beside the new output, and `relume verify` names it.
        with contextlib.suppress(PermissionError):
            target.delete(standing.ref)


def _output(target: Storage, name: str, data: Content) -> Output:
    sha256 = data.sha256 if isinstance(data, Spool) else hashlib.sha256(data).hexdigest()
    return Output(name, target.address(name), len(data), crc32c_of(data), sha256)


@dataclasses.dataclass(frozen=True)
class _Standing:
    """An object of the output as it is now."""

    ref: ImageRef
    output: Output


def _standing(target: Storage, name: str, sizes: Iterable[int] | None = None) -> _Standing:
    """Reads back what stands in the way; where it has none of `sizes`, it cannot be ours and is not read."""
    ref = target.stat(name)
    if ref is None or (sizes is not None and ref.size not in sizes):
        raise ConflictError(f"{target.address(name)} is not ours; left as it is")
    file = target.read(ref, ref.size) if ref.size <= HELD_BYTES else target.fetch(ref, ref.size)
    return _Standing(ref, Output(name, target.address(name), ref.size, file.crc32c, file.sha256))


@dataclasses.dataclass(frozen=True)
class _Receipt:
    """What an earlier receipt says, as far as it decides whose an output is."""

    ref: ImageRef
    key: str
    source_version: str
    output_name: str
    output_size: int
    output_sha256: str

    def describes(self, output: Output) -> bool:
        return (self.output_name, self.output_sha256) == (output.name, output.sha256)


def _receipts_of(target: Storage, name: str) -> Iterator[_Receipt]:
    """Reads all receipts of one image, of any version and recipe."""
    for ref in target.list(f"{names.RECEIPTS}/{name}.", recursive=False):
        parts = names.receipt_of(ref.name)
        # One without a version is a link that leads nowhere; one that cannot be read proves nothing.
        if parts and parts[0] == name and ref.version and (data := target.read_small(ref.name)):
            try:
                said = json.loads(data)
                output, version = said["output"], said["source"]["version"]
                if output["name"] in {name + suffix for suffix in names.SUFFIXES}:
                    yield _Receipt(ref, parts[1], version, output["name"], output["size"], output["sha256"])
            except (ValueError, KeyError, TypeError):
                continue


def _generation(version: str) -> int:
    """Reads a version of cloud storage, which grows; other versions do not."""
    return int(version) if version.isdecimal() else 0


def _row(judged: Judged, output: Output) -> Row:
    width, height, pages = judged.size
    return Row(
        name=judged.ref.name,
        version=judged.ref.version,
        size=judged.ref.size,
        outcome=judged.verdict.outcome,
        reason=judged.verdict.reason,
        width=width,
        height=height,
        pages=pages,
        format=judged.format,
        output_format=judged.output_format,
        output=output.name,
        output_size=output.size,
        before=judged.verdict.before,
        after=judged.verdict.after,
        damage=judged.verdict.damage,
        device=judged.device,
    )


@dataclasses.dataclass
class WriteWithReceipt(beam.PTransform):
    """Writes outputs, each followed by its receipt: `PCollection[Judged]` -> `Outcome` of `Row`.

    Attributes:
        source_uri: the archive's root, for the receipt.
        target_uri: the output's root.
        run: with what the run works.
    """

    source_uri: str
    target_uri: str
    run: RunInfo

    def expand(self, judged: beam.PCollection[Judged]) -> Outcome:
        do_fn = _WriteImage(self.source_uri, self.target_uri, self.run)
        written = judged | "Write" >> beam.ParDo(do_fn).with_outputs("failed", main="good")
        return Outcome(written.good, written.failed)


class _WriteImage(beam.DoFn):
    """Writes one image. Counters, namespace `write`: `restored`, `kept`, `failed`, `bytes`."""

    def __init__(self, source_uri: str, target_uri: str, run: RunInfo) -> None:
        self._source = open_storage(source_uri)
        self._target = open_storage(target_uri)
        self._run = run
        self._counters = {what: Metrics.counter("write", what) for what in ("restored", "kept", "failed", "bytes")}

    def process(self, judged: Judged) -> Iterator[Row | beam.pvalue.TaggedOutput]:
        result: Row | DeadLetter
        try:
            with logs.about(image=judged.ref.name, stage="write"):
                result = write_image(judged, self._source, self._target, self._run)
        except ImageError as error:
            result = Failed("write")(judged.ref, error)
        if isinstance(result, DeadLetter):
            self._counters["failed"].inc()
            yield beam.pvalue.TaggedOutput("failed", result)
        else:
            self._counters[result.outcome].inc()
            self._counters["bytes"].inc(result.output_size)
            yield result


def check_recipe(
    target_uri: str, digest: str, settings: Mapping[str, Any], *, replace: bool = False, dry_run: bool = False
) -> None:
    """Makes sure that one output is of one recipe: the first run writes it down, later ones must have the same.

    Args:
        target_uri: the output's root.
        digest: `digest_of` all settings that decide what becomes of an image.
        settings: those settings, written beside the digest for people.
        replace: makes this recipe the output's from now on. Every image is pending again; an output is then replaced
            where its receipt proves that its bytes are ours, and left alone where it was edited (a `conflict`). A run
            that is killed on the way goes on with the new recipe; what it has not reached is still whole, as the old
            recipe made it.
        dry_run: looks, and writes nothing.

    Raises:
        UsageError: if the output is of another recipe and must not be replaced.
    """
    target = open_storage(target_uri)
    data = canonical_json({"relume": RECEIPT_FORMAT, "recipe": digest, "settings": settings})
    if not dry_run and (
        target.create(names.RECIPE, data, content_type="application/json", attempt=digest) is not Created.CONFLICT
    ):
        return
    standing = target.stat(names.RECIPE)
    known = json.loads(target.read_small(names.RECIPE) or b"{}").get("recipe")
    if known == digest or (dry_run and (replace or standing is None)):
        return
    if not replace or standing is None:
        raise UsageError(
            f"--output {target_uri} was made with recipe {known}, this run has {digest}: "
            "give another output, or --replace to make all of it again"
        )
    target.replace(standing, data, content_type="application/json", attempt=digest)
