"""The parameters of a run: what each means, what is expected of it, and the test for that. The one place for them.

The notebooks' forms, the command line, the panels' controls, the estimates of time and the check of what papermill
hands over all derive from `PARAMETERS`. After a change `python colab.py stamp` writes it into the notebooks.
"""

import ast
import contextlib
import difflib
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common import ROOT
from common.errors import UserError
from common.files import expanded

INITIALIZERS = ("normal_", "xavier_normal_", "kaiming_normal_")  # those of model.py
OPTIMIZERS = ("SGD", "SGD_momentum", "RMSprop", "Adam", "AdamW")  # those of my_utils.get_optimizer
SCHEDULES = ("constant", "one_cycle")  # those of my_utils.get_scheduler


# Those of common/augmentation.py, and the time that each adds to an epoch, that of Figure 4 being 1.
AUGMENTATIONS = {"RandomAffine": 0.15, "RandomHorizontalFlip": 0.03, "RandomErasing": 0.05}


class ParameterError(UserError):
    """A parameter is unknown or makes no sense; the message says which, what was expected and what was given."""


@dataclass(frozen=True)
class Parameter:
    """What a run can be told.

    Attributes:
        type: of its values.
        help: what it is, in a few words, for forms and panels.
        expected: what a value has to be, in words, for whoever gave another one.
        is_valid: the test for that, a function of a value.
        choices: all valid values, if they are few; of a list, all valid items.
        example: of a list or a dict.
        changes_numbers: whether two runs that differ in it alone differ in their numbers.
        implied: of what only some notebooks can be told, the value by which the others train.
    """

    type: type
    help: str
    expected: str
    is_valid: Callable
    choices: tuple = ()
    example: list | dict | None = None
    changes_numbers: bool = True
    implied: str | float | None = None


def _one_of(choices, help, **options):
    expected = f"one of {', '.join(choices)}"
    return Parameter(str, help, expected, lambda value: value in choices, tuple(choices), **options)


def _list_of(choices, help):
    def is_valid(value):
        return type(value) is list and all(name in choices for name in value)

    expected, example = f"a list of names among {', '.join(choices)}", [choices[-1]]
    return Parameter(list, help, expected, is_valid, tuple(choices), example)


def _flag(help):
    return Parameter(bool, help, "True or False", lambda value: type(value) is bool, (False, True))


def _whole(least, most, help, **options):
    expected = f"a whole number from {least}" + (f" to {most}" if most < math.inf else " up")
    choices = tuple(range(least, most + 1)) if most - least < 10 else ()

    def is_valid(value):
        return type(value) is int and least <= value <= most

    return Parameter(int, help, expected, is_valid, choices, **options)


def _real(expected, condition, help, **options):
    def is_valid(value):
        return type(value) in (int, float) and abs(value) <= sys.float_info.max and condition(value)

    return Parameter(float, help, expected, is_valid, **options)


def _are_sizes(value):
    return type(value) is list and len(value) == 5 and all(type(n) is int and n >= 1 for n in value)


def _are_seeds(value):
    is_list = type(value) is list and all(type(seed) is int and seed >= 0 for seed in value)
    return is_list and 0 < len(value) == len(set(value))


def _is_device(value):
    return type(value) is str and re.fullmatch(r"auto|cpu|cuda(:\d+)?", value) is not None


def _is_folder(value):
    return type(value) is str and value != "" and ".." not in Path(value).parts


def _has_records(value):
    return type(value) is str and (ROOT / expanded(value) / "runs.jsonl").is_file()


