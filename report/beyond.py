"""The report's section beyond the report: its sentences, and the table of its candidates."""

from IPython.display import Markdown

import my_utils as mu
from common.formatting import accuracy, count, interval, p_equals, points, words
from report.tables import markdown_table
from study.outcomes import LEAST_SEEDS
from study.samples import difference_of_means


def gain(study):
    """Say by how much the chosen candidates differ from Figure 9; None while that has too few runs, or they all do."""
    if study.overrides:
        return None
    final = study.sample_of(study.claims.figures["figure_9"].setting)
    parts = []
    for chosen in study.chosen_candidates:
        if min(chosen.test.num_seeds, final.num_seeds) >= LEAST_SEEDS:
            difference, ends, p = difference_of_means(chosen.test, final)
            known = f"95 % interval {interval(ends, points)}, {p_equals(p)}"
            parts.append(f"{points(difference)} points {chosen.search.limit} ({known})")
    if not parts:
        return None
    return Markdown(
        f"Beside Figure 9's mean over {count(final.num_seeds, 'seed')} that is {' and '.join(parts)}, by Welch's test."
    )


def saturation(study):
    """Say what the best candidate reaches, and what the costliest one makes of its arithmetic; None for a trial."""
    candidates = study.measured_candidates
    if study.overrides or len(candidates) < 2:
        return None
    best = max(candidates, key=lambda candidate: candidate.validation.mean)
    costliest = max(candidates, key=lambda candidate: candidate.cost)
    more = (
        "and no other takes more"
        if best is costliest
        else f"the costliest, at {costliest.cost:.2g} times, {accuracy(costliest.validation.mean)}"
    )
    return Markdown(
        f"On the held-out images the best of {len(candidates)} candidates reaches {accuracy(best.validation.mean)} at "
        f"{best.cost:.2g} times the arithmetic of Figure 9, {more}."
    )


def candidates_table(study):
    """Say how far the network goes: each search's candidates by validation accuracy; the chosen ones are bold.

    Test accuracies are those of the runs with all training images: of the chosen candidates, and of Figure 9.
    """
    rows = []
    for candidate in study.candidates:
        title, setting = words(candidate.name).capitalize(), candidate.setting
        rows.append(
            [
                f"**{title}**" if candidate.is_chosen else title,
                ", ".join(str(width) for width in setting["num_hidden"]),
                f"{setting['num_epochs']}",
                f"{_num_parameters(setting):,}",
                f"{candidate.cost:.2f}",
                accuracy(candidate.validation.mean),
                f"{candidate.validation.num_seeds}",
                accuracy(candidate.test.mean),
            ]
        )
    head = ["Candidate ", "Hidden units", "Epochs", "Parameters", "Cost", "Validation", "Seeds", "Test"]
    return markdown_table(head, rows)


def _num_parameters(setting):
    return sum(values.numel() for values in mu.net_of(setting).parameters())
