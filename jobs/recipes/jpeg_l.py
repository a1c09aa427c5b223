"""JPEG, size L: about fifteen times the work of S a pixel; meant for a GPU. Not trained yet."""

from model.deconvnet import SIZES
from model.degradation import Degradation
from model.training import Phase, Recipe

RECIPE = Recipe(
    name="jpeg_l",
    network=SIZES["L"],
    degradation=Degradation(),
    phases=(Phase(0.85, 128, 64, squared=False), Phase(1.0, 256, 16, squared=True)),
    steps=60_000,
    learning_rate=5e-4,
    final_rate=1e-6,
    warm_up=500,
    ema=0.9995,
)
