"""MLP 1 on a CPU, without keeping its hidden matrix: it is made block by block, in a core's cache.

H = dropout(ReLU(W₁ᵀ S)) has H1 · D = 32,768 numbers an image. A few images at a time, small enough for a core's
cache, it is made from the K inputs of each feature (`fast/loops.py`), multiplied, and made again for the gradients.

PyTorch multiplies by MKL, which leaves half of AMD's processors idle; where there is AVX-512, oneDNN does it here. It
would copy a first factor that isn't stored row by row. So a block of H is (H1, images, D): both its features and its
units can be summed over without a copy of anything large.

Sizes as in `fast/forward.py`. It computes on other devices as well, where `fast/hidden_on_gpu.py` can't.
"""

import torch

from fast.loops import loops_for

CAN_STACK = False  # many nets at once: `torch.vmap` would have to know its loops
BLOCK = 8  # images a core whose hidden matrix is worked on at a time: 1 MB, about one core's second-level cache
HAS_FAST_ONEDNN = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def linear(X, W, b):
    """Compute X Wᵀ + b, as `nn.Linear` does.

    Shape:
        X (..., k), W (n, k), b (n,) -> (..., n)
    """
    return Linear.apply(X.flatten(0, -2), W, b).unflatten(0, X.shape[:-1])


def mix(S, W1, W2, b2, W3, b3, dropout):
    """Compute Q = (W₂ H + b₂) W₃ᵀ + b₃ for every image.

    Shape:
        S (B, K, D), W₁ (K, H1), W₂ (T, H1), b₂ (T,), W₃ (H2, D), b₃ (H2,) -> (T, B, H2)
    """
    return Mix.apply(S, W1, W2, b2, W3, b3, dropout)


def mix_normed(S, W1, W2, b2, gamma, eps, W3, b3, dropout):
    """Compute the same with each feature of O₁ = W₂ H + b₂ normalised over B and T, and times its γ.

    Shape:
        S (B, K, D), W₁ (K, H1), W₂ (T, H1), b₂ (T,), γ (D,), W₃ (H2, D), b₃ (H2,) -> (T, B, H2)

    Returns:
        Q, and the mean (D,) and variance (D,) of O₁, which carry no gradient.
    """
    return NormedMix.apply(S, W1, W2, b2, gamma, eps, W3, b3, dropout)


def product(A, B, bias=None):
    """Multiply two matrices, (m, k) and (k, n), where possible by what torch.compile takes for `nn.Linear`."""
    if not (HAS_FAST_ONEDNN and A.is_cpu and A.dtype == torch.float32):
        return torch.mm(A, B) if bias is None else torch.addmm(bias, A, B)
    if not (B.is_contiguous() or B.t().is_contiguous()):  # oneDNN has nothing quick for a matrix with gaps
        B = B.contiguous()
    return torch.ops.mkldnn._linear_pointwise(A, B.t(), bias, "none", [], "")


class Linear(torch.autograd.Function):
    """What `linear` computes, for a matrix X."""

    @staticmethod
    def forward(ctx, X, W, b):
        ctx.save_for_backward(X, W)
        return product(X, W.t(), b)

    @staticmethod
    def backward(ctx, d_out):
        X, W = ctx.saved_tensors
        return product(d_out, W) if ctx.needs_input_grad[0] else None, product(d_out.t(), X), d_out.sum(0)


class Hidden:
    """The hidden matrix H = dropout(ReLU(W₁ᵀ S)), made anew for every pass, a block of images at a time.

    Shape:
        S (B, K, D), W₁ (K, H1); a block of H is (H1, images, D)
    """

    def __init__(self, S, W1, dropout):
        self.make, self.carry_back, self.taken = loops_for(S, dropout)
        self.S, self.W1 = S.detach().contiguous(), W1.detach().contiguous()
        self.inputs = self.taken(self.S), self.taken(self.W1)
        block = BLOCK * torch.get_num_threads() if S.is_cpu else len(S)
        self.slices = [slice(first, min(first + block, len(S))) for first in range(0, len(S), block)]
        self.seed = torch.randint(2**62, (), device=S.device) if dropout else 0
        self.dropped = round(dropout * 2**32)
        if dropout and S.is_cpu:
            self.seed = self.seed.item()

    def blocks(self):
        """Yield a slice of the batch and its H, which the next block overwrites."""
        for images in self.slices:
            if images.start == 0 or images is self.slices[-1]:
                H = self.S.new_empty(self.W1.shape[1], images.stop - images.start, self.S.shape[2])
            self.make(*self.inputs, images.start, self.seed, self.dropped, self.taken(H))
            yield images, H

    def backward(self, grad_of_block):
        """Carry the gradients of every block of H back to S and W₁.

        Args:
            grad_of_block: function of a slice of the batch and its H, which returns a new matrix, the gradient of H.
        """
        dS, dW1 = torch.zeros_like(self.S), torch.zeros_like(self.W1)
        outputs = self.taken(dS), self.taken(dW1)
        for images, H in self.blocks():
            dH = grad_of_block(images, H).view_as(H)
            self.carry_back(*self.inputs, images.start, self.taken(H), self.taken(dH), *outputs)
            del dH  # so that the next one takes its place, which is in the cache
        return dS, dW1


