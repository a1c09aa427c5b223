"""JPEG, size S: 20 thousand multiplications a pixel, 0.5 million parameters. The built-in model's recipe.

The built-in weights were made by it on two cores that other work shared (AVX-512 with bfloat16): from nothing, 28,000
steps (70 minutes), then from what came of that by --init and --learning_rate 0.0015, 15,000 (--seed 2, 40 minutes) and
18,000 (--seed 3, 47 minutes), along with the head, which --init keeps now. After each it was trained alone by
`jpeg_s_head`, 8,000, 6,000 and 8,000 steps (23 minutes in all).

Result, in dB at quality 10/20/30/40 by `relume evaluate`: BSDS500 test (200 images) 29.27/31.56/32.91/33.85, and
PSNR-B 28.97/31.05/32.28/33.13, where the JPEGs have 27.80/30.05/31.37/32.30. DnCNN-3 is published with
29.21/31.53/32.90/33.85 at 34 times the cost.
"""

from model.degradation import Degradation
from model.size import SIZES
from model.training import Phase, Recipe

RECIPE = Recipe(
    name="jpeg_s",
    network=SIZES["S"],
    degradation=Degradation(harsh_share=0.7, double_share=0.15, clean_share=0.05, other_share=0.04, stored_share=0.3),
    # Charbonnier first: squared errors of a network that knows nothing yet follow a few bad patches. The rest minimises
    # what PSNR measures, on larger patches, which have fewer pixels that see a border.
    phases=(
        Phase(0.05, 64, 32, squared=False),
        Phase(0.75, 96, 14, squared=True, blocking=0.02, projected=True),
        Phase(1.0, 128, 8, squared=True, blocking=0.02, projected=True),
    ),
    steps=28_000,
    learning_rate=3e-3,
    drop_tables=0.1,
    reduced=0.5,
)
