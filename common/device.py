"""The device that a run computes on: a GPU only where it really computes."""

import warnings
from functools import cache

import torch

from common.errors import UserError


def get_device(name="auto"):
    """Return a `torch.device`, for "auto" a GPU if one works; UserError if this machine can't compute on it."""
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        failure = _failure_on("cuda")
        if failure:
            warnings.warn(f"the GPU can't be used ({failure}), so the CPU computes", stacklevel=1)
        return torch.device("cpu" if failure else "cuda")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError):
        raise UserError(f"device {name!r} is not on this machine: choose auto or cpu") from None
    if device.type != "cpu" and (failure := _failure_on(str(device))):
        raise UserError(f"device {name!r} can't be used ({failure}): choose auto or cpu")
    return device


@cache
def _failure_on(device):
    """Compute something on a device, and say why it failed, or None: PyTorch lists GPUs that are too old for it."""
    try:
        matrix = torch.ones(8, 8, device=device)
        (matrix @ matrix).sum().item()
    except (RuntimeError, AssertionError, ImportError) as error:
        return str(error).splitlines()[0]
