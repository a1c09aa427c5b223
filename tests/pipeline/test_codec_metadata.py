"""What a file says beside its pixels: kept in its own container, kept in others where they have a place, else named."""

from __future__ import annotations

import io
import json
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import ImageCms

from pipeline.codec import FORMS, KeepAsIs, Limits, decode, encode, kept_names
from pipeline.codec import exif as exif_room
from pipeline.codec import jp2 as jp2_room
from pipeline.codec import jpeg as jpeg_room
from pipeline.codec.exif import without_thumbnail
from pipeline.codec.ifd import EXIF, GPS, INTEROP, Directory, DirectoryError, Entry, Layout, read_chain, write_directory
from pipeline.elements import Image, Metadata
from tests.pipeline.picture_files import (
    COLOUR,
    DEEP,
    GREY,
    Array,
    jp2,
    of,
    photo,
    pillow,
    png,
    restorable,
    segment,
    tiff,
    with_chunks,
    with_segments,
    with_tags,
)

NOW = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PROFILE = NOW[:24] + struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + NOW[36:]  # files that are broken at random are the same
THUMBNAIL = pillow(photo(12, 16), "JPEG")
MAKER_NOTE = b"MAKER\0" + bytes(range(256)) * 3 + b"end"
XMP = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:xmp="http://ns.adobe.com/xap/1.0/"><xmp:Rating>4</xmp:Rating></rdf:Description></rdf:RDF></x:xmpmeta>'
    b'<?xpacket end="w"?>'
)
IPTC = b"\x1c\x02\x5a\x00\x06Dresde" + b"\x1c\x02\x50\x00\x09Anna Benz"


def text(value: bytes) -> Entry:
    return Entry(2, len(value) + 1, value + b"\0")


def exif(order: str = "<", thumbnail: bool = True) -> bytes:
    """An EXIF as a camera writes one: nested parts, a maker note, a place, and a small picture behind it all."""

    def short(value: int) -> Entry:
        return Entry(3, 1, struct.pack(order + "H", value))

    def fractions(*values: int) -> Entry:
        return Entry(5, len(values) // 2, struct.pack(f"{order}{len(values)}I", *values))

    place = Directory(
        {1: text(b"N"), 2: fractions(51, 1, 3, 1, 1234, 100), 3: text(b"E"), 4: fractions(13, 1, 44, 1, 0, 1)}
    )
    nested = Directory(
        {
            33434: fractions(1, 125),
            34855: short(400),
            36867: text(b"1999:08:11 12:34:56"),
            37500: Entry(7, len(MAKER_NOTE), MAKER_NOTE),
            42036: text(b"50mm f/1.4"),
        },
        {INTEROP: Directory({1: text(b"R98"), 2: Entry(7, 4, b"0100")})},
    )
    first = Directory({271: text(b"Relume"), 274: short(6), 315: text(b"Anna Benz")}, {EXIF: nested, GPS: place})
    layout = Layout(order)
    head = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "HI", 42, 8)
    body = write_directory(first, layout, 8)
    if not thumbnail:
        return head + body
    at = 8 + len(body) + len(body) % 2
    body = write_directory(first, layout, 8, following=at).ljust(at - 8, b"\0")
    behind = at + 2 + 2 * 12 + 4
    second = {
        tag: Entry(4, 1, struct.pack(order + "I", value)) for tag, value in ((513, behind), (514, len(THUMBNAIL)))
    }
    return head + body + write_directory(Directory(second), layout, at) + THUMBNAIL


def resource(number: int, content: bytes) -> bytes:
    return b"8BIM" + struct.pack(">HHI", number, 0, len(content)) + content + b"\0" * (len(content) % 2)


def photoshop_blocks(data: bytes) -> list[bytes]:
    """What the segments of a JPEG hold of Photoshop's resources."""
    return list(jpeg_room.layout(data).starting(0xED, b"Photoshop 3.0\0"))


