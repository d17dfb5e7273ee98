"""The helper module: loading, accuracy, networks, optimizers, schedules and training, on a few hundred real images."""

import math

import pytest
import torch
from conftest import run_notebook
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import my_utils as mu
from common import fashion_mnist
from common.batches import LONE_IMAGE
from common.curves import describe
from common.errors import UserError
from common.parameters import AUGMENTATIONS, OPTIMIZERS
from model import Net
from study import notebooks

seeds = st.integers(0, 2**32)
draws = st.integers(0, 50)
few_examples = settings(max_examples=20, deadline=None)


@pytest.fixture(autouse=True)
def _few(few_images):
    """Let every test that doesn't ask for more have 600 and 200 images."""


def loaders(batch_size=100, **options):
    return mu.load_data_fashion_mnist(batch_size, device="cpu", **options)


def epoch_of(data_iter):
    """Return the images and the labels of one epoch."""
    images, labels = zip(*data_iter, strict=True)
    return torch.cat(images), torch.cat(labels)


def numbered(n, **options):
    """Return batches of n images that have their own number as label."""
    return mu.Batches(torch.zeros(n, 28, 28, dtype=torch.uint8), torch.arange(n), 7, "cpu", **options)


def copies_of_one_image(n, name, seed=0):
    """Return the epoch that n copies of a boot make, and the boot."""
    boot = fashion_mnist.load()[0][:1]
    labels = torch.zeros(n, dtype=torch.uint8)
    batches = mu.Batches(boot.expand(n, 28, 28), labels, n, "cpu", seed=seed, augmentation=[name])
    return epoch_of(batches)[0], boot[None] / 255


def small_net(**options):
    torch.manual_seed(0)
    return Net(28, 4, 14, [32, 16, 8, 16, 8], 10, **options)


def linear_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def fit(net, train_iter, test_iter, num_epochs=1, lr=0.1):
    return mu.train(
        net, train_iter, test_iter, nn.CrossEntropyLoss(), num_epochs, torch.optim.SGD(net.parameters(), lr)
    )


