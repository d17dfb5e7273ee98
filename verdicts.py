"""What the records say about the claims: intervals, comparisons and verdicts, by rules fixed before the runs.

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
from functools import cached_property

import numpy as np
from scipy import stats

import claims
import records

HOLDS, UNDECIDED, CONTRADICTED, UNTESTED = "holds", "not distinguishable", "contradicted", "too few runs"
IDENTICAL, EQUIVALENT, DIFFERENT = "identical", "equivalent", "different"
CONFIDENCE = 0.95  # of every interval; 1 - CONFIDENCE is the significance level of every test
POWER = 0.8
LEAST_SEEDS = 3
NEGLIGIBLE = 0.002  # 0.2 points: a gain below this counts as none
ROUNDING = 0.00005  # of a number reported with four decimals


# Numbers


@dataclass(frozen=True)
class Sample:
    """The test accuracies of the runs of one setting, one a seed."""

    accuracies: tuple

    @property
    def num_seeds(self):
        return len(self.accuracies)

    @property
    def mean(self):
        return float(np.mean(self.accuracies)) if self.accuracies else float("nan")

    @property
    def deviation(self):
        """Standard deviation between seeds; nan for fewer than two."""
        if self.num_seeds < 2:
            return float("nan")
        deviation = float(np.std(self.accuracies, ddof=1))
        return deviation if deviation > 1e-12 else 0.0  # equal numbers, but for the rounding of their sum

    @property
    def interval(self):
        """95 % confidence interval of the mean."""
        return self._interval(1 / self.num_seeds) if self.num_seeds > 1 else (float("nan"),) * 2

    @property
    def range_of_runs(self):
        """95 % prediction interval: where one more run would fall."""
        return self._interval(1 + 1 / self.num_seeds) if self.num_seeds > 1 else (float("nan"),) * 2

    def _interval(self, share_of_variance):
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, self.num_seeds - 1)) * self.deviation * share_of_variance**0.5
        return self.mean - half, self.mean + half

    def percentile(self, accuracy):
        """Probability, in [0, 1], that one more run ends below an accuracy; nan for fewer than two seeds."""
        if self.num_seeds < 2:
            return float("nan")
        if self.deviation == 0:
            return 0.5 if abs(accuracy - self.mean) <= ROUNDING else float(accuracy > self.mean)
        scale = self.deviation * (1 + 1 / self.num_seeds) ** 0.5
        return float(stats.t.cdf((accuracy - self.mean) / scale, self.num_seeds - 1))

    def p(self, expected):
        """Test the mean against an expected one: p of a two-sided t-test; nan if there are too few seeds."""
        if self.num_seeds < LEAST_SEEDS:
            return float("nan")
        if self.deviation == 0:
            return float(abs(self.mean - expected) < 1e-12)
        return float(stats.ttest_1samp(self.accuracies, expected).pvalue)


@dataclass(frozen=True)
class Number:
    """A reported accuracy and the runs of its setting."""

    name: str
    what: str
    reported: float
    sample: Sample

    @property
    def verdict(self):
        if self.sample.num_seeds < LEAST_SEEDS:
            return UNTESTED
        low, high = self.sample.range_of_runs
        return HOLDS if low - ROUNDING <= self.reported <= high + ROUNDING else CONTRADICTED


def judge_numbers(table, known, overrides=None):
    """Compare every reported accuracy with the runs of its setting.

    Args:
        table: records, as from `records.read_records`.
        known: the claims, as from `claims.load`.
        overrides: parameters in which the runs differ from the claims' settings, as in a trial.

    Returns:
        A list of `Number`, figures first.
    """
    return [
        Number(name, what, reported, sample_of(table, setting | (overrides or {})))
        for name, what, setting, reported in _stated(known)
    ]


def _stated(known):
    """List what the report gives an accuracy of, once each: figure or sweep, what is changed, setting, accuracy."""
    stated = [
        (name, figure["change"], claims.notebook_defaults(name), figure["reported"])
        for name, figure in known["figures"].items()
    ]
    of_figures = [setting for _, _, setting, _ in stated]
    for sweep in known["sweeps"]:
        for changes, setting, reported in claims.reported_settings(sweep, known):
            if not any(claims.are_same(setting, figure) for figure in of_figures):
                what = ", ".join(f"{name.replace('_', ' ')} {_written(value)}" for name, value in changes.items())
                stated.append((sweep, what, setting, reported))
    return stated


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


def _written(value):
    return " and ".join(value) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)


def sample_of(table, setting):
    """Gather the test accuracies of a setting's runs."""
    return Sample(tuple(record["test_accuracy"] for record in records.select(table, setting)))


