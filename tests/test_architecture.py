"""The house: which modules there are, what may import what, what a module may hold."""

import ast
import sys
from functools import cache

import pytest
from conftest import ROOT

# From the top down: a module imports its own layer and those below it.
LAYERS = ("reproduce", "report", "study", "my_utils", "fast", "model", "common")
BESIDE = {"colab": {"common"}}  # what runs in a bare Colab
USERS = {"notebooks", "my_utils.py", "model.py", "figures", "requirements.txt", "tests"}  # fixed by the user
OURS = {"claims.yaml", "reproduce.py", "colab.py", "docs", "benchmarks", "common", "fast", "study", "report"}
OF_A_REPOSITORY = {"README.md", "CONTRIBUTING.md", "LICENSE", "CITATION.cff", "Makefile", "constraints.txt"} | {
    "pyproject.toml"
}
PACKAGES = ("common", "fast", "study", "report")
MODULES = sorted(
    path.relative_to(ROOT)
    for pattern in ("*.py", *(f"{package}/**/*.py" for package in PACKAGES))
    for path in ROOT.glob(pattern)
)


@cache
def imported(path):
    """List the project's own layers that a module imports, wherever in it."""
    names = []
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module)
    return {name.split(".")[0] for name in names} & {*LAYERS, *BESIDE}


def layer_of(path):
    return path.parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_go_down_only(path):
    layer = layer_of(path)
    allowed = BESIDE.get(layer) or set(LAYERS[LAYERS.index(layer) :])
    assert imported(path) <= allowed


def test_common_and_fast_and_model_stand_on_nothing_but_each_other():
    assert imported_by("model") == {"common"}
    assert imported_by("common") == {"common"}
    assert imported_by("fast") <= {"fast", "model"}


def imported_by(layer):
    return set().union(*(imported(path) for path in MODULES if layer_of(path) == layer))


def test_the_root_shows_the_coursework():
    shown = {path.name for path in ROOT.iterdir() if not path.name.startswith((".", "__"))}
    left_behind = {"data", "runs", "trial", "out.ipynb", "report.ipynb", "report.html", "report.pdf"}
    left_behind |= {"build", "patch_mixing_mlp.egg-info", "uv.lock"}  # by pip and uv
    assert shown - left_behind == USERS | OURS | OF_A_REPOSITORY


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_a_module_can_be_read_in_one_sitting_and_says_what_it_holds(path):
    text = (ROOT / path).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 330
    assert ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_no_module_has_the_name_of_one_of_the_standard_library(path):
    assert path.stem not in sys.stdlib_module_names or path.stem == "__init__"


def test_the_projects_folder_is_defined_once():
    definitions = [path for path in MODULES if "Path(__file__).parent" in (ROOT / path).read_text(encoding="utf-8")]
    assert [str(path) for path in definitions] == ["common/__init__.py"]
