"""Recipes of training runs, one a module: its text says cost and result, its `RECIPE` all that decides the run."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from model.training import Recipe

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))
"""All there are; known without importing them, which brings in Keras."""


def load(name: str) -> Recipe:
    """The recipe of that name."""
    recipe: Recipe = importlib.import_module(f"{__name__}.{name}").RECIPE
    return recipe
