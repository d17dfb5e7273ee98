"""Nothing that is opened here runs code that it shouldn't, or asks the network."""

import ast
import re

import nbformat
import pytest
from conftest import ROOT
from pypdf import PdfReader

PACKAGES = ("common", "fast", "study", "report")
LOADERS = {"pickle", "joblib", "dill", "shelve"}


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_carries_no_output_and_no_script(path):
    for cell in nbformat.read(path, 4).cells:
        assert not cell.get("outputs")
        assert not re.search(r"<\s*(script|iframe|link)|javascript:", cell.source, re.IGNORECASE)


def test_a_drawing_carries_no_script_and_loads_nothing():
    for path in (ROOT / "figures").glob("*.svg"):
        text = path.read_text(encoding="utf-8")
        assert "<script" not in text
        assert not re.search(r"""href=["'](?!#|data:)""", text), path


def test_the_pdf_carries_no_script_and_starts_nothing():
    reader = PdfReader(ROOT / "figures" / "report.pdf")
    names = {key for number in range(1, reader.trailer["/Size"]) for key in _keys(reader, number)}
    assert not names & {"/JavaScript", "/JS", "/Launch", "/OpenAction", "/AA", "/EmbeddedFiles"}


def _keys(reader, number):
    entry = reader.get_object(number)
    return entry.keys() if hasattr(entry, "keys") else ()


def test_the_project_never_loads_a_pickle():
    modules = [*ROOT.glob("*.py"), *(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))]
    assert {path.parent.name for path in modules} == {ROOT.name, *PACKAGES, "panels"}
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not {alias.name.split(".")[0] for alias in node.names} & LOADERS, path
            if isinstance(node, ast.ImportFrom):
                assert node.module.split(".")[0] not in LOADERS, path
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("torch", "np", "numpy", "pandas"):
                assert node.attr not in ("load", "read_pickle"), path
