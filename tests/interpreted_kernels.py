"""Checks of fast/hidden_on_gpu.py on a CPU, by Triton's interpreter; test_hidden_on_gpu.py starts them.

The interpreter has to be asked for before the first import of Triton, so these run in a process of their own.
"""

import copy

import numpy as np
import pytest
import torch
from test_forward import images_for, random_net, scores_and_gradients

from fast import hidden_on_cpu, hidden_on_gpu
from fast.forward import fast_forward, hidden_for
from fast.stack import Stack

SIZES = [  # nets, K, D, B, H1, T or M: less and more than what a program holds at a time
    (2, 5, 30, 3, 128, 12),
    (3, 18, 70, 3, 40, 33),
]
NET = (8, 4, 4, [20, 16, 12, 8, 6], 3)


def survivors(seed, num_rows, num_units, dropout):
    """Compute which units of H a seed leaves: booleans (rows, units)."""
    places = np.arange(num_rows * num_units, dtype=np.uint32)
    with np.errstate(over="ignore"):
        bits = (places ^ np.uint32(seed & 0xFFFFFFFF)) * np.uint32(0x9E3779B1) + np.uint32(seed >> 32)
        bits = (bits ^ (bits >> 16)) * np.uint32(0x85EBCA6B)
        bits = (bits ^ (bits >> 13)) * np.uint32(0xC2B2AE35)
        bits ^= bits >> 16
    return torch.from_numpy(bits >= round(dropout * 2**32)).view(num_rows, num_units)


def assert_as_exact_as_floats(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        assert (a.double() - e).norm() <= 2e-6 * e.norm()


def random_tensors(*shapes):
    torch.manual_seed(0)
    tensors = [torch.randn(*shape, requires_grad=True) for shape in shapes]
    return tensors, [tensor.detach().double().requires_grad_() for tensor in tensors]


def hidden_of(S, W1, seeds, dropout):
    """Compute H for a stack of nets as PyTorch would: (N, D, B, H1)."""
    H = torch.einsum("nkdb,nkh->ndbh", S, W1).relu()
    kept = [survivors(seed, H[0, ..., 0].numel(), H.shape[-1], dropout) for seed in seeds.tolist()]
    return H * torch.stack(kept).view(H.shape)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_hidden_times_weight(sizes, dropout):
    N, K, D, B, H1, T = sizes
    single, double = random_tensors((N, K, D, B), (N, K, H1), (N, T, H1), (N, T))
    seeds = torch.randint(2**62, (N,))
    function = hidden_on_gpu.CentredHiddenTimesWeight.apply
    out, mean, var = torch.vmap(lambda *tensors: function(*tensors, dropout))(*single, seeds)
    S, W1, W2, b2 = double
    exact = torch.einsum("ndbh,nth->ndbt", hidden_of(S, W1, seeds, dropout), W2) + b2[:, None, None]
    exact_mean, exact_var = exact.mean((2, 3)), exact.var((2, 3), correction=0)
    exact = exact - exact_mean[..., None, None]
    assert_as_exact_as_floats((out, mean, var), (exact, exact_mean, exact_var))
    assert not mean.requires_grad
    of_out, of_var = torch.randn_like(exact), torch.randn_like(exact_var)
    *actual, of_b2 = torch.autograd.grad((out, var), single, (of_out.float(), of_var.float()))
    *expected, exact_of_b2 = torch.autograd.grad((exact, exact_var), double, (of_out, of_var))
    assert_as_exact_as_floats(actual, expected)
    torch.testing.assert_close(of_b2.double(), exact_of_b2, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_weight_times_hidden(sizes, dropout):
    N, K, D, B, H1, M = sizes
    single, double = random_tensors((N, K, D, B), (N, K, H1), (N, M, D))
    seeds = torch.randint(2**62, (N,))
    out = torch.vmap(lambda *tensors: hidden_on_gpu.WeightTimesHidden.apply(*tensors, dropout))(*single, seeds)
    S, W1, W = double
    exact = torch.einsum("nmd,ndbh->nmbh", W, hidden_of(S, W1, seeds, dropout))
    of_out = torch.randn_like(exact)
    actual = torch.autograd.grad(out, single, of_out.float())
    assert_as_exact_as_floats((out, *actual), (exact, *torch.autograd.grad(exact, double, of_out)))


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_a_stack_and_a_single_net_are_computed_by_the_kernels(batch_norm, training):
    nets = [random_net(*NET, batch_norm=batch_norm, training=training).float() for _ in range(2)]
    with torch.no_grad():
        for parameter in nets[1].parameters():
            parameter.mul_(1.2)
    assert hidden_for(nets[0]) is hidden_on_gpu
    X = torch.stack([images_for(net, 4).float() for net in nets])
    exact = [copy.deepcopy(net).double() for net in nets]
    expected = [scores_and_gradients(lambda net, X: net(X), net, x.double()) for net, x in zip(exact, X, strict=True)]
    stack = Stack(nets).train(training)
    scores = stack(X)
    torch.testing.assert_close(scores, torch.stack([e["scores"] for e in expected]).float(), rtol=1e-5, atol=1e-5)
    generator = torch.Generator().manual_seed(1)
    scores.backward(torch.randn(scores[0].shape, dtype=torch.float64, generator=generator).float().expand_as(scores))
    largest = max(value.abs().max() for value in expected[0].values())
    for name, parameter in stack.one.net.named_parameters():
        gradient = torch.stack([e[name] for e in expected])
        assert (parameter.grad - gradient).abs().max() <= 1e-5 * largest, name
    for net, other in zip(stack.nets(), exact, strict=True):
        torch.testing.assert_close(dict(net.named_buffers()), _as_floats(other.named_buffers()), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(fast_forward(nets[0], X[0]), scores[0], rtol=1e-5, atol=1e-5)


def _as_floats(named):
    return {name: value.float() if value.is_floating_point() else value for name, value in named}


def test_dropout_is_another_for_every_step_and_net():
    net = random_net(*NET, dropout=0.5).float()
    X = images_for(net, 3).float()
    first, second = Stack([net, net])(X)
    assert not torch.allclose(first, second)
    assert not torch.allclose(fast_forward(net, X), fast_forward(net, X))


def test_what_is_not_a_number_stays_so_and_stays_in_its_net():
    nets = [random_net(*NET).float() for _ in range(2)]
    X = images_for(nets[0], 3).float()
    expected = nets[0](X)
    with torch.no_grad():
        nets[1].stem.linear.weight[0, 0] = torch.nan
    first, second = Stack(nets)(X)
    torch.testing.assert_close(first, expected, rtol=1e-5, atol=1e-5)
    assert second.isnan().all()


def test_what_the_kernels_can_not_compute_is_left_to_pytorch():
    assert hidden_for(random_net(*NET)) is hidden_on_cpu  # float64
    assert hidden_for(random_net(8, 4, 4, [8, 257, 8, 8, 8], 3).float()) is hidden_on_cpu
    for at in (2, 3):
        sizes = [8, 8, 8, 8, 8]
        sizes[at] = 129
        assert hidden_for(random_net(8, 4, 4, sizes, 3).float()) is hidden_on_cpu
