"""Makes `samples/archive/` and `samples/pristine/` from the GB82 image set (25 images, 576x576, CC0).

    python samples/make_samples.py PHOTOS OUTPUT

PHOTOS holds the 25 images of the set in any lossless format that Pillow reads, named so that they sort in the set's
own alphabetical order (`baby` ... `waves`). OUTPUT gets `archive/` and `pristine/`. Nothing here is random and no clock
is read: with Pillow 12.3, libjpeg-turbo 3.1, libwebp 1.6 and littlecms 2.19 the files come out byte for byte as they
are shipped, with other versions at least the JPEG pixels do. README.md beside this file says what each one is for.
"""

import argparse
import dataclasses
import hashlib
import io
import struct
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from PIL import ExifTags, ImageCms
from PIL import Image as PilImage
from PIL.TiffImagePlugin import IFDRational

Photo = PilImage.Image
Box = tuple[int, int, int, int]

# Every photograph in use: its place in the set's alphabetical order, counted from 1, and the first 16 hex digits of
# the SHA-256 of its RGB bytes, so that a wrong folder is found out before anything is written.
ORIGINS: Mapping[str, tuple[int, str]] = {
    "bulb": (2, "92f5bf8f83a93fc8"),
    "city": (3, "437580f67d55575d"),
    "dog": (4, "cc06cc19aea2f2be"),
    "flowers": (5, "62d1affe11a6ae6e"),
    "girl": (6, "bda4478cbb95ede4"),
    "guitar": (8, "41ea1ffbfb6e5728"),
    "night": (15, "7afa0cdb73baf4df"),
    "nyc": (16, "cdb7dcb24abfc661"),
    "prudential": (19, "713eba150df5a0ae"),
    "reflect": (21, "cf2a76e3426245f6"),
    "sumac": (23, "1d219fa05395eae5"),
    "waves": (25, "e249f3e2fa045fb0"),
}
SET_SIZE = 25

NOTE = """This slide is missing.
Lent to the museum in May 2016, see the list in the blue folder. Scan it when it is back.
"""

XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmp:CreateDate="2016-04-02T18:20:05" xmp:Rating="5">
   <dc:title><rdf:Alt><rdf:li xml:lang="x-default">Red guitar</rdf:li></rdf:Alt></dc:title>
   <dc:rights><rdf:Alt><rdf:li xml:lang="x-default">CC0 1.0</rdf:li></rdf:Alt></dc:rights>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""


@dataclasses.dataclass(frozen=True)
class Made:
    """What becomes of one photograph.

    Attributes:
        archive: the bytes of the file in the archive.
        pristine: suffix and bytes of its reference, or None where the archive's file cannot be decoded.
    """

    archive: bytes
    pristine: tuple[str, bytes] | None


@dataclasses.dataclass(frozen=True)
class Sample:
    """One file of the archive.

    Attributes:
        name: its path below `archive/`.
        origin: which photograph, a key of `ORIGINS`; None for the file that is no picture.
        box: left, top, right, bottom in pixels of the photograph.
        make: turns the whole photograph and the box into files.
    """

    name: str
    origin: str | None
    box: Box
    make: Callable[[Photo, Box], Made]


def jpeg(picture: Photo, quality: int, **options: Any) -> bytes:
    """Encodes as JPEG with 4:2:0 chroma and optimised Huffman tables unless the options say otherwise."""
    return saved(picture, format="JPEG", quality=quality, **{"subsampling": "4:2:0", "optimize": True, **options})


def saved(picture: Photo, **options: Any) -> bytes:
    """Encodes a picture with Pillow's writer and gives the bytes."""
    stream = io.BytesIO()
    picture.save(stream, **options)
    return stream.getvalue()


def reloaded(data: bytes) -> Photo:
    """Decodes bytes that this script made."""
    with PilImage.open(io.BytesIO(data)) as picture:
        picture.load()
        return picture


def lossless(picture: Photo, **metadata: Any) -> tuple[str, bytes]:
    """Encodes a reference as PNG or lossless WebP, whichever is smaller; gives suffix and bytes."""
    png = saved(picture, format="PNG", optimize=True, **metadata)
    if picture.mode == "L":  # WebP knows no grey: it would come back as RGB
        return ".png", png
    webp = saved(picture, format="WEBP", lossless=True, exact=True, quality=100, method=6, **metadata)
    return min((".png", png), (".webp", webp), key=lambda reference: len(reference[1]))


def compressed(photo: Photo, box: Box, quality: int, mode: str = "RGB", **options: Any) -> Made:
    """One crop, compressed once."""
    crop = photo.crop(box).convert(mode)
    return Made(jpeg(crop, quality, **options), lossless(crop))


