"""Reproduce the report: run its figures' notebooks with papermill, draw the figures, and typeset the PDF.

    claims.yaml --> papermill(figure_N.ipynb, parameters, seed) --> runs/*.json --> figures/figure_N.svg
                                                                                --> report.ipynb --> figures/report.pdf

A run that has left its record is not run again, so a batch that was stopped goes on where it was.
"""

import argparse
import ast
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import papermill
from distributed import Client, LocalCluster, as_completed, get_worker
from papermill.exceptions import PapermillExecutionError
from traitlets.config import Config

import claims
import fashion_mnist
import my_utils as mu
import records
import reporting
from typst_exporter import TypstPDFExporter

ROOT = records.ROOT
QUICK = {"num_epochs": 3, "train_limit": 3000}


@dataclass(frozen=True)
class Run:
    """One execution of a notebook: its name, such as "figure_4", and its complete parameters."""

    notebook: str
    parameters: dict

    @property
    def key(self):
        return records.run_key(self.notebook, self.parameters)

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
        return f"{self.notebook} seed {self.parameters['seed']}"


class BatchError(Exception):
    """Something that the user can mend; the message says what and how."""


# Planning


def notebook_defaults(notebook):
    """Read the values in a notebook's parameters cell."""
    inspected = papermill.inspect_notebook(ROOT / "notebooks" / f"{notebook}.ipynb")
    return {name: ast.literal_eval(parameter["default"]) for name, parameter in inspected.items()}


def plan(figures, seeds, overrides, runs_folder):
    """List the runs of a batch, every parameter checked, before any kernel starts.

    Raises:
        ParameterError: an overridden parameter is unknown, of the wrong type, or out of range.
    """
    runs = []
    for figure in figures:
        defaults = notebook_defaults(f"figure_{figure}")
        records.check_names(overrides, defaults)
        for seed in seeds:
            parameters = {**defaults, **overrides, "seed": seed, "runs_folder": str(runs_folder)}
            runs.append(Run(f"figure_{figure}", records.check_parameters(parameters)))
    return runs


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


def execute(run):
    """Execute one run's notebook, keep the executed notebook beside the record, and return how long it took."""
    logging.getLogger("papermill").setLevel(logging.ERROR)
    started = time.monotonic()
    output = run.record_path.with_suffix(".ipynb")
    execute_notebook(run.notebook, output, run.parameters, stdout_file=EpochLines(run.key))
    if not run.record_path.exists():
        raise BatchError(f"{run} ended without leaving its record {run.record_path}")
    return time.monotonic() - started


def execute_notebook(name, output, parameters, **options):
    """Execute one of the project's notebooks by papermill, from the project's root, and return it."""
    with ipc_kernels() as config:
        return papermill.execute_notebook(
            ROOT / "notebooks" / f"{name}.ipynb",
            output,
            parameters=parameters,
            cwd=ROOT,
            progress_bar=False,
            start_timeout=300,
            config=config,
            **options,
        )


@contextmanager
def ipc_kernels():
    """Configure kernels to talk through sockets in a folder of their own: many may start at once without a clash."""
    config = Config()
    if os.name == "nt":
        yield config
        return
    folder = tempfile.mkdtemp(prefix="ipc-", dir="/tmp")  # a socket's path may have some hundred characters only
    config.KernelManager.transport = "ipc"
    config.KernelManager.ip = f"{folder}/kernel"
    try:
        yield config
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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


