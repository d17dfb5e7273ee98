import io
from types import SimpleNamespace

import pytest
from nbformat import v4
from pypdf import PdfReader

from report.typst_exporter import TypstPDFExporter

TITLE = "# On *Fast* Forwarding\n\nAn opening sentence."
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="60"><path d="M0 60L90 0" stroke="red"/></svg>'
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
FIGURE = {
    "caption": "Loss by *epoch*, at most $e^2$, of `Net`",
    "alt": 'A "falling" `curve`',
    "label": "fig-4",
    "number": 4,
}
TABLE = "| network | accuracy |\n|:--|--:|\n| wide | 0.8912 |\n\n: Measured accuracies"


def table(name, num_rows):
    rows = "".join(f"\n| {name} {number} | 0.5 |" for number in range(num_rows))
    return f"| setting | measured |\n|:--|--:|{rows}"


def code_cell(*outputs, source="pass", tags=(), **metadata):
    return v4.new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags), **metadata})


def display(data, **metadata):
    return v4.new_output("display_data", data=data, metadata=metadata)


def stream(name, text):
    return v4.new_output("stream", name=name, text=text)


def svg_figure(**settings):
    return display({"image/svg+xml": SVG, "text/plain": "<SVG object>"}, **{"image/svg+xml": settings})


