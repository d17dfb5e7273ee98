"""Make the notebooks open and run in Google Colab: stamp them with the repository's address, install what Colab lacks.

    python colab.py stamp      writes badges, set-up cells and forms, with the address of git's origin on GitHub
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

sys.path.insert(0, str(Path(__file__).resolve().parent))  # which PYTHONSAFEPATH keeps out

from common import ROOT
from common.parameters import PARAMETERS

REPOSITORY = "https://github.com/OWNER/patch-mixing-mlp"  # where git has no origin on GitHub; else stamping writes it
GITHUB = r"(https://([^@/]+@)?github\.com/|(ssh://)?[\w-]+@(ssh\.)?github\.com(:\d+/|[:/]))(?P<name>[\w-]+/[\w.-]+?)(\.git)?/?"

NEEDED = "torch torchvision numpy numba scipy matplotlib ipywidgets pyyaml jsonschema filelock".split()

COLAB = "https://colab.research.google.com"
BADGE = '<a href="{link}"><img src="{colab}/assets/colab-badge.svg" alt="Open in Colab"></a>'
# Where the set-up cell looks for the project, in this order: around the notebook that the command line of its parent
# names, which is papermill's (on Linux); around the one that VS Code has opened; around the folder where it starts;
# around the one that Jupyter has opened, which may be a link; below the folder; in PYTHONPATH. What it finds is
# common/set_up.py, which every whole copy has and which does the rest. No exception, since a sentence is enough.
SET_UP = """\
# @title Set-up: find the project, or fetch it
import os
import runpy
import sys
from pathlib import Path

here, repository = Path.cwd(), "{repository}"
names = os.fsdecode(b"".join(map(Path.read_bytes, Path("/proc").glob(f"{{os.getppid()}}/cmdline")))).split("\\0")
names += [globals().get("__vsc_ipynb_file__", ""), f"{{here}}/.ipynb", os.environ.get("JPY_SESSION_NAME", "")]
places = [folder for name in names if name.endswith(".ipynb") for folder in Path(name).resolve().parents]
places += [*sorted(here.glob("*/")), *here.glob("drive/MyDrive/*/"), *map(Path, sys.path)]
found = [file for place in places for file in place.glob("common/set_up.py")]
old = next((f"; that in {{place}} is old or cut off" for place in places if any(place.glob("*/figure_2.ipynb"))), "")
sentence = f"No whole project in or near {{here}}{{old}}: fetch it, start in its folder, or set PYTHONPATH to it"
if "google.colab" in sys.modules and not found:  # unpack what was uploaded, or else clone
    clone = "echo its address has OWNER" if "/OWNER/" in repository else f"git clone -q --depth 1 {{repository}} 2>&1"
    get = f"unzip -qn '*.zip' 2> /dev/null; find . -maxdepth 3 -name set_up.py | grep . || {{clone}} | sed -n 1p"
    sentence = f"No project in {{here}} ({{os.popen(get).read()[:-1]}}{{old}}): upload its folder or zip and run again"
    found = [*here.glob("common/set_up.py"), *here.glob("*/common/set_up.py")]
runpy.run_path(str(found[0] if found else sys.exit(sentence)));"""
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
            kept.write_text("".join(f"{name}=={version}\n" for name, version in installed.items()), encoding="utf-8")
            pip = [sys.executable, "-m", "pip", "install", "--quiet"]
            subprocess.run([*pip, *missing, "-c", ROOT / "requirements.txt", "-c", kept], check=True)


def address():
    """Return the repository's address: git's origin where that is on GitHub, without a token, else REPOSITORY."""
    command = ["git", f"--git-dir={ROOT / '.git'}", "remote", "get-url", "origin"]
    try:
        origin = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:  # no git
        return REPOSITORY
    known = re.fullmatch(GITHUB, origin)
    return f"https://github.com/{known['name']}" if known else REPOSITORY


def stamp():
    """Write badge, set-up cell and forms into every notebook, and the address into README's links and this file."""
    repository = address()
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        notebook["metadata"]["accelerator"] = "GPU"  # what Colab offers first
        cells = notebook["cells"]
        notebook["metadata"]["title"] = "".join(cells[0]["source"]).splitlines()[0].removeprefix("# ")  # of its pages
        rewrite(cells[0], lambda text, name=path.name: with_badge(text, repository, name))
        set_up = next(cell for cell in cells if cell["cell_type"] == "code")
        rewrite(set_up, lambda _: SET_UP.format(repository=repository))
        set_up["metadata"] |= FOLDED
        for cell in cells:
            if "parameters" in cell["metadata"].get("tags", []):
                rewrite(cell, lambda text: "\n".join(map(with_form, text.splitlines())))
        text = json.dumps(notebook, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        path.write_text(text, encoding="utf-8")
    readme, script = ROOT / "README.md", ROOT / "colab.py"
    text = re.sub(rf"{COLAB}/github/[^/]+/[^/]+/", colab_link(repository, ""), readme.read_text(encoding="utf-8"))
    readme.write_text(text, encoding="utf-8")
    script.write_text(script.read_text(encoding="utf-8").replace(REPOSITORY, repository), encoding="utf-8")
    print(f"The repository's address is {repository}")


def rewrite(cell, change):
    """Change the text of a notebook's cell by a function of it."""
    cell["source"] = change("".join(cell["source"])).splitlines(keepends=True)


def colab_link(repository, path):
    """Return the address at which Colab opens a path of the repository."""
    return f"{COLAB}/github/{repository.removeprefix('https://github.com/')}/{path}"


def with_badge(text, repository, name):
    """Put a notebook's badge below its title, in place of the one that may be there."""
    title, _, rest = text.partition("\n")
    rest = re.sub(r"<a href.*?</a>", "", rest).strip()
    badge = BADGE.format(link=colab_link(repository, f"blob/main/notebooks/{name}"), colab=COLAB)
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
    if name == "claim":
        field = json.dumps(claim_names())
    if name in PARAMETERS:
        explanation = PARAMETERS[name].help
        if PARAMETERS[name].type is str and PARAMETERS[name].choices:
            field = json.dumps(PARAMETERS[name].choices)
    return f"{assignment}  # @param {field} # {explanation}"


def claim_names():
    """List the names of the comparisons in claims.yaml."""
    import yaml  # who stamps has it

    return list(yaml.safe_load((ROOT / "claims.yaml").read_text(encoding="utf-8"))["comparisons"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("stamp", "install"))
    {"stamp": stamp, "install": install}[parser.parse_args().command]()
