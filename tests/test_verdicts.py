"""The statistics behind the verdicts: against SciPy, against the rules in words, and by simulation."""

import math
from itertools import combinations, pairwise

import numpy as np
import pytest
from conftest import ROOT, made_up_record
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

import claims
import records
import verdicts
from verdicts import Number, Pair, Sample

CLAIMS = claims.load()
FIGURE_3 = claims.notebook_defaults("figure_3")
FIGURE_4 = claims.notebook_defaults("figure_4")

accuracy = st.integers(0, 10000).map(lambda number: number / 10000)
few_examples = settings(max_examples=40, deadline=None)


def runs_of(setting, accuracies):
    """Build the records of a setting's runs, with seeds from 0 up."""
    return [made_up_record(setting, seed, accuracy) for seed, accuracy in enumerate(accuracies)]


def confidence(events):
    """Return the 95 % confidence interval of the probability of what happened in a share of many trials."""
    return stats.binomtest(sum(events), len(events)).proportion_ci(0.95)


# Samples


@given(st.lists(accuracy, min_size=2, max_size=12))
@few_examples
def test_mean_deviation_and_interval_are_those_of_scipy(accuracies):
    assume(np.ptp(accuracies) > 0)
    sample = Sample(tuple(accuracies))
    expected = stats.t.interval(0.95, len(accuracies) - 1, loc=np.mean(accuracies), scale=stats.sem(accuracies))
    assert sample.mean == pytest.approx(np.mean(accuracies))
    assert sample.deviation == pytest.approx(np.std(accuracies, ddof=1))
    assert sample.interval == pytest.approx(expected)
    assert sample.num_seeds == len(accuracies)


def test_luck_is_fair_where_numbers_are_ordinary_and_rare_where_they_are_not():
    """Numbers drawn like the runs are found lucky at the 5 % level in about 5 % of reports of seven figures."""
    generator = np.random.default_rng(0)

    def chance(shift):
        runs = generator.normal(0.88, 0.004, (7, 9))
        return verdicts.luck([Number("figure_4", "", row[0] + shift, Sample(tuple(row[1:]))) for row in runs])[1]

    low, high = confidence([chance(0) < 0.05 for _ in range(1000)])
    assert low <= 0.05 <= high
    assert np.mean([chance(0.006) < 0.05 for _ in range(200)]) > 0.9
    assert np.mean([chance(-0.006) > 0.95 for _ in range(200)]) > 0.9


def test_luck_is_unknown_where_no_runs_scatter():
    still = Number("figure_2", "", 0.1, Sample((0.1, 0.1, 0.1)))
    assert np.isnan(verdicts.luck([still, Number("figure_3", "", 0.8, Sample((0.8,)))])).all()


def test_a_prediction_interval_covers_the_next_run_95_times_of_100():
    draws = np.random.default_rng(0).normal(0.88, 0.004, (3000, 6))
    ranges = [Sample(tuple(seen)).range_of_runs for seen in draws[:, :5]]
    covered = [low <= following <= high for (low, high), following in zip(ranges, draws[:, 5], strict=True)]
    low, high = confidence(covered)
    assert low <= 0.95 <= high


@given(st.lists(accuracy, min_size=2, max_size=12))
@few_examples
def test_the_ends_of_the_prediction_interval_are_the_percentiles_2_and_a_half_and_97_and_a_half(accuracies):
    assume(np.ptp(accuracies) > 0)
    sample = Sample(tuple(accuracies))
    assert [sample.percentile(end) for end in sample.range_of_runs] == pytest.approx([0.025, 0.975])
    assert sample.percentile(sample.mean) == pytest.approx(0.5)


def test_equal_numbers_have_no_deviation_and_an_interval_without_width():
    sample = Sample((0.1,) * 3)  # whose mean is not 0.1 to the last digit
    assert sample.deviation == 0
    assert sample.interval == sample.range_of_runs == pytest.approx((0.1, 0.1))
    assert [sample.percentile(value) for value in (0.0999, 0.1, 0.1001)] == [0, 0.5, 1]


