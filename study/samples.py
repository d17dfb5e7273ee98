"""Statistics of test accuracies over seeds: samples, and pairs of settings run with the same seeds."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import stats

from study.outcomes import LEAST_SEEDS

CONFIDENCE = 0.95  # of every interval; 1 - CONFIDENCE is the significance level of every test
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
        return self.prediction(1 - CONFIDENCE)

    def prediction(self, level):
        """Prediction interval that one more run misses with a given probability."""
        return self._interval(1 + 1 / self.num_seeds, level) if self.num_seeds > 1 else (float("nan"),) * 2

    def _interval(self, share_of_variance, level=1 - CONFIDENCE):
        half = float(stats.t.isf(level / 2, self.num_seeds - 1)) * self.deviation * share_of_variance**0.5
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

    def p_of_sign_flips(self, expected):
        """Test the mean against an expected one, two-sided, by flipping signs: all of them, or 9,999 at random.

        It asks of the numbers only that they scatter evenly to both sides. nan if there are too few seeds.
        """
        if self.num_seeds < LEAST_SEEDS:
            return float("nan")
        flips = {"permutation_type": "samples", "n_resamples": 9999, "rng": 0, "vectorized": True}
        return float(stats.permutation_test((np.subtract(self.accuracies, expected),), np.mean, **flips).pvalue)


def difference_of_means(first, second):
    """Compare two samples whose runs have nothing in common, by Welch's t-test (Welch 1947).

    Returns:
        The mean of the first less that of the second, its 95 % confidence interval, and p, two-sided.
    """
    test = stats.ttest_ind(first.accuracies, second.accuracies, equal_var=False)
    return first.mean - second.mean, tuple(map(float, test.confidence_interval(CONFIDENCE))), float(test.pvalue)


@dataclass(frozen=True)
class Pair:
    """Two settings, run with the same seeds: is the first better than the second by more than a margin?

    Attributes:
        first, second: accuracies, one a seed, in the same order of seeds.
        margin: by which the first has to be better, as a fraction.
        relative: whether differences and margin are shares of the second accuracy.
        reported: the report's accuracy of the first less that of the second; nan if it doesn't give both.
        label: in what the two settings differ, in words.
    """

    first: tuple
    second: tuple
    margin: float = 0.0
    relative: bool = False
    reported: float = float("nan")
    label: str = ""

    @cached_property
    def difference(self):
        """First less second, seed by seed, as a `Sample`."""
        difference = np.subtract(self.first, self.second)
        return Sample(tuple((difference / self.second if self.relative else difference).tolist()))

    @property
    def excess(self):
        """Differences less the margin, an array."""
        return np.subtract(self.difference.accuracies, self.margin)

    @property
    def is_deterministic(self):
        """Whether each setting gives the same accuracy with every seed."""
        return Sample(self.first).deviation == 0 and Sample(self.second).deviation == 0


def late_accuracy(record, late_epochs):
    """Average a run's test accuracy over its last epochs."""
    return float(np.mean(record["test_accuracies"][-late_epochs:]))
