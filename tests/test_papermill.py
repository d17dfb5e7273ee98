"""papermill as its users use it: its own command line, executed notebooks that are opened again, other kernels.

What a kernel adds to a check of parameters is the list of the cells that ran; most tests here hand one over instead.
"""

import json
import re
import subprocess
import sys

import jupyter_client
import nbformat
import numpy as np
import papermill
import pytest
import yaml
from conftest import ROOT, refusal
from nbformat.v4 import new_code_cell, new_notebook

from common import parameters
from common.parameters import ParameterError, check_parameters
from study import cluster, notebooks
from study.study import Study
from study.table import TABLE

PYTHON = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
DECLARED = """\
learning_rate: float = 0.1  # of SGD
batch_size: int = 256
augmentation: list = []
runs_folder: str = \"runs\""""
CHECK = "checked = check_parameters(globals())"
IMPORT = f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom common.parameters import check_parameters"


def small_notebook(path, tags=(["parameters"],)):
    """Write a notebook with parameters cells of the given tags and the project's check of what has arrived."""
    cells = [new_code_cell(DECLARED, metadata={"tags": of_cell}) for of_cell in tags]
    nbformat.write(new_notebook(cells=[*cells, new_code_cell(f"{IMPORT}\n{CHECK}")], metadata=PYTHON), path)
    return path


def by_command_line(*arguments, **options):
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


def session(*cells):
    """Run cells one after the other in one namespace, as a kernel does; return what the last check gave."""
    namespace = {"In": [""], "check_parameters": check_parameters}
    for cell in cells:
        namespace["In"].append(cell)
        try:
            exec(cell, namespace)
        except SyntaxError:
            pass
        except ParameterError as error:
            namespace["checked"] = str(error)
    return namespace["checked"]


def injected(**values):
    """Return papermill's own cell."""
    return papermill.translators.translate_parameters("python3", "python", values, "Parameters").rstrip("\n")


# Parameters that don't arrive


@pytest.mark.parametrize(
    ("tags", "given", "complaint"),
    [
        ([["parameters"]], {"learning_rat": 0.2}, "unknown parameter learning_rat: did you mean learning_rate?"),
        ([["parameters"]], {"schedule": "one_cycle"}, "unknown parameter schedule: choose from learning_rate"),
        ([["parameters"]], {"batch_size": (1, 2)}, "batch_size is '(1, 2)': expected a whole number"),
        ([["parameters"]], {"learning_rate": "0.2"}, "learning_rate is '0.2': expected a finite number above 0"),
        ([[]], {"learning_rate": 0.2}, "learning_rate is 0.1 though papermill was given 0.2"),
        ([["parameters"]] * 2, {"learning_rate": 0.2}, "learning_rate is 0.1 though papermill was given 0.2"),
    ],
    ids=["mistyped", "of-another-notebook", "tuple", "text", "no-tag", "two-tags"],
)
def test_a_parameter_that_does_not_arrive_as_it_was_given_is_an_error(tmp_path, tags, given, complaint):
    path = small_notebook(tmp_path / "notebook.ipynb", tags)
    with pytest.raises(papermill.PapermillExecutionError) as failed:
        papermill.execute_notebook(path, None, given, progress_bar=False)
    assert failed.value.ename == "ParameterError"
    assert failed.value.evalue.startswith(complaint)


def test_a_numpy_value_is_an_error_before_a_kernel_starts(tmp_path):
    path, given = small_notebook(tmp_path / "notebook.ipynb"), {"batch_size": np.int64(128)}
    with pytest.raises(TypeError):
        papermill.execute_notebook(path, tmp_path / "out.ipynb", given, progress_bar=False, kernel_name="none")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_value_that_is_no_literal_is_refused_like_any_other(value):
    said = session(DECLARED, injected(learning_rate=value), CHECK)
    assert said == f"learning_rate is {value}: expected a finite number above 0"
    misspelt = session(DECLARED, injected(learning_rat=value), CHECK)
    assert misspelt == "unknown parameter learning_rat: did you mean learning_rate?"
    untagged = session(injected(learning_rate=value), DECLARED, CHECK)
    assert untagged.startswith(f"learning_rate is 0.1 though papermill was given {value}: expected ")


