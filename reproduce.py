"""Reproduce the report: run its figures' notebooks with papermill, draw the figures, and typeset the PDF.

    claims.yaml --> papermill(figure_N.ipynb, parameters, seed) --> runs/*.json --> runs/figures/runs.jsonl
    figures/runs.jsonl, and beside it your own --> drawings, report.ipynb --> runs/figures/report.pdf

Nothing that is committed changes, but by `--publish`. A run that has left its record is not run again, so a batch that
was stopped goes on where it was.
"""

import argparse
import ast
import codecs
import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # which PYTHONSAFEPATH keeps out

import common.set_up  # noqa: F401  # it says so if a file of the project is missing
from common import ROOT
from common.errors import UserError
from common.files import expanded
from common.formatting import accuracy, changes, count, minutes, points
from study import claims
from study.batch import DAY, Batch
from study.plan import BatchError, plan, sweep_names
from study.protocol import missing_runs
from study.record import device_kind, processor, record_key
from study.stopping import Stopped, leave_to_the_batch, stoppable
from study.table import TABLE, read_records

QUICK = {"num_epochs": 3, "train_limit": 3000}
MEMORY = 2**30  # bytes that a run takes, and so much again for the batch itself; measured, and rounded up

EXAMPLES = """
examples:
  python reproduce.py                        everything: figures 2 to 9 with seed 0, and the report
  python reproduce.py --list                 what that would run, and for how long
  python reproduce.py --quick                a trial in a minute or two, into trial/
  python reproduce.py 4 5 --seeds 0 1 2      two figures, three seeds
  python reproduce.py 4 -p learning_rate 0.05 --output trial
                                             a figure with another parameter, into a folder of its own
  python reproduce.py --sweeps grid dropout  two of the sweeps as well
  python reproduce.py --protocol             what the claims still lack: a day on a CPU
  python reproduce.py --sweeps --output ~/again
                                             everything that the report speaks of, anew, judged by itself
  python reproduce.py --scheduler tcp://192.168.0.1:8786
                                             on a Dask cluster instead of on this machine
  python reproduce.py --publish              for maintainers: the runs become part of figures/

A run that has left its record is not run again: after an interruption, the same command goes on where it was.
Each run leaves runs/KEY.json, its record, and runs/KEY.ipynb, the executed notebook. The drawings, report.pdf and
report.html in runs/figures/ show your runs beside the committed ones of figures/runs.jsonl, which stays as it is.
With --output a folder of its own has runs/, and in figures/ what these alone say.
"""


