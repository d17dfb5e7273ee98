"""Choosing by test images or by held-out images: on made-up runs with known choices."""

from dataclasses import replace

import pytest
from conftest import made_up_record, study_of
from hypothesis import given
from hypothesis import strategies as st

from study import claims, notebooks
from study.claims import Sweep
from study.selection import judge_selection
from tests.made_up import accuracies, few_examples

TEST = [[0.80, 0.82, 0.81], [0.83, 0.80, 0.82], [0.81, 0.80, 0.84]]  # a row a seed, a column a setting
VALIDATION = [[0.9, 0.8, 0.7], [0.7, 0.8, 0.9], [0.9, 0.7, 0.8]]
PROTOCOL = replace(claims.load().protocol, besides={})
FIGURE_7 = notebooks.defaults("figure_7")


def claims_about(parameter, values):
    """Make up a sweep of Figure 7, the one in which settings are chosen by held-out images."""
    settings = tuple(FIGURE_7 | {parameter: value} for value in values)
    sweep = Sweep("made_up", "Made up", "figure_7", {parameter: values}, settings, ())
    return replace(claims.load(), sweeps={"made_up": sweep}, held_out=("made_up",), protocol=PROTOCOL)


DROPOUTS = claims_about("dropout", [0.1, 0.2, 0.3])


def table_of(test, validation):
    """Build the runs of the three settings with made-up test and validation accuracies."""
    return [
        made_up_record(setting, seed, test[seed][i], validation_accuracies=[validation[seed][i]] * 15)
        for i, setting in enumerate(DROPOUTS.sweeps["made_up"].held_out)
        for seed in range(len(test))
    ]


def select_by(test, validation):
    return judge_selection(study_of(table_of(test, validation), DROPOUTS))


def test_the_best_by_test_and_by_validation_images_are_chosen_seed_by_seed():
    (selection,) = select_by(TEST, VALIDATION)
    assert (selection.sweep, selection.num_settings, selection.seeds) == ("made_up", 3, (0, 1, 2))
    assert selection.by_test == (0.82, 0.83, 0.84)
    assert selection.by_validation == (0.80, 0.82, 0.81)
    assert selection.by_test_elsewhere == pytest.approx((0.80, 0.805, 0.815))
    assert selection.gain.accuracies == pytest.approx((0.02, 0.01, 0.03))
    assert selection.flattery.accuracies == pytest.approx((0.02, 0.025, 0.025))


def test_seeds_that_lack_a_run_of_the_sweep_are_left_out_and_one_seed_is_not_enough():
    table = table_of(TEST, VALIDATION)
    lacking = [record for record in table if (record["seed"], record["dropout"]) != (1, 0.2)]
    (selection,) = judge_selection(study_of(lacking, DROPOUTS))
    assert selection.seeds == (0, 2)
    assert selection.by_test_elsewhere == pytest.approx((0.80, 0.81))
    assert judge_selection(study_of([record for record in lacking if record["seed"] != 2], DROPOUTS)) == []


def test_runs_that_hold_no_images_out_are_not_chosen_from():
    table = [{**record, "num_validation": 0} for record in table_of(TEST, VALIDATION)]
    assert judge_selection(study_of(table, DROPOUTS)) == []


def test_settings_of_a_trial_are_chosen_among_by_the_runs_of_the_trial():
    table = [{**record, "train_limit": 600} for record in table_of(TEST, VALIDATION)]
    assert judge_selection(study_of(table, DROPOUTS)) == []
    (selection,) = judge_selection(study_of(table, DROPOUTS, {"train_limit": 600}))
    assert selection.by_test == (0.82, 0.83, 0.84)


def test_the_number_of_epochs_is_chosen_from_the_course_of_one_run():
    epochs = claims_about("num_epochs", [1, 2])
    _, longest = epochs.sweeps["made_up"].held_out
    curves = {"test_accuracies": [0.85, 0.80], "validation_accuracies": [0.6, 0.7]}
    table = [made_up_record(longest, seed, 0.80, **curves) for seed in range(2)]
    (selection,) = judge_selection(study_of(table, epochs))
    assert selection.by_test == (0.85, 0.85)
    assert selection.by_validation == (0.80, 0.80)


def test_only_the_sweeps_that_hold_images_out_are_judged():
    without = replace(DROPOUTS, held_out=())
    assert judge_selection(study_of(table_of(TEST, VALIDATION), without)) == []


rows = st.lists(st.lists(accuracies, min_size=3, max_size=3), min_size=2, max_size=2)


@given(rows, rows)
@few_examples
def test_choosing_by_the_test_images_never_gives_less_on_them_and_nothing_more_if_both_agree(test, validation):
    (selection,) = select_by(test, validation)
    assert min(selection.gain.accuracies) >= 0
    (agreeing,) = select_by(test, test)
    assert agreeing.gain.accuracies == (0, 0)
