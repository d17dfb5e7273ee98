"""Many seeds trained at once are those trained one by one: nets, curves and records."""

import math
import re
import sys
import time
from dataclasses import replace

import pytest
import torch
from conftest import ROOT, names_in, run_notebook, without

import my_utils as mu
import reproduce
from benchmarks import gpu
from common.errors import UserError
from study import claims, notebooks, plan
from study.many_seeds import make, train_many, write_records
from study.plan import Job, Run, share_out
from study.record import record_key, run_key, to_line
from study.table import TABLE, read_records

SEEDS = [3, 5, 8]
TINY = {"num_hidden": [16, 8, 8, 6, 4], "train_limit": 200, "num_epochs": 2, "batch_size": 70}
TINY |= {"device": "cpu"}
SETTINGS = {
    "figure_4": {"num_validation": 150},
    "figure_5": {"num_rounds": 1, "optimizer_name": "SGD_momentum", "learning_rate": 0.05},
    "figure_6": {"optimizer_name": "RMSprop", "learning_rate": 0.001},
    "figure_7": {"dropout": 0.0, "optimizer_name": "AdamW", "weight_decay": 0.1},
    "figure_8": {"norm_axis": 2, "norm_after_relu": True, "patching": 1},
    "figure_9": {"dropout": 0.0, "augmentation": ["RandomAffine", "RandomErasing"], "num_validation": 100},
    "beyond": {"dropout": 0.0, "schedule": "one_cycle", "label_smoothing": 0.1},
}


def setting_of(notebook, folder, **changes):
    return notebooks.defaults(notebook) | TINY | SETTINGS[notebook] | {"runs_folder": str(folder)} | changes


@pytest.fixture
def in_float64(monkeypatch):
    """Let nets and images be float64, where only the order of summation is left to differ."""
    in_float32 = mu.Batches.batch

    def batch(self, positions, numbers):
        X, y = in_float32(self, positions, numbers)
        return X.double(), y

    monkeypatch.setattr(mu.Batches, "batch", batch)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("few_images", "in_float64")
@pytest.mark.parametrize("notebook", SETTINGS)
def test_the_notebook_of_many_seeds_makes_the_nets_curves_and_records_of_single_runs(notebook, tmp_path):
    setting = setting_of(notebook, tmp_path / "together")
    job = Job(tuple(Run(notebook, setting | {"seed": seed}) for seed in SEEDS))
    made = run_notebook(job.notebook, **job.parameters_on(str(ROOT)))
    for seed, (net, history, correct) in zip(SEEDS, made["trained"], strict=True):
        alone = run_notebook(notebook, **setting | {"seed": seed, "runs_folder": str(tmp_path / "alone")})
        torch.testing.assert_close(net.state_dict(), alone["net"].state_dict(), rtol=1e-10, atol=1e-10)
        assert history == [pytest.approx(epoch, rel=1e-10) for epoch in alone["history"]]
        assert torch.equal(correct, mu.predict_correct(alone["net"], alone["test_iter"]))
    assert names_in(tmp_path / "together") == names_in(tmp_path / "alone")
    for name in names_in(tmp_path / "alone"):
        ((together,), (alone,)) = (read_records(tmp_path / way / name) for way in ("together", "alone"))
        assert list(together) == list(alone)
        assert together["forward"] == f"{alone['forward']}, 3 seeds at once"
        differing = ("forward", "train_losses")
        assert without(together, *differing) == without(alone, *differing)
        assert together["train_losses"] == pytest.approx(alone["train_losses"], rel=1e-10)


@pytest.mark.usefixtures("few_images")
def test_no_record_tells_of_another_training(tmp_path):
    setting = setting_of("figure_4", tmp_path)
    trained = train_many(setting, SEEDS)
    for changed, seeds, sentence in (
        ({"learning_rate": 0.3}, SEEDS, "learning_rate is 0.3, and the training had 0.1"),
        ({}, [5, 3, 8], "other weights or statistics than a new network of seed 5"),
    ):
        with pytest.raises(UserError, match=sentence):
            write_records("figure_4", setting | changed, seeds, trained)
    assert not names_in(tmp_path)


