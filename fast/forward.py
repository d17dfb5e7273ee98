"""What `Net` computes, in an order and a layout that processors like.

`model.py` says what the network is; this says nothing new, and `tests/test_forward.py` holds the two together,
outputs and gradients, to twelve digits.

The cost of the network is the hidden matrix H of MLP 1: D · H1 = 32,768 numbers an image, eight times more than the
next largest. So H is never kept: `hidden_on_cpu` and `hidden_on_gpu` make it from the P inputs of each feature where
it is multiplied, and again for the gradients. Three things make that cheap:

* Only a transpose stands between W₂ and W₃, so W₃ may go first: (W₃ H) W₂ costs half of W₃ (H W₂).
* Features come first, (D, B, H1), so that every product is one plain matrix product.
* A bias, and the scale and shift of a batch normalisation, are further inputs of the product before them.

While a net with batch normalisation trains, the statistics of H W₂ are needed, so there the products keep the report's
order. Those of Sᵀ W₁ follow from the P inputs of each feature, without H.

Sizes as in `model.py`, with H1 and H2 the hidden units of the two MLPs.
"""

import os
from functools import partial

import torch
from torch import nn

from fast import hidden_on_cpu
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

    S = net.norm(net.stem(X)).permute(1, 2, 0)  # (P, D, B)
    S, W1 = _extended_inputs(S, linear1, norm1)  # (P + 1, D, B), (P + 1, H1); or P + 2
    W1 = W1 / (1 - dropout)  # what Dropout multiplies the survivors with, moved before the ReLU

    if norm2 and net.training:
        O1, mean, var = hidden.hidden_times_weight(S, W1, W2, b2, dropout)  # (D, B, T), (D,), (D,)
        scale, _ = _scale_and_shift(norm2, mean, var, O1[0].numel())
        Q = hidden.multiply(W3 * scale, O1.flatten(1)).view(len(W3), *O1.shape[1:])  # (H2, B, T)
        Q = Q + (torch.mv(W3, norm2.bias) + b3)[:, None, None]
    else:
        if norm2:
            scale, shift = _scale_and_shift(norm2, norm2.running_mean, norm2.running_var)
            W3, b3 = W3 * scale, torch.mv(W3, shift) + b3
        A = hidden.weight_times_hidden(S, W1, W3, dropout)  # (H2, B, H1)
        Q = hidden.multiply(A.flatten(0, 1), W2.t()).view(*A.shape[:2], -1)
        Q = Q + (torch.outer(W3.sum(1), b2) + b3[:, None])[:, None]  # (H2, B, T)
    return net.classifier(mlp2[1:](Q.permute(1, 2, 0)))  # (B, T, H2) -> (B, num_classes)


def _extended_inputs(S, linear, norm):
    """Write linear(Sᵀ), normalised by `norm` if there is one, as a product of extended inputs and weights alone.

    Shape:
        (P, D, B) -> (P + 1, D, B) and (P + 1, H1); with a norm P + 2
    """
    W, b = linear.weight.t(), linear.bias  # (P, H1), (H1,)
    if norm is None:
        return torch.cat([S, torch.ones_like(S[:1])]), torch.cat([W, b[None]])
    if norm.training:
        # The variance over B and H1: that of each hidden unit around its mean over the batch, and that of these means.
        S_mean = S.mean(2)  # (P, D)
        S_centred = (S - S_mean[:, :, None]).flatten(1)  # (P, D · B)
        unit_means = torch.mm(S_mean.t(), W) + b  # (D, H1)
        within = (torch.mm(torch.mm(W, W.t()) / len(b), S_centred) * S_centred).sum(0).view(S.shape[1:]).mean(1)
        mean, var = unit_means.mean(1), within + unit_means.var(1, unbiased=False)
    else:
        mean, var = norm.running_mean, norm.running_var
    scale, shift = _scale_and_shift(norm, mean, var, S.shape[2] * len(b))
    rows = torch.stack([scale, shift])[:, :, None].expand(2, *S.shape[1:])
    return torch.cat([S * scale[:, None], rows]), torch.cat([W, b[None], torch.ones_like(b)[None]])


def _scale_and_shift(norm, mean, var, num_values=0):
    """Write a batch normalisation as scale · x + shift, after updating its running statistics if it trains."""
    if norm.training:
        if num_values == 1:
            raise ValueError("Expected more than 1 value per channel when training")  # as PyTorch does
        with torch.no_grad():
            norm.running_mean.add_(mean - norm.running_mean, alpha=norm.momentum)
            unbiased = var * (num_values / (num_values - 1))
            norm.running_var.add_(unbiased - norm.running_var, alpha=norm.momentum)
            norm.num_batches_tracked += 1
    scale = norm.weight * torch.rsqrt(var + norm.eps)
    return scale, norm.bias - mean * scale
