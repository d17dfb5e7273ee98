"""Why N(0, 1) fails: theory against networks, and the committed measurement."""

import json

import numpy as np
import pytest
import torch
from conftest import ROOT

import signals
from model import INITIALIZERS, Net, init_weights


def root_mean_square(values):
    return values.double().square().mean().sqrt().item()


@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_theory_foresees_the_outputs_of_random_networks(initializer):
    """With many networks on random pixels, so that only the theory's own simplifications remain."""
    measured, predicted = [], []
    for seed in range(10):
        torch.manual_seed(seed)
        net = Net(28, 4, 14, [256, 128, 64, 32, 16], 10)
        net.apply(lambda module: init_weights(module, initializer))
        X = torch.rand(16, 1, 28, 28)
        linears = [module for module in net.modules() if isinstance(module, torch.nn.Linear)]
        outputs = []
        for linear in linears:
            linear.register_forward_hook(lambda *call, found=outputs: found.append(root_mean_square(call[-1])))
        with torch.no_grad():
            net(X)
        measured.append(np.square(outputs))
        predicted.append(np.square(signals.predict(linears, root_mean_square(X), 1.0)[0]))
    assert np.sqrt(np.mean(measured, axis=0) / np.mean(predicted, axis=0)) == pytest.approx(np.ones(6), abs=0.25)


def test_a_prediction_follows_the_two_rules():
    linears = [torch.nn.Linear(n, m) for n, m in ((196, 256), (4, 128), (128, 64), (256, 32), (32, 16), (16, 10))]
    for linear in linears:
        torch.nn.init.normal_(linear.weight)
    v = [linear.weight.var().item() for linear in linears]
    outputs, gradients = signals.predict(linears, pixels=0.5, scores=0.01)
    squares = [0.25 * 196 * v[0]]
    squares.append(squares[-1] * 4 * v[1])
    squares.append(squares[-1] * 128 * v[2] / 2)
    squares.append(squares[-1] * 256 * v[3])
    squares.append(squares[-1] * 32 * v[4] / 2)
    squares.append(squares[-1] * 16 * v[5] / np.pi)
    assert np.square(outputs) == pytest.approx(squares, rel=1e-5)
    back = [1e-4]
    back.append(back[-1] * 10 * v[5] / 64**2)
    back.append(back[-1] * 16 * v[4] / 2)
    back.append(back[-1] * 32 * v[3])
    back.append(back[-1] * 64 * v[2] / 2)
    back.append(back[-1] * 128 * v[1])
    assert np.square(gradients) == pytest.approx(back[::-1], rel=1e-5)


def test_the_committed_measurement_is_what_the_network_does():
    """One seed of each start again, which has to lie near the committed mean over the seeds."""
    committed = signals.read()
    for figure in signals.STARTS:
        again = signals._measure(signals.claims.notebook_defaults(figure), seed=0)
        assert again["outputs"] == pytest.approx(committed[figure]["outputs"], rel=0.5)
        assert again["predicted_outputs"] == pytest.approx(committed[figure]["predicted_outputs"], rel=0.5)
        expected = committed[figure]["losses"][0]
        assert [loss is None for loss in again["losses"]] == [loss is None for loss in expected]
        finite = [loss for loss in expected if loss is not None]
        assert again["losses"][: len(finite)] == pytest.approx(finite, rel=0.05)


def test_n01_overflows_and_the_others_do_not():
    found = signals.read()
    assert all(losses[-1] is None for losses in found["figure_2"]["losses"])
    for figure in ("figure_3", "figure_4"):
        assert all(None not in losses and losses[-1] < losses[0] for losses in found[figure]["losses"])


def test_the_words_follow_the_numbers():
    found = json.loads((ROOT / "figures" / signals.FILE).read_text())
    text = signals.describe(found).data
    assert f"root mean square of {found['figure_2']['outputs'][-1]:,.0f}" in text
    assert f"for each of {len(found['figure_2']['losses'])} seeds" in text
    found["figure_2"]["losses"][0] = [5.0, 4.0]
    assert "no longer a number" not in signals.describe(found).data


def test_the_drawing_holds_three_starts_and_every_loss():
    found = signals.read()
    left, middle, right = signals.draw(found).axes
    for axes, name in ((left, "outputs"), (middle, "gradients")):
        drawn = [list(line.get_ydata()) for line in axes.lines if line.get_linestyle() == "None"]
        assert drawn == [found[figure][name] for figure in signals.STARTS]
    assert len(right.lines) == sum(len(found[figure]["losses"]) for figure in signals.STARTS)
