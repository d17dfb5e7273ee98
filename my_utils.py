"""The coursework's helper module, imported as `mu`: load Fashion-MNIST, measure accuracy, train.

The names and the order of arguments are those of the report, which has them from "Dive into Deep Learning". What
stands here for the other helpers of that book:

    train_ch3, train_ch6, Animator       train, which draws the curve as it grows
    train_epoch_ch3, Accumulator         train_epoch, which adds up loss and accuracy
    accuracy, evaluate_accuracy_gpu      evaluate_accuracy, a fraction, on the network's device
    predict_ch3                          predict
    try_gpu                              get_device
    get_fashion_mnist_labels             common.fashion_mnist.CLASSES
    show_images                          common.images.show_images
    Timer, get_dataloader_workers        nothing: train says how long it takes, and all images lie in memory
"""

import inspect
import math
import sys
from functools import partial
from operator import length_hint

import numpy as np
import torch
from torch import nn

from common import fashion_mnist
from common.account import open_account, state_of
from common.augmentation import augment, check_augmentation, count_numbers
from common.batches import batches_for, check_loading, check_training, check_whole, explained
from common.curves import LiveCurve, describe, somebody_is_looking
from common.device import get_device
from common.errors import Interrupted, UserError
from common.interrupts import never_lost
from common.parameters import SCHEDULES
from fast.forward import forward_of
from fast.step import TrainingStep, keep_freed_memory
from model import Net, get_possible_patches, init_weights


def __getattr__(name):
    hint = ": help(my_utils) says what stands for the course's names" if name in __doc__ else ""
    raise AttributeError(f"my_utils has no {name!r}{hint}", name=name, obj=sys.modules[__name__])


# Loading


def load_data_fashion_mnist(
    batch_size, resize=None, *, seed=0, device="auto", train_limit=None, num_validation=0, augmentation=(), root=None
):
    """Load Fashion-MNIST into memory and return the iterators over its training and test batches.

    Args:
        batch_size: images per batch; the last batch of an epoch may be smaller.
        resize: side to which all images are brought, in pixels; None leaves their 28.
        seed: what the order of the training images, their augmentation and the network's dropout derive from.
        device: "auto" for a GPU if there is one, or a device of PyTorch such as "cpu" or "cuda".
        train_limit: use only the first so many training images, for a trial; None uses all 60,000.
        num_validation: hold out the last so many training images, to choose by: `train` measures the accuracy on them.
        augmentation: names of `AUGMENTATIONS` to apply, in this order, to every training image.
        root: a folder with the data set; None looks in the usual places and fetches it if need be.

    Returns:
        train_iter, test_iter: `Batches` of images (batch, 1, 28, 28), float32 in [0, 1], and labels (batch,), int64.

    Raises:
        fashion_mnist.DataError: the data set is missing or damaged and can't be fetched.
        UserError: a number makes no sense, or an augmentation or a device is unknown.
    """
    check_loading(batch_size, resize, train_limit, seed)
    device = get_device(device)
    train_images, train_labels, test_images, test_labels = fashion_mnist.load(root)
    check_whole("num_validation", num_validation, least=0, most=len(train_labels) - 1)
    held_out = len(train_labels) - num_validation
    last = min(train_limit or held_out, held_out)
    batches = partial(Batches, batch_size=batch_size, device=device, resize=resize)
    train_iter = batches(train_images[:last], train_labels[:last], seed=seed, augmentation=augmentation)
    if num_validation:
        train_iter.validation_iter = batches(train_images[held_out:], train_labels[held_out:])
    return train_iter, batches(test_images, test_labels)


