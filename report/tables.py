"""The report's tables, in Markdown: of figures, claims, numbers, sweeps, candidates, and of what computed them."""

import numpy as np
from IPython.display import Markdown

from common import fashion_mnist
from common.formatting import (
    NOT_MEASURED,
    accuracy,
    interval,
    p_value,
    parameter,
    percentile,
    points,
    spread,
    words,
)
from report.verdict import MARKS, not_yet, remark
from study import power
from study.candidates import training_cost
from study.outcomes import UNDECIDED
from study.samples import Sample

HEADS = {
    "norm_axis": "Normalised axis",
    "norm_after_relu": "After the ReLU",
}  # where a parameter's name says too little


def markdown_table(head, rows):
    """Write a Markdown table; a column whose head ends in a space is set flush left, others flush right.

    Each column's rule is as long as its longest cell: pandoc takes the columns' shares of a narrow page from that.
    """
    cells = [[title.strip() for title in head], *rows]
    widths = [max(map(len, column)) + 2 for column in zip(*cells, strict=True)]
    rule = [
        f":{'-' * width}" if title.endswith(" ") else f"{'-' * width}:"
        for title, width in zip(head, widths, strict=True)
    ]
    return Markdown("\n".join("| " + " | ".join(row) + " |" for row in [cells[0], rule, *rows]))


def captioned(number, caption, table):
    """Put a number and a caption above a table; where there is none yet, what stands in its place is left alone."""
    if table is None or not table.data.startswith("|"):
        return table
    return Markdown(f"Table {number}: {caption}\n\n{table.data}")


def results_table(study, link="#fig-{}"):
    """Set reported and measured accuracies of all figures side by side, each figure's number linked to its place."""
    rows = [
        [
            f"[{result.number}]({link.format(result.number)})",
            result.figure.change,
            accuracy(result.figure.reported),
            accuracy(result.sample.mean),
            points(result.difference),
            spread(result.sample.deviation),
            f"{result.sample.num_seeds}",
        ]
        for result in study.figures.values()
    ]
    head = ["Figure ", "What changed ", "Reported", "Measured", "Difference", "Deviation", "Seeds"]
    return markdown_table(head, rows)


def comparisons_table(study):
    """Set every comparison of the report beside what our runs say about it, the verdict next to the claim."""
    rows = []
    for comparison in study.comparisons:
        stated, pair = comparison.stated, comparison.least_favourable
        cells = [NOT_MEASURED] * 4
        if pair:
            cells = [
                points(pair.reported),
                points(pair.difference.mean),
                interval(comparison.interval, points),
                p_value(comparison.corrected),
            ]
        seeds = f"{comparison.num_seeds}{_needed(comparison)}"
        rows.append([stated.text, verdict_cell(study, comparison), f"{stated.figure}", *cells, seeds])
    head = ["Claim ", "Verdict ", "Figure", "Reported", "Measured", "Interval", "p", "Seeds"]
    return markdown_table(head, rows)


def checks_table(study):
    """Say of every comparison which of its pairs decides, what of it is ours, and what other ways to judge it say."""
    rows = []
    others = study.comparisons_after_the_last_epoch, study.comparisons_by_earlier_seeds
    for comparison, last, earlier in zip(study.comparisons, *others, strict=True):
        stated, pair = comparison.stated, comparison.least_favourable
        decides = f"{pair.label} ({len(comparison.pairs)} pairs)" if pair and len(comparison.pairs) > 1 else ""
        flips = pair.difference.p_of_sign_flips(pair.margin) if pair else float("nan")
        cells = [decides or NOT_MEASURED, stated.ours or NOT_MEASURED, p_value(flips), _gain(last), _gain(earlier)]
        rows.append([stated.text, *cells])
    head = ["Claim ", "Pair that decides ", "What of it is ours ", "p, flips", "Last epoch", "Earlier seeds"]
    return markdown_table(head, rows)


def _gain(comparison):
    """Write what a comparison measured, and the sign of its verdict."""
    pair = comparison.least_favourable
    return f"{points(pair.difference.mean)}\N{NO-BREAK SPACE}{MARKS[comparison.verdict]}" if pair else NOT_MEASURED


def _needed(comparison):
    """Say how many seeds an undecided claim would take, as far as those it has can tell."""
    if comparison.verdict != UNDECIDED:
        return ""
    needed = power.seeds_needed(comparison)
    return f"\N{NO-BREAK SPACE}({'>1000' if needed is None else f'≈{needed}'})"


def verdict_cell(study, judged):
    """Write the verdict on a claim or a number with its sign, and what has to be known of it; a trial has none."""
    if study.overrides:
        return NOT_MEASURED
    return mark(judged.verdict) + remark(judged.is_deterministic, judged.exploratory)


def mark(verdict):
    """Write a verdict with its sign, the two on one line."""
    return f"{MARKS[verdict]}\N{NO-BREAK SPACE}{verdict}"


