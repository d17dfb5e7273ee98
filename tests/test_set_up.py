"""The set-up cell of the notebooks: which project it finds, wherever a notebook starts, and what it says if none."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import torch
from conftest import DEFAULTS, ROOT, run_batch
from made_up import feign_training

import colab
import my_utils as mu
from common.errors import UserError
from study.record import write_record
from tests.faults import copy_project

FILES = ("my_utils.py", "model.py", "claims.yaml", "colab.py")
PACKAGES = ("fast", "study", "report")
ADDRESS = "https://github.com/me/my-fork"
IN_COLAB = "import sys, types; sys.modules['google.colab'] = types.ModuleType('google.colab')"
WHERE = "import my_utils; print(my_utils.__file__)"


def make_project(folder, without=()):
    """Make what the set-up cell takes for the project: its own file, and all others empty."""
    (folder / "notebooks").mkdir(parents=True)
    for path in FILES:
        (folder / path).touch()
    (folder / "notebooks" / "figure_2.ipynb").touch()
    for package in (*PACKAGES, "common"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
    shutil.copy(ROOT / "common" / "set_up.py", folder / "common")
    for name in without:
        shutil.rmtree(folder / name)
    return folder


def set_up(start, before="", after=WHERE, address=colab.REPOSITORY, **environment):
    """Run the set-up cell in a folder, and return the finished process."""
    cell = colab.SET_UP.format(repository=address)
    return subprocess.run(
        [sys.executable, "-c", "\n".join((before, cell, after))],
        cwd=start,
        env={name: value for name, value in os.environ.items() if name != "JPY_SESSION_NAME"} | environment,
        capture_output=True,
        text=True,
    )


def project_of(done):
    """Return the folder whose my_utils was imported."""
    assert (done.returncode, done.stderr) == (0, "")
    return Path(done.stdout.strip()).parent


def sentence_of(done):
    """Return the one line with which the set-up cell gave up."""
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.strip()


@pytest.fixture
def elsewhere(tmp_path):
    """Make a course's folder: with another my_utils.py, as many courses hand out, and a report."""
    folder = tmp_path / "my course"
    (folder / "report").mkdir(parents=True)
    (folder / "my_utils.py").write_text("raise ImportError('the other my_utils')", encoding="utf-8")
    return folder


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "the project's folder")


@pytest.mark.parametrize("start", [".", "notebooks", ".."])
def test_the_project_is_found_in_above_and_below_the_folder(project, start):
    assert project_of(set_up(project / start)) == project


def test_another_my_utils_beside_the_notebook_is_not_taken_for_the_projects(elsewhere, tmp_path):
    project = make_project(elsewhere / "patch-mixing-mlp")
    assert project_of(set_up(elsewhere)) == project
    assert project_of(set_up(elsewhere / "report", PYTHONPATH=str(project))) == project
    shutil.rmtree(project)
    assert str(elsewhere) in sentence_of(set_up(elsewhere))


def test_another_my_utils_that_was_imported_before_makes_way(project, elsewhere):
    (elsewhere / "my_utils.py").write_text("", encoding="utf-8")
    before = f"import sys; sys.path.insert(0, {str(elsewhere)!r}); import my_utils, report"
    assert project_of(set_up(project, before)) == project


def test_a_module_of_the_project_stays_when_the_cell_runs_again(project):
    cell = colab.SET_UP.format(repository=colab.REPOSITORY)
    again = f"import my_utils\nfirst = my_utils\n{cell}\nimport my_utils\nassert my_utils is first\nprint(sys.path)"
    printed = set_up(project, after=again).stdout
    assert printed.count(repr(str(project))) == 1


def test_the_nearest_of_several_clones_wins(project, tmp_path):
    inner = make_project(project / "clone")
    make_project(tmp_path / "a clone")
    assert project_of(set_up(inner / "notebooks", PYTHONPATH=str(tmp_path / "a clone"))) == inner
    assert project_of(set_up(project / "notebooks")) == project


