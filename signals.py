"""Why a start with N(0, 1) fails: the size of signals and gradients layer by layer, and the steps until they overflow.

For a linear layer with n inputs and weights of mean 0 and variance v, the outputs have variance n v E[x²] (He and
others 2015, arXiv:1502.01852). A ReLU then halves the mean square. Going back, a layer with m outputs gives gradients
of variance m v E[g²], which a ReLU halves again. `predict` is these two rules; `measure` looks at the network itself.
"""

import json
from itertools import islice

import numpy as np
import torch
from IPython.display import Markdown
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

import claims
import my_utils as mu
import records
from model import Net, get_possible_patches, init_weights

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
        in theory; "losses", a list of the first batches' for each seed, None for a loss that is not finite.
    """
    found = {}
    for figure in STARTS:
        runs = [_measure(claims.notebook_defaults(figure), seed) for seed in SEEDS]
        found[figure] = {
            name: np.sqrt(np.mean([np.square(r[name]) for r in runs], axis=0)).tolist() for name in SIGNALS
        }
        found[figure]["losses"] = [run["losses"] for run in runs]
    return found


def _measure(setting, seed):
    train_iter, _ = mu.load_data_fashion_mnist(setting["batch_size"], seed=seed, device="cpu")
    torch.manual_seed(seed)
    net = Net(28, *get_possible_patches(784)[setting["patching"]], setting["num_hidden"], 10)
    net.apply(lambda module: init_weights(module, setting["initializer"]))
    loss = torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(net.parameters(), lr=setting["learning_rate"])
    linears = [module for module in net.modules() if isinstance(module, torch.nn.Linear)]
    outputs = {}

    def keep(module, _, output):
        output.retain_grad()
        outputs[module] = output

    hooks = [linear.register_forward_hook(keep) for linear in linears]
    losses, found = [], {}
    for X, y in islice(train_iter, STEPS):
        optimizer.zero_grad()
        batch_loss = loss(net(X), y)
        losses.append(batch_loss.item() if batch_loss.isfinite() else None)
        if losses[-1] is None:
            break
        batch_loss.backward()
        if not found:
            found = {
                "outputs": [_root_mean_square(outputs[linear]) for linear in linears],
                "gradients": [_root_mean_square(outputs[linear].grad) for linear in linears],
            }
            pixels, scores = _root_mean_square(X), found["gradients"][-1]
            found["predicted_outputs"], found["predicted_gradients"] = predict(linears, pixels, scores)
            for hook in hooks:
                hook.remove()
        optimizer.step()
    return {**found, "losses": losses}


def _root_mean_square(values):
    return values.detach().double().square().mean().sqrt().item()


def predict(linears, pixels, scores):
    """Predict the root mean square of the outputs of the six linear layers and of the gradients of these.

    Args:
        linears: the layers, in the order of `LAYERS`.
        pixels: root mean square of the pixels.
        scores: root mean square of the gradient of the class scores.

    Returns:
        Two lists, one value a layer.
    """
    variances = [linear.weight.detach().double().var().item() for linear in linears]
    # What a layer's inputs keep of the mean square of the outputs before them: all; half after a ReLU; and after the
    # mean over the tokens, which share their last layer, the square of the mean of its ReLU's outputs, 1/π of theirs.
    kept = [1, 1, 0.5, 1, 0.5, 1 / np.pi]
    outputs, square = [], pixels**2
    for linear, variance, share in zip(linears, variances, kept, strict=True):
        square = linear.in_features * variance * square * share
        outputs.append(square**0.5)
    num_tokens = linears[2].out_features
    back = [1, 0.5, 1, 0.5, 1 / num_tokens**2]  # from each layer's outputs to those of the layer before it
    gradients, square = [scores], scores**2
    for linear, variance, share in zip(linears[:0:-1], variances[:0:-1], back[::-1], strict=True):
        square = linear.out_features * variance * square * share
        gradients.append(square**0.5)
    return outputs, gradients[::-1]


def write(folder):
    """Measure, and leave the numbers in a folder of figures as `signals.json`."""
    records.write_at_once(folder / FILE, json.dumps(measure(), indent=1) + "\n")


def read(folder="figures"):
    """Read what `write` left; a relative folder starts at the project's root."""
    return json.loads((records.ROOT / folder / FILE).read_text())


def describe(found):
    """Put into words what `measure` found about N(0, 1)."""
    values = found["figure_2"]
    ratios = np.divide(values["outputs"], values["predicted_outputs"])
    lost = [losses.index(None) + 1 for losses in values["losses"] if None in losses]
    first = np.mean([losses[0] for losses in values["losses"]])
    gradient_ratios = np.divide(values["gradients"], values["predicted_gradients"])
    text = (
        f"The class scores start with a root mean square of {values['outputs'][-1]:,.0f}, where He's start has "
        f"{found['figure_4']['outputs'][-1]:.2f} and Xavier's {found['figure_3']['outputs'][-1]:.2f}. Theory, which "
        f"takes all weights as independent, foresees the outputs of every layer within "
        f"{100 * np.abs(ratios - 1).max():.0f} %, and the gradients within a factor of {gradient_ratios.max():.1f}. "
        f"The first loss is {first:,.0f} nats where guessing costs {np.log(10):.1f}. "
    )
    if len(lost) == len(values["losses"]):
        steps = f"at step {lost[0]}" if len(set(lost)) == 1 else f"between steps {min(lost)} and {max(lost)}"
        text += (
            f"One step with such a gradient multiplies the loss; {steps} it is no longer a number, for each of "
            f"{len(lost)} seeds. From then on all weights are NaN, and every image is given the first class."
        )
    return Markdown(text)


def draw(found):
    """Draw outputs and gradients layer by layer, measured and predicted, and the losses of the first steps.

    Args:
        found: as from `measure`.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    with style.context(["petroff10", mu.STYLE, {"font.size": 8}]):
        figure = Figure(figsize=(6.3, 2.7), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        for colour, (name, label) in enumerate(STARTS.items()):
            values = found[name]
            for axes, what in ((left, "outputs"), (middle, "gradients")):
                axes.plot(values[what], "o", color=f"C{colour}", markersize=4, label=label)
                axes.plot(values[f"predicted_{what}"], color=f"C{colour}", linewidth=1)
            for losses in values["losses"]:
                finite = [loss for loss in losses if loss is not None]
                steps = range(1, len(finite) + 1)
                right.plot(steps, finite, ".-", color=f"C{colour}", linewidth=0.7, markersize=2, alpha=0.7)
        for axes, title in ((left, "outputs"), (middle, "gradients of the outputs")):
            axes.set_yscale("log")
            axes.set_xticks(range(len(LAYERS)), LAYERS, rotation=60, ha="right", fontsize=7)
            axes.set_title(title, fontsize=8)
        left.set_ylabel("root mean square")
        right.set(yscale="log", xlabel="step", ylabel="loss in nats")
        right.set_title("loss", fontsize=8)
        right.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles, labels = left.get_legend_handles_labels()
        handles.append(left.plot([], [], color="0.4", linewidth=1)[0])
        figure.legend(handles, [*labels, "predicted"], loc="outside upper center", ncols=4)
    return figure
