"""A notebook as pandoc's document, in which all that Typst couldn't show is replaced by what it can, or named."""

import json
import logging
import os
import re
import shutil
import urllib.parse
from pathlib import Path

import pypandoc
from pandocfilters import stringify, walk

from report import notebook_html
from report.notebook_images import ImageError, size_arguments, typst_string
from report.notebook_markdown import DEFINITION

# Citations and example lists would turn an "@" into something else, a "---" line inside a notebook is a rule and not
# metadata, and images are placed by `_show_image` alone.
MARKDOWN = (
    "markdown-citations-example_lists-yaml_metadata_block-implicit_figures-blank_before_header"
    "-blank_before_blockquote+lists_without_preceding_blankline+autolink_bare_uris"
    "+tex_math_single_backslash+tex_math_double_backslash"
)
HTML = "html+tex_math_dollars+tex_math_single_backslash"
MATH_ENVIRONMENT = re.compile(r"\s*\\begin\{(?:align(?:at)?|equation|eqnarray|flalign|gather|multline|math)\*?\}")
COLUMNS = "--columns=10000"  # pandoc stretches a table over the whole page if its source is wider than this
FILE_PREFIX = re.compile(r"^.*?part-\d+\.md__")  # by which pandoc tells headings of several files apart
LONG_WORD = re.compile(r"\S{60,}")
MAX_URL = 2000
ROWS_OF_FLOAT = range(10, 30)  # a shorter table leaves no large gap, and a longer one may be parted
BOUNDARY = "boundary"
BETWEEN = "<!-- between two pieces of HTML -->"

# The pandoc of the Python package, whatever newer one the system has: the same notebook gives the same bytes. One that
# doesn't start is an error, without a traceback in the log.
if bundled := shutil.which("pandoc", path=Path(pypandoc.__file__).parent / "files"):
    os.environ.setdefault("PYPANDOC_PANDOC", bundled)
# pandoc would know no folder whose name has other letters than ASCII's; Python itself takes this for UTF-8.
if os.environ.get("LC_ALL") in ("C", "POSIX"):
    os.environ["LC_ALL"] = "C.UTF-8"
# What pandoc warns of is named in the document.
logging.getLogger("pypandoc").addFilter(lambda message: not message.exc_info and message.levelno > logging.WARNING)


def read(parts, title_block, images):
    """Read the parts of a notebook, each by itself.

    Args:
        parts: Markdown of cells and outputs.
        title_block: author and subtitle, as pandoc's metadata.
        images: the notebook's `Images`.

    Returns:
        pandoc's document, in which every image, link and formula is one that Typst knows.
    """
    document = _parse(parts or [""], title_block, images.folder)
    _read_html(document, images)
    targets = {_comparable(label): label for label in images.labels}
    _set_title(document, targets)
    _settle_targets(document, targets)
    for change in (_show_tex, _show_image, _settle_link, _break_long_words):
        document["blocks"] = walk(document["blocks"], change, "", {"images": images, "targets": targets})
    for change in (_without_empty, _number_table):
        document["blocks"] = walk(document["blocks"], change, "", {})
    title = document["meta"].get("title")
    if title:
        # An image, a link or a remark can't stand in the name of a PDF.
        title["c"] = walk(title["c"], _plain_title, "", {})
    return document


def _without_empty(key, value, *_):
    return [] if key in ("Para", "Plain") and not value else None


def _number_table(key, value, *_):
    """Give a table the number in its name, and let it float if it would leave a gap."""
    if key != "Table" or not (name := re.fullmatch(r"tab-(\d+)", value[0][0])):
        return None
    num_rows = sum(len(body[3]) for body in value[4])
    floats = "true" if num_rows in ROWS_OF_FLOAT else "false"
    before = f"#numbered-table({name[1]}, floats: {floats})["
    return [{"t": "RawBlock", "c": ["typst", before]}, {"t": key, "c": value}, {"t": "RawBlock", "c": ["typst", "]"]}]


def _plain_title(key, value, *_):
    if key == "Image":
        return value[1]
    if key == "Link":
        return value[1]
    return [] if key in ("Note", "RawInline") else None


def note(sentence, *more):
    """Return a remark on what can't be shown, as pandoc's inlines."""
    return {"t": "Emph", "c": [{"t": "Str", "c": f"[{sentence}"}, *more, {"t": "Str", "c": "]"}]}


