"""The panel that trains: choose every hyper-parameter, watch the curve grow, compare it with a report's figure."""

import threading
import time
from copy import deepcopy

import ipywidgets as widgets
import torch
from IPython.display import display
from torch import nn

import my_utils as mu
from common.curves import CURVES, compare, describe_curves, plot_curves, show
from common.parameters import PARAMETERS, ParameterError, check_parameters
from report.panels.parts import PATCHINGS, draw_svg, picture, row, to_html
from study import claims, notebooks

WITHOUT_CONTROL = ("num_rounds", "num_validation", "runs_folder")  # of no use in a panel
STEPS = {"learning_rate": 0.001, "weight_decay": 0.00001, "dropout": 0.01}  # of the arrows beside a number


class Stopped(Exception):
    """The user pressed Stop."""


class Watched:
    """Batches that keep a panel's progress bar up to date as they pass, until Stop is pressed."""

    def __init__(self, batches, panel):
        self.batches, self.panel = batches, panel
        self.validation_iter = None  # a panel holds no images out

    def __iter__(self):
        drawn = 0
        for number, batch in enumerate(self.batches, start=1):
            if self.panel.stopping.is_set():
                raise Stopped
            yield batch
            if time.monotonic() - drawn > 0.2:  # seconds; more often would only keep the browser busy
                self.panel.progress.value = number / len(self.batches)
                drawn = time.monotonic()


def make_controls():
    """Make one widget for each hyper-parameter, named and checked as the parameters of the figures' notebooks."""
    controls = {
        name: _control(name, parameter) for name, parameter in PARAMETERS.items() if name not in WITHOUT_CONTROL
    }
    for name, control in controls.items():
        control.description = name
        tooltip = "tooltip" if control.has_trait("tooltip") else "description_tooltip"  # its name in ipywidgets 7
        setattr(control, tooltip, PARAMETERS[name].help)
        control.style.description_width = "8.5em"
        control.layout.width = "98%"
    return controls


def _control(name, parameter):
    if name == "patching":
        return widgets.Dropdown(options=[(text, index) for index, text in enumerate(PATCHINGS)])
    if parameter.type is bool:
        return widgets.Checkbox()
    if parameter.type is list:
        choices = parameter.choices
        return widgets.SelectMultiple(options=choices, rows=len(choices)) if choices else widgets.Text()
    if parameter.choices:
        return widgets.Dropdown(options=parameter.choices)
    return widgets.IntText() if parameter.type is int else widgets.FloatText(step=STEPS.get(name))


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
        self.figures = claims.load().figures
        self.figure = widgets.Dropdown(
            options=[(f"Figure {figure.number}: {figure.change}", name) for name, figure in self.figures.items()],
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
            history = self.train(check_parameters(self.parameters()))
            reported = self.reported()
            show(plot_curves([history], reported), alt=describe_curves(history, reported))
            display(compare(history[-1]["test_accuracy"], reported))

    def reported(self):
        return self.figures[self.figure.value].reported

    def choose_figure(self, _change=None):
        self.set_parameters({"schedule": "constant"} | notebooks.defaults(self.figure.value))

    def set_parameters(self, parameters):
        """Put values into the controls, by name; one without a control is left out."""
        for name in self.controls.keys() & parameters.keys():
            value = parameters[name]
            if name == "device" and value not in self.controls[name].options:
                self.controls[name].options = (*self.controls[name].options, value)  # such as cuda:1
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
            parameters = check_parameters(self.parameters())
        except ParameterError as error:
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
        self.status.value = "Reading the data …"
        train_iter, test_iter = mu.load_data_fashion_mnist(
            parameters["batch_size"],
            seed=parameters["seed"],
            device=parameters["device"],
            train_limit=parameters["train_limit"],
            augmentation=parameters["augmentation"],
        )
        net = mu.net_of(parameters).to(mu.get_device(parameters["device"]))
        names = ("learning_rate", "weight_decay")
        optimizer = mu.get_optimizer(
            parameters["optimizer_name"], net.parameters(), *(parameters[name] for name in names)
        )
        history, num_epochs = [], parameters["num_epochs"]
        scheduler = mu.get_scheduler(parameters["schedule"], optimizer, num_epochs * len(train_iter))
        watched = Watched(train_iter, self), Watched(test_iter, self)
        self.draw(history, num_epochs)
        self.status.value = self.describe(history, f"Epoch 1 of {num_epochs}")
        try:
            for measures in mu.train_epochs(net, *watched, nn.CrossEntropyLoss(), num_epochs, optimizer, scheduler):
                history.append(measures)
                self.draw(history, num_epochs)
                if len(history) < num_epochs:
                    self.status.value = self.describe(history, f"Epoch {len(history) + 1} of {num_epochs}")
        except Stopped:
            self.status.value = self.describe(history, f"Stopped in epoch {len(history) + 1}")
        else:
            self.status.value = self.describe(history, f"Done, epoch {num_epochs} of {num_epochs}")
        self.predicted, self.labels = (classes.cpu() for classes in mu.predict(net, test_iter))
        self.net = deepcopy(net).cpu().eval()
        for tell in self.when_trained:
            tell()
        return history

    def draw(self, history, num_epochs):
        self.curve.value = draw_svg(draw_live_curve, history, self.reported(), num_epochs)

    def describe(self, history, state):
        if not history:
            return f"{state}."
        comparison = compare(history[-1]["test_accuracy"], self.reported()).data
        number = self.figures[self.figure.value].number
        return to_html(f"{state}. {comparison.replace('this figure', f'Figure {number}')}")


def draw_live_curve(history, reported, num_epochs):
    """Draw the curves of a training, finished or not, on axes that have room for all its epochs."""
    figure = plot_curves([history or [dict.fromkeys(CURVES)]], reported)
    for axes in figure.axes:
        axes.set_xlim(0.5, num_epochs + 0.5)
    if not history:  # nothing but the reported accuracy to be named yet
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legends[0].remove()
        figure.legend(handles[-1:], labels[-1:], loc="outside upper center")
    return figure
