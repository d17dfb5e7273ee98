"""Reproduce the report: run its figures' notebooks with papermill, draw the figures, and typeset the PDF.

    claims.yaml --> papermill(figure_N.ipynb, parameters, seed) --> runs/*.json --> figures/runs.jsonl
    figures/runs.jsonl --> figures/*.svg, report.ipynb --> figures/report.pdf

A run that has left its record is not run again, so a batch that was stopped goes on where it was.
"""

import argparse
import ast
import logging
import os
import sys
import tempfile
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import nbformat
import papermill
from distributed import Client, LocalCluster, as_completed, get_worker
from filelock import FileLock, Timeout
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

import claims
import evidence
import fashion_mnist
import my_utils as mu
import records
import reporting
import signals
import verdicts
from typst_exporter import TypstPDFExporter

ROOT = records.ROOT
QUICK = {"num_epochs": 3, "train_limit": 3000}
DAY = 24 * 60 * 60  # seconds


@dataclass(frozen=True)
class Run:
    """One execution of a notebook: its name, such as "figure_4", and its complete parameters."""

    notebook: str
    parameters: dict

    @property
    def key(self):
        return records.run_key(self.parameters)

    @property
    def record_path(self):
        return Path(self.parameters["runs_folder"]) / f"{self.key}.json"

    @property
    def epoch_cost(self):
        """Time of an epoch relative to that of Figure 4, roughly: to start the longest runs first."""
        cost = 2.0 if self.parameters["batch_norm"] else 1.0
        cost += 1.0 if self.parameters["batch_size"] <= 32 else 0.0
        cost += 4.0 if self.parameters["augmentation"] else 0.0
        return cost * self.parameters["train_limit"] / 60000 + 0.1

    def __str__(self):
        defaults = claims.notebook_defaults(self.notebook)
        usual = ("seed", "runs_folder")
        changed = [f"{n} {v}" for n, v in self.parameters.items() if n not in usual and v != defaults[n]]
        return ", ".join([f"{self.notebook} seed {self.parameters['seed']}", *changed])


class BatchError(Exception):
    """Something that the user can mend; the message says what and how."""


# Planning


def plan(figures, sweeps, seeds, overrides, runs_folder):
    """List the runs of some figures and sweeps, every parameter checked, before any kernel starts.

    Raises:
        ParameterError: an overridden parameter is unknown, of the wrong type, or out of range.
    """
    figures = [(f"figure_{figure}", claims.notebook_defaults(f"figure_{figure}")) for figure in figures]
    for _, setting in figures:
        records.check_names(overrides, setting)
    swept = [pair for sweep in sweeps for pair in sweep_settings(sweep)]
    runs = {}
    for seed in seeds:
        changes = overrides | {"seed": seed, "runs_folder": str(runs_folder)}
        longest = {}  # a shorter run of a sweep is the beginning of a longer one
        for notebook, setting in swept:
            run = Run(notebook, records.check_parameters(setting | changes))
            training = records.run_key(run.parameters | {"num_epochs": None})
            longest[training] = max(longest.get(training, run), run, key=lambda run: run.parameters["num_epochs"])
        own = [Run(notebook, records.check_parameters(setting | changes)) for notebook, setting in figures]
        runs |= {run.key: run for run in [*longest.values(), *own]}
    return list(runs.values())


def sweep_names():
    return [*claims.load()["sweeps"], "held_out", "factorial", "beyond"]


def sweep_settings(name):
    """List pairs of notebook and setting of one of the `sweep_names`."""
    known = claims.load()
    if name == "factorial":
        return [(known["factorial"]["notebook"], setting) for _, setting in claims.factorial_settings(known)]
    if name == "beyond":
        searches = [claims.beyond_settings(search, known) for search in known["beyond"]]
        return [("beyond", setting) for held_out, chosen in searches for setting in [*held_out.values(), chosen]]
    if name == "held_out":
        settings_of, names = claims.held_out_settings, known["held_out"]
    else:
        settings_of, names = claims.sweep_settings, [name]
    return [(known["sweeps"][sweep]["notebook"], setting) for sweep in names for setting in settings_of(sweep, known)]