def typst_inline(source):
    """Return Typst source as one of pandoc's inlines."""
    return {"t": "RawInline", "c": ["typst", source]}


def _parse(parts, title_block, folder):
    """Read each part as a file of its own, with a boundary before it that `_html_regions` doesn't cross."""
    title_file = folder / "title_block.json"
    title_file.write_text(json.dumps(title_block), encoding="utf-8")
    files = []
    for number, part in enumerate(parts):
        # pypandoc sorts the files by name.
        before = folder / f"part-{number:06}-before.md"
        before.write_text(f"```{{={BOUNDARY}}}\n```\n", encoding="utf-8")
        file = folder / f"part-{number:06}.md"
        file.write_text(part, encoding="utf-8")
        files += [str(before), str(file)]
    options = ["--file-scope", COLUMNS, f"--metadata-file={title_file}"]
    return json.loads(pypandoc.convert_file(files, "json", MARKDOWN, options))


def _read_html(document, images):
    """Replace all HTML by what pandoc reads in it.

    pandoc's Markdown has HTML as single tags, which Typst doesn't get. The blocks around them are written as HTML and
    read again, all in one go.
    """
    regions = []
    blocks = _map_lists(document["blocks"], lambda content: _html_regions(content, regions))
    if regions:
        between = {"t": "RawBlock", "c": ["html", BETWEEN]}
        joined = [block for region in regions for block in (*region, between)]
        html = pypandoc.convert_text(
            json.dumps({**document, "meta": {}, "blocks": joined}), "html", "json", ["--mathjax", "--wrap=none"]
        )
        pieces = [notebook_html.clean(piece, images) for piece in html.split(BETWEEN)[: len(regions)]]
        page = "\n".join(f"<div>{piece}</div>" for piece in pieces)
        read = json.loads(pypandoc.convert_text(page, "json", HTML, [COLUMNS, "--sandbox"]))["blocks"]
        contents = [div["c"][1] for div in read]
        blocks = _map_lists(blocks, lambda content: _fill_in(content, contents))
    document["blocks"] = [block for block in blocks if not _is_raw(block, BOUNDARY)]


def _html_regions(blocks, regions):
    """Replace blocks with HTML in them, from an opening tag to its end, by their number among the regions."""
    result = []
    waiting = list(blocks)
    while waiting:
        block = waiting.pop(0)
        if not _has_html(block):
            result.append(block)
            continue
        region = [block]
        depth = notebook_html.depth(block["c"][1]) if _is_raw(block, "html") else 0
        inside = list(waiting)
        while depth > 0 and inside and not _is_raw(inside[0], BOUNDARY):
            region.append(inside.pop(0))
            depth += notebook_html.depth(region[-1]["c"][1]) if _is_raw(region[-1], "html") else 0
        waiting = inside
        result.append({"t": "Region", "c": len(regions)})
        regions.append(region)
    return result


def _has_html(block):
    if block["t"] in ("Para", "Plain", "Header"):
        return '{"t": "RawInline", "c": ["html"' in json.dumps(block)
    return _is_raw(block, "html")


def _is_raw(block, kind):
    return block["t"] == "RawBlock" and block["c"][0] == kind


def _fill_in(blocks, pieces):
    result = []
    for block in blocks:
        result += pieces[block["c"]] if block["t"] == "Region" else [block]
    return result


def _map_lists(node, change):
    """Apply a change to every list of blocks (or of inlines) below a node, from the outside in."""
    if isinstance(node, list):
        if node and all(isinstance(element, dict) and "t" in element for element in node):
            node = change(node)
        return [_map_lists(element, change) for element in node]
    if isinstance(node, dict):
        return {key: _map_lists(value, change) for key, value in node.items()}
    return node


def elements(node, kind):
    """Return all of pandoc's elements of a kind below a node, in the order in which they stand."""
    if isinstance(node, list):
        return [found for child in node for found in elements(child, kind)]
    if not isinstance(node, dict):
        return []
    own = [node] if node.get("t") == kind else []
    return own + [found for child in node.values() for found in elements(child, kind)]


