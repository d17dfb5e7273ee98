"""What `Net` computes, in an order and a layout that processors like.

`model.py` says what the network is; this says nothing new, and `tests/test_forward.py` holds the two together,
outputs and gradients, to twelve digits.

The cost of the network is the hidden matrix H of MLP 1: D · H1 = 32,768 numbers an image, eight times more than the
next largest. So H is never kept: `hidden_on_cpu` and `hidden_on_gpu` make it from the P inputs of each feature where
it is multiplied, and again for the gradients. Three things make that cheap:

* Only a transpose stands between W₂ and W₃, so W₃ may go first: W₂ (H W₃) costs half of (W₂ H) W₃.
* The bias of W₁, and the scale and shift of a batch normalisation before the ReLU, are further inputs of its product.
* Without batch normalisation the mean over the tokens may be taken before W₄.

While a net with batch normalisation trains, the statistics of W₂ H are needed, so there the products keep the report's
order. Those of W₁ᵀ S follow from the P inputs of each feature, without H.

Sizes as in `model.py`, with H1 and H2 the hidden units of the two MLPs.
"""

import os
from functools import partial

import torch
from torch import nn

from model import Net, Transpose

HOOKS = ("forward", "forward_pre", "backward", "backward_pre")  # PyTorch has no public way to ask for them


def can_fast_forward(net):
    """Say whether `fast_forward` computes this net: a `Net` as `model.py` builds it, unhooked, wholly in one mode."""
    if type(net) is not Net:
        return False
    mlp1, mlp2 = net.backbone.mlp1, net.backbone.mlp2
    norm = [nn.BatchNorm1d] * isinstance(net.norm, nn.BatchNorm1d)
    dropout = [nn.Dropout] * any(isinstance(layer, nn.Dropout) for layer in mlp1)
    expected = [nn.Linear, *norm, nn.ReLU, *dropout, nn.Linear, *norm]
    return (
        [type(layer) for layer in mlp1] == [Transpose, *expected, Transpose]
        and [type(layer) for layer in mlp2] == expected
        and all(module.training == net.training for module in net.modules())
        and all(module.bias is not None for module in net.modules() if isinstance(module, nn.Linear))
        and not any(getattr(module, f"_{kind}_hooks") for module in net.modules() for kind in HOOKS)
    )


def forward_of(net):
    """Return the quickest function that computes `net(X)` in the mode that the net is in now."""
    return partial(fast_forward, net) if can_fast_forward(net) else net


def hidden_for(net):
    """Return the module that computes MLP 1 where the net's weights are."""
    if net.stem.linear.weight.is_cuda or os.environ.get("TRITON_INTERPRET") == "1":
        from fast import hidden_on_gpu  # Triton: a slow import that CPUs can do without

        if hidden_on_gpu.can_compute(net):
            return hidden_on_gpu
    from fast import hidden_on_cpu  # numba: a slow import that GPUs can do without

    return hidden_on_cpu


def fast_forward(net, X):
    """Compute `net(X)`, for a net that `can_fast_forward`.

    Shape:
        (B, 1, image_dims, image_dims) -> (B, num_classes)
    """
    hidden = hidden_for(net)
    mlp1, mlp2 = net.backbone.mlp1, net.backbone.mlp2
    linear1, linear2 = (layer for layer in mlp1 if isinstance(layer, nn.Linear))
    norm1, norm2 = [layer for layer in mlp1 if isinstance(layer, nn.BatchNorm1d)] or [None, None]
    dropout = sum(layer.p for layer in mlp1 if isinstance(layer, nn.Dropout)) if net.training else 0.0
    W2, b2, W3, b3 = linear2.weight, linear2.bias, mlp2[0].weight, mlp2[0].bias  # (T, H1), (T,), (H2, D), (H2,)

    S = hidden.linear(net.stem.patches(X), net.stem.linear.weight, net.stem.linear.bias)  # (B, P, D)
    S, W1 = _extended_inputs(net.norm(S), linear1, norm1)  # (B, P + 1, D), (P + 1, H1); or P + 2
    if dropout:
        W1 = W1 / (1 - dropout)  # what Dropout multiplies the survivors with, moved before the ReLU

    if norm2 and net.training:
        b3 = torch.mv(W3, norm2.bias) + b3
        Q, mean, var = hidden.mix_normed(S, W1, W2, b2, norm2.weight, norm2.eps, W3, b3, dropout)  # (T, B, H2), …
        _track(norm2, mean, var, len(S) * len(W2))
    else:
        if norm2:
            scale, shift = _scale_and_shift(norm2, norm2.running_mean, norm2.running_var)
            W3, b3 = W3 * scale, torch.mv(W3, shift) + b3
        Q = hidden.mix(S, W1, W2, b2, W3, b3, dropout)  # (T, B, H2)

    for layer in list(mlp2)[1:]:
        if isinstance(layer, nn.Linear):
            Q = hidden.linear(Q if norm2 else Q.mean(0, keepdim=True), layer.weight, layer.bias)
        elif isinstance(layer, nn.BatchNorm1d):
            Q = layer(Q.flatten(1)[None]).view_as(Q)  # as many values for each token, in one row
        else:
            Q = layer(Q)
    return net.classifier.linear(Q.mean(0))


def _extended_inputs(S, linear, norm):
    """Write linear(Sᵀ), normalised by `norm` if there is one, as a product of extended inputs and weights alone.

    Shape:
        (B, P, D) -> (B, P + 1, D) and (P + 1, H1); with a norm P + 2
    """
    W, b = linear.weight.t(), linear.bias  # (P, H1), (H1,)
    if norm is None:
        return torch.cat([S, torch.ones_like(S[:, :1])], 1), torch.cat([W, b[None]])
    if norm.training:
        # The variance over B and H1: that of each hidden unit around its mean over the batch, and that of these means.
        S_mean = S.mean(0)  # (P, D)
        S_centred = (S - S_mean).transpose(0, 1).flatten(1)  # (P, B · D)
        unit_means = torch.mm(S_mean.t(), W) + b  # (D, H1)
        within = (torch.mm(torch.mm(W, W.t()) / len(b), S_centred) * S_centred).sum(0).view(len(S), -1).mean(0)
        mean = unit_means.mean(1)
        var = within + (unit_means - mean[:, None]).square().mean(1)
        _track(norm, mean, var, len(S) * len(b))
    else:
        mean, var = norm.running_mean, norm.running_var
    scale, shift = _scale_and_shift(norm, mean, var)
    rows = torch.stack([scale, shift]).expand(len(S), 2, -1)
    return torch.cat([S * scale, rows], 1), torch.cat([W, b[None], torch.ones_like(b)[None]])


def _scale_and_shift(norm, mean, var):
    """Write a batch normalisation as scale · x + shift."""
    scale = norm.weight * torch.rsqrt(var + norm.eps)
    return scale, norm.bias - mean * scale


@torch.no_grad()
def _track(norm, mean, var, num_values):
    """Update the running statistics of a batch normalisation that trains."""
    if num_values == 1:
        raise ValueError("Expected more than 1 value per channel when training")  # as PyTorch does
    norm.running_mean.add_(mean - norm.running_mean, alpha=norm.momentum)
    unbiased = var * (num_values / (num_values - 1))
    norm.running_var.add_(unbiased - norm.running_var, alpha=norm.momentum)
    norm.num_batches_tracked += 1