def test_the_paths_that_papermill_injects_are_no_mistake_of_the_users(tmp_path):
    path = small_notebook(tmp_path / "it's a {notebook}.ipynb")
    named = [str(path).replace("{", "{{").replace("}", "}}"), tmp_path / "out.ipynb"]  # papermill formats paths
    assert by_command_line(*named, "--inject-paths", "-p", "batch_size", 64).returncode == 0
    executed = nbformat.read(tmp_path / "out.ipynb", 4)
    assert "PAPERMILL_INPUT_PATH" in executed.cells[1].source
    assert "batch_size = 64" in executed.cells[1].source
    assert session(DECLARED, injected(PAPERMILL_OUTPUT_PATH="-", learning_rat=1), CHECK).startswith(
        "unknown parameter"
    )


def test_a_notebook_goes_through_papermill_from_stdin_to_stdout(tmp_path):
    content = small_notebook(tmp_path / "notebook.ipynb").read_text(encoding="utf-8")
    done = by_command_line("-", "-", "--inject-paths", "-p", "batch_size", 64, input=content)
    assert done.returncode == 0, done.stderr
    assert all(cell.execution_count for cell in nbformat.reads(done.stdout, 4).cells)


# Lists, and other values that arrive as texts


@pytest.mark.parametrize(
    ("name", "value", "ending"),
    [
        ("augmentation", "[RandomErasing]", 'papermill takes it as -y "augmentation: [RandomErasing]"'),
        ("augmentation", "RandomErasing", 'papermill takes it as -y "augmentation: [RandomErasing]"'),
        ("num_hidden", "[1, 2, 3, 4, 5]", 'papermill takes it as -y "num_hidden: [256, 128, 64, 32, 16]"'),
        ("overrides", "{num_epochs: 3}", 'papermill takes it as -y "overrides: {num_epochs: 3}"'),
        ("learning_rate", "1e-3", "not a text: use -p learning_rate 0.001"),  # so YAML reads it
        ("batch_norm", "true", "not a text: use -p batch_norm True"),
        ("learning_rate", "high", "expected a finite number above 0"),
        ("batch_size", "-1", "expected a whole number from 1 up"),
        ("augmentation", ["RandomCrop"], "RandomErasing"),
    ],
)
def test_what_arrives_as_a_text_is_refused_with_the_way_that_papermill_takes(name, value, ending):
    said = session(f"{name}: object = None", injected(**{name: value}), CHECK)
    assert said.startswith(f"{name} is {value!r}: expected ")
    assert said.endswith(ending)
    assert "\n" not in said


@pytest.mark.parametrize("name", ["augmentation", "num_hidden", "overrides"])
def test_the_way_that_the_refusal_names_is_one_that_papermill_takes(name):
    said = session(f"{name}: object = None", injected(**{name: "a text"}), CHECK)
    (way,) = re.findall(r'-y "(.*)"$', said)
    given = yaml.safe_load(way)  # as papermill reads it
    assert session(f"{name}: object = None", injected(**given), CHECK) == given


def test_a_batch_which_reads_lists_itself_is_not_told_of_papermills_ways(tmp_path):
    said = refusal("4", "-p", "augmentation", "[RandomErasing]", "--output", tmp_path / "output")
    assert "augmentation is '[RandomErasing]': expected a list of names" in said
    assert "-y" not in said
    accepted = ["4", "-p", "augmentation", "['RandomErasing']", "--output", str(tmp_path / "output"), "--list"]
    assert subprocess.run([sys.executable, ROOT / "reproduce.py", *accepted], capture_output=True).returncode == 0


# An executed notebook, opened and run again


