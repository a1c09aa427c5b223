"""How large a DeconvNet is: its channels and blocks, and the reach and cost that follow. Needs no Keras."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from model.contract import STRIDE

FINE_BLOCKS = 1
"""Residual blocks of a network of scale 2 at the resolution of its input."""

CHROMA_PLANES = 2
"""Cb and Cr."""

CHROMA_WINDOW = 8
"""Side in pixels of the first kernel of chroma's way: a block of chroma at full size, half of one at half size."""


@dataclasses.dataclass(frozen=True)
class DeconvNetConfig:
    """The size of a DeconvNet.

    Attributes:
        channels: at 1/2, 1/4 and 1/8 of the resolution.
        blocks: residual blocks at 1/2, 1/4 (encoder), 1/8, 1/4, 1/2 (decoder).
        head: width of the head's hidden layer.
        scale: output pixels to one input pixel along an axis, 1 or 2.
        chroma: channels of chroma's own way, at the same resolutions; chroma goes with luma where None.
        head_convs: 3x3 convolutions of the head's own; where 0 it looks at what the decoder gets, and nothing else.
        leaky: every convolution on the way down and inside of blocks is followed by a leaky rectifier, and a block is
            a `LeakyBlock`; where False, a rectifier stands in the middle of each block and nowhere else.
    """

    channels: tuple[int, int, int]
    blocks: tuple[int, int, int, int, int]
    head: int = 64
    scale: int = 1
    chroma: tuple[int, int, int] | None = None
    head_convs: int = 0
    leaky: bool = False

    def __post_init__(self) -> None:
        if len(self.channels) != 3 or min(self.channels) < 1:
            raise ValueError(f"channels must be three positive numbers, got {self.channels}")
        if len(self.blocks) != 5 or min(self.blocks) < 0:
            raise ValueError(f"blocks must be five numbers of at least 0, got {self.blocks}")
        if self.scale not in (1, 2):
            raise ValueError(f"scale must be 1 or 2, got {self.scale}")
        if self.chroma is not None and (len(self.chroma) != 3 or min(self.chroma) < 1 or self.scale != 1):
            raise ValueError(f"chroma must be three positive numbers, at scale 1, or None, got {self.chroma}")
        if self.head_convs < 0:
            raise ValueError(f"head_convs must be at least 0, got {self.head_convs}")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DeconvNetConfig:
        """The inverse of `to_json`."""
        # Models made before there was a scale, a way for chroma, more to the head, or leaks do not name it.
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, (list, tuple))}
        return cls(**{**values, **lists})

    def to_json(self) -> dict[str, Any]:
        """The inverse of `from_json`; what says that a network is another one. What came later is named where used."""
        first = {"scale": 1, "chroma": None, "head_convs": 0, "leaky": False}
        return {name: value for name, value in dataclasses.asdict(self).items() if first.get(name, ...) != value}

    @property
    def planes(self) -> int:
        """Of the picture that go through the channels: luma alone, or all three."""
        return 3 if self.chroma is None else 1

    @property
    def radius(self) -> int:
        """Receptive field's radius in pixels of the input: how far away one can change a restored pixel, at most."""
        enc1, enc2, mid, dec2, dec1 = self.blocks
        # Both 6x6 ends reach 2 pixels past their stride; a 3x3 convolution reaches one cell of its level, a block two;
        # landing on a cell of stride s can add s - 1.
        reach = 2 + 2 + 2 * (2 * (enc1 + dec1) + 4 * (enc2 + dec2) + 8 * mid) + 2 + (STRIDE - 1)
        return reach + (2 * FINE_BLOCKS if self.scale == 2 else 0)

    @property
    def halo(self) -> int:
        """The radius rounded up to a multiple of the stride."""
        return -(-self.radius // STRIDE) * STRIDE

    @property
    def macs_per_pixel(self) -> int:
        """Multiplications and additions of the way of the pixels, per pixel of the input."""
        (c1, c2, c3), (enc1, enc2, mid, dec2, dec1) = self.channels, self.blocks
        ends = 2 * 36 * self.planes * c1 / 4
        steps = 2 * (4 * c1 * c2 / 16 + 4 * c2 * c3 / 64)
        inner = 18 * (c1 * c1 * (enc1 + dec1) / 4 + c2 * c2 * (enc2 + dec2) / 16 + c3 * c3 * mid / 64)
        if self.scale == 2:
            # The tail starts at full resolution, where there are four times as many cells.
            ends += 36 * 3 * c1 * (1 - 1 / 4) + 27 * c1 + c1 * c1
            inner += 18 * c1 * c1 * FINE_BLOCKS
        if self.chroma is not None:
            ends += _chroma_macs(self.chroma, self.channels)
        return round(ends + steps + inner)


SIZES: Mapping[str, DeconvNetConfig] = {
    "S": DeconvNetConfig((32, 48, 80), (0, 1, 1, 1, 2), chroma=(16, 16, 48), head_convs=1, leaky=True),
    "M": DeconvNetConfig((64, 96, 144), (0, 2, 2, 2, 2), chroma=(24, 24, 64), head_convs=1, leaky=True),
    "L": DeconvNetConfig((96, 128, 240), (0, 3, 4, 3, 3), chroma=(32, 40, 96), head_convs=1, leaky=True),
}
"""For JPEG, which codes chroma apart."""

TOGETHER = DeconvNetConfig((32, 48, 80), (0, 1, 1, 1, 2))
"""Size S for harm that is in all planes alike: noise, blur, a small size. Not leaky: what ships was trained so."""


def _chroma_macs(channels: tuple[int, int, int], luma: tuple[int, int, int]) -> float:
    """Multiplications and additions per pixel of chroma's own way, with its channels and those of luma's."""
    c1, c2, c3 = channels
    ends = CHROMA_WINDOW**2 * CHROMA_PLANES * c2 / 16 + 36 * CHROMA_PLANES * c1 / 4
    led = c1 * luma[0] / 4 + c2 * luma[1] / 16 + c3 * luma[2] / 64
    steps = 4 * c2 * c3 / 64 * 2 + 4 * c1 * c2 / 16
    return ends + led + steps + 18 * (c2 * c2 / 16 + c3 * c3 / 64)
