"""The device that a run computes on; there is no GPU here, so stand-ins play one that works and one that doesn't."""

import warnings

import pytest
import torch
from test_my_utils import error_of

import my_utils as mu
from common import device
from study.record import device_kind

TOO_OLD = "CUDA error: no kernel image is available for execution on the device"
WITHOUT_A_DEVICE = torch.ones


@pytest.fixture
def computed(monkeypatch):
    """Let PyTorch list a GPU, and return a function that says what happens when something is computed on it."""
    computations = []

    def gpu(failure):
        def ones(*sizes, device):
            computations.append(device)
            if failure:
                raise failure
            return WITHOUT_A_DEVICE(*sizes)

        monkeypatch.setattr(torch, "ones", ones)
        return computations

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    device._failure_on.cache_clear()
    yield gpu
    device._failure_on.cache_clear()


@pytest.mark.parametrize("failure", [RuntimeError(f"{TOO_OLD}\nCUDA kernel errors might be reported later"), None])
def test_auto_takes_a_gpu_only_if_it_computes_and_a_runs_name_says_the_same(computed, failure):
    computations = computed(failure)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        kinds = [mu.get_device("auto").type, device_kind("auto"), mu.get_device().type]
    assert kinds == ["cpu" if failure else "cuda"] * 3
    assert computations == ["cuda"]  # it is tried once
    said = {str(warning.message) for warning in warned}
    assert said == ({f"the GPU can't be used ({TOO_OLD}), so the CPU computes"} if failure else set())


def test_the_data_of_a_run_come_where_it_computes(computed, few_images):
    computed(RuntimeError(TOO_OLD))
    with pytest.warns(UserWarning, match="the CPU computes"):
        train_iter, _ = mu.load_data_fashion_mnist(100)
    X, y = next(iter(train_iter))
    assert X.device.type == y.device.type == "cpu"


def test_a_device_that_is_asked_for_by_name_but_does_not_compute_is_refused():
    assert error_of(mu.get_device, "meta").startswith("device 'meta' can't be used (")
    assert error_of(mu.get_device, "meta").endswith("): choose auto or cpu")
    assert error_of(device_kind, "meta") == error_of(mu.get_device, "meta")


def test_without_a_gpu_auto_is_the_cpu_and_nothing_is_tried_or_said(computed, monkeypatch):
    computations = computed(RuntimeError(TOO_OLD))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert mu.get_device("auto").type == mu.get_device("cpu").type == device_kind("auto") == "cpu"
    assert computations == []
