"""What stops a cell through no fault of the program: a notebook shows a line of it, and no traceback."""

import signal
import sys
import time
import weakref

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

import my_utils as mu
from common.device import get_device
from common.errors import Interrupted, UserError
from common.fashion_mnist import DataError
from common.interrupts import never_lost
from common.parameters import ParameterError, check_parameters
from model import Net, get_possible_patches
from study.claims import ClaimsError
from study.notebooks import NotebookError
from study.stopping import Stopped, stoppable
from study.table import TABLE, read_records


@pytest.mark.parametrize("kind", [UserError, ParameterError, NotebookError, ClaimsError, DataError, Interrupted])
def test_a_notebook_shows_the_line_alone(kind, capsys):
    shell = InteractiveShell()
    shell.user_ns["kind"] = kind
    done = shell.run_cell("def fails():\n    raise kind('it is wrong')\nfails()")
    assert isinstance(done.error_in_exec, kind)
    assert capsys.readouterr().out == f"{kind.__name__}: it is wrong\n"


def test_mistakes_that_can_be_made_in_a_notebook_are_shown_so(tmp_path):
    (tmp_path / TABLE).write_text("{}\n", encoding="utf-8")
    for mistake in (
        lambda: check_parameters({"seed": -1}),
        lambda: get_device("cuda:77"),
        lambda: read_records(tmp_path / TABLE),
        lambda: mu.get_optimizer("SGD", torch.nn.Linear(1, 1).parameters(), -0.1),
        lambda: mu.load_data_fashion_mnist(10, device="cpu", augmentation=["Mixup"]),
        lambda: get_possible_patches(785),
        lambda: Net(28, 4, 14, [256, 128], 10),
        lambda: mu.evaluate_accuracy(torch.nn.Linear(1, 1), []),
    ):
        with pytest.raises(UserError):
            mistake()


def test_a_training_that_is_interrupted_says_where_in_a_line(capsys):
    epochs = []

    class Batches(list):
        def __iter__(self):
            epochs.append(1)
            if len(epochs) == 3:
                raise KeyboardInterrupt
            return super().__iter__()

    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    test_iter = [(torch.rand(4, 1, 28, 28), torch.arange(4))]
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with pytest.raises(Interrupted) as stopped:
        mu.train(net, Batches(test_iter), test_iter, torch.nn.CrossEntropyLoss(), 5, optimizer)
    assert str(stopped.value).startswith("after 2 of 5 epochs; ")
    assert len(capsys.readouterr().out.splitlines()) == 2


def send_while_an_object_is_freed(number):
    """Let a signal come where Python drops what it raises, and wait until it is raised all the same."""
    weakref.finalize(type("Freed", (), {})(), signal.raise_signal, number)
    time.sleep(1)


def test_an_interrupt_that_comes_while_python_frees_an_object_stops_a_training_all_the_same(interrupts, capsys):
    class Batches(list):
        def __iter__(self):
            send_while_an_object_is_freed(signal.SIGINT)
            return super().__iter__()

    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    batches = Batches([(torch.rand(4, 1, 28, 28), torch.arange(4))])
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    with pytest.raises(Interrupted, match="after 0 of 5 epochs; "):
        mu.train(net, batches, batches, torch.nn.CrossEntropyLoss(), 5, optimizer)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_while_python_frees_an_object_stops_a_batch_all_the_same(interrupts, number):
    with pytest.raises(Stopped) as stopped, stoppable():
        send_while_an_object_is_freed(number)
    assert stopped.value.code == 128 + number


def test_what_else_goes_wrong_while_python_frees_an_object_is_printed_as_ever(monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    with never_lost():
        weakref.finalize(type("Freed", (), {})(), lambda: 1 / 0)
    assert [unraisable.exc_type for unraisable in seen] == [ZeroDivisionError]
