"""The report's sentences with numbers, on made-up results and on the committed ones."""

import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from conftest import made_up_record, study_of

from report import beyond, figures, sentences, tables
from report.verdict import beyond_verdict, figure_verdict
from study import claims, protocol, rule, signals
from study.candidates import training_cost
from study.samples import Pair, Sample
from study.selection import Selection
from study.study import Study
from tests.made_up_results import (
    PAIR,
    WEAK_PAIR,
    comparison,
    factorial_study,
    number,
    study_of_figures,
    study_with,
)

# How near the figures come


def test_the_summary_counts_the_close_ones_and_names_the_farthest():
    study = study_of_figures({2: (0.1, [0.1, 0.1]), 3: (0.84, [0.81, 0.82])})
    text = sentences.results_summary(study).data
    assert "Of the 2 reported accuracies, **1 lies within 1.5 points**" in text
    assert "−2.50 points, in [Figure 3](#fig-3)" in text


@pytest.mark.parametrize(("gain", "verdict"), [(0.001, "can't tell such steps from chance"), (0.05, "some of these")])
def test_the_summary_compares_the_last_steps_with_the_scatter_between_seeds(gain, verdict):
    study = study_of_figures({n: (0.8 + gain * (n - 5), [0.80, 0.81]) for n in (5, 6)})
    text = sentences.results_summary(study).data
    assert verdict in text
    assert f"steps are {100 * gain:.2f} to {100 * gain:.2f} points high" in text
    assert "lie 1.00 points apart" in text  # √2 times the standard deviation of 0.80 and 0.81


def test_the_summary_is_silent_about_scatter_where_every_figure_has_one_seed():
    assert "apart" not in sentences.results_summary(study_of_figures({5: (0.8, [0.8]), 6: (0.9, [0.9])})).data


def test_the_committed_accuracies_lie_near_the_reported_ones():
    for result in Study.read().figures.values():
        assert abs(result.difference) <= sentences.TOLERANCE, result.number


# The abstract, and what has to be said of the order of the runs


def of_rising(accuracies):
    """Make up the claim that accuracies (settings, seeds) rise, which is judged by its line's rise."""
    accuracies = np.array(accuracies)
    rise = Pair(tuple(accuracies[0] + rule.rise(accuracies)), tuple(accuracies[0]))
    return comparison(rise, relation="rising", in_order=accuracies)


def test_the_abstract_counts_the_verdicts_and_says_how_far_accuracy_rises():
    accuracies = [[0.80, 0.81, 0.80], [0.82, 0.82, 0.83], [0.84, 0.85, 0.84]]
    study = study_of_figures({n: (0.7 + n / 100, runs) for n, runs in enumerate(accuracies, 2)})
    study.__dict__["comparisons"] = [of_rising(accuracies), comparison(WEAK_PAIR)]
    text = sentences.abstract(study).data
    assert text.startswith("**Abstract.** ")
    assert "We run every figure with 3 seeds" in text
    assert "Of its 2 comparisons, **1 holds and 1 is undecided**" in text
    low, high = study.comparisons[0].interval
    assert f"accuracy rises, by {100 * low:.1f} to {100 * high:.1f} points" in text


def test_the_abstract_of_a_trial_or_of_falling_accuracies_says_nothing_of_a_rise():
    trial = study_of_figures({3: (0.84, [0.81] * 3), 4: (0.85, [0.85] * 3)}, num_epochs=3)
    assert sentences.abstract(trial).data.endswith("Here it is run again.")
    falling = [[0.84, 0.85, 0.84], [0.82, 0.82, 0.83], [0.80, 0.81, 0.80]]
    study = study_of_figures({n: (0.8, runs) for n, runs in enumerate(falling, 2)})
    study.__dict__["comparisons"] = [of_rising(falling)]
    assert "rises" not in sentences.abstract(study).data
    assert sentences.ladder_sentence(study) is None


