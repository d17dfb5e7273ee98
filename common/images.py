"""Images of the data set with their classes, as the notebooks and the report show them."""

from matplotlib.figure import Figure

from common.curves import show, styled
from common.fashion_mnist import CLASSES

SHOWN = 10  # in two rows


def show_images(X, y):
    """Display the first images of a batch with their classes.

    Args:
        X, y: images (batch, 1, side, side) and labels (batch,), as from `my_utils.load_data_fashion_mnist`.
    """
    images, labels = X[:SHOWN, 0].cpu(), y[:SHOWN].tolist()
    show(draw_classified(images, labels), f"Small grey pictures: {', '.join(CLASSES[label] for label in labels)}.")


def draw_classified(images, labels):
    """Draw up to ten images (n, side, side) with their classes, small enough for a telephone."""
    with styled():
        figure = Figure(figsize=(4.2, 2.1), layout="constrained")
        panels = figure.subplots(2, SHOWN // 2).flatten()
        for axes, image, label in zip(panels, images, labels, strict=False):
            draw_image(axes, image)
            axes.set_title(CLASSES[label], fontsize=9, pad=3)
        for axes in panels[len(labels) :]:
            axes.set_visible(False)
    return figure


def draw_image(axes, image):
    """Draw an image (side, side) into given axes, dark on white as cloth in a catalogue."""
    axes.imshow(image.numpy(), cmap="gray_r", interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set(visible=True, color="0.8", linewidth=0.5)
