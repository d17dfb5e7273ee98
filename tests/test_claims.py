"""What claims.yaml says, the settings that it comes to, and how a slip of the hand in it is refused."""

import ast
import copy
import dataclasses
import json
import math
from itertools import combinations as combinations_of
from itertools import product

import papermill
import pytest
import yaml
from conftest import ROOT

from common.parameters import IMPLIED, PARAMETERS, check_names, check_parameters
from study import claims, notebooks
from study.claims import ClaimsError
from study.claims_schema import SCHEMA
from study.record import run_key

CLAIMS = claims.load()
WRITTEN = yaml.safe_load(claims.CLAIMS.read_bytes())  # the file as it stands
FIGURES = list(WRITTEN["figures"])
NEUTRAL = {
    "weight_decay": 0,
    "num_rounds": 1,
    "batch_norm": False,
    "norm_axis": 1,
    "norm_after_relu": False,
    "dropout": 0,
    "augmentation": [],
    "num_hidden": [256, 128, 64, 32, 16],
    "patching": 0,
    "train_limit": 60000,
    "num_validation": 0,
    "seed": 0,
    "device": "auto",
    "runs_folder": "runs",
}


def defaults_of(notebook):
    """Read the values in a notebook's parameters cell."""
    inspected = papermill.inspect_notebook(ROOT / "notebooks" / f"{notebook}.ipynb")
    return {name: ast.literal_eval(parameter["default"]) for name, parameter in inspected.items()}


DEFAULTS = {figure: defaults_of(figure) for figure in FIGURES}


def combinations(sweep):
    vary = WRITTEN["sweeps"][sweep]["vary"]
    return [dict(zip(vary, values, strict=True)) for values in product(*vary.values())]


def reported_numbers():
    yield from (figure.reported for figure in CLAIMS.figures.values())
    yield from (entry.accuracy for sweep in CLAIMS.sweeps.values() for entry in sweep.reported)


def edited(place, edit):
    """Copy the claims and change them with `edit(parent, key)` at a place such as "figures.figure_2.reported"."""
    changed = copy.deepcopy(WRITTEN)
    *parents, key = place.split(".")
    parent = changed
    for name in parents:
        parent = parent[int(name) if isinstance(parent, list) else name]
    edit(parent, key)
    return changed


def remove(parent, key):
    del parent[key]


def misspell(parent, key):
    parent[f"{key}_"] = parent.pop(key)


def put(value):
    return lambda parent, key: parent.__setitem__(int(key) if isinstance(parent, list) else key, value)


def write_yaml(path, content):
    path.write_text(yaml.safe_dump(content, sort_keys=False, explicit_end=True), encoding="utf-8")
    return path


def refusal_of(path, content=None):
    """Return the one line in which a file with the content is refused."""
    if content is not None:
        write_yaml(path, content)
    with pytest.raises(ClaimsError) as error:
        claims.read(path)
    assert len(str(error.value).splitlines()) == 1
    assert str(error.value).startswith(str(path))
    return str(error.value)


# What claims.yaml says


def test_all_eight_figures_are_there():
    assert list(CLAIMS.figures) == [f"figure_{number}" for number in range(2, 10)]
    assert CLAIMS.figure_numbers == list(range(2, 10))


