"""Read `claims.yaml`, what the report says, and list the settings that it speaks of.

A setting is a complete set of parameters of a run, seed apart: what a notebook's parameters cell holds, and whatever
the claims change in it.
"""

import ast
import json
import math
from functools import cache
from itertools import product
from pathlib import Path

import jsonschema
import nbformat
import yaml

import records

ROOT = Path(__file__).parent
CLAIMS = ROOT / "claims.yaml"
MEND = "correct it, or restore the file"
NUM_VALIDATION = 10000  # training images held out where settings are chosen without the test images

ACCURACY = {"type": "number", "minimum": 0, "maximum": 1}


def _object(properties, **optional):
    return {
        "type": "object",
        "properties": {**properties, **optional},
        "required": list(properties),
        "additionalProperties": False,
    }


NOTEBOOK = {"type": "string", "pattern": "^figure_[1-9][0-9]*$"}
FIGURE = _object({"change": {"type": "string"}, "setting": {"type": "object"}, "reported": ACCURACY})
SWEEP = _object(
    {
        "notebook": NOTEBOOK,
        "vary": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "array", "minItems": 1}},
        "reported": {
            "type": "array",
            "items": {"type": "object", "properties": {"accuracy": ACCURACY}, "required": ["accuracy"]},
        },
    }
)
FACTORIAL = _object(
    {
        "notebook": NOTEBOOK,
        "factors": {
            "type": "object",
            "minProperties": 2,
            "additionalProperties": {"type": "array", "items": {"type": "object"}, "minItems": 2, "maxItems": 2},
        },
    }
)
CANDIDATES = _object(
    {
        "chosen": {"type": "string"},
        "candidates": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "object"}},
    }
)
SETTING = {
    "type": "object",
    "properties": {"notebook": NOTEBOOK, "sweep": {"type": "string"}},
    "if": {"required": ["sweep"]},
    "then": {"maxProperties": 1},
    "else": {"required": ["notebook"]},
}
SETTINGS = {"anyOf": [SETTING, {"type": "array", "items": SETTING, "minItems": 1}]}
COMPARISON = {
    **_object(
        {"figure": {"type": "integer"}, "claim": {"type": "string"}, "than": SETTINGS},
        better=SETTINGS,
        no_better=SETTINGS,
        margin=ACCURACY,
    ),
    "oneOf": [{"required": ["better"]}, {"required": ["no_better"]}],
}
SCHEMA = _object(
    {
        "figures": {
            **_object({f"figure_{number}": FIGURE for number in range(2, 10)}),
            "patternProperties": {"^figure_[1-9][0-9]+$": FIGURE},  # more than the report's, by whoever adds them
        },
        "sweeps": {"type": "object", "additionalProperties": SWEEP},
        "held_out": {"type": "array", "items": {"type": "string"}},
        "factorial": FACTORIAL,
        "beyond": {"type": "object", "additionalProperties": CANDIDATES},
        "comparisons": {"type": "object", "additionalProperties": COMPARISON},
    }
)


class ClaimsError(ValueError):
    """claims.yaml or a notebook is not what it should be; the message says where and what was expected."""


class _Loader(yaml.SafeLoader):
    """YAML without what a slip of the hand makes of it: a key that stands twice, a number that is none."""

    def construct_mapping(self, node, deep=False):
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            raise yaml.constructor.ConstructorError(None, None, "a key stands twice", node.start_mark)
        return mapping

    def construct_yaml_float(self, node):
        value = super().construct_yaml_float(node)
        if not math.isfinite(value):
            raise yaml.constructor.ConstructorError(None, None, "a number is not finite", node.start_mark)
        return value


_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_yaml_float)


