"""The images that a figure's notebook shows of its data."""

import numpy as np
import pytest
import torch

from common import images
from common.fashion_mnist import CLASSES
from common.images import draw_classified, show_images


@pytest.mark.parametrize(("count", "side"), [(1, 28), (7, 28), (10, 14)])
def test_each_image_is_drawn_under_its_class_and_no_panel_is_empty(count, side):
    pictures, labels = torch.rand(count, side, side), torch.arange(count) % 10
    visible = [axes for axes in draw_classified(pictures, labels.tolist()).axes if axes.get_visible()]
    assert [axes.get_title() for axes in visible] == [CLASSES[label] for label in labels]
    for axes, image in zip(visible, pictures, strict=True):
        assert np.array_equal(axes.images[0].get_array(), image)


def test_of_a_batch_the_first_ten_are_shown_and_told(monkeypatch):
    X, y = torch.rand(60, 1, 28, 28), torch.full((60,), 9)
    y[:3] = torch.tensor([0, 8, 1])
    shown = []
    monkeypatch.setattr(images, "show", lambda figure, alt: shown.append((len(figure.axes), alt)))
    show_images(X, y)
    names = ["T-shirt/top", "bag", "trouser", *["ankle boot"] * 7]
    assert shown == [(10, f"Small grey pictures: {', '.join(names)}.")]