def test_what_is_read_is_what_is_written():
    for name, entry in WRITTEN["figures"].items():
        figure = CLAIMS.figures[name]
        assert f"figure_{figure.number}" == figure.name == name
        assert {"change": figure.change, "setting": figure.stated, "reported": figure.reported} == entry
    for name, entry in WRITTEN["sweeps"].items():
        sweep = CLAIMS.sweeps[name]
        assert (sweep.name, sweep.label) == (name, entry.get("label", name.replace("_", " ")))
        reported = [{**row.changes, "accuracy": row.accuracy} for row in sweep.reported]
        written = {"notebook": sweep.notebook, "vary": sweep.vary, "reported": reported}
        assert written == {key: entry[key] for key in written}
    for name, entry in WRITTEN["comparisons"].items():
        claim = CLAIMS.comparisons[name]
        assert claim.name == name
        assert claim.relation in entry or (claim.relation == "better" and "ladder" in entry)
        assert (claim.figure, claim.text, claim.margin) == (entry["figure"], entry["claim"], entry.get("margin", 0))
        assert (claim.ours, claim.relative) == (entry.get("ours", ""), entry.get("relative", False))
    for name, entry in WRITTEN["beyond"].items():
        search = CLAIMS.beyond[name]
        assert (search.name, search.limit, search.chosen) == (name, entry["limit"], entry["chosen"])
        assert list(search.candidates) == list(entry["candidates"])
    protocol, entry = CLAIMS.protocol, WRITTEN["protocol"]
    assert [protocol.seeds[0], protocol.seeds[-1]] == entry["seeds"]
    assert {name: getattr(protocol, name) for name in ("late_epochs", "epsilon", "level")}.items() <= entry.items()
    besides = {name: group["seeds"] for group in entry["besides"] for name in group["runs"]}
    assert {name: [seeds[0], seeds[-1]] for name, seeds in protocol.besides.items()} == besides
    factorial = CLAIMS.factorial
    written = {"notebook": factorial.notebook, "factors": factorial.factors, "steps": factorial.steps}
    assert written == WRITTEN["factorial"]
    assert list(CLAIMS.held_out) == WRITTEN["held_out"]
    assert CLAIMS.scales == WRITTEN["scales"]


def test_every_section_of_the_file_is_a_field_of_the_claims():
    fields = [field.name for field in dataclasses.fields(CLAIMS)]
    assert fields == list(WRITTEN) == list(SCHEMA["properties"])


def test_the_claims_are_read_once_a_process_and_another_file_each_time(tmp_path):
    assert claims.load() is CLAIMS
    path = write_yaml(tmp_path / "claims.yaml", WRITTEN)
    assert claims.read(path) is not claims.read(path)
    write_yaml(path, edited("figures.figure_4.reported", put(0.5)))
    assert claims.read(path).figures["figure_4"].reported == 0.5


def test_reported_accuracies_are_fractions():
    numbers = list(reported_numbers())
    assert len(numbers) >= len(FIGURES)
    assert all(type(number) is float and 0 <= number <= 1 for number in numbers)


def test_what_is_stated_of_a_figure_is_a_setting_that_a_run_can_have():
    for name, figure in CLAIMS.figures.items():
        check_names(figure.stated, PARAMETERS)
        assert check_parameters(figure.stated) == figure.stated, name


def test_every_combination_of_a_sweep_is_one_that_a_run_can_have_and_suits_its_notebook():
    for name, sweep in WRITTEN["sweeps"].items():
        check_names(sweep["vary"], PARAMETERS)
        check_names(sweep["vary"], DEFAULTS[sweep["notebook"]])
        for combination in combinations(name):
            assert check_parameters(combination) == combination, name
            check_parameters({**DEFAULTS[sweep["notebook"]], **combination})


def test_a_sweeps_values_and_combinations_differ():
    for name in WRITTEN["sweeps"]:
        as_text = [json.dumps(combination, sort_keys=True) for combination in combinations(name)]
        assert len(set(as_text)) == len(as_text), name


def test_reported_combinations_lie_in_the_sweep_and_come_once():
    for name, sweep in CLAIMS.sweeps.items():
        all_changes = [reported.changes for reported in sweep.reported]
        for changes in all_changes:
            assert any(changes.items() <= run.items() for run in combinations(name)), name
            assert all_changes.count(changes) == 1, name


def test_the_grid_has_27_combinations_and_every_pair_reported_once():
    assert len(combinations("grid")) == len(CLAIMS.sweeps["grid"].settings) == 27
    reported = CLAIMS.sweeps["grid"].reported
    pairs = {(entry.changes["batch_size"], entry.changes["learning_rate"]) for entry in reported}
    assert len(pairs) == len(reported) == 9


