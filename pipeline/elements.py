"""What travels through the pipeline. References and rows may cross a shuffle; files and images never do."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pipeline.spool import Content, Spool

Pixels = np.ndarray[Any, np.dtype[Any]]
"""`(height, width, channels)` uint8 or uint16; 1 grey or 3 RGB channels, full range, in the file's own profile."""

Tables = np.ndarray[Any, np.dtype[Any]]
"""`(2, 8, 8)` uint16: luma and chroma quantisation steps in natural order; chroma is 0 in a grey file."""


@dataclasses.dataclass(frozen=True, order=True)
class ImageRef:
    """One object of the archive at one version: what is listed, joined and shuffled.

    Attributes:
        name: its path below the archive's root, with `/`, exactly as storage spells it.
        size: in bytes.
        version: the generation in cloud storage; modification time in ns and size on disk.
        again: that another version of it, or this one by another recipe, was done before; says nothing of which object
            this is.
    """

    name: str
    size: int
    version: str
    again: bool = dataclasses.field(default=False, compare=False)


@dataclasses.dataclass(frozen=True, eq=False)
class File:
    """The bytes of one object.

    Attributes:
        ref: which object, at which version; the key of every join.
        data: all of it.
        crc32c: of `data`, base64 of the big-endian value, as cloud storage writes it.
        sha256: of `data`, hexadecimal.
    """

    ref: ImageRef
    data: bytes
    crc32c: str
    sha256: str


@dataclasses.dataclass(frozen=True, eq=False)
class LargeFile:
    """The bytes of one object that are too many to be held.

    Attributes:
        ref: which object, at which version.
        spool: all of it.
    """

    ref: ImageRef
    spool: Spool

    @property
    def crc32c(self) -> str:
        """As in `File`."""
        return self.spool.crc32c

    @property
    def sha256(self) -> str:
        """As in `File`."""
        return self.spool.sha256


@dataclasses.dataclass(frozen=True)
class Metadata:
    """The bytes of a file that travel unread; None or empty where it has none.

    Attributes:
        icc: colour profile.
        exif: TIFF structure without the `Exif` prefix of JPEG; its thumbnail already taken out.
        xmp: XMP packet.
        iptc: IPTC-IIM records, as in Photoshop's 8BIM 0x0404.
        density: horizontal and vertical, and their unit: `inch`, `cm` or `none` (an aspect ratio).
        comment: text of the file's comment segments.
        not_kept: what the file has and no output can hold, as short names (`thumbnail`, `extended-xmp`).
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    density: tuple[float, float, str] | None = None
    comment: bytes | None = None
    not_kept: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Page:
    """One picture of a file; most files have one.

    Attributes:
        pixels: as stored, not turned by the orientation tag.
        alpha: `(height, width)` of the same dtype, or None; never restored, never multiplied in.
        metadata: of this page.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    metadata: Metadata = Metadata()


@dataclasses.dataclass(frozen=True, eq=False)
class Image:
    """One decoded file and all that encoding it again must give back.

    Attributes:
        file: the bytes as read, for keeping them as they are.
        format: `jpeg`, `png`, `tiff`, `webp`, `bmp`, `jp2`, `avif`, ...
        pages: at least one.
        quantization: the file's JPEG tables, or None where it is no JPEG.
        encoding: what else the encoder needs to give back the same kind of file (compression, bit depth, lossless), by
            name; values are JSON's.
        header_quality: the quality factor that the tables stand for, 1..100, or None where there are none.
    """

    file: File
    format: str
    pages: tuple[Page, ...]
    quantization: Tables | None = None
    encoding: tuple[tuple[str, Any], ...] = ()
    header_quality: int | None = None

    @property
    def ref(self) -> ImageRef:
        """Which object this is."""
        return self.file.ref

    @property
    def pixel_count(self) -> int:
        """Pixels of all pages together."""
        return sum(page.pixels.shape[0] * page.pixels.shape[1] for page in self.pages)


@dataclasses.dataclass(frozen=True)
class Damage:
    """What the model says of a page.

    Attributes:
        kind: the most likely class.
        confidence: its probability, 0..1.
        quality: JPEG quality factor that the pixels look like, 1..100; None where the model does not undo JPEG.
        noise: sigma in grey levels.
        blur: sigma in pixels.
        header_quality: quality factor that the file's tables stand for, or None.
        recompressed: that the pixels look much worse than the header says.
    """

    kind: str
    confidence: float
    quality: float | None
    noise: float
    blur: float
    header_quality: int | None
    recompressed: bool


