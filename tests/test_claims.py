import ast
import copy
import json
import math
from itertools import combinations as combinations_of
from itertools import product

import papermill
import pytest
import yaml

import claims
import records
from claims import ClaimsError

ROOT = claims.CLAIMS.parent
CLAIMS = claims.load()
FIGURES = CLAIMS["figures"]
SWEEPS = CLAIMS["sweeps"]
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

each_figure = pytest.mark.parametrize("figure", FIGURES)
each_sweep = pytest.mark.parametrize("sweep", SWEEPS)


def defaults_of(notebook):
    """Read the values in a notebook's parameters cell."""
    inspected = papermill.inspect_notebook(ROOT / "notebooks" / f"{notebook}.ipynb")
    return {name: ast.literal_eval(parameter["default"]) for name, parameter in inspected.items()}


def combinations(sweep):
    vary = SWEEPS[sweep]["vary"]
    return [dict(zip(vary, values, strict=True)) for values in product(*vary.values())]


def reported_numbers():
    yield from (figure["reported"] for figure in FIGURES.values())
    yield from (entry["accuracy"] for sweep in SWEEPS.values() for entry in sweep["reported"])


def edited(place, edit):
    """Copy the claims and change them with `edit(parent, key)` at a place such as "figures.figure_2.reported"."""
    changed = copy.deepcopy(CLAIMS)
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
    path.write_text(yaml.safe_dump(content, explicit_end=True))
    return path


def refusal_of(path, content=None):
    """Return the one line in which a file with the content is refused."""
    if content is not None:
        write_yaml(path, content)
    with pytest.raises(ClaimsError) as error:
        claims.load(path)
    assert len(str(error.value).splitlines()) == 1
    assert str(error.value).startswith(str(path))
    return str(error.value)


# What claims.yaml says


def test_all_eight_figures_are_there():
    assert list(FIGURES) == [f"figure_{number}" for number in range(2, 10)]


def test_reported_accuracies_are_fractions():
    numbers = list(reported_numbers())
    assert len(numbers) >= len(FIGURES)
    assert all(type(number) is float and 0 <= number <= 1 for number in numbers)


@each_figure
def test_a_setting_is_one_that_a_run_can_have(figure):
    setting = FIGURES[figure]["setting"]
    records.check_names(setting, records.PARAMETERS)
    assert records.check_parameters(setting) == setting


@each_sweep
def test_every_combination_of_a_sweep_is_one_that_a_run_can_have(sweep):
    records.check_names(SWEEPS[sweep]["vary"], records.PARAMETERS)
    for combination in combinations(sweep):
        assert records.check_parameters(combination) == combination


@each_sweep
def test_every_combination_of_a_sweep_suits_its_notebook(sweep):
    defaults = defaults_of(SWEEPS[sweep]["notebook"])
    records.check_names(SWEEPS[sweep]["vary"], defaults)
    for combination in combinations(sweep):
        records.check_parameters({**defaults, **combination})


@each_sweep
def test_a_sweeps_values_and_combinations_differ(sweep):
    found = [json.dumps(combination, sort_keys=True) for combination in combinations(sweep)]
    assert len(set(found)) == len(found)


@each_sweep
def test_the_notebook_of_a_sweep_exists(sweep):
    assert (ROOT / "notebooks" / f"{SWEEPS[sweep]['notebook']}.ipynb").is_file()


@each_sweep
def test_reported_combinations_lie_in_the_sweep_and_come_once(sweep):
    settings = [{k: v for k, v in entry.items() if k != "accuracy"} for entry in SWEEPS[sweep]["reported"]]
    assert all(any(setting.items() <= run.items() for run in combinations(sweep)) for setting in settings)
    assert all(settings.count(setting) == 1 for setting in settings)


def test_the_grid_has_27_combinations_and_every_pair_reported_once():
    assert len(combinations("grid")) == 27
    reported = SWEEPS["grid"]["reported"]
    assert len({(entry["batch_size"], entry["learning_rate"]) for entry in reported}) == len(reported) == 9


def test_the_best_of_the_grid_is_figure_5():
    best = max(SWEEPS["grid"]["reported"], key=lambda entry: entry["accuracy"])
    figure_5 = FIGURES["figure_5"]
    assert best.items() <= {**figure_5["setting"], "accuracy": figure_5["reported"]}.items()


