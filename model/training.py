"""Trains a DeconvNet: resumable to the last bit, the same on every Keras backend.

A run is a function of its recipe, its pictures, the weights it starts from and the layers' precision. Everything that
a step needs is in the checkpoint or follows from the step's number, so a killed run that is started again ends with the
weights of one that was never killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from model import deconvnet, device, expectation, exporting, growing, jpeg, losses
from model.dataset import DegradedPatches
from model.deconvnet import DeconvNet
from model.degradation import Degrading
from model.optimizer import new_optimizer
from model.photos import Photo, fingerprint
from model.size import DeconvNetConfig

Array = np.ndarray[Any, np.dtype[Any]]

Part = Literal["whole", "head", "rest"]
"""Of a network: all of it, its head, or all but that."""

HEAD_WEIGHT = 0.02
"""Weight of the head's loss: enough to learn, too little to bend the features that restore."""


_FIRST_STEPS = 10
"""Steps up to the first checkpoint of a process, when its pace is not known yet."""


class TrainingError(Exception):
    """The run cannot go on; the message says why and what to do."""


class OtherRunError(TrainingError):
    """The folder holds another run."""


class BusyError(TrainingError):
    """Another process trains in the folder."""


def set_precision(name: str) -> str:
    """Sets the type that layers compute with; weights, losses and the last layer stay float32.

    Args:
        name: `float32`, `bfloat16`, or `auto`: bfloat16 on accelerators and on processors with instructions for it.

    Returns:
        The policy chosen, by Keras's name.
    """
    if name == "auto":
        accelerated = any(not device.startswith("cpu") for device in keras.distribution.list_devices())
        name = "bfloat16" if accelerated or device.processor_has_bfloat16() else "float32"
    policy = "mixed_bfloat16" if name == "bfloat16" else name
    keras.config.set_dtype_policy(policy)
    return policy


def use_all_devices(recipe: Recipe) -> int:
    """Splits every batch over accelerators, or virtual devices, where the backend can; returns their number.

    Weights are copied to each (data parallelism). As many are used as divide all batches of the recipe. Keras
    distributes on JAX alone: TensorFlow takes its first device.
    """
    if keras.backend.backend() != "jax":
        return 1
    devices = keras.distribution.list_devices()
    common = math.gcd(*(phase.batch for phase in recipe.phases))
    used = max(number for number in range(1, len(devices) + 1) if common % number == 0)
    if used > 1:
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices[:used]))
    return used


