"""The ways of stock nbconvert from executed notebooks to pages and PDF."""

import os
import re
import shutil
import subprocess
import sys
import unicodedata

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import pdf_text
from playwright.sync_api import Error, sync_playwright
from pypdf import PdfReader

SHOWN = ("report", "figure_9")
DRAWINGS = {"report": 17, "figure_9": 2}  # Figures 2 to 9 and A to I; images and the curves
# Faults of nbconvert's theme, not ours: pale prompts and a pale keyword, links in a text that are not underlined.
OF_THE_THEME = {"exclude": [[".jp-InputPrompt"], [".jp-OutputPrompt"], [".highlight"], ["p > a"], ["li > a"]]}


@pytest.fixture(scope="module")
def executed(tmp_path_factory, batch, report_notebook):
    """Return a folder with two executed notebooks: the report's, and one of the batch's."""
    folder = tmp_path_factory.mktemp("executed")
    shutil.copy(report_notebook, folder / "report.ipynb")
    for path in (batch[0] / "runs").glob("*.ipynb"):
        if nbformat.read(path, 4).metadata.title.startswith("Figure 9"):
            shutil.copy(path, folder / "figure_9.ipynb")
    return folder


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """Let Playwright find a Chromium: its own, or else the system's, by a link in the place where it looks."""
    with pytest.MonkeyPatch.context() as patch:
        try:
            with sync_playwright() as playwright:
                playwright.chromium.launch().close()
        except Error as error:
            wanted = re.search(r"Executable doesn't exist at (\S+)", error.message)
            browser = shutil.which("chromium")
            if not wanted or not browser:
                pytest.skip("no Chromium: `playwright install chromium`, or Debian's package chromium")
            folder = tmp_path_factory.mktemp("browsers")
            patch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(folder))
            place = folder / re.search(r"[^/]*chromium[^/]*/.*", wanted[1])[0]
            place.parent.mkdir(parents=True)
            place.symlink_to(browser)
        yield


@pytest.fixture(scope="module")
def page(chromium):
    """A tab of a browser without a network."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(args=["--no-sandbox"])
        page = browser.new_page()
        page.route(re.compile("^http"), lambda route: route.abort())
        yield page
        browser.close()


def convert(notebook, to, *options):
    """Convert a notebook as a user does, and return the new file and what nbconvert said."""
    command = [sys.executable, "-m", "nbconvert", "--to", to, "--no-input", *options, notebook]
    done = subprocess.run(command, cwd=notebook.parent, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return notebook.with_suffix(".html" if to == "html" else ".pdf"), done.stderr


def check_text(path, name):
    """Check that a PDF says what the notebook says, with captions."""
    text = pdf_text(path)
    words = {
        "report": ["Every claim, tested", "Figure 9: Batch 32, dropout 0.01", "Figure D: Every number", "References"],
        "figure_9": ["the final model", "Test accuracy: the report gives", "Verdict"],
    }
    for word in words[name]:
        assert word in unicodedata.normalize("NFKC", text)  # a browser sets ligatures
    assert "Traceback" not in text


@pytest.mark.parametrize("name", SHOWN)
def test_a_page_is_accessible(executed, page, name):
    """Alternative texts, headings in order, contrast, a title and more: the rules of axe."""
    html, _ = convert(executed / f"{name}.ipynb", "html")
    page.goto(html.as_uri())
    assert page.locator("img:not([alt='Open in Colab'])").count() == DRAWINGS[name]
    result = Axe().run(page, context=OF_THE_THEME).response
    assert {rule["id"] for rule in result["passes"]} >= {
        "image-alt",
        "heading-order",
        "color-contrast",
        "document-title",
    }
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in result["violations"]] == []


@pytest.mark.parametrize("name", SHOWN)
def test_stock_pdf_by_latex_has_drawings_and_captions(executed, name):
    missing = [program for program in ("xelatex", "pandoc") if not shutil.which(program)]
    if missing:
        pytest.skip(f"no {missing[0]}: README.md says what to install")
    pdf, said = convert(executed / f"{name}.ipynb", "pdf")
    assert "nkscape" not in said
    check_text(pdf, name)
    drawings = {  # what is drawn twice is one object
        str(drawn.idnum)
        for sheet in PdfReader(pdf).pages
        for drawn in sheet["/Resources"].get("/XObject", {}).values()
    }
    assert len(drawings) == DRAWINGS[name]


@pytest.mark.parametrize("name", SHOWN)
def test_stock_pdf_by_chromium_has_captions(executed, chromium, name):
    root = ["--disable-chromium-sandbox"] if os.geteuid() == 0 else []
    # On a busy machine half of the page has not been read yet when it is printed: docs/pdf.md.
    patient = "--WebPDFExporter.page_render_timeout=10000"
    pdf, _ = convert(executed / f"{name}.ipynb", "webpdf", patient, *root)
    check_text(pdf, name)
