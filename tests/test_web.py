"""The report as a web page: what it says, and that everybody can read it, offline and on any screen."""

import base64
import re
import shutil

import nbformat
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from playwright.sync_api import Error, sync_playwright

from report import publish, tables
from report.web import DRAWING_BOX, web_page
from study.outcomes import CONTRADICTED, HOLDS
from study.study import Study

SCREENS = [(1280, "light"), (1280, "dark"), (700, "light"), (390, "dark")]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5CYII="


@pytest.fixture(scope="module")
def notebook(report_notebook):
    return nbformat.read(report_notebook, as_version=4)


@pytest.fixture(scope="module")
def study():
    return Study.read(ROOT / "figures", {})


@pytest.fixture(scope="module")
def address(tmp_path_factory, notebook):
    path = tmp_path_factory.mktemp("web") / "report.html"
    path.write_text(web_page(notebook), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        except Error:
            pytest.skip("no Chromium: `playwright install chromium`, or Debian's package chromium")
        yield browser
        browser.close()


@pytest.fixture
def show(browser, address):
    """Return a function that opens the page in a new tab; the tabs are closed after the test."""
    tabs = []

    def open_tab(width=1280, scheme="light", **options):
        tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
        tabs.append(tab)
        tab.goto(address)
        return tab

    yield open_tab
    for tab in tabs:
        tab.close()


def page_of(*cells, **metadata):
    """Return the page of a notebook with these cells below its title."""
    return web_page(new_notebook(cells=[new_markdown_cell("# On Trials"), *cells], metadata=metadata))


def cell_with(*outputs):
    return new_code_cell("pass", outputs=list(outputs))


def displayed(data, **metadata):
    return new_output("display_data", data, metadata=metadata)


def cells_of(markdown):
    """List a Markdown table's rows as a reader sees them: without marks, with typographic apostrophes and blanks."""
    rows = [line.strip("| ").split(" | ") for line in markdown.data.splitlines()]
    return [
        [cell.strip().replace("'", "’").replace(" %", "\N{NO-BREAK SPACE}%") for cell in row]
        for row in (rows[0], *rows[2:])
    ]


def table_with(tab, head):
    """Return the table whose first column has this head."""
    return tab.locator("table", has=tab.locator("th:first-child", has_text=re.compile(f"^{head}$"))).first


def shown_rows(table):
    return table.locator("tbody tr:visible").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.innerText))"
    )


# What it says


def test_all_rows_of_the_tables_are_there_without_javascript(show, study):
    tab = show(java_script_enabled=False)
    comparisons, numbers = tables.comparisons_table(study), tables.numbers_table(study)
    assert len(cells_of(comparisons)) > len(study.comparisons) > 0
    for expected in (comparisons, numbers):
        head, *rows = cells_of(expected)
        table = tab.locator("table").filter(has_text=rows[0][0]).filter(has_text="Verdict")
        assert table.locator("th").all_inner_texts() == head
        assert shown_rows(table) == rows
    assert tab.locator("form").count() == 0


