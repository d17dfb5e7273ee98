"""The record of a run: check its parameters, write it, read it, gather many.

A run is one execution of a figure's notebook with one set of parameters and one seed. Its record is a small JSON file,
written last and at once, so that a run is done if and only if its record is there. A record ends with a checksum, so
that a single changed digit is noticed.
"""

import ast
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

TRAINING_VERSION = 2  # to be raised whenever the code changes the numbers that a run gives

OPTIMIZERS = ("SGD", "Adam", "AdamW")
SCHEDULES = ("constant", "one_cycle")


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
    "schedule": _one_of(*SCHEDULES),
    "weight_decay": _real("a number from 0 up", lambda value: value >= 0),
    "batch_size": _whole(1),
    "num_epochs": _whole(1),
    "num_rounds": _whole(1),
    "batch_norm": ("True or False", lambda value: type(value) is bool),
    "norm_axis": _whole(1, 2),
    "norm_after_relu": ("True or False", lambda value: type(value) is bool),
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
    "num_validation": _whole(0, 59999),
    "device": (
        "auto, cpu, cuda or cuda:1",
        lambda value: type(value) is str and re.fullmatch(r"auto|cpu|cuda(:\d+)?", value) is not None,
    ),
    "runs_folder": (
        "the path of a folder, without ..",
        lambda value: type(value) is str and value != "" and ".." not in Path(value).parts,
    ),
}
NOT_IN_KEY = ("num_rounds", "device", "runs_folder")  # change no number; of the device only the kind counts
IN_EVERY_RECORD = [name for name in PARAMETERS if name not in (*NOT_IN_KEY, "schedule")]  # a schedule has one notebook


def check_parameters(namespace):
    """Pick a run's parameters out of a dict, such as a notebook's `globals()`, and check each.

    Returns:
        A dict of those names of `PARAMETERS` that are there.

    Raises:
        ParameterError: a value has the wrong type or makes no sense, or papermill was asked for one that the notebook
            hasn't got.
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
    _check_injected(namespace)
    return parameters


def _check_injected(namespace):
    """Compare what papermill was asked for, which it writes into a cell of its own, with what the notebook has.

    papermill lets an unknown name pass, and without a cell tagged `parameters` it puts its own first, where the
    notebook's values come after it and win.
    """
    cells = namespace.get("In", [])
    declared = [name for cell in cells for name in re.findall(r"^(\w+): \w+ = ", cell, re.MULTILINE)]
    injected = [cell for cell in cells if cell.startswith("# Parameters\n")]
    for assignment in ast.parse("".join(injected)).body:
        name, value = assignment.targets[0].id, ast.literal_eval(assignment.value)
        check_names([name], declared)
        if namespace[name] != value:
            raise ParameterError(
                f"{name} is {namespace[name]!r} though papermill was given {value!r}: expected the notebook to have "
                "one cell with the tag parameters, and to leave its values as they are"
            )


def check_names(names, known):
    """Raise a ParameterError for the first name that isn't known, with the nearest one that is."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
            raise ParameterError(f"unknown parameter {name}: {hint}")


# Keys and files

TABLE = "runs.jsonl"  # in a folder of figures: every record, one a line
PARTIAL = ".partial"  # ends the names of files that are being written

CURVES = {  # column of the table: what `my_utils.train` calls it
    "train_losses": "train_loss",
    "train_accuracies": "train_accuracy",
    "test_accuracies": "test_accuracy",
    "validation_accuracies": "validation_accuracy",
}


def run_key(parameters):
    """Name a run by what determines its numbers: `seed0-` and a hash of the rest, whichever notebook runs it."""
    kind = get_device(parameters["device"]).type
    return _key({**_determinants(parameters), "device": kind, "data": fashion_mnist.CHECKSUM})


def record_key(record):
    """Name the run that left a record, as `run_key` does before the run."""
    return _key({**_determinants(record), "device": record["device"], "data": record["data"]})


def _key(determinants):
    text = json.dumps([determinants, TRAINING_VERSION], sort_keys=True)
    return f"seed{determinants['seed']}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _determinants(parameters):
    """Pick the parameters that determine a run's numbers, with 1 and 1.0 written alike.

    A constant schedule is left out: notebooks without a schedule train in the same way.
    """
    real = ("learning_rate", "weight_decay", "dropout")
    kept = {name: parameters[name] for name in PARAMETERS if name in parameters and name not in NOT_IN_KEY}
    if kept.get("schedule") == "constant":
        del kept["schedule"]
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
    device = next(net.parameters()).device
    record = {
        "notebook": notebook,
        **_determinants(parameters),
        "test_accuracy": correct.sum().item() / len(correct),
        **{
            column: [epoch[name] if math.isfinite(epoch[name]) else None for epoch in history]
            for column, name in CURVES.items()
            if name in history[0]
        },
        "correct": base64.b64encode(np.packbits(correct.cpu().numpy())).decode(),
        "forward": "fast_forward" if can_fast_forward(net) else "net",
        "device": device.type,
        "processor": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": np.__version__,
        "data": fashion_mnist.CHECKSUM,
        "training_version": TRAINING_VERSION,
    }
    folder = ROOT / parameters["runs_folder"]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run_key(parameters)}.json"
    write_at_once(path, _to_line(record))
    return path