def full_jpeg() -> bytes:
    extended = b"http://ns.adobe.com/xmp/extension/\0" + b"A" * 32 + struct.pack(">II", 3, 0) + b"<a>"
    bare = pillow(COLOUR, "JPEG", dpi=(300, 240))
    return with_segments(
        bare,
        (0xE1, b"Exif\0\0" + exif()),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP),
        (0xE1, extended),
        (0xE2, b"ICC_PROFILE\0\1\2" + PROFILE[:100]),
        (0xE2, b"ICC_PROFILE\0\2\2" + PROFILE[100:]),
        (0xED, b"Photoshop 3.0\0" + resource(0x0404, IPTC) + resource(0x03ED, bytes(16)) + resource(0x040C, THUMBNAIL)),
        (0xEC, b"Ducky\0\1\2"),
        (0xEB, b"JP\0\1\0\0\0\1" + struct.pack(">I", 42) + b"jumb" + b"a signature over bytes that change"),
        (0xFE, b"from the attic"),
    )


def full_png(pixels: Any = DEEP) -> bytes:
    return with_chunks(
        png(pixels),
        (b"gAMA", struct.pack(">I", 45455)),
        (b"iCCP", b"a profile\0\0" + zlib.compress(PROFILE)),
        (b"pHYs", struct.pack(">IIB", 11811, 9449, 1)),
        (b"eXIf", exif(">")),
        (b"tIME", struct.pack(">HBBBBB", 2001, 2, 3, 4, 5, 6)),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        (b"tEXt", b"Comment\0from the attic"),
        (b"zTXt", b"Author\0\0" + zlib.compress(b"Anna Benz")),
        (b"prVt", b"a private chunk, safe to copy"),
        (b"prVT", b"a private chunk, unsafe to copy"),
    )


def full_webp() -> bytes:
    bare = pillow(COLOUR, "WEBP", lossless=True, icc_profile=PROFILE, exif=b"Exif\0\0" + exif(), xmp=XMP)
    more = b"ODD " + struct.pack("<I", 3) + b"abc\0"
    return bare[:4] + struct.pack("<I", len(bare) - 8 + len(more)) + bare[8:] + more


def full_tiff(order: str = "<") -> bytes:
    """Two pages; the first has all tags, nested directories as well, written by ourselves behind tifffile's."""
    first = next(read_chain(exif(order, thumbnail=False))[1])
    block = resource(0x03ED, bytes(16)) + resource(0x040C, THUMBNAIL)
    more = {
        270: text(b"from the attic"),
        700: Entry(1, len(XMP), XMP),
        33723: Entry(7, len(IPTC), IPTC),
        34377: Entry(7, len(block), block),
        34675: Entry(7, len(PROFILE), PROFILE),
        282: Entry(5, 1, struct.pack(order + "II", 300, 1)),
        283: Entry(5, 1, struct.pack(order + "II", 240, 1)),
        296: Entry(3, 1, struct.pack(order + "H", 2)),
        65000: text(b"a tag of our own"),
    }
    fields = Directory({**first.entries, **more}, first.nested)
    bare = tiff(DEEP, GREY, byteorder=order, compression="lzw")
    return with_tags(bare, [fields, Directory({270: text(b"the back side")})])


def full_jp2() -> bytes:
    image = decode(of(full_jpeg()), Limits()).pages[0]
    encoding = {"reversible": True, "bare": False, "alpha": 0, "colours": 16}
    return jp2_room.write(image.pixels, None, image.metadata, encoding)


def full_avif() -> bytes:
    return pillow(COLOUR, "AVIF", icc_profile=PROFILE, exif=b"Exif\0\0" + exif(), xmp=XMP)


FULL: dict[str, Callable[[], bytes]] = {
    "jpeg": full_jpeg,
    "png": full_png,
    "webp": full_webp,
    "tiff": full_tiff,
    "tiff big-endian": lambda: full_tiff(">"),
    "jp2": full_jp2,
    "avif": full_avif,
}


