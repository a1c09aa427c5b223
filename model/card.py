"""The card of a model: what people should know before they use it."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

from model import evaluation, pictures
from model.evaluation import Condition, Method, Row

_LOG = logging.getLogger(__name__)

QUALITIES = tuple(range(5, 100, 10))
"""Quality factors at which the estimate is measured."""

_MOST_PICTURES, _MOST_SIDE = 100, 1024
"""So many pictures are measured, of each at most so many rows and columns: up to 10 CPU minutes for a model of S."""

_Wanted = Mapping[bool, tuple[tuple[str, tuple[evaluation.Level, ...]], ...]]

_WANTED: Mapping[str, _Wanted] = {
    "jpeg": {
        False: (("jpeg", ((10,), (20,), (30,), (40,))), ("double_jpeg", ((10, 50),)), ("clean", ((),))),
        True: (("jpeg", ((10,), (40,))),),
    },
    "deblur": {
        False: (("deblur", ((1, 2), (1.6, 1), (1.6, 2), (2.5, 2), (1.6, 5))), ("clean", ((),))),
        True: (("deblur", ((1.6, 2),)),),
    },
    "denoise": {
        False: (("denoise", ((5,), (15,), (25,), (50,))), ("clean", ((),))),
        True: (("denoise", ((25,),)),),
    },
    "x2": {False: (("x2", ((),)),), True: (("x2", ((),)),)},
}
"""What is measured of a model of each task, by whether it is in colour."""

_SHOWN: Mapping[str, tuple[Condition, ...]] = {
    name: tuple(Condition(evaluation.TASKS[name], level) for level in levels)
    for name, levels in {
        "jpeg": ((10,), (10,), (20,), (40,)),
        "deblur": ((1.6, 2), (1.6, 2), (1, 2), (2.5, 2)),
        "denoise": ((25,), (25,), (15,), (50,)),
        "x2": ((), (), (), ()),
    }.items()
}
"""What the pictures of a model of each task show, a row each."""

_CLASSICAL = {"deblur": ("wiener",), "denoise": ("nl-means",)}
"""Baselines that stand beside the degraded picture itself."""

_HARM = {
    "jpeg": "restores pictures harmed by JPEG",
    "deblur": "sharpens pictures that are out of focus and a little noisy",
    "denoise": "takes noise out of pictures",
    "x2": "gives pictures twice the size",
}


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a model was measured to do.

    Attributes:
        pictures: so many were looked at.
        grey, colour: rows of the two protocols.
        quality_error: mean absolute error of the estimated quality factor, without and with header; None for another
            task than `jpeg`.
    """

    pictures: int
    grey: tuple[Row, ...]
    colour: tuple[Row, ...]
    quality_error: tuple[float, float] | None

    def as_json(self) -> dict[str, Any]:
        """For the contract; an infinite PSNR, of equal pictures, is null."""

        def plain(row: Row) -> dict[str, Any]:
            values = {name: value for name, value in dataclasses.asdict(row).items() if name != "worst"}
            return {
                name: (round(value, 4) if math.isfinite(value) else None) if isinstance(value, float) else value
                for name, value in values.items()
            }

        values: dict[str, Any] = {
            "pictures": self.pictures,
            "grey": {"protocol": evaluation.PROTOCOLS[False], "rows": [plain(row) for row in self.grey]},
            "colour": {"protocol": evaluation.PROTOCOLS[True], "rows": [plain(row) for row in self.colour]},
        }
        if self.quality_error is not None:
            values["quality_error"] = dict(zip(("without_header", "with_header"), self.quality_error, strict=True))
        return values


def measure(restorer: Any, source: str, *, start: Any = None) -> Measured:
    """Measures a model on pristine pictures, at what its contract says it is for.

    Args:
        restorer: a `model.restorer.Restorer`.
        source: of the pictures, as for `evaluation.read_pictures`.
        start: restorer of the model that it was tuned or grown from, to be measured beside it; or None.

    Raises:
        PhotoError: if there are none, or one cannot be read.
    """
    rows = {}
    mine = restorer.contract.task
    for colour, tasks in _WANTED[mine].items():
        wanted = [each for task, levels in tasks for each in evaluation.conditions(task, levels)]
        methods: dict[str, list[evaluation.Method]] = {}
        for task, _ in tasks:
            first = next(iter(evaluation.TASKS[task].baselines))
            methods[task] = [
                *(evaluation.Baseline(name) for name in (first, *_CLASSICAL.get(task, ()))),
                *_models(restorer, start),
            ]
        pristine = _pictures(source, colour=colour)
        rows[colour] = tuple(evaluation.summarise(evaluation.evaluate(pristine, wanted, methods)))
    errors = None
    if mine == "jpeg":
        errors = evaluation.quality_errors(restorer, _pictures(source, colour=True), QUALITIES)
    return Measured(rows[False][0].images, rows[False], rows[True], errors)