def parse(arguments):
    """Read the command line; a BatchError says what is wrong with it."""
    numbers = claims.load().figure_numbers
    parser = argparse.ArgumentParser(
        description="Reproduce the report: run its figures' notebooks, draw the figures, typeset the report.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "figures", nargs="*", type=int, metavar="FIGURE", help=f"{numbers[0]} to {numbers[-1]}; all of them by default"
    )
    parser.add_argument(
        "--sweeps",
        nargs="*",
        metavar="SWEEP",
        help=f"run these as well, or all: {', '.join(sweep_names())}; what figures/runs.jsonl has is not run again",
    )
    parser.add_argument(
        "--protocol",
        action="store_true",
        help="run what the claims still lack to be decided, without showing an accuracy, and make no report",
    )
    parser.add_argument(
        "--seeds", nargs="+", type=int, metavar="SEED", help="0 by default, and with --protocol the protocol's"
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs",
        type=int,
        help="notebooks at a time on this machine; by default as many as it has free cores and memory for",
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
        default=DAY,
        metavar="SECONDS",
        help="a longer run counts as failed; a day by default",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="run again, keep nothing, and say whether the committed runs (or those in --output) agree",
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="take the runs into the committed records, and make all of figures/ anew: for maintainers",
    )
    parser.add_argument("--quick", action="store_true", help="a trial in a minute: few images, few epochs")
    parser.add_argument(
        "--output",
        type=expanded,
        help="folder for the runs/ and figures/ of a study of its own; by default the project's runs/ and, in there, "
        "figures/, or trial/ if parameters are not the report's",
    )
    parser.add_argument("--list", action="store_true", help="say what would run and about how long, and run nothing")
    options = parser.parse_args(arguments)

    for number in options.figures:
        if number not in numbers:
            raise BatchError(f"there is no figure {number}: choose from {numbers[0]} to {numbers[-1]}")
    if options.protocol and (options.figures or options.sweeps is not None or options.parameter or options.quick):
        raise BatchError("--protocol says itself what is run: leave out figures, --sweeps, -p and --quick")
    fixed = claims.load().protocol.seeds
    options.seeds = options.seeds or (list(fixed) if options.protocol else [0])
    for seed in options.seeds:
        if options.protocol and seed not in fixed:
            raise BatchError(f"seed {seed} is none of the protocol's: choose from {fixed[0]} to {fixed[-1]}")
    for sweep in options.sweeps or []:
        if sweep not in sweep_names():
            raise BatchError(f"there is no sweep {sweep!r}: choose from {', '.join(sweep_names())}")
    if options.jobs is not None and options.jobs < 1:
        raise BatchError(f"--jobs is {options.jobs}: expected 1 or more")
    if options.timeout < 1:
        raise BatchError(f"--timeout is {options.timeout}: expected 1 second or more")
    options.overrides = (QUICK if options.quick else {}) | {name: literal(value) for name, value in options.parameter}
    for name, instead in (("seed", "--seeds"), ("runs_folder", "--output")):
        if name in options.overrides:
            raise BatchError(f"{name} is not a parameter of a batch: use {instead}")
    options.output = (options.output or (ROOT / "trial" if options.overrides else ROOT)).resolve()
    if options.overrides and options.output == ROOT and not options.check:
        raise BatchError(f"{ROOT} keeps the report's own settings: give another --output")
    if options.publish and (options.output != ROOT or options.check):
        raise BatchError("--publish takes the report's own settings into figures/: leave out -p, --output, --check")
    return options


