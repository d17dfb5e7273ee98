"""The record of a run: its key, what it holds, and that real runs give the records that they should."""

import base64
import json
import math
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from conftest import CHANGED, DEFAULTS, ROOT, names_in, run_notebook, without

import my_utils as mu
from common import fashion_mnist
from common.parameters import IMPLIED, PARAMETERS
from study import notebooks
from study.record import (
    GPU_DRIVERS,
    IN_EVERY_RECORD,
    IN_KEY,
    TRAINING_VERSIONS,
    device_kind,
    history,
    recognised,
    record_key,
    run_key,
    write_record,
)
from study.table import TABLE, read_records, select

without_a_gpu_driver = pytest.mark.skipif(
    sys.platform != "linux" or any(Path("/dev", driver).exists() for driver in GPU_DRIVERS),
    reason="only PyTorch can say whether there is a GPU",
)


def key(**changes):
    return run_key({**DEFAULTS, **changes})


def strict_json(text):
    """Read JSON, refusing Python's own NaN and Infinity."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


# Keys


def test_a_key_starts_with_the_seed_and_fits_a_file_name():
    assert key(seed=12).startswith("seed12-")
    assert key().replace("_", "").replace("-", "").isalnum()


def test_whole_and_real_numbers_that_are_equal_give_the_same_key():
    for name in ("learning_rate", "weight_decay", "dropout"):
        assert key(**{name: 1}) == key(**{name: 1.0}), name


def test_neither_the_folder_nor_the_rounds_nor_the_order_of_the_parameters_counts():
    assert key(runs_folder="elsewhere") == key()
    assert key(num_rounds=5) == key()
    assert run_key(without(DEFAULTS, "num_rounds")) == key()
    assert run_key(dict(reversed(DEFAULTS.items()))) == key()


def test_every_other_parameter_changes_the_key():
    assert set(IN_KEY) == CHANGED.keys() == PARAMETERS.keys() - {"num_rounds", "device", "runs_folder"}
    for name, value in CHANGED.items():
        assert key(**{name: value}).split("-")[-1] != key().split("-")[-1], name


def test_another_training_version_changes_the_key(monkeypatch):
    before = key()
    monkeypatch.setitem(TRAINING_VERSIONS, "cpu", TRAINING_VERSIONS["cpu"] + 1)
    assert key() != before


def test_other_data_change_the_key(monkeypatch):
    before = key()
    monkeypatch.setattr(fashion_mnist, "CHECKSUM", "another")
    assert key() != before


KEYS = {  # of the notebooks' own settings with seed 0, on a CPU, in version 2 of the training
    "figure_2": "seed0-5e8dd52aa95b",
    "figure_3": "seed0-71adc55b9c34",
    "figure_4": "seed0-e7101601f492",
    "figure_5": "seed0-6a721c75559b",
    "figure_6": "seed0-782e4e0853c5",
    "figure_7": "seed0-a622979d2ded",
    "figure_8": "seed0-7b92059c5874",
    "figure_9": "seed0-24e0c7eba68a",
    "beyond": "seed0-bc319f0d93ee",
}
SINCE_CHANGED = {"beyond": {"num_hidden": [256, 32, 32, 64, 32], "num_epochs": 40}}  # what a notebook had then


def test_keys_stay_what_they_were_for_runs_to_come_and_for_the_committed_ones(monkeypatch):
    """Whatever becomes of the code: with other keys every run would have to be made again."""
    monkeypatch.setitem(TRAINING_VERSIONS, "cpu", 2)
    committed = {record_key(record) for record in read_records(ROOT / "figures" / TABLE)}
    for notebook, expected in KEYS.items():
        setting = notebooks.defaults(notebook) | SINCE_CHANGED.get(notebook, {})
        assert run_key(setting | {"seed": 0, "device": "cpu"}) == expected, notebook
        assert expected in committed, notebook


# The kind of device


@pytest.fixture(params=["linux with a driver", "another system"])
def may_have_a_gpu(request, monkeypatch):
    """Let this machine look like one of which only PyTorch can say whether it has a GPU."""
    if request.param == "another system":
        monkeypatch.setattr(sys, "platform", "darwin")
    else:
        monkeypatch.setattr("study.record.GPU_DRIVERS", ("null",))


def test_auto_and_cpu_are_the_same_without_a_gpu(may_have_a_gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_kind("auto") == device_kind("cpu") == "cpu"
    assert key(device="auto") == key(device="cpu")


def test_a_gpu_gives_another_key(may_have_a_gpu, monkeypatch):
    monkeypatch.setattr(mu, "get_device", lambda name: torch.device("cuda" if name == "auto" else name))
    assert device_kind("auto") == device_kind("cuda:1") == "cuda"
    assert key(device="auto") == key(device="cuda") == key(device="cuda:0") != key(device="cpu")


def test_a_device_that_this_machine_lacks_has_no_kind():
    with pytest.raises(ValueError, match="device 'cuda:99' is not on this machine"):
        device_kind("cuda:99")


def imported_by(*arguments):
    """Run Python from the project's folder and return the names of all modules that it imports."""
    command = [sys.executable, "-X", "importtime", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-1000:]
    return {line.split("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


@pytest.mark.parametrize("name", ["cpu", pytest.param("auto", marks=without_a_gpu_driver)])
def test_pytorch_is_not_imported_for_a_device_that_is_surely_the_cpu(name):
    imported = imported_by("-c", f"from study import record; assert record.device_kind({name!r}) == 'cpu'")
    assert "study.record" in imported
    assert "torch" not in imported


@pytest.mark.parametrize("option", ["--help", pytest.param("--list", marks=without_a_gpu_driver)])
def test_a_batch_that_runs_nothing_does_not_import_pytorch(option):
    imported = imported_by("reproduce.py", option)
    assert "study.plan" in imported
    assert "torch" not in imported


# Writing and reading a record


@pytest.fixture(scope="module")
def batches(one_thread):
    return mu.load_data_fashion_mnist(64, device="cpu", train_limit=500)


def tiny_run(folder, batches):
    """Train for an epoch on 500 images and write the record; return its path, and what went into it."""
    parameters = {**DEFAULTS, "num_epochs": 1, "train_limit": 500, "batch_size": 64, "runs_folder": str(folder)}
    train_iter, test_iter = batches
    net = mu.net_of(parameters)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    epochs = mu.train(net, train_iter, test_iter, torch.nn.CrossEntropyLoss(), 1, optimizer)
    correct = mu.predict_correct(net, test_iter)
    return write_record("figure_4", parameters, net, epochs, correct), parameters, net, epochs, correct


@pytest.fixture(scope="module")
def run(tmp_path_factory, batches):
    return tiny_run(tmp_path_factory.mktemp("records") / "new" / "runs", batches)


def test_a_record_lies_where_its_key_says_and_nothing_else_does(run):
    path, parameters, *_ = run
    assert path == Path(parameters["runs_folder"]) / f"{run_key(parameters)}.json"
    assert names_in(path.parent) == [path.name]


def test_a_record_holds_setting_curves_and_circumstances(run):
    path, parameters, _, epochs, correct = run
    content = strict_json(path.read_text(encoding="utf-8"))
    assert len(content.pop("correct")) == 4 * math.ceil(math.ceil(len(correct) / 8) / 3)
    assert content.pop("processor")
    assert re.fullmatch("[0-9a-f]{16}", content.pop("checksum"))
    assert content == {
        "notebook": "figure_4",
        **without(parameters, "num_rounds", "device", "runs_folder", *IMPLIED),
        "test_accuracy": epochs[-1]["test_accuracy"],
        "train_losses": [epoch["train_loss"] for epoch in epochs],
        "train_accuracies": [epoch["train_accuracy"] for epoch in epochs],
        "test_accuracies": [epoch["test_accuracy"] for epoch in epochs],
        "forward": "fast_forward",
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "data": fashion_mnist.CHECKSUM,
        "training_version": TRAINING_VERSIONS["cpu"],
    }


def test_a_record_is_named_as_its_run_was_before(run):
    path, parameters, *_ = run
    (record,) = read_records(path)
    assert record_key(record) == run_key(parameters) == path.stem


def test_the_accuracy_is_the_share_of_images_marked_as_recognised(run):
    path, _, _, _, correct = run
    content = strict_json(path.read_text(encoding="utf-8"))
    bits = np.unpackbits(np.frombuffer(base64.b64decode(content["correct"]), np.uint8), count=10000)
    assert bits.tolist() == correct.int().tolist()
    assert recognised(content).tolist() == correct.tolist()
    assert content["test_accuracy"] == bits.sum() / 10000
    assert 0.05 < content["test_accuracy"] < 1


def test_a_record_is_one_line_that_can_be_read_back(run):
    path = run[0]
    assert path.read_bytes().count(b"\n") == 1
    assert read_records(path) == [without(strict_json(path.read_text(encoding="utf-8")), "checksum")]


def test_the_same_run_twice_gives_the_same_bytes(run, tmp_path, batches):
    path = tiny_run(tmp_path, batches)[0]
    assert path.name == run[0].name
    assert path.read_bytes() == run[0].read_bytes()


def test_what_is_not_finite_becomes_null(tmp_path, few_images):
    variables = run_notebook("figure_4", device="cpu", runs_folder=str(tmp_path), num_epochs=2, learning_rate=1e30)
    (record,) = read_records(variables["path"])
    trained = variables["history"]
    assert not any(math.isfinite(epoch["train_loss"]) for epoch in trained)
    assert history(record) == [{**epoch, "train_loss": None} for epoch in trained]


def test_the_history_of_a_record_is_what_the_training_returned(run, tmp_path, few_images):
    path, _, _, epochs, _ = run
    assert history(strict_json(path.read_text(encoding="utf-8"))) == epochs
    held_out = run_notebook("figure_4", device="cpu", runs_folder=str(tmp_path), num_epochs=2, num_validation=100)
    assert history(strict_json(held_out["path"].read_text(encoding="utf-8"))) == held_out["history"]
    assert "validation_accuracy" in held_out["history"][1]


def test_a_network_that_is_computed_layer_by_layer_is_recorded_as_such(tmp_path, few_images):
    assert record_of(tmp_path, "figure_8", num_epochs=1, norm_after_relu=True)["forward"] == "net"


def test_a_relative_folder_starts_at_the_projects_root(run, tmp_path, monkeypatch):
    _, parameters, net, epochs, correct = run
    monkeypatch.setattr("study.record.ROOT", tmp_path)
    path = write_record("figure_4", {**parameters, "runs_folder": "a/b"}, net, epochs, correct)
    assert path.parent == tmp_path / "a" / "b"


# Real runs


def record_of(folder, notebook, **parameters):
    """Run a notebook's code on a few images, and return the record that it leaves."""
    variables = run_notebook(notebook, device="cpu", runs_folder=str(folder), **parameters)
    (record,) = read_records(variables["path"])
    return record


@pytest.mark.parametrize("forward", ["fast_forward", "net"])
@pytest.mark.parametrize(("optimizer", "learning_rate"), [("SGD", 0.2), ("Adam", 0.001)])
def test_the_number_of_rounds_changes_no_number(tmp_path, few_images, monkeypatch, forward, optimizer, learning_rate):
    if forward == "net":
        monkeypatch.setattr("fast.forward.can_fast_forward", lambda net: False)
    setting = {
        "optimizer_name": optimizer,
        "learning_rate": learning_rate,
        "dropout": 0.1,
        "num_epochs": 3,
        "train_limit": 300,
    }
    at_once = record_of(tmp_path / "1", "figure_5", num_rounds=1, **setting)
    assert record_of(tmp_path / "3", "figure_5", num_rounds=3, **setting) == at_once
    assert at_once["forward"] == forward
    assert names_in(tmp_path / "1") == names_in(tmp_path / "3")


@pytest.mark.parametrize(
    ("notebook", "changes"),
    [("figure_2", {}), ("figure_4", {}), ("figure_9", {}), ("figure_8", {"augmentation": ["RandomErasing"]})],
)
def test_a_shorter_run_is_the_beginning_of_a_longer_one_bit_for_bit(tmp_path, few_images, notebook, changes):
    setting = {**changes, "num_validation": 100}
    short = record_of(tmp_path, notebook, num_epochs=1, **setting)
    long = record_of(tmp_path, notebook, num_epochs=3, **setting)
    assert history(short) == history(long)[:1]
    parameters = {name: short[name] for name in IN_EVERY_RECORD}
    assert select([long], parameters) == [without(short, "correct")]


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
    (record,) = read_records(variables["path"])
    images, labels, *_ = fashion_mnist.load()
    with torch.no_grad():
        correct = variables["net"].eval()(images[450:, None] / 255).argmax(1) == labels[450:]
    assert record["num_validation"] == 150
    assert record["validation_accuracies"][-1] == correct.double().mean().item()
    assert len(record["validation_accuracies"]) == len(record["test_accuracies"]) == 3


def test_held_out_images_are_never_trained_on(tmp_path, few_images):
    setting = {"num_epochs": 2, "num_validation": 150}
    record = record_of(tmp_path / "real", "figure_9", **setting)
    images, labels, *test = fashion_mnist.load()
    few_images(torch.cat([images[:450], 255 - images[450:]]), labels, *test)
    others_held_out = record_of(tmp_path / "negative", "figure_9", **setting)
    assert others_held_out["validation_accuracies"] != record["validation_accuracies"]
    assert without(others_held_out, "validation_accuracies") == without(record, "validation_accuracies")
    few_images(torch.cat([255 - images[:1], images[1:]]), labels, *test)
    assert record_of(tmp_path / "other", "figure_9", **setting)["train_losses"] != record["train_losses"]


def test_held_out_images_change_nothing_but_what_is_trained_on(tmp_path, few_images):
    """Fewer images of the data set's beginning are the same, whether a limit or held-out images leave them."""
    limited = record_of(tmp_path, "figure_4", num_epochs=2, train_limit=450)
    held_out = record_of(tmp_path, "figure_4", num_epochs=2, num_validation=150)
    own = ("train_limit", "num_validation", "validation_accuracies")
    assert without(held_out, *own) == without(limited, *own)
