"""Changes of training images, for a whole batch at once: what torchvision's transforms of these names do to one.

torchvision draws once a call, so that a batch would have to be changed image by image. Here a change is a function of
images (batch, 1, side, side) and uniform random numbers in [0, 1), (batch, as many as its `NUMBERS` says): the same
numbers make the same change on every device.
"""

import math

import torch

from common.errors import UserError

SHIFT = 0.1  # of the image's side, at most, in each direction
ERASED = (0.02, 0.33)  # share of the image's area, torchvision's default
RATIO = (0.3, 3.3)  # height to width of what is erased, torchvision's default
TRIES = 3  # to find a rectangle that fits: all fail for less than one image in a million
NUMBERS = {"RandomAffine": 2, "RandomHorizontalFlip": 1, "RandomErasing": 3 + 2 * TRIES}


def random_affine(X, numbers):
    """Shift each image by up to a tenth of its side across and down, in whole pixels; what comes in is black."""
    side = X.shape[-1]
    across, down = ((2 * numbers - 1) * SHIFT * side).round().long().unbind(1)  # (batch,) each
    positions = torch.arange(side, device=X.device)
    for axis, shift, target in ((-1, across, positions), (-2, down, positions[:, None])):
        source = target - shift[:, None, None, None]  # (batch, 1, 1, side) across, (batch, 1, side, 1) down
        inside = (source >= 0) & (source < side)
        X = X.gather(axis, source.clamp(0, side - 1).expand_as(X)) * inside
    return X


def random_horizontal_flip(X, numbers):
    """Mirror each image with probability one half."""
    return torch.where(numbers[:, :, None, None] < 0.5, X.flip(-1), X)


def random_erasing(X, numbers):
    """With probability one half, paint a rectangle black: 2 to 33 % of the image, anywhere in it."""
    side = X.shape[-1]
    chance, top, left, *tries = numbers.unbind(1)  # (batch,) each
    height = width = torch.full_like(chance, side)
    for area, ratio in zip(tries[::2], tries[1::2], strict=True):
        area = side**2 * _between(*ERASED, area)
        ratio = torch.exp(_between(*map(math.log, RATIO), ratio))
        none_yet = (height >= side) | (width >= side)
        height = torch.where(none_yet, (area * ratio).sqrt().round(), height)
        width = torch.where(none_yet, (area / ratio).sqrt().round(), width)
    fits = (chance < 0.5) & (height < side) & (width < side)
    positions = torch.arange(side, device=X.device)
    inside = []
    for place, size in ((top, height), (left, width)):
        start = (place * (side - size + 1)).floor()
        inside.append((positions >= start[:, None]) & (positions < (start + size)[:, None]))  # (batch, side)
    rows, columns = inside
    erased = fits[:, None, None] & rows[:, :, None] & columns[:, None, :]
    return X.masked_fill(erased[:, None], 0.0)


def _between(low, high, numbers):
    # Tensors that are made where the numbers are: a number that is copied to a GPU makes the program wait for it.
    return torch.lerp(torch.full_like(numbers, low), torch.full_like(numbers, high), numbers)


CHANGES = {
    "RandomAffine": random_affine,
    "RandomHorizontalFlip": random_horizontal_flip,
    "RandomErasing": random_erasing,
}


def augment(names, X, numbers):
    """Make the changes of the given names, in this order.

    Shape:
        X (batch, 1, side, side), numbers (batch, `count_numbers(names)`) -> (batch, 1, side, side)
    """
    of_each = numbers.split([NUMBERS[name] for name in names], dim=1)
    for name, own in zip(names, of_each, strict=True):
        X = CHANGES[name](X, own)
    return X


def count_numbers(names):
    """Say how many random numbers an image needs for the changes of the given names."""
    return sum(NUMBERS[name] for name in names)


def check_augmentation(names):
    """Raise a UserError for what is no list of known names."""
    if not isinstance(names, list | tuple):
        example = [names if names in list(CHANGES) else "RandomErasing"]
        raise UserError(f"augmentation is {names!r}: expected a list of names, such as {example}")
    for name in names:
        if name not in list(CHANGES):  # by comparing: whatever stands there may have no hash
            raise UserError(f"unknown augmentation {name!r}: choose from {', '.join(CHANGES)}")
