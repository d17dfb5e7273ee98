"""Reproduce the report: run its figures' notebooks with papermill, draw the figures, and typeset the PDF.

    claims.yaml --> papermill(figure_N.ipynb, parameters, seed) --> runs/*.json --> figures/runs.jsonl
    figures/runs.jsonl --> figures/*.svg, report.ipynb --> figures/report.pdf

A run that has left its record is not run again, so a batch that was stopped goes on where it was.
"""

import argparse
import ast
import operator
import os
import re
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from distributed import as_completed
from filelock import FileLock, Timeout

import claims
import cluster
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
# Measured, for --list and the time left: seconds that a notebook takes to start, and a unit of `Run.cost`; and units.
START, EPOCH = 7, 6.5
AUGMENTATION = {"RandomAffine": 1.2, "RandomHorizontalFlip": 0.1, "RandomErasing": 0.2}


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
        """Time of an epoch relative to that of Figure 4, roughly."""
        cost = 2.0 if self.parameters["batch_norm"] else 1.0
        cost += 0.6 if self.parameters["dropout"] else 0.0
        cost += 14 / self.parameters["batch_size"]
        cost += sum(AUGMENTATION[name] for name in self.parameters["augmentation"])
        return cost * self.parameters["train_limit"] / 60000 + 0.1

    @property
    def cost(self):
        return self.epoch_cost * self.parameters["num_epochs"]

    def parameters_on(self, project):
        """Return the parameters for a worker that has the project in the given folder.

        In a copy of the project the record goes into the copy's own folder of runs. What "auto" means is decided here,
        where the run got its key.
        """
        if project == str(ROOT):
            return self.parameters
        return self.parameters | {"runs_folder": "runs", "device": mu.get_device(self.parameters["device"]).type}

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
        longest = {}  # the beginning of the longest run of a sweep serves for the shorter ones, where it can be cut
        for notebook, setting in swept:
            run = Run(notebook, records.check_parameters(setting | changes))
            cut = {"num_epochs": None} if records.can_be_cut(run.parameters) else {}
            training = records.run_key(run.parameters | cut)
            longest[training] = max(longest.get(training, run), run, key=lambda run: run.parameters["num_epochs"])
        own = [Run(notebook, records.check_parameters(setting | changes)) for notebook, setting in figures]
        runs |= {run.key: run for run in [*longest.values(), *own]}
    return list(runs.values())


def sweep_names():
    return [*claims.load()["sweeps"], "held_out", "factorial", "candidates", "beyond"]


def sweep_settings(name):
    """List pairs of notebook and setting of one of the `sweep_names`."""
    known = claims.load()
    if name == "factorial":
        return [(known["factorial"]["notebook"], setting) for _, setting in claims.factorial_settings(known)]
    if name in ("candidates", "beyond"):
        searches = [claims.beyond_settings(search, known) for search in known["beyond"]]
        chosen = [chosen for _, chosen in searches]
        held_out = [setting for candidates, _ in searches for setting in candidates.values()]
        return [("beyond", setting) for setting in (held_out if name == "candidates" else chosen)]
    if name == "held_out":
        settings_of, names = claims.held_out_settings, known["held_out"]
    else:
        settings_of, names = claims.sweep_settings, [name]
    return [(known["sweeps"][sweep]["notebook"], setting) for sweep in names for setting in settings_of(sweep, known)]


# Running


class Progress:
    """Print what the batch does, epoch by epoch, with the time that it will take at the pace so far."""

    def __init__(self, runs):
        self.names = {run.key: str(run) for run in runs}
        self.costs = {run.key: run.epoch_cost for run in runs}
        self.total = sum(run.cost for run in runs)
        self.done = 0.0
        self.epochs = {}
        self.started = time.monotonic()
        self.lock = threading.Lock()

    def on_epoch(self, event):
        key, line = event[1]
        if not line.startswith("epoch "):
            return
        with self.lock:
            epoch, in_round = (int(number) for number in re.findall(r"\d+", line)[:2])
            before = self.epochs.get(key, 0)
            # The next round of a run begins with epoch 1, and so does a run again if its worker was lost.
            self.epochs[key] = before + 1 if before % in_round == epoch - 1 else epoch
            self.done += self.costs[key] * (self.epochs[key] - before)
            share = self.done / self.total
            left = (time.monotonic() - self.started) * (1 - share) / share
            estimate = f" [{minutes(left)} left]" if share > 0.1 else ""  # the first epochs tell too little
            print(f"{self.names[key]}, {line}{estimate}", flush=True)


