"""The panel that trains: choose every hyper-parameter, watch the curve grow, compare it with a report's figure."""

import sys
import threading
from copy import deepcopy
from typing import NamedTuple

import ipywidgets as widgets
import torch
from IPython.display import Markdown, display
from torch import nn

import my_utils as mu
from common.curves import show
from common.parameters import MACHINERY, PARAMETERS, ParameterError, check_parameters
from report.panels.parts import PATCHINGS, SHOWING, column, draw_into, picture, row, to_html, with_tooltip
from report.panels.progress import Progress, Stopped, Watched
from report.panels.runs import Run, add_run, describe_runs, describe_seeds, draw_runs, setting_of
from study import claims

WITHOUT_CONTROL = ("num_rounds", "num_validation", "runs_folder")  # of no use in a panel
IN_FRONT = ("learning_rate", "batch_size", "num_epochs", "seed")  # the other controls are folded
# Of the arrows beside a number.
STEPS = {"learning_rate": 0.001, "weight_decay": 0.00001, "label_smoothing": 0.1, "dropout": 0.01}
NUM_SEEDS = 3  # of the button for several
TRAINING_COST = 3  # time of a batch that is learned from, one that is only looked at being 1
ONE_AT_A_TIME = threading.Lock()  # held by a training: PyTorch's random numbers come from one generator for all


class Trained(NamedTuple):
    """What a training leaves.

    Attributes:
        net: a copy on the CPU, in evaluation mode.
        predicted, labels: the classes that it gives the test images, and their own: (10000,), on the CPU.
    """

    net: nn.Module
    predicted: torch.Tensor
    labels: torch.Tensor


