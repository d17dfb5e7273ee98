"""Measure how fast this project trains, beside what people would use instead and beside the machine's own limit.

Every measurement is a process of its own. The contenders take turns, several times over, so that whatever else the
machine does meets all of them. Times are given for an epoch of 60,000 images, training alone.
"""

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.contenders import CONTENDERS
from common import ROOT, fashion_mnist
from common.curves import styled, to_svg
from common.files import write_at_once
from fast.hidden_on_cpu import product
from model import Net, get_possible_patches, init_weights
from study.record import processor

RESULTS = ROOT / "figures" / "benchmark.json"
EPOCH = 60_000  # images
SETTINGS = {  # as in the report's figures
    "batch 256": {"batch_size": 256, "batch_norm": False},
    "batch 128": {"batch_size": 128, "batch_norm": False},
    "batch 32": {"batch_size": 32, "batch_norm": False},
    "batch norm, 128": {"batch_size": 128, "batch_norm": True},
}
LABELS = {
    "literal": "the report's literal code",
    "vectorised": "PyTorch, the usual loop",
    "lightning": "PyTorch Lightning",
    "jax": "JAX, compiled",
    "keras": "Keras 3 on JAX",
    "ours": "this project, one run",
    "batch": "this project, the batch",
}
NUM_HIDDEN = [256, 128, 64, 32, 16]
AGREEMENT = 0.015  # accuracies of the contenders may differ by so much: they differ in the order of summation alone


# One measurement


def measure(contender, batch_size, batch_norm, num_images, num_hidden=NUM_HIDDEN, patching=0):
    """Train one contender for an epoch of `num_images` images.

    Returns:
        A dict: "seconds" for 60,000 images, "accuracy", and "memory", the peak of the process in bytes.
    """
    train_images, train_labels, test_images, test_labels = fashion_mnist.load()
    torch.manual_seed(0)
    start = Net(28, *get_possible_patches(784)[patching], num_hidden, 10, batch_norm=batch_norm)
    start.apply(init_weights)
    order = torch.randperm(len(train_images))[:num_images]
    images, labels = train_images[order], train_labels[order]
    runner = CONTENDERS[contender](start, batch_size)

    # Compiling, loading of libraries, first touch of memory: with both sizes of a batch, full and last.
    few = 2 * batch_size + num_images % batch_size
    runner.fit(images[:few], labels[:few], 1)
    started = time.perf_counter()
    runner.fit(images, labels, 1)
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds * EPOCH / num_images,
        "accuracy": runner.accuracy(test_images, test_labels),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def measure_peak(seconds=3, size=512):
    """Multiply large matrices for a while, and return the floating-point operations in a second."""
    A, B = torch.randn(size, size), torch.randn(size, size)
    product(A, B)
    started, num_products = time.perf_counter(), 0
    while time.perf_counter() < started + seconds:
        product(A, B)
        num_products += 1
    return {"flops": 2 * size**3 * num_products / (time.perf_counter() - started)}


def in_processes(num_processes, threads, function, **arguments):
    """Call a function of this module in several processes at once, and return what each gives.

    Args:
        threads: of each process; None leaves it to the libraries.
    """
    environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}
    command = [sys.executable, "-m", "benchmarks.benchmark", "--call", json.dumps([function.__name__, arguments])]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
    processes = [subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) for _ in range(num_processes)]
    results = []
    for process in processes:
        stdout, stderr = process.communicate()
        if process.returncode:
            sys.exit(f"benchmark.py: {function.__name__} {arguments} failed:\n{stderr}")
        results.append(json.loads(stdout.splitlines()[-1]))
    return results


def as_one(results):
    """Sum up processes that ran side by side: seconds an epoch of all together, memory of all together."""
    return {
        "seconds": 1 / sum(1 / result["seconds"] for result in results),
        "accuracy": results[0]["accuracy"],
        "memory": sum(result["memory"] for result in results),
    }


# All measurements


