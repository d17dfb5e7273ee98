"""The reported accuracies and step sizes beside our runs, and how lucky they are."""

import math
from dataclasses import replace

import numpy as np
import pytest
from conftest import made_up_record, study_of
from scipy import stats
from statsmodels.stats.multitest import multipletests

from study import claims, notebooks
from study.claims import Reported, Sweep
from study.record import run_key
from study.reported import Number, judge_numbers, judge_step_sizes, luck
from study.samples import Sample
from study.study import Study
from tests.made_up import confidence, runs_of

CLAIMS = claims.load()
NONE = replace(CLAIMS, figures={}, sweeps={}, comparisons={}, protocol=replace(CLAIMS.protocol, besides={}))
FIGURE_3 = notebooks.defaults("figure_3")
FIGURE_4 = notebooks.defaults("figure_4")


# Reported numbers


def judge_number(reported, accuracies):
    """Judge a reported accuracy of Figure 4 by made-up runs."""
    stated = {"figure_4": replace(CLAIMS.figures["figure_4"], change="a change", reported=reported)}
    (number,) = judge_numbers(study_of(runs_of(FIGURE_4, accuracies), replace(NONE, figures=stated)))
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
    numbers = judge_numbers(study_of([]))
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
    (number,) = judge_numbers(study_of(table, replace(NONE, sweeps={"made_up": sweep})))
    assert (number.name, number.reported, number.setting) == ("made_up", 0.85, setting)
    assert number.label == "Made up: learning rate 0.00001, erased areas, shifts, epochs 5"
    assert number.sample == Sample(tuple(MEASURED))


def test_numbers_of_a_trial_are_measured_by_the_runs_of_the_trial():
    trial = {"train_limit": 600}
    stated = replace(NONE, figures={"figure_4": CLAIMS.figures["figure_4"]})
    table = runs_of(FIGURE_4, [0.5]) + runs_of(FIGURE_4 | trial, [0.1, 0.2])
    (number,) = judge_numbers(study_of(table, stated, trial))
    assert number.sample.accuracies == (0.1, 0.2)


def number_of(name, reported, *accuracies):
    return Number(name, "", reported, Sample(accuracies), FIGURE_4)


def test_luck_is_fair_where_numbers_are_ordinary_and_rare_where_they_are_not():
    """Numbers drawn like the runs are found lucky at the 5 % level in about 5 % of reports of seven figures."""
    generator = np.random.default_rng(0)

    def chance(shift):
        runs = generator.normal(0.88, 0.004, (7, 9))
        return luck([number_of("figure_4", row[0] + shift, *row[1:]) for row in runs])[1]

    low, high = confidence([chance(0) < 0.05 for _ in range(1000)])
    assert low <= 0.05 <= high
    assert np.mean([chance(0.006) < 0.05 for _ in range(200)]) > 0.9
    assert np.mean([chance(-0.006) > 0.95 for _ in range(200)]) > 0.9


def test_luck_is_unknown_where_no_runs_scatter():
    still = number_of("figure_2", 0.1, 0.1, 0.1, 0.1)
    assert np.isnan(luck([still, number_of("figure_3", 0.8, 0.8)])).all()


def test_the_best_epoch_is_that_of_each_run():
    stated = {"figure_4": CLAIMS.figures["figure_4"]}
    runs = [made_up_record(FIGURE_4, seed, 0.8) | {"test_accuracies": [0.7, 0.9 + seed / 100, 0.8]} for seed in (0, 1)]
    (number,) = judge_numbers(study_of(runs, replace(NONE, figures=stated)))
    assert number.best.accuracies == (0.9, 0.91)


# The correction


def test_numbers_are_corrected_after_holm_for_those_whose_runs_scatter():
    """One of two numbers is 5 standard deviations off; the third has runs that all end alike."""
    rng = np.random.default_rng(0)
    stated, table = {}, []
    for name, reported, measured in (
        ("figure_2", 0.1, [0.1] * 8),
        ("figure_3", 0.85, rng.normal(0.8, 0.01, 8)),
        ("figure_4", 0.8, rng.normal(0.8, 0.01, 8)),
    ):
        stated[name] = replace(CLAIMS.figures[name], reported=reported)
        table += runs_of(stated[name].setting, [float(value) for value in measured])
    still, off, ordinary = judge_numbers(study_of(table, replace(NONE, figures=stated)))
    assert (still.is_deterministic, still.verdict, still.times) == (True, "holds", 1)
    assert math.isnan(still.corrected)
    assert (off.times, ordinary.times) == (2, 1)
    assert off.corrected == pytest.approx(2 * off.p)
    assert (off.verdict, ordinary.verdict) == ("contradicted", "holds")


@pytest.fixture(scope="module")
def committed():
    return Study.read()


def test_the_committed_verdicts_on_numbers_are_those_of_the_rule_taken_literally(committed):
    for judged in (judge_numbers(committed), judge_step_sizes(committed)):
        p = {}
        for number in judged:
            runs = np.array(number.sample.accuracies)
            if np.ptp(runs) > 0:
                scale = runs.std(ddof=1) * math.sqrt(1 + 1 / len(runs))
                distance = max(abs(number.reported - runs.mean()) - 0.00005, 0)
                p[number.label] = 2 * stats.t.sf(distance / scale, len(runs) - 1)
        is_off = dict(zip(p, multipletests(list(p.values()), 0.05, "holm")[0], strict=True))
        for number in judged:
            assert (number.verdict == "contradicted") == is_off.get(number.label, False)
            low, high = number.range_of_runs
            assert (low - 0.00005 <= number.reported <= high + 0.00005) == (number.verdict == "holds")


def test_a_step_is_compared_with_the_differences_of_runs_that_share_no_seed(committed):
    sizes = judge_step_sizes(committed)
    assert [size.name for size in sizes] == [f"figure_{number}" for number in range(4, 10)]
    for before, size in zip(range(3, 9), sizes, strict=True):
        first, second = (CLAIMS.figures[f"figure_{number}"] for number in (before, before + 1))
        assert size.reported == pytest.approx(second.reported - first.reported)
        mean = committed.sample_of(second.setting).mean - committed.sample_of(first.setting).mean
        assert size.sample.mean == pytest.approx(mean)
    table = runs_of(FIGURE_3, [0.1, 0.2, 0.3]) + runs_of(FIGURE_4, [0.5, 0.7, 0.9])
    two = {name: CLAIMS.figures[name] for name in ("figure_2", "figure_3", "figure_4")}
    (size,) = judge_step_sizes(study_of(table, replace(NONE, figures=two)))
    assert size.sample.accuracies == pytest.approx((0.5 - 0.3, 0.7 - 0.1, 0.9 - 0.2))
