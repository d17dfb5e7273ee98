"""The verdicts on the claims: which runs count, how they are compared, and a second, literal version of the rule."""

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from conftest import made_up_record, study_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from study import claims, notebooks, verdicts
from study.claims import Claim
from study.record import made_on
from study.study import Study
from study.table import select
from tests.made_up import runs_of

CLAIMS = claims.load()
FEW = replace(CLAIMS.protocol, seeds=range(100, 104), besides={})
NONE = replace(CLAIMS, figures={}, sweeps={}, comparisons={}, protocol=FEW)
FIGURE_3 = notebooks.defaults("figure_3")
FIGURE_4 = notebooks.defaults("figure_4")


@pytest.fixture(scope="module")
def committed():
    return Study.read()


# What the rule says

WON = [0.030, 0.031, 0.032, 0.029]
LOST = [-0.030, -0.031, -0.032, -0.029]
NOISY = [0.03, -0.02, 0.01, -0.01]
NEARLY_EQUAL = [0.0002, -0.0002, 0.0001, -0.0001]
SLIGHTLY_WON = [0.0005, 0.0006, 0.0004, 0.0005]
ONLY_TWO = [0.030, 0.031]


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
        runs = (("figure_3", FIGURE_3), *(("figure_4", setting) for setting, _ in settings_of_pairs))
        stated[name] = Claim(name, 4, f"text of {name}", "", relation, runs, tuple(settings_of_pairs), margin, False)
    table += runs_of(FIGURE_3, [0.5 + 0.01 * seed for seed in range(num_seeds)])
    return verdicts.judge_comparisons(study_of(table, replace(NONE, comparisons=stated)))


def verdict(relation, *pairs, margin=0.0):
    (comparison,) = judge((relation, margin, *pairs))
    return comparison.verdict


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        (WON, "holds"),
        (SLIGHTLY_WON, "holds"),  # a small gain, but one that is sure
        (LOST, "contradicted"),
        (NOISY, "undecided"),
        (NEARLY_EQUAL, "practically equal"),
        ([0.0] * 4, "practically equal"),
        ([0.01] * 4, "holds"),
        (ONLY_TWO, "too few runs"),
        ([], "too few runs"),
    ],
)
def test_a_is_better_than_b_if_the_gain_is_surely_above_nothing(differences, expected):
    assert verdict("better", differences) == expected


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        (WON, "contradicted"),
        (SLIGHTLY_WON, "holds"),  # a gain that doesn't count
        (LOST, "holds"),
        (NOISY, "undecided"),
        (NEARLY_EQUAL, "holds"),
        ([0.0] * 4, "holds"),
        (ONLY_TWO, "too few runs"),
    ],
)
def test_a_is_no_better_than_b_if_the_gain_is_surely_below_what_counts(differences, expected):
    assert verdict("no_better", differences) == expected


@pytest.mark.parametrize(("margin", "expected"), [(0.02, "holds"), (0.0305, "undecided"), (0.04, "contradicted")])
def test_a_difference_is_tested_against_the_margin(margin, expected):
    assert verdict("better", WON, margin=margin) == expected


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([WON, WON], "holds"),
        ([WON, LOST], "contradicted"),
        ([WON, NOISY, LOST], "contradicted"),
        ([WON, NEARLY_EQUAL], "practically equal"),
        ([WON, NOISY], "undecided"),
    ],
)
def test_a_claim_about_several_pairs_holds_for_each_and_is_contradicted_by_one(pairs, expected):
    assert verdict("better", *pairs) == expected
    assert verdict("better", *reversed(pairs)) == expected


