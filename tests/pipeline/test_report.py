import base64
import dataclasses
import html.parser
import io
import json
import pickle
import random
import struct
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from PIL import Image as PilImage

from pipeline import names
from pipeline.elements import Damage, ImageRef, Measures, Row
from pipeline.recording import RunInfo, WriteReport
from pipeline.report import charts, words
from pipeline.report.crops import SIDE, Crops, crop_pair, most_different
from pipeline.report.page import MAX_REASONS, make_page
from pipeline.report.progress import Progress
from pipeline.report.summary import OUTCOMES, Summary
from pipeline.report.tally import EXAMPLES, EXTREMES, Histogram, Tally, tally
from pipeline.report.terminal import print_summary
from pipeline.report.writing import TallyRows, WritePage, find_crops

HOSTILE = "<img src=x onerror=alert(1)>\"'&\u202egpj.\x1b[31m\udcff/a.jpg"


def restored(name: str, gain: float | None = 1.0, blocks: float = 2.0, **changes: Any) -> Row:
    reference = gain is not None
    row = Row(
        name,
        "7",
        1000,
        "restored",
        "improved",
        width=640,
        height=480,
        pages=1,
        format="jpeg",
        output_format="jpeg",
        output=name,
        output_size=2000,
        before=Measures(30.0 if reference else None, 0.8 if reference else None, blocks, 25.0),
        after=Measures(30.0 + (gain or 0) if reference else None, 0.9 if reference else None, 1.0, 80.0),
        damage=Damage("jpeg_25", 0.9, 25.0, 0.0, 0.0, 20, False),
    )
    return dataclasses.replace(row, **changes)


def kept(name: str, reason: str = "already-good") -> Row:
    return Row(name, "7", 1000, "kept", reason, format="png", before=Measures(quality=95.0))


def failed(name: str, reason: str = "damaged", detail: str = "ends early") -> Row:
    return Row(name, "7", 1000, "failed", reason, stage="decode", detail=detail)


def summary_of(rows: list[Row], **changes: Any) -> Summary:
    reasons: dict[str, dict[str, int]] = {outcome: {} for outcome in OUTCOMES}
    for row in rows:
        reasons[row.outcome][row.reason] = reasons[row.outcome].get(row.reason, 0) + 1
    summary = Summary(
        run_id="night-1",
        output="/srv/out",
        inputs=len(rows),
        reasons=reasons,
        megapixels=12.3,
        before=Measures(29.0, 0.81, 2.1, 25.0),
        after=Measures(30.25, 0.85, 1.1, 80.0),
        compared=3,
        version="0.1.0",
        device="cpu",
        digests={"model": "ab" * 32, "recipe": "cd" * 32},
        settings={"strength": 1.0, "include": [], "format": "same"},
        seconds=10.0,
    )
    return dataclasses.replace(summary, **changes)


def no_crops(_: Row) -> Crops | None:
    return None


