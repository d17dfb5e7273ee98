"""The benchmark: its contenders train the same network, and what is shown of it is what was measured."""

import copy
import json

import pytest

from benchmarks import benchmark, gpu
from benchmarks.contenders import CONTENDERS
from common import ROOT
from common.curves import to_svg
from study import claims

RESULTS, ON_ZEN_4, ON_ZEN_3, ON_A_GPU = (
    json.loads((ROOT / "figures" / f"benchmark{which}.json").read_text(encoding="utf-8"))
    for which in ("", "_zen4", "_zen3", "_gpu")
)
PROCESSORS = {"AMD EPYC, Zen 5": RESULTS, "AMD EPYC, Zen 4": ON_ZEN_4, "AMD EPYC, Zen 3": ON_ZEN_3}


@pytest.mark.parametrize("batch_norm", [False, True])
def test_contenders_of_pytorch_arrive_at_the_same_accuracy(batch_norm):
    arguments = {"batch_size": 100, "batch_norm": batch_norm, "num_images": 1050}
    names = ("vectorised", "ours") if batch_norm else ("literal", "vectorised", "ours")  # the literal one takes long
    measured = {
        name: benchmark.in_processes(1, 1, benchmark.measure, contender=name, **arguments)[0] for name in names
    }
    assert all(result["seconds"] > 0 for result in measured.values())
    assert all(result["memory"] > 1e8 for result in measured.values())
    accuracies = [result["accuracy"] for result in measured.values()]
    assert 0.2 < min(accuracies)
    assert max(accuracies) - min(accuracies) < benchmark.AGREEMENT


def test_a_measurement_that_fails_is_reported_with_its_error():
    with pytest.raises(SystemExit, match=r"benchmark\.py: measure .* failed:\n[\s\S]*KeyError: 'abacus'"):
        benchmark.in_processes(
            1, 1, benchmark.measure, contender="abacus", batch_size=100, batch_norm=False, num_images=100
        )


def test_processes_side_by_side_add_up():
    results = [{"seconds": 20, "accuracy": 0.5, "memory": 3}, {"seconds": 30, "accuracy": 0.6, "memory": 4}]
    assert benchmark.as_one(results) == {"seconds": pytest.approx(12), "accuracy": 0.5, "memory": 7}


def test_the_floor_counts_the_products_of_the_report():
    stem = 4 * 196 * 256
    mixing = 256 * 4 * 128 + 256 * 128 * 32 + 32 * 128 * 64 + 32 * 16  # W₁, W₃ before W₂, W₄ after the mean
    assert benchmark.floor(False) == 60_000 * 2 * (3 * (stem + mixing + 160) - stem)
    mixing = 256 * 4 * 128 + 256 * 128 * 64 + 64 * 256 * 32 + 64 * 32 * 16  # in the report's order
    assert benchmark.floor(True) == 60_000 * 2 * (3 * (stem + mixing + 160) - stem)


def test_another_accuracy_than_the_others_is_an_error():
    for results in PROCESSORS.values():
        benchmark.check(results)
    wrong = copy.deepcopy(RESULTS)
    next(row for row in wrong["rows"] if row["contender"] == "jax")["accuracy"] -= 0.1
    with pytest.raises(SystemExit, match=r"benchmark\.py: jax reached"):
        benchmark.check(wrong)


@pytest.mark.parametrize("results", PROCESSORS.values(), ids=PROCESSORS)
def test_every_contender_was_measured_in_every_setting_in_turn(results):
    assert set(benchmark.LABELS) == {*CONTENDERS, "batch"}
    turns = [(row["repeat"], row["setting"], row["contender"]) for row in results["rows"]]
    repeats = range(max(repeat for repeat, *_ in turns) + 1)
    assert len(repeats) >= 3
    assert turns == [(r, s, c) for r in repeats for s in benchmark.SETTINGS for c in benchmark.LABELS]


def test_the_page_on_speed_shows_the_committed_measurements():
    page = (ROOT / "docs" / "speed.md").read_text(encoding="utf-8")
    assert benchmark.table(RESULTS) in page
    assert benchmark.processors_table(PROCESSORS) in page
    assert gpu.table(ON_A_GPU) in page
    assert gpu.sentence(ON_A_GPU) in page


def test_the_readme_says_in_a_line_how_fast_it_is():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert benchmark.sentence(RESULTS) in readme
    assert gpu.sentence(ON_A_GPU) in readme


def test_on_a_gpu_the_quick_ways_were_seen_to_be_right():
    for name, errors in ON_A_GPU["errors"].items():
        assert errors["fast_forward"] < 3 * errors["net"] < 1e-5, name
    for name, losses in ON_A_GPU["losses"].items():
        assert losses["graph"] == losses["plain"], name
        assert losses["stack"] == pytest.approx(losses["plain"], rel=1e-3), name


def test_the_time_of_all_figures_is_that_of_their_epochs():
    seconds = {"epoch": 2.0, "memory": 1}
    report = {"seconds": {name: {"8": seconds} for name in gpu.FIGURES}}
    epochs = [figure.setting["num_epochs"] for figure in claims.load().figures.values()]
    assert gpu.training_seconds(report, 8) == 2 * sum(epochs)


def test_the_committed_drawing_is_that_of_the_committed_measurements():
    assert (ROOT / "figures" / "benchmark.svg").read_text(encoding="utf-8") == to_svg(benchmark.draw(RESULTS))
