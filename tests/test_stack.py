"""A stack of nets computes what each of its nets computes alone."""

import copy

import pytest
import torch
from test_forward import SIZES, images_for, random_net
from torch import nn

from fast.stack import Stack
from fast.step import TrainingStep

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = [
    {},
    {"batch_norm": True},
    {"batch_norm": True, "norm_after_relu": True},
    {"batch_norm": True, "norm_axis": 2},
    {"dropout": 0.4},  # in evaluation alone
]


def different_nets(num_nets=3, **options):
    """Build float64 nets of one architecture with other weights and other running statistics."""
    nets = []
    for number in range(num_nets):
        net = random_net(**options)
        with torch.no_grad():
            for tensor in net.state_dict().values():
                if tensor.is_floating_point():
                    tensor.mul_(1 + number / 5)
        nets.append(net)
    return nets


def assert_same_nets(nets, others, tolerance=0.0):
    for net, other in zip(nets, others, strict=True):
        torch.testing.assert_close(net.state_dict(), other.state_dict(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("images", ["of each net", "of all"])
def test_scores_gradients_and_statistics_are_those_of_the_single_nets(images, options, training):
    if training and options.get("dropout"):
        options = {}
    nets = different_nets(training=training, **options)
    stack = Stack(nets).train(training)
    X = torch.stack([images_for(net, 5) for net in nets])
    X = X[0] if images == "of all" else X
    weights = torch.randn(3, 5, SIZES[-1], dtype=X.dtype)
    scores = stack(X)
    (scores * weights).sum().backward()
    gradients = {name: parameter.grad for name, parameter in stack.one.net.named_parameters()}
    for position, net in enumerate(nets):
        alone = net(X[position] if X.dim() == 5 else X)
        torch.testing.assert_close(scores[position], alone, rtol=1e-10, atol=1e-10)
        (alone * weights[position]).sum().backward()
        for name, parameter in net.named_parameters():
            torch.testing.assert_close(gradients[name][position], parameter.grad, rtol=1e-10, atol=1e-10, msg=name)
    assert_same_nets(stack.nets(), nets, 1e-10)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_a_training_of_a_stack_is_that_of_each_net(optimizer):
    nets = different_nets(batch_norm=True)
    stack = Stack(nets)
    X = torch.stack([images_for(nets[0], 12) for _ in nets])
    y = torch.randint(SIZES[-1], (3, 12))
    steps = [TrainingStep(net, nn.CrossEntropyLoss(), optimizer(net.parameters(), 0.01)) for net in (stack, *nets)]
    for step in steps:
        step.start_epoch()
    of_stack, *of_nets = steps
    for rows in 4 * [slice(0, 5), slice(5, 12)]:
        of_stack(X[:, rows], y[:, rows])
        for position, step in enumerate(of_nets):
            step(X[position, rows], y[position, rows])
    assert_same_nets(stack.nets(), nets, 1e-10)
    losses = torch.stack([step.total_loss for step in of_nets])
    torch.testing.assert_close(of_stack.total_loss, losses, rtol=1e-10, atol=0)
    assert of_stack.total_correct.tolist() == [step.total_correct.item() for step in of_nets]


def test_every_net_of_a_stack_has_its_own_dropout():
    net = random_net(dropout=0.4)
    stack = Stack([net, net])
    X = images_for(net, 5)
    first, second = stack(X)
    assert not torch.allclose(first, second)
    assert not torch.allclose(stack(X)[0], first)
    first, second = stack.eval()(X)
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_a_stack_gives_back_its_nets_and_shares_nothing_with_them():
    nets = different_nets(batch_norm=True)
    before = copy.deepcopy(nets)
    stack = Stack(nets)
    with torch.no_grad():
        for tensors in (stack.parameters(), *(net.parameters() for net in stack.nets())):
            for tensor in tensors:
                tensor += 1
    assert_same_nets(nets, before)
    for net, old in zip(stack.nets(), before, strict=True):
        torch.testing.assert_close(net.stem.linear.weight, old.stem.linear.weight + 1, rtol=0, atol=0)
        assert type(net) is type(old)
        assert net.training


def test_a_net_is_lost_if_a_layer_holds_nothing_but_nan():
    nets = different_nets(4)
    with torch.no_grad():
        nets[1].classifier.linear.weight.fill_(torch.nan)
        nets[2].classifier.linear.weight[0] = torch.nan  # not all of it
        nets[3].stem.linear.bias.fill_(torch.nan)
    stack = Stack(nets)
    assert stack.lost().tolist() == [False, True, False, True]
    X = images_for(nets[0], 3)
    torch.testing.assert_close(stack(X)[0], nets[0](X), rtol=1e-10, atol=1e-10)  # the others go on
