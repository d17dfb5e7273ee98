"""The form of claims.yaml, as a JSON Schema: which keys there are, what kind of value each has; and reading by it."""

import math

import jsonschema
import yaml

from common.errors import UserError
from study.notebooks import MEND


class ClaimsError(UserError):
    """claims.yaml is not what it should be; the message says where and what was expected."""


def _object(properties, **optional):
    return {
        "type": "object",
        "properties": {**properties, **optional},
        "required": list(properties),
        "additionalProperties": False,
    }


def _named(entry, **options):
    return {"type": "object", "additionalProperties": entry, **options}


TEXT = {"type": "string"}
ACCURACY = {"type": "number", "minimum": 0, "maximum": 1}
CHANGES = {"type": "object"}  # of parameters
NOTEBOOK = {"type": "string", "pattern": "^figure_[1-9][0-9]*$"}

FIGURE = _object({"change": TEXT, "setting": CHANGES, "reported": ACCURACY})
REPORTED = {"type": "object", "properties": {"accuracy": ACCURACY}, "required": ["accuracy"]}
SWEEP = _object(
    {
        "notebook": NOTEBOOK,
        "vary": _named({"type": "array", "minItems": 1}, minProperties=1),
        "reported": {"type": "array", "items": REPORTED},
    },
    label=TEXT,
)
FACTORIAL = _object(
    {
        "notebook": NOTEBOOK,
        "factors": _named({"type": "array", "items": CHANGES, "minItems": 2, "maxItems": 2}, minProperties=2),
    },
    steps=_named({"type": "array", "items": NOTEBOOK, "minItems": 2, "maxItems": 2}),
)
SEARCH = _object({"limit": TEXT, "chosen": TEXT, "candidates": _named(CHANGES, minProperties=1)})
SETTING = {
    "type": "object",
    "properties": {"notebook": NOTEBOOK, "sweep": TEXT},
    "if": {"required": ["sweep"]},
    "then": {"maxProperties": 1},
    "else": {"required": ["notebook"]},
}
SETTINGS = {"anyOf": [SETTING, {"type": "array", "items": SETTING, "minItems": 1}]}
IN_ORDER = {"type": "array", "items": SETTING, "minItems": 3}
COMPARISON = {
    **_object(
        {"figure": {"type": "integer"}, "claim": TEXT},
        ours=TEXT,
        better=SETTINGS,
        no_better=SETTINGS,
        than=SETTINGS,
        ladder=IN_ORDER,
        rising=IN_ORDER,
        margin=ACCURACY,
        relative={"type": "boolean"},
    ),
    "oneOf": [
        {"required": ["better"]},
        {"required": ["no_better"]},
        {"required": ["ladder"], "properties": {"than": False}},
        {"required": ["rising"], "properties": {"than": False}},
    ],
    "dependentRequired": {"better": ["than"], "no_better": ["than"]},
}
SEEDS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 2, "maxItems": 2}
PROTOCOL = _object(
    {
        "seeds": SEEDS,
        "late_epochs": {"type": "integer", "minimum": 1},
        "epsilon": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "level": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "besides": {"type": "array", "items": _object({"runs": {"type": "array", "items": TEXT}, "seeds": SEEDS})},
    }
)
SCHEMA = _object(
    {
        "figures": {
            **_object({f"figure_{number}": FIGURE for number in range(2, 10)}),
            "patternProperties": {"^figure_[1-9][0-9]+$": FIGURE},  # more than the report's, by whoever adds them
        },
        "sweeps": _named(SWEEP),
        "held_out": {"type": "array", "items": TEXT},
        "factorial": FACTORIAL,
        "beyond": _named(SEARCH),
        "comparisons": _named(COMPARISON),
        "protocol": PROTOCOL,
        "scales": _object({"accuracy": {"type": "array", "items": ACCURACY, "minItems": 3, "maxItems": 3}}),
    }
)


def read_tree(path):
    """Read a file such as claims.yaml and check its form; returns dicts and lists.

    Raises:
        ClaimsError: the file is missing or cut off, is no YAML, or a key or a value is not what is expected there.
    """
    try:
        content = path.read_bytes()
        tree = yaml.load(content, _Loader)
    except OSError as error:
        raise ClaimsError(f"{path} can't be read: {error.strerror}; {MEND}") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # PyYAML itself fails on some dates
        raise ClaimsError(f"{path} is not valid YAML: {' '.join(str(error).split())}; {MEND}") from None
    if not content.rstrip().endswith(b"\n..."):  # an editor may end lines in its own way
        raise ClaimsError(f"{path} is cut off: expected ... as its last line; {MEND}")
    errors = list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(tree))
    if errors:
        best = jsonschema.exceptions.best_match(errors)
        place = best.absolute_path
        text = best.message if best.parent else "; ".join(error.message for error in errors if error.path == place)
        raise ClaimsError(f"{path}, at {'.'.join(map(str, place)) or 'the top'}: {text}; {MEND}")
    return tree


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
