"""The pieces of the report that come from the records: its figures, tables and sentences with numbers."""

import math

import numpy as np
import torch
from IPython.display import Markdown, display
from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

import claims
import fashion_mnist
import my_utils as mu
import records
from model import Net, get_possible_patches

TOLERANCE = 0.015  # 1.5 points: how near a reported and a measured accuracy must lie to be called close


def load_results(folder="figures", overrides=None):
    """Read what a folder of figures holds: for each figure that has records its claim, records and accuracies.

    Args:
        folder: with `runs.jsonl`; a relative one starts at the project's root.
        overrides: parameters in which the runs differ from the notebooks' own, as in a trial.

    Returns:
        A dict from "figure_N" to a dict of "number", "change", "reported", "setting", "records", "accuracies" (array,
        one a seed), "mean" and "difference" (measured mean less reported).
    """
    table = records.read_records(records.ROOT / folder / records.TABLE)
    results = {}
    for name, claim in claims.load()["figures"].items():
        setting = claims.notebook_defaults(name) | (overrides or {})
        found = records.select(table, setting)
        if found:
            accuracies = np.array([record["test_accuracy"] for record in found])
            results[name] = {
                "number": int(name.removeprefix("figure_")),
                "change": claim["change"],
                "reported": claim["reported"],
                "setting": setting,
                "records": found,
                "accuracies": accuracies,
                "mean": accuracies.mean(),
                "difference": accuracies.mean() - claim["reported"],
            }
    return results


# Sentences


def points(difference):
    """Write a difference of accuracies in points, with its sign; what rounds to zero has a plus."""
    return f"{100 * difference:+z.2f}".replace("-", "−")


def _spread(result):
    """Write the standard deviation between seeds, in points; a dash if there is one seed only."""
    accuracies = result["accuracies"]
    return f"{100 * accuracies.std(ddof=1):.2f}" if len(accuracies) > 1 else "–"


def summary(results):
    """Say in a paragraph how near the measured accuracies come to the reported ones, and how much they scatter."""
    close = [result for result in results.values() if abs(result["difference"]) <= TOLERANCE]
    farthest = max(results.values(), key=lambda result: abs(result["difference"]))
    text = (
        f"Of the {len(results)} reported accuracies, **{len(close)} lie within {100 * TOLERANCE:g} points** "
        f"of our mean. The largest difference is {points(farthest['difference'])} points, in "
        f"[Figure {farthest['number']}](#fig-{farthest['number']})."
    )
    # The last steps of the report, each compared with the scatter of one run around the mean of its setting.
    ladder = [result for result in results.values() if result["number"] >= 5]
    scattered = [result["accuracies"].std(ddof=1) for result in ladder if len(result["accuracies"]) > 1]
    if len(scattered) > 1:
        steps = np.abs(np.diff([result["reported"] for result in ladder]))
        spread = np.sqrt(np.mean(np.square(scattered)))
        text += (
            f" From Figure {ladder[0]['number']} on, the report's steps are {100 * steps.min():.2f} to "
            f"{100 * steps.max():.2f} points high. In our runs of the same settings, two runs that differ in nothing "
            f"but the seed lie {100 * spread * 2**0.5:.2f} points apart (root mean square): "
            + (
                "a single run of each setting can't tell such steps from chance."
                if steps.max() < 2 * spread * 2**0.5
                else "some of these steps are larger than chance alone would make them, others are not."
            )
        )
    return Markdown(text)


def caption(result):
    """Put the result of a figure into its caption."""
    accuracies = result["accuracies"]
    measured = f"{result['mean']:.4f}"
    if len(accuracies) > 1:
        measured += f", the mean of {len(accuracies)} seeds from {accuracies.min():.4f} to {accuracies.max():.4f}"
    else:
        measured += f" with seed {result['records'][0]['seed']}"
    sentence = result["change"][0].upper() + result["change"][1:]
    return (
        f"{sentence}. Test accuracy: reported {result['reported']:.4f}, measured {measured} "
        f"({points(result['difference'])} points)."
    )


# Tables


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


