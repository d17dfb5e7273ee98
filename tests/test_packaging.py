"""The ways to install: what pip and uv are told, on Linux and elsewhere, and what GitHub runs."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from email.parser import HeaderParser
from functools import partial

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import reproduce

INSTALL = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
LISTS = ["requirements.txt", "tests/requirements.txt", "benchmarks/requirements.txt"]


def requirements(path):
    """List the requirements in a file, without its comments."""
    lines = (line.split("#")[0].strip() for line in (ROOT / path).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


EXACT = {canonicalize_name(line.name): line for line in requirements("constraints.txt")}


def exact(name):
    """Return the version of a package in constraints.txt."""
    (specifier,) = EXACT[canonicalize_name(name)].specifier
    assert specifier.operator == "=="
    return Version(specifier.version)


def test_the_package_brings_what_requirements_txt_lists_and_nothing_else(tmp_path):
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    build = "from setuptools import build_meta; build_meta.prepare_metadata_for_build_wheel('.')"
    subprocess.run([sys.executable, "-c", build], cwd=tmp_path, check=True, capture_output=True)
    (folder,) = tmp_path.glob("*.dist-info")
    about = HeaderParser().parsestr((folder / "METADATA").read_text(encoding="utf-8"))
    assert [Requirement(line) for line in about.get_all("Requires-Dist")] == requirements("requirements.txt")
    assert about["License-Expression"] == "MIT"
    assert not (folder / "top_level.txt").read_text(encoding="utf-8").strip()


def test_the_version_is_the_same_for_pip_and_for_who_cites_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"]
    assert f"Python {project['requires-python'].removeprefix('>=')} or later" in INSTALL


@pytest.mark.parametrize("path", LISTS)
def test_constraints_have_an_exact_version_for_every_requirement(path):
    for requirement in requirements(path):
        assert requirement.specifier.contains(exact(requirement.name)), requirement


# Without a GPU


@pytest.mark.parametrize("name", ["torch", "torchvision"])
def test_constraints_allow_the_builds_for_processors_and_pip_prefers_them(name):
    usual = exact(name)
    for_processors = Version(f"{usual}+cpu")
    assert EXACT[name].specifier.contains(for_processors)
    assert for_processors > usual


def test_torch_and_torchvision_go_together_in_constraints_requirements_and_docs():
    pairs = [(Version(a), Version(b)) for a, b in re.findall(r"(2\.\d+\.\d+) with (0\.\d+\.\d+)", INSTALL)]
    lowest = [requirement.specifier for requirement in requirements("requirements.txt")[:2]]
    assert pairs[0] == (exact("torch"), exact("torchvision"))
    assert [str(specifier) for specifier in lowest] == [f">={v.major}.{v.minor}" for v in pairs[-1]]
    assert len({torch.minor - torchvision.minor for torch, torchvision in pairs}) == 1  # they are released together


def test_images_are_augmented_with_a_torchvision_that_does_not_go_with_torch(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')", encoding="utf-8"
    )
    augmenting = (
        "import my_utils as mu; from common.parameters import AUGMENTATIONS;"
        "batches, _ = mu.load_data_fashion_mnist(50, train_limit=50, augmentation=list(AUGMENTATIONS), device='cpu');"
        "print(*next(iter(batches))[0].shape)"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    run = partial(subprocess.run, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "nms does not exist" in run([sys.executable, "-c", "import torchvision"]).stderr
    done = run([sys.executable, "-c", augmenting])
    assert (done.stdout, done.stderr) == ("50 1 28 28\n", "")


# Without make, on Windows and macOS


def test_git_leaves_line_ends_as_they_are():
    """Git for Windows changes them otherwise, and a record's checksum is that of its bytes."""
    listed = subprocess.run(["git", "ls-files", "--eol"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not in a git checkout")
    for line in listed.stdout.splitlines():
        index, _, attribute, *_ = line.split()
        assert index in ("i/lf", "i/-text", "i/none"), line
        assert attribute in ("attr/text=auto", "attr/text"), line
        assert "eol=lf" in line


def test_github_runs_what_ci_runs_and_the_commands_of_the_docs():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))["jobs"]
    commands = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert commands["all"] == [".ci/run"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    install, run = commands["without-make"]
    assert install.removeprefix("python ") in INSTALL
    program, script, *arguments = shlex.split(run)
    assert (program, script) == ("python", "reproduce.py")
    assert reproduce.parse([*arguments, "--list"])
    assert {name.split("-")[0] for name in jobs["without-make"]["strategy"]["matrix"]["os"]} == {"windows", "macos"}