def test_a_value_changed_in_papermills_cell_of_an_executed_notebook_counts(tmp_path):
    """In a real kernel, with a front end before it."""
    path = small_notebook(tmp_path / "notebook.ipynb")
    executed = papermill.execute_notebook(path, None, {"learning_rate": 0.2}, progress_bar=False)
    declared, papermills, check = (cell.source for cell in executed.cells)
    changed = papermills.replace("0.2", "0.3")
    manager, client = jupyter_client.manager.start_new_kernel(kernel_name="python3")
    try:
        for cell, status in [
            *((cell, "ok") for cell in (declared, papermills, check, changed, check)),
            *((cell, "ok") for cell in (declared, check, papermills)),
            (check, "ok"),
            (papermills.replace("learning_rate", "learnig_rate"), "ok"),
            (check, "error"),
        ]:
            reply = client.execute_interactive(cell, timeout=60, output_hook=lambda message: None)["content"]
            assert reply["status"] == status, (cell, reply)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert reply["traceback"] == ["ParameterError: unknown parameter learnig_rate: did you mean learning_rate?"]


FIRST, SECOND = injected(learning_rate=0.2, batch_size=64), injected(learning_rate=0.3)
RATES = {  # cells in the order in which they are run, and the learning rate that counts
    "once": ([DECLARED, FIRST, CHECK], 0.2),
    "changed": ([DECLARED, FIRST, CHECK, SECOND, CHECK], 0.3),
    "changed before the first check": ([DECLARED, FIRST, SECOND, CHECK], 0.3),
    "all run again": ([DECLARED, FIRST, CHECK, DECLARED, SECOND, CHECK], 0.3),
    "back to what it was": ([DECLARED, FIRST, CHECK, SECOND, CHECK, FIRST, CHECK], 0.2),
    "the notebook's own values again": ([DECLARED, FIRST, CHECK, DECLARED, CHECK], 0.1),
    "a cell of the student's": ([DECLARED, FIRST, CHECK, "learning_rate, other = 0.4, 1", CHECK, CHECK], 0.4),
    "a formula": ([DECLARED, "# Parameters\nlearning_rate = 3 / 10", CHECK], 0.3),
    "corrected": ([DECLARED, injected(learnig_rate=0.3), CHECK, SECOND, CHECK], 0.3),
    "papermill's cell alone": ([FIRST, CHECK], 0.2),
    "an editor's line ends": (["\r\n".join(cell.splitlines()) for cell in (DECLARED, FIRST, CHECK)], 0.2),
    "a student's own remark": ([DECLARED, "# Parameters\nprint(learning_rate)", FIRST, CHECK], 0.2),
    "cells that Python can't read": ([DECLARED, FIRST, CHECK, "learning_rate = = 1", SECOND, CHECK], 0.3),
}


@pytest.mark.parametrize("case", RATES)
def test_of_cells_run_several_times_and_in_any_order_the_newest_value_counts(case):
    cells, expected = RATES[case]
    assert session(*cells)["learning_rate"] == expected


def test_a_students_own_parameter_in_the_parameters_cell_is_one_of_the_notebook():
    assert "momentum" not in session(f"{DECLARED}\nmomentum = 0.9", injected(momentum=0.8), CHECK)


@pytest.mark.parametrize(
    "cells",
    [
        [FIRST, DECLARED, CHECK],
        [FIRST, DECLARED, CHECK, CHECK],
        [DECLARED, FIRST, DECLARED, CHECK],
        [FIRST, DECLARED, CHECK, SECOND, DECLARED, CHECK],
        [DECLARED, FIRST, "learning_rate = 0.1", CHECK],
    ],
    ids=["no-tag", "checked-twice", "two-tags", "run-again", "a-cell-between"],
)
def test_a_value_that_did_not_arrive_is_refused_however_often_the_check_runs(cells):
    assert re.match(r"learning_rate is 0\.1 though papermill was given 0\.[23]: expected ", session(*cells))


# The notebooks of figures