def run_all(runs, jobs):
    """Execute the runs, `jobs` at a time, and return the seconds that each took, by key.

    Raises:
        BatchError: some runs failed; the others were finished all the same.
    """
    progress = Progress(runs)
    seconds, failed = {}, []
    # One thread a run: two runs of one thread are faster than one of two, and the numbers don't depend on the cores.
    with (
        LocalCluster(
            n_workers=min(jobs, len(runs)),
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address=":0",  # any free port: several batches may run at once
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.subscribe_topic("epochs", progress.on_epoch)
        longest_first = sorted(runs, key=lambda run: run.epoch_cost * run.parameters["num_epochs"], reverse=True)
        futures = {
            client.submit(execute, run, key=run.key, priority=-position, retries=0): run
            for position, run in enumerate(longest_first)
        }
        for future in as_completed(futures):
            run = futures[future]
            if future.status == "finished":
                seconds[run.key] = future.result()
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
        return f"{exception.ename}: {exception.evalue}"
    return " ".join(str(exception).split()) or type(exception).__name__


# Results


def draw_figure(notebook, parameters, new_records, folder):
    """Merge records into `figure_N.jsonl`, and draw `figure_N.svg` from all of them."""
    found = records.gather(folder / f"{notebook}.jsonl", parameters, new_records)
    num_epochs, num_rounds = parameters["num_epochs"], parameters.get("num_rounds", 1)
    figure = mu.plot_curves(
        [record["history"] for record in found],
        claims.load()["figures"][notebook]["reported"],
        first_reported_epoch=num_epochs - num_epochs // num_rounds + 1,
    )
    records.write_at_once(folder / f"{notebook}.svg", mu.to_svg(figure))


def typeset(figures_folder):
    """Execute the report's notebook on the records in a folder, and typeset it there as report.pdf."""
    with tempfile.TemporaryDirectory() as scratch:
        notebook = execute_notebook("report", Path(scratch) / "report.ipynb", {"figures_folder": str(figures_folder)})
    pdf, _ = TypstPDFExporter().from_notebook_node(notebook)
    records.write_at_once(figures_folder / "report.pdf", pdf)


def summary(runs, seconds):
    """Put the batch's results into a table: reported and measured test accuracy, difference in points, time."""
    reported = {name: figure["reported"] for name, figure in claims.load()["figures"].items()}
    lines = ["figure    seed  reported  measured  points   time"]
    for run in runs:
        (record,) = records.read_records(run.record_path)
        accuracy = record["test_accuracy"]
        took = minutes(seconds[run.key]) if run.key in seconds else "before"
        lines.append(
            f"{run.notebook}  {record['seed']:4d}  {reported[run.notebook]:8.4f}  {accuracy:8.4f}  "
            f"{100 * (accuracy - reported[run.notebook]):+6.2f}  {took:>6}"
        )
    return "\n".join(lines)


# Command line


def parse(arguments):
    parser = argparse.ArgumentParser(description="Reproduce the report's figures and typeset the report.")
    parser.add_argument("figures", nargs="*", type=int, metavar="FIGURE", help="2 to 9; all of them by default")
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
    overrides = {**(QUICK if options.quick else {}), **{name: literal(value) for name, value in options.parameter}}
    for name in ("seed", "runs_folder"):
        if name in overrides:
            raise BatchError(
                f"{name} is not a parameter of a batch: use {'--seeds' if name == 'seed' else '--output'}"
            )
    output = (options.output or (ROOT / "trial" if overrides else ROOT)).resolve()
    if overrides and output == ROOT:
        raise BatchError(f"{ROOT} keeps the report's own settings: give another --output")
    figures_folder, runs_folder = output / "figures", output / "runs"

    claims.load()
    figures, seeds = sorted(set(options.figures)) or range(2, 10), sorted(set(options.seeds))
    runs = plan(figures, seeds, overrides, runs_folder)
    missing = [run for run in runs if not run.record_path.exists()]
    try:
        for folder in (figures_folder, runs_folder):
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise BatchError(f"can't write to {output} ({error.strerror}): choose another --output") from None
    fashion_mnist.load()  # fetched and checked once, before many notebooks want it

    print(f"{len(runs)} runs, {len(runs) - len(missing)} done before, {min(options.jobs, len(missing))} at a time")
    seconds = run_all(missing, options.jobs) if missing else {}

    for figure in figures:
        own = [run for run in runs if run.notebook == f"figure_{figure}"]
        new = [record for run in own for record in records.read_records(run.record_path)]
        draw_figure(own[0].notebook, own[0].parameters, new, figures_folder)
    overview = reporting.draw_overview(reporting.load_results(figures_folder))
    records.write_at_once(figures_folder / "overview.svg", mu.to_svg(overview))
    typeset(figures_folder)
    print(summary(runs, seconds))
    print(f"The figures and report.pdf are in {figures_folder}")


def main(arguments=None):
    try:
        reproduce(parse(arguments))
    except (BatchError, claims.ClaimsError, fashion_mnist.DataError, ValueError) as error:
        sys.exit(f"reproduce.py: {error}")
    except KeyboardInterrupt:
        sys.exit("reproduce.py: stopped; the same command goes on where it was")


if __name__ == "__main__":
    main()