def test_the_ladder_is_counted_seed_by_seed():
    accuracies = [[0.80, 0.81, 0.80, 0.80], [0.82, 0.83, 0.83, 0.79], [0.86, 0.87, 0.86, 0.86]]
    study = study_with(comparisons=[of_rising(accuracies)])
    assert "with 3 of 4 seeds only does every step lead upwards" in sentences.ladder_sentence(study).data
    assert sentences.ladder_sentence(study_with(comparisons=[comparison(PAIR)])) is None


# The report's steps


def test_the_sentence_on_steps_names_those_that_chance_does_not_make():
    """Two single runs of settings whose runs are 0.8 and 0.82 differ by up to 3.92 points, 19 times of 20."""
    runs = [0.8, 0.82]
    for gap, said in {
        0.0391: "0 are larger than what two single runs differ by through their seeds alone, 19 times of 20.",
        0.0393: "1 is larger than what two single runs differ by through their seeds alone, 19 times of 20: that to "
        "Figure 4.",
        -0.0393: "1 is larger than ",
    }.items():
        study = study_of_figures({2: (0.1, runs), 3: (0.8, runs), 4: (0.8 + gap, runs), 5: (0.8 + gap, runs)})
        text = sentences.steps_sentence(study).data
        assert text.startswith("Of the report's 2 steps from Figure 3 on, ")
        assert said in text


# Captions


def test_a_caption_gives_reported_measured_and_range():
    (result,) = study_of_figures({4: (0.85, [0.84, 0.86, 0.88])}).figures.values()
    assert sentences.caption(result) == (
        "A change. Test accuracy: reported 0.8500, measured 0.8600, the mean of 3 seeds from 0.8400 to 0.8800 "
        "(+1.00 points)."
    )


def test_a_caption_of_one_run_names_its_seed():
    figure = claims.load().figures["figure_4"]
    figures = {"figure_4": replace(figure, reported=0.85)}
    study = study_of([made_up_record(figure.setting, 7, 0.84)], replace(claims.load(), figures=figures))
    assert "measured 0.8400 with seed 7 (−1.00 points)" in sentences.caption(study.figures["figure_4"])


def test_a_caption_of_a_trial_sets_nothing_beside_the_reported_number_in_points():
    (result,) = study_of_figures({4: (0.85, [0.5])}, num_epochs=3).figures.values()
    assert sentences.caption(result) == "A change. Test accuracy: reported 0.8500, in this trial 0.5000 with seed 0."


def test_what_was_chosen_beyond_the_report_is_compared_with_figure_9():
    stated = claims.load()
    search = stated.beyond["within_cost"]
    chosen, final = search.candidates[search.chosen], stated.figures["figure_9"].setting
    records = [made_up_record(chosen, seed, 0.9 + 0.001 * (seed % 2)) for seed in range(6)]
    few = [made_up_record(final, seed, 0.88 + 0.001 * (seed % 2)) for seed in range(2)]
    assert beyond.gain(study_of(records + few)) is None
    enough = [made_up_record(final, seed, 0.88 + 0.001 * (seed % 2)) for seed in range(6)]
    said = beyond.gain(study_of(records + enough)).data
    assert said == (
        f"Beside Figure 9's mean over 6 seeds that is +2.00 points {search.limit} (95 % interval +1.93 to +2.07, "
        "p\N{NO-BREAK SPACE}<\N{NO-BREAK SPACE}0.001), by Welch's test."
    )


def test_the_best_candidate_is_told_beside_the_costliest():
    stated = claims.load()
    held_out = stated.beyond["no_limit"].held_out
    names = ["longer_flip_erase", "wide_longer_flip_erase", "short_flip_erase"]

    def said(*accuracies):
        runs = [
            made_up_record(held_out[name], seed, validation_accuracies=[accuracy] * held_out[name]["num_epochs"])
            for name, accuracy in zip(names, accuracies, strict=False)
            for seed in range(2)
        ]
        sentence = beyond.saturation(study_of(runs))
        return sentence and sentence.data

    figure_9 = training_cost(stated.figures["figure_9"].setting)
    less, more = (training_cost(held_out[name]) / figure_9 for name in names[:2])
    assert said(0.904, 0.903, 0.9) == (
        f"On the held-out images the best of 3 candidates reaches 0.9040 at {less:.2g} times the arithmetic of Figure "
        f"9, the costliest, at {more:.2g} times, 0.9030."
    )
    assert said(0.903, 0.904).endswith(
        f"of 2 candidates reaches 0.9040 at {more:.2g} times the arithmetic of Figure 9, and no other takes more."
    )
    assert said(0.904) is None