def history(record):
    """Return the curves of a record as `my_utils.train` did: a list with one dict an epoch, None for not a number."""
    columns = [column for column in CURVES if column in record]
    names = [CURVES[column] for column in columns]
    return [dict(zip(names, values, strict=True)) for values in zip(*(record[c] for c in columns), strict=True)]


def recognised(record):
    """Return for each test image whether the run's network recognised it: booleans (10000,)."""
    return np.unpackbits(np.frombuffer(base64.b64decode(record["correct"]), np.uint8)).astype(bool)


def processor():
    """Name this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def write_at_once(path, content):
    """Write a file, text or bytes, so that others find the old one or the new one, never a part."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL, delete=False) as file:
        try:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(file.name, 0o644)
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def _to_line(record):
    content = json.dumps(record, allow_nan=False)
    return json.dumps({**record, "checksum": hashlib.sha256(content.encode()).hexdigest()[:16]}) + "\n"


def read_records(path):
    """Read a file of records, one a line, without their checksums; an absent file has none.

    Raises:
        ValueError: the file can't be read, or a line is not what writing its record gives, byte for byte, or is there
            twice, or is the record of another run than the file's name says.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise ValueError(f"{path} can't be read ({error.strerror}): expected a file of records; delete it") from None
    records = {}
    for number, line in enumerate(lines or [b""], 1):
        try:
            record = json.loads(line)
            check_parameters({name: record[name] for name in IN_EVERY_RECORD} | record)
            del record["checksum"]
            key = record_key(record)
            sound = _to_line(record).encode() == line and (path.suffix == ".jsonl" or path.stem == key)
        except (ValueError, KeyError, IndexError, TypeError, ArithmeticError, RecursionError):
            sound = False
        if not sound or key in records:
            raise ValueError(
                f"{path}, line {number}, is damaged: expected the record of a run with its checksum, once; "
                "restore the file, or delete the line and run again"
            )
        records[key] = record
    return list(records.values())


def merge(path, new):
    """Merge new records into a table of records, one a run, sorted by setting and seed, and return them all.

    A new record replaces the old one of the same run. Those of an older version of the training code are left out.
    """
    old = [record for record in read_records(path) if record["training_version"] == TRAINING_VERSION]
    merged = {record_key(record): record for record in [*old, *new]}
    records = sorted(
        merged.values(),
        key=lambda record: (record["notebook"], *_sortable(record), record["seed"], record_key(record)),
    )
    if records:
        write_at_once(path, "".join(map(_to_line, records)))
    return records


def _sortable(record):
    return [json.dumps(value) for name, value in _determinants(record).items() if name != "seed"]


def select(records, parameters):
    """Pick the records of a setting, one a seed, sorted by seed; parameters as those of a run, whatever the seed.

    A longer run counts as well, if it `can_be_cut` to its first epochs, where the setting's own was not run; it then
    no longer says which images were recognised.
    """
    setting, num_epochs = _determinants(parameters), parameters["num_epochs"]
    cuttable = can_be_cut(parameters)
    names = [name for name in PARAMETERS if name not in (*NOT_IN_KEY, "seed", "num_epochs")]
    by_seed = {}
    for record in sorted(records, key=lambda record: record["num_epochs"], reverse=True):
        if all(record.get(name) == setting.get(name) for name in names):
            fits = record["num_epochs"] >= num_epochs if cuttable else record["num_epochs"] == num_epochs
            if fits and record["training_version"] == TRAINING_VERSION:
                by_seed[record["seed"]] = _first_epochs(record, num_epochs)
    return [by_seed[seed] for seed in sorted(by_seed)]


def can_be_cut(parameters):
    """Say whether a run is the beginning of longer ones: not if its learning rate depends on the number of epochs."""
    return parameters.get("schedule", "constant") == "constant"


def _first_epochs(record, num_epochs):
    if record["num_epochs"] == num_epochs:
        return record
    cut = {column: record[column][:num_epochs] for column in CURVES if column in record}
    kept = {name: value for name, value in record.items() if name != "correct"}
    return {**kept, **cut, "num_epochs": num_epochs, "test_accuracy": cut["test_accuracies"][-1]}
