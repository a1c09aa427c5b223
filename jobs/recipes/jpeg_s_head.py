"""JPEG, size S: the head alone, on larger patches than restoring is trained with.

A patch of 96 pixels holds too few blocks to tell an earlier grid from chance; an image's estimate is made on pieces of
256. Only for --init, from a model of `jpeg_s`: all weights but the head's stay as they are, and the model keeps its
name.
"""

from jobs.recipes import jpeg_s
from model.degradation import Degradation
from model.training import Phase, Recipe

RECIPE = Recipe(
    name="jpeg_s_head",
    network=jpeg_s.RECIPE.network,
    # Unlike restoring, telling is as hard at a high quality, and hardest after two compressions.
    degradation=Degradation(double_share=0.3, stored_share=0.3),
    phases=(Phase(1.0, 256, 4, squared=True),),
    steps=4_000,
    learning_rate=2e-3,
    reduced=jpeg_s.RECIPE.reduced,
    part="head",
)
