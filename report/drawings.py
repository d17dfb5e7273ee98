"""The report's drawings: every function takes a study, or a part of one, and returns a `matplotlib.figure.Figure`."""

import math
from itertools import cycle

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common import fashion_mnist
from common.curves import draw_curves, plot_curves, styled
from common.formatting import accuracy
from common.images import draw_classified, draw_image
from study import signals
from study.outcomes import LEAST_SEEDS
from study.record import history
from study.reported import by_chance, report_steps

CHANGES = {"RandomAffine": "shifts", "RandomHorizontalFlip": "flips", "RandomErasing": "erasing"}  # in a legend


def draw_result(result):
    """Draw the curves of a figure of the report."""
    num_epochs, num_rounds = result.setting["num_epochs"], result.setting.get("num_rounds", 1)
    return plot_curves(
        [history(record) for record in result.records],
        result.figure.reported,
        first_reported_epoch=num_epochs - num_epochs // num_rounds + 1,
        own=[history(record) for record in result.own],
    )


def draw_overview(results):
    """Draw the curves of several figures, a list of `FigureResult`, as one strip of small panels."""
    with styled(**{"font.size": 7}):
        rows = max(2, math.ceil(len(results) / 4))
        figure = Figure(figsize=(9, 1.6 * rows), layout="constrained")
        panels = figure.subplots(rows, 4, sharey=True).flatten()
        for axes, result in zip(panels, results, strict=False):
            draw_curves(axes, [history(record) for record in result.records], result.figure.reported)
            axes.set_title(f"{result.number}: {result.figure.change}", fontsize=7)
        for axes in panels[len(results) :]:
            axes.set_visible(False)
        highest = max(axes.dataLim.y1 for axes in panels[: len(results)])
        panels[0].set_ylim(0, max(1, highest))  # which they share
        handles, labels = panels[len(results) - 1].get_legend_handles_labels()
        figure.legend(handles, [label.split(",")[0] for label in labels], loc="outside lower center", ncols=4)
    return figure


def draw_numbers(study):
    """Draw every reported accuracy as a mark over the runs of its setting.

    The scale is broken where `claims.yaml` says; it reaches as far as there are runs and reported numbers.
    """
    numbers = study.numbers
    start, middle, end = study.claims.scales["accuracy"]
    # With few seeds the range of runs is wider than accuracies can be.
    ranges = [np.clip(number.range_of_runs, 0, 1) for number in numbers]
    for number, ends in zip(numbers, ranges, strict=True):
        shown = [*number.sample.accuracies, number.reported, *ends]
        start, end = min(start, np.nanmin(shown)), max(end, np.nanmax(shown))
    with styled(**{"font.size": 7}):
        figure = Figure(figsize=(6.3, 0.5 + 0.19 * len(numbers)), layout="constrained")
        low, high = figure.subplots(1, 2, sharey=True, width_ratios=[1, 3])
        for row, (number, ends) in enumerate(zip(numbers, ranges, strict=True)):
            for axes in (low, high):  # each shows its part of the scale
                if not np.isnan(ends[0]):
                    axes.plot(ends, [row, row], color="C0", alpha=0.25, linewidth=6, solid_capstyle="butt")
                axes.plot(number.sample.accuracies, [row] * number.sample.num_seeds, "o", color="C0", markersize=2.5)
                axes.plot(number.reported, row, "D", color="C1", markersize=4, markerfacecolor="none", zorder=3)
        low.set_yticks(range(len(numbers)), [number.label for number in numbers])
        low.set(xlim=(start, middle), ylim=(len(numbers) - 0.5, -0.5))
        high.set(xlim=(middle, end))
        high.tick_params(left=False)
        handles = [
            high.plot([], [], "D", color="C1", markersize=4, markerfacecolor="none")[0],
            high.plot([], [], "o", color="C0", markersize=2.5)[0],
            high.plot([], [], color="C0", alpha=0.25, linewidth=6)[0],
        ]
        labels = ["reported", "our runs", "range of runs"]
        figure.legend(handles, labels, loc="outside upper right", ncols=3)
        figure.supxlabel("test accuracy (note the two scales)", fontsize=7)
    return figure