def copy_of_state(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def assert_same_state(net, state):
    assert net.state_dict().keys() == state.keys()
    for name, value in net.state_dict().items():
        assert torch.equal(value, state[name]), name


def error_of(function, *args, **kwargs):
    """Return the message of the UserError that a call raises, which has to be a single line."""
    with pytest.raises(UserError, match=r"^[^\n]+\Z") as info:
        function(*args, **kwargs)
    return str(info.value)


# Loading


def test_the_whole_data_set_comes_in_batches_of_floats_every_image_once(data_set, few_images):
    few_images(*data_set)
    train_iter, test_iter = loaders(4096)
    for data_iter, images, labels in [(train_iter, *data_set[:2]), (test_iter, *data_set[2:])]:
        assert len(data_iter) == math.ceil(len(labels) / 4096)
        X, y = epoch_of(data_iter)
        assert y.bincount().tolist() == labels.bincount().tolist()
        assert (X * 255).sum().item() == pytest.approx(images.sum().item(), rel=1e-5)


@pytest.mark.parametrize(("batch_size", "sizes"), [(1, [1] * 600), (250, [250, 250, 100]), (600, [600]), (999, [600])])
def test_batches_have_the_given_size_but_the_last_and_can_be_iterated_again_and_again(batch_size, sizes):
    train_iter, _ = loaders(batch_size)
    for _ in range(2):
        batches = list(train_iter)
        assert [len(y) for _, y in batches] == [len(X) for X, _ in batches] == sizes
        assert len(train_iter) == len(sizes)
        for X, y in batches:
            assert X.shape[1:] == (1, 28, 28)
            assert (X.dtype, y.dtype) == (torch.float32, torch.int64)
            assert X.min() >= 0
            assert X.max() <= 1


def test_every_training_image_comes_once_an_epoch_with_its_label():
    images, labels, *_ = fashion_mnist.load()
    expected = sorted((image.flatten().tolist(), label) for image, label in zip(images, labels.tolist(), strict=True))
    train_iter, _ = loaders()
    for _ in range(2):
        X, y = epoch_of(train_iter)
        pixels = (X * 255).round().int().flatten(1)
        assert sorted(zip(pixels.tolist(), y.tolist(), strict=True)) == expected


@pytest.mark.parametrize("options", [{}, {"augmentation": list(AUGMENTATIONS), "seed": 5}])
def test_test_images_come_unchanged_in_their_order_and_draw_nothing(options):
    *_, images, labels = fashion_mnist.load()
    _, test_iter = loaders(**options)
    for _ in range(2):
        torch.manual_seed(3)
        X, y = epoch_of(test_iter)
        after = torch.rand(1)
        torch.manual_seed(3)
        assert torch.equal(after, torch.rand(1))
        assert torch.equal(X, images.unsqueeze(1) / 255)
        assert torch.equal(y, labels.long())


@given(seed=seeds, epochs=st.integers(1, 3), drawn=st.tuples(draws, draws))
@few_examples
def test_an_epochs_order_depends_on_seed_and_epoch_alone(seed, epochs, drawn):
    orders = []
    for count in drawn:
        batches = numbered(40, seed=seed)
        for _ in range(epochs):
            torch.rand(count)
            order = [y for _, y in batches]
        orders.append(torch.cat(order))
    assert torch.equal(*orders)
    assert orders[0].sort()[0].tolist() == list(range(40))


@given(seed=seeds)
@few_examples
def test_orders_differ_between_epochs_and_between_seeds(seed):
    batches = numbered(40, seed=seed)
    orders = [epoch_of(data_iter)[1].tolist() for data_iter in (batches, batches, numbered(40, seed=seed + 1))]
    assert len({tuple(order) for order in orders}) == 3


def test_an_epoch_starts_with_a_generator_seeded_from_seed_and_epoch():
    drawn = {}
    for attempt in range(2):
        for seed in range(2):
            train_iter, _ = loaders(seed=seed)
            for epoch in range(2):
                next(iter(train_iter))
                drawn[attempt, seed, epoch] = torch.rand(1).item()
    for seed in range(2):
        for epoch in range(2):
            assert drawn[0, seed, epoch] == drawn[1, seed, epoch]
    assert len(set(drawn.values())) == 4


def test_train_limit_keeps_the_first_training_images_and_all_test_images():
    train_iter, test_iter = loaders(40, train_limit=100)
    _, y = epoch_of(train_iter)
    assert sorted(y.tolist()) == sorted(fashion_mnist.load()[1][:100].tolist())
    assert len(epoch_of(test_iter)[1]) == 200


@given(num_validation=st.integers(1, 599), train_limit=st.none() | st.integers(1, 600))
@few_examples
def test_the_last_training_images_are_held_out_in_their_order_and_the_others_trained_on(num_validation, train_limit):
    images, labels, *_ = fashion_mnist.load()
    train_iter, test_iter = loaders(train_limit=train_limit, num_validation=num_validation)
    X, y = epoch_of(train_iter.validation_iter)
    assert torch.equal(X, images[-num_validation:].unsqueeze(1) / 255)
    assert torch.equal(y, labels[-num_validation:].long())
    trained_on = labels[: min(train_limit or 600, 600 - num_validation)]
    assert sorted(epoch_of(train_iter)[1].tolist()) == sorted(trained_on.tolist())
    assert test_iter.validation_iter is None


def test_held_out_images_are_not_augmented():
    train_iter, _ = loaders(num_validation=100, augmentation=list(AUGMENTATIONS))
    assert torch.equal(epoch_of(train_iter.validation_iter)[0], fashion_mnist.load()[0][-100:].unsqueeze(1) / 255)


def test_nothing_is_held_out_unless_asked_for():
    assert loaders()[0].validation_iter is None


def test_a_wrong_setting_is_an_error_that_names_it_and_the_choices():
    for size in (0, -3, 25.0, "256"):
        assert error_of(loaders, size) == f"batch_size is {size!r}: expected a whole number from 1 up"
        assert error_of(loaders, 10, resize=size) == f"resize is {size!r}: expected a whole number from 1 up"
    for name, value in (("seed", -1), ("train_limit", -5), ("train_limit", 0), ("num_validation", 600)):
        assert error_of(mu.load_data_fashion_mnist, 10, **{name: value}).startswith(f"{name} is {value}: expected a ")
    for value, example in (("RandomAffine", "RandomAffine"), (None, "RandomErasing"), (3, "RandomErasing")):
        message = error_of(loaders, augmentation=value)
        assert message == f"augmentation is {value!r}: expected a list of names, such as [{example!r}]"
    for unknown in ("Mixup", ["RandomErasing"], 1):
        message = error_of(loaders, augmentation=["RandomErasing", unknown])
        assert message == f"unknown augmentation {unknown!r}: choose from {', '.join(AUGMENTATIONS)}"


def test_a_device_that_is_not_there_is_an_error_that_names_it_and_the_choices():
    for name in ("abacus", "cuda:99", ""):
        message = error_of(mu.load_data_fashion_mnist, 10, device=name)
        assert message == f"device {name!r} is not on this machine: choose auto or cpu"


# Augmentation


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_changes_training_images_each_in_its_own_way(name):
    images, boot = copies_of_one_image(64, name)
    assert images.shape == (64, 1, 28, 28)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert any(not torch.equal(image, boot[0]) for image in images)
    assert len(images.unique(dim=0)) >= (2 if name == "RandomHorizontalFlip" else 10)


@pytest.mark.parametrize("names", [*([name] for name in AUGMENTATIONS), list(AUGMENTATIONS)])
def test_augmented_images_are_the_same_for_the_same_seed_and_epoch(names):
    first, second = (loaders(seed=4, train_limit=50, augmentation=names)[0] for _ in range(2))
    epochs = [epoch_of(first)[0], epoch_of(first)[0]]
    for epoch in epochs:
        torch.rand(7)
        assert torch.equal(epoch_of(second)[0], epoch)
    assert not torch.equal(*(epoch.sum((1, 2, 3)).sort()[0] for epoch in epochs)) or names == ["RandomHorizontalFlip"]


def test_flips_hit_about_half_of_the_images_and_mirror_them():
    images, boot = copies_of_one_image(400, "RandomHorizontalFlip")
    flipped = (images == boot.flip(-1)).flatten(1).all(1)
    kept = (images == boot).flatten(1).all(1)
    assert (flipped ^ kept).all()
    assert 140 < flipped.sum() < 260


# Accuracy


def test_the_accuracy_is_the_share_of_images_given_their_class():
    labels = torch.tensor([0, 1, 2, 2, 1, 0, 2], dtype=torch.uint8)
    images = torch.zeros(7, 28, 28, dtype=torch.uint8)
    images[:, 0, 0] = torch.tensor([0, 1, 2, 0, 1, 1, 2])  # what the net below answers: wrong twice

    class ReadFirstPixel(nn.Module):
        def forward(self, X):
            return nn.functional.one_hot((X[:, 0, 0, 0] * 255).round().long(), 3).float()

    data_iter = mu.Batches(images, labels, 3, "cpu")
    assert mu.evaluate_accuracy(ReadFirstPixel(), data_iter) == 5 / 7
    assert mu.predict_correct(ReadFirstPixel(), data_iter).tolist() == [True] * 3 + [False, True, False, True]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("make", [lambda: small_net(batch_norm=True, dropout=0.5), linear_net], ids=["Net", "other"])
def test_measuring_accuracy_leaves_the_net_as_it_was(make, training):
    net, (_, test_iter) = make().train(training), loaders()
    state = copy_of_state(net)
    first, second = mu.evaluate_accuracy(net, test_iter), mu.evaluate_accuracy(net, test_iter)
    assert first == second  # with Dropout and BatchNorm1d switched off
    assert {module.training for module in net.modules()} == {training}
    assert all(parameter.grad is None for parameter in net.parameters())
    assert_same_state(net, state)


def test_measuring_accuracy_records_no_gradients():
    class Watch(nn.Linear):
        def forward(self, X):
            scores = super().forward(X)
            assert not scores.requires_grad
            assert not self.training
            return scores

    mu.evaluate_accuracy(nn.Sequential(nn.Flatten(), Watch(784, 10)), loaders()[1])


@pytest.mark.parametrize("make", [small_net, linear_net])
def test_scores_that_are_not_numbers_count_as_class_0(make):
    net, (_, test_iter) = make(), loaders()
    for parameter in net.parameters():
        nn.init.constant_(parameter, math.nan)
    assert mu.evaluate_accuracy(net, test_iter) == (fashion_mnist.load()[3] == 0).sum().item() / 200


# The network, the optimizer and the schedule of a setting


@pytest.mark.parametrize(
    ("notebook", "changes"),
    [
        *((f"figure_{number}", {}) for number in range(2, 10)),
        ("figure_7", {"dropout": 0.3, "seed": 2**40}),
        ("figure_8", {"norm_axis": 2, "norm_after_relu": True, "patching": 1}),
        ("beyond", {"num_hidden": [9, 8, 7, 6, 5]}),
    ],
)
def test_a_settings_network_is_the_one_that_its_notebook_builds_bit_for_bit(notebook, changes, monkeypatch):
    class Built(Exception):
        pass

    def train(net, *_):
        raise Built(net)

    monkeypatch.setattr(mu, "train", train)
    changes = {"seed": 3, "device": "cpu", **changes}
    with pytest.raises(Built) as built:
        run_notebook(notebook, **changes)
    (expected,) = built.value.args
    net = mu.net_of(notebooks.defaults(notebook) | changes)
    assert str(net) == str(expected)
    assert_same_state(net, copy_of_state(expected))


def test_an_optimizer_is_pytorchs_in_its_fused_form_if_it_has_one():
    for name in (*OPTIMIZERS, "Adagrad"):
        optimizer = mu.get_optimizer(name, small_net().parameters(), 0.25, 0.125)
        assert type(optimizer) is getattr(torch.optim, name.removesuffix("_momentum"))
        assert optimizer.defaults.get("momentum", 0) == (0.9 if name == "SGD_momentum" else 0)
        assert optimizer.defaults["lr"] == 0.25
        assert optimizer.defaults["weight_decay"] == 0.125
        assert optimizer.defaults.get("fused", False) is (name != "RMSprop")


@pytest.mark.parametrize("name", ["SGD", "RMSprop"])
def test_a_net_learns_with_an_optimizer_whether_it_is_fused_or_not(name):
    net = linear_net()
    optimizer = mu.get_optimizer(name, net.parameters(), {"SGD": 0.1, "RMSprop": 0.001}[name])
    history = mu.train(net, *loaders(50), nn.CrossEntropyLoss(), 3, optimizer)
    assert history[-1]["train_loss"] < 0.8 * history[0]["train_loss"]
    assert history[-1]["test_accuracy"] > 0.6


def test_an_unknown_optimizer_is_an_error_that_names_it():
    for name in ("sgd", "Banana", "", "Optimizer", "lr_scheduler", "__name__"):
        message = error_of(mu.get_optimizer, name, small_net().parameters(), 0.1)
        assert message == f"unknown optimizer {name!r}: choose one of torch.optim, such as SGD or Adam"


def optimizer_of_nothing(learning_rate=0.4):
    return torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=learning_rate)