@dataclasses.dataclass(frozen=True)
class Look:
    """What the model saw of one page.

    Attributes:
        damage: before anything was done.
        spared: None, or why the page stays as it is (`already-good`, `graphics`, `gate-changed`).
        remaining: the damage of the restored pixels; None where the page stays as it is.
    """

    damage: Damage
    spared: str | None = None
    remaining: Damage | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Restoration:
    """One image, and what the model made of it.

    Attributes:
        image: as decoded.
        pages: one for each page, of its type and `scale` times its size, with its own pixels where it stays as it is;
            empty where all do.
        looks: one for each page.
        projected: that the luma was kept in the file's quantisation bins.
        task, scale: of the model, as in its contract.
        device: what the model ran on: `cpu`, or the accelerator's name.
    """

    image: Image
    pages: tuple[Pixels, ...]
    looks: tuple[Look, ...]
    projected: bool = False
    task: str = "jpeg"
    scale: int = 1
    device: str = "cpu"

    @property
    def ref(self) -> ImageRef:
        """Which object this is."""
        return self.image.ref


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """A restored image as the bytes that could be written.

    Attributes:
        restoration: what was encoded.
        data: the file; empty where nothing was restored.
        format: of `data`, named as in `Image`.
        suffix: what is appended to the source's name: empty where the container stays, else such as `.png`.
        pages: what a reader of `data` will see, decoded again, one for each page.
        not_kept: metadata of the source that `data` lacks, as short names.
    """

    restoration: Restoration
    data: bytes
    format: str
    suffix: str
    pages: tuple[Pixels, ...]
    not_kept: tuple[str, ...]

    @property
    def ref(self) -> ImageRef:
        """Which object this is."""
        return self.restoration.ref


@dataclasses.dataclass(frozen=True)
class Measures:
    """Numbers of one state of an image (before, or as written after); None where they do not apply.

    Attributes:
        psnr: against the reference, luma, dB.
        ssim: against the reference, luma, 0..1.
        blockiness: how much steeper steps are on the JPEG grid than off it; 1 is none.
        quality: the model's estimate, 1..100, where it is one that undoes JPEG.
    """

    psnr: float | None = None
    ssim: float | None = None
    blockiness: float | None = None
    quality: float | None = None


@dataclasses.dataclass(frozen=True)
class Check:
    """One check of the gate.

    Attributes:
        name: short, safe to count by.
        value: what was found.
        limit: what it was held against; `changed` must be above it, `psnr` at least it, all others at most.
        passed: whether that was so.
    """

    name: str
    value: float
    limit: float
    passed: bool


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What is to become of an image, and why.

    Attributes:
        outcome: `restored` or `kept`.
        reason: `improved`, or why it was kept: a short name, safe to count by.
        before, after: the measures; `after` is of the bytes as written, empty where nothing was restored.
        gate: each check that was made.
        damage: what the model estimated; None where the model never saw the image.
    """

    outcome: str
    reason: str
    before: Measures = Measures()
    after: Measures = Measures()
    gate: tuple[Check, ...] = ()
    damage: Damage | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """One image ready to be written: a restored file, or the source's own bytes.

    Attributes:
        file: the source.
        verdict: what is to become of it.
        data: what to write: restored bytes, or the source's own where it is kept.
        format: of the source.
        output_format: of `data`.
        suffix: appended to the source's name.
        size: width, height, pages; zeros where never decoded.
        quantization: the source's tables, or None.
        kept_metadata, not_kept: short names of what the output has and lacks of the source's metadata.
        device: what the model ran on; `cpu` too where it never saw the image, which the processor alone looked at.
    """

    file: File | LargeFile
    verdict: Verdict
    data: Content
    format: str
    output_format: str
    suffix: str
    size: tuple[int, int, int]
    quantization: Tables | None = None
    kept_metadata: tuple[str, ...] = ()
    not_kept: tuple[str, ...] = ()
    device: str = "cpu"

    @property
    def ref(self) -> ImageRef:
        """Which object this is."""
        return self.file.ref


@dataclasses.dataclass(frozen=True)
class DeadLetter:
    """An input given up.

    Attributes:
        ref: which object.
        stage: where: list, read, decode, restore, encode, judge, write.
        reason: of the closed set `failures.REASONS`; counted.
        detail: free text; only written.
    """

    ref: ImageRef
    stage: str
    reason: str
    detail: str


@dataclasses.dataclass(frozen=True)
class Row:
    """What became of one input: a row of the run's table.

    Attributes:
        name, version, size: of the source.
        outcome: `restored`, `kept`, `skipped`, `failed` or `left`.
        reason: why; `done-before` for a skipped one; the cap that was reached (`max-minutes`) for one that is left.
        stage, detail: of a failure; empty otherwise.
        width, height, pages: of the picture; 0 where unknown.
        format, output_format: as in `Image`; empty where unknown.
        output: name of the object written, or empty.
        output_size: its bytes, or 0.
        before, after: measures; empty where not taken.
        damage: what the model estimated, or None.
        device: as in `Judged`; empty where nothing was written.
    """

    name: str
    version: str
    size: int
    outcome: str
    reason: str
    stage: str = ""
    detail: str = ""
    width: int = 0
    height: int = 0
    pages: int = 0
    format: str = ""
    output_format: str = ""
    output: str = ""
    output_size: int = 0
    before: Measures = Measures()
    after: Measures = Measures()
    damage: Damage | None = None
    device: str = ""