def draw_steps(study):
    """Draw the report's steps from figure to figure beside ours, and how far apart runs of one setting lie by chance.

    Large letters and few lines: it has to be read on a telephone.
    """
    steps = report_steps(study)
    with styled(**{"font.size": 11, "axes.grid.axis": "x"}):
        figure = Figure(figsize=(5.6, 1.2 + 0.36 * len(steps)), layout="constrained")
        axes = figure.add_subplot(xlabel="difference of test accuracies, in points")
        for row, (before, after) in enumerate(steps):
            pair = study.pair_of(after.figure.setting, before.figure.setting)
            chance = 100 * by_chance(before, after)
            axes.barh(row, 2 * chance, left=-chance, height=0.6, color="0.88")
            low, high = (100 * end for end in pair.difference.interval)
            axes.plot([low, high], [row, row], color="C0", linewidth=2)
            axes.plot(100 * pair.difference.mean, row, "o", color="C0", markersize=6)
            reported = after.figure.reported - before.figure.reported
            axes.plot(100 * reported, row, "D", color="C1", markersize=8, markerfacecolor="none", markeredgewidth=1.5)
        axes.set_yticks(range(len(steps)), [f"Figure {after.number}" for _, after in steps])
        axes.use_sticky_edges = False
        axes.invert_yaxis()
        axes.set_axisbelow(True)
        handles = [
            axes.plot([], [], "D", color="C1", markersize=8, markerfacecolor="none", markeredgewidth=1.5)[0],
            axes.plot([], [], "o-", color="C0", linewidth=2, markersize=6)[0],
            axes.barh(0, 0, color="0.88"),
        ]
        labels = ["reported step", "ours, 95 % interval", "by chance"]
        figure.legend(handles, labels, loc="outside upper center", ncols=3, columnspacing=1, handletextpad=0.4)
    return figure


def draw_claim(comparison, num_seeds, committed=None, trial=""):
    """Draw the differences between a claim's settings seed by seed, and the interval as it shrinks around them.

    Args:
        comparison: a `study.verdicts.Comparison` of the seeds so far.
        num_seeds: those that there is room for.
        committed: what the committed runs say about the claim, as in `Study.verdicts`, or None.
        trial: in what it is a trial, in words.
    """
    margin, epsilon = (100 * value for value in (comparison.pairs[0].margin, comparison.protocol.epsilon))
    so_far = [comparison.with_seeds(number) for number in range(1, comparison.num_seeds + 1)]
    gains = np.array([100 * each.least_favourable.difference.mean for each in so_far])
    intervals = 100 * np.array([each.interval for each in so_far]).reshape(-1, 2)
    shown = [margin - epsilon, margin + epsilon, *intervals[LEAST_SEEDS - 1 :][-1:].flatten()]
    with styled(**{"font.size": 8}):
        figure = Figure(figsize=(6.3, 3.2), layout="constrained")
        axes = figure.add_subplot(xlabel="seeds so far")
        axes.axhspan(margin - epsilon, margin + epsilon, color="0.88", label="what counts as no difference")
        axes.axhline(margin, color="0.4", linewidth=0.8)
        seeds = range(1, len(gains) + 1)
        *others, deciding = sorted(comparison.pairs, key=lambda pair: pair is comparison.least_favourable)
        for number, pair in enumerate(others):  # where they lie within the axes
            style = {"color": "0.65", "markersize": 3, "label": "other pairs" if number == 0 else None}
            axes.plot(seeds, 100 * np.array(pair.difference.accuracies), "s", **style)
        differences = 100 * np.array(deciding.difference.accuracies)
        shown += list(differences)
        axes.plot(seeds, differences, "o", color="C0", markersize=4, label="a seed's difference", zorder=3)
        axes.plot(seeds, gains, color="C0", linewidth=1, label="mean so far")
        axes.vlines(
            seeds, *intervals.T, color="C0", alpha=0.25, linewidth=min(8, 200 / num_seeds), label="its 95 % interval"
        )
        if committed and committed["interval"][0] is not None:
            ends, effect = 100 * np.array(committed["interval"]), 100 * committed["effect"]
            shown += [*ends]
            axes.plot([num_seeds + 1] * 2, ends, color="C1", linewidth=2)
            label = f"committed, {committed['seeds']} seeds"
            axes.plot(num_seeds + 1, effect, "D", color="C1", markersize=5, markerfacecolor="none", label=label)
        low, high = np.nanmin(shown), np.nanmax(shown)
        axes.set(xlim=(0.5, num_seeds + 1.5), ylim=(low - 0.1 * (high - low), high + 0.1 * (high - low)))
        axes.set_ylabel("difference, in % of the other" if comparison.pairs[0].relative else "difference, in points")
        ticks = MaxNLocator(integer=True, min_n_ticks=1).tick_values(1, num_seeds)
        axes.set_xticks([tick for tick in ticks if 1 <= tick <= num_seeds])
        figure.legend(loc="outside upper center", ncols=3, title=f"Trial: {trial}" if trial else None)
    return figure