class Batches:
    """Images and labels in batches, all in the memory of one device; to be iterated over once an epoch.

    With a seed, the start of an epoch seeds PyTorch's generators from the seed and the number of the epoch, and
    shuffles. So an epoch's order, augmentation and dropout are the same whatever was drawn before it.

    Args:
        images: bytes (n, 28, 28); labels: bytes (n,).
        seed: None keeps the images in their order.
        augmentation: as of `load_data_fashion_mnist`.
        resize: side to which the images of a batch are brought, before they are augmented, or None.

    Attributes:
        validation_iter: for training images, the batches of those that were held out, or None.
    """

    validation_iter = None

    def __init__(self, images, labels, batch_size, device, *, seed=None, augmentation=(), resize=None):
        check_augmentation(augmentation)
        self.images = images.unsqueeze(1).to(device, torch.float32) / 255
        self.labels = labels.to(device, torch.int64)
        self.batch_size = batch_size
        self.seed = seed
        self.augmentation = list(augmentation)
        self.resize = resize
        self.epoch = 0

    def __getattr__(self, name):
        raise AttributeError(f"Batches has no {name!r}: of torch's DataLoader it has dataset and batch_size")

    @property
    def dataset(self):
        """The images (1, 28, 28) and labels one by one, with `len`, `targets` and `classes` as torchvision's have."""
        dataset = torch.utils.data.TensorDataset(self.images, self.labels)
        dataset.targets, dataset.classes = self.labels, list(fashion_mnist.CLASSES)
        return dataset

    def __len__(self):
        return math.ceil(len(self.labels) / self.batch_size)

    def __iter__(self):
        order, numbers = (drawn.to(self.labels.device) for drawn in self.draw_epoch())
        for start in range(0, len(order), self.batch_size):
            rows = slice(start, start + self.batch_size)
            yield self.batch(order[rows], numbers[rows])

    def draw_epoch(self):
        """Begin an epoch: return the order of its images (n,), and random numbers for the changes of each, (n, k)."""
        num_images, num_numbers = len(self.labels), count_numbers(self.augmentation)
        if self.seed is None:
            return torch.arange(num_images), torch.empty(num_images, num_numbers)
        self.epoch += 1
        seeds = np.random.SeedSequence([self.seed, self.epoch]).generate_state(2, np.uint64).tolist()
        torch.manual_seed(seeds[0])
        order = torch.randperm(num_images)
        return order, torch.rand(num_images, num_numbers, generator=torch.Generator().manual_seed(seeds[1]))

    def batch(self, positions, numbers):
        """Return the images at some positions (batch,), changed by their random numbers (batch, k), and the labels."""
        X = self.images[positions]
        if self.resize:
            X = nn.functional.interpolate(X, self.resize, mode="bilinear", antialias=True)
        return augment(self.augmentation, X, numbers), self.labels[positions]


# Accuracy


def evaluate_accuracy(net, data_iter):
    """Return the fraction, in [0, 1], of images that the network, in evaluation mode, assigns to their class."""
    correct = predict_correct(net, data_iter)
    return correct.sum().item() / len(correct)


def predict_correct(net, data_iter):
    """Say for each image whether the network, in evaluation mode, assigns it to its class: booleans (n,)."""
    return torch.eq(*predict(net, data_iter))


def predict(net, data_iter):
    """Return for each image the class that the network, in evaluation mode, assigns it to, and its own: two (n,)."""
    was_training = net.training
    net.eval()
    forward = forward_of(net)
    pairs = []
    try:
        with torch.no_grad():
            for X, y in batches_for(net, data_iter):
                with explained(net, X, y):
                    pairs.append((forward(X).argmax(dim=-1), y))
    finally:
        net.train(was_training)
    return tuple(torch.cat(parts, dim=-1) for parts in zip(*pairs, strict=True))


# Training


def net_of(setting):
    """Build and initialise on the CPU the network of a setting, a run's complete parameters, as the notebooks do."""
    names = ("batch_norm", "norm_axis", "norm_after_relu", "dropout")
    patches = get_possible_patches(784)[setting["patching"]]
    torch.manual_seed(setting["seed"])
    net = Net(28, *patches, setting["num_hidden"], 10, **{name: setting[name] for name in names})
    return net.apply(partial(init_weights, initializer=setting["initializer"]))


def get_optimizer(name, parameters, learning_rate, weight_decay=0.0):
    """Return an optimizer of `torch.optim` by its name, in its fused form if it has one: the quickest.

    "SGD_momentum" is SGD with a momentum of 0.9.

    Raises:
        UserError: `torch.optim` has no such optimizer, or it refuses an argument.
    """
    name, options = ("SGD", {"momentum": 0.9}) if name == "SGD_momentum" else (name, {})
    optimizer = getattr(torch.optim, name, None)
    if optimizer in (None, torch.optim.Optimizer) or not inspect.isclass(optimizer):
        raise UserError(f"unknown optimizer {name!r}: choose one of torch.optim, such as SGD or Adam")
    known = inspect.signature(optimizer).parameters
    if "fused" in known:
        options["fused"] = True
    elif "capturable" in known:
        parameters = list(parameters)
        options["capturable"] = any(weights.is_cuda for weights in parameters)  # its CUDA graph needs all on the GPU
    try:
        return optimizer(parameters, lr=learning_rate, weight_decay=weight_decay, **options)
    except (ValueError, TypeError) as error:
        raise UserError(f"{name} refuses an argument: {error}") from None


