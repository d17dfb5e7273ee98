"""Changes of whole batches of images are those that torchvision makes of one image, and as often."""

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from common.augmentation import NUMBERS, augment, count_numbers

few_examples = settings(deadline=None, max_examples=40)
names_of_changes = st.lists(st.sampled_from(list(NUMBERS)), max_size=4)


def images(n, side=28, **options):
    """Return images without a black pixel."""
    return 0.1 + 0.9 * torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(0), **options)


def numbers_for(names, n, seed=1, **options):
    return torch.rand(n, count_numbers(names), generator=torch.Generator().manual_seed(seed), **options)


# One image


@pytest.mark.parametrize("side", [28, 14, 64])
def test_a_shifted_image_is_torchvisions(side):
    X, numbers = images(200, side), numbers_for(["RandomAffine"], 200)
    shifts = [[round((2 * number - 1) * 0.1 * side) for number in row] for row in numbers.tolist()]
    expected = [functional.affine(x, 0.0, shift, 1.0, [0.0, 0.0]) for x, shift in zip(X, shifts, strict=True)]
    assert torch.equal(augment(["RandomAffine"], X, numbers), torch.stack(expected))
    assert len({tuple(shift) for shift in shifts}) > 20 or side == 14


def test_a_mirrored_image_is_torchvisions():
    X, numbers = images(200), numbers_for(["RandomHorizontalFlip"], 200)
    mirrored = numbers[:, 0] < 0.5
    expected = [functional.horizontal_flip(x) if m else x for x, m in zip(X, mirrored, strict=True)]
    assert torch.equal(augment(["RandomHorizontalFlip"], X, numbers), torch.stack(expected))
    assert 60 < mirrored.sum() < 140


@pytest.mark.parametrize("side", [28, 14, 5])
def test_an_erased_image_is_torchvisions(side):
    X, numbers = (make(dtype=torch.float64) for make in (lambda **o: images(500, side, **o), erasing_numbers))
    expected = []
    for x, (chance, top, left, *tries) in zip(X, numbers.tolist(), strict=True):
        for area, ratio in zip(tries[::2], tries[1::2], strict=True):
            area = side**2 * (0.02 + (0.33 - 0.02) * area)
            ratio = math.exp(math.log(0.3) + (math.log(3.3) - math.log(0.3)) * ratio)
            height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if height < side and width < side:
                if chance < 0.5:
                    at = int(top * (side - height + 1)), int(left * (side - width + 1))
                    x = functional.erase(x, *at, height, width, torch.zeros(1, dtype=x.dtype))
                break
        expected.append(x)
    assert torch.equal(augment(["RandomErasing"], X, numbers), torch.stack(expected))


def erasing_numbers(**options):
    return numbers_for(["RandomErasing"], 500, **options)


def test_where_no_rectangle_fits_nothing_is_erased():
    X, numbers = images(1), torch.tensor([[0.0, 0.5, 0.5, *3 * [1.0, 1.0]]])  # 28² · 0.33 as 29 · 9
    assert torch.equal(augment(["RandomErasing"], X, numbers), X)
    numbers[0, -2:] = 0.0
    assert not torch.equal(augment(["RandomErasing"], X, numbers), X)


# How often


def test_shifts_are_as_frequent_as_torchvisions():
    n = 4000
    torch.manual_seed(0)
    transform = v2.RandomAffine(0, (0.1, 0.1))
    theirs = Counter(tuple(transform.make_params([torch.rand(1, 28, 28)])["translate"]) for _ in range(n))
    X = torch.zeros(n, 1, 28, 28)
    X[:, :, 14, 14] = 1
    shifted = augment(["RandomAffine"], X, numbers_for(["RandomAffine"], n))
    ours = Counter((column - 14, row - 14) for _, _, row, column in shifted.nonzero().tolist())
    frequent = [shift for shift in ours | theirs if ours[shift] + theirs[shift] >= 10]
    assert len(frequent) > 40
    table = [[counts[shift] for shift in frequent] for counts in (ours, theirs)]
    assert stats.chi2_contingency(table).pvalue > 0.01


def test_erased_rectangles_are_distributed_as_torchvisions():
    n = 6000
    torch.manual_seed(0)
    X, transform = images(n), v2.RandomErasing()
    ours = augment(["RandomErasing"], X, numbers_for(["RandomErasing"], n)) == 0
    theirs = torch.stack([transform(x) for x in X]) == 0
    shares = [erased.any(-1).any(-1).double().mean().item() for erased in (ours, theirs)]
    assert shares == pytest.approx([0.5, 0.5], abs=4 * math.sqrt(0.25 / n))
    for measure in (
        lambda erased: erased.sum((1, 2)),
        lambda erased: erased.any(2).sum(1),
        lambda erased: erased.any(1).sum(1),
        lambda erased: erased.any(2).int().argmax(1),  # the first row
        lambda erased: erased.any(1).int().argmax(1),
    ):
        measured = [measure(erased[:, 0][erased.flatten(1).any(1)]).numpy() for erased in (ours, theirs)]
        assert stats.ks_2samp(*measured).pvalue > 0.01


# Batches of any size


@given(names=names_of_changes, n=st.integers(1, 6), side=st.integers(3, 32), seed=st.integers(0, 1000))
@few_examples
def test_an_image_is_changed_by_its_own_numbers_alone_and_left_as_it_was(names, n, side, seed):
    X, numbers = images(n, side), numbers_for(names, n, seed)
    before = X.clone()
    changed = augment(names, X, numbers)
    assert (changed.shape, changed.dtype) == (X.shape, X.dtype)
    assert torch.equal(X, before)
    for i in range(n):
        assert torch.equal(augment(names, X[i : i + 1], numbers[i : i + 1]), changed[i : i + 1])
    pixels = [set(x.flatten().tolist()) for x in (changed, X)]
    assert pixels[0] <= pixels[1] | {0.0}


@given(first=names_of_changes, then=names_of_changes, seed=st.integers(0, 1000))
@few_examples
def test_changes_are_made_in_the_order_of_their_names(first, then, seed):
    X, numbers = images(5), numbers_for(first + then, 5, seed)
    for_first, for_then = numbers.split([count_numbers(first), count_numbers(then)], dim=1)
    expected = augment(then, augment(first, X, for_first), for_then)
    assert torch.equal(augment(first + then, X, numbers), expected)


def test_another_order_makes_another_image():
    X, numbers = images(50), numbers_for(["RandomAffine", "RandomErasing"], 50)
    erased_last = augment(["RandomAffine", "RandomErasing"], X, numbers)
    erased_first = augment(["RandomErasing", "RandomAffine"], X, torch.cat([numbers[:, 2:], numbers[:, :2]], 1))
    assert not torch.equal(erased_last, erased_first)


class Recorded(TorchDispatchMode):
    """Keeps the names of the operations that PyTorch is asked for."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.names.append(operation.name())
        return operation(*args, **(kwargs or {}))


def test_no_number_is_carried_to_the_images_device():
    """On a GPU each one would make the program wait for all that it has asked for before, a dozen times a step."""
    X, numbers = images(5), numbers_for(list(NUMBERS), 5)
    with Recorded() as recorded:
        augment(list(NUMBERS), X, numbers)
    assert "aten::lerp.Tensor" in recorded.names
    assert "aten::lift_fresh" not in recorded.names  # what a tensor of a number of Python's begins as
