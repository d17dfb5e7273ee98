"""The HTML in a notebook, of tables that pandas shows as of Markdown cells, made ready for pandoc."""

import copy
import re

from bs4 import BeautifulSoup, Comment

from report.notebook_images import EMBEDDED, ImageError

MAX_ROWS = 300
MAX_COLUMNS = 10

# What works only in a browser, and what to call it.
INTERACTIVE = {
    "iframe": "a web page",
    "video": "a video",
    "audio": "a sound",
    "embed": "a file",
    "object": "a file",
    "canvas": "a drawing",
    "input": "an input field",
    "textarea": "an input field",
    "select": "a choice",
}
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


def is_visible(html):
    """Tell whether HTML shows anything without its programs."""
    soup = _without_programs(html)
    return bool(soup.get_text(strip=True) or soup.find(["img", "svg", *INTERACTIVE]))


def depth(html):
    """Return by how many elements more HTML opens than it closes."""
    html = re.sub(r"<!--.*?-->|<(script|style)\b.*?</\1>", "", html, flags=re.DOTALL | re.IGNORECASE)
    tags = re.findall(r"<(/?)([a-zA-Z][\w-]*)(?:\"[^\"]*\"|'[^']*'|[^'\">])*?(/?)>", html)
    return sum(-1 if closing else 1 for closing, name, empty in tags if not empty and name.lower() not in VOID)


def clean(html, images):
    """Return HTML that is complete and has nothing that pandoc would drop without a word."""
    html = re.sub(r"<svg\b.*?</svg>", lambda match: _drawing(match[0], images), html, flags=re.DOTALL | re.IGNORECASE)
    soup = _without_programs(html)
    for formula in soup.find_all("span", class_="math"):
        formula.unwrap()
    for element in soup.find_all(list(INTERACTIVE)):
        element.replace_with(_named(soup, element))
    for table in soup.find_all("table"):
        _shorten(soup, table)
        if "dataframe" in table.get("class", []):
            for cell in table.find_all(["th", "td"]):
                cell["style"] = "text-align: right"
        _fold(table)
    return str(soup)


def _without_programs(html):
    soup = BeautifulSoup(html, "html.parser")
    for element in soup.find_all(["script", "style", "template", "link", "meta"]):
        element.decompose()
    for element in soup.find_all(style=re.compile(r"display:\s*none")):
        element.decompose()
    for comment in soup.find_all(string=lambda text: isinstance(text, Comment)):
        comment.extract()
    return soup


def _drawing(svg, images):
    if "xmlns" not in svg[: svg.find(">")]:
        svg = svg.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    try:
        return f'<img src="{EMBEDDED}{images.add(svg, "image/svg+xml")}">'
    except ImageError as error:
        return f"<em>[A drawing can't be shown here: {error}.]</em>"


def _named(soup, element):
    named = soup.new_tag("em")
    source = element.find("source")
    address = element.get("src") or element.get("data") or (source and source.get("src")) or ""
    named.append(f"[Here the notebook shows {INTERACTIVE[element.name]}, which works only in a browser")
    if re.match(r"https?://", address):
        link = soup.new_tag("a", href=address)
        link.string = address
        named.extend([": ", link])
    named.append(".]")
    return named


def _shorten(soup, table):
    rows = table.find_all("tr")
    if len(rows) <= MAX_ROWS:
        return
    for row in rows[MAX_ROWS:]:
        row.decompose()
    remark = soup.new_tag("p")
    remark.append(soup.new_tag("em"))
    remark.em.string = f"[{len(rows) - MAX_ROWS:,} of {len(rows):,} rows are left out here.]"
    table.insert_after(remark)


def _fold(table):
    """Set a wide table as several, each with the first column, as pandas prints it."""
    rows = [row.find_all(["th", "td"]) for row in table.find_all("tr")]
    num_columns = max(map(len, rows), default=0)
    if num_columns <= MAX_COLUMNS or table.find(colspan=True) or table.find(rowspan=True) or table.find("table"):
        return
    starts = range(1, num_columns, MAX_COLUMNS - 1)
    for start in starts:
        part = copy.copy(table)
        for row in part.find_all("tr"):
            for column, cell in enumerate(row.find_all(["th", "td"])):
                if column and not start <= column < start + MAX_COLUMNS - 1:
                    cell.decompose()
        table.insert_before(part)
    table.decompose()
