import base64
import json
import math
import os
import platform
import re
import tempfile
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
import torchvision
from conftest import ROOT, made_up_record, run_notebook
from hypothesis import given, settings
from hypothesis import strategies as st

import fashion_mnist
import my_utils as mu
import records
from model import Net
from records import ParameterError

DEFAULTS = {
    "initializer": "kaiming_normal_",
    "optimizer_name": "SGD",
    "learning_rate": 0.1,
    "weight_decay": 0.0,
    "batch_size": 256,
    "num_epochs": 10,
    "num_rounds": 1,
    "schedule": "constant",
    "batch_norm": False,
    "norm_axis": 1,
    "norm_after_relu": False,
    "dropout": 0.0,
    "augmentation": [],
    "num_hidden": [256, 128, 64, 32, 16],
    "patching": 0,
    "seed": 0,
    "train_limit": 60000,
    "num_validation": 0,
    "device": "cpu",
    "runs_folder": "runs",
}
CHANGED = {
    "initializer": "normal_",
    "optimizer_name": "Adam",
    "learning_rate": 0.2,
    "weight_decay": 0.00001,
    "batch_size": 128,
    "num_epochs": 15,
    "schedule": "one_cycle",
    "batch_norm": True,
    "norm_axis": 2,
    "norm_after_relu": True,
    "dropout": 0.01,
    "augmentation": ["RandomErasing"],
    "num_hidden": [256, 128, 64, 32, 8],
    "patching": 1,
    "seed": 1,
    "train_limit": 500,
    "num_validation": 10000,
}
WHOLE = ["batch_size", "num_epochs", "num_rounds", "patching", "seed", "train_limit", "num_validation", "norm_axis"]
REAL = ["learning_rate", "weight_decay", "dropout"]


def key(**changes):
    return records.run_key({**DEFAULTS, **changes})


def record(seed=0, accuracy=0.5, **changes):
    """Build the record of a run of the default setting, but for the parameters among the changes."""
    return made_up_record({**DEFAULTS, **changes}, seed, accuracy)


def line_of(record):
    return records._to_line(record)


def without(mapping, name):
    return {other: value for other, value in mapping.items() if other != name}


def write_lines(path, *lines):
    path.write_text("".join(lines))
    return path


