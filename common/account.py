"""What a network has been through: an account that its training keeps on it, so that no record tells another story.

A training is told by the state in which it began and by what was measured since. A further call of `my_utils.train`
goes on with the account only if nothing has changed in between. Else a new one begins, with what the network has
become meanwhile, and `study.record` refuses it, since it began from no network that a setting builds.
"""

import hashlib

import torch
from torch import nn
from torch.nn.parameter import is_lazy

OF_SPEED = ("fused", "foreach", "capturable", "differentiable")  # options of an optimizer that change no formula


class Account:
    """Of one network's training; it stands on the network as its attribute `account`.

    Attributes:
        began, left: `state_of` the training before its first epoch and after its last.
        history: what was measured, one dict an epoch.
    """

    def __init__(self, began):
        self.began = self.left = began
        self.history = []

    def add(self, history, left):
        """Enter further epochs, and the state that they left: at least `weights_of` the network."""
        self.history += map(dict, history)
        self.left = left


def open_account(net, train_iter, loss, optimizer, scheduler):
    """Return the account to enter the next epochs in: the network's own if all is as that left it, else a new one."""
    state = state_of(net, train_iter, loss, optimizer, scheduler)
    if getattr(net, "account", None) is None or net.account.left != state:
        net.account = Account(state)
    return net.account


def state_of(net, train_iter, loss, optimizer, scheduler):
    """Describe what the next epoch's numbers follow from, all but the images, in plain values by name."""
    groups = getattr(optimizer, "param_groups", [])
    trained = [parameter for group in groups for parameter in group["params"] if parameter.requires_grad]
    held_out = getattr(train_iter, "validation_iter", None)
    return {
        **weights_of(net),
        "loss": _name_of(loss),
        "schedule": f"{type(scheduler).__name__} {scheduler.state_dict()}" if scheduler else "constant",
        "optimizer_name": type(optimizer).__name__,
        **_options_of(groups),
        "parameters": len(trained),
        "memory": _digest(value for state in getattr(optimizer, "state", {}).values() for value in state.values()),
        "train_iter": type(train_iter).__name__,
        **{name: getattr(train_iter, name, None) for name in ("batch_size", "seed", "resize")},
        "augmentation": " ".join(repr(getattr(train_iter, "augment", None)).split()),
        "train_limit": len(getattr(train_iter, "labels", ())),
        "num_validation": len(getattr(held_out, "labels", ())),
    }


def weights_of(net):
    """Describe a network's layers and all that it has learned, in two texts by name."""
    layers = [f"{name} {type(module)} {module.extra_repr()}" for name, module in net.named_modules()]
    return {"layers": "\n".join(layers), "weights": _digest([*net.parameters(), *net.buffers()])}


def _options_of(groups):
    names = {"lr": "learning_rate"}
    options = {}
    for name in dict.fromkeys(name for group in groups for name in group if name not in ("params", *OF_SPEED)):
        values = [float(value) if torch.is_tensor(value) else value for value in (g.get(name) for g in groups)]
        options[names.get(name, name)] = values[0] if values.count(values[0]) == len(values) else values
    return options


def _name_of(loss):
    if loss is nn.functional.cross_entropy:
        return "cross-entropy"
    plain = type(loss) is nn.CrossEntropyLoss and loss.weight is None and loss.reduction != "sum"
    if plain and (loss.label_smoothing, loss.ignore_index) == (0, -100):
        return "cross-entropy"
    return f"another, {getattr(loss, '__name__', type(loss).__name__)}"


def _digest(values):
    digest = hashlib.sha256()
    for value in values:
        if torch.is_tensor(value) and not is_lazy(value):
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
