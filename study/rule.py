"""The rule by which claims are judged, as arithmetic: from differences between runs to p-values and intervals.

A claim is about one number, the gain: of a claim "better" the smallest, of a claim "no better" the largest of the true
differences of its pairs, less the margin; of a claim "rising" the one rise. What is said of the gain follows from one
interval of it. A bound that all pairs have to meet needs no correction for their number, one that a single pair can
give is corrected by it.
"""

import warnings

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests

from study.outcomes import CONTRADICTED, EQUAL, HOLDS, UNDECIDED

DECISIONS = (HOLDS, CONTRADICTED, EQUAL)  # in this order, where more than one can be made


def t_test(differences, threshold, alternative):
    """Test the mean over the last axis, one-sided, by Student's t; differences without variance decide by themselves.

    Args:
        alternative: "greater" or "less" than the threshold.

    Returns:
        p-values, an array without that axis.
    """
    with warnings.catch_warnings(action="ignore"):  # of differences without variance
        p = stats.ttest_1samp(differences, threshold, axis=-1, alternative=alternative).pvalue
    beyond = np.mean(differences, axis=-1) - threshold
    is_sure = (beyond if alternative == "greater" else -beyond) > 1e-12
    return np.where(np.ptp(differences, axis=-1) < 1e-12, 1.0 - is_sure, p)


def p_values(relation, excess, epsilon):
    """Return the p-values of the decisions that a claim can come to, in the order of `DECISIONS`.

    Args:
        relation: "better", "no_better" or "rising".
        excess: differences less the margin, (..., pairs, seeds).
        epsilon: the least difference that counts.

    Returns:
        An array (..., 3).
    """
    num_pairs = excess.shape[-2]

    def every(threshold, alternative):
        return t_test(excess, threshold, alternative).max(-1)

    def some(threshold, alternative):
        return np.minimum(num_pairs * t_test(excess, threshold, alternative).min(-1), 1)

    if relation == "no_better":
        holds, contradicted = every(epsilon, "less"), some(0, "greater")
        return np.stack([holds, contradicted, np.ones_like(holds)], axis=-1)
    equal = np.maximum(every(-epsilon, "greater"), some(epsilon, "less"))
    return np.stack([every(0, "greater"), some(0, "less"), equal], axis=-1)


def rise(accuracies):
    """Return how far accuracies (settings, seeds) rise from the first setting to the last: (seeds,).

    It is the rise of the straight line that fits them best. Page's test asks the same of their ranks, but takes it for
    granted that all settings scatter alike, and errs too often where they don't.
    """
    positions = np.arange(len(accuracies)) - (len(accuracies) - 1) / 2
    return (len(accuracies) - 1) * positions @ np.asarray(accuracies) / (positions @ positions)


def p_of_claim(p_of_decisions):
    """Combine the p-values of a claim's decisions (..., 3) into one (...): two-sided, of the strongest of them."""
    return np.minimum(2 * p_of_decisions.min(-1), 1)


def correct(p, level):
    """Correct the p-values of several claims after Holm; nan, of what isn't tested, stays nan and doesn't count.

    Returns:
        The corrected ones, and by how many times smaller than `level` each had to be, two arrays.
    """
    corrected, times = np.array(p, float), np.ones(len(p), int)
    tested = ~np.isnan(corrected)
    if tested.any():
        ranks = stats.rankdata(corrected[tested], "ordinal") - 1
        rejected, corrected[tested], *_ = multipletests(corrected[tested], level, "holm")
        times[tested] = len(ranks) - np.minimum(ranks, rejected.sum())
    return corrected, times


def decide(p_of_decisions, level):
    """Name the first of a claim's decisions (3,) that can be made at a level, two-sided."""
    made = [name for name, p in zip(DECISIONS, p_of_decisions, strict=True) if 2 * p <= level]
    return made[0] if made else UNDECIDED


def interval(relation, excess, level):
    """Return the interval of a claim's gain that says the same as `decide`: two numbers.

    Args:
        excess: differences less the margin, (pairs, seeds).
        level: probability that the interval misses the gain.
    """
    num_pairs, num_seeds = excess.shape
    mean, error = excess.mean(1), excess.std(1, ddof=1) / num_seeds**0.5
    error = np.where(error < 1e-12, 0, error)
    every, some = (stats.t.isf(level / 2 / times, num_seeds - 1) for times in (1, num_pairs))
    if relation == "no_better":
        return float((mean - some * error).max()), float((mean + every * error).max())
    return float((mean - every * error).min()), float((mean + some * error).min())
