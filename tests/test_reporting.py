"""The report's sentences and tables, on made-up records and on the committed ones."""

import numpy as np
import pytest
from conftest import ROOT

import claims
import my_utils as mu
import records
import reporting


def result(number, reported, accuracies):
    accuracies = np.array(accuracies)
    return {
        "number": number,
        "change": "a change",
        "reported": reported,
        "records": [{"seed": seed} for seed in range(len(accuracies))],
        "accuracies": accuracies,
        "mean": accuracies.mean(),
        "difference": accuracies.mean() - reported,
    }


def test_the_summary_counts_the_close_ones_and_names_the_farthest():
    results = {"figure_2": result(2, 0.1, [0.1, 0.1]), "figure_3": result(3, 0.84, [0.81, 0.82])}
    text = reporting.summary(results).data
    assert "Of the 2 reported accuracies, **1 lie within 1.5 points**" in text
    assert "−2.50 points, in [Figure 3](#fig-3)" in text


@pytest.mark.parametrize(("gain", "verdict"), [(0.001, "can't tell such steps from chance"), (0.05, "some of these")])
def test_the_summary_compares_the_last_steps_with_the_scatter_between_seeds(gain, verdict):
    results = {f"figure_{n}": result(n, 0.8 + gain * (n - 5), [0.80, 0.81]) for n in (5, 6)}
    assert verdict in reporting.summary(results).data


def test_a_caption_gives_reported_measured_and_range():
    caption = reporting.caption(result(4, 0.85, [0.84, 0.86, 0.88]))
    assert "reported 0.8500" in caption
    assert "measured 0.8600, the mean of 3 seeds from 0.8400 to 0.8800 (+1.00 points)" in caption


def test_a_caption_of_one_run_names_its_seed():
    assert "measured 0.8400 with seed 0 (−1.00 points)" in reporting.caption(result(4, 0.85, [0.84]))


def test_the_table_has_a_row_a_figure_with_deviation_and_number_of_seeds():
    table = reporting.results_table({"figure_4": result(4, 0.85, [0.84, 0.86])}).data
    assert table.splitlines()[-1] == "| [4](#fig-4) | a change | 0.8500 | 0.8500 | +0.00 | 1.41 | 2 |"


def test_the_diagram_follows_the_networks_own_shapes():
    shapes = [(rows, columns) for *_, rows, columns in reporting.model_shapes([256, 128, 64, 32, 16])]
    expected = [(4, 196), (4, 256), (256, 4), (256, 128), (256, 64), (64, 256), (64, 32), (64, 16), (1, 16), (1, 10)]
    assert shapes == expected


def test_the_committed_figures_have_three_seeds_or_more_of_the_reports_settings():
    for name, claim in claims.load()["figures"].items():
        found = records.read_records(ROOT / "figures" / f"{name}.jsonl")
        assert len(found) >= 3
        assert [record["seed"] for record in found] == sorted({record["seed"] for record in found})
        for record in found:
            assert claim["setting"].items() <= record["parameters"].items()
            assert record["parameters"]["train_limit"] == 60000
            assert record["training_version"] == records.TRAINING_VERSION
            assert len(record["history"]) == record["parameters"]["num_epochs"]


def test_the_committed_accuracies_lie_near_the_reported_ones():
    for result in reporting.load_results("figures").values():
        assert abs(result["difference"]) <= reporting.TOLERANCE, result["number"]


def test_the_committed_drawings_are_made_from_the_committed_records():
    results = reporting.load_results("figures")
    assert (ROOT / "figures" / "overview.svg").read_text() == mu.to_svg(reporting.draw_overview(results))
