"""The accuracies that the report gives, and the sizes of its steps, each beside the runs of its settings.

A reported number is that of one run, so it is asked whether one more run could have given it: by Student's prediction
interval, corrected after Holm for all numbers whose runs scatter. These are accuracies after the last epoch.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy import stats

from common import formatting
from study import claims, rule
from study.outcomes import CONTRADICTED, DIFFERENT, EQUIVALENT, HOLDS, IDENTICAL, LEAST_SEEDS, UNTESTED
from study.record import COLUMNS
from study.samples import CONFIDENCE, ROUNDING, Sample
from study.table import select


@dataclass(frozen=True)
class Number:
    """A reported accuracy, or a difference of two, and what our runs give.

    Attributes:
        name: of the figure or the sweep.
        label: what it is, for tables: the figure or the sweep, and what is changed.
        sample: accuracies after the last epoch, one a seed.
        best: accuracies after each run's best epoch; None of a difference.
        exploratory: whether the runs are not those of the protocol.
        level: of the test.
        corrected: its p-value after Holm's correction; nan if there are too few runs, or these don't scatter.
        times: by how many times smaller than `level` it has to be.
    """

    name: str
    label: str
    reported: float
    sample: Sample
    setting: dict
    best: Sample | None = None
    exploratory: bool = True
    level: float = 1 - CONFIDENCE
    corrected: float = float("nan")
    times: int = 1

    @property
    def is_deterministic(self):
        return self.sample.num_seeds >= LEAST_SEEDS and self.sample.deviation == 0

    @property
    def p(self):
        """Probability that one more run ends as far from our mean as what may have been rounded to the number."""
        if self.sample.num_seeds < LEAST_SEEDS or self.is_deterministic:
            return float("nan")
        distance = max(abs(self.reported - self.sample.mean) - ROUNDING, 0)
        return 2 * (1 - self.sample.percentile(self.sample.mean + distance))

    @property
    def range_of_runs(self):
        """Where one more run would fall, at the corrected level."""
        return self.sample.prediction(self.level / self.times)

    @property
    def verdict(self):
        if self.sample.num_seeds < LEAST_SEEDS:
            return UNTESTED
        if self.is_deterministic:
            return HOLDS if abs(self.reported - self.sample.mean) <= ROUNDING else CONTRADICTED
        return CONTRADICTED if self.corrected <= self.level else HOLDS


def judge_numbers(study):
    """Compare every reported accuracy, each once, with the runs of its setting.

    Returns:
        A list of `Number`, figures first.
    """
    stated = [
        (figure.name, f"Figure {figure.number}: {figure.change}", figure.reported, figure.setting)
        for figure in study.claims.figures.values()
    ]
    for sweep in study.claims.sweeps.values():
        for row in sweep.reported:
            if not any(claims.are_same(row.setting, setting) for *_, setting in stated):
                stated.append(
                    (sweep.name, f"{sweep.label}: {changes_in_words(row.changes)}", row.accuracy, row.setting)
                )
    numbers = []
    for name, label, reported, setting in stated:
        (runs,), decides = study.runs_of([setting])
        best = Sample(tuple(max(record["test_accuracies"]) for record in runs.values()))
        numbers.append(Number(name, label, reported, Sample.of(runs.values()), setting, best, exploratory=not decides))
    return _correct(numbers, study)


def reported_accuracy(stated_claims, setting):
    """Return the accuracy that the report gives for a setting; nan if it gives none."""
    stated = [(figure.setting, figure.reported) for figure in stated_claims.figures.values()]
    stated += [(row.setting, row.accuracy) for sweep in stated_claims.sweeps.values() for row in sweep.reported]
    return next((accuracy for other, accuracy in stated if claims.are_same(setting, other)), float("nan"))


def judge_step_sizes(study):
    """Compare the size of each of the report's steps with the difference of two runs that share no seed.

    Returns:
        A list of `Number`, whose accuracies are differences.
    """
    sizes = []
    for before, after in pairwise(list(study.claims.figures.values())[1:]):
        (first, second), decides = study.runs_of([before.setting, after.setting])
        seeds = sorted(first.keys() & second.keys())
        own, others = ([runs[seed]["test_accuracy"] for seed in seeds] for runs in (second, first))
        sample = Sample(tuple(np.subtract(own, np.roll(others, 1)).tolist()))
        label = f"Step from Figure {before.number} to {after.number}"
        size = round(after.reported - before.reported, 4)
        sizes.append(Number(after.name, label, size, sample, after.setting, exploratory=not decides))
    return _correct(sizes, study)


def _correct(numbers, study):
    level = study.claims.protocol.level
    corrected, times = rule.correct([number.p for number in numbers], level)
    corrections = zip(numbers, corrected.tolist(), times.tolist(), strict=True)
    return [replace(number, level=level, corrected=p, times=count) for number, p, count in corrections]


def changes_in_words(changes):
    """Put parameters that a setting changes into words; a list of names says by itself what it is."""
    words = []
    for name, value in changes.items():
        title = "epochs" if name == "num_epochs" else formatting.words(name)
        written = formatting.parameter(value) or f"no {title}"
        words.append(written if isinstance(value, list) else f"{title} {written}")
    return ", ".join(words)


def luck(numbers, best=False):
    """Say how far up reported numbers lie among our runs, on average over those whose runs scatter.

    Args:
        best: whether to compare with each run's best epoch instead of its last.

    Returns:
        The mean percentile, in [0, 1], and the probability that chance alone brings it as far up or farther, by the
        normal approximation to the mean of independent percentiles; nan for both if no runs scatter.
    """
    measured = [(number.best if best else number.sample, number.reported) for number in numbers]
    percentiles = [sample.percentile(reported) for sample, reported in measured if sample.deviation > 0]
    if not percentiles:
        return float("nan"), float("nan")
    mean = float(np.mean(percentiles))
    return mean, float(stats.norm.sf((mean - 0.5) * (12 * len(percentiles)) ** 0.5))


def report_steps(study):
    """List the report's steps from Figure 3 on: the results of each two figures that follow each other."""
    names = list(study.claims.figures)[1:]  # the step from guessing to learning is of another size
    return [
        (study.figures[before], study.figures[after])
        for before, after in pairwise(names)
        if {before, after} <= study.figures.keys()
    ]