def image_of(name: str) -> Image:
    return decode(of(FULL[name]()), Limits())


def restored(image: Image) -> tuple[Any, ...]:
    return tuple(np.where(page.pixels < 200, page.pixels + 7, page.pixels) for page in image.pages)


@pytest.mark.parametrize("name", FULL)
def test_metadata_comes_back_byte_for_byte_in_the_same_container(name: str) -> None:
    image = image_of(name)

    written = decode(of(encode(image, restored(image), "same").data), Limits())

    for before, after in zip(image.pages, written.pages, strict=True):
        for kind in ("icc", "exif", "xmp", "iptc", "density", "comment"):
            assert getattr(after.metadata, kind) == getattr(before.metadata, kind), kind
        assert after.metadata.not_kept == ()


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("jpeg", {"icc", "exif", "xmp", "iptc", "density", "comment"}),
        ("png", {"icc", "exif", "xmp", "density", "comment"}),
        ("webp", {"icc", "exif", "xmp"}),
        ("tiff", {"icc", "exif", "xmp", "iptc", "density"}),
        ("jp2", {"icc", "exif", "xmp", "iptc", "density"}),
        ("avif", {"icc", "exif", "xmp"}),
    ],
)
def test_all_kinds_of_metadata_are_found(name: str, kinds: set[str]) -> None:
    metadata = image_of(name).pages[0].metadata

    found = {kind for kind in ("icc", "exif", "xmp", "iptc", "density", "comment") if getattr(metadata, kind)}

    assert found == kinds
    assert metadata.icc == PROFILE
    assert metadata.xmp == XMP
    assert metadata.exif is not None
    assert MAKER_NOTE in metadata.exif
    if "iptc" in kinds:
        assert metadata.iptc == IPTC
    if "density" in kinds:
        assert metadata.density is not None
        across, down, unit = metadata.density
        assert (across * 2.54 if unit == "cm" else across) == pytest.approx(300, rel=1e-3)
        assert (down * 2.54 if unit == "cm" else down) == pytest.approx(240, rel=1e-3)


NOT_KEPT = {
    "jpeg": {"thumbnail", "jumbf"},
    "png": {"thumbnail", "chunk-prVT"},
    "webp": {"thumbnail", "chunk-ODD"},
    "tiff": {"thumbnail"},
    "tiff big-endian": {"thumbnail"},
    "jp2": set(),
    "avif": set(),  # Pillow, which wrote the file, took the thumbnail out
}
ONLY_HERE = {
    "jpeg": {"extended-xmp", "photoshop-resources", "app12"},
    "png": {"chunk-gAMA", "chunk-tIME", "chunk-prVt", "text"},
    "tiff": {"photoshop-resources", "tag-65000"},
    "tiff big-endian": {"photoshop-resources", "tag-65000"},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FULL)
def test_what_an_output_lacks_is_named_and_nothing_else(name: str, form: str) -> None:
    image = image_of(name)

    output = encode(image, restored(image), form)

    expected = set(NOT_KEPT[name])
    if output.format != image.format:
        expected |= ONLY_HERE.get(name, set())
    if "tiff" in (output.format, image.format):
        expected.add("maker-note-offsets")
    if output.format == "webp":
        metadata = image.pages[0].metadata
        expected |= {kind for kind in ("iptc", "density", "comment") if getattr(metadata, kind)}
    assert set(output.not_kept) == expected


