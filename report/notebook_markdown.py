r"""The cells and outputs of a notebook as Markdown that pandoc reads as Jupyter does.

Jupyter takes `$ x $` with blanks and `\begin{align}` for formulas, lets a table or heading follow a line of text, and
keeps the macros of one formula for all that follow; pandoc doesn't by itself.
"""

import re

from nbconvert.filters import strip_ansi

from report import notebook_html
from report.notebook_images import EMBEDDED, ImageError, size_arguments, typst_string, without_controls

# A longer output is cut in its middle: nobody reads forty pages of a log.
MAX_LINES = 300
MAX_LINE_LENGTH = 2000

IMAGE_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf")
WIDGET = "application/vnd.jupyter.widget-view+json"

_GROUP = r"\{(?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*\}"
DEFINITION = re.compile(
    r"\\(?:(?:new|renew|provide)command|DeclareMathOperator)\*?\s*(?:\{\s*\\[A-Za-z]+\s*\}|\\[A-Za-z]+)"
    rf"\s*(?:\[\d\]\s*(?:\[[^\]]*\])?)?\s*{_GROUP}"
    rf"|\\def\s*\\[A-Za-z]+\s*(?:#\d)*\s*{_GROUP}"
)
# What MathJax has and pandoc hasn't; colours and links are left out, their formulas stay.
MATHJAX_MACROS = [
    r"\newcommand{\textcolor}[2]{#2}",
    r"\newcommand{\href}[2]{#2}",
    r"\newcommand{\class}[2]{#2}",
    r"\newcommand{\style}[2]{#2}",
    r"\newcommand{\bbox}[2][]{#2}",
    r"\newcommand{\require}[1]{}",
    r"\newcommand{\Bbb}{\mathbb}",
    r"\newcommand{\bf}{\mathbf}",
    r"\newcommand{\rm}{\mathrm}",
    r"\newcommand{\it}{\mathit}",
    r"\newcommand{\cal}{\mathcal}",
    *(rf"\newcommand{{\{name}}}{{}}" for name in ["notag", "tiny", "scriptsize", "small", "normalsize"]),
    *(rf"\newcommand{{\{name}}}{{}}" for name in ["large", "Large", "LARGE", "huge", "Huge"]),
]
SOURCE = re.compile(
    r"""
      (?P<code> ^[ ]{0,3}(?P<fence>`{3,}|~{3,})[^\n]*\n .*? (?:^[ ]{0,3}(?P=fence)[`~]*[ \t]*$|\Z)
              | (?P<ticks>`+) (?!`) (?:(?!\n[ \t]*\n).)*? (?<!`) (?P=ticks) (?!`)
              | ``+ | \\[\\$`] )
    | \$\$ (?P<display> .+?) (?<!\\) \$\$
    | \$ (?P<inline> (?: \\. | [^$\\\n] | \n(?![ \t]*\n) )+ ) \$ (?P<digit>\d?)
    | ^ Table [ ] (?P<number>\d+): [ ]+ (?P<caption>[^\n]+) \n{2,} (?=\|)
    | (?P<percent> (?<=\d)[ ]% )
    | (?P<table> (?<=[^\s]) [ \t]* \n (?= [^\n]*\|[^\n]*\n [ ]{0,3} (?=[^\n]*\|) \|? [ ]*:?-+:?[ ]*
              (?:\|[ ]*:?-+:?[ ]*)* \|? [ \t]* (?:\n|\Z) ) )
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


def markdown_cell(cell, images, macros):
    """Return a Markdown cell, its pasted images stored."""
    source = cell.source
    for name, data in cell.get("attachments", {}).items():
        try:
            stored = next(images.add(content, mime_type) for mime_type, content in data.items())
        except (ImageError, StopIteration):
            continue
        for written in {name, name.replace(" ", "%20")}:
            source = re.sub(re.escape(EMBEDDED + written) + r"(?![\w.])", EMBEDDED + stored, source)
    return markdown(source, macros)


def markdown(source, macros):
    """Return Markdown as pandoc has to have it; definitions of macros in it are added to `macros`."""

    def rewrite(match):
        if match["code"]:
            # An unclosed fence ends with its cell.
            closed = not match["fence"] or match[0].rstrip().endswith(match["fence"])
            return match[0] if closed else f"{match[0]}\n{match['fence']}"
        if match["caption"]:
            return f"Table: {SOURCE.sub(rewrite, match['caption'])} {{#tab-{match['number']}}}\n\n"
        if match["table"]:
            return "\n\n"
        if match["percent"]:
            return "\N{NO-BREAK SPACE}%"
        if match["display"]:
            return _formula(match["display"], "$$", macros)
        # Prices, "$5 and $10", unless the blanks at both ends say otherwise.
        if match["digit"] and not (match["inline"][0].isspace() and match["inline"][-1].isspace()):
            return match[0]
        return _formula(match["inline"], "$", macros) + match["digit"]

    text = SOURCE.sub(rewrite, without_controls(source).replace("\r", ""))
    if "\\" not in text:
        return text
    return "\n".join([*MATHJAX_MACROS, *macros]) + "\n\n" + text


def _formula(tex, dollars, macros):
    macros += DEFINITION.findall(tex)
    tex = re.sub(r"\n[ \t]*(?=\n)", "", DEFINITION.sub("", tex)).strip()
    if "\\\\" in tex and "\\begin" not in tex:
        environment = "aligned" if re.search(r"(?<!\\)&", tex) else "gathered"
        tex = rf"\begin{{{environment}}}{tex}\end{{{environment}}}"
    return f"{dollars}{tex}{dollars}" if tex else ""


def code_cell(source, nb):
    """Return program text as a block of code."""
    language = nb.metadata.get("language_info", {}).get("name", "")
    return fenced(source, language if re.fullmatch(r"[\w+-]+", str(language)) else "")


def raw_cell(cell):
    """Return a raw cell: Markdown and HTML as such, what other formats are to have is left out, as nbconvert does."""
    mime_type = (cell.metadata.get("raw_mimetype") or cell.metadata.get("format") or "").lower()
    if mime_type == "text/html":
        return fenced(cell.source, "{=html}")
    if mime_type == "text/markdown":
        return cell.source
    return "" if mime_type else fenced(cell.source)


def fenced(text, language=""):
    """Return a text between fences that it can't close; indented text below a list would belong to the list."""
    longest = max((len(run) for run in re.findall("~+", text)), default=0)
    fence = "~" * max(10, longest + 1)
    return f"\n\n{fence}{language}\n{without_controls(strip_ansi(text))}\n{fence}\n\n"


def note(sentence):
    """Return a remark on what can't be shown, as Markdown."""
    # As numbers, since `\\[` would begin a formula.
    return "\n\n*" + re.sub(r"[^\w\s]", lambda sign: f"&#{ord(sign[0])};", f"[{sentence}]") + "*\n\n"


def verbatim(text):
    """Return the text of an output, cut where it's too long."""
    lines = [_cut_line(line) for line in text.split("\n")]
    if len(lines) <= MAX_LINES:
        return fenced("\n".join(lines))
    head, tail = lines[: MAX_LINES - 100], lines[-100:]
    missing = note(f"{len(lines) - MAX_LINES:,} of {len(lines):,} lines are left out here.")
    return fenced("\n".join(head)) + missing + fenced("\n".join(tail))


def _cut_line(line):
    if len(line) <= MAX_LINE_LENGTH:
        return line
    return f"{line[:MAX_LINE_LENGTH]} [{len(line) - MAX_LINE_LENGTH:,} more characters are left out here]"


def output(output, cell, images, macros):
    """Return an output of a code cell as Markdown."""
    if output.output_type == "stream":
        return verbatim(output.text) if output.name == "stdout" else ""
    if output.output_type == "error":
        return verbatim("\n".join(output.get("traceback", [])) or f"{output.ename}: {output.evalue}")
    return _display(output, cell, images, macros)


def _display(output, cell, images, macros):
    """Return the richest of the forms in which an output is offered that a page can show."""
    data = output.get("data", {})
    plain = data.get("text/plain", "")
    html = data.get("text/html", "")
    if "image/svg+xml" in data:
        return _figure(output, cell, "image/svg+xml", images)
    if "text/markdown" in data:
        return "" if output.get("metadata", {}).get("caption_of") else markdown(data["text/markdown"], macros)
    if "text/latex" in data:
        return markdown(data["text/latex"], macros)
    for mime_type in IMAGE_TYPES:
        if mime_type in data:
            return _figure(output, cell, mime_type, images)
    if WIDGET in data:
        return note("Here the notebook shows a widget, which works only in Jupyter.")
    # A plain text such as <pandas.io.formats.style.Styler at 0x7f> says nothing.
    if html and ("<table" in html or not plain or re.fullmatch(r"<.*>", plain.strip(), re.DOTALL)):
        if notebook_html.is_visible(html):
            return fenced(html, "{=html}")
        if not plain:
            return note("Here the notebook shows something interactive, which works only in a browser.")
    if plain:
        return verbatim(plain)
    if "application/javascript" in data or not data:
        return ""
    return note(f"Here the notebook shows something of the type {next(iter(data))}, which a page can't show.")


def _figure(output, cell, mime_type, images):
    """Return a call of `report-figure`, a function in `page.typ`, as raw Typst around the caption's Markdown.

    pandoc's own images would do for neither the alternative text, which it drops, nor the number.
    """
    own = output.get("metadata", {}).get(mime_type, {})
    settings = {**cell.metadata, **(own if isinstance(own, dict) else {})}
    caption = str(settings.get("caption", "")).strip()
    try:
        arguments = [typst_string(images.add(output.data[mime_type], mime_type))]
    except ImageError as error:
        return note(f"An image can't be shown here: {error}.") + caption
    if "alt" in settings:
        arguments.append(f"alt: {typst_string(settings['alt'])}")
    label = settings.get("label")
    if isinstance(label, str) and label and label not in images.labels:
        images.labels.add(label)
        arguments.append(f"label: {typst_string(label)}")
    if re.fullmatch(r"\d+|[A-Z]", str(settings.get("number", ""))):
        arguments.append(f'number: "{settings["number"]}"')
    call = f"#report-figure({', '.join(arguments + size_arguments(settings))})"
    if not caption:
        return f"\n\n`{call}`{{=typst}}\n\n"
    # The space keeps the backtick of the bracket apart from one that ends the caption.
    return f"\n\n`{call}[`{{=typst}}{caption} `]`{{=typst}}\n\n"
