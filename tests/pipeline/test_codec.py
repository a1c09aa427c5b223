"""Files to images and back: every format and variant, files left alone, files refused, and the two transforms."""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to
from PIL import Image as PilImage

from pipeline.codec import (
    FORMS,
    DecodeImages,
    EncodeImages,
    KeepAsIs,
    Limits,
    decode,
    decode_again,
    encode,
    is_lossless,
    jpeg_quality,
    probe,
)
from pipeline.codec.header import Picture
from pipeline.codec.ifd import read_chain, write_directory
from pipeline.codec.message import pack, unpack
from pipeline.codec.tiff import coded_in
from pipeline.elements import Damage, Image, Look, Restoration
from pipeline.failures import DamagedImageError, ImageError, TooLargeError, TooManyPixelsError
from pipeline.guard import Guard, stop_idle
from tests.pipeline.picture_files import (
    COLOUR,
    DEEP,
    GREY,
    KEPT,
    REFUSED,
    RESTORABLE,
    chunk,
    coded_pieces,
    of,
    photo,
    pillow,
    restorable,
    tiff,
)

LOOK = Look(Damage("none", 1.0, 90.0, 0.0, 0.0, None, False))


def image_of(name: str) -> Image:
    return decode(of(restorable(name)), Limits())


def brighter(image: Image) -> tuple[Any, ...]:
    """Pixels that differ from the source's, as a restoration's do."""
    return tuple(np.where(page.pixels < 200, page.pixels + 7, page.pixels) for page in image.pages)


@pytest.mark.parametrize("name", RESTORABLE)
def test_a_file_is_decoded_as_it_is_stored(name: str) -> None:
    _, pixels, alpha = RESTORABLE[name]

    image = image_of(name)

    (page,) = image.pages
    assert image.format == name.split()[0].replace("j2k", "jp2")
    assert page.pixels.dtype == (np.uint8 if pixels is None else pixels.dtype)
    if pixels is not None:
        np.testing.assert_array_equal(page.pixels, pixels)
    else:
        original = GREY if "grey" in name else COLOUR
        assert np.abs(page.pixels.astype(int) - original).mean() < 8
    if alpha is not None:
        assert page.alpha is not None
        np.testing.assert_array_equal(page.alpha, alpha)
    assert (page.alpha is not None) == ("alpha" in name or alpha is not None)


@pytest.mark.parametrize("name", RESTORABLE)
def test_the_header_says_what_the_pixels_are(name: str) -> None:
    image = image_of(name)

    header = probe(restorable(name))

    page = image.pages[0]
    height, width, channels = page.pixels.shape
    assert (header.format, header.width, header.height, header.pages) == (image.format, width, height, 1)
    assert header.pixels == width * height
    assert header.bits == page.pixels.dtype.itemsize * 8
    if name != "png colour key":
        assert header.channels - (page.alpha is not None) == (3 if header.format == "webp" else channels)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", RESTORABLE)
def test_what_is_encoded_comes_back_and_twice_the_same(name: str, form: str) -> None:
    image = image_of(name)
    restored = brighter(image)

    output = encode(image, restored, form)

    again = decode_again(image, restored, output, form)
    seen = decode(of(output.data), Limits())
    assert output == encode(image, restored, form)
    assert output.suffix == ("" if output.format == image.format else f".{output.format}")
    assert seen.format == output.format
    np.testing.assert_allclose(again[0].astype(int), restored[0], atol=0 if is_lossless(image, form) else 14)
    alpha = image.pages[0].alpha
    if alpha is not None:
        again_alpha = seen.pages[0].alpha
        assert again_alpha is not None
        np.testing.assert_allclose(
            again_alpha.astype(int), alpha, atol=3 if name == "avif alpha" and form == "same" else 0
        )


LOSSLESS = [name for name in RESTORABLE if not any(lossy in name for lossy in ("jpeg", "lossy", "avif"))]


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_lossless_file_stays_lossless_and_of_its_own_depth(name: str) -> None:
    image = image_of(name)

    output = encode(image, brighter(image), "same")

    before, after = probe(restorable(name)), probe(output.data)
    assert is_lossless(image, "same")
    assert (after.format, after.bits) == (before.format, before.bits)


def test_a_jpeg_is_written_at_quality_95_with_full_colour_and_progressive_as_it_was() -> None:
    for name in ("jpeg 4:2:0", "jpeg progressive"):
        image = image_of(name)

        written = decode(of(encode(image, brighter(image), "same").data), Limits())

        encoding = dict(written.encoding)
        assert jpeg_quality(written.quantization) == 95
        assert encoding["subsampling"] == [[1, 1]] * 3
        assert encoding["progressive"] == (name == "jpeg progressive")