PARAMETERS = {
    "initializer": _one_of(INITIALIZERS, "of the weights: N(0, 1), Xavier's or He's; biases start at 0"),
    "optimizer_name": _one_of(OPTIMIZERS, "of torch.optim"),
    "learning_rate": _real(
        "a finite number above 0", lambda value: value > 0, "the highest one, if there is a schedule"
    ),
    "schedule": _one_of(SCHEDULES, "of the learning rate over the training", implied="constant"),
    "weight_decay": _real("a finite number from 0 up", lambda value: value >= 0, "pulls every weight towards 0"),
    "batch_size": _whole(1, math.inf, "images a step"),
    "num_epochs": _whole(1, math.inf, "passes over the training images"),
    "num_rounds": _whole(1, math.inf, "calls of train that share these epochs", changes_numbers=False),
    "batch_norm": _flag("BatchNorm1d after every linear layer but the last"),
    "norm_axis": _whole(1, 2, "what BatchNorm1d normalises of (batch, rows, features)"),
    "norm_after_relu": _flag("within an MLP, BatchNorm1d after the ReLU instead of before"),
    "label_smoothing": _real(
        "a share from 0 to 1",
        lambda value: 0 <= value <= 1,
        "share of each label that is spread evenly over the classes",
        implied=0.0,
    ),
    "dropout": _real(
        "a probability from 0 to below 1", lambda value: 0 <= value < 1, "probability, after the ReLU of each MLP"
    ),
    "augmentation": _list_of(tuple(AUGMENTATIONS), "of torchvision.transforms.v2"),
    "num_hidden": Parameter(
        list,
        "outputs of the linear layers before the classifier",
        "a list of five whole numbers from 1 up",
        _are_sizes,
        example=[256, 128, 64, 32, 16],
    ),
    "patching": _whole(0, 4, "which of the possible patchings; 0 is 4 patches of 14×14, 1 is 16 of 7×7"),
    "seed": _whole(0, math.inf, "of the first weights, the order of the images, dropout and augmentation"),
    "train_limit": _whole(1, 60000, "training images used; fewer for a trial"),
    "num_validation": _whole(0, 59999, "training images held out, the last ones, to measure on as well"),
    "device": Parameter(
        str,
        "auto takes a GPU if there is one",
        "auto, cpu, cuda or cuda:1",
        _is_device,
        ("auto", "cpu", "cuda"),
        changes_numbers=False,  # but its kind does
    ),
    "runs_folder": Parameter(
        str, "where the record goes", "the path of a folder, without ..", _is_folder, changes_numbers=False
    ),
}
BEYOND_A_RUN = {  # of the notebooks that make several runs, or show what was run
    "figures_folder": Parameter(
        str,
        "with the records",
        "a folder with runs.jsonl, the table of records that reproduce.py leaves in figures/",
        _has_records,
    ),
    "own_folder": Parameter(
        str,
        "with records of your own, to be marked",
        "a folder with runs.jsonl, such as runs/figures, or an empty text",
        lambda value: value == "" or _has_records(value),
    ),
    "overrides": Parameter(
        dict,
        "in what a trial's runs differ from the notebooks",
        "a dict of parameters of a run",
        lambda value: type(value) is dict,
        example={"num_epochs": 3},
    ),
    "notebook": Parameter(
        str,
        "whose setting is trained",
        "the name of a notebook that trains, such as figure_4",
        lambda value: type(value) is str and re.fullmatch(r"figure_\d+|beyond", value) is not None,
    ),
    "seeds": Parameter(
        list, "of the runs", "a list of different whole numbers from 0 up", _are_seeds, example=[0, 1, 2]
    ),
    "claim": Parameter(
        str, "to be tested", "a name under comparisons in claims.yaml", lambda value: type(value) is str
    ),
    "num_seeds": _whole(1, 100, "each setting is trained with"),
    "trial_epochs": _whole(0, math.inf, "of the longest training, for a trial; 0 leaves all as the claim has them"),
}
IMPLIED = {name: parameter.implied for name, parameter in PARAMETERS.items() if parameter.implied is not None}
MACHINERY = ("seed", "train_limit", "num_validation", "device", "runs_folder")  # of a run, not of a network's training


