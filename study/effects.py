"""Would another order say the same? What each factor of the factorial changes, and how two of them interact."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from study import rule
from study.samples import CONFIDENCE, Sample


@dataclass(frozen=True)
class Effect:
    """What switching a factor on changes on average over all levels of the others, or how two factors interact."""

    factors: tuple
    sample: Sample  # the effect, one estimate a seed
    corrected: float  # p of its t-test against 0, after Holm's correction for all effects

    @property
    def name(self):
        return " × ".join(self.factors)

    @property
    def is_significant(self):
        return self.corrected <= 1 - CONFIDENCE


def factorial_effects(study):
    """Estimate the effect of each factor of the factorial and of each two.

    Seeds with an incomplete set of runs are left out.

    Returns:
        A list of `Effect`, single factors first.
    """
    factorial = study.claims.factorial
    names = list(factorial.factors)
    runs, _ = study.runs_of([setting for _, setting in factorial.runs])
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in runs)))
    measured = np.array([[by_seed[seed]["test_accuracy"] for seed in seeds] for by_seed in runs])  # (runs, seeds)
    levels = np.array([run_levels for run_levels, _ in factorial.runs])  # (runs, factors)
    groups = [group for size in (1, 2) for group in combinations(range(len(names)), size)]
    num_half = len(factorial.runs) / 2  # runs with a factor switched on
    samples = [Sample(tuple((levels[:, group].prod(1) @ measured / num_half).tolist())) for group in groups]
    corrected = rule.correct([sample.p(0) for sample in samples], 1 - CONFIDENCE)[0].tolist()
    return [
        Effect(tuple(names[i] for i in group), sample, p)
        for group, sample, p in zip(groups, samples, corrected, strict=True)
    ]
