r"""Turn an executed notebook into a typeset PDF, with pip packages only (no LaTeX, no network).

Run it from the project root, where Python finds this module:

    python -m nbconvert --to report.typst_exporter.TypstPDFExporter --no-input notebook.ipynb

The notebook becomes Markdown (nbconvert), the Markdown becomes Typst source (pandoc) and Typst typesets that as a
PDF. `page.typ`, beside this module, is the page design.

A notebook needs nothing for that; what a page can't show is named where it stood. It looks best if it does this:

- Begin with a level 1 heading: it becomes the title. `subtitle`, `authors` and `date` in the notebook's metadata go
  below it; with a `section-numbering` there, such as "1.1", the other headings are numbered.
- Describe a figure in the metadata of its output, under the image's type, or else in the metadata of its cell:

      display(SVG(drawing), metadata={"image/svg+xml": {
          "caption": "Loss by *epoch*, $\\eta = 0.1$.",  # Markdown; without it the image gets no number
          "alt": "Two falling curves.",                   # for readers who cannot see the image
          "label": "fig-4",                               # what `[Figure 4](#fig-4)` links to
          "number": 4,                                    # or a letter; otherwise figures are counted
          "width": "80%",                                 # otherwise the image's own size
      }})

- Begin the paragraph above a table with "Table 4:": it becomes its caption, and what `[Table 4](#tab-4)` links to.
  What has a caption may move to the top or the bottom of a page.
- Mark an output that only repeats a caption, for exporters that don't read the metadata, by `caption_of` in its own
  metadata: it is left out.

Code, and what goes to stderr, is not printed. The tags `remove-cell`, `remove-input` and `remove-output` are honoured.
"""

import copy
import re
import tempfile
from pathlib import Path

from nbconvert.exporters import MarkdownExporter
from traitlets import default
from traitlets.config import Config

from report import notebook_markdown, pandoc_document, typesetting
from report.notebook_images import Images

# Stands between the cells and outputs: an unclosed fence, tag or list in one must not reach the next.
PART = "\x1e"

TEMPLATE = """
{%- extends "markdown/index.md.j2" -%}
{%- block input %}{{ cell.source | code_cell(nb) }}\x1e{% endblock -%}
{%- block output scoped %}{{ output | output_cell(cell) }}\x1e{% endblock -%}
{%- block markdowncell scoped %}{{ cell | markdown_cell }}\x1e{% endblock -%}
{%- block rawcell scoped %}{{ cell | raw_cell }}\x1e{% endblock -%}
{%- block unknowncell scoped %}{{ cell.source | code_cell(nb) }}\x1e{% endblock -%}
"""


class TypstPDFExporter(MarkdownExporter):
    """Export an executed notebook as a PDF; the same notebook always gives the same bytes.

    The one exception are characters that only fonts of the system have.
    """

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
                    # Carriage returns and backspaces overwrite, as in Jupyter.
                    "CoalesceStreamsPreprocessor": {"enabled": True},
                    # Images go into the PDF; nbconvert would write them beside it.
                    "ExtractOutputPreprocessor": {"enabled": False},
                    "ExtractAttachmentsPreprocessor": {"enabled": False},
                }
            )
        )
        return config

    def default_filters(self):
        return [
            *super().default_filters(),
            ("code_cell", notebook_markdown.code_cell),
            ("raw_cell", notebook_markdown.raw_cell),
            ("markdown_cell", lambda cell: notebook_markdown.markdown_cell(cell, self._images, self._macros)),
            ("output_cell", lambda output, cell: notebook_markdown.output(output, cell, self._images, self._macros)),
        ]

    def from_notebook_node(self, nb, resources=None, **kw):
        """Convert a notebook.

        Returns:
            The PDF as bytes, and nbconvert's resources.

        Raises:
            RuntimeError: pandoc or Typst don't start; the message is theirs.
        """
        titles = title_block(nb.metadata)
        nb = copy.deepcopy(nb)
        nb.metadata.pop("authors", None)  # nbconvert refuses authors that aren't a list
        notebook_folder = (resources or {}).get("metadata", {}).get("path") or "."
        with tempfile.TemporaryDirectory() as folder:
            self._images = Images(Path(folder), Path(notebook_folder))
            self._macros = []
            markdown, resources = super().from_notebook_node(nb, resources, **kw)
            parts = [part for part in re.split(PART, markdown) if part.strip()]
            document = pandoc_document.read(parts, titles, self._images)
            pdf = typesetting.typeset(document, Path(folder), self.log.warning)
        return pdf, resources


def title_block(metadata):
    """Return what stands below the title, whatever a notebook's metadata have there."""
    authors = metadata.get("authors") or []
    names = [author.get("name") if isinstance(author, dict) else author for author in as_list(authors)]
    texts = {name: metadata.get(name) for name in ("subtitle", "date", "section-numbering")}
    return {
        "author": [name for name in names if isinstance(name, str)],
        **{name: text if isinstance(text, str) else "" for name, text in texts.items()},
    }


def as_list(value):
    return value if isinstance(value, list) else [value]