def by_chance(before, after):
    """Return the difference that single runs of two figures' settings exceed in 5 % of cases if these are equal.

    By the normal distribution, with the deviations between the seeds of each; nan with a single seed.
    """
    quantile = float(stats.norm.ppf((1 + CONFIDENCE) / 2))
    return quantile * (before.sample.deviation**2 + after.sample.deviation**2) ** 0.5


def agreement(record, table):
    """Say how one more run agrees with a table's: identical to the last bit, equivalent, or different.

    Args:
        record: of the run.
        table: records, among them some of the same setting.

    Returns:
        A phrase that begins with `IDENTICAL`, `EQUIVALENT`, `DIFFERENT` or, for fewer than three seeds, `UNTESTED`.
    """
    measured = [name for name in (*COLUMNS, "correct") if name in record]
    same_setting = select(table, record)
    for other in same_setting:
        if all(other.get(name) == record[name] for name in (*measured, "seed")):
            return IDENTICAL
    sample, accuracy = Sample.of(same_setting), record["test_accuracy"]
    if sample.num_seeds < LEAST_SEEDS:
        return f"{UNTESTED} to compare with, and not identical"
    low, high = sample.range_of_runs
    verdict = EQUIVALENT if low - ROUNDING <= accuracy <= high + ROUNDING else DIFFERENT
    return (
        f"{verdict}: {formatting.accuracy(accuracy)}, one more of the {sample.num_seeds} runs would fall into "
        f"{formatting.interval((low, high), formatting.accuracy)}"
    )
