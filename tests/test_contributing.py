"""What CONTRIBUTING.md promises: a notebook and a few lines of claims.yaml add a figure, a claim and a sweep."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from conftest import ROOT, TINY, pdf_text

import reproduce
from study import claims
from study.table import TABLE, read_records
from tests.faults import copy_project

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FIGURE, COMPARISON, SWEEP = re.findall(r"```yaml\n(.*?)```", CONTRIBUTING, re.DOTALL)


@pytest.fixture(scope="module")
def extended(tmp_path_factory):
    """A copy of the project to which everything in CONTRIBUTING.md was added, and nothing else changed."""
    project = copy_project(tmp_path_factory.mktemp("extended") / "project")
    notebook = nbformat.read(project / "notebooks" / "figure_9.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace('figure = "figure_9"', 'figure = "figure_10"')
        cell.source = cell.source.replace("learning_rate: float = 0.001", "learning_rate: float = 0.002")
    nbformat.write(notebook, project / "notebooks" / "figure_10.ipynb")
    text = (project / "claims.yaml").read_text(encoding="utf-8")
    for section, entry in (("figures", FIGURE), ("comparisons", COMPARISON), ("sweeps", SWEEP)):
        text = text.replace(f"\n{section}:\n", f"\n{section}:\n{entry}", 1)
    (project / "claims.yaml").write_text(text, encoding="utf-8")
    return project


def run(project, *arguments):
    command = [sys.executable, project / "reproduce.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=400)


def test_a_figure_a_claim_and_a_sweep_run_and_reach_the_report_without_a_change_of_code(extended, tmp_path):
    done = run(extended, "10", "--sweeps", "rates", *TINY, "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    table = read_records(tmp_path / "figures" / TABLE)
    assert {record["learning_rate"] for record in table} == {0.002, 0.003, 0.004}
    assert {record["notebook"] for record in table} == {"figure_10"}
    assert (tmp_path / "figures" / "figure_10.svg").exists()
    text = pdf_text(tmp_path / "figures" / "report.pdf")
    for words in ("Figure 10: twice the learning rate", "Twice the learning rate helps", "Figure E: "):
        assert words in text


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ("figure_11", "at figures.figure_11: there is no notebook notebooks/figure_11.ipynb"),
        ("figure_1", "at figures: 'figure_1' does not match"),
    ],
)
def test_a_figure_without_a_notebook_is_one_clear_line(extended, tmp_path, monkeypatch, wrong, complaint):
    path = tmp_path / "claims.yaml"
    path.write_text(
        (extended / "claims.yaml")
        .read_text(encoding="utf-8")
        .replace("  figure_10:", f"  {wrong}:")
        .replace("notebook: figure_10", "notebook: figure_9")
        .replace("figure: 10", "figure: 9"),
        encoding="utf-8",
    )
    with pytest.raises(claims.ClaimsError, match=re.escape(complaint)):
        claims.read(path)


def test_an_optimizer_and_an_augmentation_are_added_by_an_edit_or_two_and_one_command(tmp_path):
    project = copy_project(tmp_path / "project")
    for module, found, put in (
        ("parameters", '"AdamW")', '"AdamW", "NAdam")'),
        ("parameters", "AUGMENTATIONS = {", 'AUGMENTATIONS = {"RandomVerticalFlip": 3.0, '),
        ("augmentation", "NUMBERS = {", 'NUMBERS = {"RandomVerticalFlip": 1, '),
        ("augmentation", "CHANGES = {", 'CHANGES = {"RandomVerticalFlip": lambda X, numbers: X.flip(-2),'),
    ):
        path = project / "common" / f"{module}.py"
        text = path.read_text(encoding="utf-8")
        assert text.count(found) == 1
        path.write_text(text.replace(found, put), encoding="utf-8")

    def python(*command):
        done = subprocess.run([sys.executable, *command], cwd=project, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout

    python("colab.py", "stamp")
    (cell,) = (c for c in nbformat.read(project / "notebooks" / "figure_4.ipynb", 4).cells if c.id == "parameters")
    assert '# @param ["SGD", "SGD_momentum", "RMSprop", "Adam", "AdamW", "NAdam"] #' in cell.source
    new = ["-p", "optimizer_name", "NAdam", "-p", "augmentation", "['RandomVerticalFlip']"]
    lists = [python("reproduce.py", "4", "--list", *options) for options in ([], new)]
    usual, slower = (int(re.search(r"^ *(\d+):\d+  figure_4", text, re.MULTILINE)[1]) for text in lists)
    assert slower >= 3 * usual
    controls = "from report.panels.training import make_controls; c = make_controls(); print(c['{}'].options)"
    assert "NAdam" in python("-c", controls.format("optimizer_name"))
    assert "RandomVerticalFlip" in python("-c", controls.format("augmentation"))
    new = ["-p", "optimizer_name", "NAdam", "-y", "augmentation: [RandomVerticalFlip]"]
    python("-m", "papermill", "notebooks/figure_4.ipynb", "out.ipynb", *TINY, *new)
    (path,) = (project / "runs").glob("*.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    assert (record["optimizer_name"], record["augmentation"]) == ("NAdam", ["RandomVerticalFlip"])


# What the batch says before it runs


def listed(capsys, *arguments):
    reproduce.main([*arguments, "--list"])
    return capsys.readouterr().out.splitlines()


def test_a_list_names_every_run_with_its_time_and_writes_nothing(capsys, tmp_path):
    *runs, todo, last = listed(capsys, "4", "9", "--seeds", "0", "1", "--jobs", "2", "--output", str(tmp_path / "out"))
    assert [line.split(maxsplit=1)[1] for line in runs] == [f"figure_{f} seed {s}" for s in (0, 1) for f in (4, 9)]
    times = {line.split()[1]: int(line.split()[0].split(":")[0]) for line in runs}
    assert times["figure_9"] > 2 * times["figure_4"] > 0
    assert todo.startswith("4 runs, 4 to do; ")
    assert re.search(r"2 at a time they would take about \d+:\d\d$", last)
    assert not (tmp_path / "out").exists()


def test_a_list_knows_what_is_done(capsys, batch):
    trial, *runs, todo, _ = listed(capsys, "3", "4", "--seeds", "0", "7", *TINY, "--output", str(batch[0]))
    assert trial == "Trial: num_epochs 3, train_limit 600"
    assert [line.split()[0] == "done" for line in runs] == [True, True, False, False]
    assert todo.startswith("4 runs, 2 to do; ")


def test_the_help_teaches_by_examples_that_work(capsys):
    with pytest.raises(SystemExit):
        reproduce.parse(["--help"])
    examples = re.findall(r"^  python reproduce.py(.*?)(?:  .*)?$", capsys.readouterr().out, re.MULTILINE)
    assert len(examples) > 5
    for example in examples:
        assert reproduce.parse(example.split())


# What goes with a project


def test_a_commit_is_formatted_and_its_notebooks_lose_their_outputs(tmp_path):
    git = ["git", "-c", "user.name=test", "-c", "user.email=test", "-C", str(tmp_path)]
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    for name in (".pre-commit-config.yaml", ".gitignore", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "untidy.py").write_text("import math, sys\nprint( 'a' )\n", encoding="utf-8")
    cell = nbformat.v4.new_code_cell("1 + 1", outputs=[nbformat.v4.new_output("stream", text="2")])
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "run.ipynb")
    for command in (["init", "--quiet"], ["add", "untidy.py", "run.ipynb"]):
        subprocess.run([*git, *command], check=True)
    hooks = [sys.executable, "-m", "pre_commit", "run", "--all-files"]
    done = subprocess.run(
        hooks, cwd=tmp_path, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert (tmp_path / "untidy.py").read_text(encoding="utf-8") == 'print("a")\n'
    assert nbformat.read(tmp_path / "run.ipynb", 4).cells[0].outputs == []


def test_the_citation_has_what_its_format_asks_for():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"title", "message", "authors", "license"} <= citation.keys()
    for work in (citation, *citation["references"]):
        assert all("name" in author or "family-names" in author for author in work["authors"])


def bibtex(work):
    """Write a work of CITATION.cff as the lines of its entry in BibTeX."""
    names = [
        f"{author['family-names']}, {author['given-names']}" if "family-names" in author else author["name"]
        for author in work["authors"]
    ]
    of_a_group = len(names) == 1 and "name" in work["authors"][0]
    authors = f"{{{names[0]}}}" if of_a_group else " and ".join(names).replace("and and others", "and others")
    fields = {"author": authors, "title": f"{{{work['title']}}}"}
    fields["year"] = work.get("year") or work["date-released"].year
    if "version" in work:
        fields["note"] = f"Version {work['version']}"
    for identifier in work.get("identifiers", []):
        fields |= {"eprint": identifier["value"].removeprefix("arXiv:"), "archiveprefix": "arXiv"}
    return [f"  {name} = {{{value}}}," for name, value in fields.items()]


def test_the_entries_for_bibtex_are_those_of_the_citation_file():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "citing.md").read_text(encoding="utf-8")
    entries = re.findall(r"^@misc\{\S+,\n(.*?)^\}", page, re.MULTILINE | re.DOTALL)
    assert [entry.splitlines() for entry in entries] == [bibtex(w) for w in (citation, *citation["references"])]