@pytest.mark.parametrize("form", ["png", "webp-lossless", "tiff"])
@pytest.mark.parametrize("name", ["jpeg", "jp2", "avif", "webp"])
def test_metadata_moves_to_another_container_where_it_has_a_place(name: str, form: str) -> None:
    image = image_of(name)
    output = encode(image, restored(image), form)

    before, after = image.pages[0].metadata, decode(of(output.data), Limits()).pages[0].metadata

    for kind in ("icc", "xmp", "iptc"):
        if kind not in output.not_kept:
            assert getattr(after, kind) == getattr(before, kind), kind
    if before.density and "density" not in output.not_kept:
        assert after.density is not None
        factor = {("inch", "cm"): 2.54}.get((before.density[2], after.density[2]), 1.0)
        assert [side * factor for side in after.density[:2]] == pytest.approx(before.density[:2], rel=1e-3)
    assert after.exif is not None
    if output.format != "tiff" or image.format == "tiff":
        assert after.exif == before.exif
    assert MAKER_NOTE in after.exif


def test_a_maker_note_that_moves_is_named_and_the_exif_counts_as_kept() -> None:
    image = image_of("jpeg")
    metadata = [image.pages[0].metadata]
    output = encode(image, restored(image), "tiff")
    moved = output.data.index(MAKER_NOTE) != (image.pages[0].metadata.exif or b"").index(MAKER_NOTE)

    assert moved
    assert "maker-note-offsets" in output.not_kept
    assert "exif" in kept_names(metadata, output.not_kept)


def test_an_exif_without_a_maker_note_comes_into_a_tiff_and_a_broken_one_is_named() -> None:
    plain = exif(thumbnail=False).replace(struct.pack("<H", 37500), struct.pack("<H", 37510))
    at = plain.index(struct.pack("<HHI", EXIF, 4, 1)) + 8
    broken = plain[:at] + struct.pack("<I", 2**20) + plain[at + 4 :]
    for said, lost in ((plain, ()), (broken, ("exif",))):
        image = decode(of(with_segments(restorable("jpeg grey"), (0xE1, b"Exif\0\0" + said))), Limits())

        output = encode(image, restored(image), "tiff")

        assert output.not_kept == lost
        assert (decode(of(output.data), Limits()).pages[0].metadata.exif is None) == bool(lost)


def test_every_segment_of_a_jpeg_is_carried_as_it_was_but_for_the_small_pictures() -> None:
    source = full_jpeg()
    image = decode(of(source), Limits())

    data = encode(image, restored(image), "same").data

    for payload in (
        b"Ducky\0\1\2",
        b"from the attic",
        b"ICC_PROFILE\0\2\2" + PROFILE[100:],
        resource(0x03ED, bytes(16)),
    ):
        assert payload in data
    assert b"http://ns.adobe.com/xmp/extension/\0" in data
    assert THUMBNAIL not in data
    assert b"a signature" not in data
    assert data.index(b"JFIF") < data.index(b"Exif\0\0") < data.index(b"from the attic")


def test_a_jpeg_without_a_jfif_segment_gets_none() -> None:
    bare = pillow(COLOUR, "JPEG")
    image = decode(of(b"\xff\xd8" + segment(0xE1, b"Exif\0\0" + exif(thumbnail=False)) + bare[20:]), Limits())

    data = encode(image, restored(image), "same").data

    assert b"JFIF" not in data
    assert data[2:4] == b"\xff\xe1"
    np.testing.assert_allclose(decode(of(data), Limits()).pages[0].pixels.astype(int), restored(image)[0], atol=14)


@pytest.mark.parametrize("order", ["<", ">"])
def test_taking_out_a_thumbnail_moves_nothing(order: str) -> None:
    before = exif(order)

    after, what = without_thumbnail(before)

    _, chain = read_chain(after)
    (directory,) = chain
    same = sum(a == b for a, b in zip(before, after, strict=False))
    assert what == ("thumbnail",)
    assert len(after) == len(before) - len(THUMBNAIL)
    assert len(after) - same <= 4  # the link
    assert directory == next(read_chain(before)[1])
    assert without_thumbnail(after) == (after, ())


@pytest.mark.parametrize(
    "broken", [b"", b"II*\0", b"no exif at all", exif()[:60], b"II*\0\xff\xff\xff\xff", exif()[:-4]]
)
def test_an_exif_that_cannot_be_read_is_carried_or_stripped_without_an_error(broken: bytes) -> None:
    after, _ = without_thumbnail(broken)

    assert len(after) <= len(broken)
    assert after[:4] == broken[:4]