def test_the_best_of_the_grid_is_figure_5():
    best = max(CLAIMS.sweeps["grid"].reported, key=lambda entry: entry.accuracy)
    figure_5 = CLAIMS.figures["figure_5"]
    assert best.changes.items() <= figure_5.stated.items()
    assert best.accuracy == figure_5.reported


# Claims and notebooks


@pytest.mark.parametrize("figure", FIGURES)
def test_a_notebook_starts_with_the_figures_setting_and_is_neutral_otherwise(figure):
    stated = CLAIMS.figures[figure].stated
    figure_5 = CLAIMS.figures["figure_5"].stated
    expected = {**NEUTRAL, "batch_size": figure_5["batch_size"], **stated}
    defaults = DEFAULTS[figure]
    assert defaults == {name: expected[name] for name in defaults}
    assert set(stated) <= set(defaults)
    assert set(defaults) | {"num_rounds", *IMPLIED} == set(PARAMETERS)
    assert check_parameters(defaults) == defaults
    assert CLAIMS.figures[figure].setting == defaults


def test_only_figures_6_to_8_take_their_batch_size_from_figure_5():
    silent = [name for name, figure in CLAIMS.figures.items() if "batch_size" not in figure.stated]
    assert silent == ["figure_6", "figure_7", "figure_8"]


def test_the_parameters_cell_of_a_notebook_is_read_as_papermill_reads_it():
    for figure in FIGURES:
        assert notebooks.defaults(figure) == DEFAULTS[figure]


def test_who_changes_the_values_of_a_notebook_changes_only_a_copy():
    notebooks.defaults("figure_4")["num_hidden"].append(1)
    assert notebooks.defaults("figure_4") == DEFAULTS["figure_4"]


# Settings


def assert_a_run_can_have(setting):
    """Check a setting, in one round: the number of rounds changes no number."""
    assert setting.keys() | {"num_rounds", *IMPLIED} == PARAMETERS.keys()
    check_parameters(setting | {"num_rounds": 1})


def as_run(setting):
    """Turn a setting into a text that is the same for settings whose runs are the same."""
    return run_key(setting | {"seed": 0, "num_rounds": 1})


def levels_of(setting):
    """Read the levels of the factorial's factors from a setting, and check that it has no others."""
    factors = WRITTEN["factorial"]["factors"].values()
    return tuple(
        -1 if low.items() <= setting.items() else int(high.items() <= setting.items()) for low, high in factors
    )


def test_the_settings_of_a_sweep_are_its_notebooks_with_every_combination():
    for name, sweep in CLAIMS.sweeps.items():
        assert list(sweep.settings) == [DEFAULTS[sweep.notebook] | combination for combination in combinations(name)]
        for setting in sweep.settings:
            assert_a_run_can_have(setting)


def test_the_reported_settings_of_a_sweep_are_among_its_settings():
    for sweep in CLAIMS.sweeps.values():
        runs = [as_run(setting) for setting in sweep.settings]
        for reported in sweep.reported:
            assert reported.setting == DEFAULTS[sweep.notebook] | reported.changes
            assert as_run(reported.setting) in runs


def test_held_out_settings_are_those_of_the_sweep_with_images_held_out():
    for sweep in CLAIMS.sweeps.values():
        assert all(setting["num_validation"] == 10000 for setting in sweep.held_out)
        assert tuple(setting | {"num_validation": 0} for setting in sweep.held_out) == sweep.settings
        for setting in sweep.held_out:
            assert_a_run_can_have(setting)


