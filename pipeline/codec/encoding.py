"""From an image and its restored pixels to a file: of its own kind, or of a lossless one that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.codec import avif, bmp, enlarging, exif, ifd, jp2, jpeg, png, tiff, webp
from pipeline.codec.decoding import READERS, typed
from pipeline.codec.header import names, profile_space
from pipeline.elements import Image, Metadata, Page, Pixels
from pipeline.failures import DamagedImageError, ImageError, UnsupportedImageError

FORMS = ("same", "png", "webp-lossless", "tiff")
"""What `--format` may ask for."""

LOSSLESS_ALWAYS = {"png", "bmp"}

MAX_SIDES = {"jpeg": jpeg.MAX_SIDE, "webp": webp.MAX_SIDE, "avif": avif.MAX_SIDE}
"""Pixels a side that an encoder takes at most."""


class Output(NamedTuple):
    """An encoded file.

    Attributes:
        data: its bytes.
        format: as in `Image`.
        suffix: to be appended to the source's name; empty where the container stays.
        not_kept: what of the source's metadata it lacks, as short names.
    """

    data: bytes
    format: str
    suffix: str
    not_kept: tuple[str, ...]


class How(NamedTuple):
    """How a source's own container is written.

    Attributes:
        exact: with no loss, where it has a choice.
        scale: output pixels to one of the source, along an axis; of what is carried over from the source's file.
    """

    exact: bool
    scale: int


class Written(NamedTuple):
    """What a writer gives: bytes, and what metadata they lack."""

    data: bytes
    lacks: tuple[str, ...] = ()


def encode(image: Image, pages: tuple[Pixels, ...], form: str, scale: int = 1) -> Output:
    """Encodes restored pixels with all that the source had beside its pixels.

    Args:
        image: the source, whose alpha and metadata go along.
        pages: of the image's types, and `scale` times its sizes.
        form: of `FORMS`. What a form cannot hold (several pages, 16 bits in a WebP) becomes a TIFF, and so does what
            has outgrown the source's own container.
        scale: of the model: the density grows with it, and all else that says how large the picture is.

    Returns:
        The file; the same arguments give the same bytes.

    Raises:
        ValueError: for another form, or pages that do not fit the image's.
        UnsupportedImageError: if the container's encoder refuses what the image carries.
    """
    if form not in FORMS:
        raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form}")
    sides = [(*(scale * side for side in page.pixels.shape[:2]), page.pixels.shape[2]) for page in image.pages]
    wanted = [(shape, page.pixels.dtype) for shape, page in zip(sides, image.pages, strict=True)]
    if [(page.shape, page.dtype) for page in pages] != wanted:
        raise ValueError(f"pages must be of {wanted}, got {[(page.shape, page.dtype) for page in pages]}")
    if scale != 1:
        image = enlarging.enlarged(image, pages, scale)
    target = {"same": image.format, "webp-lossless": "webp"}.get(form, form)
    if not _holds(target, image, pages):
        target = "tiff"
    try:
        if target == image.format:
            data, lacks = SAME[target](image, pages, How(form != "same", scale))
        else:
            data, lacks = OTHER[target](image, pages)
            lacks = names(lacks, dict(image.encoding).get("only_here", ()))
    except (ImageError, MemoryError):
        raise
    # Encoders are handed tags of files from anywhere, and raise nearly anything at what they do not know.
    except Exception as error:
        raise UnsupportedImageError(
            f"as {target} it cannot be written: {type(error).__name__}: {error}"[:500]
        ) from error
    if "tiff" in (image.format, target):
        lacks = names(lacks, *(exif.changed_by_tiff(page.metadata.exif) for page in image.pages if page.metadata.exif))
    known = [page.metadata.not_kept for page in image.pages]
    suffix = "" if target == image.format else f".{target}"
    return Output(data, target, suffix, names(lacks, *known))


def decode_again(image: Image, pages: tuple[Pixels, ...], output: Output, form: str) -> tuple[Pixels, ...]:
    """Decodes what was encoded, as a reader will see it.

    Args:
        image, pages, form: as given to `encode`.
        output: what it gave.

    Returns:
        One array for each page, shaped and typed as `pages`.

    Raises:
        UnsupportedImageError: if that is not what was encoded, as where an odd tag misleads the decoder.
    """
    try:
        seen = typed(lambda: READERS[output.format].read(output.data)).pages
    except DamagedImageError as error:
        raise UnsupportedImageError(f"as {output.format} it cannot be read back: {error}") from error
    again = tuple(_as(page.pixels, wanted) for page, wanted in zip(seen, pages, strict=True))
    for number, (page, wanted, source) in enumerate(zip(again, pages, image.pages, strict=True)):
        if (page.shape, page.dtype) != (wanted.shape, wanted.dtype):
            raise UnsupportedImageError(f"page {number} was written as {page.shape} {page.dtype}, not {wanted.shape}")
        if is_lossless(image, form, number) and not np.array_equal(page, wanted):
            raise UnsupportedImageError(f"page {number} of a lossless {output.format} came back different")
        if source.alpha is not None and seen[number].alpha is None:
            raise UnsupportedImageError(f"page {number} lost its alpha in {output.format}")
    return again


def is_lossless(image: Image, form: str, page: int = 0) -> bool:
    """Tells whether a page comes back exactly as it was encoded."""
    if form != "same":
        return True
    encoding = dict(image.encoding)
    if image.format == "tiff":
        return bool(encoding["pages"][page]["compression"] != tiff.JPEG)
    return image.format in LOSSLESS_ALWAYS or bool(encoding.get("lossless") or encoding.get("reversible"))


def _as(page: Pixels, wanted: Pixels) -> Pixels:
    """Takes one of three equal channels where a container has no grey."""
    if wanted.shape[2] == 1 and page.shape[2] == 3 and (page[..., :1] == page).all():
        return np.ascontiguousarray(page[..., :1])
    return page


def _holds(target: str, image: Image, pages: Sequence[Pixels]) -> bool:
    """Tells whether a container can hold these pages exactly."""
    if target in MAX_SIDES and max(max(page.shape[:2]) for page in pages) > MAX_SIDES[target]:
        return False
    if target == "webp":
        # It has three channels, which a profile for grey would not fit.
        grey = pages[0].shape[2] == 1 and profile_space(image.pages[0].metadata.icc) == b"GRAY"
        return len(pages) == 1 and pages[0].dtype == np.uint8 and not grey
    return target == "tiff" or len(pages) == 1


def _same_jpeg(image: Image, pages: tuple[Pixels, ...], how: How) -> Written:
    progressive = bool(dict(image.encoding)["progressive"])
    return Written(jpeg.write(pages[0], image.file.data, progressive, image.quantization, how.scale))


def _same_png(image: Image, pages: tuple[Pixels, ...], how: How) -> Written:
    chunks = png.enlarged(png.carried(list(png.chunks(image.file.data)))[0], how.scale)
    return Written(png.write(pages[0], image.pages[0].alpha, chunks))


def _same_webp(image: Image, pages: tuple[Pixels, ...], how: How) -> Written:
    return _webp(image.pages[0], pages[0], how.exact or bool(dict(image.encoding)["lossless"]))


def _same_tiff(image: Image, pages: tuple[Pixels, ...], how: How) -> Written:
    encoding = dict(image.encoding)
    layout = ifd.Layout(encoding["order"], encoding["big"])
    tags = tiff.tags_to_carry(image.file.data)
    lost: tuple[str, ...] = ()
    if how.scale != 1:
        grown = [enlarging.of_directory(directory, layout, how.scale) for directory in tags]
        tags, lost = [directory for directory, _ in grown], names(*(lost for _, lost in grown))
    settings = [tiff.exactly(setting) if how.exact else setting for setting in encoding["pages"]]
    # A JPEG within loses something each time it is encoded: a page that is as it was stays coded as it was.
    same = [
        number
        for number, (pixels, page) in enumerate(zip(pages, image.pages, strict=True))
        if settings[number]["compression"] == tiff.JPEG and np.array_equal(pixels, page.pixels)
    ]
    coded = tiff.coded_in(image.file.data, same) if same else {}
    return Written(tiff.write(_beside_alpha(image, pages), settings, tags, layout, coded), lost)


def _same_bmp(image: Image, pages: tuple[Pixels, ...], _: How) -> Written:
    return Written(bmp.write(pages[0], image.pages[0].metadata.density, dict(image.encoding)["bits"]))


def _same_jp2(image: Image, pages: tuple[Pixels, ...], _: How) -> Written:
    page, encoding = image.pages[0], dict(image.encoding)
    return Written(jp2.write(pages[0], page.alpha, page.metadata, encoding))


def _same_avif(image: Image, pages: tuple[Pixels, ...], _: How) -> Written:
    page = image.pages[0]
    return Written(*avif.write(pages[0], page.alpha, page.metadata, dict(image.encoding)["turned"]))


def _other_png(image: Image, pages: tuple[Pixels, ...]) -> Written:
    page = image.pages[0]
    return Written(png.write(pages[0], page.alpha, png.chunks_of(page.metadata)))


def _other_webp(image: Image, pages: tuple[Pixels, ...]) -> Written:
    return _webp(image.pages[0], pages[0], lossless=True)


def _other_tiff(image: Image, pages: tuple[Pixels, ...]) -> Written:
    tags = [tiff.tags_of(page.metadata) for page in image.pages]
    return Written(
        tiff.write(
            _beside_alpha(image, pages),
            [tiff.PLAIN] * len(pages),
            [directory for _, directory in tags],
            tags[0][0],
        )
    )


def _webp(page: Page, pixels: Pixels, lossless: bool) -> Written:
    return Written(*webp.write(pixels, page.alpha, page.metadata, lossless))


def _beside_alpha(image: Image, pages: tuple[Pixels, ...]) -> list[tuple[Pixels, Pixels | None]]:
    """Pairs restored pixels with the alpha of their page."""
    return [(pixels, page.alpha) for page, pixels in zip(image.pages, pages, strict=True)]


SAME: dict[str, Callable[[Image, tuple[Pixels, ...], How], Written]] = {
    "avif": _same_avif,
    "bmp": _same_bmp,
    "jp2": _same_jp2,
    "jpeg": _same_jpeg,
    "png": _same_png,
    "tiff": _same_tiff,
    "webp": _same_webp,
}
"""Writers of a source's own container."""
OTHER: dict[str, Callable[[Image, tuple[Pixels, ...]], Written]] = {
    "png": _other_png,
    "tiff": _other_tiff,
    "webp": _other_webp,
}


def kept_names(metadata: Sequence[Metadata], not_kept: Sequence[str]) -> tuple[str, ...]:
    """Names the kinds of metadata that a source has and its output has too."""
    kinds = ("icc", "exif", "xmp", "iptc", "density", "comment")
    present: list[Any] = [name for name in kinds if any(getattr(page, name) for page in metadata)]
    return names([name for name in present if name not in not_kept])