@pytest.mark.parametrize("accuracies", [(), (0.5,)])
def test_fewer_than_two_numbers_have_no_deviation(accuracies):
    sample = Sample(accuracies)
    unknown = [sample.deviation, *sample.interval, *sample.range_of_runs, sample.percentile(0.5)]
    assert all(math.isnan(value) for value in unknown)
    assert math.isnan(sample.mean) == (not accuracies)


# Reported numbers


def judge_number(reported, accuracies):
    """Judge a reported accuracy of Figure 4 by made-up runs."""
    known = {"figures": {"figure_4": {"change": "a change", "reported": reported}}, "sweeps": {}}
    (number,) = verdicts.judge_numbers(runs_of(FIGURE_4, accuracies), known)
    assert (number.name, number.what, number.reported) == ("figure_4", "a change", reported)
    return number.verdict


MEASURED = [0.84, 0.85, 0.86]
LOW, HIGH = stats.t.interval(0.95, 2, loc=0.85, scale=0.01 * math.sqrt(1 + 1 / 3))


@pytest.mark.parametrize(
    ("reported", "verdict"),
    [
        (0.85, "holds"),
        (HIGH - 0.0001, "holds"),
        (HIGH + 0.00004, "holds"),  # may have been rounded to it
        (HIGH + 0.0001, "contradicted"),
        (LOW + 0.0001, "holds"),
        (LOW - 0.00004, "holds"),
        (LOW - 0.0001, "contradicted"),
    ],
)
def test_a_number_holds_if_one_more_run_would_end_there_with_95_percent(reported, verdict):
    assert judge_number(reported, MEASURED) == verdict


@pytest.mark.parametrize(("reported", "verdict"), [(0.1, "holds"), (0.1001, "contradicted")])
def test_a_number_holds_against_equal_runs_if_it_is_theirs(reported, verdict):
    assert judge_number(reported, [0.1] * 3) == verdict


@pytest.mark.parametrize("accuracies", [[], [0.85], [0.84, 0.86]])
def test_with_fewer_than_three_runs_no_number_is_judged(accuracies):
    assert judge_number(0.1, accuracies) == "too few runs"


def test_every_reported_setting_is_judged_once_figures_first():
    found = verdicts.judge_numbers([], CLAIMS)
    assert [number.name for number in found[:8]] == list(CLAIMS["figures"])
    stated = [claims.notebook_defaults(name) for name in CLAIMS["figures"]]
    for sweep in CLAIMS["sweeps"]:
        stated += [setting for _, setting, _ in claims.reported_settings(sweep, CLAIMS)]
    assert len(found) == len({records.run_key(setting) for setting in stated})
    assert len({(number.name, number.what) for number in found}) == len(found)


def test_a_number_of_a_sweep_is_named_by_what_it_changes_and_measured_by_its_own_runs():
    setting = FIGURE_4 | {"learning_rate": 0.00001, "augmentation": ["RandomErasing"], "num_epochs": 5}
    changes = {name: setting[name] for name in ("learning_rate", "augmentation", "num_epochs")}
    sweep = {"notebook": "figure_4", "reported": [{**changes, "accuracy": 0.85}]}
    table = runs_of(setting, MEASURED) + runs_of(FIGURE_4, [0.1] * 9)
    (number,) = verdicts.judge_numbers(table, {"figures": {}, "sweeps": {"made_up": sweep}})
    assert (number.name, number.what) == ("made_up", "learning rate 1e-05, augmentation RandomErasing, num epochs 5")
    assert number.sample == Sample(tuple(MEASURED))


def test_numbers_of_a_trial_are_measured_by_the_runs_of_the_trial():
    trial = {"train_limit": 600}
    known = {"figures": {"figure_4": CLAIMS["figures"]["figure_4"]}, "sweeps": {}}
    table = runs_of(FIGURE_4, [0.5]) + runs_of(FIGURE_4 | trial, [0.1, 0.2])
    (number,) = verdicts.judge_numbers(table, known, trial)
    assert number.sample.accuracies == (0.1, 0.2)


# Pairs


@given(st.lists(st.tuples(accuracy, accuracy), min_size=3, max_size=12), st.sampled_from([0.0, 0.01]))
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