def compressed_twice(photo: Photo, box: Box, first: int, second: int, shift: int) -> Made:
    """Compressed, cropped by `shift` pixels from the left and the top, and compressed again.

    The first pass sees `shift` pixels more on both sides, so its 8x8 blocks lie across those of the second.
    """
    left, top, right, bottom = box
    wider = photo.crop((left - shift, top - shift, right, bottom))
    once = reloaded(jpeg(wider, first)).crop((shift, shift, *wider.size))
    return Made(jpeg(once, second), lossless(photo.crop(box)))


def png_of_jpeg(photo: Photo, box: Box, quality: int) -> Made:
    """A JPEG that somebody saved as PNG: the damage stays, the quantisation tables are gone."""
    crop = photo.crop(box)
    return Made(saved(reloaded(jpeg(crop, quality)), format="PNG", optimize=True), lossless(crop))


def turned(photo: Photo, box: Box, quality: int) -> Made:
    """A camera held upright: pixels stored a quarter turn to the left, and an orientation tag that turns them back.

    The reference has the same layout and the same tag, so that it compares pixel by pixel and looks right in a viewer.
    """
    stored = photo.crop(box).transpose(PilImage.Transpose.ROTATE_90)
    tag = PilImage.Exif()
    tag[ExifTags.Base.Orientation] = 6
    return Made(jpeg(stored, quality, exif=camera_exif(stored.size)), lossless(stored, exif=tag.tobytes()))


def wide_gamut(photo: Photo, box: Box, quality: int, dpi: int) -> Made:
    """In a wide-gamut profile, with XMP and density; the reference has the same profile."""
    profile = wide_gamut_profile()
    crop = ImageCms.profileToProfile(
        photo.crop(box),
        ImageCms.createProfile("sRGB"),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
    )
    if crop is None:
        raise RuntimeError("littlecms converted in place, where a new picture was asked for")
    crop.info.clear()  # the profile that Pillow put there would be written a second time
    damaged = jpeg(crop, quality, icc_profile=profile, xmp=XMP.encode(), dpi=(dpi, dpi))
    return Made(damaged, lossless(crop, icc_profile=profile))


def cut_short(photo: Photo, box: Box, quality: int, part: float) -> Made:
    """A download that broke off: the header and the first `part` of the bytes of a JPEG."""
    data = jpeg(photo.crop(box), quality)
    return Made(data[: int(len(data) * part)], None)


def text(_photo: Photo, _box: Box) -> Made:
    """A note that bears a picture's name."""
    return Made(NOTE.encode(), None)


def camera_exif(size: tuple[int, int]) -> bytes:
    """Gives EXIF as a camera writes it, with an ExifIFD and a GPS IFD; maker, lens and day are made up.

    The place is the Royal Observatory in Greenwich.
    """
    base, gps = ExifTags.Base, ExifTags.GPS
    exif = PilImage.Exif()
    exif[base.Make] = "Example Works"
    exif[base.Model] = "Field 3"
    exif[base.Orientation] = 6
    exif[base.DateTime] = "2016:05:14 10:31:07"
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {
            base.ExposureTime: IFDRational(1, 250),
            base.FNumber: IFDRational(4, 1),
            base.ISOSpeedRatings: 200,
            base.ExifVersion: b"0232",
            base.DateTimeOriginal: "2016:05:14 10:31:07",
            base.FocalLength: IFDRational(85, 1),
            base.ColorSpace: 1,
            base.ExifImageWidth: size[0],
            base.ExifImageHeight: size[1],
            base.LensModel: "Example 85mm f/1.8",
        }
    )
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(
        {
            gps.GPSVersionID: b"\x02\x03\x00\x00",
            gps.GPSLatitudeRef: "N",
            gps.GPSLatitude: (IFDRational(51), IFDRational(28), IFDRational(4012, 100)),
            gps.GPSLongitudeRef: "W",
            gps.GPSLongitude: (IFDRational(0), IFDRational(0), IFDRational(531, 100)),
            gps.GPSDateStamp: "2016:05:14",
        }
    )
    return exif.tobytes()


