"""The form of claims.yaml, as a JSON Schema: which keys there are, and what kind of value each has."""


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
COMPARISON = {
    **_object(
        {"figure": {"type": "integer"}, "claim": TEXT, "than": SETTINGS},
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
        "sweeps": _named(SWEEP),
        "held_out": {"type": "array", "items": TEXT},
        "factorial": FACTORIAL,
        "beyond": _named(SEARCH),
        "comparisons": _named(COMPARISON),
        "scales": _object({"accuracy": {"type": "array", "items": ACCURACY, "minItems": 3, "maxItems": 3}}),
    }
)