def test_a_constant_schedule_is_none():
    assert mu.get_scheduler("constant", optimizer_of_nothing(), 10) is None


def test_one_cycle_rises_to_the_optimizers_rate_and_falls_to_nothing():
    optimizer = optimizer_of_nothing()
    scheduler = mu.get_scheduler("one_cycle", optimizer, 100)
    rates, momenta = [], []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["betas"])
        optimizer.step()
        scheduler.step()
    highest = rates.index(max(rates))
    assert max(rates) == pytest.approx(0.4)
    assert 25 <= highest <= 35
    assert rates[: highest + 1] == sorted(rates[: highest + 1])
    assert rates[highest:] == sorted(rates[highest:], reverse=True)
    assert rates[-1] < 0.0001
    assert set(momenta) == {(0.9, 0.999)}  # which stays


def test_an_unknown_schedule_is_refused():
    message = error_of(mu.get_scheduler, "cosine", optimizer_of_nothing(), 10)
    assert message == "unknown schedule 'cosine': choose constant or one_cycle"


def test_training_steps_the_schedule_once_a_batch():
    net, (train_iter, test_iter) = small_net(), loaders(128)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    steps = 2 * len(train_iter)
    scheduler = mu.get_scheduler("one_cycle", optimizer, steps)
    mu.train(net, train_iter, test_iter, nn.CrossEntropyLoss(), 2, optimizer, scheduler)
    assert scheduler.last_epoch == steps


