"""How a training step moves the weights: Muon for the kernels of convolutions, AdamW for all others.

A gradient of a kernel points mostly along a few directions. Muon makes its running mean orthogonal, so that all
directions are moved alike (K. Jordan, 2024; with the scale of arXiv 2502.16982 it has AdamW's rates). What that brings
here stands in docs/decisions/optimizer.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import ops

if TYPE_CHECKING:
    from model.training import Recipe


class _AveragingMuon(keras.optimizers.Muon):
    """Keras's Muon, for kernels of convolutions too, as matrices with a column for each value of their last axis."""

    def build(self, variables: list[Any]) -> None:
        # Asked here: TensorFlow's variables, which a step gets, no longer know their path.
        self._by_adamw = [len(v.shape) != 4 or "tail" in v.path for v in variables]
        super().build(variables)

    def _should_use_adamw(self, variable: Any) -> bool:
        return self._by_adamw[self._get_variable_index(variable)]

    def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
        self.assign_add(m, gradient + m * (self.momentum - 1))
        ahead = gradient + self.momentum * m
        update = self.zeropower_via_newtonschulz5(ops.reshape(ahead, (-1, variable.shape[-1])), self.ns_steps)
        self.assign_sub(variable, ops.reshape(self.lr_adjust(lr * update), variable.shape))

    def _update_model_variables_moving_average(self, trainable_variables: list[Any]) -> None:
        """Keras's, with a momentum of n / (n + 9) at step n up to its highest: a short run forgets its start too."""
        step = ops.cast(self.iterations, "float32")
        momentum = ops.minimum(step / (step + 9), self.ema_momentum)
        for variable, average in zip(trainable_variables, self._model_variables_moving_average, strict=True):
            average.assign(momentum * average + (1 - momentum) * variable)

    def finalize_variable_values(self, var_list: Any) -> None:
        """Leaves the moving average beside the weights: Keras would put it in their place whenever `fit` ends."""


def new_optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    """The optimizer of a run, with warm-up, cosine, clipping and the moving average."""
    rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=recipe.learning_rate / max(1, recipe.warm_up),
        decay_steps=max(1, recipe.steps - recipe.warm_up),
        alpha=recipe.final_rate / recipe.learning_rate,
        warmup_target=recipe.learning_rate,
        warmup_steps=recipe.warm_up,
    )
    optimizer = _AveragingMuon(
        rate,
        adam_beta_1=0.9,
        adam_beta_2=0.99,
        weight_decay=recipe.weight_decay,
        adam_weight_decay=recipe.weight_decay,
        global_clipnorm=recipe.clip,
        use_ema=True,
        ema_momentum=recipe.ema,
        name="averaging_muon",
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "phase"])
    return optimizer
