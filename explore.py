"""The panels of `notebooks/explore.ipynb`: train the network, look into it, see where it errs, browse the figures.

Each panel is a few widgets around one picture that is exchanged in place. Where nobody can press a button, as under
papermill and nbconvert, a panel is a static picture instead. The widgets used are those that ipywidgets 7.7.1, which
Colab has, and 8 share.
"""

import html
import re
import threading
import time
from copy import deepcopy
from functools import cache, partial

import ipywidgets as widgets
import numpy as np
import torch
from IPython.display import Markdown, display
from matplotlib import style
from matplotlib.figure import Figure
from torch import nn

import claims
import evidence
import model
import my_utils as mu
import records
import reporting
from fashion_mnist import CLASSES
from fast_forward import keep_freed_memory
from model import Net, Transpose, get_possible_patches

PATCHINGS = [f"{num_patches} patches of {dims}×{dims}" for num_patches, dims in get_possible_patches(784)]
ANY = -1  # class, for those that choose a class
ROWS, COLUMNS = 4, 6  # of a page of the gallery
DRAWING = threading.Lock()  # matplotlib's styles are global, and a training draws in a thread of its own


# Pictures and texts


def draw_svg(draw, *arguments):
    """Draw a figure as SVG bytes, whichever thread asks for it."""
    with DRAWING:
        return mu.to_svg(draw(*arguments)).encode()


def picture(width):
    """Return a widget for an SVG; a new `value` takes the place of the old one without flicker."""
    return widgets.Image(format="svg+xml", layout=widgets.Layout(width=width, max_width="100%"))


def to_html(markdown):
    """Write sentences with **bold** and *slanted* words and lists as HTML, for widgets, which know no Markdown."""
    text = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", html.escape(markdown))
    text = re.sub(r"\*(.+?)\*", r"<i>\1</i>", text)
    return re.sub(r"\n+", "<br>", text.replace("\n- ", "\n• "))


def row(*children):
    return widgets.HBox(children, layout=widgets.Layout(flex_flow="row wrap", align_items="center"))


# Training


class Stopped(Exception):
    """The user pressed Stop."""


