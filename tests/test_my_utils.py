"""The helper module: loading, accuracy, training and figures, on a few hundred of the real images."""

import base64
import math
from contextlib import contextmanager
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from torch import nn

import fashion_mnist
import my_utils as mu
from model import Net

each_augmentation = pytest.mark.parametrize("name", mu.AUGMENTATIONS)
seeds = st.integers(0, 2**32)
draws = st.integers(0, 50)
few_examples = settings(max_examples=20, deadline=None)


@pytest.fixture(scope="module", autouse=True)
def real(one_thread):
    """Load the data set once, and let every test that doesn't ask for more have 600 and 200 images of it."""
    real = fashion_mnist.load()
    few = real[0][:600], real[1][:600], real[2][:200], real[3][:200]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fashion_mnist, "load", lambda root=None: few)
        yield real


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
    batches = mu.Batches(boot.expand(n, 28, 28), labels, n, "cpu", seed=seed, augment=mu.get_augmentation([name]))
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
    """Return the message of the ValueError that a call raises, which has to be a single line."""
    with pytest.raises(ValueError, match=r"^[^\n]+$") as info:
        function(*args, **kwargs)
    return str(info.value)


# Loading


def test_the_whole_data_set_comes_in_batches_of_floats_every_image_once(real, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "load", lambda root=None: real)
    train_iter, test_iter = loaders(4096)
    for data_iter, images, labels in [(train_iter, *real[:2]), (test_iter, *real[2:])]:
        assert len(data_iter) == math.ceil(len(labels) / 4096)
        found_images, found_labels = epoch_of(data_iter)
        assert found_labels.bincount().tolist() == labels.bincount().tolist()
        assert (found_images * 255).sum().item() == pytest.approx(images.sum().item(), rel=1e-5)


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


@pytest.mark.parametrize("options", [{}, {"augmentation": mu.AUGMENTATIONS, "seed": 5}])
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
    train_iter, _ = loaders(num_validation=100, augmentation=mu.AUGMENTATIONS)
    assert torch.equal(epoch_of(train_iter.validation_iter)[0], fashion_mnist.load()[0][-100:].unsqueeze(1) / 255)


def test_nothing_is_held_out_unless_asked_for():
    assert loaders()[0].validation_iter is None


@pytest.mark.parametrize(
    ("batch_size", "options", "parts"),
    [
        (0, {}, ["batch_size is 0", "1 or more"]),
        (-3, {}, ["batch_size is -3", "1 or more"]),
        (10, {"augmentation": ["RandomErasing", "Mixup"]}, ["'Mixup'", *mu.AUGMENTATIONS]),
    ],
)
def test_a_wrong_setting_is_an_error_that_names_it_and_the_choices(batch_size, options, parts):
    message = error_of(loaders, batch_size, **options)
    for part in parts:
        assert part in message


@pytest.mark.parametrize("name", ["abacus", "cuda:99", ""])
def test_a_device_that_is_not_there_is_an_error_that_names_it_and_the_choices(name):
    message = error_of(mu.load_data_fashion_mnist, 10, device=name)
    assert repr(name) in message
    assert "auto or cpu" in message


# Augmentation


@each_augmentation
def test_an_augmentation_changes_training_images_each_in_its_own_way(name):
    images, boot = copies_of_one_image(64, name)
    assert images.shape == (64, 1, 28, 28)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert any(not torch.equal(image, boot[0]) for image in images)
    assert len(images.unique(dim=0)) >= (2 if name == "RandomHorizontalFlip" else 10)


@pytest.mark.parametrize("names", [*([name] for name in mu.AUGMENTATIONS), mu.AUGMENTATIONS])
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


# Training


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


class RecordedStep:
    """Stands in for a CUDA graph: what runs while it records has no effect, and a replay is the recorded step."""

    recordings = 0

    def __init__(self):
        self.replays = 0

    def replay(self):
        self.replays += 1
        self.compute(self.step.X, self.step.y)


