"""What the report doesn't have: a schedule, candidates chosen by held-out images, the cost of a training."""

import numpy as np
import pytest
import torch
from conftest import made_up_record, run_by_papermill

from common.parameters import IMPLIED, check_names, check_parameters
from model import Net, count_multiply_adds
from reproduce import main
from study import claims, notebooks
from study.candidates import training_cost
from study.record import record_key, run_key
from study.study import Study
from study.table import read_records, select

CLAIMS = claims.load()
FIGURE_9 = notebooks.defaults("figure_9")
TINY = {"num_hidden": [8, 6, 5, 4, 3], "train_limit": 300, "num_epochs": 2}


# The notebook


def test_the_notebook_runs_and_its_record_says_what_no_figure_can_be_told(tmp_path):
    told = {"schedule": "one_cycle", "label_smoothing": 0.25}
    run_by_papermill("beyond", tmp_path / "out.ipynb", **TINY, **told, num_validation=1000, runs_folder=str(tmp_path))
    (path,) = tmp_path.glob("*.json")
    (record,) = read_records(path)
    assert {name: record[name] for name in IMPLIED} == told
    assert len(record["validation_accuracies"]) == 2
    assert path.stem == record_key(record)


def test_a_cycle_is_no_beginning_of_a_longer_one():
    setting = notebooks.defaults("beyond") | {"seed": 0}
    num_epochs = setting["num_epochs"] + 20
    longer = made_up_record(setting | {"num_epochs": num_epochs})
    assert select([longer], setting) == []
    assert select([longer], setting | {"num_epochs": num_epochs}) == [longer]
    constant = setting | {"schedule": "constant"}
    (cut,) = select([made_up_record(constant | {"num_epochs": num_epochs})], constant)
    assert cut["num_epochs"] == len(cut["test_accuracies"]) == setting["num_epochs"]


@pytest.mark.parametrize(("name", "other"), [("schedule", "one_cycle"), ("label_smoothing", 0.1)])
def test_what_is_implied_gives_the_run_of_a_notebook_that_cannot_be_told(name, other):
    assert run_key(FIGURE_9) == run_key(FIGURE_9 | {name: IMPLIED[name]})
    assert run_key(FIGURE_9) != run_key(FIGURE_9 | {name: other})


# Candidates


def test_every_candidate_is_a_setting_that_a_run_can_have():
    for search in CLAIMS.beyond.values():
        assert list(search.held_out) == list(search.candidates)
        for name, setting in search.held_out.items():
            check_names(setting, notebooks.defaults("beyond"))
            assert check_parameters(setting) == setting
            assert setting["num_validation"] == claims.NUM_VALIDATION
            assert search.candidates[name] == setting | {"num_validation": 0}


def test_candidates_within_the_cost_of_figure_9_take_no_more_arithmetic():
    for name, setting in CLAIMS.beyond["within_cost"].candidates.items():
        assert training_cost(setting) <= training_cost(FIGURE_9), name


def test_the_notebook_has_what_was_chosen_within_the_cost_of_figure_9():
    search = CLAIMS.beyond["within_cost"]
    assert search.candidates[search.chosen] == notebooks.defaults("beyond")


@pytest.mark.parametrize("search", CLAIMS.beyond.values(), ids=CLAIMS.beyond)
def test_the_chosen_candidate_is_the_best_on_the_committed_held_out_images(search):
    """By the mean over the seeds; the test accuracies are not looked at."""
    means = {
        candidate.name: candidate.validation.mean
        for candidate in Study.read().candidates
        if candidate.name in search.candidates
    }
    assert not np.isnan([*means.values()]).any()
    assert max(means, key=means.get) == search.chosen


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


def test_the_command_line_offers_the_candidates_and_the_chosen_ones(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "candidates, beyond; what figures/runs.jsonl has is not run again" in text