@pytest.mark.parametrize("accuracies", [(), (0.8,), (0.8, 0.9)])
def test_with_fewer_than_three_seeds_there_is_no_test(accuracies):
    pair = Pair(accuracies, accuracies)
    assert math.isnan(pair.p)
    assert pair.seeds_needed is None
    assert not pair.is_better
    assert not pair.is_not_better


def test_the_probability_to_beat_is_the_share_of_all_encounters_with_ties_counted_half():
    assert Pair((0.9, 0.8), (0.85, 0.8)).probability == (2 + 0.5) / 4
    assert math.isnan(Pair((), ()).probability)


@given(st.lists(st.tuples(accuracy, accuracy), min_size=1, max_size=8))
@few_examples
def test_the_probabilities_to_beat_and_to_be_beaten_add_up_to_one(both):
    first, second = (tuple(side) for side in zip(*both, strict=True))
    assert Pair(first, second).probability + Pair(second, first).probability == pytest.approx(1)


def test_only_seeds_that_both_settings_have_are_paired():
    table = (
        runs_of(FIGURE_3, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) + runs_of(FIGURE_4, [0.5, 0.7, 0.6, 0.9, 0.8, 0.4, 1])[1:]
    )
    pair = verdicts.pair_of(table, FIGURE_4, FIGURE_3)
    assert (pair.first, pair.second) == ((0.7, 0.6, 0.9, 0.8, 0.4), (0.2, 0.3, 0.4, 0.5, 0.6))
    assert pair.settings == (FIGURE_4, FIGURE_3)


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
    assert confidence([min(verdicts.holm(family)) < 0.05 for family in families]).low <= 0.05


# Holm's correction

p_values = st.lists(st.integers(0, 1000).map(lambda number: number / 1000) | st.just(math.nan), max_size=9)


def significant(p_values):
    """Go down from the smallest p-value as Holm says; return the places of those that are significant at 5 %."""
    found = set()
    tested = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    for step, (p, place) in enumerate(tested):
        if p >= 0.05 / (len(tested) - step):
            break
        found.add(place)
    return found


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
    assert verdicts.holm(raw) == pytest.approx(corrected, nan_ok=True)


@given(p_values)
@few_examples
def test_holms_correction_keeps_nan_and_order_and_raises_the_others_at_most_to_one(raw):
    corrected = verdicts.holm(raw)
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
    corrected = verdicts.holm(raw)
    assert verdicts.holm([raw[place] for place in places]) == pytest.approx(
        [corrected[place] for place in places], nan_ok=True
    )


@given(p_values)
@few_examples
def test_what_holms_correction_leaves_significant_is_what_his_procedure_finds(raw):
    assert {place for place, p in enumerate(verdicts.holm(raw)) if p < 0.05} == significant(raw)


# Verdicts on comparisons

WON = [0.030, 0.031, 0.032, 0.029]
LOST = [-0.030, -0.031, -0.032, -0.029]
NOISY = [0.03, -0.02, 0.01, -0.01]
NEARLY_EQUAL = [0.0002, -0.0002, 0.0001, -0.0001]
SLIGHTLY_WON = [0.0005, 0.0006, 0.0004, 0.0005]
BARELY_WON = [0.0125, 0.0200, 0.0275]  # p = 0.044
FEW = [0.030, 0.031]
WIDEST_NEGLIGIBLE = 0.002 / (stats.t.ppf(0.975, 2) / math.sqrt(3))  # of -1, 0, 1: the interval ends at 0.2 points


def judge(*made_up):
    """Judge claims, each a relation, a margin and for each of its pairs the differences seed by seed.

    The differences are those between runs of Figure 4, at a learning rate of the pair's own, and of Figure 3.
    """
    table, comparisons, num_seeds = [], {}, 0
    for relation, margin, *pairs in made_up:
        first = []
        for differences in pairs:
            change = {"learning_rate": (len(table) + 1) / 1000}
            table += runs_of(FIGURE_4 | change, [0.5 + 0.01 * seed + d for seed, d in enumerate(differences)])
            table.append(made_up_record(FIGURE_4 | change, 1000, 0.9))  # a seed that Figure 3 lacks
            first.append({"notebook": "figure_4", **change})
            num_seeds = max(num_seeds, len(differences))
        than = {"notebook": "figure_3"}
        name = f"claim_{len(comparisons)}"
        comparisons[name] = {"figure": 4, "claim": name, relation: first, "than": than, "margin": margin}
    table += runs_of(FIGURE_3, [0.5 + 0.01 * seed for seed in range(num_seeds)])
    return verdicts.judge_comparisons(table, {"figures": {}, "sweeps": {}, "comparisons": comparisons})