def strict_json(text):
    """Read JSON, refusing Python's own NaN and Infinity."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_one_line_with(text, *parts):
    assert len(text.splitlines()) == 1
    for part in parts:
        assert str(part) in text


# Parameters


def test_a_notebooks_namespace_gives_just_the_known_parameters():
    namespace = {"__name__": "__main__", "torch": torch, "figure": "figure_4", **DEFAULTS, "history": []}
    assert records.check_parameters(namespace) == DEFAULTS


def test_the_examples_here_cover_every_parameter():
    assert DEFAULTS.keys() == records.PARAMETERS.keys()
    assert CHANGED.keys() == records.PARAMETERS.keys() - set(records.NOT_IN_KEY)


def test_parameters_that_a_notebook_lacks_are_not_made_up():
    assert records.check_parameters({"num_epochs": 10}) == {"num_epochs": 10}
    assert records.check_parameters({}) == {}


WHOLE_BADS = [-1, 1.0, True, "1", (1,), [1], None, math.nan, math.inf]
REAL_BADS = [-0.1, math.nan, math.inf, -math.inf, True, "0.1", (0.1,), [0.1], None]
BAD_VALUES = {
    **{name: WHOLE_BADS for name in WHOLE},
    **{name: REAL_BADS for name in REAL},
    "batch_size": [0, *WHOLE_BADS],
    "num_epochs": [0, *WHOLE_BADS],
    "num_rounds": [0, *WHOLE_BADS],
    "patching": [5, *WHOLE_BADS],
    "train_limit": [0, 60001, *WHOLE_BADS],
    "num_validation": [60000, *WHOLE_BADS],
    "learning_rate": [0, 0.0, *REAL_BADS],
    "dropout": [1, 1.0, 1.5, *REAL_BADS],
    "initializer": ["kaiming", "Normal_", "", 0, None, True, ["normal_"], ("normal_",)],
    "optimizer_name": ["sgd", "adam", "RMSprop", "", 0, None, ["SGD"], ("SGD",)],
    "schedule": ["cosine", "", 0, None, True, ["constant"]],
    "batch_norm": [0, 1, 0.0, "True", "", None, [True]],
    "norm_axis": [0, 3, *WHOLE_BADS],
    "norm_after_relu": [0, 1, 0.0, "True", "", None, [True]],
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
    "device": ["", 0, None, True, ["cpu"]],
    "runs_folder": ["", 0, None, True, ["runs"]],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD_VALUES.items() for value in values])
def test_a_bad_value_is_refused_in_a_line_with_name_value_and_what_is_expected(name, value):
    with pytest.raises(ParameterError) as error:
        records.check_parameters({**DEFAULTS, name: value})
    assert_one_line_with(str(error.value), f"{name} is {value!r}: expected {records.PARAMETERS[name][0]}")


def test_bad_values_are_there_for_every_parameter():
    assert BAD_VALUES.keys() == records.PARAMETERS.keys()


def test_a_number_too_large_for_a_float_is_refused():
    with pytest.raises(ParameterError, match="learning_rate"):
        records.check_parameters({**DEFAULTS, "learning_rate": 10**400})


def test_a_device_that_is_none_is_refused():
    with pytest.raises(ParameterError, match="device is 'banana'"):
        records.check_parameters({**DEFAULTS, "device": "banana"})


@pytest.mark.parametrize(
    ("name", "hint"),
    [("patching", "0 to 4"), ("train_limit", "1 to 60000"), ("num_validation", "0 to 59999"), ("batch_size", "1")],
)
def test_what_is_expected_states_the_range(name, hint):
    with pytest.raises(ParameterError, match=hint):
        records.check_parameters({name: -1})


@pytest.mark.parametrize("name", ["initializer", "optimizer_name", "augmentation"])
def test_what_is_expected_lists_the_choices(name):
    choices = {"initializer": ["normal_", "xavier_normal_", "kaiming_normal_"], "optimizer_name": ["SGD", "Adam"]}
    with pytest.raises(ParameterError) as error:
        records.check_parameters({name: ["?"]})
    assert_one_line_with(str(error.value), *choices.get(name, mu.AUGMENTATIONS))


@given(st.integers(1, 60), st.integers(2, 60))
@settings(max_examples=40, deadline=None)
def test_epochs_have_to_be_a_multiple_of_rounds(num_epochs, num_rounds):
    parameters = {**DEFAULTS, "num_epochs": num_epochs, "num_rounds": num_rounds}
    if num_epochs % num_rounds == 0:
        assert records.check_parameters(parameters) == parameters
        return
    with pytest.raises(ParameterError) as error:
        records.check_parameters(parameters)
    assert_one_line_with(
        str(error.value), f"num_epochs is {num_epochs}: expected a multiple of num_rounds, {num_rounds}"
    )


GOOD_EDGES = {
    "initializer": ["normal_", "xavier_normal_", "kaiming_normal_"],
    "optimizer_name": ["SGD", "Adam", "AdamW"],
    "schedule": ["constant", "one_cycle"],
    "norm_axis": [1, 2],
    "norm_after_relu": [True, False],
    "learning_rate": [1, 5e-324, 1e308],
    "weight_decay": [0, 0.0, 1],
    "batch_size": [1, 60000, 10**9],
    "num_epochs": [1, 1000],
    "batch_norm": [True, False],
    "dropout": [0, 0.0, math.nextafter(1, 0)],
    "augmentation": [[], list(mu.AUGMENTATIONS), list(reversed(mu.AUGMENTATIONS))],
    "num_hidden": [[1, 1, 1, 1, 1], [1000, 1, 1, 1, 1]],
    "patching": [0, 4],
    "seed": [0, 2**63],
    "train_limit": [1, 60000],
    "num_validation": [0, 59999],
    "device": ["auto", "cpu", "cuda", "cuda:0"],
    "runs_folder": ["runs", "/tmp/a b", "."],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in GOOD_EDGES.items() for value in values])
def test_a_good_value_at_the_edge_passes(name, value):
    assert records.check_parameters({**DEFAULTS, name: value})[name] == value


valid_parameters = st.fixed_dictionaries(
    {
        **{name: st.just(value) for name, value in DEFAULTS.items()},
        "learning_rate": st.floats(0, 1e6, exclude_min=True) | st.integers(1, 10),
        "weight_decay": st.floats(0, 1e6) | st.integers(0, 10),
        "dropout": st.floats(0, 1, exclude_max=True),
        "batch_size": st.integers(1, 60000),
        "num_epochs": st.integers(1, 1000),
        "augmentation": st.lists(st.sampled_from(mu.AUGMENTATIONS), max_size=3),
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
    assert records.check_parameters(parameters) == parameters


# Names


@pytest.mark.parametrize(
    ("name", "meant"),
    [("learnig_rate", "learning_rate"), ("num_epoch", "num_epochs"), ("Seed", "seed"), ("initialiser", "initializer")],
)
def test_a_misspelt_name_gets_the_nearest_one(name, meant):
    with pytest.raises(ParameterError) as error:
        records.check_names(["seed", name], records.PARAMETERS)
    assert str(error.value) == f"unknown parameter {name}: did you mean {meant}?"


def test_an_outlandish_name_gets_all_the_choices():
    with pytest.raises(ParameterError) as error:
        records.check_names(["zzzzqq"], records.PARAMETERS)
    assert_one_line_with(str(error.value), "unknown parameter zzzzqq", *records.PARAMETERS)


def test_known_names_pass():
    records.check_names(records.PARAMETERS, records.PARAMETERS)
    records.check_names([], records.PARAMETERS)


# Keys


def test_a_key_starts_with_the_seed_and_fits_a_file_name():
    assert key(seed=12).startswith("seed12-")
    assert key().replace("_", "").replace("-", "").isalnum()


@pytest.mark.parametrize("name", REAL)
def test_whole_and_real_numbers_that_are_equal_give_the_same_key(name):
    assert key(**{name: 1}) == key(**{name: 1.0})


def test_neither_the_folder_nor_the_rounds_nor_the_order_of_the_parameters_counts():
    assert key(runs_folder="elsewhere") == key()
    assert key(num_rounds=5) == key()
    assert records.run_key(without(DEFAULTS, "num_rounds")) == key()
    assert records.run_key(dict(reversed(DEFAULTS.items()))) == key()


def test_auto_and_cpu_give_the_same_key_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert key(device="auto") == key(device="cpu")


def test_a_gpu_gives_another_key(monkeypatch):
    monkeypatch.setattr(records, "get_device", torch.device)
    assert key(device="cuda") != key(device="cpu")
    assert key(device="cuda") == key(device="cuda:0")


@pytest.mark.parametrize("name", CHANGED)
def test_every_other_parameter_changes_the_key(name):
    changed = key(**{name: CHANGED[name]})
    assert changed.split("-")[-1] != key().split("-")[-1]


def test_another_training_version_changes_the_key(monkeypatch):
    before = key()
    monkeypatch.setattr(records, "TRAINING_VERSION", records.TRAINING_VERSION + 1)
    assert key() != before


def test_other_data_change_the_key(monkeypatch):
    before = key()
    monkeypatch.setattr(fashion_mnist, "CHECKSUM", "another")
    assert key() != before


# Writing a record


@pytest.fixture(scope="module")
def batches(one_thread):
    return mu.load_data_fashion_mnist(64, device="cpu", train_limit=500)


def tiny_run(folder, batches):
    """Train for an epoch on 500 images and write the record; return its path, and what went into it."""
    parameters = {**DEFAULTS, "num_epochs": 1, "train_limit": 500, "batch_size": 64, "runs_folder": str(folder)}
    train_iter, test_iter = batches
    train_iter.epoch = 0  # the iterator has forgotten the runs before
    torch.manual_seed(0)
    net = Net(28, 4, 14, [16, 8, 8, 8, 8], 10)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    history = mu.train(net, train_iter, test_iter, torch.nn.CrossEntropyLoss(), 1, optimizer)
    correct = mu.predict_correct(net, test_iter)
    return records.write_record("figure_4", parameters, net, history, correct), parameters, net, history, correct


@pytest.fixture(scope="module")
def run(tmp_path_factory, batches):
    return tiny_run(tmp_path_factory.mktemp("records") / "new" / "runs", batches)


def test_a_record_lies_where_its_key_says_and_nothing_else_does(run):
    path, parameters, *_ = run
    assert path == Path(parameters["runs_folder"]) / f"{records.run_key(parameters)}.json"
    assert names_in(path.parent) == [path.name]


def test_a_record_holds_setting_curves_and_circumstances(run):
    path, parameters, _, history, correct = run
    content = strict_json(path.read_text())
    assert len(content.pop("correct")) == 4 * math.ceil(math.ceil(len(correct) / 8) / 3)
    assert content.pop("processor")
    assert re.fullmatch("[0-9a-f]{16}", content.pop("checksum"))
    assert content == {
        "notebook": "figure_4",
        **{name: value for name, value in parameters.items() if name not in (*records.NOT_IN_KEY, "schedule")},
        "test_accuracy": history[-1]["test_accuracy"],
        "train_losses": [epoch["train_loss"] for epoch in history],
        "train_accuracies": [epoch["train_accuracy"] for epoch in history],
        "test_accuracies": [epoch["test_accuracy"] for epoch in history],
        "forward": "fast_forward",
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "data": fashion_mnist.CHECKSUM,
        "training_version": records.TRAINING_VERSION,
    }


def test_a_record_is_named_as_its_run_was_before(run):
    path, parameters, *_ = run
    (found,) = records.read_records(path)
    assert records.record_key(found) == records.run_key(parameters) == path.stem


def test_the_accuracy_is_the_share_of_images_marked_as_recognised(run):
    path, _, _, _, correct = run
    content = strict_json(path.read_text())
    bits = np.unpackbits(np.frombuffer(base64.b64decode(content["correct"]), np.uint8), count=10000)
    assert bits.tolist() == correct.int().tolist()
    assert records.recognised(content).tolist() == correct.tolist()
    assert content["test_accuracy"] == bits.sum() / 10000
    assert 0.05 < content["test_accuracy"] < 1


def test_a_record_is_one_line_that_can_be_read_back(run):
    path = run[0]
    assert path.read_bytes().count(b"\n") == 1
    assert records.read_records(path) == [without(strict_json(path.read_text()), "checksum")]


def test_the_same_run_twice_gives_the_same_bytes(run, tmp_path, batches):
    path = tiny_run(tmp_path, batches)[0]
    assert path.name == run[0].name
    assert path.read_bytes() == run[0].read_bytes()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_becomes_null(run, tmp_path, value):
    _, parameters, net, history, correct = run
    history = [*history, {"train_loss": value, "train_accuracy": 0.5, "test_accuracy": 0.1}]
    path = records.write_record("figure_4", {**parameters, "runs_folder": str(tmp_path)}, net, history, correct)
    content = strict_json(path.read_text())
    assert content["train_losses"] == [history[0]["train_loss"], None]
    assert records.history(content) == [history[0], {**history[1], "train_loss": None}]


def test_the_history_of_a_record_is_what_the_training_returned(run, tmp_path):
    path, parameters, net, history, correct = run
    assert records.history(strict_json(path.read_text())) == history
    held_out = [{**epoch, "validation_accuracy": 0.25} for epoch in history * 3]
    path = records.write_record("figure_4", {**parameters, "runs_folder": str(tmp_path)}, net, held_out, correct)
    assert records.history(strict_json(path.read_text())) == held_out


def test_a_network_that_is_not_a_plain_net_is_recorded_as_such(run, tmp_path):
    _, parameters, _, history, _ = run
    net = torch.nn.Linear(1, 1)
    correct = torch.tensor([True, False, True])
    path = records.write_record("figure_4", {**parameters, "runs_folder": str(tmp_path)}, net, history, correct)
    content = strict_json(path.read_text())
    assert content["forward"] == "net"
    assert content["test_accuracy"] == 2 / 3


def test_a_relative_folder_starts_at_the_projects_root(run, tmp_path, monkeypatch):
    _, parameters, net, history, correct = run
    monkeypatch.setattr(records, "ROOT", tmp_path)
    path = records.write_record("figure_4", {**parameters, "runs_folder": "a/b"}, net, history, correct)
    assert path.parent == tmp_path / "a" / "b"


# Writing at once


@pytest.mark.parametrize(
    ("content", "expected"), [("new é\n", "new é\n".encode()), (b"\xff\x00", b"\xff\x00"), ("", b"")]
)
@pytest.mark.parametrize("old", [None, b"old"])
def test_text_and_bytes_are_written_whole(tmp_path, content, expected, old):
    path = tmp_path / "file"
    if old:
        path.write_bytes(old)
    records.write_at_once(path, content)
    assert path.read_bytes() == expected
    assert names_in(tmp_path) == ["file"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize("content", ["new", b"new"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failed_write_leaves_everything_as_it_was(tmp_path, monkeypatch, function, content, old):
    path = tmp_path / "file"
    if old:
        path.write_bytes(old)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="disk full"):
        records.write_at_once(path, content)
    assert names_in(tmp_path) == (["file"] if old else [])
    assert not old or path.read_bytes() == old


def test_content_is_on_the_disk_before_it_replaces_the_old(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda *given: (calls.append("fsync"), fsync(*given)))
    monkeypatch.setattr(os, "replace", lambda *given: (calls.append("replace"), replace(*given)))
    records.write_at_once(tmp_path / "file", "new")
    assert calls == ["fsync", "replace"]


# Reading


def test_an_absent_file_has_no_records(tmp_path):
    assert records.read_records(tmp_path / "none.jsonl") == []


def test_an_empty_file_is_damaged(tmp_path):
    with pytest.raises(ValueError, match="line 1, is damaged"):
        records.read_records(write_lines(tmp_path / "empty.jsonl"))


def test_records_are_read_line_by_line(tmp_path):
    expected = [record(3), record(1)]
    assert records.read_records(write_lines(tmp_path / "r.jsonl", *map(line_of, expected))) == expected


DAMAGED = {
    "cut off": line_of(record())[:-20],
    "empty": "\n",
    "no JSON": "seed 1: 0.5\n",
    "a list": "[1, 2]\n",
    "null": "null\n",
    "a number": "0.5\n",
    "a text": '"record"\n',
    "an empty curve": line_of({**record(), "test_accuracies": []}),
    "a curve of null": line_of({**record(), "test_accuracies": None}),
    "an accuracy in words": line_of({**record(), "test_accuracy": "good"}),
    "epochs in words": line_of({**record(), "num_epochs": "ten"}),
    "a record of before the table": line_of({"notebook": "figure_4", "seed": 0, "test_accuracy": 0.5, "history": []}),
    **{
        f"no {name}": line_of(without(record(), name))
        for name in (
            *records.IN_EVERY_RECORD,
            *("notebook", "test_accuracy", "test_accuracies", "device", "data", "training_version"),
        )
    },
}


def assert_refused(path, number):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        records.read_records(path)
    assert_one_line_with(str(error.value), f"{path}, line {number}")


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_line_is_refused_in_a_line_that_names_file_and_line(tmp_path, damage):
    assert_refused(write_lines(tmp_path / "r.jsonl", line_of(record(0)), DAMAGED[damage], line_of(record(2))), 2)


def test_a_line_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"\xff\n")
    assert_refused(path, 1)


# Merging


def test_merging_into_an_absent_table_makes_it(tmp_path):
    path = tmp_path / "runs.jsonl"
    assert records.merge(path, [record(1), record(0)]) == [record(0), record(1)]
    assert records.read_records(path) == [record(0), record(1)]
    assert names_in(tmp_path) == ["runs.jsonl"]


def test_a_merged_table_is_sorted_by_notebook_then_setting_then_seed_as_a_number(tmp_path):
    path = write_lines(tmp_path / "runs.jsonl", line_of(record(10)), line_of(record(9)))
    later = {**record(0), "notebook": "figure_9", "batch_size": 32}
    merged = records.merge(path, [later, record(3, learning_rate=0.2), record(100), record(2)])
    assert merged == [record(2), record(9), record(10), record(100), record(3, learning_rate=0.2), later]
    assert records.read_records(path) == merged


def test_the_new_record_of_a_run_replaces_the_old_one(tmp_path):
    path = write_lines(tmp_path / "runs.jsonl", line_of(record(0, 0.1)), line_of(record(1, 0.2)))
    assert records.merge(path, [record(1, 0.3)]) == [record(0, 0.1), record(1, 0.3)]


def test_a_run_counts_once_whichever_notebook_ran_it(tmp_path):
    path = write_lines(tmp_path / "runs.jsonl", line_of(record(0, 0.1)))
    new = {**record(0, 0.2), "notebook": "figure_5"}
    assert records.merge(path, [new]) == [new]


@pytest.mark.parametrize("name", CHANGED)
def test_runs_of_other_settings_stay_in_the_table(tmp_path, name):
    path = write_lines(tmp_path / "runs.jsonl", line_of(record()))
    other = made_up_record({**DEFAULTS, name: CHANGED[name]}, seed=CHANGED["seed"] if name == "seed" else 0)
    merged = records.merge(path, [other])
    assert len(merged) == 2
    assert record() in merged
    assert other in merged


def test_records_of_an_older_training_version_are_left_out_of_the_table(tmp_path):
    older = {**record(0), "training_version": records.TRAINING_VERSION - 1}
    path = write_lines(tmp_path / "runs.jsonl", line_of(older), line_of(record(1)))
    assert records.merge(path, []) == records.read_records(path) == [record(1)]


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_table_is_refused_and_kept_as_it_is(tmp_path, damage):
    path = write_lines(tmp_path / "runs.jsonl", line_of(record(0)), DAMAGED[damage], line_of(record(2)))
    before = path.read_bytes()
    with pytest.raises(ValueError) as error:  # noqa: PT011
        records.merge(path, [record(1)])
    assert_one_line_with(str(error.value), f"{path}, line 2")
    assert path.read_bytes() == before


def test_a_merge_that_fails_leaves_the_old_table(tmp_path, monkeypatch):
    path = write_lines(tmp_path / "runs.jsonl", line_of(record(0)))

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        records.merge(path, [record(1)])
    assert records.read_records(path) == [record(0)]
    assert names_in(tmp_path) == ["runs.jsonl"]


runs = st.builds(
    lambda changes, seed, device: {**record(seed, **changes), "device": device},
    st.fixed_dictionaries({"learning_rate": st.sampled_from([0.1, 0.2]), "batch_size": st.sampled_from([32, 128])}),
    st.integers(0, 3),
    st.sampled_from(["cpu", "cuda"]),
)


@given(st.lists(runs, min_size=1, max_size=8, unique_by=records.record_key), st.data())
@settings(max_examples=25, deadline=None)
def test_the_table_is_the_same_to_the_byte_in_whatever_order_and_parts_records_come(found, data):
    order = data.draw(st.permutations(found))
    first_part = order[: data.draw(st.integers(0, len(order)))]
    with tempfile.TemporaryDirectory() as folder:
        at_once, in_parts = Path(folder) / "at_once.jsonl", Path(folder) / "in_parts.jsonl"
        records.merge(at_once, found)
        records.merge(in_parts, first_part)
        records.merge(in_parts, order)
        assert in_parts.read_bytes() == at_once.read_bytes()


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8, unique=True), st.lists(st.integers(0, 30), max_size=8))
@settings(max_examples=25, deadline=None)
def test_merging_again_changes_no_byte(old, new):
    with tempfile.TemporaryDirectory() as folder:
        path = write_lines(Path(folder) / "runs.jsonl", *(line_of(record(seed, 0.1)) for seed in old))
        fresh = [record(seed, 0.2) for seed in new]
        merged = records.merge(path, fresh)
        content = path.read_bytes()
        accuracies = {found["seed"]: found["test_accuracy"] for found in merged}
        assert list(accuracies) == sorted({*old, *new})
        assert accuracies == {**dict.fromkeys(old, 0.1), **dict.fromkeys(new, 0.2)}
        assert records.read_records(path) == merged
        assert not content or content.endswith(b"}\n")
        assert records.merge(path, fresh) == merged
        assert records.merge(path, []) == merged
        assert path.read_bytes() == content


# Selecting


def rising(seed, num_epochs):
    """Build the record of a run that is at 0.01 after the first epoch, at 0.02 after the second, and so on."""
    accuracies = [epoch / 100 for epoch in range(1, num_epochs + 1)]
    setting = {**DEFAULTS, "num_epochs": num_epochs}
    return made_up_record(setting, seed, accuracies[-1], test_accuracies=accuracies)


def test_a_settings_records_are_selected_one_a_seed_sorted_by_seed():
    table = [record(10), record(2, learning_rate=0.2), record(9), record(0)]
    assert records.select(table, DEFAULTS) == [record(0), record(9), record(10)]
    assert records.select([], DEFAULTS) == []


def test_seed_folder_device_rounds_and_writing_of_a_number_make_no_other_setting():
    same = {"seed": 7, "runs_folder": "elsewhere", "device": "cuda", "num_rounds": 5, "weight_decay": 0}
    assert records.select([record(0)], {**DEFAULTS, **same}) == [record(0)]


@pytest.mark.parametrize("name", without(without(CHANGED, "seed"), "num_epochs"))
def test_records_of_another_setting_are_not_selected(name):
    table = [record(0), record(1, **{name: CHANGED[name]})]
    assert records.select(table, DEFAULTS) == table[:1]
    assert records.select(table, {**DEFAULTS, name: CHANGED[name]}) == table[1:]


def test_records_of_another_training_version_are_not_selected():
    older = {**record(0), "training_version": records.TRAINING_VERSION - 1}
    assert records.select([older, record(1)], DEFAULTS) == [record(1)]


def test_a_longer_run_counts_with_its_first_epochs_and_no_longer_says_which_images_were_recognised():
    (found,) = records.select([rising(0, 40)], DEFAULTS)
    assert found == without(rising(0, 10), "correct")


def test_a_shorter_run_does_not_count():
    assert records.select([rising(0, 9)], DEFAULTS) == []


def test_the_validation_accuracies_of_a_longer_run_are_cut_as_well():
    long = {**rising(0, 20), "num_validation": 10, "validation_accuracies": [epoch / 20 for epoch in range(20)]}
    (found,) = records.select([long], {**DEFAULTS, "num_validation": 10})
    assert found["validation_accuracies"] == long["validation_accuracies"][:10]


@given(st.permutations([5, 10, 15, 40]), st.integers(1, 50))
def test_the_settings_own_run_is_preferred_and_else_a_longer_one_is_cut(lengths, num_epochs):
    selected = records.select([rising(0, length) for length in lengths], {**DEFAULTS, "num_epochs": num_epochs})
    own = rising(0, num_epochs)
    expected = [own] if num_epochs in lengths else [without(own, "correct")] if num_epochs < 40 else []
    assert selected == expected


# Real runs


@pytest.fixture
def few_images(one_thread, monkeypatch):
    """Let notebooks have 600 training images and 200 test images; return a function that changes them."""

    def use(*images_and_labels):
        monkeypatch.setattr(fashion_mnist, "load", lambda root=None: images_and_labels)

    train_images, train_labels, test_images, test_labels = fashion_mnist.load()
    use(train_images[:600], train_labels[:600], test_images[:200], test_labels[:200])
    return use


def record_of(folder, notebook, **parameters):
    """Run a notebook's code on a few images, and return the record that it leaves."""
    variables = run_notebook(notebook, device="cpu", runs_folder=str(folder), **parameters)
    (found,) = records.read_records(variables["path"])
    return found