def test_late_accuracies_are_compared_and_those_after_the_last_epoch_beside_them():
    curves = {"test_accuracies": [0.1, 0.6, 0.7, 0.8], "test_accuracy": 0.8}
    table = [made_up_record(FIGURE_4, seed) | curves for seed in range(3)] + runs_of(FIGURE_3, [0.5] * 3)
    study = study_of(table, replace(NONE, comparisons={"he": CLAIMS.comparisons["he"]}))
    (late,), (last,) = study.comparisons, study.comparisons_after_the_last_epoch
    assert late.pairs[0].difference.mean == pytest.approx(0.7 - 0.5)
    assert last.pairs[0].difference.mean == pytest.approx(0.8 - 0.5)


def test_a_relative_margin_is_a_share_of_the_other_accuracy():
    """Half a point is less than 1 point, and more than 1 % of an accuracy of 0.4."""
    noise = np.array([-0.0001, 0, 0.0001, 0])
    table = runs_of(FIGURE_4, list(0.406 + noise)) + runs_of(FIGURE_3, [0.4] * 4)
    stated = {name: CLAIMS.comparisons[name] for name in ("he", "he_relative")}
    absolute, relative = verdicts.judge_comparisons(study_of(table, replace(NONE, comparisons=stated)))
    assert (absolute.verdict, relative.verdict) == ("contradicted", "holds")
    assert relative.least_favourable.difference.mean == pytest.approx(0.015)


def test_accuracies_that_rise_on_the_whole_are_told_from_those_that_rise_at_each_step():
    claim = CLAIMS.comparisons["step_by_step"]
    heights = [0.1, 0.3, 0.2, 0.4, 0.5, 0.6, 0.7]
    table = []
    for (_, setting), height in zip(claim.runs, heights, strict=True):
        table += runs_of(setting, [height + 0.001 * seed**2 for seed in range(4)])
    stated = {name: CLAIMS.comparisons[name] for name in ("step_by_step", "every_step")}
    rising, ladder = verdicts.judge_comparisons(study_of(table, replace(NONE, comparisons=stated)))
    assert (rising.verdict, ladder.verdict) == ("holds", "contradicted")
    assert rising.share_of_ladders == 0
    assert rising.p_of_page < 0.001
    assert rising.least_favourable.difference.mean == pytest.approx(6 * np.polyfit(range(7), heights, 1)[0])


def test_outcomes_that_are_the_same_with_every_seed_are_called_deterministic_and_not_corrected_for():
    table = runs_of(FIGURE_4, [0.1] * 4) + runs_of(FIGURE_3, [0.1] * 4)
    stated = {"he": CLAIMS.comparisons["he"], "xavier": replace(CLAIMS.comparisons["he"], relation="no_better")}
    for comparison in verdicts.judge_comparisons(study_of(table, replace(NONE, comparisons=stated))):
        assert comparison.is_deterministic
        assert math.isnan(comparison.corrected)
        assert comparison.times == 1
    (varied,) = judge(("better", 0.0, WON))
    assert not varied.is_deterministic


def test_p_values_are_corrected_for_all_claims_and_not_for_their_pairs():
    (alone,) = judge(("better", 0.0, WON))
    assert alone.corrected == pytest.approx(2 * stats.ttest_1samp(WON, 0, alternative="greater").pvalue)
    beside, *_ = judge(("better", 0.0, WON), ("better", 0.0, NOISY, NOISY, NOISY), ("better", 0.0, ONLY_TWO))
    assert (alone.times, beside.times) == (1, 2)  # what can't be tested doesn't count
    assert beside.corrected == pytest.approx(2 * alone.corrected)


def test_a_comparison_has_its_claim_and_the_label_of_its_least_favourable_pair():
    (comparison,) = judge(("better", 0.01, WON, LOST))
    assert comparison.stated.text == "text of claim_0"
    pair = comparison.least_favourable
    assert pair.difference.accuracies == pytest.approx(LOST)
    assert pair.margin == 0.01
    assert pair.label == (
        "initializer kaiming_normal_, learning rate 0.006 against initializer xavier_normal_, learning rate 0.1"
    )
    (empty,) = judge(("better", 0.0, []))
    assert empty.least_favourable is None