# Claims and notebooks


@each_figure
def test_a_notebook_starts_with_the_figures_setting_and_is_neutral_otherwise(figure):
    setting = FIGURES[figure]["setting"]
    figure_5 = FIGURES["figure_5"]["setting"]
    expected = {**NEUTRAL, "batch_size": figure_5["batch_size"], **setting}
    defaults = defaults_of(figure)
    assert defaults == {name: expected[name] for name in defaults}
    assert set(setting) <= set(defaults)
    assert set(defaults) | {"num_rounds", "schedule"} == set(records.PARAMETERS)


@each_figure
def test_a_notebooks_defaults_pass_the_check(figure):
    defaults = defaults_of(figure)
    assert records.check_parameters(defaults) == defaults


@each_figure
def test_only_figures_6_to_8_take_their_batch_size_from_figure_5(figure):
    stated = "batch_size" in FIGURES[figure]["setting"]
    assert stated == (figure not in ("figure_6", "figure_7", "figure_8"))


@each_figure
def test_the_parameters_cell_of_a_notebook_is_read_as_papermill_reads_it(figure):
    assert claims.notebook_defaults(figure) == defaults_of(figure)


# Settings


def assert_a_run_can_have(setting):
    """Check a setting, in one round: the number of rounds changes no number."""
    assert setting.keys() | {"num_rounds", "schedule"} == records.PARAMETERS.keys()
    records.check_parameters(setting | {"num_rounds": 1})


def as_run(setting):
    """Turn a setting into a text that is the same for settings whose runs are the same."""
    return records.run_key(setting | {"seed": 0, "num_rounds": 1})


def levels_of(setting):
    """Read the levels of the factorial's factors from a setting, and check that it has no others."""
    factors = CLAIMS["factorial"]["factors"].values()
    return tuple(
        -1 if low.items() <= setting.items() else int(high.items() <= setting.items()) for low, high in factors
    )


@each_sweep
def test_the_settings_of_a_sweep_are_its_notebooks_with_every_combination(sweep):
    settings = claims.sweep_settings(sweep, CLAIMS)
    defaults = defaults_of(SWEEPS[sweep]["notebook"])
    assert settings == [defaults | combination for combination in combinations(sweep)]
    for setting in settings:
        assert_a_run_can_have(setting)


@each_sweep
def test_the_reported_settings_of_a_sweep_are_among_its_settings(sweep):
    reported = claims.reported_settings(sweep, CLAIMS)
    assert [accuracy for *_, accuracy in reported] == [entry["accuracy"] for entry in SWEEPS[sweep]["reported"]]
    runs = [as_run(setting) for setting in claims.sweep_settings(sweep, CLAIMS)]
    for changes, setting, _ in reported:
        assert changes.items() <= setting.items()
        assert as_run(setting) in runs


@pytest.mark.parametrize("sweep", CLAIMS["held_out"])
def test_held_out_settings_are_those_of_the_sweep_with_images_held_out(sweep):
    held_out = claims.held_out_settings(sweep, CLAIMS)
    assert all(setting["num_validation"] == 10000 for setting in held_out)
    assert [setting | {"num_validation": 0} for setting in held_out] == claims.sweep_settings(sweep, CLAIMS)
    for setting in held_out:
        assert_a_run_can_have(setting)


@pytest.mark.parametrize("name", CLAIMS["comparisons"])
def test_a_comparison_is_about_different_settings_that_a_run_can_have(name):
    pairs = claims.compared_settings(CLAIMS["comparisons"][name], CLAIMS)
    assert pairs
    assert len({(as_run(first), as_run(second)) for first, second in pairs}) == len(pairs)
    for first, second in pairs:
        assert_a_run_can_have(first)
        assert_a_run_can_have(second)
        assert as_run(first) != as_run(second)


@pytest.mark.parametrize(
    ("name", "number"), [("he", 1), ("grid", 26), ("epochs", 2), ("weight_decay_sweep", 5), ("n01_epochs", 2)]
)
def test_a_comparison_with_a_sweep_is_one_with_each_other_setting_of_it(name, number):
    assert len(claims.compared_settings(CLAIMS["comparisons"][name], CLAIMS)) == number