def wide_gamut_profile() -> bytes:
    """Builds an ICC version 4 profile with Display P3's primaries, a D65 white and sRGB's curve; free of any licence.

    Layout after ICC.1:2010: a header of 128 bytes, a table of tags, the tags, each on a multiple of 4.
    """
    white = (0.9642, 1.0, 0.8249)  # D50, the white of the connection space

    def fixed(*values: float) -> bytes:  # s15Fixed16
        return struct.pack(f">{len(values)}i", *(round(value * 65536) for value in values))

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + fixed(*values)

    def words(content: str) -> bytes:
        encoded = content.encode("utf-16-be")
        return b"mluc\0\0\0\0" + struct.pack(">II4sII", 1, 12, b"enUS", len(encoded), 28) + encoded

    curve = b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + fixed(2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
    tags = {
        b"desc": words("Relume sample, wide gamut"),
        b"cprt": words("CC0 1.0"),
        b"wtpt": xyz(*white),
        # From D65 to D50 by Bradford; the primaries below went the same way.
        b"chad": b"sf32\0\0\0\0"
        + fixed(1.04788, 0.02292, -0.05022, 0.02959, 0.99048, -0.01707, -0.00925, 0.01508, 0.75168),
        b"rXYZ": xyz(0.51512, 0.24120, -0.00105),
        b"gXYZ": xyz(0.29198, 0.69225, 0.04189),
        b"bXYZ": xyz(0.15710, 0.06655, 0.78407),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    header = struct.pack(
        ">II I4s4s4s 6H 4sIIII Q I 12s I 44x",
        start + len(body), 0,
        0x04300000, b"mntr", b"RGB ", b"XYZ ",
        2016, 1, 1, 0, 0, 0,
        b"acsp", 0, 0, 0, 0,
        0, 0, fixed(*white), 0,
    )  # fmt: skip
    return header + table + body


SAMPLES = (
    Sample("2009/city/night skyline.jpg", "city", (0, 0, 576, 576), partial(compressed, quality=20)),
    Sample("2009/city/corner-shop.jpg", "night", (176, 80, 576, 573), partial(compressed, quality=20, mode="L")),
    Sample("2009/city/panorama.jpg", "nyc", (0, 145, 573, 576), partial(compressed, quality=30, progressive=True)),
    Sample("2009/city/tower.jpg", "prudential", (0, 0, 576, 576), partial(cut_short, quality=75, part=0.45)),
    Sample("2009/coast/Küste.jpg", "reflect", (3, 70, 576, 501), partial(compressed, quality=10)),
    Sample("2009/coast/foam.png", "waves", (130, 70, 541, 371), partial(png_of_jpeg, quality=20)),
    Sample("2016/slide-17.jpg", None, (0, 0, 0, 0), text),
    Sample("2016/garden/asters.jpg", "flowers", (85, 40, 500, 531), partial(compressed, quality=40)),
    Sample("2016/garden/bulb.jpg", "bulb", (120, 0, 521, 451), partial(compressed, quality=97, subsampling="4:4:4")),
    Sample(
        "2016/garden/sumac.jpg", "sumac", (60, 100, 565, 490), partial(compressed_twice, first=20, second=75, shift=4)
    ),
    Sample("2016/people/dog.jpg", "dog", (105, 60, 536, 573), partial(turned, quality=30)),
    Sample("2016/people/girl with phone.jpg", "girl", (51, 12, 564, 559), partial(compressed, quality=10)),
    Sample("2016/studio/guitar.jpg", "guitar", (119, 20, 476, 575), partial(wide_gamut, quality=20, dpi=300)),
)


def read_photos(folder: Path) -> dict[str, Photo]:
    """Reads the photographs in use, as RGB.

    Raises:
        ValueError: if the folder does not hold the 25 images of the set, or one is not what it was.
    """
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in PilImage.registered_extensions())
    if len(files) != SET_SIZE:
        raise ValueError(f"PHOTOS must hold the {SET_SIZE} images of GB82, got {folder} with {len(files)} images")
    photos = {}
    for name, (place, digest) in ORIGINS.items():
        with PilImage.open(files[place - 1]) as image:
            photos[name] = image.convert("RGB")
        found = hashlib.sha256(photos[name].tobytes()).hexdigest()[: len(digest)]
        if found != digest:
            raise ValueError(
                f"PHOTOS must hold GB82 in its own order; image {place} must be {name!r} with pixels {digest}, "
                f"got {files[place - 1]} with {found}"
            )
    return photos


def write(photos: Mapping[str, Photo], output: Path) -> None:
    """Writes `archive/` and `pristine/` below `output`, over what may be there."""
    for sample in SAMPLES:
        photo = PilImage.new("RGB", (1, 1)) if sample.origin is None else photos[sample.origin]
        made = sample.make(photo, sample.box)
        files = {output / "archive" / sample.name: made.archive}
        if made.pristine is not None:
            suffix, data = made.pristine
            files[(output / "pristine" / sample.name).with_suffix(suffix)] = data
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def main() -> int:
    """Runs the command; 2 if the folder of photographs is not the right one."""
    parser = argparse.ArgumentParser(description="Makes samples/archive and samples/pristine from the GB82 image set.")
    parser.add_argument("photos", type=Path, metavar="PHOTOS", help="folder with the 25 images of GB82")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="folder that gets archive/ and pristine/")
    arguments = parser.parse_args()
    try:
        photos = read_photos(arguments.photos)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    write(photos, arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
