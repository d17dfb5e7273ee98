"""The verdicts on the claims: against the rules in words, and against a second, literal version of them."""

import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import made_up_record, study_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from study import claims, notebooks, verdicts
from study.claims import Claim, Reported, Sweep
from study.record import run_key
from study.samples import Sample
from study.study import Study
from study.table import select
from study.verdicts import Number
from tests.made_up import confidence, runs_of, significant

CLAIMS = claims.load()
NONE = replace(CLAIMS, figures={}, sweeps={}, comparisons={})
FIGURE_3 = notebooks.defaults("figure_3")
FIGURE_4 = notebooks.defaults("figure_4")


@pytest.fixture(scope="module")
def committed():
    return Study.read()


# Reported numbers


def judge_number(reported, accuracies):
    """Judge a reported accuracy of Figure 4 by made-up runs."""
    stated = {"figure_4": replace(CLAIMS.figures["figure_4"], change="a change", reported=reported)}
    (number,) = verdicts.judge_numbers(study_of(runs_of(FIGURE_4, accuracies), replace(NONE, figures=stated)))
    assert (number.name, number.label, number.reported) == ("figure_4", "Figure 4: a change", reported)
    assert number.setting == FIGURE_4
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
    numbers = verdicts.judge_numbers(study_of([]))
    assert [number.name for number in numbers[:8]] == list(CLAIMS.figures)
    stated = [figure.setting for figure in CLAIMS.figures.values()]
    stated += [reported.setting for sweep in CLAIMS.sweeps.values() for reported in sweep.reported]
    assert len(numbers) == len({run_key(setting) for setting in stated})
    assert len({number.label for number in numbers}) == len(numbers)


def test_a_number_of_a_sweep_is_labelled_by_what_it_changes_and_measured_by_its_own_runs():
    changes = {"learning_rate": 0.00001, "augmentation": ["RandomErasing", "RandomAffine"], "num_epochs": 5}
    setting = FIGURE_4 | changes
    sweep = Sweep("made_up", "Made up", "figure_4", {}, (setting,), (Reported(changes, setting, 0.85),))
    table = runs_of(setting, MEASURED) + runs_of(FIGURE_4, [0.1] * 9)
    (number,) = verdicts.judge_numbers(study_of(table, replace(NONE, sweeps={"made_up": sweep})))
    assert (number.name, number.reported, number.setting) == ("made_up", 0.85, setting)
    assert number.label == "Made up: learning rate 0.00001, Erasing, Affine, epochs 5"
    assert number.sample == Sample(tuple(MEASURED))


def test_numbers_of_a_trial_are_measured_by_the_runs_of_the_trial():
    trial = {"train_limit": 600}
    stated = replace(NONE, figures={"figure_4": CLAIMS.figures["figure_4"]})
    table = runs_of(FIGURE_4, [0.5]) + runs_of(FIGURE_4 | trial, [0.1, 0.2])
    (number,) = verdicts.judge_numbers(study_of(table, stated, trial))
    assert number.sample.accuracies == (0.1, 0.2)


def number_of(name, reported, *accuracies):
    return Number(name, "", reported, Sample(accuracies), FIGURE_4)


def test_luck_is_fair_where_numbers_are_ordinary_and_rare_where_they_are_not():
    """Numbers drawn like the runs are found lucky at the 5 % level in about 5 % of reports of seven figures."""
    generator = np.random.default_rng(0)

    def chance(shift):
        runs = generator.normal(0.88, 0.004, (7, 9))
        return verdicts.luck([number_of("figure_4", row[0] + shift, *row[1:]) for row in runs])[1]

    low, high = confidence([chance(0) < 0.05 for _ in range(1000)])
    assert low <= 0.05 <= high
    assert np.mean([chance(0.006) < 0.05 for _ in range(200)]) > 0.9
    assert np.mean([chance(-0.006) > 0.95 for _ in range(200)]) > 0.9


def test_luck_is_unknown_where_no_runs_scatter():
    still = number_of("figure_2", 0.1, 0.1, 0.1, 0.1)
    assert np.isnan(verdicts.luck([still, number_of("figure_3", 0.8, 0.8)])).all()


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
    table, stated, num_seeds = [], {}, 0
    for relation, margin, *pairs in made_up:
        settings_of_pairs = []
        for differences in pairs:
            setting = FIGURE_4 | {"learning_rate": (len(table) + 1) / 1000}
            table += runs_of(setting, [0.5 + 0.01 * seed + d for seed, d in enumerate(differences)])
            table.append(made_up_record(setting, 1000, 0.9))  # a seed that Figure 3 lacks
            settings_of_pairs.append((setting, FIGURE_3))
            num_seeds = max(num_seeds, len(differences))
        name = f"claim_{len(stated)}"
        stated[name] = Claim(name, 4, f"text of {name}", relation, tuple(settings_of_pairs), margin)
    table += runs_of(FIGURE_3, [0.5 + 0.01 * seed for seed in range(num_seeds)])
    return verdicts.judge_comparisons(study_of(table, replace(NONE, comparisons=stated)))


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


