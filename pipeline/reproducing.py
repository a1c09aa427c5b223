"""Restores images again, the whole way, and compares what comes out with what stands in the output."""

from __future__ import annotations

import dataclasses
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

import pipeline
from pipeline import names, provenance
from pipeline.archive import Plan, RestoreArchive
from pipeline.comparing import Decode, share_alike
from pipeline.elements import Row
from pipeline.flags import UsageError
from pipeline.options import RestoreConfig
from pipeline.provenance import Receipt, ReceiptError
from pipeline.recording import RunInfo, read_rows
from pipeline.storage import Storage, open_storage
from pipeline.verifying import Finding, Kind

ENOUGH = 0.9999
"""Share of pixels that must be within one grey level where another device computes."""

_RUN = "reproduced"


@dataclasses.dataclass(frozen=True)
class Means:
    """With what images are restored again.

    Attributes:
        input: the archive's root.
        model: as in `models.folder_of`.
        model_digest: of its contract.
        reference: folder of pristine images, or None.
        scale: of the model.
    """

    input: str
    model: str
    model_digest: str
    reference: str | None = None
    scale: int = 1


def check_model(target: Storage, means: Means) -> None:
    """Refuses a model that is not the one that the output was made with.

    Raises:
        UsageError: naming both.
    """
    recipe = _record(target, names.RECIPE)
    made_with = recipe.get("settings", {}).get("model") if isinstance(recipe.get("settings"), dict) else None
    if isinstance(made_with, str) and made_with != means.model_digest:
        raise UsageError(
            f"--model {means.model} has digest {means.model_digest}, the output was made with {made_with}: "
            "give the folder of that model"
        )


def reproduce(target: Storage, receipts: Sequence[Receipt], means: Means, decode: Decode) -> Iterator[Finding]:
    """Restores the sources of receipts again, by the pipeline itself, into a folder that is deleted in the end.

    Args:
        target: the output; its objects must be what the receipts say.
        receipts: which.
        means: with what.
        decode: reads an image file, of which one knows nothing, for a comparison of pixels.

    Yields:
        One finding a receipt; the detail of one that is OK says where it was not equal to the last bit.
    """
    settings = _recipes(target)
    groups: dict[str, list[Receipt]] = defaultdict(list)
    for receipt in receipts:
        if receipt.model != means.model_digest:
            yield _not(receipt, f"made with model {receipt.model}, --model has digest {means.model_digest}")
        elif receipt.recipe not in settings:
            yield _not(receipt, f"no run in the output says what the settings of recipe {receipt.recipe} were")
        else:
            groups[receipt.recipe].append(receipt)
    for recipe, group in groups.items():
        with tempfile.TemporaryDirectory(prefix="relume-verify-") as folder:
            try:
                config = _config(Path(folder), group, settings[recipe], means)
                if config.recipe_digest(means.model_digest) != recipe:
                    raise UsageError("the settings are not those of the recipe's digest")
            except (TypeError, UsageError) as error:
                for receipt in group:
                    yield _not(receipt, f"recipe {recipe} cannot be followed by this version of Relume: {error}")
                continue
            rows = _restore(config, group, means, recipe)
            for receipt in group:
                yield _compare(receipt, rows.get(receipt.source.name), target, open_storage(config.output), decode)


def _config(folder: Path, group: Sequence[Receipt], settings: Mapping[str, Any], means: Means) -> RestoreConfig:
    """Makes the config of a run over these images; of the settings only those that belong to a recipe are taken."""
    base = RestoreConfig(
        input=means.input,
        output=str(folder / "output"),
        model=means.model,
        reference=means.reference,
        inventory=str(folder / "names.txt"),
        run_id=_RUN,
    )
    # No limit may refuse what was restored once.
    most_bytes = max(base.max_bytes, *(receipt.source.size for receipt in group))
    pixels = means.scale**2 * max(receipt.width * receipt.height * receipt.pages for receipt in group)
    base = dataclasses.replace(base, max_bytes=most_bytes, max_megapixels=max(base.max_megapixels, pixels / 1e6))
    chosen = {name: value for name, value in settings.items() if name != "model"}
    config = dataclasses.replace(base, **chosen)
    if chosen.keys() != config.recipe_settings().keys():
        raise UsageError(f"it has settings {', '.join(map(repr, chosen))}")
    return config


def _restore(config: RestoreConfig, group: Sequence[Receipt], means: Means, recipe: str) -> dict[str, Row]:
    """Runs the whole way over these images; the rows say by name what became of them."""
    source = open_storage(config.input)
    if config.inventory is None:
        raise ValueError("config must have an inventory")
    # In full, so that no name is read as anything else.
    lines = [f"{source.address(receipt.source.name)}\n" for receipt in group]
    Path(config.inventory).write_text("".join(lines), encoding="utf-8", newline="\n")
    run = RunInfo(_RUN, pipeline.__version__, means.model_digest, recipe, config.recipe_settings())
    with beam.Pipeline(runner=FnApiRunner()) as root:
        _ = root | RestoreArchive(Plan(config, run, means.model, scale=means.scale))
    return {row.name: row for row in read_rows(config.output, _RUN)}


def _compare(receipt: Receipt, row: Row | None, target: Storage, again: Storage, decode: Decode) -> Finding:
    name = receipt.source.name
    if row is None or row.outcome not in ("restored", "kept"):
        why = "it was not listed" if row is None else f"{row.stage}: {row.reason}: {row.detail}"
        return _not(receipt, f"its source cannot be restored again: {why}")
    try:
        new = provenance.read_receipt(again, provenance.receipts_of(again, name)[0])
    except (ReceiptError, IndexError) as error:
        raise RuntimeError(f"{name!r} was restored again without a receipt") from error
    if new.source_sha256 != receipt.source_sha256:
        return _not(receipt, "its source was changed since")
    if (new.decision, new.output.name) != (receipt.decision, receipt.output.name):
        now, then = (f"{one.decision} as {one.output.name} because of {one.reason}" for one in (new, receipt))
        return _not(receipt, f"now {now}; then {then}")
    if new.output.sha256 == receipt.output.sha256:
        return Finding(Kind.OK, name)
    share = share_alike(new.output.name, target, again, decode)
    text = f"{100 * np.floor(share * 1e6) / 1e6:.4f} % of the pixels are within one grey level"
    return Finding(Kind.OK, name, text) if share >= ENOUGH else _not(receipt, f"{text}, {100 * ENOUGH} % must be")


def _not(receipt: Receipt, detail: str) -> Finding:
    return Finding(Kind.NOT_REPRODUCED, receipt.source.name, detail)


def _recipes(target: Storage) -> dict[str, Mapping[str, Any]]:
    """Finds the settings of every recipe that the output knows, by digest."""
    plans = [f"{folder}plan.json" for folder in target.folders(f"{names.RUNS}/")]
    found: dict[str, Mapping[str, Any]] = {}
    for name in [*plans, names.RECIPE]:
        record = _record(target, name)
        digest, settings = record.get("recipe"), record.get("settings")
        if isinstance(digest, str) and isinstance(settings, dict):
            found[digest] = settings
    return found


def _record(target: Storage, name: str) -> dict[str, Any]:
    """Reads one of the output's own small objects; empty where there is none, or none that can be read."""
    ref = target.stat(name)
    if ref is None or ref.size > provenance.MAX_RECEIPT_BYTES:
        return {}
    try:
        found = provenance.load_json(target.read_small(name) or b"{}")
    except (ReceiptError, OSError):
        return {}
    return found if isinstance(found, dict) else {}
