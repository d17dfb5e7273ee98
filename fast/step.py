"""One step of a training, as quick as PyTorch lets it be: on a GPU recorded as a CUDA graph, and memory kept."""

import ctypes
import sys
import warnings
from collections import Counter

import torch

from fast.forward import forward_of
from fast.stack import Stack


class TrainingStep:
    """Forward, loss, backward and update for one batch; on a GPU recorded as a CUDA graph, and then replayed.

    A small network's step is a hundred short kernels, which a GPU finishes sooner than Python can ask for the next.
    A graph asks for all of them at once, one graph for each size of a batch. The first batches of a size are computed
    without it; so is everything on a CPU.

    Args:
        net: a network, or a `Stack` of them; then images are (N, batch, 1, 28, 28) and labels (N, batch).
        loss: as of `my_utils.train`: gives a batch's mean, each image's loss, or, with the reduction "sum", their sum.

    Attributes:
        total_loss, total_correct: sums over the images of the epoch so far, on the network's device; of a stack (N,).
    """

    WARM_UP = 3  # batches that CUDA's libraries need to set themselves up before a recording

    def __init__(self, net, loss, optimizer, scheduler=None):
        self.net, self.loss, self.optimizer, self.scheduler = net, loss, optimizer, scheduler
        device = next(net.parameters()).device
        shape, self.losses = ((net.num_nets,), torch.vmap(self._loss)) if isinstance(net, Stack) else ((), self._loss)
        self.total_loss = torch.zeros(shape, dtype=torch.float64, device=device)
        self.total_correct = torch.zeros(shape, dtype=torch.int64, device=device)
        self.recordable = device.type == "cuda"
        self.num_computed = Counter()  # batches, by the shape of their images
        self.recorded = {}  # from the shape of images to a graph, and the images and labels that it reads

    def start_epoch(self):
        self.net.train()
        self.forward = forward_of(self.net)
        self.total_loss.zero_()
        self.total_correct.zero_()

    def __call__(self, X, y):
        """Learn from one batch: images (batch, 1, 28, 28) and labels (batch,)."""
        if self.recordable and self.num_computed[X.shape] == self.WARM_UP and X.shape not in self.recorded:
            self._record(X.clone(), y.clone())
        if X.shape in self.recorded:
            graph, recorded_X, recorded_y = self.recorded[X.shape]
            recorded_X.copy_(X)
            recorded_y.copy_(y)
            graph.replay()
        else:
            self.num_computed[X.shape] += 1
            self._compute(X, y)
        if self.scheduler:
            self.scheduler.step()

    def _compute(self, X, y):
        self.optimizer.zero_grad()
        y_hat = self.forward(X)
        losses = self.losses(y_hat, y)
        losses.sum().backward()
        self.optimizer.step()
        num_averaged = 1 if getattr(self.loss, "reduction", None) == "sum" else y.shape[-1]
        self.total_loss += losses.detach().double() * num_averaged
        self.total_correct += (y_hat.detach().argmax(dim=-1) == y).sum(-1)

    def _loss(self, y_hat, y):
        loss = self.loss(y_hat, y)
        return loss.mean() if loss.dim() else loss

    def _record(self, X, y):
        """Record a step without computing it; if PyTorch refuses, the training goes on without graphs."""
        graph = torch.cuda.CUDAGraph()
        self._say_capturable(True)
        try:
            with torch.cuda.graph(graph):
                self._compute(X, y)
        except RuntimeError as error:
            warnings.warn(f"training without a CUDA graph: {error}", stacklevel=2)
            self.recordable = False
        else:
            self.recorded[X.shape] = graph, X, y
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
