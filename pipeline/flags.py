"""From a frozen dataclass to the flags of a command: all that parsing, help and docs need is said by its fields.

A field made by `option` carries its help, group and allowed values. `Option` reads them back, so that whatever lists
the options of a job (its parser, its help, a template's metadata, a page of the docs) lists every one of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, TypeVar

Config = TypeVar("Config")

HELP_COLUMNS = 80
REQUIRED: Any = dataclasses.MISSING

SEPARATOR = "\n"
"""Stands between the values of a repeatable option that are given in one text."""

_METADATA = "option"
_METAVARS = {int: "N", float: "N"}
_WORDS_FOR_TRUE = ("true", "yes", "1")
_WORDS_FOR_FALSE = ("false", "no", "0")


class UsageError(ValueError):
    """A flag or its value is wrong; the text is one line: the flag, the value, and what would be right."""


@dataclasses.dataclass(frozen=True)
class _About:
    """What a field says of itself beyond its type and default."""

    text: str
    group: str
    metavar: str
    choices: tuple[str, ...]
    low: float | None
    high: float | None
    default_text: str


def option(
    text: str,
    *,
    group: str,
    default: Any = REQUIRED,
    default_factory: Callable[[], Any] | None = None,
    default_text: str = "",
    metavar: str = "",
    choices: Sequence[str] = (),
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """Makes a dataclass field that is also a flag of the same name.

    The field's type is `str`, `str | None`, `int`, `float`, `bool` (a switch) or `tuple[str, ...]` (may be repeated).

    Args:
        text: help, one or two sentences without the default.
        group: heading under which the help lists it.
        default: value where the flag is not given; without one (and without a factory) the flag is required.
        default_factory: makes the default anew for each config.
        default_text: how the help names the default where its value says little.
        metavar: what stands for the value in the help; its choices where empty.
        choices: all values allowed, of a `str`.
        low, high: bounds of a number, both included.
    """
    about = _About(text, group, metavar, tuple(choices), low, high, default_text)
    made = {"default_factory": default_factory} if default_factory else {"default": default}
    return dataclasses.field(metadata={_METADATA: about}, **made)


def verbose(group: str) -> Any:
    """Makes the field `verbose`, a flag that is alike in all jobs: `jobs.command_line.run_job` goes by it."""
    return option("Log more, and show where in the code an error arose.", group=group, default=False)


@dataclasses.dataclass(frozen=True)
class Option:
    """One flag of a job, as its field describes it.

    Attributes:
        name: of the field; the flag is `--name`.
        kind: `str`, `int`, `float` or `bool`; of one value where it is repeatable.
        repeatable: may be given more than once; the value is a tuple.
        required: has no default.
        default: value where it is not given; None where it is required or made anew each time.
        text: help.
        group: heading in the help.
        metavar: what stands for the value in the help; empty for a switch.
        choices: all values allowed; empty where any is.
        low, high: bounds of a number, both included, or None.
        default_text: the default in words; empty where there is nothing to say.
    """

    name: str
    kind: type
    repeatable: bool
    required: bool
    default: Any
    text: str
    group: str
    metavar: str
    choices: tuple[str, ...]
    low: float | None
    high: float | None
    default_text: str

    @property
    def flag(self) -> str:
        """As it is typed."""
        return f"--{self.name}"

    @property
    def rule(self) -> str:
        """What a value must be, as the end of `must be ...`."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.kind is bool:
            return "true or false"
        if self.kind is str:
            return "text"
        number = "a whole number" if self.kind is int else "a number"
        if self.low is not None and self.high is not None:
            return f"{number} in {self.low:g}..{self.high:g}"
        if self.low is not None:
            return f"{number}, at least {self.low:g}"
        return number if self.high is None else f"{number}, at most {self.high:g}"

    def parse(self, text: str) -> Any:
        """Turns the text of one value into the value; `check` says whether it is allowed.

        Raises:
            UsageError: if the text is of another kind.
        """
        if self.kind is bool:
            if text.lower() in (*_WORDS_FOR_TRUE, *_WORDS_FOR_FALSE):
                return text.lower() in _WORDS_FOR_TRUE
            raise self._wrong(text)
        try:
            return self.kind(text)
        except ValueError as error:
            raise self._wrong(text) from error

    def parse_all(self, texts: Iterable[str]) -> tuple[Any, ...]:
        """Turns the texts of a repeatable option into its value.

        A text may hold several, one a line: the launcher of a template can give a flag once only.

        Raises:
            UsageError: if one is of another kind.
        """
        return tuple(self.parse(line) for text in texts for line in text.split(SEPARATOR))

    def check(self, value: Any) -> None:
        """Refuses a value that the field does not allow.

        Raises:
            UsageError: naming the flag, the rule and the value.
        """
        if self.repeatable:
            if not isinstance(value, tuple):
                raise UsageError(f"{self.flag} must be a tuple, got {value!r}")
            for one in value:
                self._check_one(one)
        elif value is not None or self.default is not None:
            self._check_one(value)

    def _check_one(self, value: Any) -> None:
        if isinstance(value, bool) != (self.kind is bool):
            raise self._wrong(value)
        if not isinstance(value, (int, float) if self.kind is float else self.kind) or value == "":
            raise self._wrong(value)
        if self.choices and value not in self.choices:
            raise self._wrong(value)
        if isinstance(value, int | float) and not self._has_inside(value):
            raise self._wrong(value)

    def _has_inside(self, number: float) -> bool:
        """Whether a number is in bounds; what is not finite, which JSON cannot hold either, is not."""
        return (
            math.isfinite(number)
            and (self.low is None or number >= self.low)
            and (self.high is None or number <= self.high)
        )

    def _wrong(self, value: Any) -> UsageError:
        if value == "":
            return UsageError(f"{self.flag} must not be empty")
        shown = str(value) if str(value).isprintable() else repr(value)
        near = nearest(str(value), self.choices)
        return UsageError(f"{self.flag} must be {self.rule}, got {shown}" + (f"; did you mean {near}?" if near else ""))


