"""JPEG, size S: 19 thousand multiplications a pixel, 0.4 million parameters. The built-in model's recipe.

Cost: 22,000 steps of 32 patches of 64 pixels, then of 14 patches of 96.
"""

from model.deconvnet import SIZES
from model.degradation import Degradation
from model.training import Phase, Recipe

RECIPE = Recipe(
    name="jpeg_s",
    network=SIZES["S"],
    degradation=Degradation(),
    # Charbonnier first: squared errors of a network that knows nothing yet follow a few bad patches. The last part
    # minimises what PSNR measures, on larger patches, which have fewer pixels that see a border.
    phases=(Phase(0.6, 64, 32, squared=False), Phase(1.0, 96, 14, squared=True)),
    steps=22_000,
)
