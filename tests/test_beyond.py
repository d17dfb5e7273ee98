"""What the report doesn't have: a schedule, candidates chosen by held-out images, the cost of a training."""

import copy
import subprocess
import sys

import papermill
import pytest
import torch
import yaml
from conftest import ROOT, made_up_record

import claims
import evidence
import my_utils as mu
import records
from model import Net, count_multiply_adds

KNOWN = claims.load()
TINY = {"num_hidden": [8, 6, 5, 4, 3], "train_limit": 300, "num_epochs": 2}


def optimizer_of(parameter, learning_rate=0.4):
    return torch.optim.Adam([parameter], lr=learning_rate)


# The schedule


def test_a_constant_schedule_is_none():
    assert mu.get_scheduler("constant", optimizer_of(torch.nn.Parameter(torch.zeros(1))), 10) is None


def test_one_cycle_rises_to_the_optimizers_rate_and_falls_to_nothing():
    optimizer = optimizer_of(torch.nn.Parameter(torch.zeros(1)))
    scheduler = mu.get_scheduler("one_cycle", optimizer, 100)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    highest = rates.index(max(rates))
    assert max(rates) == pytest.approx(0.4)
    assert 25 <= highest <= 35
    assert rates[: highest + 1] == sorted(rates[: highest + 1])
    assert rates[highest:] == sorted(rates[highest:], reverse=True)
    assert rates[-1] < 0.0001


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="unknown schedule 'cosine': choose constant or one_cycle"):
        mu.get_scheduler("cosine", optimizer_of(torch.nn.Parameter(torch.zeros(1))), 10)


def test_training_steps_the_schedule_once_a_batch(one_thread):
    train_iter, test_iter = mu.load_data_fashion_mnist(128, train_limit=300)
    net = Net(28, 4, 14, TINY["num_hidden"], 10)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    steps = 2 * len(train_iter)
    scheduler = mu.get_scheduler("one_cycle", optimizer, steps)
    mu.train(net, train_iter, test_iter, torch.nn.CrossEntropyLoss(), 2, optimizer, scheduler)
    assert scheduler.last_epoch == steps


# The notebook


def test_the_notebook_runs_and_its_record_says_the_schedule(tmp_path):
    parameters = TINY | {"num_validation": 1000, "runs_folder": str(tmp_path)}
    notebook = ROOT / "notebooks" / "beyond.ipynb"
    papermill.execute_notebook(notebook, None, parameters=parameters, cwd=ROOT, progress_bar=False)
    (path,) = tmp_path.glob("*.json")
    (record,) = records.read_records(path)
    assert record["schedule"] == "one_cycle"
    assert len(record["validation_accuracies"]) == 2
    assert path.stem == records.record_key(record)


def test_a_cycle_is_no_beginning_of_a_longer_one():
    setting = claims.notebook_defaults("beyond") | {"seed": 0}
    longer = made_up_record(setting | {"num_epochs": 60})
    assert records.select([longer], setting) == []
    assert records.select([longer], setting | {"num_epochs": 60}) == [longer]
    constant = setting | {"schedule": "constant"}
    (cut,) = records.select([made_up_record(constant | {"num_epochs": 60})], constant)
    assert cut["num_epochs"] == len(cut["test_accuracies"]) == setting["num_epochs"]


def test_a_constant_schedule_gives_the_run_of_a_notebook_without_one():
    setting = claims.notebook_defaults("figure_9") | {"seed": 0}
    assert records.run_key(setting) == records.run_key(setting | {"schedule": "constant"})
    assert records.run_key(setting) != records.run_key(setting | {"schedule": "one_cycle"})


# Candidates


@pytest.mark.parametrize("search", KNOWN["beyond"])
def test_every_candidate_is_a_setting_that_a_run_can_have(search):
    held_out, chosen = claims.beyond_settings(search, KNOWN)
    for setting in held_out.values():
        records.check_names(setting, claims.notebook_defaults("beyond"))
        assert records.check_parameters(setting) == setting
        assert setting["num_validation"] == claims.NUM_VALIDATION
    assert chosen["num_validation"] == 0
    assert chosen | {"num_validation": claims.NUM_VALIDATION} in held_out.values()


def test_candidates_within_the_cost_of_figure_9_take_no_more_arithmetic():
    held_out, _ = claims.beyond_settings("within_cost", KNOWN)
    for name, setting in held_out.items():
        assert evidence._training_cost(setting) <= evidence._training_cost(claims.notebook_defaults("figure_9")), name


def test_the_notebook_has_what_was_chosen_within_the_cost_of_figure_9():
    _, chosen = claims.beyond_settings("within_cost", KNOWN)
    assert chosen == claims.notebook_defaults("beyond")


@pytest.mark.parametrize("search", KNOWN["beyond"])
def test_the_chosen_candidate_is_the_best_on_the_committed_held_out_images(search):
    """Of the candidates that were run with the most seeds; the test accuracies are not looked at."""
    table = records.read_records(ROOT / "figures" / records.TABLE)
    held_out, _ = claims.beyond_settings(search, KNOWN)
    found = {
        name: [record["validation_accuracies"][-1] for record in records.select(table, setting)]
        for name, setting in held_out.items()
    }
    if not all(found.values()):
        pytest.skip("not every candidate has been run")
    means = {name: sum(values) / len(values) for name, values in found.items()}
    assert max(means, key=means.get) == KNOWN["beyond"][search]["chosen"]


def test_a_choice_that_is_no_candidate_is_refused(tmp_path):
    wrong = copy.deepcopy(KNOWN)
    wrong["beyond"]["within_cost"]["chosen"] = "none"
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(wrong, explicit_end=True))
    with pytest.raises(claims.ClaimsError, match=r"beyond\.within_cost\.chosen: there is no candidate 'none'"):
        claims.load(path)


# Cost


@pytest.mark.parametrize(
    ("patches", "num_hidden"),
    [((4, 14), [256, 128, 64, 32, 16]), ((16, 7), [12, 7, 5, 4, 3]), ((49, 4), [3, 9, 2, 8, 5])],
)
def test_the_counted_multiplications_are_those_of_the_linear_layers(patches, num_hidden):
    counted = []
    net = Net(28, *patches, num_hidden, 10)
    for module in net.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda m, _, output: counted.append(output.numel() * m.in_features))
    net(torch.rand(1, 1, 28, 28))
    assert count_multiply_adds(*patches, num_hidden, 10) == sum(counted)


def test_sweeps_know_the_candidates():
    done = subprocess.run([sys.executable, "reproduce.py", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert "beyond" in done.stdout