def test_a_comparison_is_about_different_settings_that_a_run_can_have():
    for name, claim in CLAIMS.comparisons.items():
        assert claim.pairs, name
        assert len({(as_run(first), as_run(second)) for first, second in claim.pairs}) == len(claim.pairs), name
        for first, second in claim.pairs:
            assert_a_run_can_have(first)
            assert_a_run_can_have(second)
            assert as_run(first) != as_run(second), name


def test_a_comparison_with_a_sweep_is_one_with_each_other_setting_of_it():
    numbers = {"he": 1, "grid": 26, "epochs_128_0.1": 2, "weight_decay_sweep": 5, "n01_epochs": 2}
    assert {name: len(CLAIMS.comparisons[name].pairs) for name in numbers} == numbers


def test_a_comparison_of_two_sweeps_is_one_of_each_with_each(tmp_path):
    better = [{"sweep": "smaller_batches"}, {"notebook": "figure_9"}]
    comparison = {"figure": 9, "claim": "A", "better": better, "than": {"sweep": "dropout"}}
    changed = edited("comparisons.both", put(comparison))
    pairs = claims.read(write_yaml(tmp_path / "claims.yaml", changed)).comparisons["both"].pairs
    first = [*CLAIMS.sweeps["smaller_batches"].settings, DEFAULTS["figure_9"]]
    assert list(pairs) == list(product(first, CLAIMS.sweeps["dropout"].settings))


def test_a_ladder_is_a_claim_about_each_step_and_a_rise_one_about_its_ends():
    figures = [DEFAULTS[f"figure_{number}"] for number in range(3, 10)]
    ladder, rise = CLAIMS.comparisons["every_step"], CLAIMS.comparisons["step_by_step"]
    assert ladder.relation == "better"
    assert list(ladder.pairs) == list(zip(figures[1:], figures, strict=False))
    assert rise.relation == "rising"
    assert rise.pairs == ((figures[-1], figures[0]),)
    for claim in (ladder, rise):
        assert list(claim.runs) == [(f"figure_{number}", DEFAULTS[f"figure_{number}"]) for number in range(3, 10)]


def test_a_claim_lists_every_setting_of_its_pairs_with_a_notebook_that_runs_it():
    for claim in CLAIMS.comparisons.values():
        listed = {as_run(setting) for _, setting in claim.runs}
        assert {as_run(setting) for pair in claim.pairs for setting in pair} <= listed
        for notebook, setting in claim.runs:
            assert setting.keys() == DEFAULTS[notebook].keys()


def test_the_report_gives_a_best_number_of_epochs_for_each_pair_of_the_grid():
    """Nine statements: each about the two other numbers of epochs of the same batch size and rate."""
    grid = CLAIMS.sweeps["grid"]
    statements = {name: claim for name, claim in CLAIMS.comparisons.items() if name.startswith("epochs_")}
    assert len(statements) == 9
    for row in grid.reported:
        claim = statements[f"epochs_{row.changes['batch_size']}_{row.changes['learning_rate']}"]
        best = as_run(row.setting)
        all_three = {as_run(row.setting | {"num_epochs": num_epochs}) for num_epochs in grid.vary["num_epochs"]}
        expected = {(best, other) for other in all_three - {best}}
        assert {(as_run(first), as_run(second)) for first, second in claim.pairs} == expected


def test_the_report_gives_18_numbers():
    stated = [figure.setting for figure in CLAIMS.figures.values()]
    stated += [reported.setting for sweep in CLAIMS.sweeps.values() for reported in sweep.reported]
    assert len({as_run(setting) for setting in stated}) == 18


# The factorial


def test_the_factorial_is_half_of_all_combinations_each_a_run_with_its_levels():
    runs = CLAIMS.factorial.runs
    assert len(runs) == len({levels for levels, _ in runs}) == 16
    for levels, setting in runs:
        assert_a_run_can_have(setting)
        assert levels_of(setting) == levels
        assert set(levels) <= {-1, 1}


