"""Made-up studies with known results, for the tests of the tables, sentences and drawings that are made from them."""

from dataclasses import replace

import numpy as np
from conftest import made_up_record, study_of

from study import claims
from study.claims import Claim
from study.reported import Number
from study.samples import Pair, Sample
from study.verdicts import Comparison

SWITCHED_ON = 0.02  # what batch normalisation is worth in `factorial_study`
PROTOCOL = claims.load().protocol
PAIR = Pair((0.90, 0.91, 0.92), (0.85, 0.86, 0.88), label="one")  # 5, 5 and 4 points
WEAK_PAIR = Pair((0.90, 0.90, 0.90), (0.85, 0.91, 0.90), label="other")


def number(reported, *accuracies, name="figure_4"):
    """Make up a reported number and the accuracies of its runs."""
    sample = Sample(accuracies)
    judged = Number(name, "Figure 4: a change", reported, sample, {}, best=sample, exploratory=False)
    return replace(judged, corrected=judged.p)


def comparison(*pairs, figure=3, claim="A helps", relation="better", ours="", **judged):
    """Make up a claim about some pairs of settings, alone among claims."""
    stated = Claim("a", figure, claim, ours, relation, (), (), 0.0, False)
    made_up = Comparison(stated, pairs, PROTOCOL, exploratory=False)
    return replace(made_up, corrected=made_up.p, **judged)


def study_with(**results):
    """Build a study without records that holds results as if it had come to them: numbers, comparisons, effects …"""
    study = study_of([])
    study.__dict__.update({"numbers": [], "step_sizes": [], "comparisons": [], **results})
    for other_ways in ("comparisons_after_the_last_epoch", "comparisons_by_earlier_seeds"):
        study.__dict__.setdefault(other_ways, study.comparisons)
    return study


def study_of_figures(accuracies, **overrides):
    """Build a study of runs of some figures.

    Args:
        accuracies: from the number of a figure to its reported accuracy and a list of those of its runs, one a seed.
        overrides: parameters in which these runs differ from the claims' settings.
    """
    figures, records = {}, []
    for position, (reported, measured) in accuracies.items():
        figure = replace(claims.load().figures[f"figure_{position}"], change="a change", reported=reported)
        figures[figure.name] = figure
        setting = figure.setting | overrides
        records += [made_up_record(setting, seed, accuracy) for seed, accuracy in enumerate(measured)]
    return study_of(records, replace(claims.load(), figures=figures), overrides)


def factorial_study():
    """Build a study of the factorial in which batch normalisation is worth 2 points and everything else nothing."""
    generator = np.random.default_rng(0)
    factorial = claims.load().factorial
    switched = list(factorial.factors).index("batch norm")
    records = [
        made_up_record(setting, seed, 0.87 + SWITCHED_ON / 2 * levels[switched] + generator.normal(0, 0.0001))
        for seed in range(3)
        for levels, setting in factorial.runs
    ]
    return study_of(records)


def grid_study(seeds_of_512, seeds_of_others):
    """Build a study of the grid, with other seeds for batches of 512, in which every run ends at 0.8."""
    return study_of(
        [
            made_up_record(setting, seed, 0.8)
            for setting in claims.load().sweeps["grid"].settings
            for seed in (seeds_of_512 if setting["batch_size"] == 512 else seeds_of_others)
        ]
    )
