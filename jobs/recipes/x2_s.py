"""Twice the size, size S: pictures that were halved by a bicubic filter.

Cost: 41 thousand multiplications a pixel of the input, 10 thousand a pixel of the output; 10,000 steps of 32 patches of
48 pixels, restored at 96, then of 14 patches of 72: about an hour on one core (AVX-512 with bfloat16). Not trained yet.
"""

import dataclasses

from model.capture import Capture
from model.deconvnet import SIZES
from model.training import Phase, Recipe

RECIPE = Recipe(
    name="x2_s",
    network=dataclasses.replace(SIZES["S"], scale=2),
    degradation=Capture("x2", scale=2),
    phases=(Phase(0.6, 48, 32, squared=False), Phase(1.0, 72, 14, squared=True)),
    steps=10_000,
)
