"""The arithmetic of the rule: against SciPy and statsmodels, against its own intervals, and by simulation."""

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from study import rule
from study.outcomes import CONTRADICTED, EQUAL, HOLDS, UNDECIDED
from tests.made_up import confidence, significant

EPSILON = 0.002
points = st.integers(-500, 500).map(lambda number: number / 10000)
excesses = arrays.arrays(float, st.tuples(st.integers(1, 4), st.integers(3, 9)), elements=points)  # (pairs, seeds)
relations = st.sampled_from(["better", "no_better"])
levels = st.sampled_from([0.05, 0.01, 0.3])


def test_one_pair_is_tested_by_students_t_and_for_equality_by_two_one_sided_tests():
    for differences in np.random.default_rng(0).normal(0.0005, 0.002, (20, 8)):
        p = rule.p_values("better", differences[None], EPSILON)
        assert p[0] == pytest.approx(stats.ttest_1samp(differences, 0, alternative="greater").pvalue)
        assert p[1] == pytest.approx(stats.ttest_1samp(differences, 0, alternative="less").pvalue)
        assert p[2] == pytest.approx(ttost_paired(differences, np.zeros(8), -EPSILON, EPSILON)[0])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
@example([1.0, 1.0, 1.0, 0.0117, 0.01])  # the smallest is at the level to the last bit, which is enough
@settings(max_examples=40, deadline=None)
def test_what_the_correction_leaves_significant_is_what_holms_procedure_finds(p):
    corrected, times = rule.correct(np.array(p), 0.05)
    assert {i for i, value in enumerate(corrected) if value <= 0.05} == significant(p)
    decided = {i for i, (value, number) in enumerate(zip(p, times, strict=True)) if value <= 0.05 / number}
    assert decided == significant(p)
    assert all(1 <= number <= len(p) for number in times)


def test_nothing_is_corrected_where_nothing_is_tested():
    assert [len(part) for part in rule.correct(np.array([]), 0.05)] == [0, 0]


@given(excesses, relations, levels)
@settings(max_examples=200, deadline=None)
def test_the_interval_and_the_verdict_never_disagree(excess, relation, level):
    assume(np.ptp(excess, axis=1).min() > 0)
    low, high = rule.interval(relation, excess, level)
    assume(min(abs(low), abs(high), abs(low + EPSILON), abs(high - EPSILON)) > 1e-9)
    if relation == "no_better":
        expected = HOLDS if high < EPSILON else CONTRADICTED if low > 0 else UNDECIDED
    else:
        within = -EPSILON < low and high < EPSILON
        expected = HOLDS if low > 0 else CONTRADICTED if high < 0 else EQUAL if within else UNDECIDED
    assert rule.decide(rule.p_values(relation, excess, EPSILON), level) == expected


@pytest.mark.parametrize(
    ("relation", "gain", "expected"),
    [
        ("better", 0.01, HOLDS),
        ("better", -0.01, CONTRADICTED),
        ("better", 0.0, EQUAL),
        ("no_better", 0.01, CONTRADICTED),
        ("no_better", 0.001, HOLDS),  # a gain, but one that doesn't count
        ("no_better", -0.01, HOLDS),
    ],
)
def test_differences_without_variance_decide_by_themselves(relation, gain, expected):
    excess = np.full((2, 4), gain)
    assert rule.decide(rule.p_values(relation, excess, EPSILON), 0.001) == expected
    assert rule.interval(relation, excess, 0.05) == pytest.approx((gain, gain))


@pytest.mark.parametrize("relation", ["better", "no_better"])
def test_the_interval_misses_the_gain_no_more_often_than_its_level_says(relation):
    """Of four pairs that share a setting, with true differences of which two are the least favourable ones."""
    rng = np.random.default_rng(1)
    true = np.array([0.0, 0.0, 0.004, 0.009]) * (1 if relation == "better" else -1)
    missed = []
    for _ in range(3000):
        drawn = rng.normal(0, 0.004, (4, 8)) + rng.normal(0, 0.004, 8) + true[:, None]
        low, high = rule.interval(relation, drawn, 0.05)
        missed.append(not low <= 0 <= high)
    assert confidence(missed).low <= 0.05


def test_the_rise_is_that_of_the_line_through_the_accuracies():
    accuracies = np.random.default_rng(0).normal(size=(7, 5))
    slopes = [stats.linregress(np.arange(7), column).slope for column in accuracies.T]
    assert rule.rise(accuracies) == pytest.approx(6 * np.array(slopes))


def test_settings_that_scatter_differently_and_do_not_rise_are_not_found_to_rise_too_often():
    """Page's test finds a trend in such settings more often than it says, which is why the rule doesn't use it."""
    rng = np.random.default_rng(0)
    spreads = np.array([10, 8, 6, 4, 4, 2, 2])[:, None] / 1000
    found, by_page = [], []
    for _ in range(1000):
        accuracies = rng.normal(0.85, spreads, (7, 32))
        rises, falls, _ = rule.p_values("rising", rule.rise(accuracies)[None], EPSILON)
        found.append(2 * min(rises, falls) <= 0.05)
        both = [
            stats.page_trend_test(table, method="asymptotic").pvalue for table in (accuracies.T, accuracies[::-1].T)
        ]
        by_page.append(2 * min(both) <= 0.05)
    low, high = confidence(found)
    assert low <= 0.05 <= high
    assert confidence(by_page).low > 0.05
