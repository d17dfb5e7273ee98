"""Many nets of one architecture, such as one for each of several seeds, computed and trained at once.

A small net leaves most of a GPU idle. A stack of nets fills it: every weight gets an axis more, and each product of
one net is a product of all. What a net of the stack computes is what it computes alone, but for rounding and for the
random numbers of its dropout.
"""

from copy import deepcopy

import torch
from torch import nn
from torch.func import functional_call, stack_module_state

from fast.forward import can_fast_forward, fast_forward, hidden_for


class Stack(nn.Module):
    """Nets of one architecture; its parameters are theirs, with an axis for the nets before all others.

    Shape:
        images for each net (N, B, 1, image_dims, image_dims), or for all (B, 1, …) -> (N, B, num_classes)
    """

    def __init__(self, nets):
        super().__init__()
        self.num_nets = len(nets)
        self.one = _One(deepcopy(nets[0]))
        parameters, buffers = stack_module_state(nets)
        for name, stacked in (parameters | buffers).items():
            _replace(self.one.net, name, stacked.detach())

    def forward(self, X):
        tensors = dict(self.one.named_parameters()) | dict(self.one.named_buffers())
        images_axis = 0 if X.dim() == 5 else None
        return torch.vmap(self._forward_one, in_dims=(0, images_axis), randomness="different")(tensors, X)

    def _forward_one(self, tensors, X):
        return functional_call(self.one, tensors, (X,))

    def lost(self):
        """Say of each net whether a layer holds nothing but NaN, which no further step changes: booleans (N,)."""
        return torch.stack([weights.flatten(1).isnan().all(1) for weights in self.parameters()]).any(0)

    def nets(self):
        """Return the nets, each on its own, as they are now."""
        nets = []
        for position in range(self.num_nets):
            net = deepcopy(self.one.net)
            for name, stacked in self.one.net.state_dict().items():
                _replace(net, name, stacked[position].clone())
            nets.append(net)
        return nets


class _One(nn.Module):
    """What one net of a stack computes, by `fast_forward` where that goes for many at once."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, X):
        can_be_fast = can_fast_forward(self.net) and hidden_for(self.net).CAN_STACK
        return fast_forward(self.net, X) if can_be_fast else self.net(X)


def _replace(net, name, value):
    """Put another tensor in the place of a parameter or buffer."""
    *path, last = name.split(".")
    module = net.get_submodule(".".join(path))
    setattr(module, last, nn.Parameter(value) if isinstance(getattr(module, last), nn.Parameter) else value)