def test_the_page_has_the_drawings_and_the_captions_of_the_notebook(show, notebook):
    described = [
        output.metadata["image/svg+xml"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/svg+xml" in output.get("data", {})
    ]
    tab = show()
    images = tab.locator("figure img")
    assert [image.get_attribute("alt") for image in images.all()] == [drawing["alt"] for drawing in described]
    assert all(images.evaluate_all("images => images.map(image => image.complete && image.naturalWidth > 100)"))
    for drawing in described:
        if "number" in drawing:
            figure = tab.locator(f"#{drawing['label']}")
            assert figure.inner_text().startswith(f"Figure {drawing['number']}. ")


def test_formulas_are_set_without_help(show):
    tab = show()
    assert tab.locator("math").count() > 10
    assert not re.search(r"[$\\]", tab.locator("main").evaluate(TEXT_WITHOUT_SOURCES))
    height = tab.locator("math[display=block]").first.evaluate("math => math.getBoundingClientRect().height")
    assert height > 20  # raised and lowered letters: on the line a letter is about 16 high


TEXT_WITHOUT_SOURCES = """main => {
    const copy = main.cloneNode(true);
    copy.querySelectorAll("annotation").forEach((source) => source.remove());
    return copy.textContent;
}"""


def test_contents_lead_to_every_section_and_the_pdf_lies_beside(show):
    tab = show()
    ids = tab.locator("[id]").evaluate_all("elements => elements.map(element => element.id)")
    assert len(ids) == len(set(ids))
    links = tab.locator("a").evaluate_all("links => links.map(link => link.getAttribute('href'))")
    inner = {link.removeprefix("#") for link in links if link.startswith("#")}
    assert inner <= set(ids)
    assert inner >= set(tab.locator("main h2, main h3").evaluate_all("heads => heads.map(head => head.id)"))
    assert [link for link in links if not link.startswith(("#", "https://"))] == ["report.pdf"]


def test_the_same_records_give_the_same_page_and_the_committed_one_is_theirs(notebook):
    page = web_page(notebook)
    assert web_page(notebook) == page
    assert (ROOT / "figures" / "report.html").read_text(encoding="utf-8") == page
    assert len(page.encode()) < 2_000_000


def test_the_page_is_made_beside_the_pdf_from_one_execution(tmp_path, monkeypatch):
    executed = []

    def execute(root, name, parameters):
        executed.append((name, parameters))
        return new_notebook(cells=[new_markdown_cell("# T"), new_markdown_cell("## Summary")], metadata={"title": "T"})

    monkeypatch.setattr(publish.cluster, "execute_notebook", execute)
    publish.typeset(tmp_path, {"num_epochs": 3})
    assert executed == [("report", {"figures_folder": str(tmp_path), "overrides": {"num_epochs": 3}})]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.pdf"]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<h2 id="summary">Summary</h2>' in page
    assert '<p class="subtitle">Trial: num_epochs 3</p>' in page


def test_a_page_that_cannot_be_made_leaves_the_old_report(tmp_path, monkeypatch):
    (tmp_path / "report.pdf").write_text("old", encoding="utf-8")
    monkeypatch.setattr(publish.cluster, "execute_notebook", lambda *_: new_notebook())
    monkeypatch.setattr(publish, "web_page", lambda _: 1 / 0)
    with pytest.raises(publish.BatchError, match="the report couldn't be made"):
        publish.typeset(tmp_path, {})
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ["old"]


def test_whatever_a_cell_shows_is_there():
    page = page_of(
        cell_with(new_output("stream", name="stdout", text="printed <i>\n")),
        cell_with(new_output("stream", name="stderr", text="noise")),
        cell_with(displayed({"text/plain": "Plain()"})),
        cell_with(displayed({"text/markdown": "*marked*", "text/plain": "<Markdown>"})),
        cell_with(displayed({"image/png": PIXEL + "\n"}, **{"image/png": {"alt": 'a "dot" & <more>'}})),
        title="On <Trials>: A & B",
    )
    assert "printed &lt;i&gt;" in page
    assert "<pre><code>Plain()</code></pre>" in page
    assert "<p><em>marked</em></p>" in page
    assert "noise" not in page
    assert "Markdown&gt;" not in page
    image = '<img src="data:image/png;base64,{}" alt="a &quot;dot&quot; &amp; &lt;more&gt;">'
    assert f"<figure>{DRAWING_BOX}{image.format(PIXEL)}</div></figure>" in page
    assert "<title>On &lt;Trials&gt;: A &amp; B</title>" in page


def test_a_students_own_text_looks_as_in_jupyter(browser, tmp_path):
    """Formulas with blanks, a pasted image, one of a file and one of the network, tags, a script."""
    (tmp_path / "dot.png").write_bytes(base64.b64decode(PIXEL))
    source = f"""Of $ x_1 $ is <b>bold</b>. ![pasted](attachment:a.png) ![file]({tmp_path}/dot.png)
![far](https://example.com/far.png) <script>document.title = "changed"</script>
<img src="{tmp_path}/dot.png" alt="tag">
"""
    attached = {"a.png": {"image/png": PIXEL}}
    path = tmp_path / "page.html"
    path.write_text(page_of(new_markdown_cell(source, attachments=attached), title="On Trials"), encoding="utf-8")
    tab = browser.new_page()
    tab.goto(path.as_uri())
    assert tab.locator("main math").count() == 1
    assert tab.locator("main b").inner_text() == "bold"
    images = tab.locator("main img")
    assert [image.get_attribute("alt") for image in images.all()] == ["pasted", "file", "tag"]
    assert all(images.evaluate_all("images => images.map(image => image.naturalWidth === 1)"))
    assert "it is on the network" in tab.locator("main").inner_text()
    assert tab.title() == "On Trials"
    tab.close()


def test_no_line_ends_between_a_number_and_its_percent_sign():
    page = page_of(
        new_markdown_cell("Within 9 % of it; `9 % 2` is 1."), cell_with(displayed({"text/markdown": "5 %"}))
    )
    assert "Within 9\N{NO-BREAK SPACE}% of it; <code>9 % 2</code> is 1." in page
    assert "<p>5\N{NO-BREAK SPACE}%</p>" in page


def test_a_caption_is_markdown_and_said_once():
    svg = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'/>"
    drawing = {"caption": "Loss by *epoch*, $\\eta = 0.1$.", "alt": "A line.", "label": "fig-4", "number": 4}
    page = page_of(
        cell_with(
            displayed({"image/svg+xml": svg}, **{"image/svg+xml": drawing}),
            displayed({"text/markdown": "Figure 4: Loss by epoch."}, caption_of="fig-4"),
        )
    )
    assert page.count("Loss by") == 1
    caption = re.search(r'<figure id="fig-4">.*?<figcaption>\s*<p>(.*?)</p>\s*</figcaption></figure>', page, re.DOTALL)
    assert caption[1].startswith("<strong>Figure 4.</strong> Loss by <em>epoch</em>, <math")
    assert base64.b64encode(svg.encode()).decode() in page


# How it is read


def test_nothing_is_asked_of_a_server_and_nothing_is_refused(browser, address):
    tab = browser.new_page()
    asked, said = [], []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.goto(address, wait_until="networkidle")
    tab.close()
    assert [url for url in asked if not url.startswith("data:")] == [address]
    assert said == []


@pytest.mark.parametrize(("width", "scheme"), SCREENS)
def test_the_page_is_accessible(show, width, scheme):
    result = Axe().run(show(width, scheme)).response
    assert {rule["id"] for rule in result["passes"]} >= {
        "image-alt",
        "heading-order",
        "color-contrast",
        "document-title",
        "label",
    }
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in result["violations"]] == []


