"""The record of a run: a small JSON file, written last and at once, so that a run is done if and only if it is there.

A run is one execution of a notebook with one set of parameters and one seed. Its record is named by what determines
its numbers, and ends with a checksum, so that a single changed digit is noticed.
"""

import base64
import hashlib
import importlib.metadata
import importlib.util
import json
import math
import platform
import re
import reprlib
import sys
from functools import partial
from pathlib import Path

from common import ROOT, fashion_mnist
from common.errors import UserError
from common.files import expanded, write_at_once
from common.parameters import IMPLIED, PARAMETERS

TRAINING_VERSIONS = {"cpu": 4, "cuda": 3}  # one is raised whenever the code changes the numbers of a run there

IN_KEY = tuple(name for name, parameter in PARAMETERS.items() if parameter.changes_numbers)
IN_EVERY_RECORD = tuple(name for name in IN_KEY if name not in IMPLIED)

GPU_DRIVERS = ("nvidiactl", "nvmap", "dxg", "kfd")  # in /dev: of NVIDIA, its Jetsons, Windows' Linux, and AMD

COLUMNS = {  # of the table: what `my_utils.train` calls the measure of an epoch
    "train_losses": "train_loss",
    "train_accuracies": "train_accuracy",
    "test_accuracies": "test_accuracy",
    "validation_accuracies": "validation_accuracy",
}


def run_key(parameters):
    """Name a run by what determines its numbers: `seed0-` and a hash of the rest, whichever notebook runs it."""
    kind = device_kind(parameters["device"])
    determining = {**determinants(parameters), "device": kind, "data": fashion_mnist.CHECKSUM}
    return _key(determining, TRAINING_VERSIONS[kind])


def device_kind(name):
    """Return the kind of device that a name means here, cpu or cuda; ValueError if this machine hasn't got it.

    PyTorch, which takes seconds to import, is asked only where there may be a GPU, or where it is imported already.
    """
    may_have_gpu = sys.platform != "linux" or any(Path("/dev", driver).exists() for driver in GPU_DRIVERS)
    if name == "cpu" or (name == "auto" and not may_have_gpu and "torch" not in sys.modules):
        return "cpu"
    from my_utils import get_device

    return get_device(name).type


def record_key(record):
    """Name the run that left a record, as `run_key` does before the run."""
    determining = {**determinants(record), "device": record["device"], "data": record["data"]}
    return _key(determining, record["training_version"])


def made_on(record):
    """Return the kind of processor that made a record, whose runs round alike: of device, and its name."""
    return record["device"], record["processor"]


def _key(determining, version):
    text = json.dumps([determining, version], sort_keys=True)
    return f"seed{determining['seed']}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def determinants(parameters):
    """Pick the parameters that determine a run's numbers, with 1 and 1.0 written alike.

    What is implied is left out, such as a constant schedule: notebooks that can't be told train in the same way.
    """
    kept = {name: parameters[name] for name in IN_KEY if name in parameters and parameters[name] != IMPLIED.get(name)}
    return {name: float(value) if PARAMETERS[name].type is float else value for name, value in kept.items()}


def write_record(notebook, parameters, net, history, correct, seeds_at_once=1):
    """Write the record of a run into its folder of runs, whole or not at all, and return its path.

    Args:
        notebook: name of the notebook, such as "figure_4".
        parameters: of the run, as from `check_parameters`; a relative `runs_folder` starts at the project's root.
        net: the trained network.
        history: of the training, as from `my_utils.train`.
        correct: for each test image, whether it was recognised: booleans (10000,).
        seeds_at_once: how many were trained together.

    Raises:
        UserError: the network was not trained by these parameters with this history, or the record can't be written.
    """
    import numpy as np  # slow imports that reading a record can do without
    import torch

    from fast.forward import can_fast_forward
    from study.audit import audit

    audit(net, parameters, history)
    device = next(net.parameters()).device
    forward = "fast_forward" if can_fast_forward(net) else "net"
    record = {
        "notebook": notebook,
        **determinants(parameters),
        "test_accuracy": correct.sum().item() / len(correct),
        **{
            column: [epoch[name] if math.isfinite(epoch[name]) else None for epoch in history]
            for column, name in COLUMNS.items()
            if name in history[0]
        },
        "correct": base64.b64encode(np.packbits(correct.cpu().numpy())).decode(),
        "forward": forward if seeds_at_once == 1 else f"{forward}, {seeds_at_once} seeds at once",
        "device": device.type,
        "processor": processor(device.type),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": _torchvision_version(),
        "numpy": np.__version__,
        "data": fashion_mnist.CHECKSUM,
        "training_version": TRAINING_VERSIONS[device.type],
    }
    flaw = flaw_of(record)
    if flaw:
        raise UserError(f"no record is written, since it would make no sense: {flaw}; run all cells again")
    folder = ROOT / expanded(parameters["runs_folder"])
    path = folder / f"{record_key(record)}.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_at_once(path, to_line(record))
    except OSError as error:
        hint = "set the parameter runs_folder to a folder that can be written to"
        raise UserError(f"the record can't be written to {folder} ({error.strerror}); {hint}") from None
    return path