def results_table(results, link="#fig-{}"):
    """Set reported and measured accuracies of all figures side by side, each figure's number linked to its place."""
    rows = [
        [
            f"[{result['number']}]({link.format(result['number'])})",
            result["change"],
            f"{result['reported']:.4f}",
            f"{result['mean']:.4f}",
            points(result["difference"]),
            _spread(result),
            f"{len(result['accuracies'])}",
        ]
        for result in results.values()
    ]
    return markdown_table(
        ["Figure ", "What changed ", "Reported", "Measured", "Difference", "Deviation", "Seeds"], rows
    )


def provenance(results):
    """Say what the numbers were computed with: versions, processor, threads, data."""
    found = [record for result in results.values() for record in result["records"]]

    def all_of(value):
        return ", ".join(sorted({str(value(record)) for record in found}))

    rows = [
        ("Runs", f"{len(found)}, one a figure and seed"),
        ("Trained with", all_of(lambda record: f"PyTorch {record['torch']}")),
        (
            "torchvision, NumPy",
            all_of(lambda record: f"{record['torchvision']}, {record['numpy']}"),
        ),
        ("Python", all_of(lambda record: record["python"])),
        ("Processor", all_of(lambda record: record["processor"])),
        ("Threads a run", all_of(lambda record: record["threads"])),
        ("Forward pass", all_of(lambda record: record["forward"].replace("_", " "))),
        ("Version of the training code", all_of(lambda record: record["training_version"])),
    ]
    return markdown_table(["What ", "Value "], rows)


def data_checksums():
    """List the data set's files with the SHA-256 that was checked."""
    rows = [(f"`{name}`", f"{size:,}", f"`{digest[:16]}…`") for name, (size, digest) in fashion_mnist.FILES.items()]
    return markdown_table(["File, decompressed ", "Bytes", "SHA-256 begins "], rows)


# Figures


def draw_overview(results):
    """Draw the curves of all figures as one strip of small panels; returns a `matplotlib.figure.Figure`."""
    with style.context(["petroff10", mu.STYLE, {"font.size": 7}]):
        rows = max(2, math.ceil(len(results) / 4))
        figure = Figure(figsize=(9, 1.6 * rows), layout="constrained")
        panels = figure.subplots(rows, 4, sharey=True).flatten()
        for axes, result in zip(panels, results.values(), strict=False):
            mu.draw_curves(axes, [records.history(record) for record in result["records"]], result["reported"])
            axes.set_ylim(0, 1)
            axes.set_title(f"{result['number']}: {result['change']}", fontsize=7)
        for axes in panels[len(results) :]:
            axes.set_visible(False)
        handles, labels = panels[len(results) - 1].get_legend_handles_labels()
        figure.legend(handles, [label.split(",")[0] for label in labels], loc="outside lower center", ncols=4)
    return figure


def draw_result(result):
    """Draw the curves of a figure of the report; returns a `matplotlib.figure.Figure`."""
    num_epochs, num_rounds = result["setting"]["num_epochs"], result["setting"].get("num_rounds", 1)
    return mu.plot_curves(
        [records.history(record) for record in result["records"]],
        result["reported"],
        first_reported_epoch=num_epochs - num_epochs // num_rounds + 1,
    )


def show_result(result):
    """Display a figure of the report with its caption."""
    lines = "training loss, training accuracy and test accuracy"
    show_drawing(
        draw_result(result),
        caption(result),
        f"Curves of {lines} against the epoch; a line marks the reported test accuracy, {result['reported']:g}. "
        f"The measured test accuracy ends at {result['mean']:.4f}; a second panel has it close up.",
        result["number"],
    )


