"""JPEG, size S: 20 thousand multiplications a pixel, 0.5 million parameters. The built-in model's recipe.

The built-in weights were made on two cores that other work shared (AVX-512 with bfloat16). By AdamW: luma's way comes
from a network whose planes went together, trained for 51,500 steps (168 minutes), and was trained on grey patches
alone for 12,060 (25 minutes). Then chroma's way got 1,500 steps of its own, and all of it 40,000 (82 minutes, 0.05 for
the edges of blocks). By Muon: 47,000 steps, by --init and --learning_rate 0.002, with all qualities drawn alike (88
minutes); 17,000 without `stored_share`, by --init, --learning_rate 0.002 and --seed 8 (31 minutes); 24,000 with it and
--seed 9 (44 minutes); 12,000 `projected`, with --seed 10 (29 minutes); and 46,000 as it stands here, with 0.02 instead
of 0.03 for the edges of blocks and --seed 14 (97 minutes). After each of the last six the head was trained alone, at
last for 8,000 steps of `jpeg_s_head` (8 minutes); the card has every stage. That 60,000 steps from nothing do as well,
is likely, but was not tried.

Result, in dB at quality 10/20/30/40 by `relume evaluate`: BSDS500 test (200 images) 29.16/31.44/32.79/33.74, and
PSNR-B 28.88/30.94/32.17/32.99, where the JPEGs have 27.80/30.05/31.37/32.30. DnCNN-3 is published with
29.21/31.53/32.90/33.85 at 34 times the cost: this recipe does not reach it.
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
