"""What `Net` computes, in an order and a layout that processors like.

`model.py` says what the network is; this says nothing new, and `tests/test_forward.py` holds the two together,
outputs and gradients, to twelve digits.

The cost of the network is the hidden matrix H of MLP 1: D · H1 = 32,768 numbers an image, eight times more than the
next largest. So H is never kept. A few images at a time, small enough for a core's cache, it is made from the P inputs
of each feature, multiplied, and made again for the gradients. Four things make that cheap:

* Only a transpose stands between W₂ and W₃, so W₃ may go first: (W₃ H) W₂ costs half of W₃ (H W₂).
* Features come first, (D, B, H1), so that every product is one plain matrix product.
* A bias, and the scale and shift of a batch normalisation, are further inputs of the product before them.
* PyTorch multiplies by MKL, which leaves half of AMD's processors idle; where there is AVX-512, oneDNN does it here.

While a net with batch normalisation trains, the statistics of H W₂ are needed, so there the products keep the report's
order. Those of Sᵀ W₁ follow from the P inputs of each feature, without H.

Sizes as in `model.py`, with H1 and H2 the hidden units of the two MLPs.
"""

import torch
from torch import nn

from model import Net, Transpose

HOOKS = ("forward", "forward_pre", "backward", "backward_pre")  # PyTorch has no public way to ask for them
BLOCK = 8  # images a core whose hidden matrix is worked on at a time: 1 MB, about one core's second-level cache
HAS_FAST_ONEDNN = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


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
    return (lambda X: fast_forward(net, X)) if can_fast_forward(net) else net


def fast_forward(net, X):
    """Compute `net(X)`, for a net that `can_fast_forward`.

    Shape:
        (B, 1, image_dims, image_dims) -> (B, num_classes)
    """
    mlp1, mlp2 = net.backbone.mlp1, net.backbone.mlp2
    linear1, linear2 = (layer for layer in mlp1 if isinstance(layer, nn.Linear))
    norm1, norm2 = [layer for layer in mlp1 if isinstance(layer, nn.BatchNorm1d)] or [None, None]
    dropout = sum(layer.p for layer in mlp1 if isinstance(layer, nn.Dropout)) if net.training else 0.0
    W2, b2, W3, b3 = linear2.weight, linear2.bias, mlp2[0].weight, mlp2[0].bias  # (T, H1), (T,), (H2, D), (H2,)

    S = net.norm(net.stem(X)).permute(1, 2, 0)  # (P, D, B)
    S, W1 = _extended_inputs(S, linear1, norm1)  # (P + 1, D, B), (P + 1, H1); or P + 2
    W1 = W1 / (1 - dropout)  # what Dropout multiplies the survivors with, moved before the ReLU

    if norm2 and net.training:
        O1, mean, var = CentredHiddenTimesWeight.apply(S, W1, W2, b2, dropout)  # (D, B, T), (D,), (D,)
        scale, _ = _scale_and_shift(norm2, mean, var, O1[0].numel())
        Q = Product.apply(W3 * scale, O1.flatten(1)).view(len(W3), *O1.shape[1:])  # (H2, B, T)
        Q = Q + (torch.mv(W3, norm2.bias) + b3)[:, None, None]
    else:
        if norm2:
            scale, shift = _scale_and_shift(norm2, norm2.running_mean, norm2.running_var)
            W3, b3 = W3 * scale, torch.mv(W3, shift) + b3
        A = WeightTimesHidden.apply(S, W1, W3, dropout)  # (H2, B, H1)
        Q = Product.apply(A.flatten(0, 1), W2.t()).view(*A.shape[:2], -1)
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
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(var * (num_values / (num_values - 1)), norm.momentum)
            norm.num_batches_tracked += 1
    scale = norm.weight * torch.rsqrt(var + norm.eps)
    return scale, norm.bias - mean * scale


def product(A, B):
    """Multiply two matrices, (m, k) and (k, n), where possible by what torch.compile takes for `nn.Linear`."""
    if not (HAS_FAST_ONEDNN and A.is_cpu and A.dtype == torch.float32):
        return torch.mm(A, B)
    if not (B.is_contiguous() or B.t().is_contiguous()):  # oneDNN has nothing quick for a matrix with gaps
        B = B.contiguous()
    return torch.ops.mkldnn._linear_pointwise(A, B.t(), None, "none", [], "")


class Product(torch.autograd.Function):
    """`product`, with gradients."""

    @staticmethod
    def forward(ctx, A, B):
        ctx.save_for_backward(A, B)
        return product(A, B)

    @staticmethod
    def backward(ctx, d_out):
        A, B = ctx.saved_tensors
        return product(d_out, B.t()), product(A.t(), d_out)


