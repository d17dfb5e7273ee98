"""Google Colab, as far as it can be had here: its Jupyter packages, its sign, an empty folder, a clone, no network."""

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import jupyter_client
import nbformat
import pytest
from conftest import ROOT

import colab

PYTHON = ROOT / ".venv" / "colab" / "bin" / "python"
NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
SMALL = """
from common import fashion_mnist
if not hasattr(fashion_mnist, "everything"):  # the first notebook reads the data set for all
    fashion_mnist.everything = fashion_mnist.load()
fashion_mnist.load = lambda root=None: [part[:10000] for part in fashion_mnist.everything]
num_epochs, num_rounds, train_limit = 1, 1, 300
"""
OWN = {  # of notebooks with other parameters
    "many_seeds.ipynb": "overrides = {'num_epochs': 1, 'train_limit': 300}",
    "test_a_claim.ipynb": "fashion_mnist.load, num_seeds = lambda root=None: fashion_mnist.everything, 1",
}
ADDRESS = "https://github.com/me/my-fork"
SITE_PACKAGES = next(Path(path) for path in sys.path if Path(path, "jsonschema").is_dir())


def git(*arguments, folder):
    identity = ["-c", "user.name=Test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", *identity, *map(str, arguments)], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Commit the files as they are now to a repository that git takes for the one at a fork's address."""
    folder = tmp_path_factory.mktemp("repository")
    git("init", folder, folder=folder)
    git(f"--git-dir={folder / '.git'}", "--work-tree=.", "add", "--all", folder=ROOT)
    git("commit", "--message", "The project as it is", folder=folder)
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{folder.as_uri()}.insteadOf",
        "GIT_CONFIG_VALUE_0": ADDRESS,
    }


@pytest.fixture(scope="module")
def machine(repository, tmp_path_factory):
    """Start a kernel of Colab's versions in an empty folder, with the package `google.colab` imported; a function
    that executes code in it as a person's front end does, and returns the messages that came back."""
    if not PYTHON.exists():
        pytest.skip("no second environment: `make test` makes it")
    folder = tmp_path_factory.mktemp("colab")
    (folder / "google" / "colab").mkdir(parents=True)
    (folder / "google" / "colab" / "__init__.py").touch()
    (folder / "content").mkdir()
    spec = folder / "kernels" / "colab" / "kernel.json"
    spec.parent.mkdir(parents=True)
    sign = "--IPKernelApp.exec_lines=import google.colab"
    command = [str(PYTHON), "-m", "ipykernel_launcher", "-f", "{connection_file}", sign]
    spec.write_text(json.dumps({"argv": command, "display_name": "Colab", "language": "python"}), encoding="utf-8")
    environment = os.environ | repository | {"PYTHONPATH": str(folder), "JUPYTER_PATH": str(folder)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder))
        manager, client = jupyter_client.manager.start_new_kernel(
            kernel_name="colab", cwd=folder / "content", env=environment, startup_timeout=120
        )

    def execute(source):
        messages = []
        reply = client.execute_interactive(source, allow_stdin=True, output_hook=messages.append, timeout=120)
        assert reply["content"]["status"] == "ok", "\n".join(reply["content"]["traceback"])
        return messages

    yield execute
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_the_second_environment_has_colabs_versions(machine):
    (message,) = [
        message
        for message in machine("import IPython, ipywidgets, matplotlib; IPython.__version__, ipywidgets.__version__")
        if message["msg_type"] == "execute_result"
    ]
    assert message["content"]["data"]["text/plain"] == "('7.34.0', '7.7.1')"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_in_colab_from_top_to_bottom(machine, name):
    machine("%reset -f")  # what the notebook before has left
    for cell in nbformat.read(ROOT / "notebooks" / name, as_version=4).cells:
        if cell.cell_type == "code":
            is_tagged = "parameters" in cell.metadata.get("tags", [])
            source = cell.source.replace(colab.REPOSITORY, ADDRESS)
            messages = machine(f"{source}\n{SMALL}\n{OWN.get(name, '')}" if is_tagged else source)
            assert not [message for message in messages if message["content"].get("name") == "stderr"], messages


def test_the_panels_train_with_colabs_widgets(machine):
    machine(colab.SET_UP.format(repository=ADDRESS))
    machine(f"from report import panels\n{SMALL}")
    machine("training = panels.Training(num_epochs=2, train_limit=300); training.show()")
    machine("panels.show_network(training); panels.show_mistakes(training)")
    messages = machine("training.run_button.click()")
    changes = [message["content"]["data"]["state"] for message in messages if message["msg_type"] == "comm_msg"]
    # What comes after the cell Colab doesn't show.
    assert [state["value"] for state in changes if str(state.get("value")).startswith("Done, epoch 2 of 2")]
    machine("assert training.status.value.startswith('Done, epoch 2 of 2'), training.status.value")


def test_what_is_committed_is_what_stamping_gives(tmp_path):
    stamped = copy_of_the_stamped(tmp_path)
    subprocess.run([sys.executable, "colab.py", "stamp"], cwd=tmp_path, check=True)
    for path in stamped:
        assert (tmp_path / path).read_bytes() == (ROOT / path).read_bytes(), path


