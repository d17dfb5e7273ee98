"""What a notebook ends with: the verdicts in sentences, from a study or from figures/verdicts.json."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from conftest import ROOT, made_up_record, study_of

from common.formatting import interval, points
from report import verdict
from report.verdict import beyond_verdict, figure_verdict
from study import claims
from study.samples import Pair
from study.study import VERDICTS, Study
from tests.made_up_results import PAIR, WEAK_PAIR, comparison, number, study_with

DAMAGED = {
    "empty": b"",
    "cut off": b'{"numbers": [{"name": "figure_4"',
    "no UTF-8": b'{"numbers": "\xff"}',
    "nothing": b"null",
    "no verdicts": b"{}",
}
OF_ANOTHER_KIND = {  # valid JSON, but not what a study writes
    "a list": b"[1]",
    "a text": b'"numbers"',
    "keys missing": b'{"records": {}}',
    "entries incomplete": b'{"numbers": [{"name": "figure_4"}], "comparisons": [{}], "beyond": [{}]}',
    "numbers missing": b'{"numbers": [{"name": "figure_4", "seeds": null}], "beyond": [{"seeds": null}]}',
    "nested": b"[" * 100_000 + b"]" * 100_000,
}


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Let the committed verdicts be in a file of a temporary project, which is not there yet."""
    (tmp_path / "figures").mkdir()
    monkeypatch.setattr(verdict, "ROOT", tmp_path)
    monkeypatch.setattr(verdict, "COMMITTED", tmp_path / "figures" / VERDICTS)
    return tmp_path / "figures" / VERDICTS


@pytest.fixture
def said(file):
    """Return a function that puts a study's verdict on a figure into words, which its file must do in the same."""

    def said(study, figure="figure_4", sentence=figure_verdict):
        study.write_verdicts(file.parent)
        arguments = () if sentence is beyond_verdict else (figure,)
        from_study, from_file = sentence(*arguments, study).data, sentence(*arguments).data
        assert from_study == from_file
        return from_study

    return said


# On a figure


def test_the_verdict_on_a_number_is_a_sentence(said):
    contradicted = number(0.9, 0.8, 0.81, 0.79)
    low, high = contradicted.range_of_runs
    assert said(study_with(numbers=[contradicted])).startswith(
        "**The number is contradicted.** Over 3 seeds the test accuracy is 0.8000 on average, and one more run would "
        f"fall between {low:.4f} and {high:.4f}. The reported 0.9 lies at percentile "
    )
    holds = said(study_with(numbers=[number(0.8, 0.8, 0.81, 0.79)]))
    assert holds.startswith("**The number holds.**")
    assert "The reported 0.8 lies at percentile 50." in holds


def test_a_claim_is_said_with_its_verdict_and_the_reason(said):
    helps = comparison(PAIR, figure=4)
    assert said(study_with(numbers=[number(0.85, 0.84, 0.85, 0.86)], comparisons=[helps])).splitlines()[-1] == (
        "- *A helps*: **holds** (+4.67 points, corrected interval "
        f"{interval(helps.interval, points)}, p = {helps.corrected:.3f}, 3 seeds)."
    )


def test_what_is_exploratory_or_deterministic_is_called_that(said):
    numbers = [replace(number(0.1, 0.1, 0.1, 0.1), exploratory=True)]
    same = Pair((0.1,) * 3, (0.1,) * 3)
    text = said(study_with(numbers=numbers, comparisons=[comparison(same, figure=4, relation="no_better")]))
    assert text.startswith("**The number holds, deterministic, exploratory.**")
    assert text.endswith("**holds, deterministic** (+0.00 points, corrected interval +0.00 to +0.00, 3 seeds).")
    text = said(study_with(numbers=numbers, comparisons=[comparison(PAIR, figure=4, exploratory=True)]))
    assert "- *A helps*: **holds, exploratory** (" in text


def test_the_difference_that_the_report_gives_stands_beside_ours(said):
    pairs = replace(PAIR, reported=0.0104), WEAK_PAIR
    numbers = [number(0.85, 0.84, 0.85, 0.86)]
    one = study_with(numbers=numbers, comparisons=[comparison(pairs[0], figure=4)])
    assert "(reported +1.04 points, measured +4.67 points, corrected interval" in said(one)
    several = study_with(numbers=numbers, comparisons=[comparison(*pairs, figure=4)])
    assert "(other: +1.33 points, corrected interval" in said(several)
    without_claims = study_with(numbers=numbers, comparisons=[comparison(PAIR, figure=5)])
    assert "A helps" not in said(without_claims)


