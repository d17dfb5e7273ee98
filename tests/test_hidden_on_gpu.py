"""The GPU's kernels, where there is no GPU: computed by Triton's interpreter, in a process of its own."""

import importlib.util
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from fast.forward import hidden_for
from model import Net


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton isn't installed: a PyTorch for CPUs")
def test_the_kernels_compute_mlp_1_to_single_precision():
    checks = ["tests/interpreted_kernels.py", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *checks], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_on_a_cpu_triton_is_not_even_imported():
    asked = "from fast.forward import *; import sys, model; net = model.Net(6, 4, 3, [9, 8, 7, 6, 5], 4);"
    asked += "fast_forward(net, torch.rand(2, 1, 6, 6)); assert 'fast.hidden_on_gpu' not in sys.modules"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", asked], cwd=ROOT, env=environment, check=True)
    assert hidden_for(Net(6, 4, 3, [9, 8, 7, 6, 5], 4)).__name__ == "fast.hidden_on_cpu"
