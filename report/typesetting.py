"""Typeset pandoc's document by Typst: nothing in it stops the PDF, and what can't be shown is named there."""

import json
import re
import unicodedata
from pathlib import Path

import pypandoc
import typst
from pandocfilters import stringify, walk

from report.notebook_images import typst_string
from report.pandoc_document import COLUMNS, note

DESIGN = Path(__file__).with_name("page.typ")
PANDOC_OPTIONS = [f"--template={DESIGN}", COLUMNS, "--syntax-highlighting=idiomatic"]
BETWEEN = "// between two blocks of the notebook"


def typeset(document, folder, warn):
    """Return a document as a PDF.

    Args:
        document: pandoc's, from `pandoc_document.read`.
        folder: of the images, for the files made on the way.
        warn: is called with a sentence on what the user can mend.

    Raises:
        RuntimeError: pandoc or Typst don't start.
    """
    source = _typst_source(document, folder)
    fonts, missing = _fonts_for(source)
    if missing:
        warn(
            "This machine has no font for some characters of the notebook; in the PDF they are named. "
            "With such a font, as Noto Sans CJK or Noto Emoji, they are shown."
        )
    names = _names_of_missing(missing)
    source_file = folder / "notebook.typ"
    source_file.write_text(names + source, encoding="utf-8")
    try:
        return _compile(source_file, folder, fonts)
    except typst.TypstError:
        _name_faulty_blocks(document, folder, fonts)
    source_file.write_text(names + _typst_source(document, folder), encoding="utf-8")
    return _compile(source_file, folder, fonts)


def _typst_source(document, folder):
    """Write a document as Typst source, and name the formulas that pandoc can't turn into it."""
    log = folder / "pandoc.log"
    source = _write(document, [*PANDOC_OPTIONS, f"--log={log}"])
    messages = json.loads(log.read_text(encoding="utf-8"))
    faulty = {message["contents"] for message in messages if message.get("type") == "CouldNotConvertTeXMath"}
    if not faulty:
        return source

    def name_faulty(key, value, *_):
        if key == "Math" and value[1] in faulty:
            return _faulty_formula(value[1])
        return None

    document["blocks"] = walk(document["blocks"], name_faulty, "", {})
    for name, value in document["meta"].items():
        document["meta"][name] = walk(value, name_faulty, "", {})
    return _write(document, PANDOC_OPTIONS)


def _write(document, options):
    return pypandoc.convert_text(json.dumps(document), "typst", "json", options)


def _faulty_formula(tex):
    return note("A formula that can't be set here: ", {"t": "Code", "c": [["", [], []], tex.strip()]})


def _compile(source, folder, fonts):
    # No date, so that the bytes depend on nothing but the notebook.
    return typst.Compiler(root=folder, font_paths=fonts, ignore_system_fonts=True).compile(source, timestamp=0)


def _name_faulty_blocks(document, folder, fonts):
    """Replace by their words, after a remark, the blocks that Typst refuses."""
    between = {"t": "RawBlock", "c": ["typst", BETWEEN]}
    marked = [block for pair in document["blocks"] for block in (between, pair)]
    head, *sources = _write({**document, "blocks": marked}, PANDOC_OPTIONS).split(BETWEEN)
    blocks = []
    for block, source in zip(document["blocks"], sources, strict=True):
        file = folder / "block.typ"
        file.write_text(head + source, encoding="utf-8")
        try:
            _compile(file, folder, fonts)
        except typst.TypstError as error:
            # A link to another block is none of this block's faults.
            if "label" not in str(error):
                blocks.append({"t": "Para", "c": [note("What stood here can't be typeset; its words:")]})
                block = {"t": "CodeBlock", "c": [["", [], []], _words(block)]}
        blocks.append(block)
    document["blocks"] = blocks


def _words(block):
    formulas = walk([block], lambda key, value, *_: {"t": "Str", "c": value[1]} if key == "Math" else None, "", {})
    return stringify(formulas)


def _fonts_for(source):
    """Return the fonts for a text, and the characters that they don't have.

    Those of the system are taken only for a text that Typst's own can't show: so the bytes of most notebooks depend
    on nothing but the notebook.
    """
    letters = {letter for letter in source if letter > "\u024f" and unicodedata.category(letter) not in ("Cf", "Mn")}
    own = typst.Fonts(include_system_fonts=False)
    if not _some_missing(letters, own):
        return own, []
    fonts = typst.Fonts()
    missing = set()
    while found := _some_missing(letters - missing, fonts):
        missing |= found
    return fonts, sorted(missing)


def _some_missing(letters, fonts):
    """Return characters that none of these fonts has: Typst names one, if it may not leave it out."""
    sample = f"#for letter in {typst_string(''.join(sorted(letters)))}.codepoints() {{ par(letter) }}"
    try:
        typst.Compiler(font_paths=fonts, ignore_system_fonts=True).compile(sample.encode(), pdf_standards="a-2u")
    except typst.TypstError as error:
        named = re.search('the text `"(.+?)"`', str(error), re.DOTALL)
        return letters.intersection(named[1]) if named else set()
    return set()


def _names_of_missing(missing):
    """Return Typst source that puts the names of characters where no font has them."""
    if not missing:
        return ""
    names = ", ".join(f"{typst_string(letter)}: {typst_string(_name(letter))}" for letter in missing)
    return (
        f"#let names = ({names})\n"
        f'#show regex("[{"".join(missing)}\\u{{fe0f}}\\u{{200d}}]+"): it => {{\n'
        '  let known = it.text.codepoints().map(letter => names.at(letter, default: "")).filter(name => name != "")\n'
        '  let shown = known.slice(0, calc.min(known.len(), 8)).join(", ")\n'
        "  if known.len() > 0 [[no font here for: #shown#if known.len() > 8 [ and #(known.len() - 8) more]]]\n"
        "}\n"
    )


def _name(letter):
    """Return an emoji's name, the number of a letter: the names of Chinese ones say no more than that."""
    category = unicodedata.category(letter)
    if category == "Sk":  # the colour of an emoji's skin
        return ""
    number = f"U+{ord(letter):04X}"
    return unicodedata.name(letter, number).lower() if category.startswith("S") else number