# A trial, and a user's own runs


def test_a_trial_says_so_and_says_nothing_of_the_reports_numbers_and_claims():
    study = study_of_figures({3: (0.84, [0.81] * 3), 4: (0.85, [0.85] * 3)}, num_epochs=3, weight_decay=0.00001)
    said = sentences.about_this_copy(study).data
    assert said.startswith("**Trial: num_epochs 3, weight_decay 0.00001.** ")
    assert (sentences.results_summary(study), sentences.claims_summary(study)) == (None, None)
    assert (figure_verdict("figure_4", study), beyond_verdict(study)) == (None, None)
    assert (beyond.gain(study), beyond.saturation(study)) == (None, None)
    assert figures.show_numbers(study) is None
    for table in (tables.numbers_table(study), tables.comparisons_table(study)):
        rows = [row.split(" | ") for row in table.data.splitlines()[2:]]
        assert rows
        assert {row[1] for row in rows} == {"–"}


def with_own_runs(**accuracies):
    """Build a study of Figures 3 and 4 with own runs of seed 0, of given accuracies."""
    study = study_of_figures({3: (0.84, [0.80, 0.81, 0.82]), 4: (0.85, [0.84, 0.85, 0.86])})
    settings = {name: figure.setting for name, figure in study.claims.figures.items()}
    own = [made_up_record(settings[name], 0, accuracy) for name, accuracy in accuracies.items()]
    return replace(study, own=own)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"figure_3": 0.80, "figure_4": 0.84}, "identical 2 of 2"),
        ({"figure_3": 0.80, "figure_4": 0.849}, "identical 1 of 2, equivalent 1 of 2"),
        ({"figure_4": 0.5}, "different 1 of 1"),
    ],
)
def test_own_runs_are_set_beside_the_committed_ones_figure_by_figure(own, said):
    study = with_own_runs(**own)
    line = f"Your seed 0 beside the committed one: {said}"
    assert sentences.own_summary(study) == line
    assert sentences.about_this_copy(study).data.startswith(f"**{line}.** ")
    assert sentences.own_runs(study).data.startswith(f"{line}. ")
    rows = [row.strip("| ").split(" | ") for row in tables.own_runs(study).data.splitlines()[2:]]
    assert [(f"figure_{row[0][1]}", float(row[2])) for row in rows] == list(own.items())
    assert Counter(row[-1] for row in rows) == {w: int(n) for w, n in re.findall(r"(\w+) (\d) of", said)}
    caption = sentences.caption(study.figures["figure_4"])
    assert caption.endswith(f" Your own, marked by crosses: seed 0, {own['figure_4']:.4f}, {rows[-1][-1]}.")


def test_own_runs_count_for_nothing_else():
    without, study = with_own_runs(), with_own_runs(figure_4=0.5)
    assert study.verdicts == without.verdicts
    for shown in (tables.results_table, tables.numbers_table, sentences.results_summary, sentences.claims_summary):
        assert shown(study).data == shown(without).data
    for shown in (sentences.about_this_copy, sentences.own_runs, tables.own_runs):
        assert shown(without) is None


