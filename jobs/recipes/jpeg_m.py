"""JPEG, size M: about five times the work of S a pixel. Not trained yet."""

from model.deconvnet import SIZES
from model.degradation import Degradation
from model.training import Phase, Recipe

RECIPE = Recipe(
    name="jpeg_m",
    network=SIZES["M"],
    degradation=Degradation(),
    phases=(Phase(0.7, 64, 32, squared=False), Phase(0.9, 96, 16, squared=True), Phase(1.0, 128, 8, squared=True)),
    steps=60_000,
    learning_rate=1e-3,
    final_rate=2e-6,
    ema=0.9995,
)