def test_the_notebooks_own_folder_is_known_to_vs_code_and_jupyter(project, elsewhere):
    notebook = project / "notebooks" / "figure_4.ipynb"
    notebook.touch()
    link = elsewhere / "linked.ipynb"
    link.symlink_to(notebook)
    assert project_of(set_up(elsewhere, f"__vsc_ipynb_file__ = {str(notebook)!r}")) == project
    assert project_of(set_up(elsewhere, JPY_SESSION_NAME=str(link))) == project


def test_the_folder_wins_over_the_notebook_from_which_a_batch_was_started(project, tmp_path):
    other = make_project(tmp_path / "other")
    assert project_of(set_up(project, JPY_SESSION_NAME=str(other / "notebooks" / "figure_4.ipynb"))) == project


def test_a_cut_off_clone_is_named_with_what_it_lacks(tmp_path):
    project = make_project(tmp_path / "clone", without=["report", "study"])
    assert sentence_of(set_up(project)) == (
        f"{project} is an old or cut-off copy of the project, without study, report: fetch it again"
    )


def test_every_single_module_that_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    from common.set_up import missing_modules  # which lets this project take over, and no copy of it

    project = copy_project(tmp_path / "project")
    assert missing_modules(project) == []
    modules = [path for package in (*PACKAGES, "common") for path in project.glob(f"{package}/**/*.py")]
    passed_over = []
    for path in modules:
        name = path.relative_to(project).as_posix()
        path.rename(tmp_path / "away.py")
        if missing_modules(project) != [name]:
            passed_over.append(name)
        (tmp_path / "away.py").rename(path)
    assert passed_over == ["common/set_up.py"]


def test_a_batch_in_a_cut_off_clone_is_one_sentence(tmp_path):
    project = copy_project(tmp_path / "project")
    (project / "report" / "tables.py").unlink()
    done = run_batch("4", "--list", root=project)
    assert sentence_of(done) == (
        f"{project} is an old or cut-off copy of the project, without report/tables.py: fetch it again"
    )


@pytest.mark.parametrize("start", ["clone", "clone/notebooks", "."])
def test_an_old_clone_is_named_with_its_path(tmp_path, start):
    project = make_project(tmp_path / "clone", without=["common"])
    assert sentence_of(set_up(tmp_path / start)) == (
        f"No whole project in or near {tmp_path / start}; that in {project} is old or cut off: fetch it, start in its "
        "folder, or set PYTHONPATH to it"
    )


def test_an_old_clone_is_passed_over_where_there_is_a_whole_one(project, tmp_path):
    old = make_project(tmp_path / "an old clone", without=["common"])
    assert project_of(set_up(old / "notebooks", PYTHONPATH=str(project))) == project


# papermill, which tells the kernel nothing of the notebook's folder


def by_papermill(notebook, folder):
    cells = [colab.SET_UP.format(repository=colab.REPOSITORY), WHERE]
    content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    content.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(content, notebook)
    command = [sys.executable, "-m", "papermill", str(notebook), "out.ipynb"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_papermill_finds_the_notebooks_project_from_any_folder(project, elsewhere):
    done = by_papermill(project / "notebooks" / "figure_4.ipynb", elsewhere)
    assert done.returncode == 0, done.stderr
    (output,) = nbformat.read(elsewhere / "out.ipynb", as_version=4).cells[-1].outputs
    assert output.text.strip() == str(project / "my_utils.py")


def test_papermill_says_in_a_sentence_what_to_do_where_there_is_no_project(elsewhere):
    done = by_papermill(elsewhere / "figure_4.ipynb", elsewhere)
    assert done.returncode == 1
    said = done.stderr[done.stderr.index("Exception encountered") :]
    assert f"No whole project in or near {elsewhere}: fetch it, start in its folder, or" in said
    assert "Traceback" not in said
    assert "In [1], " not in said


# Colab


@pytest.fixture
def content(tmp_path):
    """Make an empty folder, as Colab starts in."""
    folder = tmp_path / "content"
    folder.mkdir()
    return folder


def offered(repository):
    """Let git take a folder for the repository at the project's address."""
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": ADDRESS,
    }