def photo(seed: int, size: tuple[int, int] = (320, 240)) -> PilImage.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (size[1] // 16, size[0] // 16, 3), np.uint8)
    return PilImage.fromarray(noise).resize(size, PilImage.Resampling.BICUBIC)


def encoded(image: PilImage.Image, kind: str = "PNG", **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **how)
    return buffer.getvalue()


def shown(uri: str) -> np.ndarray[Any, Any]:
    head, _, data = uri.partition(",")
    assert head == "data:image/webp;base64"
    return np.asarray(PilImage.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


class Tags(html.parser.HTMLParser):
    """Collects what a browser would make of a page: its tags with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "rect", "line", "path"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_words_for_numbers_stay_true_at_their_borders() -> None:
    assert [words.share(*pair) for pair in [(0, 9), (1, 9), (9, 9), (1, 10**6), (10**6 - 1, 10**6), (0, 0)]] == [
        "0 %",
        "11 %",
        "100 %",
        "< 0.1 %",
        "> 99.9 %",
        "0 %",
    ]
    assert [words.duration(seconds) for seconds in (0.84, 42, 59.7, 200, 3600, 7500)] == [
        "0.8 s",
        "42 s",
        "1 min 00 s",
        "3 min 20 s",
        "1 h 00 min",
        "2 h 05 min",
    ]
    assert [words.size(number) for number in (0, 1023, 1536, 5 * 2**30)] == ["0 B", "1023 B", "1.50 KiB", "5.00 GiB"]
    assert words.counted(1, "image") + words.counted(1200, "image") == "1 image1,200 images"


def test_a_name_is_shown_harmless_short_and_whole_in_its_tooltip() -> None:
    assert words.printable("a\x1b[31m\u202eb\udcff Küste") == "a\\x1b[31m\\u202eb\\udcff Küste"
    assert words.shortened("folder/image-0001.jpg", 11) == "folde…1.jpg"
    assert words.shortened("short", 5) == "short"
    long = "x/" * 400 + "<b>.jpg"
    (tag, attributes), *_ = Tags(words.name_html(long)).tags
    assert (tag, attributes["title"]) == ("bdi", long)
    assert "<b>" not in words.name_html(long)


def test_a_histogram_bins_borders_upwards_and_leaves_out_what_is_no_number() -> None:
    histogram = Histogram(0.1)
    for value in (0.1, 0.3, 0.7, -0.05, float("nan"), float("inf")):
        histogram.add(value)

    assert histogram.bins == {1: 1, 3: 1, 7: 1, -1: 1}
    assert histogram.quantile(0.5) == pytest.approx(0.15)
    with pytest.raises(ValueError, match="empty"):
        Histogram(1).quantile(0.5)


def test_a_tally_does_not_depend_on_the_order_or_on_who_counted() -> None:
    rows = [restored(f"{i:03}.jpg", gain=i % 7 / 4, blocks=1 + i % 5 / 4) for i in range(60)]
    rows += [kept(f"k{i}.png") for i in range(9)] + [failed(f"f{i:02}.jpg", "damaged") for i in range(20)]
    whole = tally(rows)
    shuffled = random.Random(1).sample(rows, len(rows))
    parts = [tally(shuffled[start::4]) for start in range(4)]

    merged = TallyRows().merge_accumulators(parts)

    assert merged == whole == pickle.loads(pickle.dumps(merged))  # noqa: S301
    best, worst = whole.ends
    assert [(row.name, round(row.after.psnr or 0, 2)) for row in best[:2]] == [("006.jpg", 31.5), ("013.jpg", 31.5)]
    assert [row.name for row in worst] == ["000.jpg", "007.jpg", "014.jpg", "021.jpg", "028.jpg", "035.jpg"]
    assert whole.failures == {("damaged", "decode"): 20}
    assert [row.name for row in whole.examples["damaged", "decode"].rows] == [f"f{i:02}.jpg" for i in range(EXAMPLES)]
    assert (whole.source_bytes, whole.output_bytes) == (60_000, 120_000)
    assert whole.kinds == {"jpeg_25": 60}
    assert whole.formats == {"jpeg": 60, "png": 9}


def test_merging_leaves_the_tallies_that_are_merged_in_as_they_were() -> None:
    one, other = tally([failed("a.jpg")]), tally([failed("b.jpg")])

    TallyRows().merge_accumulators([one, other])

    assert (one, other) == (tally([failed("a.jpg")]), tally([failed("b.jpg")]))


def test_without_references_the_ends_go_by_blockiness_and_no_image_is_at_both() -> None:
    rows = [restored(f"{i}.jpg", gain=None, blocks=1 + i / 10) for i in range(EXTREMES + 2)]

    best, worst = tally(rows).ends

    assert [row.name for row in best] == ["7.jpg", "6.jpg", "5.jpg", "4.jpg", "3.jpg", "2.jpg"]
    assert [row.name for row in worst] == ["0.jpg", "1.jpg"]


def test_a_perfect_result_whose_psnr_is_infinite_is_no_gain_that_could_be_drawn() -> None:
    row = restored("a.jpg")
    counted = tally([dataclasses.replace(row, after=dataclasses.replace(row.after, psnr=float("inf")))])

    assert (counted.gain.total, counted.best.rows) == (0, [])


def test_a_chart_shows_every_value_and_says_its_quantiles() -> None:
    histogram = Histogram(0.1)
    for value in [1.0] * 500 + [2.0] * 498 + [900.0, -900.0]:
        histogram.add(value)

    svg = charts.histogram_svg("<gain>", "dB", [charts.Series("gain", "fill-restored", histogram)])

    root = xml.etree.ElementTree.fromstring(svg)
    heights = [float(bar.attrib["height"]) for bar in root.iter("rect")]
    assert sorted(heights)[-2:] == pytest.approx([max(heights) * 499 / 501, max(heights)], abs=0.1)
    assert len(heights) <= charts.MAX_BARS
    assert root.attrib["aria-label"] == "<gain>: gain, 1,000 images, median 1.05, nine in ten from 1.05 to 2.05"
    words_drawn = [(text.text or "").replace("\N{MINUS SIGN}", "-") for text in root.iter("text")]
    labels = [float(text) for text in words_drawn if text.replace(".", "").lstrip("-").isdigit()]
    assert 0.5 <= min(labels) < max(labels) <= 2.6


@pytest.mark.parametrize("value", [0.0, -3.2, 1e-3, 12345.0])
def test_a_chart_of_one_single_value_can_be_drawn(value: float) -> None:
    histogram = Histogram(0.05)
    histogram.add(value)

    svg = charts.histogram_svg("one", "unit", [charts.Series("one", "fill-restored", histogram)])

    (bar,) = xml.etree.ElementTree.fromstring(svg).iter("rect")
    assert 0 <= float(bar.attrib["x"]) <= charts.WIDTH


def test_a_small_part_of_a_bar_is_still_seen_and_the_bar_stays_whole() -> None:
    root = xml.etree.ElementTree.fromstring(charts.stack_svg([("a", "x", 10**6), ("b", "y", 1), ("c", "z", 0)]))

    _, first, second = root.iter("rect")
    assert float(second.attrib["width"]) >= 3.9
    assert float(first.attrib["width"]) + float(second.attrib["width"]) == pytest.approx(1000, abs=0.2)
    assert root.attrib["aria-label"] == "a 1,000,000 (> 99.9 %), b 1 (< 0.1 %), c 0 (0 %)"


def test_the_square_that_differs_most_is_found_on_the_grid_of_blocks() -> None:
    before = np.zeros((300, 400, 3), np.uint8)
    after = before.copy()
    after[200:216, 320:336] = 90
    after[10:12, 10:12] = 255

    left, top = most_different(before, after, 64)

    assert (left % 8, top % 8) == (0, 0)
    assert left <= 320 <= 336 <= left + 64
    assert top <= 200 <= 216 <= top + 64
    assert most_different(before[:5, :7], before[:5, :7], 64) == (0, 0)


def test_crops_are_the_same_square_of_both_files_to_the_last_bit() -> None:
    after = photo(1)
    pixels = np.asarray(after).copy()
    pixels[100:180, 200:280] //= 2
    before = PilImage.fromarray(pixels)

    crops = crop_pair(encoded(before), encoded(after))

    assert crops is not None
    assert (crops.width, crops.height) == (SIDE, SIDE)
    left, top = most_different(pixels, np.asarray(after), SIDE)
    place = np.s_[top : top + SIDE, left : left + SIDE]
    assert np.array_equal(shown(crops.before), pixels[place])
    assert np.array_equal(shown(crops.after), np.asarray(after)[place])


def test_crops_stand_upright_and_sixteen_bits_become_eight() -> None:
    exif = PilImage.Exif()
    exif[0x0112] = 6
    turned = encoded(photo(2, (64, 32)), "PNG", exif=exif)
    deep = encoded(PilImage.fromarray(np.full((20, 30), 0x80FF, np.uint16)))

    crops, deep_crops = crop_pair(turned, turned), crop_pair(deep, deep)

    assert crops is not None
    assert (crops.width, crops.height) == (32, 64)
    assert np.array_equal(shown(crops.after), np.rot90(np.asarray(photo(2, (64, 32))), -1))
    assert deep_crops is not None
    assert np.unique(shown(deep_crops.after)).tolist() == [0x80]


def test_a_source_half_as_large_is_shown_at_the_size_of_its_output() -> None:
    crops = crop_pair(encoded(photo(3, (48, 32))), encoded(photo(3, (96, 64))))

    assert crops is not None
    assert (crops.width, crops.height) == (96, 64)
    assert np.array_equal(shown(crops.before)[::2, ::2], np.asarray(photo(3, (48, 32))))


def test_mistyped_exif_costs_the_crops_and_not_the_page() -> None:
    """Pillow writes EXIF again when it turns a picture, and fails at a resolution that is text."""
    turned, resolution = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0), struct.pack(">HHI4s", 0x011A, 2, 4, b"300\0")
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x02" + turned + resolution + bytes(4)
    data = encoded(photo(2), "JPEG", exif=exif)

    assert crop_pair(data, data) is None


@pytest.mark.parametrize("data", [b"", b"no picture", encoded(photo(1))[:500]])
def test_a_file_that_cannot_be_shown_gives_no_crops(data: bytes) -> None:
    assert crop_pair(data, encoded(photo(1))) is None
    assert crop_pair(encoded(photo(1)), data) is None


def test_a_file_of_too_many_pixels_is_not_decoded() -> None:
    bomb = encoded(PilImage.new("1", (14_000, 14_000)))
    too_large = encoded(PilImage.new("1", (8_001, 8_000)))

    assert crop_pair(bomb, bomb) is None
    assert crop_pair(too_large, too_large) is None


def test_the_page_tells_every_count_and_every_reason() -> None:
    rows = [restored("a.jpg"), restored("b.jpg", 0.5), kept("c.png"), failed("d.jpg"), failed("e.txt", "not-an-image")]
    crops = crop_pair(encoded(photo(1)), encoded(photo(2)))

    page = make_page(summary_of(rows), tally(rows), lambda _: crops)

    tags = Tags(page)
    assert tags.open == []
    assert "Every image is accounted for: 5 = 2 restored + 1 kept + 0 skipped + 2 failed" in tags.text
    for text in ("already-good", "not-an-image", "damaged", "ends early", "29.00 → 30.25 dB", "1.23 MP/s", "night-1"):
        assert text in tags.text
    assert tags.text.count("Before and after") == 1
    pictures = [attributes for tag, attributes in tags.tags if tag == "img"]
    assert [picture["alt"] for picture in pictures] == [
        "Before: a.jpg",
        "After: a.jpg",
        "Before: b.jpg",
        "After: b.jpg",
    ]
    assert page == make_page(summary_of(rows), tally(rows), lambda _: crops)


def test_nothing_hostile_in_a_name_a_detail_or_a_setting_becomes_part_of_the_page() -> None:
    rows = [
        restored(HOSTILE, format=HOSTILE, damage=Damage(HOSTILE, 1, 2, 0, 0, None, False)),
        failed(HOSTILE, HOSTILE, HOSTILE + "</style><script>alert(2)</script>"),
        kept(HOSTILE, HOSTILE),
    ]
    hostile = summary_of(
        rows, run_id=HOSTILE, output=HOSTILE, version=HOSTILE, device=HOSTILE, settings={HOSTILE: [HOSTILE]}
    )
    crops = crop_pair(encoded(photo(1)), encoded(photo(2)))

    page = make_page(hostile, tally(rows), lambda _: crops)

    tags = Tags(page)
    assert tags.open == []
    assert {tag for tag, _ in tags.tags}.isdisjoint({"script", "link", "iframe", "object", "form", "a", "base"})
    assert [name for _, attributes in tags.tags for name in attributes if name.startswith("on")] == []
    assert all((attributes["src"] or "").startswith("data:") for tag, attributes in tags.tags if tag == "img")
    assert not {"\u202e", "\x1b", "\udcff"} & set(page)
    assert page.encode()
    assert "://" not in page
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_a_page_of_hundreds_of_reasons_and_long_names_stays_small() -> None:
    rows = [failed("deep/" * 190 + f"{i}.jpg", f"reason-{i % 300}", "why " * 500) for i in range(3000)]
    rows += [kept(f"{i}.jpg", f"gate-{i % 200}") for i in range(3000)]

    page = make_page(summary_of(rows), tally(rows), no_crops)

    tags = Tags(page)
    assert len(page) < 7_000_000
    assert f"{200 - MAX_REASONS} more" in tags.text
    assert sum(tag == "details" and "open" in attributes for tag, attributes in tags.tags) == MAX_REASONS
    assert "and 2 more" in tags.text


def test_an_empty_run_and_one_that_does_not_add_up_say_so() -> None:
    empty = Tags(make_page(summary_of([], inputs=0, before=Measures(), after=Measures()), Tally(), no_crops))
    wrong = Tags(make_page(summary_of([kept("a.jpg")], inputs=2), tally([kept("a.jpg")]), no_crops))

    assert "0 = 0 restored + 0 kept + 0 skipped + 0 failed" in empty.text
    assert "The outcomes do not add up to 2 inputs." in wrong.text


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """An output of two restored images, of which only the first still has its source."""
    digest = "cd" * 32
    for name in ("2009/a b.jpg", "gone.jpg"):
        source, target = tmp_path / "photos" / name, tmp_path / "out" / name
        source.parent.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.write_bytes(encoded(photo(1), "JPEG", quality=10))
        target.write_bytes(encoded(photo(1), "PNG"))
        ref = row_of(tmp_path, name)
        receipt = tmp_path / "out" / names.receipt_name(ImageRef(ref.name, ref.size, ref.version), digest)
        receipt.parent.mkdir(parents=True, exist_ok=True)
        receipt.write_text(json.dumps({"source": {"uri": str(source)}}))
    return tmp_path / "out"


def row_of(folder: Path, name: str) -> Row:
    info = (folder / "photos" / name).stat()
    return restored(name, version=f"{info.st_mtime_ns}-{info.st_size}", size=info.st_size)


def test_a_run_writes_its_page_from_its_rows_with_crops_of_what_is_still_there(output: Path) -> None:
    folder = output.parent
    rows = [row_of(folder, "2009/a b.jpg"), row_of(folder, "gone.jpg"), failed("x.jpg")]
    (folder / "photos" / "gone.jpg").unlink()
    run = RunInfo("night-1", "0.1.0", "ab" * 32, "cd" * 32, {"strength": 1.0})

    with beam.Pipeline(runner=FnApiRunner()) as root:
        every = root | "Rows" >> beam.Create(rows)
        sources = root | "Sources" >> beam.Create([ImageRef(row.name, row.size, row.version) for row in rows])
        record = (every, sources) | WriteReport(str(folder / "photos"), str(output), run)
        _ = (every, record) | WritePage(str(output))

    tags = Tags((output / "_relume/runs/night-1/report.html").read_text())
    assert [attributes["alt"] for tag, attributes in tags.tags if tag == "img"] == [
        "Before: 2009/a b.jpg",
        "After: 2009/a b.jpg",
    ]
    assert "3 = 2 restored + 0 kept + 0 skipped + 1 failed" in tags.text


def test_a_source_that_changed_or_a_giant_image_is_shown_without_a_picture(output: Path) -> None:
    from pipeline.storage import open_storage

    row, target = row_of(output.parent, "2009/a b.jpg"), open_storage(str(output))

    assert find_crops(row, target, "cd" * 32) is not None
    assert find_crops(row, target, "00" * 32) is None
    assert find_crops(dataclasses.replace(row, width=9000, height=9000), target, "cd" * 32) is None
    (output.parent / "photos" / row.name).write_bytes(b"another file by now")
    assert find_crops(row, target, "cd" * 32) is None


class Terminal(io.StringIO):
    """Looks like a terminal of 70 columns."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("COLUMNS", "70")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


def test_the_table_is_plain_text_of_eighty_columns_where_there_is_no_terminal() -> None:
    rows = [restored("a.jpg")] * 12 + [
        kept(f"{i}.png", f"gate-{i}-of-a-name-too-long-for-its-column-by-far") for i in range(9)
    ]
    out = io.StringIO()

    print_summary(summary_of(rows, output="/srv/" + "deep/" * 40 + "\x1b[2J"), out)

    lines = out.getvalue().splitlines()
    assert lines[0].split() == ["outcome", "images", "why"]
    assert lines[1].split() == ["restored", "12", "57", "%"]
    assert any(line.startswith("inputs        21") for line in lines)
    assert "3 other reasons 3" in " ".join(out.getvalue().split())
    assert "PSNR        29.00 -> 30.25 dB (+1.25, mean of 3 images)" in lines
    assert "pixels      12.3 MP restored, 1.23 MP/s, 10 s" in lines
    assert all(len(line) <= 80 and line == line.rstrip() and line.isprintable() for line in lines)


def test_images_that_a_cap_left_are_told_in_table_and_page_and_only_where_there_are_any() -> None:
    rows = [restored("a.jpg"), Row("b.jpg", "7", 9, "left", "max-minutes"), Row("c.jpg", "7", 9, "left", "max-minutes")]
    some, none = io.StringIO(), io.StringIO()

    print_summary(summary_of(rows), some)
    print_summary(summary_of(rows[:1]), none)
    tags = Tags(make_page(summary_of(rows), tally(rows), no_crops))

    assert summary_of(rows).adds_up
    assert "left           2  67 %  max-minutes 2" in some.getvalue().splitlines()
    assert "left" not in none.getvalue()
    assert "3 = 1 restored + 0 kept + 0 skipped + 0 failed + 2 left" in tags.text
    assert "max-minutes" in tags.text


def test_the_table_has_colours_on_a_terminal_and_keeps_to_its_width(terminal: Terminal) -> None:
    print_summary(summary_of([restored("a.jpg"), failed("b.jpg", "damaged")]), terminal)

    text = terminal.getvalue()
    assert "\x1b[32mrestored" in text
    assert "\x1b[31mfailed" in text
    assert "damaged 1" in text


def test_a_summary_is_read_from_its_record_and_a_missing_key_is_named() -> None:
    record = {
        "run_id": "r", "output": "/elsewhere", "inputs": 1, "reasons": {"kept": {"graphics": 1}}, "megapixels": 1.5,
        "before": {"psnr": 1.0, "ssim": None, "blockiness": 2.0, "quality": None}, "compared": 1, "version": "0",
        "after": {"psnr": 2.0, "ssim": None, "blockiness": 1.0, "quality": None}, "digests": {}, "device": "cpu",
        "settings": {}, "unheard_of": 1,
    }  # fmt: skip

    summary = Summary.from_record(record, output="/srv/out", seconds=3.0)

    assert (summary.output, summary.megapixels_per_second, summary.adds_up) == ("/srv/out", 0.5, True)
    assert (summary.change("psnr"), summary.change("ssim")) == ((1.0, 2.0), None)
    del record["compared"]
    with pytest.raises(ValueError, match="'compared'"):
        Summary.from_record(record, output="/srv/out")


def test_progress_is_a_line_every_half_minute_where_there_is_no_terminal() -> None:
    now = [0.0]
    out = io.StringIO()

    with Progress("restoring", out, lambda: now[0]) as progress:
        for second in range(0, 100, 10):
            now[0] = second
            progress.update(second * 10, 4000)
        now[0] = 130
        progress.update(1300, None)

    assert out.getvalue().splitlines() == [
        "restoring: 300 of 4,000 (7 %) after 30 s, about 6 min 10 s left",
        "restoring: 600 of 4,000 (15 %) after 1 min 00 s, about 5 min 40 s left",
        "restoring: 900 of 4,000 (22 %) after 1 min 30 s, about 5 min 10 s left",
        "restoring: 1,300 done after 2 min 10 s",
    ]


def test_progress_of_nothing_and_of_none_done_yet_divides_by_no_zero() -> None:
    now = [0.0]
    out = io.StringIO()

    with Progress("restoring", out, lambda: now[0]) as progress:
        now[0] = 30
        progress.update(0, 0)
        now[0] = 60
        progress.update(0, 5)

    assert out.getvalue().splitlines() == [
        "restoring: 0 of 0 (100 %) after 30 s",
        "restoring: 0 of 5 (0 %) after 1 min 00 s",
    ]


def test_progress_is_a_bar_on_a_terminal_that_is_gone_in_the_end(terminal: Terminal) -> None:
    with Progress("restoring [red]", terminal) as progress:
        progress.update(3, 7)

    assert "restoring [red]" in terminal.getvalue()
    assert "3/7" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K")
