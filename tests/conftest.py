"""What several test files need: the real data, and one small batch of all eight figures run from end to end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fashion_mnist

ROOT = Path(__file__).parent.parent
TINY = ["-p", "num_epochs", "3", "-p", "train_limit", "600"]


def reproduce(*arguments, root=ROOT, **kwargs):
    """Run reproduce.py as a user does, and return the finished process."""
    command = [sys.executable, str(root / "reproduce.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, **kwargs)


@pytest.fixture(scope="session", autouse=True)
def data_folder():
    """Find the data set, or fetch it, and let every process that a test starts use it."""
    os.environ["FASHION_MNIST"] = str(fashion_mnist.find().resolve())
    return os.environ["FASHION_MNIST"]


@pytest.fixture(scope="session")
def batch(tmp_path_factory, data_folder):
    """Run all eight figures with few images, two at a time; return the output folder and what was printed."""
    output = tmp_path_factory.mktemp("batch")
    done = reproduce(*TINY, "--jobs", 2, "--output", output)
    assert done.returncode == 0, done.stdout + done.stderr
    return output, done.stdout


@pytest.fixture(scope="module")
def one_thread():
    """Let PyTorch compute with one thread, as in a batch; where other programs are busy, several would wait a lot."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