class Training:
    """A panel to choose every hyper-parameter, train, and compare the curve with a figure of the report.

    Args:
        figure: the figure whose setting comes first, such as "figure_4".
        overrides: parameters that differ from the figure's, by name.

    Attributes:
        net: a copy on the CPU of the network trained last, in evaluation mode; None before.
        predicted, labels: the classes that it gives the test images, and their own: (10000,), on the CPU.
    """

    running = None  # the one that trains: a cell that is run again stops what its first run began

    def __init__(self, figure="figure_4", **overrides):
        if Training.running:
            Training.running.stop()
        self.net = self.thread = None
        self.when_trained = []
        self.stopping = threading.Event()
        self.claims = claims.load()["figures"]
        self.figure = widgets.Dropdown(
            options=[(f"Figure {name[7:]}: {claim['change']}", name) for name, claim in self.claims.items()],
            value=figure,
            description="Setting of",
            layout=widgets.Layout(width="34em"),
        )
        self.controls = make_controls()
        self.run_button = widgets.Button(description="Run", icon="play", button_style="primary")
        self.stop_button = widgets.Button(description="Stop", icon="stop", disabled=True)
        self.progress = widgets.FloatProgress(max=1, layout=widgets.Layout(width="16em"))
        self.status = widgets.HTML("Nothing is trained yet.")
        self.curve = picture("760px")
        self.choose_figure()
        self.set_parameters(overrides)
        self.figure.observe(self.choose_figure, "value")
        self.run_button.on_click(self.run)
        self.stop_button.on_click(self.stop)

    def show(self):
        """Display the panel; where nobody is looking train at once and display the curve."""
        if mu.somebody_is_looking():
            self.draw([], self.controls["num_epochs"].value)
            grid = widgets.Layout(grid_template_columns="repeat(auto-fill, minmax(22em, 1fr))", width="100%")
            buttons = row(self.run_button, self.stop_button, self.progress)
            controls = widgets.GridBox(list(self.controls.values()), layout=grid)
            display(widgets.VBox([self.figure, controls, buttons, self.status, self.curve]))
        else:
            history = self.train(records.check_parameters(self.parameters()))
            reported = self.reported()
            mu.show(mu.plot_curves([history], reported), alt=mu.describe_curves(history, reported))
            display(mu.compare(history[-1]["test_accuracy"], reported))

    def reported(self):
        return self.claims[self.figure.value]["reported"]

    def choose_figure(self, _change=None):
        self.set_parameters({"schedule": "constant"} | claims.notebook_defaults(self.figure.value))

    def set_parameters(self, parameters):
        for name in self.controls.keys() & parameters.keys():
            value = parameters[name]
            self.controls[name].value = ", ".join(map(str, value)) if name == "num_hidden" else value

    def parameters(self):
        """Return the values of the controls, as a notebook's parameters cell would have them."""
        values = {name: control.value for name, control in self.controls.items()}
        sizes = values["num_hidden"].split(",")
        values["num_hidden"] = [int(size) if size.strip().isdigit() else size for size in sizes]
        return values | {"augmentation": list(values["augmentation"])}

    def run(self, _button=None):
        """Start a training in a thread of its own, so that the notebook stays free."""
        try:
            parameters = records.check_parameters(self.parameters())
        except records.ParameterError as error:
            self.status.value = to_html(f"**{error}**")
            return
        self.stopping.clear()
        self.run_button.disabled, self.stop_button.disabled = True, False
        Training.running = self
        self.thread = threading.Thread(target=self.train_and_tell, args=(parameters,), daemon=True)
        self.thread.start()

    def stop(self, _button=None):
        """Let the training end after the batch that it is at."""
        self.stopping.set()
        self.stop_button.disabled = True

    def train_and_tell(self, parameters):
        try:
            self.train(parameters)
        except Exception as error:  # a thread's exception would reach nobody
            self.status.value = to_html(f"**{type(error).__name__}: {error}**")
        finally:
            self.progress.value = 0
            self.run_button.disabled, self.stop_button.disabled = False, True

    def train(self, parameters):
        """Train a network as the figures' notebooks do, until it is done or stopped, and return its history."""
        torch.set_num_threads(1)  # as in the figures' notebooks; it leaves the other cores to the panels
        keep_freed_memory()
        self.status.value = "Reading the data …"
        train_iter, test_iter = mu.load_data_fashion_mnist(
            parameters["batch_size"],
            seed=parameters["seed"],
            device=parameters["device"],
            train_limit=parameters["train_limit"],
            augmentation=parameters["augmentation"],
        )
        net = make_net(parameters).to(mu.get_device(parameters["device"]))
        optimizer = getattr(torch.optim, parameters["optimizer_name"])(
            net.parameters(), lr=parameters["learning_rate"], weight_decay=parameters["weight_decay"], fused=True
        )
        history, num_epochs = [], parameters["num_epochs"]
        scheduler = mu.get_scheduler(parameters["schedule"], optimizer, num_epochs * len(train_iter))
        step = mu.TrainingStep(net, nn.CrossEntropyLoss(), optimizer, scheduler)
        self.draw(history, num_epochs)
        try:
            while len(history) < num_epochs:
                self.status.value = self.describe(history, f"Epoch {len(history) + 1} of {num_epochs}")
                measures = mu.train_epoch(step, self.watch(train_iter))
                accuracy = mu.evaluate_accuracy(net, self.watch(test_iter))
                history.append(measures | {"test_accuracy": accuracy})
                self.draw(history, num_epochs)
        except Stopped:
            self.status.value = self.describe(history, f"Stopped in epoch {len(history) + 1}")
        else:
            self.status.value = self.describe(history, f"Done, epoch {num_epochs} of {num_epochs}")
        self.predicted, self.labels = (classes.cpu() for classes in mu.predict(net, test_iter))
        self.net = deepcopy(net).cpu().eval()
        for tell in self.when_trained:
            tell()
        return history

    def watch(self, batches):
        """Pass batches on, keeping the progress bar up to date, until Stop is pressed."""
        drawn = 0
        for number, batch in enumerate(batches, start=1):
            if self.stopping.is_set():
                raise Stopped
            yield batch
            if time.monotonic() - drawn > 0.2:  # seconds; more often would only keep the browser busy
                self.progress.value = number / len(batches)
                drawn = time.monotonic()

    def draw(self, history, num_epochs):
        self.curve.value = draw_svg(draw_live_curve, history, self.reported(), num_epochs)

    def describe(self, history, state):
        if not history:
            return f"{state}."
        comparison = mu.compare(history[-1]["test_accuracy"], self.reported()).data
        return to_html(f"{state}. {comparison.replace('this figure', f'Figure {self.figure.value[7:]}')}")


