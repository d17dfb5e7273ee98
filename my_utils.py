"""The coursework's helper module, imported as `mu`: load Fashion-MNIST, measure accuracy, train, draw the curves.

The names and the order of arguments are those of the report, which has them from "Dive into Deep Learning".
"""

import base64
import html
import io
import math
import warnings

import numpy as np
import torch
from IPython import get_ipython
from IPython.display import SVG, Markdown, display
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import fashion_mnist
from fast_forward import can_fast_forward, fast_forward, keep_freed_memory

AUGMENTATIONS = ("RandomAffine", "RandomHorizontalFlip", "RandomErasing")


# Loading


def load_data_fashion_mnist(
    batch_size, *, seed=0, device="auto", train_limit=None, num_validation=0, augmentation=(), root=None
):
    """Load Fashion-MNIST into memory and return the iterators over its training and test batches.

    Args:
        batch_size: images per batch; the last batch of an epoch may be smaller.
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
        ValueError: the batch size is not positive, or an augmentation or a device is unknown.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: expected 1 or more")
    device = get_device(device)
    train_images, train_labels, test_images, test_labels = fashion_mnist.load(root)
    held_out = len(train_labels) - num_validation
    last = min(train_limit or held_out, held_out)
    augment = get_augmentation(augmentation)
    train_iter = Batches(train_images[:last], train_labels[:last], batch_size, device, seed=seed, augment=augment)
    if num_validation:
        train_iter.validation_iter = Batches(train_images[held_out:], train_labels[held_out:], batch_size, device)
    return train_iter, Batches(test_images, test_labels, batch_size, device)


class Batches:
    """Images and labels in batches, all in the memory of one device; to be iterated over once an epoch.

    With a seed, the start of an epoch seeds PyTorch's generators from the seed and the number of the epoch, and
    shuffles. So an epoch's order, augmentation and dropout are the same whatever was drawn before it.

    Args:
        images: bytes (n, 28, 28); labels: bytes (n,).
        seed: None keeps the images in their order.
        augment: function of one image (1, 28, 28), or None.

    Attributes:
        validation_iter: for training images, the batches of those that were held out, or None.
    """

    validation_iter = None

    def __init__(self, images, labels, batch_size, device, *, seed=None, augment=None):
        self.images = images.unsqueeze(1).to(device, torch.float32) / 255
        self.labels = labels.to(device, torch.int64)
        self.batch_size = batch_size
        self.seed = seed
        self.augment = augment
        self.epoch = 0

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
            if self.augment:
                X = torch.stack([self.augment(image) for image in X])
            yield X, self.labels[batch]


def get_device(name="auto"):
    """Return a `torch.device`, for "auto" a GPU if there is one; ValueError if this machine hasn't got it."""
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError):
        raise ValueError(f"device {name!r} is not on this machine: choose auto or cpu") from None
    return device


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
    from torchvision.transforms import v2  # a slow import that most runs don't need

    arguments = {"RandomAffine": {"degrees": 0, "translate": (0.1, 0.1)}}
    return v2.Compose([getattr(v2, name)(**arguments.get(name, {})) for name in names])


# Accuracy


def evaluate_accuracy(net, data_iter):
    """Return the fraction, in [0, 1], of images that the network, in evaluation mode, assigns to their class."""
    correct = predict_correct(net, data_iter)
    return correct.sum().item() / len(correct)


def predict_correct(net, data_iter):
    """Say for each image whether the network, in evaluation mode, assigns it to its class: booleans (n,)."""
    predicted, labels = predict(net, data_iter)
    return predicted == labels


def predict(net, data_iter):
    """Return for each image the class that the network, in evaluation mode, assigns it to, and its own: two (n,)."""
    was_training = net.training
    net.eval()
    forward = _forward_of(net)
    with torch.no_grad():
        pairs = [(forward(X).argmax(dim=1), y) for X, y in data_iter]
    net.train(was_training)
    return tuple(torch.cat(parts) for parts in zip(*pairs, strict=True))


def _forward_of(net):
    return (lambda X: fast_forward(net, X)) if can_fast_forward(net) else net