def minutes(seconds):
    """Write a duration as minutes and seconds: 3:07."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def run_all(runs, workers, table, timeout):
    """Execute the runs, each within `timeout` seconds, and return the seconds that each took, by key.

    The runs of a seed come before those of the next, the longest first. Each record goes into its folder at once, and
    into the table as soon as that costs little.

    Args:
        runs: list of `Run`.
        workers: context manager of `cluster.py`, which yields a `distributed.Client` and the project's folder.
        table: path of the table of records.

    Raises:
        BatchError: some runs failed; the others were finished all the same.
        ClusterError: the cluster can't be reached.
    """
    seconds, failed, fresh = {}, [], []
    with workers as (client, project):
        topic = f"epochs-{client.id}"
        client.subscribe_topic(topic, Progress(runs).on_epoch)
        execute_run = cluster.send_function(client)
        futures = {}
        for position, run in enumerate(sorted(runs, key=lambda run: (run.parameters["seed"], -run.cost))):
            parameters = run.parameters_on(project)
            future = client.submit(
                operator.call,
                *(execute_run, run.notebook, run.key, parameters, project, topic, timeout),
                pure=False,
                priority=-position,
                retries=cluster.RETRIES,
            )
            futures[future] = run
        merged, merging = time.monotonic(), 0.0
        for future in as_completed(futures):
            run = futures.pop(future)  # forgotten, it frees the worker of its result
            failure = cluster.reason(future.exception()) if future.status != "finished" else None
            if not failure:
                took, files, failure = future.result()
                for name, content in files.items():
                    records.write_at_once(run.record_path.with_name(name), content)
            if failure:
                failed.append(f"{run}: {failure}")
                print(f"{run}: FAILED", flush=True)
            else:
                seconds[run.key] = took
                fresh += records.read_records(run.record_path)
                print(f"{run}: done in {minutes(took)}", flush=True)
            # A large table takes long to write; what is not in it yet is in the folder of runs.
            if time.monotonic() - merged > 20 * merging or not futures:
                merged = time.monotonic()
                records.merge(table, fresh)
                fresh, merging = [], time.monotonic() - merged
    if failed:
        raise BatchError(f"{len(failed)} of {len(runs)} runs failed:\n  " + "\n  ".join(failed))
    return seconds


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
        notebook = cluster.execute_notebook(
            ROOT, "report", {"figures_folder": str(figures_folder), "overrides": overrides}
        )
        pdf, _ = TypstPDFExporter().from_notebook_node(notebook)
    except Exception as error:
        raise BatchError(
            f"the report couldn't be made ({cluster.reason(error)}): run again, all records are kept"
        ) from error
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
                    f"{100 * (accuracy - result['reported']):+z6.2f}  {took:>6}"
                )
    return "\n".join(lines)


def workers_of(options, runs):
    """Choose the workers that execute the runs: those of a cluster, or processes of this machine."""
    if options.scheduler:
        return cluster.cluster_workers(options.scheduler)
    return cluster.local_workers(min(options.jobs, len(runs)))


def place_of(options, runs):
    """Say where the runs are executed."""
    if options.scheduler:
        return f"on the workers of {options.scheduler}"
    return f"{min(options.jobs, len(runs))} at a time"


def check(runs, options, table):
    """Execute runs again, in a folder that is thrown away, and compare them with a table of records.

    Raises:
        BatchError: some are different.
    """
    known = records.read_records(table)
    with tempfile.TemporaryDirectory() as folder:
        again = [replace(run, parameters=run.parameters | {"runs_folder": folder}) for run in runs]
        run_all(again, workers_of(options, again), Path(folder) / records.TABLE, options.timeout)
        found = [verdicts.agreement(records.read_records(run.record_path)[0], known) for run in again]
    for run, agreement in zip(runs, found, strict=True):
        print(f"{run}: {agreement}")
    if any(agreement.startswith(verdicts.DIFFERENT) for agreement in found):
        raise BatchError(f"some runs are different from those in {table}")


# Command line

EXAMPLES = """
examples:
  python reproduce.py                        everything: figures 2 to 9 with seed 0, and the report
  python reproduce.py --list                 what that would run, and for how long
  python reproduce.py --quick                a trial in a minute or two, into trial/
  python reproduce.py 4 5 --seeds 0 1 2      two figures, three seeds
  python reproduce.py 4 -p learning_rate 0.05 --output trial
                                             a figure with another parameter, into a folder of its own
  python reproduce.py --sweeps grid dropout  two of the sweeps as well
  python reproduce.py --scheduler tcp://192.168.0.1:8786
                                             on a Dask cluster instead of on this machine