def test_noise_that_breaks_pillows_encoder_is_written() -> None:
    noise = (np.random.default_rng(0).integers(0, 2, (300, 300, 3)) * 255).astype(np.uint8)
    image = decode(of(pillow(noise, "JPEG", progressive=True)), Limits())

    output = encode(image, (noise,), "same")

    assert decode_again(image, (noise,), output, "same")[0].shape == noise.shape


@pytest.mark.parametrize("quality", [1, 5, 10, 37, 50, 75, 90, 95, 100])
def test_the_quality_factor_is_read_from_the_tables(quality: int) -> None:
    image = decode(of(pillow(COLOUR, "JPEG", quality=quality)), Limits())

    assert jpeg_quality(image.quantization) == quality
    assert jpeg_quality(None) is None


def test_tables_are_luma_and_chroma_in_natural_order() -> None:
    tables = image_of("jpeg 4:2:0").quantization
    assert tables is not None

    assert tables.shape == (2, 8, 8)
    assert tables.dtype == np.uint16
    # Annex K at quality 75 has half its steps: the first row of luma, and the third and last of chroma.
    assert tables[0, 0].tolist() == [8, 6, 5, 8, 12, 20, 26, 31]
    assert tables[0, :, 0].tolist() == [8, 6, 7, 7, 9, 12, 25, 36]
    assert tables[1, 0].tolist() == [9, 9, 12, 24, 50, 50, 50, 50]


def test_a_grey_jpeg_has_no_chroma_table_and_one_of_rgb_has_no_luma_table() -> None:
    grey = image_of("jpeg grey").quantization
    assert grey is not None

    assert (grey[0] > 0).all()
    assert not grey[1].any()
    assert image_of("jpeg rgb").quantization is None
    assert image_of("png rgb").quantization is None


def test_all_pages_of_a_tiff_are_decoded_and_written_each_of_its_own_kind() -> None:
    pages = [COLOUR, photo(20, 30, 1), DEEP[:11]]
    image = decode(of(tiff(*pages, compression="lzw")), Limits())
    restored = brighter(image)

    for form in FORMS:
        output = encode(image, restored, form)

        seen = decode(of(output.data), Limits())
        assert output.format == "tiff"
        assert [page.pixels.shape for page in seen.pages] == [page.shape for page in pages]
        for page, wanted in zip(seen.pages, restored, strict=True):
            np.testing.assert_array_equal(page.pixels, wanted)


def test_the_inside_of_a_tiff_stays_as_it_was() -> None:
    for name in ("tiff lzw", "tiff deflate", "tiff tiled", "tiff big", "tiff white is zero", "tiff premultiplied"):
        image = image_of(name)

        written = decode(of(encode(image, brighter(image), "same").data), Limits())

        assert written.encoding == image.encoding


@pytest.mark.parametrize("options", [{}, {"big_tiff": True}, {"strip_size": 2000}])
def test_a_page_of_jpeg_that_is_as_it_was_stays_coded_as_it_was(options: dict[str, Any]) -> None:
    stream = io.BytesIO()
    first, second, third = (PilImage.fromarray(np.roll(photo(90, 70), 9 * turn, axis=1)) for turn in range(3))
    first.save(stream, "TIFF", compression="jpeg", quality=40, save_all=True, append_images=[second, third], **options)
    image = decode(of(stream.getvalue()), Limits())
    pages = (image.pages[0].pixels, brighter(image)[1], image.pages[2].pixels)

    output = encode(image, pages, "same")

    sources, written = coded_pieces(stream.getvalue()), coded_pieces(output.data)
    assert [before == after for before, after in zip(sources, written, strict=True)] == [True, False, True]
    seen = [page.pixels for page in decode(of(output.data), Limits()).pages]
    assert [np.array_equal(after, before.pixels) for after, before in zip(seen, image.pages, strict=True)] == [
        True,
        False,
        True,
    ]


def test_pages_that_share_their_strips_do_not_become_a_file_of_many_times_the_size() -> None:
    data = pillow(photo(90, 70), "TIFF", compression="jpeg")
    layout, chain = read_chain(data)
    (page,) = chain
    many = io.BytesIO(data)
    link = 4
    for _ in range(9):
        at = many.seek(0, io.SEEK_END)
        at += many.write(b"\0" * (at % 2))
        many.write(write_directory(page, layout, at))
        many.seek(link)
        many.write(layout.offset.pack(at))
        link = at + layout.count.size + len(page.entries) * layout.entry.size

    assert not coded_in(many.getvalue(), range(9))
    assert list(coded_in(many.getvalue(), [4])) == [4]