@pytest.mark.parametrize("forward", ["fast_forward", "net"])
@pytest.mark.parametrize(("optimizer", "learning_rate"), [("SGD", 0.2), ("Adam", 0.001)])
def test_the_number_of_rounds_changes_no_number(tmp_path, few_images, monkeypatch, forward, optimizer, learning_rate):
    if forward == "net":
        monkeypatch.setattr(mu, "can_fast_forward", lambda net: False)
    setting = {
        "optimizer_name": optimizer,
        "learning_rate": learning_rate,
        "dropout": 0.1,
        "num_epochs": 3,
        "train_limit": 300,
    }
    at_once = record_of(tmp_path / "1", "figure_5", num_rounds=1, **setting)
    assert record_of(tmp_path / "3", "figure_5", num_rounds=3, **setting) == at_once
    assert names_in(tmp_path / "1") == names_in(tmp_path / "3")


@pytest.mark.parametrize(
    ("notebook", "changes"),
    [("figure_2", {}), ("figure_4", {}), ("figure_9", {}), ("figure_8", {"augmentation": ["RandomErasing"]})],
)
def test_a_shorter_run_is_the_beginning_of_a_longer_one_bit_for_bit(tmp_path, few_images, notebook, changes):
    setting = {**changes, "num_validation": 100}
    short = record_of(tmp_path, notebook, num_epochs=1, **setting)
    long = record_of(tmp_path, notebook, num_epochs=3, **setting)
    assert records.history(short) == records.history(long)[:1]
    parameters = {name: short[name] for name in records.IN_EVERY_RECORD}
    assert records.select([long], parameters) == [without(short, "correct")]