@pytest.fixture
def recording(monkeypatch):
    """Let steps on the CPU be recorded, and return a function that makes such a step."""

    @contextmanager
    def graph(recorded):
        RecordedStep.recordings += 1
        recorded.step._compute, recorded.compute = lambda X, y: None, recorded.step._compute
        yield
        recorded.step._compute = recorded.compute

    def step_of(net, optimizer):
        step = mu.TrainingStep(net, nn.functional.cross_entropy, optimizer)
        step.recordable = True
        RecordedStep.step = step
        return step

    RecordedStep.recordings = 0
    monkeypatch.setattr(torch.cuda, "CUDAGraph", RecordedStep)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    return step_of


def test_a_recorded_training_is_the_plain_one_bit_for_bit(recording):
    plain, recorded = small_net(dropout=0.1), small_net(dropout=0.1)
    expected = fit(plain, *loaders(70), num_epochs=2)  # 600 images: eight batches of 70 and one of 40
    train_iter, test_iter = loaders(70)
    step = recording(recorded, torch.optim.SGD(recorded.parameters(), 0.1))
    history = [
        mu.train_epoch(step, train_iter) | {"test_accuracy": mu.evaluate_accuracy(recorded, test_iter)}
        for _ in range(2)
    ]
    assert history == expected
    assert_same_state(recorded, copy_of_state(plain))
    assert RecordedStep.recordings == 1
    assert step.graph.replays == (8 - mu.TrainingStep.WARM_UP) + 8


