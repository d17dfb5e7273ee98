"""The report's evidence: tables, sentences and drawings of what `verdicts.py` and `per_image.py` find in the runs."""

import numpy as np
from IPython.display import Markdown
from matplotlib import style
from matplotlib.figure import Figure

import claims
import my_utils as mu
import per_image
import records
import signals
import verdicts
from model import Net, count_multiply_adds, get_possible_patches
from reporting import markdown_table, points, show_drawing
from verdicts import CONTRADICTED, HOLDS, UNDECIDED, UNTESTED

MARKS = {HOLDS: "✓", CONTRADICTED: "✗", UNDECIDED: "≈", UNTESTED: "…"}
WORDS = {  # of one, and of several
    HOLDS: ("holds", "hold"),
    CONTRADICTED: ("is contradicted", "are contradicted"),
    UNDECIDED: ("can't be told from chance", "can't be told from chance"),
    UNTESTED: ("has too few runs yet", "have too few runs yet"),
}
NOT_MEASURED = "–"


def load(folder="figures", overrides=None):
    """Read the claims and the records of a folder of figures, and judge every claim.

    Args:
        folder: with `runs.jsonl`; a relative one starts at the project's root.
        overrides: parameters in which the runs differ from the claims' settings, as in a trial.

    Returns:
        A dict with "table" (all records), "claims", "overrides", "numbers", "comparisons", "effects", "selections".
    """
    table = records.read_records(records.ROOT / folder / records.TABLE)
    known = claims.load()
    arguments = table, known, overrides
    return {
        "table": table,
        "claims": known,
        "overrides": overrides or {},
        "numbers": verdicts.judge_numbers(*arguments),
        "comparisons": verdicts.judge_comparisons(*arguments),
        "effects": verdicts.factorial_effects(*arguments),
        "selections": verdicts.judge_selection(*arguments),
    }


# Wording


def _verdict(verdict):
    return f"{MARKS[verdict]} {verdict}"


def _accuracy(value):
    return NOT_MEASURED if np.isnan(value) else f"{value:.4f}"


def _range(interval, write):
    return NOT_MEASURED if np.isnan(interval[0]) else f"{write(interval[0])} to {write(interval[1])}"


def _p(value):
    return NOT_MEASURED if np.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _p_equals(value):
    return f"p {_p(value)}" if value < 0.001 else f"p = {_p(value)}"


def _percentile(value):
    return NOT_MEASURED if np.isnan(value) else f"{100 * value:.0f}"


def _needed(pair):
    if pair.difference.num_seeds < verdicts.LEAST_SEEDS:
        return NOT_MEASURED
    needed = pair.seeds_needed
    return ">1000" if needed is None else f"{needed}"


def _number_of(count, thing):
    return f"{count} {thing}{'s' * (count != 1)}"


def _counted(judged):
    """Count verdicts: 3 hold, 2 are contradicted."""
    found = [item.verdict for item in judged]
    parts = [f"{found.count(v)} {WORDS[v][found.count(v) != 1]}" for v in WORDS if v in found]
    return ", ".join(parts[:-1]) + " and " * (len(parts) > 1) + parts[-1]


# The page of claims


def summary(evidence):
    """Say in a paragraph how the claims fare."""
    numbers, comparisons = evidence["numbers"], evidence["comparisons"]
    text = (
        f"Of the report's {_number_of(len(numbers), 'number')}, {_counted(numbers)}. "
        f"Of its {_number_of(len(comparisons), 'comparison')}, **{_counted(comparisons)}**."
    )
    percentile, p = verdicts.luck([number for number in numbers if number.name in evidence["claims"]["figures"]])
    if not np.isnan(percentile):
        text += (
            f" On average the accuracy of a figure from 3 on lies at percentile {100 * percentile:.0f} of ours; "
            f"chance alone brings it so far up with {_p_equals(p)}."
        )
    return Markdown(text)


