"""A record tells the truth about its network: what people do in a notebook between its cells, and what others do."""

import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import nbformat
import pytest
import torch
from conftest import CHANGED, ROOT, without
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import my_utils as mu
from common.errors import Interrupted, UserError
from fast.step import TrainingStep
from model import Net

REMEDY = "; build the network again, then train it once: run the cells from the parameters' on"
CELLS = {  # by what stands in them
    "parameters": "check_parameters(globals())",
    "data": "load_data_fashion_mnist(",
    "network": "net = Net(",
    "optimizer": "get_optimizer(",
    "train": "train(net",
    "record": "write_record(",
}
SMALL = {"device": "cpu", "num_epochs": 2, "train_limit": 200, "batch_size": 50, "num_hidden": [16, 8, 8, 8, 8]}


class Session:
    """A figure's notebook as a person has it open, who runs its cells in any order."""

    def __init__(self, notebook, folder, **parameters):
        cells = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4).cells
        code = [cell for cell in cells if cell.cell_type == "code"]
        self.sources = {name: next(c.source for c in code if text in c.source) for name, text in CELLS.items()}
        self.variables = {}
        for cell in code[1:]:
            exec(cell.source, self.variables)
            if "parameters" in cell.metadata.get("tags", []):
                break
        self.variables |= SMALL | {"runs_folder": str(folder)} | parameters

    def run(self, *names):
        for name in names:
            exec(self.sources[name], self.variables)
        return self

    def run_all(self):
        return self.run(*CELLS)

    def record(self):
        """Run the cell of the record, and return the file that it leaves, as bytes."""
        return self.run("record").variables["path"].read_bytes()

    def refusal(self):
        """Run the cell of the record, and return the sentence with which it refuses; it may leave no file."""
        folder = Path(self.variables["runs_folder"])
        before = {path: path.read_bytes() for path in folder.glob("*")}
        with pytest.raises(UserError) as refused:
            self.run("record")
        assert {path: path.read_bytes() for path in folder.glob("*")} == before
        assert "\n" not in str(refused.value)
        return str(refused.value)


@pytest.fixture
def session(few_images, tmp_path):
    return Session("figure_4", tmp_path).run(*without(CELLS, "record"))


def interrupted(session, monkeypatch, after):
    """Run the cell that trains, and press Stop after some batches."""
    computed = []

    def compute(step, *batch, compute=TrainingStep.__call__):
        if len(computed) == after:
            raise KeyboardInterrupt
        computed.append(compute(step, *batch))

    with monkeypatch.context() as patch:
        patch.setattr(TrainingStep, "__call__", compute)
        with pytest.raises(Interrupted):
            session.run("train")


# The network's training


def test_the_cell_that_trains_run_twice_is_refused(session):
    first = session.record()
    session.run("train")
    assert session.refusal() == (
        f"no record is written, since the network was trained for 4 epochs in all, and the history has 2{REMEDY}"
    )
    assert session.variables["path"].read_bytes() == first


@pytest.mark.parametrize(
    ("batches", "sentence"),
    [
        (1, "the network has changed since its last whole epoch"),
        (4, "the network was trained for 3 epochs in all, and the history has 2"),
        (5, "the network has changed since its last whole epoch"),
    ],
)
def test_an_interrupted_training_is_refused_and_so_is_the_next_one(session, monkeypatch, batches, sentence):
    session.record()
    interrupted(session, monkeypatch, batches)
    assert sentence in session.refusal()
    session.run("train")
    assert session.refusal().endswith(REMEDY)


def test_a_first_training_that_was_interrupted_is_refused_with_the_next_ones(session, monkeypatch):
    session.run("network", "optimizer")
    interrupted(session, monkeypatch, 6)
    session.variables["history"] = []
    assert "the network has changed since its last whole epoch" in session.refusal()
    session.run("train")
    assert "the training began with other weights or statistics than a new network of seed 0" in session.refusal()


def test_whoever_builds_the_network_again_gets_the_record_of_a_fresh_session(session, monkeypatch):
    fresh = session.record()
    interrupted(session, monkeypatch, 2)
    session.variables["path"].unlink()
    next(iter(session.variables["train_iter"]))  # somebody has looked at the images
    assert session.run("network", "optimizer", "train").record() == fresh


def test_a_network_that_was_built_again_without_its_optimizer_is_not_trained(session):
    with pytest.raises(UserError, match="the optimizer has none of the network's parameters: build it anew, after"):
        session.run("network", "train")


