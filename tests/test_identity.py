"""The same run gives the same bytes, as a script too; and a command compares runs."""

import os
import subprocess
import sys

import nbformat
import pytest
from conftest import ROOT, TINY

from reproduce import main
from study.reported import agreement
from study.samples import Sample
from study.table import TABLE, read_records, select


def test_a_script_leaves_the_record_of_the_batch(batch, tmp_path):
    """The code of a figure's notebook, the values in its parameters cell changed as by hand."""
    cells = nbformat.read(ROOT / "notebooks" / "figure_4.ipynb", 4).cells
    sources = []
    for cell in cells:
        if cell.cell_type == "code":
            sources.append(cell.source)
            if "parameters" in cell.metadata.get("tags", []):
                sources.append(f"num_epochs, train_limit, runs_folder = 3, 600, {str(tmp_path / 'runs')!r}")
    (tmp_path / "script.py").write_text("\n".join(sources), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, tmp_path / "script.py"], check=True, cwd=ROOT, env=environment, capture_output=True
    )
    (path,) = (tmp_path / "runs").glob("*.json")
    assert path.read_bytes() == (batch[0] / "runs" / path.name).read_bytes()


# Agreement


def test_a_check_on_the_same_machine_says_identical_and_changes_nothing(batch, capsys):
    before = {path: path.read_bytes() for path in batch[0].glob("*/*")}
    main(["--check", "4", *TINY, "--jobs", "1", "--output", str(batch[0])])
    assert capsys.readouterr().out.splitlines()[-1] == "figure_4 seed 0: identical"
    assert {path: path.read_bytes() for path in batch[0].glob("*/*")} == before


@pytest.fixture
def committed():
    table = read_records(ROOT / "figures" / TABLE)
    (first, *others) = [record for record in table if record["notebook"] == "figure_9"][:4]
    return first, [first, *others]


def test_a_run_that_differs_in_the_last_bit_is_equivalent(committed):
    record, table = committed
    assert agreement(record, table) == "identical"
    loss = record["train_losses"][0]
    other = record | {"train_losses": [loss * (1 + 1e-15), *record["train_losses"][1:]]}
    assert agreement(other, table).startswith(f"equivalent: {record['test_accuracy']:.4f}, one more of the")


def test_a_run_outside_of_the_prediction_interval_is_different(committed):
    record, table = committed
    low, _ = Sample.of(select(table, record)).range_of_runs
    below = round(low - 0.001, 4)
    other = record | {"test_accuracy": below, "test_accuracies": [*record["test_accuracies"][:-1], below]}
    assert agreement(other, table).startswith("different: ")


def test_with_too_few_runs_only_identity_can_be_said(committed):
    record, table = committed
    assert agreement(record, table[:1]) == "identical"
    assert agreement(record | {"test_accuracies": []}, table[:2]).startswith("too few runs")