def get_scheduler(name, optimizer, num_steps):
    """Return a schedule of the learning rate over a training's steps, or None for "constant".

    "one_cycle" rises to the optimizer's learning rate for 3 tenths of the steps and falls to nothing afterwards (Smith
    and Topin 2017, arXiv:1708.07120), with PyTorch's defaults but for the momentum, which stays.
    """
    if name == "constant":
        return None
    if name not in SCHEDULES:
        raise UserError(f"unknown schedule {name!r}: choose {' or '.join(SCHEDULES)}")
    highest = optimizer.param_groups[0]["lr"]
    for group in optimizer.param_groups:
        if group["params"][0].is_cuda:  # a CUDA graph would keep a number
            group["lr"] = torch.tensor(group["lr"], device=group["params"][0].device)
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, highest, num_steps, cycle_momentum=False)


@never_lost()
def train(net, train_iter, test_iter, loss, num_epochs, optimizer, scheduler=None):
    """Train a network, showing the curve as it grows if somebody is looking, else printing a line an epoch.

    Args:
        net: the network.
        train_iter, test_iter: batches, as from `load_data_fashion_mnist`, torch's DataLoader, or any other iterable of
            images and labels; they are brought to the network's device.
        loss: function of class scores (batch, classes) and labels (batch,), giving the batch's mean, or every image's
            loss, of which the mean is taken; a loss of PyTorch's may have reduction="sum" as well.
        num_epochs: passes over the training images.
        optimizer: of `torch.optim`, over the network's parameters.
        scheduler: of `torch.optim.lr_scheduler`, stepped after every batch; None keeps the learning rate.

    Returns:
        A list with one dict an epoch, as `train_epochs` yields them.

    Raises:
        UserError: an argument, or a batch, isn't what is expected here.
        Interrupted: somebody has stopped it; the network keeps what it has learned.
    """
    check_training(net, train_iter, test_iter, loss, num_epochs, optimizer)
    history = []
    try:
        live = LiveCurve(num_epochs, length_hint(train_iter, 0)) if somebody_is_looking() else None
        on_batch = live.on_batch if live else None
        for measures in train_epochs(net, train_iter, test_iter, loss, num_epochs, optimizer, scheduler, on_batch):
            history.append(measures)
            if live:
                live.on_epoch(history)
            else:
                print(f"epoch {len(history)} of {num_epochs}: {describe(measures)}", flush=True)
    except KeyboardInterrupt:
        raise Interrupted(
            f"after {len(history)} of {num_epochs} epochs; to start afresh, run the cells from the network's on again"
        ) from None
    return history


def train_epochs(net, train_iter, test_iter, loss, num_epochs, optimizer, scheduler=None, on_batch=None):
    """Train a network, yielding after each epoch what was measured; arguments as of `train`.

    Args:
        on_batch: function that is called with the number of the batch after each one of an epoch, or None.

    Yields:
        A dict: "train_loss" in nats and "train_accuracy", averaged over the epoch while the network learns, and after
        it "test_accuracy", and "validation_accuracy" if images were held out; accuracies are fractions in [0, 1].
    """
    keep_freed_memory()
    step = TrainingStep(net, loss, optimizer, scheduler)
    training = (net, train_iter, loss, optimizer, scheduler)
    account = open_account(net, state_of(*training))
    if isinstance(train_iter, Batches):
        train_iter.epoch = len(account.history)  # of this network, whoever went through the images before
    validation_iter = getattr(train_iter, "validation_iter", None)
    measures, lost = None, False
    for _ in range(num_epochs):
        if not lost:  # else training would measure the same again
            lost = _is_lost(net)
            measures = train_epoch(step, train_iter, on_batch) | {"test_accuracy": evaluate_accuracy(net, test_iter)}
            if validation_iter:
                measures["validation_accuracy"] = evaluate_accuracy(net, validation_iter)
        account.add(measures, state_of(*training))
        yield measures


def _is_lost(net):
    """Say whether a layer holds nothing but NaN: then so do the class scores, and no further epoch changes that."""
    return any(bool(parameter.isnan().all()) for parameter in net.parameters())


def train_epoch(step, train_iter, on_batch=None):
    """Go through the training images once.

    Args:
        step: a `TrainingStep`.
        train_iter: batches, as of `train`.
        on_batch: as of `train_epochs`.

    Returns:
        A dict with "train_loss" and "train_accuracy", averaged over the epoch while the network learns.
    """
    step.start_epoch()
    num_images = 0
    torch.set_flush_denormal(True)  # strong weight decay makes numbers so small that Intel's processors crawl
    try:
        for number, (X, y) in enumerate(batches_for(step.net, train_iter), start=1):
            with explained(step.net, X, y):
                step(X, y)
            num_images += len(y)
            if on_batch:
                on_batch(number)
    finally:
        torch.set_flush_denormal(False)  # it holds for all of Python, where 5e-324 is above 0
    return {
        "train_loss": step.total_loss.item() / num_images,
        "train_accuracy": step.total_correct.item() / num_images,
    }
