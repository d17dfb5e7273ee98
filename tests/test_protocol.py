"""The protocol's runs: everything that a verdict needs, once, and the most important first."""

from dataclasses import replace

import pytest
from conftest import made_up_record

import reproduce
from common.parameters import IMPLIED, PARAMETERS, check_parameters
from study import claims, protocol
from study.batch import Progress
from study.plan import Job
from study.record import processor, run_key
from study.table import TABLE, merge, select

CLAIMS = claims.load()
RUNS = protocol.runs(CLAIMS)
DECIDING = [planned for planned in RUNS if planned.decides]


def test_the_seeds_that_decide_are_fresh_and_the_same_for_all():
    assert CLAIMS.protocol.seeds == range(100, 132)
    assert {planned.seeds for planned in DECIDING} == {range(100, 132)}
    for planned in RUNS:
        assert set(planned.seeds) <= set(range(100, 132))


def test_everything_that_a_verdict_needs_is_among_the_runs():
    records = [made_up_record(planned.setting, seed=100) for planned in DECIDING]
    needed = [figure.setting for figure in CLAIMS.figures.values()]
    needed += [setting for claim in CLAIMS.comparisons.values() for pair in claim.pairs for setting in pair]
    needed += [row.setting for sweep in CLAIMS.sweeps.values() for row in sweep.reported]
    for setting in needed:
        assert len(select(records, setting)) == 1


def test_nothing_is_run_twice_or_is_the_beginning_of_another_run():
    trainings = [protocol.training(planned.setting) for planned in DECIDING]
    assert len(set(trainings)) == len(trainings)
    keys = [run_key(planned.setting | {"seed": 100}) for planned in RUNS]
    assert len(set(keys)) == len(keys)


def test_every_setting_is_one_that_its_notebook_can_run():
    for planned in RUNS:
        assert "seed" not in planned.setting
        assert planned.setting.keys() | {"seed", "num_rounds", *IMPLIED} == PARAMETERS.keys()
        check_parameters(planned.setting | {"seed": 100})


def test_the_figures_come_first_and_what_decides_nothing_last():
    of_figures = {protocol.training(figure.setting) for figure in CLAIMS.figures.values()}
    assert {protocol.training(planned.setting) for planned in RUNS[: len(of_figures)]} == of_figures
    decides = [planned.decides for planned in RUNS]
    assert decides == sorted(decides, reverse=True)


def test_what_is_made_besides_is_what_claims_yaml_names():
    besides = [planned for planned in RUNS if not planned.decides]
    chosen = [search.candidates[search.chosen] for search in CLAIMS.beyond.values()]
    for setting in chosen:
        (planned,) = [planned for planned in besides if planned.setting == protocol.without_seed(setting)]
        assert planned.seeds == range(100, 110)
    trainings = {protocol.training(planned.setting) for planned in RUNS if len(planned.seeds) >= 8}
    for _, setting in CLAIMS.factorial.runs:
        assert protocol.training(setting) in trainings
    for name in CLAIMS.held_out:
        for setting in CLAIMS.sweeps[name].held_out:
            assert protocol.training(setting) in trainings


def test_a_figure_that_is_the_beginning_of_a_longer_run_has_runs_of_its_own_to_compare_images():
    own = [planned for planned in RUNS if protocol.without_seed(CLAIMS.figures["figure_4"].setting) == planned.setting]
    assert [planned.decides for planned in own] == [False]


@pytest.mark.parametrize("num_epochs", [5, 40])
def test_the_longest_of_a_setting_is_run_wherever_it_is_named(num_epochs):
    figure = CLAIMS.figures["figure_3"]
    longer = figure.setting | {"num_epochs": num_epochs}
    claim = replace(CLAIMS.comparisons["he"], runs=(("figure_3", longer),))
    runs = protocol.runs(replace(CLAIMS, comparisons={"he": claim}))
    (planned,) = [p for p in runs if protocol.training(p.setting) == protocol.training(longer) and p.decides]
    assert planned.setting["num_epochs"] == max(num_epochs, figure.setting["num_epochs"])


# What is missing

HERE, THERE = ("cpu", processor("cpu")), ("cpu", "another kind")
CLAIM = CLAIMS.comparisons["adam_rmsprop"]
LAST_OF_CLAIM = CLAIM.runs[-1][1]


def missing(records, kind=HERE):
    """Say what is missing, as pairs of setting and seed."""
    runs = protocol.missing_runs(CLAIMS, records, kind, {"runs_folder": "elsewhere"})
    assert {run.parameters["runs_folder"] for run in runs} <= {"elsewhere"}
    return [(protocol.training(run.parameters), run.parameters["seed"]) for run in runs]


