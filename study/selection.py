"""What was choosing on the test images worth? Each sweep's choice by test images beside that by held-out images."""

from dataclasses import dataclass

import numpy as np

from study.samples import Sample


@dataclass(frozen=True)
class Selection:
    """What choosing among the settings of a sweep gives, one value a seed.

    Attributes:
        by_test, by_validation: test accuracy, in the run that it was chosen from, of the setting with the best test
            or validation accuracy.
        by_test_elsewhere: mean test accuracy, with the other seeds, of the setting chosen by test accuracy.
    """

    sweep: str
    num_settings: int
    seeds: tuple
    by_test: tuple
    by_validation: tuple
    by_test_elsewhere: tuple

    @property
    def flattery(self):
        """What the best test accuracy promises beyond what its setting gives with other seeds, as a `Sample`."""
        return Sample(tuple(a - b for a, b in zip(self.by_test, self.by_test_elsewhere, strict=True)))

    @property
    def gain(self):
        """Test accuracy when choosing by test images, less that when choosing by validation images, as a `Sample`."""
        return Sample(tuple(a - b for a, b in zip(self.by_test, self.by_validation, strict=True)))


def judge_selection(study):
    """Choose once by the test images and once by held-out images, in each sweep and with each seed that has all runs.

    Returns:
        A list of `Selection`, for the sweeps that have two seeds or more.
    """
    selections = []
    for sweep in study.claims.held_out:
        runs, _ = study.runs_of(study.claims.sweeps[sweep].held_out)
        seeds = sorted(set.intersection(*(set(by_seed) for by_seed in runs)))
        if len(seeds) < 2:
            continue
        test = np.array([[by_seed[seed]["test_accuracy"] for by_seed in runs] for seed in seeds])  # (seeds, settings)
        validation = np.array([[by_seed[seed]["validation_accuracies"][-1] for by_seed in runs] for seed in seeds])
        each = np.arange(len(seeds))
        best = test.argmax(1)
        elsewhere = (test.sum(0) - test) / (len(seeds) - 1)
        chosen = [test[each, best], test[each, validation.argmax(1)], elsewhere[each, best]]
        selections.append(Selection(sweep, len(runs), tuple(seeds), *(tuple(values.tolist()) for values in chosen)))
    return selections