def test_weights_that_were_loaded_are_refused(session):
    weights = {name: value.clone() for name, value in session.variables["net"].state_dict().items()}
    session.run("network")
    session.variables["net"].load_state_dict(weights)
    assert "was not trained by my_utils.train" in session.refusal()
    session.run("optimizer", "train")
    assert "the training began with other weights" in session.refusal()
    session.variables["net"].load_state_dict(weights)
    assert "the network has changed since its last whole epoch" in session.refusal()


def test_a_loop_by_hand_before_or_after_the_training_is_refused(session):
    def by_hand():
        for X, y in session.variables["train_iter"]:
            session.variables["optimizer"].zero_grad()
            session.variables["loss"](session.variables["net"](X), y).backward()
            session.variables["optimizer"].step()

    by_hand()
    assert "the network has changed" in session.refusal()
    session.run("network", "optimizer")
    by_hand()
    session.run("train")
    assert "the training began with other weights" in session.refusal()


def test_another_network_than_the_trained_one_is_refused(session):
    trained = session.variables["net"]
    session.variables["seed"] = 1
    session.run("parameters", "data", "network", "optimizer", "train")
    other = session.record()
    session.variables["net"] = trained
    assert "the history is not that of this network's training" in session.refusal()
    assert session.variables["path"].read_bytes() == other


def test_images_that_went_through_in_training_mode_are_refused_where_they_leave_a_trace(few_images, tmp_path):
    session = Session("figure_8", tmp_path).run("parameters", "data", "network", "optimizer")
    session.variables["net"](session.variables["X"])
    session.run("train")
    assert "other weights or statistics than a new network" in session.refusal()
    session.run("network", "optimizer", "train")
    session.variables["net"].eval()(session.variables["X"])
    assert session.record()
    session.variables["net"].train()(session.variables["X"])
    assert "images went through it in training mode" in session.refusal()


def test_a_network_with_another_way_through_its_layers_is_refused(few_images, tmp_path):
    class Shortened(Net):
        def forward(self, X):
            return self.classifier(self.backbone(self.stem(X)))

    session = Session("figure_4", tmp_path)
    session.variables["Net"] = Shortened
    session.run("parameters", "data", "network", "optimizer", "train")
    assert "the network is another than the parameters say" in session.refusal()


# Rounds


def rounds_with_two_optimizers(folder, **parameters):
    """Train for two rounds, and build the optimizer again between them."""
    session = Session("figure_5", folder, num_rounds=2, **parameters)
    session.sources["train"] = "history = train(net, train_iter, test_iter, loss, 1, optimizer)"
    session.run("parameters", "data", "network", "optimizer", "train")
    first = session.variables["history"]
    session.run("optimizer", "train")
    session.variables["history"] = first + session.variables["history"]
    return session


def test_an_optimizer_that_forgets_what_it_knew_between_rounds_is_refused(few_images, tmp_path):
    session = rounds_with_two_optimizers(tmp_path, optimizer_name="Adam", learning_rate=0.001)
    assert "the network was trained for 1 epochs in all, and the history has 2" in session.refusal()


def test_an_optimizer_that_has_nothing_to_forget_may_be_built_again(few_images, tmp_path):
    record = rounds_with_two_optimizers(tmp_path).record()
    assert record == Session("figure_5", tmp_path, num_rounds=1).run_all().record()


def test_training_on_to_the_number_of_epochs_is_the_same_as_training_at_once(session):
    first = session.variables["history"]
    session.run("train")
    session.variables |= {"history": first + session.variables["history"], "num_epochs": 4}
    folder = session.variables["runs_folder"]
    assert session.run("parameters").record() == Session("figure_4", folder, num_epochs=4).run_all().record()


# The setting


@pytest.mark.parametrize(("name", "value"), (CHANGED | {"num_validation": 100, "train_limit": 199}).items())
def test_a_parameter_that_was_changed_after_the_training_is_refused(few_images, tmp_path, name, value):
    session = Session("figure_8" if name.startswith("norm_") else "figure_4", tmp_path)
    session.run(*without(CELLS, "record")).variables["parameters"][name] = value
    assert session.refusal().endswith(REMEDY)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("learning_rate", 0.2, "learning_rate is 0.2, and the training had 0.1"),
        ("batch_size", 20, "batch_size is 20, and the training had 50"),
        ("dropout", 0.5, "the network is another than the parameters say"),
        ("num_epochs", 3, "the network was trained for 2 epochs, and num_epochs is 3"),
        ("seed", 1, "other weights or statistics than a new network of seed 1 with kaiming_normal_ has"),
    ],
)
def test_the_sentence_names_what_was_changed(session, name, value, sentence):
    session.variables[name] = value
    assert sentence in session.run("parameters").refusal()


