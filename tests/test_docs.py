"""What the pages say and the code does: commands, reasons, limits and links."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from jobs import schedule
from jobs.command_line import COMMANDS, ExitCode
from model import restorer
from pipeline import explaining, failures, judging, options, restoring
from pipeline.codec import KEPT_REASONS, Limits, avif, jp2, jpeg, tiff, webp
from pipeline.flags import FlagParser, Option, options_of
from pipeline.guard import Guard
from pipeline.production import template
from pipeline.verifying import Kind

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
WITH_COMMANDS = [ROOT / "README.md", ROOT / "benchmarks" / "README.md", *sorted(DOCS.rglob("*.md"))]
WITH_LINKS = [*WITH_COMMANDS, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "samples/README.md"))]

FENCE = re.compile(r"^```\w*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# Where one command of a line ends; the patterns of --include stand in quotes, which shlex takes off.
ENDS = {"&&", "||", "|", ";", ">", ">>", "2>"}

# What only the model says of a picture that the codec would let through.
SPARED = {"already-good", "graphics"}


@dataclasses.dataclass(frozen=True)
class Command:
    """One `relume` command that a page names.

    Attributes:
        place: page and command, for a test's name.
        words: behind `relume`.
        whole: it stands in a block, to be copied; else it may lack what is required.
    """

    place: str
    words: tuple[str, ...]
    whole: bool


def commands_of(text: str, page: str) -> list[Command]:
    """Finds the `relume` commands of a page, in blocks and within lines."""
    found = []
    for block in FENCE.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            found += [Command(f"{page}: {' '.join(words)}", words, True) for words in _calls(line)]
    for span in SPAN.findall(FENCE.sub("", text)):
        found += [Command(f"{page}: {' '.join(words)}", words, False) for words in _calls(span)]
    return found


def _calls(line: str) -> list[tuple[str, ...]]:
    """Takes the calls of `relume` out of a line of a shell."""
    if "relume" not in line:
        return []
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # a piece of prose with an apostrophe
        return []
    calls: list[list[str]] = [[]]
    for word in words:
        if word in ENDS:
            calls.append([])
        else:
            calls[-1].append(word)
    return [tuple(call[1:]) for call in calls if call and call[0].rpartition("/")[2] == "relume" and len(call) > 1]


def every_command() -> list[Command]:
    """The commands of all pages, each once."""
    found = [one for page in WITH_COMMANDS for one in commands_of(page.read_text(), str(page.relative_to(ROOT)))]
    return list({one.place: one for one in found}.values())


def configs_of(module: ModuleType, name: str) -> Any:
    """The classes whose fields are a job's flags: its `CONFIGS` where it takes those of another job too."""
    return getattr(module, "CONFIGS", None) or getattr(module, f"{name.capitalize()}Config")


def check_command(command: Command) -> None:
    """Parses a command with the parser of its job; raises what the job would say of it.

    What looks at files (that a folder is there) is left out: nobody's photographs are here.
    """
    name, *arguments = command.words
    if name in ("--help", "-h", "--version"):
        return
    assert name in COMMANDS, f"{name} is no command"
    module = importlib.import_module(COMMANDS[name][0])
    if name == "schedule":
        check_schedule(arguments, whole=command.whole)
        return
    config: Any = options.RestoreConfig if name == "restore" else configs_of(module, name)
    parser = FlagParser(config, prog=f"relume {name}", usage="", description="")
    if "--help" in arguments or "--" in arguments:
        return
    values, rest = parser.values_of(arguments)
    if name == "restore":
        # This also holds Beam's flags against Beam, and checks what contradicts each other.
        missing = {"--input": "in", "--output": "out"} if not command.whole else {}
        extra = [word for flag, value in missing.items() if flag not in arguments for word in (flag, value)]
        options.parse([*arguments, *extra])
    else:
        others = [word for word in rest if word.startswith("-")]
        assert not others, f"{others[0]} is no flag of relume {name}"
        expected = 1 if name == "why" and command.whole else len(rest) if name == "why" else 0
        assert len(rest) == expected, f"relume {name} got {rest}"
    if command.whole:
        parser.require(values)
        if name == "launch":
            module.parse(arguments)  # what contradicts each other
    for one in parser.options:
        if one.name in values:
            one.check(values[one.name])