@pytest.mark.parametrize(
    ("notebook", "own", "misspelt"),
    [
        ("report", "figures_folder", "figure_folder"),
        ("explore", "figures_folder", "figure_folder"),
        ("beyond", "seed", "sed"),
        ("figure_4", "seed", "sed"),
        ("many_seeds", "seeds", "seed"),
        ("test_a_claim", "trial_epochs", "num_epochs"),
    ],
)
def test_every_notebook_refuses_a_misspelt_parameter_before_it_does_anything(notebook, own, misspelt):
    path = ROOT / "notebooks" / f"{notebook}.ipynb"
    cells = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    (last,) = (number for number, cell in enumerate(cells) if "check_parameters(globals())" in cell)
    (first,) = (number for number, cell in enumerate(cells) if f"\n{own}: " in f"\n{cell}")
    assert last == first + 1
    check = "check_parameters(globals())"
    with pytest.raises(ParameterError, match=f"^unknown parameter {misspelt}: did you mean {own}?"):
        exec(check, {"check_parameters": check_parameters, "In": ["", cells[first], injected(**{misspelt: 1}), check]})


def test_the_report_of_a_folder_without_records_says_what_is_missing(tmp_path):
    done = by_command_line("notebooks/report.ipynb", tmp_path / "r.ipynb", "-p", "figures_folder", tmp_path, cwd=ROOT)
    assert done.returncode == 1
    said = f"ParameterError: figures_folder is '{tmp_path}': expected a folder with {TABLE}, the table of records"
    executed = nbformat.read(tmp_path / "r.ipynb", 4)
    (output,) = (output for cell in executed.cells for output in cell.get("outputs", []))
    (line,) = output.traceback
    assert line.startswith(said)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("figures_folder", 1, "figures_folder is 1: expected a folder with runs.jsonl"),
        ("figures_folder", "figures/runs.jsonl", "figures_folder is 'figures/runs.jsonl': expected a folder with"),
        ("own_folder", "nowhere", "own_folder is 'nowhere': expected a folder with runs.jsonl, such as runs/figures"),
        ("overrides", [1], "overrides is [1]: expected a dict of parameters of a run"),
        ("overrides", {"num_epoch": 3}, "unknown parameter num_epoch: did you mean num_epochs?"),
        ("overrides", {1: 3}, "unknown parameter 1: choose from"),
        ("overrides", {"num_epochs": "3"}, "num_epochs is '3': expected a whole number"),
        (
            "notebook",
            "explore",
            "notebook is 'explore': expected the name of a notebook that trains, such as figure_4",
        ),
        ("seeds", [1, 1], "seeds is [1, 1]: expected a list of different whole numbers from 0 up"),
        ("seeds", [], "seeds is []: expected a list"),
        ("claim", 5, "claim is 5: expected a name under comparisons in claims.yaml"),
        ("num_seeds", 0, "num_seeds is 0: expected a whole number from 1 to 100"),
        ("trial_epochs", -1, "trial_epochs is -1: expected a whole number from 0 up"),
    ],
)
def test_what_a_report_is_told_is_checked(name, value, complaint):
    with pytest.raises(ParameterError) as refused:
        check_parameters({name: value})
    assert str(refused.value).startswith(complaint)


def test_a_reports_parameters_pass_wherever_the_folder_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / TABLE).touch()
    for folder in ("figures", str(tmp_path), "~"):
        given = {"figures_folder": folder, "overrides": {"num_epochs": 3, "augmentation": ["RandomErasing"]}}
        assert check_parameters(given) == given


def test_records_of_other_settings_give_no_report():
    study = Study.read("figures", {"num_epochs": 77})
    with pytest.raises(Exception, match=r"^none of \d+ records is of a figure, with overrides {'num_epochs': 77}: "):
        study.check_that_it_has_figures()
    Study.read("figures").check_that_it_has_figures()


def test_the_parameters_of_the_report_are_those_of_its_cell():
    for notebook in ("report", "explore", "many_seeds", "test_a_claim"):
        inspected = papermill.inspect_notebook(ROOT / "notebooks" / f"{notebook}.ipynb")
        assert inspected.keys() <= (parameters.PARAMETERS | parameters.BEYOND_A_RUN).keys()


# Notebooks that others have saved