def make_controls():
    """Make one widget for each hyper-parameter, named and checked as the parameters of the figures' notebooks."""
    controls = {
        "initializer": widgets.Dropdown(options=list(model.INITIALIZERS)),
        "optimizer_name": widgets.Dropdown(options=records.OPTIMIZERS),
        "learning_rate": widgets.FloatText(step=0.001),
        "weight_decay": widgets.FloatText(step=0.00001),
        "batch_size": widgets.IntText(),
        "num_epochs": widgets.IntText(),
        "schedule": widgets.Dropdown(options=records.SCHEDULES),
        "batch_norm": widgets.Checkbox(),
        "norm_axis": widgets.Dropdown(options=[1, 2]),
        "norm_after_relu": widgets.Checkbox(),
        "dropout": widgets.FloatText(step=0.01),
        "augmentation": widgets.SelectMultiple(options=mu.AUGMENTATIONS, rows=3),
        "num_hidden": widgets.Text(),
        "patching": widgets.Dropdown(options=[(text, index) for index, text in enumerate(PATCHINGS)]),
        "seed": widgets.IntText(),
        "train_limit": widgets.IntText(),
        "device": widgets.Dropdown(options=["auto", "cpu", "cuda"]),
    }
    for name, control in controls.items():
        control.description = name
        control.style.description_width = "8.5em"
        control.layout.width = "98%"
    return controls


def make_net(parameters):
    """Build and initialise the network of some parameters."""
    num_patches, patch_dims = get_possible_patches(784)[parameters["patching"]]
    torch.manual_seed(parameters["seed"])
    net = Net(
        28,
        num_patches,
        patch_dims,
        parameters["num_hidden"],
        len(CLASSES),
        **{name: parameters[name] for name in ("batch_norm", "norm_axis", "norm_after_relu", "dropout")},
    )
    return net.apply(partial(model.init_weights, initializer=parameters["initializer"]))


def draw_live_curve(history, reported, num_epochs):
    """Draw the curves of a training, finished or not, on axes that have room for all its epochs."""
    figure = mu.plot_curves([history or [dict.fromkeys(mu.CURVES)]], reported)
    for axes in figure.axes:
        axes.set_xlim(0.5, num_epochs + 0.5)
    if not history:  # nothing but the reported accuracy to be named yet
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legends[0].remove()
        figure.legend(handles[-1:], labels[-1:], loc="outside upper center")
    return figure


# A look into the network


@cache
def load_test_images():
    """Return the test images (10000, 1, 28, 28), in [0, 1], and their labels (10000,), on the CPU."""
    _, test_iter = mu.load_data_fashion_mnist(256, device="cpu")
    return test_iter.images, test_iter.labels


