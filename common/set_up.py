"""Let a notebook import the project's own modules: its set-up cell has found this file, and runs it by its path.

Nothing of the project can be imported here: a module of the same name may have been imported from another folder.
"""

import re
import subprocess
import sys
from pathlib import Path

PACKAGES = ("common", "fast", "study", "report")
NEEDED = ("my_utils.py", "model.py", "claims.yaml", "colab.py", *PACKAGES)
IMPORT = re.compile(rf"(?:^|\"|\\n) *from ({'|'.join(PACKAGES)})\b(\S*) import ([\w, ]+)", re.MULTILINE)


def take_over(project):
    """Make the project's modules those that are imported, and install in Colab what it lacks."""
    missing = [name for name in NEEDED if not (project / name).exists()] or missing_modules(project)
    if missing:
        sys.exit(f"{project} is an old or cut-off copy of the project, without {', '.join(missing)}: fetch it again")
    own_names = {path.stem for path in project.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in own_names and not lies_in(project, module):
            del sys.modules[name]  # another my_utils, such as every course hands out
    sys.path[:] = [str(project), *(place for place in sys.path if place != str(project))]
    if "google.colab" in sys.modules:
        installing = subprocess.run([sys.executable, project / "colab.py", "install"])
        if installing.returncode:
            sys.exit("Packages that the project needs could not be installed; pip says above which, and why")


def missing_modules(project):
    """List the files that the project's modules and notebooks import from its packages and that aren't there."""
    patterns = ("*.py", "notebooks/*.ipynb", *(f"{package}/**/*.py" for package in PACKAGES))
    sources = [path for pattern in patterns for path in project.glob(pattern)]
    text = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    needed = set()
    for package, module, names in IMPORT.findall(text):
        modules = [module] if module else [f".{name}" for name in re.findall(r"\w+", names) if name.islower()]
        needed |= {(package + name).replace(".", "/") for name in modules}
    needed |= {name.rpartition("/")[0] for name in needed}  # the packages
    files = [f"{name}/__init__.py" if (project / name).is_dir() else f"{name}.py" for name in sorted(needed)]
    return [name for name in files if not (project / name).exists()]


def lies_in(folder, module):
    """Say whether a module or a package was imported from a folder."""
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
    return any(place and Path(place).resolve().is_relative_to(folder.resolve()) for place in places)


take_over(Path(__file__).absolute().parents[1])
