import dataclasses

import pytest

from pipeline import flags
from pipeline.flags import FlagParser, UsageError, option, options_of, parse_flags, parse_several


@dataclasses.dataclass(frozen=True)
class Kitchen:
    dish: str = option("What to cook.", group="Food")
    spice: tuple[str, ...] = option("100 % of them.", group="Food", default=(), metavar="NAME")
    heat: float = option("How hot.", group="Stove", default=0.5, low=0, high=1)
    pans: int = option("How many.", group="Stove", default=2, low=1)
    fuel: str = option("What burns.", group="Stove", default="gas", choices=("gas", "wood"))
    cook: str | None = option("Who cooks.", group="People", default=None, default_text="you")
    clean: bool = option("Wash up.", group="People", default=False)

    def __post_init__(self) -> None:
        flags.check(self)


def parser() -> FlagParser:
    return FlagParser(Kitchen, prog="cook", usage="--dish TEXT [flags]", description="Cooks.")


def parsed(*arguments: str) -> Kitchen:
    return parse_flags(Kitchen, parser(), arguments)


def test_every_field_becomes_an_option_with_its_type_default_and_bounds() -> None:
    dish, spice, heat, pans, fuel, cook, clean = options_of(Kitchen)

    assert (dish.kind, dish.required, dish.metavar) == (str, True, "TEXT")
    assert (spice.kind, spice.repeatable, spice.required) == (str, True, False)
    assert (heat.kind, heat.default, heat.low, heat.high) == (float, 0.5, 0, 1)
    assert (pans.kind, pans.rule) == (int, "a whole number, at least 1")
    assert (fuel.choices, fuel.default_text) == (("gas", "wood"), "gas")
    assert (cook.kind, cook.required, cook.default_text) == (str, False, "you")
    assert (clean.kind, clean.metavar, clean.default_text) == (bool, "", "")


def test_flags_are_read_with_dashes_underscores_blanks_and_equals_signs() -> None:
    kitchen = parsed("--dish=soup", "--heat", "0.75", "--spice", "a-b", "--spice=--c-d", "--clean")

    assert kitchen == Kitchen("soup", spice=("a-b", "--c-d"), heat=0.75, clean=True)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("True", True), ("1", True), ("false", False)])
def test_a_switch_can_be_given_a_value(text: str, value: bool) -> None:
    assert parsed("--dish", "x", f"--clean={text}").clean is value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--dish TEXT is needed: what to cook"),
        (["--dish"], "--dish needs a value"),
        (["--dish", ""], "--dish must not be empty"),
        (["--dish", "x", "--heat", "1.5"], "--heat must be a number in 0..1, got 1.5"),
        (["--dish", "x", "--heat", "nan"], "--heat must be a number in 0..1, got nan"),
        (["--dish", "x", "--heat", "hot"], "--heat must be a number in 0..1, got hot"),
        (["--dish", "x", "--pans", "2.5"], "--pans must be a whole number, at least 1, got 2.5"),
        (["--dish", "x", "--pans=-1"], "--pans must be a whole number, at least 1, got -1"),
        (["--dish", "x", "--fuel", "wod"], "--fuel must be one of gas, wood, got wod; did you mean wood?"),
        (["--dish", "x", "--clean=maybe"], "--clean must be true or false, got maybe"),
        (["--dish", "x", "--spice", ""], "--spice must not be empty"),
        (["--dsh", "x"], "--dsh is no flag; did you mean --dish?"),
        (["--dis", "x"], "--dis is no flag; did you mean --dish?"),
        (["--zzzz=1"], "--zzzz is no flag; --help lists all there are"),
        (["--dish", "x", "y"], "y stands where a flag was expected; values follow their flag, as in --name value"),
    ],
)
def test_a_wrong_command_line_is_one_line_that_says_what_would_be_right(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(*arguments)

    assert str(caught.value) == message


def test_a_config_made_in_code_is_checked_as_strictly() -> None:
    with pytest.raises(UsageError, match=r"--heat must be a number in 0\.\.1, got 7"):
        Kitchen("soup", heat=7)
    with pytest.raises(UsageError, match="--spice must be a tuple"):
        Kitchen("soup", spice=["salt"])  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--clean must be true or false, got yes"):
        Kitchen("soup", clean="yes")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--pans must be a whole number"):
        Kitchen("soup", pans=True)


def test_help_lists_every_flag_in_its_group_and_fits_eighty_columns() -> None:
    text = parser().format_help()

    assert [line for line in text.splitlines() if line.endswith(":")] == ["Food:", "Stove:", "People:", "Other:"]
    assert all(one.flag in text and one.text in text for one in options_of(Kitchen))
    assert "0..1; default: 0.5" in text
    assert max(map(len, text.splitlines())) <= 80


@dataclasses.dataclass(frozen=True)
class Table:
    place: str = option("Where.", group="Table")
    guests: int = option("How many sit down.", group="Table", default=1, low=1)

    def __post_init__(self) -> None:
        flags.check(self)


def test_a_repeatable_flag_may_hold_several_values_one_a_line() -> None:
    assert parsed("--dish=x", "--spice=a,b\nc", "--spice", "d").spice == ("a,b", "c", "d")


def test_a_command_may_take_the_flags_of_several_configs() -> None:
    both = FlagParser((Kitchen, Table), prog="feast", usage="", description="")

    kitchen, table = parse_several((Kitchen, Table), both, ["--place", "garden", "--dish=soup", "--pans", "3"])

    assert (kitchen, table) == (Kitchen("soup", pans=3), Table(place="garden"))
    with pytest.raises(UsageError, match="--place TEXT is needed"):
        parse_several((Kitchen, Table), both, ["--dish=soup"])
    with pytest.raises(UsageError, match="--guest is no flag; did you mean --guests"):
        parse_several((Kitchen, Table), both, ["--dish=soup", "--place=x", "--guest", "2"])
    assert "--guests N" in both.format_help()