def can_export() -> bool:
    """Whether this backend can write the SavedModel of a model folder."""
    return bool(keras.backend.backend() == "tensorflow")


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of a run.

    Attributes:
        until: share of the run's steps after which it ends, in 0..1.
        patch: side of a patch in pixels, a multiple of 8.
        batch: patches a step.
        squared: mean squared error, what PSNR measures, instead of Charbonnier's.
        blocking: weight of the blocking effect in the loss; 1 counts it as PSNR-B does.
        projected: restored luma is moved into the bins of its file before its loss is taken, as restoring moves it:
            the network spends nothing on what the bins mend anyway, and smooths the edges of blocks that they leave.
    """

    until: float
    patch: int
    batch: int
    squared: bool
    blocking: float = 0.0
    projected: bool = False


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that decides what a run makes of its pictures.

    Attributes:
        name: of the recipe.
        network: size of the network.
        degradation: what is done to a patch, and so the task of the model.
        phases: in order; the last one ends at 1.
        steps: of the whole run.
        learning_rate: highest rate, reached after the warm-up; it falls as a cosine to `final_rate`.
        final_rate: the rate of the last step.
        warm_up: steps.
        weight_decay: decoupled, of kernels only.
        ema: highest momentum of the moving average of the weights, which is what is exported.
        clip: largest norm of the whole gradient.
        drop_tables, reduced: see `DegradedPatches`.
        part: what is trained, the `whole`, the `head` or the `rest`; all other weights stay. The head alone is that of
            a network that undoes JPEG already: a quarter of the patches are restored before it sees them, and are then
            `clean`, so that what was restored once is left alone when it comes again. The rest is for tuning: the head
            was trained on larger patches, and would forget that.
        seed: of first weights and of all patches.
    """

    name: str
    network: DeconvNetConfig
    degradation: Degrading
    phases: tuple[Phase, ...]
    steps: int
    learning_rate: float = 2e-3
    final_rate: float = 1e-5
    warm_up: int = 200
    weight_decay: float = 1e-4
    ema: float = 0.999
    clip: float = 1.0
    drop_tables: float = 0.3
    reduced: float = 0.0
    part: Part = "whole"
    seed: int = 1

    def __post_init__(self) -> None:
        ends = [phase.until for phase in self.phases]
        if not ends or ends[-1] != 1 or ends != sorted(ends) or ends[0] <= 0:
            raise ValueError(f"phases must rise to 1, got {ends}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.network.scale != self.degradation.scale:
            wanted, scale = self.network.scale, self.degradation.scale
            raise ValueError(f"degradation must have the network's scale {wanted}, got {scale}")

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
        return _digest(dataclasses.asdict(self) | {"network": self.network.to_json()})

    @property
    def task(self) -> str:
        """Of the model, as in its contract."""
        return self.degradation.task


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


class RestorationTask(keras.Model):
    """What `fit` trains: the network together with its losses.

    Args:
        network: whose weights are trained.
        phase: of the run; says what the loss is.
        part: of the recipe. For the `head` nothing is restored, and the loss is the head's; for the `rest` it is that
            of restoring alone.
    """

    def __init__(self, network: DeconvNet, phase: Phase, *, part: Part = "whole") -> None:
        # Pixels stay float32 up to the first layer; the layers cast for themselves.
        super().__init__(dtype="float32")
        self.network = network
        self._phase, self._part = phase, part
        self.built = True

    def call(self, inputs: dict[str, Any], training: bool = False) -> dict[str, Any]:
        ycc = jpeg.to_ycc(inputs["degraded"])
        if self._part == "head":
            ycc = self._first_quarter_restored(ycc, inputs)
        features = self.network.encode(ycc)
        class_logits, regression_logits = self.network.logits(ycc, features)
        estimates = {"classes": class_logits, "regressions": regression_logits}
        if self._part == "head":
            return estimates
        guess = ops.stop_gradient(deconvnet.estimate_of(class_logits, regression_logits))
        told = inputs["told"]
        # Half of the patches hear the truth: a patch is a poor witness of its image's damage, a whole image a good one.
        estimate = told * inputs["truth"] + (1 - told) * guess
        residual = self.network.decode(features, self.network.condition(estimate, inputs["tables"]))
        base = self.network.base(ycc)
        restored = base + residual
        if self._phase.projected:
            steps = ops.cast(inputs["tables"], "float32")[:, 0] * ops.reshape(inputs["bound"], (-1, 1, 1))
            share = ops.full_like(steps[:, 0, 0], expectation.SHARE)
            luma = jpeg.project(restored[..., :1], base[..., :1], steps, expecting=share)
            restored = ops.concatenate([luma, restored[..., 1:]], axis=-1)
        return estimates | {"ycc": base, "restored": restored}

    def _first_quarter_restored(self, ycc: Any, inputs: dict[str, Any]) -> Any:
        """The patches, a quarter of them as they are after a restoration that knew the truth."""
        first = _first_quarter(ycc)
        pixels, tables, truth = (inputs[name][:first] for name in ("degraded", "tables", "truth"))
        pixels = ops.cast(pixels, "float32")
        strength = ops.ones_like(truth[:, 0])
        # As the pipeline does: what is grey stays grey.
        grey = ops.cast(ops.all(pixels == pixels[..., :1], axis=(1, 2, 3)), "float32")
        project = inputs["bound"][:first]
        restored = exporting.restore(self.network, pixels, tables, truth, strength, project, grey)
        return ops.concatenate([ops.stop_gradient(jpeg.to_ycc(ops.round(restored))), ycc[first:]])

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        kinds = len(deconvnet.CLASSES)
        truth = x["truth"]
        if self._part == "head":
            first = _first_quarter(truth)
            truth = ops.concatenate([deconvnet.without_jpeg(truth[:first]), truth[first:]])
        wrong_class = keras.losses.categorical_crossentropy(truth[:, :kinds], y_pred["classes"], from_logits=True)
        wrong_measure = ops.mean(ops.abs(truth[:, kinds:] - ops.sigmoid(y_pred["regressions"])), axis=-1)
        wrong_estimate = ops.mean(wrong_class + 4 * wrong_measure)
        if self._part == "head":
            return wrong_estimate
        pristine = jpeg.to_ycc(x["pristine"])
        restoration = self._restoration(y_pred["restored"], y_pred["ycc"], pristine)
        return ops.mean(restoration) + (0 if self._part == "rest" else HEAD_WEIGHT * wrong_estimate)

    def _restoration(self, *planes: Any) -> Any:
        """The loss of restored, degraded and pristine planes."""
        squared, blocking = self._phase.squared, self._phase.blocking
        if self.network.config.chroma is None:
            return losses.restoration_loss(*planes, squared=squared, blocking=blocking)
        # Each way by the harm to its own planes: in the common mean chroma, harmed less, would hardly be learned.
        luma, chroma = ([plane[..., part] for plane in planes] for part in (slice(0, 1), slice(1, 3)))
        by_luma = losses.restoration_loss(*luma, squared=squared, blocking=blocking, floor=losses.LUMA_FLOOR)
        return by_luma + losses.restoration_loss(*chroma, squared=squared)


def _first_quarter(batch: Any) -> Any:
    """How many of a batch are a quarter of it, and at least one."""
    return (ops.shape(batch)[0] + 3) // 4


@contextlib.contextmanager
def _nothing_fused() -> Iterator[None]:
    """Meanwhile TensorFlow does not look for layers that it could compute as one.

    It takes a leaky rectifier and the convolution before it for such, misses that the gradient needs what lies between
    them, and gives up with an error on stderr (2.21).
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    before = tf.config.optimizer.get_experimental_options().get("remapping", True)
    tf.config.optimizer.set_experimental_options({"remapping": False})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"remapping": before})


@dataclasses.dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: of `steps`.
        loss: mean since the last report.
        rate: learning rate of the last step.
        seconds_per_step: since the last report.
    """

    step: int
    steps: int
    loss: float
    rate: float
    seconds_per_step: float

    @property
    def minutes_left(self) -> float:
        """At the present pace."""
        return (self.steps - self.step) * self.seconds_per_step / 60


class _Watch(keras.callbacks.Callback):
    """Between two steps of `fit`: counts them, and now and then saves and reports. No step's work knows of it."""

    def __init__(self, run: Run, report: Callable[[Progress], None], stop: float) -> None:
        super().__init__()
        self._run, self._report, self._stop = run, report, stop
        self._first = run.step + _FIRST_STEPS
        self._saved, self._since = run.step, time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Keras: the network has taken the step."""
        run, now = self._run, time.monotonic()
        run.step += 1
        last = run.step == run.recipe.phase_at(run.step - 1)[1]
        if now - self._since < run.checkpoint_seconds and now < self._stop and run.step != self._first and not last:
            return
        task, loss = self.model, float((logs or {})["loss"])
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} between steps {self._saved} and {run.step}; the checkpoint is of step "
                f"{self._saved}: start again in another folder with a learning rate below {run.recipe.learning_rate:g}"
            )
        run.save()
        task.reset_metrics()
        task.stop_training = now >= self._stop
        rate = float(ops.convert_to_numpy(run.optimizer.learning_rate))
        pace = (now - self._since) / (run.step - self._saved)
        self._report(Progress(run.step, run.recipe.steps, loss, rate, pace))
        self._saved, self._since = run.step, time.monotonic()


class Run:
    """A training run in a folder of its own.

    Args:
        recipe: what is done.
        photos: the pristine pictures.
        folder: where the checkpoint lies; made if missing. One process at a time trains in it.
        init: a network to start from; one of a smaller size grows. First weights are drawn from the seed where None.
        checkpoint_seconds: so much work a kill may cost; it changes no result.
    """

    def __init__(
        self,
        recipe: Recipe,
        photos: Sequence[Photo],
        folder: Path,
        *,
        init: DeconvNet | None = None,
        checkpoint_seconds: float = 60.0,
    ) -> None:
        self.recipe, self.folder = recipe, folder
        self._photos, self.checkpoint_seconds = photos, checkpoint_seconds
        keras.utils.set_random_seed(recipe.seed)
        self.network = deconvnet.build(recipe.network)
        start = ""
        if init is not None:
            weights = init.get_weights()
            # What it grows into is drawn, and another backend draws otherwise: the checkpoint names what it grew from.
            start = hashlib.sha256(b"".join(w.tobytes() for w in weights)).hexdigest()
            same = init.config == recipe.network
            self.network.set_weights(weights if same else growing.grow(init, recipe.network))
        if recipe.part != "whole":
            self.network.train_only(head=recipe.part == "head")
        self.optimizer = new_optimizer(recipe)
        self.optimizer.build(self.network.trainable_variables)
        self.pictures = fingerprint(photos)
        self._identity = {
            "recipe": recipe.digest,
            "optimizer": self.optimizer.name,
            "pictures": self.pictures,
            "init": start,
        }
        self.step = 0

    def train(self, report: Callable[[Progress], None], max_minutes: float = math.inf) -> bool:
        """Trains from the checkpoint, if there is one, to the end.

        Args:
            report: called after every checkpoint.
            max_minutes: stops at a checkpoint at about that time.

        Returns:
            Whether the end was reached.

        Raises:
            TrainingError: at a loss that is no number.
            OtherRunError: if the checkpoint is of another run.
            BusyError: if another process trains in the folder.
        """
        with self._alone(), _nothing_fused():
            self._restore()
            return self._train(report, time.monotonic() + 60 * max_minutes)

    def _train(self, report: Callable[[Progress], None], stop: float) -> bool:
        watch = _Watch(self, report, stop)
        while self.step < self.recipe.steps and time.monotonic() < stop:
            phase, end = self.recipe.phase_at(self.step)
            task = RestorationTask(self.network, phase, part=self.recipe.part)
            task.compile(optimizer=self.optimizer, jit_compile=keras.backend.backend() == "jax")
            # One call a phase: whenever `fit` ends, TensorFlow's pipeline of inputs may wait a minute for its own
            # tuning, which missed that it was cancelled.
            task.fit(self._patches(phase, end), epochs=1, shuffle=False, verbose=0, callbacks=[watch])
        return self.step == self.recipe.steps

    def _patches(self, phase: Phase, end: int) -> DegradedPatches:
        return DegradedPatches(
            self._photos,
            self.recipe.degradation,
            patch=phase.patch,
            batch=phase.batch,
            seed=self.recipe.seed,
            first=self.step,
            steps=end - self.step,
            drop_tables=self.recipe.drop_tables,
            reduced=self.recipe.reduced,
        )

    @property
    def parameters(self) -> int:
        """Weights of the network."""
        return int(self.network.count_params())

    def averaged_weights(self) -> list[Array]:
        """The moving average of the weights, in the order of the network's variables; before the first step, they."""
        if self.step == 0:
            return [np.asarray(weights) for weights in self.network.get_weights()]
        trained = self.network.trainable_variables, self.optimizer._model_variables_moving_average
        averages = {variable.path: average for variable, average in zip(*trained, strict=True)}
        return [ops.convert_to_numpy(averages.get(v.path, v)) for v in self.network.weights]

    @contextlib.contextmanager
    def averaged(self) -> Iterator[DeconvNet]:
        """The network with the moving average in place of its weights, which come back afterwards."""
        held = [np.array(weights) for weights in self.network.get_weights()]
        self.network.set_weights(self.averaged_weights())
        try:
            yield self.network
        finally:
            self.network.set_weights(held)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        # The lock goes with the process, however that ends.
        with (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BusyError(f"another process trains in {self.folder}") from error
            yield

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.npz"

    def _variables(self) -> list[Any]:
        return [*self.network.trainable_variables, *self.optimizer.variables]

    def save(self) -> None:
        """Writes the checkpoint, whole or not at all."""
        values: dict[str, Any] = {f"v{i}": ops.convert_to_numpy(v) for i, v in enumerate(self._variables())}
        draft = self._checkpoint.with_suffix(".draft")
        with draft.open("wb") as file:
            np.savez(file, step=self.step, identity=json.dumps(self._identity), **values)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._checkpoint)

    def _restore(self) -> None:
        if not self._checkpoint.exists():
            return
        with np.load(self._checkpoint) as saved:
            theirs = json.loads(str(saved["identity"]))
            different = [name for name, value in self._identity.items() if theirs.get(name) != value]
            if different:
                raise OtherRunError(
                    f"{self._checkpoint} is of another run ({', '.join(different)} differ): use another folder"
                )
            for i, variable in enumerate(self._variables()):
                variable.assign(saved[f"v{i}"])
            self.step = int(saved["step"])
