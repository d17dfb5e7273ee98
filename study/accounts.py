"""Whether a network was trained as its record is going to say: from new, by these parameters, with this history."""

import torch

import my_utils as mu
from common import fashion_mnist
from common.account import Account, state_of, weights_of
from common.errors import UserError

REMEDY = "build the network again, then train it once: run the cells from the parameters' on"
SENTENCES = {  # where the values themselves would say nothing
    "layers": "the network has other layers than the parameters say",
    "weights": "the training began with other weights or statistics than a new network of seed {seed} with "
    "{initializer} has",
    "parameters": "the optimizer has not all parameters of the network, or others too",
    "memory": "the training began with an optimizer that had been used before",
    "schedule": "the learning rate had another schedule than the parameters say",
    "loss": "the training's loss was {began}: expected cross-entropy",
}


def first_state(parameters):
    """Describe, as `common.account.state_of` does, the state in which a training by these parameters begins."""
    with torch.random.fork_rng(devices=[]):
        net = mu.net_of(parameters)
    names = ("optimizer_name", "learning_rate", "weight_decay")
    name, *values = (parameters[name] for name in names)
    optimizer = mu.get_optimizer(name, net.parameters(), *values)
    num_validation, batch_size = parameters["num_validation"], parameters["batch_size"]
    train_iter = _imageless(min(parameters["train_limit"], fashion_mnist.NUM_TRAIN - num_validation), batch_size)
    train_iter.seed = parameters["seed"]
    train_iter.augment = mu.get_augmentation(parameters["augmentation"])
    train_iter.validation_iter = _imageless(num_validation, batch_size)
    num_steps = parameters["num_epochs"] * len(train_iter)
    scheduler = mu.get_scheduler(parameters.get("schedule", "constant"), optimizer, num_steps)
    return state_of(net, train_iter, torch.nn.CrossEntropyLoss(), optimizer, scheduler)


def _imageless(num_images, batch_size):
    return mu.Batches(torch.empty(num_images, 0, 0), torch.empty(num_images), batch_size, "cpu")


def vouch_for(net, parameters, history):
    """Set the account of a network that some other trainer than `my_utils.train` has trained, as these say."""
    net.account = Account(first_state(parameters))
    net.account.add(history, weights_of(net))


def check_account(parameters, net, history):
    """Raise a UserError, which says what to do, if a network wasn't trained by these parameters with this history."""
    wrong = _difference(parameters, net, history)
    if wrong:
        raise UserError(f"no record is written, since {wrong}; {REMEDY}")


def _difference(parameters, net, history):
    """Say in words where the account of a network differs from what is told of it; None if it agrees."""
    account, num_epochs = getattr(net, "account", None), parameters["num_epochs"]
    if account is None:
        return "the network was not trained by my_utils.train"
    trained = len(account.history)
    if weights_of(net)["weights"] != account.left["weights"]:
        return (
            "the network has changed since its last whole epoch: a training was stopped, weights were loaded, or "
            "images went through it in training mode"
        )
    if trained != len(history):
        return f"the network was trained for {trained} epochs in all, and the history has {len(history)}"
    if trained != num_epochs:
        return f"the network was trained for {trained} epochs, and num_epochs is {num_epochs}"
    if repr(list(history)) != repr(account.history):  # nan differs from itself, its name doesn't
        return "the history is not that of this network's training"
    expected = first_state(parameters)
    for name in {**expected, **account.began}:
        told, began = expected.get(name), account.began.get(name)
        if told != began:
            sentence = SENTENCES.get(name, "{name} is {told}, and the training had {began}")
            return sentence.format(**parameters | {"name": name, "told": told, "began": began})
    return None
