"""Beyond the report: what the candidates reach on held-out images, and the arithmetic that their trainings take."""

from dataclasses import dataclass

import model
from study import notebooks
from study.claims import Search
from study.samples import Sample


@dataclass(frozen=True)
class Candidate:
    """One of the settings that a search beyond the report compares.

    Attributes:
        search: its `claims.Search`.
        setting: with images held out.
        cost: the arithmetic of its training, that of Figure 9 being 1.
        validation: accuracies on the held-out images after the last epoch.
        test: test accuracies of the runs with all training images.
    """

    search: Search
    name: str
    setting: dict
    cost: float
    validation: Sample
    test: Sample

    @property
    def is_chosen(self):
        return self.name == self.search.chosen


def judge_candidates(study):
    """List the candidates of all searches, as `Candidate`."""
    last = training_cost(notebooks.defaults("figure_9"))
    return [
        Candidate(
            search,
            name,
            setting,
            training_cost(setting) / last,
            Sample(tuple(record["validation_accuracies"][-1] for record in study.records_of(setting))),
            study.sample_of(search.candidates[name]),
        )
        for search in study.claims.beyond.values()
        for name, setting in search.held_out.items()
    ]


def training_cost(setting):
    """Count the multiplications of a training, forward only: in each setting, backward takes about twice as many."""
    patches = model.get_possible_patches(784)[setting["patching"]]
    return model.count_multiply_adds(*patches, setting["num_hidden"], 10) * setting["num_epochs"]