# Training


def test_a_training_returns_what_its_epochs_yield_one_at_a_time():
    returned, yielded = small_net(), small_net()
    history = fit(returned, *loaders(num_validation=100), num_epochs=3)
    train_iter, test_iter = loaders(num_validation=100)
    optimizer = torch.optim.SGD(yielded.parameters(), 0.1)
    epochs = mu.train_epochs(yielded, train_iter, test_iter, nn.CrossEntropyLoss(), 3, optimizer)
    for number, measures in enumerate(epochs, start=1):
        assert train_iter.epoch == number
        assert measures == history[number - 1]
    assert number == len(history) == 3
    assert_same_state(yielded, copy_of_state(returned))


def test_training_measures_what_a_literal_loop_measures():
    fast, plain = small_net(), small_net()
    history = fit(fast, *loaders(seed=1), num_epochs=2)
    train_iter, test_iter = loaders(seed=1)
    optimizer = torch.optim.SGD(plain.parameters(), 0.1)
    assert len(history) == 2
    for epoch in history:
        losses, correct = [], 0
        for X, y in train_iter:
            y_hat = plain(X)
            loss = nn.functional.cross_entropy(y_hat, y, reduction="none")
            optimizer.zero_grad()
            loss.mean().backward()
            optimizer.step()
            losses += loss.tolist()
            correct += (y_hat.argmax(1) == y).sum().item()
        X, y = epoch_of(test_iter)
        test_accuracy = (plain(X).argmax(1) == y).double().mean().item()
        expected = {
            "train_loss": sum(losses) / 600,
            "train_accuracy": correct / 600,
            "test_accuracy": test_accuracy,
        }
        assert epoch == pytest.approx(expected, abs=1e-4)
        assert all(type(value) is float for value in epoch.values())
    for fast_value, plain_value in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(fast_value, plain_value, rtol=1e-4, atol=1e-4)