def options_of(config: type) -> tuple[Option, ...]:
    """Lists the options of a config class in the order of its fields; every field must be made by `option`."""
    hints = typing.get_type_hints(config)
    return tuple(_option_of(field, hints[field.name]) for field in dataclasses.fields(config))


def _option_of(field: dataclasses.Field[Any], hint: Any) -> Option:
    about: _About = field.metadata[_METADATA]
    repeatable = typing.get_origin(hint) is tuple
    kinds = [kind for kind in typing.get_args(hint) if kind not in (Ellipsis, types.NoneType)]
    kind = kinds[0] if kinds else hint
    has_default = field.default is not dataclasses.MISSING
    default = field.default if has_default else None
    default_text = about.default_text
    if not default_text and kind is not bool and not repeatable and default is not None:
        default_text = str(default)
    return Option(
        name=field.name,
        kind=kind,
        repeatable=repeatable,
        required=not has_default and field.default_factory is dataclasses.MISSING,
        default=default,
        text=about.text,
        group=about.group,
        metavar="" if kind is bool else about.metavar or "|".join(about.choices) or _METAVARS.get(kind, "TEXT"),
        choices=about.choices,
        low=about.low,
        high=about.high,
        default_text=default_text,
    )


def check(config: Any) -> None:
    """Checks every option of a config; to be called first in its `__post_init__`.

    Raises:
        UsageError: at the first value that its option does not allow.
    """
    for one in options_of(type(config)):
        one.check(getattr(config, one.name))


def check_here(flag: str, folder: str) -> None:
    """Refuses the address of a folder elsewhere where one on this machine is needed.

    Raises:
        UsageError: naming the flag.
    """
    if "://" in folder:
        raise UsageError(f"--{flag} must be a folder on this machine, got {folder}")


class FlagParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and whose help reads well at 80 columns.

    Args:
        config: the dataclass whose fields are the flags; several, whose fields all have names of their own, where a
            command takes the flags of another beside its own.
        prog: what the user types, such as `relume restore`.
        usage: what follows it.
        description, epilog: text above and below the flags, shown as it is written.
    """

    def __init__(
        self, config: type | Sequence[type], *, prog: str, usage: str, description: str, epilog: str = ""
    ) -> None:
        super().__init__(
            prog=prog,
            usage=f"%(prog)s {usage}",
            description=description,
            epilog=epilog,
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(
                prog, max_help_position=26, width=HELP_COLUMNS
            ),
            allow_abbrev=False,
            add_help=False,
        )
        configs = (config,) if isinstance(config, type) else config
        self.options = tuple(one for each in configs for one in options_of(each))
        for name in dict.fromkeys(one.group for one in self.options):
            group = self.add_argument_group(name)
            for one in self.options:
                if one.group == name:
                    group.add_argument(one.flag, **_how_to_add(one))
        self.add_argument_group("Other").add_argument("-h", "--help", action="help", help="show this and exit")

    def error(self, message: str) -> NoReturn:
        """Raises the error in place of printing it with the whole usage.

        Raises:
            UsageError: always.
        """
        raise UsageError(message.removeprefix("argument ").replace(": expected one argument", " needs a value"))

    def values_of(self, arguments: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
        """Reads the flags it knows.

        Args:
            arguments: flags and values; names may be written with dashes or underscores, values after a blank or `=`.

        Returns:
            The values of the flags that are there, by name, and all arguments that are none of its flags, in order.

        Raises:
            UsageError: if a flag lacks its value, or the value is of another kind.
        """
        # A launcher that knows only --name=value can set a switch too, which argparse would not have.
        switches = {one.flag: one for one in self.options if one.kind is bool}
        values: dict[str, Any] = {}
        others = []
        for argument in map(with_underscores, arguments):
            name, equals, text = argument.partition("=")
            if equals and name in switches:
                values[switches[name].name] = switches[name].parse(text)
            else:
                others.append(argument)
        found, rest = self.parse_known_args(others)
        for one in self.options:
            texts = getattr(found, one.name, None)
            if texts is not None:
                values[one.name] = one.parse_all(texts) if one.repeatable else one.parse(texts)
        return values, rest

    def require(self, values: dict[str, Any]) -> None:
        """Refuses values that lack a required flag.

        Raises:
            UsageError: naming the first one missing and what it is.
        """
        for one in self.options:
            if one.required and one.name not in values:
                raise UsageError(f"{one.flag} {one.metavar} is needed: {one.text[0].lower()}{one.text[1:].rstrip('.')}")


def _how_to_add(one: Option) -> dict[str, Any]:
    """What argparse must know of an option: how many values there are, and its help."""
    bounds = f"{one.low:g}..{one.high:g}" if one.low is not None and one.high is not None else ""
    default = f"default: {one.default_text}" if one.default_text else ""
    notes = "; ".join(filter(None, (bounds, default)))
    text = f"{one.text} ({notes})" if notes else one.text
    how: dict[str, Any] = {"dest": one.name, "default": None, "help": text.replace("%", "%%")}
    if one.kind is bool:
        return {**how, "action": "store_const", "const": "true"}
    return {**how, "metavar": one.metavar, **({"action": "append"} if one.repeatable else {})}


def parse_flags(config: type[Config], parser: FlagParser, arguments: Sequence[str]) -> Config:
    """Reads a command line that holds flags of the config and nothing else.

    Raises:
        UsageError: if a flag is unknown, missing, lacks its value, or has one that is not allowed.
    """
    (parsed,) = parse_several((config,), parser, arguments)
    return parsed


def parse_several(configs: Sequence[type], parser: FlagParser, arguments: Sequence[str]) -> tuple[Any, ...]:
    """Reads a command line that holds flags of several configs and nothing else; each config is made of its own.

    Raises:
        UsageError: as `parse_flags`.
    """
    values = values_of_each(configs, parser, arguments)
    return tuple(config(**own) for config, own in zip(configs, values, strict=True))


def values_of_each(configs: Sequence[type], parser: FlagParser, arguments: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """Reads a command line that holds flags of several configs and nothing else.

    Args:
        configs: those of the parser.
        parser: of all of them.
        arguments: without the command's name.

    Returns:
        For each config the values that were given, by name: what it is made of.

    Raises:
        UsageError: as `parse_flags`, but for what only a config itself can check.
    """
    values, rest = parser.values_of(arguments)
    if rest:
        raise unknown(rest[0], (one.flag for one in parser.options))
    parser.require(values)
    return tuple({one.name: values[one.name] for one in options_of(config) if one.name in values} for config in configs)


def unknown(argument: str, flags: Iterable[str]) -> UsageError:
    """The error for an argument that nobody knows, with the nearest of the flags that somebody does."""
    name = argument.partition("=")[0]
    if not name.startswith("-"):
        return UsageError(f"{name} stands where a flag was expected; values follow their flag, as in --name value")
    near = nearest(with_underscores(name), flags)
    return UsageError(f"{name} is no flag" + (f"; did you mean {near}?" if near else "; --help lists all there are"))


def nearest(word: str, words: Iterable[str]) -> str:
    """The word most like a misspelt one, or an empty string where none is like it."""
    return next(iter(difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)), "")


def with_underscores(argument: str) -> str:
    """Spells a flag's name with underscores and leaves its value, and anything that is no flag, as it is."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"
