"""Why N(0, 1) fails: theory against networks, and the committed measurement."""

import numpy as np
import pytest
import torch

from common.parameters import INITIALIZERS
from model import Net, init_weights
from report.drawings import draw_signals
from study import signals


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
            linear.register_forward_hook(lambda *call, kept=outputs: kept.append(root_mean_square(call[-1])))
        with torch.no_grad():
            net(X)
        measured.append(np.square(outputs))
        weights = [linear.weight.detach() for linear in linears]
        predicted.append(np.square(signals.predict(weights, root_mean_square(X), 1.0)[0]))
    assert np.sqrt(np.mean(measured, axis=0) / np.mean(predicted, axis=0)) == pytest.approx(np.ones(6), abs=0.25)


def test_a_prediction_follows_the_two_rules():
    sizes = ((256, 196), (128, 4), (64, 128), (32, 256), (16, 32), (10, 16))
    weights = [torch.randn(size) for size in sizes]
    v = [weight.var().item() for weight in weights]
    outputs, gradients = signals.predict(weights, pixels=0.5, scores=0.01)
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


def test_the_committed_measurement_is_what_the_network_does(tmp_path, monkeypatch, one_thread):
    """One seed of each start again, which has to lie near the committed mean over the seeds."""
    monkeypatch.setattr(signals, "SEEDS", [0])
    signals.write(tmp_path)
    again, committed = signals.read(tmp_path), signals.read()
    for figure in signals.STARTS:
        assert again[figure]["outputs"] == pytest.approx(committed[figure]["outputs"], rel=0.5)
        predicted = committed[figure]["predicted_outputs"]
        assert again[figure]["predicted_outputs"] == pytest.approx(predicted, rel=0.5)
        (losses,), expected = again[figure]["losses"], committed[figure]["losses"][0]
        assert [loss is None for loss in losses] == [loss is None for loss in expected]
        finite = [loss for loss in expected if loss is not None]
        assert losses[: len(finite)] == pytest.approx(finite, rel=0.05)


def test_the_committed_measurement_is_complete():
    measured = signals.read()
    assert list(measured) == ["figure_2", "figure_3", "figure_4"]
    for values in measured.values():
        assert {len(values[name]) for name in signals.SIGNALS} == {len(signals.LAYERS)} == {6}
        assert len(values["losses"]) == len(signals.SEEDS)


def test_n01_overflows_and_the_others_do_not():
    measured = signals.read()
    assert all(losses[-1] is None for losses in measured["figure_2"]["losses"])
    for figure in ("figure_3", "figure_4"):
        assert all(None not in losses and losses[-1] < losses[0] for losses in measured[figure]["losses"])


def test_the_drawing_holds_three_starts_and_every_loss():
    measured = signals.read()
    left, middle, right = draw_signals(measured).axes
    for axes, name in ((left, "outputs"), (middle, "gradients")):
        drawn = [list(line.get_ydata()) for line in axes.lines if line.get_linestyle() == "None"]
        assert drawn == [measured[figure][name] for figure in signals.STARTS]
    assert len(right.lines) == sum(len(measured[figure]["losses"]) for figure in signals.STARTS)