def test_held_out_images_are_measured_after_every_epoch_and_change_no_other_number():
    net = small_net()
    train_iter, test_iter = loaders(seed=1, num_validation=100)
    history = fit(net, train_iter, test_iter, num_epochs=2)
    assert history[-1]["validation_accuracy"] == mu.evaluate_accuracy(net, train_iter.validation_iter)
    others = [{name: epoch[name] for name in epoch if name != "validation_accuracy"} for epoch in history]
    assert fit(small_net(), *loaders(seed=1, train_limit=500), num_epochs=2) == others


def test_a_scheduler_changes_the_learning_rate_after_every_batch():
    nets = small_net(), small_net()
    optimizers = [torch.optim.SGD(net.parameters(), 0.1) for net in nets]
    schedulers = [torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=12) for optimizer in optimizers]
    mu.train(nets[0], *loaders(), nn.CrossEntropyLoss(), 2, optimizers[0], schedulers[0])
    train_iter, _ = loaders()
    for _ in range(2):
        for X, y in train_iter:
            optimizers[1].zero_grad()
            nn.functional.cross_entropy(nets[1](X), y).backward()
            optimizers[1].step()
            schedulers[1].step()
    assert schedulers[0].last_epoch == 12
    assert schedulers[0].get_last_lr() == schedulers[1].get_last_lr()
    for value, expected in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4)


def test_a_short_last_batch_counts_by_its_images():
    net, (train_iter, test_iter) = linear_net(), loaders(400)
    (epoch,) = fit(net, train_iter, test_iter, lr=0.0)
    X, y = epoch_of(train_iter)
    assert epoch["train_loss"] == pytest.approx(nn.functional.cross_entropy(net(X), y).item(), rel=1e-5)
    assert epoch["train_accuracy"] == pytest.approx((net(X).argmax(1) == y).double().mean().item())


def test_the_same_seed_gives_the_same_history_and_weights_bit_for_bit():
    nets, histories = [small_net(batch_norm=True, dropout=0.1) for _ in range(2)], []
    for drawn, net in enumerate(nets):
        torch.rand(drawn)
        histories.append(fit(net, *loaders(seed=2, augmentation=["RandomAffine"]), num_epochs=2))
    assert histories[0] == histories[1]
    assert_same_state(nets[0], copy_of_state(nets[1]))


def test_three_trainings_of_one_epoch_are_one_of_three_epochs_bit_for_bit():
    one, three = (small_net(batch_norm=True, dropout=0.1) for _ in range(2))
    history = fit(one, *loaders(), num_epochs=3)
    train_iter, test_iter = loaders()
    assert [epoch for _ in range(3) for epoch in fit(three, train_iter, test_iter)] == history
    assert_same_state(three, copy_of_state(one))


def test_the_net_trains_in_training_mode_even_if_it_came_in_evaluation_mode():
    histories = [fit(small_net(batch_norm=True).train(mode), *loaders()) for mode in (True, False)]
    assert histories[0] == histories[1]


def test_a_net_of_nan_is_not_trained_on_but_measured_as_if_it_were(monkeypatch):
    num_epochs, epochs = 5, []
    train_epoch = mu.train_epoch
    monkeypatch.setattr(mu, "train_epoch", lambda *arguments: epochs.append(1) or train_epoch(*arguments))
    short = fit(small_net(), *loaders(), num_epochs=num_epochs, lr=1e30)
    assert len(epochs) == 2
    monkeypatch.setattr(mu, "_is_lost", lambda net: False)
    whole = fit(small_net(), *loaders(), num_epochs=num_epochs, lr=1e30)
    assert len(epochs) == 2 + num_epochs
    assert len(short) == num_epochs
    assert str(short) == str(whole)  # in which one NaN is like another


def test_a_net_with_a_few_nan_is_trained_on():
    net = small_net()
    with torch.no_grad():
        net.classifier.linear.bias[0] = math.nan
    assert not mu._is_lost(net)
    nn.init.constant_(net.classifier.linear.bias, math.nan)
    assert mu._is_lost(net)


