import ast
import copy
import json
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
    "dropout": 0,
    "augmentation": [],
    "num_hidden": [256, 128, 64, 32, 16],
    "patching": 0,
    "train_limit": 60000,
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
    return lambda parent, key: parent.update({key: value})


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
    assert set(defaults) | {"num_rounds"} == set(records.PARAMETERS)


@each_figure
def test_a_notebooks_defaults_pass_the_check(figure):
    defaults = defaults_of(figure)
    assert records.check_parameters(defaults) == defaults


@each_figure
def test_only_figures_6_to_8_take_their_batch_size_from_figure_5(figure):
    stated = "batch_size" in FIGURES[figure]["setting"]
    assert stated == (figure not in ("figure_6", "figure_7", "figure_8"))


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
    *(f"sweeps.grid.{key}" for key in ("notebook", "claim", "vary", "reported")),
    "sweeps.grid.reported.0.accuracy",
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
    ("figures.figure_4.reported", float("inf")),
    ("sweeps", []),
    ("sweeps.grid", "grid"),
    ("sweeps.grid.notebook", 5),
    ("sweeps.grid.notebook", "figure_1"),
    ("sweeps.grid.notebook", "figure_10"),
    ("sweeps.grid.notebook", "figure_5.ipynb"),
    ("sweeps.grid.claim", 27),
    ("sweeps.grid.vary", {}),
    ("sweeps.grid.vary", []),
    ("sweeps.grid.vary.batch_size", 128),
    ("sweeps.grid.vary.batch_size", []),
    ("sweeps.grid.reported", {}),
    ("sweeps.grid.reported", 0.8),
    ("sweeps.grid.reported.0.accuracy", 1.5),
    ("sweeps.grid.reported.0.accuracy", "0.8"),
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
    ("place", "value"), [("figures.figure_1", {}), ("figures.figure_10", {}), ("extra", 1), ("sweeps.grid.note", "x")]
)
def test_an_unknown_key_is_named_with_its_place(tmp_path, place, value):
    message = refusal_of(tmp_path / "claims.yaml", edited(place, put(value)))
    assert f", at {parent_of(place)}: " in message
    assert f"'{place.split('.')[-1]}'" in message


@pytest.mark.parametrize("content", ["", "# only a comment\n", "[]\n", "- figures\n- sweeps\n", "figures\n", "5\n"])
def test_a_file_that_is_no_mapping_is_refused_at_the_top(tmp_path, content):
    path = tmp_path / "claims.yaml"
    path.write_text(content)
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