def test_too_few_runs_are_said_to_be_too_few(said):
    few = comparison(Pair((0.9, 0.91), (0.85, 0.86)), figure=4)
    assert "Runs of this setting so far: 2, too few" in said(study_with(numbers=[number(0.85, 0.84, 0.86)]))
    enough = study_with(numbers=[number(0.85, 0.84, 0.85, 0.86)], comparisons=[few])
    assert said(enough).endswith("- *A helps*: **too few runs**.")
    assert "Runs of this setting so far: 0" in said(study_of([]))


def test_a_figure_that_is_not_judged_yet_has_a_sentence(said):
    assert said(study_with(numbers=[number(0.8, 0.8)]), "figure_10") == (
        "There is no verdict on this figure yet: `python reproduce.py` runs it and judges it."
    )


def test_the_committed_verdicts_are_those_of_the_committed_records():
    study = Study.read()
    assert json.loads((ROOT / "figures" / VERDICTS).read_text(encoding="utf-8")) == study.verdicts
    for name, figure in study.claims.figures.items():
        text = figure_verdict(name).data
        assert text == figure_verdict(name, study).data
        assert f"The reported {figure.reported:g} lies at percentile" in text
        for claim in study.claims.comparisons.values():
            assert (claim.text in text) == (claim.figure == figure.number)
    assert beyond_verdict().data == beyond_verdict(study).data


# On what lies beyond


def test_the_sentence_on_what_lies_beyond_gives_the_chosen_candidates_means(said):
    records = []
    for search, mean in (("within_cost", 0.9), ("no_limit", 0.92)):
        search = claims.load().beyond[search]
        for seed, gap in enumerate((-0.001, 0, 0.001)):
            records.append(made_up_record(search.candidates[search.chosen], seed, mean + gap))
        records += [made_up_record(setting, 0, 0.99) for setting in search.held_out.values()]
    study = study_of(records)
    sentence = said(study, sentence=beyond_verdict)
    limits = ("at no more arithmetic than Figure 9 takes", "without such a limit")
    ends = ("0.8975 to 0.9025", "0.9175 to 0.9225")
    for chosen, mean, limit, both in zip(study.chosen_candidates, (0.9, 0.92), limits, ends, strict=True):
        cost = f"{chosen.cost:.2g} times that arithmetic"
        assert f"**{mean:.4f}** {limit} (95 % interval {both}, 3 seeds, {cost})" in sentence
    assert ") and **0.9200**" in sentence
    assert sentence.endswith(f"The report's best run has {claims.load().figures['figure_9'].reported:g}.")


def test_fewer_than_three_runs_of_a_chosen_candidate_reach_nothing_yet(said):
    search = claims.load().beyond["no_limit"]
    for num_seeds in range(3):
        runs = [made_up_record(search.candidates[search.chosen], seed) for seed in range(num_seeds)]
        assert "make sweeps" in said(study_of(runs), sentence=beyond_verdict)


# Without a sound file


def both():
    return figure_verdict("figure_4").data, beyond_verdict().data


def test_a_missing_file_is_a_sentence(file):
    for _ in range(2):
        for sentence in both():
            assert sentence.endswith("can't be read, so there is no verdict here: restore the file.")
        file.mkdir(exist_ok=True)  # what can't be read


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_file_is_a_sentence(file, damage):
    missing = both()
    file.write_bytes(DAMAGED[damage])
    assert both() == missing


@pytest.mark.parametrize("damage", OF_ANOTHER_KIND)
def test_a_file_of_another_kind_is_a_sentence(file, damage):
    missing = both()
    file.write_bytes(OF_ANOTHER_KIND[damage])
    assert both() == missing


def test_a_verdict_is_read_without_judging_anything():
    program = (
        "import sys; from report.verdict import figure_verdict; figure_verdict('figure_4'); "
        "print({'study.study', 'study.table', 'study.verdicts', 'scipy', 'torch'} & sys.modules.keys() or 'nothing')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "nothing\n", done.stderr