@pytest.mark.usefixtures("few_images", "in_float64")
def test_a_lost_net_leaves_the_others_alone(monkeypatch, tmp_path):
    usual = mu.net_of

    def net_of(setting):
        net = usual(setting)
        if setting["seed"] == 5:
            torch.nn.init.constant_(net.stem.linear.weight, torch.nan)
        return net

    setting = setting_of("figure_4", tmp_path)
    expected = train_many(setting, [3, 8])
    monkeypatch.setattr(mu, "net_of", net_of)
    (_, first, _), (lost, history, _), (_, last, _) = train_many(setting, SEEDS)
    for actual, (_, alone, _) in zip((first, last), expected, strict=True):
        assert actual == [pytest.approx(epoch, rel=1e-10) for epoch in alone]
    assert all(math.isnan(epoch["train_loss"]) for epoch in history)
    assert lost.classifier.linear.weight.isnan().all()
    ((_, alone, _),) = train_many(setting, [5])
    assert history == [pytest.approx(epoch, rel=1e-10, nan_ok=True) for epoch in alone]


@pytest.mark.usefixtures("few_images", "in_float64")
def test_where_all_nets_are_lost_no_more_epochs_are_trained(monkeypatch, tmp_path):
    usual, ended = mu.net_of, []
    monkeypatch.setattr(
        mu, "net_of", lambda setting: usual(setting).apply(lambda m: [p.data.fill_(torch.nan) for p in m.parameters()])
    )
    trained = train_many(setting_of("figure_4", tmp_path, num_epochs=4), [3, 5], lambda *epoch: ended.append(epoch))
    write_records("figure_4", setting_of("figure_4", tmp_path, num_epochs=4), [3, 5], trained)
    assert [epoch for epoch, _ in ended] == [1, 2, 3, 4]
    (record,) = read_records(tmp_path / names_in(tmp_path)[0])
    assert record["train_losses"] == 4 * [None]
    assert len(set(record["test_accuracies"])) == 1


@pytest.mark.usefixtures("few_images")
def test_the_same_seeds_together_give_the_same_numbers_again(tmp_path):
    setting = setting_of("figure_9", tmp_path, dropout=0.3)
    first, again = (train_many(setting, SEEDS) for _ in range(2))
    histories = [[history for _, history, _ in trained] for trained in (first, again)]
    assert histories[0] == histories[1]
    assert len({str(history) for history in histories[0]}) == 3


