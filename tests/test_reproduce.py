"""The batch, run as its users run it, on real data with small parameters."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT, SWEEP, TINY, made_up_bits, made_up_record, pdf_text, record_files, refusal, run_batch

from common import formatting
from reproduce import main
from study import claims, notebooks
from study.batch import Progress
from study.plan import Job, plan, sweep_names
from study.record import record_key, run_key, to_line
from study.table import TABLE, read_records, select
from tests.faults import copy_project

FIGURES = [f"figure_{number}" for number in range(2, 10)]


def table_lines(output):
    return (output / "figures" / TABLE).read_bytes().splitlines()


def is_swept(record):
    """Say whether a record is that of the sweep; the others are those of the figures."""
    return record["notebook"] == "figure_6" and record["learning_rate"] == 0.2


def figures_of(output):
    """Return the records in a batch's table but those of the sweep, by notebook."""
    table = read_records(output / "figures" / TABLE)
    return {record["notebook"]: record for record in table if not is_swept(record)}


def record_path(output, notebook):
    """Return where a batch has left the record of a figure."""
    return output / "runs" / f"{record_key(figures_of(output)[notebook])}.json"


def kernels(marker):
    """List the processes that have the marker in their environment, which kernels inherit."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # the process has ended meanwhile
            if f"{marker}=1".encode() in environment.read_bytes():
                found.append(environment.parent.name)
    return found


# A whole batch


def test_a_batch_leaves_a_record_and_an_executed_notebook_for_every_figure_and_for_the_sweep(batch):
    output, _ = batch
    found = [json.loads(content) for content in record_files(output).values()]
    assert sorted(record["notebook"] for record in found if not is_swept(record)) == FIGURES
    assert len([record for record in found if is_swept(record)]) == 1
    for record in found:
        assert len(record["test_accuracies"]) == 3, record["notebook"]
        assert record["train_limit"] == 600
        assert record["forward"] == "fast_forward"
        assert record["threads"] == 1
    assert len(list((output / "runs").glob("*.ipynb"))) == 9


def test_a_batch_draws_every_figure_and_keeps_the_table_of_all_records_beside_them(batch):
    output, _ = batch
    for name in FIGURES:
        assert (output / "figures" / f"{name}.svg").read_text(encoding="utf-8").startswith("<?xml")
    assert sorted(table_lines(output)) == sorted(content.strip() for content in record_files(output).values())


def test_a_batch_ends_with_a_table_of_reported_and_measured_accuracies(batch):
    output, printed = batch
    for name, figure in claims.load().figures.items():
        accuracy = figures_of(output)[name]["test_accuracy"]
        (row,) = [line for line in printed.splitlines() if line.startswith(f"{name}     0")]
        assert f"{figure.reported:.4f}" in row
        assert f"{accuracy:.4f}" in row
        assert formatting.points(accuracy - figure.reported) in row


def test_a_batch_says_which_run_is_at_which_epoch_and_how_long_it_will_take(batch):
    _, printed = batch
    lines = [line for line in printed.splitlines() if line.startswith("figure_9 seed 0: epoch 3 of 3")]
    assert re.fullmatch(r"figure_9 seed 0: epoch 3 of 3, test accuracy 0\.\d{4} \(\d+ %(, \d+:\d\d left)?\)", lines[0])
    assert "figure_6 seed 0, learning_rate 0.2: done in " in printed
    for phase in ("Drawing the figures …", "Writing the report"):
        assert phase in printed


def test_a_trial_says_so_in_the_beginning_and_in_the_end(batch):
    _, printed = batch
    first, *_, last = printed.splitlines()
    assert first == "Trial: num_epochs 3, train_limit 600"
    assert last.startswith(first)


@pytest.mark.parametrize("lost_after", [0, 3, 7])
def test_the_time_left_counts_the_epochs_of_all_rounds_and_those_of_a_lost_worker_once(capsys, tmp_path, lost_after):
    (run,) = plan([5], [], [0], {}, tmp_path)
    progress = Progress([Job((run,))])
    epochs = [1, 2, 3, 4, 5] * 3
    for epoch in epochs[:lost_after] + epochs:
        progress.on_line(run.key, f"epoch {epoch} of 5: training loss 0.5000, test accuracy 0.8000")
    assert progress.done == pytest.approx(run.cost)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "figure_5 seed 0: epoch 15 of 15, test accuracy 0.8000 (100 %)"
    assert all(len(line) < 80 for line in lines)


def test_weights_from_n01_end_at_the_accuracy_of_guessing(batch):
    output, _ = batch
    record = figures_of(output)["figure_2"]
    assert record["test_accuracy"] == 0.1
    assert record["train_losses"][-1] is None


def test_executed_notebooks_show_their_data_and_their_curves_as_vectors_with_alternative_texts_and_no_error(batch):
    output, _ = batch
    for path in (output / "runs").glob("*.ipynb"):
        outputs = [out for cell in nbformat.read(path, 4).cells if cell.cell_type == "code" for out in cell.outputs]
        drawings = [out for out in outputs if "image/svg+xml" in out.get("data", {})]
        images, curves = [out.metadata["image/svg+xml"]["alt"] for out in drawings]
        assert images.startswith("Small grey pictures: ankle boot, ")
        assert "test accuracy" in curves
        assert not [out for out in outputs if out.output_type == "error" or out.get("name") == "stderr"], path


# The report


def test_the_pdf_sets_every_figure_beside_its_reported_number(batch):
    output, _ = batch
    text = pdf_text(output / "figures" / "report.pdf")
    for figure in claims.load().figures.values():
        assert f"Figure {figure.number}:" in text
        assert f"reported {figure.reported:.4f}" in text
    for word in ("Findings", "Where the report is silent", "BatchNorm1d", "make report", "SHA-256"):
        assert word in text
    assert "Traceback" not in text
    assert "sys.path" not in text


def test_no_sentence_of_a_trial_claims_what_only_a_full_run_shows(batch):
    pages = (batch[0] / "figures" / "report.html").read_text(encoding="utf-8")
    for text in (pdf_text(batch[0] / "figures" / "report.pdf"), " ".join(re.sub("<.*?>", " ", pages).split())):
        assert "Trial: num_epochs 3, train_limit 600." in text[: text.index("A coursework report trains")]
        for claimed in (
            r"with several seeds(?!, sets)",
            "setting is the report’s",
            "all fifteen",
            r"Of the \d+ reported accuracies",
            r"Of the report’s \d+",
            r"The number (holds|is)",
            "too few for a verdict",
            "✓|✗|≈",
        ):
            assert not re.search(claimed, text), claimed
    assert not (batch[0] / "figures" / "verdicts.json").exists()


def test_a_second_batch_over_the_same_runs_trains_nothing_and_changes_no_byte(batch, tmp_path):
    shutil.copytree(batch[0], tmp_path / "again")
    done = run_batch(*SWEEP, *TINY, "--output", tmp_path / "again")
    assert "9 runs, 9 done before" in done.stdout
    assert ": epoch " not in done.stdout
    before, after = (
        {path.name: path.read_bytes() for path in (output / "figures").iterdir()}
        for output in (batch[0], tmp_path / "again")
    )
    assert after == before


def test_a_changed_record_changes_the_pdf(batch, tmp_path, without_drawings):
    shutil.copytree(batch[0], tmp_path / "changed")
    path = record_path(tmp_path / "changed", "figure_4")
    (record,) = read_records(path)
    accuracies = [*record["test_accuracies"][:-1], 0.4321]
    changed = {"test_accuracy": 0.4321, "test_accuracies": accuracies, "correct": made_up_bits(4321)}
    path.write_text(to_line(record | changed), encoding="utf-8")
    main(["4", *TINY, "--output", str(tmp_path / "changed")])
    assert "0.4321" in pdf_text(tmp_path / "changed" / "figures" / "report.pdf")


# The same numbers whatever the way


def test_the_same_run_gives_the_same_record_bit_for_bit_whatever_the_jobs(batch, tmp_path, unpublished):
    main(["9", *SWEEP, *TINY, "--jobs", "1", "--output", str(tmp_path)])
    again = record_files(tmp_path)
    assert len(again) == len(table_lines(tmp_path)) == 2
    assert again.items() <= record_files(batch[0]).items()
    assert set(table_lines(tmp_path)) <= set(table_lines(batch[0]))


def test_papermills_own_command_line_gives_the_same_record(batch, tmp_path):
    command = [sys.executable, "-m", "papermill", "figure_4.ipynb", str(tmp_path / "out.ipynb"), *TINY]
    runs = ["-p", "runs_folder", str(tmp_path / "runs")]
    subprocess.run([*command, *runs], cwd=ROOT / "notebooks", check=True, capture_output=True)
    assert record_files(tmp_path).items() <= record_files(batch[0]).items()
    assert len(record_files(tmp_path)) == 1


def test_a_killed_batch_goes_on_where_it_stopped_and_leaves_no_process_behind(batch, tmp_path, unpublished, capsys):
    arguments = ["3", "4", *TINY, "--jobs", "1", "--output", str(tmp_path)]
    environment = {**os.environ, "MARKED_BY_TEST": "1"}
    with subprocess.Popen(
        [sys.executable, ROOT / "reproduce.py", *arguments], stdout=subprocess.PIPE, env=environment
    ) as process:
        while not record_files(tmp_path):
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    kept = record_files(tmp_path)
    deadline = time.monotonic() + 30
    while kernels("MARKED_BY_TEST") and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not kernels("MARKED_BY_TEST")

    main(arguments)
    assert f"2 runs, {len(kept)} done before" in capsys.readouterr().out
    assert kept.items() <= record_files(tmp_path).items() <= record_files(batch[0]).items()


@pytest.mark.parametrize(
    ("name", "whole_group", "moment"),
    [
        pytest.param("SIGINT", True, "0 done before", id="ctrl-c-while-workers-start"),
        pytest.param("SIGHUP", True, "0 done before", id="terminal-closed-while-workers-start"),
        pytest.param("SIGTERM", False, "epoch 1", id="killed-in-mid-training"),
    ],
)
def test_a_stopped_batch_says_so_and_leaves_no_process_behind(tmp_path, name, whole_group, moment):
    command = [sys.executable, ROOT / "reproduce.py", "3", "4", *TINY, "--output", tmp_path]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "STOPPED_BY_TEST": "1"}
    with subprocess.Popen(command, **pipes, env=environment, start_new_session=True) as process:
        for line in process.stdout:
            if moment in line:
                break
        (os.killpg if whole_group else os.kill)(process.pid, getattr(signal, name))
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + getattr(signal, name)
    assert err == "stopping ...\nreproduce.py: stopped; the same command goes on where it was\n"
    assert not kernels("STOPPED_BY_TEST")


# Sweeps


def planned(*sweeps, figures=(), seeds=(0,), **overrides):
    return plan(figures, sweeps, seeds, overrides, "runs")


def test_a_sweep_is_run_with_every_combination_and_figures_besides():
    runs = planned("weight_decay", figures=[4], seeds=[3, 5])
    values = claims.load().sweeps["weight_decay"].vary["weight_decay"]
    for seed in (3, 5):
        own = [run for run in runs if run.parameters["seed"] == seed]
        assert sorted(run.parameters["weight_decay"] for run in own if run.notebook == "figure_7") == sorted(values)
        assert [run.notebook for run in own if run.notebook != "figure_7"] == ["figure_4"]


def test_of_runs_that_differ_in_their_epochs_alone_a_sweep_runs_the_longest():
    assert [run.parameters["num_epochs"] for run in planned("figure_2_epochs")] == [40]
    runs = planned("grid")
    assert len({(run.parameters["batch_size"], run.parameters["learning_rate"]) for run in runs}) == len(runs) == 9
    assert {run.parameters["num_epochs"] for run in runs} == {15}


def test_no_run_is_planned_twice_though_sweeps_and_figures_overlap():
    runs = planned(*sweep_names(), figures=range(2, 10), seeds=[0, 1])
    assert len({run.key for run in runs}) == len(runs)
    for figure in FIGURES:
        key = run_key(notebooks.defaults(figure))
        assert [run.notebook for run in runs if run.key == key] == [figure]


def test_figures_and_all_sweeps_together_run_every_setting_that_the_claims_speak_of():
    stated = claims.load()
    runs = planned(*sweep_names(), figures=range(2, 10))
    table = [made_up_record(run.parameters) for run in runs]
    compared = [setting for claim in stated.comparisons.values() for pair in claim.pairs for setting in pair]
    reported = [entry.setting for sweep in stated.sweeps.values() for entry in sweep.reported]
    held_out = [setting for sweep in stated.held_out for setting in stated.sweeps[sweep].held_out]
    factorial = [setting for _, setting in stated.factorial.runs]
    candidates = [setting for search in stated.beyond.values() for setting in search.held_out.values()]
    chosen = [search.candidates[search.chosen] for search in stated.beyond.values()]
    for setting in [*compared, *reported, *held_out, *factorial, *candidates, *chosen]:
        assert len(select(table, setting)) == 1, setting


def test_what_the_table_has_is_not_run_again_for_a_sweep(batch, tmp_path, unpublished, capsys):
    shutil.copytree(batch[0] / "figures", tmp_path / "figures")
    main(["4", *SWEEP, *TINY, "--output", str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[1] == "2 runs, 2 done before"
    assert record_files(tmp_path) == {}
    assert table_lines(tmp_path) == table_lines(batch[0])


# Bad input


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["10"], "there is no figure 10: choose from 2 to 9"),
        (["4", "-p", "learning_rat", "0.1"], "unknown parameter learning_rat: did you mean learning_rate?"),
        (["4", "-p", "num_rounds", "5"], "unknown parameter num_rounds"),
        (["4", "-p", "batch_size", "large"], "batch_size is 'large': expected a whole number"),
        (["4", "-p", "batch_size", "2.5"], "batch_size is 2.5: expected a whole number"),
        (["4", "-p", "batch_size", "0"], "batch_size is 0: expected"),
        (["4", "-p", "batch_size", "-1"], "batch_size is -1: expected"),
        (["4", "-p", "num_epochs", "0"], "num_epochs is 0: expected"),
        (["4", "-p", "learning_rate", "0"], "learning_rate is 0: expected a finite number above 0"),
        (["4", "-p", "learning_rate", "-0.1"], "learning_rate is -0.1: expected a finite number above 0"),
        (["4", "-p", "initializer", "uniform_"], "initializer is 'uniform_': expected one of normal_"),
        (["4", "-p", "optimizer_name", "Adamm"], "optimizer_name is 'Adamm': expected one of SGD, SGD_momentum"),
        (["4", "-p", "device", "abacus"], "device is 'abacus': expected auto, cpu, cuda"),
        (["4", "-p", "device", "cuda:99"], "device 'cuda:99' is not on this machine"),
        (["5", "-p", "num_epochs", "4"], "num_epochs is 4: expected a multiple of num_rounds, 3"),
        (["4", "-p", "seed", "1"], "seed is not a parameter of a batch: use --seeds"),
        (["--seeds", "-1"], "seed is -1: expected a whole number from 0 up"),
        (["--jobs", "0"], "--jobs is 0: expected 1 or more"),
        (["4", "--sweeps", "weight_decays"], "there is no sweep 'weight_decays': choose from figure_2_epochs, "),
        (["4", "--sweeps", "grid", "-p", "num_epochs", "0"], "num_epochs is 0: expected"),
    ],
)
def test_bad_input_is_one_clear_line_and_nothing_is_written(tmp_path, capsys, arguments, complaint):
    assert complaint in refusal(*arguments, "--output", tmp_path / "output")
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "output").exists()


def test_a_refusal_goes_to_the_standard_error_and_into_the_exit_code(tmp_path):
    done = run_batch("10", "--output", tmp_path / "output")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "reproduce.py: there is no figure 10: choose from 2 to 9\n"


def test_an_output_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert "can't write to" in refusal("4", *TINY, "--output", tmp_path / "file" / "output")


def test_other_parameters_never_touch_the_committed_figures():
    assert "keeps the report's own settings" in refusal("4", *TINY, "--output", ROOT)


@pytest.mark.parametrize("with_it", [["--check"], TINY, ["--output", "other"]], ids=lambda words: words[0])
def test_only_the_reports_settings_in_the_projects_folder_are_published(with_it):
    assert "--publish takes the report's own settings into figures/" in refusal("4", "--publish", *with_it)


# Own runs beside the committed ones


@pytest.fixture
def clone(tmp_path, batch):
    """Return a git repository of the project: Figures 3 and 4 take seconds, and seed 0 of each is committed."""
    project = copy_project(tmp_path / "project")
    for name in ("figure_3", "figure_4"):
        path = project / "notebooks" / f"{name}.ipynb"
        text = path.read_text(encoding="utf-8").replace("num_epochs: int = 10", "num_epochs: int = 3")
        path.write_text(text.replace("train_limit: int = 60000", "train_limit: int = 600"), encoding="utf-8")
    shutil.copy(ROOT / ".gitignore", project)
    committed = [figures_of(batch[0])[name] for name in ("figure_3", "figure_4")]
    (project / "figures" / TABLE).write_text("".join(map(to_line, committed)), encoding="utf-8")
    git(project, "init", "--quiet")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "Published")
    return project


def git(project, *command):
    who = ["-c", "user.name=test", "-c", "user.email=test"]
    done = subprocess.run(["git", "-C", project, *who, *command], check=True, capture_output=True, text=True)
    return done.stdout


def test_a_users_runs_are_set_beside_the_committed_ones_and_change_nothing_that_is_committed(clone):
    done = run_batch("3", "4", root=clone)
    assert done.returncode == 0, done.stdout + done.stderr
    assert git(clone, "status", "--porcelain") == ""
    *_, head, third, fourth, said, where = done.stdout.splitlines()
    assert head.endswith("  agreement")
    assert third.startswith("figure_3     0")
    assert third.endswith("  identical")
    assert fourth.endswith("  identical")
    assert said == "Your seed 0 beside the committed one: identical 2 of 2"
    assert where == f"The figures, report.pdf and report.html are in {clone / 'runs' / 'figures'}"
    text = pdf_text(clone / "runs" / "figures" / "report.pdf")
    assert text.index(said) < text.index("Findings")
    assert "Your own, marked by crosses: seed 0" in text
    assert re.search(r"Version\s+[\w ,()]{,60}?\s2\s+0\s+\d+\s", text)  # two runs of seed 0, the committed ones
    assert said in (clone / "runs" / "figures" / "report.html").read_text(encoding="utf-8")
    assert not (clone / "runs" / "figures" / "verdicts.json").exists()
    # A maintainer's are made evidence: what was there stays, and the new one comes to it.
    before = (clone / "figures" / TABLE).read_bytes().splitlines()
    done = run_batch("3", "--seeds", 0, 7, "--publish", root=clone)
    assert "2 runs, 1 done before" in done.stdout
    assert "Your seed" not in done.stdout
    after = (clone / "figures" / TABLE).read_bytes().splitlines()
    assert set(before) < set(after)
    assert len(after) == len(before) + 1


def test_missing_data_are_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST", str(tmp_path))
    assert f"{tmp_path} has no train-images-idx3-ubyte" in refusal("4", *TINY, "--output", tmp_path / "output")


def test_damaged_data_are_one_clear_line(tmp_path, data_folder, monkeypatch):
    damaged = tmp_path / "t10k-labels-idx1-ubyte"
    for path in Path(data_folder).iterdir():
        if path.stem != damaged.stem:  # compressed or not
            (tmp_path / path.name).symlink_to(path)
    damaged.write_bytes(bytes(10008))
    monkeypatch.setenv("FASHION_MNIST", str(tmp_path))
    assert f"{damaged} is damaged" in refusal("4", *TINY, "--output", tmp_path / "output")


@pytest.mark.parametrize(("right", "wrong"), [("reported: 0.8508", "reportet: 0.8508"), ("sweeps:", "swept:")])
def test_a_misspelt_key_in_the_claims_is_one_clear_line(tmp_path, monkeypatch, right, wrong):
    path = tmp_path / "claims.yaml"
    path.write_text(claims.CLAIMS.read_text(encoding="utf-8").replace(right, wrong), encoding="utf-8")
    monkeypatch.setattr(claims, "CLAIMS", path)
    monkeypatch.setattr(claims, "load", claims.load.__wrapped__)  # as in a process that has not read them yet
    message = refusal("4", *TINY, "--output", tmp_path / "output")
    assert str(path) in message
    assert wrong.split(":")[0] in message
    assert not (tmp_path / "output").exists()


def test_a_damaged_table_is_one_clear_line_and_is_not_overwritten(batch, tmp_path):
    shutil.copytree(batch[0], tmp_path, dirs_exist_ok=True)
    path = tmp_path / "figures" / TABLE
    path.write_bytes(path.read_bytes()[:-100])
    before = path.read_bytes()
    assert f"{path}, line 9, is damaged" in refusal("4", *TINY, "--output", tmp_path)
    assert path.read_bytes() == before


def test_a_damaged_record_is_one_clear_line_and_is_not_overwritten(batch, tmp_path):
    shutil.copytree(batch[0] / "runs", tmp_path / "runs")
    path = tmp_path / "runs" / record_path(batch[0], "figure_4").name
    path.write_bytes(path.read_bytes()[:100])
    assert f"{path}, line 1, is damaged" in refusal("4", *TINY, "--output", tmp_path)
    assert path.stat().st_size == 100
