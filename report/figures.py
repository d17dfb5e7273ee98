"""The report's figures: each drawing with its caption and alternative text, as notebooks and PDF need it.

Figures 2 to 9 have the numbers of those that they reproduce; ours, Figure C among them in `network`, have letters.
"""

import numpy as np
from IPython.display import display

from common.curves import drawing
from common.fashion_mnist import CLASSES
from common.formatting import accuracy, count, points
from report import drawings
from report.sentences import caption, counted
from report.verdict import not_yet
from study import signals
from study.reported import report_steps


def show_drawing(figure, caption, alt, number, width="100%"):
    """Display a `matplotlib.figure.Figure` with its number or letter, caption and alternative text.

    HTML has them in itself, our PDF takes them from the metadata. LaTeX knows no caption of an output, so that it gets
    one as an output of its own, which is empty elsewhere.
    """
    data = drawing(figure, alt)
    caption_html = f"<figcaption>Figure {number}: {caption}</figcaption>"
    data["text/html"] = f'<figure id="fig-{number}">{data["text/html"]}{caption_html}</figure>'
    about = {"caption": caption, "alt": alt, "label": f"fig-{number}", "number": number, "width": width}
    display(data, metadata={"image/svg+xml": about}, raw=True)
    caption_only = {"text/html": "", "text/markdown": f"[*Figure {number}:*]{{#fig-{number}}} {caption}"}
    display(caption_only, metadata={"caption_of": f"fig-{number}"}, raw=True)


def show_steps(study):
    """Display the report's steps beside ours; a trial says nothing about these."""
    if study.overrides:
        return None
    if not report_steps(study):
        return not_yet("several seeds of the figures")
    return show_drawing(
        drawings.draw_steps(study),
        "Each step of the report beside ours, with its 95 % interval. The grey bar is what two single runs of the "
        "same settings differ by through their seeds alone, 19 times of 20.",
        "A row for each step of the report: the reported step as a mark, ours as a dot with its interval, and a grey "
        "bar for what two single runs differ by.",
        "A",
        width="75%",
    )


def show_classes():
    """Display an image of each class."""
    show_drawing(
        drawings.draw_classes(),
        "The ten classes, each by its first test image.",
        f"A small grey picture of each of the ten classes: {', '.join(CLASSES)}.",
        "B",
        width="65%",
    )


def show_figure(study, name):
    """Display a figure of the report with its caption, if there are runs of it."""
    if name not in study.figures:
        return
    result = study.figures[name]
    show_drawing(
        drawings.draw_result(result),
        caption(result),
        "Curves of training loss, training accuracy and test accuracy against the epoch; a line marks the reported "
        f"test accuracy, {result.figure.reported:g}. The measured test accuracy ends at "
        f"{accuracy(result.sample.mean)}; a second panel has it close up.",
        result.number,
    )


def show_added_figures(study, after):
    """Display the figures that somebody has added to those of the report, the last of which has a given number."""
    for name, result in study.figures.items():
        if result.number > after:
            show_figure(study, name)


def show_numbers(study):
    """Display the drawing of all reported numbers; a trial says nothing about these."""
    if study.overrides:
        return
    show_drawing(
        drawings.draw_numbers(study),
        "Every number of the report and our runs of its setting, one dot a seed. The bar is where one more run would "
        "fall, corrected for all the numbers; with few seeds it is wide.",
        f"Reported test accuracies as marks over our runs. Of {len(study.numbers)} numbers {counted(study.numbers)}.",
        "D",
    )


def show_signals(study):
    """Display the drawing of signals and gradients under the three initialisers."""
    show_drawing(
        drawings.draw_signals(signals.read()),
        "The first steps of Figures 2, 3 and 4: root mean square of each layer's outputs and of their gradients at "
        f"the first batch, over {len(signals.SEEDS)} seeds, dots measured and lines predicted; and the loss step by "
        "step. From N(0, 1) it ends where it is no longer a number.",
        "Three plots. Under N(0, 1) outputs grow from layer to layer and gradients grow backwards, under Xavier and "
        "He they keep their size; the loss under N(0, 1) explodes.",
        "E",
    )


def show_grid(study):
    """Display the heat maps of the grid, if there are runs of it."""
    epochs, batch_sizes, rates, means = drawings.grid_means(study)
    if np.isnan(means).all():
        return not_yet("the grid")
    best = np.unravel_index(np.nanargmax(means), means.shape)
    seeds = [study.sample_of(setting).num_seeds for setting in study.claims.sweeps["grid"].settings]
    fewest = f"{min(seeds)} to " if min(seeds) < max(seeds) else ""
    return show_drawing(
        drawings.draw_grid(study),
        f"The grid: mean test accuracy over {fewest}{count(max(seeds), 'seed')}, and in brackets what the report "
        "gives for the best number of epochs of each pair. Shorter runs are the beginnings of the longest.",
        f"Heat maps of test accuracy against batch size and learning rate, from {accuracy(np.nanmin(means))} to "
        f"{accuracy(means[best])} with {epochs[best[0]]} epochs, batch size {batch_sizes[best[1]]} and learning rate "
        f"{rates[best[2]]}.",
        "F",
    )


def show_images(study):
    """Display the hardest and the most disputed test images."""
    share, _ = study.share_recognised
    if share is None:
        return not_yet("Figures 3 to 9")
    return show_drawing(
        drawings.draw_images(share),
        "The test images that fewest of our runs recognise, and those about which they are most divided, with the "
        "data set's labels.",
        "Two rows of small pictures of clothes, with labels such as shirt, coat and dress.",
        "G",
    )


def show_effects(study):
    """Display the effects of the factorial, if there are runs of it."""
    effects = study.effects
    num_seeds = effects[0].sample.num_seeds
    if not num_seeds:
        return not_yet("the factorial")
    lines = "lines are 95 % intervals" if num_seeds > 1 else "too few for intervals"
    return show_drawing(
        drawings.draw_effects(study),
        f"What each factor changes, averaged over the settings of the four others, and how two of them interact; "
        f"{count(num_seeds, 'seed')}, {lines}.",
        "Effects on test accuracy in points: " + ", ".join(f"{e.name} {points(e.sample.mean)}" for e in effects) + ".",
        "H",
    )


def show_candidates(study):
    """Display what the candidates beyond the report reach on held-out images, if there are runs of them."""
    candidates = study.measured_candidates
    if not candidates:
        return not_yet("the candidates")
    means = [candidate.validation.mean for candidate in candidates]
    return show_drawing(
        drawings.draw_candidates(candidates),
        "The candidates: accuracy on the held-out images, seeds as dots and their mean as a mark, against the "
        "arithmetic of the training.",
        f"A mark for each of {len(candidates)} candidates, by the changes of its training images; their accuracies go "
        f"from {accuracy(min(means))} to {accuracy(max(means))}.",
        "I",
    )
