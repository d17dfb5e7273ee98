"""The report's tables, sentences and drawings about claims: on made-up verdicts, and on the committed records."""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT, made_up_record

import claims
import evidence
import my_utils as mu
import records
import signals
import verdicts
from verdicts import CONTRADICTED, HOLDS, UNDECIDED, UNTESTED, Comparison, Number, Pair, Sample

PAIR = Pair((0.90, 0.91, 0.92), (0.85, 0.86, 0.88), corrected=0.004)


def number(reported, *accuracies, name="figure_4"):
    return Number(name, "a change", reported, Sample(accuracies))


def of(numbers=(), comparisons=()):
    return {"numbers": list(numbers), "comparisons": list(comparisons), "claims": claims.load()}


@pytest.fixture(scope="module")
def committed():
    return evidence.load()


def test_the_summary_counts_the_verdicts():
    numbers = [number(0.8, 0.8, 0.81, 0.79, name="figure_3"), number(0.9, 0.8, 0.81, 0.79), number(0.9, 0.8)]
    text = evidence.summary(of(numbers, [Comparison("a", "A", 3, "better", (PAIR,))])).data
    assert "Of the report's 3 numbers, 1 holds, 1 is contradicted and 1 has too few runs yet." in text
    assert "Of its 1 comparison, **1 holds**." in text
    assert re.search(r"at percentile \d+ of ours; chance alone brings it so far up with p (=|<) 0\.\d+", text)


def test_only_the_figures_own_numbers_count_for_the_reports_luck():
    figures = [number(0.83, 0.8, 0.81, 0.79, name=f"figure_{n}") for n in range(3, 10)]
    others = [number(0.1, 0.8, 0.81, 0.79, name="figure_2_epochs"), number(0.1, 0.1, 0.1, 0.1, name="figure_2")]
    percentile = f"{100 * figures[0].sample.percentile(0.83):.0f}"
    text = evidence.summary(of(figures + others, [Comparison("a", "A", 3, "better", (PAIR,))])).data
    assert f"at percentile {percentile} of ours" in text


def test_the_verdict_on_a_number_is_a_sentence(committed):
    contradicted = committed | {"numbers": [number(0.9, 0.8, 0.81, 0.79)], "comparisons": []}
    assert evidence.figure_verdict("figure_4", contradicted).data.startswith("**The number is contradicted.**")
    holds = committed | {"numbers": [number(0.8, 0.8, 0.81, 0.79)], "comparisons": []}
    assert evidence.figure_verdict("figure_4", holds).data.startswith("**The number holds.**")


def test_a_comparison_gets_a_row_with_difference_interval_p_and_verdict():
    row = evidence.comparisons_table(of(comparisons=[Comparison("a", "A helps", 3, "better", (PAIR,))])).data
    low, high = PAIR.difference.interval
    assert row.splitlines()[-1] == (
        f"| 3 | A helps | – | +4.67 | {100 * low:+.2f} to {100 * high:+.2f} | 100 % | 0.004 | "
        f"3 ({PAIR.seeds_needed}) | ✓ holds |"
    )


def test_the_difference_that_the_report_gives_stands_beside_ours():
    comparison = Comparison("a", "A helps", 4, "better", (replace(PAIR, reported=0.0104),))
    assert "| A helps | +1.04 | +4.67 |" in evidence.comparisons_table(of(comparisons=[comparison])).data
    verdict = evidence.figure_verdict("figure_4", of([number(0.85, 0.84, 0.85, 0.86)], [comparison])).data
    assert "(reported +1.04 points, measured +4.67 points, 95 % interval" in verdict


def test_a_comparison_of_several_pairs_shows_the_one_that_speaks_most_against_it():
    weak = Pair((0.90, 0.90, 0.90), (0.85, 0.91, 0.90), corrected=1.0)
    row = evidence.comparisons_table(of(comparisons=[Comparison("a", "A", 3, "better", (PAIR, weak))])).data
    assert "| A (2 pairs) | – | +1.33 |" in row
    assert row.endswith("≈ not distinguishable |")