def test_a_pair_knows_the_difference_that_the_report_gives_if_it_gives_both_accuracies():
    judged = verdicts.judge_comparisons(study_of([]))
    reported = {comparison.stated.name: [pair.reported for pair in comparison.pairs] for comparison in judged}
    assert reported["he"] == pytest.approx([0.8508 - 0.8404])
    assert reported["he_relative"] == pytest.approx([0.8508 / 0.8404 - 1])
    assert reported["adam_first_try"] == pytest.approx([0.8789 - 0.1])
    assert reported["augmentation"] == pytest.approx([0.8868 - 0.8797])
    assert np.isnan(reported["augmentation_parts"]).all()
    assert np.nanmin(reported["grid"]) == pytest.approx(0.8789 - 0.8688)


# Which runs count


def study_of_runs(*groups):
    """Build a study of Figures 3 and 4; each group is a range of seeds, and the gain and the processor of its runs."""
    table = []
    for seeds, gain, processor in groups:
        for seed in seeds:
            noise = 0.0001 * (seed % 3)
            table.append(made_up_record(FIGURE_3, seed, 0.5, processor=processor[0]))
            table.append(made_up_record(FIGURE_4, seed, 0.5 + gain + noise, processor=processor[-1]))
    return study_of(table, replace(NONE, comparisons={"he": CLAIMS.comparisons["he"]}))


def judged(study):
    (comparison,) = study.comparisons
    return comparison.verdict, comparison.exploratory, comparison.num_seeds


def test_the_protocols_seeds_alone_decide_once_all_are_there():
    early, fresh = (range(4), 0.1, ["a"]), (range(100, 104), -0.1, ["a"])
    assert judged(study_of_runs(early)) == ("holds", True, 4)
    assert judged(study_of_runs(early, fresh)) == ("contradicted", False, 4)
    assert judged(study_of_runs(fresh)) == ("contradicted", False, 4)


def test_until_all_of_the_protocols_seeds_are_there_none_of_them_is_looked_at():
    early, part = (range(4), 0.1, ["a"]), (range(100, 103), -0.1, ["a"])
    assert judged(study_of_runs(early, part)) == ("holds", True, 4)
    assert judged(study_of_runs(part)) == ("too few runs", True, 0)


def test_a_seed_counts_only_if_its_runs_were_made_on_one_kind_of_processor():
    early = range(4), 0.1, ["a"]
    assert judged(study_of_runs(early, (range(100, 104), -0.1, ["a", "b"]))) == ("holds", True, 4)
    two_kinds = (range(100, 102), -0.1, ["a"]), (range(102, 104), -0.1, ["b"])
    assert judged(study_of_runs(early, *two_kinds)) == ("contradicted", False, 4)


def test_of_two_kinds_of_processor_the_one_with_most_of_the_protocols_runs_counts():
    all_of_it = range(100, 104), -0.1, ["a"]
    assert judged(study_of_runs(all_of_it, (range(100, 103), 0.1, ["b"]))) == ("contradicted", False, 4)
    assert judged(study_of_runs((range(100, 103), 0.1, ["b"]), all_of_it)) == ("contradicted", False, 4)
    assert judged(study_of_runs((range(103), 0.1, ["b"]), all_of_it)) == ("contradicted", False, 4)


def test_a_pair_is_never_of_two_kinds_of_processor_though_both_have_runs_of_the_seed():
    study = study_of_runs((range(100, 104), -0.1, ["a"]), (range(100, 104), 0.1, ["b"]))
    lost = ("xavier_normal_", "a", 100), ("kaiming_normal_", "b", 101)
    kept = [r for r in study.records if (r["initializer"], r["processor"], r["seed"]) not in lost]
    (comparison,) = study_of(kept, study.claims).comparisons
    signs = [round(float(difference), 1) for difference in comparison.pairs[0].difference.accuracies]
    assert (comparison.exploratory, signs) == (False, [0.1, -0.1, -0.1, -0.1])


