"""The panel that looks inside: a test image, cut into patches and followed through the network, matrix by matrix."""

import ipywidgets as widgets
from IPython.display import Markdown, display

import my_utils as mu
from common.curves import show
from common.fashion_mnist import CLASSES
from report.network import describe_walk, draw_network, walk
from report.panels.parts import PATCHINGS, draw_svg, load_test_images, picture, to_html
from study import notebooks


def show_network(training, image=0, patching=0):
    """Display a panel that cuts a test image into patches and follows it through the network, matrix by matrix.

    Args:
        training: the `Training` whose network is shown, once there is one and if it has the chosen patching;
            otherwise an untrained one, with He's initialisation.
        image: number of the test image that comes first.
        patching: index into `get_possible_patches(784)` that comes first.
    """
    images, labels = load_test_images()
    setting = notebooks.defaults("figure_4")
    untrained = [mu.net_of(setting | {"patching": index}).eval() for index in range(len(PATCHINGS))]

    def look(image, patching):
        net, trained = untrained[patching], training.net
        if trained and trained.stem.patch_dims == net.stem.patch_dims:
            net = trained
        steps = walk(net, images[[image]])
        guess, truth = CLASSES[steps[-1].matrix.argmax()], CLASSES[labels[image]]
        text = f"Test image {image}, **{truth}**, in {PATCHINGS[patching]} pixels. " + (
            f"The network trained above takes it for **{guess}**."
            if net is trained
            else "The network is untrained, so its scores mean nothing yet: train one with this patching above."
        )
        return text, (draw_network, images[image, 0].numpy(), net.stem.patch_dims, steps)

    if not mu.somebody_is_looking():
        text, (draw, *arguments) = look(image, patching)
        show(
            draw(*arguments),
            alt=f"An image cut into patches, and the matrix after each operation. {describe_walk(arguments[-1])}",
        )
        display(Markdown(text))
        return
    numbers = widgets.IntSlider(
        image, 0, len(labels) - 1, description="image", continuous_update=False, layout={"width": "40em"}
    )
    patchings = widgets.ToggleButtons(options=[(text, index) for index, text in enumerate(PATCHINGS)], value=patching)
    patchings.style.button_width = "11.5em"
    sentence, drawing = widgets.HTML(), picture("960px")

    def update(_change=None):
        text, arguments = look(numbers.value, patchings.value)
        sentence.value, drawing.value = to_html(text), draw_svg(*arguments)

    update()
    numbers.observe(update, "value")
    patchings.observe(update, "value")
    training.when_trained.append(update)
    display(widgets.VBox([numbers, patchings, sentence, drawing]))
