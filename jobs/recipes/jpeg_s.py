"""JPEG, size S: 19 thousand multiplications a pixel, 0.4 million parameters. The built-in model's recipe.

The built-in weights were made in three runs on two cores that other work shared (AVX-512 with bfloat16), each from
those of the one before by --init: 22,000 steps at 2e-3 with half the weight on chroma and none on block edges (73
minutes), 26,000 at 1.5e-3 with a weight of 0.25 on block edges (85 minutes), and 3,500 at 5e-4 as it stands here (10
minutes). A fourth, of 3,200 steps with a weight of 0.02, gained 0.005 dB at quality 10 and lost 0.15 dB of PSNR-B: it
was left out.

Result, in dB at quality 10/20/30/40 by `relume evaluate`: BSDS500 test (200 images) 28.98/31.25/32.60/33.55, and
PSNR-B 28.82/31.02/32.34/33.25, where the JPEGs have 27.80/30.05/31.37/32.30. DnCNN-3 is published with
29.21/31.53/32.90/33.85 at 35 times the cost: this recipe does not reach it.
"""

from model.deconvnet import SIZES
from model.degradation import Degradation
from model.training import Phase, Recipe

RECIPE = Recipe(
    name="jpeg_s",
    network=SIZES["S"],
    degradation=Degradation(double_share=0.3),
    # Charbonnier first: squared errors of a network that knows nothing yet follow a few bad patches. The rest minimises
    # what PSNR measures, on larger patches, which have fewer pixels that see a border.
    phases=(
        Phase(0.05, 64, 32, squared=False),
        Phase(0.75, 96, 14, squared=True, blocking=0.05),
        Phase(1.0, 128, 8, squared=True, blocking=0.05),
    ),
    steps=60_000,
    drop_tables=0.2,
    reduced=0.5,
)
