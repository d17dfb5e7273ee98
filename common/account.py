"""What a network has been through: an account that its training keeps on it, so that no record tells another story.

The account says in which state a training began, and what was measured since. A further training of the network goes
on with it only from the very state that the last epoch left; after anything else a new account begins, and
`study.audit` sees that it doesn't begin with a new network.
"""

import hashlib

import torch
from torch.nn.parameter import is_lazy

OF_SPEED = ("fused", "foreach", "capturable", "differentiable")  # options of an optimizer that change no formula


class Account:
    """Of one network's training; it stands on the network as its attribute `account`.

    Attributes:
        began, left: the state, as from `state_of`, before the first epoch and after the last.
        history: what was measured, one dict an epoch.
    """

    def __init__(self, began):
        self.began = self.left = began
        self.history = []

    def add(self, measures, left):
        """Enter an epoch."""
        self.history.append(dict(measures))
        self.left = left


def open_account(net, state):
    """Return the account to enter the next epochs in: the network's own, if all is as that left it, or a new one."""
    if getattr(net, "account", None) is None or net.account.left != state:
        net.account = Account(state)
    return net.account


def state_of(net, train_iter, loss, optimizer, scheduler):
    """Describe what an epoch's numbers follow from, all but the images: plain values by name; as of `my_utils.train`.

    Attributes that only some losses, optimizers and batches have are described where they are there.
    """
    groups = getattr(optimizer, "param_groups", None) or [{"params": []}]
    options = {name: _plain(value) for name, value in groups[0].items() if name not in ("params", *OF_SPEED)}
    held_out = getattr(train_iter, "validation_iter", None)
    return {
        **state_of_net(net),
        "loss": f"{getattr(loss, '__name__', type(loss).__name__)} {getattr(loss, '__dict__', '')}",
        "optimizer_name": type(optimizer).__name__,
        "learning_rate": options.get("max_lr", options.get("lr")),  # a schedule's highest
        "schedule": f"{type(scheduler).__name__} {scheduler.state_dict() if scheduler else ''}",
        **options,
        "parameters": [sum(weights.requires_grad for weights in group["params"]) for group in groups],
        "memory": _digest(value for state in getattr(optimizer, "state", {}).values() for value in state.values()),
        **{name: getattr(train_iter, name, None) for name in ("batch_size", "seed", "resize", "augmentation")},
        "train_limit": len(getattr(train_iter, "labels", ())),
        "num_validation": len(getattr(held_out, "labels", ())),
    }


def state_of_net(net):
    """Describe a network's layers, where it is, and all that it has learned."""
    tensors = [*net.parameters(), *net.buffers()]
    devices = sorted({tensor.device.type for tensor in tensors})
    return {"layers": f"{type(net)} {net}", "device": ", ".join(devices), "weights": _digest(tensors)}


def _plain(value):
    return value.item() if torch.is_tensor(value) else value


def _digest(values):
    digest = hashlib.sha256()
    for value in values:
        if torch.is_tensor(value) and not is_lazy(value):
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
