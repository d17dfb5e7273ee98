"""Run what is planned: find what is missing, execute it on workers, keep every record at once, compare runs."""

import os
import re
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from filelock import FileLock, Timeout

from common import ROOT, fashion_mnist
from common.files import PARTIAL, write_at_once
from common.formatting import count, minutes
from study.outcomes import DIFFERENT
from study.plan import BatchError, share_out
from study.record import record_key
from study.table import TABLE, GrowingTable, merge, read_records

DAY = 24 * 60 * 60  # seconds


@dataclass(frozen=True)
class Batch:
    """Some runs, where they are executed, and the folder for what they leave.

    A run that has left its record is not run again, so a batch that was stopped goes on where it was.

    Attributes:
        runs: a list of `plan.Run`.
        output: folder with `runs/`, for records and executed notebooks, and `figures/`, for the table of records.
            In the project's own folder `figures/` has the committed records, and the table goes to `runs/figures/`.
        jobs: notebooks at a time on this machine; on a GPU each makes the runs of several seeds.
        overrides: parameters that are the same in all runs, and are not said of each again.
        scheduler: address of a Dask scheduler to run on instead, or None.
        timeout: seconds after which a run has failed.
        reuse_table: whether a run counts as done as well if only the table in `figures/` has its record.
        publishes: whether the runs go into the committed table all the same.
        shows_accuracy: whether accuracies are printed; who sees those of the protocol's runs may want to stop early.
        keeps_order: whether they start in the order of `runs`; else seed by seed, the longest first, so that no worker
            is idle at the end.
    """

    runs: list
    output: Path
    jobs: int
    overrides: dict = field(default_factory=dict)
    scheduler: str | None = None
    timeout: int = DAY
    reuse_table: bool = False
    publishes: bool = False
    shows_accuracy: bool = True
    keeps_order: bool = False

    @property
    def evidence_folder(self):
        """The folder of figures with the records that are judged, and that runs are compared with."""
        return self.output / "figures"

    @property
    def own_folder(self):
        """The folder for the user's own table, drawings and report, where these aren't the evidence; else None."""
        return None if self.publishes or self.output != ROOT else self.runs_folder / "figures"

    @property
    def figures_folder(self):
        """The folder for all that the batch makes of its records."""
        return self.own_folder or self.evidence_folder

    @property
    def runs_folder(self):
        return self.output / "runs"

    @property
    def table(self):
        return self.figures_folder / TABLE

    @cached_property
    def records_before(self):
        """The records that earlier batches have left in the folder of runs."""
        return [record for run in self.runs for record in read_records(run.record_path)]

    @cached_property
    def missing(self):
        """The runs that have left no record of this version of the training code."""
        records = self.records_before + (read_records(self.evidence_folder / TABLE) if self.reuse_table else [])
        done = set(map(record_key, records))
        return [run for run in self.runs if run.key not in done]

    def listing(self):
        """List the runs, with the time that each missing one would take, roughly, and the time for all of them."""
        seconds = {run.key: run.seconds for run in self.missing}
        times = [minutes(seconds[run.key]) if run.key in seconds else "done" for run in self.runs]
        lines = [f"{time:>7}  {run.name(self.overrides)}" for time, run in zip(times, self.runs, strict=True)]
        if not seconds:
            return "\n".join([*lines, f"{count(len(self.runs), 'run')}, nothing to do"])
        jobs = min(self.jobs, len(seconds))
        together = max(sum(seconds.values()) / jobs, *seconds.values())
        return "\n".join(
            [
                *lines,
                f"{count(len(self.runs), 'run')}, {len(seconds)} to do; minutes are those of one core of the machine "
                "in figures/benchmark.json,",
                f"and {jobs} at a time they would take about {minutes(together)}",
            ]
        )

    @contextmanager
    def alone(self):
        """Keep other batches out of the output folder; the lock ends with the batch.

        What a killed batch has half written is removed.

        Raises:
            BatchError: the folder can't be written, or another batch is at work there.
        """
        try:
            for folder in (self.runs_folder, self.figures_folder):
                folder.mkdir(parents=True, exist_ok=True)
                tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise BatchError(f"can't write to {self.output} ({error.strerror}): choose another --output") from None
        try:
            with FileLock(self.runs_folder / "batch.lock", timeout=0, mode=0o666):
                for path in (*self.figures_folder.glob(f".*{PARTIAL}"), *self.runs_folder.glob(f".*{PARTIAL}")):
                    with suppress(OSError):  # it has just been finished, or is another person's
                        if time.time() - path.stat().st_mtime > 60:  # a younger one may be of a run by hand
                            path.unlink()
                yield
        except Timeout:
            raise BatchError(f"another batch is at work in {self.output}: wait, or choose another --output") from None

    def run(self):
        """Execute the missing runs, and bring all records into the table.

        Returns:
            The seconds that each run took, by key; runs that were trained together share theirs.

        Raises:
            BatchError: some runs failed; the others were finished all the same.
            ClusterError: the cluster can't be reached.
        """
        check_data()
        merge(self.table, self.records_before)
        done = len(self.runs) - len(self.missing)
        place = [self.place] if self.missing else []
        print(", ".join([count(len(self.runs), "run"), f"{done} done before", *place]), flush=True)
        return self._execute(self.missing, GrowingTable(self.table))

    def check(self):
        """Execute all runs again, in a folder that is thrown away, and compare them with those of `figures/`.

        Raises:
            BatchError: some are different.
        """
        from study.reported import agreement  # SciPy: a slow import

        check_data()
        committed = read_records(self.evidence_folder / TABLE)
        with tempfile.TemporaryDirectory() as folder:
            again = [replace(run, parameters=run.parameters | {"runs_folder": folder}) for run in self.runs]
            self._execute(again, GrowingTable(Path(folder) / TABLE))
            agreements = [agreement(read_records(run.record_path)[0], committed) for run in again]
        for run, phrase in zip(again, agreements, strict=True):
            print(f"{run.name(self.overrides)}: {phrase}")
        if any(phrase.startswith(DIFFERENT) for phrase in agreements):
            raise BatchError(f"some runs are different from those in {self.evidence_folder / TABLE}")

    @property
    def place(self):
        """Where the runs are executed, in words."""
        if self.scheduler:
            return f"on the workers of {self.scheduler}"
        return f"{min(self.jobs, len(share_out(self.missing)))} at a time"

    def _execute(self, runs, table):
        if not runs:
            return {}
        from study import cluster  # Dask, papermill and Jupyter: slow imports that a list of runs can do without

        jobs = share_out(runs)
        if not self.keeps_order:
            jobs.sort(key=lambda job: (job.first.parameters["seed"], -job.cost))
        workers = (
            cluster.cluster_workers(self.scheduler)
            if self.scheduler
            else cluster.local_workers(min(self.jobs, len(jobs)))
        )
        seconds, failures = {}, []
        progress = Progress(jobs, self.overrides, self.shows_accuracy)
        for job, outcome in cluster.execute(jobs, workers, self.timeout, progress.on_line):
            for name, content in outcome.files.items():
                write_at_once(job.first.record_path.with_name(name), content)
            if outcome.failure:
                failures.append(f"{job}: {outcome.failure}")
                print(f"{job.name(self.overrides)}: FAILED", flush=True)
            else:
                seconds |= dict.fromkeys(job.keys, outcome.seconds / len(job.runs))
                table.add([record for run in job.runs for record in read_records(run.record_path)])
                print(f"{job.name(self.overrides)}: done in {minutes(outcome.seconds)}", flush=True)
        table.write()
        if failures:
            raise BatchError(f"{len(runs) - len(seconds)} of {len(runs)} runs failed:\n  " + "\n  ".join(failures))
        return seconds


