import ast
import math
import re
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import model
from common.errors import UserError
from fast.forward import can_fast_forward
from model import INITIALIZERS, Net, get_possible_patches, init_weights

REPORT_SIZES = {"image_dims": 28, "num_patches": 4, "patch_dims": 14}
REPORT_HIDDEN = [256, 128, 64, 32, 16]
SMALL_HIDDEN = [7, 6, 5, 4, 3]

each_patching = pytest.mark.parametrize(("num_patches", "patch_dims"), get_possible_patches(784))
with_and_without_batch_norm = pytest.mark.parametrize("batch_norm", [False, True])


def report_net(**options):
    torch.manual_seed(0)
    return Net(**REPORT_SIZES, num_hidden=REPORT_HIDDEN, num_classes=10, **options)


def small_net(**options):
    torch.manual_seed(0)
    return Net(28, 16, 7, SMALL_HIDDEN, 3, **options)


def images(batch, image_dims=28, dtype=torch.float32):
    return torch.randn(batch, 1, image_dims, image_dims, dtype=dtype)


def linear_layers(net):
    return [module for module in net.modules() if isinstance(module, nn.Linear)]


def batch_norms(net):
    return [module for module in net.modules() if isinstance(module, nn.BatchNorm1d)]


def copies_of(modules):
    return [{name: value.clone() for name, value in module.state_dict().items()} for module in modules]


def naive_scores(parameters, X, num_patches, K, batch_norm):
    """Compute the report's formulas literally, from the parameters in the order in which data meets them."""
    parameters = iter(parameters)

    def linear(X):
        weight, bias = next(parameters), next(parameters)
        return X @ weight.T + bias

    def norm(X):
        if not batch_norm:
            return X
        weight, bias = next(parameters), next(parameters)
        mean = X.mean((0, 2), keepdim=True)
        variance = ((X - mean) ** 2).mean((0, 2), keepdim=True)
        return (X - mean) / torch.sqrt(variance + 1e-5) * weight[None, :, None] + bias[None, :, None]

    patches = torch.zeros(len(X), num_patches, K * K, dtype=X.dtype)
    for i in range(len(X)):
        patches[i] = X[i, 0].unfold(0, K, K).unfold(1, K, K).reshape(num_patches, K * K)

    features = norm(linear(patches))
    hidden1 = torch.relu(norm(linear(features.transpose(1, 2))))
    O1 = norm(linear(hidden1)).transpose(1, 2)
    hidden2 = torch.relu(norm(linear(O1)))
    O2 = norm(linear(hidden2))
    scores = linear(O2.sum(1) / O2.shape[1])
    assert next(parameters, None) is None
    return scores


def assert_close(actual, expected, scale=None):
    """Compare to twelve digits of the scale, by default of the largest expected value."""
    scale = expected.abs().max().item() if scale is None else scale
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12 * scale)


def assert_equals_naive_net(image_dims, num_patches, patch_dims, num_hidden, num_classes, batch, batch_norm):
    """Compare class scores and all gradients, for parameters that are all random."""
    torch.manual_seed(0)
    net = Net(image_dims, num_patches, patch_dims, num_hidden, num_classes, batch_norm=batch_norm).double()
    parameters = list(net.parameters())
    for parameter in parameters:
        nn.init.normal_(parameter, std=0.5)
    X = images(batch, image_dims, torch.float64)

    scores = net(X)
    expected_scores = naive_scores(parameters, X, num_patches, patch_dims, batch_norm)
    assert_close(scores, expected_scores)

    grad_scores = torch.randn_like(scores)
    expected = torch.autograd.grad(expected_scores, parameters, grad_scores)
    scale = max(gradient.abs().max().item() for gradient in expected)  # that of a bias before a norm may be zero
    for actual_gradient, expected_gradient in zip(
        torch.autograd.grad(scores, parameters, grad_scores), expected, strict=True
    ):
        assert_close(actual_gradient, expected_gradient, scale if batch_norm else None)


# Patches