def load(path=None):
    """Read the claims, from claims.yaml or another path: `load()["figures"]["figure_4"]["reported"]`.

    Raises:
        ClaimsError: the file is missing, is no YAML, a key is missing, misspelt, twice there or of the wrong kind, or
            a setting has a parameter that its notebook hasn't got, or a value that makes no sense.
    """
    path = path or CLAIMS
    try:
        content = Path(path).read_bytes()
        claims = yaml.load(content, _Loader)
    except OSError as error:
        raise ClaimsError(f"{path} can't be read: {error.strerror}; {MEND}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # PyYAML itself fails on some dates
        raise ClaimsError(f"{path} is not valid YAML: {' '.join(str(error).split())}; {MEND}") from None
    if not content.endswith(b"\n...\n"):
        raise ClaimsError(f"{path} is cut off: expected ... as its last line; {MEND}")
    errors = list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(claims))
    if errors:
        best = jsonschema.exceptions.best_match(errors)
        place = best.absolute_path
        found = best.message if best.parent else "; ".join(error.message for error in errors if error.path == place)
        raise ClaimsError(f"{path}, at {'.'.join(map(str, place)) or 'the top'}: {found}; {MEND}")
    for place, figure in _named_figures(claims):
        if figure not in claims["figures"]:
            raise ClaimsError(f"{path}, at {place}: there is no {figure} under figures; {MEND}")
    for name in claims["figures"]:
        if not (ROOT / "notebooks" / f"{name}.ipynb").exists():
            raise ClaimsError(f"{path}, at figures.{name}: there is no notebook notebooks/{name}.ipynb; {MEND}")
    for name, search in claims["beyond"].items():
        if search["chosen"] not in search["candidates"]:
            raise ClaimsError(f"{path}, at beyond.{name}.chosen: there is no candidate {search['chosen']!r}; {MEND}")
    for place, name in _named_sweeps(claims):
        if name not in claims["sweeps"]:
            raise ClaimsError(f"{path}, at {place}: there is no sweep {name!r}; {MEND}")
    for place, notebook, changes in _named_settings(claims):
        defaults = notebook_defaults(notebook)
        try:
            records.check_names(changes, defaults)
            records.check_parameters(defaults | {"num_rounds": 1} | changes)
        except records.ParameterError as error:
            raise ClaimsError(f"{path}, at {place}: {error}; {MEND}") from None
    return claims


def _named_sweeps(claims):
    yield from (("held_out", name) for name in claims["held_out"])
    yield from ((place, setting["sweep"]) for place, setting in _compared(claims) if "sweep" in setting)


def _named_figures(claims):
    yield "factorial.notebook", claims["factorial"]["notebook"]
    yield from ((f"sweeps.{name}.notebook", sweep["notebook"]) for name, sweep in claims["sweeps"].items())
    yield from (
        (f"{place}.notebook", setting["notebook"]) for place, setting in _compared(claims) if "notebook" in setting
    )
    for name, comparison in claims["comparisons"].items():
        yield f"comparisons.{name}.figure", f"figure_{comparison['figure']}"


def _compared(claims):
    for name, comparison in claims["comparisons"].items():
        for side in ("better", "no_better", "than"):
            for setting in _as_list(comparison.get(side, [])):
                yield f"comparisons.{name}.{side}", setting


def figure_numbers():
    """List the numbers of the figures in claims.yaml: those of the report, 2 to 9, and any that were added."""
    return sorted(int(name.removeprefix("figure_")) for name in load()["figures"])


def _named_settings(claims):
    """Yield for every setting that the claims write down its place, its notebook, and what it changes there."""
    for name, figure in claims["figures"].items():
        yield f"figures.{name}.setting", name, figure["setting"]
    for name, sweep in claims["sweeps"].items():
        for changes in _combinations(sweep["vary"]):
            yield f"sweeps.{name}.vary", sweep["notebook"], changes
        for entry in sweep["reported"]:
            yield f"sweeps.{name}.reported", sweep["notebook"], _without(entry, "accuracy")
    for name, levels in claims["factorial"]["factors"].items():
        for changes in levels:
            yield f"factorial.factors.{name}", claims["factorial"]["notebook"], changes
    for search, known in claims["beyond"].items():
        for name, changes in known["candidates"].items():
            yield f"beyond.{search}.candidates.{name}", "beyond", changes
    for place, setting in _compared(claims):
        if "notebook" in setting:
            yield place, setting["notebook"], _without(setting, "notebook")


# Settings


def notebook_defaults(notebook):
    """Read the values in a notebook's parameters cell; a ClaimsError says what is wrong with the notebook."""
    return {name: ast.literal_eval(value) for name, value in _parameters_cell(notebook).items()}


