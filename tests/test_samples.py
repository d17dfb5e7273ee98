"""The statistics of runs over seeds: against SciPy, against values computed by hand, and by simulation."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from study.samples import Pair, Sample, holm
from tests.made_up import accuracies, confidence, few_examples, significant

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


# Pairs


@given(st.lists(st.tuples(accuracies, accuracies), min_size=3, max_size=12), st.sampled_from([0.0, 0.01]))
@few_examples
def test_the_p_value_is_that_of_scipys_paired_t_test(both, margin):
    first, second = (tuple(side) for side in zip(*both, strict=True))
    shifted = np.array(second) + margin
    assume(np.ptp(first - shifted) > 1e-6)
    assert Pair(first, second, margin).p == pytest.approx(stats.ttest_rel(first, shifted).pvalue)


@pytest.mark.parametrize(("margin", "p"), [(0.0, 0.0), (0.01, 1.0)])
def test_equal_differences_are_sure_unless_they_are_the_margin(margin, p):
    pair = Pair((0.81, 0.86, 0.83), (0.80, 0.85, 0.82), margin)
    assert pair.p == p
    assert pair.seeds_needed == (3 if p == 0 else None)


@pytest.mark.parametrize("values", [(), (0.8,), (0.8, 0.9)])
def test_with_fewer_than_three_seeds_there_is_no_test(values):
    pair = Pair(values, values)
    assert math.isnan(pair.p)
    assert pair.seeds_needed is None
    assert not pair.is_better
    assert not pair.is_not_better


def test_the_probability_to_beat_is_the_share_of_all_encounters_with_ties_counted_half():
    assert Pair((0.9, 0.8), (0.85, 0.8)).probability == (2 + 0.5) / 4
    assert math.isnan(Pair((), ()).probability)


@given(st.lists(st.tuples(accuracies, accuracies), min_size=1, max_size=8))
@few_examples
def test_the_probabilities_to_beat_and_to_be_beaten_add_up_to_one(both):
    first, second = (tuple(side) for side in zip(*both, strict=True))
    assert Pair(first, second).probability + Pair(second, first).probability == pytest.approx(1)


def simulated(rng, num_pairs, num_seeds, effect):
    """Draw pairs of settings that differ by an effect, in standard deviations of the difference."""
    second = 0.8 + 0.01 * rng.standard_normal((num_pairs, num_seeds))
    first = second + 0.01 * (effect + rng.standard_normal((num_pairs, num_seeds)))
    return [Pair(tuple(a), tuple(b)) for a, b in zip(first, second, strict=True)]


def measured(effect, num_tested=1):
    """Make a pair whose differences have just this mean, in their standard deviations."""
    return Pair(tuple(0.5 + 0.01 * (effect + np.array([-1.0, 0.0, 1.0]))), (0.5,) * 3, num_tested=num_tested)


@pytest.mark.parametrize(
    ("effect", "num_tested", "expected"), [(0.6, 1, 24), (1.0, 1, 10), (2.5, 1, 4), (1.0, 50, 23), (2.5, 50, 8)]
)
def test_with_the_seeds_needed_a_true_difference_is_found_4_times_of_5_and_with_fewer_seldomer(
    effect, num_tested, expected
):
    needed = measured(effect, num_tested).seeds_needed
    assert needed == expected
    level = 0.05 / num_tested
    rng = np.random.default_rng(0)
    enough, too_few = (
        confidence([pair.p < level and pair.difference.mean > 0 for pair in simulated(rng, 1000, num_seeds, effect)])
        for num_seeds in (needed, needed - 1)
    )
    assert enough.high >= 0.8
    assert too_few.low <= 0.8


@given(st.floats(0.1, 50), st.floats(0.1, 50))
@few_examples
def test_a_smaller_effect_needs_no_fewer_seeds(first, second):
    smaller, larger = sorted([first, second])
    assert measured(smaller).seeds_needed >= measured(larger).seeds_needed >= 3


def test_no_number_of_seeds_is_named_for_an_effect_that_would_need_more_than_1000():
    assert measured(0.05).seeds_needed is None
    assert measured(0.0).seeds_needed is None


def test_a_difference_is_found_where_there_is_none_no_more_often_than_stated_even_among_many_comparisons():
    rng = np.random.default_rng(0)
    families = [[pair.p for pair in simulated(rng, 6, 5, effect=0)] for _ in range(400)]
    low, high = confidence([p < 0.05 for family in families for p in family])
    assert low <= 0.05 <= high
    assert confidence([min(holm(family)) < 0.05 for family in families]).low <= 0.05


# Holm's correction

p_values = st.lists(st.integers(0, 1000).map(lambda number: number / 1000) | st.just(math.nan), max_size=9)


@pytest.mark.parametrize(
    ("raw", "corrected"),
    [
        ([], []),
        ([0.03], [0.03]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.6, 0.7], [1, 1]),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([0, 0, 0.9], [0, 0, 0.9]),
        ([math.nan, 0.04, 0.02], [math.nan, 0.04, 0.04]),
        ([math.nan], [math.nan]),
    ],
)
def test_holms_correction_gives_the_values_computed_by_hand(raw, corrected):
    assert holm(raw) == pytest.approx(corrected, nan_ok=True)


@given(p_values)
@few_examples
def test_holms_correction_keeps_nan_and_order_and_raises_the_others_at_most_to_one(raw):
    corrected = holm(raw)
    assert [math.isnan(p) for p in corrected] == [math.isnan(p) for p in raw]
    both = sorted((p, q) for p, q in zip(raw, corrected, strict=True) if not math.isnan(p))
    for p, q in both:
        assert p <= q <= min(1, p * len(both)) or q == pytest.approx(p)
    assert all(q <= later for (_, q), (_, later) in pairwise(both))


@given(p_values, st.randoms())
@few_examples
def test_holms_correction_does_not_depend_on_the_order(raw, random):
    places = list(range(len(raw)))
    random.shuffle(places)
    corrected = holm(raw)
    assert holm([raw[place] for place in places]) == pytest.approx([corrected[place] for place in places], nan_ok=True)


@given(p_values)
@few_examples
def test_what_holms_correction_leaves_significant_is_what_his_procedure_finds(raw):
    assert {place for place, p in enumerate(holm(raw)) if p < 0.05} == significant(raw)