def test_no_effect_of_one_or_two_factors_is_mixed_up_with_the_mean_or_another_one_of_these():
    """Resolution V: the columns of levels of up to two factors, and their products, are orthogonal to each other."""
    levels = [levels for levels, _ in CLAIMS.factorial.runs]
    factors = range(len(CLAIMS.factorial.factors))
    groups = [group for size in (0, 1, 2) for group in combinations_of(factors, size)]
    columns = {group: [math.prod(run[factor] for factor in group) for run in levels] for group in groups}
    assert len(columns) == 1 + 5 + 10
    for first, second in combinations_of(groups, 2):
        assert sum(a * b for a, b in zip(columns[first], columns[second], strict=True)) == 0, (first, second)


def test_the_factorial_contains_figures_6_8_and_9():
    runs = [as_run(setting) for _, setting in CLAIMS.factorial.runs]
    for figure in ("figure_6", "figure_8", "figure_9"):
        assert as_run(DEFAULTS[figure]) in runs


def test_a_step_goes_from_the_figure_before_its_factor_is_switched_on_to_the_one_after():
    assert CLAIMS.factorial.steps
    for factor, (before, after) in CLAIMS.factorial.steps.items():
        low, high = CLAIMS.factorial.factors[factor]
        assert low.items() <= DEFAULTS[before].items()
        assert DEFAULTS[before] | high | {"num_rounds": 1} == DEFAULTS[after] | {"num_rounds": 1}


# Where reported numbers stand


def sources():
    """Yield the name and the text of every Python file of the project, and of every notebook's cells."""
    modules = [*ROOT.glob("*.py")]
    for package in ("common", "fast", "study", "report"):
        modules += (ROOT / package).rglob("*.py")
    for path in modules:
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield path.name, "\n".join("".join(cell["source"]) for cell in cells)


def reported_numbers_in(text):
    """List the reported accuracies with four decimals that a text holds, as fractions or as percentages."""
    precise = {number for number in reported_numbers() if round(number, 3) != number}
    return [number for number in precise if f"{number:.4f}"[1:] in text or f"{100 * number:.2f}" in text]


@pytest.mark.parametrize("text", ["accuracy = 0.8404", "[.8404]", "84.04 %", "**0.84040**"])
def test_the_search_for_reported_numbers_finds_them(text):
    assert reported_numbers_in(text) == [0.8404]


def test_a_reported_number_stands_nowhere_else():
    texts = dict(sources())
    assert {"model.py", "study/claims.py", "report/panels/inside.py", "report.ipynb"} <= set(texts)
    assert [name for name, text in texts.items() if reported_numbers_in(text)] == []


# Bad files

