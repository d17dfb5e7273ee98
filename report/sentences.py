"""The report's sentences that hold numbers: summaries, captions, and what the signals, effects and images say."""

import numpy as np
from IPython.display import Markdown

from common.formatting import accuracy, changes, count, p_equals, percentile, points, spread
from report.verdict import WORDS, not_yet
from study import reported, signals
from study.outcomes import HOLDS, LEAST_SEEDS

TOLERANCE = 0.015  # 1.5 points: how near a reported and a measured accuracy must lie to be called close


def about_this_copy(study):
    """Say above everything else what sets a report apart from the committed one: a trial, or the user's own runs."""
    if study.overrides:
        return Markdown(
            f"**Trial: {changes(study.overrides)}.** The runs have other settings than the report's. So their "
            "accuracies say nothing about its numbers and its claims, and none of these is judged here."
        )
    if not own_summary(study):
        return None
    return Markdown(
        f"**{own_summary(study)}.** In this copy your own runs are marked in the figures, and a table near the end "
        "lists them. They count for nothing else: all other numbers and all verdicts are from the committed records."
    )


def own_summary(study):
    """Say how the user's own runs of the figures agree with the committed ones; without any, an empty text."""
    results = study.figures.values()
    words = [agreement.split(":")[0] for result in results for agreement in result.agreements]
    counted = ", ".join(f"{word} {words.count(word)} of {len(words)}" for word in dict.fromkeys(words))
    match sorted({record["seed"] for result in results for record in result.own}):
        case []:
            return ""
        case [seed]:
            return f"Your seed {seed} beside the committed one: {counted}"
        case seeds:
            return f"Your seeds {', '.join(map(str, seeds))} beside the committed ones: {counted}"


def own_runs(study):
    """Say what the table of the user's own runs shows; None without any."""
    if not own_summary(study):
        return None
    return Markdown(
        f"{own_summary(study)}. *Identical* is a run whose numbers are those of a committed one "
        "to the last bit; *equivalent* one whose accuracy lies in the range where one more of the committed runs "
        "would fall with 95 % probability; *different* one outside of it, as one run of twenty is by chance."
    )


def results_summary(study):
    """Say in a paragraph how near the measured accuracies come to the reported ones, and how much they scatter."""
    results = list(study.figures.values())
    if not results:
        return not_yet("a run of any figure")
    if study.overrides:
        return None
    close = [result for result in results if abs(result.difference) <= TOLERANCE]
    farthest = max(results, key=lambda result: abs(result.difference))
    text = (
        f"Of the {len(results)} reported accuracies, **{len(close)} lie within {100 * TOLERANCE:g} points** "
        f"of our mean. The largest difference is {points(farthest.difference)} points, in "
        f"[Figure {farthest.number}](#fig-{farthest.number})."
    )
    # The last steps of the report, each compared with the scatter of one run around the mean of its setting.
    ladder = [result for result in results if result.number >= 5]
    deviations = [result.sample.deviation for result in ladder if result.sample.num_seeds > 1]
    if len(deviations) > 1:
        steps = np.abs(np.diff([result.figure.reported for result in ladder]))
        between_two_runs = np.sqrt(2 * np.mean(np.square(deviations)))
        text += (
            f" From Figure {ladder[0].number} on, the report's steps are {spread(steps.min())} to "
            f"{spread(steps.max())} points high. In our runs of the same settings, two runs that differ in nothing "
            f"but the seed lie {spread(between_two_runs)} points apart (root mean square): "
            + (
                "a single run of each setting can't tell such steps from chance."
                if steps.max() < 2 * between_two_runs
                else "some of these steps are larger than chance alone would make them, others are not."
            )
        )
    return Markdown(text)


def claims_summary(study):
    """Say in a paragraph how the claims fare; in a trial they don't."""
    if study.overrides:
        return None
    judged, comparisons = study.numbers, study.comparisons
    text = (
        f"Of the report's {count(len(judged), 'number')}, {counted(judged)}. "
        f"Of its {count(len(comparisons), 'comparison')}, **{counted(comparisons)}**."
    )
    exploratory = sum(item.exploratory for item in comparisons)
    if exploratory:
        which = "All" if exploratory == len(comparisons) else f"{exploratory}"
        text += f" {which} of these verdicts are exploratory: the runs that decide have other seeds, and are to come."
    of_figures = [number for number in judged if number.name in study.claims.figures]
    (share, p), (share_of_best, p_of_best) = reported.luck(of_figures), reported.luck(of_figures, best=True)
    if not np.isnan(share):
        text += (
            f" On average the accuracy of a figure from 3 on lies at percentile {percentile(share)} of ours; chance "
            f"alone brings it so far up with {p_equals(p)}. Beside the best epoch of each of our runs it is at "
            f"percentile {percentile(share_of_best)}, with {p_equals(p_of_best)}."
        )
    return Markdown(text)