def grid_means(study):
    """Average the test accuracy of the grid's settings over the seeds.

    Returns:
        The numbers of epochs, batch sizes and learning rates, and an array of that shape, nan where there is no run.
    """
    grid = study.claims.sweeps["grid"]
    names = ("num_epochs", "batch_size", "learning_rate")
    axes = [grid.vary[name] for name in names]
    means = np.full([len(values) for values in axes], np.nan)
    for setting in grid.settings:
        place = tuple(values.index(setting[name]) for values, name in zip(axes, names, strict=True))
        means[place] = study.sample_of(setting).mean
    return *axes, means


def draw_grid(study):
    """Draw the grid as heat maps, one a number of epochs, reported accuracies in brackets."""
    epochs, batch_sizes, rates, means = grid_means(study)
    reported = {
        tuple(entry.setting[name] for name in ("num_epochs", "batch_size", "learning_rate")): entry.accuracy
        for entry in study.claims.sweeps["grid"].reported
    }
    with styled(**{"axes.grid": False, "font.size": 8}):
        figure = Figure(figsize=(6.3, 2.3), layout="constrained")
        panels = figure.subplots(1, len(epochs), sharey=True)
        lowest, highest = np.nanmin(means), np.nanmax(means)
        for axes, num_epochs, values in zip(panels, epochs, means, strict=True):
            image = axes.imshow(values, cmap="cividis", vmin=lowest, vmax=highest, aspect="auto")
            for (row, column), value in np.ndenumerate(values):
                if not np.isnan(value):
                    text = accuracy(value)
                    stated = reported.get((num_epochs, batch_sizes[row], rates[column]))
                    text += f"\n({accuracy(stated)})" if stated else ""
                    dark = value < (lowest + highest) / 2
                    colour = "white" if dark else "black"
                    axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7.5)
            axes.set_xticks(range(len(rates)), rates)
            axes.set_yticks(range(len(batch_sizes)), batch_sizes)
            axes.set(title=f"{num_epochs} epochs", xlabel="learning rate")
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0)
        panels[0].set_ylabel("batch size")
        figure.colorbar(image, ax=panels, label="test accuracy", shrink=0.9)
    return figure


def draw_effects(study):
    """Draw the effects of the factorial with their intervals, beside the steps of the report's chain."""
    effects, steps = study.effects, study.claims.factorial.steps
    with styled(**{"font.size": 8}):
        figure = Figure(figsize=(6.3, 0.7 + 0.2 * len(effects)), layout="constrained")
        axes = figure.add_subplot()
        for row, effect in enumerate(effects):
            low, high = (100 * end for end in effect.sample.interval)
            axes.plot([low, high], [row, row], color="C0", linewidth=1.5)
            axes.plot(100 * effect.sample.mean, row, "o", color="C0", markersize=4)
            if effect.name in steps:
                before, after = (study.claims.figures[figure].setting for figure in steps[effect.name])
                step = study.pair_of(after, before).difference.mean
                axes.plot(100 * step, row, "D", color="C1", markersize=5, markerfacecolor="none")
        axes.axvline(0, color="0.4", linewidth=0.8)
        axes.set_yticks(range(len(effects)), [effect.name for effect in effects])
        axes.set(ylim=(len(effects) - 0.5, -0.5), xlabel="effect on test accuracy, in points")
        handles = [
            axes.plot([], [], "o-", color="C0", markersize=4)[0],
            axes.plot([], [], "D", color="C1", markersize=5, markerfacecolor="none")[0],
        ]
        figure.legend(
            handles,
            ["averaged over the other factors", "as a step of the report, in our runs"],
            loc="outside upper right",
            ncols=2,
        )
    return figure