def agreement(record, table):
    """Say how one more run agrees with a table's: identical to the last bit, equivalent, or different.

    Args:
        record: of the run.
        table: records, among them some of the same setting.

    Returns:
        A phrase that begins with `IDENTICAL`, `EQUIVALENT`, `DIFFERENT` or, for fewer than three seeds, `UNTESTED`.
    """
    measured = [name for name in (*records.CURVES, "correct") if name in record]
    for known in records.select(table, record):
        if all(known.get(name) == record[name] for name in (*measured, "seed")):
            return IDENTICAL
    sample, accuracy = sample_of(table, record), record["test_accuracy"]
    if sample.num_seeds < LEAST_SEEDS:
        return f"{UNTESTED} to compare with, and not identical"
    low, high = sample.range_of_runs
    found = EQUIVALENT if low - ROUNDING <= accuracy <= high + ROUNDING else DIFFERENT
    return f"{found}: {accuracy:.4f}, one more of the {sample.num_seeds} runs would fall into {low:.4f} to {high:.4f}"


# Comparisons


@dataclass(frozen=True)
class Pair:
    """Two settings, run with the same seeds: is the first better than the second by more than a margin?

    Attributes:
        first, second: accuracies, one a seed, in the same order of seeds.
        corrected: the test's p-value after Holm's correction for all the pairs that are tested together.
        num_tested: how many these are.
        reported: the report's accuracy of the first less that of the second; nan if it doesn't give both.
    """

    first: tuple
    second: tuple
    margin: float = 0.0
    corrected: float = float("nan")
    num_tested: int = 1
    settings: tuple = ()
    reported: float = float("nan")

    @cached_property
    def difference(self):
        """First less second, seed by seed, as a `Sample`."""
        return Sample(tuple(a - b for a, b in zip(self.first, self.second, strict=True)))

    @cached_property
    def p(self):
        """Of the two-sided paired t-test against the margin; nan if there are too few seeds."""
        return self.difference.p(self.margin)

    @property
    def probability(self):
        """Probability that a run of the first setting beats one of the second, ties counting half."""
        if not self.first:
            return float("nan")
        gaps = np.subtract.outer(self.first, self.second)
        return float(((gaps > 0) + 0.5 * (gaps == 0)).mean())

    @property
    def seeds_needed(self):
        """Seeds with which a true difference as large as ours would be found with 80 %; None if over 1000.

        Found means: by the test, at the level that Holm's correction asks of the smallest of all p-values.
        """
        effect, deviation = abs(self.difference.mean - self.margin), self.difference.deviation
        if self.difference.num_seeds < LEAST_SEEDS:
            return None
        if deviation == 0:
            return LEAST_SEEDS if effect > 1e-12 else None
        seeds = np.arange(LEAST_SEEDS, 1001)
        critical = stats.t.isf((1 - CONFIDENCE) / 2 / self.num_tested, seeds - 1)
        enough = stats.nct.sf(critical, seeds - 1, effect / deviation * seeds**0.5) >= POWER
        return int(seeds[enough.argmax()]) if enough.any() else None

    @property
    def is_better(self):
        return self.corrected < 1 - CONFIDENCE and self.difference.mean > self.margin

    @property
    def is_not_better(self):
        return self.corrected < 1 - CONFIDENCE and self.difference.mean < self.margin


@dataclass(frozen=True)
class Comparison:
    """A claim that one setting is better, or no better, than another, or one of several than each of several."""

    name: str
    claim: str
    figure: int
    relation: str  # "better" or "no_better"
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
    def closest(self):
        """The pair that speaks most against the claim, among those with the most seeds; None if none has runs."""
        tested = [pair for pair in self.pairs if pair.difference.num_seeds]
        sign = 1 if self.relation == "better" else -1
        worst_first = sorted(
            tested, key=lambda p: (p.difference.num_seeds < LEAST_SEEDS, sign * (p.difference.mean - p.margin))
        )
        return worst_first[0] if worst_first else None


def judge_comparisons(table, known, overrides=None):
    """Test every comparison of the claims; arguments as of `judge_numbers`.

    Returns:
        A list of `Comparison`, their p-values corrected together.
    """
    stated = _stated(known)

    def reported(setting):
        return next((accuracy for _, _, other, accuracy in stated if claims.are_same(setting, other)), float("nan"))

    found = []
    for name, comparison in known["comparisons"].items():
        pairs = [
            replace(
                pair_of(table, a | (overrides or {}), b | (overrides or {}), comparison.get("margin", 0.0)),
                reported=reported(a) - reported(b),
            )
            for a, b in claims.compared_settings(comparison, known)
        ]
        relation = "better" if "better" in comparison else "no_better"
        found.append(Comparison(name, comparison["claim"], comparison["figure"], relation, tuple(pairs)))
    p_values = [pair.p for comparison in found for pair in comparison.pairs]
    corrected, num_tested = iter(holm(p_values)), np.count_nonzero(~np.isnan(p_values))
    return [
        replace(
            comparison,
            pairs=tuple(replace(pair, corrected=next(corrected), num_tested=num_tested) for pair in comparison.pairs),
        )
        for comparison in found
    ]


