"""The parameters of a run: what each means, what is expected of it, and the test for that. The one place for them.

The notebooks' forms, the command line, the panels' controls, the estimates of time and the check of what papermill
hands over all derive from `PARAMETERS`. After a change `python colab.py stamp` writes it into the notebooks.
"""

import ast
import difflib
import math
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

INITIALIZERS = ("normal_", "xavier_normal_", "kaiming_normal_")  # those of model.py
OPTIMIZERS = ("SGD", "Adam", "AdamW")  # classes of torch.optim
SCHEDULES = ("constant", "one_cycle")  # those of my_utils.get_scheduler


@dataclass(frozen=True)
class Augmentation:
    """A transform of torchvision.transforms.v2.

    Attributes:
        arguments: where they are not torchvision's own.
        cost: time that it adds to an epoch, that of Figure 4 being 1.
    """

    arguments: dict
    cost: float


AUGMENTATIONS = {
    "RandomAffine": Augmentation({"degrees": 0, "translate": (0.1, 0.1)}, cost=1.2),
    "RandomHorizontalFlip": Augmentation({}, cost=0.1),
    "RandomErasing": Augmentation({}, cost=0.2),
}


class ParameterError(ValueError):
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
        changes_numbers: whether two runs that differ in it alone differ in their numbers.
    """

    type: type
    help: str
    expected: str
    is_valid: Callable
    choices: tuple = ()
    changes_numbers: bool = True


def _one_of(choices, help):
    return Parameter(str, help, f"one of {', '.join(choices)}", lambda value: value in choices, tuple(choices))


def _list_of(choices, help):
    def is_valid(value):
        return type(value) is list and all(name in choices for name in value)

    return Parameter(list, help, f"a list of names among {', '.join(choices)}", is_valid, tuple(choices))


def _flag(help):
    return Parameter(bool, help, "True or False", lambda value: type(value) is bool, (False, True))


def _whole(least, most, help, **options):
    expected = f"a whole number from {least}" + (f" to {most}" if most < math.inf else " up")
    choices = tuple(range(least, most + 1)) if most - least < 10 else ()

    def is_valid(value):
        return type(value) is int and least <= value <= most

    return Parameter(int, help, expected, is_valid, choices, **options)


def _real(expected, condition, help):
    def is_valid(value):
        return type(value) in (int, float) and abs(value) <= sys.float_info.max and condition(value)

    return Parameter(float, help, expected, is_valid)


def _are_sizes(value):
    return type(value) is list and len(value) == 5 and all(type(n) is int and n >= 1 for n in value)


def _is_device(value):
    return type(value) is str and re.fullmatch(r"auto|cpu|cuda(:\d+)?", value) is not None


def _is_folder(value):
    return type(value) is str and value != "" and ".." not in Path(value).parts


PARAMETERS = {
    "initializer": _one_of(INITIALIZERS, "of the weights: N(0, 1), Xavier's or He's; biases start at 0"),
    "optimizer_name": _one_of(OPTIMIZERS, "of torch.optim"),
    "learning_rate": _real("a number above 0", lambda value: value > 0, "the highest one, if there is a schedule"),
    "schedule": _one_of(SCHEDULES, "of the learning rate over the training"),
    "weight_decay": _real("a number from 0 up", lambda value: value >= 0, "pulls every weight towards 0"),
    "batch_size": _whole(1, math.inf, "images a step"),
    "num_epochs": _whole(1, math.inf, "passes over the training images"),
    "num_rounds": _whole(1, math.inf, "calls of train that share these epochs", changes_numbers=False),
    "batch_norm": _flag("BatchNorm1d after every linear layer but the last"),
    "norm_axis": _whole(1, 2, "what BatchNorm1d normalises of (batch, rows, features)"),
    "norm_after_relu": _flag("within an MLP, BatchNorm1d after the ReLU instead of before"),
    "dropout": _real(
        "a probability from 0 to below 1", lambda value: 0 <= value < 1, "probability, after the ReLU of each MLP"
    ),
    "augmentation": _list_of(tuple(AUGMENTATIONS), "of torchvision.transforms.v2"),
    "num_hidden": Parameter(
        list,
        "outputs of the linear layers before the classifier",
        "a list of five whole numbers from 1 up",
        _are_sizes,
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
MACHINERY = ("seed", "train_limit", "num_validation", "device", "runs_folder")  # of a run, not of a network's training


def check_parameters(namespace):
    """Pick a run's parameters out of a dict, such as a notebook's `globals()`, and check each.

    Returns:
        A dict of those names of `PARAMETERS` that are there.

    Raises:
        ParameterError: a value has the wrong type or makes no sense, or papermill was asked for one that the notebook
            hasn't got.
    """
    parameters = {name: namespace[name] for name in PARAMETERS if name in namespace}
    for name, value in parameters.items():
        if not PARAMETERS[name].is_valid(value):
            raise ParameterError(f"{name} is {value!r}: expected {PARAMETERS[name].expected}")
    if parameters.get("num_epochs", 0) % parameters.get("num_rounds", 1):
        raise ParameterError(
            f"num_epochs is {parameters['num_epochs']}: expected a multiple of num_rounds, {parameters['num_rounds']}"
        )
    _check_injected(namespace)
    return parameters


def _check_injected(namespace):
    """Compare what papermill was asked for, which it writes into a cell of its own, with what the notebook has.

    papermill lets an unknown name pass, and without a cell tagged `parameters` it puts its own first, where the
    notebook's values come after it and win.
    """
    cells = namespace.get("In", [])
    declared = [name for cell in cells for name in re.findall(r"^(\w+): \w+ = ", cell, re.MULTILINE)]
    injected = [cell for cell in cells if cell.startswith("# Parameters\n")]
    for assignment in ast.parse("".join(injected)).body:
        name, value = assignment.targets[0].id, ast.literal_eval(assignment.value)
        check_names([name], declared)
        if namespace[name] != value:
            raise ParameterError(
                f"{name} is {namespace[name]!r} though papermill was given {value!r}: expected the notebook to have "
                "one cell with the tag parameters, and to leave its values as they are"
            )


def check_names(names, allowed):
    """Raise a ParameterError for the first name that isn't allowed, with the nearest one that is."""
    for name in names:
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(allowed)}"
            raise ParameterError(f"unknown parameter {name}: {hint}")
