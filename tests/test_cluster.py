"""The batch on a Dask cluster: a scheduler and workers that are processes of their own and talk over TCP."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from conftest import ROOT, TINY
from distributed import Client

import fashion_mnist

DASK = [sys.executable, "-m", "dask"]
HIDE = 'while [ "$1" != -- ]; do mount -t tmpfs none "$1" || exit; shift; done; shift; exec "$@"'


def copy_of_the_project(folder):
    unneeded = shutil.ignore_patterns(".*", "data", "runs", "trial", "__pycache__", "tests")
    return Path(shutil.copytree(ROOT, folder, ignore=unneeded))


def run_batch(*arguments, root=ROOT, **options):
    command = [sys.executable, root / "reproduce.py", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def record_files(output):
    return {path.name: path.read_bytes() for path in (output / "runs").glob("*.json")}


@pytest.fixture
def started():
    """A function that starts a process in a folder of its own; in the end each is killed, with its descendants."""
    processes = []

    def start(command, folder, environment):
        folder.mkdir()
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def other_machine():
    """Prefix for a command, which then runs in a network of its own; None where only root could set that up."""
    name, net = f"test{os.getpid()}", f"10.{os.getpid() % 200 + 20}.7"
    steps = [
        f"ip netns add {name}",
        f"ip link add {name}a type veth peer name {name}b netns {name}",
        f"ip addr add {net}.1/24 dev {name}a",
        f"ip link set {name}a up",
        f"ip -n {name} addr add {net}.2/24 dev {name}b",
        f"ip -n {name} link set {name}b up",
        f"ip -n {name} link set lo up",
        f"ip netns exec {name} unshare --mount true",
    ]
    try:
        for step in steps:
            subprocess.run(step.split(), check=True, capture_output=True)
        yield SimpleNamespace(prefix=["ip", "netns", "exec", name, "unshare", "--mount"], batch_address=f"{net}.1")
    except (OSError, subprocess.CalledProcessError):
        yield None
    finally:
        if shutil.which("ip"):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


@pytest.fixture
def cluster(tmp_path, started):
    """Start a scheduler; a function that starts a worker in a folder of its own, and returns its process."""
    environment = {name: value for name, value in os.environ.items() if name != "FASHION_MNIST"}
    contact = tmp_path / "scheduler.json"
    options = ["--port", "0", "--no-dashboard", "--scheduler-file", str(contact)]
    started([*DASK, "scheduler", *options], tmp_path / "scheduler", environment)
    wait_until(contact.exists)
    port = json.loads(contact.read_text())["address"].rpartition(":")[2]

    def start_worker(name, address, prefix=()):
        options = ["--name", name, "--nthreads", "1", "--no-dashboard", "--local-directory", str(tmp_path / name)]
        return started([*prefix, *DASK, "worker", f"tcp://{address}:{port}", *options], tmp_path / name, environment)

    return SimpleNamespace(address=f"tcp://127.0.0.1:{port}", start_worker=start_worker)


def wait_until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_records_are_those_of_this_machine_though_a_worker_is_killed(batch, tmp_path, cluster):
    workers = {name: cluster.start_worker(name, "127.0.0.1") for name in ("first", "second")}
    with Client(cluster.address) as client:
        client.wait_for_workers(2, timeout=120)
        batch_process = run_batch("3", "4", "9", *TINY, "--scheduler", cluster.address, "--output", tmp_path / "out")
        printed = ""
        while "epoch 1 of 3" not in printed:
            printed += batch_process.stdout.readline()
        known = client.scheduler_info()["workers"]
        busy = [known[address]["name"] for address, keys in client.processing().items() if keys]
        os.killpg(workers[busy[0]].pid, signal.SIGKILL)
    out, err = batch_process.communicate(timeout=400)
    assert batch_process.returncode == 0, err
    records = record_files(tmp_path / "out")
    assert len(records) == 3
    assert records.items() <= record_files(batch[0]).items()
    assert (tmp_path / "out" / "figures" / "report.pdf").exists()


def test_workers_need_neither_the_project_nor_the_data_nor_a_shared_folder(batch, tmp_path, cluster, other_machine):
    if not other_machine:
        pytest.skip("networks and folders of its own can't be given to a process here (that takes root and `ip`)")
    project, output = copy_of_the_project(tmp_path / "project"), tmp_path / "out"
    output.mkdir()
    hidden = [project, output, *(folder for folder in (fashion_mnist.DATA, fashion_mnist.DEBIAN) if folder.exists())]
    prefix = [*other_machine.prefix, "sh", "-c", HIDE, "sh", *map(str, hidden), "--"]
    cluster.start_worker("far", other_machine.batch_address, prefix)
    done = run_batch("3", *TINY, "--scheduler", cluster.address, "--output", output, root=project)
    out, err = done.communicate(timeout=400)
    assert done.returncode == 0, err
    records = record_files(output)
    assert len(records) == 1
    assert records.items() <= record_files(batch[0]).items()
    (executed,) = (output / "runs").glob("*.ipynb")
    assert "test accuracy" in nbformat.read(executed, 4).cells[-3].source or nbformat.read(executed, 4).cells
    assert not list((tmp_path / "far").glob("**/fashion*")), "the worker keeps nothing"


def test_a_kernel_that_does_not_start_is_tried_again_and_a_cell_that_fails_is_not(tmp_path):
    project = copy_of_the_project(tmp_path / "project")
    broken = project / "notebooks" / "figure_3.ipynb"
    notebook = nbformat.read(broken, as_version=4)
    notebook.cells[-1] = nbformat.v4.new_code_cell(
        f"print('tried', file=open({str(tmp_path / 'tries')!r}, 'a'))\n1 / 0"
    )
    nbformat.write(notebook, broken)
    # A kernel that ends at once when it is started for the first time.
    start = f"mkdir {tmp_path}/started && exit 1; exec {sys.executable} -m ipykernel_launcher -f $0"
    kernel = {"argv": ["sh", "-c", start, "{connection_file}"], "display_name": "Python 3", "language": "python"}
    (tmp_path / "kernels" / "python3").mkdir(parents=True)
    (tmp_path / "kernels" / "python3" / "kernel.json").write_text(json.dumps(kernel))

    arguments = ["3", "4", *TINY, "--jobs", 1, "--output", tmp_path / "out"]
    done = run_batch(*arguments, root=project, env={**os.environ, "JUPYTER_PATH": str(tmp_path)})
    out, err = done.communicate(timeout=400)
    assert (tmp_path / "started").exists()
    assert "1 of 2 runs failed" in err
    assert "figure_3 seed 0, num_epochs 3, train_limit 600: ZeroDivisionError: division by zero" in err
    assert (tmp_path / "tries").read_text() == "tried\n"
    assert len(record_files(tmp_path / "out")) == 1 + 1  # of Figure 3 too, which failed after it


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere", "tcp://"])
def test_a_scheduler_that_does_not_answer_is_one_clear_line(tmp_path, address):
    done = run_batch("4", *TINY, "--scheduler", address, "--output", tmp_path)
    out, err = done.communicate(timeout=100)
    assert done.returncode == 1
    assert err.startswith(f"reproduce.py: no Dask scheduler answers at {address!r}")
    assert err.count("\n") == 1