def _torchvision_version():
    """Read torchvision's version out of its files, since the package itself takes seconds to import."""
    files = Path(importlib.util.find_spec("torchvision").origin).parent
    written = re.search(
        r"""^__version__ = ['"](.+)['"]$""", (files / "version.py").read_text(encoding="utf-8"), re.MULTILINE
    )
    return written[1] if written else importlib.metadata.version("torchvision")


def history(record):
    """Return the curves of a record as `my_utils.train` did: a list with one dict an epoch, None for not a number."""
    columns = [column for column in COLUMNS if column in record]
    names = [COLUMNS[column] for column in columns]
    return [dict(zip(names, values, strict=True)) for values in zip(*(record[c] for c in columns), strict=True)]


def recognised(record):
    """Return for each test image whether the run's network recognised it: booleans (10000,)."""
    import numpy as np

    return np.unpackbits(np.frombuffer(base64.b64decode(record["correct"]), np.uint8)).astype(bool)


def flaw_of(record):
    """Say in words which value of a record makes no sense or contradicts another one; None if none does.

    Args:
        record: one whose parameters make sense.

    Raises:
        KeyError: the record lacks something.
    """
    num_validation, accuracy = record["num_validation"], record["test_accuracy"]
    expected = [column for column in COLUMNS if column != "validation_accuracies" or num_validation]
    columns = [column for column in COLUMNS if column in record]
    if columns != expected:
        return f"num_validation is {num_validation}, and its curves are {', '.join(columns)}"
    num_images = {
        "train_accuracies": min(record["train_limit"], fashion_mnist.NUM_TRAIN - num_validation),
        "test_accuracies": fashion_mnist.NUM_TEST,
        "validation_accuracies": num_validation,
    }
    for column in columns:
        if len(record[column]) != record["num_epochs"]:
            return f"num_epochs is {record['num_epochs']}, and {column} has {len(record[column])} values"
        is_sound = partial(_is_share, num_images[column]) if column in num_images else _is_loss
        for value in record[column]:
            if not is_sound(value):
                return f"{column} has {reprlib.repr(value)}"
    if type(accuracy) is not float or accuracy != record["test_accuracies"][-1]:
        last = record["test_accuracies"][-1]
        return f"test_accuracy is {reprlib.repr(accuracy)}, and test_accuracies ends with {last}"
    bits = base64.b64decode(record["correct"], validate=True)
    if len(bits) != math.ceil(fashion_mnist.NUM_TEST / 8):
        return f"correct is of {8 * len(bits)} images"
    if int.from_bytes(bits).bit_count() != round(accuracy * fashion_mnist.NUM_TEST):
        return f"test_accuracy is {accuracy}, and correct counts {int.from_bytes(bits).bit_count()} images"
    if record["device"] not in ("cpu", "cuda"):
        return f"device is {record['device']}"
    for name in ("threads", "training_version"):
        if type(record[name]) is not int or record[name] < 1:
            return f"{name} is {reprlib.repr(record[name])}"
    for name in ("notebook", "forward", "processor", "python", "torch", "torchvision", "numpy", "data"):
        if not isinstance(record[name], str):
            return f"{name} is {reprlib.repr(record[name])}"
    return None


def _is_loss(value):
    """Say whether a value is a loss in nats, or None for one that was not finite."""
    return value is None or (type(value) is float and value >= 0)


def _is_share(num_images, value):
    """Say whether a value is the fraction that some whole number of images gives."""
    return type(value) is float and 0 <= value <= 1 and round(value * num_images) / num_images == value


def processor(kind):
    """Name this machine's processor of a kind, cpu or cuda.

    Virtual machines call processors of several generations by the same name, so that those of x86 have their numbers.
    """
    if kind == "cuda":
        from torch.cuda import get_device_name

        return get_device_name()
    try:
        first, _, _ = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")
        about = dict(re.split(r"\s*:\s*", line, maxsplit=1) for line in first.splitlines())
        return f"{about['model name']}, family {about['cpu family']}, model {about['model']}"
    except (OSError, ValueError, KeyError):
        return platform.processor() or platform.machine()


def to_line(record):
    """Write a record as its line in a file, with the checksum at its end."""
    content = json.dumps(record, allow_nan=False)
    return json.dumps({**record, "checksum": hashlib.sha256(content.encode()).hexdigest()[:16]}) + "\n"
