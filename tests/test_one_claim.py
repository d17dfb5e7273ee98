"""A claim tested by a reader's own runs: every claim, trials, Stop, and a training by papermill."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import made_up_record, names_in, run_by_papermill, study_of, without

from common.errors import UserError
from report import one_claim, verdict
from report.drawings import draw_claim
from report.one_claim import ClaimTest
from study import claims, plan, rule
from study.plan import Run
from study.record import record_key, to_line
from study.table import read_records

CLAIMS = claims.load()
NAMES = list(CLAIMS.comparisons)
SEEDS = 4


def records_of(test, num_seeds=SEEDS):
    """Make up records for the trainings of a claim, with accuracies that scatter."""
    random = np.random.default_rng(0)
    return [
        made_up_record(setting, seed, round(0.8 + random.normal(0, 0.01), 4))
        for _, setting in test.trainings
        for seed in range(num_seeds)
    ]


def leave(records, folder):
    for record in records:
        (folder / f"{record_key(record)}.json").write_text(to_line(record), encoding="utf-8")


@pytest.fixture(autouse=True)
def shown(monkeypatch):
    """Collect what a notebook would show, in a dict: lines of text, and the seeds of the drawings."""
    collected = {"lines": [], "seeds": []}

    class Handle:
        display_id = "the picture"

        def update(self, content, raw):
            collected["lines"].append(content["text/plain"])

    def draw(comparison, *arguments):
        collected["seeds"].append(comparison.num_seeds)
        return draw_claim(comparison, *arguments)

    monkeypatch.setattr(one_claim, "display", lambda *_, **options: Handle())
    monkeypatch.setattr(one_claim, "show", lambda *_, **options: Handle())
    monkeypatch.setattr(one_claim, "draw_claim", draw)
    return collected


@pytest.fixture
def made(monkeypatch):
    """Collect the jobs that are to be trained; each leaves made-up records."""
    jobs = []

    def make(job, on_epoch):
        jobs.append(job)
        on_epoch(1, 0.5)
        for run in job.runs:
            leave([made_up_record(run.parameters, run.parameters["seed"], 0.8)], run.record_path.parent)

    monkeypatch.setattr(one_claim, "make", make)
    return jobs


# Every claim


@pytest.fixture(autouse=True)
def without_garbage_collection(monkeypatch):
    """Let statsmodels, which collects garbage whenever it corrects p-values, do without: here it takes most time."""
    monkeypatch.setattr("gc.collect", lambda *_: 0)


@pytest.mark.parametrize("name", NAMES)
def test_a_claim_is_judged_by_the_rule_alone_and_what_has_left_a_record_is_not_trained_again(name, tmp_path, made):
    test = ClaimTest(name, SEEDS, device="cpu", runs_folder=str(tmp_path))
    records = records_of(test)
    leave(records, tmp_path)
    assert test.missing == []
    test.run()
    assert made == []
    alone = replace(CLAIMS, comparisons={name: CLAIMS.comparisons[name]})
    (whole,) = study_of(records, alone).comparisons
    judged = test.comparison
    assert judged.num_seeds == SEEDS
    assert repr(judged.pairs) == repr(whole.pairs)  # nan differs from itself, its name does not
    assert judged.verdict == rule.decide(whole.p_of_decisions, CLAIMS.protocol.level)
    ends = rule.interval(whole.stated.relation, whole.excess, CLAIMS.protocol.level)
    assert judged.interval == tuple(end + whole.stated.margin for end in ends)
    assert f"the claim {verdict.WORDS[judged.verdict][0]}" in test.verdict().data
    assert CLAIMS.comparisons[name].text in test.describe().data
    figure, alt = test.picture()
    (dots,) = [line for line in figure.axes[0].lines if line.get_label() == "a seed's difference"]
    assert dots.get_ydata() == pytest.approx(100 * np.array(judged.least_favourable.difference.accuracies))
    assert alt.startswith("Dots for the differences seed by seed, ")


@pytest.mark.parametrize("name", NAMES)
def test_a_trial_of_any_claim_shortens_its_trainings_alike_and_says_so(name, tmp_path):
    usual, trial = (ClaimTest(name, SEEDS, epochs, "cpu", str(tmp_path)) for epochs in (0, 8))
    lengths = [[setting["num_epochs"] for _, setting in test.claim.runs] for test in (usual, trial)]
    longest = max(lengths[0])
    assert lengths[1] == [round(8 / longest * length) for length in lengths[0]]
    assert len({*lengths[1]}) == len({*lengths[0]})
    for (_, own), (_, short) in zip(usual.claim.runs, trial.claim.runs, strict=True):
        assert without(own, "num_epochs", "num_rounds") == without(short, "num_epochs", "num_rounds")
    assert usual.trial == ""
    assert trial.estimate().data.startswith(f"**Trial: 8 epochs in place of {longest}.** ")
    leave(records_of(trial), tmp_path)
    assert trial.verdict().data.startswith(f"**In this trial, with {SEEDS} seeds: the claim ")
    assert "it says nothing about the claim itself" in trial.verdict().data


def test_a_trial_that_would_be_longer_than_the_claims_trainings_is_none():
    assert ClaimTest("he", SEEDS, 11).trial == ""


def test_the_committed_verdict_stands_beside_ones_own(tmp_path, monkeypatch):
    test = ClaimTest("he", SEEDS, runs_folder=str(tmp_path))
    committed = json.loads(verdict.COMMITTED.read_text(encoding="utf-8"))["comparisons"]
    (he,) = [each for each in committed if each["name"] == "he"]
    assert f"**{he['verdict']}** (" in test.verdict().data
    assert f"{he['seeds']} seeds)." in test.verdict().data
    for content in ("", "{}", '{"comparisons": []}'):
        monkeypatch.setattr(verdict, "COMMITTED", tmp_path / "verdicts.json")
        (tmp_path / "verdicts.json").write_text(content, encoding="utf-8")
        assert test.verdict().data.endswith("There is no committed verdict on this claim.")
        test.picture()


# What makes no sense


@pytest.mark.parametrize(
    ("claim", "trial_epochs", "complaint"),
    [
        ("batchnorm", 0, "claim is 'batchnorm': expected a name under comparisons in claims.yaml, such as batch_norm"),
        ("?", 0, "claim is '?': expected a name under comparisons in claims.yaml, such as n01_epochs, "),
        ("epochs_256_0.1", 1, "trial_epochs is 1: expected more, up to 15, since some settings of epochs_256_0.1 "),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(claim, trial_epochs, complaint):
    with pytest.raises(UserError) as refused:
        ClaimTest(claim, SEEDS, trial_epochs)
    assert str(refused.value).startswith(complaint)
    assert "\n" not in str(refused.value)


# Training


def test_the_differences_come_seed_by_seed(tmp_path, made, shown):
    test = ClaimTest("grid", 2, device="cpu", runs_folder=str(tmp_path))
    test.run()
    assert [job.first.parameters["seed"] for job in made] == 9 * [0] + 9 * [1]  # the longest of the 27 serve for all
    assert {len(job.runs) for job in made} == {1}
    assert shown["seeds"] == [0, 1, 2]


def test_on_a_gpu_the_seeds_of_a_setting_are_trained_together(tmp_path, made, monkeypatch):
    monkeypatch.setattr(plan, "device_kind", lambda name: "cuda")
    test = ClaimTest("he", 10, runs_folder=str(tmp_path))
    assert "many times less on this GPU" in test.estimate().data
    test.run()
    assert [(job.first.notebook, len(job.runs)) for job in made] == [
        ("figure_4", 8),
        ("figure_3", 8),
        ("figure_4", 2),
        ("figure_3", 2),
    ]


def test_whoever_stops_it_keeps_the_seeds_that_are_complete_and_can_go_on(tmp_path, made, monkeypatch, shown):
    make = one_claim.make

    def make_five(job, on_epoch):
        if len(made) == 5:
            raise KeyboardInterrupt
        make(job, on_epoch)

    monkeypatch.setattr(one_claim, "make", make_five)
    test = ClaimTest("he", 4, device="cpu", runs_folder=str(tmp_path))
    test.run()
    assert shown["lines"][-1] == "Stopped: 2 seeds of 4 are complete. Run this cell again to go on."
    assert test.verdict().data.startswith("Seeds that are complete: 2. A verdict takes 3.")
    monkeypatch.setattr(one_claim, "make", make)
    test.run()
    assert len(made) == 8
    assert shown["lines"][-1].startswith("3 trainings in 0:0")
    assert test.comparison.num_seeds == 4


def test_the_time_left_is_estimated_and_then_measured(monkeypatch, shown):
    now = [0.0]
    monkeypatch.setattr(one_claim.time, "monotonic", lambda: now[0])
    (run, *_) = runs = ClaimTest("he", 2, trial_epochs=2, device="cpu").missing
    progress = one_claim.Progress(runs)
    progress.begin(plan.Job((run,)))
    expected = one_claim.minutes(plan.EPOCH * sum(run.cost for run in runs))
    now[0] = 10.0
    progress.on_epoch(1, 10.0)
    assert shown["lines"] == [
        f"figure_4 seed 0, num_epochs 2: epoch 1 of 2, about {expected} left",
        "figure_4 seed 0, num_epochs 2: epoch 2 of 2, about 1:10 left",  # seven eighths
    ]


def test_by_papermill_it_trains_what_is_missing_and_ends_with_a_verdict(tmp_path):
    test = ClaimTest("he", 3, 1, "cpu", str(tmp_path))
    first, *others = records_of(test, 3)
    leave(others, tmp_path)
    (run,) = test.missing
    notebook = run_by_papermill(
        "test_a_claim", tmp_path / "out.ipynb", num_seeds=3, device="cpu", runs_folder=str(tmp_path)
    )
    (trained,) = read_records(run.record_path)
    assert trained["test_accuracy"] > 0.3
    assert record_key(trained) == record_key(first)
    assert trained["threads"] == 1
    assert len([name for name in names_in(tmp_path) if name.endswith(".json")]) == 6
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    (drawing,) = [output for output in outputs if "image/svg+xml" in output.get("data", {})]
    assert drawing.metadata["image/svg+xml"]["alt"].startswith("Dots for the differences seed by seed, ")
    assert "1 training in 0:" in json.dumps(notebook)
    assert outputs[-1].data["text/markdown"] == test.verdict().data


def test_what_is_trained_is_what_the_claim_is_about():
    for name, claim in CLAIMS.comparisons.items():
        own = ClaimTest(name, 1, device="cpu").trainings
        keys = {plan.training(setting) for _, setting in own}
        assert keys == {plan.training(setting) for _, setting in claim.runs}
        assert all(Run(notebook, setting).cost > 0 for notebook, setting in own)
