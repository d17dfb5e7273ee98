"""The curves of a training as the report draws them, and drawings in the forms that notebooks need."""

import base64
import html
import io
import time

import numpy as np
from IPython import get_ipython
from IPython.display import Markdown, display
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common import formatting
from common.parameters import IMPLIED, PARAMETERS

STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.92",
    "font.size": 9,
    "legend.frameon": False,
    "svg.hashsalt": "the same figure gives the same bytes",
}
CURVES = {  # measure of an epoch: label, line style, colour
    "train_loss": ("training loss", "-", "C0"),
    "train_accuracy": ("training accuracy", "--", "C1"),
    "test_accuracy": ("test accuracy", "-.", "C2"),
    "validation_accuracy": ("validation accuracy", ":", "C3"),
}
OWN = ("your own run", "your own runs")  # of one, and of several
ALL_IMAGES = {"train_limit": 60000, "num_validation": 0}  # what the report trained on
BEFORE_AN_EPOCH = ("train_loss", "train_accuracy", "test_accuracy")  # what is surely measured


def styled(**changes):
    """Return a context in which everything is drawn in the project's style, but for some changes to it.

    It starts from matplotlib's defaults: a matplotlibrc of the user's, or what his notebook has set, changes nothing.
    """
    return style.context(["default", "petroff10", STYLE | changes])


