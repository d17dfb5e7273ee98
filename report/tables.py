"""The report's tables, in Markdown: of figures, claims, numbers, sweeps, candidates, and of what computed them."""

import numpy as np
from IPython.display import Markdown

import model
import my_utils as mu
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
from study.outcomes import UNDECIDED
from study.samples import Sample


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
    for comparison, last in zip(study.comparisons, study.comparisons_after_the_last_epoch, strict=True):
        stated, pair = comparison.stated, comparison.least_favourable
        cells = [NOT_MEASURED] * 2
        if pair:
            cells = [
                p_value(pair.difference.p_of_sign_flips(pair.margin)),
                f"{points(last.least_favourable.difference.mean)}\N{NO-BREAK SPACE}{MARKS[last.verdict]}",
            ]
        decides = f"{pair.label} ({len(comparison.pairs)} pairs)" if pair and len(comparison.pairs) > 1 else ""
        rows.append([stated.text, decides or NOT_MEASURED, stated.ours or NOT_MEASURED, *cells])
    return markdown_table(["Claim ", "Pair that decides ", "What of it is ours ", "p, flips", "Last epoch"], rows)


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


def sweep_table(study, sweep):
    """List the settings of a sweep with the mean test accuracy of their runs."""
    sweep = study.claims.sweeps[sweep]
    varied = [name for name, values in sweep.vary.items() if len(values) > 1 or len(sweep.vary) == 1]
    rows = []
    for setting in sweep.settings:
        sample = study.sample_of(setting)
        cells = [accuracy(sample.mean), interval(sample.interval, accuracy), f"{sample.num_seeds}"]
        rows.append([*(parameter(setting[name]) for name in varied), *cells])
    head = [*(f"{words(name).capitalize()} " for name in varied), "Test accuracy", "95 % interval", "Seeds"]
    return markdown_table(head, rows)


def selection_table(study):
    """Say for each sweep what choosing on the test images was worth, in points."""
    rows = [
        [
            words(selection.sweep),
            f"{selection.num_settings}",
            f"{len(selection.seeds)}",
            accuracy(np.mean(selection.by_test)),
            accuracy(np.mean(selection.by_validation)),
            points(selection.gain.mean),
            points(selection.flattery.mean),
        ]
        for selection in study.selections
    ]
    if not rows:
        return not_yet("the sweeps with training images held out")
    head = ["Sweep ", "Settings", "Seeds", "Chosen by test", "By validation", "Gain", "Flattery"]
    return markdown_table(head, rows)


def steps_table(study):
    """Set each figure against the one before it, image by image."""
    rows = [
        [
            f"{words(step.first).capitalize()} to {step.second.removeprefix('figure_')}",
            points(step.gain),
            p_value(step.p_images),
            f"{step.significant} of {step.seeds}",
            f"{100 * step.disagreement:.1f}\N{NO-BREAK SPACE}%",
            spread(step.predicted),
            spread(step.measured),
        ]
        for step in study.steps
    ]
    head = ["Step ", "Points", "p, images", "Single runs", "Disagree", "Predicted", "Measured"]
    return markdown_table(head, rows)


def beyond_table(study):
    """Say how far the network goes: each search's candidates by validation accuracy; the chosen ones are bold.

    Test accuracies are those of the runs with all training images: of the chosen candidates, and of Figure 9.
    """
    final = study.claims.figures["figure_9"].setting
    rows = []
    for search in study.claims.beyond.values():
        for name, held_out in search.held_out.items():
            validation = Sample(tuple(record["validation_accuracies"][-1] for record in study.records_of(held_out)))
            test = study.sample_of(search.candidates[name])
            title = words(name).capitalize()
            rows.append(
                [
                    f"**{title}**" if name == search.chosen else title,
                    ", ".join(str(width) for width in held_out["num_hidden"]),
                    f"{held_out['num_epochs']}",
                    f"{_num_parameters(held_out):,}",
                    f"{training_cost(held_out) / training_cost(final):.2f}",
                    accuracy(validation.mean),
                    f"{validation.num_seeds}",
                    accuracy(test.mean),
                    interval(test.interval, accuracy),
                    f"{test.num_seeds}" if test.num_seeds else NOT_MEASURED,
                ]
            )
    measured = ["Validation", "Seeds", "Test", "95 % interval", "Seeds"]
    head = ["Candidate ", "Hidden units ", "Epochs", "Parameters", "Cost", *measured]
    return markdown_table(head, rows)


def _num_parameters(setting):
    return sum(values.numel() for values in mu.net_of(setting).parameters())


def training_cost(setting):
    """Count the multiplications of a training, forward only: in each setting, backward takes about twice as many."""
    patches = model.get_possible_patches(784)[setting["patching"]]
    return model.count_multiply_adds(*patches, setting["num_hidden"], 10) * setting["num_epochs"]


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
    """Say what the figures' numbers were computed with: versions, processor, threads, data."""
    records = [record for result in study.figures.values() for record in result.records]

    def all_of(value):
        return ", ".join(sorted({str(value(record)) for record in records}))

    rows = [
        ("Runs", f"{len(records)}, one a figure and seed"),
        ("Trained with", all_of(lambda record: f"PyTorch {record['torch']}")),
        ("torchvision, NumPy", all_of(lambda record: f"{record['torchvision']}, {record['numpy']}")),
        ("Python", all_of(lambda record: record["python"])),
        ("Processor", all_of(lambda record: record["processor"])),
        ("Threads a run", all_of(lambda record: record["threads"])),
        ("Forward pass", all_of(lambda record: words(record["forward"]))),
        ("Version of the training code", all_of(lambda record: record["training_version"])),
    ]
    return markdown_table(["What ", "Value "], rows)


def data_checksums():
    """List the data set's files with the SHA-256 that was checked."""
    files = fashion_mnist.FILES.items()
    rows = [(f"`{name}`", f"{size:,}", f"`{digest[:16]}…`") for name, (size, digest) in files]
    return markdown_table(["File, decompressed ", "Bytes", "SHA-256 begins "], rows)
