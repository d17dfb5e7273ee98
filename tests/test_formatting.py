"""How numbers are written: each kind in one way."""

import math

import pytest

from common import formatting

NAN = math.nan
BELOW = "<\N{NO-BREAK SPACE}0.001"


@pytest.mark.parametrize(
    ("write", "written"),
    [
        (formatting.accuracy, {0.85: "0.8500", 0.89444: "0.8944", 1: "1.0000", 0: "0.0000", NAN: "–"}),
        (formatting.points, {0.0123: "+1.23", -0.0123: "−1.23", 0.1: "+10.00", NAN: "–"}),
        (formatting.spread, {0.0043: "0.43", 0: "0.00", 0.0141: "1.41", NAN: "–"}),
        (
            formatting.p_value,
            {0.214: "0.214", 0.001: "0.001", 0.00099: BELOW, 1: "1.000", NAN: "–"},
        ),
        (formatting.p_equals, {0.214: "p = 0.214", 0.00099: f"p\N{NO-BREAK SPACE}{BELOW}", NAN: "p = –"}),
        (formatting.percent, {0.53: "53\N{NO-BREAK SPACE}%", 1: "100\N{NO-BREAK SPACE}%", NAN: "–"}),
        (formatting.percentile, {0.53: "53", 0.996: "100", NAN: "–"}),
        (formatting.words, {"weight_decay": "weight decay", "figure_4": "figure 4", "dropout": "dropout"}),
        (formatting.minutes, {0: "0:00", 187.9: "3:07", 59.99: "0:59", 3600: "60:00"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_kind_of_number_is_written_in_one_way(write, written):
    assert {value: write(value) for value in written} == written


def test_what_rounds_to_zero_has_a_plus():
    for nothing in (0.0, -0.0, 0.00004, -0.00004):
        assert formatting.points(nothing) == "+0.00"
    assert formatting.points(-0.00006) == "−0.01"


def test_an_interval_is_written_by_what_writes_its_ends():
    assert formatting.interval((0.89461, 0.8993), formatting.accuracy) == "0.8946 to 0.8993"
    assert formatting.interval((-0.001, 0.0023), formatting.points) == "−0.10 to +0.23"
    assert formatting.interval((NAN, NAN), formatting.accuracy) == "–"


def test_one_thing_has_no_plural():
    assert [formatting.count(number, "seed") for number in (0, 1, 8)] == ["0 seeds", "1 seed", "8 seeds"]


def test_a_parameter_is_written_without_a_power_of_ten_and_without_zeros_at_its_end():
    for value, written in (
        (1e-5, "0.00001"),
        (1e-9, "0.000000001"),
        (0.1, "0.1"),
        (0.0, "0"),
        (100, "100"),
        (1e2, "100"),
    ):
        assert formatting.parameter(value) == written


def test_parameters_that_are_no_numbers_are_written_in_words():
    for value, written in ((True, "yes"), (False, "no"), ("Adam", "Adam"), ("one_cycle", "one_cycle"), ([], "")):
        assert formatting.parameter(value) == written
    assert formatting.parameter(["RandomHorizontalFlip", "RandomErasing"]) == "flips, erased areas"
    assert formatting.parameter([256, 128, 64, 32, 16]) == "256, 128, 64, 32, 16"