def comparisons_table(evidence):
    """Set every comparison of the report beside what our runs say about it."""
    rows = []
    for comparison in evidence["comparisons"]:
        pair = comparison.closest
        cells = [NOT_MEASURED] * 5 + ["0"]
        if pair:
            cells = [
                NOT_MEASURED if np.isnan(pair.reported) else points(pair.reported),
                points(pair.difference.mean),
                _range(pair.difference.interval, points),
                f"{100 * pair.probability:.0f} %",
                _p(pair.corrected),
                f"{pair.difference.num_seeds} ({_needed(pair)})",
            ]
        name = comparison.claim + (f" ({len(comparison.pairs)} pairs)" if len(comparison.pairs) > 1 else "")
        rows.append([f"{comparison.figure}", name, *cells, _verdict(comparison.verdict)])
    head = ["Fig. ", "Claim ", "Reported", "Measured", "95 % interval", "Wins", "p", "Seeds", "Verdict "]
    return markdown_table(head, rows)


def numbers_table(evidence):
    """Set every reported accuracy beside the mean of our runs and the range in which one more run would fall."""
    rows = [
        [
            _label(number),
            f"{number.reported:.4f}",
            _accuracy(number.sample.mean),
            _range(number.sample.range_of_runs, _accuracy),
            _percentile(number.sample.percentile(number.reported)),
            f"{number.sample.num_seeds}",
            _verdict(number.verdict),
        ]
        for number in evidence["numbers"]
    ]
    head = ["Setting ", "Reported", "Measured", "95 % of runs", "Percentile", "Seeds", "Verdict "]
    return markdown_table(head, rows)


def _label(number):
    if number.name.startswith("figure_") and number.name.count("_") == 1:
        return f"Figure {number.name.removeprefix('figure_')}: {number.what}"
    names = {
        "figure_2_epochs": "N(0, 1)",
        "figure_2_batch_sizes": "N(0, 1)",
        "figure_2_learning_rates": "N(0, 1)",
        "grid": "Grid",
        "adam_first_try": "Adam",
        "augmentation": "Augmentation",
    }
    what = number.what.removeprefix("augmentation Random").replace(" and Random", ", ").replace("num epochs", "epochs")
    return f"{names.get(number.name, number.name)}: {what}"


def figure_verdict(figure, evidence=None):
    """Say what the committed runs say about a figure, such as "figure_4": its number, and what follows from it."""
    evidence = evidence or load()
    number = next(number for number in evidence["numbers"] if number.name == figure)
    sample = number.sample
    if sample.num_seeds < verdicts.LEAST_SEEDS:
        return Markdown(f"There are {_number_of(sample.num_seeds, 'run')} of this setting: too few for a verdict.")
    low, high = sample.range_of_runs
    lines = [
        f"**The number {WORDS[number.verdict][0]}.** Over {sample.num_seeds} seeds the test accuracy is "
        f"{sample.mean:.4f} on average, and one more run would fall between {low:.4f} and {high:.4f} with 95 % "
        f"probability. The reported {number.reported:g} lies at percentile "
        f"{_percentile(sample.percentile(number.reported))}."
    ]
    for comparison in evidence["comparisons"]:
        if f"figure_{comparison.figure}" == figure:
            lines.append(f"- *{comparison.claim}*: **{comparison.verdict}**" + _reason(comparison) + ".")
    return Markdown("\n\n".join(lines[:1]) + "\n\n" + "\n".join(lines[1:]))


def _reason(comparison):
    pair = comparison.closest
    if not pair or pair.difference.num_seeds < verdicts.LEAST_SEEDS:
        return ""
    closest = "the closest pair: " if len(comparison.pairs) > 1 else ""
    reported = "" if np.isnan(pair.reported) else f"reported {points(pair.reported)} points, measured "
    return (
        f" ({closest}{reported}{points(pair.difference.mean)} points, "
        f"95 % interval {_range(pair.difference.interval, points)}, "
        f"corrected {_p_equals(pair.corrected)}, {pair.difference.num_seeds} seeds)"
    )


