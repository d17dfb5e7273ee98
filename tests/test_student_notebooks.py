"""What students put into notebooks: a PDF comes out of each, and names what it can't show."""

import base64
import io
import json
import os
import subprocess
import sys

import nbformat
import pytest
import typst
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from nbformat import v4
from PIL import Image
from pypdf import PdfReader
from test_typst_exporter import (
    PNG,
    SVG,
    TITLE,
    alternative_texts,
    code_cell,
    display,
    export,
    stream,
    structure_elements,
)

from report.typst_exporter import TypstPDFExporter
from tests.faults import copy_project

OWN_FONTS = typst.Fonts(include_system_fonts=False)
WIDGET = {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}, "text/plain": "interactive(children=())"}
PANDAS = "<table class='dataframe'><tr><th></th>{}</tr><tr><th>0</th>{}</tr></table>"


def words(*cells, **metadata):
    """Return the text of a PDF, its lines joined."""
    return " ".join(export(*cells, **metadata).text.split())


def num_images(report):
    return sum(len(page.images) for page in report.pdf.pages)


@pytest.fixture
def notebook_folder(tmp_path, monkeypatch):
    folder = tmp_path / "notes of mine"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Image.new("RGB", (40, 30), "red").save(folder / "my plot.png")
    return folder


@pytest.mark.parametrize(
    ("source", "name"),
    [("東京", "U+6771, U+4EAC"), ("ひら", "U+3072, U+3089"), ("한국", "U+D55C, U+AD6D"), ("🚀", "rocket")],
)
def test_characters_without_a_font_are_named_where_they_stood(source, name, monkeypatch):
    monkeypatch.setattr("typst.Fonts", lambda **_: OWN_FONTS)
    assert f"before [no font here for: {name}] after" in words(TITLE, f"before {source} after")
    assert f"[no font here for: {name}]" in words(f"# {source}", code_cell(stream("stdout", source)))


def test_characters_are_shown_where_the_system_has_a_font(tmp_path, monkeypatch):
    font = FontBuilder(1000, isTTF=True)
    pen = TTGlyphPen(None)
    for point in ((0, 0), (0, 700), (700, 700)):
        (pen.lineTo if pen.points else pen.moveTo)(point)
    pen.closePath()
    glyph = pen.glyph()
    font.setupGlyphOrder([".notdef", "east"])
    font.setupCharacterMap({ord("東"): "east"})
    font.setupGlyf({".notdef": glyph, "east": glyph})
    font.setupHorizontalMetrics({".notdef": (1000, 0), "east": (1000, 0)})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "East", "styleName": "Regular", "psName": "East-Regular"})
    font.setupOS2()
    font.setupPost()
    folder = tmp_path / ".local" / "share" / "fonts"
    folder.mkdir(parents=True)
    font.save(folder / "east.ttf")
    before = export(TITLE).content
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "the word 東" in words(TITLE, "the word 東")
    assert export(TITLE).content == before


@pytest.mark.parametrize(
    "source",
    [
        "$ x^2 $",
        "$x^2$",
        r"\(x^2\)",
        r"\\(x^2\\)",
        "$$\nx^2\n\n$$",
        "\\begin{align}\nx^2\n\\end{align}",
        r"$\newcommand{\sq}[1]{#1^2}\sq{x}$",
        r"$\textcolor{red}{x^2}$",
    ],
)
def test_a_formula_that_jupyter_renders_is_one(source):
    assert "𝑥2" in export(TITLE, source).text


def test_a_macro_is_known_in_the_cells_below():
    assert "then ℝ𝑛" in words(TITLE, r"$\newcommand{\R}{\mathbb{R}}$", r"then $\R^n$")


def test_a_formula_that_cannot_be_set_is_named_with_its_source():
    assert r"so [A formula that can't be set here: \ce{H2O}] it is" in words(TITLE, r"so $\ce{H2O}$ it is")


@pytest.mark.parametrize("source", ["from $5 to $10", "``$ x $``", "```\n$ x $\n```", r"a \$ x \$ b"])
def test_prices_and_code_are_no_formulas(source):
    text = words(TITLE, source)
    assert "$" in text
    assert "𝑥" not in text


@pytest.mark.parametrize(
    "source",
    [
        "![red](my%20plot.png)",
        "![red](<my plot.png>)",
        "text ![red](my%20plot.png)",
        '<img src="my plot.png" alt="red">',
    ],
)
def test_an_image_beside_the_notebook_is_shown(source, notebook_folder):
    report = export(TITLE, source)
    assert num_images(report) == 1
    assert alternative_texts(report.pdf) == ["red"]