A run that has left its record is not run again: after an interruption, the same command goes on where it was.
Each run leaves runs/KEY.json, its record, and runs/KEY.ipynb, the executed notebook. All records together are the
table figures/runs.jsonl; the drawings and report.pdf beside it are made from that.
"""


def parse(arguments):
    known = claims.figure_numbers()
    parser = argparse.ArgumentParser(
        description="Reproduce the report: run its figures' notebooks, draw the figures, typeset the report.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "figures", nargs="*", type=int, metavar="FIGURE", help=f"{known[0]} to {known[-1]}; all of them by default"
    )
    parser.add_argument(
        "--sweeps",
        nargs="*",
        metavar="SWEEP",
        help=f"run these as well, or all: {', '.join(sweep_names())}; what figures/runs.jsonl has is not run again",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED", help="0 by default")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="runs at a time on this machine; one a core by default"
    )
    where.add_argument("--scheduler", metavar="ADDRESS", help="run on the workers of this Dask scheduler instead")
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
        "--timeout",
        type=int,
        default=cluster.DAY,
        metavar="SECONDS",
        help="a longer run counts as failed; a day by default",
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
    parser.add_argument("--list", action="store_true", help="say what would run and about how long, and run nothing")
    return parser.parse_args(arguments)


def literal(text):
    """Read a value from the command line: 0.05, True, [1, 2], or else a text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def reproduce(options):
    known = claims.figure_numbers()
    unknown = set(options.figures) - set(known)
    if unknown:
        raise BatchError(f"there is no figure {unknown.pop()}: choose from {known[0]} to {known[-1]}")
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

    figures, seeds = sorted(set(options.figures)) or known, sorted(set(options.seeds))
    sweeping = options.sweeps is not None
    sweeps = options.sweeps or sweep_names() if sweeping else []
    unknown = set(sweeps) - set(sweep_names())
    if unknown:
        raise BatchError(f"there is no sweep {unknown.pop()!r}: choose from {', '.join(sweep_names())}")
    runs = plan(figures, sweeps, seeds, overrides, runs_folder)
    table = figures_folder / records.TABLE
    if options.check:
        fashion_mnist.load()
        check(runs, options, table)
        return
    left_before = [record for run in runs for record in records.read_records(run.record_path)]
    known_records = [*left_before, *records.read_records(table)] if sweeping else left_before
    current = [record for record in known_records if record["training_version"] == records.TRAINING_VERSION]
    done = {records.record_key(record) for record in current}
    missing = [run for run in runs if run.key not in done]
    if options.list:
        print(listing(runs, missing, options.jobs))
        return

    try:
        for folder in (figures_folder, runs_folder):
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise BatchError(f"can't write to {output} ({error.strerror}): choose another --output") from None
    fashion_mnist.load()  # fetched and checked once, before many notebooks want it

    with alone_in(output):
        records.merge(table, left_before)
        print(f"{len(runs)} runs, {len(runs) - len(missing)} done before, {place_of(options, missing)}", flush=True)
        seconds = run_all(missing, workers_of(options, missing), table, options.timeout) if missing else {}

        results = reporting.load_results(figures_folder, overrides)
        if output == ROOT:
            signals.write(figures_folder)
        draw(results, evidence.load(figures_folder, overrides), figures_folder)
        typeset(figures_folder, overrides)
    print(summary(results, seeds, seconds))
    print(f"The figures and report.pdf are in {figures_folder}")


def listing(runs, missing, jobs):
    """List the runs, with the time that each missing one would take, roughly, and the time for all of them."""
    estimates = {run.key: START + EPOCH * run.cost for run in missing}
    lines = [f"{minutes(estimates[run.key]) if run.key in estimates else 'done':>7}  {run}" for run in runs]
    together = max(sum(estimates.values()) / jobs, max(estimates.values(), default=0))
    return "\n".join(
        [
            *lines,
            f"{len(runs)} runs, {len(missing)} of them to do; minutes are those of one core of the machine that is "
            f"described in figures/benchmark.json, and {jobs} at a time they would take about {minutes(together)}",
        ]
    )


def main(arguments=None):
    try:
        reproduce(parse(arguments))
    except (
        BatchError,
        cluster.ClusterError,
        claims.ClaimsError,
        fashion_mnist.DataError,
        ValueError,
        OSError,
    ) as error:
        sys.exit(f"reproduce.py: {error}")
    except KeyboardInterrupt:
        sys.exit("reproduce.py: stopped; the same command goes on where it was")


if __name__ == "__main__":
    main()
