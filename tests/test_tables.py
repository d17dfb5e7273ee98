"""The report's tables, on made-up results and on the project's own claims."""

import base64
from dataclasses import replace

import numpy as np
from conftest import made_up_record, study_of
from scipy import stats

import model
from common import fashion_mnist
from common.formatting import interval, points
from report import beyond, tables
from report.verdict import MARKS, not_yet
from study import claims, power
from study.outcomes import CONTRADICTED, EQUAL, HOLDS, UNDECIDED, UNTESTED
from study.samples import Pair
from tests.made_up_results import PAIR, WEAK_PAIR, comparison, number, study_of_figures, study_with

HOLDING, CONTRADICTING, PRACTICALLY_EQUAL, UNDECIDABLE, TOO_FEW = (
    f"{mark}\N{NO-BREAK SPACE}{verdict}"
    for mark, verdict in zip("✓✗≈?…", (HOLDS, CONTRADICTED, EQUAL, UNDECIDED, UNTESTED), strict=True)
)


def rows_of(table):
    """Return the cells of a table's rows, without its head."""
    return [row.strip("| ").split(" | ") for row in table.data.splitlines()[2:]]


def test_every_verdict_has_a_mark_and_stands_with_it_on_one_line():
    written_ones = (HOLDING, CONTRADICTING, PRACTICALLY_EQUAL, UNDECIDABLE, TOO_FEW)
    for verdict, written in zip(MARKS, written_ones, strict=True):
        assert tables.mark(verdict) == written


def test_a_column_is_as_wide_as_its_longest_cell_and_flush_right_unless_its_head_ends_in_a_space():
    lines = tables.markdown_table(["Name ", "p"], [["a", "0.001"], ["long", "1"]]).data.splitlines()
    assert lines == ["| Name | p |", "| :------ | -------: |", "| a | 0.001 |", "| long | 1 |"]


# Figures


def test_the_table_has_a_row_a_figure_with_deviation_and_number_of_seeds():
    study = study_of_figures({4: (0.85, [0.84, 0.86]), 5: (0.88, [0.87])})
    assert tables.results_table(study).data.splitlines()[2:] == [
        "| [4](#fig-4) | a change | 0.8500 | 0.8500 | +0.00 | 1.41 | 2 |",
        "| [5](#fig-5) | a change | 0.8800 | 0.8700 | −1.00 | – | 1 |",
    ]
    assert "| [4](figure_4.html) |" in tables.results_table(study, link="figure_{}.html").data


# Comparisons


def row_of(judged, **results):
    (row,) = rows_of(tables.comparisons_table(study_with(comparisons=[judged], **results)))
    return row


def test_a_comparison_gets_a_row_with_verdict_difference_corrected_interval_p_and_seeds():
    judged = comparison(PAIR)
    assert row_of(judged) == [
        "A helps",
        HOLDING,
        "3",
        "–",
        "+4.67",
        interval(judged.interval, points),
        f"{judged.corrected:.3f}",
        "3",
    ]


def test_an_exploratory_verdict_says_so():
    assert row_of(comparison(PAIR, exploratory=True))[:2] == ["A helps", f"{HOLDING}, exploratory"]


def test_every_claim_has_its_checks_beside_what_of_it_is_ours():
    judged = [comparison(PAIR, ours="the size"), comparison(PAIR, WEAK_PAIR)]
    last = [comparison(WEAK_PAIR), comparison(PAIR)]
    earlier = [comparison(PAIR), comparison(Pair((), ()))]
    study = study_with(comparisons=judged, comparisons_after_the_last_epoch=last, comparisons_by_earlier_seeds=earlier)
    assert rows_of(tables.checks_table(study)) == [
        ["A helps", "–", "the size", "0.250", "+1.33\N{NO-BREAK SPACE}?", "+4.67\N{NO-BREAK SPACE}✓"],
        ["A helps", "other (2 pairs)", "–", "1.000", "+4.67\N{NO-BREAK SPACE}✓", "–"],
    ]


def test_the_difference_that_the_report_gives_stands_beside_ours():
    assert row_of(comparison(replace(PAIR, reported=0.0104), figure=4))[2:5] == ["4", "+1.04", "+4.67"]


def test_a_comparison_of_several_pairs_shows_the_one_that_speaks_most_against_it():
    for relation, (shown, verdict) in {
        "better": ("+1.33", UNDECIDABLE),
        "no_better": ("+4.67", CONTRADICTING),
    }.items():
        row = row_of(comparison(PAIR, WEAK_PAIR, relation=relation))
        assert (row[1], row[4]) == (verdict, shown)


