"""JPEG, size L: about fifteen times the work of S a pixel; meant for a GPU. Not trained yet."""

import dataclasses

from jobs.recipes import jpeg_s
from model.size import SIZES
from model.training import Phase

RECIPE = dataclasses.replace(
    jpeg_s.RECIPE,
    name="jpeg_l",
    network=SIZES["L"],
    phases=(
        Phase(0.05, 128, 64, squared=False),
        Phase(0.85, 128, 64, squared=True, blocking=0.03, projected=True),
        Phase(1.0, 256, 16, squared=True, blocking=0.03, projected=True),
    ),
    learning_rate=5e-4,
    final_rate=1e-6,
    warm_up=500,
    ema=0.9995,
)