def draw_numbers(evidence):
    """Draw every reported accuracy as a mark over the runs of its setting; returns a `matplotlib.figure.Figure`."""
    numbers = evidence["numbers"]
    with style.context(["petroff10", mu.STYLE, {"font.size": 7}]):
        figure = Figure(figsize=(6.3, 0.5 + 0.19 * len(numbers)), layout="constrained")
        low, high = figure.subplots(1, 2, sharey=True, width_ratios=[1, 3])
        for row, number in enumerate(numbers):
            start, end = number.sample.range_of_runs
            for axes in (low, high):  # each shows its part of the scale
                if not np.isnan(start):
                    axes.plot([start, end], [row, row], color="C0", alpha=0.25, linewidth=6, solid_capstyle="butt")
                axes.plot(number.sample.accuracies, [row] * number.sample.num_seeds, "o", color="C0", markersize=2.5)
                axes.plot(number.reported, row, "D", color="C1", markersize=4, markerfacecolor="none", zorder=3)
        low.set_yticks(range(len(numbers)), [_label(number) for number in numbers])
        low.set(xlim=(0, 0.72), ylim=(len(numbers) - 0.5, -0.5))
        high.set(xlim=(0.72, 0.92))
        high.tick_params(left=False)
        handles = [
            high.plot([], [], "D", color="C1", markersize=4, markerfacecolor="none")[0],
            high.plot([], [], "o", color="C0", markersize=2.5)[0],
            high.plot([], [], color="C0", alpha=0.25, linewidth=6)[0],
        ]
        labels = ["reported", "our runs", "range of 95 % of runs"]
        figure.legend(handles, labels, loc="outside upper right", ncols=3)
        figure.supxlabel("test accuracy (note the two scales)", fontsize=7)
    return figure


# The grid


def grid_means(evidence):
    """Average the test accuracy of the grid's settings over the seeds.

    Returns:
        The numbers of epochs, batch sizes and learning rates, and an array of that shape, nan where there is no run.
    """
    vary = evidence["claims"]["sweeps"]["grid"]["vary"]
    axes = vary["num_epochs"], vary["batch_size"], vary["learning_rate"]
    means = np.full([len(values) for values in axes], np.nan)
    for setting in claims.sweep_settings("grid", evidence["claims"]):
        place = tuple(
            values.index(setting[name])
            for values, name in zip(axes, ("num_epochs", "batch_size", "learning_rate"), strict=True)
        )
        means[place] = verdicts.sample_of(evidence["table"], setting | evidence["overrides"]).mean
    return *axes, means


def draw_grid(evidence):
    """Draw the grid as heat maps, one a number of epochs, reported accuracies in brackets."""
    epochs, batch_sizes, rates, means = grid_means(evidence)
    reported = {
        (setting["num_epochs"], setting["batch_size"], setting["learning_rate"]): accuracy
        for _, setting, accuracy in claims.reported_settings("grid", evidence["claims"])
    }
    with style.context(["petroff10", mu.STYLE, {"axes.grid": False, "font.size": 8}]):
        figure = Figure(figsize=(6.3, 2.3), layout="constrained")
        panels = figure.subplots(1, len(epochs), sharey=True)
        lowest, highest = np.nanmin(means), np.nanmax(means)
        for axes, num_epochs, values in zip(panels, epochs, means, strict=True):
            image = axes.imshow(values, cmap="cividis", vmin=lowest, vmax=highest, aspect="auto")
            for (row, column), value in np.ndenumerate(values):
                if not np.isnan(value):
                    text = f"{value:.4f}"
                    stated = reported.get((num_epochs, batch_sizes[row], rates[column]))
                    text += f"\n({stated:.4f})" if stated else ""
                    dark = value < (lowest + highest) / 2
                    colour = "white" if dark else "black"
                    axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=7.5)
            axes.set_xticks(range(len(rates)), rates)
            axes.set_yticks(range(len(batch_sizes)), batch_sizes)
            axes.set(title=f"{num_epochs} epochs", xlabel="learning rate")
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0)
        panels[0].set_ylabel("batch size")
        figure.colorbar(image, ax=panels, label="test accuracy", shrink=0.9)
    return figure


# Order and selection