def verdict(relation, *pairs, margin=0.0):
    (comparison,) = judge((relation, margin, *pairs))
    return comparison.verdict


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        (WON, "holds"),
        (SLIGHTLY_WON, "holds"),
        (LOST, "contradicted"),
        (NOISY, "not distinguishable"),
        (NEARLY_EQUAL, "not distinguishable"),
        ([0.0] * 4, "not distinguishable"),
        ([0.01] * 4, "holds"),
        (FEW, "too few runs"),
        ([], "too few runs"),
    ],
)
def test_a_is_better_than_b_if_the_test_finds_it(differences, expected):
    assert verdict("better", differences) == expected


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        (WON, "contradicted"),
        (SLIGHTLY_WON, "contradicted"),
        (LOST, "holds"),
        (NOISY, "not distinguishable"),
        (NEARLY_EQUAL, "holds"),
        ([0.99 * WIDEST_NEGLIGIBLE * d for d in (-1, 0, 1)], "holds"),
        ([1.01 * WIDEST_NEGLIGIBLE * d for d in (-1, 0, 1)], "not distinguishable"),
        ([0.0] * 4, "holds"),
        (FEW, "too few runs"),
        ([], "too few runs"),
    ],
)
def test_a_is_no_better_than_b_if_b_is_better_or_the_gain_is_surely_negligible(differences, expected):
    assert verdict("no_better", differences) == expected


@pytest.mark.parametrize(
    ("margin", "expected"), [(0.02, "holds"), (0.0305, "not distinguishable"), (0.04, "contradicted")]
)
def test_a_difference_is_tested_against_the_margin(margin, expected):
    assert verdict("better", WON, margin=margin) == expected


@pytest.mark.parametrize(("width", "expected"), [(0.99, "holds"), (1.01, "not distinguishable")])
def test_a_gain_over_the_margin_is_negligible_below_0_2_points(width, expected):
    differences = [0.01 + width * WIDEST_NEGLIGIBLE * d for d in (-1, 0, 1)]
    assert verdict("no_better", differences, margin=0.01) == expected


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([WON, WON], "holds"),
        ([WON, LOST], "contradicted"),
        ([WON, NOISY, LOST], "contradicted"),
        ([FEW, LOST], "contradicted"),
        ([WON, NOISY], "not distinguishable"),
        ([WON, FEW], "too few runs"),
        ([NOISY, FEW], "too few runs"),
    ],
)
def test_a_claim_about_several_pairs_holds_for_each_and_is_contradicted_by_one(pairs, expected):
    assert verdict("better", *pairs) == expected
    assert verdict("better", *reversed(pairs)) == expected


def test_p_values_are_corrected_for_all_comparisons_that_could_be_tested():
    alone, *_ = judge(("better", 0.0, BARELY_WON), ("better", 0.0, FEW))
    beside, _ = judge(("better", 0.0, BARELY_WON), ("better", 0.0, NOISY))
    assert alone.verdict == "holds"
    assert beside.verdict == "not distinguishable"
    assert beside.pairs[0].corrected == pytest.approx(2 * alone.pairs[0].corrected)


@pytest.mark.parametrize(
    ("relation", "pairs", "expected"),
    [
        ("better", [WON, NOISY, LOST], LOST),
        ("no_better", [NOISY, WON, LOST], WON),
        ("better", [WON, [-0.5, -0.5]], WON),
        ("better", [[0.1], [0.2]], [0.1]),
    ],
)
def test_the_closest_pair_speaks_most_against_the_claim_and_has_three_seeds_if_one_has(relation, pairs, expected):
    (comparison,) = judge((relation, 0.0, *pairs))
    assert comparison.closest.difference.accuracies == pytest.approx(expected)


def test_no_pair_is_closest_where_none_has_runs():
    (comparison,) = judge(("better", 0.0, []))
    assert comparison.closest is None


