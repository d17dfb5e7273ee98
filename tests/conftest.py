"""What several test files need: the real data, and one small batch of figures and a sweep run from end to end."""

import base64
import gc
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from functools import cache

import nbformat
import numpy as np
import pytest
import torch
from filelock import FileLock
from pypdf import PdfReader

from common import ROOT, fashion_mnist
from study import claims
from study.record import TRAINING_VERSIONS, determinants
from study.study import Study

TINY = ["-p", "num_epochs", "3", "-p", "train_limit", "600"]
SWEEP = ["--sweeps", "adam_first_try"]
PATIENCE = 60_000  # milliseconds that a browser waits for anything: busy machines are slow
SLOWEST = ["test_reproduce.py", "test_cluster.py", "test_faults.py", "test_account.py", "test_panels.py"]


def pytest_collection_modifyitems(items):
    """Begin with the slowest files, so that in the end no process waits long for another."""
    items.sort(key=lambda item: [*SLOWEST, item.path.name].index(item.path.name))


def pytest_collection_finish():
    """Spare what is imported by now from collections of garbage: statsmodels makes one for every correction."""
    gc.freeze()


def run_batch(*arguments, root=ROOT, **kwargs):
    """Run reproduce.py as a user does, and return the finished process."""
    command = [sys.executable, str(root / "reproduce.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, **kwargs)


def refusal(*arguments):
    """Return the one line with which reproduce.py refuses its arguments."""
    from reproduce import main  # a second of imports that most tests can do without

    with pytest.raises(SystemExit) as refused:
        main(list(map(str, arguments)))
    assert "\n" not in refused.value.code
    return refused.value.code


def record_files(output):
    """Return the records of a batch as bytes, by file name."""
    return {path.name: path.read_bytes() for path in (output / "runs").glob("*.json")}


def pdf_text(path):
    """Return a PDF's text with single blanks between its words."""
    return " ".join(" ".join(page.extract_text() for page in PdfReader(path).pages).split())


def run_by_papermill(notebook, output, **parameters):
    """Execute a notebook by papermill's own command line, as from the project's folder, and return it."""
    given = [word for name, value in parameters.items() for word in ("-y", f"{name}: {value}")]
    command = [sys.executable, "-m", "papermill", f"notebooks/{notebook}.ipynb", str(output), *given]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return nbformat.read(output, as_version=4)


def run_notebook(notebook, /, **parameters):
    """Run the code of a figure's notebook with other parameters in this process, and return its variables."""
    variables = {}
    for cell in nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, variables)
            if "parameters" in cell.metadata.get("tags", []):
                variables |= parameters
    return variables


def made_up_record(setting, seed=0, accuracy=0.5, **changes):
    """Build a record like those of `study.record.write_record`, with the same accuracy after every epoch."""
    held_out = {"validation_accuracies": [0.5] * setting["num_epochs"]} if setting["num_validation"] else {}
    return {
        "notebook": "figure_4",
        **determinants(setting),
        "seed": seed,
        "test_accuracy": accuracy,
        "train_losses": [1.0] * setting["num_epochs"],
        "train_accuracies": [0.5] * setting["num_epochs"],
        "test_accuracies": [accuracy] * setting["num_epochs"],
        **held_out,
        "correct": made_up_bits(round(accuracy * 10000)),
        "forward": "net",
        "device": "cpu",
        "processor": "made up",
        "threads": 1,
        **dict.fromkeys(["python", "torch", "torchvision", "numpy"], "1"),
        "data": fashion_mnist.CHECKSUM,
        "training_version": TRAINING_VERSIONS["cpu"],
        **changes,
    }


@cache
def made_up_bits(num_correct):
    """Write down that the first so many test images were recognised, as a record does."""
    return base64.b64encode(np.packbits(np.arange(10000) < num_correct)).decode()


def study_of(records, stated=None, overrides=None):
    """Build a study of made-up records, about the project's own claims or others, or of a trial with overrides."""
    return Study(records, stated or claims.load(), overrides or {})


@pytest.fixture(scope="session", autouse=True)
def data_folder():
    """Find the data set, or fetch it, and let every process that a test starts use it."""
    os.environ["FASHION_MNIST"] = str(fashion_mnist.find().resolve())
    return os.environ["FASHION_MNIST"]


@pytest.fixture(scope="session")
def batch(tmp_path_factory, data_folder):
    """Run all figures and a sweep of one setting with few images; return the output folder and what was printed.

    The folder is only to be read: of several processes that run tests the first makes it for all.
    """
    folder = shared_folder(tmp_path_factory)
    output, printed = folder / "batch", folder / "batch.txt"
    with FileLock(folder / "batch.lock"):
        if not printed.exists():
            done = run_batch(*SWEEP, *TINY, "--jobs", 2, "--output", output)
            assert done.returncode == 0, done.stdout + done.stderr
            printed.write_text(done.stdout, encoding="utf-8")
    return output, printed.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def report_notebook(tmp_path_factory, data_folder):
    """Execute the report's notebook on the committed records by papermill's own command line, once for all."""
    folder = shared_folder(tmp_path_factory)
    path = folder / "report.ipynb"
    with FileLock(folder / "report.lock"):
        if not path.exists():
            command = [sys.executable, "-m", "papermill", "notebooks/report.ipynb", folder / "unfinished.ipynb"]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            (folder / "unfinished.ipynb").rename(path)
    return path


def shared_folder(tmp_path_factory):
    """Return a temporary folder that all processes that run tests share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture
def interrupts():
    """Let interrupts raise, which pytest's workers ignore."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@pytest.fixture(scope="module")
def one_thread():
    """Let PyTorch compute with one thread, as in a batch; where other programs are busy, several would wait a lot."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# For the tests of parameters, records and trainings: a setting, what it may be changed to, and a few images

DEFAULTS = {
    "initializer": "kaiming_normal_",
    "optimizer_name": "SGD",
    "learning_rate": 0.1,
    "weight_decay": 0.0,
    "batch_size": 256,
    "num_epochs": 10,
    "num_rounds": 1,
    "schedule": "constant",
    "label_smoothing": 0.0,
    "batch_norm": False,
    "norm_axis": 1,
    "norm_after_relu": False,
    "dropout": 0.0,
    "augmentation": [],
    "num_hidden": [256, 128, 64, 32, 16],
    "patching": 0,
    "seed": 0,
    "train_limit": 60000,
    "num_validation": 0,
    "device": "cpu",
    "runs_folder": "runs",
}
CHANGED = {
    "initializer": "normal_",
    "optimizer_name": "Adam",
    "learning_rate": 0.2,
    "weight_decay": 0.00001,
    "batch_size": 128,
    "num_epochs": 15,
    "schedule": "one_cycle",
    "label_smoothing": 0.1,
    "batch_norm": True,
    "norm_axis": 2,
    "norm_after_relu": True,
    "dropout": 0.01,
    "augmentation": ["RandomErasing"],
    "num_hidden": [256, 128, 64, 32, 8],
    "patching": 1,
    "seed": 1,
    "train_limit": 500,
    "num_validation": 10000,
}


def without(mapping, *names):
    return {name: value for name, value in mapping.items() if name not in names}


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="session")
def data_set(data_folder):
    """Read the data set once for all tests."""
    return fashion_mnist.load()


@pytest.fixture
def few_images(data_set, one_thread, monkeypatch):
    """Let the data set have 600 training images and 200 test images; return a function that gives it other ones."""

    def use(*images_and_labels):
        monkeypatch.setattr(fashion_mnist, "load", lambda root=None: images_and_labels)
        monkeypatch.setattr(fashion_mnist, "NUM_TRAIN", len(images_and_labels[1]))
        monkeypatch.setattr(fashion_mnist, "NUM_TEST", len(images_and_labels[3]))

    train_images, train_labels, test_images, test_labels = data_set
    use(train_images[:600], train_labels[:600], test_images[:200], test_labels[:200])
    return use


@pytest.fixture
def without_drawings(monkeypatch):
    """Let a batch in this process draw nothing: what takes half of the time of its report."""
    from report import publish

    monkeypatch.setattr(publish, "draw_all", lambda study: {})


@pytest.fixture
def unpublished(monkeypatch):
    """Let a batch in this process leave its records and its table, without drawings and without a PDF."""
    from report import publish

    monkeypatch.setattr(publish, "publish", Study.read)


# For the tests in a browser


@pytest.fixture(scope="module")
def lab(tmp_path_factory, data_folder):
    """Start JupyterLab in a folder of its own beside the project; return the folder and the server's address."""
    if shutil.which("chromium") is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    folder = tmp_path_factory.mktemp("lab")
    (folder / "work").mkdir()
    (folder / "work" / "project").symlink_to(ROOT)
    for name, setting in (
        ("apputils-extension/notification", '{"fetchNews": "false"}'),
        ("notebook-extension/tracker", '{"windowingMode": "none"}'),  # keep the cells that are out of sight
    ):
        settings = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        settings.parent.mkdir(parents=True)
        settings.write_text(setting, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    options = {"ServerApp.port": port, "IdentityProvider.token": "token", "ServerApp.root_dir": folder / "work"}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    with open(folder / "log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(
            [*command, *(f"--{name}={value}" for name, value in options.items())],
            env=os.environ
            | {"JUPYTER_CONFIG_DIR": str(folder / "config"), "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")}
            | {"JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces")},
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(f"{address}/api?token=token", server, folder / "log")
        yield folder / "work", address
    finally:
        server.terminate()
        server.wait(timeout=60)


def wait_for(address, server, log):
    for _ in range(300):
        assert server.poll() is None, log.read_text(encoding="utf-8")
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(log.read_text(encoding="utf-8"))


@pytest.fixture
def lab_page(lab):
    """Return a function that opens one of the notebooks, with other parameters, in JupyterLab and a browser."""
    from playwright.sync_api import sync_playwright

    folder, address = lab

    def open_notebook(name, **parameters):
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        for cell in notebook.cells:
            if "parameters" in cell.metadata.get("tags", []):
                cell.source += "".join(f"\n{parameter}: object = {value!r}" for parameter, value in parameters.items())
        nbformat.write(notebook, folder / f"{name}.ipynb")
        page.goto(f"{address}/doc/tree/{name}.ipynb?token=token")
        page.get_by_text("| Idle").wait_for()
        return page

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(PATIENCE)
        yield open_notebook
        browser.close()
