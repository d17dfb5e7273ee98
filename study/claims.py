"""What the report says, read from `claims.yaml`: figures, sweeps of settings, comparisons, and how they are judged.

A setting, a dict, is a complete set of parameters of a run, seed apart: those of a notebook, some of them changed.
"""

import math
from dataclasses import dataclass
from functools import cache
from itertools import pairwise, product

from common import ROOT
from common.parameters import ParameterError, check_names, check_parameters
from study.claims_schema import ClaimsError, read_tree
from study.notebooks import MEND, defaults, path_of

CLAIMS = ROOT / "claims.yaml"
SETS_OF_RUNS = ("held_out", "factorial", "candidates", "beyond")  # beside the figures and the sweeps
THRESHOLDS = ("late_epochs", "epsilon", "level")  # of the protocol
NUM_VALIDATION = 10000  # training images held out where settings are chosen without the test images


@dataclass(frozen=True)
class Figure:
    """A figure: what changed, the part of its setting that the report states, and the accuracy that it gives."""

    name: str
    change: str
    stated: dict
    reported: float
    setting: dict  # complete

    @property
    def number(self):
        return int(self.name.removeprefix("figure_"))


@dataclass(frozen=True)
class Reported:
    """An accuracy that the report gives for one setting of a sweep, and what the setting changes in the notebook's."""

    changes: dict
    setting: dict
    accuracy: float


@dataclass(frozen=True)
class Sweep:
    """A notebook run with every combination of some values.

    Attributes:
        label: its name in tables.
        vary: from parameter to a list of values.
        settings: the complete ones, in the order of the combinations.
        reported: those that the report gives an accuracy of, as `Reported`.
    """

    name: str
    label: str
    notebook: str
    vary: dict
    settings: tuple
    reported: tuple

    @property
    def held_out(self):
        """The settings with training images held out."""
        return tuple(_hold_out(setting) for setting in self.settings)


@dataclass(frozen=True)
class Factorial:
    """Half of all combinations of the levels of some factors.

    Attributes:
        factors: from name to the parameters of its two levels.
        steps: from a factor's name to the report's figures before and after it is switched on.
        runs: for each run its levels, a tuple with -1 or 1 a factor, and its setting.
    """

    notebook: str
    factors: dict
    steps: dict
    runs: tuple


@dataclass(frozen=True)
class Search:
    """A search beyond the report.

    Attributes:
        limit: within which it looks, in words.
        candidates: from name to setting, with all training images; `chosen` is the name of one.
    """

    name: str
    limit: str
    chosen: str
    candidates: dict

    @property
    def held_out(self):
        """The candidates' settings with training images held out, by name."""
        return {name: _hold_out(setting) for name, setting in self.candidates.items()}


@dataclass(frozen=True)
class Claim:
    """A claim that some settings are better, or no better, than others, or that settings rise in their order.

    Attributes:
        ours: what the report leaves open and we have chosen; empty if nothing.
        relation: "better", "no_better" or "rising".
        runs: notebook and setting of each that it is about, rising ones in their order.
        pairs: of settings that differ, the one said to be better (or no better) first; of rising ones last and first.
        margin: by which it has to be better, as a fraction; a `relative` one of the other setting's accuracy.
    """

    name: str
    figure: int
    text: str
    ours: str
    relation: str
    runs: tuple
    pairs: tuple
    margin: float
    relative: bool


@dataclass(frozen=True)
class Protocol:
    """How the claims are judged, fixed before the first run that counts.

    Attributes:
        seeds: of the runs that decide.
        late_epochs: the number of last epochs over which a late accuracy is a mean.
        epsilon: the least difference of accuracies, as a fraction, that counts as one.
        level: probability of a false decision, over all claims together.
        besides: from the name of what else is run, and decides nothing, to its seeds.
    """

    seeds: range
    late_epochs: int
    epsilon: float
    level: float
    besides: dict


@dataclass(frozen=True)
class Claims:
    """The whole of claims.yaml, each section by name."""

    figures: dict
    sweeps: dict
    held_out: tuple  # names of sweeps
    factorial: Factorial
    beyond: dict
    comparisons: dict
    protocol: Protocol
    scales: dict  # of drawings: where an axis begins, breaks and ends

    @property
    def figure_numbers(self):
        """The numbers of the figures: those of the report, 2 to 9, and any that were added."""
        return sorted(figure.number for figure in self.figures.values())


@cache
def load():
    """Return the project's own claims, read and checked once a process."""
    return read(CLAIMS)


def read(path):
    """Read claims from a file such as claims.yaml.

    Raises:
        ClaimsError: as `read_tree`; or what is written at some place makes no sense.
        NotebookError: a notebook that a setting starts from is damaged.
    """
    try:
        return _build(read_tree(path))
    except _WrongError as error:
        raise ClaimsError(f"{path}, at {error}; {MEND}") from None


# From what is written to complete settings


class _WrongError(Exception):
    """What is written at a place in the file makes no sense: the place, a colon, and why."""