def test_an_undecided_claim_says_how_many_seeds_it_would_take():
    differences = np.array([0.01, -0.01, 0.03])  # a gain of half a standard deviation
    undecided = comparison(Pair(tuple(0.8 + differences), (0.8,) * 3))
    assert row_of(undecided)[-1] == f"3\N{NO-BREAK SPACE}(≈{power.seeds_needed(undecided)})"
    hopeless = comparison(Pair((0.8, 0.9, 0.85), (0.85, 0.85, 0.85001)))
    assert row_of(hopeless)[-1] == "3\N{NO-BREAK SPACE}(>1000)"
    assert row_of(comparison(PAIR))[-1] == "3"


def test_what_was_not_run_is_a_dash():
    few = comparison(Pair((0.9, 0.91), (0.85, 0.86)))
    study = study_with(comparisons=[comparison(Pair((), ())), few], numbers=[number(0.85)])
    nothing, too_few = rows_of(tables.comparisons_table(study))
    assert nothing == ["A helps", TOO_FEW, "3", *["–"] * 4, "0"]
    assert too_few[6] == "–"
    assert too_few[-1] == "2"
    assert rows_of(tables.numbers_table(study)) == [["Figure 4: a change", TOO_FEW, "0.8500", "–", "–", "–", "0"]]


def test_without_runs_every_claim_has_its_row():
    study = study_of([])
    assert len(rows_of(tables.comparisons_table(study))) == len(claims.load().comparisons)
    for row in rows_of(tables.comparisons_table(study)) + rows_of(tables.numbers_table(study)):
        assert row[1] == f"{TOO_FEW}, exploratory"


# Numbers and sweeps


def test_a_number_gets_a_row_with_verdict_mean_range_and_percentile():
    runs = number(0.85, 0.84, 0.85, 0.86)
    low, high = runs.range_of_runs
    assert rows_of(tables.numbers_table(study_with(numbers=[runs]))) == [
        ["Figure 4: a change", HOLDING, "0.8500", "0.8500", f"{low:.4f} to {high:.4f}", "50", "3"]
    ]
    assert 0.80 < low < 0.84 < 0.86 < high < 0.90


def test_a_sweep_has_a_row_a_setting_with_what_it_varies():
    sweep = claims.load().sweeps["augmentation"]
    runs = [made_up_record(sweep.settings[1], seed, accuracy) for seed, accuracy in enumerate((0.86, 0.88))]
    table = tables.sweep_table(study_of(runs), "augmentation")
    assert table.data.startswith("| Augmentation | Test accuracy | 95 % interval | Seeds |")
    assert [row[0] for row in rows_of(table)] == [
        "shifts",
        "flips",
        "erased areas",
        "shifts, flips, erased areas",
    ]
    low, high = study_of(runs).sample_of(sweep.settings[1]).interval
    assert rows_of(table)[1][1:] == ["0.8700", f"{low:.4f} to {high:.4f}", "2"]
    assert rows_of(table)[0][1:] == ["–", "–", "0"]


def test_a_sweep_of_one_value_names_it_and_one_of_many_parameters_only_those_that_vary():
    study = study_of([])
    assert rows_of(tables.sweep_table(study, "adam_first_try")) == [["0.2", "–", "–", "0"]]
    assert tables.sweep_table(study, "grid").data.startswith("| Batch size | Learning rate | Num epochs | Test")
    assert [row[:2] for row in rows_of(tables.sweep_table(study, "norm_readings"))] == [
        ["1", "no"],
        ["1", "yes"],
        ["2", "no"],
        ["2", "yes"],
    ]


# Selection, steps, candidates


def test_selection_is_listed_sweep_by_sweep_from_made_up_runs():
    """By validation the worst setting is chosen, by test the best."""
    stated, records = claims.load(), []
    for sweep in stated.held_out:
        for rank, setting in enumerate(stated.sweeps[sweep].held_out):
            accuracy = 0.8 + 0.001 * rank
            validation = {"validation_accuracies": [1 - accuracy] * setting["num_epochs"]}
            accuracies = (accuracy, accuracy + 0.003, accuracy)
            records += [made_up_record(setting, seed, value, **validation) for seed, value in enumerate(accuracies)]
    rows = rows_of(tables.selection_table(study_of(records)))
    assert [row[0] for row in rows] == [sweep.replace("_", " ").capitalize() for sweep in stated.held_out]
    for row, sweep in zip(rows, stated.held_out, strict=True):
        best = 0.001 * (len(stated.sweeps[sweep].settings) - 1)
        assert row[1:3] == [f"{len(stated.sweeps[sweep].settings)}", "3"]
        assert row[3:7] == [f"{0.801 + best:.4f}", "0.8010", points(best), f"{points(best)} to {points(best)}"]
        half = stats.t.ppf(0.975, 2) * np.std([-0.0015, 0.003, -0.0015], ddof=1) / 3**0.5
        assert row[7:] == ["+0.00", f"{points(-half)} to {points(half)}"]


def test_selection_without_runs_is_a_sentence():
    assert "make sweeps" in tables.selection_table(study_of([])).data


