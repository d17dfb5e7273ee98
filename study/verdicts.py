"""What the records say about the claims, by rules fixed before the runs.

* A reported **number** holds if it lies in the range where one more run of its setting would fall with 95 %
  probability (Student's prediction interval), and is contradicted otherwise.
* **A is better than B** by more than a margin, mostly 0: the two are paired by seed, so that they share their first
  weights where their nets are alike, and the order of the images where their batches are. A t-test of the differences
  against the margin, corrected after Holm for all comparisons made, finds a difference on the claimed side (holds), on
  the other side (contradicted), or none (not distinguishable).
* **A is no better than B**: contradicted if A is better by that test, holds if B is better by it or if the whole 95 %
  interval of the difference lies below 0.2 points, and not distinguishable otherwise.
* A claim about several pairs holds if it holds for each, and is contradicted if it is for one.
* With fewer than three seeds nothing is decided.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from scipy import stats

from common import formatting
from study import claims
from study.outcomes import (
    CONTRADICTED,
    DIFFERENT,
    EQUIVALENT,
    HOLDS,
    IDENTICAL,
    LEAST_SEEDS,
    UNDECIDED,
    UNTESTED,
)
from study.record import COLUMNS
from study.samples import CONFIDENCE, ROUNDING, Sample, holm
from study.table import select

NEGLIGIBLE = 0.002  # 0.2 points: a gain below this counts as none


# Numbers


@dataclass(frozen=True)
class Number:
    """A reported accuracy and the runs of its setting.

    Attributes:
        name: of the figure or the sweep.
        label: what it is, for tables: the figure or the sweep, and what is changed.
        setting: with all its parameters.
    """

    name: str
    label: str
    reported: float
    sample: Sample
    setting: dict

    @property
    def verdict(self):
        if self.sample.num_seeds < LEAST_SEEDS:
            return UNTESTED
        low, high = self.sample.range_of_runs
        return HOLDS if low - ROUNDING <= self.reported <= high + ROUNDING else CONTRADICTED


def judge_numbers(study):
    """Compare every reported accuracy, each once, with the runs of its setting.

    Returns:
        A list of `Number`, figures first.
    """
    numbers = [
        Number(
            figure.name,
            f"Figure {figure.number}: {figure.change}",
            figure.reported,
            study.sample_of(figure.setting),
            figure.setting,
        )
        for figure in study.claims.figures.values()
    ]
    of_figures = [number.setting for number in numbers]
    for sweep in study.claims.sweeps.values():
        for reported in sweep.reported:
            if not any(claims.are_same(reported.setting, setting) for setting in of_figures):
                label = f"{sweep.label}: {_changes(reported.changes)}"
                sample = study.sample_of(reported.setting)
                numbers.append(Number(sweep.name, label, reported.accuracy, sample, reported.setting))
    return numbers


def _changes(changes):
    """Put the parameters that a setting changes into words; a list of names says by itself what it is."""
    words = []
    for name, value in changes.items():
        title = "epochs" if name == "num_epochs" else formatting.words(name)
        written = formatting.parameter(value)
        words.append(written if isinstance(value, list) else f"{title} {written}")
    return ", ".join(words)


def luck(numbers):
    """Say how far up reported numbers lie among our runs, on average over those whose runs scatter.

    Returns:
        The mean percentile, in [0, 1], and the probability that chance alone brings it as far up or farther, by the
        normal approximation to the mean of independent percentiles; nan for both if no runs scatter.
    """
    percentiles = [number.sample.percentile(number.reported) for number in numbers if number.sample.deviation > 0]
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


# Comparisons


@dataclass(frozen=True)
class Comparison:
    """A claim that one setting is better, or no better, than another, or one of several than each of several.

    Attributes:
        claim: in words.
        figure: number of the figure that it belongs to.
        relation: "better" or "no_better".
        pairs: a tuple of `Pair`.
    """

    name: str
    claim: str
    figure: int
    relation: str
    pairs: tuple

    @property
    def verdict(self):
        verdicts = [self.verdict_on(pair) for pair in self.pairs]
        for verdict in (CONTRADICTED, UNTESTED, UNDECIDED):
            if verdict in verdicts:
                return verdict
        return HOLDS

    def verdict_on(self, pair):
        """Return the verdict on one of the pairs."""
        if pair.difference.num_seeds < LEAST_SEEDS:
            return UNTESTED
        if self.relation == "better":
            return HOLDS if pair.is_better else CONTRADICTED if pair.is_not_better else UNDECIDED
        if pair.is_better:
            return CONTRADICTED
        negligible = pair.difference.interval[1] < pair.margin + NEGLIGIBLE
        return HOLDS if pair.is_not_better or negligible else UNDECIDED

    @property
    def least_favourable(self):
        """The pair that speaks most against the claim, among those with enough seeds; None if no pair has runs."""
        sign = 1 if self.relation == "better" else -1
        tested = [pair for pair in self.pairs if pair.difference.num_seeds]
        return min(
            tested,
            key=lambda p: (p.difference.num_seeds < LEAST_SEEDS, sign * (p.difference.mean - p.margin)),
            default=None,
        )


def judge_comparisons(study):
    """Test every comparison of the claims.

    Returns:
        A list of `Comparison`, their p-values corrected together.
    """

    def reported(setting):
        same = (number.reported for number in study.numbers if claims.are_same(setting, number.setting))
        return next(same, float("nan"))

    comparisons = []
    for claim in study.claims.comparisons.values():
        pairs = tuple(
            replace(study.pair_of(a, b, claim.margin), reported=reported(a) - reported(b)) for a, b in claim.pairs
        )
        comparisons.append(Comparison(claim.name, claim.text, claim.figure, claim.relation, pairs))
    p_values = [pair.p for comparison in comparisons for pair in comparison.pairs]
    corrected, num_tested = iter(holm(p_values)), np.count_nonzero(~np.isnan(p_values))
    return [
        replace(
            comparison,
            pairs=tuple(replace(pair, corrected=next(corrected), num_tested=num_tested) for pair in comparison.pairs),
        )
        for comparison in comparisons
    ]