def check_parameters(namespace):
    """Pick a notebook's parameters out of a dict, such as its `globals()`, and check each.

    Returns:
        A dict of those names of `PARAMETERS` and `BEYOND_A_RUN` that are there.

    Raises:
        ParameterError: a value has the wrong type or makes no sense, or papermill was asked for one that the notebook
            hasn't got.
    """
    known = PARAMETERS | BEYOND_A_RUN
    parameters = {name: namespace[name] for name in known if name in namespace}
    injected = _check_injected(namespace)
    for name, value in parameters.items():
        if not known[name].is_valid(value):
            hint = _hint(known[name], name, value) if name in injected else ""
            raise ParameterError(f"{name} is {value!r}: expected {known[name].expected}{hint}")
    if parameters.get("num_epochs", 0) % parameters.get("num_rounds", 1):
        raise ParameterError(
            f"num_epochs is {parameters['num_epochs']}: expected a multiple of num_rounds, {parameters['num_rounds']}"
        )
    if "overrides" in parameters:
        check_names(parameters["overrides"], PARAMETERS)
        check_parameters(parameters["overrides"])
    return parameters


def _hint(parameter, name, value):
    """Say how papermill has to be told what it handed over as a text, if something makes sense of the text."""
    if type(value) is not str or parameter.type is str:
        return ""
    if parameter.example:
        return f'; papermill takes it as -y "{name}: {parameter.example}"'.replace("'", "")
    try:
        meant = ast.literal_eval(value.capitalize())
    except (ValueError, SyntaxError):
        return ""
    return f", not a text: use -p {name} {meant}" if parameter.is_valid(meant) else ""


def _check_injected(namespace):
    """Compare what papermill was asked for, which it writes into a cell of its own, with what the notebook has.

    papermill lets an unknown name pass, and without a cell tagged `parameters` it puts its own first, where the
    notebook's values come after it and win. Whoever opens the executed notebook may change cells and run them again in
    any order: of papermill's cell the newest version counts, and only until this check has passed and a value is
    changed elsewhere.

    Returns:
        The names that papermill was asked for.
    """
    ran = namespace.get("In", [])  # IPython's list of the cells that ran; the last is the one that calls this
    injected = [(position, values) for position, cell in enumerate(ran) if (values := _injected_values(cell))]
    if not injected:
        return []
    position, values = injected[-1]
    first_check = ran.index(ran[-1], position)
    by_hand = _names_set_in(ran[first_check + 1 :])
    declared = _names_set_in(cell for cell in ran if re.search(r"^\w+: \w+ = ", cell, re.MULTILINE))
    names = [name for name in values if not name.startswith("PAPERMILL_")]  # --inject-paths
    check_names(names, declared or PARAMETERS | BEYOND_A_RUN)
    for name in names:
        if name not in by_hand and name in namespace and repr(namespace[name]) != repr(values[name]):
            raise ParameterError(
                f"{name} is {namespace[name]!r} though papermill was given {values[name]!r}: expected the notebook to "
                "have one cell with the tag parameters, and no other to change what the cell # Parameters sets"
            )
    return names


def _injected_values(cell):
    """Read the values that papermill's own cell sets, by name; none if it is another cell."""
    if cell.splitlines()[:1] != ["# Parameters"]:
        return {}
    try:
        written = {line.targets[0].id: ast.unparse(line.value) for line in ast.parse(cell).body}
        # Mostly literals, but nan is float('nan') here, and somebody may have typed in a formula.
        return {name: eval(text, {"__builtins__": {"float": float}}) for name, text in written.items()}
    except Exception:  # whatever else somebody has written below such a comment
        return {}


def _names_set_in(cells):
    names = []
    for cell in cells:
        with contextlib.suppress(SyntaxError):
            nodes = [node for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Name)]
            names += [node.id for node in nodes if isinstance(node.ctx, ast.Store)]
    return names


def check_names(names, allowed):
    """Raise a ParameterError for the first name that isn't allowed, with the nearest one that is."""
    for name in names:
        if name not in allowed:
            near = difflib.get_close_matches(str(name), allowed, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(allowed)}"
            raise ParameterError(f"unknown parameter {name}: {hint}")
