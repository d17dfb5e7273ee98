"""Batches of images and labels from anywhere: what a training expects, and a sentence where something else comes.

What PyTorch can compute is let through; what it refuses is explained afterwards, where the reason is known.
"""

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from numbers import Integral
from operator import length_hint

import torch
from torch import nn

from common.errors import UserError

LONE_VALUE = "more than 1 value per channel"  # what PyTorch's batch normalisation says in training
LONE_IMAGE = (
    "a batch has a single image, and batch normalisation can't normalise the single value that a layer of one unit "
    "makes of it: choose another batch_size or train_limit, or more units"
)


def check_whole(name, value, least=1, most=math.inf):
    """Raise a UserError that names the value if it isn't a whole number from `least` to `most`."""
    if not isinstance(value, Integral) or not least <= value <= most:
        found = " ".join(repr(value).split())  # an optimizer, given for num_epochs, takes many lines
        up = "up" if most == math.inf else f"to {most}"
        raise UserError(f"{name} is {found}: expected a whole number from {least} {up}")


def check_loading(batch_size, resize, train_limit, seed):
    """Raise a UserError for a number that makes no sense; arguments as of `my_utils.load_data_fashion_mnist`."""
    check_whole("batch_size", batch_size)
    for name, value in (("resize", resize), ("train_limit", train_limit)):
        if value is not None:
            check_whole(name, value)
    check_whole("seed", seed, least=0)


def check_training(net, train_iter, test_iter, loss, num_epochs, optimizer):
    """Raise a UserError for what would otherwise stop a training in its midst; arguments as of `my_utils.train`."""
    check_whole("num_epochs", num_epochs)
    if not isinstance(net, nn.Module):
        raise UserError(f"net is a {type(net).__name__}: expected a module of torch.nn")
    if inspect.isclass(loss):
        raise UserError(f"loss is a class: expected a function, such as {loss.__name__}()")
    if inspect.isclass(optimizer):
        raise UserError(f"optimizer is a class: expected {optimizer.__name__}(net.parameters(), …)")
    if not hasattr(optimizer, "zero_grad"):
        raise UserError(f"optimizer is a {type(optimizer).__name__}: expected one of torch.optim")
    trained = [id(parameter) for group in getattr(optimizer, "param_groups", []) for parameter in group["params"]]
    if trained and not any(id(parameter) in trained for parameter in net.parameters()):
        raise UserError("the optimizer has none of the network's parameters: build it anew, after the network")
    for name, data_iter in (("train_iter", train_iter), ("test_iter", test_iter)):
        if not hasattr(data_iter, "__iter__"):
            raise UserError(f"{name} is a {type(data_iter).__name__}: expected batches, such as torch's DataLoader")
        if length_hint(data_iter, 1) == 0:
            raise UserError(f"{name} has no batch: expected at least one image")
        if isinstance(data_iter, Iterator) and num_epochs > 1:
            raise UserError(
                f"{name} is a {type(data_iter).__name__}, which can be gone through only once, and there are "
                f"{num_epochs} epochs: expected a list or a DataLoader"
            )
    _check_last_batch(net, train_iter)


def _check_last_batch(net, train_iter):
    """Try the net on one image, on PyTorch's device that has shapes but no numbers, if a batch is sure to have one."""
    try:
        num_images = len(getattr(train_iter, "sampler", None) or train_iter.dataset)
        if (num_images - 1) % train_iter.batch_size == 0 and not getattr(train_iter, "drop_last", False):
            X = train_iter.dataset[0][0][None]
            deepcopy(net).to("meta").train()(X.to("meta"))
    except Exception as error:  # what else there is shows in the training, if it matters there
        if LONE_VALUE in str(error):
            raise UserError(LONE_IMAGE) from None


def batches_for(net, data_iter):
    """Yield the images and labels of any iterable on the network's device; UserError if there are none."""
    weight = next(net.parameters(), None)
    batch = None
    for batch in data_iter:
        _check_batch(batch)
        yield batch if weight is None else [part.to(weight.device) for part in batch]
    if batch is None:
        raise UserError(
            "there are no batches, or they were gone through before: expected a list or a DataLoader with some images"
        )


def _check_batch(batch):
    parts = batch if isinstance(batch, tuple | list) else [batch]
    if [torch.is_tensor(part) for part in parts] == [True, True]:
        images, labels = parts
        if labels.shape == images.shape[:1] and len(labels):
            return
    names = [f"tensor {tuple(part.shape)}" if torch.is_tensor(part) else type(part).__name__ for part in parts[:3]]
    found = ", ".join(names)
    raise UserError(f"a batch is ({found}): expected two tensors, images (batch, 1, 28, 28) and labels (batch,)")


@contextmanager
def explained(net, X, y):
    """Say what is wrong with a batch that PyTorch refuses to compute, where that is known, in one sentence."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError) as error:
        weight = next(net.parameters(), X)
        if LONE_VALUE in str(error):
            raise UserError(LONE_IMAGE) from None
        if X.dtype != weight.dtype:
            raise UserError(f"the images are {X.dtype}: expected {weight.dtype}, as the network's weights") from None
        if y.dtype != torch.int64:
            raise UserError(f"the labels are {y.dtype}: expected torch.int64") from None
        raise
    except IndexError as error:
        if str(error).startswith("Target"):  # what PyTorch's losses say of a label
            raise UserError(f"{error} The network scores fewer classes than there are labels") from None
        raise
