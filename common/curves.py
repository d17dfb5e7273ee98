"""The curves of a training as the report draws them, and drawings in the forms that notebooks need."""

import base64
import html
import io

import numpy as np
from IPython.display import Markdown, display
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from common import formatting

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


def plot_curves(histories, reported=None, first_reported_epoch=1):
    """Draw training loss, training accuracy and test accuracy against the epoch, as the report's figures do.

    A second panel has the test accuracy once more, close up: steps of the report are smaller than a line is thick.

    Args:
        histories: one list of epochs, as `my_utils.train` returns it, for each seed: drawn are their mean and, as a
            band, their range.
        reported: the report's test accuracy, drawn as a thin line.
        first_reported_epoch: the report's curve starts here; what came before gets a grey background.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    with style.context(["petroff10", STYLE]):
        figure = Figure(figsize=(6.3, 2.4), layout="constrained")
        curves, close_up = figure.subplots(ncols=2, width_ratios=[5, 4])
        draw_curves(curves, histories, reported)
        draw_curves(close_up, histories, reported, ["test_accuracy"])
        curves.set(xlabel="epoch", ylabel="accuracy, and loss in nats")
        close_up.set(xlabel="epoch", ylabel="test accuracy, close up", ylim=_close_up(histories, reported))
        if first_reported_epoch > 1:
            for axes in (curves, close_up):
                axes.axvspan(0.5, first_reported_epoch - 0.5, color="0.93", zorder=0)
            curves.text(0.6, 0.02, "not in the report's figure", color="0.35", fontsize=8)
        figure.legend(*curves.get_legend_handles_labels(), loc="outside upper center", ncols=2)
        figure.get_layout_engine().set(wspace=0.06)
    return figure


def draw_curves(axes, histories, reported=None, names=tuple(CURVES)):
    """Draw into given axes what `plot_curves` draws into its first panel, or only the curves of some names."""
    epochs = np.arange(1, len(histories[0]) + 1)
    for name in names:
        if name not in histories[0][0]:
            continue
        label, line_style, color = CURVES[name]
        values = np.array([[np.nan if epoch[name] is None else epoch[name] for epoch in h] for h in histories])
        if name == "test_accuracy":
            label += f", {values[:, -1].mean():.4f} at the end"
        if np.isfinite(values).any():
            axes.plot(epochs, values.mean(0), line_style, color=color, label=label, marker=".", markersize=4)
            axes.fill_between(epochs, values.min(0), values.max(0), color=color, alpha=0.25, linewidth=0)
        else:
            axes.plot([], [], line_style, color=color, label=f"{label} (not a number)")
    if reported is not None:
        axes.axhline(reported, color="0.25", linewidth=0.8, label=f"reported test accuracy, {reported:g}")
    axes.set_xlim(0.5, len(epochs) + 0.5)
    axes.set_ylim(0, max(1, axes.get_ylim()[1]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _close_up(histories, reported):
    """Return limits around the test accuracies of the second half of the epochs, and around the reported one."""
    settled = [epoch["test_accuracy"] for history in histories for epoch in history[len(history) // 2 :]]
    shown = [accuracy for accuracy in (*settled, reported) if accuracy is not None] or [0, 1]
    margin = max(0.01, 0.1 * (max(shown) - min(shown)))
    return min(shown) - margin, max(shown) + margin


def to_svg(figure):
    """Return a figure as SVG text, the same text for the same figure."""
    text = io.StringIO()
    with style.context(["petroff10", STYLE]):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def to_pdf(figure):
    """Return a figure as a PDF of one page, the same bytes for the same figure."""
    content = io.BytesIO()
    with style.context(["petroff10", STYLE]):
        figure.savefig(content, format="pdf", metadata={"CreationDate": None})
    return content.getvalue()


def show(figure, alt):
    """Display a figure in a notebook as a vector drawing, with an alternative text for those who can't see it."""
    display(drawing(figure, alt), metadata={"image/svg+xml": {"alt": alt}}, raw=True)


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
        f"{last['train_loss']:.3f}, {last['train_accuracy']:.4f} and {last['test_accuracy']:.4f}. "
        f"A line marks the reported test accuracy, {reported:g}. A second panel has the test accuracy close up."
    )


def compare(accuracy, reported):
    """Set a measured beside the reported test accuracy, in a sentence for a notebook."""
    points = formatting.spread(abs(accuracy - reported))
    return Markdown(
        f"Test accuracy: the report gives **{reported:g}** for this figure, and so does this run."
        if points == formatting.spread(0)
        else f"Test accuracy: the report gives **{reported:g}** for this figure, this run "
        f"**{formatting.accuracy(accuracy)}**, {points} points {'more' if accuracy > reported else 'less'}."
    )