# Training


def train(net, train_iter, test_iter, loss, num_epochs, optimizer, scheduler=None):
    """Train a network, showing the curve as it grows if somebody is looking, else printing a line an epoch.

    Args:
        net: the network, on the device of the iterators.
        train_iter, test_iter: batches, as from `load_data_fashion_mnist`.
        loss: function of class scores (batch, classes) and labels (batch,), giving the batch's mean.
        num_epochs: passes over the training images.
        optimizer: of `torch.optim`, over the network's parameters.
        scheduler: of `torch.optim.lr_scheduler`, stepped after every batch; None keeps the learning rate.

    Returns:
        A list with one dict an epoch: "train_loss" in nats and "train_accuracy", both averaged over the epoch while
        the network learns, and "test_accuracy" after it, as well as "validation_accuracy" if images were held out;
        accuracies are fractions in [0, 1].
    """
    keep_freed_memory()
    curve = display(display_id=True) if somebody_is_looking() else None
    step = TrainingStep(net, loss, optimizer, scheduler)
    history = []
    lost = False
    for epoch in range(1, num_epochs + 1):
        if lost:
            history.append(history[-1])  # as training would measure it again
        else:
            lost = _is_lost(net)
            epoch_measures = train_epoch(step, train_iter) | {"test_accuracy": evaluate_accuracy(net, test_iter)}
            if train_iter.validation_iter:
                epoch_measures["validation_accuracy"] = evaluate_accuracy(net, train_iter.validation_iter)
            history.append(epoch_measures)
        if curve:
            curve.update(SVG(to_svg(plot_curves([history]))))
        else:
            print(f"epoch {epoch} of {num_epochs}: " + describe(history[-1]), flush=True)
    return history


def _is_lost(net):
    """Say whether a layer holds nothing but NaN: then so do the class scores, and no further epoch changes that."""
    return any(bool(parameter.isnan().all()) for parameter in net.parameters())


def train_epoch(step, train_iter):
    """Go through the training images once.

    Args:
        step: a `TrainingStep`.
        train_iter: batches, as from `load_data_fashion_mnist`.

    Returns:
        A dict with "train_loss" and "train_accuracy", averaged over the epoch while the network learns.
    """
    step.start_epoch()
    num_images = 0
    torch.set_flush_denormal(True)  # strong weight decay makes numbers so small that Intel's processors crawl
    try:
        for X, y in train_iter:
            step(X, y)
            num_images += len(y)
    finally:
        torch.set_flush_denormal(False)  # it holds for all of Python, where 5e-324 is above 0
    return {
        "train_loss": step.total_loss.item() / num_images,
        "train_accuracy": step.total_correct.item() / num_images,
    }


