"""Deblur, size S: out of focus by a Gaussian of sigma 0.5..3 pixels, with noise of sigma 0..5 grey levels.

Cost: 11,000 steps of 32 patches of 64 pixels, then of 14 patches of 96: about an hour on one core (AVX-512 with
bfloat16). Not trained yet.
"""

from model.capture import Capture
from model.deconvnet import SIZES
from model.training import Phase, Recipe

RECIPE = Recipe(
    name="deblur_s",
    network=SIZES["S"],
    degradation=Capture("deblur", blur=(0.5, 3.0), noise=(0.0, 5.0)),
    phases=(Phase(0.6, 64, 32, squared=False), Phase(1.0, 96, 14, squared=True)),
    steps=11_000,
)
