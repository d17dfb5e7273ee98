"""The statistics of runs over seeds: against SciPy, against values computed by hand, and by simulation."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from study.samples import Pair, Sample, difference_of_means, late_accuracy
from tests.made_up import accuracies, confidence, few_examples

# Samples


@given(st.lists(accuracies, min_size=2, max_size=12))
@few_examples
def test_mean_deviation_and_interval_are_those_of_scipy(values):
    assume(np.ptp(values) > 0)
    sample = Sample(tuple(values))
    expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert sample.mean == pytest.approx(np.mean(values))
    assert sample.deviation == pytest.approx(np.std(values, ddof=1))
    assert sample.interval == pytest.approx(expected)
    assert sample.num_seeds == len(values)


def test_a_prediction_interval_covers_the_next_run_95_times_of_100():
    draws = np.random.default_rng(0).normal(0.88, 0.004, (3000, 6))
    ranges = [Sample(tuple(seen)).range_of_runs for seen in draws[:, :5]]
    covered = [low <= following <= high for (low, high), following in zip(ranges, draws[:, 5], strict=True)]
    low, high = confidence(covered)
    assert low <= 0.95 <= high


@given(st.lists(accuracies, min_size=2, max_size=12))
@few_examples
def test_the_ends_of_the_prediction_interval_are_the_percentiles_2_and_a_half_and_97_and_a_half(values):
    assume(np.ptp(values) > 0)
    sample = Sample(tuple(values))
    assert [sample.percentile(end) for end in sample.range_of_runs] == pytest.approx([0.025, 0.975])
    assert sample.percentile(sample.mean) == pytest.approx(0.5)


def test_equal_numbers_have_no_deviation_and_an_interval_without_width():
    sample = Sample((0.1,) * 3)  # whose mean is not 0.1 to the last digit
    assert sample.deviation == 0
    assert sample.interval == sample.range_of_runs == pytest.approx((0.1, 0.1))
    assert [sample.percentile(value) for value in (0.0999, 0.1, 0.1001)] == [0, 0.5, 1]


@pytest.mark.parametrize("values", [(), (0.5,)])
def test_fewer_than_two_numbers_have_no_deviation(values):
    sample = Sample(values)
    unknown = [sample.deviation, *sample.interval, *sample.range_of_runs, sample.percentile(0.5)]
    assert all(math.isnan(value) for value in unknown)
    assert math.isnan(sample.mean) == (not values)


@given(st.lists(accuracies, min_size=3, max_size=12), accuracies)
@few_examples
def test_the_p_value_against_an_expected_mean_is_that_of_scipys_t_test(values, expected):
    assume(np.ptp(values) > 0)
    assert Sample(tuple(values)).p(expected) == pytest.approx(stats.ttest_1samp(values, expected).pvalue)


def test_a_sample_of_records_holds_their_test_accuracies():
    assert Sample.of([{"seed": 1, "test_accuracy": 0.9}, {"seed": 0, "test_accuracy": 0.8}]) == Sample((0.9, 0.8))


@given(st.lists(accuracies, min_size=3, max_size=12), st.sampled_from([0.01, 0.05, 0.2]))
@few_examples
def test_a_prediction_interval_of_another_level_leaves_out_what_the_level_says(values, level):
    assume(np.ptp(values) > 0)
    sample = Sample(tuple(values))
    assert [sample.percentile(end) for end in sample.prediction(level)] == pytest.approx([level / 2, 1 - level / 2])


def test_flipping_signs_counts_all_flips_of_few_seeds():
    """Of the 8 ways to flip 3 signs, 2 give a mean as far from 0, to either side."""
    assert Sample((0.1, 0.2, 0.3)).p_of_sign_flips(0) == pytest.approx(2 / 8)
    assert Sample((0.1, 0.2, 0.3)).p_of_sign_flips(0.2) == 1
    assert math.isnan(Sample((0.1, 0.2)).p_of_sign_flips(0))


def test_flipping_signs_agrees_with_the_t_test_where_numbers_are_normal():
    for values in np.random.default_rng(0).normal(0.3, 1, (20, 32)):
        sample = Sample(tuple(values))
        assert sample.p_of_sign_flips(0) == pytest.approx(sample.p(0), abs=0.03)


# Pairs


def test_samples_that_share_nothing_are_compared_by_welchs_formulas():
    first, second = Sample((0.90, 0.91, 0.92, 0.91)), Sample((0.88, 0.89, 0.84))
    parts = [sample.deviation**2 / sample.num_seeds for sample in (first, second)]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 2)
    error = sum(parts) ** 0.5
    difference, (low, high), p = difference_of_means(first, second)
    half = stats.t.isf(0.025, freedom) * error
    assert difference == pytest.approx(first.mean - second.mean)
    assert (low, high) == pytest.approx((difference - half, difference + half))
    assert p == pytest.approx(2 * stats.t.sf(difference / error, freedom))


def test_a_difference_is_taken_seed_by_seed_and_less_the_margin_is_the_excess():
    pair = Pair((0.9, 0.8, 0.85), (0.8, 0.8, 0.8), margin=0.01)
    assert pair.difference.accuracies == pytest.approx((0.1, 0, 0.05))
    assert pair.excess == pytest.approx([0.09, -0.01, 0.04])


def test_a_relative_difference_is_a_share_of_the_second_accuracy():
    pair = Pair((0.88, 0.55), (0.8, 0.5), margin=0.01, relative=True)
    assert pair.difference.accuracies == pytest.approx((0.1, 0.1))
    assert pair.excess == pytest.approx([0.09, 0.09])


def test_a_pair_is_deterministic_if_both_settings_give_the_same_with_every_seed():
    assert Pair((0.1,) * 3, (0.2,) * 3).is_deterministic
    assert not Pair((0.1, 0.2, 0.3), (0.1, 0.2, 0.3)).is_deterministic


def test_late_accuracy_is_the_mean_of_the_last_epochs():
    record = {"test_accuracies": [0.1, 0.5, 0.6, 0.7], "test_accuracy": 0.7}
    assert late_accuracy(record, 3) == pytest.approx(0.6)
    assert late_accuracy(record, 1) == 0.7
    assert late_accuracy(record, 9) == pytest.approx(0.475)
