"""Read `claims.yaml`, what the report says, and refuse it if a key is missing, misspelt or of the wrong kind."""

from pathlib import Path

import jsonschema
import yaml

CLAIMS = Path(__file__).parent / "claims.yaml"

ACCURACY = {"type": "number", "minimum": 0, "maximum": 1}


def _object(properties):
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


FIGURE = _object({"change": {"type": "string"}, "setting": {"type": "object"}, "reported": ACCURACY})
SWEEP = _object(
    {
        "notebook": {"type": "string", "pattern": "^figure_[2-9]$"},
        "claim": {"type": "string"},
        "vary": {"type": "object", "minProperties": 1, "additionalProperties": {"type": "array", "minItems": 1}},
        "reported": {
            "type": "array",
            "items": {"type": "object", "properties": {"accuracy": ACCURACY}, "required": ["accuracy"]},
        },
    }
)
SCHEMA = _object(
    {
        "figures": _object({f"figure_{number}": FIGURE for number in range(2, 10)}),
        "sweeps": {"type": "object", "additionalProperties": SWEEP},
    }
)


class ClaimsError(ValueError):
    """claims.yaml is not what it should be; the message says where and what was expected."""


def load(path=None):
    """Read the claims, from claims.yaml or another path: `load()["figures"]["figure_4"]["reported"]`.

    Raises:
        ClaimsError: the file is missing, is no YAML, or a key is missing, misspelt or of the wrong kind.
    """
    path = path or CLAIMS
    try:
        claims = yaml.safe_load(Path(path).read_bytes())
    except OSError as error:
        raise ClaimsError(f"{path} can't be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ClaimsError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    errors = list(jsonschema.Draft202012Validator(SCHEMA).iter_errors(claims))
    if errors:
        place = jsonschema.exceptions.best_match(errors).path
        found = "; ".join(error.message for error in errors if error.path == place)
        raise ClaimsError(f"{path}, at {'.'.join(map(str, place)) or 'the top'}: {found}")
    return claims
