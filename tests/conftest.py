"""What several test files need: the real data, and one small batch of figures and a sweep run from end to end."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch

import fashion_mnist
import records

ROOT = Path(__file__).parent.parent
TINY = ["-p", "num_epochs", "3", "-p", "train_limit", "600"]
SWEEP = ["--sweeps", "adam_first_try"]


def run_batch(*arguments, root=ROOT, **kwargs):
    """Run reproduce.py as a user does, and return the finished process."""
    command = [sys.executable, str(root / "reproduce.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, **kwargs)


def run_notebook(notebook, **parameters):
    """Run the code of a figure's notebook with other parameters in this process, and return its variables."""
    variables = {}
    for cell in nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, variables)
            if "parameters" in cell.metadata.get("tags", []):
                variables |= parameters
    return variables


def made_up_record(setting, seed=0, accuracy=0.5, **changes):
    """Build a record like those of `records.write_record`, with the same accuracy after every epoch."""
    determinants = {name: value for name, value in setting.items() if name not in records.NOT_IN_KEY}
    return {
        "notebook": "figure_4",
        **determinants,
        "seed": seed,
        "test_accuracy": accuracy,
        "train_losses": [1.0] * setting["num_epochs"],
        "train_accuracies": [0.5] * setting["num_epochs"],
        "test_accuracies": [accuracy] * setting["num_epochs"],
        "correct": "AA==",
        "device": "cpu",
        "data": fashion_mnist.CHECKSUM,
        "training_version": records.TRAINING_VERSION,
        **changes,
    }


@pytest.fixture(scope="session", autouse=True)
def data_folder():
    """Find the data set, or fetch it, and let every process that a test starts use it."""
    os.environ["FASHION_MNIST"] = str(fashion_mnist.find().resolve())
    return os.environ["FASHION_MNIST"]


@pytest.fixture(scope="session")
def batch(tmp_path_factory, data_folder):
    """Run all figures and a sweep of one setting with few images; return the output folder and what was printed."""
    output = tmp_path_factory.mktemp("batch")
    done = run_batch(*SWEEP, *TINY, "--jobs", 2, "--output", output)
    assert done.returncode == 0, done.stdout + done.stderr
    return output, done.stdout


@pytest.fixture(scope="module")
def one_thread():
    """Let PyTorch compute with one thread, as in a batch; where other programs are busy, several would wait a lot."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