def make_controls():
    """Make one widget for each hyper-parameter, named and checked as the parameters of the figures' notebooks."""
    controls = {
        name: _control(name, parameter) for name, parameter in PARAMETERS.items() if name not in WITHOUT_CONTROL
    }
    for name, control in controls.items():
        control.description = name
        with_tooltip(control, PARAMETERS[name].help)
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

    Each of its runs keeps the figure and the parameters that it began with, whatever is chosen meanwhile.

    Args:
        figure: the figure whose setting comes first, such as "figure_4".
        overrides: parameters that differ from the figure's, by name.

    Attributes:
        untrained: a network for each patching, with the initialisation of the first setting.
        trained: what the last training left, a `Trained`; None before.
        when_trained: functions that the other panels have left here, by panel, to be given the next `Trained`.
        runs: the trainings so far, each a `Run`, the last one last.
    """

    latest = None  # the panel that was made or set going last: it stops the one before

    def __init__(self, figure="figure_4", **overrides):
        self.figures = claims.load().figures
        self.trained = self.thread = None
        self.when_trained, self.runs = {}, []
        self.busy, self.stopping = threading.Lock(), threading.Event()  # the lock is held as long as a thread trains
        self.figure = widgets.Dropdown(
            options=[(f"Figure {figure.number}: {figure.change}", name) for name, figure in self.figures.items()],
            value=figure,
            description="Setting of",
        )
        with_tooltip(
            self.figure, "puts the setting of one of the report's figures into the controls, for the next run"
        )
        self.figure.style.description_width, self.figure.layout.width = "8.5em", "min(36em, 98%)"
        self.controls = make_controls()
        self.run_button = widgets.Button(description="Run", icon="play", button_style="primary")
        self.seeds_button = widgets.Button(description=f"Run {NUM_SEEDS} seeds", icon="clone")
        self.stop_button = widgets.Button(description="Stop", icon="stop", disabled=True)
        self.run_button.tooltip = "train once with these settings"
        self.seeds_button.tooltip = "train with this seed and with those after it, to see what the seed alone changes"
        self.stop_button.tooltip = "end the training after the batch that it is at"
        self.progress, self.left = widgets.FloatProgress(max=1, layout={"width": "16em"}), widgets.HTML()
        self.status = widgets.HTML("Nothing is trained yet.")
        self.curve = picture("760px")
        setting = setting_of(self.figures[figure])
        self.set_parameters(setting | overrides)
        self.figure.observe(self.choose_figure, "value")
        self.run_button.on_click(lambda _button: self.run())
        self.seeds_button.on_click(lambda _button: self.run(NUM_SEEDS))
        self.stop_button.on_click(lambda _button: self.stop())
        self.take_over()
        # Made here, before anything trains: it draws random numbers, which a training would miss.
        with torch.random.fork_rng(devices=[]):
            self.untrained = [mu.net_of(setting | {"patching": index}).eval() for index in range(len(PATCHINGS))]

    def take_over(self):
        """Stop what another panel trains, such as that of this cell's last execution, and take its observers over."""
        before, Training.latest = Training.latest, self
        if before not in (None, self):
            before.stop()
            self.when_trained = before.when_trained

    def show(self):
        """Display the panel; where nobody is looking train at once and display the curve."""
        if mu.somebody_is_looking():
            self.draw_empty()
            front = [self.controls[name] for name in IN_FRONT]
            rest = [control for name, control in self.controls.items() if name not in IN_FRONT]
            others = widgets.Accordion([_grid(rest)], selected_index=None)
            others.set_title(0, "All other hyper-parameters")
            buttons = row(self.run_button, self.seeds_button, self.stop_button, self.progress, self.left)
            display(column(self.figure, _grid(front), others, buttons, self.status, self.curve))
        else:
            run = Run(self.figures[self.figure.value], check_parameters(self.parameters()))
            self.train(run, Progress(self.progress, self.left, 1))
            show(draw_runs([run]), describe_runs([run]))
            display(Markdown(run.describe("Done")))

    def choose_figure(self, _change=None):
        """Take over a figure's setting; what is the run's own, such as the seed and the number of images, stays."""
        setting = setting_of(self.figures[self.figure.value])
        self.set_parameters({name: value for name, value in setting.items() if name not in MACHINERY})
        self.draw_empty()

    def draw_empty(self):
        """Draw the axes for the figure that is chosen, until there are curves."""
        with SHOWING:
            if not self.runs:
                self.draw([Run(self.figures[self.figure.value], self.parameters())])

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

    def run(self, num_seeds=1):
        """Start a training in a thread of its own, so that the notebook stays free, or one for each of some seeds."""
        if not self.busy.acquire(blocking=False):
            return  # a click that was on its way when the buttons turned grey
        try:
            figure, parameters = self.figures[self.figure.value], check_parameters(self.parameters())
            seeds = range(parameters["seed"], parameters["seed"] + num_seeds)
            runs = [Run(figure, parameters | {"seed": seed}) for seed in seeds]
            self.stopping.clear()
            self.take_over()
            self.thread = threading.Thread(target=self.train_all, args=(runs,), daemon=True)
            self.thread.start()
        except BaseException as error:
            self.busy.release()
            if not isinstance(error, ParameterError):
                raise
            self.status.value = to_html(f"**{error}**")
            return
        if "google.colab" in sys.modules:
            self.wait()

    def wait(self):
        """Keep the notebook busy as long as the thread trains: Colab shows nothing that it changes later.

        See https://github.com/googlecolab/colabtools/issues/3373. A click on Stop comes too late there, an interrupt
        doesn't.
        """
        try:
            with self.busy:  # Thread.join would take the thread for ended after an interrupt
                return
        except KeyboardInterrupt:
            self.stop()
            self.wait()

    def stop(self):
        """Let the training, if there is one, end after the batch that it is at."""
        self.stopping.set()
        self.stop_button.disabled = True

    def train_all(self, runs):
        """Train one run after the other, until they are done or stopped."""
        self.run_button.disabled = self.seeds_button.disabled = True
        self.stop_button.disabled = self.stopping.is_set()
        progress = Progress(self.progress, self.left, len(runs))
        try:
            for run in runs:
                if not self.stopping.is_set():
                    self.train(run, progress)
        except Exception as error:  # a thread's exception would reach nobody
            self.status.value = to_html(f"**{type(error).__name__}: {error}**")
        finally:
            self.progress.value, self.left.value = 0, ""
            self.run_button.disabled, self.seeds_button.disabled, self.stop_button.disabled = False, False, True
            self.busy.release()

    def train(self, run, progress):
        """Train a network as the figures' notebooks do, until it is done or stopped."""
        self.status.value = "Waiting for another panel's training to stop …"
        device = mu.get_device(run.parameters["device"])
        # The generator is given back as it was: whatever is clicked, a cell below draws the same numbers.
        with ONE_AT_A_TIME, torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            self.status.value = "Reading the data …"
            torch.set_num_threads(1)  # as in the figures' notebooks; it leaves the other cores to the panels
            parameters = run.parameters
            train_iter, test_iter = mu.load_data_fashion_mnist(
                parameters["batch_size"],
                seed=parameters["seed"],
                device=device,
                train_limit=parameters["train_limit"],
                augmentation=parameters["augmentation"],
            )
            net = mu.net_of(parameters).to(device)
            names = ("learning_rate", "weight_decay")
            optimizer = mu.get_optimizer(
                parameters["optimizer_name"], net.parameters(), *(parameters[name] for name in names)
            )
            scheduler = mu.get_scheduler(parameters["schedule"], optimizer, run.num_epochs * len(train_iter))
            watched = (
                Watched(train_iter, TRAINING_COST, progress, self.stopping),
                Watched(test_iter, 1, progress, self.stopping),
            )
            progress.start(run.num_epochs * sum(batches.cost * len(batches) for batches in watched))
            self.runs = add_run(self.runs, run)
            self.tell(run, progress)
            try:
                loss = nn.CrossEntropyLoss(label_smoothing=parameters["label_smoothing"])
                for measures in mu.train_epochs(net, *watched, loss, run.num_epochs, optimizer, scheduler):
                    run.history.append(measures)
                    self.tell(run, progress)
            except Stopped:
                self.tell(run, progress, f"Stopped in epoch {len(run.history) + 1}")
            if progress.done:  # else the network is still untrained
                predicted, labels = (classes.cpu() for classes in mu.predict(net, test_iter))
                self.trained = Trained(deepcopy(net).cpu().eval(), predicted, labels)
                for receive in list(self.when_trained.values()):
                    receive(self.trained)

    def tell(self, run, progress, state=None):
        """Show how far a run is, in the curve and in words."""
        if state is None:
            state = "Done, epoch {0} of {0}" if run.is_done else f"Epoch {len(run.history) + 1} of {{0}}"
            state = state.format(run.num_epochs)
            self.draw(self.runs)
        if progress.num_trainings > 1:
            state = f"Seed {run.parameters['seed']}, {progress.number + 1} of {progress.num_trainings}. {state}"
        self.status.value = to_html(f"{run.describe(state)}\n{describe_seeds(self.runs)}".strip())

    def draw(self, runs):
        draw_into(self.curve, describe_runs(runs), draw_runs, runs)


def _grid(controls):
    layout = widgets.Layout(
        grid_template_columns="repeat(auto-fill, minmax(min(18em, 100%), 1fr))", width="100%", overflow="visible"
    )
    return widgets.GridBox(controls, layout=layout)
