"""The words for what can come out: of a claim, and of a run that is made again."""

HOLDS, CONTRADICTED, EQUAL = "holds", "contradicted", "practically equal"
UNDECIDED, UNTESTED = "undecided", "too few runs"
IDENTICAL, EQUIVALENT, DIFFERENT = "identical", "equivalent", "different"
LEAST_SEEDS = 3  # with fewer nothing is decided