def draw_effects(evidence):
    """Draw the effects of the factorial with their intervals, beside the steps of the report's chain."""
    effects = evidence["effects"]
    chain = {
        "Adam": ("figure_6", "figure_5"),
        "weight decay": ("figure_7", "figure_6"),
        "batch norm": ("figure_8", "figure_7"),
    }
    with style.context(["petroff10", mu.STYLE, {"font.size": 8}]):
        figure = Figure(figsize=(6.3, 0.7 + 0.2 * len(effects)), layout="constrained")
        axes = figure.add_subplot()
        for row, effect in enumerate(effects):
            low, high = (100 * end for end in effect.sample.interval)
            axes.plot([low, high], [row, row], color="C0", linewidth=1.5)
            axes.plot(100 * effect.sample.mean, row, "o", color="C0", markersize=4)
            (name,) = effect.factors if len(effect.factors) == 1 else (None,)
            if name in chain:
                first, second = (claims.notebook_defaults(f) | evidence["overrides"] for f in chain[name])
                step = verdicts.pair_of(evidence["table"], first, second).difference.mean
                axes.plot(100 * step, row, "D", color="C1", markersize=5, markerfacecolor="none")
        axes.axvline(0, color="0.4", linewidth=0.8)
        axes.set_yticks(range(len(effects)), [effect.name for effect in effects])
        axes.set(ylim=(len(effects) - 0.5, -0.5), xlabel="effect on test accuracy, in points")
        handles = [
            axes.plot([], [], "o-", color="C0", markersize=4)[0],
            axes.plot([], [], "D", color="C1", markersize=5, markerfacecolor="none")[0],
        ]
        figure.legend(
            handles,
            ["averaged over the other factors", "as a step of the report, in our runs"],
            loc="outside upper right",
            ncols=2,
        )
    return figure


def selection_table(evidence):
    """Say for each sweep what choosing on the test images was worth, in points."""
    rows = [
        [
            selection.sweep.replace("_", " "),
            f"{selection.num_settings}",
            f"{len(selection.seeds)}",
            f"{np.mean(selection.by_test):.4f}",
            f"{np.mean(selection.by_validation):.4f}",
            points(selection.gain.mean),
            points(selection.flattery.mean),
        ]
        for selection in evidence["selections"]
    ]
    if not rows:
        return _not_yet("the sweeps with training images held out")
    head = ["Sweep ", "Settings", "Seeds", "Chosen by test", "By validation", "Gain", "Flattery"]
    return markdown_table(head, rows)


def sweep_table(evidence, sweep):
    """List the settings of a sweep with the mean test accuracy of their runs."""
    vary = evidence["claims"]["sweeps"][sweep]["vary"]
    varied = [name for name, values in vary.items() if len(values) > 1 or len(vary) == 1]
    rows = []
    for setting in claims.sweep_settings(sweep, evidence["claims"]):
        sample = verdicts.sample_of(evidence["table"], setting | evidence["overrides"])
        rows.append(
            [
                *(_value(setting[name]) for name in varied),
                _accuracy(sample.mean),
                _range(sample.interval, _accuracy),
                f"{sample.num_seeds}",
            ]
        )
    head = [*(f"{name.replace('_', ' ').capitalize()} " for name in varied), "Test accuracy", "95 % interval", "Seeds"]
    return markdown_table(head, rows)


def _value(value):
    if isinstance(value, list):
        return ", ".join(name.removeprefix("Random") for name in value)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else f"{value:f}".rstrip("0").rstrip(".")


def beyond_table(evidence):
    """Say how far the network goes: each search's candidates by validation accuracy; the chosen ones are bold.

    Test accuracies are those of the runs with all training images: of the chosen candidates, and of Figure 9.
    """
    known, table, overrides = evidence["claims"], evidence["table"], evidence["overrides"]
    final = claims.notebook_defaults("figure_9")
    rows = []
    for search in known["beyond"]:
        held_out, _ = claims.beyond_settings(search, known)
        for name, setting in held_out.items():
            found = records.select(table, setting | overrides)
            validation = verdicts.Sample(tuple(record["validation_accuracies"][-1] for record in found))
            test = verdicts.sample_of(table, setting | {"num_validation": 0} | overrides)
            words = name.replace("_", " ").capitalize()
            rows.append(
                [
                    f"**{words}**" if name == known["beyond"][search]["chosen"] else words,
                    ", ".join(str(width) for width in setting["num_hidden"]),
                    f"{setting['num_epochs']}",
                    f"{_num_parameters(setting):,}",
                    f"{_training_cost(setting) / _training_cost(final):.2f}",
                    _accuracy(validation.mean),
                    f"{validation.num_seeds}",
                    _accuracy(test.mean),
                    _range(test.interval, _accuracy),
                    f"{test.num_seeds}" if test.num_seeds else NOT_MEASURED,
                ]
            )
    measured = ["Validation", "Seeds", "Test", "95 % interval", "Seeds"]
    head = ["Candidate ", "Hidden units ", "Epochs", "Parameters", "Cost", *measured]
    return markdown_table(head, rows)