def pair_of(table, first, second, margin=0.0):
    """Pair the runs of two settings that have the same seed."""
    a = {record["seed"]: record["test_accuracy"] for record in records.select(table, first)}
    b = {record["seed"]: record["test_accuracy"] for record in records.select(table, second)}
    seeds = sorted(a.keys() & b.keys())
    return Pair(tuple(a[s] for s in seeds), tuple(b[s] for s in seeds), margin, settings=(first, second))


def holm(p_values):
    """Correct p-values for their number (Holm 1979); nan stays nan and doesn't count."""
    p_values = np.asarray(p_values, float)
    corrected = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected.tolist()


# Order


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
    def is_found(self):
        return self.corrected < 1 - CONFIDENCE


def factorial_effects(table, known, overrides=None):
    """Estimate the effect of each factor of the factorial and of each two; arguments as of `judge_numbers`.

    Seeds with an incomplete set of runs are left out. Returns a list of `Effect`, single factors first.
    """
    runs = claims.factorial_settings(known)
    names = list(known["factorial"]["factors"])
    accuracies = []
    for _, setting in runs:
        found = records.select(table, setting | (overrides or {}))
        accuracies.append({record["seed"]: record["test_accuracy"] for record in found})
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in accuracies)))
    measured = np.array([[by_seed[seed] for seed in seeds] for by_seed in accuracies])  # (runs, seeds)
    levels = np.array([run_levels for run_levels, _ in runs])  # (runs, factors)
    indices = range(len(names))
    groups = [(i,) for i in indices] + [(i, j) for i in indices for j in indices if i < j]
    samples = [Sample(tuple((levels[:, group].prod(1) @ measured / (len(runs) / 2)).tolist())) for group in groups]
    corrected = holm([sample.p(0) for sample in samples])
    return [
        Effect(tuple(names[i] for i in group), sample, p)
        for group, sample, p in zip(groups, samples, corrected, strict=True)
    ]


# Selection


@dataclass(frozen=True)
class Selection:
    """What choosing among the settings of a sweep gives, one value a seed.

    Attributes:
        by_test, by_validation: test accuracy, in the run that it was chosen from, of the setting with the best test
            or validation accuracy.
        by_test_elsewhere: mean test accuracy, with the other seeds, of the setting chosen by test accuracy.
    """

    sweep: str
    num_settings: int
    seeds: tuple
    by_test: tuple
    by_validation: tuple
    by_test_elsewhere: tuple

    @property
    def flattery(self):
        """What the best test accuracy promises beyond what its setting gives with other seeds, as a `Sample`."""
        return Sample(tuple(a - b for a, b in zip(self.by_test, self.by_test_elsewhere, strict=True)))

    @property
    def gain(self):
        """Test accuracy when choosing by test images, less that when choosing by validation images, as a `Sample`."""
        return Sample(tuple(a - b for a, b in zip(self.by_test, self.by_validation, strict=True)))


def judge_selection(table, known, overrides=None):
    """Choose once by the test images and once by held-out images, in each sweep and with each seed that has all runs.

    Returns:
        A list of `Selection`, for the sweeps that have two seeds or more.
    """
    found = []
    for sweep in known["held_out"]:
        runs = [
            {record["seed"]: record for record in records.select(table, setting | (overrides or {}))}
            for setting in claims.held_out_settings(sweep, known)
        ]
        seeds = sorted(set.intersection(*(set(by_seed) for by_seed in runs)))
        if len(seeds) < 2:
            continue
        test = np.array([[by_seed[seed]["test_accuracy"] for by_seed in runs] for seed in seeds])  # (seeds, settings)
        validation = np.array([[by_seed[seed]["validation_accuracies"][-1] for by_seed in runs] for seed in seeds])
        each = np.arange(len(seeds))
        best = test.argmax(1)
        elsewhere = (test.sum(0) - test) / (len(seeds) - 1)
        chosen = [test[each, best], test[each, validation.argmax(1)], elsewhere[each, best]]
        found.append(Selection(sweep, len(runs), tuple(seeds), *(tuple(values.tolist()) for values in chosen)))
    return found
