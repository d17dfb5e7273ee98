"""Why a start with N(0, 1) fails: the size of signals and gradients layer by layer, and the steps until they overflow.

For a linear layer with n inputs and weights of mean 0 and variance v, the outputs have variance n v E[x²] (He and
others 2015, arXiv:1502.01852). A ReLU then halves the mean square. Going back, a layer with m outputs gives gradients
of variance m v E[g²], which a ReLU halves again. `predict` is these two rules; `measure` looks at the network itself.
"""

import json
import math
from itertools import islice, takewhile

import numpy as np
import torch

import my_utils as mu
from common import ROOT
from common.files import write_at_once
from fast.step import TrainingStep
from study import notebooks

LAYERS = ("stem", "MLP 1, first", "MLP 1, second", "MLP 2, first", "MLP 2, second", "classifier")
STARTS = {"figure_2": "N(0, 1)", "figure_3": "Xavier", "figure_4": "He"}
SIGNALS = ("outputs", "gradients", "predicted_outputs", "predicted_gradients")
SEEDS = range(4)
STEPS = 10
FILE = "signals.json"


def measure():
    """Look at the first steps of Figures 2, 3 and 4, in the network of `model.py` as it stands.

    Returns:
        A dict from "figure_2", "figure_3" and "figure_4" to a dict of lists: "outputs" and "gradients", one a layer,
        root mean squares at the first batch, over all `SEEDS`; "predicted_outputs" and "predicted_gradients", the same
        in theory; "losses", a list of the first batches' for each seed, None for the first that is not finite.
    """
    measured = {}
    for figure in STARTS:
        runs = [_measure(notebooks.defaults(figure), seed) for seed in SEEDS]
        measured[figure] = {
            name: np.sqrt(np.mean([np.square(run[name]) for run in runs], axis=0)).tolist() for name in SIGNALS
        }
        measured[figure]["losses"] = [run["losses"] for run in runs]
    return measured


def _measure(setting, seed):
    train_iter, _ = mu.load_data_fashion_mnist(setting["batch_size"], seed=seed, device="cpu")
    net = mu.net_of(setting | {"seed": seed})
    optimizer = torch.optim.SGD(net.parameters(), lr=setting["learning_rate"])
    linears = [module for module in net.modules() if isinstance(module, torch.nn.Linear)]
    outputs, losses = [], []

    def keep_output(module, _, output):
        if len(outputs) < len(linears):  # those of the first batch
            output.retain_grad()
            outputs.append(output)

    def keep_loss(scores, labels):
        losses.append(torch.nn.functional.cross_entropy(scores, labels))
        return losses[-1]

    for linear in linears:
        linear.register_forward_hook(keep_output)
    batches = list(islice(train_iter, STEPS))
    weights = [linear.weight.detach().clone() for linear in linears]
    mu.train_epoch(TrainingStep(net, keep_loss, optimizer), batches)
    gradients = [_root_mean_square(output.grad) for output in outputs]
    return {
        "outputs": [_root_mean_square(output) for output in outputs],
        "gradients": gradients,
        **dict(zip(SIGNALS[2:], predict(weights, _root_mean_square(batches[0][0]), gradients[-1]), strict=True)),
        "losses": _up_to_the_first_lost([loss.item() for loss in losses]),
    }


def _up_to_the_first_lost(losses):
    finite = list(takewhile(math.isfinite, losses))
    return finite + [None] * (len(finite) < len(losses))


def _root_mean_square(values):
    return values.detach().double().square().mean().sqrt().item()


def predict(weights, pixels, scores):
    """Predict the root mean square of the outputs of the six linear layers and of the gradients of these.

    Args:
        weights: of the layers, in the order of `LAYERS`, each (outputs, inputs).
        pixels: root mean square of the pixels.
        scores: root mean square of the gradient of the class scores.

    Returns:
        Two lists, one value a layer.
    """
    variances = [weight.double().var().item() for weight in weights]
    # What a layer's inputs keep of the mean square of the outputs before them: all; half after a ReLU; and after the
    # mean over the tokens, which share their last layer, the square of the mean of its ReLU's outputs, 1/π of theirs.
    kept = [1, 1, 0.5, 1, 0.5, 1 / np.pi]
    outputs, square = [], pixels**2
    for weight, variance, share in zip(weights, variances, kept, strict=True):
        square = weight.shape[1] * variance * square * share
        outputs.append(square**0.5)
    num_tokens = len(weights[2])
    back = [1, 0.5, 1, 0.5, 1 / num_tokens**2]  # from each layer's outputs to those of the layer before it
    gradients, square = [scores], scores**2
    for weight, variance, share in zip(weights[:0:-1], variances[:0:-1], back[::-1], strict=True):
        square = len(weight) * variance * square * share
        gradients.append(square**0.5)
    return outputs, gradients[::-1]


def write(folder):
    """Measure, and leave the numbers in a folder of figures as `signals.json`."""
    write_at_once(folder / FILE, json.dumps(measure(), indent=1) + "\n")


def read(folder="figures"):
    """Read what `write` left; a relative folder starts at the project's root."""
    return json.loads((ROOT / folder / FILE).read_text(encoding="utf-8"))