def steps_sentence(study):
    """Say how many of the report's steps are larger than what two single runs differ by through their seeds alone."""
    steps = reported.report_steps(study)
    if not steps or np.isnan([reported.by_chance(before, after) for before, after in steps]).any():
        return not_yet("several seeds of the figures")
    larger = [
        after
        for before, after in steps
        if abs(after.figure.reported - before.figure.reported) > reported.by_chance(before, after)
    ]
    named = ", ".join(f"Figure {after.number}" for after in larger)
    reached = sum(size.verdict == HOLDS for size in study.step_sizes)
    return Markdown(
        f"Of the report's {len(steps)} steps from Figure {steps[0][0].number} on, {len(larger)} "
        f"{'is' if len(larger) == 1 else 'are'} larger than what two single runs differ by through their seeds alone, "
        f"19 times of 20{f': that to {named}' if named else ''}. Their sizes are another question: {reached} of "
        f"{len(study.step_sizes)} lie where the difference of two single runs of ours would fall."
    )


def counted(judged):
    """Count the verdicts of numbers or comparisons: 3 hold, 2 are contradicted."""
    all_verdicts = [item.verdict for item in judged]
    numbers = {verdict: all_verdicts.count(verdict) for verdict in WORDS if verdict in all_verdicts}
    parts = [f"{number} {WORDS[verdict][number != 1]}" for verdict, number in numbers.items()]
    return ", ".join(parts[:-1]) + " and " * (len(parts) > 1) + parts[-1]


def caption(result):
    """Put the result of a figure into its caption."""
    sample = result.sample
    measured = accuracy(sample.mean)
    if sample.num_seeds > 1:
        lowest, highest = accuracy(min(sample.accuracies)), accuracy(max(sample.accuracies))
        measured += f", the mean of {sample.num_seeds} seeds from {lowest} to {highest}"
    else:
        measured += f" with seed {result.records[0]['seed']}"
    change = result.figure.change
    text = f"{change[0].upper()}{change[1:]}. Test accuracy: reported {accuracy(result.figure.reported)}, "
    if result.setting != result.figure.setting:
        return f"{text}in this trial {measured}."
    text += f"measured {measured} ({points(result.difference)} points)."
    own = [
        f"seed {record['seed']}, {accuracy(record['test_accuracy'])}, {agreement.split(':')[0]}"
        for record, agreement in zip(result.own, result.agreements, strict=True)
    ]
    return f"{text} Your own, marked by crosses: {'; '.join(own)}." if own else text


def signals_sentence(measured):
    """Put into words what `signals.measure` measured about N(0, 1)."""
    values = measured["figure_2"]
    ratios = np.divide(values["outputs"], values["predicted_outputs"])
    lost = [losses.index(None) + 1 for losses in values["losses"] if None in losses]
    first = np.mean([losses[0] for losses in values["losses"]])
    gradient_ratios = np.divide(values["gradients"], values["predicted_gradients"])
    text = (
        f"The class scores start with a root mean square of {values['outputs'][-1]:,.0f}, where He's start has "
        f"{measured['figure_4']['outputs'][-1]:.2f} and Xavier's {measured['figure_3']['outputs'][-1]:.2f}. Theory, "
        "which takes all weights as independent, foresees the outputs of every layer within "
        f"{100 * np.abs(ratios - 1).max():.0f} %, and the gradients within a factor of {gradient_ratios.max():.1f}. "
        f"The first loss is {first:,.0f} nats where guessing costs {np.log(10):.1f}. "
    )
    if len(lost) == len(values["losses"]):
        steps = f"at step {lost[0]}" if len(set(lost)) == 1 else f"between steps {min(lost)} and {max(lost)}"
        text += (
            f"One step with such a gradient multiplies the loss; {steps} it is no longer a number, for each of "
            f"{len(signals.SEEDS)} seeds. From then on all weights are NaN, and every image is given the first class."
        )
    return Markdown(text)


def effects_sentence(study):
    """Say which effects of the factorial can be told from chance, in points."""
    effects = study.effects
    if effects[0].sample.num_seeds < LEAST_SEEDS:
        return Markdown(f"Which effects can be told from chance takes {LEAST_SEEDS} seeds to say.")
    significant = [f"{effect.name} ({points(effect.sample.mean)})" for effect in effects if effect.is_significant]
    told = (
        f"these can be told from chance: {', '.join(significant)}" if significant else "none can be told from chance"
    )
    return Markdown(f"Of these {len(effects)} effects, in points and corrected together after Holm, {told}.")


def images_sentence(study):
    """Say how many test images all runs, no run, and about half of the runs recognise."""
    share, num_runs = study.share_recognised
    if share is None:
        return not_yet("Figures 3 to 9")
    always, never = (share == 1).mean(), (share == 0).mean()
    disputed = ((share >= 0.25) & (share <= 0.75)).mean()
    last = study.claims.figure_numbers[-1]
    runs = f"this trial's {num_runs} runs" if study.overrides else f"the {num_runs} runs of Figures 3 to {last}"
    text = (
        f"Of the test images, {100 * always:.1f} % are recognised by each of {runs}, {100 * never:.1f} % by none, and "
        f"{100 * disputed:.1f} % by a quarter to three quarters of them."
    )
    return Markdown(text if study.overrides else f"{text} What the changes of the report move is the rest.")