def _build(tree):
    for name in tree["figures"]:
        if not path_of(name).exists():
            raise _WrongError(f"figures.{name}: there is no notebook notebooks/{name}.ipynb")
    notebooks = {*tree["figures"], "beyond"}

    def complete(place, notebook, changes):
        if notebook not in notebooks:
            raise _WrongError(f"{place}.notebook: there is no {notebook} under figures")
        setting = defaults(notebook)
        try:
            check_names(changes, setting)
            check_parameters(setting | {"num_rounds": 1} | changes)
        except ParameterError as error:
            raise _WrongError(f"{place}: {error}") from None
        return setting | changes

    figures = {}
    for name, entry in tree["figures"].items():
        complete(f"figures.{name}.setting", name, entry["setting"])
        figures[name] = Figure(name, entry["change"], entry["setting"], entry["reported"], defaults(name))
    sweeps = {name: _sweep(name, entry, complete) for name, entry in tree["sweeps"].items()}
    for name in tree["held_out"]:
        _check_sweep("held_out", name, sweeps)
    beyond = {name: _search(name, entry, complete) for name, entry in tree["beyond"].items()}
    comparisons = {name: _claim(name, entry, complete, sweeps) for name, entry in tree["comparisons"].items()}
    for name, comparison in comparisons.items():
        if (figure := f"figure_{comparison.figure}") not in figures:
            raise _WrongError(f"comparisons.{name}.figure: there is no {figure} under figures")
    factorial = _factorial(tree["factorial"], complete, figures)
    if sorted(set(tree["scales"]["accuracy"])) != tree["scales"]["accuracy"]:
        raise _WrongError("scales.accuracy: expected where an axis begins, breaks and ends, in this order")
    protocol = _protocol(tree["protocol"], ["figures", *sweeps, *SETS_OF_RUNS])
    return Claims(figures, sweeps, tuple(tree["held_out"]), factorial, beyond, comparisons, protocol, tree["scales"])


def _check_sweep(place, name, sweeps):
    if name not in sweeps:
        raise _WrongError(f"{place}: there is no sweep {name!r}")


def _sweep(name, entry, complete):
    place, notebook, vary = f"sweeps.{name}", entry["notebook"], entry["vary"]
    complete(place, notebook, {})
    combinations = [dict(zip(vary, values, strict=True)) for values in product(*vary.values())]
    settings = tuple(complete(f"{place}.vary", notebook, changes) for changes in combinations)
    reported = []
    for row in entry["reported"]:
        changes = {key: value for key, value in row.items() if key != "accuracy"}
        reported.append(Reported(changes, complete(f"{place}.reported", notebook, changes), row["accuracy"]))
    return Sweep(name, entry.get("label", name.replace("_", " ")), notebook, vary, settings, tuple(reported))


def _factorial(entry, complete, figures):
    """List the runs of the factorial: the combinations whose levels multiply to 1.

    In this half no effect of one or two factors is mixed up with another one of these (a design of resolution V: Box,
    Hunter and Hunter, "Statistics for Experimenters").
    """
    notebook, factors, steps = entry["notebook"], entry["factors"], entry.get("steps", {})
    complete("factorial", notebook, {})
    for name, levels in factors.items():
        for changes in levels:
            complete(f"factorial.factors.{name}", notebook, changes)
    for name, ends in steps.items():
        if name not in factors:
            raise _WrongError(f"factorial.steps: there is no factor {name!r}")
        for figure in ends:
            if figure not in figures:
                raise _WrongError(f"factorial.steps.{name}: there is no {figure} under figures")
    runs = []
    for levels in product((-1, 1), repeat=len(factors)):
        if math.prod(levels) == 1:
            changes = [factor[level > 0] for factor, level in zip(factors.values(), levels, strict=True)]
            merged = {name: value for change in changes for name, value in change.items()}
            runs.append((levels, complete("factorial.factors", notebook, merged)))
    return Factorial(notebook, factors, steps, tuple(runs))


def _search(name, entry, complete):
    place = f"beyond.{name}"
    candidates = {
        candidate: complete(f"{place}.candidates.{candidate}", "beyond", changes)
        for candidate, changes in entry["candidates"].items()
    }
    if entry["chosen"] not in candidates:
        raise _WrongError(f"{place}.chosen: there is no candidate {entry['chosen']!r}")
    return Search(name, entry["limit"], entry["chosen"], candidates)


def _claim(name, entry, complete, sweeps):
    def runs(side):
        place, listed = f"comparisons.{name}.{side}", []
        for item in entry[side] if isinstance(entry[side], list) else [entry[side]]:
            if "sweep" in item:
                _check_sweep(place, item["sweep"], sweeps)
                sweep = sweeps[item["sweep"]]
                listed += [(sweep.notebook, setting) for setting in sweep.settings]
            else:
                changes = {key: value for key, value in item.items() if key != "notebook"}
                listed.append((item["notebook"], complete(place, item["notebook"], changes)))
        return listed

    (form,) = entry.keys() & {"better", "no_better", "ladder", "rising"}
    first = runs(form)
    than = runs("than") if "than" in entry else []
    pairs = [(a, b) for _, a in first for _, b in than if not are_same(a, b)]
    if form == "rising":
        pairs = [(first[-1][1], first[0][1])]
    elif form == "ladder":
        pairs = [(above, below) for (_, below), (_, above) in pairwise(first)]
    relation = "better" if form == "ladder" else form
    about = (name, entry["figure"], entry["claim"], entry.get("ours", ""), relation, (*first, *than), tuple(pairs))
    return Claim(*about, entry.get("margin", 0.0), entry.get("relative", False))


def _protocol(entry, names):
    def seeds(place, ends):
        if ends[0] > ends[1]:
            raise _WrongError(f"{place}.seeds: expected the first and the last")
        return range(ends[0], ends[1] + 1)

    besides = {}
    for number, group in enumerate(entry["besides"]):
        place = f"protocol.besides.{number}"
        for name in set(group["runs"]) - set(names):
            raise _WrongError(f"{place}.runs: there is no {name!r}")
        besides |= dict.fromkeys(group["runs"], seeds(place, group["seeds"]))
    return Protocol(seeds("protocol", entry["seeds"]), *(entry[n] for n in THRESHOLDS), besides)


def _hold_out(setting):
    return setting | {"num_validation": NUM_VALIDATION}


def are_same(first, second):
    """Say whether two settings train alike; in how many rounds the epochs come changes nothing."""
    return {**first, "num_rounds": 1} == {**second, "num_rounds": 1}
