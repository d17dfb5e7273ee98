"""A batch under faults: every step fails once in every way, and processes are killed at random moments.

The batch is the real one, with real workers and kernels, in a copy of the project where one notebook of a figure and
that of the report are cut down to what they read and write. It runs in forks of one process that has imported
everything, since a thousand batches would otherwise spend hours on that.
"""

import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import nbformat
import psutil

ROOT = Path(__file__).parent.parent
SHIM = ROOT / "tests" / "shim"
KINDS = ("error", "disk full", "no permission", "killed")
PATIENCE = 300  # seconds; a batch that takes longer hangs

RUN = """
import torch
import my_utils as mu
from common.account import Account, state_of_net
from common.parameters import check_parameters
from study.audit import beginning
from study.record import write_record
parameters = check_parameters(globals())
net = mu.net_of(parameters)
correct = torch.rand(10000) < torch.rand(1)
accuracy = correct.sum().item() / 10000
history = [{"train_loss": 1.0, "train_accuracy": accuracy, "test_accuracy": accuracy}] * num_epochs
net.account = Account(beginning(parameters))
for measures in history:
    net.account.add(measures, state_of_net(net))
write_record("figure_4", parameters, net, history, correct)
"""


class Broken(AssertionError):
    """A promise was broken: the message says which, and after what."""


def copy_project(folder):
    """Copy what a batch needs of the project into a new folder, and return it."""
    ignored = shutil.ignore_patterns(".*", "data", "runs", "trial", "__pycache__", "tests", "benchmarks")
    return shutil.copytree(ROOT, folder, ignore=ignored)


def small_project(folder):
    """Copy the project into a folder, with a small notebook of Figure 4 and a small report."""
    shorten_report(copy_project(folder))
    figure = nbformat.read(folder / "notebooks" / "figure_4.ipynb", 4)
    (parameters,) = (cell for cell in figure.cells if "parameters" in cell.metadata.get("tags", []))
    figure.cells = [parameters, nbformat.v4.new_code_cell(RUN)]
    nbformat.write(figure, folder / "notebooks" / "figure_4.ipynb")
    return folder


def shorten_report(folder):
    """Leave of the report in a copy of the project little more than its title, and return the folder."""
    report = nbformat.read(folder / "notebooks" / "report.ipynb", 4)
    report.cells = [
        *report.cells[:1],
        *(cell for cell in report.cells if "parameters" in cell.metadata.get("tags", [])),
    ]
    nbformat.write(report, folder / "notebooks" / "report.ipynb")
    return folder


def warm_up(project):
    """Import the batch from a project, with the shim, once for all the forks."""
    sys.path[:0] = [str(SHIM), str(project)]
    import sitecustomize

    if Path(sitecustomize.__file__).parent != SHIM:  # the system has one of its own
        del sys.modules["sitecustomize"]
        import sitecustomize

    os.environ["PYTHONPATH"] = str(SHIM)
    os.environ["DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD"] = "fork"
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    from report import drawings, publish

    publish.draw_all = lambda study: {  # the others are slow to draw, and written in the same way
        **{name: drawings.draw_result(result) for name, result in study.figures.items()},
        "overview": drawings.draw_overview(list(study.figures.values())),
    }


class Batch:
    """One batch in a fork: `reproduce.py 4 --seeds ... --jobs ... --output ...`."""

    def __init__(self, output, seeds, jobs=1, **fault):
        self.printed = output.parent / f"{output.name}.txt"
        self.printed.unlink(missing_ok=True)
        self.pid = os.fork()
        if self.pid == 0:
            os.environ.update(fault)
            descriptor = os.open(self.printed, os.O_WRONLY | os.O_CREAT)
            os.dup2(descriptor, 1)
            os.dup2(descriptor, 2)
            code = 70
            try:
                import reproduce

                arguments = ["4", "-p", "num_epochs", "1", "--seeds", *seeds, "--jobs", jobs, "--output", output]
                reproduce.main([str(argument) for argument in arguments])
                code = 0
            except SystemExit as ended:
                os.write(2, f"{ended.code}\n".encode())
                code = 1
            except BaseException as error:
                os.write(2, f"Traceback of {type(error).__name__}: {error}\n".encode())
            finally:
                sys.stdout.flush()
                os._exit(code)
        self.process = psutil.Process(self.pid)

    def wait(self):
        """Wait for the end, and return the exit code: 0 for success, 1 for an error of one line, -9 if killed."""
        deadline = time.monotonic() + PATIENCE
        while self.is_running():
            if time.monotonic() > deadline:
                self.process.kill()
                raise Broken(f"the batch hangs: {self.text()}")
            time.sleep(0.05)
        if "Traceback" in self.text():
            raise Broken(f"a traceback: {self.text()}")
        return self.code

    def is_running(self):
        pid, status = os.waitpid(self.pid, os.WNOHANG) if not hasattr(self, "code") else (self.pid, 0)
        if pid and not hasattr(self, "code"):
            self.code = os.waitstatus_to_exitcode(status)
        return not pid

    def text(self):
        return self.printed.read_text(encoding="utf-8")