def test_a_run_gives_the_same_record_whichever_notebook_runs_it(tmp_path, few_images):
    figure_6 = record_of(tmp_path, "figure_6", num_epochs=1)
    same = {"optimizer_name": "Adam", "learning_rate": 0.001, "num_epochs": 1, "num_rounds": 1}
    figure_5 = record_of(tmp_path, "figure_5", **same)
    assert figure_5 == {**figure_6, "notebook": "figure_5"}
    assert len(names_in(tmp_path)) == 1


def test_the_validation_accuracy_is_that_of_the_last_training_images(tmp_path, few_images):
    variables = run_notebook(
        "figure_4", device="cpu", runs_folder=str(tmp_path), num_epochs=3, batch_size=50, num_validation=150
    )
    (found,) = records.read_records(variables["path"])
    images, labels, *_ = fashion_mnist.load()
    with torch.no_grad():
        recognised = variables["net"].eval()(images[450:, None] / 255).argmax(1) == labels[450:]
    assert found["num_validation"] == 150
    assert found["validation_accuracies"][-1] == recognised.double().mean().item()
    assert len(found["validation_accuracies"]) == len(found["test_accuracies"]) == 3


def test_held_out_images_are_never_trained_on(tmp_path, few_images):
    setting = {"num_epochs": 2, "num_validation": 150}
    found = record_of(tmp_path / "real", "figure_9", **setting)
    images, labels, *test = fashion_mnist.load()
    few_images(torch.cat([images[:450], 255 - images[450:]]), labels, *test)
    others_held_out = record_of(tmp_path / "negative", "figure_9", **setting)
    assert others_held_out["validation_accuracies"] != found["validation_accuracies"]
    assert without(others_held_out, "validation_accuracies") == without(found, "validation_accuracies")
    few_images(torch.cat([255 - images[:1], images[1:]]), labels, *test)
    assert record_of(tmp_path / "other", "figure_9", **setting)["train_losses"] != found["train_losses"]


