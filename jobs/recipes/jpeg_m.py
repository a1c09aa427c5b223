"""JPEG, size M: about five times the work of S a pixel. Not trained yet."""

import dataclasses

from jobs.recipes import jpeg_s
from model.deconvnet import SIZES
from model.training import Phase

RECIPE = dataclasses.replace(
    jpeg_s.RECIPE,
    name="jpeg_m",
    network=SIZES["M"],
    phases=(
        Phase(0.05, 64, 32, squared=False),
        Phase(0.75, 96, 16, squared=True, blocking=0.03),
        Phase(1.0, 128, 8, squared=True, blocking=0.03),
    ),
    learning_rate=1e-3,
    final_rate=2e-6,
    ema=0.9995,
)
