"""Deblur, size S: out of focus by a Gaussian of sigma 0.5..3 pixels, with noise of sigma 0..5 grey levels.

Cost: 32 patches of 64 pixels a step, then 14 patches of 96. The model that ships was trained with --learning_rate
0.002 and --steps 9000 from `jpeg-s` as that was when its planes still went together: 90 minutes on about a third of
two cores (AVX-512 with bfloat16), by AdamW. Result on 17 photographs that were not trained on, luma in dB, blurred /
Wiener with the known kernel / restored: sigma 1 with noise 2 33.51/36.08/36.55, 1.6 with noise 2 31.00/33.43/33.80,
2.5 with noise 2 29.11/31.36/32.10, 1.6 with noise 5 29.08/31.90/32.95. With less noise Wiener is level: at 1.6 with
noise 1 31.49/34.41/34.35.
"""

from model.capture import Capture
from model.size import TOGETHER
from model.training import Phase, Recipe

RECIPE = Recipe(
    name="deblur_s",
    network=TOGETHER,
    degradation=Capture("deblur", blur=(0.5, 3.0), noise=(0.0, 5.0)),
    phases=(Phase(0.6, 64, 32, squared=False), Phase(1.0, 96, 14, squared=True)),
    steps=11_000,
)
