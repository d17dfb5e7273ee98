"""The record of a run: check its parameters, write it, read it, gather many.

A run is one execution of a figure's notebook with one set of parameters and one seed. Its record is a small JSON file,
written last and at once, so that a run is done if and only if its record is there.
"""

import base64
import difflib
import hashlib
import json
import math
import os
import platform
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torchvision

import fashion_mnist
from fast_forward import can_fast_forward
from model import INITIALIZERS, get_possible_patches
from my_utils import AUGMENTATIONS, get_device

ROOT = Path(__file__).parent

TRAINING_VERSION = 1  # to be raised whenever the code changes the numbers that a run gives

OPTIMIZERS = ("SGD", "Adam")


class ParameterError(ValueError):
    """A parameter is unknown or makes no sense; the message says which, what was expected and what was given."""


# Parameters


def _one_of(*choices):
    return f"one of {', '.join(choices)}", lambda value: value in choices


def _whole(least, most=math.inf):
    expected = f"a whole number from {least}" + (f" to {most}" if most < math.inf else " up")
    return expected, lambda value: type(value) is int and least <= value <= most


def _real(expected, condition):
    finite = sys.float_info.max
    return expected, lambda value: type(value) in (int, float) and abs(value) <= finite and condition(value)


PARAMETERS = {  # name: what is expected, and the test for it
    "initializer": _one_of(*INITIALIZERS),
    "optimizer_name": _one_of(*OPTIMIZERS),
    "learning_rate": _real("a number above 0", lambda value: value > 0),
    "weight_decay": _real("a number from 0 up", lambda value: value >= 0),
    "batch_size": _whole(1),
    "num_epochs": _whole(1),
    "num_rounds": _whole(1),
    "batch_norm": ("True or False", lambda value: type(value) is bool),
    "dropout": _real("a probability from 0 to below 1", lambda value: 0 <= value < 1),
    "augmentation": (
        f"a list of names among {', '.join(AUGMENTATIONS)}",
        lambda value: type(value) is list and all(name in AUGMENTATIONS for name in value),
    ),
    "num_hidden": (
        "a list of five whole numbers from 1 up",
        lambda value: type(value) is list and len(value) == 5 and all(type(n) is int and n >= 1 for n in value),
    ),
    "patching": _whole(0, len(get_possible_patches(784)) - 1),
    "seed": _whole(0),
    "train_limit": _whole(1, 60000),
    "device": (
        "auto, cpu, cuda or cuda:1",
        lambda value: type(value) is str and re.fullmatch(r"auto|cpu|cuda(:\d+)?", value) is not None,
    ),
    "runs_folder": ("the path of a folder", lambda value: type(value) is str and value != ""),
}
NOT_IN_KEY = ("device", "runs_folder")  # the device counts by its kind, and the folder not at all


def check_parameters(namespace):
    """Pick a run's parameters out of a dict, such as a notebook's `globals()`, and check each.

    Returns:
        A dict of those names of `PARAMETERS` that are there.

    Raises:
        ParameterError: a value has the wrong type or makes no sense.
    """
    parameters = {name: namespace[name] for name in PARAMETERS if name in namespace}
    for name, value in parameters.items():
        expected, is_valid = PARAMETERS[name]
        if not is_valid(value):
            raise ParameterError(f"{name} is {value!r}: expected {expected}")
    if parameters.get("num_epochs", 0) % parameters.get("num_rounds", 1):
        raise ParameterError(
            f"num_epochs is {parameters['num_epochs']}: expected a multiple of num_rounds, {parameters['num_rounds']}"
        )
    return parameters


def check_names(names, known):
    """Raise a ParameterError for the first name that isn't known, with the nearest one that is."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
            raise ParameterError(f"unknown parameter {name}: {hint}")


# Keys and files


def run_key(notebook, parameters):
    """Name a run by what determines its numbers: `figure_4-seed0-` and a hash of the rest."""
    kind = get_device(parameters["device"]).type
    determinants = [notebook, _reduced(parameters), kind, fashion_mnist.CHECKSUM, TRAINING_VERSION]
    digest = hashlib.sha256(json.dumps(determinants, sort_keys=True).encode()).hexdigest()
    return f"{notebook}-seed{parameters['seed']}-{digest[:12]}"


def _reduced(parameters):
    """Leave out what doesn't determine a run's numbers, and write 1 and 1.0 alike."""
    real = ("learning_rate", "weight_decay", "dropout")
    kept = {name: value for name, value in parameters.items() if name not in NOT_IN_KEY}
    return {name: float(value) if name in real else value for name, value in kept.items()}


def write_record(notebook, parameters, net, history, correct):
    """Write the record of a run into its folder of runs, whole or not at all, and return its path.

    Args:
        notebook: name of the notebook, such as "figure_4".
        parameters: of the run, as from `check_parameters`; a relative `runs_folder` starts at the project's root.
        net: the trained network.
        history: of the training, as from `my_utils.train`.
        correct: for each test image, whether it was recognised: booleans (10000,).
    """
    finite = [{name: value if math.isfinite(value) else None for name, value in epoch.items()} for epoch in history]
    device = next(net.parameters()).device
    record = {
        "notebook": notebook,
        "seed": parameters["seed"],
        "test_accuracy": correct.sum().item() / len(correct),
        "parameters": _reduced(parameters),
        "history": finite,
        "correct": base64.b64encode(np.packbits(correct.cpu().numpy())).decode(),
        "forward": "fast_forward" if can_fast_forward(net) else "net",
        "device": device.type,
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": np.__version__,
        },
        "data": fashion_mnist.CHECKSUM,
        "training_version": TRAINING_VERSION,
    }
    folder = ROOT / parameters["runs_folder"]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run_key(notebook, parameters)}.json"
    write_at_once(path, json.dumps(record, allow_nan=False) + "\n")
    return path


def processor():
    """Name this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def write_at_once(path, content):
    """Write a file, text or bytes, so that others find the old one or the new one, never a part."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def read_records(path):
    """Read a file of records, one a line; an absent file has none.

    Raises:
        ValueError: a line is not a record.
    """
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            record = json.loads(line)
            record["notebook"], record["seed"], record["test_accuracy"], record["history"][0]
            record["training_version"], record["parameters"]["seed"]
        except (ValueError, KeyError, IndexError, TypeError):
            raise ValueError(f"{path}, line {number}, is no record of a run: delete the file and run again") from None
        records.append(record)
    return records


def gather(path, parameters, new):
    """Merge new records into a file of records of the same setting, sorted by seed, and return them all.

    What the file holds of another setting, or of an older version of the training code, is left out.
    """
    setting = {**_reduced(parameters), "seed": None}
    old = [
        record
        for record in read_records(path)
        if {**record["parameters"], "seed": None} == setting and record["training_version"] == TRAINING_VERSION
    ]
    merged = {record["seed"]: record for record in [*old, *new]}
    records = [merged[seed] for seed in sorted(merged)]
    write_at_once(path, "".join(json.dumps(record, allow_nan=False) + "\n" for record in records))
    return records
