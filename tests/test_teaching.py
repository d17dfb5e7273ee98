"""The teacher's page and the exercise say what the committed records and the notebooks say."""

import re
from dataclasses import replace

import nbformat
import numpy as np
import pytest
import yaml
from conftest import ROOT

import reproduce
from common.formatting import accuracy, percent, points
from report.verdict import WORDS
from study.study import Study

TEACHING = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
EXERCISE = (ROOT / "docs" / "exercise.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### Figure (\d+)\n(.*?)(?=^##)", TEACHING, re.MULTILINE | re.DOTALL))
CHANGES = re.compile(r"`(\w+)` (\[.*?\]|[\w.\"]+)")  # as in: `learning_rate` 0.2


@pytest.fixture(scope="module")
def whole():
    """All committed runs."""
    return Study.read()


@pytest.fixture(scope="module")
def comparisons(whole):
    """The verdicts of all committed runs, by the names of the claims."""
    return {comparison.stated.name: comparison for comparison in whole.comparisons}


@pytest.fixture(scope="module")
def study(whole):
    """What the pages speak of: the committed runs of seeds 0 to 7."""
    return replace(whole, records=[record for record in whole.records if record["seed"] < 8])


def answers(number):
    """List the rows of a figure's table: what is changed, the accuracy, the number of seeds."""
    rows = [line.split(" | ") for line in SECTIONS[number].splitlines() if line.startswith("| `")]
    return [
        ({name: yaml.safe_load(value) for name, value in CHANGES.findall(changes)}, mean, int(seeds))
        for changes, mean, seeds, *_ in rows
    ]


@pytest.mark.parametrize("number", SECTIONS)
def test_answers_of_several_seeds_are_means_of_the_committed_runs(study, number):
    setting = study.claims.figures[f"figure_{number}"].setting
    for changes, written, seeds in answers(number):
        if "seed" in changes:
            runs = study.figures[f"figure_{number}"].records
            assert written == accuracy(*(run["test_accuracy"] for run in runs if run["seed"] == changes["seed"]))
        else:
            sample = study.sample_of({**setting, **changes})
            assert seeds == (sample.num_seeds or 1), changes
            if sample.num_seeds:
                assert written == accuracy(sample.mean), changes


def test_the_verdicts_that_answers_name_are_those_of_the_protocols_seeds(comparisons):
    named = re.findall(r"claim.*?, `(\w+)`, (.*?) \|", TEACHING)
    assert len(named) == 3
    for name, verdict in named:
        assert (WORDS[comparisons[name].verdict][0], comparisons[name].num_seeds) == (verdict, 32), name


@pytest.mark.parametrize("number", SECTIONS)
def test_every_question_of_a_notebook_is_answered(number):
    cells = nbformat.read(ROOT / "notebooks" / f"figure_{number}.ipynb", as_version=4).cells
    (questions,) = (cell.source for cell in cells if cell.id == "try")
    for line in questions.splitlines()[2:]:
        tried = re.split(r":|, which| is ", line)[0]  # before the question itself
        values = re.findall(r"\[.*?\]|True|\"\w+\"|[\d.]*\d", tried)
        assert values, line
        for value in values:
            assert re.search(rf"`\w+` {re.escape(value)}", SECTIONS[number]), (line, value)


def test_the_minutes_are_those_that_the_batch_gives(tmp_path, capsys):
    reproduce.main(["--list", "--output", str(tmp_path)])
    listed = re.findall(r"^ *(\d+:\d\d) +figure_(\d+) ", capsys.readouterr().out, re.MULTILINE)
    rows = re.findall(r"^\| Figures? ([\d, ]+) \| (\S+) \|$", TEACHING, re.MULTILINE)
    assert sorted((minutes, figure) for figures, minutes in rows for figure in figures.split(", ")) == sorted(listed)


def test_the_exercise_has_the_committed_accuracies_and_its_solution_is_right(study, comparisons):
    without, having = (np.array(study.figures[f"figure_{n}"].sample.accuracies) for n in (7, 8))
    for row, accuracies in (("without (Figure 7)", without), ("with (Figure 8)", having)):
        assert f"| {row} | {' | '.join(map(accuracy, accuracies))} |" in EXERCISE
    pair = study.pair_of(*(study.claims.figures[f"figure_{n}"].setting for n in (8, 7)))
    difference = pair.difference
    t = difference.mean / (difference.deviation / 8**0.5)
    wins = int((without[:, None] > having).sum())
    low, high = map(points, difference.interval)
    written = [points(having[seed] - without[seed]) for seed in range(8)]
    for words in (
        f"{', '.join(written[:-1])} and {written[-1]} points",
        f"their mean is {points(difference.mean)}, their standard deviation {100 * difference.deviation:.2f}.",
        f"= {t:.2f}, less than 2.36",
        f"from {low} to {high}",
        f"in {wins} of 64 pairs, {percent(wins / 64)}".replace("\N{NO-BREAK SPACE}", " "),
        f"= {8 * (difference.deviation / difference.mean) ** 2:.0f}.",
    ):
        assert words in TEACHING, words
    verdict = WORDS[comparisons["batch_norm"].verdict][0]
    assert f"the claim, `batch_norm`, {verdict}." in TEACHING
    assert f"makes {len(comparisons)} comparisons" in EXERCISE
