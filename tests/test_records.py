import base64
import json
import math
import os
import platform
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
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
    "batch_norm": False,
    "dropout": 0.0,
    "augmentation": [],
    "num_hidden": [256, 128, 64, 32, 16],
    "patching": 0,
    "seed": 0,
    "train_limit": 60000,
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
    "num_rounds": 5,
    "batch_norm": True,
    "dropout": 0.01,
    "augmentation": ["RandomErasing"],
    "num_hidden": [256, 128, 64, 32, 8],
    "patching": 1,
    "seed": 1,
    "train_limit": 500,
}
WHOLE = ["batch_size", "num_epochs", "num_rounds", "patching", "seed", "train_limit"]
REAL = ["learning_rate", "weight_decay", "dropout"]


def key(notebook="figure_4", **changes):
    return records.run_key(notebook, {**DEFAULTS, **changes})


def record(seed, accuracy=0.5, **changes):
    """Build a record as `write_record` would, of the default setting unless changes say otherwise."""
    return {
        "notebook": "figure_4",
        "seed": seed,
        "test_accuracy": accuracy,
        "parameters": records._reduced({**DEFAULTS, "seed": seed}),
        "history": [{"train_loss": 1.0, "train_accuracy": 0.5, "test_accuracy": accuracy}],
        "training_version": records.TRAINING_VERSION,
        **changes,
    }


def line_of(record):
    return json.dumps(record) + "\n"


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
    "learning_rate": [0, 0.0, *REAL_BADS],
    "dropout": [1, 1.0, 1.5, *REAL_BADS],
    "initializer": ["kaiming", "Normal_", "", 0, None, True, ["normal_"], ("normal_",)],
    "optimizer_name": ["sgd", "adam", "AdamW", "", 0, None, ["SGD"], ("SGD",)],
    "batch_norm": [0, 1, 0.0, "True", "", None, [True]],
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
    ("name", "hint"), [("patching", "0 to 4"), ("train_limit", "1 to 60000"), ("batch_size", "1")]
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
    "optimizer_name": ["SGD", "Adam"],
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


def test_a_key_starts_with_notebook_and_seed_and_fits_a_file_name():
    assert key("figure_7", seed=12).startswith("figure_7-seed12-")
    assert key().replace("_", "").replace("-", "").isalnum()


@pytest.mark.parametrize("name", REAL)
def test_whole_and_real_numbers_that_are_equal_give_the_same_key(name):
    assert key(**{name: 1}) == key(**{name: 1.0})


def test_neither_the_folder_nor_the_order_of_the_parameters_counts():
    assert key(runs_folder="elsewhere") == key()
    assert records.run_key("figure_4", dict(reversed(DEFAULTS.items()))) == key()


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


def test_the_notebook_changes_the_key():
    assert key("figure_3").split("-")[-1] != key().split("-")[-1]


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
    assert path == Path(parameters["runs_folder"]) / f"{records.run_key('figure_4', parameters)}.json"
    assert names_in(path.parent) == [path.name]


def test_a_record_holds_setting_curves_and_circumstances(run):
    path, parameters, _, history, correct = run
    content = strict_json(path.read_text())
    assert len(content.pop("correct")) == 4 * math.ceil(math.ceil(len(correct) / 8) / 3)
    assert content.pop("processor")
    assert content == {
        "notebook": "figure_4",
        "seed": 0,
        "test_accuracy": history[-1]["test_accuracy"],
        "parameters": {name: value for name, value in parameters.items() if name not in ("device", "runs_folder")},
        "history": history,
        "forward": "fast_forward",
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": np.__version__,
        },
        "data": fashion_mnist.CHECKSUM,
        "training_version": records.TRAINING_VERSION,
    }


def test_the_accuracy_is_the_share_of_images_marked_as_recognised(run):
    path, _, _, _, correct = run
    content = strict_json(path.read_text())
    bits = np.unpackbits(np.frombuffer(base64.b64decode(content["correct"]), np.uint8), count=10000)
    assert bits.tolist() == correct.int().tolist()
    assert content["test_accuracy"] == bits.sum() / 10000
    assert 0.05 < content["test_accuracy"] < 1


def test_a_record_is_one_line_that_can_be_read_back(run):
    path = run[0]
    assert path.read_bytes().count(b"\n") == 1
    assert records.read_records(path) == [strict_json(path.read_text())]


def test_the_same_run_twice_gives_the_same_bytes(run, tmp_path, batches):
    path = tiny_run(tmp_path, batches)[0]
    assert path.name == run[0].name
    assert path.read_bytes() == run[0].read_bytes()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_becomes_null(run, tmp_path, value):
    _, parameters, net, history, correct = run
    history = [*history, {"train_loss": value, "train_accuracy": 0.5, "test_accuracy": 0.1}]
    path = records.write_record("figure_4", {**parameters, "runs_folder": str(tmp_path)}, net, history, correct)
    assert strict_json(path.read_text())["history"] == [history[0], {**history[1], "train_loss": None}]
    assert math.isnan(value) or math.isinf(history[1]["train_loss"])


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


