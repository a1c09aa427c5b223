"""Times of cron and names of time zones: what the service would take, and one line for what it would not."""

from __future__ import annotations

import pytest

from pipeline.flags import UsageError
from pipeline.production.cron import check_cron, check_time_zone


@pytest.mark.parametrize(
    "text",
    [
        "0 2 * * *",
        "*/15 0-6,22 * * *",
        "59 23 31 12 7",
        "5/10 1 1-7/2 jan,JUL MON-FRI",
        "0 2 29 2 *",
        "0 2 31 2 0",
        "0  3\t* * *",
    ],
)
def test_times_of_cron_are_taken(text: str) -> None:
    check_cron(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 2 * *", "five fields"),
        ("0 2 * * * *", "five fields"),
        ("every night", "five fields"),
        ("60 2 * * *", "the minute must be in 0..59, got '60'"),
        ("0 24 * * *", "the hour must be in 0..23, got '24'"),
        ("0 2 0 * *", "the day of the month must be in 1..31, got '0'"),
        ("0 2 * 13 *", "the month must be in 1..12, or JAN..DEC, got '13'"),
        ("0 2 * MAI *", "the month must be in 1..12, or JAN..DEC, got 'MAI'"),
        ("0 2 * * 8", "the day of the week must be in 0..7, or SUN..SAT, got '8'"),
        ("0 5-2 * * *", "the hour must go upwards"),
        ("*/0 2 * * *", "the minute must go upwards, by a step of at least 1"),
        ("0 2 * * MON-", "the day of the week must be"),
        ("0 2,, * * *", "the hour must be"),
        ("-1 2 * * *", "the minute must be"),
        ("*5 2 * * *", "the minute must be"),
        ("*-5 2 * * *", "the minute must be"),
        ("0 2 31 2,4 *", "a day that comes"),
        ("\u0664 2 * * *", "the minute must be"),
    ],
)
def test_what_is_no_time_of_cron_is_one_line_that_names_the_field(text: str, said: str) -> None:
    with pytest.raises(UsageError, match="--cron") as error:
        check_cron(text)

    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_time_zones_are_those_of_the_world() -> None:
    check_time_zone("Europe/Berlin")
    check_time_zone("Etc/UTC")

    with pytest.raises(UsageError, match=r"--time_zone must be .*, got Europe/Berln; did you mean Europe/Berlin\?"):
        check_time_zone("Europe/Berln")
    with pytest.raises(UsageError, match="got /etc/passwd"):
        check_time_zone("/etc/passwd")