def test_a_claim_is_exploratory_while_one_of_its_settings_lacks_runs():
    study = study_of_runs((range(4), 0.1, ["a"]), (range(100, 104), -0.1, ["a"]))
    kept = [r for r in study.records if (r["initializer"], r["seed"]) != ("xavier_normal_", 103)]
    without = study_of(kept, study.claims)
    assert judged(without) == ("holds", True, 4)
    assert [record["seed"] for record in without.records_of(FIGURE_4)] == [100, 101, 102, 103]  # alone it has all


def test_a_trial_has_its_own_runs_and_decides_nothing():
    trial = {"train_limit": 600}
    stated = replace(NONE, comparisons={"he": CLAIMS.comparisons["he"]})
    table = (
        runs_of(FIGURE_4 | trial, [0.6, 0.7]) + runs_of(FIGURE_3 | trial, [0.5, 0.4]) + runs_of(FIGURE_3, [0.1] * 2)
    )
    (comparison,) = verdicts.judge_comparisons(study_of(table, stated, trial))
    assert comparison.pairs[0].first == pytest.approx((0.6, 0.7))
    assert comparison.pairs[0].second == pytest.approx((0.5, 0.4))
    assert comparison.exploratory


# The rule once more, literally


def one_sided(differences, threshold, side):
    """Test whether a mean lies above or below a threshold; equal differences are sure."""
    shifted = [d - threshold for d in differences]
    if max(shifted) - min(shifted) < 1e-12:
        return 0.0 if (shifted[0] > 1e-12 if side == "greater" else shifted[0] < -1e-12) else 1.0
    t = np.mean(shifted) / (np.std(shifted, ddof=1) / math.sqrt(len(shifted)))
    return stats.t.sf(t, len(shifted) - 1) if side == "greater" else stats.t.cdf(t, len(shifted) - 1)


def literal(relation, pairs):
    """Return the p-values of a claim's decisions; pairs are lists of differences less the margin."""
    k = len(pairs)
    if relation == "no_better":
        return {
            "holds": max(one_sided(pair, 0.002, "less") for pair in pairs),
            "contradicted": min(1, k * min(one_sided(pair, 0, "greater") for pair in pairs)),
        }
    not_worse = max(one_sided(pair, -0.002, "greater") for pair in pairs)
    not_better = min(1, k * min(one_sided(pair, 0.002, "less") for pair in pairs))
    return {
        "holds": max(one_sided(pair, 0, "greater") for pair in pairs),
        "contradicted": min(1, k * min(one_sided(pair, 0, "less") for pair in pairs)),
        "practically equal": max(not_worse, not_better),
    }


def literal_verdicts(claims_and_pairs):
    """Judge claims, each a relation, whether it is tested, and its pairs."""
    decisions = [literal(relation, pairs) for relation, _, pairs in claims_and_pairs]
    p = [min(1, 2 * min(own.values())) for own in decisions]
    tested = sorted((value, i) for i, value in enumerate(p) if claims_and_pairs[i][1])
    levels, stopped = dict.fromkeys(range(len(p)), 0.05), None
    for rank, (value, i) in enumerate(tested):
        stopped = stopped or (0.05 / (len(tested) - rank) if value > 0.05 / (len(tested) - rank) else None)
        levels[i] = stopped or 0.05 / (len(tested) - rank)
    return [
        next((name for name, value in own.items() if 2 * value <= levels[i]), "undecided")
        for i, own in enumerate(decisions)
    ]


