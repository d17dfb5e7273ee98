"""One step of a training: recorded as a CUDA graph, of which a stand-in serves where there is no GPU, and memory."""

from contextlib import contextmanager

import pytest
import torch
from test_my_utils import assert_same_state, copy_of_state, fit, loaders, small_net
from torch import nn

import my_utils as mu
from fast.stack import Stack
from fast.step import TrainingStep, keep_freed_memory

pytestmark = pytest.mark.usefixtures("few_images")


# CUDA graphs


class RecordedStep:
    """Stands in for a CUDA graph: what runs while it records has no effect, and a replay is the recorded step."""

    recordings = 0

    def __init__(self):
        self.replays = 0

    def record(self, X, y):
        self.X, self.y = X, y

    def replay(self):
        self.replays += 1
        self.compute(self.X, self.y)


@pytest.fixture
def recording(monkeypatch):
    """Let steps on the CPU be recorded, and return a function that makes such a step."""

    @contextmanager
    def graph(recorded):
        RecordedStep.recordings += 1
        recorded.step._compute, recorded.compute = recorded.record, recorded.step._compute
        yield
        recorded.step._compute = recorded.compute

    def step_of(net, optimizer):
        step = TrainingStep(net, nn.functional.cross_entropy, optimizer)
        step.recordable = True
        RecordedStep.step = step
        return step

    RecordedStep.recordings = 0
    monkeypatch.setattr(torch.cuda, "CUDAGraph", RecordedStep)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    return step_of


def test_a_recorded_training_is_the_plain_one_bit_for_bit(recording):
    plain, recorded = small_net(dropout=0.1), small_net(dropout=0.1)
    expected = fit(plain, *loaders(70), num_epochs=5)  # 600 images: eight batches of 70 and one of 40
    train_iter, test_iter = loaders(70)
    step = recording(recorded, torch.optim.SGD(recorded.parameters(), 0.1))
    history = [
        mu.train_epoch(step, train_iter) | {"test_accuracy": mu.evaluate_accuracy(recorded, test_iter)}
        for _ in range(5)
    ]
    assert history == expected
    assert_same_state(recorded, copy_of_state(plain))
    replays = {len(X): graph.replays for graph, X, _ in step.recorded.values()}
    assert replays == {70: 5 * 8 - TrainingStep.WARM_UP, 40: 5 - TrainingStep.WARM_UP}  # one graph for each size
    assert RecordedStep.recordings == 2


def test_a_recorded_training_of_a_stack_is_the_plain_one_bit_for_bit(recording):
    draw = torch.Generator().manual_seed(0)
    batches = [
        (torch.rand(2, size, 1, 28, 28, generator=draw), torch.randint(10, (2, size), generator=draw))
        for size in 6 * [20] + 4 * [7]
    ]
    results = []
    for make in (TrainingStep, recording):
        stack = Stack([small_net(batch_norm=True), small_net(batch_norm=True)])
        arguments = () if make is recording else (nn.functional.cross_entropy,)
        step = make(stack, *arguments, torch.optim.SGD(stack.parameters(), 0.1))
        step.start_epoch()
        for X, y in batches:
            step(X, y)
        results.append((step.total_loss, step.total_correct, copy_of_state(stack)))
    plain, recorded = results
    assert plain[0].shape == (2,)
    torch.testing.assert_close(recorded, plain, rtol=0, atol=0)
    replays = {X.shape[:2]: graph.replays for graph, X, _ in step.recorded.values()}
    assert replays == {(2, 20): 6 - TrainingStep.WARM_UP, (2, 7): 4 - TrainingStep.WARM_UP}


def test_a_training_that_can_not_be_recorded_goes_on_without(recording, monkeypatch):
    @contextmanager
    def refuse(recorded):
        step._compute, compute = recorded.record, step._compute
        yield
        step._compute = compute
        raise RuntimeError("operation not permitted when stream is capturing")

    plain, refused = small_net(), small_net()
    expected = fit(plain, *loaders(), num_epochs=1)
    train_iter, _ = loaders()
    step = recording(refused, torch.optim.SGD(refused.parameters(), 0.1))
    monkeypatch.setattr(torch.cuda, "graph", refuse)
    with pytest.warns(UserWarning, match="without a CUDA graph: operation not permitted") as warned:
        measured = mu.train_epoch(step, train_iter)
    assert len(warned) == 1  # it is not tried again
    assert measured == {name: expected[0][name] for name in measured}
    assert not step.recorded
    assert not step.optimizer.param_groups[0]["capturable"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("options", [{}, {"batch_norm": True}, {"dropout": 0.1}])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_a_gpu_records_every_training(optimizer, options):
    net = small_net(**options).cuda()
    train_iter, _ = mu.load_data_fashion_mnist(100, device="cuda")
    step = TrainingStep(net, nn.functional.cross_entropy, optimizer(net.parameters(), 0.01, fused=True))
    losses = [mu.train_epoch(step, train_iter)["train_loss"] for _ in range(3)]
    assert step.recorded
    assert losses[2] < losses[0]


# Memory


def test_freed_memory_can_be_kept_twice_without_harm():
    keep_freed_memory()
    keep_freed_memory()
    for _ in range(3):
        large = torch.ones(4_000_000)
        assert large.sum() == 4_000_000
        del large
