"""How numbers are written, in the report, in the notebooks and in the terminal: each kind in one way."""

import math
from decimal import Decimal

NOT_MEASURED = "–"
AUGMENTATIONS = {"RandomAffine": "shifts", "RandomHorizontalFlip": "flips", "RandomErasing": "erased areas"}


def accuracy(value):
    """Write an accuracy, a fraction, with four decimals: 0.8500."""
    return NOT_MEASURED if math.isnan(value) else f"{value:.4f}"


def points(difference):
    """Write a difference of accuracies in points, with its sign: +1.04; what rounds to zero has a plus."""
    return NOT_MEASURED if math.isnan(difference) else f"{100 * difference:+z.2f}".replace("-", "−")


def spread(deviation):
    """Write a standard deviation of accuracies in points, which has no sign: 0.43."""
    return NOT_MEASURED if math.isnan(deviation) else f"{100 * deviation:.2f}"


def interval(ends, write):
    """Write an interval, with the function that writes each of its ends: 0.8946 to 0.8993."""
    return NOT_MEASURED if math.isnan(ends[0]) else f"{write(ends[0])} to {write(ends[1])}"


def p_value(value):
    """Write a p-value with three decimals; what is smaller is < 0.001, on one line."""
    return NOT_MEASURED if math.isnan(value) else "<\N{NO-BREAK SPACE}0.001" if value < 0.001 else f"{value:.3f}"


def p_equals(value):
    """Write a p-value for a sentence: p = 0.214."""
    return f"p\N{NO-BREAK SPACE}{p_value(value)}" if value < 0.001 else f"p = {p_value(value)}"


def percent(share):
    """Write a share without decimals, on one line: 53 %."""
    return NOT_MEASURED if math.isnan(share) else f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def percentile(share):
    """Write the percentile that a share is: 53."""
    return NOT_MEASURED if math.isnan(share) else f"{100 * share:.0f}"


def count(number, thing):
    """Write how many there are of a thing: 1 seed, 8 seeds."""
    return f"{number} {thing}{'s' * (number != 1)}"


def words(name):
    """Turn a name of Python, such as weight_decay, into words."""
    return name.replace("_", " ")


def parameter(value):
    """Write the value of a parameter for a table: 0.00001, yes, Adam; or shifts, flips."""
    if isinstance(value, list):
        return ", ".join(parameter(item) for item in value)
    if isinstance(value, str):
        return AUGMENTATIONS.get(value, value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format(Decimal(str(value)).normalize(), "f")


def changes(parameters):
    """Write changed parameters, a dict, with their values: num_epochs 3, learning_rate 0.00001."""
    return ", ".join(f"{n} {parameter(v) if isinstance(v, float) else v}" for n, v in parameters.items())


def minutes(seconds):
    """Write a duration as minutes and seconds: 3:07."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
