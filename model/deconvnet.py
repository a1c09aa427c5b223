"""DeconvNet: a convolutional encoder, a decoder of transposed convolutions, and a head that estimates the damage.

    pixels -> encoder -> decoder -> residual        what is added to the pixels
                 |          ^
                 v          |
               head ---> condition                  estimate of the damage, and the file's quantisation tables

The total stride is 8: one cell of the deepest level is one JPEG block. Kernels of transposed convolutions are divisible
by their stride, so no output pixel sees more taps than its neighbour (no checkerboard). Nothing on the way of the
pixels pools over the tile; the head does, and its estimate is made once per image and handed to every tile.

A network of scale 2 gives twice the size: its decoder goes one transposed convolution further, and its residual is
added to the bicubic enlargement. All but the last steps work at the size of the input.

Chroma goes with luma, in the same channels, or a way of its own beside it (`model/chroma.py`).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import keras
from keras import layers, ops

from model import enlarging, jpeg
from model.chroma import ChromaWay
from model.contract import STRIDE
from model.head import GRID_SIZE, HeadFeatures, grid_steps
from model.layers import GridPhase, ShuffledTranspose, leaky, new_block
from model.size import CHROMA_PLANES, FINE_BLOCKS, DeconvNetConfig

QUALITY_BINS = (0, 15, 25, 35, 45, 55, 70, 85)
"""Lower ends of the classes of the JPEG quality factor (libjpeg's scale)."""

CLASSES = (
    *(f"jpeg_{low:02d}" for low in QUALITY_BINS),
    "double_jpeg",
    "noise",
    "blur",
    "low_resolution",
    "clean",
    "graphics",
)
"""What the softmax tells apart; `graphics` is no photograph: drawings, text, screens."""

REGRESSIONS = ("quality", "noise", "blur")
"""What the head measures: quality factor / 100, noise sigma / 50 grey levels, blur sigma / 4 pixels; each 0..1."""

ESTIMATE_SIZE = len(CLASSES) + len(REGRESSIONS)

_CODED_STEPS = 16
"""So many steps of each table, lowest frequencies first, tell the decoder what the header says."""


@keras.saving.register_keras_serializable(package="relume")
class DeconvNet(keras.Model):
    """The network; see the module's text.

    Pixels are `(batch, rows, cols, 3)` float32 as `jpeg.to_ycc` gives them, rows and cols multiples of 8, the JPEG grid
    at (0, 0). Estimates are `(batch, ESTIMATE_SIZE)`: the softmax over `CLASSES`, then `REGRESSIONS`. Tables are
    `(batch, 2, 8, 8)` quantisation steps of luma and chroma in natural order, 0 where the file has none.
    """

    def __init__(self, config: DeconvNetConfig, **kwargs: Any) -> None:
        # The pixels stay float32 whatever the policy; the layers inside cast for themselves.
        super().__init__(dtype="float32", **kwargs)
        self.config = config
        c1, c2, c3 = config.channels
        enc1, enc2, mid, dec2, dec1 = config.blocks
        block = functools.partial(new_block, leaks=config.leaky)
        self.stem = layers.Conv2D(c1, 6, strides=2, padding="same", name="stem")
        self.phase = GridPhase(STRIDE // 2, name="phase")
        self.enc1 = [block(c1, name=f"enc1_{i}") for i in range(enc1)]
        self.down1 = layers.Conv2D(c2, 2, strides=2, name="down1")
        self.enc2 = [block(c2, name=f"enc2_{i}") for i in range(enc2)]
        self.down2 = layers.Conv2D(c3, 2, strides=2, name="down2")
        self.mid = [block(c3, name=f"mid_{i}") for i in range(mid)]
        self.up2 = layers.Conv2DTranspose(c2, 2, strides=2, name="up2")
        self.dec2 = [block(c2, name=f"dec2_{i}") for i in range(dec2)]
        self.up1 = layers.Conv2DTranspose(c1, 2, strides=2, name="up1")
        self.dec1 = [block(c1, name=f"dec1_{i}") for i in range(dec1)]
        # Zero: training starts from the identity, and a clean image is its fixed point.
        self.tail = ShuffledTranspose(config.planes, 2, kernel_initializer="zeros", dtype="float32", name="tail")
        self.squeeze = layers.Conv2D(config.head, 1, activation="relu", name="squeeze")
        self.hidden = layers.Dense(2 * config.head, activation="relu", name="hidden")
        self.classes = layers.Dense(len(CLASSES), dtype="float32", name="classes")
        self.regressions = layers.Dense(len(REGRESSIONS), dtype="float32", name="regressions")
        self.embed = layers.Dense(2 * config.head, activation="relu", name="embed")
        # After all others: a network of scale 1 has its variables in the order in which files of weights hold them.
        if config.scale == 2:
            self.skip = layers.Conv2D(c1, 3, padding="same", name="skip")
            self.up0 = layers.Conv2DTranspose(c1, 2, strides=2, name="up0")
            self.fine = [block(c1, name=f"fine_{i}") for i in range(FINE_BLOCKS)]
        if config.chroma is not None:
            self.chroma = ChromaWay(config.chroma, leaks=config.leaky, name="chroma")
        if config.head_convs:
            self.head_features = HeadFeatures(config.head, config.head_convs, name="head_features")

    def build(self, input_shape: Any = None) -> None:
        """Creates every weight; the shape is known without an input."""
        c1, c2, c3 = self.config.channels
        head = self.config.head
        self.stem.build((None, None, None, self.config.planes))
        condition = (None, 2 * head)
        for level, channels in (((self.phase, self.down1), c1), ((self.down2, self.up1), c2), ((self.up2,), c3)):
            for layer in level:
                layer.build((None, None, None, channels))
        for blocks, channels, seen in (
            (self.enc1, c1, None),
            (self.enc2, c2, None),
            (self.mid, c3, condition),
            (self.dec2, c2, condition),
            (self.dec1, c1, condition),
        ):
            for block in blocks:
                block.build((None, None, None, channels), seen)
        self.tail.build((None, None, None, c1))
        self.squeeze.build((None, None, None, head if self.config.head_convs else c3))
        self.hidden.build((None, 2 * head + (GRID_SIZE if self.config.head_convs else 0)))
        self.classes.build((None, 2 * head))
        self.regressions.build((None, 2 * head))
        self.embed.build((None, ESTIMATE_SIZE + 2 * _CODED_STEPS + 1))
        if self.config.scale == 2:
            self.skip.build((None, None, None, 3))
            self.up0.build((None, None, None, c1))
            for block in self.fine:
                block.build((None, None, None, c1), condition)
        if self.config.chroma is not None:
            self.chroma.build(self.config.channels, condition)
        if self.config.head_convs:
            self.head_features.build(c1, c3)
        self.built = True

    def train_only(self, *, head: bool) -> None:
        """Freezes all layers but those of the head, or those of the head alone."""
        of_head = [self.squeeze, self.hidden, self.classes, self.regressions]
        if self.config.head_convs:
            of_head.append(self.head_features)
        for layer in self.layers:
            layer.trainable = (layer in of_head) == head

    def base(self, ycc: Any) -> Any:
        """What the residual is added to: the pixels, enlarged by the scale."""
        return enlarging.doubled(ycc) if self.config.scale == 2 else ycc

    @contextlib.contextmanager
    def computing_in(self, precision: str) -> Iterator[None]:
        """Lets what is traced meanwhile compute in another precision; weights and last layers stay float32.

        Args:
            precision: Keras's name of a policy, such as `mixed_bfloat16`.
        """
        exact = [self.tail, self.classes, self.regressions]
        if self.config.chroma is not None:
            exact.append(self.chroma.tail)
        before = [(layer, layer.dtype_policy) for layer in self._flatten_layers(include_self=False)]
        try:
            for layer, _ in before:
                if layer not in exact:
                    layer.dtype_policy = keras.dtype_policies.get(precision)
            yield
        finally:
            for layer, policy in before:
                layer.dtype_policy = policy

    def encode(self, ycc: Any) -> tuple[Any, ...]:
        """Features at 1/2, 1/4 and 1/8, and at full resolution where the scale is 2, or chroma for its own way."""
        scaled = ycc / 128.0
        bent = leaky if self.config.leaky else (lambda features: features)
        half = bent(self.phase(self.stem(scaled[..., : self.config.planes])))
        for block in self.enc1:
            half = block(half)
        quarter = bent(self.down1(half))
        for block in self.enc2:
            quarter = block(quarter)
        levels = half, quarter, bent(self.down2(quarter))
        if self.config.chroma is not None:
            return (*levels, scaled[..., -CHROMA_PLANES:])
        return (*levels, self.skip(scaled)) if self.config.scale == 2 else levels

    def logits(self, ycc: Any, features: tuple[Any, ...]) -> tuple[Any, Any]:
        """The head, on pixels and the encoder's features of them.

        Returns:
            Logits of classes and of regressions, both float32, one row an image.
        """
        half, _, deep, *_ = features
        squeezed = self.squeeze(self.head_features(half, deep) if self.config.head_convs else deep)
        pooled = [ops.mean(squeezed, axis=(1, 2)), ops.max(squeezed, axis=(1, 2))]
        if self.config.head_convs:
            pooled.append(ops.cast(grid_steps(ycc[..., 0]), squeezed.dtype))
        hidden = self.hidden(ops.concatenate(pooled, axis=-1))
        return self.classes(hidden), self.regressions(hidden)

    def condition(self, estimate: Any, tables: Any) -> Any:
        """What the decoder is told: the estimate, and what the file's header says."""
        steps = ops.reshape(ops.cast(tables, "float32"), (-1, 2, jpeg.BLOCK, jpeg.BLOCK))
        code = ops.log2(steps[:, :, :4, :4] + 1) / 8.0
        code = ops.reshape(code, (-1, 2 * _CODED_STEPS))
        known = ops.cast(code[:, :1] > 0, "float32")
        return self.embed(ops.concatenate([ops.cast(estimate, "float32"), code, known], axis=-1))

    def decode(self, features: tuple[Any, ...], condition: Any, coloured: Any = True) -> Any:
        """The residual in grey levels, float32, shaped as `base`.

        Args:
            features: of `encode`.
            condition: of `condition`.
            coloured: a bool, of a tensor too: where False, chroma's own way is not gone and its residual is 0.
        """
        half, quarter, deep, *full = features
        encoded = quarter, deep
        for block in self.mid:
            deep = block(deep, condition)
        quarter = quarter + self.up2(deep)
        for block in self.dec2:
            quarter = block(quarter, condition)
        half = half + self.up1(quarter)
        for block in self.dec1:
            half = block(half, condition)
        if not full:
            return self.tail(half) * 128.0
        if self.config.chroma is not None:
            chroma = ops.cond(
                coloured, lambda: self.chroma(full[0], *encoded, half, condition), lambda: ops.zeros_like(full[0])
            )
            return ops.concatenate([self.tail(half), chroma], axis=-1) * 128.0
        fine = full[0] + self.up0(half)
        for block in self.fine:
            fine = block(fine, condition)
        return self.tail(fine) * 128.0

    def call(self, ycc: Any, estimate: Any, tables: Any, coloured: Any = True) -> Any:
        """The residual of tiles whose estimate is known; `coloured` as for `decode`."""
        return self.decode(self.encode(ycc), self.condition(estimate, tables), coloured)

    def get_config(self) -> dict[str, Any]:
        return {"config": self.config.to_json()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DeconvNet:
        return cls(DeconvNetConfig.from_json(config["config"]))


def estimate_of(class_logits: Any, regression_logits: Any) -> Any:
    """The estimate that logits stand for, `(batch, ESTIMATE_SIZE)`."""
    return ops.concatenate([ops.softmax(class_logits), ops.sigmoid(regression_logits)], axis=-1)


def without_jpeg(estimate: Any) -> Any:
    """Estimates `(batch, ESTIMATE_SIZE)` as they are once the harm of JPEG is gone: `clean`, other harm as it was."""
    undone = CLASSES.index("double_jpeg") + 1
    harmed = ops.sum(estimate[:, :undone], axis=-1, keepdims=True)
    clean = ops.one_hot(CLASSES.index("clean"), ESTIMATE_SIZE) * harmed
    quality = ops.one_hot(len(CLASSES), ESTIMATE_SIZE)
    kept = ops.concatenate([ops.zeros_like(estimate[:, :undone]), estimate[:, undone:]], axis=-1)
    return kept * (1 - quality) + clean + quality


def build(config: DeconvNetConfig) -> DeconvNet:
    """A new network with its weights."""
    network = DeconvNet(config)
    network.build()
    return network
