"""The same run gives the same bytes: as a script, in a notebook, in another folder; and a command compares runs."""

import os
import subprocess
import sys

import nbclient
import nbformat
import pytest
from conftest import ROOT, TINY, run_batch

import records
import verdicts
from reproduce import main
from tests.faults import copy_project


def with_parameters(figure, **parameters):
    """Return a figure's notebook with other values in its parameters cell, changed as by hand."""
    notebook = nbformat.read(ROOT / "notebooks" / f"{figure}.ipynb", 4)
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
    return notebook


def as_a_script(notebook, folder):
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    (folder / "script.py").write_text(source)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, folder / "script.py"], check=True, cwd=ROOT, env=environment, capture_output=True)


def in_a_notebook(notebook, folder):
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": ROOT}}).execute()


@pytest.mark.parametrize("way", [as_a_script, in_a_notebook])
def test_a_run_by_hand_leaves_the_record_of_the_batch(batch, tmp_path, way):
    tiny = {"num_epochs": 3, "train_limit": 600, "runs_folder": str(tmp_path / "runs")}
    way(with_parameters("figure_4", **tiny), tmp_path)
    (path,) = (tmp_path / "runs").glob("*.json")
    assert path.read_bytes() == (batch[0] / "runs" / path.name).read_bytes()


def test_a_project_in_another_folder_leaves_the_same_record(batch, tmp_path):
    project = copy_project(tmp_path / "another place")
    done = run_batch("4", *TINY, "--output", tmp_path / "output", root=project)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "output" / "runs").glob("*.json")
    assert path.read_bytes() == (batch[0] / "runs" / path.name).read_bytes()


# Agreement


def test_a_check_on_the_same_machine_says_identical_and_changes_nothing(batch, capsys):
    before = {path: path.read_bytes() for path in batch[0].glob("*/*")}
    main(["--check", "4", *TINY, "--jobs", "1", "--output", str(batch[0])])
    assert capsys.readouterr().out.splitlines()[-1] == "figure_4 seed 0, num_epochs 3, train_limit 600: identical"
    assert {path: path.read_bytes() for path in batch[0].glob("*/*")} == before


@pytest.fixture
def committed():
    table = records.read_records(ROOT / "figures" / records.TABLE)
    (first, *others) = [record for record in table if record["notebook"] == "figure_9"][:4]
    return first, [first, *others]


def test_a_run_that_differs_in_the_last_bit_is_equivalent(committed):
    record, table = committed
    assert verdicts.agreement(record, table) == "identical"
    loss = record["train_losses"][0]
    other = record | {"train_losses": [loss * (1 + 1e-15), *record["train_losses"][1:]]}
    assert verdicts.agreement(other, table).startswith(f"equivalent: {record['test_accuracy']:.4f}, one more of the")


def test_a_run_outside_of_the_prediction_interval_is_different(committed):
    record, table = committed
    low, _ = verdicts.sample_of(table, record).range_of_runs
    below = round(low - 0.001, 4)
    other = record | {"test_accuracy": below, "test_accuracies": [*record["test_accuracies"][:-1], below]}
    assert verdicts.agreement(other, table).startswith("different: ")


def test_with_too_few_runs_only_identity_can_be_said(committed):
    record, table = committed
    assert verdicts.agreement(record, table[:1]) == "identical"
    assert verdicts.agreement(record | {"test_accuracies": []}, table[:2]).startswith("too few runs")
