"""Run notebooks on Dask workers: processes of this machine, or those of a cluster that is there already.

A cluster's workers need the packages and nothing else, no shared disk and no copy of the project: a plugin hands each
of them, also one that joins later, the project's files and the data set, and a run's record and executed notebook
travel back as its result. What runs on a worker is defined here and pickled by value, since a worker can't import it.

Two kinds of failure are told apart. A run that fails is the batch's to report and is not tried again. Anything else (a
kernel that doesn't start, a full disk) is tried twice more, and the runs of a worker that is lost go to the others.
"""

import logging
import operator
import shutil
import sys
import tempfile
import time
import uuid
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
import dask
import nbformat
import papermill
import psutil
from distributed import Client, KilledWorker, LocalCluster, WorkerPlugin, as_completed, get_worker
from distributed.comm import CommClosedError
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

from common import ROOT, fashion_mnist
from common.formatting import count
from study.notebooks import read
from study.plan import BatchError
from study.stopping import unstoppable

for handler in logging.getLogger("distributed").handlers:  # a batch says itself what its user has to know
    handler.setLevel(logging.CRITICAL)
for module in (__name__, read.__module__):
    cloudpickle.register_pickle_by_value(sys.modules[module])

# What a run needs of the project.
NEEDED = (
    "*.py",
    *(f"{package}/**/*.py" for package in ("common", "fast", "study", "report")),
    "claims.yaml",
    "notebooks/*.ipynb",
    "figures/verdicts.json",
)
RETRIES = 2
GONE = "the Dask scheduler has gone: all finished records are kept, and with a new one the same command goes on"
# A worker or a user may have set others, with which sums are rounded differently.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
# Open files of a batch, and those that each of its workers adds.
FILES, FILES_A_WORKER = 100, 10
# What Dask does many times a second, to watch itself, would take a twentieth of two cores from the training.
UNWATCHED = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
# Workers of this machine talk within it, whatever its user wants of a cluster.
UNENCRYPTED = {"distributed.comm.require-encryption": False}
# A kernel that ends may close a socket before its last use (ipykernel #1518), and tornado would print a traceback.
QUIET = "__import__('logging').getLogger('tornado').setLevel('CRITICAL')"


class ClusterError(BatchError):
    """There are no workers; the message says what was tried and what helps."""


# On a worker