def check_schedule(arguments: list[str], *, whole: bool) -> None:
    """Parses a command whose flags hang on its first word; within a line the flags may be left out."""
    action, *others = arguments or ["create"]
    assert action in schedule.CONFIGS, f"{action} is no action of relume schedule"
    if whole and "--help" not in others:
        schedule.parse(arguments)
    elif "--help" not in others:
        _, rest = schedule.parser_of(action).values_of(others)
        assert rest == [], f"relume schedule {action} got {rest}"


@pytest.mark.parametrize("command", every_command(), ids=lambda command: command.place)
def test_every_command_that_a_page_names_is_one_that_can_be_typed(command: Command) -> None:
    check_command(command)


@pytest.mark.parametrize(
    "line",
    [
        "relume restore --input a --output b --colour",
        "relume restore --input a",
        "relume restore --input a --output b --format gif",
        "relume mend --input a",
        "relume verify --output a --slow",
        "relume why --output a",
        "relume schedule stop --project some-project --region europe-west4",
        "relume schedule show --project some-project --region europe-west4 --cron '0 2 * * *'",
        "relume schedule show --project some-project",
        "make demo && .venv/bin/relume report --outptu a",
    ],
)
def test_a_command_that_cannot_be_typed_is_found(line: str) -> None:
    (command,) = commands_of(f"```\n{line}\n```\n", "page")

    with pytest.raises((ValueError, AssertionError)):
        check_command(command)


def test_the_pages_name_every_command_of_the_pipeline() -> None:
    named = {command.words[0] for command in every_command() if command.whole}

    assert named >= {"restore", "report", "verify", "why", "launch", "schedule"}


def section(page: str, heading: str) -> str:
    """The text between a heading of the second level and the next."""
    text = (DOCS / page).read_text()
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"docs/{page} has no section {heading}"
    return found[1]


def first_cells(text: str) -> list[str]:
    """The code spans in the first column of the tables in a text."""
    return [name for row in re.findall(r"^\|([^|]*)\|", text, re.MULTILINE) for name in SPAN.findall(row)]


def kept_reasons() -> set[str]:
    """Every reason of a verdict `kept` that the code can give."""
    return {*KEPT_REASONS, *SPARED, *(f"gate-{check}" for check in checks_of_the_gate())}