class TrainingStep:
    """Forward, loss, backward and update for one batch; on a GPU recorded as a CUDA graph, and then replayed.

    A small network's step is a hundred short kernels, which a GPU finishes sooner than Python can ask for the next.
    A graph asks for all of them at once. The first batches, and batches of another size than the first, such as the
    last of an epoch, are computed without it; so is everything on a CPU.

    Attributes:
        total_loss, total_correct: sums over the images of the epoch so far, on the network's device.
    """

    WARM_UP = 3  # batches that CUDA's libraries need to set themselves up before a recording

    def __init__(self, net, loss, optimizer, scheduler=None):
        self.net, self.loss, self.optimizer, self.scheduler = net, loss, optimizer, scheduler
        device = next(net.parameters()).device
        self.total_loss = torch.zeros((), dtype=torch.float64, device=device)
        self.total_correct = torch.zeros((), dtype=torch.int64, device=device)
        self.recordable = device.type == "cuda" and scheduler is None  # a graph would keep the first learning rate
        self.num_computed = 0
        self.graph = None

    def start_epoch(self):
        self.net.train()
        self.forward = _forward_of(self.net)
        self.total_loss.zero_()
        self.total_correct.zero_()

    def __call__(self, X, y):
        """Learn from one batch: images (batch, 1, 28, 28) and labels (batch,)."""
        if self.num_computed == 0:
            self.X, self.y = X.clone(), y.clone()
        fits = self.recordable and X.shape == self.X.shape
        if fits and self.num_computed >= self.WARM_UP and self.graph is None:
            self._record()
        if fits and self.graph:
            self.X.copy_(X)
            self.y.copy_(y)
            self.graph.replay()
        else:
            self.num_computed += 1
            self._compute(X, y)
        if self.scheduler:
            self.scheduler.step()

    def _compute(self, X, y):
        self.optimizer.zero_grad()
        y_hat = self.forward(X)
        batch_loss = self.loss(y_hat, y)
        batch_loss.backward()
        self.optimizer.step()
        self.total_loss += batch_loss.detach().double() * len(y)
        self.total_correct += (y_hat.detach().argmax(dim=1) == y).sum()

    def _record(self):
        """Record a step without computing it; if PyTorch refuses, the training goes on without a graph."""
        graph = torch.cuda.CUDAGraph()
        self._say_capturable(True)
        try:
            with torch.cuda.graph(graph):
                self._compute(self.X, self.y)
        except RuntimeError as error:
            warnings.warn(f"training without a CUDA graph: {error}", stacklevel=2)
            self.recordable = False
        else:
            self.graph = graph
        self._say_capturable(False)

    def _say_capturable(self, capturable):
        """Answer for what optimizers ask of their user before a recording; outside of one, True makes them warn."""
        for group in self.optimizer.param_groups:
            group["capturable"] = capturable


def get_scheduler(name, optimizer, num_steps):
    """Return a schedule of the learning rate over a training's steps, or None for "constant".

    "one_cycle" rises to the optimizer's learning rate for 3 tenths of the steps and falls to nothing afterwards (Smith
    and Topin 2017, arXiv:1708.07120), with PyTorch's defaults but for the momentum, which stays.
    """
    if name == "constant":
        return None
    if name != "one_cycle":
        raise ValueError(f"unknown schedule {name!r}: choose constant or one_cycle")
    highest = optimizer.param_groups[0]["lr"]
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, highest, num_steps, cycle_momentum=False)


def describe(epoch):
    """Put the measures of one epoch, as `train` returns them, into a line."""
    return ", ".join(f"{CURVES[name][0]} {value:.4f}" for name, value in epoch.items())


def somebody_is_looking():
    """Say whether this notebook was opened by a person: only then does its front end offer to answer questions."""
    return bool(getattr(getattr(get_ipython(), "kernel", None), "_allow_stdin", False))


# Figures

STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "0.92",
    "font.size": 9,
    "legend.frameon": False,
    "svg.hashsalt": "the same figure gives the same bytes",
}
CURVES = {
    "train_loss": ("training loss", "-", "C0"),
    "train_accuracy": ("training accuracy", "--", "C1"),
    "test_accuracy": ("test accuracy", "-.", "C2"),
    "validation_accuracy": ("validation accuracy", ":", "C3"),
}