def test_own_runs_are_compared_with_committed_ones_of_their_seed_that_are_not_judged():
    stated = claims.load()
    setting = stated.figures["figure_4"].setting
    judged = [
        made_up_record(planned.setting, seed, 0.85) for planned in protocol.runs(stated) for seed in planned.seeds
    ]
    earlier = [made_up_record(setting, seed, 0.84 + seed / 100) for seed in range(3)]
    study = replace(study_of(judged + earlier), own=[earlier[0]])
    assert {record["seed"] for record in study.figures["figure_4"].records} == set(stated.protocol.seeds)
    assert sentences.own_summary(study) == "Your seed 0 beside the committed one: identical 1 of 1"
    (row,) = [row.strip("| ").split(" | ") for row in tables.own_runs(study).data.splitlines()[2:]]
    assert (row[2], row[3], row[5]) == ("0.8400", "0.8400", "identical")


def test_several_own_seeds_are_named():
    study = with_own_runs(figure_4=0.84)
    own = [*study.own, made_up_record(study.claims.figures["figure_4"].setting, 20, 0.85)]
    assert sentences.own_summary(replace(study, own=own)) == (
        "Your seeds 0, 20 beside the committed ones: identical 1 of 2, equivalent 1 of 2"
    )


# How the claims fare


def test_the_summary_counts_the_verdicts():
    numbers = [number(0.8, 0.8, 0.81, 0.79, name="figure_3"), number(0.9, 0.8, 0.81, 0.79), number(0.9, 0.8)]
    text = sentences.claims_summary(study_with(numbers=numbers, comparisons=[comparison(PAIR)])).data
    assert "Of the report's 3 numbers, 1 holds, 1 is contradicted and 1 has too few runs yet." in text
    assert "Of its 1 comparison, **1 holds**." in text
    assert "exploratory" not in text
    assert re.search(r"at percentile \d+ of ours; chance alone brings it so far up with p (=|<) 0\.\d+", text)


def test_verdicts_are_counted_in_the_number_that_they_have():
    undecided, contradicted = comparison(WEAK_PAIR), comparison(PAIR, relation="no_better")
    assert sentences.counted([undecided]) == "1 is undecided"
    assert sentences.counted([contradicted] * 2 + [comparison(PAIR)] * 3) == "3 hold and 2 are contradicted"
    assert sentences.counted([number(0.9, 0.8)] * 2) == "2 have too few runs yet"


def test_exploratory_verdicts_are_said_to_be_no_more():
    early, late = comparison(PAIR, exploratory=True), comparison(PAIR)
    judged = {"numbers": [number(0.8, 0.8, 0.81, 0.79)]}
    text = {n: sentences.claims_summary(study_with(comparisons=[early] * n + [late], **judged)).data for n in (1, 2)}
    assert " 1 of these verdicts is exploratory" in text[1]
    assert " 2 of these verdicts are exploratory" in text[2]
    assert " All of these" in sentences.claims_summary(study_with(comparisons=[early, early], **judged)).data


def test_the_best_epoch_is_weighed_as_an_explanation_of_the_reports_luck():
    """Numbers that lie in the middle of the best epochs' accuracies and above those of the last."""
    lucky = [
        replace(number(0.83, 0.80, 0.81, 0.79, name=f"figure_{n}"), best=Sample((0.82, 0.83, 0.84)))
        for n in range(3, 10)
    ]
    text = sentences.claims_summary(study_with(numbers=lucky, comparisons=[comparison(PAIR)])).data
    assert "Beside the best epoch of each of our runs it is at percentile 50, with p = 0.500." in text


def test_only_the_figures_own_numbers_count_for_the_reports_luck():
    figures = [number(0.83, 0.8, 0.81, 0.79, name=f"figure_{n}") for n in range(3, 10)]
    others = [number(0.1, 0.8, 0.81, 0.79, name="figure_2_epochs"), number(0.1, 0.1, 0.1, 0.1, name="figure_2")]
    percentile = f"{100 * figures[0].sample.percentile(0.83):.0f}"
    text = sentences.claims_summary(study_with(numbers=figures + others, comparisons=[comparison(PAIR)])).data
    assert f"at percentile {percentile} of ours" in text


def test_without_runs_the_summary_of_claims_says_nothing_about_luck():
    text = sentences.claims_summary(study_of([])).data
    assert text.count("have too few runs yet") == 2
    assert "percentile" not in text


# Signals, effects, images