def test_images_are_looked_for_beside_the_notebook_not_where_the_user_stands(notebook_folder, tmp_path, monkeypatch):
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell("![red](my%20plot.png)")])
    path = notebook_folder / "ünd so #1 'x'.ipynb"
    nbformat.write(notebook, path)
    monkeypatch.chdir(tmp_path)
    content, _ = TypstPDFExporter().from_filename(str(path))
    assert len(PdfReader(io.BytesIO(content)).pages[0].images) == 1


def test_a_pasted_image_is_shown():
    cell = v4.new_markdown_cell("![a](attachment:a%20b.png)", attachments={"a b.png": {"image/png": PNG}})
    assert num_images(export(TITLE, cell)) == 1


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("![a](none.png)", "(“a”, none.png): there is no such file beside the notebook."),
        ("![a](https://example.org/a.png)", "(“a”, https://example.org/a.png): it is on the network."),
        ("![a](attachment:gone.png)", "(“a”, attachment:gone.png): the notebook has no attachment of this name."),
        ("![a](text.png)", "(“a”, text.png): its data are damaged."),
    ],
)
def test_an_image_that_cannot_be_shown_is_named(source, reason, notebook_folder):
    (notebook_folder / "text.png").write_text("no image", encoding="utf-8")
    assert f"[An image can't be shown here {reason}]" in words(TITLE, source)


def test_a_damaged_image_of_an_output_is_named():
    assert "[An image can't be shown here: its data are damaged.]" in words(code_cell(display({"image/png": "AAAA"})))


def test_the_size_that_jupyter_notes_for_an_image_is_kept_within_the_text():
    output = display({"image/png": PNG}, **{"image/png": {"width": 2000, "height": 900}})
    assert num_images(export(TITLE, code_cell(output))) == 1


def test_later_headings_of_level_1_are_sections_and_those_below_them_nest():
    report = export("# Title", "## A", "# Second", "## B")
    assert report.pdf.metadata.title == "Title"
    top = [entry.title for entry in report.pdf.outline if not isinstance(entry, list)]
    assert "Second" in top
    assert top.count("B") == 0


def test_jupyters_links_to_headings_and_anchors_lead_there():
    report = export("# Title", "[a](#Second-Part) [b](#spot) [c](#Title)", "## Second Part", '<a id="spot"></a> here')
    assert len(report.pdf.pages[0]["/Annots"]) == 3
    assert "nowhere" not in report.text


def test_a_widget_is_named_and_its_program_text_is_not_shown():
    text = words(TITLE, code_cell(display(WIDGET)))
    assert "[Here the notebook shows a widget, which works only in Jupyter.]" in text
    assert "children" not in text


def test_html_tables_of_outputs_are_tables():
    html = PANDAS.format("<th>loss</th>", "<td>0.25</td>")
    report = export(TITLE, code_cell(display({"text/html": html, "text/plain": "   loss\n0  0.25"})))
    assert report.text.count("0.25") == 1
    assert "/TH" in [element.get("/S") for element in structure_elements(report.pdf)]


def test_a_wide_table_is_folded_and_a_long_one_cut():
    wide = PANDAS.format(
        *("".join(f"<{tag}>{name}{k}</{tag}>" for k in range(24)) for tag, name in [("th", "c"), ("td", "v")])
    )
    text = words(TITLE, code_cell(display({"text/html": wide})))
    assert all(f"v{number}" in text.split() for number in range(24))
    long = "<table>" + "<tr><td>x</td></tr>" * 900 + "</table>"
    assert "[600 of 900 rows are left out here.]" in words(TITLE, code_cell(display({"text/html": long})))


def test_html_of_markdown_cells_is_shown():
    text = words(TITLE, "H<sub>2</sub>O<br><b>bold</b>", "<table><tr><td>a cell</td></tr></table>", "<div>unclosed")
    assert all(shown in text for shown in ["H2O", "bold", "a cell", "unclosed"])


@pytest.mark.parametrize(
    ("html", "named"),
    [
        ('<video src="https://a.org/v.mp4"></video>', "a video, which works only in a browser: https://a.org/v.mp4"),
        ('<iframe src="https://a.org/"></iframe>', "a web page, which works only in a browser: https://a.org/"),
        ("<script>draw()</script>", "something interactive, which works only in a browser"),
    ],
)
def test_what_works_only_in_a_browser_is_named(html, named):
    assert f"[Here the notebook shows {named}.]" in words(TITLE, code_cell(display({"text/html": html})))