def test_a_training_that_can_not_be_recorded_goes_on_without(recording, monkeypatch):
    @contextmanager
    def refuse(_):
        yield
        raise RuntimeError("operation not permitted when stream is capturing")

    plain, refused = small_net(), small_net()
    expected = fit(plain, *loaders(), num_epochs=1)
    train_iter, _ = loaders()
    step = recording(refused, torch.optim.SGD(refused.parameters(), 0.1))
    compute = step._compute
    monkeypatch.setattr(torch.cuda, "graph", refuse)
    monkeypatch.setattr(step, "_compute", lambda X, y: None if X is step.X else compute(X, y))
    with pytest.warns(UserWarning, match="without a CUDA graph: operation not permitted"):
        measured = mu.train_epoch(step, train_iter)
    assert measured == {name: expected[0][name] for name in measured}
    assert step.graph is None
    assert not step.optimizer.param_groups[0]["capturable"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("options", [{}, {"batch_norm": True}, {"dropout": 0.1}])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_a_gpu_records_every_training(optimizer, options):
    net = small_net(**options).cuda()
    train_iter, _ = mu.load_data_fashion_mnist(100, device="cuda")
    step = mu.TrainingStep(net, nn.functional.cross_entropy, optimizer(net.parameters(), 0.01, fused=True))
    losses = [mu.train_epoch(step, train_iter)["train_loss"] for _ in range(3)]
    assert step.graph is not None
    assert losses[2] < losses[0]


def test_a_batch_prints_one_line_an_epoch(capsys):
    history = fit(linear_net(), *loaders(), num_epochs=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["epoch 1 of 2", "epoch 2 of 2"]
    for line, epoch in zip(lines, history, strict=True):
        assert line.endswith(mu.describe(epoch))
        assert f"test accuracy {epoch['test_accuracy']:.4f}" in line


def test_a_person_who_looks_sees_one_curve_that_grows(capsys, monkeypatch):
    shown, updates = [], []

    class Handle:
        def update(self, drawing):
            updates.append(drawing)

    monkeypatch.setattr(mu, "somebody_is_looking", lambda: True)
    monkeypatch.setattr(mu, "display", lambda *args, **kwargs: shown.append((args, kwargs)) or Handle())
    history = fit(linear_net(), *loaders(), num_epochs=2)
    assert capsys.readouterr().out == ""
    assert shown == [((), {"display_id": True})]
    expected = [mu.SVG(mu.to_svg(mu.plot_curves([history[:n]]))) for n in (1, 2)]
    assert [drawing.data for drawing in updates] == [drawing.data for drawing in expected]


def test_nobody_is_looking_outside_a_notebook():
    assert mu.somebody_is_looking() is False


@pytest.mark.parametrize("make", [linear_net, lambda: small_net(batch_norm=True)], ids=["other", "Net"])
def test_a_net_learns(make, real, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "load", lambda root=None: (*real[:2], real[2][:1000], real[3][:1000]))
    history = fit(make(), *loaders(train_limit=5000), num_epochs=2)
    assert history[-1]["test_accuracy"] > 0.5
    assert history[1]["train_loss"] < history[0]["train_loss"]


# Figures

HISTORY = [
    {"train_loss": 1.5, "train_accuracy": 0.5, "test_accuracy": 0.6},
    {"train_loss": 0.75, "train_accuracy": 0.7, "test_accuracy": 0.65},
]
HELD_OUT = [{**epoch, "validation_accuracy": epoch["test_accuracy"] + 0.02} for epoch in HISTORY]
BETTER = [{name: value + 0.1 for name, value in epoch.items()} for epoch in HISTORY]


def without_loss(value):
    return [{**epoch, "train_loss": value} for epoch in HISTORY]


def axes_of(*args, **kwargs):
    return mu.plot_curves(*args, **kwargs).axes[0]


def legend_of(*args, **kwargs):
    (legend,) = mu.plot_curves(*args, **kwargs).legends
    return [text.get_text() for text in legend.get_texts()]


def test_the_same_histories_give_the_same_bytes_whatever_was_drawn_before():
    first = mu.to_svg(mu.plot_curves([HISTORY, BETTER], 0.8, 2))
    assert mu.to_svg(mu.plot_curves([BETTER])) != first
    assert mu.to_svg(mu.plot_curves([HISTORY, BETTER], 0.8, 2)) == first
    assert ElementTree.fromstring(first).tag == "{http://www.w3.org/2000/svg}svg"


def test_axes_and_curves_and_the_reported_line_are_labelled():
    axes = axes_of([HISTORY], 0.8123)
    assert axes.get_xlabel() == "epoch"
    assert "accuracy" in axes.get_ylabel()
    assert "loss" in axes.get_ylabel()
    curves = ["training loss", "training accuracy", "test accuracy, 0.6500 at the end"]
    assert legend_of([HISTORY], 0.8123) == [*curves, "reported test accuracy, 0.8123"]
    assert legend_of([HISTORY]) == curves


def test_curves_show_the_measures_against_the_epoch():
    axes = axes_of([HISTORY], 0.8)
    for line, name in zip(axes.lines[:3], HISTORY[0], strict=True):
        assert line.get_xdata().tolist() == [1, 2]
        assert line.get_ydata().tolist() == [epoch[name] for epoch in HISTORY]
    assert set(axes.lines[3].get_ydata()) == {0.8}
    assert len({to_hex(line.get_color()) for line in axes.lines}) == 4
    assert len({line.get_linestyle() for line in axes.lines[:3]}) == 3


def test_held_out_images_get_a_curve_of_their_own():
    assert legend_of([HELD_OUT])[3] == "validation accuracy"
    lines = axes_of([HELD_OUT]).lines
    assert lines[3].get_ydata().tolist() == [epoch["validation_accuracy"] for epoch in HELD_OUT]
    assert len({line.get_linestyle() for line in lines}) == len({to_hex(line.get_color()) for line in lines}) == 4


def test_several_histories_give_their_mean_and_a_band_over_their_range():
    assert legend_of([HISTORY, BETTER])[2] == "test accuracy, 0.7000 at the end"
    axes = axes_of([HISTORY, BETTER])
    for line, band, name in zip(axes.lines, axes.collections, HISTORY[0], strict=True):
        assert line.get_ydata() == pytest.approx([epoch[name] + 0.05 for epoch in HISTORY])
        corners = {(x, round(y, 6)) for x, y in band.get_paths()[0].vertices.tolist()}
        for epoch, histories in enumerate(zip(HISTORY, BETTER, strict=True), start=1):
            assert corners >= {(epoch, round(measures[name], 6)) for measures in histories}


def test_the_test_accuracy_is_drawn_once_more_so_close_up_that_its_band_can_be_seen():
    start = [{"train_loss": 2.0, "train_accuracy": 0.1, "test_accuracy": 0.2}] * 2
    curves, close_up = mu.plot_curves([start + HISTORY, start + BETTER], 0.8).axes
    assert [line.get_label() for line in close_up.lines] == [line.get_label() for line in curves.lines[2:]]
    for here, there in zip(close_up.lines, curves.lines[2:], strict=True):
        assert here.get_xydata().tolist() == there.get_xydata().tolist()
        assert here.get_color() == there.get_color()
    assert curves.get_ylim()[1] > 2
    assert close_up.get_ylim() == pytest.approx((0.58, 0.82))  # of the second half, and the reported one


def test_a_close_up_of_nothing_and_of_what_never_changes_have_limits():
    nothing = dict.fromkeys(HISTORY[0])
    assert mu.plot_curves([[nothing]]).axes[1].get_ylim() == pytest.approx((-0.1, 1.1))
    guessing = HISTORY[0] | {"test_accuracy": 0.1}
    assert mu.plot_curves([[guessing] * 3], 0.1).axes[1].get_ylim() == pytest.approx((0.09, 0.11))


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_loss_that_is_no_number_is_said_in_the_legend(value):
    history = without_loss(value)
    assert legend_of([history, history])[:2] == ["training loss (not a number)", "training accuracy"]
    assert mu.to_svg(mu.plot_curves([history]))


@pytest.mark.parametrize("value", [None, math.nan])
def test_a_curve_ends_where_the_loss_stops_being_a_number(value):
    figure = mu.plot_curves([[HISTORY[0], {**HISTORY[1], "train_loss": value}]])
    assert mu.to_svg(figure)
    assert figure.axes[0].lines[0].get_ydata()[0] == 1.5
    assert figure.axes[0].get_ylim()[1] >= 1.5


@pytest.mark.parametrize(("first_reported_epoch", "parts"), [(1, 0), (2, 1)])
def test_epochs_before_the_reports_curve_have_a_grey_background(first_reported_epoch, parts):
    panels = mu.plot_curves([HISTORY], 0.8, first_reported_epoch).axes
    assert [text.get_text() for axes in panels for text in axes.texts] == ["not in the report's figure"] * parts
    for axes in panels:
        assert len(axes.patches) == parts
        for patch in axes.patches:
            assert patch.get_extents().transformed(axes.transData.inverted()).x1 == pytest.approx(1.5)


def test_a_shown_figure_is_a_drawing_with_its_alternative_text(monkeypatch):
    shown = []
    monkeypatch.setattr(mu, "display", lambda *args, **kwargs: shown.append((args, kwargs)))
    mu.show(mu.plot_curves([HISTORY]), alt="Rising curves.")
    (((drawing,), options),) = shown
    assert drawing["image/svg+xml"] == mu.to_svg(mu.plot_curves([HISTORY]))
    assert 'alt="Rising curves."' in drawing["text/html"]
    assert base64.b64decode(drawing["application/pdf"]).startswith(b"%PDF")
    assert options == {"metadata": {"image/svg+xml": {"alt": "Rising curves."}}, "raw": True}


# Words


def test_curves_are_described_by_their_last_values():
    text = mu.describe_curves(
        [*HISTORY, {"train_loss": 0.12345, "train_accuracy": 0.9, "test_accuracy": 0.87654}], 0.8
    )
    for part in ["over 3 epochs", "at 0.123, 0.9000 and 0.8765.", "reported test accuracy, 0.8."]:
        assert part in text


@pytest.mark.parametrize(
    ("accuracy", "reported", "said"),
    [(0.8412, 0.83, "1.12 points more"), (0.8, 0.8812, "8.12 points less"), (0.84, 0.84, "so does this run")],
)
def test_accuracies_are_compared_in_points_with_the_right_sign(accuracy, reported, said):
    text = mu.compare(accuracy, reported).data
    assert said in text
    assert f"**{reported:g}**" in text
    assert ("more" in text) == (accuracy > reported)
    assert ("less" in text) == (accuracy < reported)