def draw_candidates(candidates):
    """Draw the held-out accuracy of each of some `Candidate`, seeds as dots and their mean as a mark, against cost."""
    kinds = {}
    for candidate in candidates:
        changes = " + ".join(CHANGES[name] for name in candidate.setting["augmentation"])
        kinds.setdefault(changes or "unchanged", []).append(candidate)
    with styled(**{"font.size": 8}):
        figure = Figure(figsize=(6.3, 2.4), layout="constrained")
        axes = figure.add_subplot()
        for marker, (changes, group) in zip(cycle("o^sD"), kinds.items()):
            (line,) = axes.plot(*_costs_and_means(group), marker, markersize=5, label=changes)
            for candidate in group:
                seeds = candidate.validation.accuracies
                axes.plot([candidate.cost] * len(seeds), seeds, ".", color=line.get_color(), alpha=0.5, markersize=3)
        chosen = _costs_and_means(candidate for candidate in candidates if candidate.is_chosen)
        axes.plot(*chosen, "o", color="0.2", markersize=10, fillstyle="none", label="chosen")
        axes.set(xlabel="arithmetic of a training, that of Figure 9 being 1", ylabel="held-out accuracy")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        figure.legend(title="training images", loc="outside right upper")
    return figure


def _costs_and_means(candidates):
    return np.array([(candidate.cost, candidate.validation.mean) for candidate in candidates]).reshape(-1, 2).T


def draw_classes():
    """Draw the first test image of each of the ten classes, with its name."""
    *_, test_images, test_labels = fashion_mnist.load()
    labels = range(len(fashion_mnist.CLASSES))
    return draw_classified([test_images[test_labels == label][0] for label in labels], labels)


def draw_images(share, count=10):
    """Draw the images that fewest runs recognise, and the most disputed ones, with their labels.

    Args:
        share: of the runs that recognise each test image (10000,), as in `Study.share_recognised`.
        count: images a row.
    """
    *_, test_images, test_labels = fashion_mnist.load()
    rows = {
        "recognised\nby none": np.argsort(share, kind="stable")[:count],
        "most\ndisputed": np.argsort(np.abs(share - 0.5), kind="stable")[:count],
    }
    with styled(**{"font.size": 7}):
        figure = Figure(figsize=(6.3, 2.0), layout="constrained")
        panels = figure.subplots(len(rows), count)
        for line, (title, chosen) in zip(panels, rows.items(), strict=True):
            for axes, image in zip(line, chosen, strict=True):
                draw_image(axes, test_images[image])
                axes.set_title(fashion_mnist.CLASSES[test_labels[image]], fontsize=6.5, pad=2)
            line[0].set_ylabel(title, fontsize=7)
    return figure


def draw_signals(measured):
    """Draw outputs and gradients layer by layer, measured and predicted, and the losses of the first steps.

    Args:
        measured: as from `signals.measure`.
    """
    with styled(**{"font.size": 8}):
        figure = Figure(figsize=(6.3, 2.7), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        for colour, (name, label) in enumerate(signals.STARTS.items()):
            values = measured[name]
            for axes, what in ((left, "outputs"), (middle, "gradients")):
                axes.plot(values[what], "o", color=f"C{colour}", markersize=4, label=label)
                axes.plot(values[f"predicted_{what}"], color=f"C{colour}", linewidth=1)
            for losses in values["losses"]:
                finite = [loss for loss in losses if loss is not None]
                steps = range(1, len(finite) + 1)
                right.plot(steps, finite, ".-", color=f"C{colour}", linewidth=0.7, markersize=2, alpha=0.7)
        for axes, title in ((left, "outputs"), (middle, "gradients of the outputs")):
            axes.set_yscale("log")
            axes.set_xticks(range(len(signals.LAYERS)), signals.LAYERS, rotation=60, ha="right", fontsize=7)
            axes.set_title(title, fontsize=8)
        left.set_ylabel("root mean square")
        right.set(yscale="log", xlabel="step", ylabel="loss in nats")
        right.set_title("loss", fontsize=8)
        right.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles, labels = left.get_legend_handles_labels()
        handles.append(left.plot([], [], color="0.4", linewidth=1)[0])
        figure.legend(handles, [*labels, "predicted"], loc="outside upper center", ncols=4)
    return figure