REQUIRED = [
    "figures",
    "sweeps",
    *(f"figures.{figure}" for figure in FIGURES),
    *(f"figures.figure_4.{key}" for key in ("change", "setting", "reported")),
    *(f"sweeps.grid.{key}" for key in ("notebook", "vary", "reported")),
    "sweeps.grid.reported.0.accuracy",
    "held_out",
    "factorial",
    "factorial.notebook",
    "factorial.factors",
    "beyond",
    *(f"beyond.no_limit.{key}" for key in ("limit", "chosen", "candidates")),
    "scales",
    "scales.accuracy",
    "comparisons",
    *(f"comparisons.grid.{key}" for key in ("figure", "claim", "than")),
    "protocol",
    *(f"protocol.{key}" for key in ("seeds", "late_epochs", "epsilon", "level", "besides")),
    "protocol.besides.0.runs",
    "protocol.besides.0.seeds",
]
WRONG = [
    ("figures", []),
    ("figures", None),
    ("figures.figure_4", "good"),
    ("figures.figure_4.change", 5),
    ("figures.figure_4.change", ["a", "b\nc"]),
    ("figures.figure_4.setting", []),
    ("figures.figure_4.setting", None),
    ("figures.figure_4.reported", "0.85"),
    ("figures.figure_4.reported", True),
    ("figures.figure_4.reported", None),
    ("figures.figure_4.reported", [0.85]),
    ("figures.figure_4.reported", 1.0001),
    ("figures.figure_4.reported", 85.08),
    ("figures.figure_4.reported", -0.1),
    ("sweeps", []),
    ("sweeps.grid", "grid"),
    ("scales.accuracy", [0.9, 0.7, 0.1]),
    ("sweeps.grid.label", 5),
    ("sweeps.grid.label", None),
    ("sweeps.grid.notebook", 5),
    ("sweeps.grid.notebook", "figure_1"),
    ("sweeps.grid.notebook", "figure_0"),
    ("sweeps.grid.notebook", "figure_5.ipynb"),
    ("sweeps.grid.vary", {}),
    ("sweeps.grid.vary", []),
    ("sweeps.grid.vary.batch_size", 128),
    ("sweeps.grid.vary.batch_size", []),
    ("sweeps.grid.reported", {}),
    ("sweeps.grid.reported", 0.8),
    ("sweeps.grid.reported.0.accuracy", 1.5),
    ("sweeps.grid.reported.0.accuracy", "0.8"),
    ("held_out", "grid"),
    ("held_out.0", 5),
    ("factorial", []),
    ("factorial.notebook", "figure_1"),
    ("factorial.factors", []),
    ("factorial.factors", {"dropout": [{"dropout": 0.0}, {"dropout": 0.1}]}),
    ("factorial.factors.dropout", {"dropout": 0.1}),
    ("factorial.factors.dropout", [{"dropout": 0.1}]),
    ("factorial.factors.dropout", [{"dropout": 0.0}, {"dropout": 0.1}, {"dropout": 0.2}]),
    ("factorial.factors.dropout.0", 0.1),
    ("factorial.steps", []),
    ("factorial.steps.Adam", "figure_5"),
    ("factorial.steps.Adam", ["figure_5"]),
    ("factorial.steps.Adam", ["figure_4", "figure_5", "figure_6"]),
    ("factorial.steps.Adam.0", 5),
    ("factorial.steps.Adam.0", "beyond"),
    ("beyond", []),
    ("beyond.no_limit", "longer"),
    ("beyond.no_limit.limit", 5),
    ("beyond.no_limit.limit", ["a", "b\nc"]),
    ("beyond.no_limit.chosen", ["longer_flip_erase"]),
    ("beyond.no_limit.candidates", {}),
    ("beyond.no_limit.candidates", ["longer_flip_erase"]),
    ("beyond.no_limit.candidates.longer_flip_erase", 75),
    ("scales", [0, 1]),
    ("scales.accuracy", 1),
    ("scales.accuracy", [0, 0.9]),
    ("scales.accuracy", [0, 0.7, 0.8, 0.9]),
    ("scales.accuracy.1", "0.72"),
    ("scales.accuracy.2", 92),
    ("comparisons", []),
    ("comparisons.he", "better"),
    ("comparisons.he.figure", "4"),
    ("comparisons.he.figure", 10),
    ("comparisons.he.claim", 4),
    ("comparisons.he.margin", 1.5),
    ("comparisons.he.better", "figure_4"),
    ("comparisons.he.better", []),
    ("comparisons.he.better", {"notebook": "figure_4", "sweep": "grid"}),
    ("comparisons.he.than", {"learning_rate": 0.1}),
    ("comparisons.he.than.notebook", "figure_1"),
    ("comparisons.he.than", {"sweep": "grid", "learning_rate": 0.1}),
    ("comparisons.augmentation_parts.than.1", {"notebok": "figure_5"}),
    ("comparisons.he.relative", "yes"),
    ("comparisons.n01_epochs.ours", ["20"]),
    ("comparisons.step_by_step.rising", [{"notebook": "figure_3"}]),
    ("comparisons.every_step.ladder", {"notebook": "figure_3"}),
    ("protocol", []),
    ("protocol.seeds", 100),
    ("protocol.seeds", [100]),
    ("protocol.seeds.0", -1),
    ("protocol.late_epochs", 0),
    ("protocol.epsilon", 0),
    ("protocol.level", 1),
    ("protocol.besides", {}),
    ("protocol.besides.0.runs", "figures"),
    ("protocol.besides.0.seeds", [100, 101, 102]),
]


