"""The README's commands are run, and its numbers are those of the committed records."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT, TINY

import reporting

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line and not line.startswith("#")]


def commands(program):
    return [command for command in COMMANDS if command.split()[0] == program]


def test_every_make_target_of_the_readme_exists():
    makefile = (ROOT / "Makefile").read_text()
    assert "make report" in COMMANDS
    assert "make test" in COMMANDS
    for command in commands("make"):
        target = command.split()[1]
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), command


@pytest.mark.parametrize("command", commands("papermill"))
def test_every_papermill_command_of_the_readme_runs(command, tmp_path):
    program, notebook, output, *arguments = command.split()
    is_figure = notebook.startswith("notebooks/figure_")
    small = [*TINY, "-p", "num_epochs", "1", "-p", "runs_folder", str(tmp_path)] if is_figure else []
    line = [sys.executable, "-m", program, notebook, str(tmp_path / output), *arguments, *small]
    subprocess.run(line, cwd=ROOT, check=True, capture_output=True)
    assert len(list(tmp_path.glob("figure_*.json"))) == is_figure


def test_every_option_of_reproduce_in_the_readme_is_one_that_it_explains():
    done = subprocess.run(
        [sys.executable, "reproduce.py", "--help"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    used = {word for command in commands("python") for word in command.split() if word.startswith("-")}
    assert used
    for option in used - {"-m"}:
        assert option in done.stdout, option


def test_every_file_that_the_readme_links_exists():
    links = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r'src="([^"]+)"', README)
    for link in links:
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link


def test_the_readmes_table_is_made_from_the_committed_records():
    results = reporting.load_results("figures")
    assert len(results) == 8
    assert reporting.results_table(results, link="notebooks/figure_{}.ipynb").data in README
