"""A picture of twice the size: what its file says of size and density, in every container."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as PilImage

from pipeline.codec import Limits, decode, encode, enlarging, jpeg, webp
from pipeline.codec.encoding import decode_again
from pipeline.codec.ifd import read_chain
from pipeline.elements import Image
from tests.pipeline.picture_files import ALPHA, CLEAR, COLOUR, DEEP, GREY, chunk, jp2, of, pillow, png, tiff

Array = np.ndarray[Any, np.dtype[Any]]

XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description exif:PixelXDimension="53" tiff:XResolution="300/1">'
    b"<tiff:ImageLength>37</tiff:ImageLength><tiff:YResolution>300</tiff:YResolution><xmp:Rating>3</xmp:Rating>"
)


def exif(order: str = "<", width: int = 40_000) -> bytes:
    """An EXIF as cameras write it: a density, sides of two bytes, and a maker note that holds an offset."""
    layout = {"<": b"II", ">": b"MM"}[order]
    head = layout + struct.pack(order + "HI", 42, 8)
    first = struct.pack(order + "H", 2)
    first += struct.pack(order + "HHII", 282, 5, 1, 38) + struct.pack(order + "HHII", 34665, 4, 1, 46)
    first += struct.pack(order + "I", 0) + struct.pack(order + "II", 300, 1)
    inner = struct.pack(order + "H", 3)
    inner += struct.pack(order + "HHIHH", 0xA002, 3, 1, width, 0) + struct.pack(order + "HHIHH", 0xA003, 3, 1, 37, 0)
    inner += struct.pack(order + "HHII", 0x927C, 7, 8, 88) + struct.pack(order + "I", 0)
    return head + first + inner + b"MAKER\0\0\7"


def numbers(data: bytes) -> dict[int, tuple[int, ...]]:
    layout, chain = read_chain(data)
    first = next(chain)
    (inner,) = first.nested.values()
    (across,) = (entry for tag, entry in first.entries.items() if tag == 282)
    sides = {tag: inner.integers(tag, layout) for tag in (0xA002, 0xA003)}
    return {282: struct.unpack(layout.order + "II", across.value), **sides}


def doubled(image: Image) -> tuple[Array, ...]:
    """Pixels of twice the size."""
    return tuple(page.pixels.repeat(2, axis=0).repeat(2, axis=1) for page in image.pages)


def written(data: bytes, form: str = "same") -> tuple[Image, Any, Image]:
    image = decode(of(data), Limits())
    output = encode(image, doubled(image), form, 2)
    assert [page.shape for page in decode_again(image, doubled(image), output, form)] == [
        page.shape for page in doubled(image)
    ]
    return image, output, decode(of(output.data), Limits())


@pytest.mark.parametrize("order", ["<", ">"])
def test_numbers_of_an_exif_grow_and_its_bytes_stay_where_they_are(order: str) -> None:
    found = enlarging.of_exif(exif(order), 2)

    assert numbers(exif(order)) == {282: (300, 1), 0xA002: (40_000,), 0xA003: (37,)}
    assert numbers(found) == {282: (600, 1), 0xA002: (80_000,), 0xA003: (74,)}
    assert len(found) == len(exif(order))
    assert found[88:] == b"MAKER\0\0\7"


@pytest.mark.parametrize("data", [b"", b"II*\0\xff\xff\xff\xff", exif()[:60], b"no exif at all"])
def test_an_exif_that_cannot_be_read_stays_as_it_is(data: bytes) -> None:
    assert enlarging.of_exif(data, 2) == data


def test_numbers_of_an_xmp_packet_grow_and_no_others() -> None:
    found = enlarging.of_xmp(XMP, 2)

    assert b'PixelXDimension="106"' in found
    assert b'XResolution="600/1"' in found
    assert b"<tiff:ImageLength>74<" in found
    assert b"<tiff:YResolution>600<" in found
    assert b"<xmp:Rating>3<" in found
    assert len(found) == len(XMP) + 1


@pytest.mark.parametrize("form", ["same", "png", "tiff"])
def test_a_jpeg_is_as_large_on_paper_as_it_was(form: str) -> None:
    source = pillow(COLOUR, "JPEG", dpi=(300, 150), exif=b"Exif\0\0" + exif(), xmp=XMP)

    before, _, after = written(source, form)

    meant, found = before.pages[0].metadata, after.pages[0].metadata
    assert meant.density is not None
    assert found.density is not None
    inches = 2.54 if found.density[2] == "cm" else 1.0
    assert [side * inches for side in found.density[:2]] == pytest.approx([600, 300], rel=1e-3)
    assert found.exif is not None
    assert found.xmp is not None
    assert numbers(found.exif)[0xA002] == (80_000,)
    assert b'PixelXDimension="106"' in found.xmp
    assert after.pages[0].pixels.shape == (74, 106, 3)


def test_photoshops_density_grows_with_the_others() -> None:
    block = b"8BIM" + struct.pack(">HHI", 0x03ED, 0, 16) + struct.pack(">IHHIHH", 72 << 16, 1, 1, 72 << 16, 1, 1)

    found = enlarging.of_photoshop(block + block, 2)

    assert found == block.replace(struct.pack(">I", 72 << 16), struct.pack(">I", 144 << 16)) * 2


def test_a_shape_of_pixels_is_no_density_and_stays() -> None:
    bare = pillow(COLOUR, "JPEG")
    odd = bare.replace(b"JFIF\0\1\1\0\0\1\0\1", b"JFIF\0\1\1\0\0\3\0\4")

    _, output, after = written(odd)

    assert after.pages[0].metadata.density == (3.0, 4.0, "none")
    assert b"JFIF\0\1\1\0\0\3\0\4" in output.data


def test_a_png_keeps_its_chunks_with_a_density_that_fits() -> None:
    metre = struct.pack(">IIB", 11811, 11811, 1)
    data = png(CLEAR)
    source = data[:33] + chunk(b"pHYs", metre) + chunk(b"tEXt", b"Title\0Sea") + data[33:]

    _, output, after = written(source)

    assert chunk(b"pHYs", struct.pack(">IIB", 23622, 23622, 1)) in output.data
    assert chunk(b"tEXt", b"Title\0Sea") in output.data
    (page,) = after.pages
    assert page.alpha is not None
    assert page.alpha.shape == (74, 106)
    assert np.abs(page.alpha[::2, ::2].astype(int) - ALPHA).max() <= 2


def test_pages_of_a_tiff_grow_with_their_tags_but_no_place_on_earth() -> None:
    place = (33550, "d", 3, (1.0, 1.0, 0.0), True)
    source = tiff(DEEP, DEEP, resolution=(300, 300), resolutionunit=2, extratags=[place], compression="lzw")

    _, output, after = written(source)

    assert [page.pixels.shape for page in after.pages] == [(74, 106, 3)] * 2
    assert {page.metadata.density for page in after.pages} == {(600.0, 600.0, "inch")}
    assert output.not_kept == ("tag-33550",)
    with tifffile.TiffFile(io.BytesIO(output.data)) as file:
        assert 33550 not in file.pages[0].tags


@pytest.mark.parametrize("kind", ["bmp", "jp2"])
def test_other_containers_hold_twice_the_size_too(kind: str) -> None:
    data = pillow(GREY, "BMP", dpi=(100, 100)) if kind == "bmp" else jp2(COLOUR, reversible=True)

    before, _, after = written(data)

    density = before.pages[0].metadata.density
    assert after.pages[0].pixels.shape[:2] == (74, 106)
    if density is not None:
        assert after.pages[0].metadata.density == (2 * density[0], 2 * density[1], "cm")


def test_what_outgrows_its_container_becomes_a_tiff() -> None:
    wide = np.zeros((2, webp.MAX_SIDE, 3), np.uint8)
    broad = np.zeros((2, jpeg.MAX_SIDE // 2 + 10, 1), np.uint8)

    for source in (pillow(wide, "WEBP", lossless=True), pillow(broad, "JPEG", dpi=(300, 300))):
        image, output, after = written(source)

        assert (output.format, output.suffix) == ("tiff", ".tiff")
        assert after.pages[0].pixels.shape[1] == 2 * image.pages[0].pixels.shape[1]


def test_pixels_of_another_size_than_the_scale_says_are_refused() -> None:
    image = decode(of(pillow(COLOUR, "JPEG")), Limits())

    with pytest.raises(ValueError, match="pages must be of"):
        encode(image, doubled(image), "same")
    with pytest.raises(ValueError, match="pages must be of"):
        encode(image, tuple(page.pixels for page in image.pages), "same", 2)


def test_the_file_opens_elsewhere_at_twice_the_size() -> None:
    _, output, _ = written(pillow(COLOUR, "JPEG", dpi=(72, 72)))

    with PilImage.open(io.BytesIO(output.data)) as image:
        assert image.size == (106, 74)
        assert image.info["dpi"] == (144, 144)