class Mix(torch.autograd.Function):
    """What `mix` computes, the features of H being summed over first."""

    @staticmethod
    def forward(ctx, S, W1, W2, b2, W3, b3, dropout):
        ctx.hidden = Hidden(S, W1, dropout)
        A = S.new_empty(W1.shape[1], len(S), len(W3))
        for images, H in ctx.hidden.blocks():
            A[:, images] = product(H.flatten(0, 1), W3.t()).view(len(A), -1, len(W3))
        ctx.save_for_backward(W2, b2, W3, A)
        of_biases = torch.outer(b2, W3.sum(1)) + b3  # (T, H2)
        return product(W2, A.flatten(1)).view(len(W2), *A.shape[1:]).add_(of_biases[:, None])

    @staticmethod
    def backward(ctx, dQ):
        W2, b2, W3, A = ctx.saved_tensors
        of_biases = dQ.sum(1)  # (T, H2)
        dQ = dQ.flatten(1)
        dA = product(W2.t().contiguous(), dQ).view_as(A)
        dW3 = torch.zeros_like(W3)

        def grad_of_block(images, H):
            d_block = dA[:, images].flatten(0, 1)  # (H1 · images, H2)
            dW3.add_(product(d_block.t(), H.flatten(0, 1)))
            return product(d_block, W3)

        dS, dW1 = ctx.hidden.backward(grad_of_block)
        dW2, db2 = product(dQ, A.flatten(1).t()), torch.mv(of_biases, W3.sum(1))
        dW3 += torch.mv(of_biases.t(), b2)[:, None]
        return dS, dW1, dW2, db2, dW3, of_biases.sum(0), None


class NormedMix(torch.autograd.Function):
    """What `mix_normed` computes.

    O₁ is kept less the mean of its first block, so that its variance loses no digits; "mean" is what then remains.
    The gradients that pass through mean and variance follow from small matrices alone.
    """

    @staticmethod
    def forward(ctx, S, W1, W2, b2, gamma, eps, W3, b3, dropout):
        ctx.hidden = Hidden(S, W1, dropout)
        O1 = S.new_empty(len(W2), len(S), S.shape[2])
        start, total, squares = None, S.new_zeros(S.shape[2]), S.new_zeros(S.shape[2])
        for images, H in ctx.hidden.blocks():
            block = product(W2, H.flatten(1)).view(len(W2), -1, S.shape[2])
            if start is None:
                start = block.flatten(0, 1).mean(0) + b2.mean()
            block += (b2[:, None] - start)[:, None]
            O1[:, images] = block
            total += block.flatten(0, 1).sum(0)
            squares += block.flatten(0, 1).square_().sum(0)
        mean = total / (len(S) * len(W2))
        var = squares / (len(S) * len(W2)) - mean.square()
        per_deviation = torch.rsqrt(var + eps)
        W = W3 * (gamma * per_deviation)
        ctx.save_for_backward(W2, gamma, W3, O1, mean, per_deviation, W)
        Q = product(O1.flatten(0, 1), W.t(), b3 - torch.mv(W, mean)).view(*O1.shape[:2], -1)
        mean = start + mean
        ctx.mark_non_differentiable(mean, var)
        return Q, mean, var

    @staticmethod
    def backward(ctx, dQ, *_):
        W2, gamma, W3, O1, mean, per_deviation, W = ctx.saved_tensors
        rows = dQ.flatten(0, 1)  # (T · B, H2)
        db3 = rows.sum(0)
        dW = product(rows.t(), O1.flatten(0, 1)) - torch.outer(db3, mean)
        of_scale = (dW * W3).sum(0)
        of_O1 = -of_scale * gamma * per_deviation**3 / len(rows)  # the gradient of the variance, times 2 / (T · B)
        constant = -torch.mv(W.t(), db3) / len(rows) - of_O1 * mean
        dW2, db2, W2_by_units = torch.zeros_like(W2), W2.new_zeros(len(W2)), W2.t().contiguous()

        def grad_of_block(images, H):
            d_block = product(dQ[:, images].flatten(0, 1), W, constant).view(len(W2), -1, len(mean))
            d_block = d_block.addcmul_(O1[:, images], of_O1).flatten(1)  # (T, images · D)
            dW2.add_(product(d_block, H.flatten(1).t()))
            db2.add_(d_block.sum(1))
            return product(W2_by_units, d_block)

        dS, dW1 = ctx.hidden.backward(grad_of_block)
        return dS, dW1, dW2, db2, of_scale * per_deviation, None, dW * (gamma * per_deviation), db3, None
