"""One step of a training, as quick as PyTorch lets it be: on a GPU recorded as a CUDA graph, and memory kept."""

import ctypes
import sys
import warnings

import torch

from fast.forward import forward_of


class TrainingStep:
    """Forward, loss, backward and update for one batch; on a GPU recorded as a CUDA graph, and then replayed.

    A small network's step is a hundred short kernels, which a GPU finishes sooner than Python can ask for the next.
    A graph asks for all of them at once. The first batches, and batches of another size than the first, such as the
    last of an epoch, are computed without it; so is everything on a CPU.

    Args:
        loss: as of `my_utils.train`: gives a batch's mean, each image's loss, or, with the reduction "sum", their sum.

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
        self.forward = forward_of(self.net)
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
        if batch_loss.dim():
            batch_loss = batch_loss.mean()
        batch_loss.backward()
        self.optimizer.step()
        num_averaged = 1 if getattr(self.loss, "reduction", None) == "sum" else len(y)
        self.total_loss += batch_loss.detach().double() * num_averaged
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


def keep_freed_memory():
    """Let glibc keep the memory that it is given back, up to 1 GB, for the next batch.

    By default it returns every large array to the system at once, and a quarter of the time of a training goes into
    getting it back page by page. Elsewhere than with glibc this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD, at its maximum
        mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