def export(*cells, exporter=None, **metadata):
    """Export a notebook of these cells; a cell given as a string is Markdown."""
    cells = [v4.new_markdown_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    # nbformat's cell ids are random.
    for position, cell in enumerate(cells):
        cell["id"] = f"cell-{position}"
    notebook = v4.new_notebook(cells=cells, metadata=metadata)
    content, resources = (exporter or TypstPDFExporter()).from_notebook_node(notebook)
    pdf = PdfReader(io.BytesIO(content))
    # Typst sets a space that must not break between "Figure" and its number.
    text = "\n".join(page.extract_text() for page in pdf.pages).replace("\N{NO-BREAK SPACE}", " ")
    return SimpleNamespace(content=content, resources=resources, pdf=pdf, text=text)


def structure_elements(pdf):
    """Yield every element of the PDF's structure tree, which is what a screen reader reads."""
    waiting = [pdf.trailer["/Root"]["/StructTreeRoot"]]
    while waiting:
        element = waiting.pop().get_object()
        if isinstance(element, list):
            waiting += element
        elif isinstance(element, dict):
            yield element
            waiting += [element["/K"]] if "/K" in element else []


def figures(pdf):
    return [element for element in structure_elements(pdf) if element.get("/S") == "/Figure"]


def alternative_texts(pdf):
    return [figure["/Alt"] for figure in figures(pdf)]


def kinds_of_drawn_objects(pdf):
    """Return the subtypes of all the objects that the pages draw, also those inside other objects."""
    kinds = set()
    waiting = [page["/Resources"] for page in pdf.pages]
    while waiting:
        for drawn in waiting.pop().get("/XObject", {}).values():
            drawn = drawn.get_object()
            kinds.add(drawn["/Subtype"])
            waiting += [drawn["/Resources"]] if "/Resources" in drawn else []
    return kinds


def test_the_same_notebook_gives_the_same_bytes():
    cells = [TITLE, code_cell(svg_figure(**FIGURE)), TABLE]
    assert export(*cells).content == export(*cells).content


def test_the_result_is_a_pdf_file_and_leaves_no_images_for_nbconvert_to_write():
    report = export(TITLE, code_cell(svg_figure(**FIGURE)))
    assert report.content.startswith(b"%PDF-")
    assert report.resources["output_extension"] == ".pdf"
    assert "outputs" not in report.resources


def test_the_level_1_heading_is_the_title_of_page_and_file():
    authors = [{"name": "Ada @ Lovelace"}, "Grace Hopper"]
    report = export(TITLE, "## Method", authors=authors, subtitle="A *short* study", date="1 May 2026")
    assert report.pdf.metadata.title == "On Fast Forwarding"
    for words in [
        "On Fast Forwarding",
        "A short study",
        "Ada @ Lovelace",
        "Grace Hopper",
        "1 May 2026",
        "An opening sentence.",
    ]:
        assert report.text.count(words) == 1
    assert [entry.title for entry in report.pdf.outline] == ["Method"]


def test_sections_are_numbered_if_the_notebook_says_how():
    cells = [TITLE, "## Method", "### Seeds", "### Images", "## Results"]
    text = export(*cells, **{"section-numbering": "1.1"}).text
    for heading in ("1 Method", "1.1 Seeds", "1.2 Images", "2 Results"):
        assert heading in text
    assert "1 Method" not in export(*cells).text


def test_a_notebook_without_title_is_exported_too():
    assert "An opening sentence." in export("An opening sentence.").text


def test_the_file_names_its_language_and_carries_no_date():
    pdf = export(TITLE).pdf
    assert pdf.trailer["/Root"]["/Lang"] == "en"
    assert pdf.metadata.creation_date is None


def test_the_page_is_a4_and_numbered():
    report = export(TITLE)
    assert [round(length / 72 * 25.4) for length in report.pdf.pages[0].mediabox[2:]] == [210, 297]
    assert report.text.rstrip().endswith("\n1")


def test_a_figure_may_have_a_letter_and_does_not_count_among_the_others_then():
    lettered = code_cell(svg_figure(caption="Ours.", number="B"))
    counted = [code_cell(svg_figure(caption=f"No. {number}.")) for number in (1, 2)]
    text = export(TITLE, counted[0], lettered, counted[1]).text
    for caption in ("Figure 1: No. 1.", "Figure B: Ours.", "Figure 2: No. 2."):
        assert caption in text


def test_a_paragraph_above_a_table_that_begins_with_its_number_is_its_caption_and_what_links_lead_to():
    numbered = f"Table 7: Accuracies with $e^2$ in `Net`\n\n{table('wide', 3)}"
    report = export(TITLE, "See [Table 7](#tab-7).", numbered, TABLE)
    assert report.text.count("Table 7: Accuracies with 𝑒2 in Net") == 1
    assert "leads nowhere" not in report.text
    code = f"```\nTable 8: not one\n\n{table('x', 1)}\n```"
    assert "Table 8: not one\n" in export(TITLE, code).text


def test_what_has_a_number_floats_so_that_text_fills_the_page_before_it():
    """Twelve rows, for which the page has no room any more: what follows goes before them."""
    text = "\n\n".join(["A sentence that fills a line of the page, and is followed by a next one."] * 24)
    report = export(TITLE, text, f"Table 1: Twelve\n\n{table('row', 12)}", "What follows.")
    first, second = (page.extract_text() for page in report.pdf.pages)
    assert "What follows." in first
    assert "row 11" in second
    assert "row 0" not in first


def test_a_figure_has_the_number_and_caption_it_was_given():
    text = export(TITLE, code_cell(svg_figure(**FIGURE))).text
    assert "Figure 4: Loss by epoch, at most 𝑒2, of Net\n" in text
    assert "<SVG object>" not in text


def test_figures_without_a_number_are_counted_on():
    report = export(TITLE, code_cell(svg_figure(**FIGURE)), code_cell(svg_figure(caption="Another.")))
    assert "Figure 5: Another." in report.text


def test_an_image_without_a_caption_has_no_number():
    report = export(TITLE, code_cell(svg_figure(alt="A line")))
    assert "Figure" not in report.text
    assert alternative_texts(report.pdf) == ["A line"]


def test_a_figure_can_be_described_by_its_cell():
    report = export(TITLE, code_cell(display({"image/svg+xml": SVG}), **FIGURE))
    assert "Figure 4: Loss by epoch" in report.text


def test_alternative_text_reaches_the_structure_tree_as_it_was_written():
    assert alternative_texts(export(TITLE, code_cell(svg_figure(**FIGURE))).pdf) == [FIGURE["alt"]]


def test_an_svg_figure_stays_vector():
    both = display({"image/svg+xml": SVG, "image/png": PNG, "text/html": "<b>html</b>"})
    report = export(TITLE, code_cell(both))
    assert "/Image" not in kinds_of_drawn_objects(report.pdf)
    assert "html" not in report.text


def test_a_png_becomes_a_figure_too():
    report = export(TITLE, code_cell(display({"image/png": PNG}, **{"image/png": FIGURE})))
    assert "/Image" in kinds_of_drawn_objects(report.pdf)
    assert "Figure 4: Loss by epoch" in report.text


def test_a_width_is_a_share_of_the_width_of_the_text():
    report = export(TITLE, *[code_cell(display({"image/png": PNG}), width=width) for width in ("20%", "50%")])
    widths = []

    def note_width(operator, operands, matrix, text_matrix):
        if operator == b"Do":
            widths.append(matrix[0])

    report.pdf.pages[0].extract_text(visitor_operand_before=note_width)
    assert widths[1] == pytest.approx(2.5 * widths[0], rel=1e-4)


@pytest.mark.parametrize(("label", "target"), [("fig-4", "figure"), ("method", "heading")])
def test_a_link_to_a_label_leads_there(label, target):
    filler = "A paragraph.\n\n" * 60
    report = export(TITLE, f"See [the {target}](#{label}).", filler, "## Method", code_cell(svg_figure(**FIGURE)))
    (link,) = report.pdf.pages[0]["/Annots"]
    destination = link.get_object()["/Dest"]
    if isinstance(destination, str):
        destination = report.pdf.named_destinations[destination].dest_array
    assert len(report.pdf.pages) > 1
    assert destination[0].idnum == report.pdf.pages[-1].indirect_reference.idnum


def test_a_link_to_a_missing_label_is_named_where_it_stood():
    assert "Figure 99 [the link leads nowhere: #fig-99]" in export(TITLE, "See [Figure 99](#fig-99).").text


def test_an_output_offered_as_html_and_markdown_is_typeset_from_markdown():
    text = export(TITLE, code_cell(display({"text/html": "<p>html</p>", "text/markdown": TABLE}))).text
    assert "Table 1: Measured accuracies" in text
    assert "network accuracy" in text
    assert "wide 0.8912" in text
    assert "html" not in text


def test_a_table_has_a_marked_header_row_and_only_captioned_tables_are_counted():
    report = export(TITLE, TABLE.split("\n\n")[0], TABLE)
    kinds = [element.get("/S") for element in structure_elements(report.pdf)]
    assert kinds.count("/TH") == 4
    assert "Table 1: Measured accuracies" in report.text


@pytest.mark.parametrize("num_paragraphs", range(20, 24))
def test_a_small_table_stays_on_one_page(num_paragraphs):
    report = export(TITLE, *["paragraph"] * num_paragraphs, table("row", 12))
    assert len([page for page in report.pdf.pages if "row" in page.extract_text()]) == 1


def test_a_large_table_goes_on_from_page_to_page_with_its_head():
    pages = export(TITLE, table("row", 120)).pdf.pages
    assert all("measured" in page.extract_text() for page in pages)
    assert "row 0 " in pages[0].extract_text()
    assert "row 119 " in pages[-1].extract_text()
    assert len(pages) > 1


@pytest.mark.parametrize("num_paragraphs", range(28, 32))
def test_the_caption_of_a_large_table_is_on_the_page_of_its_first_row(num_paragraphs):
    """However much of a page is left, by steps that are smaller than a head and a row."""
    report = export(TITLE, *["paragraph"] * num_paragraphs, f"Table 1: Caption\n\n{table('row', 60)}")
    (page,) = [text for page in report.pdf.pages if "Caption" in (text := page.extract_text())]
    assert "row 0 " in page


def test_code_is_hidden_by_default():
    cell = code_cell(stream("stdout", "printed"), source="secret = 1")
    assert "secret" not in export(TITLE, cell).text
    assert "secret" in export(TITLE, cell, exporter=TypstPDFExporter(exclude_input=False)).text


@pytest.mark.parametrize(
    ("tag", "shown"),
    [(None, ["source", "printed"]), ("remove-cell", []), ("remove-input", ["printed"]), ("remove-output", ["source"])],
)
def test_tags_that_remove_are_honoured(tag, shown):
    cell = code_cell(stream("stdout", "printed"), source="source", tags=[tag] if tag else [])
    text = export(TITLE, cell, exporter=TypstPDFExporter(exclude_input=False)).text
    assert [word for word in ["source", "printed"] if word in text] == shown


def test_stdout_is_shown_and_stderr_is_not():
    text = export(TITLE, "- a list", code_cell(stream("stdout", "epoch *1*"), stream("stderr", "a warning"))).text
    assert "epoch *1*" in text
    assert "warning" not in text


def test_an_at_sign_is_not_a_citation():
    assert "ask @someone" in export(TITLE, "ask @someone").text


def test_web_links_are_clickable():
    (annotation,) = export(TITLE, "[here](https://example.org/a)").pdf.pages[0]["/Annots"]
    assert annotation.get_object()["/A"]["/URI"] == "https://example.org/a"