class Hidden:
    """The hidden matrix H = dropout(ReLU(Sᵀ W₁)), made anew for every pass, a block of images at a time.

    Shape:
        S (K, D, B), W₁ (K, H1); a block of H is (D · images, H1)
    """

    def __init__(self, S, W1, dropout):
        self.S, self.W1, self.dropout = S.detach(), W1.detach(), dropout
        self.block = BLOCK * torch.get_num_threads() if S.device.type == "cpu" else S.shape[2]
        self.drawn = {}  # from the start of a block to what its dropout drew, for the passes after the first

    def blocks(self):
        """Yield a slice of the batch, its inputs (K, D · images) and its H (D · images, H1)."""
        for start in range(0, self.S.shape[2], self.block):
            images = slice(start, start + self.block)
            S = self.S[:, :, images].flatten(1)
            H = product(S.t(), self.W1).relu_()
            if self.dropout:
                if start not in self.drawn:
                    self.drawn[start] = _draw_dropout(H, self.dropout)
                drawn = self.drawn[start]
                if drawn.dtype == torch.int64:
                    H.view(-1).index_fill_(0, drawn, 0)
                else:
                    H.mul_(drawn)
            yield images, S, H

    def backward(self, grad_of_block):
        """Carry the gradients of every block of H back to S and W₁.

        Args:
            grad_of_block: function of a slice of the batch and its H, which returns a new matrix, the gradient of H.
        """
        dS, dW1 = torch.empty_like(self.S), torch.zeros_like(self.W1)
        for images, S, H in self.blocks():
            dH = grad_of_block(images, H)
            torch.ops.aten.threshold_backward(dH, H, 0, grad_input=dH)  # a dropped unit is 0 as well
            dW1 += product(S, dH)
            dS[:, :, images] = product(dH, self.W1.t()).t().view(len(S), dS.shape[1], -1)
        return dS, dW1


class WeightTimesHidden(torch.autograd.Function):
    """W · H, the features of H being summed over.

    Shape:
        S (K, D, B), W₁ (K, H1), W (M, D) -> (M, B, H1)
    """

    @staticmethod
    def forward(ctx, S, W1, W, dropout):
        ctx.hidden = Hidden(S, W1, dropout)
        ctx.save_for_backward(W)
        out = S.new_empty(len(W), S.shape[2], W1.shape[1])
        for images, _, H in ctx.hidden.blocks():
            out[:, images] = product(W, H.view(W.shape[1], -1)).view(len(W), -1, H.shape[1])
        return out

    @staticmethod
    def backward(ctx, d_out):
        (W,) = ctx.saved_tensors
        dW = torch.zeros_like(W)

        def grad_of_block(images, H):
            d_block = d_out[:, images].flatten(1)  # (M, images · H1)
            dW.add_(product(H.view(W.shape[1], -1), d_block.t()).t())
            return product(W.t(), d_block).view_as(H)

        return *ctx.hidden.backward(grad_of_block), dW, None


class CentredHiddenTimesWeight(torch.autograd.Function):
    """H W₂ᵀ + b₂ without its mean over B and T; this mean, which carries no gradient; and its variance.

    Shape:
        S (K, D, B), W₁ (K, H1), W₂ (T, H1), b₂ (T,) -> (D, B, T), (D,), (D,)
    """

    @staticmethod
    def forward(ctx, S, W1, W2, b2, dropout):
        ctx.hidden = Hidden(S, W1, dropout)
        out = S.new_empty(S.shape[1], S.shape[2], len(W2))
        for images, _, H in ctx.hidden.blocks():
            out[:, images] = (product(H, W2.t()) + b2).view(len(out), -1, len(W2))
        rows = out.view(len(out), -1)
        mean = rows.mean(1)
        rows.sub_(mean[:, None])
        var = torch.linalg.vector_norm(rows, dim=1).square() / rows.shape[1]
        ctx.save_for_backward(W2, out)
        ctx.mark_non_differentiable(mean)
        return out, mean, var

    @staticmethod
    def backward(ctx, d_out, _, d_var):
        W2, out = ctx.saved_tensors
        dW2, db2 = torch.zeros_like(W2), W2.new_zeros(len(W2))
        of_mean = d_out.mean((1, 2), keepdim=True)  # (D, 1, 1)
        of_var = (d_var * (2 / out[0].numel()))[:, None, None]

        def grad_of_block(images, H):
            d_block = torch.addcmul(d_out[:, images], out[:, images], of_var).sub_(of_mean).view(len(H), -1)
            dW2.add_(product(d_block.t(), H))
            db2.add_(d_block.sum(0))
            return product(d_block, W2)

        return *ctx.hidden.backward(grad_of_block), dW2, db2, None


def _draw_dropout(H, probability):
    """Draw each unit of H with the given probability to be dropped.

    Returns:
        The positions of the dropped ones, int64, where that is quickest: if they are few, on a CPU. Otherwise a mask
        of the others in the shape of H, which has one size whatever is drawn, as a CUDA graph needs.
    """
    if H.is_cuda:
        return torch.empty(H.shape, dtype=torch.bool, device=H.device).bernoulli_(1 - probability)
    if probability > 0.1:
        return _random_mask(H.numel(), 1 - probability).view_as(H)
    return _random_positions(H.numel(), probability)


def _random_mask(num_units, probability):
    """Draw ones with the given probability, to 16 bits, and zeros, as bytes: floats times these is quick."""
    bits = torch.empty(-(-num_units // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    return (bits[:num_units] < round(probability * 2**16) - 2**15).view(torch.int8)


def _random_positions(num_positions, probability):
    """Draw each position with the given probability, by the gaps between the drawn ones."""
    expected = num_positions * probability
    gaps = torch.empty(int(expected + 10 * expected**0.5 + 10)).geometric_(probability)
    positions = gaps.long().cumsum(0) - 1
    return positions[positions < num_positions]
