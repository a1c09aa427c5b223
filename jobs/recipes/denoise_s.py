"""Denoise, size S: normal noise of sigma 5..50 grey levels.

Cost: 32 patches of 64 pixels a step, then 14 patches of 96. The model that ships was trained with --learning_rate
0.002 and --steps 9000 from `jpeg-s` as that was when its planes still went together: 90 minutes on about a third of
two cores (AVX-512 with bfloat16), by AdamW. Result on 17 photographs that were not trained on, luma in dB at sigma
5/15/25/50: 41.30/35.44/32.87/29.29, where the noisy ones have 34.14/24.66/20.39/15.00 and non-local means
40.67/34.64/31.88/27.52.
"""

from model.capture import Capture
from model.size import TOGETHER
from model.training import Phase, Recipe

RECIPE = Recipe(
    name="denoise_s",
    network=TOGETHER,
    degradation=Capture("denoise", noise=(5.0, 50.0)),
    phases=(Phase(0.6, 64, 32, squared=False), Phase(1.0, 96, 14, squared=True)),
    steps=11_000,
)
