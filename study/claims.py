"""What the report says, read from `claims.yaml`: every figure, every sweep of settings, every comparison.

A setting is a complete set of parameters of a run, seed apart: what a notebook's parameters cell holds, and whatever
the claims change in it. It is a dict from name to value; everything else here is a dataclass.
"""

import math
from dataclasses import dataclass
from functools import cache
from itertools import product

import jsonschema
import yaml

from common import ROOT
from common.errors import UserError
from common.parameters import ParameterError, check_names, check_parameters
from study.claims_schema import SCHEMA
from study.notebooks import MEND, defaults, path_of

CLAIMS = ROOT / "claims.yaml"
NUM_VALIDATION = 10000  # training images held out where settings are chosen without the test images


class ClaimsError(UserError):
    """claims.yaml is not what it should be; the message says where and what was expected."""


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
        steps: from the name of a factor to the report's figures before and after it is switched on.
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
        chosen: name of the chosen candidate.
        candidates: from name to setting, with all training images.
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
    """A claim that each of some settings is better, or no better, than each of some others.

    Attributes:
        relation: "better" or "no_better".
        pairs: of settings that differ, the one said to be better (or no better) first.
        margin: by which it has to be better, as a fraction.
    """

    name: str
    figure: int
    text: str
    relation: str
    pairs: tuple
    margin: float


@dataclass(frozen=True)
class Claims:
    """The whole of claims.yaml, each section by name."""

    figures: dict
    sweeps: dict
    held_out: tuple  # names of sweeps
    factorial: Factorial
    beyond: dict
    comparisons: dict
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
        ClaimsError: the file is missing, is no YAML, a key is missing, misspelt, twice there or of the wrong kind, or
            a setting has a parameter that its notebook hasn't got, or a value that makes no sense.
        NotebookError: a notebook that a setting starts from is damaged.
    """
    try:
        content = path.read_bytes()
        tree = yaml.load(content, _Loader)
    except OSError as error:
        raise ClaimsError(f"{path} can't be read: {error.strerror}; {MEND}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # PyYAML itself fails on some dates
        raise ClaimsError(f"{path} is not valid YAML: {' '.join(str(error).split())}; {MEND}") from None
    if not content.endswith(b"\n...\n"):
        raise ClaimsError(f"{path} is cut off: expected ... as its last line; {MEND}")
    errors = list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(tree))
    if errors:
        best = jsonschema.exceptions.best_match(errors)
        place = best.absolute_path
        text = best.message if best.parent else "; ".join(error.message for error in errors if error.path == place)
        raise ClaimsError(f"{path}, at {'.'.join(map(str, place)) or 'the top'}: {text}; {MEND}")
    try:
        return _build(tree)
    except _WrongError as error:
        raise ClaimsError(f"{path}, at {error}; {MEND}") from None


class _Loader(yaml.SafeLoader):
    """YAML without what a slip of the hand makes of it: a key that stands twice, a number that is none."""

    def construct_mapping(self, node, deep=False):
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key stands twice", node.start_mark)
        return mapping

    def construct_yaml_float(self, node):
        value = super().construct_yaml_float(node)
        if not math.isfinite(value):
            raise yaml.constructor.ConstructorError(None, None, "a number is not finite", node.start_mark)
        return value


_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


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
        if f"figure_{comparison.figure}" not in figures:
            raise _WrongError(f"comparisons.{name}.figure: there is no figure_{comparison.figure} under figures")
    factorial = _factorial(tree["factorial"], complete, figures)
    for name, scale in tree["scales"].items():
        if sorted(set(scale)) != scale:
            raise _WrongError(f"scales.{name}: expected where an axis begins, breaks and ends, in this order")
    return Claims(figures, sweeps, tuple(tree["held_out"]), factorial, beyond, comparisons, tree["scales"])


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
    def settings(side):
        place, listed = f"comparisons.{name}.{side}", []
        for item in entry[side] if isinstance(entry[side], list) else [entry[side]]:
            if "sweep" in item:
                _check_sweep(place, item["sweep"], sweeps)
                listed += sweeps[item["sweep"]].settings
            else:
                changes = {key: value for key, value in item.items() if key != "notebook"}
                listed.append(complete(place, item["notebook"], changes))
        return listed

    relation = "better" if "better" in entry else "no_better"
    pairs = tuple((a, b) for a in settings(relation) for b in settings("than") if not are_same(a, b))
    return Claim(name, entry["figure"], entry["claim"], relation, pairs, entry.get("margin", 0.0))


def _hold_out(setting):
    return setting | {"num_validation": NUM_VALIDATION}


def are_same(first, second):
    """Say whether two settings train alike; in how many rounds the epochs come changes nothing."""
    return {**first, "num_rounds": 1} == {**second, "num_rounds": 1}