def test_a_comparison_has_the_words_the_settings_and_the_margin_of_its_claim():
    (comparison,) = judge(("no_better", 0.01, WON))
    assert (comparison.name, comparison.claim, comparison.figure) == ("claim_0", "text of claim_0", 4)
    assert comparison.relation == "no_better"
    (pair,) = comparison.pairs
    assert pair.margin == 0.01


def test_p_values_are_corrected_for_all_comparisons_that_could_be_tested():
    alone, *_ = judge(("better", 0.0, BARELY_WON), ("better", 0.0, FEW))
    beside, _ = judge(("better", 0.0, BARELY_WON), ("better", 0.0, NOISY))
    assert alone.verdict == "holds"
    assert beside.verdict == "not distinguishable"
    assert beside.pairs[0].corrected == pytest.approx(2 * alone.pairs[0].corrected)
    assert (alone.pairs[0].num_tested, beside.pairs[0].num_tested) == (1, 2)


@pytest.mark.parametrize(
    ("relation", "pairs", "expected"),
    [
        ("better", [WON, NOISY, LOST], LOST),
        ("no_better", [NOISY, WON, LOST], WON),
        ("better", [WON, [-0.5, -0.5]], WON),
        ("better", [[0.1], [0.2]], [0.1]),
    ],
)
def test_the_least_favourable_pair_speaks_most_against_the_claim_and_has_three_seeds_if_one_has(
    relation, pairs, expected
):
    (comparison,) = judge((relation, 0.0, *pairs))
    assert comparison.least_favourable.difference.accuracies == pytest.approx(expected)


def test_no_pair_is_least_favourable_where_none_has_runs():
    (comparison,) = judge(("better", 0.0, []))
    assert comparison.least_favourable is None


def test_a_pair_knows_the_difference_that_the_report_gives_if_it_gives_both_accuracies():
    reported = {
        comparison.name: [pair.reported for pair in comparison.pairs]
        for comparison in verdicts.judge_comparisons(study_of([]))
    }
    assert reported["he"] == pytest.approx([0.8508 - 0.8404])
    assert reported["n01_epochs"] == [0, 0]
    assert reported["adam_first_try"] == pytest.approx([0.8789 - 0.1])
    assert reported["epochs"] == pytest.approx([float("nan")] * 2, nan_ok=True)
    assert np.isnan(reported["augmentation"]).tolist() == [True, True, True, False]
    assert np.nanmin(reported["grid"]) == pytest.approx(0.8789 - 0.8688)


def test_settings_of_a_trial_are_compared_by_the_runs_of_the_trial():
    trial = {"train_limit": 600}
    stated = replace(NONE, comparisons={"he": CLAIMS.comparisons["he"]})
    table = (
        runs_of(FIGURE_4 | trial, [0.6, 0.7]) + runs_of(FIGURE_3 | trial, [0.5, 0.4]) + runs_of(FIGURE_3, [0.1] * 2)
    )
    (comparison,) = verdicts.judge_comparisons(study_of(table, stated, trial))
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


def literal_verdict(relation, margin, first, second, is_significant):
    """Judge a pair as the rule says, given whether the corrected test finds a difference."""
    differences = np.array(first) - np.array(second)
    if len(differences) < 3:
        return "too few runs"
    is_above = differences.mean() > margin
    if is_significant:
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
    significant_places, place, judged = significant(p), 0, []
    for relation, margin, pairs in made_up:
        each = set()
        for first, second in pairs:
            each.add(literal_verdict(relation, margin, first, second, place in significant_places))
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


def test_the_verdicts_on_the_committed_records_are_those_of_the_rules(committed):
    made_up = []
    for claim in CLAIMS.comparisons.values():
        pairs = []
        for settings_of_pair in claim.pairs:
            first, second = (accuracies_of(committed, setting) for setting in settings_of_pair)
            seeds = sorted(first.keys() & second.keys())
            pairs.append(([first[seed] for seed in seeds], [second[seed] for seed in seeds]))
        made_up.append((claim.relation, claim.margin, pairs))
    judged = verdicts.judge_comparisons(committed)
    assert [comparison.name for comparison in judged] == list(CLAIMS.comparisons)
    assert [comparison.verdict for comparison in judged] == literal_verdicts(made_up)
    assert any(comparison.verdict != "too few runs" for comparison in judged)


def accuracies_of(study, setting):
    return {record["seed"]: record["test_accuracy"] for record in select(study.records, setting)}


def test_the_verdicts_on_the_reported_numbers_are_those_of_the_rule(committed):
    stated = [(figure.setting, figure.reported) for figure in CLAIMS.figures.values()]
    for sweep in CLAIMS.sweeps.values():
        stated += [(reported.setting, reported.accuracy) for reported in sweep.reported]
    expected = {}
    for setting, reported in stated:
        measured = list(accuracies_of(committed, setting).values())
        verdict = "too few runs"
        if len(measured) >= 3:
            low = high = np.mean(measured)
            if np.ptp(measured) > 0:
                scale = np.std(measured, ddof=1) * math.sqrt(1 + 1 / len(measured))
                low, high = stats.t.interval(0.95, len(measured) - 1, loc=np.mean(measured), scale=scale)
            verdict = "holds" if low - 0.00005 <= reported <= high + 0.00005 else "contradicted"
        expected.setdefault(run_key(setting), verdict)
    assert [number.verdict for number in verdicts.judge_numbers(committed)] == list(expected.values())