def test_a_pair_knows_the_difference_that_the_report_gives_if_it_gives_both_accuracies():
    reported = {
        comparison.name: [pair.reported for pair in comparison.pairs]
        for comparison in verdicts.judge_comparisons([], CLAIMS)
    }
    assert reported["he"] == pytest.approx([0.8508 - 0.8404])
    assert reported["n01_epochs"] == [0, 0]
    assert reported["adam_first_try"] == pytest.approx([0.8789 - 0.1])
    assert reported["epochs"] == pytest.approx([float("nan")] * 2, nan_ok=True)
    assert np.isnan(reported["augmentation"]).tolist() == [True, True, True, False]
    assert np.nanmin(reported["grid"]) == pytest.approx(0.8789 - 0.8688)


def test_settings_of_a_trial_are_compared_by_the_runs_of_the_trial():
    trial = {"train_limit": 600}
    known = {"figures": {}, "sweeps": {}, "comparisons": {"he": CLAIMS["comparisons"]["he"]}}
    table = (
        runs_of(FIGURE_4 | trial, [0.6, 0.7]) + runs_of(FIGURE_3 | trial, [0.5, 0.4]) + runs_of(FIGURE_3, [0.1] * 2)
    )
    (comparison,) = verdicts.judge_comparisons(table, known, trial)
    assert comparison.pairs[0].first == (0.6, 0.7)
    assert comparison.pairs[0].second == (0.5, 0.4)


# The rules once more, literally

NAMES = ("contradicted", "too few runs", "not distinguishable")


def literal_p(first, second, margin):
    """Test a pair by SciPy's paired test, which can't tell what equal differences mean."""
    shifted = np.array(second) + margin
    differences = np.array(first) - shifted
    if len(differences) < 3:
        return math.nan
    if np.ptp(differences) < 1e-9:
        return 1.0 if abs(differences[0]) < 1e-9 else 0.0
    return stats.ttest_rel(first, shifted).pvalue


def literal_verdict(relation, margin, first, second, found):
    """Judge a pair as the rule says; `found` tells whether the corrected test found a difference."""
    differences = np.array(first) - np.array(second)
    if len(differences) < 3:
        return "too few runs"
    is_above = differences.mean() > margin
    if found:
        return "holds" if is_above == (relation == "better") else "contradicted"
    if relation == "no_better":
        highest = differences.mean()
        if np.ptp(differences) > 1e-9:
            _, highest = stats.t.interval(0.95, len(differences) - 1, loc=highest, scale=stats.sem(differences))
        if highest < margin + 0.002:
            return "holds"
    return "not distinguishable"


def literal_verdicts(made_up):
    """Judge claims, each a relation, a margin, and its pairs of accuracies."""
    p = [literal_p(first, second, margin) for _, margin, pairs in made_up for first, second in pairs]
    found, place, judged = significant(p), 0, []
    for relation, margin, pairs in made_up:
        each = set()
        for first, second in pairs:
            each.add(literal_verdict(relation, margin, first, second, place in found))
            place += 1
        judged.append(next((name for name in NAMES if name in each), "holds"))
    return judged


difference = st.sampled_from([-0.02, -0.0201, -0.001, 0.0, 0.0001, 0.001, 0.02, 0.0203]) | st.integers(-300, 300).map(
    lambda number: number / 10000
)
claim = st.tuples(
    st.sampled_from(["better", "no_better"]),
    st.sampled_from([0.0, 0.01]),
    st.lists(st.lists(difference, max_size=5), min_size=1, max_size=3),
)


@given(st.lists(claim, min_size=1, max_size=3))
@settings(max_examples=60, deadline=None)
def test_any_claims_are_judged_as_the_rules_say(made_up):
    judged = judge(*((relation, margin, *pairs) for relation, margin, pairs in made_up))
    pairs = [[(pair.first, pair.second) for pair in comparison.pairs] for comparison in judged]
    expected = literal_verdicts([(*claim[:2], own) for claim, own in zip(made_up, pairs, strict=True)])
    assert [comparison.verdict for comparison in judged] == expected


@pytest.fixture(scope="module")
def table():
    return records.read_records(ROOT / "figures" / records.TABLE)


def accuracies_of(table, setting):
    return {record["seed"]: record["test_accuracy"] for record in records.select(table, setting)}


