"""The panel of what the network gets wrong: a confusion matrix, and the images behind each of its cells."""

import ipywidgets as widgets
import numpy as np
import torch
from IPython.display import display
from matplotlib.figure import Figure

import my_utils as mu
from common.curves import show
from common.fashion_mnist import CLASSES
from report.drawings import styled
from report.panels.parts import draw_svg, load_test_images, picture, row

ANY = -1  # class, for those that choose a class
ROWS, COLUMNS = 4, 6  # of a page of the gallery


def show_mistakes(training):
    """Display a panel with the confusion matrix of a trained network and a gallery of the images that it gets wrong.

    Args:
        training: the `Training` whose network is judged, on the 10,000 test images.
    """
    images = load_test_images()[0][:, 0]
    if not mu.somebody_is_looking():
        shown = find_mistakes(training)[: ROWS * COLUMNS]
        show(draw_confusion(training.labels, training.predicted), alt=describe_confusion(training))
        show(draw_gallery(images, training, shown), alt="Test images that are taken for another class.")
        return
    anything = [("any class", ANY), *((name, index) for index, name in enumerate(CLASSES))]
    truth = widgets.Dropdown(options=anything, description="is")
    guess = widgets.Dropdown(options=anything, description="taken for")
    page = widgets.IntSlider(1, 1, 1, description="page", continuous_update=False)
    sentence = widgets.HTML("Nothing is trained yet: press Run above.")
    confusion, gallery = picture("460px"), picture("560px")
    filters, pictures = row(truth, guess, page), row(confusion, gallery)

    def choose(_change=None):
        if page.value > 1:
            page.value = 1  # which turns the page
        else:
            turn()

    def turn(_change=None):
        pages = find_mistakes(training, truth.value, guess.value).split(ROWS * COLUMNS)
        page.max = len(pages)
        wrong = sum(map(len, pages))
        sentence.value = f"{wrong:,} of {len(training.labels):,} test images are wrong in this way."
        gallery.value = draw_svg(draw_gallery, images, training, pages[page.value - 1])

    def start():
        confusion.value = draw_svg(draw_confusion, training.labels, training.predicted)
        choose()
        filters.layout.display = pictures.layout.display = None

    filters.layout.display = pictures.layout.display = "none"
    for control, update in ((truth, choose), (guess, choose), (page, turn)):
        control.observe(update, "value")
    training.when_trained.append(start)
    if training.net is not None:
        start()
    display(widgets.VBox([sentence, filters, pictures]))


def find_mistakes(training, truth=ANY, guess=ANY):
    """Return the numbers of the wrongly classified test images, of all or of one class, taken for any or for one."""
    wrong = training.predicted != training.labels
    if truth != ANY:
        wrong &= training.labels == truth
    if guess != ANY:
        wrong &= training.predicted == guess
    return wrong.nonzero().flatten()


def draw_confusion(labels, predicted):
    """Draw how many images of each class, the rows, are assigned to each class, the columns."""
    n = len(CLASSES)
    counts = torch.bincount(labels * n + predicted, minlength=n * n).view(n, n).numpy()
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


def describe_confusion(training):
    """Put the picture of `draw_confusion` into words, as its alternative text."""
    recalls = [
        f"{name} {(training.predicted[training.labels == index] == index).float().mean():.0%}"
        for index, name in enumerate(CLASSES)
    ]
    return f"Confusion matrix of the ten classes. Recognised: {', '.join(recalls)}."


def draw_gallery(images, training, shown):
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
            truth, guess = CLASSES[training.labels[index]], CLASSES[training.predicted[index]]
            axes.text(j + 0.5, i + 0.74, f"{truth}\n→ {guess}", ha="center", va="top", fontsize=7.5)
        axes.set(xlim=(0, COLUMNS), ylim=(ROWS, 0))
    return figure