def floor(batch_norm):
    """Count the floating-point operations of an epoch in the cheapest exact formulation, forward and backward.

    Without batch normalisation W₃ goes before W₂, and the mean over the tokens before W₄; see `fast/forward.py`. Each
    product of the forward is met by two of its size in the backward, but for the gradient of the images.
    """
    P, K = get_possible_patches(784)[0]
    D, H1, T, H2, num_outputs = NUM_HIDDEN
    stem = P * K**2 * D
    if batch_norm:
        mixing = D * H1 * T + T * D * H2 + T * H2 * num_outputs
    else:
        mixing = D * H1 * H2 + H2 * H1 * T + H2 * num_outputs
    forward = stem + D * P * H1 + mixing + num_outputs * 10
    return 2 * (3 * forward - stem) * EPOCH


def measure_all(num_images, repeats):
    cores = os.cpu_count()
    rows, scaling, peaks = [], [], []

    def add(table, names, results):
        table.append({**names, **as_one(results)})
        print(*names.values(), f"{table[-1]['seconds']:.1f} s an epoch, {table[-1]['accuracy']:.4f}", flush=True)

    for repeat in range(repeats):
        peaks.append(sum(result["flops"] for result in in_processes(cores, 1, measure_peak)))
        for (setting, arguments), contender in itertools.product(SETTINGS.items(), LABELS):
            processes, threads = (cores, 1) if contender == "batch" else (1, None)
            name = "ours" if contender == "batch" else contender
            results = in_processes(processes, threads, measure, contender=name, num_images=num_images, **arguments)
            add(rows, {"setting": setting, "contender": contender, "repeat": repeat}, results)
        one = {"contender": "ours", "batch_size": 128, "batch_norm": False, "num_images": num_images}
        for factor in (0.25, 0.5, 1, 2):
            num_hidden = [int(factor * n) for n in NUM_HIDDEN]
            results = in_processes(1, 1, measure, **one, num_hidden=num_hidden)
            add(scaling, {"what": "width", "value": num_hidden[1]}, results)
        for patching, (num_patches, _) in enumerate(get_possible_patches(784)[:3]):
            add(
                scaling,
                {"what": "patches", "value": num_patches},
                in_processes(1, 1, measure, **one, patching=patching),
            )
        for jobs in (1, 2, 4):
            add(scaling, {"what": "runs", "value": jobs}, in_processes(jobs, 1, measure, **one))
    machine = {"processor": processor("cpu"), "cores": cores, "flops": median(peaks)}
    return {"machine": machine, "num_images": num_images, "rows": rows, "scaling": scaling}


def check(results):
    """Exit if a contender's accuracy is not that of the others."""
    for setting in SETTINGS:
        rows = [row for row in results["rows"] if row["setting"] == setting]
        middle = median(row["accuracy"] for row in rows)
        for row in rows:
            if abs(row["accuracy"] - middle) > AGREEMENT:
                sys.exit(
                    f"benchmark.py: {row['contender']} reached {row['accuracy']:.4f} with {setting}, "
                    f"the others {middle:.4f}: it doesn't train the same network"
                )


# What is shown


def select(results, setting, contender, column="seconds"):
    rows = [row for row in results["rows"] if (row["setting"], row["contender"]) == (setting, contender)]
    return np.array([row[column] for row in sorted(rows, key=lambda row: row["repeat"])])


def table(results):
    """Write the results as Markdown: how many times faster than the literal code, and the seconds of an epoch."""
    lines = [f"| | {' | '.join(SETTINGS)} | Memory |", "|:--|" + "--:|" * (len(SETTINGS) + 1)]
    for contender, label in LABELS.items():
        cells = []
        for setting in SETTINGS:
            ratio = speedup(results, setting, contender, beside="literal")
            cells.append(f"{ratio:.1f} × ({median(select(results, setting, contender)):.0f} s)")
        memory = max(select(results, setting, contender, "memory").max() for setting in SETTINGS)
        lines.append(f"| {label} | {' | '.join(cells)} | {memory / 1e9:.1f} GB |")
    shares = [f"{100 * share(results, setting):.0f} % ({limit(results, setting):.1f} s)" for setting in SETTINGS]
    lines.append(f"| the batch's share of the machine's limit | {' | '.join(shares)} | |")
    return "\n".join(lines)


