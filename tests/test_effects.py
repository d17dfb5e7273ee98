"""The effects of the factorial: recovered from made-up runs with known effects."""

import math
from itertools import combinations

import numpy as np
import pytest
from conftest import study_of
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from study import claims
from study.effects import factorial_effects
from tests.made_up import runs_of

CLAIMS = claims.load()
FACTORS = list(CLAIMS.factorial.factors)
GROUPS = [(name,) for name in FACTORS] + list(combinations(FACTORS, 2))


def factorial_table(effects, num_seeds, **changes):
    """Build all runs of the factorial from effects, each half added at level 1 and taken at -1, and a seed's own mean.

    With each seed all effects grow by their own size.
    """
    table = []
    for levels, setting in CLAIMS.factorial.runs:
        level_of = dict(zip(FACTORS, levels, strict=True))
        switched = sum(effect / 2 * math.prod(level_of[name] for name in group) for group, effect in effects.items())
        accuracies = [0.5 + 0.03 * seed + (seed + 1) * switched for seed in range(num_seeds)]
        table += runs_of(setting | changes, accuracies)
    return table


@given(st.lists(st.floats(-0.01, 0.01), min_size=len(GROUPS), max_size=len(GROUPS)))
@settings(max_examples=10, deadline=None)
def test_effects_of_one_factor_and_of_two_are_recovered_exactly(sizes):
    effects = dict(zip(GROUPS, sizes, strict=True))
    estimated = factorial_effects(study_of(factorial_table(effects, num_seeds=3)))
    assert [effect.factors for effect in estimated] == GROUPS
    for effect in estimated:
        size = effects[effect.factors]
        assert effect.sample.accuracies == pytest.approx((size, 2 * size, 3 * size), abs=1e-12)


def test_seeds_that_lack_a_run_of_the_factorial_are_left_out():
    effects = {("Adam",): 0.02, ("Adam", "dropout"): 0.01}
    table = factorial_table(effects, num_seeds=3)
    table.remove(next(record for record in table if record["seed"] == 1))
    for effect in factorial_effects(study_of(table)):
        size = effects.get(effect.factors, 0)
        assert effect.sample.accuracies == pytest.approx((size, 3 * size), abs=1e-12)
    assert all(effect.sample.num_seeds == 0 for effect in factorial_effects(study_of([])))


def test_effects_of_a_trial_come_from_the_runs_of_the_trial():
    table = factorial_table({("batch norm",): 0.02}, 2, train_limit=600)
    assert all(effect.sample.num_seeds == 0 for effect in factorial_effects(study_of(table)))
    estimated = factorial_effects(study_of(table, overrides={"train_limit": 600}))
    assert next(e for e in estimated if e.factors == ("batch norm",)).sample.mean == pytest.approx(0.03)


def test_an_effect_is_significant_if_it_is_beyond_chance_after_holms_correction():
    """Batch norm is worth 2 points; the others nothing; their p-values are corrected together."""
    generator = np.random.default_rng(0)
    table = []
    for levels, setting in CLAIMS.factorial.runs:
        mean = 0.87 + 0.01 * levels[FACTORS.index("batch norm")]
        table += runs_of(setting, (mean + generator.normal(0, 0.0001, 3)).tolist())
    effects = factorial_effects(study_of(table))
    assert [effect.name for effect in effects if effect.is_significant] == ["batch norm"]
    corrected = [effect.corrected for effect in effects]
    assert corrected == pytest.approx(
        multipletests([stats.ttest_1samp(e.sample.accuracies, 0).pvalue for e in effects], method="holm")[1]
    )