def test_a_step_is_listed_with_what_the_test_images_say():
    """Figure 5 recognises all images that Figure 4 does and, by turns of the seed, one or 799 more."""
    figures, records = claims.load().figures, []
    for seed in range(4):
        records += [
            made_up_record(figures["figure_4"].setting, seed, correct=bits(8000)),
            made_up_record(figures["figure_5"].setting, seed, correct=bits(8799 if seed % 2 else 8001)),
        ]
    (row,) = rows_of(tables.steps_table(study_of(records)))
    tested = ["<\N{NO-BREAK SPACE}0.001", "2 of 4", "5.3\N{NO-BREAK SPACE}%", "0.16", "4.61"]
    assert [*row[:2], *row[3:]] == ["Figure 4 to 5", "+4.00", *tested]
    # The gain of a seed is 0.0001 or 0.0799, that of an image 1, 0.5 or 0.
    by_image = [1.0] + [0.5] * 798 + [0.0] * 9201
    error = (stats.sem([0.0001, 0.0799] * 2) ** 2 + stats.sem(by_image) ** 2) ** 0.5
    half = stats.t.ppf(0.975, 3) * error
    assert row[2] == f"{points(0.04 - half)} to {points(0.04 + half)}"


def bits(num_recognised):
    """Write, as in a record, that the first so many test images are recognised."""
    return base64.b64encode(np.packbits(np.arange(10000) < num_recognised)).decode()


def test_a_candidate_is_listed_with_its_widths_epochs_and_all_parameters_of_its_network():
    linear, norms = 68_250, 2 * (4 + 2 * 256 + 2 * 64)
    search = claims.load().beyond["within_cost"]
    records = [
        made_up_record(search.held_out["figure_9"], 0, validation_accuracies=[0.88] * 15),
        *(made_up_record(search.candidates[search.chosen], seed, 0.9) for seed in range(2)),
    ]
    table = beyond.candidates_table(study_of(records)).data
    row = f"| Figure 9 | 256, 128, 64, 32, 16 | 15 | {linear + norms:,} | 1.00 | 0.8800 | 1 | – |"
    assert row in table
    title = search.chosen.replace("_", " ").capitalize()
    (chosen,) = [line for line in table.splitlines() if line.startswith(f"| **{title}** |")]
    assert chosen.endswith(" | – | 0 | 0.9000 |")
    candidates = sum(len(search.candidates) for search in claims.load().beyond.values())
    assert len(table.splitlines()) == 2 + candidates
    assert table.count("**") == 2 * len(claims.load().beyond)


# What computed it


def test_provenance_has_a_row_for_each_processor_with_its_runs_their_cost_and_versions():
    about = {"python": "3.11.2", "torchvision": "0.29.1", "numpy": "2.4.0"}
    setting = claims.load().figures["figure_4"].setting
    processors = ("EPYC", "2.14.1+cu130"), ("Xeon", "2.14.0+cpu"), ("EPYC", "2.14.0")
    runs = [
        made_up_record(setting, seed, **about, processor=processor, torch=torch)
        for seed, (processor, torch) in enumerate(processors)
    ]
    multiplications = 3 * 10 * 60_000 * model.count_multiply_adds(4, 14, setting["num_hidden"], 10) / 1e15
    table = tables.provenance(study_of(runs))

    def versions(torch):
        return ["3.11.2", torch, "0.29.1", "2.4.0", f"{runs[0]['training_version']}"]

    software = "Python | PyTorch | torchvision | NumPy | Version"
    assert table.data.startswith(f"| Processor | Runs | Seeds | Epochs | Cost | {software} |\n")
    assert rows_of(table) == [
        ["EPYC", "2", "0 to 2", "20", f"{2 * multiplications:.1f}", *versions("2.14.0, 2.14.1")],
        ["Xeon", "1", "1", "10", f"{multiplications:.1f}", *versions("2.14.0")],
    ]


def test_a_table_gets_a_number_and_a_caption_and_what_stands_for_a_missing_one_gets_none():
    table = tables.markdown_table(["Name ", "p"], [["a", "0.001"]])
    assert tables.captioned(3, "Names", table).data == f"Table 3: Names\n\n{table.data}"
    assert tables.captioned(3, "Names", None) is None
    sentence = not_yet("the grid")
    assert tables.captioned(3, "Names", sentence) is sentence


def test_the_data_are_listed_with_the_checksums_that_are_checked():
    rows = rows_of(tables.data_checksums())
    for (name, size, digest), (expected, (num_bytes, checksum)) in zip(rows, fashion_mnist.FILES.items(), strict=True):
        assert name == f"`{expected}`"
        assert int(size.replace(",", "")) == num_bytes
        assert checksum.startswith(digest.strip("`…"))
        assert len(digest.strip("`…")) == 16