difference = st.sampled_from([-0.02, -0.0201, -0.001, 0.0, 0.0001, 0.001, 0.02, 0.0203]) | st.integers(-300, 300).map(
    lambda number: number / 10000
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["better", "no_better"]),
            st.sampled_from([0.0, 0.01]),
            st.lists(st.lists(difference, min_size=4, max_size=4), min_size=1, max_size=3),
        ),
        min_size=1,
        max_size=3,
    )
)
@settings(max_examples=60, deadline=None)
def test_any_claims_are_judged_as_the_rule_says(made_up):
    comparisons = judge(*((relation, margin, *pairs) for relation, margin, pairs in made_up))
    literally = [
        (c.stated.relation, not c.is_deterministic, [list(pair.excess) for pair in c.pairs]) for c in comparisons
    ]
    assert [c.verdict for c in comparisons] == literal_verdicts(literally)


def late(record):
    return sum(record["test_accuracies"][-3:]) / 3


def late_by_seed(records, claim):
    return {str(s): {record["seed"]: late(record) for record in select(records, s)} for _, s in claim.runs}


def test_the_verdicts_on_the_committed_records_are_those_of_the_rule_taken_literally(committed):
    literally, names = [], []
    fresh = set(range(100, 132))
    earlier, of_kinds = [], defaultdict(list)
    for record in committed.records:
        (of_kinds[made_on(record)] if record["seed"] in fresh else earlier).append(record)
    for claim in CLAIMS.comparisons.values():
        runs = late_by_seed(earlier, claim)
        for records in sorted(of_kinds.values(), key=len):  # the kind that made the most comes last, and counts
            of_kind = late_by_seed(records, claim)
            whole = fresh.intersection(*of_kind.values())
            for setting, own in of_kind.items():
                runs[setting] |= {seed: own[seed] for seed in whole}
        seeds = set.intersection(*(set(own) for own in runs.values()))
        seeds = sorted(fresh if fresh <= seeds else seeds - fresh)
        if len(seeds) < 3:
            continue
        names.append(claim.name)
        if claim.relation == "rising":
            steps = range(len(claim.runs))
            columns = [[runs[str(setting)][seed] for _, setting in claim.runs] for seed in seeds]
            literally.append(("better", True, [[steps[-1] * np.polyfit(steps, column, 1)[0] for column in columns]]))
            continue
        pairs, scatters = [], False
        for first, second in claim.pairs:
            a, b = ([runs[str(setting)][seed] for seed in seeds] for setting in (first, second))
            scatters = scatters or np.std(a) > 1e-12 or np.std(b) > 1e-12
            scale = b if claim.relative else [1] * len(b)
            pairs.append([(x - y) / z - claim.margin for x, y, z in zip(a, b, scale, strict=True)])
        literally.append((claim.relation, scatters, pairs))
    judged_ones = [comparison for comparison in committed.comparisons if comparison.verdict != "too few runs"]
    assert [comparison.stated.name for comparison in judged_ones] == names
    assert [comparison.verdict for comparison in judged_ones] == literal_verdicts(literally)
    assert len(names) >= 30


def test_the_committed_corrected_p_values_are_holms(committed):
    tested = [comparison for comparison in committed.comparisons if not math.isnan(comparison.p)]
    corrected = multipletests([comparison.p for comparison in tested], method="holm")[1]
    assert [comparison.corrected for comparison in tested] == pytest.approx(list(corrected))


def test_no_interval_in_the_table_contradicts_its_verdict(committed):
    for comparison in committed.comparisons:
        low, high = (end - comparison.pairs[0].margin for end in comparison.interval)
        if comparison.stated.relation == "no_better":
            expected = "holds" if high < 0.002 else "contradicted" if low > 0 else "undecided"
        else:
            equal = "practically equal" if -0.002 < low and high < 0.002 else "undecided"
            expected = "holds" if low > 0 else "contradicted" if high < 0 else equal
        assert comparison.verdict in (expected, "too few runs"), comparison.stated.name


def test_the_rule_in_words_has_the_protocols_numbers():
    protocol, words = CLAIMS.protocol, verdicts.__doc__
    assert protocol.late_epochs == 3
    assert "last three epochs" in words
    assert f"{100 * protocol.epsilon:g} points" in words
    assert f"{100 * protocol.level:g} %" in words
