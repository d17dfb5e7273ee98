"""MLP 1 on a GPU, without its hidden matrix ever reaching the GPU's memory; for one net or a stack of nets.

H = dropout(ReLU(Sᵀ W₁)) has D · H1 = 32,768 numbers an image. Written as PyTorch would, it is read or written eleven
times a step, and that, not arithmetic, is what a GPU spends its time on. Here a program makes a few rows of H from
their K inputs, in registers, multiplies them at once, and makes them again for the gradients.

The products run on the GPU's matrix units, each number split into two of the units' short ones, which gives float32's
precision. Dropout comes from a hash of (seed, position), so that the second time drops the same units.
The sums over rows are added up in a fixed order: the same bits every time.

Sizes as in `fast/forward.py`. A row r of H is feature d of image b, r = d · B + b. Under `torch.vmap` N nets are
computed at once, and every tensor has N before its own axes.
"""

import torch
from torch import nn

try:
    import triton
    from triton import language as tl
except ImportError:  # a PyTorch for CPUs, or for a system that Triton doesn't know
    triton = None

CAN_STACK = True
# Of each kernel: the rows and units of H that a program holds at a time, its warps of 32 threads, and how many loads
# it has under way; the quickest on an H200, where the gradients are short of registers.
TIMES_WEIGHT = {"ROWS": 64, "num_warps": 4}
TIMES_WEIGHT_GRADIENTS = {"ROWS": 64, "UNITS": 64, "num_warps": 4, "num_stages": 1}
WEIGHT_TIMES = {"ROWS": 32, "num_warps": 2}
WEIGHT_TIMES_GRADIENTS = {"ROWS": 64, "UNITS": 64, "num_warps": 4, "num_stages": 1}
PROGRAMS = 528  # that share the rows for the gradients, all nets together: four for each processor of an H100
SMALLEST = 16  # rows or columns that the matrix units take


linear = nn.functional.linear  # for which `hidden_on_cpu` has one of its own


def can_compute(net):
    """Say whether this module computes MLP 1 of a net that `can_fast_forward`."""
    mlp1, mlp2 = net.backbone.mlp1, net.backbone.mlp2
    linear1, linear2 = (layer for layer in mlp1 if isinstance(layer, nn.Linear))
    by_second = net.training and any(isinstance(layer, nn.BatchNorm1d) for layer in mlp1)  # H meets W₂, else W₃ first
    widest = linear2.out_features if by_second else max(linear2.out_features, mlp2[0].out_features)
    fits = linear1.out_features <= 256 and widest <= 128
    return triton is not None and fits and linear1.weight.dtype == torch.float32


def mix(S, W1, W2, b2, W3, b3, dropout):
    """Compute what `hidden_on_cpu.mix` does, as (W₃ H) W₂ᵀ."""
    S = S.permute(1, 2, 0)  # (K, D, B)
    A = WeightTimesHidden.apply(S, W1, W3, _seed(S, dropout), dropout)  # (H2, B, H1)
    of_biases = torch.outer(W3.sum(1), b2) + b3[:, None]  # (H2, T)
    return (A @ W2.t() + of_biases[:, None]).permute(2, 1, 0)


def mix_normed(S, W1, W2, b2, gamma, eps, W3, b3, dropout):
    """Compute what `hidden_on_cpu.mix_normed` does."""
    S = S.permute(1, 2, 0)  # (K, D, B)
    O1, mean, var = CentredHiddenTimesWeight.apply(S, W1, W2, b2, _seed(S, dropout), dropout)  # (D, B, T), (D,), (D,)
    Q = (W3 * (gamma * torch.rsqrt(var + eps))) @ O1.flatten(1) + b3[:, None]  # (H2, B · T)
    return Q.unflatten(1, O1.shape[1:]).permute(2, 1, 0), mean, var


def _seed(S, dropout):
    """Draw the seed of one dropout, in the GPU's memory, where a CUDA graph draws another for each step."""
    if not dropout:
        return torch.zeros((), dtype=torch.int64, device=S.device)
    return torch.randint(2**62, (), device=S.device)