def test_a_batch_prints_one_line_an_epoch(capsys):
    history = fit(linear_net(), *loaders(), num_epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["epoch 1 of 2", "epoch 2 of 2"]
    for line, epoch in zip(lines, history, strict=True):
        assert line.endswith(describe(epoch))
        assert f"test accuracy {epoch['test_accuracy']:.4f}" in line


def test_a_person_who_looks_sees_one_line_and_one_curve_from_the_start_on(capsys, monkeypatch):
    shown = []  # the contents of each display, in their order

    class Handle:
        def __init__(self, content):
            self.contents = [content]
            shown.append(self.contents)

        def update(self, content, raw):
            assert raw
            self.contents.append(content)

    monkeypatch.setattr(mu, "somebody_is_looking", lambda: True)
    monkeypatch.setattr("common.curves.display", lambda content, **_: Handle(content))
    monkeypatch.setattr("time.monotonic", lambda: 0.0)  # on a busy machine the line would name batches, too
    history = fit(linear_net(), *loaders(), num_epochs=2)
    assert capsys.readouterr().out == ""
    lines, curves = shown
    said = [content["text/plain"] for content in lines]
    assert said == ["epoch 1 of 2", "epoch 2 of 2", f"2 epochs in 0:00: {describe(history[-1])}"]
    assert len(curves) == 3
    forms = {"image/svg+xml", "text/html", "application/pdf"}  # in JupyterLab the second is never too wide
    assert all(content.keys() == forms for content in curves)


def test_nobody_is_looking_outside_a_notebook():
    assert mu.somebody_is_looking() is False


@pytest.mark.parametrize("make", [linear_net, lambda: small_net(batch_norm=True)], ids=["other", "Net"])
def test_a_net_learns(make, data_set, few_images):
    train_images, train_labels, test_images, test_labels = data_set
    few_images(train_images, train_labels, test_images[:1000], test_labels[:1000])
    history = fit(make(), *loaders(train_limit=5000), num_epochs=2)
    assert history[-1]["test_accuracy"] > 0.5
    assert history[1]["train_loss"] < history[0]["train_loss"]


# The course's own calls


def data_loaders(batch_size=100, **options):
    """Return torch's DataLoader over the same images, in their order."""
    return [torch.utils.data.DataLoader(data_iter.dataset, batch_size, **options) for data_iter in loaders()]


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return zip(*epoch_of(loaders()[1]), strict=True)


MAKERS = {
    "DataLoader": data_loaders,
    "lists": lambda: [list(data_iter) for data_iter in data_loaders()],
    "DataLoader of a stream": lambda: [torch.utils.data.DataLoader(Stream(), 100)] * 2,
    "views": lambda: [dict(enumerate(data_iter)).values() for data_iter in data_loaders()],
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_any_iterable_of_batches_can_be_trained_and_measured_on(make):
    net, (train_iter, test_iter) = linear_net(), make()
    history = fit(net, train_iter, test_iter, num_epochs=3)
    assert len(history) == 3
    assert history[2]["train_loss"] < history[0]["train_loss"]
    assert mu.evaluate_accuracy(net, test_iter) == history[-1]["test_accuracy"]
    predicted, labels = mu.predict(net, test_iter)
    assert labels.tolist() == fashion_mnist.load()[3].tolist()
    assert mu.predict_correct(net, test_iter).tolist() == (predicted == labels).tolist()


def test_a_dataloaders_training_is_that_of_the_same_batches():
    histories = []
    for make in (data_loaders, lambda: [list(data_iter) for data_iter in data_loaders()]):
        histories.append(fit(small_net(), *make(), num_epochs=2))
    assert histories[0] == histories[1]


def test_a_generator_does_for_one_epoch_and_is_refused_for_more_before_anything_is_trained():
    net, (train_iter, test_iter) = linear_net(), data_loaders()
    assert len(fit(net, (batch for batch in train_iter), iter(list(test_iter)))) == 1
    state = copy_of_state(net)
    once = ", which can be gone through only once, and there are 3 epochs: expected a list or a DataLoader"
    for batches, kind in [((batch for batch in train_iter), "generator"), (iter([1]), "list_iterator")]:
        assert error_of(fit, net, batches, test_iter, num_epochs=3) == f"train_iter is a {kind}{once}"
        assert error_of(fit, net, train_iter, batches, num_epochs=3) == f"test_iter is a {kind}{once}"
    assert_same_state(net, state)


def test_no_batches_are_an_error_that_says_so():
    net, (train_iter, test_iter) = linear_net(), data_loaders()
    for name, batches in [("train_iter", ([], test_iter)), ("test_iter", (train_iter, ()))]:
        assert error_of(fit, net, *batches) == f"{name} has no batch: expected at least one image"
    used_up = (batch for batch in list(test_iter))
    mu.evaluate_accuracy(net, used_up)
    for batches in (used_up, [], (batch for batch in [])):
        message = error_of(mu.evaluate_accuracy, net.eval(), batches)
        assert message.startswith("there are no batches, or they were gone through before: expected ")
    assert error_of(fit, net, used_up, test_iter) == message


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda X, y: X, "(tensor (100, 1, 28, 28))"),
        (lambda X, y: (X, y, y), "(tensor (100, 1, 28, 28), tensor (100,), tensor (100,))"),
        (lambda X, y: (X.numpy(), y.numpy()), "(ndarray, ndarray)"),
        (lambda X, y: {"image": X, "label": y}, "(dict)"),
        (lambda X, y: (X, y[:, None]), "(tensor (100, 1, 28, 28), tensor (100, 1))"),
        (lambda X, y: (X, y[1:]), "(tensor (100, 1, 28, 28), tensor (99,))"),
        (lambda X, y: (X[:0], y[:0]), "(tensor (0, 1, 28, 28), tensor (0,))"),
    ],
)
def test_what_is_no_batch_is_an_error_that_says_what_came(change, found):
    net, batches = linear_net(), [change(*batch) for batch in loaders()[1]]
    message = f"a batch is {found}: expected two tensors, images (batch, 1, 28, 28) and labels (batch,)"
    assert error_of(mu.evaluate_accuracy, net, batches) == error_of(fit, net, batches, batches) == message


