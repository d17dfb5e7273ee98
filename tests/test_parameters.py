"""What a run can be told: the values of its parameters, their names, and that all who repeat them agree."""

import ast
import json
import math

import pytest
import torch
from conftest import CHANGED, DEFAULTS, ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

import model
import my_utils as mu
from common.augmentation import CHANGES, NUMBERS, augment, count_numbers
from common.parameters import (
    AUGMENTATIONS,
    INITIALIZERS,
    MACHINERY,
    OPTIMIZERS,
    PARAMETERS,
    SCHEDULES,
    ParameterError,
    check_names,
    check_parameters,
)

each_parameter = pytest.mark.parametrize("name", PARAMETERS)


def complaint(check, *arguments):
    """Return the one line with which a check refuses its arguments, or None if it accepts them."""
    message = None
    try:
        check(*arguments)
    except ParameterError as error:
        message = str(error)
    assert message is None or len(message.splitlines()) == 1
    return message


# Values

WHOLE_BADS = [-1, 1.0, True, "1", (1,), [1], None, math.nan, math.inf]
REAL_BADS = [-0.1, math.nan, math.inf, -math.inf, 10**400, True, "0.1", (0.1,), [0.1], None]
FLAG_BADS = [0, 1, 0.0, "True", "", None, [True]]
BAD_VALUES = {
    "initializer": ["kaiming", "Normal_", "", 0, None, True, ["normal_"], ("normal_",)],
    "optimizer_name": ["sgd", "adam", "Adagrad", "", 0, None, ["SGD"], ("SGD",)],
    "learning_rate": [0, 0.0, *REAL_BADS],
    "schedule": ["cosine", "", 0, None, True, ["constant"]],
    "weight_decay": REAL_BADS,
    "batch_size": [0, *WHOLE_BADS],
    "num_epochs": [0, *WHOLE_BADS],
    "num_rounds": [0, *WHOLE_BADS],
    "batch_norm": FLAG_BADS,
    "norm_axis": [0, 3, *WHOLE_BADS],
    "norm_after_relu": FLAG_BADS,
    "label_smoothing": [1.1, 2, *REAL_BADS],
    "dropout": [1, 1.0, 1.5, *REAL_BADS],
    "augmentation": ["RandomErasing", (), ("RandomErasing",), ["RandomCrop"], [["RandomErasing"]], [1], None, False],
    "num_hidden": [
        [256, 128, 64, 32],
        [256, 128, 64, 32, 16, 8],
        [],
        [256, 128, 64, 32, 0],
        [256, 128, 64, 32, -1],
        [256, 128, 64, 32, 16.0],
        [256, 128, 64, 32, True],
        [256, 128, 64, 32, "16"],
        (256, 128, 64, 32, 16),
        "256 128 64 32 16",
        256,
        None,
    ],
    "patching": [5, *WHOLE_BADS],
    "seed": WHOLE_BADS,
    "train_limit": [0, 60001, *WHOLE_BADS],
    "num_validation": [60000, *WHOLE_BADS],
    "device": ["", "banana", "cuda:", "CPU", 0, None, True, ["cpu"]],
    "runs_folder": ["", "..", "runs/../..", 0, None, True, ["runs"]],
}
GOOD_EDGES = {
    "initializer": INITIALIZERS,
    "optimizer_name": OPTIMIZERS,
    "learning_rate": [1, 5e-324, 1e308],
    "schedule": SCHEDULES,
    "weight_decay": [0, 0.0, 1],
    "batch_size": [1, 60000, 10**9],
    "num_epochs": [1, 1000],
    "num_rounds": [1, 10],
    "batch_norm": [True, False],
    "norm_axis": [1, 2],
    "norm_after_relu": [True, False],
    "label_smoothing": [0, 0.0, 1, 1.0],
    "dropout": [0, 0.0, math.nextafter(1, 0)],
    "augmentation": [[], list(AUGMENTATIONS), list(reversed(AUGMENTATIONS))],
    "num_hidden": [[1, 1, 1, 1, 1], [1000, 1, 1, 1, 1]],
    "patching": [0, 4],
    "seed": [0, 2**63],
    "train_limit": [1, 60000],
    "num_validation": [0, 59999],
    "device": ["auto", "cpu", "cuda", "cuda:0"],
    "runs_folder": ["runs", "/tmp/a b", "."],
}


def test_a_notebooks_namespace_gives_just_the_parameters():
    namespace = {"__name__": "__main__", "torch": torch, "figure": "figure_4", **DEFAULTS, "history": []}
    assert check_parameters(namespace) == DEFAULTS


def test_parameters_that_a_notebook_lacks_are_not_made_up():
    assert check_parameters({"num_epochs": 10}) == {"num_epochs": 10}
    assert check_parameters({}) == {}


def test_the_examples_here_cover_every_parameter():
    assert DEFAULTS.keys() == BAD_VALUES.keys() == GOOD_EDGES.keys() == PARAMETERS.keys()


@each_parameter
def test_a_bad_value_is_refused_in_a_line_with_name_value_and_what_is_expected(name):
    for value in BAD_VALUES[name]:
        expected = f"{name} is {value!r}: expected {PARAMETERS[name].expected}"
        assert complaint(check_parameters, {**DEFAULTS, name: value}) == expected


@each_parameter
def test_a_good_value_at_the_edge_passes(name):
    for value in GOOD_EDGES[name]:
        assert check_parameters({**DEFAULTS, name: value})[name] == value