def test_a_comparison_of_two_sweeps_is_one_of_each_with_each():
    comparison = {"better": [{"sweep": "smaller_batches"}, {"notebook": "figure_9"}], "than": {"sweep": "dropout"}}
    pairs = claims.compared_settings(comparison, CLAIMS)
    first = [*claims.sweep_settings("smaller_batches", CLAIMS), defaults_of("figure_9")]
    assert pairs == list(product(first, claims.sweep_settings("dropout", CLAIMS)))


# The factorial


def test_the_factorial_is_half_of_all_combinations_each_a_run_with_its_levels():
    runs = claims.factorial_settings(CLAIMS)
    assert len(runs) == len({levels for levels, _ in runs}) == 16
    for levels, setting in runs:
        assert_a_run_can_have(setting)
        assert levels_of(setting) == levels
        assert set(levels) <= {-1, 1}


def test_no_effect_of_one_or_two_factors_is_mixed_up_with_the_mean_or_another_one_of_these():
    """Resolution V: the columns of levels of up to two factors, and their products, are orthogonal to each other."""
    levels = [levels for levels, _ in claims.factorial_settings(CLAIMS)]
    factors = range(len(CLAIMS["factorial"]["factors"]))
    groups = [group for size in (0, 1, 2) for group in combinations_of(factors, size)]
    columns = {group: [math.prod(run[factor] for factor in group) for run in levels] for group in groups}
    assert len(columns) == 1 + 5 + 10
    for first, second in combinations_of(groups, 2):
        assert sum(a * b for a, b in zip(columns[first], columns[second], strict=True)) == 0, (first, second)


@pytest.mark.parametrize("figure", ["figure_6", "figure_8", "figure_9"])
def test_the_factorial_contains_figures_6_8_and_9(figure):
    assert as_run(defaults_of(figure)) in [as_run(setting) for _, setting in claims.factorial_settings(CLAIMS)]


# Where reported numbers stand


def sources():
    """List every Python file at the root and every notebook with what its cells' sources say."""
    for path in sorted(ROOT.glob("*.py")):
        yield pytest.param(path.read_text(), id=path.name)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text())["cells"]
        yield pytest.param("\n".join("".join(cell["source"]) for cell in cells), id=path.name)


def reported_numbers_in(text):
    """List the reported accuracies with four decimals that a text holds, as fractions or as percentages."""
    precise = {number for number in reported_numbers() if round(number, 3) != number}
    return [number for number in precise if f"{number:.4f}"[1:] in text or f"{100 * number:.2f}" in text]


@pytest.mark.parametrize("text", ["accuracy = 0.8404", "[.8404]", "84.04 %", "**0.84040**"])
def test_the_search_for_reported_numbers_finds_them(text):
    assert reported_numbers_in(text) == [0.8404]


@pytest.mark.parametrize("source", list(sources()))
def test_a_reported_number_stands_nowhere_else(source):
    assert reported_numbers_in(source) == []


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
    "comparisons",
    *(f"comparisons.grid.{key}" for key in ("figure", "claim", "than")),
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
    ("comparisons.epochs.than.1", {"notebok": "figure_5"}),
]


def parent_of(place):
    return place.rpartition(".")[0] or "the top"


def test_a_copy_of_the_claims_passes(tmp_path):
    assert claims.load(write_yaml(tmp_path / "claims.yaml", CLAIMS)) == CLAIMS


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
        ("comparisons.he.worse", {"notebook": "figure_4"}),
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


@pytest.mark.parametrize("content", ["[]\n", "- figures\n- sweeps\n", "figures\n", "5\n"])
def test_a_file_that_is_no_mapping_is_refused_at_the_top(tmp_path, content):
    path = tmp_path / "claims.yaml"
    path.write_text(f"{content}\n...\n")
    assert ", at the top: " in refusal_of(path)


@pytest.mark.parametrize(
    "content", ["figures: [", "figures: {a: 1\nsweeps: 2", "a:\n\t- b", "a: b: c", "a: \x07", "? [a]\n: 1"]
)
def test_a_file_that_is_no_yaml_is_refused(tmp_path, content):
    path = tmp_path / "claims.yaml"
    path.write_text(content)
    assert "not valid YAML" in refusal_of(path)


def test_a_file_that_is_missing_or_a_folder_is_refused(tmp_path):
    assert "can't be read" in refusal_of(tmp_path / "none.yaml")
    assert "can't be read" in refusal_of(tmp_path)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_bytes(b"\xff\x80")
    refusal_of(path)