def test_the_verdicts_on_the_committed_records_are_those_of_the_rules(table):
    made_up = []
    for comparison in CLAIMS["comparisons"].values():
        pairs = []
        for settings_of_pair in claims.compared_settings(comparison, CLAIMS):
            first, second = (accuracies_of(table, setting) for setting in settings_of_pair)
            seeds = sorted(first.keys() & second.keys())
            pairs.append(([first[seed] for seed in seeds], [second[seed] for seed in seeds]))
        made_up.append(("better" if "better" in comparison else "no_better", comparison.get("margin", 0), pairs))
    judged = verdicts.judge_comparisons(table, CLAIMS)
    assert [comparison.name for comparison in judged] == list(CLAIMS["comparisons"])
    assert [comparison.verdict for comparison in judged] == literal_verdicts(made_up)
    assert any(comparison.verdict != "too few runs" for comparison in judged)


def test_the_verdicts_on_the_reported_numbers_are_those_of_the_rule(table):
    stated = [(claims.notebook_defaults(name), figure["reported"]) for name, figure in CLAIMS["figures"].items()]
    for sweep in CLAIMS["sweeps"]:
        stated += [(setting, reported) for _, setting, reported in claims.reported_settings(sweep, CLAIMS)]
    expected = {}
    for setting, reported in stated:
        measured = list(accuracies_of(table, setting).values())
        verdict = "too few runs"
        if len(measured) >= 3:
            low = high = np.mean(measured)
            if np.ptp(measured) > 0:
                scale = np.std(measured, ddof=1) * math.sqrt(1 + 1 / len(measured))
                low, high = stats.t.interval(0.95, len(measured) - 1, loc=np.mean(measured), scale=scale)
            verdict = "holds" if low - 0.00005 <= reported <= high + 0.00005 else "contradicted"
        expected.setdefault(records.run_key(setting), verdict)
    assert [number.verdict for number in verdicts.judge_numbers(table, CLAIMS)] == list(expected.values())


# Effects

FACTORS = list(CLAIMS["factorial"]["factors"])
GROUPS = [(name,) for name in FACTORS] + list(combinations(FACTORS, 2))


def factorial_table(effects, num_seeds, **changes):
    """Build all runs of the factorial from effects, each half added at level 1 and taken at -1, and a seed's own mean.

    With each seed all effects grow by their own size.
    """
    table = []
    for levels, setting in claims.factorial_settings(CLAIMS):
        level_of = dict(zip(FACTORS, levels, strict=True))
        switched = sum(effect / 2 * math.prod(level_of[name] for name in group) for group, effect in effects.items())
        accuracies = [0.5 + 0.03 * seed + (seed + 1) * switched for seed in range(num_seeds)]
        table += runs_of(setting | changes, accuracies)
    return table


@given(st.lists(st.floats(-0.01, 0.01), min_size=len(GROUPS), max_size=len(GROUPS)))
@settings(max_examples=10, deadline=None)
def test_effects_of_one_factor_and_of_two_are_recovered_exactly(sizes):
    effects = dict(zip(GROUPS, sizes, strict=True))
    found = verdicts.factorial_effects(factorial_table(effects, num_seeds=3), CLAIMS)
    assert [effect.factors for effect in found] == GROUPS
    for effect in found:
        size = effects[effect.factors]
        assert effect.sample.accuracies == pytest.approx((size, 2 * size, 3 * size), abs=1e-12)


def test_seeds_that_lack_a_run_of_the_factorial_are_left_out():
    effects = {("Adam",): 0.02, ("Adam", "dropout"): 0.01}
    table = factorial_table(effects, num_seeds=3)
    table.remove(next(record for record in table if record["seed"] == 1))
    for effect in verdicts.factorial_effects(table, CLAIMS):
        size = effects.get(effect.factors, 0)
        assert effect.sample.accuracies == pytest.approx((size, 3 * size), abs=1e-12)
    assert all(effect.sample.num_seeds == 0 for effect in verdicts.factorial_effects([], CLAIMS))


