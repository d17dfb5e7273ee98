"""What the committed notebooks have to look like; tests/test_reproduce.py runs them."""

import ast
import re
import subprocess
import sys

import jupyter_client
import nbformat
import papermill
import pytest
import yaml
from conftest import ROOT

from common.parameters import MACHINERY, PARAMETERS
from study import claims

FIGURES = [f"figure_{number}" for number in range(2, 10)]
ALL = [*FIGURES, "beyond", "report", "explore", "many_seeds", "test_a_claim"]


def read(name):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def code_cells(name):
    """Return the sources of a notebook's code cells, by their ids."""
    return {cell.id: cell.source for cell in read(name).cells if cell.cell_type == "code"}


@pytest.mark.parametrize("name", ALL)
def test_a_notebook_is_valid_and_committed_without_outputs(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    strip = [sys.executable, "-m", "nbstripout", "--keep-id", "--verify", ROOT / "notebooks" / f"{name}.ipynb"]
    done = subprocess.run(strip, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ALL)
def test_a_notebook_has_one_title_and_text_before_code(name):
    cells = read(name).cells
    titles = [cell for cell in cells if cell.cell_type == "markdown" and cell.source.startswith("# ")]
    assert titles == [cells[0]]


def test_tables_and_figures_of_the_report_are_numbered_in_their_order_and_every_reference_leads_to_one(
    report_notebook,
):
    tables, figures, references = [], [], set()
    for cell in nbformat.read(report_notebook, as_version=4).cells:
        shown = [cell.source] if cell.cell_type == "markdown" else []
        for output in cell.get("outputs", []):
            figures += [f"{about['number']}" for about in output.metadata.values() if "number" in about]
            shown.append(output.get("data", {}).get("text/markdown", ""))
        for text in shown:
            tables += re.findall(r"^Table (\d+): .*\n\n\|", text, re.MULTILINE)
            references |= set(re.findall(r"\(#(fig-\w+|tab-\d+)\)", text))
    assert tables == [f"{number}" for number in range(1, 18)]
    assert [letter for letter in figures if letter.isalpha()] == list("ABCDEFGHI")
    assert [number for number in figures if number.isdecimal()] == list("23456789")
    assert {"tab-1", "tab-2", "fig-A", "fig-3"} <= references
    assert references <= {f"tab-{number}" for number in tables} | {f"fig-{number}" for number in figures}


def test_the_report_names_its_authors_and_its_date_as_the_citation_does():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    metadata = read("report").metadata
    assert metadata.authors == citation["authors"]
    assert metadata.date == f"{citation['date-released']:%-d %B %Y}"
    assert metadata.title == citation["title"]


@pytest.mark.parametrize("name", ALL)
def test_exactly_one_cell_is_tagged_parameters_and_it_holds_plain_literals(name):
    tagged = [cell for cell in read(name).cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    for statement in ast.parse(tagged[0].source).body:
        assert isinstance(statement, ast.AnnAssign)
        ast.literal_eval(statement.value)


@pytest.mark.parametrize("name", ALL)
def test_papermill_finds_every_parameter_of_a_notebook(name):
    (tagged,) = (cell for cell in read(name).cells if "parameters" in cell.metadata.get("tags", []))
    assigned = {statement.target.id: ast.literal_eval(statement.value) for statement in ast.parse(tagged.source).body}
    inspected = papermill.inspect_notebook(ROOT / "notebooks" / f"{name}.ipynb")
    assert {key: ast.literal_eval(value["default"]) for key, value in inspected.items()} == assigned
    assert all(value["help"].startswith("@param ") for value in inspected.values())
    if name in FIGURES:
        assert assigned.keys() <= PARAMETERS.keys()


@pytest.mark.parametrize("name", ALL)
def test_every_parameter_of_a_notebook_is_explained(name):
    for parameter in papermill.inspect_notebook(ROOT / "notebooks" / f"{name}.ipynb").values():
        assert re.fullmatch(r"@param (\[.*?\]|\{.*?\}) # .{10,}", parameter["help"]), parameter


def new_in(figure):
    """List the parameters in which a figure's notebook differs from that of the figure before it."""
    figures = list(claims.load().figures.values())
    place = [f.name for f in figures].index(figure)
    if place == 0:
        return list(figures[0].stated)
    before, after = figures[place - 1].setting, figures[place].setting
    return [name for name in after if before.get(name) != after[name]]


@pytest.mark.parametrize("name", FIGURES)
def test_what_is_new_in_a_figure_comes_first_and_the_machinery_last(name):
    groups, source = [], code_cells(name)["parameters"]
    for line in source.splitlines():
        if line.startswith("# @markdown **"):
            groups.append([])
        elif not line.startswith("#"):
            groups[-1].append(line.split(":")[0])
    new, unchanged, machinery = groups
    assert source.startswith("# @markdown **New in this figure**\n")
    assert sorted(new) == sorted(new_in(name))
    assert tuple(machinery) == MACHINERY
    assert not set(unchanged) & {*new, *machinery}


@pytest.mark.parametrize("name", ALL)
def test_the_set_up_cell_has_a_title_and_is_folded(name):
    (cell,) = (cell for cell in read(name).cells if cell.id == "set-up")
    assert cell.source.startswith("# @title ")
    assert cell.metadata.cellView == "form"  # in Colab
    assert cell.metadata.jupyter.source_hidden  # in JupyterLab


@pytest.mark.parametrize("name", ALL)
def test_a_notebook_defines_nothing_and_has_no_long_cell_but_its_form(name):
    for cell_id, source in code_cells(name).items():
        assert len(source.splitlines()) <= (25 if cell_id == "parameters" else 20)
        for node in ast.walk(ast.parse(source)):
            assert not isinstance(node, ast.FunctionDef | ast.ClassDef)


def test_what_the_figures_notebooks_share_is_the_same_to_the_letter():
    """A figure's own cells are its parameters and its name; Figure 5 also trains in rounds and marks the last one."""
    shared = code_cells("figure_4")
    for name in FIGURES:
        own = {"parameters", "check"} | ({"train", "curves"} if name == "figure_5" else set())
        cells = code_cells(name)
        assert list(cells) == list(shared)
        for cell_id in cells.keys() - own:
            assert cells[cell_id] == shared[cell_id], (name, cell_id)


def test_the_reports_own_calls_stand_in_every_figures_notebook():
    calls = [
        "import my_utils as mu",
        "train_iter, test_iter = mu.load_data_fashion_mnist(",
        "num_patches, patch_dims = get_possible_patches(784)[",
        "net = Net(image_dims, num_patches, patch_dims, num_hidden, num_classes",
        "net.apply(init_weights)",
        "loss = torch.nn.CrossEntropyLoss()",
        "train(net, train_iter, test_iter, loss, num_epochs",
        "mu.evaluate_accuracy(net, test_iter)",
    ]
    for name in FIGURES:
        source = "\n".join(code_cells(name).values())
        for call in calls:
            assert call in source, (name, call)


def test_who_opens_a_notebook_by_hand_sees_a_live_curve_and_leaves_the_record_of_the_batch(batch, tmp_path):
    """A front end with a person before it allows the kernel to ask questions; papermill and nbconvert don't."""
    messages = []
    manager, client = jupyter_client.manager.start_new_kernel(kernel_name="python3", cwd=str(ROOT))
    try:
        for cell_id, source in code_cells("figure_4").items():
            small = f"num_epochs, train_limit, runs_folder = 3, 600, {str(tmp_path)!r}"
            source += f"\n{small}" if cell_id == "parameters" else ""
            reply = client.execute_interactive(source, allow_stdin=True, output_hook=messages.append, timeout=300)
            assert reply["content"]["status"] == "ok", reply["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    updates = [message["content"]["data"] for message in messages if message["msg_type"] == "update_display_data"]
    curves = [data for data in updates if "image/svg+xml" in data]
    lines = [data["text/plain"] for data in updates if data not in curves]
    assert len(curves) in (2, 3)  # of the first and the last epoch, and between them if drawing is quick
    assert lines[-1].startswith("3 epochs in 0:0")
    assert not [message for message in messages if message["msg_type"] == "stream"]
    (path,) = tmp_path.glob("*.json")
    assert path.read_bytes() == (batch[0] / "runs" / path.name).read_bytes()


def test_python_files_and_notebooks_are_clean_and_formatted():
    for command in (["check"], ["format", "--check"]):
        done = subprocess.run([sys.executable, "-m", "ruff", *command, ROOT], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
