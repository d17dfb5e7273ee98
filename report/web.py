"""Turn the executed notebook of the report into one web page that asks no server for anything.

The notebook becomes Markdown, as on its way to the PDF, and pandoc makes HTML of it, with formulas in MathML, which
browsers set without help. `page.html`, beside this module, is the page's design; without JavaScript it only lacks the
filters of its tables.
"""

import base64
import html
import mimetypes
import re
import tempfile
from pathlib import Path

import pypandoc

from common import ROOT
from report import notebook_markdown
from report.notebook_images import ImageError, Images
from report.pandoc_document import MARKDOWN
from report.tables import mark
from report.typst_exporter import as_list, title_block
from report.verdict import MARKS

DESIGN = Path(__file__).with_name("page.html")

PANDOC_OPTIONS = [
    f"--template={DESIGN}",
    "--standalone",
    "--table-of-contents",
    "--mathml",
    "--wrap=none",
    "--columns=10000",  # pandoc gives a table's columns fixed shares of the page if its source is wider than this
    "--syntax-highlighting=none",
]

IMAGE_TYPES = ("image/svg+xml", "image/png", "image/jpeg")

CAPTION_ABOVE = r'<p class="caption" id="tab-\1"><strong>Table \1.</strong> \2</p>\n<table>'
# What is wide scrolls in a box of its own, also by keys.
BOX = '<div class="{name}" role="group" aria-label="{label}" tabindex="0">'
TABLE_BOX = BOX.format(name="table", label="Table") + "\n<table"
DRAWING_BOX = BOX.format(name="drawing", label="Drawing")


def web_page(notebook):
    """Return the page of an executed notebook, the same text for the same notebook.

    The notebook's first cell is left out: its title is in the metadata, and its badge is a picture from a server.
    """
    about = {"title": notebook.metadata.get("title", ""), **title_block(notebook.metadata)}
    titles = [f"--metadata={key}:{text}" for key, texts in about.items() for text in as_list(texts)]
    with tempfile.TemporaryDirectory() as folder:
        images = Images(Path(folder), ROOT / "notebooks")
        macros = []
        blocks = [block for cell in notebook.cells[1:] for block in _blocks(cell, images, macros)]
        page = pypandoc.convert_text("\n\n".join(blocks), "html", MARKDOWN, [*PANDOC_OPTIONS, *titles])
        page = re.sub(r'<img src="(?!data:)([^"]*)"[^>]*>', lambda match: _embedded(match[1], match[0], images), page)
    page = re.sub(r'<table id="tab-(\d+)">\s*<caption>(.*?)</caption>', CAPTION_ABOVE, page, flags=re.DOTALL)
    return re.sub(r"<table\b", TABLE_BOX, page).replace("</table>", "</table>\n</div>")


def _blocks(cell, images, macros):
    """List the pieces of Markdown that a cell shows: its text, or what its code gave."""
    if cell.cell_type == "markdown":
        return [notebook_markdown.markdown_cell(cell, images, macros)]
    return [_shown(output, cell, images, macros) for output in cell.get("outputs", [])]


def _shown(output, cell, images, macros):
    data = output.get("data", {})
    for mime_type in IMAGE_TYPES:
        if mime_type in data:
            content = data[mime_type].encode() if mime_type == "image/svg+xml" else base64.b64decode(data[mime_type])
            return _figure(_data_url(content, mime_type), output.metadata.get(mime_type, {}))
    return _with_classes(notebook_markdown.output(output, cell, images, macros))


def _figure(source, settings):
    """Write a drawing with its number and caption, the drawing itself within the page."""
    image = f'{DRAWING_BOX}<img src="{source}" alt="{html.escape(settings.get("alt", ""))}"></div>'
    label = f' id="{settings["label"]}"' if "label" in settings else ""
    if "caption" not in settings:
        return _raw(f"<figure{label}>{image}</figure>")
    number = f"**Figure {settings['number']}.** " if "number" in settings else ""
    caption = number + settings["caption"].strip()
    return f"{_raw(f'<figure{label}>{image}<figcaption>')}\n\n{caption}\n\n{_raw('</figcaption></figure>')}"


def _raw(text):
    return f"```{{=html}}\n{text}\n```"


def _data_url(content, mime_type):
    return f"data:{mime_type};base64,{base64.b64encode(content).decode()}"


def _embedded(url, tag, images):
    """Return the tag of an image with the image in it, or a remark where it can't be had."""
    try:
        path = images.folder / images.find(html.unescape(url))
    except ImageError as error:
        return f"<em>[An image can’t be shown here: {html.escape(str(error))}.]</em>"
    return tag.replace(url, _data_url(path.read_bytes(), mimetypes.guess_type(path)[0]), 1)


def _with_classes(markdown):
    """Give a table's verdicts classes, by which the page colours them."""
    for verdict in MARKS:
        classes = f".verdict .{verdict.replace(' ', '-')}"
        pattern = rf"\| ({re.escape(mark(verdict))}[a-z, ]*) \|"
        markdown = re.sub(pattern, rf"| [\1]{{{classes}}} |", markdown)
    return markdown
