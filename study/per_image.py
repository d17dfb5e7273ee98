"""What the runs say image by image: steps tested on the test images, disagreement between runs, the hardest images.

Two questions hide in "is A better than B?": would other seeds say so, and would other test images? `verdicts.py`
asks the first; here the same runs are asked the second.
"""

from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from scipy import stats

from study.record import recognised
from study.samples import CONFIDENCE


def recognised_images(study, setting):
    """Return which test images the runs of a setting recognised: a dict from seed to booleans (10000,)."""
    return {record["seed"]: recognised(record) for record in study.records_of(setting) if "correct" in record}


@dataclass(frozen=True)
class Step:
    """One figure against the one before it, on the test images.

    Attributes:
        gain: mean difference of test accuracies.
        interval: of the gain, 95 %, were both the seeds and the test images drawn anew.
        p_images: of a paired t-test over the images, each image's share of seeds that recognise it being one value.
        significant: of the seeds, those of which the two single runs differ by McNemar's exact test at 5 %.
        disagreement: share of the images on which two runs of the later figure's setting disagree.
        predicted: standard deviation between seeds that follows from the disagreement if the runs err independently.
        measured: the standard deviation between seeds.
    """

    first: str
    second: str
    seeds: int
    gain: float
    interval: tuple
    p_images: float
    significant: int
    disagreement: float
    predicted: float
    measured: float


def judge_steps(study):
    """Compare each figure from 4 on with the one before it; returns a list of `Step`, of those with two seeds."""
    figures = list(study.claims.figures.values())[1:]
    images = {figure.name: recognised_images(study, figure.setting) for figure in figures}
    steps = []
    for first, second in pairwise(images):
        seeds = sorted(images[first].keys() & images[second].keys())
        if len(seeds) > 1:
            before = np.array([images[first][seed] for seed in seeds])
            after = np.array([images[second][seed] for seed in seeds])
            steps.append(_step(first, second, before, after))
    return steps


def _step(first, second, before, after):
    gains = (after & ~before).sum(1)
    losses = (before & ~after).sum(1)
    p_single = [_mcnemar(int(gain), int(loss)) for gain, loss in zip(gains, losses, strict=True)]
    disagreement = mean_disagreement(after)
    difference = after.astype(float) - before
    gain = float(difference.mean())
    error = (stats.sem(difference.mean(1)) ** 2 + stats.sem(difference.mean(0)) ** 2) ** 0.5
    half = float(stats.t.isf((1 - CONFIDENCE) / 2, len(after) - 1) * error)
    return Step(
        first,
        second,
        len(after),
        gain,
        (gain - half, gain + half),
        float(stats.ttest_rel(after.mean(0), before.mean(0)).pvalue),
        sum(p <= 1 - CONFIDENCE for p in p_single),
        disagreement,
        (disagreement / 2 / after.shape[1]) ** 0.5,
        float(after.mean(1).std(ddof=1)),
    )


def _mcnemar(gain, loss):
    """McNemar's exact test: p of a coin that falls on the one side `gain` times, on the other `loss` times."""
    return stats.binomtest(gain, gain + loss).pvalue if gain + loss else 1.0


def mean_disagreement(images):
    """Average over all pairs of runs the share of images that just one of the two recognises."""
    return float(np.mean([(a != b).mean() for a, b in combinations(images, 2)]))


def share_recognised(study):
    """Return which share of the runs from Figure 3 on recognises each test image (10000,), and how many these are.

    Without runs the shares are None.
    """
    images = []
    for figure in list(study.claims.figures.values())[1:]:
        images += recognised_images(study, figure.setting).values()
    return np.mean(images, axis=0) if images else None, len(images)
