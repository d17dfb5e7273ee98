"""What the runs say image by image: steps tested on the test images, disagreement between runs, the hardest images.

Two questions hide in "is A better than B?": would other seeds say so, and would other test images? `verdicts.py`
asks the first; here the same runs are asked the second.
"""

from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from IPython.display import Markdown
from matplotlib import style
from matplotlib.figure import Figure
from scipy import stats

import claims
import fashion_mnist
import my_utils as mu
import records
import verdicts


def recognised_images(table, setting):
    """Return which test images the runs of a setting recognised: booleans (seeds, 10000), and the seeds."""
    found = [record for record in records.select(table, setting) if "correct" in record]
    return np.array([records.recognised(record) for record in found]), [record["seed"] for record in found]


@dataclass(frozen=True)
class Step:
    """One figure against the one before it, on the test images.

    Attributes:
        gain: mean difference of test accuracies.
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
    p_images: float
    significant: int
    disagreement: float
    predicted: float
    measured: float


def judge_steps(table, known, overrides=None):
    """Compare each figure from 4 on with the one before it; returns a list of `Step`, of those with two seeds."""
    figures = list(known["figures"])
    found = {}
    for figure in figures:
        images, seeds = recognised_images(table, claims.notebook_defaults(figure) | (overrides or {}))
        found[figure] = dict(zip(seeds, images, strict=True))
    steps = []
    for first, second in pairwise(figures[1:]):
        seeds = sorted(found[first].keys() & found[second].keys())
        if len(seeds) > 1:
            before = np.array([found[first][seed] for seed in seeds])
            after = np.array([found[second][seed] for seed in seeds])
            steps.append(_step(first, second, before, after))
    return steps


def _step(first, second, before, after):
    gains = (after & ~before).sum(1)
    losses = (before & ~after).sum(1)
    p_single = [stats.binomtest(int(g), int(g + loss)).pvalue for g, loss in zip(gains, losses, strict=True)]
    disagreement = mean_disagreement(after)
    return Step(
        first,
        second,
        len(after),
        float(after.mean() - before.mean()),
        float(stats.ttest_rel(after.mean(0), before.mean(0)).pvalue),
        sum(p < 1 - verdicts.CONFIDENCE for p in p_single),
        disagreement,
        (disagreement / 2 / after.shape[1]) ** 0.5,
        float(after.mean(1).std(ddof=1)),
    )


def mean_disagreement(images):
    """Average over all pairs of runs the share of images that just one of the two recognises."""
    return float(np.mean([(a != b).mean() for a, b in combinations(images, 2)]))


def share_recognised(table, known, overrides=None):
    """Return which share of the runs from Figure 3 on recognises each test image (10000,), and how many these are.

    Without runs the shares are None.
    """
    images = []
    for figure in list(known["figures"])[1:]:
        images += list(recognised_images(table, claims.notebook_defaults(figure) | (overrides or {}))[0])
    return np.mean(images, axis=0) if images else None, len(images)


def describe_images(share, num_runs):
    """Say in a sentence how many images every run, no run, and half of the runs recognise."""
    always, never = (share == 1).mean(), (share == 0).mean()
    disputed = ((share >= 0.25) & (share <= 0.75)).mean()
    return Markdown(
        f"Of the test images, {100 * always:.1f} % are recognised by each of the {num_runs} runs of Figures 3 to "
        f"{claims.figure_numbers()[-1]}, {100 * never:.1f} % by none, and {100 * disputed:.1f} % by a quarter to "
        "three quarters of them. What the changes of the report move is the rest."
    )


def draw_images(share, count=10):
    """Draw the images that fewest runs recognise, and the most disputed ones, with their labels.

    Args:
        share: as from `share_recognised`.
        count: images a row.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    *_, test_images, test_labels = fashion_mnist.load()
    rows = {
        "recognised\nby none": np.argsort(share, kind="stable")[:count],
        "most\ndisputed": np.argsort(np.abs(share - 0.5), kind="stable")[:count],
    }
    with style.context(["petroff10", mu.STYLE, {"font.size": 7}]):
        figure = Figure(figsize=(6.3, 2.0), layout="constrained")
        panels = figure.subplots(len(rows), count)
        for line, (title, chosen) in zip(panels, rows.items(), strict=True):
            for axes, image in zip(line, chosen, strict=True):
                axes.imshow(test_images[image].numpy(), cmap="gray_r", interpolation="nearest")
                axes.set_title(fashion_mnist.CLASSES[test_labels[image]], fontsize=6.5, pad=2)
                axes.set(xticks=[], yticks=[])
                axes.spines[:].set_visible(True)
                axes.spines[:].set(color="0.8", linewidth=0.5)
            line[0].set_ylabel(title, fontsize=7)
    return figure