# Running


class EpochLines:
    """A file that papermill writes a notebook's printed lines to, and that sends them on to the batch."""

    def __init__(self, run_key):
        self.run_key = run_key

    def write(self, text):
        for line in text.splitlines():
            get_worker().log_event("epochs", (self.run_key, line))

    def flush(self):
        pass


def execute(run, timeout=DAY):
    """Execute one run's notebook, keep the executed notebook beside the record, and return how long it took."""
    logging.getLogger("papermill").setLevel(logging.ERROR)
    started = time.monotonic()
    notebook = execute_notebook(run.notebook, run.parameters, timeout, stdout_file=EpochLines(run.key))
    # Only the record says that the run is complete: papermill returns from a notebook that exited half-way as well.
    if not records.read_records(run.record_path):
        raise BatchError(f"{run} ended without leaving its record {run.record_path}")
    records.write_at_once(run.record_path.with_suffix(".ipynb"), nbformat.writes(notebook))
    return time.monotonic() - started


def execute_notebook(name, parameters, timeout=DAY, **options):
    """Execute one of the project's notebooks by papermill, from the project's root, and return it.

    Raises:
        TimeoutError: it takes longer than so many seconds in all; its kernel is shut down.
    """
    config = Config()
    if sys.platform == "linux":
        # Abstract sockets: many kernels may start at once without a clash of ports, and a kill leaves no file behind.
        config.KernelManager.transport = "ipc"
        config.KernelManager.ip = f"@{uuid.uuid4()}"
    deadline = time.monotonic() + timeout
    return papermill.execute_notebook(
        ROOT / "notebooks" / f"{name}.ipynb",
        None,  # papermill would write over and over, and not at once
        parameters=parameters,
        cwd=ROOT,
        progress_bar=False,
        start_timeout=300,
        timeout_func=lambda cell: max(1, deadline - time.monotonic()),
        config=config,
        **options,
    )


class Progress:
    """Print what the batch does, epoch by epoch, with the time that it will take at the pace so far."""

    def __init__(self, runs):
        self.names = {run.key: str(run) for run in runs}
        self.costs = {run.key: run.epoch_cost for run in runs}
        self.total = sum(run.epoch_cost * run.parameters["num_epochs"] for run in runs)
        self.done = 0.0
        self.started = time.monotonic()
        self.lock = threading.Lock()

    def on_epoch(self, event):
        key, line = event[1]
        if not line.startswith("epoch "):
            return
        with self.lock:
            self.done += self.costs[key]
            share = self.done / self.total
            left = (time.monotonic() - self.started) * (1 - share) / share
            estimate = f" [{minutes(left)} left]" if share > 0.1 else ""  # the first epochs tell too little
            print(f"{self.names[key]}, {line}{estimate}", flush=True)


def minutes(seconds):
    """Write a duration as minutes and seconds: 3:07."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def start_workers(number):
    """Start processes that execute runs."""
    try:
        return LocalCluster(
            n_workers=number,
            threads_per_worker=1,  # two runs of one thread are faster than one of two, and don't depend on the cores
            memory_limit=0,
            dashboard_address=":0",  # any free port: several batches may run at once
            silence_logs=logging.CRITICAL,
        )
    except Exception as error:
        raise BatchError(f"the workers couldn't be started ({reason(error)}): run again") from error


def run_all(runs, jobs, table, timeout):
    """Execute the runs, `jobs` at a time, each within `timeout` seconds, and return how many each took, by key.

    The runs of a seed come before those of the next, the longest first. Each record goes into the table at once.

    Raises:
        BatchError: some runs failed; the others were finished all the same.
    """
    progress = Progress(runs)
    seconds, failed = {}, []
    with start_workers(min(jobs, len(runs))) as cluster, Client(cluster) as client:
        client.subscribe_topic("epochs", progress.on_epoch)
        longest_first = sorted(
            runs, key=lambda run: (run.parameters["seed"], -run.epoch_cost * run.parameters["num_epochs"])
        )
        futures = {
            client.submit(execute, run, timeout, key=run.key, priority=-position, retries=0): run
            for position, run in enumerate(longest_first)
        }
        for future in as_completed(futures):
            run = futures[future]
            if future.status == "finished":
                seconds[run.key] = future.result()
                records.merge(table, records.read_records(run.record_path))
                print(f"{run}: done in {minutes(seconds[run.key])}", flush=True)
            else:
                failed.append(f"{run}: {reason(future.exception())}")
                print(f"{run}: FAILED", flush=True)
    if failed:
        raise BatchError(f"{len(failed)} of {len(runs)} runs failed:\n  " + "\n  ".join(failed))
    return seconds


def reason(exception):
    """Put an exception into one line: for a failing cell its own error, not papermill's page about it."""
    if isinstance(exception, PapermillExecutionError):
        return " ".join(f"{exception.ename}: {exception.evalue}".split())
    if isinstance(exception, TimeoutError):
        return "took longer than --timeout allows"
    return " ".join(str(exception).split()) or type(exception).__name__