def test_what_a_form_cannot_hold_becomes_a_tiff() -> None:
    deep_image = image_of("png rgb 16")

    output = encode(deep_image, brighter(deep_image), "webp-lossless")

    assert (output.format, output.suffix) == ("tiff", ".tiff")
    assert encode(deep_image, brighter(deep_image), "png").format == "png"


def test_colours_under_full_transparency_are_not_lost() -> None:
    for form in ("same", "webp-lossless", "png", "tiff"):
        image = image_of("png rgb alpha")
        assert image.pages[0].alpha is not None
        assert image.pages[0].alpha[0, 0] == 0

        seen = decode(of(encode(image, brighter(image), form).data), Limits())

        np.testing.assert_array_equal(seen.pages[0].pixels, brighter(image)[0])


def test_a_form_that_is_none_and_pages_that_do_not_fit_are_refused() -> None:
    image = image_of("png rgb")

    with pytest.raises(ValueError, match="form must be one of same, png"):
        encode(image, brighter(image), "jpeg")
    with pytest.raises(ValueError, match="pages must be of"):
        encode(image, (GREY,), "same")


@pytest.mark.parametrize("name", KEPT)
def test_a_sound_file_that_cannot_be_restored_is_kept_with_its_reason(name: str) -> None:
    make, reason = KEPT[name]

    with pytest.raises(KeepAsIs) as kept:
        decode(of(make()), Limits())

    assert kept.value.reason == reason
    assert kept.value.size[0] > 0


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture_is_refused_with_its_reason(name: str) -> None:
    data, reason = REFUSED[name]

    with pytest.raises(ImageError) as refused:
        decode(of(data), Limits())

    assert refused.value.reason == reason


@pytest.mark.parametrize("name", ["a.png", "a.html", "a", "../a.gif"])
def test_a_wrong_name_changes_nothing(name: str) -> None:
    assert decode(of(restorable("jpeg grey"), name), Limits()).format == "jpeg"


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises a great deal."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def test_the_header_alone_trips_the_limit_on_pixels() -> None:
    limits = Limits(max_pixels=53 * 37)
    jpeg_bomb = restorable("jpeg 4:2:0")
    at = jpeg_bomb.index(b"\xff\xc0")
    jpeg_bomb = jpeg_bomb[: at + 5] + struct.pack(">HH", 65_000, 65_000) + jpeg_bomb[at + 9 :]

    for data in (bomb(2**31 - 1, 2**31 - 1), bomb(54, 37), jpeg_bomb, tiff(COLOUR, GREY)):
        with pytest.raises(TooManyPixelsError, match="the limit is 1961"):
            decode(of(data), limits)
    assert decode(of(restorable("jpeg 4:2:0")), limits).pixel_count == 1961


def test_the_limit_on_bytes_counts_before_anything_else() -> None:
    with pytest.raises(TooLargeError, match="5 bytes; the limit is 4"):
        decode(of(b"hello"), Limits(max_bytes=4))
    with pytest.raises(ValueError, match="max_pixels must be at least 1, got 0"):
        Limits(max_pixels=0)