def show_network(training, image=0, patching=0):
    """Display a panel that cuts a test image into patches and follows it through the network, matrix by matrix.

    Args:
        training: the `Training` whose network is shown, once there is one and if it has the chosen patching;
            otherwise an untrained one, with He's initialisation.
        image: number of the test image that comes first.
        patching: index into `get_possible_patches(784)` that comes first.
    """
    images, labels = load_test_images()
    setting = claims.notebook_defaults("figure_4")
    untrained = [make_net(setting | {"patching": index}).eval() for index in range(len(PATCHINGS))]

    def look(image, patching):
        net, trained = untrained[patching], training.net
        if trained and trained.stem.patch_dims == net.stem.patch_dims:
            net = trained
        steps = follow(net, images[[image]])
        guess, truth = CLASSES[steps[-1][2].argmax()], CLASSES[labels[image]]
        text = f"Test image {image}, **{truth}**, in {PATCHINGS[patching]} pixels. " + (
            f"The network trained above takes it for **{guess}**."
            if net is trained
            else "The network is untrained, so its scores mean nothing yet: train one with this patching above."
        )
        return text, (draw_network, images[image, 0], net.stem.patch_dims, steps)

    if not mu.somebody_is_looking():
        text, (draw, *arguments) = look(image, patching)
        mu.show(draw(*arguments), alt=describe_network(arguments[-1]))
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


def follow(net, X):
    """Follow one image through a network in evaluation mode.

    Args:
        net: a `Net`.
        X: the image, (1, 1, 28, 28).

    Returns:
        A list of (part, operation, matrix), where the matrix (rows, columns) is what the operation gave.
    """
    names = {nn.Linear: "linear", nn.BatchNorm1d: "batch norm", nn.ReLU: "ReLU", Transpose: "transpose"}
    layers = [("Stem", net.stem.linear), ("Stem", net.norm)]
    layers += [("MLP 1", layer) for layer in net.backbone.mlp1] + [("MLP 2", layer) for layer in net.backbone.mlp2]
    with torch.no_grad():
        X = net.stem.patches(X)
        steps = [("Stem", "cut", X[0].numpy())]
        for part, layer in layers:
            X, name = layer(X), names.get(type(layer))
            if name in ("ReLU", "batch norm"):  # shown together with the linear layer before
                steps[-1] = (part, f"{steps[-1][1]}, {name}", X[0].numpy())
            elif name:
                steps.append((part, name, X[0].numpy()))
        X = X.mean(dim=1, keepdim=True)
        steps.append(("Classifier", "mean", X[0].numpy()))
        steps.append(("Classifier", "linear", net.classifier.linear(X)[0].numpy()))
    return steps


def describe_network(steps):
    """Put the picture of `draw_network` into words, as its alternative text."""
    shapes = ". ".join(f"{part}, {name}: {len(matrix)} by {matrix.shape[1]}" for part, name, matrix in steps)
    return f"An image cut into patches, and the matrix after each operation. {shapes}."