def test_what_was_not_run_is_a_dash():
    row = evidence.comparisons_table(of(comparisons=[Comparison("a", "A", 3, "better", (Pair((), ()),))])).data
    assert row.splitlines()[-1] == "| 3 | A | – | – | – | – | – | 0 | … too few runs |"
    row = evidence.numbers_table(of([number(0.85)])).data
    assert row.splitlines()[-1] == "| Figure 4: a change | 0.8500 | – | – | – | 0 | … too few runs |"


def test_a_number_gets_a_row_with_mean_range_percentile_and_verdict():
    row = evidence.numbers_table(of([number(0.85, 0.84, 0.85, 0.86)])).data.splitlines()[-1]
    assert row.startswith("| Figure 4: a change | 0.8500 | 0.8500 | 0.80")
    assert row.endswith("| 50 | 3 | ✓ holds |")


@pytest.mark.parametrize("verdict", [HOLDS, CONTRADICTED, UNDECIDED, UNTESTED])
def test_every_verdict_has_a_mark(verdict):
    assert evidence.MARKS[verdict]


def test_a_notebooks_verdict_names_its_number_and_its_comparisons(committed):
    for figure, claim in committed["claims"]["figures"].items():
        text = evidence.figure_verdict(figure, committed).data
        assert f"{claim['reported']:g}" in text
        for comparison in committed["claims"]["comparisons"].values():
            assert (comparison["claim"] in text) == (f"figure_{comparison['figure']}" == figure)


def test_the_grid_holds_the_means_of_its_27_settings(committed):
    epochs, batch_sizes, rates, means = evidence.grid_means(committed)
    assert means.shape == (3, 3, 3)
    place = epochs.index(15), batch_sizes.index(128), rates.index(0.2)
    figure_5 = verdicts.sample_of(committed["table"], claims.notebook_defaults("figure_5"))
    assert means[place] == figure_5.mean


def test_the_drawing_of_numbers_shows_every_run_and_every_reported_number_once(committed):
    def shown(marker):
        found = []
        for axes in evidence.draw_numbers(committed).axes:
            low, high = axes.get_xlim()
            lines = [line for line in axes.lines if line.get_marker() == marker]
            found += [x for line in lines for x in line.get_xdata() if low <= x < high]
        return sorted(found)

    assert shown("o") == sorted(a for n in committed["numbers"] for a in n.sample.accuracies)
    assert shown("D") == sorted(n.reported for n in committed["numbers"])


@pytest.mark.parametrize(
    ("seeds_of_512", "seeds_of_others", "expected"),
    [([0], [0], "over 1 seed,"), ([0, 1], [0, 1], "over 2 seeds,"), ([0], [0, 1, 2], "over 1 to 3 seeds,")],
)
def test_the_caption_of_the_grid_counts_its_seeds(committed, monkeypatch, seeds_of_512, seeds_of_others, expected):
    table = [
        record
        for record in committed["table"]
        if record["seed"] in (seeds_of_512 if record["batch_size"] == 512 else seeds_of_others)
    ]
    captions = []
    monkeypatch.setattr(evidence, "show_drawing", lambda _, caption, *__: captions.append(caption))
    evidence.show_grid(committed | {"table": table})
    assert expected in captions[0]


def test_the_committed_drawings_are_made_from_the_committed_records(committed):
    for name, drawing in evidence.drawings(committed).items():
        assert (ROOT / "figures" / f"{name}.svg").read_text() == mu.to_svg(drawing), name


def test_a_folder_without_runs_gives_sentences_instead_of_drawings(tmp_path):
    empty = evidence.load(tmp_path)
    assert set(evidence.drawings(empty)) == {"claims", "signals"}
    for show in (
        evidence.show_grid,
        evidence.show_images,
        evidence.show_effects,
        evidence.selection_table,
        evidence.beyond_sentence,
    ):
        assert "make sweeps" in show(empty).data
    assert "too few runs" in evidence.comparisons_table(empty).data
    assert "takes 3 seeds" in evidence.effects_sentence(empty).data


