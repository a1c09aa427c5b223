"""JPEG, size S: 19 thousand multiplications a pixel, 0.4 million parameters. The built-in model's recipe.

Cost: 22,000 steps of 32 patches of 64 pixels, then of 14 patches of 96; 73 minutes on two cores that other work shared
(AVX-512 with bfloat16). Result, in dB of PSNR at quality 10/20/30/40 by `relume evaluate`: BSDS500 test (200 images)
28.99/31.27/32.62/33.57, where the JPEGs have 27.80/30.05/31.37/32.30. DnCNN-3 is published with 29.21/31.53/32.90/33.85
at 35 times the cost: this recipe does not reach it.
"""

from model.deconvnet import SIZES
from model.degradation import Degradation
from model.training import Phase, Recipe

RECIPE = Recipe(
    name="jpeg_s",
    network=SIZES["S"],
    degradation=Degradation(double_share=0.3),
    # Charbonnier first: squared errors of a network that knows nothing yet follow a few bad patches. The last part
    # minimises what PSNR measures, on larger patches, which have fewer pixels that see a border.
    phases=(Phase(0.2, 64, 32, squared=False), Phase(1.0, 96, 14, squared=True, blocking=0.02)),
    steps=22_000,
)