@pytest.mark.usefixtures("few_images")
@pytest.mark.parametrize("notebook", ["figure_8", "beyond"])
def test_a_job_of_one_run_leaves_the_record_of_its_notebook_bit_for_bit(notebook, tmp_path):
    setting = setting_of(notebook, tmp_path / "made") | {"seed": 3}
    make(Job((Run(notebook, setting),)))
    run_notebook(notebook, **setting | {"runs_folder": str(tmp_path / "alone")})
    (name,) = names_in(tmp_path / "alone")
    assert (tmp_path / "made" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


# In the batch, where there is a GPU


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Let the batch take the CPU for a GPU."""
    monkeypatch.setattr(plan, "device_kind", lambda name: "cuda")


def run_with(seed, notebook="figure_4", **changes):
    return Run(notebook, setting_of("figure_4", "runs", seed=seed) | changes)


def test_on_a_cpu_every_run_is_an_execution_of_its_own_notebook():
    runs = [run_with(seed) for seed in SEEDS]
    assert [(job.notebook, job.runs, job.parameters_on(str(ROOT))) for job in share_out(runs)] == [
        ("figure_4", (run,), run.parameters) for run in runs
    ]


def test_on_a_gpu_the_seeds_of_a_setting_are_one_execution(as_on_a_gpu):
    first, other = [run_with(seed) for seed in range(40)], [run_with(seed, learning_rate=0.3) for seed in (7, 5)]
    alone, elsewhere = run_with(0, learning_rate=0.4), [run_with(seed, "figure_5") for seed in (50, 51)]
    shuffled = [*first[:9], other[0], alone, *first[9:], other[1], *elsewhere]
    jobs = share_out(shuffled)
    assert [job.runs for job in jobs] == [
        tuple(first[:32]),
        tuple(first[32:]),
        tuple(other),
        (alone,),
        tuple(elsewhere),
    ]
    assert [job.notebook for job in jobs] == 3 * ["many_seeds"] + ["figure_4", "many_seeds"]
    assert sum(job.cost for job in jobs) == pytest.approx(sum(run.cost for run in shuffled))
    given = jobs[2].parameters_on("a copy")
    assert (given["notebook"], given["seeds"], given["device"], given["runs_folder"]) == (
        *("figure_4", [7, 5], "cuda", "runs"),
    )
    assert notebooks.defaults("figure_4") | given["overrides"] | {"seed": 7, "device": "cpu"} == other[0].parameters
    assert given["overrides"].keys() == {"learning_rate", "num_validation", *without(TINY, "device")}
    assert str(jobs[2]).startswith("figure_4 seed 7, learning_rate 0.3")
    assert str(jobs[2]).endswith(", and 1 more of its seeds")


def test_the_batch_makes_the_seeds_of_a_setting_at_once_where_there_is_a_gpu(
    as_on_a_gpu, tmp_path, unpublished, capsys
):
    small = [word for name, value in TINY.items() for word in ("-p", name, str(value))]
    reproduce.main(["4", "--seeds", *map(str, SEEDS), *small, "--output", str(tmp_path)])
    records = read_records(tmp_path / "figures" / TABLE)
    assert [record["seed"] for record in records] == SEEDS
    assert {record["forward"] for record in records} == {"fast_forward, 3 seeds at once"}
    keys = [record_key(record) for record in records]
    assert names_in(tmp_path / "runs") == sorted(["batch.lock", f"{keys[0]}.ipynb", *(f"{key}.json" for key in keys)])
    printed = capsys.readouterr().out
    assert "3 runs, 0 done before, 1 at a time" in printed
    assert re.search(r"^figure_4 seed 3, and 2 more of its seeds: epoch 2 of 2 \(100 %\)$", printed, re.MULTILINE)


def test_two_notebooks_share_a_gpu_unless_the_user_says_otherwise(as_on_a_gpu, tmp_path):
    for arguments, jobs in (([], 2), (["--jobs", "5"], 5)):
        options = reproduce.parse(["4", "--output", str(tmp_path), *arguments])
        assert reproduce.batch_of(options).jobs == jobs


# All of the protocol on a GPU


def test_the_protocols_missing_runs_are_made_and_put_into_a_table(tmp_path, monkeypatch):
    stated = claims.load()
    settings = {
        "figure_4": setting_of("figure_4", tmp_path),
        "figure_5": setting_of("figure_5", tmp_path, num_epochs=10**6),  # takes too long
        "figure_8": setting_of("figure_8", tmp_path),
    }
    figures = {name: replace(stated.figures[name], setting=setting) for name, setting in settings.items()}
    seeds = replace(stated.protocol, seeds=range(4, 6), besides={})
    small = replace(stated, figures=figures, comparisons={}, sweeps={}, protocol=seeds)
    monkeypatch.setattr(claims, "load", lambda: small)
    there = settings["figure_4"] | {"seed": 4}
    write_records("figure_4", there, [4], train_many(there, [4]))
    ((record,),) = (read_records(tmp_path / name) for name in names_in(tmp_path))
    (tmp_path / "runs.jsonl").write_text(to_line(record), encoding="utf-8")
    gpu.run_protocol(tmp_path, time.monotonic() + 300, device="cpu")
    records = read_records(tmp_path / "runs.jsonl")
    short = (settings["figure_4"], settings["figure_8"])
    expected = {run_key(setting | {"seed": seed}) for setting in short for seed in (4, 5)}
    assert {record_key(record) for record in records} == expected
    assert len(records) == 4
    assert records[0] == record


def test_without_a_gpu_that_is_said_in_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--output", str(tmp_path / "output"), "--seconds", "10"])
    with pytest.raises(SystemExit, match=r"^benchmarks/gpu\.py: there is no GPU that PyTorch can use$"):
        gpu.main()
    assert not (tmp_path / "output").exists()
