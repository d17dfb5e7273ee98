"""Whether a network's account is what its record is going to say: trained from new, by these parameters."""

import math
from types import SimpleNamespace

import torch

import my_utils as mu
from common import fashion_mnist
from common.account import state_of, state_of_net
from common.errors import UserError
from common.parameters import IMPLIED

REMEDY = "build the network again, then train it once: run the cells from the parameters' on"
SENTENCES = {  # where the values themselves would say nothing
    "layers": "the network is another than the parameters say",
    "weights": "the training began with other weights or statistics than a new network of seed {seed} with "
    "{initializer} has",
    "parameters": "the optimizer has not all parameters of the network, or others too",
    "memory": "the training began with an optimizer that had been used before",
    "schedule": "the learning rate had another schedule than the parameters say",
    "loss": "the training's loss was not torch.nn.CrossEntropyLoss(label_smoothing={label_smoothing})",
}


def audit(net, parameters, history):
    """Raise a UserError, which says what to do, if a network wasn't trained by these parameters with this history."""
    difference = _difference(net, parameters, history)
    if difference:
        raise UserError(f"no record is written, since {difference}; {REMEDY}")


def _difference(net, parameters, history):
    """Say in words where the account of a network differs from what is told of it; None if it agrees."""
    account = getattr(net, "account", None)
    if account is None:
        return "the network was not trained by my_utils.train"
    if not state_of_net(net).items() <= account.left.items():
        return (
            "the network has changed since its last whole epoch: a training was stopped, weights were loaded, or "
            "images went through it in training mode"
        )
    trained, num_epochs = len(account.history), parameters["num_epochs"]
    if trained != len(history):
        return f"the network was trained for {trained} epochs in all, and the history has {len(history)}"
    if trained != num_epochs:
        return f"the network was trained for {trained} epochs, and num_epochs is {num_epochs}"
    if repr(list(history)) != repr(account.history):  # nan differs from itself, its name doesn't
        return "the history is not that of this network's training"
    expected = beginning(parameters)
    for name, began in account.began.items():
        if began != expected.get(name):
            if name in SENTENCES:
                return SENTENCES[name].format(**IMPLIED | parameters)
            return f"{name} is {expected.get(name)}, and the training had {began}"
    return None


def beginning(parameters):
    """Describe, as `common.account.state_of` does, the state in which a notebook with these parameters trains."""
    parameters = IMPLIED | parameters
    with torch.random.fork_rng(devices=[]):
        net = mu.net_of(parameters).to(mu.get_device(parameters["device"]))
    names = ("optimizer_name", "learning_rate", "weight_decay")
    name, *values = (parameters[name] for name in names)
    optimizer = mu.get_optimizer(name, net.parameters(), *values)
    num_validation, batch_size = parameters["num_validation"], parameters["batch_size"]
    num_images = min(parameters["train_limit"], fashion_mnist.NUM_TRAIN - num_validation)
    num_steps = parameters["num_epochs"] * math.ceil(num_images / batch_size)
    scheduler = mu.get_scheduler(parameters["schedule"], optimizer, num_steps)
    train_iter = SimpleNamespace(  # what an account says of its images
        **{name: parameters[name] for name in ("batch_size", "seed", "augmentation")},
        labels=range(num_images),
        validation_iter=SimpleNamespace(labels=range(num_validation)),
    )
    loss = torch.nn.CrossEntropyLoss(label_smoothing=parameters["label_smoothing"])
    return state_of(net, train_iter, loss, optimizer, scheduler)