def beyond_sentence(evidence):
    """Say how far the network goes with the chosen candidates, in words."""
    limits = {"within_cost": "at no more arithmetic than Figure 9 takes", "no_limit": "without such a limit"}
    known, reached = evidence["claims"], []
    for search in known["beyond"]:
        _, chosen = claims.beyond_settings(search, known)
        sample = verdicts.sample_of(evidence["table"], chosen | evidence["overrides"])
        if sample.num_seeds > 1:
            limit = limits.get(search, search.replace("_", " "))
            interval = _range(sample.interval, _accuracy)
            reached.append(f"**{sample.mean:.4f}** {limit} ({sample.num_seeds} seeds, 95 % interval {interval})")
    if not reached:
        return _not_yet("several runs of the chosen candidates")
    reported = known["figures"]["figure_9"]["reported"]
    return Markdown(
        "With other parameters, chosen on held-out training images, the network's mean test accuracy is "
        f"{' and '.join(reached)}. The report's best run has {reported:g}."
    )


def _num_parameters(setting):
    patches = get_possible_patches(784)[setting["patching"]]
    net = Net(28, *patches, setting["num_hidden"], 10, batch_norm=setting["batch_norm"])
    return sum(parameter.numel() for parameter in net.parameters())


def _training_cost(setting):
    """Multiplications of a training, forward only: in each setting, backward takes about twice as many."""
    patches = get_possible_patches(784)[setting["patching"]]
    return count_multiply_adds(*patches, setting["num_hidden"], 10) * setting["num_epochs"]


def _not_yet(what):
    return Markdown(f"The records don't hold {what} yet; `make sweeps` runs them.")


# Drawings with captions


def _number(position):
    """Number a drawing: they go on where the figures of the claims end."""
    return claims.figure_numbers()[-1] + position


def drawings(evidence):
    """Draw everything that the records allow: a dict from the name of a file to its `matplotlib.figure.Figure`."""
    found = {"claims": draw_numbers(evidence), "signals": signals.draw(signals.read())}
    if not np.isnan(grid_means(evidence)[-1]).all():
        found["grid"] = draw_grid(evidence)
    if evidence["effects"][0].sample.num_seeds:
        found["effects"] = draw_effects(evidence)
    share, _ = per_image.share_recognised(evidence["table"], evidence["claims"], evidence["overrides"])
    if share is not None:
        found["images"] = per_image.draw_images(share)
    return found


def show_numbers(evidence):
    """Display the drawing of all reported numbers."""
    show_drawing(
        draw_numbers(evidence),
        "Every number of the report and our runs of its setting, one dot a seed. The bar is where one more run would "
        "fall with 95 % probability; with few seeds it is wide.",
        f"Reported test accuracies as marks over our runs. Of {len(evidence['numbers'])} numbers "
        f"{_counted(evidence['numbers'])}.",
        _number(1),
    )


def show_signals():
    """Display the drawing of signals and gradients under the three initialisers."""
    show_drawing(
        signals.draw(signals.read()),
        f"The first steps of Figures 2, 3 and 4: root mean square of each layer's outputs and of their gradients at "
        f"the first batch, over {len(signals.SEEDS)} seeds, dots measured and lines predicted; and the loss step by "
        "step. From N(0, 1) it ends where it is no longer a number.",
        "Three plots. Under N(0, 1) outputs grow from layer to layer and gradients grow backwards, under Xavier and "
        "He they keep their size; the loss under N(0, 1) explodes.",
        _number(2),
    )


