"""What the panels share: pictures that are exchanged in place, text for widgets, the test images."""

import base64
import html
import io
import re
import threading
from functools import cache

import ipywidgets as widgets

import my_utils as mu
from common.curves import styled, to_svg
from model import get_possible_patches

PATCHINGS = [f"{num_patches} patches of {dims}×{dims}" for num_patches, dims in get_possible_patches(784)]
# Held while a panel reads what a training has left and shows it: the training has a thread of its own, and would
# otherwise exchange it in between. matplotlib's styles are global as well.
SHOWING = threading.RLock()


def picture(width):
    """Return a widget for a picture, which `draw_into` fills. ipywidgets' own knows no alternative text."""
    return widgets.HTML(layout=widgets.Layout(width=width, max_width="calc(100% - 4px)"))


def draw_into(picture, alt, draw, *arguments):
    """Draw a figure in the place of a picture's old one, with an alternative text, whichever thread asks for it."""
    with SHOWING:
        figure = draw(*arguments)
        width, height = figure.get_size_inches()
        source = _address(figure)
    # Its room is kept while the browser reads the new one, so that nothing below jumps.
    style = f"display: block; width: 100%; aspect-ratio: {width:g} / {height:g}"
    picture.value = f'<img src="{source}" alt="{html.escape(alt)}" decoding="sync" style="{style}">'


def _address(figure):
    """Return a figure in the form that a browser shows at once: one with images in an SVG would flicker."""
    if any(axes.images for axes in figure.axes):
        content = io.BytesIO()
        with styled():
            figure.savefig(content, format="png", dpi=150)
        return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
    return f"data:image/svg+xml;base64,{base64.b64encode(to_svg(figure).encode()).decode()}"


def to_html(markdown):
    """Write sentences with **bold** and *slanted* words and lists as HTML, for widgets, which know no Markdown."""
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", html.escape(markdown))
    text = re.sub(r"\*(.+?)\*", r"<i>\1</i>", text)
    return re.sub(r"\n+", "<br>", text.replace("\n- ", "\n• "))


def row(*children):
    """Put widgets side by side, and into the next line where there is no room."""
    layout = widgets.Layout(flex_flow="row wrap", align_items="center", overflow="visible")
    return widgets.HBox(children, layout=layout)


def column(*children):
    """Put widgets one below the other, without the scrollbar that their margins would bring."""
    return widgets.VBox(children, layout=widgets.Layout(overflow="visible"))


def with_tooltip(widget, text):
    """Give a widget the text that appears where the mouse rests on it, and return it."""
    setattr(widget, "tooltip" if widget.has_trait("tooltip") else "description_tooltip", text)  # so in ipywidgets 7
    return widget


@cache
def load_test_images():
    """Return the test images (10000, 1, 28, 28), in [0, 1], and their labels (10000,), on the CPU."""
    _, test_iter = mu.load_data_fashion_mnist(256, device="cpu")
    return test_iter.images, test_iter.labels
