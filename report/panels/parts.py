"""What the panels share: pictures that are exchanged in place, text for widgets, the test images."""

import html
import re
import threading
from functools import cache

import ipywidgets as widgets

import my_utils as mu
from common.curves import to_svg
from model import get_possible_patches

PATCHINGS = [f"{num_patches} patches of {dims}×{dims}" for num_patches, dims in get_possible_patches(784)]
DRAWING = threading.Lock()  # matplotlib's styles are global, and a training draws in a thread of its own


def draw_svg(draw, *arguments):
    """Draw a figure as SVG bytes, whichever thread asks for it."""
    with DRAWING:
        return to_svg(draw(*arguments)).encode()


def picture(width):
    """Return a widget for an SVG; a new `value` takes the place of the old one without flicker."""
    return widgets.Image(format="svg+xml", layout=widgets.Layout(width=width, max_width="100%"))


def to_html(markdown):
    """Write sentences with **bold** and *slanted* words and lists as HTML, for widgets, which know no Markdown."""
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", html.escape(markdown))
    text = re.sub(r"\*(.+?)\*", r"<i>\1</i>", text)
    return re.sub(r"\n+", "<br>", text.replace("\n- ", "\n• "))


def row(*children):
    """Put widgets side by side, and into the next line where there is no room."""
    return widgets.HBox(children, layout=widgets.Layout(flex_flow="row wrap", align_items="center"))


@cache
def load_test_images():
    """Return the test images (10000, 1, 28, 28), in [0, 1], and their labels (10000,), on the CPU."""
    _, test_iter = mu.load_data_fashion_mnist(256, device="cpu")
    return test_iter.images, test_iter.labels
