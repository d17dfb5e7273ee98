"""What the runs say about a figure, in sentences: from the small file `figures/verdicts.json`, or from a study.

The notebook of a figure ends with these. It reads no table of all runs and judges nothing; and whatever is wrong with
the file, its own run is done.
"""

import json

from IPython.display import Markdown

from common import ROOT
from common.formatting import accuracy, count, interval, p_equals, percentile, points
from study.outcomes import CONTRADICTED, EQUAL, HOLDS, LEAST_SEEDS, UNDECIDED, UNTESTED

COMMITTED = ROOT / "figures" / "verdicts.json"
UNREADABLE = f"`{COMMITTED.relative_to(ROOT)}` can't be read, so there is no verdict here: restore the file."
MARKS = {HOLDS: "✓", CONTRADICTED: "✗", EQUAL: "≈", UNDECIDED: "?", UNTESTED: "…"}
WORDS = {  # of one, and of several
    HOLDS: ("holds", "hold"),
    CONTRADICTED: ("is contradicted", "are contradicted"),
    EQUAL: ("is practically equal", "are practically equal"),
    UNDECIDED: ("is undecided", "are undecided"),
    UNTESTED: ("has too few runs yet", "have too few runs yet"),
}


def figure_verdict(figure, study=None):
    """Say what the runs say about a figure: its number, and what follows from it.

    Args:
        figure: its name, such as "figure_4".
        study: a `Study`; None takes the committed verdicts. Of a trial there is nothing to say.
    """
    return _say(study, lambda verdicts: _on_figure(verdicts, figure))


def committed_claim(name):
    """Return what the committed runs say about a claim, as in `Study.verdicts`; None if nothing can be read of it."""
    try:
        comparisons = json.loads(COMMITTED.read_text(encoding="utf-8"))["comparisons"]
        return next(comparison for comparison in comparisons if comparison["name"] == name)
    except Exception:  # whatever is wrong with the file, the reader's own runs are judged
        return None


def in_words(comparison):
    """Write the verdict on a comparison, as in `Study.verdicts`, and in brackets the numbers behind it."""
    return f"**{comparison['verdict']}{_remark(comparison)}**{_reason(comparison)}"


def beyond_verdict(study=None):
    """Say how far the network goes with the candidates that were chosen; `study` as for `figure_verdict`."""
    return _say(study, _on_beyond)


def _say(study, wording):
    if study:
        return None if study.overrides else Markdown(wording(study.verdicts))
    try:
        return Markdown(wording(json.loads(COMMITTED.read_text(encoding="utf-8"))))
    except Exception:  # whatever is wrong with the file, the notebook's own run is done
        return Markdown(
            f"`{COMMITTED.relative_to(ROOT)}` can't be read, so there is no verdict here: restore the file."
        )


def _on_figure(verdicts, figure):
    numbers = [number for number in verdicts["numbers"] if number["name"] == figure]
    if not numbers:
        return "There is no verdict on this figure yet: `python reproduce.py` runs it and judges it."
    (number,) = numbers
    if number["seeds"] < LEAST_SEEDS:
        return f"Runs of this setting so far: {number['seeds']}, too few for a verdict."
    low, high = number["range_of_runs"]
    verdict, seeds = WORDS[number["verdict"]][0], number["seeds"]
    text = (
        f"**The number {verdict}{_remark(number)}.** Over {seeds} seeds the test accuracy is "
        f"{accuracy(number['mean'])} on average, and one more run would fall between {accuracy(low)} and "
        f"{accuracy(high)}. The reported {number['reported']:g} lies at percentile "
        f"{percentile(number['percentile'])}."
    )
    lines = [
        f"- *{comparison['claim']}*: {in_words(comparison)}."
        for comparison in verdicts["comparisons"]
        if f"figure_{comparison['figure']}" == figure
    ]
    return f"{text}\n\n" + "\n".join(lines)


def _on_beyond(verdicts):
    reached = [
        f"**{accuracy(search['mean'])}** {search['limit']} (95 % interval {interval(search['interval'], accuracy)}, "
        f"{count(search['seeds'], 'seed')}, {search['cost']:.2g} times that arithmetic)"
        for search in verdicts["beyond"]
        if search["seeds"] >= LEAST_SEEDS
    ]
    if not reached:
        return not_yet("several runs of the chosen candidates").data
    final = next(number["reported"] for number in verdicts["numbers"] if number["name"] == "figure_9")
    return (
        "With other parameters, chosen on held-out training images, the network's mean test accuracy is "
        f"{' and '.join(reached)}. The report's best run has {final:g}."
    )


def not_yet(what):
    """Say that something has not been run."""
    return Markdown(f"The records don't hold {what} yet; `make sweeps` runs them.")


def _remark(judged):
    return remark(judged["deterministic"], judged["exploratory"])


def remark(deterministic, exploratory):
    """Say after a verdict that its outcome is the same with every seed, or that it is no more than exploratory."""
    return ", deterministic" * deterministic + ", exploratory" * exploratory


def _reason(comparison):
    if comparison["seeds"] < LEAST_SEEDS:
        return ""
    pair = f"{comparison['least_favourable']}: " if comparison["pairs"] > 1 else ""
    reported = "" if comparison["reported"] is None else f"reported {points(comparison['reported'])} points, measured "
    tested = "" if comparison["p"] is None else f", {p_equals(comparison['p'])}"
    return (
        f" ({pair}{reported}{points(comparison['effect'])} points, corrected interval "
        f"{interval(comparison['interval'], points)}{tested}, {comparison['seeds']} seeds)"
    )