@pytest.mark.parametrize(
    "name", ["jpeg 4:2:0", "jpeg progressive", "png rgb", "webp lossy", "tiff", "tiff lzw", "bmp rgb"]
)
def test_a_file_that_ends_early_is_damaged_wherever_it_ends(name: str) -> None:
    data = restorable(name)

    for end in range(16, len(data) - 1, max(1, len(data) // 40)):
        with pytest.raises(ImageError) as refused:
            decode(of(data[:end]), Limits())
        assert refused.value.reason in {"damaged", "not-an-image"}, end


# Written by `cjpeg -arithmetic -quality 90` of libjpeg-turbo 2.1.5 from a ramp, 16 levels a column.
ARITHMETIC = bytes.fromhex(
    "ffd8ffe000104a46494600010100000100010000ffdb0043000302020302020303030304030304050805050404050a070706"
    "080c0a0c0c0b0a0b0b0d0e12100d0e110e0b0b1016101113141515150c0f171816141812141514ffc9000b08001000100101"
    "1100ffcc000600101005ffda0008010100003f00ff00dc1be1af10267bfb2b8165f7f643fe9fed325d56e3ffd9"
)


@pytest.mark.parametrize("name", ["jpeg 4:2:0", "jpeg progressive", "png rgb", "webp lossy", "bmp rgb"])
def test_a_file_that_lacks_its_last_bytes_alone_is_damaged(name: str) -> None:
    data = restorable(name)

    for end in (len(data) - 2, len(data) - 1):
        with pytest.raises(DamagedImageError):
            decode(of(data[:end]), Limits())


def test_an_arithmetic_jpeg_is_read() -> None:
    image = decode(of(ARITHMETIC), Limits())

    ramp = np.tile(np.arange(16) * 16, (16, 1))[..., None]
    np.testing.assert_allclose(image.pages[0].pixels.astype(int), ramp, atol=3)
    assert decode(of(encode(image, brighter(image), "same").data), Limits()).pages[0].pixels.shape == (16, 16, 1)


def adam7(pixels: Any) -> bytes:
    """An interlaced PNG of 8-bit RGB, its seven passes unfiltered."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = [row for top, left, down, across in passes for row in pixels[top::down, left::across] if row.size]
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 1)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_an_interlaced_png_is_read_and_its_order_of_rows_not_kept() -> None:
    image = decode(of(adam7(COLOUR)), Limits())

    np.testing.assert_array_equal(image.pages[0].pixels, COLOUR)
    assert encode(image, brighter(image), "same").not_kept == ("interlacing",)


def test_a_message_between_processes_loses_nothing() -> None:
    image = image_of("png rgb alpha 16")
    picture = Picture(image.pages, np.ones((2, 8, 8), np.uint16), {"a": [1, None]})

    fields, parts = pack(picture)
    again = unpack(fields, [bytes(part) for part in parts])

    np.testing.assert_array_equal(again.pages[0].pixels, image.pages[0].pixels)
    np.testing.assert_array_equal(np.asarray(again.pages[0].alpha), np.asarray(image.pages[0].alpha))
    assert again.pages[0].metadata == image.pages[0].metadata
    assert again.encoding == {"a": [1, None]}


@pytest.mark.parametrize("guarded", [False, True])
def test_bad_files_become_dead_letters_kept_ones_go_on_as_they_are_and_good_ones_are_decoded(guarded: bool) -> None:
    gif = KEPT["gif"][0]()
    files = [
        of(restorable("jpeg 4:2:0"), "good.jpg"),
        of(restorable("jpeg 4:2:0")[:400], "cut.jpg"),
        of(b"no picture", "note.txt"),
        of(gif, "dance.gif"),
    ]
    arguments = (Limits(), Guard(seconds=60)) if guarded else (Limits(),)

    with TestPipeline(runner=FnApiRunner()) as root:
        decoded = root | beam.Create(files) | DecodeImages(*arguments)
        good = decoded.good | "Good" >> beam.Map(lambda image: (image.ref.name, image.pages[0].pixels.shape))
        kept = decoded.kept | "Kept" >> beam.Map(
            lambda one: (one.ref.name, one.verdict.outcome, one.verdict.reason, one.data, one.output_format, one.size)
        )
        failed = decoded.failed | "Bad" >> beam.Map(lambda letter: (letter.ref.name, letter.stage, letter.reason))

        assert_that(good, equal_to([("good.jpg", (37, 53, 3))]), label="good")
        assert_that(kept, equal_to([("dance.gif", "kept", "palette", gif, "gif", (53, 37, 1))]), label="kept")
        wrong = [("cut.jpg", "decode", "damaged"), ("note.txt", "decode", "not-an-image")]
        assert_that(failed, equal_to(wrong), label="failed")
    stop_idle()


def test_restored_images_are_encoded_and_spared_ones_pass_with_no_data() -> None:
    image = image_of("png rgb")
    restorations = [
        Restoration(image, brighter(image), (LOOK,)),
        Restoration(
            dataclasses.replace(image, file=of(b"", "spared")), (), (dataclasses.replace(LOOK, spared="already-good"),)
        ),
    ]

    with TestPipeline(runner=FnApiRunner()) as root:
        encoded = root | beam.Create(restorations) | EncodeImages("tiff")
        good = encoded.good | beam.Map(lambda one: (one.ref.name, one.suffix, bool(one.data), len(one.pages)))

        assert_that(good, equal_to([("a.jpg", ".tiff", True, 1), ("spared", "", False, 0)]))


def test_a_mistake_of_ours_is_no_dead_letter() -> None:
    broken = dataclasses.replace(of(b""), data=7)  # type: ignore[arg-type]

    with pytest.raises(Exception, match="len"), TestPipeline(runner=FnApiRunner()) as root:
        root | beam.Create([broken]) | DecodeImages(Limits())
    with pytest.raises(ValueError, match="form must be one of"):
        EncodeImages("jpg")