def checks_of_the_gate() -> set[str]:
    """The names of the checks, from the calls that make them."""
    calls = [node for node in nodes_of(judging) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    names = [call.args[0] for call in calls if ast.unparse(call.func) in ("Check", "_at_most")]
    return {name.value for name in names if isinstance(name, ast.Constant) and isinstance(name.value, str)}


def nodes_of(module: ModuleType) -> list[ast.AST]:
    """All of a module's syntax tree."""
    return list(ast.walk(ast.parse(inspect.getsource(module))))


def test_what_spares_a_picture_and_what_the_gate_checks_is_what_the_code_says() -> None:
    said = {node.value for room in (restoring, judging) for node in nodes_of(room) if isinstance(node, ast.Constant)}

    assert said >= SPARED
    assert checks_of_the_gate() == set(explaining._CHECKS)
    assert kept_reasons() >= set(explaining._REASONS) - {"improved", *failures.REASONS}


def test_the_page_of_formats_tells_every_reason_to_keep_and_no_other() -> None:
    told = first_cells(section("formats.md", "Why a picture is kept"))

    assert sorted(told) == sorted(kept_reasons())


@pytest.mark.parametrize(
    ("page", "heading"), [("formats.md", "Why an input fails"), ("running.md", "When images fail")]
)
def test_both_pages_tell_every_reason_of_a_dead_letter_and_no_other(page: str, heading: str) -> None:
    told = first_cells(section(page, heading))

    assert sorted(told) == sorted(failures.REASONS)


def test_the_table_of_formats_names_reasons_that_exist_and_every_one_of_the_codec() -> None:
    table = section("formats.md", "Every format and variant")

    kept, failed = (set(re.findall(rf"{outcome}: `([a-z-]+)`", table)) for outcome in ("kept", "failed"))

    assert kept == set(KEPT_REASONS)
    assert failed <= set(failures.REASONS)


def test_the_page_of_formats_tells_the_qualities_and_limits_of_the_code() -> None:
    config, limits, guard = options.RestoreConfig(input="in", output="out"), Limits(), Guard()
    quality, gate = section("formats.md", "Quality of what is written"), judging.Gate()
    kept, limit = section("formats.md", "Why a picture is kept"), section("formats.md", "Limits")

    fine = (
        f"quality {jpeg.QUALITY}, and quality {jpeg.FINE_QUALITY} where the source's tables stand for a quality above"
    )
    assert f"{fine} {jpeg.FINE_FROM - 1};" in quality
    assert {jpeg.QUALITY, tiff.JPEG_QUALITY, webp.QUALITY, avif.QUALITY} == {95}
    assert f"{jp2.LOSSY_PSNR} dB" in quality
    assert f"| {config.max_bytes} ({config.max_bytes // 2**20} MiB) |" in limit
    assert f"| {config.max_megapixels:g} |" in limit
    assert f"`--band_megapixels` ({config.band_megapixels:g})" in limit
    assert limits.max_pixels == config.max_megapixels * 1e6
    assert f"{guard.memory_bytes // 2**30} GiB, {guard.seconds:g} s" in limit
    assert f"more than {100 * gate.outside_bins:g} % of the luma coefficients" in kept
    assert f"more than {gate.drift:g} grey levels" in kept
    assert f"more than {gate.blockiness:g}" in kept
    assert f"more than {gate.quality:g} points" in kept
    assert f"more than {gate.noise:g} grey level " in kept
    assert f"more than {gate.blur:g} pixels " in kept
    assert f"The blockiness may rise by {gate.blockiness_hidden:g} there" in kept
    assert f"grow by {gate.drift_of_noise:g} for" in kept
    assert f"by {gate.drift_of_blur:g} for each pixel of blur" in kept
    assert f"by more than {restorer.RECOMPRESSED_GAP} points" in kept
    assert f"`--keep_above_quality` ({config.keep_above_quality})" in kept


def test_the_page_of_running_tells_the_findings_of_verify_and_exit_codes_that_exist() -> None:
    findings = first_cells(section("running.md", "Is the output still what was written?"))
    codes = re.findall(r"^\| (\d+) \|", section("running.md", "Exit codes"), re.MULTILINE)

    assert sorted(findings) == sorted(Kind)
    assert {int(code) for code in codes} <= set(ExitCode)
    assert len(codes) == len(set(codes)) >= 5


def row_of(one: Option) -> str:
    """What the page of flags says of an option."""
    kind = "none" if one.name in template.LEFT_OUT else f"`{template.type_of(one)}`"
    default = "needed" if one.required else one.default_text or ("off" if one.kind is bool else "none")
    rule = f" It must be {one.rule}." if one.low is not None or one.choices else ""
    return f"| `{one.flag}` | {kind} | {default} | {one.text}{rule} |".replace("\n", " ")


def test_the_page_of_flags_has_a_row_for_every_option_of_a_restore_job_and_no_other() -> None:
    text = (DOCS / "flags.md").read_text()

    rows = [line for line in text.splitlines() if line.startswith("| `--")]

    # Where this fails, the page takes over the line that is missing below.
    assert rows == [row_of(one) for one in options_of(options.RestoreConfig)]


def anchors(page: Path) -> set[str]:
    """What a link into a page may name: its headings, as they are spelled in addresses."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", WITH_LINKS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file_and_to_a_heading_of_it(page: Path) -> None:
    broken = []
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)

    assert broken == []
