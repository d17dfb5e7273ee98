"""The report's sentences and tables, on made-up records and on the committed ones."""

import numpy as np
import pytest
from conftest import ROOT, made_up_record

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


def without_rounds(setting):
    return {name: value for name, value in setting.items() if name != "num_rounds"}


@pytest.mark.parametrize(
    ("difference", "written"), [(0.0123, "+1.23"), (-0.0123, "−1.23"), (0.0, "+0.00"), (-0.00001, "+0.00")]
)
def test_differences_are_written_in_points_and_nothing_has_no_minus(difference, written):
    assert reporting.points(difference) == written


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


def table_of(folder, **changes):
    """Write a table with two runs of Figure 4 and one of Figure 5, with other parameters than the notebooks'."""
    figure_4, figure_5 = (claims.notebook_defaults(name) | changes for name in ("figure_4", "figure_5"))
    found = [
        made_up_record(figure_4, 1, 0.86),
        made_up_record(figure_4, 0, 0.84),
        made_up_record(figure_5, 0, 0.875),
    ]
    records.merge(folder / records.TABLE, found)
    return folder


def test_results_are_those_of_the_figures_that_have_records(tmp_path):
    results = reporting.load_results(table_of(tmp_path))
    claim = claims.load()["figures"]["figure_4"]
    assert list(results) == ["figure_4", "figure_5"]
    figure_4 = results["figure_4"]
    assert figure_4["accuracies"].tolist() == [0.84, 0.86]
    assert [record["seed"] for record in figure_4["records"]] == [0, 1]
    assert figure_4["mean"] == pytest.approx(0.85)
    assert figure_4["difference"] == pytest.approx(0.85 - claim["reported"])
    assert (figure_4["number"], figure_4["reported"], figure_4["change"]) == (4, claim["reported"], claim["change"])
    assert figure_4["setting"] == claims.notebook_defaults("figure_4")


def test_runs_of_a_trial_are_found_by_the_parameters_in_which_they_differ(tmp_path):
    trial = {"train_limit": 600, "num_epochs": 3}
    folder = table_of(tmp_path, **trial)
    assert reporting.load_results(folder) == {}
    assert list(reporting.load_results(folder, trial)) == ["figure_4", "figure_5"]
    assert reporting.load_results(folder, {"train_limit": 600}) == {}


def test_a_folder_without_a_table_has_no_results(tmp_path):
    assert reporting.load_results(tmp_path) == {}


def test_the_committed_figures_have_three_seeds_or_more_of_the_reports_settings():
    results = reporting.load_results("figures")
    for name, claim in claims.load()["figures"].items():
        seeds = [record["seed"] for record in results[name]["records"]]
        assert {0, 1, 2} <= set(seeds)
        assert seeds == sorted(set(seeds))
        for record in results[name]["records"]:
            assert without_rounds(claim["setting"]).items() <= record.items()
            assert record["train_limit"] == 60000
            assert record["num_validation"] == 0
            assert record["training_version"] == records.TRAINING_VERSION
            assert len(record["test_accuracies"]) == record["num_epochs"]


def test_the_committed_accuracies_lie_near_the_reported_ones():
    for result in reporting.load_results("figures").values():
        assert abs(result["difference"]) <= reporting.TOLERANCE, result["number"]


def test_the_committed_drawings_are_made_from_the_committed_records():
    results = reporting.load_results("figures")
    assert (ROOT / "figures" / "overview.svg").read_text() == mu.to_svg(reporting.draw_overview(results))
    for name, result in results.items():
        assert (ROOT / "figures" / f"{name}.svg").read_text() == mu.to_svg(reporting.draw_result(result)), name