@contextmanager
def alone_in(output):
    """Keep other batches out of a folder, where two would overwrite each other's table; the lock ends with the batch.

    What a killed batch has half written is removed.

    Raises:
        BatchError: another batch is at work there.
    """
    try:
        with FileLock(output / "runs" / "batch.lock", timeout=0):
            for path in output.glob(f"*/.*{records.PARTIAL}"):
                if time.time() - path.stat().st_mtime > 60:  # a younger one may be a run's that was started by hand
                    path.unlink()
            yield
    except Timeout:
        raise BatchError(f"another batch is at work in {output}: wait for it, or choose another --output") from None


# Results


def draw(results, found, folder):
    """Draw `figure_N.svg` of every figure that has results, `overview.svg`, and the evidence."""
    figures = {notebook: reporting.draw_result(result) for notebook, result in results.items()}
    for name, drawing in {**figures, "overview": reporting.draw_overview(results), **evidence.drawings(found)}.items():
        records.write_at_once(folder / f"{name}.svg", mu.to_svg(drawing))


def typeset(figures_folder, overrides):
    """Execute the report's notebook on the records in a folder, and typeset it there as report.pdf."""
    try:
        notebook = execute_notebook("report", {"figures_folder": str(figures_folder), "overrides": overrides})
        pdf, _ = TypstPDFExporter().from_notebook_node(notebook)
    except Exception as error:
        raise BatchError(f"the report couldn't be made ({reason(error)}): run again, all records are kept") from error
    records.write_at_once(figures_folder / "report.pdf", pdf)


def summary(results, seeds, seconds):
    """Put the batch's figures into a table: reported and measured test accuracy, difference in points, time."""
    lines = ["figure    seed  reported  measured  points   time"]
    for notebook, result in results.items():
        for record in result["records"]:
            if record["seed"] in seeds:
                key, accuracy = records.record_key(record), record["test_accuracy"]
                took = minutes(seconds[key]) if key in seconds else "before"
                lines.append(
                    f"{notebook}  {record['seed']:4d}  {result['reported']:8.4f}  {accuracy:8.4f}  "
                    f"{100 * (accuracy - result['reported']):+6.2f}  {took:>6}"
                )
    return "\n".join(lines)


def check(runs, jobs, timeout, table):
    """Execute runs again, in a folder that is thrown away, and compare them with a table of records.

    Raises:
        BatchError: some are different.
    """
    known = records.read_records(table)
    with tempfile.TemporaryDirectory() as folder:
        again = [replace(run, parameters=run.parameters | {"runs_folder": folder}) for run in runs]
        run_all(again, jobs, Path(folder) / records.TABLE, timeout)
        found = [verdicts.agreement(records.read_records(run.record_path)[0], known) for run in again]
    for run, agreement in zip(runs, found, strict=True):
        print(f"{run}: {agreement}")
    if any(agreement.startswith(verdicts.DIFFERENT) for agreement in found):
        raise BatchError(f"some runs are different from those in {table}")


# Command line