def _set_title(document, targets):
    """Take the first heading as the title if it is of level 1, and let the others begin at level 1."""
    headings = elements(document["blocks"], "Header")
    if headings and headings[0]["c"][0] == 1 and headings[0] in document["blocks"]:
        title = headings.pop(0)
        document["blocks"].remove(title)
        if stringify(title):
            document["meta"]["title"] = {"t": "MetaInlines", "c": title["c"][2]}
            for name in (title["c"][1][0], stringify(title["c"][2])):
                targets[_comparable(name)] = None
    above = min((heading["c"][0] for heading in headings), default=1) - 1
    for heading in headings:
        heading["c"][0] -= above


def _settle_targets(document, targets):
    """Give every target of a link one name; a name that comes twice stays with the first, as in a browser."""
    seen = set(targets.values())

    def settle(key, value, *_):
        if key not in ("Header", "Table", "Span", "Div"):
            return None
        attributes = value[1 if key == "Header" else 0]
        name = attributes[0] = FILE_PREFIX.sub("", attributes[0])
        if name in seen:
            name = attributes[0] = ""
        if not name:
            return None
        seen.add(name)
        targets.setdefault(_comparable(name), name)
        if key == "Header":
            # Jupyter makes another name of the same words: #My-Heading where pandoc has #my-heading.
            targets.setdefault(_comparable(stringify(value[2])), name)
        if key in ("Header", "Table"):
            return None
        attributes[0] = ""
        anchor = typst_inline(f"#metadata(none) #label({typst_string(name)})")
        element = {"t": key, "c": value}
        return [anchor, element] if key == "Span" else [{"t": "Plain", "c": [anchor]}, element]

    document["blocks"] = walk(document["blocks"], settle, "", {})


def _comparable(name):
    return re.sub(r"\W+", "-", urllib.parse.unquote(name).casefold()).strip("-")


def _settle_link(key, value, _, context):
    """Let a link to a place in the notebook lead there, and name one that leads nowhere."""
    if key != "Link":
        return None
    _, content, (url, _) = value
    if url.startswith("#"):
        name = FILE_PREFIX.sub("", url[1:])
        found = _comparable(name)
        if found not in context["targets"]:
            return [*content, {"t": "Space"}, note(f"the link leads nowhere: #{name}")]
        if context["targets"][found] is None:
            return [typst_inline("#link((page: 1, x: 0pt, y: 0pt))["), *content, typst_inline("]")]
        value[2][0] = f"#{context['targets'][found]}"
        return None
    if not url or not content or len(url) > MAX_URL:
        return content
    return None


def _show_tex(key, value, *_):
    """Show LaTeX outside of formulas as Jupyter does: its formulas set, other commands as they are written."""
    if key not in ("RawInline", "RawBlock") or value[0] in ("html", "typst"):
        return None
    source = value[1]
    if MATH_ENVIRONMENT.match(source):
        shown = {"t": "Math", "c": [{"t": "DisplayMath"}, source]}
    elif not DEFINITION.sub("", source).strip():
        return []
    else:
        shown = {"t": "Code", "c": [["", [], []], source]}
    return {"t": "Para", "c": [shown]} if key == "RawBlock" else shown


def _break_long_words(key, value, *_):
    """Let long numbers, paths and rules of signs break anywhere: they would leave the page."""
    if key in ("Code", "CodeBlock"):
        return {"t": key, "c": [value[0], LONG_WORD.sub(lambda word: "\u200b".join(word[0]), value[1])]}
    if key == "Str" and LONG_WORD.search(value):
        return {"t": key, "c": "\u200b".join(value)}
    return None


def _show_image(key, value, _, context):
    """Place an image by Typst's own function: pandoc's would drop its alternative text."""
    if key in ("Para", "Plain") and [inline["t"] for inline in value] == ["Image"]:
        shown = _placed(value[0]["c"], context["images"], "#report-figure({})")
        return {"t": key, "c": [shown]} if shown else []
    if key == "Image":
        return _placed(value, context["images"], "#box(shown-image({}))")
    return None


def _placed(image, images, call):
    (_, _, settings), alternative, (url, _) = image
    if url.endswith("/colab-badge.svg"):
        return []  # a button of web pages
    alt = stringify(alternative)
    try:
        arguments = [typst_string(images.find(url))]
    except ImageError as error:
        name = f"“{alt}”, " if alt else ""
        address = url if len(url) <= MAX_URL and not url.startswith("data:") else url[:30] + "…"
        return note(f"An image can't be shown here ({name}{address}): {error}.")
    if alt:
        arguments.append(f"alt: {typst_string(alt)}")
    return typst_inline(call.format(", ".join(arguments + size_arguments(dict(settings)))))