def test_the_first_patching_of_a_28_by_28_image_is_that_of_the_report():
    assert get_possible_patches(784)[0] == (4, 14)


@pytest.mark.parametrize("image_dims", [2, 6, 13, 28])
def test_every_tiling_by_square_patches_is_listed_once_largest_patches_first(image_dims):
    num_pixels = image_dims**2
    tilings = [(n, K) for n in range(2, num_pixels + 1) for K in range(image_dims) if n * K**2 == num_pixels]
    assert get_possible_patches(num_pixels) == tilings


@each_patching
def test_listed_patches_tile_the_image(num_patches, patch_dims):
    image = torch.arange(784.0).view(1, 1, 28, 28)
    patches = Net(28, num_patches, patch_dims, SMALL_HIDDEN, 10).stem.patches(image)
    assert patches.shape == (1, num_patches, patch_dims**2)
    assert sorted(patches.flatten().tolist()) == list(range(784))


@pytest.mark.parametrize("num_pixels", [1, 4, 36, 784])
def test_the_whole_image_is_no_patch(num_pixels):
    assert (1, math.isqrt(num_pixels)) not in get_possible_patches(num_pixels)


@pytest.mark.parametrize("num_pixels", [2, 783, 785, 28, 0, -1, -4, -784])
def test_a_number_that_is_no_square_is_refused_by_name(num_pixels):
    with pytest.raises(UserError, match=rf"^num_pixels is {num_pixels}: .*\Z"):
        get_possible_patches(num_pixels)


# What the network computes


@with_and_without_batch_norm
@each_patching
def test_a_net_equals_the_naive_formulas_for_every_patching(num_patches, patch_dims, batch_norm):
    assert_equals_naive_net(28, num_patches, patch_dims, [9, 8, 7, 6, 5], 10, batch=3, batch_norm=batch_norm)


@with_and_without_batch_norm
def test_a_net_of_the_report_equals_the_naive_formulas(batch_norm):
    assert_equals_naive_net(28, 4, 14, REPORT_HIDDEN, 10, batch=4, batch_norm=batch_norm)


@with_and_without_batch_norm
@settings(deadline=None, max_examples=40)
@given(
    patching=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    num_hidden=st.lists(st.integers(2, 9), min_size=5, max_size=5),
    num_classes=st.integers(1, 6),
    batch=st.integers(2, 5),
)
def test_a_net_of_any_size_equals_the_naive_formulas(batch_norm, patching, num_hidden, num_classes, batch):
    patches_a_side, patch_dims = patching
    image_dims, num_patches = patches_a_side * patch_dims, patches_a_side**2
    assert_equals_naive_net(image_dims, num_patches, patch_dims, num_hidden, num_classes, batch, batch_norm)


@with_and_without_batch_norm
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@each_patching
def test_every_variant_gives_one_score_a_class(num_patches, patch_dims, dropout, batch_norm):
    net = Net(28, num_patches, patch_dims, SMALL_HIDDEN, 10, batch_norm=batch_norm, dropout=dropout)
    assert net(images(3)).shape == (3, 10)
    assert net.eval()(images(1)).shape == (1, 10)


@with_and_without_batch_norm
def test_the_layers_of_each_mlp_stand_in_the_documented_order(batch_norm):
    norm = [nn.BatchNorm1d] * batch_norm
    layers = [nn.Linear, *norm, nn.ReLU, nn.Dropout, nn.Linear, *norm]
    backbone = small_net(batch_norm=batch_norm, dropout=0.3).backbone
    assert [type(layer) for layer in backbone.mlp1[1:-1]] == layers
    assert [type(layer) for layer in backbone.mlp2] == layers


def test_the_net_of_the_report_has_68250_parameters_in_six_linear_layers():
    net = report_net()
    assert sum(parameter.numel() for parameter in net.parameters()) == 68_250
    assert [tuple(layer.weight.shape) for layer in linear_layers(net)] == [
        (256, 196),
        (128, 4),
        (64, 128),
        (32, 256),
        (16, 32),
        (10, 16),
    ]


# Initialisation


