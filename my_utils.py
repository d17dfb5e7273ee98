"""The coursework's helper module, imported as `mu`: load Fashion-MNIST, measure accuracy, train.

The names and the order of arguments are those of the report, which has them from "Dive into Deep Learning". What
stands here for the other helpers of that book:

    train_ch3, train_ch6, Animator       train, which draws the curve as it grows
    train_epoch_ch3, Accumulator         train_epoch, which adds up loss and accuracy
    accuracy, evaluate_accuracy_gpu      evaluate_accuracy, a fraction, on the network's device
    predict_ch3                          predict
    try_gpu                              get_device
    get_fashion_mnist_labels             common.fashion_mnist.CLASSES
    show_images                          notebooks/explore.ipynb
    Timer, get_dataloader_workers        nothing: train says how long it takes, and all images lie in memory
"""

import inspect
import math
import sys
from functools import partial
from operator import length_hint

import numpy as np
import torch
from IPython import get_ipython
from torch import nn

from common import fashion_mnist
from common.account import open_account, state_of
from common.batches import batches_for, check_training, check_whole, explained
from common.curves import LiveCurve, describe
from common.device import get_device
from common.errors import Interrupted
from common.parameters import AUGMENTATIONS, SCHEDULES
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
        ValueError: the batch size or the side is not positive, or an augmentation or a device is unknown.
    """
    check_whole("batch_size", batch_size)
    if resize is not None:
        check_whole("resize", resize)
    device = get_device(device)
    train_images, train_labels, test_images, test_labels = fashion_mnist.load(root)
    held_out = len(train_labels) - num_validation
    last = min(train_limit or held_out, held_out)
    batches = partial(Batches, batch_size=batch_size, device=device, resize=resize)
    train_iter = batches(train_images[:last], train_labels[:last], seed=seed, augment=get_augmentation(augmentation))
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
        augment: function of one image (1, 28, 28), or None.
        resize: side to which the images of a batch are brought, before they are augmented, or None.

    Attributes:
        validation_iter: for training images, the batches of those that were held out, or None.
    """

    validation_iter = None

    def __init__(self, images, labels, batch_size, device, *, seed=None, augment=None, resize=None):
        self.images = images.unsqueeze(1).to(device, torch.float32) / 255
        self.labels = labels.to(device, torch.int64)
        self.batch_size = batch_size
        self.seed = seed
        self.augment = augment
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
        order = torch.arange(len(self.labels))
        if self.seed is not None:
            self.epoch += 1
            torch.manual_seed(int(np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)[0]))
            order = torch.randperm(len(self.labels))
        for batch in order.to(self.labels.device).split(self.batch_size):
            X = self.images[batch]
            if self.resize:
                X = nn.functional.interpolate(X, self.resize, mode="bilinear", antialias=True)
            if self.augment:
                X = torch.stack([self.augment(image) for image in X])
            yield X, self.labels[batch]


def get_augmentation(names):
    """Return a function that augments one image (1, 28, 28) at random, or None if there are no names.

    The report doesn't give the sizes. Here shifts go up to a tenth of the image in each direction, and flips and
    erased rectangles come with torchvision's defaults: half of the images, 2 to 33 % of an erased one.
    """
    unknown = set(names) - set(AUGMENTATIONS)
    if unknown:
        raise ValueError(f"unknown augmentation {unknown.pop()!r}: choose from {', '.join(AUGMENTATIONS)}")
    if not names:
        return None
    try:
        from torchvision.transforms import v2  # a slow import that most runs don't need
    except (ImportError, RuntimeError) as error:
        raise ValueError(
            f"augmentation needs a torchvision that goes with PyTorch {torch.__version__} ({error}): install both "
            "from one place, as docs/install.md says"
        ) from None
    return v2.Compose([getattr(v2, name)(**AUGMENTATIONS[name].arguments) for name in names])


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
                    pairs.append((forward(X).argmax(dim=1), y))
    finally:
        net.train(was_training)
    return tuple(torch.cat(parts) for parts in zip(*pairs, strict=True))


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

    Raises:
        ValueError: `torch.optim` has no such optimizer.
    """
    optimizer = getattr(torch.optim, name, None)
    if optimizer in (None, torch.optim.Optimizer) or not inspect.isclass(optimizer):
        raise ValueError(f"unknown optimizer {name!r}: choose one of torch.optim, such as SGD or Adam")
    fused = {"fused": True} if "fused" in inspect.signature(optimizer).parameters else {}
    return optimizer(parameters, lr=learning_rate, weight_decay=weight_decay, **fused)


def get_scheduler(name, optimizer, num_steps):
    """Return a schedule of the learning rate over a training's steps, or None for "constant".

    "one_cycle" rises to the optimizer's learning rate for 3 tenths of the steps and falls to nothing afterwards (Smith
    and Topin 2017, arXiv:1708.07120), with PyTorch's defaults but for the momentum, which stays.
    """
    if name == "constant":
        return None
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule {name!r}: choose {' or '.join(SCHEDULES)}")
    highest = optimizer.param_groups[0]["lr"]
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, highest, num_steps, cycle_momentum=False)


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
        ValueError: an argument, or a batch, isn't what is expected here.
        Interrupted: somebody has stopped it; the network keeps what it has learned.
    """
    check_training(net, train_iter, test_iter, loss, num_epochs, optimizer)
    live = LiveCurve(num_epochs, length_hint(train_iter, 0)) if somebody_is_looking() else None
    on_batch = live.on_batch if live else None
    history = []
    try:
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
    account = open_account(*training)
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
        account.add([measures], state_of(*training))
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


def somebody_is_looking():
    """Say whether this notebook was opened by a person: only then does its front end offer to answer questions."""
    return bool(getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False))