def test_a_fork_changes_one_line_and_stamps(tmp_path):
    stamped = copy_of_the_stamped(tmp_path)
    script = (tmp_path / "colab.py").read_text(encoding="utf-8")
    assert script.count(colab.REPOSITORY) == 1
    (tmp_path / "colab.py").write_text(script.replace(colab.REPOSITORY, ADDRESS), encoding="utf-8")
    subprocess.run([sys.executable, "colab.py", "stamp"], cwd=tmp_path, check=True)
    assert_stamped(tmp_path, stamped)


@pytest.mark.parametrize(
    "origin",
    [
        "https://github.com/me/my-fork",
        "https://github.com/me/my-fork.git",
        "https://a-token@github.com/me/my-fork.git/",
        "git@github.com:me/my-fork.git",
        "ssh://git@github.com/me/my-fork",
        "ssh://git@ssh.github.com:443/me/my-fork.git",
    ],
)
def test_an_origin_on_github_is_the_address(tmp_path, monkeypatch, origin):
    with_origin(tmp_path, origin)
    monkeypatch.setattr(colab, "ROOT", tmp_path)
    assert colab.address() == ADDRESS


@pytest.mark.parametrize(
    "origin", ["/srv/git/my-fork", "https://gitlab.com/me/my-fork", "https://github.com/me", None]
)
def test_any_other_origin_is_not(tmp_path, monkeypatch, origin):
    with_origin(tmp_path, origin)
    monkeypatch.setattr(colab, "ROOT", tmp_path)
    assert colab.address() == colab.REPOSITORY


def test_the_origin_of_a_repository_around_the_project_is_not_its_own(tmp_path, monkeypatch):
    with_origin(tmp_path, ADDRESS)
    monkeypatch.setattr(colab, "ROOT", tmp_path / "project")
    assert colab.address() == colab.REPOSITORY


def test_a_clone_of_a_fork_is_stamped_with_its_origin_and_keeps_it_without_git(tmp_path):
    stamped = copy_of_the_stamped(tmp_path)
    with_origin(tmp_path, "git@github.com:me/my-fork.git")
    done = subprocess.run([sys.executable, "colab.py", "stamp"], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == f"The repository's address is {ADDRESS}\n"
    assert_stamped(tmp_path, stamped)
    shutil.rmtree(tmp_path / ".git")
    subprocess.run([sys.executable, "colab.py", "stamp"], cwd=tmp_path, check=True)
    assert_stamped(tmp_path, stamped)


def with_origin(folder, origin):
    git("init", folder, folder=folder)
    if origin:
        git("remote", "add", "origin", origin, folder=folder)


def assert_stamped(folder, stamped):
    for path in stamped:
        text = (folder / path).read_text(encoding="utf-8")
        assert "me/my-fork/" in text
        assert colab.REPOSITORY.removeprefix("https://github.com/") not in text, path
        if path.suffix == ".ipynb":
            assert f'"{ADDRESS}' in text.replace("\\", "")


def copy_of_the_stamped(folder):
    stamped = [Path("README.md"), *(Path("notebooks", name) for name in NOTEBOOKS)]
    (folder / "notebooks").mkdir()
    shutil.copytree(ROOT / "common", folder / "common")
    for path in (Path("colab.py"), Path("claims.yaml"), *stamped):
        shutil.copy(ROOT / path, folder / path)
    return stamped


@pytest.fixture
def lacking_filelock(tmp_path):
    """Make an environment that sees every package of this one except filelock, and no index."""
    venv.create(tmp_path / "environment", symlinks=True)
    (site_packages,) = (tmp_path / "environment").glob("lib/python*/site-packages")
    for folder in [path for path in map(Path, sys.path) if path.name == "site-packages"]:
        for path in folder.iterdir():
            if (
                not path.name.startswith("filelock")
                and path.suffix != ".pth"
                and not (site_packages / path.name).exists()
            ):
                (site_packages / path.name).symlink_to(path)
    (tmp_path / "wheels").mkdir()
    environment = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    python = tmp_path / "environment" / "bin" / "python"

    def run(*command):
        return subprocess.run([python, *command], env=environment, capture_output=True, text=True)

    return run


def write_wheel(folder, name, version, requires=""):
    information = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"__version__ = '{version}'\n")
        wheel.writestr(
            f"{information}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}"
        )
        wheel.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{information}/RECORD", "")


def test_only_what_is_missing_is_installed(lacking_filelock, tmp_path):
    write_wheel(tmp_path / "wheels", "filelock", "99.0")
    write_wheel(tmp_path / "wheels", "jsonschema", "99.0")
    done = lacking_filelock(ROOT / "colab.py", "install")
    assert done.returncode == 0, done.stderr
    found = lacking_filelock("-c", "import filelock, jsonschema; print(filelock.__version__, jsonschema.__version__)")
    assert found.stdout.startswith("99.0 4."), found


def test_what_is_there_is_never_upgraded(lacking_filelock, tmp_path):
    write_wheel(tmp_path / "wheels", "filelock", "99.0", "Requires-Dist: ipython>=99\n")
    write_wheel(tmp_path / "wheels", "ipython", "99.0")
    done = lacking_filelock(ROOT / "colab.py", "install")
    assert done.returncode != 0
    assert "99.0" not in lacking_filelock("-c", "import IPython; print(IPython.__version__)").stdout


def test_nothing_is_done_where_nothing_is_missing():
    done = subprocess.run(
        [sys.executable, ROOT / "colab.py", "install"], env={"PATH": ""}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
