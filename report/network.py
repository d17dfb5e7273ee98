"""The network in pictures: one image's way through it, matrix by matrix, as a diagram and as it looks inside."""

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import nn

import my_utils as mu
from common.curves import styled
from common.fashion_mnist import CLASSES
from model import Transpose
from report.figures import show_drawing
from study import notebooks

COLOURS = {"Stem": "C0", "MLP 1": "C1", "MLP 2": "C2", "Classifier": "C3"}


@dataclass
class Step:
    """A matrix on an image's way through the network.

    Attributes:
        part: of the network, one of `COLOURS`.
        operation: what made the matrix.
        symbol: what the report's formulas call it, or nothing.
        matrix: (rows, columns), an array.
    """

    part: str
    operation: str
    symbol: str
    matrix: np.ndarray


def walk(net, X):
    """Follow one image through a network in evaluation mode.

    Args:
        net: a `Net`.
        X: the image, (1, 1, 28, 28).

    Returns:
        A list of `Step`. What follows a linear layer without changing the shape, such as a ReLU, is shown with it.
    """
    mlp1, mlp2 = net.backbone.mlp1, net.backbone.mlp2
    layers = [("Stem", net.stem.linear), ("Stem", net.norm), *(("MLP 1", layer) for layer in mlp1)]
    layers += [("MLP 2", layer) for layer in mlp2]
    weights = iter(("linear", "$W_1$", "$W_2$", "$W_3$", "$W_4$"))
    with torch.no_grad():
        X = net.stem.patches(X)
        steps = [Step("Stem", "cut", "patches", X[0].numpy())]
        for part, layer in layers:
            X = layer(X)
            if isinstance(layer, nn.Linear | Transpose):
                operation = "transpose" if isinstance(layer, Transpose) else next(weights)
                steps.append(Step(part, operation, "", X[0].numpy()))
            elif isinstance(layer, nn.ReLU | nn.BatchNorm1d):
                steps[-1].operation += ", ReLU" if isinstance(layer, nn.ReLU) else ", batch norm"
                steps[-1].matrix = X[0].numpy()
        X = X.mean(dim=1, keepdim=True)
        steps.append(Step("Classifier", "mean", "", X[0].numpy()))
        steps.append(Step("Classifier", "linear", "scores", net.classifier.linear(X)[0].numpy()))
    symbols = {1: "$X$", 2: "$X^T$", 5: "$O_1$", 7: "$O_2$"}
    for place, symbol in symbols.items():
        steps[place].symbol = symbol
    return steps


def describe_walk(steps):
    """Put an image's way through the network into words, as alternative text."""
    return " ".join(f"{s.part}, {s.operation}: {len(s.matrix)} by {s.matrix.shape[1]}." for s in steps)


def show_model():
    """Display the report's network as the row of matrices that one image becomes."""
    net = mu.net_of(notebooks.defaults("figure_4")).eval()
    steps = walk(net, torch.zeros(1, 1, 28, 28))
    show_drawing(
        draw_model(steps),
        "One image on its way through the network: the matrix after each operation, rows × columns, its sides drawn "
        "in proportion to the square roots of their sizes. A batch is a stack of these.",
        f"Diagram of the network. {describe_walk(steps)}",
        "C",
    )


def draw_model(steps):
    """Draw the network as the row of matrices that one image becomes; `steps` as from `walk`."""
    gap = 11
    with styled():
        figure = Figure(figsize=(6.3, 1.35), layout="constrained")
        axes = figure.add_subplot()
        axes.set_axis_off()
        x, starts = 0, {}
        for step in steps:
            rows, columns = step.matrix.shape
            arrow = {"arrowstyle": "->", "color": "0.4", "linewidth": 0.8}
            axes.annotate("", (x - 0.8, 0), (x - gap + 0.8, 0), arrowprops=arrow)
            axes.text(x - gap / 2, 1, step.operation, ha="center", va="bottom", fontsize=6.5, rotation=90)
            width, height = columns**0.5, rows**0.5
            axes.add_patch(Rectangle((x, -height / 2), width, height, facecolor=COLOURS[step.part], alpha=0.55))
            axes.text(x + width / 2, -height / 2 - 1, f"{rows}×{columns}", ha="center", va="top", fontsize=6.5)
            axes.text(x + width / 2, height / 2 + 0.6, step.symbol, ha="center", va="bottom", fontsize=6.5)
            starts.setdefault(step.part, [x - gap, x])[1] = x + width
            x += width + gap
        for part, (start, end) in starts.items():
            axes.plot([start + 1, end], [-14, -14], color=COLOURS[part], linewidth=2.5, solid_capstyle="butt")
            axes.text((start + end) / 2, -15.5, part, ha="center", va="top", fontsize=8)
        axes.set(xlim=(-gap - 1, x - gap + 1), ylim=(-19, 13))
    return figure


def draw_network(image, patch_dims, steps):
    """Draw an image with the edges of its patches, the matrix after each step, and the class scores as bars."""
    with styled(**{"axes.grid": False}):
        figure = Figure(figsize=(10, 4.6), layout="constrained")
        panels = figure.subplots(2, 6).flatten()
        panels[0].imshow(image, cmap="gray_r")
        for edge in np.arange(0, len(image) + 1, patch_dims) - 0.5:
            panels[0].axhline(edge, color="C0", linewidth=0.8)
            panels[0].axvline(edge, color="C0", linewidth=0.8)
        panels[0].set_title("image", fontsize=9)
        panels[0].set_xlabel("28 × 28")
        panels[0].spines[:].set_visible(False)
        for axes, step in zip(panels[1:], steps, strict=False):
            rows, columns = step.matrix.shape
            axes.imshow(step.matrix, cmap="cividis", aspect="auto", interpolation="nearest")
            axes.set_box_aspect(min(4, max(1 / 8, (rows / columns) ** 0.5)))  # sides as the roots of the sizes
            axes.set_title(f"{step.part}\n{step.operation}", fontsize=9)
            axes.set_xlabel(f"{rows} × {columns}")
            axes.spines[:].set(visible=True, color=COLOURS[step.part], linewidth=2)
        for axes in panels[:-1]:
            axes.set(xticks=[], yticks=[])
        scores = steps[-1].matrix[0]
        panels[-1].tick_params(length=0)
        panels[-1].set_xticks([])
        panels[-1].barh(CLASSES, scores, color=["C0" if score == scores.max() else "0.75" for score in scores])
        panels[-1].set_yticks(range(len(CLASSES)), CLASSES, fontsize=8)
        panels[-1].invert_yaxis()
        panels[-1].set_title("scores", fontsize=9)
    return figure
