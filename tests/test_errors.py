"""What stops a cell through no fault of the program: a notebook shows a line of it, and no traceback."""

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

import my_utils as mu
from common.device import get_device
from common.errors import Interrupted, UserError
from common.fashion_mnist import DataError
from common.parameters import ParameterError, check_parameters
from model import Net, get_possible_patches
from study.claims import ClaimsError
from study.notebooks import NotebookError
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
