"""JPEG, size M: about five times the work of S a pixel. Not trained yet."""

from jobs.recipes import jpeg_s
from model.deconvnet import SIZES
from model.training import Phase, Recipe

RECIPE = Recipe(
    name="jpeg_m",
    network=SIZES["M"],
    degradation=jpeg_s.RECIPE.degradation,
    phases=(
        Phase(0.05, 64, 32, squared=False),
        Phase(0.75, 96, 16, squared=True, blocking=0.03),
        Phase(1.0, 128, 8, squared=True, blocking=0.03),
    ),
    steps=60_000,
    learning_rate=1e-3,
    final_rate=2e-6,
    ema=0.9995,
    drop_tables=jpeg_s.RECIPE.drop_tables,
    reduced=jpeg_s.RECIPE.reduced,
)
