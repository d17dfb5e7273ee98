"""The batch on a Dask cluster: a scheduler and workers that are processes of their own and talk over TCP."""

import contextlib
import gc
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import dask
import nbformat
import pytest
from conftest import ROOT, TINY, record_files
from distributed import Client, Security

from common import fashion_mnist
from reproduce import main
from study import cluster
from tests.faults import copy_project, shorten_report

DASK = [sys.executable, "-m", "dask"]
HIDE = 'while [ "$1" != -- ]; do mount -t tmpfs none "$1" || exit; shift; done; shift; exec "$@"'


def start_batch(*arguments, root=ROOT, **options):
    command = [sys.executable, root / "reproduce.py", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def wait_until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(autouse=True)
def no_forgotten_client():
    """Collect what a refused connection leaves: Dask closes it then, which hangs within the start of a cluster."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def start():
    """A function that starts a process in a folder of its own; in the end each is killed, with its descendants."""
    processes = []

    def start_process(command, folder):
        folder.mkdir()
        environment = {name: value for name, value in os.environ.items() if name != "FASHION_MNIST"}
        with (folder / "log").open("w", encoding="utf-8") as log:
            options = {"stdout": log, "stderr": subprocess.STDOUT, "start_new_session": True}
            processes.append(subprocess.Popen(command, cwd=folder, env=environment, **options))
        return processes[-1]

    yield start_process
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def other_network():
    """Name a network of its own, joined to this machine's by a cable; None where only root could set that up."""
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
        yield SimpleNamespace(name=name, address=f"{net}.1")
    except (OSError, subprocess.CalledProcessError):
        yield None
    finally:
        if shutil.which("ip"):
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)


