r"""Turn an executed notebook into a typeset PDF, with pip packages only (no LaTeX, no network).

Run it from the project root, where Python finds this module:

    python -m nbconvert --to report.typst_exporter.TypstPDFExporter --no-input notebook.ipynb

The notebook becomes Markdown (nbconvert), the Markdown becomes Typst source (pandoc) and Typst typesets that as a
PDF. `page.typ`, beside this module, is the page design.

What a notebook has to do:

- Begin with its only level 1 heading: it becomes the title. `authors` and `subtitle` in the notebook's metadata go
  below the title.
- Describe a figure in the metadata of its output, under the image's type, or else in the metadata of its cell:

      display(SVG(drawing), metadata={"image/svg+xml": {
          "caption": "Loss by *epoch*, $\\eta = 0.1$.",  # Markdown; without it the image gets no number
          "alt": "Two falling curves.",                   # for readers who cannot see the image
          "label": "fig-4",                               # what `[Figure 4](#fig-4)` links to
          "number": 4,                                    # otherwise figures are counted
          "width": "80%",                                 # otherwise the image's own size
      }})

- Mark an output that only repeats a caption, for exporters that don't read the metadata, by `caption_of` in its own
  metadata: it is left out.
- Use Markdown, not HTML: pandoc drops raw HTML on its way to Typst, and outputs that are only HTML are left out.

Code, and what goes to stderr, is not printed. The tags `remove-cell`, `remove-input` and `remove-output` are honoured.
"""

import json
import logging
import os
import shutil
import tempfile
from pathlib import Path

import pypandoc
import typst
from nbconvert.exporters import MarkdownExporter
from traitlets import default
from traitlets.config import Config

DESIGN = Path(__file__).with_name("page.typ")

# Citations and example lists would turn an "@" into something else, a "---" line inside a notebook is a rule and not
# metadata, and images become figures through `figure_markdown` alone.
MARKDOWN = "markdown-citations-example_lists-yaml_metadata_block-implicit_figures+lists_without_preceding_blankline"

PANDOC_OPTIONS = [
    f"--template={DESIGN}",
    "--shift-heading-level-by=-1",  # makes the level 1 heading the title and "##" the sections
    "--columns=10000",  # pandoc stretches a table over the whole page if its source is wider than this
    "--syntax-highlighting=idiomatic",
]

# The pandoc of the Python package, whatever newer one the system has: the same notebook gives the same bytes. One that
# doesn't start is an error, without a traceback in the log.
if bundled := shutil.which("pandoc", path=Path(pypandoc.__file__).parent / "files"):
    os.environ.setdefault("PYPANDOC_PANDOC", bundled)
logging.getLogger("pypandoc").addFilter(lambda message: not message.exc_info)

# Text outputs are fenced, because indented text below a list would belong to the list.
TEMPLATE = """
{%- extends "markdown/index.md.j2" -%}
{%- macro verbatim(text) %}

~~~~~~~~~~
{{ text | strip_ansi }}
~~~~~~~~~~

{% endmacro -%}
{%- block stream %}{% if output.name == "stdout" %}{{ verbatim(output.text) }}{% endif %}{% endblock -%}
{%- block data_text scoped %}{{ verbatim(output.data["text/plain"]) }}{% endblock -%}
{%- block data_markdown scoped %}{% if not output.metadata.caption_of %}{{ super() }}{% endif %}{% endblock -%}
{%- block data_svg scoped %}{{ output | figure(cell, "image/svg+xml") }}{% endblock -%}
{%- block data_png scoped %}{{ output | figure(cell, "image/png") }}{% endblock -%}
{%- block data_jpg scoped %}{{ output | figure(cell, "image/jpeg") }}{% endblock -%}
"""


def figure_markdown(output, cell, mime_type):
    """Return a call of `report-figure`, a function in `page.typ`, as raw Typst around the caption's Markdown.

    pandoc's own images would do for neither the alternative text, which it drops, nor the number.
    """
    settings = {**cell.metadata, **output.metadata.get(mime_type, {})}
    arguments = [_typst_string(output.metadata.filenames[mime_type])]
    arguments += [f"{key}: {_typst_string(settings[key])}" for key in ("alt", "label") if key in settings]
    arguments += [f"{key}: {settings[key]}" for key in ("number", "width") if key in settings]
    call = f"#report-figure({', '.join(arguments)})"
    if "caption" not in settings:
        return f"\n\n`{call}`{{=typst}}\n\n"
    # The space keeps the backtick of the bracket apart from one that ends the caption.
    return f"\n\n`{call}[`{{=typst}}{settings['caption'].strip()} `]`{{=typst}}\n\n"


def _typst_string(text):
    # A backtick would end the raw Typst in which the string stands.
    return json.dumps(text, ensure_ascii=False).replace("`", r"\u{60}")


class TypstPDFExporter(MarkdownExporter):
    """Export an executed notebook as a PDF; the same notebook always gives the same bytes."""

    export_from_notebook = "PDF (Typst)"

    @default("file_extension")
    def _file_extension_default(self):
        return ".pdf"

    @default("raw_template")
    def _raw_template_default(self):
        return TEMPLATE

    @property
    def default_config(self):
        config = super().default_config.copy()
        config.merge(
            Config(
                {
                    "TemplateExporter": {"exclude_input": True},
                    "TagRemovePreprocessor": {
                        "enabled": True,
                        "remove_cell_tags": {"remove-cell"},
                        "remove_input_tags": {"remove-input"},
                        "remove_all_outputs_tags": {"remove-output"},
                    },
                    "NbConvertBase": {
                        "display_data_priority": [
                            "image/svg+xml",
                            "text/markdown",
                            "text/latex",
                            "image/png",
                            "image/jpeg",
                            "text/plain",
                        ]
                    },
                }
            )
        )
        return config

    def default_filters(self):
        return [*super().default_filters(), ("figure", figure_markdown)]

    def from_notebook_node(self, nb, resources=None, **kw):
        """Convert a notebook.

        Returns:
            The PDF as bytes, and nbconvert's resources.

        Raises:
            RuntimeError: pandoc or Typst refused the notebook; the message is theirs. (`typst.TypstError` is one.)
        """
        markdown, resources = super().from_notebook_node(nb, resources, **kw)
        title_block = {"author": nb.metadata.get("authors", []), "subtitle": nb.metadata.get("subtitle", "")}
        # nbconvert would write these images beside the PDF, which already holds them.
        images = resources.pop("outputs", {})
        with tempfile.TemporaryDirectory() as folder:
            for name, content in images.items():
                path = Path(folder, name.lstrip("/"))  # after an absolute --output; Typst's own root is the folder
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            title_file = Path(folder, "title_block.json")
            title_file.write_text(json.dumps(title_block), encoding="utf-8")
            source = Path(folder, "notebook.typ")
            options = [*PANDOC_OPTIONS, f"--metadata-file={title_file}"]
            pypandoc.convert_text(markdown, "typst", MARKDOWN, options, outputfile=source)
            # Typst's own fonts and no date, so that the bytes depend on nothing but the notebook.
            return typst.compile(source, root=folder, ignore_system_fonts=True, timestamp=0), resources
