"""Read what a notebook holds in its parameters cell: the setting of a figure."""

import ast
import warnings
from functools import cache

import nbformat

from common import ROOT
from common.errors import UserError
from common.parameters import PARAMETERS, ParameterError, check_names, check_parameters

MEND = "correct it, or restore the file"


class NotebookError(UserError):
    """A notebook is not what it should be; the message says where and what was expected."""


def path_of(notebook):
    """Return where a notebook lies, by its name such as "figure_4"."""
    return ROOT / "notebooks" / f"{notebook}.ipynb"


def read(path):
    """Read a notebook's file, whichever editor has written it, as one of nbformat 4.5."""
    notebook = nbformat.v4.reads(path.read_bytes())  # bytes, since some editors begin with a byte order mark
    notebook.nbformat_minor = max(notebook.nbformat_minor, 5)  # from here on cells have ids
    with warnings.catch_warnings(action="ignore"):  # of each id that it adds
        _, notebook = nbformat.validator.normalize(notebook)
    return notebook


def defaults(notebook):
    """Read the values in a notebook's parameters cell, as a dict of the caller's own.

    Args:
        notebook: its name, such as "figure_4".

    Raises:
        NotebookError: it can't be read, or has not just one such cell, or a value in it makes no sense.
    """
    return {name: ast.literal_eval(text) for name, text in _parameters_cell(path_of(notebook)).items()}


@cache
def _parameters_cell(path):
    try:
        content = read(path)
        nbformat.validate(content)
        (cell,) = (cell for cell in content.cells if "parameters" in cell.metadata.get("tags", []))
        values = {line.target.id: line.value for line in ast.parse(cell.source).body}
        literals = {name: ast.literal_eval(value) for name, value in values.items()}
        check_names(literals, PARAMETERS)
        check_parameters(literals)
    except OSError as error:
        raise NotebookError(f"{path} can't be read: {error.strerror}; {MEND}") from None
    except ParameterError as error:
        raise NotebookError(f"{path}, cell parameters: {error}; {MEND}") from None
    except (
        *(ValueError, SyntaxError, TypeError, KeyError, AttributeError, RecursionError),
        *(nbformat.ValidationError, ImportError),  # of a version that nbformat doesn't know
    ):
        raise NotebookError(
            f"{path} is damaged: expected a notebook in which one cell has the tag parameters, with lines such as "
            f"seed: int = 0; {MEND}"
        ) from None
    return values