def records_of(planned, seeds, kind):
    return [
        made_up_record(run.setting, seed, device=kind[0], processor=kind[1])
        for run in planned
        for seed in seeds
        if seed in run.seeds
    ]


def pairs(settings, seeds):
    return [(protocol.training(setting), seed) for seed in seeds for setting in settings]


def test_without_records_all_runs_are_missing_and_with_all_of_them_none():
    assert len(missing([])) == sum(len(run.seeds) for run in RUNS)
    assert missing(records_of(RUNS, CLAIMS.protocol.seeds, THERE)) == []


def test_the_runs_of_a_claim_are_missing_seed_by_seed_in_the_order_of_the_claims():
    kept = [run for run in RUNS if len(run.seeds) == 32]
    assert [seed for _, seed in missing(records_of(kept, range(103), HERE))[:29]] == list(range(103, 132))
    of_figures = len(CLAIMS.figures) * 32
    assert [setting for setting, _ in missing([])[:of_figures:32]] == [
        protocol.training(figure.setting) for figure in CLAIMS.figures.values()
    ]


def test_what_a_claim_lacks_is_run_with_all_it_is_compared_with_on_one_kind_of_processor():
    settings = [setting for _, setting in CLAIM.runs]
    seeds = range(105, 132)
    there = records_of(RUNS, CLAIMS.protocol.seeds, THERE)
    lost = pairs([LAST_OF_CLAIM], seeds)
    there = [r for r in there if (protocol.training(r), r["seed"]) not in lost]
    assert missing(there, THERE) == lost
    assert missing(there, HERE) == pairs(settings, seeds)
    begun = records_of([run for run in RUNS if run.setting == protocol.without_seed(settings[0])], [105, 106], HERE)
    assert missing(there + begun, HERE) == [
        pair for pair in pairs(settings, seeds) if pair not in pairs(settings[:1], [105, 106])
    ]


COMPARED_BESIDES = {"factorial": [setting for _, setting in CLAIMS.factorial.runs]} | {
    name: CLAIMS.sweeps[name].held_out for name in CLAIMS.held_out
}


@pytest.mark.parametrize("settings", COMPARED_BESIDES.values(), ids=COMPARED_BESIDES)
def test_what_is_compared_though_it_decides_nothing_is_on_one_kind_of_processor_as_well(settings):
    there = records_of(RUNS, CLAIMS.protocol.seeds, THERE)
    deciding = {protocol.training(planned.setting) for planned in DECIDING}
    lost = pairs([next(s for s in settings if protocol.training(s) not in deciding)], [105, 107])
    there = [r for r in there if (protocol.training(r), r["seed"]) not in lost]
    assert missing(there, THERE) == lost
    assert missing(there, HERE) == list(dict.fromkeys(pairs(settings, [105, 107])))  # a sweep names some seeds itself


# By the batch


def test_the_batch_lists_what_is_missing_here(capsys, tmp_path):
    (tmp_path / "figures").mkdir()
    merge(tmp_path / "figures" / TABLE, records_of(RUNS, [100, 131], HERE)[1:])
    reproduce.main(["--protocol", "--seeds", "131", "100", "--list", "--output", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[-1].split(",")[0] for line in lines[:-2]] == ["figure_2 seed 100"]


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        (["--protocol", "4"], "leave out figures"),
        (["--protocol", "--quick"], "leave out figures"),
        (["--protocol", "--seeds", "7"], "seed 7 is none of the protocol's: choose from 100 to 131"),
    ],
)
def test_what_is_not_the_protocols_is_refused_in_a_line(arguments, refusal):
    with pytest.raises(SystemExit, match=refusal) as refused:
        reproduce.main(arguments)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("shows_accuracy", [True, False])
def test_progress_of_the_protocol_shows_no_accuracy(capsys, tmp_path, shows_accuracy):
    (run, *_) = protocol.missing_runs(CLAIMS, [], HERE, {"runs_folder": str(tmp_path)})
    line = "epoch 1 of 40: train loss 2.3, train accuracy 0.1, test accuracy 0.1234"
    Progress([Job((run,))], (), shows_accuracy).on_line(run.key, line)
    shown = capsys.readouterr().out
    assert "epoch 1 of 40" in shown
    assert ("0.1234" in shown) == shows_accuracy


def test_the_batch_of_the_protocol_hides_accuracies(tmp_path):
    options = reproduce.parse(["--protocol", "--output", str(tmp_path)])
    assert options.seeds == list(range(100, 132))
    assert not reproduce.batch_of(options).shows_accuracy
    assert reproduce.batch_of(reproduce.parse(["4", "--output", str(tmp_path)])).shows_accuracy
