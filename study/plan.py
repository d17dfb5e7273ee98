"""Plan a batch: which runs some figures and sweeps come to, with every parameter checked before any kernel starts."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from common import ROOT
from common.errors import UserError
from common.parameters import AUGMENTATIONS, check_names, check_parameters
from study import claims, notebooks
from study.record import determinants, device_kind, run_key
from study.table import can_be_cut

# Measured, for estimates: the seconds that a notebook takes to start, and those of an epoch of Figure 4.
START, EPOCH = 7, 5
SEEDS_AT_ONCE = 32  # of a setting, on a GPU: as many as were measured


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
    def uses_gpu(self):
        return device_kind(self.parameters["device"]) == "cuda"

    @property
    def epoch_cost(self):
        """Time of an epoch relative to that of Figure 4, roughly."""
        cost = 2.0 if self.parameters["batch_norm"] else 1.0
        cost += 0.6 if self.parameters["dropout"] else 0.0
        cost += 14 / self.parameters["batch_size"]
        if self.parameters["batch_norm"] and (self.parameters["norm_axis"] == 2 or self.parameters["norm_after_relu"]):
            cost *= 2.9  # only `Net` itself computes it
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


@dataclass(frozen=True)
class Job:
    """One execution of a notebook: that of a run, or of `many_seeds`, which makes the runs of several seeds at once.

    Attributes:
        runs: a tuple of `Run`, of one setting.
    """

    runs: tuple

    @property
    def first(self):
        return self.runs[0]

    @property
    def notebook(self):
        return self.first.notebook if len(self.runs) == 1 else "many_seeds"

    @property
    def keys(self):
        return [run.key for run in self.runs]

    @property
    def key(self):
        return self.first.key

    @property
    def epoch_cost(self):
        return sum(run.epoch_cost for run in self.runs)

    @property
    def cost(self):
        return sum(run.cost for run in self.runs)

    def parameters_on(self, project):
        """Return the parameters of its notebook, as `Run.parameters_on`."""
        parameters = self.first.parameters_on(project)
        if len(self.runs) == 1:
            return parameters
        defaults, own = notebooks.defaults(self.first.notebook), ("seed", "device", "runs_folder")
        return {
            "notebook": self.first.notebook,
            "overrides": {n: v for n, v in parameters.items() if n not in own and v != defaults[n]},
            "seeds": [run.parameters["seed"] for run in self.runs],
            "device": parameters["device"],
            "runs_folder": parameters["runs_folder"],
        }

    def name(self, known=()):
        """Name the run, or the first one and how many others there are."""
        others = len(self.runs) - 1
        return self.first.name(known) + (f", and {others} more of its seeds" if others else "")

    def __str__(self):
        return self.name()


def share_out(runs):
    """Share runs out into jobs, a list: on a CPU each is one of its own, on a GPU the seeds of a setting are one."""
    together = {}
    for run in runs:
        key = (run.notebook, run_key(run.parameters | {"seed": 0})) if run.uses_gpu else run.key
        together.setdefault(key, []).append(run)
    return [
        Job(tuple(group[start : start + SEEDS_AT_ONCE]))
        for group in together.values()
        for start in range(0, len(group), SEEDS_AT_ONCE)
    ]


def training(setting):
    """Name what settings have in common whose runs are beginnings of each other: a text, whatever the seed."""
    cut = {"num_epochs": 0} if can_be_cut(setting) else {}
    return repr(sorted(determinants(setting | {"seed": 0} | cut).items()))


def trainings(settings):
    """List pairs of notebook and setting without those whose runs are the beginnings of longer ones."""
    longest = {}
    for notebook, setting in settings:
        _, other = longest.get(training(setting), (None, {"num_epochs": 0}))
        if setting["num_epochs"] > other["num_epochs"]:
            longest[training(setting)] = notebook, setting
    return list(longest.values())


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
    changed = [(notebook, check_parameters(setting | overrides)) for notebook, setting in swept]
    runs = {}
    for seed in seeds:
        changes = overrides | {"seed": seed, "runs_folder": str(runs_folder)}
        planned = [
            Run(notebook, check_parameters(setting | changes)) for notebook, setting in [*trainings(changed), *own]
        ]
        runs |= {run.key: run for run in planned}
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