class ProjectCopy(WorkerPlugin):
    """Gives each worker a copy of the project, with the data, in a folder within the worker's own."""

    def __init__(self, name, files):
        self.name, self.files = name, files

    def setup(self, worker):
        for path, content in self.files.items():
            target = Path(worker.local_directory, self.name, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        self.files = {}  # they are on the disk now

    def teardown(self, worker):
        """End the kernels that still run in the copy, if the batch was stopped, and remove it."""
        copy = Path(worker.local_directory, self.name)
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if copy.samefile(process.cwd()):
                    process.kill()
        shutil.rmtree(copy, ignore_errors=True)


class EpochLines:
    """A file that papermill writes a notebook's printed lines to, and that sends them on to the batch."""

    def __init__(self, topic, key):
        self.topic, self.key = topic, key

    def write(self, text):
        for line in text.splitlines():
            get_worker().log_event(self.topic, (self.key, line))

    def flush(self):
        pass


def execute_job(notebook, keys, parameters, project, topic, timeout):
    """Execute the notebook of a job.

    Args:
        notebook: its name, such as "figure_4".
        keys: of the runs, which name their records; the first names the executed notebook.
        parameters: of the notebook; a relative `runs_folder` starts at the project's root.
        project: folder of the project; a relative one starts at the worker's own.
        topic: of Dask's events, to send each printed line to as a pair of the key and the line.
        timeout: seconds after which the run has failed.

    Returns:
        The seconds that it took; the files that it left, from name to bytes; what failed in it, or None.
    """
    logging.getLogger("papermill").setLevel(logging.ERROR)
    started = time.monotonic()
    project = Path(get_worker().local_directory, project)  # stays as it is if it is absolute
    runs_folder = project / parameters["runs_folder"]
    runs_folder.mkdir(exist_ok=True)
    records = [runs_folder / f"{key}.json" for key in keys]
    try:
        executed = execute_notebook(project, notebook, parameters, timeout, stdout_file=EpochLines(topic, keys[0]))
    except TimeoutError:
        failure = "it took longer than --timeout allows"
    except (PapermillExecutionError, DeadKernelError) as error:
        failure = reason(error)
    else:
        # Only the record says that a run is complete: papermill returns from a notebook that exits half-way as well.
        missing = [record.name for record in records if not record.exists()]
        if not missing:
            files = {f"{keys[0]}.ipynb": nbformat.writes(executed).encode()}
            return time.monotonic() - started, files | {path.name: path.read_bytes() for path in records}, None
        failure = f"it ended without leaving its record {missing[0]}"
    return time.monotonic() - started, {}, failure


def reason(exception):
    """Put an exception into one line: for a failing cell its own error, not papermill's page about it."""
    if isinstance(exception, DeadKernelError | KilledWorker):
        who = "Kernel" if isinstance(exception, DeadKernelError) else "Workers"
        return f"{who} died, as they do when memory runs out: fewer runs at a time (--jobs) need less"
    if isinstance(exception, PapermillExecutionError):
        exception = f"{exception.ename}: {exception.evalue}"
    return " ".join(str(exception).split()) or type(exception).__name__


def execute_notebook(project, name, parameters, timeout=None, **options):
    """Execute one of the project's notebooks by papermill, in the project's folder, and return it.

    Raises:
        TimeoutError: it takes longer than `timeout` seconds in all, if there is one; its kernel is shut down.
    """
    config = Config()
    if sys.platform == "linux":
        # Abstract sockets: many kernels may start at once without a clash of ports, and a kill leaves no file behind.
        config.KernelManager.transport = "ipc"
        config.KernelManager.ip = f"@{uuid.uuid4()}"
    # A kernel of the Python that runs this, whichever the notebook names, and whatever the user's kernelspecs are.
    own = KernelSpec(argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], language="python")
    path = project / "notebooks" / f"{name}.ipynb"
    deadline = time.monotonic() + (timeout or 0)
    # What the user's IPython starts with could change numbers, and not everybody has a home that can be written.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        own.env = ONE_THREAD | {"IPYTHONDIR": folder}
        config.KernelManager.connection_file = str(Path(folder, "kernel.json"))
        executed = papermill.execute_notebook(
            read(path),  # papermill would take braces in the path for parameters
            None,  # papermill would write over and over, and not at once
            parameters=parameters,
            kernel_name="python3",
            language="python",
            kernel_manager_class=type("OwnKernel", (AsyncKernelManager,), {"kernel_spec": own}),
            resources={"metadata": {"path": str(project)}},  # papermill's own `cwd` would move the whole process
            progress_bar=False,
            start_timeout=300,
            timeout_func=(lambda cell: max(1, deadline - time.monotonic())) if timeout else None,
            config=config,
            extra_arguments=[
                "--log-level=CRITICAL",  # a kernel's end would be an error in its log
                f"--IPKernelApp.exec_lines={QUIET}",
            ],
            **options,
        )
    executed.metadata.papermill.input_path = str(path)  # instead of the whole notebook once more
    return executed


# In the batch


@dataclass(frozen=True)
class Outcome:
    """How a job ended: after how many seconds, with which files (from name to bytes), or with what failure."""

    seconds: float
    files: dict
    failure: str | None


