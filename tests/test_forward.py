"""The quick way through the network gives what the plain one gives: outputs, gradients, statistics, dropout."""

import copy
import math
import os
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from fast import loops
from fast.forward import can_fast_forward, fast_forward, forward_of
from fast.hidden_on_cpu import BLOCK, Hidden, mix, product
from fast.loops import MOST_INPUTS, loops_for
from model import Net

pytestmark = pytest.mark.usefixtures("one_thread")

PATCHINGS = [(6, 4, 3), (6, 9, 2), (4, 16, 1), (5, 1, 5), (5, 25, 1)]  # image_dims, num_patches, patch_dims
SIZES = (6, 4, 3, [9, 8, 7, 6, 5], 4)
REPORT_SIZES = (28, 4, 14, [256, 128, 64, 32, 16], 10)
LAYERS = ["norm", *(f"backbone.mlp1.{i}" for i in range(8)), *(f"backbone.mlp2.{i}" for i in range(6))]

with_and_without_batch_norm = pytest.mark.parametrize("batch_norm", [False, True])
in_training_and_evaluation = pytest.mark.parametrize("training", [False, True])


def random_net(*sizes, training=True, **options):
    """Build a float64 net whose biases, batch-norm parameters and running statistics are random as well."""
    torch.manual_seed(0)
    net = Net(*(sizes or SIZES), **options).double()
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            nn.init.normal_(module.bias, std=0.5)
        elif isinstance(module, nn.BatchNorm1d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.5)
            nn.init.normal_(module.running_mean, std=0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net.train(training)


def images_for(net, batch):
    return torch.randn(batch, 1, net.stem.image_dims, net.stem.image_dims, dtype=torch.float64)


def plain_forward(net, X):
    return net(X)


def scores_and_gradients(forward, net, X):
    """Compute the class scores and their gradients, named, for a fixed random weighting of the scores."""
    X = X.clone().requires_grad_()
    inputs = {"X": X, **dict(net.named_parameters())}
    scores = forward(net, X)
    grad_scores = torch.randn(scores.shape, dtype=scores.dtype, generator=torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad(scores, list(inputs.values()), grad_scores)
    return {"scores": scores.detach(), **dict(zip(inputs, gradients, strict=True))}


def assert_fast_equals_plain(net, batch):
    """Compare scores, gradients and running statistics to twelve digits of the largest entry of each.

    A batch normalisation that trains cancels gradients before it, some to nothing but rounding errors. Then the
    largest of all gradients counts too.
    """
    plain, fast, X = copy.deepcopy(net), copy.deepcopy(net), images_for(net, batch)
    expected = scores_and_gradients(plain_forward, plain, X)
    actual = scores_and_gradients(fast_forward, fast, X)
    sizes = {name: value.abs().max().item() for name, value in expected.items()}
    smallest_error = 1e-13 * max(sizes.values()) if net.training and isinstance(net.norm, nn.BatchNorm1d) else 0
    for name, value in expected.items():
        error = (actual[name] - value).abs().max().item()
        assert error <= max(1e-12 * sizes[name], smallest_error), name
    torch.testing.assert_close(dict(fast.named_buffers()), dict(plain.named_buffers()), rtol=1e-12, atol=1e-12)


# Outputs, gradients and running statistics


@with_and_without_batch_norm
@in_training_and_evaluation
@settings(deadline=None, max_examples=40)
@given(
    patching=st.sampled_from(PATCHINGS),
    num_hidden=st.lists(st.integers(3, 9), min_size=5, max_size=5),
    num_classes=st.integers(1, 5),
    batch=st.sampled_from([2, 3, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 3]),
)
def test_a_net_of_any_size_is_computed_exactly(training, batch_norm, patching, num_hidden, num_classes, batch):
    net = random_net(*patching, num_hidden, num_classes, training=training, batch_norm=batch_norm)
    assert_fast_equals_plain(net, batch)


@with_and_without_batch_norm
@in_training_and_evaluation
def test_a_net_of_the_report_is_computed_exactly(training, batch_norm):
    assert_fast_equals_plain(random_net(*REPORT_SIZES, training=training, batch_norm=batch_norm), 2 * BLOCK + 3)


@in_training_and_evaluation
def test_a_net_with_layers_of_one_unit_is_computed_exactly(training):
    for num_hidden in ([1, 1, 1, 1, 1], [1, 2, 1, 2, 1], [2, 1, 2, 1, 2]):
        assert_fast_equals_plain(random_net(6, 4, 3, num_hidden, 2, training=training), BLOCK + 1)


@pytest.mark.parametrize(("batch_norm", "training"), [(False, False), (False, True), (True, False)])
def test_a_single_image_is_computed_exactly(batch_norm, training):
    assert_fast_equals_plain(random_net(batch_norm=batch_norm, training=training), 1)


@pytest.mark.parametrize("at", range(5))
def test_a_value_that_can_not_be_normalised_is_refused_as_by_the_plain_net(at):
    num_hidden = [2] * 5
    num_hidden[at] = 1
    net = random_net(6, 4, 3, num_hidden, 2, batch_norm=True)
    for forward in (plain_forward, fast_forward):
        with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
            forward(copy.deepcopy(net), images_for(net, 1))
    assert_fast_equals_plain(net.eval(), 1)


@with_and_without_batch_norm
def test_a_net_with_dropout_is_computed_exactly_in_evaluation(batch_norm):
    assert_fast_equals_plain(random_net(batch_norm=batch_norm, dropout=0.4, training=False), BLOCK + 3)


@with_and_without_batch_norm
def test_several_training_forwards_leave_the_same_running_statistics(batch_norm):
    plain = random_net(batch_norm=batch_norm)
    fast = copy.deepcopy(plain)
    for batch in (BLOCK + 3, 2, BLOCK):
        X = images_for(plain, batch)
        plain(X)
        fast_forward(fast, X)
    torch.testing.assert_close(dict(fast.named_buffers()), dict(plain.named_buffers()), rtol=1e-12, atol=1e-12)


@with_and_without_batch_norm
def test_an_evaluation_forward_leaves_running_statistics_alone(batch_norm):
    net = random_net(batch_norm=batch_norm, training=False)
    before = copy.deepcopy(dict(net.named_buffers()))
    fast_forward(net, images_for(net, 3))
    torch.testing.assert_close(dict(net.named_buffers()), before, rtol=0, atol=0)


# Single precision

as_stored = st.sampled_from(
    [
        lambda matrix: matrix,
        lambda matrix: matrix.t().contiguous().t(),
        lambda matrix: torch.stack([matrix, matrix], 1)[:, 0],  # gaps between the rows
        lambda matrix: torch.stack([matrix, matrix], 2)[:, :, 0],  # gaps within the rows
        lambda matrix: matrix[:1].expand(matrix.shape),
    ]
)


@settings(deadline=None, max_examples=200)
@given(
    sizes=st.tuples(*3 * [st.sampled_from([1, 2, 5, 16, 33, 100])]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    store_A=as_stored,
    store_B=as_stored,
    seed=st.integers(0, 1000),
)
def test_a_product_is_right_however_its_factors_are_stored(sizes, dtype, store_A, store_B, seed):
    m, k, n = sizes
    draw = torch.Generator().manual_seed(seed)
    A, B = (
        store_A(torch.randn(m, k, dtype=dtype, generator=draw)),
        store_B(torch.randn(k, n, dtype=dtype, generator=draw)),
    )
    exact = A.double() @ B.double()
    largest_error = k * torch.finfo(dtype).eps * (A.double().abs() @ B.double().abs())
    assert torch.all((product(A, B).double() - exact).abs() <= largest_error)


def test_what_is_not_a_number_stays_so_in_a_product():
    for value in (math.inf, -math.inf, math.nan):
        A, B = torch.ones(3, 20), torch.ones(20, 40)
        A[1, 2] = value
        torch.testing.assert_close(product(A, B), torch.mm(A, B), equal_nan=True)


def test_a_product_without_onednn_is_right(monkeypatch):
    monkeypatch.setattr("fast.hidden_on_cpu.HAS_FAST_ONEDNN", False)
    A, B = torch.rand(3, 4), torch.rand(4, 5)
    torch.testing.assert_close(product(A, B), A @ B, rtol=0, atol=0)


@with_and_without_batch_norm
@in_training_and_evaluation
def test_single_precision_is_as_exact_as_that_of_the_plain_net(training, batch_norm):
    net = random_net(*REPORT_SIZES, training=training, batch_norm=batch_norm)
    X = images_for(net, 2 * BLOCK + 3)
    exact = scores_and_gradients(plain_forward, copy.deepcopy(net), X)
    single = [scores_and_gradients(f, copy.deepcopy(net).float(), X.float()) for f in (plain_forward, fast_forward)]
    # What a batch normalisation cancels is rounding errors alone, so errors count relative to the largest gradient.
    largest = max(value.abs().max().item() for value in exact.values())
    for name, value in exact.items():
        plain_error, fast_error = ((values[name] - value).abs().max().item() for values in single)
        assert fast_error <= 4 * plain_error + 1e-7 * largest, name


# Dropout


@with_and_without_batch_norm
def test_gradients_with_dropout_are_those_of_the_mask_that_was_drawn(batch_norm):
    net = random_net(batch_norm=batch_norm, dropout=0.4)
    X = images_for(net, BLOCK + 3)
    tensors = {"X": X, **{name: parameter.data for name, parameter in net.named_parameters()}}

    def with_one_mask(net, X):
        torch.manual_seed(3)
        return fast_forward(net, X)

    gradients = scores_and_gradients(with_one_mask, net, X)
    grad_scores = torch.randn(len(X), 4, dtype=X.dtype, generator=torch.Generator().manual_seed(1))
    step = 1e-6
    for name, tensor in tensors.items():
        direction = torch.randn(tensor.shape, dtype=X.dtype, generator=torch.Generator().manual_seed(2))
        values = []
        for offset in (step, -2 * step):
            tensor += offset * direction
            values.append((with_one_mask(net, X).detach() * grad_scores).sum().item())
        tensor += step * direction
        slope = (values[0] - values[1]) / (2 * step)
        assert (gradients[name] * direction).sum().item() == pytest.approx(slope, rel=1e-6, abs=1e-6), name


@with_and_without_batch_norm
def test_scores_with_dropout_spread_like_those_of_the_plain_net(batch_norm):
    net = random_net(batch_norm=batch_norm, dropout=0.4)
    num_draws = 4000
    X = images_for(net, 2).repeat(num_draws // 2, 1, 1, 1)
    with torch.no_grad():
        plain, fast = (forward(net, X).view(-1, 2, 4) for forward in (plain_forward, fast_forward))
    error = ((plain.var(0) + fast.var(0)) / len(plain)).sqrt()
    assert torch.all((plain.mean(0) - fast.mean(0)).abs() < 4 * error)
    torch.testing.assert_close(fast.std(0), plain.std(0), rtol=0.1, atol=0)


def test_several_threads_compute_a_net_of_the_report_exactly():
    torch.set_num_threads(3)
    try:
        assert_fast_equals_plain(random_net(*REPORT_SIZES), 3 * BLOCK + 3)
    finally:
        torch.set_num_threads(1)


few_and_many_inputs = pytest.mark.parametrize("num_inputs", [3, MOST_INPUTS + 1])  # made by a loop, and by PyTorch


def whole(hidden):
    """Make the hidden matrix of all images: (H1, B, D)."""
    return torch.cat([H.clone() for _, H in hidden.blocks()], 1)


@few_and_many_inputs
@pytest.mark.parametrize("dropout", [0.01, 0.1, 0.5, 0.9])
def test_dropout_zeroes_its_share_of_the_hidden_matrix_and_leaves_the_rest(dropout, num_inputs):
    torch.manual_seed(0)
    S, W1 = torch.rand(2 * BLOCK + 3, num_inputs, 200), torch.rand(num_inputs, 300)
    H, whole_H = (whole(Hidden(S, W1, p)) for p in (dropout, 0.0))
    dropped = H == 0
    torch.testing.assert_close(H[~dropped], whole_H[~dropped], rtol=0, atol=0)
    assert dropped.double().mean().item() == pytest.approx(
        dropout, abs=4 * math.sqrt(dropout * (1 - dropout) / H.numel())
    )
    for of_axis in [(0, 1), (0, 2), (1, 2)]:  # chi-square of the shares along each axis: mean 1, variance 2
        share = dropped.double().mean(of_axis)
        squares = (share - dropout) ** 2 * (H.numel() / len(share)) / (dropout * (1 - dropout))
        assert squares.mean().item() == pytest.approx(1, abs=4 * math.sqrt(2 / len(share)))


@few_and_many_inputs
def test_dropout_is_another_for_every_image_unit_and_forward_and_stays_for_the_backward(num_inputs):
    torch.manual_seed(0)
    S, W1 = torch.ones(2 * BLOCK, num_inputs, 20), torch.ones(num_inputs, 30)
    first, second = Hidden(S, W1, 0.1), Hidden(S, W1, 0.1)
    assert torch.equal(whole(first), whole(first))
    assert not torch.equal(whole(first), whole(second))
    for masks in (whole(first) == 0, (whole(first) == 0).transpose(0, 1)):
        assert len(torch.unique(masks.flatten(1), dim=0)) == len(masks)


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.tuples(st.integers(1, 19), st.sampled_from([1, 5, 20]), st.integers(1, 19), st.integers(1, BLOCK)),
    first=st.integers(0, 3),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    dropout=st.sampled_from([0.0, 0.3]),
    seed=st.integers(0, 2**62 - 1),
)
def test_the_compiled_loops_do_what_pytorch_does(sizes, first, dtype, dropout, seed):
    D, K, H1, images = sizes
    draw = torch.Generator().manual_seed(seed)
    shapes = [(first + images, K, D), (K, H1), (H1, images, D)]
    S, W1, dH = (torch.randint(-4, 5, shape, generator=draw).to(dtype) for shape in shapes)  # so that sums are exact
    results = []
    for functions in (loops_for(S, dropout), (loops.make, loops.carry_back, lambda tensor: tensor)):
        make, carry_back, taken = functions
        H, dS, dW1 = torch.empty_like(dH), torch.zeros_like(S), torch.zeros_like(W1)
        make(taken(S), taken(W1), first, seed, round(dropout * 2**32), taken(H))
        carry_back(taken(S), taken(W1), first, taken(H), taken(dH.clone()), taken(dS), taken(dW1))
        results.append((H, dS, dW1))
    for compiled, by_pytorch in zip(*results, strict=True):
        assert torch.equal(compiled, by_pytorch)


def test_what_is_not_a_number_stays_so_in_the_hidden_matrix():
    for value in (math.inf, math.nan):
        S, W1 = torch.ones(2, 3, 20), torch.ones(3, 4)
        S[1, 2, 5] = value
        H = whole(Hidden(S, W1, 0.0))
        torch.testing.assert_close(H[:, 1, 5], torch.full((4,), value), equal_nan=True)
        assert H.isfinite().sum() == H.numel() - 4


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_the_mean_product_with_dropout_is_the_product_times_the_share_kept(dropout):
    torch.manual_seed(0)
    S, W1, W3 = (torch.randn(shape, dtype=torch.float64) for shape in [(BLOCK + 3, 3, 5), (3, 4), (2, 5)])
    W2, b2, b3 = torch.eye(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64), W3.new_zeros(2)
    mean = torch.zeros(4, BLOCK + 3, 2, dtype=torch.float64)
    num_draws = 500
    for seed in range(num_draws):
        torch.manual_seed(seed)
        mean += mix(S, W1, W2, b2, W3, b3, dropout) / num_draws
    H = torch.einsum("bkd,kh->hbd", S, W1).relu()
    variance = (H**2 @ W3.t() ** 2) * dropout * (1 - dropout)
    expected = H @ W3.t() * (1 - dropout)
    assert torch.all((mean - expected).abs() <= 5 * (variance / num_draws).sqrt() + 1e-12)


def test_without_a_place_for_compiled_functions_a_net_is_computed_all_the_same(tmp_path):
    for folder in ("fast", "common"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "model.py", tmp_path)
    (tmp_path / "fast" / "__pycache__").touch()  # where a folder should be
    (tmp_path / "home").touch()
    asked = "import torch, model; from fast.forward import fast_forward; net = model.Net(6, 4, 3, [9, 8, 7, 6, 5], 4);"
    asked += "X = torch.rand(3, 1, 6, 6); torch.testing.assert_close(fast_forward(net, X), net(X))"
    homeless = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home")}
    subprocess.run([sys.executable, "-c", asked], cwd=tmp_path, env=os.environ | homeless, check=True)


# Which nets


@with_and_without_batch_norm
@in_training_and_evaluation
@pytest.mark.parametrize("sizes", [SIZES, REPORT_SIZES], ids=["small", "report"])
def test_every_net_that_model_builds_can_go_fast(sizes, training, batch_norm):
    for dropout in (0.0, 0.3):
        assert can_fast_forward(Net(*sizes, batch_norm=batch_norm, dropout=dropout).train(training))


def test_a_subclass_of_net_can_not_go_fast():
    class OtherNet(Net):
        pass

    assert not can_fast_forward(OtherNet(*SIZES))


def test_another_module_can_not_go_fast():
    for module in (nn.Linear(3, 2), nn.Sequential(Net(*SIZES)), Net(*SIZES).backbone, nn.Identity()):
        assert not can_fast_forward(module)


@with_and_without_batch_norm
def test_a_net_with_an_inserted_layer_can_not_go_fast(batch_norm):
    for mlp in ("mlp1", "mlp2"):
        for position in range(3):
            net = Net(*SIZES, batch_norm=batch_norm)
            getattr(net.backbone, mlp).insert(position, nn.Tanh())
            assert not can_fast_forward(net), (mlp, position)


def test_a_net_with_a_replaced_layer_can_not_go_fast():
    for name in LAYERS:
        net = Net(*SIZES, batch_norm=True, dropout=0.3)
        net.set_submodule(name, nn.Tanh())
        assert not can_fast_forward(net), name


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_a_hooked_net_can_not_go_fast_until_the_hook_is_gone(register):
    for name in ("", "stem", "backbone", "backbone.mlp1", "backbone.mlp1.1", "backbone.mlp2.0"):
        net = Net(*SIZES)
        hook = getattr(net.get_submodule(name), register)(lambda *_: None)
        assert not can_fast_forward(net), name
        hook.remove()
        assert can_fast_forward(net), name


@in_training_and_evaluation
def test_a_net_with_one_batch_normalisation_in_the_other_mode_can_not_go_fast(training):
    for name in ("norm", "backbone.mlp1.2", "backbone.mlp1.5", "backbone.mlp2.1", "backbone.mlp2.4"):
        net = Net(*SIZES, batch_norm=True).train(training)
        norm = net.get_submodule(name)
        assert isinstance(norm, nn.BatchNorm1d)
        norm.train(not training)
        assert not can_fast_forward(net), name


@in_training_and_evaluation
def test_the_quickest_way_through_a_net_is_the_fast_one_where_it_can_go(training, monkeypatch):
    net = random_net(training=training)
    X = images_for(net, 3)
    expected = net(X)
    other = nn.Sequential(net)
    assert forward_of(other) is other
    monkeypatch.setattr(Net, "forward", None)  # the fast way does without
    torch.testing.assert_close(forward_of(net)(X), expected, rtol=1e-12, atol=1e-12)


# Training


@with_and_without_batch_norm
@pytest.mark.parametrize(
    ("optimizer", "learning_rate"), [(torch.optim.SGD, 0.05), (torch.optim.Adam, 0.001)], ids=["SGD", "Adam"]
)
def test_a_short_training_ends_at_the_same_parameters(optimizer, learning_rate, batch_norm):
    start = random_net(batch_norm=batch_norm).float()
    X, y = torch.randn(64, 1, 6, 6), torch.randint(4, (64,))
    nets = []
    for forward in (plain_forward, fast_forward):
        net = copy.deepcopy(start)
        steps = optimizer(net.parameters(), learning_rate)
        for i in range(30):
            batch = torch.arange(i, i + 2 * BLOCK + 3) % len(X)
            steps.zero_grad()
            F.cross_entropy(forward(net, X[batch]), y[batch]).backward()
            steps.step()
        nets.append(net)
    plain, fast = nets
    for (name, parameter), other, old in zip(
        plain.named_parameters(), fast.parameters(), start.parameters(), strict=True
    ):
        moved = (parameter - old).abs().max().item()
        assert moved > 1e-3, name
        assert (parameter - other).abs().max().item() < 0.01 * moved, name
    torch.testing.assert_close(dict(fast.named_buffers()), dict(plain.named_buffers()), rtol=1e-3, atol=1e-4)
