"""The commands of README and docs are run, and their numbers are those of the committed records."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, TINY

from report import sentences, tables
from report.verdict import beyond_verdict
from study import claims
from study.study import Study
from tests import torture

README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))}
BLOCKS = re.findall(r"^```sh\n(.*?)^```", "\n".join([README, *DOCS.values()]), re.MULTILINE | re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines() if line and not line.startswith("#")]


def commands(program):
    return [command for command in COMMANDS if command.split()[0] == program]


def test_every_make_target_of_the_pages_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "make report" in COMMANDS
    assert "make test" in COMMANDS
    for command in commands("make"):
        target = command.split()[1]
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), command


@pytest.mark.parametrize("command", [command for command in commands("papermill") if "figure_" in command])
def test_a_papermill_command_of_the_pages_runs_and_leaves_a_record(command, tmp_path):
    program, notebook, output, *arguments = command.split()
    small = [*TINY, "-p", "num_epochs", "1", "-p", "runs_folder", str(tmp_path)]
    line = [sys.executable, "-m", program, notebook, str(tmp_path / output), *arguments, *small]
    subprocess.run(line, cwd=ROOT, check=True, capture_output=True)
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_every_option_of_reproduce_in_the_pages_is_one_that_it_explains():
    done = subprocess.run(
        [sys.executable, "reproduce.py", "--help"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    lines = [command for command in COMMANDS if command.startswith("python reproduce.py")]
    used = {word for line in lines for word in line.split() if word.startswith("-")}
    assert used
    for option in used:
        assert option in done.stdout, option


def test_the_ways_from_the_reports_notebook_to_a_page_and_a_pdf_work(report_notebook, tmp_path):
    """The commands of docs/pdf.md, on the notebook that its first command has executed."""
    shutil.copy(report_notebook, tmp_path / "report.ipynb")
    papermill, *conversions = [command for command in COMMANDS if command.endswith(" report.ipynb")]
    assert papermill == "papermill notebooks/report.ipynb report.ipynb"
    assert len(conversions) == 2
    for command in conversions:
        words = command.removeprefix("python -m ").replace(" report.ipynb", f" {tmp_path / 'report.ipynb'}").split()
        subprocess.run([sys.executable, "-m", *words], cwd=ROOT, check=True, capture_output=True)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for number in (*"ABCDEFGHI", *range(2, 10)):
        assert f"<figcaption>Figure {number}:" in page
    assert page.count('alt="Curves of') == 8
    assert (tmp_path / "report.pdf").read_bytes() == (ROOT / "figures" / "report.pdf").read_bytes()


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", *(f"docs/{name}" for name in DOCS)])
def test_every_file_that_a_page_links_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text) + re.findall(r'src="([^"]+)"', text)
    for link in links:
        if not link.startswith("http"):
            assert ((ROOT / page).parent / link).exists(), link


def test_every_page_of_docs_is_linked_from_the_readme():
    for name in DOCS:
        assert f"(docs/{name})" in README


def test_the_readmes_results_are_made_from_the_committed_records():
    study = Study.read()
    assert len(study.figures) == 8
    for written in (
        tables.results_table(study, link="notebooks/figure_{}.ipynb"),
        sentences.claims_summary(study),
        sentences.steps_sentence(study),
        beyond_verdict(study),
    ):
        assert written.data in README
    assert tables.comparisons_table(study).data in DOCS["claims.md"]


def test_every_sentence_of_the_report_is_tested_somewhere_or_it_is_said_why_not():
    """The second table of docs/claims.md names every claim and every reported number, and no others."""
    _, table = DOCS["claims.md"].split("| The report says | Tested by |")
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    named = {name for row in rows for name in re.findall(r"`([^`/]+)`", row)}
    stated = claims.load()
    with_numbers = {name for name, sweep in stated.sweeps.items() if sweep.reported}
    assert named == {*stated.comparisons, *stated.figures, *with_numbers}
    for row in rows:
        assert "`" in row or "can't be" in row, row


def test_every_picture_of_the_pages_has_an_alternative_text_and_a_caption():
    for page in (README, *DOCS.values()):
        pictures = re.findall(r"<img [^>]*>\n\n(.*)", page)
        assert len(pictures) == page.count("<img")
        for caption in pictures:
            assert re.fullmatch(r"\*[^*]+\*", caption)
        assert page.count("<img") == len(re.findall(r'<img [^>]*alt="[^"]{40,}"', page))


def test_the_docs_show_the_last_result_of_make_torture():
    result = json.loads(torture.RESULT.read_text(encoding="utf-8"))
    assert result.keys() == torture.PARTS.keys()
    assert torture.table(result) in DOCS["promises.md"]