def parse(arguments):
    parser = argparse.ArgumentParser(description="Reproduce the report's figures and typeset the report.")
    parser.add_argument("figures", nargs="*", type=int, metavar="FIGURE", help="2 to 9; all of them by default")
    parser.add_argument(
        "--sweeps",
        nargs="*",
        metavar="SWEEP",
        help=f"run these as well, or all: {', '.join(sweep_names())}; what figures/runs.jsonl has is not run again",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED", help="0 by default")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs at a time; all cores by default")
    parser.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="another value for a parameter of the notebooks; may be given several times",
    )
    parser.add_argument(
        "--timeout", type=int, default=DAY, metavar="SECONDS", help="a longer run counts as failed; a day by default"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="run again, keep nothing, and say whether the committed runs (or those in --output) agree",
    )
    parser.add_argument("--quick", action="store_true", help="a trial in a minute: few images, few epochs")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for runs/ and figures/: the project's own by default, trial/ if parameters are not the report's",
    )
    return parser.parse_args(arguments)


def literal(text):
    """Read a value from the command line: 0.05, True, [1, 2], or else a text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def reproduce(options):
    unknown = set(options.figures) - set(range(2, 10))
    if unknown:
        raise BatchError(f"there is no figure {unknown.pop()}: choose from 2 to 9")
    if options.jobs < 1:
        raise BatchError(f"--jobs is {options.jobs}: expected 1 or more")
    if options.timeout < 1:
        raise BatchError(f"--timeout is {options.timeout}: expected 1 second or more")
    overrides = {**(QUICK if options.quick else {}), **{name: literal(value) for name, value in options.parameter}}
    for name in ("seed", "runs_folder"):
        if name in overrides:
            raise BatchError(
                f"{name} is not a parameter of a batch: use {'--seeds' if name == 'seed' else '--output'}"
            )
    output = (options.output or (ROOT / "trial" if overrides else ROOT)).resolve()
    if overrides and output == ROOT and not options.check:
        raise BatchError(f"{ROOT} keeps the report's own settings: give another --output")
    figures_folder, runs_folder = output / "figures", output / "runs"

    figures, seeds = sorted(set(options.figures)) or range(2, 10), sorted(set(options.seeds))
    sweeping = options.sweeps is not None
    sweeps = options.sweeps or sweep_names() if sweeping else []
    unknown = set(sweeps) - set(sweep_names())
    if unknown:
        raise BatchError(f"there is no sweep {unknown.pop()!r}: choose from {', '.join(sweep_names())}")
    runs = plan(figures, sweeps, seeds, overrides, runs_folder)
    table = figures_folder / records.TABLE
    if options.check:
        fashion_mnist.load()
        check(runs, options.jobs, options.timeout, table)
        return
    try:
        for folder in (figures_folder, runs_folder):
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise BatchError(f"can't write to {output} ({error.strerror}): choose another --output") from None
    fashion_mnist.load()  # fetched and checked once, before many notebooks want it

    with alone_in(output):
        left_before = [record for run in runs for record in records.read_records(run.record_path)]
        merged = records.merge(table, left_before)
        done = {records.record_key(record) for record in (merged if sweeping else left_before)}
        missing = [run for run in runs if run.key not in done]
        print(f"{len(runs)} runs, {len(runs) - len(missing)} done before, {min(options.jobs, len(missing))} at a time")
        seconds = run_all(missing, options.jobs, table, options.timeout) if missing else {}

        results = reporting.load_results(figures_folder, overrides)
        if output == ROOT:
            signals.write(figures_folder)
        draw(results, evidence.load(figures_folder, overrides), figures_folder)
        typeset(figures_folder, overrides)
    print(summary(results, seeds, seconds))
    print(f"The figures and report.pdf are in {figures_folder}")


def main(arguments=None):
    try:
        reproduce(parse(arguments))
    except (BatchError, claims.ClaimsError, fashion_mnist.DataError, ValueError, OSError) as error:
        sys.exit(f"reproduce.py: {error}")
    except KeyboardInterrupt:
        sys.exit("reproduce.py: stopped; the same command goes on where it was")


if __name__ == "__main__":
    main()
