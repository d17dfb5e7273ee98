"""Plan a batch: which runs some figures and sweeps come to, with every parameter checked before any kernel starts."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from common import ROOT
from common.errors import UserError
from common.parameters import AUGMENTATIONS, check_names, check_parameters
from study import claims, notebooks
from study.record import device_kind, run_key
from study.table import can_be_cut

# Measured, for estimates: the seconds that a notebook takes to start, and those of an epoch of Figure 4.
START, EPOCH = 7, 6.5


class BatchError(UserError):
    """A batch can't do what it is asked for; the message says why, and what helps."""


@dataclass(frozen=True)
class Run:
    """One execution of a notebook: its name, such as "figure_4", and its complete parameters."""

    notebook: str
    parameters: dict

    @cached_property
    def key(self):
        return run_key(self.parameters)

    @property
    def record_path(self):
        return Path(self.parameters["runs_folder"]) / f"{self.key}.json"

    @property
    def epoch_cost(self):
        """Time of an epoch relative to that of Figure 4, roughly."""
        cost = 2.0 if self.parameters["batch_norm"] else 1.0
        cost += 0.6 if self.parameters["dropout"] else 0.0
        cost += 14 / self.parameters["batch_size"]
        cost += sum(AUGMENTATIONS[name] for name in self.parameters["augmentation"])
        return cost * self.parameters["train_limit"] / 60000 + 0.1

    @property
    def cost(self):
        return self.epoch_cost * self.parameters["num_epochs"]

    @property
    def seconds(self):
        """How long it takes on one core, roughly."""
        return START + EPOCH * self.cost

    def parameters_on(self, project):
        """Return the parameters for a worker that has the project in the given folder.

        In a copy of the project the record goes into the copy's own folder of runs. What "auto" means is decided here,
        where the run got its key.
        """
        if project == str(ROOT):
            return self.parameters
        return self.parameters | {"runs_folder": "runs", "device": device_kind(self.parameters["device"])}

    def name(self, known=()):
        """Name the run by what differs from its notebook, without parameters that the reader knows already."""
        defaults = notebooks.defaults(self.notebook)
        usual = ("seed", "runs_folder", *known)
        changed = [f"{n} {v}" for n, v in self.parameters.items() if n not in usual and v != defaults[n]]
        return ", ".join([f"{self.notebook} seed {self.parameters['seed']}", *changed])

    def __str__(self):
        return self.name()


def plan(figures, sweeps, seeds, overrides, runs_folder):
    """List the runs of some figures and sweeps, each once.

    Args:
        figures: their numbers.
        sweeps: of `sweep_names`.
        overrides: values of parameters that take the place of all others.

    Raises:
        ParameterError: an overridden parameter is unknown, of the wrong type, or out of range.
    """
    own = [(f"figure_{figure}", notebooks.defaults(f"figure_{figure}")) for figure in figures]
    for _, setting in own:
        check_names(overrides, setting)
    swept = [pair for sweep in sweeps for pair in sweep_settings(sweep, claims.load())]
    runs = {}
    for seed in seeds:
        changes = overrides | {"seed": seed, "runs_folder": str(runs_folder)}
        longest = {}  # the beginning of the longest run of a sweep serves for the shorter ones, where it can be cut
        for notebook, setting in swept:
            run = Run(notebook, check_parameters(setting | changes))
            cut = {"num_epochs": None} if can_be_cut(run.parameters) else {}
            training = run_key(run.parameters | cut)
            longest[training] = max(longest.get(training, run), run, key=lambda run: run.parameters["num_epochs"])
        of_figures = [Run(notebook, check_parameters(setting | changes)) for notebook, setting in own]
        runs |= {run.key: run for run in [*longest.values(), *of_figures]}
    return list(runs.values())


def sweep_names():
    """List the names of what can be run beyond the figures."""
    return [*claims.load().sweeps, *claims.SETS_OF_RUNS]


def sweep_settings(name, stated):
    """List pairs of notebook and setting of one of the `sweep_names`, as some `Claims` state them."""
    if name == "held_out":
        sweeps = [stated.sweeps[sweep] for sweep in stated.held_out]
        return [(sweep.notebook, setting) for sweep in sweeps for setting in sweep.held_out]
    if name == "factorial":
        return [(stated.factorial.notebook, setting) for _, setting in stated.factorial.runs]
    if name == "candidates":
        return [("beyond", setting) for search in stated.beyond.values() for setting in search.held_out.values()]
    if name == "beyond":
        return [("beyond", search.candidates[search.chosen]) for search in stated.beyond.values()]
    return [(stated.sweeps[name].notebook, setting) for setting in stated.sweeps[name].settings]
