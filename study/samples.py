"""Statistics of test accuracies over seeds: samples, pairs of settings run with the same seeds, Holm's correction."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from study.outcomes import LEAST_SEEDS

CONFIDENCE = 0.95  # of every interval; 1 - CONFIDENCE is the significance level of every test
POWER = 0.8
ROUNDING = 0.00005  # of a number reported with four decimals


@dataclass(frozen=True)
class Sample:
    """The test accuracies of the runs of one setting, one a seed."""

    accuracies: tuple

    @classmethod
    def of(cls, records):
        """Gather the test accuracies of records."""
        return cls(tuple(record["test_accuracy"] for record in records))

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
class Pair:
    """Two settings, run with the same seeds: is the first better than the second by more than a margin?

    Attributes:
        first, second: accuracies, one a seed, in the same order of seeds.
        margin: by which the first has to be better, as a fraction.
        corrected: the test's p-value after Holm's correction for all the pairs that are tested together.
        num_tested: how many these are.
        reported: the report's accuracy of the first less that of the second; nan if it doesn't give both.
    """

    first: tuple
    second: tuple
    margin: float = 0.0
    corrected: float = float("nan")
    num_tested: int = 1
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


def holm(p_values):
    """Correct p-values for their number (Holm 1979); nan stays nan and doesn't count."""
    p_values = np.asarray(p_values, float)
    corrected = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    steps = p_values[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected.tolist()