def test_directories_come_back_as_they_were_written() -> None:
    for order in "<>":
        for big in (False, True):
            layout = Layout(order, big)
            _, chain = read_chain(exif(order, thumbnail=False))
            directory = next(chain)
            head = {"<": b"II", ">": b"MM"}[order]
            head += struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)

            again = read_chain(head + write_directory(directory, layout, len(head)))

            assert (again[0], next(again[1])) == (layout, directory)


def test_a_chain_that_bites_its_tail_is_an_error() -> None:
    directory = write_directory(Directory({271: text(b"a")}), Layout("<"), 8, following=8)

    with pytest.raises(DirectoryError, match="returns to 8"):
        list(read_chain(b"II*\0\x08\0\0\0" + directory)[1])


def test_a_resolution_of_jpeg_2000_is_written_and_read() -> None:
    for density in ((300.0, 72.0, "inch"), (118.11, 1.0, "cm"), (7_000.0, 0.5, "inch")):
        image = decode(of(jp2(COLOUR, reversible=True)), Limits())
        written = jp2_room.write(image.pages[0].pixels, None, Metadata(density=density), dict(image.encoding))

        found = decode(of(written), Limits()).pages[0].metadata.density
        assert found is not None
        factor = 2.54 if density[2] == "inch" else 1.0
        assert [side * factor for side in found[:2]] == pytest.approx(density[:2], rel=2e-3)


# ExifTool knows formats better than any of the libraries here, and shares no code with them.
GROUPS_OF_THE_FILE = {"ExifTool", "System", "File", "Composite", "IFD1"}
STRUCTURE = {
    *("BitsPerSample", "Compression", "PhotometricInterpretation", "StripOffsets", "StripByteCounts", "RowsPerStrip"),
    *("SamplesPerPixel", "PlanarConfiguration", "Predictor", "SampleFormat", "ExtraSamples", "FillOrder"),
    *("PhotoshopThumbnail", "ThumbnailImage", "ThumbnailOffset", "ThumbnailLength", "JUMDType", "JUMDLabel"),
    *("SeqProfile", "ChromaFormat", "MediaData", "CompatibleBrands", "Unknown_ODD"),
    *("YCbCrSubSampling", "YCbCrPositioning", "ReferenceBlackWhite", "MediaDataSize", "MediaDataOffset", "Warning"),
}