def check_data():
    """Fetch and check the data set once, before many notebooks want it."""
    fashion_mnist.load()
    if os.environ.get("FASHION_MNIST"):  # notebooks run in another folder, where a relative path is another one
        os.environ["FASHION_MNIST"] = str(fashion_mnist.find().resolve())


class Progress:
    """Print what the batch does, epoch by epoch, with the time that the runs will take at the pace so far.

    Args:
        jobs: a list of `plan.Job`.
        overrides: parameters that are the same in all runs.
        shows_accuracy: whether it prints accuracies.
    """

    def __init__(self, jobs, overrides=(), shows_accuracy=True):
        self.shows_accuracy = shows_accuracy
        self.names = {job.key: job.name(overrides) for job in jobs}
        self.num_epochs = {job.key: job.first.parameters["num_epochs"] for job in jobs}
        self.costs = {job.key: job.epoch_cost for job in jobs}
        self.total = sum(job.cost for job in jobs)
        self.done = 0.0
        self.epochs = {}
        self.started = time.monotonic()
        self.lock = threading.Lock()

    def on_line(self, key, line):
        """Take notice of a line that a job has printed."""
        measured = re.match(r"epoch (\d+) of (\d+)(?:.*(, test accuracy [\d.]+))?", line)
        if not measured:
            return
        with self.lock:
            epoch, in_round = int(measured[1]), int(measured[2])
            before = self.epochs.get(key, 0)
            # The next round of a run begins with epoch 1, and so does a run again if its worker was lost.
            self.epochs[key] = before + 1 if before % in_round == epoch - 1 else epoch
            self.done += self.costs[key] * (self.epochs[key] - before)
            share = self.done / self.total
            left = (time.monotonic() - self.started) * (1 - share) / share
            accuracy = (measured[3] or "") if self.shows_accuracy else ""
            estimate = f", {minutes(left)} left" if 0.1 < share < 0.999 else ""  # the first epochs tell too little
            print(
                f"{self.names[key]}: epoch {self.epochs[key]} of {self.num_epochs[key]}{accuracy} "
                f"({100 * share:.0f} %{estimate})",
                flush=True,
            )
