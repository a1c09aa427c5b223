"""Names of outputs and receipts: never outside the output, never two inputs on one output."""

import unicodedata

import pytest

from pipeline import names
from pipeline.elements import ImageRef
from pipeline.failures import BadNameError

COMPOSED = unicodedata.normalize("NFC", "Küste.jpg")
DECOMPOSED = unicodedata.normalize("NFD", "Küste.jpg")


def disk_output(name: str, suffix: str = "") -> str:
    return names.output_name(name, suffix, segment_bytes=255, total_bytes=None)


def cloud_output(name: str, suffix: str = "") -> str:
    return names.output_name(name, suffix, segment_bytes=None, total_bytes=1024)


@pytest.mark.parametrize(
    "name",
    [
        "a.jpg",
        "a b/ c .jpg",
        "100%2F.jpg",
        "%2e%2e/a.jpg",
        COMPOSED,
        DECOMPOSED,
        "...",
        ".hidden",
        "a/..b/c..",
        "日本/写真",
    ],
)
def test_an_odd_but_good_name_is_its_own_output(name: str) -> None:
    assert disk_output(name) == name
    assert cloud_output(name, ".png") == f"{name}.png"


def test_composed_and_decomposed_letters_stay_two_names() -> None:
    assert disk_output(COMPOSED) != disk_output(DECOMPOSED)


@pytest.mark.parametrize(
    "name",
    [
        *("", "/a.jpg", "a.jpg/", "a//b.jpg", "/"),
        *("..", "../a.jpg", "a/../../b.jpg", "a/..", ".", "./a.jpg", "a/./b.jpg"),
        *("a\n.jpg", "a\0.jpg", "a\x7f.jpg", "a\x85.jpg", "\t/a.jpg"),
        *("..\\a.jpg", "a\\b.jpg", "C:/a.jpg", "c:a.jpg"),
        *("_relume/a.jpg", "_relume/receipts/a.jpg.0123456789abcdef.json", "_Relume/a.jpg", "_relume"),
        *("caf\udce9.jpg", "\ud800.jpg"),
    ],
)
def test_a_name_that_could_land_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(BadNameError) as error:
        disk_output(name)

    # The detail is written to files as UTF-8 and to one line.
    assert str(error.value).encode().isascii() or str(error.value).isprintable()


def test_a_folder_that_only_begins_like_the_bookkeeping_is_allowed() -> None:
    assert disk_output("_relumed/a.jpg") == "_relumed/a.jpg"
    assert disk_output("2009/_relume.jpg") == "2009/_relume.jpg"


def test_on_disk_a_name_must_leave_room_for_what_the_receipt_appends() -> None:
    receipt = names.receipt_name(ImageRef("ü" * 116 + "a", 1, "1"), "recipe")

    assert len(receipt.split("/")[-1].encode()) == 255
    assert disk_output("ü" * 116 + "a")
    with pytest.raises(BadNameError, match="256 bytes"):
        disk_output("ü" * 117)
    with pytest.raises(BadNameError, match="256 bytes"):
        disk_output("a" * 233, "." + "x" * 22)


def test_in_cloud_storage_the_whole_receipt_name_must_fit() -> None:
    room = 1024 - len(names.receipt_name(ImageRef("", 0, ""), "recipe"))

    assert cloud_output("a" * room)
    with pytest.raises(BadNameError, match="1025 bytes"):
        cloud_output("a" * (room + 1))


@pytest.mark.parametrize("name", ["a.jpg", "a/b.jpg", "a.jpg.0123456789abcdef.json", "x\u2028y", DECOMPOSED])
def test_a_receipts_name_says_whose_it_is(name: str) -> None:
    ref = ImageRef(name, 3, "17")

    assert names.receipt_of(names.receipt_name(ref, "recipe")) == (name, names.image_key(ref, "recipe"))


@pytest.mark.parametrize("name", ["_relume/runs/a.0123456789abcdef.json", "_relume/receipts/a.json", "a.jpg"])
def test_other_objects_are_no_receipts(name: str) -> None:
    assert names.receipt_of(name) is None


def test_a_key_changes_with_name_version_and_recipe_and_with_nothing_else() -> None:
    key = names.image_key(ImageRef("a", 1, "2"), "3")

    assert key == names.image_key(ImageRef("a", 99, "2"), "3")
    others = {
        names.image_key(ImageRef("b", 1, "2"), "3"),
        names.image_key(ImageRef("a", 1, "4"), "3"),
        names.image_key(ImageRef("a", 1, "2"), "5"),
        names.image_key(ImageRef("a2", 1, ""), "3"),
    }
    assert len(others | {key}) == 5


def test_a_name_that_is_no_unicode_can_still_be_hashed_and_printed() -> None:
    assert len(names.image_key(ImageRef("caf\udce9.jpg", 1, "2"), "3")) == 16
    assert names.printable("caf\udce9.jpg") == "caf\\udce9.jpg"
