"""MLP 1 on a CPU, without keeping its hidden matrix: it is made block by block, in a core's cache.

H = dropout(ReLU(Sᵀ W₁)) has D · H1 = 32,768 numbers an image. A few images at a time, small enough for a core's
cache, it is made from the K inputs of each feature, multiplied, and made again for the gradients. PyTorch multiplies
by MKL, which leaves half of AMD's processors idle; where there is AVX-512, oneDNN does it here.

Sizes as in `fast/forward.py`. It computes on other devices as well, where `fast/hidden_on_gpu.py` can't.
"""

import torch

BLOCK = 8  # images a core whose hidden matrix is worked on at a time: 1 MB, about one core's second-level cache
HAS_FAST_ONEDNN = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def multiply(A, B):
    """Multiply two matrices, (m, k) and (k, n), with gradients."""
    return Product.apply(A, B)


def weight_times_hidden(S, W1, W, dropout):
    """Compute W · H, the features of H being summed over.

    Shape:
        S (K, D, B), W₁ (K, H1), W (M, D) -> (M, B, H1)
    """
    return WeightTimesHidden.apply(S, W1, W, dropout)


def hidden_times_weight(S, W1, W2, b2, dropout):
    """Compute H W₂ᵀ + b₂ without its mean over B and T; this mean, which carries no gradient; and its variance.

    Shape:
        S (K, D, B), W₁ (K, H1), W₂ (T, H1), b₂ (T,) -> (D, B, T), (D,), (D,)
    """
    return CentredHiddenTimesWeight.apply(S, W1, W2, b2, dropout)


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
    """What `weight_times_hidden` computes."""

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
    """What `hidden_times_weight` computes."""

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