def draw_network(image, patch_dims, steps):
    """Draw an image with the edges of its patches, the matrix after each step, and the class scores as bars."""
    colours = {"Stem": "C0", "MLP 1": "C1", "MLP 2": "C2", "Classifier": "C3"}
    with style.context(["petroff10", mu.STYLE, {"axes.grid": False}]):
        figure = Figure(figsize=(10, 4.6), layout="constrained")
        panels = figure.subplots(2, 6).flatten()
        panels[0].imshow(image, cmap="gray_r")
        for edge in np.arange(0, len(image) + 1, patch_dims) - 0.5:
            panels[0].axhline(edge, color="C0", linewidth=0.8)
            panels[0].axvline(edge, color="C0", linewidth=0.8)
        panels[0].set_title("image", fontsize=9)
        panels[0].set_xlabel("28 × 28")
        panels[0].spines[:].set_visible(False)
        for axes, (part, name, matrix) in zip(panels[1:], steps, strict=False):
            rows, columns = matrix.shape
            axes.imshow(matrix, cmap="cividis", aspect="auto", interpolation="nearest")
            axes.set_box_aspect(min(4, max(1 / 8, (rows / columns) ** 0.5)))  # sides as the roots of the sizes
            axes.set_title(f"{part}\n{name}", fontsize=9)
            axes.set_xlabel(f"{rows} × {columns}")
            axes.spines[:].set(visible=True, color=colours[part], linewidth=2)
        for axes in panels[:-1]:
            axes.set(xticks=[], yticks=[])
        scores = steps[-1][2][0]
        panels[-1].tick_params(length=0)
        panels[-1].set_xticks([])
        panels[-1].barh(CLASSES, scores, color=["C0" if score == scores.max() else "0.75" for score in scores])
        panels[-1].set_yticks(range(len(CLASSES)), CLASSES, fontsize=8)
        panels[-1].invert_yaxis()
        panels[-1].set_title("scores", fontsize=9)
    return figure


# What the network gets wrong


def show_mistakes(training):
    """Display a panel with the confusion matrix of a trained network and a gallery of the images that it gets wrong.

    Args:
        training: the `Training` whose network is judged, on the 10,000 test images.
    """
    images = load_test_images()[0][:, 0]
    if not mu.somebody_is_looking():
        shown = find_mistakes(training)[: ROWS * COLUMNS]
        mu.show(draw_confusion(training.labels, training.predicted), alt=describe_confusion(training))
        mu.show(draw_gallery(images, training, shown), alt="Test images that are taken for another class.")
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
    with style.context(["petroff10", mu.STYLE, {"axes.grid": False}]):
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
    with style.context(["petroff10", mu.STYLE, {"axes.grid": False}]):
        figure = Figure(figsize=(6.3, 5.2))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, COLUMNS), ylim=(ROWS, 0))
        axes.set_axis_off()
        for place, index in enumerate(shown.tolist()):
            i, j = divmod(place, COLUMNS)
            axes.imshow(images[index], cmap="gray_r", extent=(j + 0.1, j + 0.9, i + 0.72, i + 0.02), aspect="auto")
            truth, guess = CLASSES[training.labels[index]], CLASSES[training.predicted[index]]
            axes.text(j + 0.5, i + 0.74, f"{truth}\n→ {guess}", ha="center", va="top", fontsize=7.5)
        axes.set(xlim=(0, COLUMNS), ylim=(ROWS, 0))
    return figure


# The report's figures


def show_figures(folder):
    """Display a panel to browse the committed figures; where nobody is looking, all of them as one strip.

    Args:
        folder: with `figure_N.jsonl` and `figure_N.svg`; a relative one starts at the project's root.
    """
    results = reporting.load_results(folder)
    if not results:
        display(Markdown(f"There are no figures in `{folder}` yet: run `python reproduce.py`."))
    elif not mu.somebody_is_looking():
        lines = ". ".join(reporting.caption(result) for result in results.values())
        mu.show(reporting.draw_overview(results), alt=f"Small plots of the training curves, one a figure. {lines}")
    else:
        found = evidence.load(folder)
        names = [(f"Figure {result['number']}", name) for name, result in results.items()]
        chosen = widgets.ToggleButtons(options=names)
        chosen.style.button_width = "6em"
        drawing, sentence = picture("760px"), widgets.HTML()

        def update(_change=None):
            result = results[chosen.value]
            drawing.value = draw_svg(reporting.draw_result, result)
            sentence.value = to_html(describe_result(result, found))

        update()
        chosen.observe(update, "value")
        display(widgets.VBox([chosen, drawing, sentence]))


def describe_result(result, found):
    """Say below a figure what came out, and what follows from it, in Markdown."""
    verdict = evidence.figure_verdict(f"figure_{result['number']}", found)
    return f"{reporting.caption(result)}\n\n{verdict.data}"
