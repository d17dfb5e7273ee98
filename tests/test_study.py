"""The study as a whole: what it reads from a folder, a trial's runs, and the verdicts that it leaves as a file."""

import hashlib
import json
import math
from dataclasses import replace

import pytest
from conftest import ROOT, made_up_bits, made_up_record, study_of

from study import claims, notebooks, verdicts
from study.record import record_key
from study.samples import Sample
from study.study import VERDICTS, Study
from study.table import TABLE, merge, read_records, select
from tests.made_up import runs_of

CLAIMS = claims.load()
FIGURE_3 = notebooks.defaults("figure_3")
FIGURE_4 = notebooks.defaults("figure_4")
TRIAL = {"train_limit": 600, "num_epochs": 2}


@pytest.fixture(scope="module")
def committed():
    return Study.read()


def write_table(folder, records):
    merge(folder / TABLE, records)
    return folder


def read_strictly(text):
    """Read JSON that has no NaN and no infinity in it."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def by_name(entries):
    return {entry["name"]: entry for entry in entries}


# What is read


def test_a_study_is_the_projects_claims_and_the_committed_records(committed):
    assert committed.claims is CLAIMS
    assert committed.records == read_records(ROOT / "figures" / TABLE)
    assert committed.overrides == {}
    assert list(committed.figures) == list(CLAIMS.figures)


def test_a_folder_is_read_wherever_it_is_and_wherever_python_was_started(tmp_path, monkeypatch):
    records = runs_of(FIGURE_4, [0.8, 0.9])
    write_table(tmp_path, records)
    monkeypatch.chdir(tmp_path)
    assert Study.read(tmp_path).records == records
    assert len(Study.read("figures").records) > len(records)


def test_a_folder_without_a_table_has_no_records(tmp_path):
    study = Study.read(tmp_path / "none")
    assert (study.records, study.figures, study.selections, study.steps) == ([], {}, [], [])
    assert {number.verdict for number in study.numbers} == {"too few runs"}
    assert {comparison.verdict for comparison in study.comparisons} == {"too few runs"}
    assert study.share_recognised == (None, 0)


def test_an_unreadable_table_is_refused_in_a_line(tmp_path):
    (tmp_path / TABLE).write_text("{}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 1, is damaged") as damaged:
        Study.read(tmp_path)
    (tmp_path / TABLE).unlink()
    (tmp_path / TABLE).mkdir()
    with pytest.raises(ValueError, match="can't be read") as a_folder:
        Study.read(tmp_path)
    for error in (damaged, a_folder):
        assert str(error.value).startswith(str(tmp_path / TABLE))
        assert "\n" not in str(error.value)


def test_everything_is_judged_once(committed):
    for name in (
        "figures",
        "numbers",
        "step_sizes",
        "comparisons",
        "comparisons_after_the_last_epoch",
        "effects",
        "selections",
        "candidates",
        "steps",
        "share_recognised",
        "verdicts",
    ):
        assert getattr(committed, name) is getattr(committed, name), name


# Runs of a setting


def test_the_runs_of_a_setting_are_the_protocols_or_else_the_earlier_ones_that_the_table_has_of_it(committed):
    fresh = committed.claims.protocol.seeds
    records = committed.records_of(FIGURE_4)
    assert [record["seed"] for record in records] == list(fresh)
    assert records == [record for record in select(committed.records, FIGURE_4) if record["seed"] in fresh]
    undecided = FIGURE_4 | {"learning_rate": 0.5}
    earlier = [record | {"learning_rate": 0.5} for record in select(committed.records, FIGURE_4)]
    assert Study(earlier, committed.claims, {}).records_of(undecided) == [
        record for record in earlier if record["seed"] not in fresh
    ]
    assert committed.sample_of(FIGURE_4) == Sample.of(records)


def test_only_seeds_that_both_settings_have_are_paired():
    table = (
        runs_of(FIGURE_3, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) + runs_of(FIGURE_4, [0.5, 0.7, 0.6, 0.9, 0.8, 0.4, 1])[1:]
    )
    pair = study_of(table).pair_of(FIGURE_4, FIGURE_3, 0.01)
    assert (pair.first, pair.second) == ((0.7, 0.6, 0.9, 0.8, 0.4), (0.2, 0.3, 0.4, 0.5, 0.6))
    assert pair.margin == 0.01


def test_in_a_trial_the_runs_of_a_setting_are_those_of_the_trial():
    table = runs_of(FIGURE_4, [0.5]) + runs_of(FIGURE_4 | TRIAL, [0.1, 0.2]) + runs_of(FIGURE_3 | TRIAL, [0.3, 0.4])
    study = study_of(table, overrides=TRIAL)
    assert study.sample_of(FIGURE_4).accuracies == (0.1, 0.2)
    pair = study.pair_of(FIGURE_4, FIGURE_3)
    assert (pair.first, pair.second) == ((0.1, 0.2), (0.3, 0.4))
    assert list(study.figures) == ["figure_3", "figure_4"]
    assert study.figures["figure_4"].setting == FIGURE_4 | TRIAL
    assert [record["train_limit"] for record in study.figures["figure_4"].records] == [600, 600]


def test_a_trial_is_read_with_its_overrides(tmp_path):
    write_table(tmp_path, runs_of(FIGURE_4 | TRIAL, [0.1, 0.2]))
    assert Study.read(tmp_path).figures == {}
    study = Study.read(tmp_path, TRIAL)
    assert study.overrides == TRIAL
    assert study.figures["figure_4"].sample.accuracies == (0.1, 0.2)


def test_a_figure_with_runs_has_a_result():
    stated = replace(CLAIMS, figures={"figure_4": replace(CLAIMS.figures["figure_4"], reported=0.8)})
    study = study_of(runs_of(FIGURE_4, [0.84, 0.86]), stated)
    (result,) = study.figures.values()
    assert result.figure is stated.figures["figure_4"]
    assert (result.number, result.setting, result.records) == (4, FIGURE_4, study.records)
    assert result.sample.accuracies == (0.84, 0.86)
    assert result.difference == pytest.approx(0.05)
    assert study_of([], stated).figures == {}


def test_the_chosen_candidates_of_the_searches_are_measured_with_all_training_images():
    table, means = [], {}
    for number, (name, search) in enumerate(CLAIMS.beyond.items()):
        means[name] = 0.9 + 0.01 * number
        table += runs_of(search.candidates[search.chosen], [means[name]] * 3)
        table += [made_up_record(setting, 0, 0.99) for setting in search.held_out.values()]
    reached = study_of(table).chosen_candidates
    assert [chosen.search for chosen in reached] == list(CLAIMS.beyond.values())
    assert {chosen.search.name: chosen.test.mean for chosen in reached} == pytest.approx(means)


# Verdicts


def test_the_committed_verdicts_are_those_of_the_committed_records(committed, tmp_path):
    text = (ROOT / "figures" / VERDICTS).read_text(encoding="utf-8")
    assert read_strictly(text) == committed.verdicts
    committed.write_verdicts(tmp_path)
    assert (tmp_path / VERDICTS).read_text(encoding="utf-8") == text


def test_the_verdicts_name_their_rule_and_the_very_bytes_that_they_are_about(committed):
    table = (ROOT / "figures" / TABLE).read_bytes()
    assert committed.verdicts["rule"] == verdicts.__doc__
    assert committed.verdicts["level"] == 0.05
    assert committed.verdicts["records"] == {
        "file": TABLE,
        "number": len(table.splitlines()),
        "sha256": hashlib.sha256(table).hexdigest(),
    }


def test_every_reported_number_and_step_has_its_verdict_and_what_it_rests_on(committed):
    entries = committed.verdicts["numbers"] + committed.verdicts["step_sizes"]
    for number, entry in zip(committed.numbers + committed.step_sizes, entries, strict=True):
        assert (entry["name"], entry["label"], entry["reported"]) == (number.name, number.label, number.reported)
        assert (entry["verdict"], entry["seeds"]) == (number.verdict, number.sample.num_seeds)
        assert (entry["exploratory"], entry["deterministic"]) == (number.exploratory, number.is_deterministic)
        measured = [number.sample.mean, *number.range_of_runs]
        assert [entry["mean"], *entry["range_of_runs"]] == pytest.approx(measured, abs=1e-10)
        assert entry["percentile"] == pytest.approx(number.sample.percentile(number.reported), abs=1e-10)


def test_every_claim_has_its_verdict_with_effect_interval_and_seeds_of_the_pair_that_speaks_most_against_it(committed):
    entries = by_name(committed.verdicts["comparisons"])
    assert list(entries) == list(CLAIMS.comparisons)
    after_the_last_epoch = committed.comparisons_after_the_last_epoch
    for comparison, last in zip(committed.comparisons, after_the_last_epoch, strict=True):
        claim = comparison.stated
        entry = entries[claim.name]
        assert (entry["claim"], entry["figure"], entry["relation"]) == (claim.text, claim.figure, claim.relation)
        assert (entry["ours"], entry["pairs"]) == (claim.ours, len(claim.pairs))
        assert (entry["exploratory"], entry["deterministic"]) == (comparison.exploratory, comparison.is_deterministic)
        for judged, written in ((comparison, entry), (last, entry["after_the_last_epoch"])):
            assert (written["verdict"], written["seeds"]) == (judged.verdict, judged.num_seeds)
            pair = judged.least_favourable
            if pair:
                measured = [pair.difference.mean, *judged.interval]
                assert [written["effect"], *written["interval"]] == pytest.approx(measured, abs=1e-10)
                flips = pair.difference.p_of_sign_flips(pair.margin)
                assert written["p_of_sign_flips"] == pytest.approx(flips, abs=1e-10)
            corrected = None if math.isnan(judged.corrected) else pytest.approx(judged.corrected, abs=1e-10)
            assert written["p"] == corrected
        pair = comparison.least_favourable
        reported = None if not pair or math.isnan(pair.reported) else pytest.approx(pair.reported, abs=1e-10)
        assert entry["reported"] == reported


def test_every_search_has_what_its_chosen_candidate_reached(committed):
    for chosen, entry in zip(committed.chosen_candidates, committed.verdicts["beyond"], strict=True):
        search, sample = chosen.search, chosen.test
        assert (entry["name"], entry["limit"], entry["candidate"]) == (search.name, search.limit, search.chosen)
        assert entry["cost"] == pytest.approx(chosen.cost, abs=1e-10)
        expected = [pytest.approx(value, abs=1e-10) for value in (sample.mean, *sample.interval)]
        measured = [entry["mean"], *entry["interval"]]
        assert measured == (expected if sample.num_seeds > 1 else [None] * 3)
        assert entry["seeds"] == sample.num_seeds


@pytest.mark.parametrize("accuracies", [[], [0.8], [0.8, 0.8], [0.8, 0.8, 0.8]])
def test_what_can_not_be_known_is_null_in_the_file_and_never_nan(tmp_path, accuracies):
    study = study_of(runs_of(FIGURE_3, accuracies) + runs_of(FIGURE_4, accuracies))
    study.write_verdicts(tmp_path)
    written = read_strictly((tmp_path / VERDICTS).read_text(encoding="utf-8"))
    assert written == study.verdicts
    number = by_name(written["numbers"])["figure_4"]
    he = by_name(written["comparisons"])["he"]
    assert (number["seeds"], he["seeds"]) == (len(accuracies), len(accuracies))
    assert (number["mean"] is None, he["effect"] is None) == (not accuracies, not accuracies)
    assert (number["range_of_runs"] == [None, None]) == (he["interval"] == [None, None]) == (len(accuracies) < 2)
    assert (he["verdict"] == "too few runs") == (len(accuracies) < 3)
    assert he["p"] is None  # equal runs have no test
    for entry in by_name(written["beyond"]).values():
        assert (entry["mean"], entry["interval"], entry["seeds"]) == (None, [None, None], 0)


def test_a_changed_record_changes_the_verdict(committed, tmp_path):
    """Raise every accuracy of Figure 7 by 5 points, and weight decay helps."""
    wanted = {record_key(record) for record in committed.records_of(notebooks.defaults("figure_7"))}

    def raised(record):
        accuracies = [round(accuracy + 0.05, 4) for accuracy in record["test_accuracies"]]
        bits = made_up_bits(round(accuracies[-1] * 10000))
        return record | {"test_accuracy": accuracies[-1], "test_accuracies": accuracies, "correct": bits}

    changed = [raised(record) if record_key(record) in wanted else record for record in committed.records]
    after = Study.read(write_table(tmp_path, changed)).verdicts
    before = committed.verdicts
    assert after["records"]["sha256"] == hashlib.sha256((tmp_path / TABLE).read_bytes()).hexdigest()
    assert after["records"]["sha256"] != before["records"]["sha256"]
    helped, was = by_name(after["comparisons"])["weight_decay"], by_name(before["comparisons"])["weight_decay"]
    assert helped["effect"] - was["effect"] == pytest.approx(0.05)
    assert was["verdict"] != "holds"
    assert helped["verdict"] == "holds"
    assert by_name(after["numbers"])["figure_7"]["verdict"] == "contradicted"


def test_the_smallest_change_of_a_record_changes_the_hash(committed, tmp_path):
    first, *others = committed.records
    changed = [first | {"threads": first["threads"] + 1}, *others]
    after = Study.read(write_table(tmp_path, changed)).verdicts
    assert after["records"] != committed.verdicts["records"]
    assert after | {"records": None} == committed.verdicts | {"records": None}
