"""What a run would do, counted by the launcher before it starts."""

from __future__ import annotations

import dataclasses
import hashlib
import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator

from pipeline import listing, names
from pipeline.codec import Header, KeepAsIs, Limits
from pipeline.codec.decoding import probe_message
from pipeline.codec.transforms import decode_by
from pipeline.elements import ImageRef
from pipeline.failures import BadNameError, ImageError
from pipeline.flags import UsageError
from pipeline.guard import Guard
from pipeline.options import RestoreConfig
from pipeline.recording import RunInfo, canonical_json
from pipeline.references import stem
from pipeline.storage import Created, open_storage


@dataclasses.dataclass(frozen=True)
class Survey:
    """The counts of an archive against its output.

    Attributes:
        listed: images of the archive that the flags choose.
        done: that have a receipt of this version and recipe.
        unusable: whose names cannot become names below the output.
        pending: all others.
        pending_bytes: their size together.
    """

    listed: int
    done: int
    unusable: int
    pending: int
    pending_bytes: int

    @property
    def told(self) -> str:
        """The counts in one line."""
        return (
            f"{self.listed} images: {self.pending} to do ({self.pending_bytes / 1e6:.1f} MB), {self.done} done before, "
            f"{self.unusable} with names that cannot be used"
        )


class Sample:
    """Chooses some of the images that are to be done: the same ones every time, in whatever order they are listed.

    Args:
        most: how many; all where there are no more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._chosen: list[tuple[int, ImageRef]] = []

    def add(self, ref: ImageRef) -> None:
        """Takes an image in if the digest of its name is among the smallest."""
        digest = hashlib.blake2b(ref.name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        # The heap holds the largest of the chosen at its front: the next to go.
        heapq.heappush(self._chosen, (-int.from_bytes(digest, "big"), ref))
        if len(self._chosen) > self._most:
            heapq.heappop(self._chosen)

    @property
    def refs(self) -> tuple[ImageRef, ...]:
        """The chosen, in an order that has nothing to do with their names."""
        return tuple(ref for _, ref in sorted(self._chosen, reverse=True))


def take(config: RestoreConfig, recipe_digest: str, sample: Sample | None = None) -> Survey:
    """Lists both ends and counts; nothing is opened but files that lack a reference.

    Args:
        config: which archive, which output, which images.
        recipe_digest: of the run.
        sample: is shown every image that is to be done.

    Raises:
        UsageError: if an image that is to be restored has no picture in the reference folder.
    """
    target = open_storage(config.output)
    known = None if config.reference is None else _references(config.reference)
    listed = done = unusable = pending = pending_bytes = 0
    for refs, receipts in _parts(config):
        for ref in refs:
            listed += 1
            try:
                target.output_name(ref.name)
            except BadNameError:
                unusable += 1
                continue
            if listing.is_done(ref, receipts.get(ref.name, ()), recipe_digest):
                done += 1
                continue
            pending, pending_bytes = pending + 1, pending_bytes + ref.size
            if sample is not None:
                sample.add(ref)
            if known is not None and stem(ref.name) not in known and _can_be_measured(config, ref):
                raise UsageError(
                    f"--reference {config.reference} has no picture for {ref.name!r}: it must hold one "
                    "under the same name, of any extension, for every image of --input"
                )
    return Survey(listed, done, unusable, pending, pending_bytes)


def read_header(config: RestoreConfig, ref: ImageRef) -> Header:
    """Reads the header of an image, in a guarded process, from its whole file.

    Raises:
        ImageError: if the image would be given up by what can be known without its pixels.
    """
    limits = Limits(max_bytes=config.max_bytes, max_pixels=round(config.max_megapixels * 1e6))
    data = open_storage(config.input).read(ref, limits.max_bytes).data
    header = Header(**Guard()(probe_message, {}, [data])[0])
    if header.keep is None:
        limits.check_pixels(header)
    return header


def receipts_in(output: str, after: int = 0) -> int:
    """How many receipts an output holds that were written after a point of `listing.Done.written`."""
    return sum(written > after for written in _written(output))


def newest_receipt(output: str) -> int:
    """`listing.Done.written` of an output's newest receipt; 0 where there is none."""
    return max(_written(output), default=0)


def _written(output: str) -> Iterator[int]:
    for shard in listing.receipt_shards(output):
        yield from (done.written for done in listing.list_receipts(shard, output))


def write_plan(survey: Survey, output: str, run: RunInfo, attempt: str) -> None:
    """Writes what is about to be done as the run's `plan.json`.

    Args:
        survey: what is about to be done.
        output: where.
        run: whose name must be new there.
        attempt: names this call, so that its own repetition after a lost answer is no second run.

    Raises:
        UsageError: if a run of this name was planned before.
    """
    plan = {"run": run.run_id, **dataclasses.asdict(survey), "settings": run.settings, "recipe": run.recipe_digest}
    data = canonical_json({**plan, "model": run.model_digest, "code": run.code_version})
    name = f"{run.folder}/plan.json"
    how = open_storage(output).create(name, data, content_type="application/json", attempt=attempt)
    if how not in (Created.CREATED, Created.ALREADY_MINE):
        raise UsageError(f"--run_id {run.run_id} was used before in {output}: give another one, or none")


def _parts(config: RestoreConfig) -> Iterator[tuple[Iterator[ImageRef], dict[str, list[listing.Done]]]]:
    """Cuts the archive by its first folders, each with the receipts of its images: only those are held at a time."""
    wanted = listing.Wanted(config.input, config.output, config.include, config.exclude)
    if config.inventory is not None:
        # An inventory may name its images in any order, so all receipts have to be at hand.
        refs = (
            listing.look_up(ref, config.input)
            for path in listing.match_inventory(config.inventory)
            for ref in listing.read_inventory(path, config.input)
        )
        yield (ref for ref in refs if wanted(ref.name)), _receipts(config.output, listing.receipt_shards(config.output))
        return
    for shard in listing.shards_of(config.input):
        below = listing.Shard(f"{names.RECEIPTS}/{shard.prefix}", shard.recursive)
        listed = listing.list_shard(shard, config.input)
        yield (ref for ref in listed if wanted(ref.name)), _receipts(config.output, [below])


def _receipts(output: str, shards: Iterable[listing.Shard]) -> dict[str, list[listing.Done]]:
    found: dict[str, list[listing.Done]] = defaultdict(list)
    for shard in shards:
        for receipt in listing.list_receipts(shard, output):
            found[receipt.name].append(receipt)
    return found


def _can_be_measured(config: RestoreConfig, ref: ImageRef) -> bool:
    """Whether the file decodes to pixels: only then is it in want of a reference."""
    limits = Limits(max_bytes=config.max_bytes, max_pixels=round(config.max_megapixels * 1e6))
    try:
        decode_by(Guard(), open_storage(config.input).read(ref, config.max_bytes), limits)
    except (ImageError, KeepAsIs):
        return False
    return True


def _references(uri: str) -> set[str]:
    storage = open_storage(uri)
    storage.check_readable("--reference")
    known = {stem(ref.name) for ref in storage.list()}
    if not known:
        raise UsageError(f"--reference {uri} holds no files: give a folder of pristine pictures")
    return known