def parent_of(place):
    return place.rpartition(".")[0] or "the top"


def test_a_copy_of_the_claims_passes(tmp_path):
    assert claims.read(write_yaml(tmp_path / "claims.yaml", WRITTEN)) == CLAIMS


@pytest.mark.parametrize("place", REQUIRED)
@pytest.mark.parametrize("edit", [remove, misspell])
def test_a_required_key_removed_or_misspelt_is_named_with_its_place(tmp_path, place, edit):
    message = refusal_of(tmp_path / "claims.yaml", edited(place, edit))
    assert f", at {parent_of(place)}: " in message
    assert f"'{place.split('.')[-1]}" in message


@pytest.mark.parametrize(("place", "value"), WRONG)
def test_a_value_of_the_wrong_kind_is_named_with_its_place(tmp_path, place, value):
    assert f", at {place}: " in refusal_of(tmp_path / "claims.yaml", edited(place, put(value)))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("figures.figure_1", {}),
        ("figures.figure_two", {}),
        ("extra", 1),
        ("sweeps.grid.note", "x"),
        ("factorial.vary", {}),
        ("beyond.no_limit.cost", "high"),
        ("scales.loss", [0, 1, 2]),
        ("comparisons.he.worse", {"notebook": "figure_4"}),
        ("protocol.margin", 0.1),
        ("protocol.besides.0.why", "x"),
    ],
)
def test_an_unknown_key_is_named_with_its_place(tmp_path, place, value):
    message = refusal_of(tmp_path / "claims.yaml", edited(place, put(value)))
    assert f", at {parent_of(place)}: " in message
    assert f"'{place.split('.')[-1]}'" in message


@pytest.mark.parametrize("edit", [remove, put({"notebook": "figure_4"})])
def test_a_comparison_says_either_better_or_no_better(tmp_path, edit):
    place = "comparisons.dropout." + ("no_better" if edit is remove else "better")
    assert ", at comparisons.dropout: " in refusal_of(tmp_path / "claims.yaml", edited(place, edit))


@pytest.mark.parametrize("form", ["ladder", "rising"])
def test_settings_in_order_are_compared_with_no_others(tmp_path, form):
    figures = [{"notebook": f"figure_{number}"} for number in (3, 4, 5)]
    comparison = {"figure": 9, "claim": "A", form: figures, "than": {"notebook": "figure_2"}}
    refusal = refusal_of(tmp_path / "claims.yaml", edited("comparisons.both", put(comparison)))
    assert ", at comparisons.both" in refusal


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        ("held_out", ["grid", "weight_decays"], "held_out"),
        ("comparisons.grid.than", {"sweep": "weight_decays"}, "comparisons.grid.than"),
        ("comparisons.smaller_batches.better", {"sweep": "weight_decays"}, "comparisons.smaller_batches.better"),
        ("comparisons.dropout.no_better", [{"sweep": "weight_decays"}], "comparisons.dropout.no_better"),
    ],
)
def test_the_name_of_an_unknown_sweep_is_refused_with_its_place(tmp_path, place, value, named):
    message = refusal_of(tmp_path / "claims.yaml", edited(place, put(value)))
    assert f", at {named}: there is no sweep 'weight_decays'; " in message