class CentredHiddenTimesWeight(torch.autograd.Function):
    """H W₂ᵀ + b₂ without its mean over B and T; this mean, which carries no gradient; and its variance.

    Shape:
        S (K, D, B), W₁ (K, H1), W₂ (T, H1), b₂ (T,) -> (D, B, T), (D,), (D,)
    """

    @staticmethod
    def forward(S, W1, W2, b2, seed, dropout):
        S, W1, W2, b2, seed = (tensor.contiguous() for tensor in (S, W1, W2, b2, seed))
        out = S.new_empty(*S.shape[:-3], *S.shape[-2:], W2.shape[-2])  # (D, B, T)
        num_rows = S.shape[-2] * S.shape[-1]
        grid = (triton.cdiv(num_rows, TIMES_WEIGHT["ROWS"]), seed.numel())
        sizes = _sizes(S, W1, dropout, T=W2.shape[-2]) | TIMES_WEIGHT
        _times_weight[grid](S, W1, W2, b2, seed, out, num_rows, **sizes)
        var, mean = torch.var_mean(out, (-2, -1), correction=0)
        return out.sub_(mean[..., None, None]), mean, var

    @staticmethod
    def setup_context(ctx, inputs, output):
        S, W1, W2, _, seed, ctx.dropout = inputs
        out, mean, _ = output
        ctx.mark_non_differentiable(mean)
        ctx.save_for_backward(S, W1, W2, seed, out)

    @staticmethod
    def backward(ctx, d_out, _, d_var):
        S, W1, W2, seed, out, d_out = (tensor.contiguous() for tensor in (*ctx.saved_tensors, d_out))
        (B, T), N = out.shape[-2:], seed.numel()
        of_mean, of_var = d_out.mean((-2, -1)), d_var * (2 / (B * T))  # (D,)
        num_rows = S.shape[-2] * B
        sizes = _sizes(S, W1, ctx.dropout, T=T) | TIMES_WEIGHT_GRADIENTS
        groups = triton.cdiv(W1.shape[-1], sizes["UNITS"])
        parts = min(triton.cdiv(PROGRAMS, N * groups), triton.cdiv(num_rows, sizes["ROWS"]))
        dS = S.new_empty(groups, *S.shape)
        dW1, dW2 = S.new_empty(parts, *W1.shape), S.new_empty(parts, *W2.shape)
        db2 = S.new_empty(parts, *W2.shape[:-1])
        _times_weight_gradients[(parts, groups, N)](
            *(S, W1, W2, seed, out, d_out, of_mean, of_var.contiguous(), dS, dW1, dW2, db2), num_rows, B, **sizes
        )
        return dS.sum(0), dW1.sum(0), dW2.sum(0), db2.sum(0), None, None

    @staticmethod
    def vmap(info, in_dims, *inputs):
        return CentredHiddenTimesWeight.apply(*_stacked(info, in_dims, inputs)), (0, 0, 0)


class WeightTimesHidden(torch.autograd.Function):
    """W · H, the features of H being summed over.

    Shape:
        S (K, D, B), W₁ (K, H1), W (M, D) -> (M, B, H1)
    """

    @staticmethod
    def forward(S, W1, W, seed, dropout):
        S, W1, W, seed = (tensor.contiguous() for tensor in (S, W1, W, seed))
        D, B = S.shape[-2:]
        out = S.new_empty(*W.shape[:-1], B, W1.shape[-1])
        sizes = _sizes(S, W1, dropout, T=W.shape[-2]) | WEIGHT_TIMES
        _weight_times[(B, seed.numel())](S, W1, W, seed, out, B, D=D, **sizes)
        return out

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.dropout = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx, d_out):
        S, W1, W, seed, d_out = (tensor.contiguous() for tensor in (*ctx.saved_tensors, d_out))
        (D, B), N = S.shape[-2:], seed.numel()
        sizes = _sizes(S, W1, ctx.dropout, T=W.shape[-2]) | WEIGHT_TIMES_GRADIENTS
        of_rows, of_units = triton.cdiv(D, sizes["ROWS"]), triton.cdiv(W1.shape[-1], sizes["UNITS"])
        parts = min(triton.cdiv(PROGRAMS, N * of_rows * of_units), B)
        dS = S.new_empty(of_units, *S.shape)
        dW1, dW = S.new_empty(of_rows, parts, *W1.shape), S.new_empty(of_units, parts, *W.shape)
        _weight_times_gradients[(parts, of_rows * of_units, N)](S, W1, W, seed, d_out, dS, dW1, dW, B, D=D, **sizes)
        return dS.sum(0), dW1.sum((0, 1)), dW.sum((0, 1)), None, None

    @staticmethod
    def vmap(info, in_dims, *inputs):
        return WeightTimesHidden.apply(*_stacked(info, in_dims, inputs)), 0