def numbers_table(study):
    """Set every reported accuracy beside the mean of our runs and the range in which one more run would fall."""
    rows = [
        [
            number.label,
            verdict_cell(study, number),
            accuracy(number.reported),
            accuracy(number.sample.mean),
            interval(number.range_of_runs, accuracy),
            percentile(number.sample.percentile(number.reported)),
            f"{number.sample.num_seeds}",
        ]
        for number in study.numbers
    ]
    head = ["Setting ", "Verdict ", "Reported", "Measured", "Range of runs", "Percentile", "Seeds"]
    return markdown_table(head, rows)


def sweep_table(study, *names):
    """List the settings of a sweep, or of several of the same parameters, with the mean accuracy of their runs."""
    sweeps = [study.claims.sweeps[name] for name in names]
    vary = sweeps[0].vary
    varied = [name for name, values in vary.items() if len(values) > 1 or len(vary) == 1]
    rows = []
    for setting in [setting for sweep in sweeps for setting in sweep.settings]:
        sample = study.sample_of(setting)
        cells = [accuracy(sample.mean), interval(sample.interval, accuracy), f"{sample.num_seeds}"]
        rows.append([*(parameter(setting[name]) for name in varied), *cells])
    titles = [f"{HEADS.get(name, words(name).capitalize())} " for name in varied]
    head = [*titles, "Test accuracy", "95 % interval", "Seeds"]
    return markdown_table(head, rows)


def selection_table(study):
    """Say for each sweep what choosing on the test images was worth, in points."""
    rows = [
        [
            words(selection.sweep).capitalize(),
            f"{selection.num_settings}",
            f"{len(selection.seeds)}",
            accuracy(np.mean(selection.by_test)),
            accuracy(np.mean(selection.by_validation)),
            points(selection.gain.mean),
            interval(selection.gain.interval, points),
            points(selection.flattery.mean),
            interval(selection.flattery.interval, points),
        ]
        for selection in study.selections
    ]
    if not rows:
        return not_yet("the sweeps with training images held out")
    head = ["Sweep ", "Settings", "Seeds", "Chosen by test", "By validation"]
    head += ["Gain", "95 % interval", "Flattery", "95 % interval"]
    return markdown_table(head, rows)


def steps_table(study):
    """Set each figure against the one before it, image by image."""
    rows = [
        [
            f"{words(step.first).capitalize()} to {step.second.removeprefix('figure_')}",
            points(step.gain),
            interval(step.interval, points),
            p_value(step.p_images),
            f"{step.significant} of {step.seeds}",
            f"{100 * step.disagreement:.1f}\N{NO-BREAK SPACE}%",
            spread(step.predicted),
            spread(step.measured),
        ]
        for step in study.steps
    ]
    head = ["Step ", "Gain", "Seeds and images", "p, images", "Single runs", "Disagree", "Predicted", "Measured"]
    return markdown_table(head, rows)


def own_runs(study):
    """Set the user's own runs of the figures beside the committed ones, if there are any."""
    rows = [
        [
            f"[{result.number}](#fig-{result.number})",
            f"{record['seed']}",
            accuracy(record["test_accuracy"]),
            accuracy(result.accuracies.get(record["seed"], float("nan"))),
            interval(Sample.of(result.committed).range_of_runs, accuracy),
            agreement.split(":")[0],
        ]
        for result in study.figures.values()
        for record, agreement in zip(result.own, result.agreements, strict=True)
    ]
    head = ["Figure ", "Seed", "Yours", "Committed", "95 % of runs", "Agreement "]
    return markdown_table(head, rows) if rows else None


def provenance(study):
    """Say of each kind of processor how many runs it made, what these cost, and with which versions.

    The cost is in 10¹⁵ multiplications, backward as twice forward; the version that of the training code. What a
    package's version says of its build, after a plus sign, is left to the records.
    """
    by_processor = {}
    for record in study.records:
        by_processor.setdefault(record["processor"] or record["device"], []).append(record)

    def versions(records, column):
        return ", ".join(sorted({str(record[column]).split("+")[0] for record in records}))

    def arithmetic(records):
        images = [record["train_limit"] - record["num_validation"] for record in records]
        return 3 * sum(training_cost(record) * number for record, number in zip(records, images, strict=True))

    rows = [
        [
            name,
            f"{len(records):,}",
            _from_to(record["seed"] for record in records),
            f"{sum(record['num_epochs'] for record in records):,}",
            f"{arithmetic(records) / 1e15:,.1f}",
            *(versions(records, column) for column in ("python", "torch", "torchvision", "numpy", "training_version")),
        ]
        for name, records in by_processor.items()
    ]
    software = ["Python", "PyTorch", "torchvision", "NumPy", "Version"]
    return markdown_table(["Processor ", "Runs", "Seeds", "Epochs", "Cost", *software], rows)


def _from_to(numbers):
    numbers = sorted(set(numbers))
    return f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"{numbers[0]}"


def data_checksums():
    """List the data set's files with the SHA-256 that was checked."""
    files = fashion_mnist.FILES.items()
    rows = [(f"`{name}`", f"{size:,}", f"`{digest[:16]}…`") for name, (size, digest) in files]
    return markdown_table(["File, decompressed ", "Bytes", "SHA-256 begins "], rows)
