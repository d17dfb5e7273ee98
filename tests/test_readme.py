"""The README's commands are run, and its numbers are those of the committed records."""

import io
import json
import re
import subprocess
import sys
import tarfile

import pytest
from conftest import ROOT, TINY

import evidence
import reporting
from tests import torture

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


@pytest.mark.parametrize("command", [command for command in commands("papermill") if "figure_" in command])
def test_a_papermill_command_of_the_readme_runs_and_leaves_a_record(command, tmp_path):
    program, notebook, output, *arguments = command.split()
    small = [*TINY, "-p", "num_epochs", "1", "-p", "runs_folder", str(tmp_path)]
    line = [sys.executable, "-m", program, notebook, str(tmp_path / output), *arguments, *small]
    subprocess.run(line, cwd=ROOT, check=True, capture_output=True)
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_every_option_of_reproduce_in_the_readme_is_one_that_it_explains():
    done = subprocess.run(
        [sys.executable, "reproduce.py", "--help"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    lines = [command for command in COMMANDS if command.startswith("python reproduce.py")]
    used = {word for line in lines for word in line.split() if word.startswith("-")}
    assert used
    for option in used:
        assert option in done.stdout, option


def test_the_readmes_ways_from_the_reports_notebook_to_a_page_and_a_pdf_work(tmp_path):
    papermill, *conversions = [command for command in COMMANDS if command.endswith(" report.ipynb")]
    for command in (papermill, *conversions):
        words = command.removeprefix("python -m ").replace(" report.ipynb", f" {tmp_path / 'report.ipynb'}").split()
        subprocess.run([sys.executable, "-m", *words], cwd=ROOT, check=True, capture_output=True)
    assert len(conversions) == 2
    assert "<figcaption>Figure 9:" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "report.pdf").read_bytes() == (ROOT / "figures" / "report.pdf").read_bytes()


def test_every_file_that_the_readme_links_exists():
    links = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r'src="([^"]+)"', README)
    for link in links:
        if not link.startswith("http"):
            assert (ROOT / link).exists(), link


def test_the_readmes_results_are_made_from_the_committed_records(tmp_path):
    """The committed ones, since a `make report` on another processor may have changed last digits in figures/."""
    archive = subprocess.run(["git", "archive", "HEAD", "figures"], cwd=ROOT, capture_output=True)
    if archive.returncode:
        pytest.skip("not in a git checkout")
    tarfile.open(fileobj=io.BytesIO(archive.stdout)).extractall(tmp_path, filter="data")
    results = reporting.load_results(tmp_path / "figures")
    assert len(results) == 8
    assert reporting.results_table(results, link="notebooks/figure_{}.ipynb").data in README
    found = evidence.load(tmp_path / "figures")
    assert evidence.comparisons_table(found).data in README
    assert evidence.beyond_sentence(found).data in README


def test_the_readme_shows_the_last_result_of_make_torture():
    result = json.loads(torture.RESULT.read_text())
    assert result.keys() == torture.PARTS.keys()
    assert torture.table(result) in README