@pytest.mark.parametrize("make", [small_net, linear_net], ids=["Net", "other"])
def test_images_and_labels_of_a_wrong_type_are_an_error_that_names_both_types(make):
    net, batches = make(), list(loaders()[1])
    pixels = [((255 * X).byte(), y) for X, y in batches]
    message = "the images are torch.uint8: expected torch.float32, as the network's weights"
    assert error_of(fit, net, pixels, batches) == error_of(mu.predict, net, pixels) == message
    for dtype in (torch.int32, torch.float32):
        numbers = [(X, y.to(dtype)) for X, y in batches]
        assert error_of(fit, net, numbers, batches) == f"the labels are {dtype}: expected torch.int64"
    assert net.training  # after the refused `predict` as before


def test_a_network_that_takes_pixels_as_they_are_is_not_in_the_way_of_the_check():
    class Pixels(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = linear_net()

        def forward(self, X):
            return self.net(X.float() / 255)

    pixels = [((255 * X).byte(), y) for X, y in loaders()[1]]
    (epoch,) = fit(Pixels(), pixels, pixels)
    assert epoch["train_loss"] < 2.5


def test_batches_come_to_the_networks_device():
    batches = [[part.to("meta") for part in batch] for batch in loaders()[1]]
    X, y = next(mu.batches_for(linear_net().to("meta"), loaders()[1]))
    assert X.device == y.device == batches[0][0].device


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"net": len}, "net is a builtin_function_or_method: expected a module of torch.nn"),
        ({"loss": nn.CrossEntropyLoss}, "loss is a class: expected a function, such as CrossEntropyLoss()"),
        ({"optimizer": "SGD"}, "optimizer is a str: expected one of torch.optim"),
        ({"optimizer": torch.optim.Adam}, "optimizer is a class: expected Adam(net.parameters(), …)"),
        ({"num_epochs": 2.5}, "num_epochs is 2.5: expected a whole number from 1 up"),
        ({"test_iter": 3}, "test_iter is a int: expected batches, such as torch's DataLoader"),
    ],
)
def test_a_wrong_argument_of_train_is_an_error_that_names_it(change, message):
    net, (train_iter, test_iter) = linear_net(), loaders()
    arguments = {"net": net, "train_iter": train_iter, "test_iter": test_iter, "loss": nn.CrossEntropyLoss()}
    arguments |= {"num_epochs": 1, "optimizer": torch.optim.SGD(net.parameters(), 0.1)}
    assert error_of(mu.train, **arguments | change) == message


def test_arguments_in_another_order_are_an_error_of_one_line():
    net, (train_iter, test_iter) = linear_net(), loaders()
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    message = error_of(mu.train, net, train_iter, test_iter, nn.CrossEntropyLoss(), optimizer, 1)
    assert message.startswith("num_epochs is SGD ( Parameter Group 0 ")


def test_too_few_classes_are_an_error_of_one_line():
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 5))
    assert error_of(fit, net, *loaders()).endswith(" The network scores fewer classes than there are labels")


@pytest.mark.parametrize("side", [14, 32, 64])
def test_resized_images_are_those_of_the_courses_helper(side):
    from torchvision.transforms import Resize, ToTensor
    from torchvision.transforms.functional import to_pil_image

    _, test_iter = loaders(20, resize=side, num_validation=20)
    X, y = next(iter(test_iter))
    images, labels = fashion_mnist.load()[2:]
    expected = torch.stack([ToTensor()(Resize(side)(to_pil_image(image))) for image in images[:20]])
    assert X.shape == (20, 1, side, side)
    assert (X - expected).abs().max() < 0.01  # PIL rounds to bytes
    assert torch.equal(y, labels[:20].long())
    for data_iter in mu.load_data_fashion_mnist(50, side, device="cpu", num_validation=20):
        assert next(iter(data_iter))[0].shape[2:] == (side, side)


def test_resized_images_are_augmented_and_a_network_of_their_size_learns_from_them():
    train_iter, test_iter = loaders(resize=14, augmentation=["RandomHorizontalFlip"], num_validation=20)
    history = fit(Net(14, 4, 7, [9, 8, 7, 6, 5], 10), train_iter, test_iter, num_epochs=2)
    assert {len(epoch) for epoch in history} == {4}
    assert torch.equal(next(iter(loaders(resize=28)[1]))[0], next(iter(loaders()[1]))[0])