@pytest.mark.parametrize(
    ("cell", "code", "sentence"),
    [
        ("optimizer", "optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)", "momentum is 0, and the"),
        ("optimizer", "optimizer = torch.optim.SGD(net.classifier.parameters(), 0.1)", "the optimizer has not all"),
        ("optimizer", "loss = torch.nn.CrossEntropyLoss(label_smoothing=0.1)", "loss was not torch"),
        ("optimizer", "loss = torch.nn.CrossEntropyLoss(reduction='sum')", "loss was not torch"),
        ("optimizer", "loss = torch.nn.functional.multi_margin_loss", "loss was not torch"),
        ("data", "train_iter = list(train_iter)", "batch_size is 50, and the training had None"),
        ("data", "train_iter.resize = 28", "resize is None, and the training had 28"),
        ("network", "net.classifier.requires_grad_(False)", "the optimizer has not all"),
        ("optimizer", "scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)", "another schedule"),
    ],
)
def test_what_no_parameter_says_is_refused(few_images, tmp_path, cell, code, sentence):
    session = Session("figure_4", tmp_path)
    session.sources[cell] += f"\n{code}"
    session.sources["train"] = session.sources["train"].replace(
        ", optimizer)", ", optimizer, globals().get('scheduler'))"
    )
    session.run(*without(CELLS, "record"))
    assert sentence in session.refusal()


@pytest.mark.parametrize(
    "code",
    [
        "loss = torch.nn.CrossEntropyLoss(reduction='mean')",
        "optimizer = torch.optim.SGD(net.parameters(), lr=0.1)",
    ],
)
def test_the_same_mathematics_written_otherwise_is_recorded(few_images, tmp_path, code):
    session = Session("figure_4", tmp_path)
    session.sources["optimizer"] += f"\n{code}"
    assert session.run_all().record()


def test_a_schedule_for_another_number_of_epochs_is_refused(few_images, tmp_path):
    session = Session("beyond", tmp_path, num_epochs=3, augmentation=[])
    session.run("parameters", "data", "network", "optimizer")
    session.variables["num_epochs"] = 2
    session.run("parameters", "train")
    assert "the learning rate had another schedule than the parameters say" in session.refusal()
    assert session.run("network", "optimizer", "train").record()


def test_a_learning_rate_in_a_tensor_as_on_a_gpu_is_recorded(few_images, tmp_path, monkeypatch):
    def get_scheduler(name, optimizer, num_steps):
        (group,) = optimizer.param_groups
        group["lr"], highest = torch.tensor(group["lr"]), group["lr"]
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, highest, num_steps, cycle_momentum=False)

    monkeypatch.setattr(mu, "get_scheduler", get_scheduler)
    session = Session("beyond", tmp_path, optimizer_name="RMSprop").run_all()
    session.variables["parameters"]["learning_rate"] = 0.1
    assert "learning_rate is 0.1, and the training had 0.005;" in session.refusal()


def test_a_history_that_was_touched_is_refused(session):
    session.variables["history"][0]["train_loss"] += 0.001
    assert "the history is not that of this network's training" in session.refusal()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda correct: ~correct, "and test_accuracies ends with 0."),
        (lambda correct: correct.repeat(2), "correct is of 400 images"),
    ],
)
def test_recognised_images_that_contradict_the_accuracy_are_refused(session, change, sentence):
    session.sources["record"] = session.sources["record"].replace(
        "mu.predict_correct(net, test_iter)", "change(mu.predict_correct(net, test_iter))"
    )
    session.variables["change"] = change
    assert sentence in session.refusal()


# In a kernel, and in a browser