def test_the_sentence_on_signals_gives_what_was_measured_at_the_start_from_n01():
    measured = {
        "figure_2": {
            "outputs": [11, 2_000],
            "predicted_outputs": [10, 2_000],
            "gradients": [3, 1],
            "predicted_gradients": [2, 1],
            "losses": [[4_000, 9_000, None], [6_000, None]],
        },
        "figure_3": {"outputs": [1, 0.251]},
        "figure_4": {"outputs": [1, 0.499]},
    }
    text = sentences.signals_sentence(measured).data
    assert "root mean square of 2,000, where He's start has 0.50 and Xavier's 0.25." in text
    assert "every layer within 10 %, and the gradients within a factor of 1.5." in text
    assert "The first loss is 5,000 nats where guessing costs 2.3." in text
    assert "between steps 2 and 3 it is no longer a number" in text
    measured["figure_2"]["losses"] = [[4_000, None], [6_000, None]]
    assert "at step 2 it is no longer a number" in sentences.signals_sentence(measured).data
    measured["figure_2"]["losses"] = [[4_000, None], [6_000, 5_000]]  # one of them goes on
    assert "no longer a number" not in sentences.signals_sentence(measured).data


def test_the_committed_signals_are_lost_with_every_seed():
    assert f"for each of {len(signals.SEEDS)} seeds" in sentences.signals_sentence(signals.read()).data


def test_the_effects_that_can_be_told_from_chance_are_named():
    study = factorial_study()
    text = sentences.effects_sentence(study).data
    assert f"Of these {len(study.effects)} effects, " in text
    assert text.endswith("these can be told from chance: batch norm (+2.00).")


def test_that_no_effect_can_be_told_from_chance_is_said():
    generator = np.random.default_rng(1)
    runs = claims.load().factorial.runs
    records = [made_up_record(setting, seed, generator.uniform()) for seed in range(3) for _, setting in runs]
    assert sentences.effects_sentence(study_of(records)).data.endswith("none can be told from chance.")


def test_effects_take_three_seeds():
    records = factorial_study().records
    for study in (study_of([]), study_of([record for record in records if record["seed"] < 2])):
        assert "takes 3 seeds" in sentences.effects_sentence(study).data


def test_what_choosing_gained_and_promised_is_said_of_the_sweep_with_most():
    small = Selection("a", 2, (0, 1), by_test=(0.8, 0.81), by_validation=(0.8, 0.81), by_test_elsewhere=(0.8, 0.81))
    large = Selection("b", 2, (0, 1), (0.8, 0.81), by_validation=(0.79, 0.8), by_test_elsewhere=(0.78, 0.79))
    text = sentences.selection_sentence(study_with(selections=[small, large])).data
    assert "gained at most +1.00 points over choosing by held-out ones, with 1 of 2 intervals above 0" in text
    assert text.endswith(
        "up to +2.00 points more than its setting gives with other seeds, with 1 of 2 intervals above 0."
    )
    assert sentences.selection_sentence(study_with(selections=[])) is None


def test_the_sentence_on_images_counts_who_is_recognised():
    share = np.array([1] * 5000 + [0] * 1000 + [0.25, 0.5, 0.75] * 500 + [0.9] * 1000 + [0.1] * 1500)
    text = sentences.images_sentence(study_with(share_recognised=(share, 8))).data
    assert "50.0 % are recognised by each of the 8 runs of Figures 3 to 9" in text
    assert "10.0 % by none, and 15.0 % by a quarter to three quarters" in text


def test_the_sentence_on_images_is_about_the_figures_that_there_are():
    figures = claims.load().figures
    added = figures | {"figure_10": replace(figures["figure_9"], name="figure_10")}
    study = study_with(claims=replace(claims.load(), figures=added), share_recognised=(np.ones(10000), 3))
    assert "runs of Figures 3 to 10, " in sentences.images_sentence(study).data


def test_images_without_runs_are_a_sentence_too():
    assert "make sweeps" in sentences.images_sentence(study_of([])).data