def execute(jobs, workers, timeout, on_epoch):
    """Execute jobs on workers, in their order.

    Args:
        jobs: a list of `plan.Job`.
        workers: context manager, as from `local_workers` or `cluster_workers`.
        timeout: seconds after which a job has failed.
        on_epoch: function of a job's key and a line that it printed.

    Yields:
        Each job with its `Outcome`, as it ends.

    Raises:
        ClusterError: there are no workers, or there is no scheduler any more.
    """
    with workers as (client, project):
        topic = f"epochs-{client.id}"
        client.subscribe_topic(topic, lambda event: on_epoch(*event[1]))
        # Sent by value, the function is called there by `operator.call`.
        function = client.submit(cloudpickle.loads, cloudpickle.dumps(execute_job), pure=False)
        futures = {}
        for position, job in enumerate(jobs):
            arguments = job.notebook, job.keys, job.parameters_on(project), project, topic, timeout
            future = client.submit(
                operator.call, function, *arguments, pure=False, priority=-position, retries=RETRIES
            )
            futures[future] = job
        for future in as_completed(futures):
            job = futures.pop(future)  # forgotten, it frees the worker of its result
            if future.status == "finished":
                yield job, Outcome(*future.result())
            elif future.cancelled():
                raise ClusterError(GONE)
            else:
                yield job, Outcome(0.0, {}, reason(future.exception()))


@contextmanager
def local_workers(jobs):
    """Start worker processes on this machine; yield a `distributed.Client` and the project's folder.

    Raises:
        ClusterError: they can't be started.
    """
    allow_open_files(jobs)
    with dask.config.set(UNWATCHED | UNENCRYPTED), ExitStack() as stack:
        try:
            with unstoppable():
                workers = LocalCluster(
                    n_workers=jobs,
                    threads_per_worker=1,  # two runs of one thread are faster than one of two, on any number of cores
                    memory_limit=0,
                    dashboard_address=":0",  # any free port: several batches may run at once
                    silence_logs=logging.CRITICAL,
                )
                client = stack.enter_context(Client(stack.enter_context(workers)))
        except Exception as error:  # whatever it is that Dask fails on
            raise ClusterError(
                f"the workers couldn't be started ({reason(error)}): run again, or with fewer --jobs"
            ) from error
        yield client, str(ROOT)


def allow_open_files(jobs):
    """Let this process open as many files as so many workers take.

    Raises:
        ClusterError: it is not allowed so many.
    """
    if sys.platform == "win32":  # which knows no such limit
        return
    import resource

    needed = FILES + FILES_A_WORKER * jobs
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        lack = f"{count(jobs, 'run')} at a time may open {needed} files, and {hard} are allowed"
        raise ClusterError(f"{lack}: raise `ulimit -n`, or give fewer --jobs")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


@contextmanager
def cluster_workers(scheduler):
    """Give the project to the workers of a running cluster; yield a `distributed.Client` and the copy's folder.

    Raises:
        ClusterError: no scheduler answers at the address.
    """
    with ExitStack() as stack:
        try:
            client = stack.enter_context(Client(scheduler, timeout="10s"))
        except Exception as error:  # whatever it is that Dask fails on
            raise ClusterError(
                f"no Dask scheduler answers at {scheduler!r} ({reason(error)}): expected an address such "
                "as tcp://192.168.0.1:8786, which `dask scheduler` prints when it starts"
                + ", and in Dask's configuration, under distributed.comm.tls, the certificates for it"
                * scheduler.startswith("tls://")
            ) from None
        name = f"project-{client.id}"  # several batches, of several versions, may share a cluster
        try:
            client.register_plugin(ProjectCopy(name, travelling_files()), name=name)
            if not client.scheduler_info()["workers"]:
                print(f"No worker has joined yet: waiting for `dask worker {scheduler} --nthreads 1`", flush=True)
            yield client, name
        except CommClosedError:
            raise ClusterError(GONE) from None
        finally:
            with suppress(Exception):  # whatever Dask fails on where the scheduler has gone
                client.unregister_worker_plugin(name)


def travelling_files():
    """Read what a run needs, project and data, into a dict from relative path to bytes."""
    paths = {path.relative_to(ROOT): path for pattern in NEEDED for path in ROOT.glob(pattern)}
    folder = fashion_mnist.find()
    for name in fashion_mnist.FILES:
        path = folder / name if (folder / name).is_file() else folder / f"{name}.gz"
        paths[fashion_mnist.DATA.relative_to(ROOT) / fashion_mnist.LAYOUT / path.name] = path
    return {relative.as_posix(): path.read_bytes() for relative, path in paths.items()}