def test_papermill_ends_at_the_record_of_a_notebook_that_trains_twice(tmp_path):
    notebook = nbformat.read(ROOT / "notebooks" / "figure_4.ipynb", as_version=4)
    (training,) = (place for place, cell in enumerate(notebook.cells) if CELLS["train"] in cell.source)
    notebook.cells.insert(training, nbformat.v4.new_code_cell(notebook.cells[training].source))
    nbformat.write(notebook, tmp_path / "twice.ipynb")
    given = {"num_epochs": 1, "train_limit": 300, "device": "cpu", "runs_folder": tmp_path / "runs"}
    options = [word for name, value in given.items() for word in ("-p", name, str(value))]
    command = [sys.executable, "-m", "papermill", tmp_path / "twice.ipynb", tmp_path / "out.ipynb", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode
    outputs = [output for cell in nbformat.read(tmp_path / "out.ipynb", 4).cells for output in cell.get("outputs", ())]
    (error,) = (output for output in outputs if output.output_type == "error")
    (line,) = error.traceback
    assert line.startswith("UserError: no record is written, since the network was trained for 2 epochs in all")
    assert not (tmp_path / "runs").exists()


def test_in_jupyterlab_what_was_trained_twice_or_stopped_is_refused_in_a_sentence(lab_page, tmp_path):
    page = lab_page("figure_4", num_epochs=1, train_limit=1000, runs_folder=str(tmp_path))

    def cell(name):
        return page.locator(".jp-CodeCell", has_text=CELLS[name]).last

    def choose(menu, item):
        page.locator(f".lm-MenuBar-itemLabel:text-is('{menu}')").click()
        page.locator(f".lm-Menu-itemLabel:text-is('{item}')").click()

    def run(name):
        cell(name).locator(".cm-content").click()
        page.keyboard.press("Control+Enter")

    def train_for(num_epochs):
        cell("train").locator(".cm-content").click()
        page.keyboard.press("Control+A")
        page.keyboard.insert_text(f"history = train(net, train_iter, test_iter, loss, {num_epochs}, optimizer)")
        run("train")

    def refusal():
        run("record")
        cell("record").locator(".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']").wait_for()
        (sentence,) = cell("record").locator(".jp-OutputArea-output").inner_text().strip().splitlines()
        return sentence

    choose("Run", "Run All Cells")
    cell("record").get_by_text("seed0-").wait_for()
    (path,) = tmp_path.iterdir()
    first = path.read_bytes()
    run("train")
    refused = "UserError: no record is written, since the network was trained for 2 epochs in all"
    assert refusal().startswith(refused)
    train_for("10000")
    cell("train").get_by_text(" of 10000").first.wait_for()
    choose("Kernel", "Interrupt Kernel")
    cell("train").get_by_text("Interrupted: after").wait_for()
    assert refusal().endswith(REMEDY)
    assert path.read_bytes() == first
    path.unlink()
    run("network")
    run("optimizer")
    train_for("num_epochs")
    run("record")
    cell("record").get_by_text("seed0-").wait_for()
    assert path.read_bytes() == first


# Anything in any order


ACTIONS = ("train", "stop", "network", "optimizer", "data", "parameters", "look", "change", "record", "record")


@given(st.lists(st.sampled_from(ACTIONS), max_size=12), st.sampled_from(["figure_4", "figure_9"]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_done_in_whatever_order_a_record_is_that_of_a_fresh_session_or_there_is_none(
    few_images, monkeypatch, actions, notebook
):
    with tempfile.TemporaryDirectory() as folder:
        session = Session(notebook, folder, train_limit=100).run(*without(CELLS, "record"))
        for action in (*actions, "record"):
            if action == "record":
                try:
                    written = session.record()
                except UserError:
                    continue
                told = session.variables["parameters"]
                assert written == fresh_record(notebook, told["learning_rate"])
            elif action == "change":
                rate = session.variables["learning_rate"]
                session.variables["learning_rate"] = 0.03 if rate == 0.01 else 0.01
            elif action == "look":
                X, _ = next(iter(session.variables["train_iter"]))
                session.variables["net"](X)
            else:
                run_or_stop(session, action, monkeypatch)
        session.run(*without(CELLS, "record"))
        assert session.record() == fresh_record(notebook, session.variables["learning_rate"])


def run_or_stop(session, action, monkeypatch):
    with suppress(UserError):  # that the optimizer is another network's
        if action == "stop":
            interrupted(session, monkeypatch, 1)
        else:
            session.run(action)


FRESH = {}


def fresh_record(notebook, learning_rate):
    """Return the record of a session in which every cell was run once."""
    key = notebook, learning_rate
    if key not in FRESH:
        with tempfile.TemporaryDirectory() as folder:
            session = Session(notebook, folder, train_limit=100, learning_rate=learning_rate)
            FRESH[key] = session.run_all().variables["path"].read_bytes()
    return FRESH[key]