def test_batches_say_what_a_dataloader_says():
    train_iter, test_iter = loaders(70)
    assert (train_iter.batch_size, len(train_iter.dataset), len(test_iter.dataset)) == (70, 600, 200)
    X, y = test_iter.dataset[3]
    assert torch.equal(X, fashion_mnist.load()[2][3][None] / 255)
    assert (y.item(), test_iter.dataset.targets.tolist()) == (
        fashion_mnist.load()[3][3],
        epoch_of(test_iter)[1].tolist(),
    )
    assert len(test_iter.dataset.classes) == 10
    with pytest.raises(AttributeError, match=r"^Batches has no 'num_workers': .* dataset and batch_size$"):
        train_iter.num_workers  # noqa: B018


COURSE = [
    "train_ch3",
    "train_ch6",
    "train_epoch_ch3",
    "accuracy",
    "evaluate_accuracy_gpu",
    "predict_ch3",
    "try_gpu",
    "Animator",
    "Accumulator",
    "Timer",
    "get_dataloader_workers",
    "get_fashion_mnist_labels",
    "show_images",
]


@pytest.mark.parametrize("name", COURSE)
def test_the_courses_names_are_translated(name):
    rows = [line.strip().split("  ", 1) for line in mu.__doc__.splitlines() if line.startswith("    ")]
    (ours,) = (ours for theirs, ours in rows if name in theirs.split(", "))
    assert ours.strip()
    with pytest.raises(AttributeError, match=rf"^my_utils has no '{name}': help\(my_utils\) says what stands for"):
        getattr(mu, name)


def test_another_name_is_no_name_of_the_course():
    with pytest.raises(AttributeError, match=r"^my_utils has no 'train_ch99'$"):
        mu.train_ch99  # noqa: B018


# Losses of other reductions


@pytest.mark.parametrize("make", [small_net, linear_net], ids=["Net", "other"])
def test_a_loss_without_reduction_trains_as_its_mean(make):
    nets, histories = [make(), make()], []
    for net, loss in zip(nets, [nn.CrossEntropyLoss(), nn.CrossEntropyLoss(reduction="none")], strict=True):
        histories.append(mu.train(net, *loaders(70), loss, 2, torch.optim.SGD(net.parameters(), 0.1)))
    assert histories[0] == [pytest.approx(epoch, rel=1e-6) for epoch in histories[1]]
    for value, expected in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


def test_a_sum_is_trained_on_as_such_and_measured_by_the_image():
    nets, histories = [linear_net(), linear_net()], []
    for net, reduction, lr in zip(nets, ["mean", "sum"], [0.1, 0.001], strict=True):  # all batches have 100 images
        loss, optimizer = nn.CrossEntropyLoss(reduction=reduction), torch.optim.SGD(net.parameters(), lr)
        histories.append(mu.train(net, *loaders(100), loss, 2, optimizer))
    assert histories[0] == [pytest.approx(epoch, rel=1e-5) for epoch in histories[1]]


# A batch of one image


def net_with_one_unit(**options):
    torch.manual_seed(0)
    return Net(28, 4, 14, [8, 7, 6, 5, 1], 10, batch_norm=True, **options)


@pytest.mark.parametrize("batch_size", [1, 599])
@pytest.mark.parametrize("kind", ["Batches", "DataLoader"])
def test_a_lone_image_that_can_not_be_normalised_is_refused_before_the_training(kind, batch_size):
    net = net_with_one_unit()
    state = copy_of_state(net)
    train_iter, test_iter = loaders(batch_size) if kind == "Batches" else data_loaders(batch_size)
    torch.manual_seed(5)
    assert error_of(fit, net, train_iter, test_iter) == LONE_IMAGE
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    assert_same_state(net, state)
    assert mu.evaluate_accuracy(net, test_iter) >= 0  # where running statistics normalise


@pytest.mark.parametrize("options", [{"dropout": 0.1}, {"norm_after_relu": True}])
def test_a_lone_image_in_a_list_is_refused_when_it_comes(options):
    X, y = epoch_of(loaders()[1])
    batches = [(X[:9], y[:9]), (X[9:10], y[9:10])]
    assert error_of(fit, net_with_one_unit(**options), batches, batches) == LONE_IMAGE


def test_a_lone_image_is_no_matter_where_every_layer_gives_several_values_or_it_is_dropped():
    assert fit(small_net(batch_norm=True), *loaders(599))
    assert fit(small_net(), *loaders(599))
    assert fit(net_with_one_unit(norm_axis=2), *loaders(599))
    assert fit(net_with_one_unit(), *loaders(598))
    assert fit(net_with_one_unit(), data_loaders(599, drop_last=True)[0], loaders()[1])