def _stacked(info, in_dims, inputs):
    """Bring the axis of the nets to the front of every tensor among the inputs."""
    return [
        value
        if not torch.is_tensor(value)
        else value.expand(info.batch_size, *value.shape)
        if dim is None
        else value.movedim(dim, 0)
        for value, dim in zip(inputs, in_dims, strict=True)
    ]


def _sizes(S, W1, dropout, T):
    """Return what the kernels are compiled for; T stands for M as well."""
    K, H1 = W1.shape[-2:]
    padded = {f"{name}_PAD": max(triton.next_power_of_2(n), SMALLEST) for name, n in (("K", K), ("H1", H1), ("T", T))}
    return {"K": K, "H1": H1, "T": T, **padded, "DROPPED": round(dropout * 2**32)}


if triton is not None:

    @triton.jit
    def _dot(A, B, C):
        """C + A B to float32's precision: by parts that the matrix units take as they are."""
        A_large = (A.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
        B_large = (B.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
        C = tl.dot(A - A_large, B_large, C, input_precision="tf32")
        C = tl.dot(A_large, B - B_large, C, input_precision="tf32")
        return tl.dot(A_large, B_large, C, input_precision="tf32")

    @triton.jit
    def _hidden(S, W1, seed, n, rows, units, R, K: tl.constexpr, H1: tl.constexpr, DROPPED: tl.constexpr):
        """Make the given rows and units of H: (rows, units)."""
        H = tl.zeros((rows.shape[0], units.shape[0]), tl.float32)
        for k in tl.static_range(K):
            s = tl.load(S + (n * K + k) * R + rows, mask=rows < R, other=0.0)
            w = tl.load(W1 + (n * K + k) * H1 + units, mask=units < H1, other=0.0)
            H += s[:, None] * w[None, :]
        H = tl.maximum(H, 0.0, propagate_nan=tl.PropagateNan.ALL)
        if DROPPED > 0:
            # MurmurHash3's last steps (Appleby 2011) spread each position's bits over all 32.
            key = tl.load(seed + n)
            bits = (rows[:, None] * H1 + units[None, :]).to(tl.uint32)
            bits = (bits ^ key.to(tl.uint32)) * 0x9E3779B1 + (key >> 32).to(tl.uint32)
            bits = (bits ^ (bits >> 16)) * 0x85EBCA6B
            bits = (bits ^ (bits >> 13)) * 0xC2B2AE35
            bits = bits ^ (bits >> 16)
            H = tl.where(bits >= DROPPED, H, 0.0)
        return H

    @triton.jit
    def _times_weight(S, W1, W2, b2, seed, out, R, K: tl.constexpr, H1: tl.constexpr, T: tl.constexpr,
                      K_PAD: tl.constexpr, H1_PAD: tl.constexpr, T_PAD: tl.constexpr, ROWS: tl.constexpr,
                      DROPPED: tl.constexpr):  # fmt: skip
        n = tl.program_id(1).to(tl.int64)
        rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        units, tokens = tl.arange(0, H1_PAD), tl.arange(0, T_PAD)
        H = _hidden(S, W1, seed, n, rows, units, R, K, H1, DROPPED)
        inside = (units[:, None] < H1) & (tokens[None, :] < T)
        w = tl.load(W2 + (n * T + tokens[None, :]) * H1 + units[:, None], mask=inside, other=0.0)  # (H1, T)
        b = tl.load(b2 + n * T + tokens, mask=tokens < T, other=0.0)
        rows_out = _dot(H, w, tl.zeros((ROWS, T_PAD), tl.float32)) + b[None, :]
        inside = (rows[:, None] < R) & (tokens[None, :] < T)
        tl.store(out + (n * R + rows[:, None]) * T + tokens[None, :], rows_out, mask=inside)

    @triton.jit
    def _times_weight_gradients(S, W1, W2, seed, out, d_out, of_mean, of_var, dS, dW1, dW2, db2, R, B,
                                K: tl.constexpr, H1: tl.constexpr, T: tl.constexpr, K_PAD: tl.constexpr,
                                H1_PAD: tl.constexpr, T_PAD: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr,
                                DROPPED: tl.constexpr):  # fmt: skip
        part, group, n = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
        units, tokens, inputs = group * UNITS + tl.arange(0, UNITS), tl.arange(0, T_PAD), tl.arange(0, K_PAD)
        nets = tl.num_programs(2)
        of_W1 = (units[:, None] < H1) & (inputs[None, :] < K)
        of_W2 = (tokens[:, None] < T) & (units[None, :] < H1)
        w1 = tl.load(W1 + (n * K + inputs[None, :]) * H1 + units[:, None], mask=of_W1, other=0.0)  # (UNITS, K)
        w2 = tl.load(W2 + (n * T + tokens[:, None]) * H1 + units[None, :], mask=of_W2, other=0.0)  # (T, UNITS)
        sum1 = tl.zeros((UNITS, K_PAD), tl.float32)
        sum2 = tl.zeros((T_PAD, UNITS), tl.float32)
        sum_b = tl.zeros((T_PAD,), tl.float32)
        for block in range(part, tl.cdiv(R, ROWS), tl.num_programs(0)):
            rows = block * ROWS + tl.arange(0, ROWS)
            H = _hidden(S, W1, seed, n, rows, units, R, K, H1, DROPPED)
            inside = (rows[:, None] < R) & (tokens[None, :] < T)
            place = (n * R + rows[:, None]) * T + tokens[None, :]
            dO = tl.load(d_out + place, mask=inside, other=0.0)  # (ROWS, T)
            feature = n * (R // B) + rows // B
            of_row = tl.load(of_mean + feature, mask=rows < R, other=0.0)
            factor = tl.load(of_var + feature, mask=rows < R, other=0.0)
            dO += tl.load(out + place, mask=inside, other=0.0) * factor[:, None]
            dO = tl.where(inside, dO - of_row[:, None], 0.0)
            sum_b += tl.sum(dO, 0)
            sum2 = _dot(tl.trans(dO), H, sum2)
            dH = _dot(dO, w2, tl.zeros((ROWS, UNITS), tl.float32))  # (ROWS, UNITS)
            dH = tl.where(H <= 0.0, 0.0, dH)  # a dropped unit is 0 as well
            of_S = (rows[:, None] < R) & (inputs[None, :] < K)
            s = tl.load(S + (n * K + inputs[None, :]) * R + rows[:, None], mask=of_S, other=0.0)  # (ROWS, K)
            sum1 = _dot(tl.trans(dH), s, sum1)
            ds = _dot(dH, w1, tl.zeros((ROWS, K_PAD), tl.float32))  # (ROWS, K)
            tl.store(dS + ((group * nets + n) * K + inputs[None, :]) * R + rows[:, None], ds, mask=of_S)
        end = part * nets + n
        tl.store(dW1 + (end * K + inputs[None, :]) * H1 + units[:, None], sum1, mask=of_W1)
        tl.store(db2 + end * T + tokens, sum_b, mask=(tokens < T) & (group == 0))
        tl.store(dW2 + (end * T + tokens[:, None]) * H1 + units[None, :], sum2, mask=of_W2)

    @triton.jit
    def _weight_times(S, W1, W, seed, out, B, D: tl.constexpr, K: tl.constexpr, H1: tl.constexpr, T: tl.constexpr,
                      K_PAD: tl.constexpr, H1_PAD: tl.constexpr, T_PAD: tl.constexpr, ROWS: tl.constexpr,
                      DROPPED: tl.constexpr):  # fmt: skip
        b, n = tl.program_id(0), tl.program_id(1).to(tl.int64)
        units, outputs = tl.arange(0, H1_PAD), tl.arange(0, T_PAD)
        A = tl.zeros((H1_PAD, T_PAD), tl.float32)
        for start in range(0, D, ROWS):
            d = start + tl.arange(0, ROWS)
            H = _hidden(S, W1, seed, n, d * B + b, units, D * B, K, H1, DROPPED)
            inside = (d[:, None] < D) & (outputs[None, :] < T)
            w = tl.load(W + (n * T + outputs[None, :]) * D + d[:, None], mask=inside, other=0.0)  # (ROWS, M)
            A = _dot(tl.trans(H), w, A)
        inside = (units[:, None] < H1) & (outputs[None, :] < T)
        tl.store(out + ((n * T + outputs[None, :]) * B + b) * H1 + units[:, None], A, mask=inside)

    @triton.jit
    def _weight_times_gradients(S, W1, W, seed, d_out, dS, dW1, dW, B, D: tl.constexpr, K: tl.constexpr,
                                H1: tl.constexpr, T: tl.constexpr, K_PAD: tl.constexpr, H1_PAD: tl.constexpr,
                                T_PAD: tl.constexpr, ROWS: tl.constexpr, UNITS: tl.constexpr,
                                DROPPED: tl.constexpr):  # fmt: skip
        # A program has one of the groups of rows and one of the groups of units.
        part, group, n = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
        nets = tl.num_programs(2)
        of_rows, of_units = group // tl.cdiv(H1, UNITS), group % tl.cdiv(H1, UNITS)
        units, outputs, inputs = of_units * UNITS + tl.arange(0, UNITS), tl.arange(0, T_PAD), tl.arange(0, K_PAD)
        d = of_rows * ROWS + tl.arange(0, ROWS)
        of_W1 = (units[:, None] < H1) & (inputs[None, :] < K)
        of_W = (d[:, None] < D) & (outputs[None, :] < T)
        of_A = (outputs[:, None] < T) & (units[None, :] < H1)
        of_S = (d[:, None] < D) & (inputs[None, :] < K)
        w1 = tl.load(W1 + (n * K + inputs[None, :]) * H1 + units[:, None], mask=of_W1, other=0.0)  # (UNITS, K)
        w = tl.load(W + (n * T + outputs[None, :]) * D + d[:, None], mask=of_W, other=0.0)  # (ROWS, M)
        sum1 = tl.zeros((UNITS, K_PAD), tl.float32)
        sum_w = tl.zeros((ROWS, T_PAD), tl.float32)
        for b in range(part, B, tl.num_programs(0)):
            H = _hidden(S, W1, seed, n, d * B + b, units, D * B, K, H1, DROPPED)
            dA = tl.load(d_out + ((n * T + outputs[:, None]) * B + b) * H1 + units[None, :], mask=of_A, other=0.0)
            sum_w = _dot(H, tl.trans(dA), sum_w)
            dH = _dot(w, dA, tl.zeros((ROWS, UNITS), tl.float32))  # (ROWS, UNITS)
            dH = tl.where(H <= 0.0, 0.0, dH)  # a dropped unit is 0 as well
            of_b = inputs[None, :] * (D * B) + d[:, None] * B + b
            s = tl.load(S + n * K * D * B + of_b, mask=of_S, other=0.0)  # (ROWS, K)
            sum1 = _dot(tl.trans(dH), s, sum1)
            ds = _dot(dH, w1, tl.zeros((ROWS, K_PAD), tl.float32))  # (ROWS, K)
            tl.store(dS + (of_units * nets + n) * K * D * B + of_b, ds, mask=of_S)
        place = (of_rows * tl.num_programs(0) + part) * nets + n
        tl.store(dW1 + (place * K + inputs[None, :]) * H1 + units[:, None], sum1, mask=of_W1)
        place = (of_units * tl.num_programs(0) + part) * nets + n
        tl.store(dW + (place * T + outputs[None, :]) * D + d[:, None], sum_w, mask=of_W)