@pytest.fixture(scope="module")
def security(tmp_path_factory):
    """Let every process that is started find a certificate in its Dask's configuration; None without openssl."""
    if shutil.which("openssl") is None:
        yield None
        return
    folder = tmp_path_factory.mktemp("certificate")
    names = {"key": str(folder / "key.pem"), "cert": str(folder / "cert.pem")}
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=cluster"]
    subprocess.run([*command, "-keyout", names["key"], "-out", names["cert"]], check=True, capture_output=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DASK_DISTRIBUTED__COMM__TLS__CA_FILE", names["cert"])
        for who in ("SCHEDULER", "WORKER", "CLIENT"):
            for name, path in names.items():
                patch.setenv(f"DASK_DISTRIBUTED__COMM__TLS__{who}__{name.upper()}", path)
        yield Security(tls_ca_file=names["cert"], tls_client_key=names["key"], tls_client_cert=names["cert"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory, start, other_network, security):
    """Run two figures on two workers and kill one of these in the middle; return the batch's folder.

    Each worker has two threads, so that two runs may share its process. Where there is openssl, they talk by TLS.
    Where that is permitted the workers have a network of their own, which reaches the batch and nothing else, and see
    neither the project, nor the data, nor the batch's folder.
    """
    protocol = "tls" if security else "tcp"
    folder = tmp_path_factory.mktemp("cluster")
    project, output, contact = folder / "project", folder / "output", folder / "scheduler.json"
    shorten_report(copy_project(project))
    output.mkdir()
    options = ["--protocol", protocol, "--port", "0", "--no-dashboard", "--scheduler-file", contact]
    # Should the tests themselves be killed, the scheduler ends after a while, and with it the workers.
    start([*DASK, "scheduler", *options, "--idle-timeout", "300s"], folder / "scheduler")
    wait_until(contact.exists)
    port = json.loads(contact.read_text(encoding="utf-8"))["address"].rpartition(":")[2]
    address, prefix = "127.0.0.1", []
    if other_network:
        hidden = [project, output, *(path for path in (fashion_mnist.DATA, fashion_mnist.DEBIAN) if path.exists())]
        prefix = [
            "ip",
            "netns",
            "exec",
            other_network.name,
            "unshare",
            "--mount",
            "sh",
            "-c",
            HIDE,
            "sh",
            *hidden,
            "--",
        ]
        address = other_network.address
    worker = [*prefix, *DASK, "worker", f"{protocol}://{address}:{port}", "--nthreads", "2", "--no-dashboard"]
    workers = {
        name: start([*worker, "--name", name, "--local-directory", folder / name], folder / name)
        for name in ("first", "second")
    }
    with Client(f"{protocol}://127.0.0.1:{port}", security=security) as client:
        client.wait_for_workers(2, timeout=120)
        scheduler = ["--scheduler", f"{protocol}://127.0.0.1:{port}"]
        with start_batch("3", "4", *TINY, *scheduler, "--output", output, root=project) as batch_process:
            for line in batch_process.stdout:
                if "epoch 1 of 3" in line:
                    break
            known = client.scheduler_info()["workers"]
            busy = [known[address]["name"] for address, keys in client.processing().items() if keys]
            os.killpg(workers[busy[0]].pid, signal.SIGKILL)
            _, err = batch_process.communicate(timeout=400)
        assert batch_process.returncode == 0, err
        (survivor,) = workers.keys() - {busy[0]}
    return SimpleNamespace(output=output, survivor=folder / survivor, protocol=protocol)


def test_the_records_are_those_of_this_machine_though_a_worker_was_killed(batch, finished):
    records = record_files(finished.output)
    assert len(records) == 2
    assert records.items() <= record_files(batch[0]).items()


def test_the_executed_notebooks_travel_back_and_the_worker_keeps_nothing(finished):
    notebooks = [nbformat.read(path, 4) for path in (finished.output / "runs").glob("*.ipynb")]
    assert len(notebooks) == 2
    for notebook in notebooks:
        assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert not list(finished.survivor.glob("**/my_utils.py"))


def test_workers_need_neither_the_project_nor_the_data_nor_a_shared_folder(finished, other_network):
    if not other_network:
        pytest.skip("a process can't be given its own network and folders here: that takes root and `ip`")
    assert (finished.output / "figures" / "report.pdf").exists()


def test_workers_may_talk_by_tls_with_certificates_of_dasks_configuration(finished, security):
    if not security:
        pytest.skip("openssl is not installed, which makes the certificate")
    assert finished.protocol == "tls"
    assert len(record_files(finished.output)) == 2


def test_a_kernel_that_does_not_start_is_tried_again_and_a_cell_that_fails_is_not(tmp_path):
    project = copy_project(tmp_path / "project")
    broken = project / "notebooks" / "figure_3.ipynb"
    notebook = nbformat.read(broken, as_version=4)
    notebook.cells[-1] = nbformat.v4.new_code_cell(
        f"print('tried', file=open({str(tmp_path / 'tries')!r}, 'a'))\n1 / 0"
    )
    nbformat.write(notebook, broken)
    # A kernel that ends at once when it is started for the first time.
    start = f"""import os
if not os.path.exists({str(tmp_path / "started")!r}):
    os.mkdir({str(tmp_path / "started")!r})
    raise SystemExit(1)
from ipykernel import kernelapp
kernelapp.launch_new_instance()"""
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "ipykernel_launcher.py").write_text(start, encoding="utf-8")

    arguments = ["3", *TINY, "--jobs", 1, "--output", tmp_path / "out"]
    done = start_batch(*arguments, root=project, env={**os.environ, "PYTHONPATH": str(tmp_path / "first")})
    _, err = done.communicate(timeout=400)
    assert (tmp_path / "started").exists()
    assert "figure_3 seed 0, num_epochs 3, train_limit 600: ZeroDivisionError: division by zero" in err
    assert (tmp_path / "tries").read_text(encoding="utf-8") == "tried\n"


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nowhere", "tcp://", "tls://127.0.0.1:1"])
def test_a_scheduler_that_does_not_answer_is_one_clear_line(tmp_path, address):
    with pytest.raises(SystemExit, match=f"^reproduce.py: no Dask scheduler answers at '{address}'") as refused:
        main(["4", *TINY, "--scheduler", address, "--output", str(tmp_path)])
    assert "\n" not in refused.value.code


def test_a_scheduler_that_goes_in_mid_batch_is_one_clear_line(tmp_path, start):
    contact = tmp_path / "scheduler.json"
    command = [*DASK, "scheduler", "--protocol", "tcp", "--port", "0", "--no-dashboard", "--scheduler-file", contact]
    scheduler = start([*command, "--idle-timeout", "300s"], tmp_path / "scheduler")
    wait_until(contact.exists)
    address = f"tcp://127.0.0.1:{json.loads(contact.read_bytes())['address'].rpartition(':')[2]}"
    with start_batch("4", *TINY, "--scheduler", address, "--output", tmp_path / "output") as batch_process:
        for line in batch_process.stdout:
            if line.startswith("No worker has joined yet"):
                break
        scheduler.terminate()
        _, err = batch_process.communicate(timeout=100)
    assert batch_process.returncode == 1
    assert err == f"reproduce.py: {cluster.GONE}\n"


def test_a_batch_that_is_stopped_leaves_nothing_on_a_worker(tmp_path):
    """Dask itself lets a run go on that was begun: its kernel runs in the copy of the project."""
    copy = cluster.ProjectCopy("copy", {"notebooks/a.ipynb": b"{}"})
    worker = SimpleNamespace(local_directory=str(tmp_path))
    copy.setup(worker)
    with (
        subprocess.Popen(["sleep", "100"], cwd=tmp_path / "copy") as kernel,
        subprocess.Popen(["sleep", "100"]) as other,
    ):
        copy.teardown(worker)
        assert kernel.wait(timeout=10) == -signal.SIGKILL
        assert other.poll() is None
        other.kill()
    assert not (tmp_path / "copy").exists()


def test_as_many_files_may_be_open_as_the_workers_take():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, limits[1]))
        cluster.allow_open_files(4)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 100
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_too_few_open_files_are_one_clear_line(tmp_path):
    limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    process = start_batch("4", *TINY, "--output", tmp_path, preexec_fn=limit)
    _, err = process.communicate(timeout=100)
    assert err.startswith("reproduce.py: 1 run at a time may open 110 files, and 64 are allowed: raise `ulimit -n`")
    assert err.count("\n") == 1


def test_workers_of_this_machine_leave_its_cores_to_the_training():
    """Dask's defaults wake every process fifty times a second; whoever starts workers keeps his own settings."""
    before = {name: dask.config.get(name) for name in cluster.UNWATCHED}
    assert before != cluster.UNWATCHED
    with cluster.local_workers(1) as (client, _):
        for name, value in cluster.UNWATCHED.items():
            assert list(client.run(dask.config.get, name).values()) == [value], name
    assert before == {name: dask.config.get(name) for name in cluster.UNWATCHED}


def test_workers_of_this_machine_start_though_its_user_wants_every_cluster_to_encrypt():
    settings = {"distributed.comm.require-encryption": True, "distributed.comm.default-scheme": "tls"}
    with dask.config.set(settings), cluster.local_workers(1) as (client, _):
        assert client.submit(abs, -1).result() == 1