def test_held_out_images_change_nothing_but_what_is_trained_on(tmp_path, few_images):
    """Fewer images of the data set's beginning are the same, whether a limit or held-out images leave them."""
    limited = record_of(tmp_path, "figure_4", num_epochs=2, train_limit=450)
    held_out = record_of(tmp_path, "figure_4", num_epochs=2, num_validation=150)
    own = ("train_limit", "num_validation", "validation_accuracies")
    assert {k: v for k, v in held_out.items() if k not in own} == {k: v for k, v in limited.items() if k not in own}


# The table for others


def test_the_committed_table_opens_with_pandas_one_row_a_run_one_column_a_parameter():
    path = ROOT / "figures" / records.TABLE
    frame, found = pandas.read_json(path, lines=True), records.read_records(path)
    assert len(frame) == len(found) >= 24
    assert set(frame.columns) == {name for one in found for name in one} | {"checksum"}
    for name in records.IN_EVERY_RECORD:
        expected = [one[name] for one in found]
        assert frame[name].tolist() == (pytest.approx(expected) if name in REAL else expected), name


def test_curves_explode_into_one_row_an_epoch(tmp_path):
    held_out = made_up_record(
        {**DEFAULTS, "num_epochs": 3, "num_validation": 10}, validation_accuracies=[0.1, 0.2, 0.3]
    )
    records.merge(tmp_path / "runs.jsonl", [rising(0, 4), held_out])
    frame = pandas.read_json(tmp_path / "runs.jsonl", lines=True)
    epochs = frame.explode(["train_losses", "train_accuracies", "test_accuracies"])
    assert epochs.groupby("num_epochs").size().to_dict() == {3: 3, 4: 4}
    assert epochs[epochs.num_epochs == 4].test_accuracies.tolist() == pytest.approx([0.01, 0.02, 0.03, 0.04])
    validated = frame[frame.num_validation > 0].explode("validation_accuracies")
    assert validated.validation_accuracies.tolist() == pytest.approx([0.1, 0.2, 0.3])


def test_the_curves_of_every_committed_run_end_at_its_accuracy_and_have_its_epochs():
    frame = pandas.read_json(ROOT / "figures" / records.TABLE, lines=True)
    epochs = frame.explode(["train_losses", "train_accuracies", "test_accuracies"])
    assert epochs.groupby(level=0).size().tolist() == frame.num_epochs.tolist()
    assert epochs.groupby(level=0).test_accuracies.last().tolist() == frame.test_accuracy.tolist()


def test_every_committed_run_recognised_as_many_images_as_its_accuracy_says():
    for found in records.read_records(ROOT / "figures" / records.TABLE):
        assert records.recognised(found).sum() / 10000 == found["test_accuracy"]
