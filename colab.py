"""Make the notebooks open and run in Google Colab: stamp them with the repository's address, install what Colab lacks.

    python colab.py stamp      writes badges, set-up cells and forms; for a fork, after changing REPOSITORY
    python colab.py install    is what a set-up cell runs in Colab

A notebook that Colab opens comes alone, so its first cell, the set-up cell, fetches the project. Colab has nearly all
packages that the notebooks need; what it has is never changed, since another version of torch or of Jupyter's own
packages would break the running machine.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from common import ROOT
from common.parameters import PARAMETERS

REPOSITORY = "https://github.com/OWNER/patch-mixing-mlp"

NEEDED = ("torch", "torchvision", "numpy", "scipy", "matplotlib", "ipywidgets", "pyyaml", "jsonschema", "filelock")

COLAB = "https://colab.research.google.com"
BADGE = '<a href="{link}"><img src="{colab}/assets/colab-badge.svg" alt="Open in Colab"></a>'
SET_UP = """\
# @title Set-up: find the project, or fetch it
import subprocess
import sys
from pathlib import Path

repository = "{repository}"
if "google.colab" in sys.modules:  # fetch the project, once, and install what Colab lacks
    project = Path(repository).name
    if not Path(project).exists():
        subprocess.run(["git", "clone", "--quiet", "--depth", "1", repository], check=True)
    subprocess.run([sys.executable, f"{{project}}/colab.py", "install"], check=True)
places = [Path.cwd(), *Path.cwd().parents, *Path.cwd().glob("*/")]
sys.path.insert(0, str(next(place for place in places if (place / "my_utils.py").exists())))"""
FOLDED = {"cellView": "form", "jupyter": {"source_hidden": True}}  # in Colab, and in JupyterLab

FIELDS = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}  # others are "raw", Python


def install():
    """Install those packages of NEEDED that are missing, and change none that is there.

    Raises:
        subprocess.CalledProcessError: a missing package can't be had, or only together with a change to another one.
    """
    installed = {}
    for distribution in metadata.distributions():
        installed.setdefault(re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower(), distribution.version)
    missing = [name for name in NEEDED if name not in installed]
    if missing:
        with tempfile.TemporaryDirectory() as folder:
            kept = Path(folder, "kept.txt")
            kept.write_text("".join(f"{name}=={version}\n" for name, version in installed.items()))
            pip = [sys.executable, "-m", "pip", "install", "--quiet"]
            subprocess.run([*pip, *missing, "-c", ROOT / "requirements.txt", "-c", kept], check=True)


def stamp():
    """Write badge, set-up cell and forms into every notebook, and the repository's address into the README's links."""
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        notebook["metadata"]["accelerator"] = "GPU"  # what Colab offers first
        cells = notebook["cells"]
        notebook["metadata"]["title"] = "".join(cells[0]["source"]).splitlines()[0].removeprefix("# ")  # of its pages
        rewrite(cells[0], lambda text, name=path.name: with_badge(text, name))
        set_up = next(cell for cell in cells if cell["cell_type"] == "code")
        rewrite(set_up, lambda _: SET_UP.format(repository=REPOSITORY))
        set_up["metadata"] |= FOLDED
        for cell in cells:
            if "parameters" in cell["metadata"].get("tags", []):
                rewrite(cell, lambda text: "\n".join(map(with_form, text.splitlines())))
        text = json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")
    readme = ROOT / "README.md"
    text = re.sub(rf"{COLAB}/github/[^/]+/[^/]+/", colab_link(""), readme.read_text(encoding="utf-8"))
    readme.write_text(text, encoding="utf-8")


def rewrite(cell, change):
    """Change the text of a notebook's cell by a function of it."""
    cell["source"] = change("".join(cell["source"])).splitlines(keepends=True)


def colab_link(path):
    """Return the address at which Colab opens a path of the repository."""
    return f"{COLAB}/github/{REPOSITORY.removeprefix('https://github.com/')}/{path}"


def with_badge(text, name):
    """Put a notebook's badge below its title, in place of the one that may be there."""
    title, _, rest = text.partition("\n")
    rest = re.sub(r"<a href.*?</a>", "", rest).strip()
    badge = BADGE.format(link=colab_link(f"blob/main/notebooks/{name}"), colab=COLAB)
    return "\n\n".join(part for part in (title, badge, rest) if part)


def with_form(line):
    """Give a parameter, `name: type = value  # help`, a field in Colab's form, in place of the one that may be there.

    What `common/parameters.py` knows gets its choices and its explanation from there. papermill reads the same line:
    the field becomes part of the help that it shows. Comments stay as they are.
    """
    if line.startswith("#"):
        return line
    assignment, _, comment = line.partition("  # ")
    declared = re.match(r"(\w+): (\w+) = ", assignment)
    if not declared:
        sys.exit(f"colab.py: {line!r} in a parameters cell: expected one line a parameter, such as seed: int = 0")
    name, kind = declared.groups()
    explanation = re.sub(r"^@param (\[.*?\]|\S+)( # )?", "", comment)
    field = f'{{type:"{FIELDS.get(kind, "raw")}"}}'
    if name in PARAMETERS:
        explanation = PARAMETERS[name].help
        if PARAMETERS[name].type is str and PARAMETERS[name].choices:
            field = json.dumps(PARAMETERS[name].choices)
    return f"{assignment}  # @param {field} # {explanation}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("stamp", "install"))
    {"stamp": stamp, "install": install}[parser.parse_args().command]()