def test_effects_of_a_trial_come_from_the_runs_of_the_trial():
    table = factorial_table({("batch norm",): 0.02}, 2, train_limit=600)
    assert all(effect.sample.num_seeds == 0 for effect in verdicts.factorial_effects(table, CLAIMS))
    found = verdicts.factorial_effects(table, CLAIMS, {"train_limit": 600})
    assert next(e for e in found if e.factors == ("batch norm",)).sample.mean == pytest.approx(0.03)


# Selection

TEST = [[0.80, 0.82, 0.81], [0.83, 0.80, 0.82], [0.81, 0.80, 0.84]]  # a row a seed, a column a setting
VALIDATION = [[0.9, 0.8, 0.7], [0.7, 0.8, 0.9], [0.9, 0.7, 0.8]]
DROPOUTS = {"notebook": "figure_7", "vary": {"dropout": [0.1, 0.2, 0.3]}}


def select_by(test, validation, sweep=DROPOUTS):
    """Choose among the three settings of a sweep with made-up test and validation accuracies."""
    known = {"held_out": ["made_up"], "sweeps": {"made_up": sweep}}
    table = [
        made_up_record(setting, seed, test[seed][i], validation_accuracies=[validation[seed][i]] * 15)
        for i, setting in enumerate(claims.held_out_settings("made_up", known))
        for seed in range(len(test))
    ]
    return table, known


def test_the_best_by_test_and_by_validation_images_are_chosen_seed_by_seed():
    (found,) = verdicts.judge_selection(*select_by(TEST, VALIDATION))
    assert (found.sweep, found.num_settings, found.seeds) == ("made_up", 3, (0, 1, 2))
    assert found.by_test == (0.82, 0.83, 0.84)
    assert found.by_validation == (0.80, 0.82, 0.81)
    assert found.by_test_elsewhere == pytest.approx((0.80, 0.805, 0.815))
    assert found.gain.accuracies == pytest.approx((0.02, 0.01, 0.03))
    assert found.flattery.accuracies == pytest.approx((0.02, 0.025, 0.025))


def test_seeds_that_lack_a_run_of_the_sweep_are_left_out_and_one_seed_is_not_enough():
    table, known = select_by(TEST, VALIDATION)
    lacking = [record for record in table if (record["seed"], record["dropout"]) != (1, 0.2)]
    (found,) = verdicts.judge_selection(lacking, known)
    assert found.seeds == (0, 2)
    assert found.by_test_elsewhere == pytest.approx((0.80, 0.81))
    assert verdicts.judge_selection([record for record in lacking if record["seed"] != 2], known) == []


def test_runs_that_hold_no_images_out_are_not_chosen_from():
    table, known = select_by(TEST, VALIDATION)
    assert verdicts.judge_selection([{**record, "num_validation": 0} for record in table], known) == []


def test_settings_of_a_trial_are_chosen_among_by_the_runs_of_the_trial():
    table, known = select_by(TEST, VALIDATION)
    table = [{**record, "train_limit": 600} for record in table]
    assert verdicts.judge_selection(table, known) == []
    (found,) = verdicts.judge_selection(table, known, {"train_limit": 600})
    assert found.by_test == (0.82, 0.83, 0.84)


def test_the_number_of_epochs_is_chosen_from_the_course_of_one_run():
    known = {"held_out": ["epochs"], "sweeps": {"epochs": {"notebook": "figure_7", "vary": {"num_epochs": [1, 2]}}}}
    _, longest = claims.held_out_settings("epochs", known)
    curves = {"test_accuracies": [0.85, 0.80], "validation_accuracies": [0.6, 0.7]}
    table = [made_up_record(longest, seed, 0.80, **curves) for seed in range(2)]
    (found,) = verdicts.judge_selection(table, known)
    assert found.by_test == (0.85, 0.85)
    assert found.by_validation == (0.80, 0.80)


rows = st.lists(st.lists(accuracy, min_size=3, max_size=3), min_size=2, max_size=2)


@given(rows, rows)
@few_examples
def test_choosing_by_the_test_images_never_gives_less_on_them_and_nothing_more_if_both_agree(test, validation):
    (found,) = verdicts.judge_selection(*select_by(test, validation))
    assert min(found.gain.accuracies) >= 0
    (agreeing,) = verdicts.judge_selection(*select_by(test, test))
    assert agreeing.gain.accuracies == (0, 0)