def said_by_exiftool(data: bytes, folder: Path, name: str) -> dict[str, Any]:
    """All tags with their groups and values, binary ones too, without what describes file and pixels."""
    path = folder / name
    path.write_bytes(data)
    command = ["exiftool", "-config", "", "-j", "-G1", "-a", "-u", "-n", "-b", "-ee", str(path)]
    (tags,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return {
        tag: value
        for tag, value in tags.items()
        if ":" in tag and tag.partition(":")[0] not in GROUPS_OF_THE_FILE and tag.partition(":")[2] not in STRUCTURE
    }


@pytest.mark.skipif(not shutil.which("exiftool"), reason="ExifTool (Debian: libimage-exiftool-perl) is not installed")
@pytest.mark.parametrize("name", FULL)
def test_exiftool_finds_the_same_before_and_after(name: str, tmp_path: Path) -> None:
    image = image_of(name)

    before = said_by_exiftool(image.file.data, tmp_path, "before")
    after = said_by_exiftool(encode(image, restored(image), "same").data, tmp_path, "after")

    lost = {tag for tag in before if before[tag] != after.get(tag)}
    new = {tag for tag in after if tag not in before}
    assert len(before) > 35
    assert (lost, new) == (set(), set())


@pytest.mark.skipif(not shutil.which("exiftool"), reason="ExifTool (Debian: libimage-exiftool-perl) is not installed")
@pytest.mark.parametrize("form", ["png", "webp-lossless", "tiff"])
def test_exiftool_finds_what_matters_in_another_container(form: str, tmp_path: Path) -> None:
    image = image_of("jpeg")

    tags = said_by_exiftool(encode(image, restored(image), form).data, tmp_path, "after")

    assert tags["IFD0:Orientation"] == 6
    assert tags["IFD0:Artist"] == "Anna Benz"
    assert tags["ExifIFD:ISO"] == 400
    assert tags["GPS:GPSLatitude"] == pytest.approx(51.0534, abs=1e-3)
    assert tags["InteropIFD:InteropIndex"] == "R98"
    assert tags["XMP-xmp:Rating"] == 4
    assert any(tag.startswith("ICC") for tag in tags)
    if form != "webp-lossless":
        assert tags["IPTC:City"] == "Dresde"


@pytest.mark.skipif(not shutil.which("exiftool"), reason="ExifTool (Debian: libimage-exiftool-perl) is not installed")
def test_exiftool_finds_what_a_camera_said_in_an_avif_that_was_turned(tmp_path: Path) -> None:
    image = image_of("avif")

    tags = said_by_exiftool(encode(image, restored(image), "same").data, tmp_path, "after")

    assert tags["QuickTime:Rotation"] == 270  # the box that stands for orientation 6
    assert tags["ExifIFD:ISO"] == 400
    assert tags["GPS:GPSLatitude"] == pytest.approx(51.0534, abs=1e-3)
    assert tags["InteropIFD:InteropIndex"] == "R98"


TAIL = b"one more picture"


@pytest.mark.parametrize(
    ("name", "data", "lost"),
    [
        ("arithmetic coding", lambda: jpeg8(COLOUR), {"arithmetic-coding"}),
        ("adobe's rgb", lambda: restorable("jpeg rgb"), {"adobe-marker"}),
        ("colour key", lambda: restorable("png colour key"), {"colour-key"}),
        ("rgb as jpeg in a tiff", lambda: pillow(COLOUR, "TIFF", compression="jpeg"), {"rgb-coding"}),
        ("planes", lambda: restorable("tiff planes"), {"planes"}),
        *(
            (f"a tail behind {name}", lambda name=name: restorable(name) + TAIL, {"bytes-behind-the-end"})
            for name in ("jpeg 4:2:0", "png rgb", "webp lossless", "webp lossy", "bmp rgb", "bmp grey")
        ),
        ("an avif twice", lambda: restorable("avif") * 2, {"bytes-behind-the-end"}),
    ],
)
def test_what_the_new_file_does_otherwise_is_named(name: str, data: Callable[[], bytes], lost: set[str]) -> None:
    image = decode(of(data()), Limits())

    assert set(encode(image, restored(image), "same").not_kept) == lost


@pytest.mark.parametrize("cut", [20, 150, 60_000])
def test_photoshop_s_resources_that_go_on_in_a_second_segment_lose_their_thumbnail_alone(cut: int) -> None:
    density, paths = resource(0x03ED, bytes(16)), resource(0x07D0, bytes(range(250)) * 300)
    before, behind = density, resource(0x0404, IPTC) + paths + resource(0x0425, b"a digest of sixte")
    block = before + resource(0x040C, THUMBNAIL) + behind
    pieces = block[:cut], block[cut:][:65_000], block[cut:][65_000:]
    source = with_segments(restorable("jpeg grey"), *((0xED, b"Photoshop 3.0\0" + piece) for piece in pieces))
    image = decode(of(source), Limits())

    output = encode(image, restored(image), "same")

    assert b"".join(photoshop_blocks(output.data)) == before + behind
    assert image.pages[0].metadata.iptc == IPTC
    assert output.not_kept == ("thumbnail",)


def test_photoshop_s_resources_that_end_without_padding_lose_no_byte_of_the_next_segment() -> None:
    pieces = resource(0x040C, b"a picture")[:-1], resource(0x0404, IPTC)
    source = with_segments(restorable("jpeg grey"), *((0xED, b"Photoshop 3.0\0" + piece) for piece in pieces))
    image = decode(of(source), Limits())

    output = encode(image, restored(image), "same")

    assert photoshop_blocks(output.data) == [b"", resource(0x0404, IPTC)]


@pytest.mark.parametrize("container", ["jpeg", "tiff"])
def test_what_others_wrote_among_photoshop_s_resources_stays_when_a_thumbnail_goes(container: str) -> None:
    foreign = b"MeSa" + resource(0x040C, b"slices of another program")[4:]
    rest = b"and more that nobody knows"
    block = resource(0x0409, THUMBNAIL) + foreign + resource(0x040C, THUMBNAIL) + resource(0x0404, IPTC) + rest
    tags = [Directory({34377: Entry(1, len(block), block)})]
    source = {
        "jpeg": lambda: with_segments(restorable("jpeg grey"), (0xED, b"Photoshop 3.0\0" + block)),
        "tiff": lambda: with_tags(tiff(GREY), tags),
    }[container]()
    image = decode(of(source), Limits())

    output = encode(image, restored(image), "same")

    assert foreign + resource(0x0404, IPTC) + rest in output.data
    assert THUMBNAIL not in output.data
    assert image.pages[0].metadata.iptc == IPTC
    assert output.not_kept == ("thumbnail",)
    assert "photoshop-resources" in encode(image, restored(image), "png").not_kept


def jpeg8(pixels: Array) -> bytes:
    """Encodes with arithmetic coding, which the encoder of the pipeline lacks."""
    if not shutil.which("cjpeg"):
        pytest.skip("cjpeg (Debian: libjpeg-turbo-progs) is not installed")
    command = ["cjpeg", "-arithmetic", "-quality", "40"]
    return subprocess.run(command, input=pillow(pixels, "PPM"), capture_output=True, check=True).stdout


def test_adobe_s_marker_is_carried_where_it_stays_true() -> None:
    adobe = (0xEE, b"Adobe\0\x64\0\0\0\0\1")
    image = decode(of(with_segments(restorable("jpeg 4:2:0"), adobe)), Limits())

    output = encode(image, restored(image), "same")

    assert segment(*adobe) in output.data
    assert output.not_kept == ()


def test_the_exif_of_an_avif_comes_back_byte_for_byte_though_it_has_an_orientation_and_letters_beyond_ascii() -> None:
    said = exif("<").replace(b"Anna Benz", "Zoë Benz".encode()[:9])
    hidden = exif_room.with_orientation_as(said, 0x0113)
    source = pillow(COLOUR, "AVIF", exif=hidden).replace(hidden, said)  # as ExifTool leaves one
    image = decode(of(source), Limits())

    output = encode(image, restored(image), "same")

    assert b"irot" not in output.data
    assert exif_room.without_thumbnail(said)[0] in output.data
    assert decode(of(output.data), Limits()).pages[0].metadata.exif == image.pages[0].metadata.exif


def test_a_turned_avif_whose_exif_has_letters_beyond_ascii_is_kept() -> None:
    said = exif("<").replace(b"Anna Benz", "Zoë Benz".encode()[:9])
    asked = b"Exif\0\0" + exif("<").replace(b"Anna Benz", b"Zo** Benz")
    turned = pillow(COLOUR, "AVIF", exif=asked)

    source = turned.replace(b"Zo** Benz", "Zoë Benz".encode()[:9])

    assert said.count("ë".encode()) == 1
    with pytest.raises(KeepAsIs, match="not written again"):
        decode(of(source), Limits())


def test_a_deflated_tiff_keeps_the_number_of_its_compression() -> None:
    image = decode(of(tiff(COLOUR, compression="adobe_deflate")), Limits())

    with tifffile.TiffFile(io.BytesIO(encode(image, restored(image), "same").data)) as file:
        assert file.pages[0].compression == 8
