"""What is to be done: listing, inventories, and the difference to what receipts say."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow
import pyarrow.parquet
import pytest
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.util import assert_that, equal_to

from pipeline import names
from pipeline.elements import ImageRef, Row
from pipeline.listing import (
    Done,
    ListReceipts,
    ListSources,
    SplitPending,
    check_places,
    is_done,
    list_receipts,
    read_inventory,
    receipt_shards,
)
from pipeline.storage import ReadFiles, UsageError, open_storage
from tests.cloud.gcs import GcsTwin
from tests.pipeline.places import Bucket, Disk, Place

NFC, NFD = "K\u00fcste.jpg", "Ku\u0308ste.jpg"


@pytest.fixture(params=["disk", "cloud"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "disk":
        return Disk(tmp_path / "archive")
    return Bucket(request.getfixturevalue("gcs"), "bucket")


def assert_lists(sources: ListSources, expected: list[str]) -> None:
    """Runs a listing and compares the names that came out."""
    with TestPipeline("FnApiRunner") as root:
        found = root | sources | "Names" >> beam.Map(lambda ref: ref.name)
        assert_that(found, equal_to(expected))


def test_a_listing_gives_what_stands_there_at_its_version(place: Place) -> None:
    for name in ("top.jpg", "a/1.jpg", "a/b/2 %2F.jpg", f"b/{NFC}", f"b/{NFD}"):
        place.put(name, name.encode())
    expected = list(open_storage(place.uri).list())

    with TestPipeline("FnApiRunner") as root:
        assert_that(root | ListSources(place.uri), equal_to(expected))

    assert len(expected) == 5


def test_include_and_exclude_are_globs_on_the_whole_name(place: Place) -> None:
    for name in ("1.jpg", "a/2.jpg", "a/3.JPG", "a/4.png", "b/5.jpg", "b/[x].jpg"):
        place.put(name, b"x")

    assert_lists(ListSources(place.uri, include=("*.jpg",), exclude=("b/5*",)), ["1.jpg", "a/2.jpg", "b/[x].jpg"])
    assert_lists(ListSources(place.uri, include=("a/*.png", "1.*")), ["1.jpg", "a/4.png"])
    assert_lists(ListSources(place.uri, include=("b/[[]x].jpg",)), ["b/[x].jpg"])


def test_what_relume_wrote_is_not_listed(place: Place) -> None:
    ours = ("_relume/receipts/a.jpg.0123456789abcdef.json", "old/_relume/runs/1/summary.json", "out/made/a.jpg")
    for name in (*ours, "a.jpg", "out/made-by-me/a.jpg", "_relume.jpg"):
        place.put(name, b"x")

    expected = ["_relume.jpg", "a.jpg", "out/made-by-me/a.jpg"]
    assert_lists(ListSources(place.uri, target_uri=f"{place.uri}/out/made/"), expected)


def test_nothing_is_listed_while_the_pipeline_is_built(gcs: GcsTwin) -> None:
    root = beam.Pipeline("FnApiRunner")

    work = (root | ListSources("gs://nobody/such"), root | ListReceipts("gs://nobody/out")) | SplitPending(
        "gs://nobody/out", "r"
    )

    assert work.pending is not None
    assert gcs.requests() == []


def csv_inventory(names: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([["Object Name", "note"], *[[name, "x, y"] for name in names]])
    return ("\ufeff" + text.getvalue()).encode()


def parquet_inventory(rows: list[dict[str, Any]]) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("names.txt", lambda names: "\r\n".join(["", *names, ""]).encode()),
        ("names.csv", csv_inventory),
        ("names.parquet", lambda names: parquet_inventory([{"name": name, "color": "red"} for name in names])),
    ],
)
def test_an_inventory_is_taken_instead_of_a_listing(
    file: str, content: Callable[[list[str]], bytes], place: Place, tmp_path: Path
) -> None:
    for name in ('a b/1,".jpg', f"b/{NFC}", f"b/{NFD}", "not-in-the-inventory.jpg"):
        place.put(name, name.encode())
    wanted = ['a b/1,".jpg', f"b/{NFD}", "gone.jpg"]
    (tmp_path / file).write_bytes(content(wanted))
    storage = open_storage(place.uri)

    with TestPipeline("FnApiRunner") as root:
        refs = root | ListSources(place.uri, inventory=str(tmp_path / file))
        read = refs | ReadFiles(place.uri, max_bytes=100)
        reasons = read.failed | "Why" >> beam.Map(lambda dead: (dead.ref.name, dead.reason))

        expected = [storage.stat(wanted[0]), storage.stat(wanted[1]), ImageRef("gone.jpg", 0, "")]
        assert_that(refs, equal_to(expected), label="refs")
        assert_that(reasons, equal_to([("gone.jpg", "missing")]), label="reasons")


def test_an_inventory_of_storage_insights_needs_no_request_for_an_object(gcs: GcsTwin) -> None:
    bucket = Bucket(gcs, "bucket")
    bucket.put("a.jpg", b"x")
    bucket.put("b/c.jpg", b"xyz")
    refs = list(open_storage(bucket.uri).list())
    rows = [
        {"project": "p", "bucket": "bucket", "name": f"deep/archive/{ref.name}", "size": ref.size,
         "generation": int(ref.version), "storageClass": "STANDARD"}
        for ref in refs
    ]  # fmt: skip
    elsewhere = {**rows[0], "name": "deep/archive-of-others/a.jpg"}
    other_bucket = {**rows[0], "bucket": "another"}
    gcs.create_bucket("reports")
    gcs.put("reports", "2026/shard_0.parquet", parquet_inventory([rows[0], elsewhere]))
    gcs.put("reports", "2026/shard_1.parquet", parquet_inventory([other_bucket, rows[1]]))
    gcs.forget_requests()

    with TestPipeline("FnApiRunner") as root:
        found = root | ListSources(bucket.uri, inventory="gs://reports/2026/*.parquet")
        assert_that(found, equal_to(refs))

    assert [one for one in gcs.requests() if one.bucket == "bucket"] == []


def test_full_addresses_in_an_inventory_are_names_below_the_source(place: Place, tmp_path: Path) -> None:
    place.put("a/1.jpg", b"x")
    (tmp_path / "names").write_text(f"{place.uri}/a/1.jpg\n")

    assert_lists(ListSources(place.uri, inventory=str(tmp_path / "names")), ["a/1.jpg"])


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.csv", b"file,size\na.jpg,3\n", "one must be called 'name'"),
        ("a.parquet", parquet_inventory([{"file": "a.jpg"}]), "one must be called 'name'"),
        ("none*.txt", None, "no such file"),
    ],
)
def test_an_inventory_without_names_stops_the_run_and_says_why(
    file: str, content: bytes | None, message: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / file).write_bytes(content)

    with pytest.raises(UsageError, match=message), TestPipeline("FnApiRunner") as root:
        root | ListSources(str(tmp_path), inventory=str(tmp_path / file))


def test_an_inventory_s_odd_lines_are_names_like_others(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"./a.jpg\n./b/c.jpg\ncaf\xe9.jpg\n")
    (tmp_path / "b.csv").write_text("size,name\n1,a.jpg\n2\n", encoding="utf-8")

    names_of = {
        path.name: [ref.name for ref in read_inventory(str(path), str(tmp_path))] for path in tmp_path.iterdir()
    }

    assert names_of == {"a.txt": ["a.jpg", "b/c.jpg", "caf\udce9.jpg"], "b.csv": ["a.jpg", ""]}


def test_receipts_are_listed_by_name_and_key_without_being_opened(place: Place) -> None:
    refs = [ImageRef("top.jpg", 1, "1"), ImageRef(f"a/b/{NFD}", 1, "2"), ImageRef("a/x.0123456789abcdef.json", 1, "3")]
    for ref in refs:
        place.put(names.receipt_name(ref, "recipe"), b"not even JSON")
    place.put("_relume/receipts/stray.txt", b"x")
    place.put("_relume/recipe.json", b"x")

    with TestPipeline("FnApiRunner") as root:
        found = root | ListReceipts(place.uri) | beam.Map(lambda done: (done.name, done.key, done.written > 0))
        assert_that(found, equal_to([(ref.name, names.image_key(ref, "recipe"), True) for ref in refs]))


def test_a_link_that_leads_nowhere_among_the_receipts_is_none(tmp_path: Path) -> None:
    output, ref = Disk(tmp_path), ImageRef("a.jpg", 1, "1")
    output.put(names.receipt_name(ref, "recipe"), b"{}")
    (tmp_path / names.receipt_name(ImageRef("b.jpg", 1, "1"), "recipe")).symlink_to("nowhere.json")

    found = [one for shard in receipt_shards(output.uri) for one in list_receipts(shard, output.uri)]

    assert [one.name for one in found] == ["a.jpg"]


def test_a_new_output_has_no_receipts(place: Place) -> None:
    with TestPipeline("FnApiRunner") as root:
        assert_that(root | ListReceipts(place.uri), equal_to([]))


def done(ref: ImageRef, recipe: str, written: int = 1) -> Done:
    return Done(ref.name, names.image_key(ref, recipe), written)


def test_pending_is_what_no_receipt_of_this_version_and_recipe_says_is_done() -> None:
    new, same, changed = ImageRef("new.jpg", 1, "1"), ImageRef("same.jpg", 2, "1"), ImageRef("changed.jpg", 3, "2")
    other_recipe = ImageRef("recipe.jpg", 4, "1")
    receipts = [
        done(same, "recipe"),
        done(ImageRef("changed.jpg", 3, "1"), "recipe"),
        done(other_recipe, "another recipe"),
        done(ImageRef("no-longer-there.jpg", 1, "1"), "recipe"),
    ]

    with TestPipeline("FnApiRunner") as root:
        sources = root | "Sources" >> beam.Create([new, same, changed, other_recipe])
        work = (sources, root | "Receipts" >> beam.Create(receipts)) | SplitPending("out", "recipe")

        assert_that(work.pending, equal_to([new, changed, other_recipe]), label="pending")
        again = work.pending | beam.Map(lambda ref: (ref.name, ref.again))
        expected = [("new.jpg", False), ("changed.jpg", True), ("recipe.jpg", True)]
        assert_that(again, equal_to(expected), label="again")
        skipped = Row("same.jpg", "1", 2, outcome="skipped", reason="done-before")
        assert_that(work.skipped, equal_to([skipped]), label="skipped")
        assert_that(work.failed, equal_to([]), label="failed")


def test_composed_and_decomposed_names_are_not_taken_for_each_other() -> None:
    refs = [ImageRef(NFC, 1, "1"), ImageRef(NFD, 1, "1")]

    with TestPipeline("FnApiRunner") as root:
        receipts = root | "Receipts" >> beam.Create([done(refs[0], "recipe")])
        work = (root | "Sources" >> beam.Create(refs), receipts) | SplitPending("out", "recipe")

        assert_that(work.pending, equal_to([refs[1]]), label="pending")


def test_names_that_cannot_be_outputs_take_the_side_door_and_so_does_a_name_listed_twice() -> None:
    bad = [ImageRef(name, 1, "1") for name in ("../up.jpg", "a//b.jpg", "a\nb.jpg", "caf\udce9.jpg", 250 * "a")]
    twice = [ImageRef("twice.jpg", 1, "1"), ImageRef("twice.jpg", 1, "1"), ImageRef("twice.jpg", 2, "2")]
    good = ImageRef("good.jpg", 1, "1")

    with TestPipeline("FnApiRunner") as root:
        sources = root | "Sources" >> beam.Create([*bad, *twice, good])
        work = (sources, root | "Receipts" >> beam.Create([], reshuffle=False)) | SplitPending("out", "recipe")
        failed = work.failed | beam.Map(lambda dead: (dead.ref, dead.stage, dead.reason))

        assert_that(work.pending, equal_to([good, twice[0]]), label="pending")
        assert_that(failed, equal_to([(ref, "list", "bad-name") for ref in (*bad, *twice[1:])]), label="failed")


def test_the_newest_receipt_counts_where_a_source_was_changed_and_changed_back() -> None:
    first, second = ImageRef("a.jpg", 1, "1"), ImageRef("a.jpg", 1, "2")
    receipts = [done(first, "recipe", written=10), done(second, "recipe", written=20)]

    assert is_done(second, receipts, "recipe")
    assert not is_done(first, receipts, "recipe")
    assert is_done(first, receipts[:1], "recipe")
    assert not is_done(first, [], "recipe")


def test_a_listing_joins_without_a_request_for_an_image(gcs: GcsTwin) -> None:
    source, target = Bucket(gcs, "source"), Bucket(gcs, "target")
    for number in range(40):
        source.put(f"{number}.jpg", b"x")
    for ref in open_storage(source.uri).list():
        target.put(names.receipt_name(ref, "recipe"), b"{}")
    gcs.forget_requests()

    with TestPipeline("FnApiRunner") as root:
        inputs = (root | ListSources(source.uri), root | ListReceipts(target.uri))
        work = inputs | SplitPending(target.uri, "recipe")
        assert_that(work.pending, equal_to([]), label="pending")
        skipped = work.skipped | beam.combiners.Count.Globally()
        assert_that(skipped, equal_to([40]), label="skipped")

    assert {one.operation for one in gcs.requests()} == {"list"}
    # Beside and folders, for either place.
    assert len(gcs.requests()) <= 6


def test_places_that_cannot_work_are_refused_by_name(tmp_path: Path) -> None:
    full, empty = Disk(tmp_path / "full"), tmp_path / "empty"
    full.put("a.jpg", b"x")
    (empty / "folder").mkdir(parents=True)

    with pytest.raises(UsageError, match=r"input .*/none: no such folder"):
        check_places(str(tmp_path / "none"), str(tmp_path / "out"))
    with pytest.raises(UsageError, match=r"input .*/empty holds no files"):
        check_places(str(empty), str(tmp_path / "out"))
    (tmp_path / "link").symlink_to(full.root)
    for output in (full.uri, f"{full.uri}/", f"{full.uri}/below", f"{empty}/../full/below", f"{tmp_path}/link/below"):
        with pytest.raises(UsageError, match=r"--output .* is inside --input"):
            check_places(full.uri, output)
    with pytest.raises(UsageError, match=r"--input .* is inside --output"):
        check_places(full.uri, str(tmp_path))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match=r"output .*: .*file is a file"):
        check_places(full.uri, str(tmp_path / "file" / "out"))

    check_places(full.uri, f"{full.uri}-restored")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "full", "link"]
