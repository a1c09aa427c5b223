"""Why a sound file is left alone: what the model or the encoders could not give back as it was."""

from __future__ import annotations

KEPT_REASONS: dict[str, str] = {
    "animated": "several frames in time; restoring each would make them flicker",
    "bilevel": "black and white only, with nothing between to restore",
    "camera-raw": "sensor values, not a picture yet",
    "cmyk": "four inks; the model knows grey and RGB",
    "colour-space": "Lab, unusual channels or another colour model that the model does not know",
    "depth": "neither 8 nor 16 bits a channel, or channels of different depth",
    "float": "floating-point or signed values, which have no full range",
    "layers": "layers that would contradict the restored picture",
    "lossy-not-writable": "can be read here, but not written again in its own kind",
    "multi-picture": "further pictures, a depth or gain map, or a film behind the first picture",
    "multi-resolution": "the same picture again in smaller sizes, which would contradict the restored one",
    "palette": "an indexed palette: a graphic, or a photograph whose colours are no longer a ramp",
}
"""Every reason, and what it means."""


class KeepAsIs(Exception):  # noqa: N818 - no error: the file is well, and goes out as it came in
    """A sound file that is not to be restored.

    Args:
        reason: of `KEPT_REASONS`.
        size: width, height, pages, as the header says.
        format: as in `Image`.
    """

    def __init__(self, reason: str, format: str = "", size: tuple[int, int, int] = (0, 0, 0)) -> None:  # noqa: A002
        if reason not in KEPT_REASONS:
            raise ValueError(f"reason must be one of {', '.join(KEPT_REASONS)}, got {reason}")
        super().__init__(KEPT_REASONS[reason])
        self.reason = reason
        self.format = format
        self.size = size
