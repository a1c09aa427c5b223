"""A network that fits into a test: three thousand parameters, sixty steps, some seconds; restores hardly anything."""

from model.degradation import Degradation
from model.size import DeconvNetConfig
from model.training import Phase, Recipe

RECIPE = Recipe(
    name="smoke",
    network=DeconvNetConfig((4, 4, 4), (0, 0, 1, 0, 1), head=4),
    degradation=Degradation(quality=(10, 40), clean_share=0.0, other_share=0.0),
    phases=(Phase(0.6, 16, 8, squared=False), Phase(1.0, 24, 4, squared=True)),
    steps=60,
    learning_rate=5e-3,
    warm_up=5,
    ema=0.9,
)
