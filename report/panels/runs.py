"""The trainings of a panel side by side: what they differ in, their curves, and what the seeds alone make of one."""

import math
from dataclasses import dataclass, field

import numpy as np

from common import formatting
from common.curves import compare, describe_curves, plot_curves, styled
from common.parameters import IMPLIED, PARAMETERS
from study.claims import Figure

LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))  # of earlier runs: more of them nobody could tell apart


@dataclass
class Run:
    """A training of a panel, finished or not.

    Attributes:
        figure: the report's figure whose setting was chosen for it, a `study.claims.Figure`.
        parameters: all of them, as a notebook's parameters cell would have them.
        history: an epoch's measures each, as from `my_utils.train`.
    """

    figure: Figure
    parameters: dict
    history: list = field(default_factory=list)

    @property
    def num_epochs(self):
        return self.parameters["num_epochs"]

    @property
    def accuracy(self):
        return self.history[-1]["test_accuracy"]

    @property
    def is_done(self):
        return len(self.history) == self.num_epochs

    @property
    def setting(self):
        """What the run's numbers follow from, but for the seed."""
        return {
            name: value
            for name, value in self.parameters.items()
            if PARAMETERS[name].changes_numbers and name != "seed"
        }

    def describe(self, state):
        """Say how far the run is and, once it is done, how its accuracy lies to the reported one."""
        if self.is_done:
            return f"{state}. {compare(self.accuracy, self.figure.reported, self.figure, self.parameters).data}"
        if not self.history:
            return f"{state}."
        return f"{state}. Test accuracy so far: **{formatting.accuracy(self.accuracy)}**."


def setting_of(figure):
    """Return the values of all controls that make up a figure's setting."""
    return IMPLIED | figure.setting


def named(name, value):
    return f"{name} {formatting.parameter(value)}"


def add_run(runs, run):
    """Return the runs with one more, in the place of one with the same numbers, and without those of no epoch."""
    same = [old for old in runs if (old.setting, old.parameters["seed"]) == (run.setting, run.parameters["seed"])]
    return [old for old in runs if old.history and old not in same] + [run]


def describe_seeds(runs):
    """Say what the seeds alone make of the last run's setting, if several runs of it are done; otherwise nothing."""
    last = runs[-1]
    alike = [run for run in runs if run.is_done and run.setting == last.setting]
    if len(alike) < 2:
        return ""
    accuracies = [run.accuracy for run in alike]
    low, high = min(accuracies), max(accuracies)
    reported = last.figure.reported
    place = "below" if reported < low else "above" if reported > high else "within"
    seeds = ", ".join(str(seed) for seed in sorted(run.parameters["seed"] for run in alike))
    return (
        f"**{len(alike)} seeds of this setting** ({seeds}): mean {formatting.accuracy(np.mean(accuracies))}, from "
        f"{formatting.interval((low, high), formatting.accuracy)}; the {reported:g} that the report gives for Figure "
        f"{last.figure.number} lies {place} this range. Whatever differs by less than these "
        f"{formatting.spread(high - low)} points may be the luck of a seed."
    )


def labels_of(runs):
    """Name each run by what they differ in, such as "seed 1", or "Figure 9, seed 1" where their figures differ."""
    names = [name for name, parameter in PARAMETERS.items() if parameter.changes_numbers]
    varied = [name for name in names if len({str(run.parameters.get(name)) for run in runs}) > 1]
    several_figures = len({run.figure.name for run in runs}) > 1
    labels = []
    for run in runs:
        own = setting_of(run.figure) if several_figures else {}
        parts = [f"Figure {run.figure.number}"] if several_figures else []
        parts += [named(name, run.parameters[name]) for name in varied if own.get(name) != run.parameters[name]]
        labels.append(", ".join(parts[:4]) + (" …" if len(parts) > 4 else ""))
    return labels


def draw_runs(runs):
    """Draw the curves of the last run on axes that have room for all its epochs, and behind it the runs before it.

    Of those the test accuracy is drawn, as a thin line; the legend says what they differ in.
    """
    run, earlier, labels = _shown(runs)
    with styled():
        num_epochs = max(one.num_epochs for one in (run, *earlier))
        figure = plot_curves([run.history], run.figure.reported, num_epochs=num_epochs)
        figure.set_figheight(figure.get_figheight() + 0.2 * math.ceil(len(earlier) / 2) + 0.2 * bool(earlier))
        curves, close_up = figure.axes
        handles, names = curves.get_legend_handles_labels()
        for index, old in enumerate(earlier):
            accuracies = [epoch["test_accuracy"] for epoch in old.history]
            for axes in figure.axes:
                style = {"linestyle": LINES[index], "color": f"C{4 + index}", "linewidth": 1}
                (line,) = axes.plot(range(1, len(accuracies) + 1), accuracies, **style)
            handles.append(line)
            names.append(f"{labels[index]}: {_end_of(old)}")
        low, high = close_up.get_ylim()
        ends = [old.accuracy for old in earlier]
        close_up.set_ylim(min([low, *(end - 0.01 for end in ends)]), max([high, *(end + 0.01 for end in ends)]))
        figure.legends[0].remove()
        title = f"this run: {labels[-1]}" if earlier and labels[-1] else None
        figure.legend(handles, names, loc="outside upper center", ncols=2, title=title)
    return figure


def describe_runs(runs):
    """Put the picture of `draw_runs` into words, as its alternative text."""
    run, earlier, labels = _shown(runs)
    reported = run.figure.reported
    text = (
        describe_curves(run.history, reported)
        if run.history
        else f"Empty axes for {run.num_epochs} epochs. A line marks the reported test accuracy, {reported:g}."
    )
    old = [f"{label}: test accuracy {_end_of(one)}" for label, one in zip(labels, earlier, strict=False)]
    return text + (f" Thin lines are earlier runs. {'; '.join(old)}." if old else "")


def _shown(runs):
    """Return the last run, as many of those before it as can be told apart, and the labels of these and of it."""
    *earlier, run = runs[-1 - len(LINES) :]
    return run, earlier, labels_of([*earlier, run])


def _end_of(run):
    return formatting.accuracy(run.accuracy) + ("" if run.is_done else f", stopped after epoch {len(run.history)}")
