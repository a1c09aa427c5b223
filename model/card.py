"""The card of a model: what people should know before they use it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

from model import evaluation
from model.evaluation import Row

QUALITIES = tuple(range(5, 100, 10))
"""Quality factors at which the estimate is measured."""

_WANTED = {
    False: (("jpeg", ((10,), (20,), (30,), (40,))), ("double_jpeg", ((10, 50),)), ("clean", ((),))),
    True: (("jpeg", ((10,), (40,))),),
}


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a model was measured to do.

    Attributes:
        pictures: so many were looked at.
        grey, colour: rows of the two protocols.
        quality_error: mean absolute error of the estimated quality factor, without and with header.
    """

    pictures: int
    grey: tuple[Row, ...]
    colour: tuple[Row, ...]
    quality_error: tuple[float, float]

    def as_json(self) -> dict[str, Any]:
        """For the contract; an infinite PSNR, of equal pictures, is null."""

        def plain(row: Row) -> dict[str, Any]:
            values = {name: value for name, value in dataclasses.asdict(row).items() if name != "worst"}
            return {
                name: (round(value, 4) if math.isfinite(value) else None) if isinstance(value, float) else value
                for name, value in values.items()
            }

        return {
            "pictures": self.pictures,
            "grey": {"protocol": evaluation.PROTOCOLS[False], "rows": [plain(row) for row in self.grey]},
            "colour": {"protocol": evaluation.PROTOCOLS[True], "rows": [plain(row) for row in self.colour]},
            "quality_error": {"without_header": self.quality_error[0], "with_header": self.quality_error[1]},
        }


def measure(restorer: Any, source: str) -> Measured:
    """Measures a model on pristine pictures.

    Args:
        restorer: a `model.restorer.Restorer`.
        source: of the pictures, as for `evaluation.read_pictures`.

    Raises:
        PhotoError: if there are none, or one cannot be read.
    """
    rows = {}
    for colour, tasks in _WANTED.items():
        wanted = [each for task, levels in tasks for each in evaluation.conditions(task, levels)]
        methods: dict[str, list[evaluation.Method]] = {}
        for task, _ in tasks:
            first = next(iter(evaluation.TASKS[task].baselines))
            methods[task] = [
                evaluation.Baseline(first),
                evaluation.Model(restorer.contract.name, restorer),
            ]
        pictures = evaluation.read_pictures(source, colour=colour)
        rows[colour] = tuple(evaluation.summarise(evaluation.evaluate(pictures, wanted, methods)))
    errors = evaluation.quality_errors(restorer, evaluation.read_pictures(source, colour=True), QUALITIES)
    return Measured(rows[False][0].images, rows[False], rows[True], errors)


def text(
    name: str,
    *,
    recipe: Mapping[str, Any],
    data: Mapping[str, Any],
    steps: tuple[int, int],
    measured: Measured | None,
    parameters: int,
    macs_per_pixel: int,
) -> str:
    """The card as Markdown.

    Args:
        name: of the model.
        recipe, data: as in the contract.
        steps: taken, and of the whole recipe.
        measured: on pictures that were not trained on, or None.
        parameters: of the network.
        macs_per_pixel: multiplications and additions a pixel.
    """
    done, whole = steps
    parts = [
        f"# {name}",
        f"A DeconvNet that restores pictures harmed by JPEG: {parameters:,} parameters, {macs_per_pixel:,} "
        "multiplications and additions a pixel. It estimates the damage itself and uses the file's quantisation tables "
        "where there are any.",
        f"Trained for {done:,} of {whole:,} steps on {data['photos']:,} photographs "
        f"({data['megapixels']:.1f} megapixels).",
    ]
    if measured is None:
        parts.append("Not measured: the run was given no validation pictures.")
    else:
        parts += [
            "## Measured",
            f"On {measured.pictures} pictures that were given for validation, by the protocol of `relume evaluate`. "
            f"The estimate of the quality factor, over {QUALITIES[0]}..{QUALITIES[-1]}, is off by "
            f"{measured.quality_error[0]:.1f} points without and {measured.quality_error[1]:.1f} with the header.",
        ]
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