@pytest.mark.parametrize(
    ("place", "value", "refusal"),
    [
        ("factorial.steps", {"momentum": ["figure_5", "figure_6"]}, "factorial.steps: there is no factor 'momentum'"),
        ("factorial.steps.Adam.1", "figure_10", "factorial.steps.Adam: there is no figure_10 under figures"),
        ("beyond.no_limit.chosen", "none", "beyond.no_limit.chosen: there is no candidate 'none'"),
        ("protocol.besides.0.runs", ["grids"], "protocol.besides.0.runs: there is no 'grids'"),
        ("protocol.besides.0.seeds", [107, 100], "protocol.besides.0.seeds: expected the first and the last"),
        ("protocol.seeds", [131, 100], "protocol.seeds: expected the first and the last"),
    ],
)
def test_the_name_of_an_unknown_factor_figure_or_candidate_is_refused_with_its_place(tmp_path, place, value, refusal):
    assert f", at {refusal}; " in refusal_of(tmp_path / "claims.yaml", edited(place, put(value)))


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        ("figures.figure_4.setting.batchsize", 128, "figures.figure_4.setting"),
        ("figures.figure_4.setting.batch_size", 0, "figures.figure_4.setting"),
        ("sweeps.grid.vary.batchsize", [128], "sweeps.grid.vary"),
        ("sweeps.grid.vary.batch_size", [128, 0], "sweeps.grid.vary"),
        ("sweeps.grid.reported.0.batchsize", 128, "sweeps.grid.reported"),
        ("sweeps.grid.reported.0.batch_size", 0, "sweeps.grid.reported"),
        ("factorial.factors.dropout.1", {"drop": 0.1}, "factorial.factors.dropout"),
        ("factorial.factors.dropout.1", {"dropout": 1.0}, "factorial.factors.dropout"),
        ("beyond.no_limit.candidates.made_up", {"epochs": 75}, "beyond.no_limit.candidates.made_up"),
        ("beyond.no_limit.candidates.made_up", {"num_epochs": 0}, "beyond.no_limit.candidates.made_up"),
        ("comparisons.he.better.batchsize", 128, "comparisons.he.better"),
        ("comparisons.he.than.batch_size", 0, "comparisons.he.than"),
    ],
)
def test_a_parameter_that_is_unknown_or_makes_no_sense_is_refused_with_its_place(tmp_path, place, value, named):
    message = refusal_of(tmp_path / "claims.yaml", edited(place, put(value)))
    assert f", at {named}: " in message
    assert "unknown parameter" in message or ": expected " in message


def test_a_label_and_steps_may_be_left_out(tmp_path):
    without = edited("factorial.steps", remove)
    del without["sweeps"]["figure_2_batch_sizes"]["label"]
    read = claims.read(write_yaml(tmp_path / "claims.yaml", without))
    assert read.factorial.steps == {}
    assert read.sweeps["figure_2_batch_sizes"].label == "figure 2 batch sizes"


@pytest.mark.parametrize("content", ["[]\n", "- figures\n- sweeps\n", "figures\n", "5\n"])
def test_a_file_that_is_no_mapping_is_refused_at_the_top(tmp_path, content):
    path = tmp_path / "claims.yaml"
    path.write_text(f"{content}\n...\n", encoding="utf-8")
    assert ", at the top: " in refusal_of(path)


@pytest.mark.parametrize(
    "content", ["figures: [", "figures: {a: 1\nsweeps: 2", "a:\n\t- b", "a: b: c", "a: \x07", "? [a]\n: 1"]
)
def test_a_file_that_is_no_yaml_is_refused(tmp_path, content):
    path = tmp_path / "claims.yaml"
    path.write_text(content, encoding="utf-8")
    assert "not valid YAML" in refusal_of(path)


def test_an_editor_may_end_lines_in_its_own_way(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_bytes((ROOT / "claims.yaml").read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    assert claims.read(path).figures.keys() == claims.load().figures.keys()


def test_a_file_that_is_missing_or_a_folder_is_refused(tmp_path):
    assert "can't be read" in refusal_of(tmp_path / "none.yaml")
    assert "can't be read" in refusal_of(tmp_path)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_bytes(b"\xff\x80")
    refusal_of(path)