def test_what_is_expected_states_the_range_and_lists_the_choices():
    ranges = {"patching": "0 to 4", "train_limit": "1 to 60000", "num_validation": "0 to 59999", "batch_size": "1 up"}
    for name, stated in ranges.items():
        assert stated in complaint(check_parameters, {name: -1})
    choices = {
        "initializer": ["normal_", "xavier_normal_", "kaiming_normal_"],
        "optimizer_name": ["SGD", "SGD_momentum", "RMSprop", "Adam", "AdamW"],
        "schedule": ["constant", "one_cycle"],
        "augmentation": ["RandomAffine", "RandomHorizontalFlip", "RandomErasing"],
    }
    for name, listed in choices.items():
        assert complaint(check_parameters, {name: ["?"]}).endswith(", ".join(listed))


@given(st.integers(1, 60), st.integers(2, 60))
@settings(max_examples=40, deadline=None)
def test_epochs_have_to_be_a_multiple_of_rounds(num_epochs, num_rounds):
    refused = complaint(check_parameters, {**DEFAULTS, "num_epochs": num_epochs, "num_rounds": num_rounds})
    if num_epochs % num_rounds == 0:
        assert refused is None
    else:
        assert refused == f"num_epochs is {num_epochs}: expected a multiple of num_rounds, {num_rounds}"


valid_parameters = st.fixed_dictionaries(
    {
        **{name: st.just(value) for name, value in DEFAULTS.items()},
        "learning_rate": st.floats(0, 1e6, exclude_min=True) | st.integers(1, 10),
        "weight_decay": st.floats(0, 1e6) | st.integers(0, 10),
        "label_smoothing": st.floats(0, 1) | st.integers(0, 1),
        "dropout": st.floats(0, 1, exclude_max=True),
        "batch_size": st.integers(1, 60000),
        "num_epochs": st.integers(1, 1000),
        "augmentation": st.lists(st.sampled_from(list(AUGMENTATIONS)), max_size=3),
        "num_hidden": st.lists(st.integers(1, 10**6), min_size=5, max_size=5),
        "patching": st.integers(0, 4),
        "seed": st.integers(0, 2**70),
        "train_limit": st.integers(1, 60000),
        "num_validation": st.integers(0, 59999),
    }
)


@given(valid_parameters)
@settings(max_examples=40, deadline=None)
def test_whatever_makes_sense_passes_unchanged(parameters):
    assert check_parameters(parameters) == parameters


# Names


def test_a_misspelt_name_gets_the_nearest_one():
    meant = {
        "learnig_rate": "learning_rate",
        "num_epoch": "num_epochs",
        "Seed": "seed",
        "initialiser": "initializer",
    }
    for name, nearest in meant.items():
        refused = complaint(check_names, ["seed", name], PARAMETERS)
        assert refused == f"unknown parameter {name}: did you mean {nearest}?"


def test_an_outlandish_name_gets_all_the_choices():
    refused = complaint(check_names, ["zzzzqq"], PARAMETERS)
    assert refused == f"unknown parameter zzzzqq: choose from {', '.join(PARAMETERS)}"


def test_the_names_of_parameters_pass():
    assert complaint(check_names, PARAMETERS, PARAMETERS) is None
    assert complaint(check_names, [], PARAMETERS) is None


# What each says of itself


@each_parameter
def test_a_parameter_has_a_help_and_choices_that_are_valid(name):
    parameter = PARAMETERS[name]
    assert parameter.help.strip()
    assert "\n" not in parameter.help
    for choice in parameter.choices:
        value = [choice] if parameter.type is list else choice
        assert type(value) is parameter.type
        assert parameter.is_valid(value)


def test_the_type_of_a_parameter_is_that_of_the_notebooks_annotation_and_value():
    annotated = set()
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        (cell,) = (cell for cell in cells if "parameters" in cell["metadata"].get("tags", []))
        for line in ast.parse("".join(cell["source"])).body:
            name = line.target.id
            if name in PARAMETERS:
                annotated.add(name)
                type_ = PARAMETERS[name].type
                assert line.annotation.id == type_.__name__, (path.name, name)
                assert type(ast.literal_eval(line.value)) is type_, (path.name, name)
    assert annotated == PARAMETERS.keys()


def test_parameters_of_the_machinery_are_parameters():
    assert set(MACHINERY) < PARAMETERS.keys()


def test_what_changes_no_number_is_the_rounds_the_device_and_the_folder():
    changing = {name for name, parameter in PARAMETERS.items() if parameter.changes_numbers}
    assert PARAMETERS.keys() - changing == {"num_rounds", "device", "runs_folder"}
    assert CHANGED.keys() == changing


# Those that are repeated here so that nothing slow need be imported


def test_the_initializers_are_those_of_the_model():
    assert tuple(model.INITIALIZERS) == INITIALIZERS == PARAMETERS["initializer"].choices


def test_the_patchings_are_the_possible_ones_of_the_images():
    assert PARAMETERS["patching"].choices == tuple(range(len(model.get_possible_patches(784))))


def test_every_optimizer_is_one_of_pytorch_that_can_be_built():
    for name in OPTIMIZERS:
        optimizer = mu.get_optimizer(name, [torch.zeros(1, requires_grad=True)], 0.5, 0.25)
        assert type(optimizer) is getattr(torch.optim, name.removesuffix("_momentum"))
        assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (0.5, 0.25)


def test_every_schedule_can_be_built():
    for name in SCHEDULES:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.5)
        assert (mu.get_scheduler(name, optimizer, 10) is None) == (name == "constant")


def test_every_augmentation_has_the_name_of_one_of_torchvision_and_can_be_made():
    assert list(AUGMENTATIONS) == list(CHANGES) == list(NUMBERS)
    for name, cost in AUGMENTATIONS.items():
        assert issubclass(getattr(v2, name), v2.Transform)
        numbers = torch.rand(3, count_numbers([name]))
        assert augment([name], torch.rand(3, 1, 28, 28), numbers).shape == (3, 1, 28, 28)
        assert cost > 0
