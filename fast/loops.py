"""H = dropout(ReLU(W₁ᵀ S)) and its gradients, in loops that numba compiles, or by PyTorch where they don't pay.

A unit of H has few inputs, 5 in the report, and no matrix product is quick at that. A loop computes it, with bias,
ReLU and dropout, while it is in a register. Nobody needs a compiler for this: numba brings one, and keeps what it has
compiled beside this file or in the user's cache.

Dropout comes from a hash of (seed, position), so that the second time drops the same units.

Shape:
    S (B, K, D), W₁ (K, H1), and H for some images of the batch, from `first` on: (H1, images, D)
"""

from functools import cache

import torch
from numba import njit

MOST_INPUTS = 20  # that the compiler unrolls


def loops_for(S, dropout):
    """Return the two functions for S, `make` and `carry_back`, and what makes of a tensor what they take."""
    if S.is_cpu and S.dtype in (torch.float32, torch.float64) and S.shape[1] <= MOST_INPUTS:
        return *compiled_loops(S.shape[1], dropout > 0), torch.Tensor.numpy
    return make, carry_back, lambda tensor: tensor


def compiled(function):
    """Compile a function for its arguments when it is called; kept on the disk where there is a place for it."""
    # Sums may be taken in another order, so that they are taken sixteen numbers at a time.
    options = {"nogil": True, "fastmath": {"contract", "nsz", "reassoc"}}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # neither this folder nor the user's cache can be written
        return njit(**options)(function)


@compiled
def hashed(seed, position):
    """Hash a position to 32 bits (the end of MurmurHash3, as in `fast/hidden_on_gpu.py`)."""
    bits = ((position ^ seed) * 0x9E3779B1 + (seed >> 32)) & 0xFFFFFFFF
    bits = ((bits ^ (bits >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    bits = ((bits ^ (bits >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return bits ^ (bits >> 16)


@cache
def compiled_loops(num_inputs, drops):
    """Return `make` and `carry_back` for NumPy's arrays, for a number of inputs that the compiler then knows."""

    @compiled
    def make(S, W1, first, seed, dropped, H):
        zero = H.dtype.type(0)
        for image in range(H.shape[1]):
            for h in range(H.shape[0]):
                row = ((first + image) * H.shape[0] + h) * H.shape[2]
                for d in range(H.shape[2]):
                    unit = W1[0, h] * S[first + image, 0, d]
                    for k in range(1, num_inputs):
                        unit += W1[k, h] * S[first + image, k, d]
                    if unit <= 0 or (drops and hashed(seed, row + d) < dropped):  # so what is not a number stays so
                        unit = zero
                    H[h, image, d] = unit

    @compiled
    def carry_back(S, W1, first, H, dH, dS, dW1):
        zero = H.dtype.type(0)
        for image in range(H.shape[1]):
            for h in range(H.shape[0]):
                for d in range(H.shape[2]):
                    dH[h, image, d] = zero if H[h, image, d] <= 0 else dH[h, image, d]
                for k in range(num_inputs):
                    total = zero
                    for d in range(H.shape[2]):
                        total += S[first + image, k, d] * dH[h, image, d]
                        dS[first + image, k, d] += W1[k, h] * dH[h, image, d]
                    dW1[k, h] += total

    return make, carry_back


def make(S, W1, first, seed, dropped, H):
    """Fill H; a unit is dropped if its hash is below `dropped`."""
    S = S[first : first + H.shape[1]].transpose(0, 1).flatten(1)  # (K, images · D)
    H.copy_(torch.mm(W1.t(), S).relu_().view_as(H))
    if dropped:
        of_units, of_images, of_features = (torch.arange(size, device=H.device) for size in H.shape)
        rows = (first + of_images) * H.shape[0] + of_units[:, None]  # (H1, images)
        H.masked_fill_(hashed.py_func(seed, rows[:, :, None] * H.shape[2] + of_features) < dropped, 0)


def carry_back(S, W1, first, H, dH, dS, dW1):
    """Set dH to 0 where H is, and add the gradients of S and W₁ to dS and dW₁."""
    images = slice(first, first + H.shape[1])
    dH = torch.ops.aten.threshold_backward(dH, H, 0).flatten(1)  # a dropped unit is 0 as well
    dS[images] += torch.mm(W1, dH).view(len(W1), H.shape[1], -1).transpose(0, 1)
    dW1 += torch.mm(S[images].transpose(0, 1).flatten(1), dH.t())