def committed(folder):
    identity = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
    for command in (["init"], ["add", "--all"], [*identity, "commit", "-m", "All"]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    return folder


def test_colab_clones_the_project_once(project, content):
    done = set_up(content, IN_COLAB, address=ADDRESS, **offered(committed(project)))
    assert project_of(done) == content / "my-fork"
    assert project_of(set_up(content, IN_COLAB, address=ADDRESS)) == content / "my-fork"


@pytest.mark.parametrize("name", ["project.zip", "my upload (1).zip"])
@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.skipif(not shutil.which("unzip"), reason="no unzip, which Colab has")
def test_colab_takes_an_uploaded_zip_without_an_address(project, content, name, flat):
    base = {"root_dir": project} if flat else {"root_dir": project.parent, "base_dir": project.name}
    shutil.move(shutil.make_archive(str(content.parent / "archive"), "zip", **base), content / name)
    (content / "other.zip").write_bytes(b"cut off")
    assert project_of(set_up(content, IN_COLAB)) == (content if flat else content / project.name)


def test_colab_takes_an_uploaded_folder_without_an_address(content):
    project = make_project(content / "patch-mixing-mlp-main")
    assert project_of(set_up(content, IN_COLAB)) == project


def test_colab_takes_a_project_out_of_drive(content):
    project = make_project(content / "drive" / "MyDrive" / "my project")
    assert project_of(set_up(content, IN_COLAB)) == project


def test_colab_says_that_the_address_is_missing_and_asks_no_git(content):
    sentence = sentence_of(set_up(content, IN_COLAB))
    assert sentence == f"No project in {content} (its address has OWNER): upload its folder or zip and run again"
    assert not list(content.iterdir())


def test_a_failed_clone_is_one_sentence(content, tmp_path):
    sentence = sentence_of(set_up(content, IN_COLAB, address=ADDRESS, **offered(tmp_path / "nothing")))
    assert sentence.startswith(f"No project in {content} (fatal: ")
    assert sentence.endswith(": upload its folder or zip and run again")


def test_a_clone_that_was_cut_off_is_named_and_not_touched(project, content):
    (content / "my-fork" / ".git").mkdir(parents=True)
    sentence = sentence_of(set_up(content, IN_COLAB, address=ADDRESS, **offered(committed(project))))
    assert "destination path 'my-fork' already exists" in sentence
    assert (content / "my-fork" / ".git").is_dir()


def test_an_old_copy_in_drive_is_named(content):
    old = make_project(content / "drive" / "MyDrive" / "my project", without=["common"])
    assert f"has OWNER; that in {old} is old or cut off): upload " in sentence_of(set_up(content, IN_COLAB))


def test_a_failed_installation_is_one_sentence(content):
    project = make_project(content / "project")
    (project / "colab.py").write_text("raise SystemExit(1)", encoding="utf-8")
    assert sentence_of(set_up(content, IN_COLAB)).startswith("Packages that the project needs could not be installed")


# A project that can't be written to


def test_a_record_that_cannot_be_written_says_what_to_set(tmp_path):
    (tmp_path / "file").touch()
    history = [{"train_loss": 1.0, "train_accuracy": 0.5, "test_accuracy": 0.5}]
    parameters = DEFAULTS | {"num_epochs": 1, "runs_folder": str(tmp_path / "file" / "runs")}
    net = mu.net_of(parameters)
    feign_training(net, parameters, history)
    with pytest.raises(UserError, match=r"can't be written to .*/file/runs \(Not a directory\); set .* runs_folder"):
        write_record("figure_4", parameters, net, history, torch.tensor([True, False] * 5000))
