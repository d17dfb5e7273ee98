"""The report's sentences that hold numbers: summaries, captions, and what the signals, effects and images say."""

import numpy as np
from IPython.display import Markdown

from common.formatting import accuracy, changes, count, interval, p_equals, percentile, points, spread
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


def abstract(study):
    """Sum up the report in a paragraph, with what was found; of a trial with what it is about."""
    text = (
        "**Abstract.** A coursework report trains a small network that mixes the patches of an image on Fashion-MNIST "
        "and improves it step by step, each step judged by one run."
    )
    results = list(study.figures.values())
    if study.overrides or len(results) < 2:
        return Markdown(f"{text} Here it is run again.")
    seeds = min(result.sample.num_seeds for result in results)
    text += (
        f" We run every figure with {count(seeds, 'seed')}, and judge what the report says by a rule that was "
        f"committed before these runs. {_counts(study)}"
    )
    steps, larger = _steps_beyond_chance(study)
    rising = _claim_that_accuracy_rises(study)
    if rising:
        low, high = rising.interval
        text += (
            f" From Figure {results[1].number} to {results[-1].number} accuracy rises, by "
            f"{interval((low, high), lambda share: f'{100 * share:.1f}')} points. But of the {len(steps)} reported "
            f"steps there, {len(larger)} {_verb(len(larger), 'is', 'are')} larger than what two single runs of the "
            "same settings differ by through their seeds alone."
        )
    reached = [chosen.test for chosen in study.chosen_candidates]
    best = max((sample.mean for sample in reached if sample.num_seeds >= LEAST_SEEDS), default=None)
    if best:
        text += (
            " With other parameters, chosen without a look at the test images, the same network reaches "
            f"{accuracy(best)}, where the report's best run has {max(r.figure.reported for r in results):g}."
        )
    return Markdown(text)


def _counts(study):
    return (
        f"Of the report's {count(len(study.numbers), 'number')}, {counted(study.numbers)}. "
        f"Of its {count(len(study.comparisons), 'comparison')}, **{counted(study.comparisons)}**."
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
    which = "all" if 1 < len(close) == len(results) else len(close)
    text = (
        f"Of the {len(results)} reported accuracies, **{which} {_verb(len(close), 'lies', 'lie')} "
        f"within {100 * TOLERANCE:g} points** of our mean. The largest difference is {points(farthest.difference)} "
        f"points, in [Figure {farthest.number}](#fig-{farthest.number})."
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
    text = _counts(study)
    exploratory = [comparison for comparison in study.comparisons if comparison.exploratory]
    if exploratory:
        which = "All" if 1 < len(exploratory) == len(study.comparisons) else len(exploratory)
        text += (
            f" {which} of these verdicts {_verb(len(exploratory), 'is', 'are')} exploratory: the runs that decide "
            "have other seeds, and are to come."
        )
    of_figures = [number for number in study.numbers if number.name in study.claims.figures]
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
    steps, larger = _steps_beyond_chance(study)
    if not steps or np.isnan([reported.by_chance(before, after) for before, after in steps]).any():
        return not_yet("several seeds of the figures")
    named = ", ".join(f"Figure {after.number}" for after in larger)
    reached = sum(size.verdict == HOLDS for size in study.step_sizes)
    return Markdown(
        f"Of the report's {len(steps)} steps from Figure {steps[0][0].number} on, {len(larger)} "
        f"{_verb(len(larger), 'is', 'are')} larger than what two single runs differ by through their seeds alone, "
        f"19 times of 20{f': that to {named}' if named else ''}. Their sizes are another question: {reached} of "
        f"{len(study.step_sizes)} {_verb(reached, 'lies', 'lie')} where the difference of two single runs of ours "
        "would fall."
    )


def _steps_beyond_chance(study):
    """Return the report's steps, and the figures to which one leads that two runs of equal settings seldom show."""
    steps = reported.report_steps(study)
    larger = [
        after
        for before, after in steps
        if abs(after.figure.reported - before.figure.reported) > reported.by_chance(before, after)
    ]
    return steps, larger


def _verb(number, of_one, of_several):
    """Choose the form of a verb that goes with a number of things."""
    return of_one if number == 1 else of_several


def ladder_sentence(study):
    """Say of the accuracies that the report has rise, how they do it seed by seed."""
    rising = _claim_that_accuracy_rises(study)
    if study.overrides or not rising:
        return None
    climbed = round(rising.share_of_ladders * rising.num_seeds)
    return Markdown(
        "Step by step, then? On the whole: Page's test, which looks at ranks alone, finds the rise as well, with "
        f"{p_equals(rising.p_of_page)}. But with {climbed} of {rising.num_seeds} seeds only does every step lead "
        "upwards, which is what a reader of one such series would like to know."
    )


def _claim_that_accuracy_rises(study):
    """Return the comparison of settings that are said to rise on the whole, if there is one and it holds."""
    holding = (comparison for comparison in study.comparisons if comparison.verdict == HOLDS)
    return next((comparison for comparison in holding if comparison.stated.relation == "rising"), None)


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


def selection_sentence(study):
    """Say what choosing by test images gained, and how much of what it promised other seeds don't keep, in points."""
    if not study.selections:
        return None
    gains = [selection.gain for selection in study.selections]
    flattery = [selection.flattery for selection in study.selections]
    return Markdown(
        f"On average over the seeds choosing by test images gained at most {_largest_mean(gains)} points over "
        f"choosing by held-out ones, with {_intervals_above_0(gains)}. The best test accuracy promised up to "
        f"{_largest_mean(flattery)} points more than its setting gives with other seeds, with "
        f"{_intervals_above_0(flattery)}."
    )


def _largest_mean(samples):
    return points(max(sample.mean for sample in samples))


def _intervals_above_0(samples):
    return f"{sum(sample.interval[0] > 0 for sample in samples)} of {len(samples)} intervals above 0"


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