def test_a_changed_record_changes_the_verdict(tmp_path):
    """Raise every accuracy of Figure 7 by 5 points, and weight decay helps."""
    table = records.read_records(ROOT / "figures" / records.TABLE)
    setting = claims.notebook_defaults("figure_7")
    wanted = {records.record_key(record) for record in records.select(table, setting)}
    changed = [
        record | {"test_accuracy": record["test_accuracy"] + 0.05} if records.record_key(record) in wanted else record
        for record in table
    ]
    records.merge(tmp_path / records.TABLE, changed)
    before = {comparison.name: comparison.closest for comparison in evidence.load()["comparisons"]}["weight_decay"]
    after = {comparison.name: comparison.closest for comparison in evidence.load(tmp_path)["comparisons"]}
    gain = after["weight_decay"].difference.mean - before.difference.mean
    assert gain == pytest.approx(0.05)
    assert after["weight_decay"].p < before.p


def test_an_unreadable_table_is_refused_in_a_line(tmp_path):
    (tmp_path / records.TABLE).write_text("{}\n")
    with pytest.raises(ValueError, match="line 1, is damaged"):
        evidence.load(tmp_path)


def test_effects_and_selection_are_drawn_from_made_up_runs(tmp_path):
    """Batch norm is worth 2 points and everything else nothing; by validation the worst is chosen."""
    known = claims.load()
    generator = np.random.default_rng(0)
    made_up = []
    for seed in range(3):
        for levels, setting in claims.factorial_settings(known):
            accuracy = 0.87 + 0.01 * levels[2] + generator.normal(0, 0.0001)
            made_up.append(made_up_record(setting, seed, accuracy))
        for sweep in known["held_out"]:
            settings = claims.held_out_settings(sweep, known)
            for rank, setting in enumerate(settings):
                accuracy = 0.8 + 0.001 * rank
                validation = {"validation_accuracies": [1 - accuracy] * setting["num_epochs"]}
                made_up.append(made_up_record(setting, seed, accuracy, **validation))
    records.merge(tmp_path / records.TABLE, made_up)
    found = evidence.load(tmp_path)
    effects = {effect.factors: effect.sample.mean for effect in found["effects"]}
    assert effects[("batch norm",)] == pytest.approx(0.02, abs=0.0005)
    assert all(abs(value) < 0.0005 for factors, value in effects.items() if factors != ("batch norm",))
    assert "told from chance: batch norm (+2.00)." in evidence.effects_sentence(found).data
    (axes,) = evidence.draw_effects(found).axes
    assert [label.get_text() for label in axes.get_yticklabels()][:3] == ["Adam", "weight decay", "batch norm"]
    rows = evidence.selection_table(found).data.splitlines()[2:]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == [name.replace("_", " ") for name in known["held_out"]]
    for row, sweep in zip(rows, known["held_out"], strict=True):
        trainings = len(claims.sweep_settings(sweep, known))
        assert f"| {trainings} | 3 |" in row


def test_the_sentence_on_what_lies_beyond_gives_the_chosen_candidates_means(committed):
    known, table = committed["claims"], []
    for search, mean in (("within_cost", 0.9), ("no_limit", 0.92)):
        held_out, chosen = claims.beyond_settings(search, known)
        for seed, gap in enumerate((-0.001, 0, 0.001)):
            table.append(made_up_record(chosen, seed, mean + gap))
        table += [made_up_record(setting, 0, 0.99) for setting in held_out.values()]
    sentence = evidence.beyond_sentence(committed | {"table": table}).data
    assert "**0.9000** at no more arithmetic than Figure 9 takes (3 seeds, 95 % interval 0.8975 to 0.9025)" in sentence
    assert "**0.9200** without such a limit (3 seeds" in sentence
    assert "0.8884" in sentence


def test_a_candidate_is_listed_with_its_widths_epochs_and_all_parameters_of_its_network(committed):
    linear, norms = 68_250, 2 * (4 + 2 * 256 + 2 * 64)
    row = f"| Figure 9 | 256, 128, 64, 32, 16 | 15 | {linear + norms:,} | 1.00 |"
    assert row in evidence.beyond_table(committed).data


def test_the_report_reads_the_committed_measurement_of_signals(tmp_path):
    shutil.copy(ROOT / "figures" / signals.FILE, tmp_path)
    assert signals.read(tmp_path) == signals.read()