def test_an_output_of_an_unknown_type_is_named():
    output = display({"application/vnd.plotly.v1+json": {}})
    assert "of the type application/vnd.plotly.v1+json, which a page can't show" in words(TITLE, code_cell(output))


def test_an_error_is_shown_without_its_colours():
    error = v4.new_output("error", ename="ValueError", evalue="bad", traceback=["\x1b[0;31mValueError\x1b[0m: bad"])
    assert "ValueError: bad" in words(TITLE, code_cell(error))


def test_what_was_printed_over_is_not_shown():
    assert "10 %" not in words(TITLE, code_cell(stream("stdout", "10 %\r20 %\r30 %\n")))


def test_a_long_output_is_cut_in_its_middle_and_says_so():
    text = words(TITLE, code_cell(stream("stdout", "\n".join(f"line{number}" for number in range(5000)))))
    assert "[4,700 of 5,000 lines are left out here.]" in text
    assert "line0 " in text
    assert "line4999" in text


def test_a_long_line_stays_on_the_page():
    report = export(TITLE, code_cell(stream("stdout", "x" * 400)))
    assert len([line for line in report.text.splitlines() if "x" in line]) > 4


@pytest.mark.parametrize(
    "unclosed", ["```\ncode", "~~~~~~~~~~\ncode", "<div><b>", "<!-- remark", "$$ x", "> quote", "`x"]
)
def test_a_cell_ends_where_it_ends(unclosed):
    report = export(TITLE, unclosed, "## Below", code_cell(stream("stdout", "~~~~~~~~~~\nprinted")))
    assert [entry.title for entry in report.pdf.outline] == ["Below"]
    assert "printed" in report.text


def test_what_typst_refuses_is_named_and_the_rest_is_there():
    text = words(TITLE, '`#panic("no")`{=typst} said Ada', "and Grace [to it](#title)", "## Title")
    assert "[What stood here can't be typeset; its words:] said Ada" in text
    assert "and Grace" in text


@pytest.mark.parametrize(
    "text", ["[a]()", "#import x", "@x <y> *z* $", r"\newpage", r"$\frac{$", "# ", "# ![](no.png)", "# $x$"]
)
def test_odd_texts_do_not_stop_the_pdf(text):
    assert "the end" in words(text, "the end")


def test_notebooks_that_are_empty_or_odd_give_a_pdf():
    assert len(export().pdf.pages) == 1
    assert "Ada" in words(TITLE, authors=[{"name": "Ada"}, {"affiliation": "none"}], subtitle="")


def test_a_notebook_of_format_3_gives_a_pdf(tmp_path):
    cell = {"cell_type": "markdown", "metadata": {}, "source": ["an old text"]}
    code = {"cell_type": "code", "collapsed": False, "input": ["1"], "language": "python", "metadata": {}}
    code["outputs"] = [{"output_type": "stream", "stream": "stdout", "text": ["an old output"]}]
    sheet = {"cells": [cell, code], "metadata": {}}
    notebook = {"metadata": {"name": ""}, "nbformat": 3, "nbformat_minor": 0, "worksheets": [sheet]}
    path = tmp_path / "old.ipynb"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    content, _ = TypstPDFExporter().from_filename(str(path))
    text = PdfReader(io.BytesIO(content)).pages[0].extract_text()
    assert "an old text" in text
    assert "an old output" in text


def test_folders_may_have_any_letters_where_the_locale_has_only_asciis(tmp_path):
    folder = copy_project(tmp_path / "Übung №1")
    nbformat.write(v4.new_notebook(cells=[v4.new_markdown_cell("# Ünïcode")]), folder / "ä.ipynb")
    command = [sys.executable, "-m", "nbconvert", "--to", "report.typst_exporter.TypstPDFExporter", folder / "ä.ipynb"]
    environment = os.environ | {"LC_ALL": "C", "TMPDIR": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Ünïcode" in PdfReader(folder / "ä.pdf").pages[0].extract_text()


def test_an_inline_drawing_stays_one():
    assert "can't" not in words(TITLE, SVG)
    uri = base64.b64encode(SVG.encode()).decode()
    assert "can't" not in words(TITLE, f"![](data:image/svg+xml;base64,{uri})")
