"""What papermill lets pass, seen from a batch; every kernel is real."""

import shutil

import nbformat
import pytest
from conftest import ROOT, TINY, record_files, refusal, run_batch
from nbformat.v4 import new_code_cell, new_notebook

from study import cluster, notebooks
from study.batch import Batch
from study.record import record_key
from study.table import TABLE, read_records
from tests.faults import copy_project

TRAPS = {  # figure: cells in front of the notebook's own, and what has to be said
    2: (["import os, signal; os.kill(os.getpid(), signal.SIGKILL)"], "Kernel died"),
    3: (["import sys; sys.exit(0)"], "ended without leaving its record"),
    4: (["import os; os._exit(0)"], "Kernel died"),
    5: (["import time; time.sleep(1000)"], "took longer than --timeout allows"),
    6: (["import time; time.sleep(2)"] * 20, "took longer than --timeout allows"),
    7: (["raise ValueError('two\\nlines')"], "ValueError: two lines"),
}
KERNEL = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}


# Kernels that end before their notebook does


def test_a_run_counts_only_with_its_record_however_its_kernel_ends_and_the_others_are_kept(batch, tmp_path):
    """In a project of another folder, where the run that ends well leaves the very record of this one's."""
    project = copy_project(tmp_path / "another place")
    for figure, (sources, _) in TRAPS.items():
        path = project / "notebooks" / f"figure_{figure}.ipynb"
        notebook = nbformat.read(path, 4)
        notebook.cells[:0] = [new_code_cell(source) for source in sources]
        nbformat.write(notebook, path)
    done = run_batch(*TRAPS, 8, *TINY, "--timeout", 25, "--jobs", 3, "--output", tmp_path / "output", root=project)
    assert done.returncode == 1
    _, said = done.stderr.split("reproduce.py: ")  # what comes before are the kernels' last words
    assert said.startswith("6 of 7 runs failed:\n")
    assert len(said.splitlines()) == 7
    for figure, (_, complaint) in TRAPS.items():
        (line,) = [line for line in said.splitlines() if line.startswith(f"  figure_{figure} ")]
        assert complaint in line
    records = record_files(tmp_path / "output")
    (table,) = read_records(tmp_path / "output" / "figures" / TABLE)
    assert table["notebook"] == "figure_8"
    assert list(records) == [f"{record_key(table)}.json"]
    assert records.items() <= record_files(batch[0]).items()


def test_a_harmless_error_in_a_kernels_messages_is_not_printed(tmp_path, capfd):
    code = "import time; get_ipython().kernel.control_stream.io_loop.add_callback(lambda: 1 / 0); time.sleep(0.5)"
    (tmp_path / "notebooks").mkdir()
    nbformat.write(new_notebook(cells=[new_code_cell(code)], metadata=KERNEL), tmp_path / "notebooks" / "trap.ipynb")
    cluster.execute_notebook(tmp_path, "trap", {})
    assert "Traceback" not in capfd.readouterr().err


# Code in parameters


@pytest.mark.parametrize("name", ["seed = 1; import os; os.mkdir('{}') #", "__import__('os').mkdir('{}')"])
def test_code_in_the_name_of_a_parameter_is_not_run(tmp_path, name):
    name = name.format(tmp_path / "canary")
    assert "unknown parameter" in refusal("4", "-p", name, "1", "--output", tmp_path / "output")
    assert not (tmp_path / "canary").exists()


def test_code_in_the_value_of_a_parameter_is_not_run(tmp_path):
    code = f"__import__('os').mkdir('{tmp_path / 'canary'}')"
    assert "batch_size is" in refusal("4", "-p", "batch_size", code, "--output", tmp_path / "output")
    assert not (tmp_path / "canary").exists()


# Notebooks that are none


def tagless(notebook):
    for cell in notebook.cells:
        cell.metadata.pop("tags", None)
    return nbformat.writes(notebook)


def doubled(notebook):
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    notebook.cells.append(nbformat.from_dict({**cell, "id": "another"}))
    return nbformat.writes(notebook)


@pytest.mark.parametrize("damage", [tagless, doubled, lambda notebook: "print('hello')", lambda notebook: "{}"])
def test_a_notebook_without_exactly_one_parameters_cell_is_refused_before_a_run(tmp_path, monkeypatch, damage):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    path = tmp_path / "notebooks" / "figure_4.ipynb"
    path.write_text(damage(nbformat.read(path, 4)), encoding="utf-8")
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    assert f"{path} is damaged: expected a notebook in which one cell has the tag parameters" in refusal(
        "4", *TINY, "--output", tmp_path / "output"
    )
    assert not (tmp_path / "output").exists()


# Folders


def test_two_batches_do_not_work_in_one_folder(tmp_path):
    batch = Batch(runs=[], output=tmp_path, jobs=1)
    with batch.alone():
        assert f"another batch is at work in {tmp_path}" in refusal("4", *TINY, "--output", tmp_path)
    with batch.alone():
        pass