def saved_by_others(notebook):
    """Yield the bytes of a notebook as other editors and versions of the format write them."""
    plain = nbformat.writes(notebook)
    tree = json.loads(plain)
    yield "byte order mark", b"\xef\xbb\xbf" + plain.encode()
    yield "Windows' line ends", plain.replace("\n", "\r\n").encode()
    for name, minor in (("4.4 with ids", 4), ("a later version", 9)):
        yield name, json.dumps(tree | {"nbformat_minor": minor}).encode()
    for cell in tree["cells"]:
        cell["id"] = "same"
    yield "ids that are no ids", json.dumps(tree).encode()
    for cell in tree["cells"]:
        del cell["id"]
        cell["source"] = "".join(cell["source"]).replace("\n", "\r\n")
    yield "4.5 without ids, sources as texts", json.dumps(tree).encode()
    yield "4.4", json.dumps(tree | {"nbformat_minor": 4}).encode()
    yield "without metadata", json.dumps(tree | {"metadata": {}}).encode()


def test_a_batch_reads_a_notebook_whichever_editor_saved_it(tmp_path, monkeypatch):
    expected = notebooks.defaults("figure_4")
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    (tmp_path / "notebooks").mkdir()
    for name, content in saved_by_others(nbformat.read(ROOT / "notebooks" / "figure_4.ipynb", 4)):
        (tmp_path / "notebooks" / f"{name}.ipynb").write_bytes(content)
        assert notebooks.defaults(name) == expected, name


def test_a_notebook_of_an_unknown_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "ROOT", tmp_path)
    (tmp_path / "notebooks").mkdir()
    tree = json.loads((ROOT / "notebooks" / "figure_4.ipynb").read_bytes())
    for version in (3, 5):
        (tmp_path / "notebooks" / f"{version}.ipynb").write_text(
            json.dumps(tree | {"nbformat": version}), encoding="utf-8"
        )
        with pytest.raises(notebooks.NotebookError, match="is damaged: expected a notebook"):
            notebooks.defaults(str(version))


def kernelspec_that_fails(folder, name):
    """Let a folder of JUPYTER_PATH have a kernel that ends at once."""
    (folder / "kernels" / name).mkdir(parents=True)
    kernel = {"argv": ["false"], "display_name": name, "language": "python"}
    (folder / "kernels" / name / "kernel.json").write_text(json.dumps(kernel), encoding="utf-8")


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}},
        {"kernelspec": {"name": "conda-env-course-py", "language": "python", "display_name": "Python [course]"}},
        {"kernelspec": {"name": "ir", "language": "R", "display_name": "R"}, "language_info": {"name": "R"}},
    ],
    ids=["none", "the-users-own-python3", "conda", "another-language"],
)
def test_a_batch_runs_a_notebook_with_its_own_python_whatever_kernel_it_names(tmp_path, monkeypatch, metadata):
    kernelspec_that_fails(tmp_path, "python3")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    project = tmp_path / "a {project} of {0} ours"
    (project / "notebooks").mkdir(parents=True)
    cells = [new_code_cell("seed: int = 0", metadata={"tags": ["parameters"]}), new_code_cell("import sys")]
    cells += [new_code_cell("print(seed, sys.executable, sys.path[0])")]
    content = b"\xef\xbb\xbf" + nbformat.writes(new_notebook(cells=cells, metadata=metadata)).encode()
    (project / "notebooks" / "small.ipynb").write_bytes(content)
    executed = cluster.execute_notebook(project, "small", {"seed": 7})
    assert executed.cells[-1].outputs[0].text.startswith(f"7 {sys.executable} ")
    assert executed.metadata.papermill.input_path == str(project / "notebooks" / "small.ipynb")


# Folders


def test_a_runs_folder_cannot_climb_out_of_the_project(tmp_path):
    path = small_notebook(tmp_path / "notebook.ipynb")
    done = by_command_line(path, "/dev/null", "-p", "runs_folder", "../x", cwd=tmp_path)
    assert "runs_folder is '../x': expected the path of a folder, without .." in done.stderr
