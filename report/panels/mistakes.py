"""The panel of what the network gets wrong: a confusion matrix, and the images behind each of its cells."""

import ipywidgets as widgets
import numpy as np
import torch
from IPython.display import display
from matplotlib.figure import Figure

import my_utils as mu
from common.curves import show, styled
from common.fashion_mnist import CLASSES
from report.panels.parts import SHOWING, column, draw_into, load_test_images, picture, row, with_tooltip

ANY = -1  # class, for those that choose a class
ANYTHING = [("any class", ANY), *((name, index) for index, name in enumerate(CLASSES))]
ROWS, COLUMNS = 4, 6  # of a page of the gallery


def show_mistakes(training):
    """Display a panel with the confusion matrix of a trained network and a gallery of the images that it gets wrong.

    Args:
        training: the `Training` whose network is judged, on the 10,000 test images.
    """
    images = load_test_images()[0][:, 0]
    trained = training.trained
    if not mu.somebody_is_looking():
        shown = find_mistakes(trained)[: ROWS * COLUMNS]
        show(draw_confusion(trained), alt=describe_confusion(trained))
        show(draw_gallery(images, trained, shown), alt=describe_gallery(trained, shown))
        return
    truth = with_tooltip(widgets.Dropdown(options=ANYTHING, description="is"), "the class of the images")
    guess = with_tooltip(
        widgets.Dropdown(options=ANYTHING, description="taken for"), "the class that the network takes them for"
    )
    page = widgets.IntSlider(1, 1, 1, description="page", continuous_update=False)
    sentence = widgets.HTML("Nothing is trained yet: press Run above.")
    confusion, gallery = picture("460px"), picture("560px")
    filters, pictures = row(truth, guess, page), row(confusion, gallery)

    def choose(_change=None):
        with SHOWING:
            offer(truth, guess.value)
            offer(guess, truth.value)
            if page.value > 1:
                page.value = 1  # which turns the page
            else:
                turn()

    def offer(control, other):
        """Let a class be chosen unless the other control has it: a shirt that is taken for a shirt is no mistake."""
        options = [option for option in ANYTHING if other == ANY or option[1] != other]
        if list(control.options) != options:
            chosen = control.value
            control.unobserve(choose, "value")
            control.options, control.value = options, chosen
            control.observe(choose, "value")

    def turn(_change=None):
        with SHOWING:
            wrong = find_mistakes(trained, truth.value, guess.value)
            pages = wrong.split(ROWS * COLUMNS)
            page.max = len(pages)
            page.layout.display = None if len(pages) > 1 else "none"
            sentence.value = count_mistakes(trained, truth.value, guess.value)
            shown = pages[page.value - 1]
            draw_into(gallery, describe_gallery(trained, shown), draw_gallery, images, trained, shown)

    def receive(result):
        nonlocal trained
        with SHOWING:
            trained = result
            draw_into(confusion, describe_confusion(trained), draw_confusion, trained)
            choose()
            filters.layout.display = pictures.layout.display = None

    filters.layout.display = pictures.layout.display = "none"
    for control, update in ((truth, choose), (guess, choose), (page, turn)):
        control.observe(update, "value")
    training.when_trained["mistakes"] = receive
    if training.trained is not None:
        receive(training.trained)
    display(column(sentence, filters, pictures))


def find_mistakes(trained, truth=ANY, guess=ANY):
    """Return the numbers of the wrongly classified test images, of all or of one class, taken for any or for one."""
    wrong = trained.predicted != trained.labels
    if truth != ANY:
        wrong &= trained.labels == truth
    if guess != ANY:
        wrong &= trained.predicted == guess
    return wrong.nonzero().flatten()


def count_mistakes(trained, truth=ANY, guess=ANY):
    """Say how many images `find_mistakes` finds, and among how many."""
    number = len(find_mistakes(trained, truth, guess))
    if truth != ANY:
        among = f"{(trained.labels == truth).sum():,} test images of class {CLASSES[truth]}"
    elif guess != ANY:
        among = f"{(trained.labels != guess).sum():,} test images of other classes"
    else:
        among = f"{len(trained.labels):,} test images"
    wrongly = "another class" if guess == ANY else CLASSES[guess]
    return f"{number:,} of {among} {'is' if number == 1 else 'are'} taken for {wrongly}."


def draw_confusion(trained):
    """Draw how many images of each class, the rows, are assigned to each class, the columns."""
    n = len(CLASSES)
    counts = torch.bincount(trained.labels * n + trained.predicted, minlength=n * n).view(n, n).numpy()
    with styled(**{"axes.grid": False}):
        figure = Figure(figsize=(5.2, 4.6), layout="constrained")
        axes = figure.add_subplot(xlabel="taken for", ylabel="is")
        axes.imshow(counts, cmap="cividis")
        for (i, j), count in np.ndenumerate(counts):
            colour = "black" if count > counts.max() / 2 else "white"
            axes.text(j, i, count, ha="center", va="center", fontsize=7, color=colour)
        axes.set_xticks(range(n), CLASSES, rotation=45, ha="right", fontsize=8)
        axes.set_yticks(range(n), CLASSES, fontsize=8)
        axes.spines[:].set_visible(False)
    return figure


def describe_confusion(trained):
    """Put the picture of `draw_confusion` into words, as its alternative text."""
    recalls = [
        f"{name} {(trained.predicted[trained.labels == index] == index).float().mean():.0%}"
        for index, name in enumerate(CLASSES)
    ]
    return f"Confusion matrix of the ten classes. Recognised: {', '.join(recalls)}."


def draw_gallery(images, trained, shown):
    """Draw some test images, each with its class and the one that it is taken for; `shown` holds their numbers."""
    with styled(**{"axes.grid": False}):
        figure = Figure(figsize=(6.3, 5.2))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, COLUMNS), ylim=(ROWS, 0))
        axes.set_axis_off()
        for position, index in enumerate(shown.tolist()):
            i, j = divmod(position, COLUMNS)
            axes.imshow(
                images[index].numpy(), cmap="gray_r", extent=(j + 0.1, j + 0.9, i + 0.72, i + 0.02), aspect="auto"
            )
            truth, guess = CLASSES[trained.labels[index]], CLASSES[trained.predicted[index]]
            axes.text(j + 0.5, i + 0.74, f"{truth}\n→ {guess}", ha="center", va="top", fontsize=7.5)
        axes.set(xlim=(0, COLUMNS), ylim=(ROWS, 0))
    return figure


def describe_gallery(trained, shown):
    """Put the picture of `draw_gallery` into words, as its alternative text."""
    pairs = [f"{CLASSES[trained.labels[index]]} taken for {CLASSES[trained.predicted[index]]}" for index in shown]
    return f"Test images: {', '.join(pairs) or 'none'}."
