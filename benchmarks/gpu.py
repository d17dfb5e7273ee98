"""Everything that takes a GPU, in one go: is it right, how quick is it, and then the protocol's runs until a deadline.

    python benchmarks/gpu.py --output FOLDER --seconds 480

The folder gets `benchmark_gpu.json`, and `runs.jsonl` with the records of the protocol's runs, the most important
first. What stands in such a file of an earlier time, or is committed, is not run again.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from copy import deepcopy
from itertools import islice
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import my_utils as mu
from common import ROOT
from common.files import write_at_once
from fast.forward import fast_forward
from fast.step import TrainingStep
from study import claims, notebooks, protocol
from study.many_seeds import train_many, write_records
from study.plan import share_out
from study.record import processor
from study.table import TABLE, merge, read_records

SECONDS, START = 1.3, 4  # on an H200: of 32 seeds, times `Run.cost`; and before the first epoch
WORKERS = 2  # processes that share the GPU, so that one computes while the other prepares an epoch
STACKS = (1, 8, 32)  # seeds at once whose speed is measured
FIGURES = {  # whose speed is measured, and those that take as long an epoch
    "figure_4": (2, 3, 4),
    "figure_5": (5,),
    "figure_7": (6, 7),
    "figure_8": (8,),
    "figure_9": (9,),
}


def relative_error(actual, expected):
    """Return ‖actual − expected‖ / ‖expected‖."""
    return ((actual.double() - expected.double()).norm() / expected.double().norm()).item()


def check_fast_forward(name):
    """Compare scores and gradients of a figure's net, by `fast_forward` and by `net(X)`, both with float64's."""
    setting = notebooks.defaults(name) | {"dropout": 0.0, "device": "cuda"}
    net = mu.net_of(setting).cuda()
    train_iter, _ = mu.load_data_fashion_mnist(setting["batch_size"], device="cuda", train_limit=1000)
    X, y = next(iter(train_iter))
    results = []
    for forward, dtype in ((None, torch.float64), (None, torch.float32), (fast_forward, torch.float32)):
        copy = deepcopy(net).to(dtype)
        scores = forward(copy, X.to(dtype)) if forward else copy(X.to(dtype))
        torch.nn.functional.cross_entropy(scores, y).backward()
        results.append([scores.detach(), *(parameter.grad for parameter in copy.parameters())])
    exact, plain, fast = results
    strong = [grad.norm() > 1e-3 * exact[1].norm() for grad in exact]  # a bias before a normalisation has no gradient
    return {
        way: max(relative_error(a, e) for a, e, s in zip(actual, exact, strong, strict=True) if s)
        for way, actual in (("net", plain), ("fast_forward", fast))
    }


def check_graphs_and_stacks(name):
    """Train two seeds on few images: alone without graphs, alone with graphs, and stacked with graphs."""
    setting = notebooks.defaults(name) | {"dropout": 0.0, "device": "cuda", "train_limit": 3000, "num_epochs": 3}
    losses = {}
    for way in ("plain", "graph", "stack"):
        TrainingStep.WARM_UP = 10**9 if way == "plain" else 3
        groups = [[0, 1]] if way == "stack" else [[0], [1]]
        trained = [result for group in groups for result in train_many(setting, group)]
        losses[way] = [history[-1]["train_loss"] for _, history, _ in trained]
    return losses


def seconds_an_epoch(name, num_seeds):
    """Train three epochs of a figure and return the seconds of the third, and the peak of memory in bytes."""
    setting = notebooks.defaults(name) | {"num_epochs": 3, "num_rounds": 1, "device": "cuda"}
    torch.cuda.reset_peak_memory_stats()
    ends = []
    train_many(setting, list(range(num_seeds)), lambda _, seconds: ends.append(seconds))
    return ends[2] - ends[1], torch.cuda.max_memory_allocated()


def measure(folder):
    """Check and time, and leave what comes out as `benchmark_gpu.json`."""
    versions = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "cuda": torch.version.cuda}
    report = versions | {"errors": {}, "losses": {}, "seconds": {}}
    for name in ("figure_4", "figure_8"):
        report["errors"][name] = check_fast_forward(name)
        report["losses"][name] = check_graphs_and_stacks(name)
        print(name, report["errors"][name], report["losses"][name], flush=True)
    for name in FIGURES:
        for num_seeds in STACKS:
            seconds, memory = seconds_an_epoch(name, num_seeds)
            report["seconds"].setdefault(name, {})[num_seeds] = {"epoch": seconds, "memory": memory}
            print(f"{name}, {num_seeds} at once: {seconds:.3f} s an epoch, {memory / 2**30:.1f} GiB", flush=True)
    write_at_once(folder / "benchmark_gpu.json", json.dumps(report, indent=1) + "\n")


def table(report):
    """Write what was measured, as read from its file, as Markdown: seconds an epoch, training and test images."""
    ways = ["one alone" if num_seeds == 1 else f"{num_seeds} at once" for num_seeds in STACKS]
    lines = [
        f"| Figure | {' | '.join(ways)} | {STACKS[-1]}, each | Memory |",
        "|:--|" + "--:|" * (len(STACKS) + 2),
    ]
    for name, figures in FIGURES.items():
        measured = [report["seconds"][name][str(num_seeds)] for num_seeds in STACKS]
        seconds = [f"{one['epoch']:.2f} s" for one in measured] + [f"{measured[-1]['epoch'] / STACKS[-1]:.3f} s"]
        memory = f"{measured[-1]['memory'] / 1e9:.1f} GB"
        lines.append(f"| {', '.join(map(str, figures))} | {' | '.join(seconds)} | {memory} |")
    return "\n".join(lines)


def training_seconds(report, num_seeds):
    """Say how long the training of Figures 2 to 9 takes, one after the other, each with so many seeds at once."""
    stated = claims.load().figures
    return sum(
        report["seconds"][name][str(num_seeds)]["epoch"] * stated[f"figure_{figure}"].setting["num_epochs"]
        for name, figures in FIGURES.items()
        for figure in figures
    )


def sentence(report):
    """Say in one line how long all figures take."""
    one, many = (training_seconds(report, num_seeds) for num_seeds in (STACKS[0], STACKS[-1]))
    return (
        f"On an {report['gpu']} the training of Figures 2 to 9 takes {one:.0f} s with one seed and {many:.0f} s with "
        f"{STACKS[-1]}"
    )


def run(job):
    """Train the seeds of a job at once, and return their records, and the seconds that it took."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        setting = job.first.parameters | {"runs_folder": folder}
        seeds = [run.parameters["seed"] for run in job.runs]
        write_records(job.first.notebook, setting, seeds, train_many(setting, seeds))
        records = [record for path in sorted(Path(folder).glob("*.json")) for record in read_records(path)]
    torch.cuda.empty_cache()
    return records, time.monotonic() - started


