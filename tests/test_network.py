"""One image's way through the network, matrix by matrix, and the pictures of it."""

import numpy as np
import pytest
import torch

import my_utils as mu
from common.curves import to_svg
from common.fashion_mnist import CLASSES
from model import get_possible_patches
from report import figures, network
from study import notebooks

PATCHES = get_possible_patches(784)
# The report's sizes: P patches of K pixels, then (rows, columns) after each operation.
SHAPES = [(256, "P"), (256, 128), (256, 64), (64, 256), (64, 32), (64, 16), (1, 16), (1, 10)]


def net_of(**changes):
    return mu.net_of(notebooks.defaults("figure_9") | changes).eval()


def shapes_of(num_patches, patch_dims):
    P, K = num_patches, patch_dims**2
    return [(P, K), (P, 256), *(tuple(P if size == "P" else size for size in shape) for shape in SHAPES)]


@pytest.fixture
def image():
    return torch.rand(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("patching", range(5))
def test_an_image_is_followed_to_the_networks_own_scores(patching, image):
    for batch_norm in (False, True):
        net = net_of(patching=patching, batch_norm=batch_norm)
        steps = network.walk(net, image)
        assert [step.matrix.shape for step in steps] == shapes_of(*PATCHES[patching])
        assert torch.allclose(torch.from_numpy(steps[-1].matrix), net(image), atol=1e-5)
        assert any("batch norm" in step.operation for step in steps) == batch_norm


def test_what_batch_normalisation_and_dropout_learned_is_in_the_walk(image):
    for norm_axis in (1, 2):
        for norm_after_relu in (False, True):
            net = net_of(norm_axis=norm_axis, norm_after_relu=norm_after_relu, dropout=0.5).train()
            net(torch.rand(8, 1, 28, 28))  # moves the running statistics
            steps = network.walk(net.eval(), image)
            assert torch.allclose(torch.from_numpy(steps[-1].matrix), net(image), atol=1e-5)
            within_mlp = "ReLU, batch norm" if norm_after_relu else "batch norm, ReLU"
            assert [step.operation for step in steps if "ReLU" in step.operation] == [
                f"$W_1$, {within_mlp}",
                f"$W_3$, {within_mlp}",
            ]


def test_the_matrices_have_the_names_of_the_reports_formulas(image):
    net = net_of(batch_norm=False, dropout=0.0)
    steps = network.walk(net, image)
    assert [(step.part, step.operation, step.symbol) for step in steps] == [
        ("Stem", "cut", "patches"),
        ("Stem", "linear", "$X$"),
        ("MLP 1", "transpose", "$X^T$"),
        ("MLP 1", "$W_1$, ReLU", ""),
        ("MLP 1", "$W_2$", ""),
        ("MLP 1", "transpose", "$O_1$"),
        ("MLP 2", "$W_3$, ReLU", ""),
        ("MLP 2", "$W_4$", "$O_2$"),
        ("Classifier", "mean", ""),
        ("Classifier", "linear", "scores"),
    ]
    named = {step.symbol: step.matrix for step in steps if step.symbol}
    with torch.no_grad():
        assert np.array_equal(named["$X$"], net.stem(image)[0])
        assert np.array_equal(named["$X^T$"], named["$X$"].T)
        assert np.array_equal(steps[3].matrix, net.backbone.mlp1[:3](net.stem(image))[0])  # what the ReLU leaves
        assert np.allclose(steps[6].matrix, net.backbone.mlp2[:2](net.backbone.mlp1(net.stem(image)))[0], atol=1e-5)
        assert np.allclose(named["$O_1$"], net.backbone.mlp1(net.stem(image))[0], atol=1e-5)
        assert np.allclose(named["$O_2$"], net.backbone(net.stem(image))[0], atol=1e-5)


def test_a_walk_is_described_step_by_step(image):
    text = network.describe_walk(network.walk(net_of(batch_norm=False), image))
    assert text.startswith("Stem, cut: 4 by 196. Stem, linear: 4 by 256. MLP 1, transpose: 256 by 4.")
    assert text.endswith("Classifier, mean: 1 by 16. Classifier, linear: 1 by 10.")
    assert text.count(".") == 10


def test_the_diagram_follows_the_networks_own_shapes(monkeypatch):
    steps = network.walk(net_of(batch_norm=False), torch.zeros(1, 1, 28, 28))
    assert [step.matrix.shape for step in steps] == shapes_of(4, 14)
    displayed = []
    monkeypatch.setattr(figures, "display", lambda data, metadata, raw: displayed.append((data, metadata)))
    network.show_model()
    (data, metadata), _ = displayed
    assert metadata["image/svg+xml"]["number"] == "C"
    assert metadata["image/svg+xml"]["alt"] == f"Diagram of the network. {network.describe_walk(steps)}"
    drawing = network.draw_model(steps)
    assert data["image/svg+xml"] == to_svg(drawing)
    (axes,) = drawing.axes
    texts = [text.get_text() for text in axes.texts]
    for rows, columns in shapes_of(4, 14):
        assert f"{rows}×{columns}" in texts
    assert {"Stem", "MLP 1", "MLP 2", "Classifier", "$X$", "$O_2$", "cut", "$W_3$, ReLU"} <= set(texts)
    for box, step in zip(axes.patches, steps, strict=True):
        rows, columns = step.matrix.shape
        assert box.get_height() ** 2 == pytest.approx(rows)
        assert box.get_width() ** 2 == pytest.approx(columns)


def test_the_look_inside_has_the_image_its_patches_every_matrix_and_the_scores(image):
    for patching, (num_patches, patch_dims) in enumerate(PATCHES[:2]):
        net = net_of(patching=patching)
        steps = network.walk(net, image)
        first, *matrices, bars = network.draw_network(image[0, 0].numpy(), patch_dims, steps).axes
        assert np.array_equal(first.images[0].get_array(), image[0, 0])
        assert len(first.lines) == 2 * (num_patches**0.5 + 1)  # edges across and down
        for axes, step in zip(matrices, steps, strict=True):
            assert np.array_equal(axes.images[0].get_array(), step.matrix)
            assert axes.get_title() == f"{step.part}\n{step.operation}"
            assert axes.get_xlabel() == " × ".join(map(str, step.matrix.shape))
        scores = net(image)[0].tolist()
        assert [bar.get_width() for bar in bars.patches] == pytest.approx(scores, abs=1e-5)
        assert [label.get_text() for label in bars.get_yticklabels()] == list(CLASSES)
        colours = [bar.get_facecolor() for bar in bars.patches]
        assert colours.count(colours[scores.index(max(scores))]) == 1