def show(restorer: Any, source: str, *, start: Any = None) -> dict[str, bytes]:
    """Pictures of what a model does, by their names: files that stand beside the card.

    Args:
        restorer, source, start: as for `measure`.

    Raises:
        PhotoError: if there are none, or one cannot be read.
    """
    wanted = _SHOWN[restorer.contract.task]
    chosen = _pictures(source, colour=True, limit=len(wanted))
    return {pictures.NAME: pictures.encode(pictures.before_after(chosen, wanted, _models(restorer, start)))}


def _pictures(source: str, *, colour: bool, limit: int | None = None) -> Iterator[evaluation.Picture]:
    """With a line in the log now and then: large photographs take their time."""
    read = evaluation.read_pictures(source, colour=colour, limit=limit or _MOST_PICTURES, side=_MOST_SIDE)
    for number, picture in enumerate(read):
        if number and number % 10 == 0:
            _LOG.info("measured on %d pictures, in %s", number, "colour" if colour else "grey")
        yield picture


def _models(restorer: Any, start: Any) -> list[Method]:
    models: list[Method] = [evaluation.Model(restorer.contract.name, restorer)]
    if start is None:
        return models
    tuned = start.contract.network == restorer.contract.network
    return [evaluation.Model("before tuning" if tuned else start.contract.name, start), *models]


def text(
    name: str,
    *,
    task: str,
    recipe: Mapping[str, Any],
    data: Mapping[str, Any],
    steps: tuple[int, int],
    measured: Measured | None,
    parameters: int,
    macs_per_pixel: int,
    shown: bool = False,
) -> str:
    """The card as Markdown.

    Args:
        name: of the model.
        task, recipe, data: as in the contract; a recipe with `init` or
            `grown_from` is that of a model that was tuned from another, or grown from a smaller one.
        steps: taken, and of the whole recipe.
        measured: on pictures that were not trained on, or None.
        parameters: of the network.
        macs_per_pixel: multiplications and additions a pixel.
        shown: that the pictures of `show` stand beside the card.
    """
    done, whole = steps
    parts = [
        f"# {name}",
        f"A DeconvNet that {_HARM[task]}: {parameters:,} parameters, {macs_per_pixel:,} multiplications and additions "
        "a pixel. It estimates the damage itself and uses the file's quantisation tables where there are any.",
        f"Trained for {done:,} of {whole:,} steps on {data['photos']:,} photographs "
        f"({data['megapixels']:.1f} megapixels).",
    ]
    if "init" in recipe:
        start = f"`{recipe['init']['name']}`, digest `{recipe['init']['digest'][:12]}`"
        parts.append(
            f"Tuned from the model {start}: it does best on pictures like those that it was tuned on, and may do worse "
            "than that one on others."
        )
    if "grown_from" in recipe:
        parts.append(f"Grown from the smaller model `{recipe['grown_from']['name']}`, and trained on.")
    if shown:
        parts += [
            f"![Photographs as they were harmed, restored, and as they were]({pictures.NAME})",
            "Photographs that were given for validation, pixel for pixel, where the harm is greatest.",
        ]
    if measured is None:
        parts.append("Not measured: the run was given no validation pictures.")
    else:
        said = f"On {measured.pictures} pictures that were given for validation, by the protocol of `relume evaluate`."
        if measured.quality_error is not None:
            alone, together = measured.quality_error
            said += (
                f" The estimate of the quality factor, over {QUALITIES[0]}..{QUALITIES[-1]}, is off by {alone:.1f} "
                f"points without and {together:.1f} with the header."
            )
        parts += ["## Measured", said]
        for protocol, rows in zip(evaluation.PROTOCOLS.values(), (measured.grey, measured.colour), strict=True):
            parts += [protocol[0].upper() + protocol[1:] + ".", evaluation.markdown(rows).rstrip()]
    parts += [
        "## Limits",
        "It knows the damage it was trained on. Text, drawings and screens are best left alone; the pipeline keeps "
        "what the model takes for graphics. It makes likely pixels, not lost ones: no evidence should rest on them.",
        "## Made by",
        f"Pictures: SHA-256 of names and pixels `{data['fingerprint']}`.",
        "```json\n" + json.dumps(recipe, indent=1) + "\n```",
    ]
    return "\n\n".join(parts) + "\n"