@pytest.mark.parametrize("width", [1280, 700, 390])
def test_only_tables_and_drawings_scroll_sideways_and_lines_stay_short(show, width):
    tab = show(width)
    wide = tab.locator("body, body *").evaluate_all(
        "elements => elements.filter(element => element.scrollWidth > element.clientWidth + 1"
        " && getComputedStyle(element).overflowX !== 'visible').map(element => element.className)"
    )
    assert set(wide) <= {"table", "drawing"}
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert max(tab.locator("main p, main li").evaluate_all("all => all.map(one => one.clientWidth)")) <= 700


@pytest.mark.parametrize("width", [1280, 700, 390])
def test_a_drawings_letters_are_nowhere_smaller_than_they_were_drawn(show, width):
    sizes = show(width).locator("figure img").evaluate_all("all => all.map(one => one.width / one.naturalWidth)")
    assert min(sizes) > 0.99


def test_a_dark_screen_gets_a_dark_page_with_the_drawings_on_white(show):
    tab = show(scheme="dark")
    background = tab.locator("body").evaluate("body => getComputedStyle(body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", background))) < 64
    card = tab.locator("figure img").first.evaluate("image => getComputedStyle(image).backgroundColor")
    assert card == "rgb(255, 255, 255)"


def test_claims_are_filtered_by_verdict_and_by_figure(show, study):
    tab = show(390)
    table = table_with(tab, "Claim")
    filters = tab.locator("form").first
    everything = cells_of(tables.comparisons_table(study))[1:]

    def choose(group, value):
        filters.get_by_role("group", name=group).get_by_text(value, exact=True).click()
        assert filters.locator("output").inner_text() == f"{len(shown_rows(table))} of {len(everything)} rows shown"

    choose("Verdict", tables.mark(CONTRADICTED))
    contradicted = [row for row in everything if row[1] == tables.mark(CONTRADICTED)]
    assert shown_rows(table) == contradicted != []
    choose("Figure", contradicted[0][2])
    assert shown_rows(table) == [row for row in contradicted if row[2] == contradicted[0][2]]
    choose("Verdict", "all")
    assert shown_rows(table) == [row for row in everything if row[2] == contradicted[0][2]]
    choose("Figure", "all")
    assert shown_rows(table) == everything


def test_numbers_are_filtered_by_keys_and_no_other_table_with_them(show, study):
    tab = show()
    verdicts = tab.locator("form").last.get_by_role("group", name="Verdict")
    verdicts.get_by_role("radio").first.focus()
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    assert tab.url.endswith("report.html")
    chosen = verdicts.get_by_role("radio", checked=True).get_attribute("value")
    shown = [row[1] for row in shown_rows(table_with(tab, "Setting"))]
    assert shown
    assert set(shown) == {chosen}
    assert len(shown_rows(table_with(tab, "Claim"))) == len(study.comparisons)


def test_verdicts_are_told_apart_by_sign_and_by_colour(show):
    table = table_with(show(), "Claim")
    cells = [table.get_by_text(tables.mark(verdict), exact=True).first for verdict in (HOLDS, CONTRADICTED)]
    colours = {element.evaluate("one => getComputedStyle(one).color") for element in (*cells, table)}
    assert len(colours) == 3
