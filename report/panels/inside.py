"""The panel that looks inside: a test image, cut into patches and followed through the network, matrix by matrix."""

import ipywidgets as widgets
from IPython.display import Markdown, display

import my_utils as mu
from common.curves import show
from common.fashion_mnist import CLASSES
from report.network import describe_walk, draw_network, walk
from report.panels.parts import PATCHINGS, SHOWING, column, draw_into, load_test_images, picture, to_html


def show_network(training, image=0, patching=0):
    """Display a panel that cuts a test image into patches and follows it through the network, matrix by matrix.

    Args:
        training: the `Training` whose network is shown, once there is one and if it has the chosen patching;
            otherwise an untrained one.
        image: number of the test image that comes first.
        patching: index into `get_possible_patches(784)` that comes first.
    """
    images, labels = load_test_images()
    trained = training.trained

    def look(image, patching):
        net = training.untrained[patching]
        is_trained = trained is not None and trained.net.stem.patch_dims == net.stem.patch_dims
        if is_trained:
            net = trained.net
        steps = walk(net, images[[image]])
        guess, truth = CLASSES[steps[-1].matrix.argmax()], CLASSES[labels[image]]
        text = f"Test image {image}, **{truth}**, in {PATCHINGS[patching]} pixels. " + (
            f"The network trained above takes it for **{guess}**."
            if is_trained
            else "The network is untrained, so its scores mean nothing yet: train one with this patching above."
        )
        alt = f"Test image {image}, {truth}, cut into patches, with the matrix after each operation. "
        alt += describe_walk(steps)
        return text, alt, (draw_network, images[image, 0].numpy(), net.stem.patch_dims, steps)

    if not mu.somebody_is_looking():
        text, alt, (draw, *arguments) = look(image, patching)
        show(draw(*arguments), alt)
        display(Markdown(text))
        return
    numbers = widgets.IntSlider(image, 0, len(labels) - 1, description="image", continuous_update=False)
    numbers.layout.width = "min(40em, 98%)"
    patchings = widgets.ToggleButtons(options=[(text, index) for index, text in enumerate(PATCHINGS)], value=patching)
    patchings.style.button_width = "11.5em"
    sentence, drawing = widgets.HTML(), picture("960px")

    def update(_change=None):
        with SHOWING:
            text, alt, drawn = look(numbers.value, patchings.value)
            sentence.value = to_html(text)
            draw_into(drawing, alt, *drawn)

    def receive(result):
        nonlocal trained
        trained = result
        update()

    numbers.observe(update, "value")
    patchings.observe(update, "value")
    training.when_trained["inside"] = receive
    receive(training.trained)
    display(column(numbers, patchings, sentence, drawing))