def show_grid(evidence):
    """Display the heat maps of the grid, if there are runs of it."""
    epochs, batch_sizes, rates, means = grid_means(evidence)
    if np.isnan(means).all():
        return _not_yet("the grid")
    best = np.unravel_index(np.nanargmax(means), means.shape)
    seeds = [
        verdicts.sample_of(evidence["table"], setting | evidence["overrides"]).num_seeds
        for setting in claims.sweep_settings("grid", evidence["claims"])
    ]
    fewest = f"{min(seeds)} to " if min(seeds) < max(seeds) else ""
    show_drawing(
        draw_grid(evidence),
        f"The grid: mean test accuracy over {fewest}{_number_of(max(seeds), 'seed')}, and in brackets what the report "
        "gives for the best number of epochs of each pair. Shorter runs are the beginnings of the longest.",
        f"Heat maps of test accuracy against batch size and learning rate, from {np.nanmin(means):.4f} to "
        f"{means[best]:.4f} with {epochs[best[0]]} epochs, batch size {batch_sizes[best[1]]} and learning rate "
        f"{rates[best[2]]}.",
        _number(3),
    )
    return None


def show_images(evidence):
    """Display the hardest and the most disputed test images."""
    share, _ = per_image.share_recognised(evidence["table"], evidence["claims"], evidence["overrides"])
    if share is None:
        return _not_yet("Figures 3 to 9")
    show_drawing(
        per_image.draw_images(share),
        "The test images that fewest of our runs recognise, and those about which they are most divided, with the "
        "data set's labels.",
        "Two rows of small pictures of clothes, with labels such as shirt, coat and dress.",
        _number(4),
    )
    return None


def show_effects(evidence):
    """Display the effects of the factorial, if there are runs of it."""
    effects = evidence["effects"]
    num_seeds = effects[0].sample.num_seeds
    if not num_seeds:
        return _not_yet("the factorial")
    lines = "lines are 95 % intervals" if num_seeds > 1 else "too few for intervals"
    show_drawing(
        draw_effects(evidence),
        f"What each factor changes, averaged over the settings of the four others, and how two of them interact; "
        f"{_number_of(num_seeds, 'seed')}, {lines}.",
        "Effects on test accuracy in points: " + ", ".join(f"{e.name} {points(e.sample.mean)}" for e in effects) + ".",
        _number(5),
    )
    return None


def effects_sentence(evidence):
    """Say which effects of the factorial can be told from chance, in points."""
    effects = evidence["effects"]
    num_seeds = effects[0].sample.num_seeds
    if num_seeds < verdicts.LEAST_SEEDS:
        return Markdown(f"Which effects can be told from chance takes {verdicts.LEAST_SEEDS} seeds to say.")
    found = [f"{e.name} ({points(e.sample.mean)})" for e in effects if e.is_found]
    told = f"these can be told from chance: {', '.join(found)}" if found else "none can be told from chance"
    return Markdown(f"Of these {len(effects)} effects, in points and corrected together after Holm, {told}.")


def images_sentence(evidence):
    """Say how many test images all runs, no run, and about half of the runs recognise."""
    share, num_runs = per_image.share_recognised(evidence["table"], evidence["claims"], evidence["overrides"])
    return _not_yet("Figures 3 to 9") if share is None else per_image.describe_images(share, num_runs)


def steps_table(evidence):
    """Set each figure against the one before it, image by image."""
    rows = [
        [
            f"{step.first.replace('_', ' ').capitalize()} to {step.second.removeprefix('figure_')}",
            points(step.gain),
            _p(step.p_images),
            f"{step.significant} of {step.seeds}",
            f"{100 * step.disagreement:.1f} %",
            f"{100 * step.predicted:.2f}",
            f"{100 * step.measured:.2f}",
        ]
        for step in per_image.judge_steps(evidence["table"], evidence["claims"], evidence["overrides"])
    ]
    head = ["Step ", "Points", "p, images", "Single runs", "Disagree", "Predicted", "Measured"]
    return markdown_table(head, rows)
