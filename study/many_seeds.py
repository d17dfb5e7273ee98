"""Train seeds of one setting, on a GPU many at once; each leaves the record that a run of its own would leave.

Each seed keeps its own first weights, its own order of the images in every epoch, and its own changes of the images.
Of seeds that are trained at once the numbers are those of single runs, but for rounding and for what dropout draws.
"""

import copy
import time

import torch

import my_utils as mu
from common.account import Account, state_of, state_of_net
from common.interrupts import never_lost
from common.parameters import IMPLIED
from fast.stack import Stack
from fast.step import TrainingStep, keep_freed_memory
from study.record import write_record

EVALUATED = 1000  # images that are not trained on, at a time


@never_lost()
def train_many(setting, seeds, on_epoch=None):
    """Train the seeds of a setting.

    Args:
        setting: complete parameters of a run; its own seed doesn't count.
        seeds: a list.
        on_epoch: function that is called after each epoch with its number and the seconds since the start, or None.

    Returns:
        For each seed its network, its history, as `my_utils.train` returns it, and which test images the network
        recognises, booleans (10000,).
    """
    keep_freed_memory()
    device = mu.get_device(setting["device"])
    nets = [mu.net_of(setting | {"seed": seed}).to(device) for seed in seeds]
    stack = Stack(nets)
    names = ("train_limit", "num_validation", "augmentation")
    train_iter, test_iter = mu.load_data_fashion_mnist(
        setting["batch_size"], device=str(device), **{name: setting[name] for name in names}
    )
    validation_iter = train_iter.validation_iter
    for data_iter in filter(None, (test_iter, validation_iter)):
        data_iter.batch_size = EVALUATED
    train_iters = [_with_seed(train_iter, seed) for seed in seeds]
    loss, optimizer, scheduler = _loss_optimizer_and_scheduler(setting, stack, len(train_iter))
    accounts = [
        Account(state_of(net, train_iter, loss, optimizer, scheduler))
        for net, train_iter in zip(nets, train_iters, strict=True)
    ]
    step = TrainingStep(stack, loss, optimizer, scheduler)
    measures, started, lost = [], time.monotonic(), False
    for epoch in range(1, setting["num_epochs"] + 1):
        if not lost:  # else training would measure the same again
            lost = bool(stack.lost().all())
            measured = _train_epoch(step, train_iters)
            correct = mu.predict_correct(stack, test_iter)  # (N, 10000)
            measured["test_accuracy"] = _shares(correct)
            if validation_iter:
                measured["validation_accuracy"] = _shares(mu.predict_correct(stack, validation_iter))
        measures.append(measured)
        if on_epoch:
            on_epoch(epoch, time.monotonic() - started)
    trained = stack.nets()
    for position, (net, account) in enumerate(zip(trained, accounts, strict=True)):
        account.history = [{name: values[position].item() for name, values in epoch.items()} for epoch in measures]
        account.left, net.account = state_of_net(net), account
    return [(net, net.account.history, correct_of_net) for net, correct_of_net in zip(trained, correct, strict=True)]


def train_one(setting, on_epoch=None):
    """Train one run as the figures' notebooks do, on a CPU the quicker way; return what `train_many` does of a seed.

    Args:
        setting: complete parameters of a run, its seed among them.
        on_epoch: as of `train_many`.
    """
    started, history = time.monotonic(), []
    names = ("seed", "device", "train_limit", "num_validation", "augmentation")
    data = mu.load_data_fashion_mnist(setting["batch_size"], **{name: setting[name] for name in names})
    net = mu.net_of(setting).to(mu.get_device(setting["device"]))
    loss, optimizer, scheduler = _loss_optimizer_and_scheduler(setting, net, len(data[0]))
    for measures in mu.train_epochs(net, *data, loss, setting["num_epochs"], optimizer, scheduler):
        history.append(measures)
        if on_epoch:
            on_epoch(len(history), time.monotonic() - started)
    return net, history, mu.predict_correct(net, data[1])


def make(job, on_epoch=None):
    """Train the runs of a `plan.Job` and write their records; on a GPU they are trained at once.

    Args:
        on_epoch: as of `train_many`.
    """
    first, seeds = job.first, [run.parameters["seed"] for run in job.runs]
    if first.uses_gpu:
        trained = train_many(first.parameters, seeds, on_epoch)
    else:
        trained = [train_one(first.parameters, on_epoch)]
    write_records(first.notebook, first.parameters, seeds, trained)


def write_records(notebook, setting, seeds, trained):
    """Write the record of each seed, as the notebook of that name would; `trained` as from `train_many`."""
    for seed, (net, history, correct) in zip(seeds, trained, strict=True):
        write_record(notebook, setting | {"seed": seed}, net, history, correct, seeds_at_once=len(seeds))


def _loss_optimizer_and_scheduler(setting, net, num_batches):
    setting = IMPLIED | setting
    loss = torch.nn.CrossEntropyLoss(label_smoothing=setting["label_smoothing"])
    names = ("learning_rate", "weight_decay")
    optimizer = mu.get_optimizer(setting["optimizer_name"], net.parameters(), *(setting[name] for name in names))
    num_steps = setting["num_epochs"] * num_batches
    return loss, optimizer, mu.get_scheduler(setting["schedule"], optimizer, num_steps)


def _train_epoch(step, train_iters):
    """Go through the training images once, each seed in its own order; return measures of each seed, (N,)."""
    step.start_epoch()
    drawn = [train_iter.draw_epoch() for train_iter in train_iters]
    device, batch_size = train_iters[0].labels.device, train_iters[0].batch_size
    order, numbers = (torch.stack(parts).to(device) for parts in zip(*drawn, strict=True))  # (N, n), (N, n, k)
    for start in range(0, order.shape[1], batch_size):
        rows = slice(start, start + batch_size)
        X, y = train_iters[0].batch(order[:, rows].flatten(), numbers[:, rows].flatten(0, 1))
        step(*(part.unflatten(0, (len(order), -1)) for part in (X, y)))
    totals = {"train_loss": step.total_loss, "train_accuracy": step.total_correct}
    return {name: total.double().cpu() / order.shape[1] for name, total in totals.items()}


def _shares(correct):
    return correct.sum(-1).double().cpu() / correct.shape[-1]


def _with_seed(train_iter, seed):
    other = copy.copy(train_iter)  # of the same images
    other.seed = seed
    return other