def plot_curves(histories, reported=None, first_reported_epoch=1):
    """Draw training loss, training accuracy and test accuracy against the epoch, as the report's figures do.

    A second panel has the test accuracy once more, close up: steps of the report are smaller than a line is thick.

    Args:
        histories: one list of epochs, as `train` returns it, for each seed: drawn are their mean and, as a band,
            their range.
        reported: the report's test accuracy, drawn as a thin line.
        first_reported_epoch: the report's curve starts here; what came before gets a grey background.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    with style.context(["petroff10", STYLE]):
        figure = Figure(figsize=(6.3, 2.4), layout="constrained")
        curves, close_up = figure.subplots(ncols=2, width_ratios=[5, 4])
        draw_curves(curves, histories, reported)
        draw_curves(close_up, histories, reported, ["test_accuracy"])
        curves.set(xlabel="epoch", ylabel="accuracy, and loss in nats")
        close_up.set(xlabel="epoch", ylabel="test accuracy, close up", ylim=_close_up(histories, reported))
        if first_reported_epoch > 1:
            for axes in (curves, close_up):
                axes.axvspan(0.5, first_reported_epoch - 0.5, color="0.93", zorder=0)
            curves.text(0.6, 0.02, "not in the report's figure", color="0.35", fontsize=8)
        figure.legend(*curves.get_legend_handles_labels(), loc="outside upper center", ncols=2)
        figure.get_layout_engine().set(wspace=0.06)
    return figure


def draw_curves(axes, histories, reported=None, names=tuple(CURVES)):
    """Draw into given axes what `plot_curves` draws into its first panel, or only the curves of some names."""
    epochs = np.arange(1, len(histories[0]) + 1)
    for name in names:
        if name not in histories[0][0]:
            continue
        label, line_style, color = CURVES[name]
        values = np.array([[np.nan if epoch[name] is None else epoch[name] for epoch in h] for h in histories])
        if name == "test_accuracy":
            label += f", {values[:, -1].mean():.4f} at the end"
        if np.isfinite(values).any():
            axes.plot(epochs, values.mean(0), line_style, color=color, label=label, marker=".", markersize=4)
            axes.fill_between(epochs, values.min(0), values.max(0), color=color, alpha=0.25, linewidth=0)
        else:
            axes.plot([], [], line_style, color=color, label=f"{label} (not a number)")
    if reported is not None:
        axes.axhline(reported, color="0.25", linewidth=0.8, label=f"reported test accuracy, {reported:g}")
    axes.set_xlim(0.5, len(epochs) + 0.5)
    axes.set_ylim(0, max(1, axes.get_ylim()[1]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _close_up(histories, reported):
    """Return limits around the test accuracies of the second half of the epochs, and around the reported one."""
    settled = [epoch["test_accuracy"] for history in histories for epoch in history[len(history) // 2 :]]
    shown = [accuracy for accuracy in (*settled, reported) if accuracy is not None] or [0, 1]
    margin = max(0.01, 0.1 * (max(shown) - min(shown)))
    return min(shown) - margin, max(shown) + margin


def to_svg(figure):
    """Return a figure as SVG text, the same text for the same figure."""
    text = io.StringIO()
    with style.context(["petroff10", STYLE]):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def to_pdf(figure):
    """Return a figure as a PDF of one page, the same bytes for the same figure."""
    content = io.BytesIO()
    with style.context(["petroff10", STYLE]):
        figure.savefig(content, format="pdf", metadata={"CreationDate": None})
    return content.getvalue()


def show(figure, alt):
    """Display a figure in a notebook as a vector drawing, with an alternative text for those who can't see it."""
    display(drawing(figure, alt), metadata={"image/svg+xml": {"alt": alt}}, raw=True)


def drawing(figure, alt):
    """Return a figure in the forms that a notebook's readers choose from, a dict from MIME type to content.

    In HTML an image keeps its alternative text, which nbconvert's pages don't give an SVG. LaTeX takes the PDF, which
    nbconvert would otherwise ask Inkscape to make.
    """
    svg = to_svg(figure)
    source = f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
    return {
        "image/svg+xml": svg,
        "text/html": f'<img src="{source}" alt="{html.escape(alt)}" style="max-width: 100%">',
        "application/pdf": base64.b64encode(to_pdf(figure)).decode(),
    }


def describe_curves(history, reported):
    """Put the curves of one run into words, as their alternative text."""
    last = history[-1]
    return (
        f"Curves of training loss, training accuracy and test accuracy over {len(history)} epochs, which end at "
        f"{last['train_loss']:.3f}, {last['train_accuracy']:.4f} and {last['test_accuracy']:.4f}. "
        f"A line marks the reported test accuracy, {reported:g}. A second panel has the test accuracy close up."
    )


def compare(accuracy, reported):
    """Set a measured beside the reported test accuracy, in a sentence for a notebook."""
    points = 100 * (accuracy - reported)
    return Markdown(
        f"Test accuracy: the report gives **{reported:g}** for this figure, this run **{accuracy:.4f}**, "
        f"{abs(points):.2f} points {'more' if points > 0 else 'less'}."
        if points
        else f"Test accuracy: the report gives **{reported:g}** for this figure, and so does this run."
    )