def standard_deviations(**options):
    """List (standard deviation of the weights, fan in, fan out) of every layer of a net with many weights in each."""
    torch.manual_seed(0)
    net = Net(28, 49, 4, [300, 200, 150, 120, 100], 80)
    net.apply(partial(init_weights, **options))
    return [(layer.weight.std().item(), *reversed(layer.weight.shape)) for layer in linear_layers(net)]


def test_initialised_weights_spread_as_normal_says():
    for std, _, _ in standard_deviations(initializer="normal_"):
        assert std == pytest.approx(1, rel=0.04)


def test_initialised_weights_spread_as_xavier_says():
    for std, fan_in, fan_out in standard_deviations(initializer="xavier_normal_"):
        assert std == pytest.approx(math.sqrt(2 / (fan_in + fan_out)), rel=0.04)


@pytest.mark.parametrize("options", [{}, {"initializer": "kaiming_normal_"}], ids=["by default", "by name"])
def test_initialised_weights_spread_as_he_says(options):
    for std, fan_in, _ in standard_deviations(**options):
        assert std == pytest.approx(math.sqrt(2 / fan_in), rel=0.04)


@pytest.mark.parametrize("initializer", INITIALIZERS)
def test_initialised_biases_are_zero(initializer):
    net = report_net()
    net.apply(partial(init_weights, initializer=initializer))
    assert all(torch.all(layer.bias == 0) for layer in linear_layers(net))


def test_initialisation_leaves_batch_normalisations_untouched():
    net = small_net(batch_norm=True)
    assert len(batch_norms(net)) == 5
    for norm in batch_norms(net):
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean)
    before = copies_of(batch_norms(net))
    net.apply(init_weights)
    for norm, old in zip(batch_norms(net), before, strict=True):
        torch.testing.assert_close(dict(norm.state_dict()), old, rtol=0, atol=0)


def test_an_unknown_initialiser_is_refused_with_the_choices():
    message = r"^unknown initializer 'uniform_': .* normal_, xavier_normal_, kaiming_normal_\Z"
    with pytest.raises(UserError, match=message):
        small_net().apply(partial(init_weights, initializer="uniform_"))


# What is refused


@pytest.mark.parametrize(("num_patches", "patch_dims"), [(4, 7), (5, 14), (16, 14), (1, 30), (9, 9), (0, 56)])
def test_patches_that_do_not_tile_the_image_are_refused(num_patches, patch_dims):
    message = rf"^{num_patches} patches of {patch_dims}×{patch_dims} .* 28×28 .*get_possible_patches\(784\)\Z"
    with pytest.raises(UserError, match=message):
        Net(28, num_patches, patch_dims, SMALL_HIDDEN, 10)


@pytest.mark.parametrize("shape", [(2, 1, 27, 27), (2, 1, 28, 14), (2, 3, 28, 28), (2, 28, 28), (1, 28, 28), (2, 784)])
def test_images_of_another_shape_are_refused_with_both_shapes(shape):
    message = rf"^.*{re.escape(str(shape))}.*{re.escape('(batch, 1, 28, 28)')}.*\Z"
    with pytest.raises(UserError, match=message):
        small_net()(torch.zeros(shape))


@pytest.mark.parametrize("num_hidden", [[], [256], [256, 128, 64, 32], [256, 128, 64, 32, 16, 8]])
def test_another_number_of_hidden_sizes_than_five_is_refused(num_hidden):
    message = rf"^num_hidden is {re.escape(str(num_hidden))}: expected five sizes.*\Z"
    with pytest.raises(UserError, match=message):
        Net(28, 4, 14, num_hidden, 10)


@pytest.mark.parametrize("dropout", [-0.1, 1, 1.0, 1.5, math.nan])
def test_a_dropout_that_is_no_probability_below_one_is_refused(dropout):
    with pytest.raises(UserError, match=rf"^dropout is {dropout}: .*\Z"):
        small_net(dropout=dropout)


# Training and evaluation mode


