"""The patch-mixing MLP of the coursework report, class by class in the order in which data flows through it.

It follows MLP-Mixer (Tolstikhin et al. 2021, arXiv:2105.01601) without what makes deep Mixers train: no skip
connections, no layer normalisation, no repeated blocks. After MLP 1 the second axis no longer holds the patches
but mixtures of them, called tokens here.

Sizes in comments: B batch, P patches, K side of a patch in pixels, D stem features, H hidden units, T tokens.
The report's own sizes are P = 4, K = 14, D = 256, T = 64.
"""

import math
from functools import partial

import torch
from torch import nn

from common.errors import UserError

INITIALIZERS = {
    "normal_": nn.init.normal_,
    "xavier_normal_": nn.init.xavier_normal_,
    "kaiming_normal_": nn.init.kaiming_normal_,
}


def get_possible_patches(num_pixels):
    """List the ways to cut a square image into equal square patches, largest patches first.

    The whole image as one single patch is left out: it leaves nothing to mix.

    Args:
        num_pixels: pixels of the square image, 784 for 28×28.

    Returns:
        A list of (num_patches, patch_dims) pairs, patch_dims being the side of a patch in pixels.

    Raises:
        UserError: num_pixels is not the square of a whole number.
    """
    image_dims = math.isqrt(num_pixels) if num_pixels > 0 else 0
    if image_dims == 0 or image_dims**2 != num_pixels:
        raise UserError(f"num_pixels is {num_pixels}: expected the square of a whole number, as 784 = 28 · 28")
    return [
        ((image_dims // patch_dims) ** 2, patch_dims)
        for patch_dims in range(image_dims - 1, 0, -1)
        if image_dims % patch_dims == 0
    ]


def count_multiply_adds(num_patches, patch_dims, num_hidden, num_classes):
    """Count the multiplications of one image's way through `Net`, in the order of the report's formulas."""
    D, H1, T, H2, num_outputs = num_hidden
    stem = num_patches * patch_dims**2 * D
    mlp1 = D * num_patches * H1 + D * H1 * T
    mlp2 = T * D * H2 + T * H2 * num_outputs
    return stem + mlp1 + mlp2 + num_outputs * num_classes


def init_weights(module, initializer="kaiming_normal_"):
    """Initialise a linear layer: weights from the initialiser, biases zero. For use as `net.apply(init_weights)`.

    Args:
        module: any module; only `nn.Linear` is changed.
        initializer: "normal_" for N(0, 1), "xavier_normal_" (Glorot and Bengio 2010) or
            "kaiming_normal_" (He et al. 2015), as named in `torch.nn.init`.

    Raises:
        UserError: the initialiser is none of the report's.
    """
    if initializer not in INITIALIZERS:
        raise UserError(f"unknown initializer {initializer!r}: choose one of {', '.join(INITIALIZERS)}")
    if isinstance(module, nn.Linear):
        INITIALIZERS[initializer](module.weight)
        nn.init.zeros_(module.bias)


class Transpose(nn.Module):
    """Swap the last two axes.

    Shape:
        (B, rows, columns) -> (B, columns, rows)
    """

    def forward(self, X):
        return X.transpose(-2, -1)


class Stem(nn.Module):
    """Cut every image into patches and turn each patch into a feature vector, by one linear layer for all patches.

    Shape:
        (B, 1, image_dims, image_dims) -> (B, P, D)

    Raises:
        UserError: the patches don't tile the image, or an image has another size.
    """

    def __init__(self, image_dims, num_patches, patch_dims, num_features):
        super().__init__()
        if patch_dims < 1 or image_dims % patch_dims or num_patches != (image_dims // patch_dims) ** 2:
            raise UserError(
                f"{num_patches} patches of {patch_dims}×{patch_dims} pixels don't tile a {image_dims}×{image_dims} "
                f"image: choose one of get_possible_patches({image_dims**2})"
            )
        self.image_dims = image_dims
        self.patch_dims = patch_dims
        self.linear = nn.Linear(patch_dims**2, num_features)

    def patches(self, X):
        """Cut images into their patches, row by row.

        Shape:
            (B, 1, image_dims, image_dims) -> (B, P, K²)
        """
        if X.shape[1:] != (1, self.image_dims, self.image_dims):
            raise UserError(
                f"images of shape {tuple(X.shape)}: expected (batch, 1, {self.image_dims}, {self.image_dims})"
            )
        K = self.patch_dims
        X = X.squeeze(1).unfold(1, K, K).unfold(2, K, K)  # (B, √P, √P, K, K)
        return X.flatten(3).flatten(1, 2)  # (B, P, K²)

    def forward(self, X):
        return self.linear(self.patches(X))  # (B, P, D)


class FeatureNorm(nn.BatchNorm1d):
    """`BatchNorm1d` over the last axis of (B, rows, features) instead of the one in the middle."""

    def forward(self, X):
        return super().forward(X.flatten(0, 1)).unflatten(0, X.shape[:2])  # every row is one more of the batch


def norm(num_rows, num_features, norm_axis):
    """Build the batch normalisation of (B, num_rows, num_features) over axis 1 or axis 2."""
    return nn.BatchNorm1d(num_rows) if norm_axis == 1 else FeatureNorm(num_features)


def mlp(num_inputs, num_hidden, num_outputs, norm_of, dropout, norm_after_relu):
    """Build the layers that both MLPs share: linear, ReLU, linear, on the last axis of (B, rows, num_inputs).

    The report doesn't say where `BatchNorm1d` and `Dropout` stood. By default a `BatchNorm1d` follows each linear
    layer and normalises axis 1, since that is what `BatchNorm1d` does with a three-dimensional input when one just
    writes it between the layers; a `Dropout` follows the ReLU, its usual place.

    Args:
        norm_of: function of the number of features, which builds the normalisation of (B, rows, features), or None.
    """
    layers = [nn.Linear(num_inputs, num_hidden)]
    if norm_of and not norm_after_relu:
        layers.append(norm_of(num_hidden))
    layers.append(nn.ReLU())
    if norm_of and norm_after_relu:
        layers.append(norm_of(num_hidden))
    if dropout:
        layers.append(nn.Dropout(dropout))
    layers.append(nn.Linear(num_hidden, num_outputs))
    if norm_of:
        layers.append(norm_of(num_outputs))
    return layers


class Backbone(nn.Module):
    """Mix the patches of every feature (MLP 1), then the features of every token (MLP 2).

    O₁ = (ReLU(Xᵀ W₁) W₂)ᵀ and O₂ = ReLU(O₁ W₃) W₄, each product with a bias.

    Shape:
        X (B, P, D) -> O₂ (B, T, num_hidden[4]), with T = num_hidden[2]
    """

    def __init__(self, num_patches, num_hidden, *, batch_norm=False, dropout=0.0, norm_axis=1, norm_after_relu=False):
        super().__init__()
        D, H1, T, H2, num_outputs = num_hidden
        norm1 = partial(norm, D, norm_axis=norm_axis) if batch_norm else None  # MLP 1 has a row for each feature
        norm2 = partial(norm, T, norm_axis=norm_axis) if batch_norm else None  # MLP 2 one for each token
        layers1 = mlp(num_patches, H1, T, norm1, dropout, norm_after_relu)
        layers2 = mlp(D, H2, num_outputs, norm2, dropout, norm_after_relu)
        self.mlp1 = nn.Sequential(Transpose(), *layers1, Transpose())
        self.mlp2 = nn.Sequential(*layers2)

    def forward(self, X):
        O1 = self.mlp1(X)  # (B, P, D) -> (B, T, D)
        return self.mlp2(O1)  # (B, T, num_hidden[4])


class Classifier(nn.Module):
    """Average the feature vectors of each image and score the classes from the average.

    Shape:
        (B, T, num_features) -> (B, num_classes)
    """

    def __init__(self, num_features, num_classes):
        super().__init__()
        self.linear = nn.Linear(num_features, num_classes)

    def forward(self, O2):
        return self.linear(torch.mean(O2, dim=1))  # (B, num_features) -> (B, num_classes)


class Net(nn.Module):
    """The report's network: Stem, Backbone, Classifier.

    Args:
        image_dims: side of the square images, in pixels.
        num_patches: patches an image is cut into.
        patch_dims: side of a patch, in pixels.
        num_hidden: outputs of the five linear layers before the classifier: stem, two of MLP 1, two of MLP 2.
        num_classes: class scores.
        batch_norm: put `BatchNorm1d` after every linear layer but the classifier's.
        dropout: probability of `Dropout` after the ReLU of each MLP; 0 leaves it out.
        norm_axis: the axis of (B, rows, features) that `BatchNorm1d` normalises: 1, or 2 for the features.
        norm_after_relu: put the `BatchNorm1d` between the two layers of an MLP after its ReLU instead of before.

    Shape:
        (B, 1, image_dims, image_dims) -> (B, num_classes)

    Raises:
        UserError: the patches don't tile the image, num_hidden hasn't five sizes, dropout isn't in [0, 1), or
            norm_axis is neither 1 nor 2.
    """

    def __init__(
        self,
        image_dims,
        num_patches,
        patch_dims,
        num_hidden,
        num_classes,
        *,
        batch_norm=False,
        dropout=0.0,
        norm_axis=1,
        norm_after_relu=False,
    ):
        super().__init__()
        if len(num_hidden) != 5:
            raise UserError(f"num_hidden is {num_hidden}: expected five sizes, as [256, 128, 64, 32, 16]")
        if not 0 <= dropout < 1:
            raise UserError(f"dropout is {dropout}: expected a probability from 0 to below 1")
        if norm_axis not in (1, 2):
            raise UserError(f"norm_axis is {norm_axis}: expected 1 or 2")
        self.stem = Stem(image_dims, num_patches, patch_dims, num_hidden[0])
        self.norm = norm(num_patches, num_hidden[0], norm_axis) if batch_norm else nn.Identity()
        self.backbone = Backbone(
            num_patches,
            num_hidden,
            batch_norm=batch_norm,
            dropout=dropout,
            norm_axis=norm_axis,
            norm_after_relu=norm_after_relu,
        )
        self.classifier = Classifier(num_hidden[-1], num_classes)

    def forward(self, X):
        X = self.stem(X)  # (B, P, D)
        O2 = self.backbone(self.norm(X))  # (B, T, num_hidden[4])
        return self.classifier(O2)  # (B, num_classes)