@cache
def _parameters_cell(notebook):
    path = ROOT / "notebooks" / f"{notebook}.ipynb"
    try:
        content = json.loads(path.read_bytes())
        nbformat.validate(content)
        (cell,) = (cell for cell in content["cells"] if "parameters" in cell["metadata"].get("tags", []))
        values = {line.target.id: line.value for line in ast.parse("".join(cell["source"])).body}
        defaults = {name: ast.literal_eval(value) for name, value in values.items()}
        records.check_names(defaults, records.PARAMETERS)
        records.check_parameters(defaults)
    except OSError as error:
        raise ClaimsError(f"{path} can't be read: {error.strerror}; {MEND}") from None
    except records.ParameterError as error:
        raise ClaimsError(f"{path}, cell parameters: {error}; {MEND}") from None
    except (ValueError, SyntaxError, TypeError, KeyError, AttributeError, RecursionError, nbformat.ValidationError):
        raise ClaimsError(
            f"{path} is damaged: expected a notebook in which one cell has the tag parameters, with lines such as "
            f"seed: int = 0; {MEND}"
        ) from None
    return values


def sweep_settings(sweep, claims):
    """List the settings of a sweep."""
    defaults = notebook_defaults(claims["sweeps"][sweep]["notebook"])
    return [defaults | combination for combination in _combinations(claims["sweeps"][sweep]["vary"])]


def reported_settings(sweep, claims):
    """List what the report gives an accuracy of in a sweep: the changes, the whole setting, the accuracy."""
    defaults = notebook_defaults(claims["sweeps"][sweep]["notebook"])
    found = []
    for entry in claims["sweeps"][sweep]["reported"]:
        changes = _without(entry, "accuracy")
        found.append((changes, defaults | changes, entry["accuracy"]))
    return found


def held_out_settings(sweep, claims):
    """List the settings of a sweep with training images held out."""
    return [setting | {"num_validation": NUM_VALIDATION} for setting in sweep_settings(sweep, claims)]


def factorial_settings(claims):
    """List the runs of the factorial: for each its levels, a tuple with -1 or 1 a factor, and its setting.

    These are the combinations whose levels multiply to 1, the half in which no effect of one or two factors is mixed
    up with another one of these (a design of resolution V: Box, Hunter and Hunter, "Statistics for Experimenters").
    """
    defaults = notebook_defaults(claims["factorial"]["notebook"])
    factors = list(claims["factorial"]["factors"].values())
    runs = []
    for levels in product((-1, 1), repeat=len(factors)):
        if levels.count(-1) % 2 == 0:
            changes = [factor[level > 0] for factor, level in zip(factors, levels, strict=True)]
            runs.append((levels, defaults | {name: value for change in changes for name, value in change.items()}))
    return runs


def beyond_settings(search, claims):
    """List a search's candidates with images held out, by name, and the setting of the chosen one with all images."""
    defaults = notebook_defaults("beyond")
    candidates = {name: defaults | changes for name, changes in claims["beyond"][search]["candidates"].items()}
    held_out = {name: setting | {"num_validation": NUM_VALIDATION} for name, setting in candidates.items()}
    return held_out, candidates[claims["beyond"][search]["chosen"]]


def compared_settings(comparison, claims):
    """List the pairs of different settings that a comparison is about: of each first and second."""
    first = _settings(comparison.get("better", comparison.get("no_better")), claims)
    second = _settings(comparison["than"], claims)
    return [(a, b) for a in first for b in second if not are_same(a, b)]


def are_same(first, second):
    """Say whether two settings train alike; in how many rounds the epochs come changes nothing."""
    return _without(first, "num_rounds") == _without(second, "num_rounds")


def _settings(description, claims):
    found = []
    for item in _as_list(description):
        if "sweep" in item:
            found += sweep_settings(item["sweep"], claims)
        else:
            found.append(notebook_defaults(item["notebook"]) | _without(item, "notebook"))
    return found


def _combinations(vary):
    return [dict(zip(vary, values, strict=True)) for values in product(*vary.values())]


def _without(mapping, key):
    return {name: value for name, value in mapping.items() if name != key}


def _as_list(item):
    return item if isinstance(item, list) else [item]