def plot_curves(histories, reported=None, first_reported_epoch=1, num_epochs=None, own=()):
    """Draw training loss, training accuracy and test accuracy against the epoch, as the report's figures do.

    A second panel has the test accuracy once more, close up: steps of the report are smaller than a line is thick.

    Args:
        histories: one list of epochs, as `my_utils.train` returns it, for each seed: drawn are their mean and, as a
            band, their range.
        reported: the report's test accuracy, drawn as a thin line.
        first_reported_epoch: the report's curve starts here; what came before gets a grey background.
        num_epochs: of a training that is under way: the axes have room for all of them.
        own: the histories of a user's own runs, whose test accuracies are marked.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    with styled():
        figure = Figure(figsize=(6.3, 2.4), layout="constrained")
        curves, close_up = figure.subplots(ncols=2, width_ratios=[5, 4])
        draw_curves(curves, histories, reported, num_epochs=num_epochs)
        draw_curves(close_up, histories, reported, ["test_accuracy"], num_epochs=num_epochs)
        for axes in (curves, close_up):
            _mark_own(axes, own)
        curves.set(xlabel="epoch", ylabel="accuracy, and loss in nats")
        close_up.set(xlabel="epoch", ylabel="test accuracy, close up", ylim=_close_up([*histories, *own], reported))
        if first_reported_epoch > 1:
            for axes in (curves, close_up):
                axes.axvspan(0.5, first_reported_epoch - 0.5, color="0.93", zorder=0)
            curves.text(0.6, 0.02, "not in the report's figure", color="0.35", fontsize=8)
        figure.legend(*curves.get_legend_handles_labels(), loc="outside upper center", ncols=2)
        figure.get_layout_engine().set(wspace=0.06)
    return figure


def draw_curves(axes, histories, reported=None, names=tuple(CURVES), num_epochs=None):
    """Draw into given axes what `plot_curves` draws into its first panel, or only the curves of some names."""
    epochs = np.arange(1, len(histories[0]) + 1)
    last = num_epochs or len(epochs)
    for name in names:
        if name not in (histories[0][0] if histories[0] else BEFORE_AN_EPOCH):
            continue
        label, line_style, color = CURVES[name]
        values = np.array([[np.nan if epoch[name] is None else epoch[name] for epoch in h] for h in histories])
        if name == "test_accuracy" and histories[0]:
            label += f", {formatting.accuracy(values[:, -1].mean())} " + (
                "at the end" if len(epochs) == last else f"after epoch {len(epochs)}"
            )
        if np.isfinite(values).any() or not histories[0]:
            axes.plot(epochs, values.mean(0), line_style, color=color, label=label, marker=".", markersize=4)
            axes.fill_between(epochs, values.min(0), values.max(0), color=color, alpha=0.25, linewidth=0)
        else:
            axes.plot([], [], line_style, color=color, label=f"{label} (not a number)")
    if reported is not None:
        axes.axhline(reported, color="0.25", linewidth=0.8, label=f"reported test accuracy, {reported:g}")
    axes.set_xlim(0.5, last + 0.5)
    axes.set_ylim(0, max(1, axes.get_ylim()[1]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def _mark_own(axes, histories):
    for number, history in enumerate(histories):
        values = [epoch["test_accuracy"] for epoch in history]
        label = f"test accuracy, {OWN[len(histories) > 1]}" if number == 0 else None
        axes.plot(range(1, len(values) + 1), values, "x", color="C4", markersize=4, label=label, zorder=3)


def _close_up(histories, reported):
    """Return limits around the test accuracies of the second half of the epochs, and around the reported one."""
    settled = [epoch["test_accuracy"] for history in histories for epoch in history[len(history) // 2 :]]
    shown = [accuracy for accuracy in (*settled, reported) if accuracy is not None] or [0, 1]
    margin = max(0.01, 0.1 * (max(shown) - min(shown)))
    return min(shown) - margin, max(shown) + margin


def somebody_is_looking():
    """Say whether this notebook was opened by a person: only then does its front end offer to answer questions."""
    return bool(getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False))


class LiveCurve:
    """A training that somebody watches: a line with its progress and the time left, and a curve that grows.

    Args:
        num_epochs: of the training.
        num_batches: of an epoch; 0 if nobody knows.
    """

    def __init__(self, num_epochs, num_batches=0):
        self.num_epochs, self.num_batches = num_epochs, num_batches
        self.num_done = 0  # epochs
        self.started = self.told = time.monotonic()
        self.next_drawing = 0  # when it is worth its time
        self.line = display({"text/plain": self._progress(0)}, raw=True, display_id=True)
        self.curve = display(self._drawing([]), raw=True, display_id=True)

    def on_batch(self, number):
        """Take notice of a batch of the current epoch, by its number."""
        if time.monotonic() - self.told > 0.5:  # seconds; more often would only keep the browser busy
            self.told = time.monotonic()
            self.line.update({"text/plain": self._progress(number)}, raw=True)

    def on_epoch(self, history):
        """Take notice of the end of an epoch: the curve grows, if drawing takes a tenth of the time at most."""
        self.num_done = len(history)
        started, is_last = time.monotonic(), self.num_done == self.num_epochs
        if started < self.next_drawing and not is_last:
            return
        self.curve.update(self._drawing(history), raw=True)
        text = self._progress(0)
        if is_last:
            taken = formatting.minutes(time.monotonic() - self.started)
            text = f"{formatting.count(self.num_epochs, 'epoch')} in {taken}: {describe(history[-1])}"
        self.line.update({"text/plain": text}, raw=True)
        self.next_drawing = time.monotonic() + 9 * (time.monotonic() - started)

    def _progress(self, number):
        text = f"epoch {self.num_done + 1} of {self.num_epochs}"
        if number:
            text += f", batch {number}" + (f" of {self.num_batches}" if self.num_batches else "")
        in_epoch = number / self.num_batches if self.num_batches else 0
        share = (self.num_done + in_epoch) / self.num_epochs
        seconds = time.monotonic() - self.started
        left = f", {formatting.minutes(round(seconds * (1 - share) / share))} left" if share and seconds > 2 else ""
        return text + left

    def _drawing(self, history):
        with styled():
            figure = Figure(figsize=(6.3, 2.4), layout="constrained")
            axes = figure.subplots()
            draw_curves(axes, [history], num_epochs=self.num_epochs)
            axes.set(xlabel="epoch", ylabel="accuracy, and loss in nats")
            figure.legend(loc="outside upper center", ncols=2)
        return drawing(figure, "The curves of the training so far.")


def to_svg(figure):
    """Return a figure as SVG text, the same text for the same figure."""
    text = io.StringIO()
    with styled():
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def to_pdf(figure):
    """Return a figure as a PDF of one page, the same bytes for the same figure."""
    content = io.BytesIO()
    with styled():
        figure.savefig(content, format="pdf", metadata={"CreationDate": None})
    return content.getvalue()


def show(figure, alt, **options):
    """Display a figure in a notebook as a vector drawing, with an alternative text for those who can't see it.

    Args:
        options: of IPython's `display`.
    """
    display(drawing(figure, alt), metadata={"image/svg+xml": {"alt": alt}}, raw=True, **options)


def drawing(figure, alt):
    """Return a figure in the forms that a notebook's readers choose from, a dict from MIME type to content.

    In HTML an image keeps its alternative text, which nbconvert's pages don't give an SVG. LaTeX takes the PDF, which
    nbconvert would otherwise ask Inkscape to make.
    """
    svg = to_svg(figure)
    source = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
    return {
        "image/svg+xml": svg,
        "text/html": f'<img src="{source}" alt="{html.escape(alt)}" style="max-width: 100%">',
        "application/pdf": base64.b64encode(to_pdf(figure)).decode(),
    }


def describe(epoch):
    """Put the measures of one epoch, as `my_utils.train` returns them, into a line."""
    return ", ".join(f"{CURVES[name][0]} {value:.4f}" for name, value in epoch.items())


def describe_curves(history, reported):
    """Put the curves of one run into words, as their alternative text."""
    last = history[-1]
    return (
        f"Curves of training loss, training accuracy and test accuracy over {len(history)} epochs, which end at "
        f"{last['train_loss']:.3f}, {formatting.accuracy(last['train_accuracy'])} and "
        f"{formatting.accuracy(last['test_accuracy'])}. "
        f"A line marks the reported test accuracy, {reported:g}. A second panel has the test accuracy close up."
    )


def compare(accuracy, reported, figure=None, parameters=None):
    """Set a measured beside the reported test accuracy, in a sentence for a notebook.

    Args:
        figure: of the report, as from `study.claims`; None leaves unsaid which one it is.
        parameters: of the run; where they differ from the figure's, a second sentence says so.
    """
    name = f"Figure {figure.number}" if figure else "this figure"
    points = formatting.spread(abs(accuracy - reported))
    text = (
        f"Test accuracy: the report gives **{reported:g}** for {name}, and so does this run."
        if points == formatting.spread(0)
        else f"Test accuracy: the report gives **{reported:g}** for {name}, this run "
        f"**{formatting.accuracy(accuracy)}**, {points} points {'more' if accuracy > reported else 'less'}."
    )
    differences = _differences(figure, parameters or {}) if figure else {}
    changed = f" This run differs from {name} in {formatting.changes(differences)}." if differences else ""
    return Markdown(text + changed)


def _differences(figure, parameters):
    """Pick the parameters of a run that change its numbers and aren't the figure's, but for the seed."""
    own = IMPLIED | figure.setting | ALL_IMAGES | figure.stated  # the notebook may be saved changed
    return {
        name: value
        for name, value in parameters.items()
        if name != "seed" and name in PARAMETERS and PARAMETERS[name].changes_numbers and value != own.get(name)
    }