def literal(text):
    """Read a value from the command line: 0.05, True, [1, 2], or else a text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def batch_of(options):
    """Plan the batch that the command line asks for; a ParameterError says which parameter makes no sense."""
    seeds, folder = sorted(set(options.seeds)), options.output / "runs"
    if options.protocol:
        records, kind = read_records(options.output / "figures" / TABLE), device_kind("auto")
        missing = missing_runs(claims.load(), records, (kind, processor(kind)), {"runs_folder": str(folder)})
        runs = [run for run in missing if run.parameters["seed"] in seeds]
        how = {"publishes": True, "shows_accuracy": False, "keeps_order": True}
    else:
        figures = sorted(set(options.figures)) or claims.load().figure_numbers
        sweeping = options.sweeps is not None
        sweeps = (options.sweeps or sweep_names()) if sweeping else []
        runs = plan(figures, sweeps, seeds, options.overrides, folder)
        how = {"overrides": options.overrides, "reuse_table": sweeping, "publishes": options.publish}
    jobs = options.jobs or jobs_that_fit(runs, says_so=not options.scheduler)
    return Batch(runs, options.output, jobs, scheduler=options.scheduler, timeout=options.timeout, **how)


def jobs_that_fit(runs, says_so):
    """Return how many notebooks this machine has cores and memory for; say so if memory is what is short.

    On a GPU it is two, one of which prepares what the other computes.
    """
    if any(run.uses_gpu for run in runs):
        return 2
    # Slow imports; Dask's numbers know of affinities and containers.
    import psutil
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    memory = min(MEMORY_LIMIT, psutil.virtual_memory().available)
    jobs = min(CPU_COUNT, max(1, memory // MEMORY - 1))
    if says_so and jobs < CPU_COUNT:
        print(
            f"{memory / MEMORY:.1f} GB of memory are free: {count(jobs, 'run')} at a time on {CPU_COUNT} cores; "
            "--jobs gives another number",
            flush=True,
        )
    return jobs


def reproduce(options):
    """Do what the command line asks for: list, check, or run and show."""
    batch = batch_of(options)
    changed = changes(options.overrides)
    if changed:
        print(f"Trial: {changed}", flush=True)
    if options.list:
        print(batch.listing())
    elif options.check:
        batch.check()
    else:
        with batch.alone():
            seconds = batch.run()
            if options.protocol:
                print(f"All of these runs are in {batch.table}; the report that is made next rests on them")
                return
            from report.publish import publish  # PyTorch, matplotlib, Typst: slow imports
            from report.sentences import own_summary

            study = publish(batch.evidence_folder, options.overrides, batch.own_folder)
        print(summary(study, batch.runs, seconds))
        if study.own:
            print(own_summary(study))
        print(f"The figures, report.pdf and report.html are in {batch.figures_folder}")
        if changed:
            print(f"Trial: {changed}; it says nothing about the report's numbers, which have other settings")


def summary(study, runs, seconds):
    """Put the batch's figures into a table: reported and measured test accuracy, difference in points, time.

    The user's own runs have one column more: how they agree with the committed ones.
    """
    keys = {run.key for run in runs}
    lines = ["figure    seed  reported  measured  points   time" + "  agreement" * bool(study.own)]
    for name, result in study.figures.items():
        words = [f"  {agreement.split(':')[0]}" for agreement in result.agreements] or [""] * len(result.records)
        for record, agreement in zip(result.own or result.records, words, strict=True):
            key, measured = record_key(record), record["test_accuracy"]
            if key in keys:
                took = minutes(seconds[key]) if key in seconds else "before"
                lines.append(
                    f"{name}  {record['seed']:4d}  {accuracy(result.figure.reported):>8}  {accuracy(measured):>8}  "
                    f"{points(measured - result.figure.reported):>6}  {took:>6}{agreement}"
                )
    return "\n".join(lines)


def main(arguments=None):
    """Run the command line; whatever the user can mend is told in one line, without a traceback."""
    close_no_standard_stream()
    speak_any_encoding()
    if expanded("~") == Path("~"):  # a user without a name, such as a container's: Jupyter needs some home folder
        os.environ["HOME"] = "/"
    try:
        with stoppable():
            try:
                reproduce(parse(arguments))
            finally:
                print(end="", flush=True)
    except Stopped as stopped:
        with suppress(OSError):  # the terminal may have gone
            print("reproduce.py: stopped; the same command goes on where it was", file=sys.stderr, flush=True)
        sys.exit(stopped.code)
    except BrokenPipeError:  # whoever reads what is printed, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # as shells say of other programs
    except (UserError, ValueError, OSError) as error:
        sys.exit(f"reproduce.py: {one_line(error)}")


def close_no_standard_stream():
    """Lead a standard stream that was closed to nowhere, before a file takes its number and gets what is printed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free


def speak_any_encoding():
    """Let a terminal, pipe or file that can't hold a character get a plain one in its place, instead of an error."""
    plain = {"−": "-", "–": "-", "…": "...", "×": "x", "\N{NO-BREAK SPACE}": " "}
    codecs.register_error("plain", lambda error: (plain.get(error.object[error.start], "?"), error.start + 1))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook has streams of its own
            stream.reconfigure(errors="plain")


def one_line(error):
    """Say in one line what an error is about; of a file, its name, and for a full disk also what helps."""
    if not isinstance(error, OSError) or not error.filename:
        return str(error)
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    advice = ": free some space; all finished records are kept, and the same command goes on where it was"
    return f"{error.filename}: {error.strerror}{advice * full}"


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":  # in a worker of a batch
    leave_to_the_batch()