def test_an_empty_file_has_no_records(tmp_path):
    assert records.read_records(write_lines(tmp_path / "empty.jsonl")) == []


def test_records_are_read_line_by_line(tmp_path):
    expected = [record(3), record(1)]
    assert records.read_records(write_lines(tmp_path / "r.jsonl", *map(line_of, expected))) == expected


DAMAGED = {
    "cut off": line_of(record(1))[:-20],
    "empty": "\n",
    "no JSON": "seed 1: 0.5\n",
    "a list": "[1, 2]\n",
    "null": "null\n",
    "a number": "0.5\n",
    "a text": '"record"\n',
    "an empty history": line_of(record(1, history=[])),
    "history of null": line_of(record(1, history=None)),
    **{
        f"no {name}": line_of(without(record(1), name))
        for name in ("notebook", "seed", "test_accuracy", "history", "parameters")
    },
}


def assert_refused(path, number):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        records.read_records(path)
    assert_one_line_with(str(error.value), f"{path}, line {number}")


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_line_is_refused_in_a_line_that_names_file_and_line(tmp_path, damage):
    assert_refused(write_lines(tmp_path / "r.jsonl", line_of(record(0)), DAMAGED[damage], line_of(record(2))), 2)


def test_a_line_without_training_version_is_refused(tmp_path):
    assert_refused(write_lines(tmp_path / "r.jsonl", line_of(without(record(0), "training_version"))), 1)


def test_a_line_whose_parameters_are_a_list_is_refused(tmp_path):
    assert_refused(write_lines(tmp_path / "r.jsonl", line_of(record(0, parameters=[]))), 1)


def test_a_line_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"\xff\n")
    assert_refused(path, 1)


# Gathering


def test_gathering_into_an_absent_file_makes_it(tmp_path):
    path = tmp_path / "r.jsonl"
    assert records.gather(path, DEFAULTS, [record(1), record(0)]) == [record(0), record(1)]
    assert records.read_records(path) == [record(0), record(1)]
    assert names_in(tmp_path) == ["r.jsonl"]


def test_gathering_merges_and_sorts_by_seed_as_numbers(tmp_path):
    path = write_lines(tmp_path / "r.jsonl", *(line_of(record(seed)) for seed in (10, 9)))
    merged = records.gather(path, DEFAULTS, [record(2), record(100), record(0)])
    assert [found["seed"] for found in merged] == [0, 2, 9, 10, 100]


def test_the_new_record_of_a_seed_wins(tmp_path):
    path = write_lines(tmp_path / "r.jsonl", line_of(record(0, 0.1)), line_of(record(1, 0.2)))
    assert records.gather(path, DEFAULTS, [record(1, 0.3)]) == [record(0, 0.1), record(1, 0.3)]


def test_the_seed_folder_device_and_writing_of_a_number_make_no_other_setting(tmp_path):
    path = write_lines(tmp_path / "r.jsonl", line_of(record(0)))
    same = {**DEFAULTS, "seed": 7, "runs_folder": "elsewhere", "device": "cuda", "weight_decay": 0}
    assert records.gather(path, same, []) == [record(0)]


@pytest.mark.parametrize("name", without(CHANGED, "seed"))
def test_records_of_another_setting_are_dropped(tmp_path, name):
    path = write_lines(tmp_path / "r.jsonl", line_of(record(0)), line_of(record(1)))
    setting = {**DEFAULTS, name: CHANGED[name]}
    new = record(2, parameters=records._reduced({**setting, "seed": 2}))
    assert records.gather(path, setting, [new]) == [new]
    assert records.read_records(path) == [new]


def test_records_of_another_training_version_are_dropped(tmp_path):
    older = record(0, training_version=records.TRAINING_VERSION - 1)
    path = write_lines(tmp_path / "r.jsonl", line_of(older), line_of(record(1)))
    assert records.gather(path, DEFAULTS, []) == [record(1)]


@given(st.lists(st.integers(0, 30), max_size=8), st.lists(st.integers(0, 30), max_size=8))
@settings(max_examples=25, deadline=None)
def test_gathering_again_changes_no_byte(old, new):
    with tempfile.TemporaryDirectory() as folder:
        path = write_lines(Path(folder) / "r.jsonl", *(line_of(record(seed, 0.1)) for seed in old))
        fresh = [record(seed, 0.2) for seed in new]
        merged = records.gather(path, DEFAULTS, fresh)
        content = path.read_bytes()
        accuracies = {found["seed"]: found["test_accuracy"] for found in merged}
        assert list(accuracies) == sorted({*old, *new})
        assert accuracies == {**dict.fromkeys(old, 0.1), **dict.fromkeys(new, 0.2)}
        assert records.read_records(path) == merged
        assert not content or content.endswith(b"}\n")
        assert records.gather(path, DEFAULTS, fresh) == merged
        assert records.gather(path, DEFAULTS, []) == merged
        assert path.read_bytes() == content