def files(output):
    """Return what a batch left, by name: records, table, drawings and PDF; executed notebooks hold times."""
    left = [*output.glob("runs/*.json"), *output.glob("figures/*")]
    return {path.name: path.read_bytes() for path in left if not path.name.startswith(".")}


def check(output, allowed, finished):
    """Check that each file is one of those allowed, whole, and that no finished record is lost or changed."""
    left = files(output)
    for name, content in left.items():
        wholes = [state[name] for state in allowed if name in state]
        rows = {row for whole in wholes for row in whole.splitlines()}
        if content not in wholes and not (name == "runs.jsonl" and rows.issuperset(content.splitlines())):
            raise Broken(f"{name} is none of the expected files")
    for name, content in finished.items():
        if left.get(name) != content:
            raise Broken(f"{name} was finished and is lost or changed")
    for path in output.glob("runs/*.ipynb"):
        nbformat.validate(json.loads(path.read_bytes()))


def finished_records(output):
    return {name: content for name, content in files(output).items() if name.startswith("seed")}


def run_to_the_end(output, seeds, jobs=1):
    batch = Batch(output, seeds, jobs)
    if batch.wait():
        raise Broken(f"a batch without a fault failed: {batch.text()}")
    return files(output)


@contextmanager
def scratch():
    """Give a folder with a warmed-up small project in it."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        warm_up(small_project(Path(folder) / "project"))
        yield Path(folder)


# A fault at every step


def count_steps(output, before):
    """List the steps of a batch that starts from a folder like `before`, such as "rename …/runs.jsonl"."""
    shutil.copytree(before, output)
    log = output.with_suffix(".log")
    Batch(output, [0, 1], FAULT_FOLDER=str(output), FAULT_LOG=str(log), FAULT_AT="-1", FAULT_KIND="killed").wait()
    return log.read_text(encoding="utf-8").splitlines()


def fail_at(fault, output, before, reference, known):
    """Let one step fail, check what is left, run again, and return how the faulty batch ended.

    Args:
        fault: number of the step, and one of `KINDS`.
        output: folder for the batch, made anew and removed.
        before: folder with which it starts.
        reference: what a batch without a fault leaves.
        known: what faulty batches have left before; from each, running again is tried once.
    """
    number, kind = fault
    shutil.copytree(before, output)
    log = output.with_suffix(".log")
    batch = Batch(output, [0, 1], FAULT_FOLDER=str(output), FAULT_LOG=str(log), FAULT_AT=str(number), FAULT_KIND=kind)
    ended = {0: "absorbed", 1: "error of one line"}.get(batch.wait(), "killed")
    if len(log.read_text(encoding="utf-8").splitlines()) <= number:
        ended = "not reached"
    check(output, [files(before), reference], finished_records(before))
    kept = finished_records(output)
    left = sorted(
        (re.sub(r"\.\w+\.partial", "", path.name), b"" if path.suffix == ".ipynb" else path.read_bytes())
        for path in output.glob("*/*")
    )
    if left not in known:
        known.append(left)
        if run_to_the_end(output, [0, 1]) != reference:
            raise Broken("the batch that was run again ends with other bytes than one without a fault")
        check(output, [reference], kept)
    shutil.rmtree(output)
    return ended


def fail_at_every_step(folder, share=1.0, seed=0, lanes=1):
    """Let every step, or a random share of them, fail in every way; return how often the batch ended in which way.

    What comes before the drawings starts from a folder with one finished run of two, the rest from one in which both
    are finished and not yet drawn.
    """
    before, recorded, whole = folder / "before", folder / "recorded", folder / "whole"
    run_to_the_end(before, [0])
    shutil.copytree(before, whole)
    reference = run_to_the_end(whole, [0, 1])
    shutil.copytree(before, recorded)
    shutil.copytree(whole / "runs", recorded / "runs", dirs_exist_ok=True)
    run_steps, draw_steps = count_steps(folder / "run", before), count_steps(folder / "draw", recorded)
    first, later = (next(n for n, step in enumerate(steps) if ".svg" in step) for steps in (run_steps, draw_steps))
    places = [(before, n) for n in range(first)] + [(recorded, n) for n in range(later, len(draw_steps))]
    faults = [(start, (number, kind)) for start, number in places for kind in KINDS]
    faults = random.Random(seed).sample(faults, round(share * len(faults)))
    results = [folder / f"lane-{lane}.jsonl" for lane in range(lanes)]
    pids = []
    for lane in range(lanes):
        pids.append(os.fork())
        if pids[-1] == 0:
            _fail_in_a_lane(faults[lane::lanes], results[lane], reference)
            os._exit(0)
    for pid in pids:
        os.waitpid(pid, 0)
    tried = [json.loads(line) for path in results for line in path.open(encoding="utf-8")]
    broken = [f"{kind} at step {number}: {ended}" for number, kind, ended in tried if ended.startswith("BROKEN")]
    if broken or len(tried) < len(faults):
        raise Broken("\n".join(broken) or f"only {len(tried)} of {len(faults)} faults were tried")
    return {"steps": len(places), "faults": len(faults), **Counter(ended for _, _, ended in tried)}


def _fail_in_a_lane(faults, results, reference):
    known = []
    with results.open("w", buffering=1, encoding="utf-8") as file:
        for before, (number, kind) in faults:
            try:
                ended = fail_at((number, kind), results.with_suffix(".batch"), before, reference, known)
            except Exception as error:
                ended = f"BROKEN {type(error).__name__}: {error}"
                shutil.rmtree(results.with_suffix(".batch"), ignore_errors=True)
            print(f"{kind} at step {number}: {ended}", flush=True)
            file.write(json.dumps([number, kind, ended]) + "\n")
            results.with_suffix(".log").unlink(missing_ok=True)


# Kills at random moments


def kill_at_random(folder, num_kills, seed=0, num_seeds=6):
    """Kill kernels, workers and batches until so many are dead; run on after each; return how many of which."""
    choice = random.Random(seed)
    seeds = list(range(num_seeds))
    started = time.monotonic()
    reference = run_to_the_end(folder / "calm", seeds, jobs=2)
    pace = (time.monotonic() - started) / num_seeds  # seconds a run: so that some come to their end between the kills
    killed, storms, finished = Counter(), 0, {}
    output = folder / "storm-0"
    batch = Batch(output, seeds, jobs=2)
    while killed.total() < num_kills:
        time.sleep(choice.uniform(0, 2 * pace))
        if not batch.is_running():
            if batch.code == 0:
                if files(output) != reference:
                    raise Broken("an interrupted batch ends with other bytes than an uninterrupted one")
                storms, finished = storms + 1, {}
                output = folder / f"storm-{storms}"
            elif "Traceback" in batch.text():
                raise Broken(f"a traceback: {batch.text()}")
            batch = Batch(output, seeds, jobs=2)
            continue
        target = choice.choice(["kernel", "worker", "batch"])
        if kill(batch, target, choice):
            killed[target] += 1
            check(output, [reference], finished)
            finished = finished_records(output)
    batch.process.kill()
    batch.wait()
    if run_to_the_end(output, seeds, jobs=2) != reference:
        raise Broken("an interrupted batch ends with other bytes than an uninterrupted one")
    return {"kills": killed.total(), **killed, "batches": storms + 1}


def kill(batch, target, choice):
    """Kill a random process of a kind; False if there is none at the moment."""
    if target == "batch":
        batch.process.send_signal(signal.SIGKILL)
        return True
    try:
        below = batch.process.children(recursive=True)
        kernels = [process for process in below if "ipykernel_launcher" in process.cmdline()]
        workers = [process for process in batch.process.children() if process not in kernels]
        choice.choice(kernels if target == "kernel" else workers).send_signal(signal.SIGKILL)
    except (psutil.Error, IndexError):
        return False
    return True