def test_training_mode_changes_running_statistics():
    net = small_net(batch_norm=True)
    before = copies_of(batch_norms(net))
    net(images(4))
    for norm, old in zip(batch_norms(net), before, strict=True):
        assert not torch.equal(norm.running_mean, old["running_mean"])
        assert not torch.equal(norm.running_var, old["running_var"])
        assert norm.num_batches_tracked == 1


def test_evaluation_mode_leaves_running_statistics_alone():
    net = small_net(batch_norm=True)
    net(images(4))
    before = copies_of(batch_norms(net))
    net.eval()(images(4))
    for norm, old in zip(batch_norms(net), before, strict=True):
        torch.testing.assert_close(dict(norm.state_dict()), old, rtol=0, atol=0)


def test_dropout_acts_in_training_mode():
    net, X = report_net(dropout=0.5), images(4)
    assert not torch.allclose(net(X), net(X))


def test_dropout_does_nothing_in_evaluation_mode():
    net, plain, X = report_net(dropout=0.5), report_net(), images(4)
    for layer, other in zip(linear_layers(net), linear_layers(plain), strict=True):
        other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(net.eval()(X), plain(X), rtol=0, atol=0)


# The module itself


def test_the_module_needs_torch_and_the_way_to_tell_a_mistake_only():
    imported = set()
    for node in ast.walk(ast.parse(Path(model.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module)
    assert imported - set(sys.stdlib_module_names) == {"torch", "common.errors"}


# Other readings of batch normalisation


@pytest.mark.parametrize("norm_after_relu", [False, True])
def test_a_norm_over_axis_2_gives_each_feature_mean_zero_and_variance_one(norm_after_relu):
    torch.manual_seed(0)
    net = Net(28, 4, 14, SMALL_HIDDEN, 10, batch_norm=True, norm_axis=2, norm_after_relu=norm_after_relu)
    outputs = []
    for norm in (net.norm, net.backbone.mlp1[1 + 1 + norm_after_relu], net.backbone.mlp2[1 + norm_after_relu]):
        norm.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    net(torch.rand(8, 1, 28, 28))
    for output in outputs:
        assert output.mean((0, 1)).abs().max() < 1e-4
        variance = output.var((0, 1), unbiased=False)
        assert ((variance - 1).abs() < 0.05).float().mean() > 0.5  # a feature that is always off has none


def test_a_norm_after_the_relu_stands_there():
    layers = [
        type(layer).__name__
        for layer in Net(28, 4, 14, SMALL_HIDDEN, 10, batch_norm=True, norm_after_relu=True).backbone.mlp2
    ]
    assert layers == ["Linear", "ReLU", "BatchNorm1d", "Linear", "BatchNorm1d"]


def test_each_reading_has_its_own_number_of_parameters():
    D, H1, T, H2, num_outputs = SMALL_HIDDEN
    plain = sum(p.numel() for p in Net(28, 4, 14, SMALL_HIDDEN, 10).parameters())
    over_rows = sum(p.numel() for p in Net(28, 4, 14, SMALL_HIDDEN, 10, batch_norm=True).parameters())
    over_features = sum(p.numel() for p in Net(28, 4, 14, SMALL_HIDDEN, 10, batch_norm=True, norm_axis=2).parameters())
    assert over_rows - plain == 2 * (4 + 2 * D + 2 * T)
    assert over_features - plain == 2 * (D + H1 + T + H2 + num_outputs)


@pytest.mark.parametrize("reading", [{"norm_axis": 2}, {"norm_after_relu": True}])
def test_the_fast_path_leaves_the_other_readings_to_the_plain_one(reading):
    assert not can_fast_forward(Net(28, 4, 14, SMALL_HIDDEN, 10, batch_norm=True, **reading))
    assert can_fast_forward(
        Net(28, 4, 14, SMALL_HIDDEN, 10, **reading)
    )  # without batch normalisation there is nothing to read


def test_an_axis_that_is_none_is_refused():
    with pytest.raises(UserError, match="norm_axis is 0: expected 1 or 2"):
        Net(28, 4, 14, SMALL_HIDDEN, 10, batch_norm=True, norm_axis=0)
