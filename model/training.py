"""Trains a DeconvNet: resumable to the last bit, the same on every Keras backend.

A run is a function of its recipe, its pictures and its seed. Everything that a step needs is in the checkpoint or follows from
the step's number, so a killed run that is started again ends with the weights of one that was never killed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from model import deconvnet, jpeg, losses
from model.dataset import DegradedPatches
from model.deconvnet import DeconvNet, DeconvNetConfig
from model.degradation import Degradation
from model.photos import Photo, fingerprint

Array = np.ndarray[Any, np.dtype[Any]]

HEAD_WEIGHT = 0.02
"""Weight of the head's loss: enough to learn, too little to bend the features that restore."""


class TrainingError(Exception):
    """The run cannot go on; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of a run.

    Attributes:
        until: share of the run's steps after which it ends, in 0..1.
        patch: side of a patch in pixels, a multiple of 8.
        batch: patches a step.
        squared: mean squared error, what PSNR measures, instead of Charbonnier's.
    """

    until: float
    patch: int
    batch: int
    squared: bool


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that decides what a run makes of its pictures.

    Attributes:
        name: of the recipe.
        network: size of the network.
        degradation: what is done to a patch.
        phases: in order; the last one ends at 1.
        steps: of the whole run.
        learning_rate: highest rate, reached after the warm-up; it falls as a cosine to `final_rate`.
        final_rate: the rate of the last step.
        warm_up: steps.
        weight_decay: decoupled, of kernels only.
        ema: momentum of the moving average of the weights, which is what is exported.
        clip: largest norm of the whole gradient.
        seed: of first weights and of all patches.
    """

    name: str
    network: DeconvNetConfig
    degradation: Degradation
    phases: tuple[Phase, ...]
    steps: int
    learning_rate: float = 2e-3
    final_rate: float = 1e-5
    warm_up: int = 200
    weight_decay: float = 1e-4
    ema: float = 0.999
    clip: float = 1.0
    seed: int = 1

    def __post_init__(self) -> None:
        ends = [phase.until for phase in self.phases]
        if not ends or ends[-1] != 1 or ends != sorted(ends) or ends[0] <= 0:
            raise ValueError(f"phases must rise to 1, got {ends}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")

    def phase_at(self, step: int) -> tuple[Phase, int]:
        """The phase of a step, and the step at which that phase ends."""
        for phase in self.phases:
            end = round(phase.until * self.steps)
            if step < end:
                return phase, end
        raise ValueError(f"step must be below {self.steps}, got {step}")

    @property
    def digest(self) -> str:
        """Says of two recipes that they are the same."""
        return _digest(dataclasses.asdict(self))


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


class RestorationTask(keras.Model):
    """What `fit` trains: the network together with its losses.

    Args:
        network: whose weights are trained.
        squared: see `Phase`.
    """

    def __init__(self, network: DeconvNet, *, squared: bool) -> None:
        # Pixels stay float32 up to the first layer; the layers cast for themselves.
        super().__init__(dtype="float32")
        self.network = network
        self._squared = squared
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        ycc = jpeg.to_ycc(inputs["degraded"])
        features = self.network.encode(ycc)
        class_logits, regression_logits = self.network.logits(features[2])
        guess = ops.stop_gradient(deconvnet.estimate_of(class_logits, regression_logits))
        told = inputs["told"]
        # Half of the patches hear the truth: a patch is a poor witness of its image's damage, a whole image a good one.
        estimate = told * inputs["truth"] + (1 - told) * guess
        residual = self.network.decode(features, self.network.condition(estimate, inputs["tables"]))
        return {"ycc": ycc, "restored": ycc + residual, "classes": class_logits, "regressions": regression_logits}

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        pristine = jpeg.to_ycc(x["pristine"])
        restoration = losses.restoration_loss(y_pred["restored"], y_pred["ycc"], pristine, squared=self._squared)
        kinds = len(deconvnet.CLASSES)
        truth = x["truth"]
        wrong_class = keras.losses.categorical_crossentropy(truth[:, :kinds], y_pred["classes"], from_logits=True)
        wrong_measure = ops.mean(ops.abs(truth[:, kinds:] - ops.sigmoid(y_pred["regressions"])), axis=-1)
        return ops.mean(restoration + HEAD_WEIGHT * (wrong_class + 4 * wrong_measure))


class _AveragingAdamW(keras.optimizers.AdamW):
    """AdamW whose moving average stays beside the weights: Keras would put it in their place whenever `fit` ends."""

    def finalize_variable_values(self, var_list: Any) -> None:
        pass


def new_optimizer(recipe: Recipe) -> keras.optimizers.Optimizer:
    """AdamW with warm-up, cosine, clipping and the moving average."""
    rate = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=recipe.learning_rate / max(1, recipe.warm_up),
        decay_steps=max(1, recipe.steps - recipe.warm_up),
        alpha=recipe.final_rate / recipe.learning_rate,
        warmup_target=recipe.learning_rate,
        warmup_steps=recipe.warm_up,
    )
    optimizer = _AveragingAdamW(
        rate,
        weight_decay=recipe.weight_decay,
        beta_1=0.9,
        beta_2=0.99,
        global_clipnorm=recipe.clip,
        use_ema=True,
        ema_momentum=recipe.ema,
        name="averaging_adamw",
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "phase"])
    return optimizer


@dataclasses.dataclass
class Run:
    """A training run in a folder of its own.

    Attributes:
        recipe: what is done.
        photos: the pristine pictures.
        folder: where the checkpoint lies; made if missing.
        report: called with the step and the mean loss since the last call.
        every: steps between two checkpoints.
    """

    recipe: Recipe
    photos: Sequence[Photo]
    folder: Path
    report: Callable[[int, float], None]
    every: int = 500
    init: Path | None = None

    def __post_init__(self) -> None:
        keras.utils.set_random_seed(self.recipe.seed)
        self.network = deconvnet.build(self.recipe.network)
        self.optimizer = new_optimizer(self.recipe)
        self.optimizer.build(self.network.trainable_variables)
        self._identity = {"recipe": self.recipe.digest, "pictures": fingerprint(self.photos)}
        self.step = 0

    def train(self, max_minutes: float = math.inf) -> bool:
        """Trains from the checkpoint, if there is one, to the end; returns whether the end was reached.

        Raises:
            TrainingError: at a loss that is no number, or if the checkpoint is of another run.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._restore()
        stop = time.monotonic() + 60 * max_minutes
        task: RestorationTask | None = None
        squared: bool | None = None
        while self.step < self.recipe.steps:
            if time.monotonic() > stop:
                return False
            phase, end = self.recipe.phase_at(self.step)
            if task is None or phase.squared != squared:
                squared = phase.squared
                task = RestorationTask(self.network, squared=squared)
                task.compile(optimizer=self.optimizer, jit_compile=keras.backend.backend() == "jax")
            steps = min(self.every - self.step % self.every, end - self.step)
            patches = DegradedPatches(
                self.photos,
                self.recipe.degradation,
                patch=phase.patch,
                batch=phase.batch,
                seed=self.recipe.seed,
                first=self.step,
                steps=steps,
            )
            history = task.fit(patches, epochs=1, shuffle=False, verbose=0)
            loss = history.history["loss"][0]
            if not math.isfinite(loss):
                raise TrainingError(
                    f"loss is {loss} before step {self.step + steps}; the last good checkpoint is at step {self.step}: "
                    "use a lower learning rate and start again"
                )
            self.step += steps
            self._save()
            self.report(self.step, loss)
        return True

    def averaged_weights(self) -> list[Array]:
        """The moving average of the weights, in the order of `network.trainable_variables`."""
        return [np.array(v) for v in self.optimizer._model_variables_moving_average]

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.npz"

    def _variables(self) -> list[Any]:
        return [*self.network.trainable_variables, *self.optimizer.variables]

    def _save(self) -> None:
        values = {f"v{i}": np.asarray(v) for i, v in enumerate(self._variables())}
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".tmp", delete=False) as file:
            np.savez(file, step=self.step, identity=json.dumps(self._identity), **values)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        os.replace(file.name, self._checkpoint)

    def _restore(self) -> None:
        if not self._checkpoint.exists():
            return
        with np.load(self._checkpoint) as saved:
            if json.loads(str(saved["identity"])) != self._identity:
                raise TrainingError(f"{self._checkpoint} is of another recipe or of other pictures: use another folder")
            for i, variable in enumerate(self._variables()):
                variable.assign(saved[f"v{i}"])
            self.step = int(saved["step"])