def expected_seconds(job):
    """Return the seconds that a job takes at most, roughly, beside as many others as there are workers."""
    return WORKERS * (SECONDS * job.first.cost * max(len(job.runs), 16) / 32 + START)


def run_protocol(folder, deadline, device="cuda"):
    """Make the protocol's missing runs, the most important first, those that will be done by the deadline."""
    path = folder / TABLE
    here, changes = (device, processor(device)), {"device": device, "runs_folder": str(folder)}
    made = read_records(ROOT / "figures" / TABLE) + read_records(path)
    missing = protocol.missing_runs(claims.load(), made, here, changes)

    def jobs():
        for job in share_out(missing):
            if time.monotonic() + expected_seconds(job) <= deadline:
                yield job

    waiting, running = jobs(), {}
    with ProcessPoolExecutor(WORKERS, multiprocessing.get_context("spawn")) as pool:
        while True:
            for job in islice(waiting, WORKERS - len(running)):
                running[pool.submit(run, job)] = job
            if not running:
                break
            future = next(as_completed(running))
            job = running.pop(future)
            if error := future.exception():  # the others shall be run all the same
                print(f"{job}: FAILED, {error!r}"[:500], flush=True)
                continue
            records, seconds = future.result()
            merge(path, records)
            print(f"{job}: {seconds:.1f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for what is measured and for the records")
    parser.add_argument("--seconds", type=float, required=True, help="until the end")
    parser.add_argument("--no-measuring", action="store_true", help="begin with the runs at once")
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    if not torch.cuda.is_available():
        sys.exit("benchmarks/gpu.py: there is no GPU that PyTorch can use")
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    if not options.no_measuring:
        measure(options.output)
    run_protocol(options.output, deadline)


if __name__ == "__main__":
    main()