def show_drawing(figure, caption, alt, number):
    """Display a `matplotlib.figure.Figure` with its number, caption and alternative text.

    HTML has them in itself, our PDF takes them from the metadata. LaTeX knows no caption of an output, so that it gets
    one as an output of its own, which is empty elsewhere.
    """
    data = mu.drawing(figure, alt)
    caption_html = f"<figcaption>Figure {number}: {caption}</figcaption>"
    data["text/html"] = f'<figure id="fig-{number}">{data["text/html"]}{caption_html}</figure>'
    about = {"caption": caption, "alt": alt, "label": f"fig-{number}", "number": number, "width": "100%"}
    display(data, metadata={"image/svg+xml": about}, raw=True)
    caption_only = {"text/html": "", "text/markdown": f"[*Figure {number}:*]{{#fig-{number}}} {caption}"}
    display(caption_only, metadata={"caption_of": f"fig-{number}"}, raw=True)


def model_shapes(num_hidden):
    """Follow one image through the network and list the matrices on its way.

    Returns:
        A list of (part, operation, symbol, rows, columns), the operation being what made the matrix.
    """
    num_patches, patch_dims = get_possible_patches(784)[0]
    net = Net(28, num_patches, patch_dims, num_hidden, 10)
    steps = [
        ("Stem", "cut", "patches", net.stem.patches),
        ("Stem", "linear", "$X$", net.stem.linear),
        ("MLP 1", "transpose", "$X^T$", net.backbone.mlp1[0]),
        ("MLP 1", "$W_1$, ReLU", "", net.backbone.mlp1[1:3]),
        ("MLP 1", "$W_2$", "", net.backbone.mlp1[3]),
        ("MLP 1", "transpose", "$O_1$", net.backbone.mlp1[4]),
        ("MLP 2", "$W_3$, ReLU", "", net.backbone.mlp2[0:2]),
        ("MLP 2", "$W_4$", "$O_2$", net.backbone.mlp2[2]),
        ("Classifier", "mean", "", lambda O2: O2.mean(dim=1, keepdim=True)),
        ("Classifier", "linear", "scores", net.classifier.linear),
    ]
    shapes, X = [], torch.zeros(1, 1, 28, 28)
    for part, operation, symbol, compute in steps:
        X = compute(X)
        shapes.append((part, operation, symbol, *X.shape[1:]))
    return shapes


def show_model(num_hidden):
    """Display the network as the row of matrices that one image becomes."""
    shapes = model_shapes(num_hidden)
    show_drawing(
        _draw_model(shapes),
        "One image on its way through the network: the matrix after each operation, rows × columns, its sides drawn "
        "in proportion to the square roots of their sizes. A batch is a stack of these.",
        "Diagram of the network. " + " ".join(f"{part}, {op}: {r} by {c}." for part, op, _, r, c in shapes),
        1,
    )


def _draw_model(shapes):
    colours = dict(zip(("Stem", "MLP 1", "MLP 2", "Classifier"), ("C0", "C1", "C2", "C3"), strict=True))
    gap = 11
    with style.context(["petroff10", mu.STYLE]):
        figure = Figure(figsize=(6.3, 1.35), layout="constrained")
        axes = figure.add_subplot()
        axes.set_axis_off()
        x, starts = 0, {}
        for part, operation, symbol, rows, columns in shapes:
            arrow = {"arrowstyle": "->", "color": "0.4", "linewidth": 0.8}
            axes.annotate("", (x - 0.8, 0), (x - gap + 0.8, 0), arrowprops=arrow)
            axes.text(x - gap / 2, 1, operation, ha="center", va="bottom", fontsize=6.5, rotation=90)
            width, height = columns**0.5, rows**0.5
            axes.add_patch(Rectangle((x, -height / 2), width, height, facecolor=colours[part], alpha=0.55))
            axes.text(x + width / 2, -height / 2 - 1, f"{rows}×{columns}", ha="center", va="top", fontsize=6.5)
            axes.text(x + width / 2, height / 2 + 0.6, symbol, ha="center", va="bottom", fontsize=6.5)
            starts.setdefault(part, [x - gap, x])[1] = x + width
            x += width + gap
        for part, (start, end) in starts.items():
            axes.plot([start + 1, end], [-14, -14], color=colours[part], linewidth=2.5, solid_capstyle="butt")
            axes.text((start + end) / 2, -15.5, part, ha="center", va="top", fontsize=8)
        axes.set(xlim=(-gap - 1, x - gap + 1), ylim=(-19, 13))
    return figure
