"""Deblur, size S: out of focus by a Gaussian of sigma 0.5..3 pixels, with noise of sigma 0..5 grey levels.

Cost: 32 patches of 64 pixels a step, then 14 patches of 96; trained with --init jpeg-s, --learning_rate 0.002 and
--steps 9000: 90 minutes on about a third of two cores (AVX-512 with bfloat16). Result on 17 photographs that were not
trained on, luma in dB, blurred / Wiener with the known kernel / restored: sigma 2.5 with noise 2 29.11/31.36/32.12,
1.6 with noise 5 29.08/31.90/32.57, but 1.6 with noise 2 31.00/33.43/32.56 and 1 with noise 2 33.51/36.08/32.92. Told
the true sigma it is above Wiener there too: it is the head that takes smooth photographs for more blurred than they
are. So no model of this recipe ships.
"""

from model.capture import Capture
from model.deconvnet import TOGETHER
from model.training import Phase, Recipe

RECIPE = Recipe(
    name="deblur_s",
    network=TOGETHER,
    degradation=Capture("deblur", blur=(0.5, 3.0), noise=(0.0, 5.0)),
    phases=(Phase(0.6, 64, 32, squared=False), Phase(1.0, 96, 14, squared=True)),
    steps=11_000,
)