def processors_table(results):
    """Write what the batch reaches on several processors as Markdown: its speed-up, and its share of the limit.

    Args:
        results: of each processor's name, in the table's order.
    """
    lines = [f"| | GFLOP/s a core | {' | '.join(SETTINGS)} |", "|:--|--:|" + "--:|" * len(SETTINGS)]
    for name, measured in results.items():
        machine = measured["machine"]
        cells = [
            f"{speedup(measured, setting, 'batch', beside='literal'):.1f} ×, {100 * share(measured, setting):.0f} %"
            for setting in SETTINGS
        ]
        lines.append(f"| {name} | {machine['flops'] / machine['cores'] / 1e9:.0f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def speedup(results, setting, contender, beside):
    """Return how many times as fast as another a contender is, turn by turn, as the median."""
    return median(select(results, setting, beside) / select(results, setting, contender))


def limit(results, setting):
    """Return the seconds that an epoch's arithmetic takes at the machine's peak, on all cores."""
    return floor(SETTINGS[setting]["batch_norm"]) / results["machine"]["flops"]


def share(results, setting):
    """Return how much of the machine's limit the batch reaches, 1 being all."""
    return limit(results, setting) / median(select(results, setting, "batch"))


def sentence(results):
    """Say in one line how fast a batch is, beside PyTorch's usual loop and the machine's limit."""
    ratios = [speedup(results, setting, "batch", beside="vectorised") for setting in SETTINGS]
    shares = [share(results, setting) for setting in SETTINGS]
    cores, times = results["machine"]["cores"], f"{min(ratios):.0f} to {max(ratios):.0f} times"
    percent = f"{100 * min(shares):.0f} to {100 * max(shares):.0f} %"
    return (
        f"on {cores} cores a batch trains {times} as fast as PyTorch's usual loop, "
        f"with {percent} of the arithmetic that they could do"
    )


def draw(results):
    """Draw the speed of every contender, and how ours grows with width, patches and runs side by side."""
    with styled():
        figure = Figure(figsize=(6.3, 5.2), layout="constrained")
        top, bottom = figure.subfigures(2, 1, height_ratios=(3, 2))
        axes = top.add_subplot()
        height = 0.8 / len(SETTINGS)
        for i, setting in enumerate(SETTINGS):
            literal = select(results, setting, "literal")
            ratios = np.array([literal / select(results, setting, contender) for contender in LABELS])
            middle = np.median(ratios, 1)
            spread = [middle - ratios.min(1), ratios.max(1) - middle]
            places = np.arange(len(LABELS)) + (i - (len(SETTINGS) - 1) / 2) * height
            axes.barh(places, middle, height, xerr=spread, label=setting, error_kw={"linewidth": 0.8})
        axes.set_yticks(range(len(LABELS)), LABELS.values())
        axes.invert_yaxis()
        axes.set_axisbelow(True)
        axes.grid(False, axis="y")
        axes.set_xlabel("times as fast as the report's literal code")
        axes.legend()
        titles = {"width": "hidden units of MLP 1", "patches": "patches", "runs": "runs side by side"}
        for axes, (what, title) in zip(bottom.subplots(1, 3, sharey=True), titles.items(), strict=True):
            points = [(row["value"], 60 / row["seconds"]) for row in results["scaling"] if row["what"] == what]
            values = sorted({value for value, _ in points})
            rates = [median(rate for other, rate in points if other == value) for value in values]
            axes.plot(*zip(*points, strict=True), ".", color="0.6")
            axes.plot(values, rates, "-")
            axes.set_xscale("log", base=2)
            axes.set_yscale("log", base=2)
            axes.set_xticks(values, values)
            axes.yaxis.set_major_formatter("{x:g}")
            axes.set_xlabel(title)
        bottom.supylabel("epochs a minute", fontsize=9)
    return figure


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Measure the training speed of this project and of others.")
    parser.add_argument("--images", type=int, default=8_000, help="of an epoch; times are given for 60,000")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS, help="JSON file; the drawing goes beside it")
    parser.add_argument("--call", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.call:
        name, keywords = json.loads(options.call)
        print(json.dumps({"measure": measure, "measure_peak": measure_peak}[name](**keywords)))
        return
    results = measure_all(options.images, options.repeats)
    check(results)
    write_at_once(options.output, json.dumps(results, indent=1) + "\n")
    write_at_once(options.output.with_suffix(".svg"), to_svg(draw(results)))
    print(table(results))


if __name__ == "__main__":
    main()
