"""JPEG, size S: 20 thousand multiplications a pixel, 0.5 million parameters. The built-in model's recipe.

The built-in weights were made on two cores that other work shared (AVX-512 with bfloat16). Luma's way comes from a
network whose planes went together, trained for 51,500 steps (168 minutes), and was trained on grey patches alone for
12,060 (25 minutes at a constant 2e-3). Then chroma's way got 1,500 steps of its own, and all of it 40,000 as it stands
here, by --init and --learning_rate 0.002 (82 minutes). At last `jpeg_s_head` trained the head, 2,500 steps under way
and 4,000 at the end (3 minutes). That all but the last two parts can be left out, and 60,000 steps from nothing do as
well, is likely, but was not tried.

Result, in dB at quality 10/20/30/40 by `relume evaluate`: BSDS500 test (200 images) 29.07/31.37/32.72/33.67, and
PSNR-B 28.91/31.13/32.43/33.33, where the JPEGs have 27.80/30.05/31.37/32.30. DnCNN-3 is published with
29.21/31.53/32.90/33.85 at 34 times the cost: this recipe does not reach it.
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
        Phase(0.75, 96, 14, squared=True, blocking=0.03),
        Phase(1.0, 128, 8, squared=True, blocking=0.03),
    ),
    steps=60_000,
    drop_tables=0.2,
    reduced=0.5,
)
