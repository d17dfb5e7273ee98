"""The study: the claims and the records of a folder, read once and judged once.

Every table, sentence and drawing of the report is a function of a `Study`.
"""

import hashlib
import json
import math
from dataclasses import dataclass, field, replace
from functools import cached_property

from common import ROOT
from common.errors import UserError
from common.files import expanded, write_at_once
from study import candidates, claims, effects, per_image, protocol, reported, selection, verdicts
from study.record import made_on, to_line
from study.samples import Pair, Sample
from study.table import TABLE, read_records, select

VERDICTS = "verdicts.json"  # in a folder of figures, beside the table of records


@dataclass(frozen=True)
class FigureResult:
    """A figure of the report and the runs of its setting, one or more.

    Attributes:
        records: those that are judged, one a seed, as from `Study.records_of`.
        committed: all of the setting, those that are not judged as well.
        own: the user's own, which are compared with the committed ones and count for nothing else.
    """

    figure: claims.Figure
    setting: dict
    records: list
    committed: list
    own: list

    @cached_property
    def sample(self):
        return Sample.of(self.records)

    @property
    def number(self):
        return self.figure.number

    @property
    def difference(self):
        """Mean accuracy of our runs less the reported one."""
        return self.sample.mean - self.figure.reported

    @property
    def accuracies(self):
        """The test accuracies of the committed runs, by seed."""
        return {record["seed"]: record["test_accuracy"] for record in self.committed}

    @cached_property
    def agreements(self):
        """How each of the user's own runs agrees with the committed ones, in words, as from `reported.agreement`."""
        return [reported.agreement(record, self.committed) for record in self.own]


@dataclass(frozen=True)
class Study:
    """Records, the claims that they are about, and what the records say about them.

    Attributes:
        records: a list, as from `study.table.read_records`.
        claims: a `claims.Claims`.
        overrides: parameters in which the runs differ from the claims' settings, as in a trial.
        own: records of the user's own runs, which are set beside the others and judge nothing.
    """

    records: list
    claims: claims.Claims
    overrides: dict
    own: list = field(default_factory=list)

    @classmethod
    def read(cls, folder="figures", overrides=None, own_folder=None):
        """Read the claims and a folder of figures, with `runs.jsonl`; a relative one starts at the project's root.

        Args:
            own_folder: another one, whose records are the user's own.

        Raises:
            ClaimsError, NotebookError: claims.yaml or a notebook is damaged.
            ValueError: the table of records is damaged.
        """
        records, own = (
            read_records(ROOT / expanded(place) / TABLE) if place else [] for place in (folder, own_folder)
        )
        return cls(records, claims.load(), overrides or {}, own)

    def check_that_it_has_figures(self):
        """Raise a UserError if no record is of a figure's setting: then there is nothing to report."""
        if not self.figures:
            raise UserError(
                f"none of {len(self.records)} records is of a figure, with overrides {self.overrides}: expected "
                "overrides to hold in what a trial's runs differ from the notebooks, such as {'num_epochs': 3}"
            )

    def runs_of(self, settings):
        """Return the runs of some settings that can be compared; in a trial, of these settings as the trial has them.

        They are the protocol's if all of them are there, each seed's on one kind of processor; else earlier ones.

        Returns:
            For each setting a dict from seed to record, and whether they are the protocol's.
        """
        settings = [setting | self.overrides for setting in settings]
        seeds = set.intersection(*(self._planned_seeds.get(protocol.training(setting), set()) for setting in settings))
        paired = [{} for _ in settings]
        for records in self._fresh_records:
            runs = [_runs_by_seed(records, setting) for setting in settings]
            for seed in seeds.intersection(*runs).difference(paired[0]):
                for by_seed, own in zip(paired, runs, strict=True):
                    by_seed[seed] = own[seed]
        if seeds and len(paired[0]) == len(seeds):
            return [dict(sorted(by_seed.items())) for by_seed in paired], True
        return [_runs_by_seed(self._earlier, setting) for setting in settings], False

    @cached_property
    def _fresh_records(self):
        """Records with the protocol's seeds by training: a dict for each kind of processor, the largest first."""
        fresh = [record for record in self.records if record["seed"] in self.claims.protocol.seeds]
        by_kind = sorted(_grouped(fresh, made_on).values(), key=len, reverse=True)
        return [_grouped(records, protocol.training) for records in by_kind]

    @cached_property
    def _earlier(self):
        """The records whose seeds planned the protocol, by training."""
        earlier = [record for record in self.records if record["seed"] not in self.claims.protocol.seeds]
        return _grouped(earlier, protocol.training)

    @cached_property
    def _planned_seeds(self):
        """The protocol's seeds of each training."""
        runs = reversed(protocol.runs(self.claims))  # the most important come first, and count
        return {protocol.training(planned.setting): set(planned.seeds) for planned in runs}

    def records_of(self, setting):
        """Return the records of a setting, one a seed, as `runs_of` does."""
        (runs,), _ = self.runs_of([setting])
        return list(runs.values())

    def sample_of(self, setting):
        """Return the test accuracies of a setting's runs, as a `Sample`."""
        return Sample.of(self.records_of(setting))

    def pair_of(self, first, second, margin=0.0):
        """Pair the runs of two settings that have the same seed, as a `Pair`."""
        (a, b), _ = self.runs_of([first, second])
        seeds = sorted(a.keys() & b.keys())
        return Pair(*(tuple(runs[seed]["test_accuracy"] for seed in seeds) for runs in (a, b)), margin)

    @cached_property
    def figures(self):
        """The figures that have runs: a dict from name to `FigureResult`."""
        results = {}
        for name, figure in self.claims.figures.items():
            setting = figure.setting | self.overrides
            records, own = self.records_of(figure.setting), select(self.own, setting)
            if not records:  # of a figure that somebody has added
                records, own = own, []
            if records:
                results[name] = FigureResult(figure, setting, records, select(self.records, setting), own)
        return results

    @cached_property
    def numbers(self):
        return reported.judge_numbers(self)

    @cached_property
    def step_sizes(self):
        return reported.judge_step_sizes(self)

    @cached_property
    def comparisons(self):
        return verdicts.judge_comparisons(self)

    @cached_property
    def comparisons_after_the_last_epoch(self):
        return verdicts.judge_comparisons(self, late=False)

    @cached_property
    def comparisons_by_earlier_seeds(self):
        """What the runs said that planned the protocol."""
        earlier = [record for records in self._earlier.values() for record in records]
        return verdicts.judge_comparisons(replace(self, records=earlier))

    @cached_property
    def effects(self):
        return effects.factorial_effects(self)

    @cached_property
    def selections(self):
        return selection.judge_selection(self)

    @cached_property
    def steps(self):
        return per_image.judge_steps(self)

    @cached_property
    def candidates(self):
        return candidates.judge_candidates(self)

    @property
    def measured_candidates(self):
        return [candidate for candidate in self.candidates if candidate.validation.num_seeds]

    @property
    def chosen_candidates(self):
        return [candidate for candidate in self.candidates if candidate.is_chosen]

    @cached_property
    def share_recognised(self):
        return per_image.share_recognised(self)

    @cached_property
    def verdicts(self):
        """What the records say, as a dict that JSON can hold: the form in which notebooks and others read it."""
        lines = "".join(map(to_line, self.records))
        return {
            "rule": verdicts.__doc__,
            "level": self.claims.protocol.level,
            "records": {
                "file": TABLE,
                "number": len(self.records),
                "sha256": hashlib.sha256(lines.encode()).hexdigest(),
            },
            "numbers": [_number(number) for number in self.numbers],
            "step_sizes": [_number(number) for number in self.step_sizes],
            "comparisons": [
                _comparison(comparison)
                | {"after_the_last_epoch": _measured(last), "by_earlier_seeds": _measured(earlier)}
                for comparison, last, earlier in zip(
                    self.comparisons,
                    self.comparisons_after_the_last_epoch,
                    self.comparisons_by_earlier_seeds,
                    strict=True,
                )
            ],
            "beyond": [
                {
                    "name": chosen.search.name,
                    "limit": chosen.search.limit,
                    "candidate": chosen.name,
                    "cost": _finite(chosen.cost),
                    "mean": _finite(chosen.test.mean),
                    "interval": _interval(chosen.test.interval),
                    "seeds": chosen.test.num_seeds,
                }
                for chosen in self.chosen_candidates
            ],
        }

    def write_verdicts(self, folder):
        """Leave the verdicts in a folder of figures, as `verdicts.json`."""
        write_at_once(folder / VERDICTS, json.dumps(self.verdicts, indent=1, ensure_ascii=False) + "\n")


def _grouped(records, key):
    """Group records by what a function gives for them: a dict of lists."""
    groups = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups


def _runs_by_seed(by_training, setting):
    """Pick the runs of a setting from records that are grouped by training: a dict from seed to record."""
    records = by_training.get(protocol.training(setting), [])
    return {record["seed"]: record for record in select(records, setting)}


def _number(number):
    return {
        "name": number.name,
        "label": number.label,
        "reported": number.reported,
        "mean": _finite(number.sample.mean),
        "range_of_runs": _interval(number.range_of_runs),
        "percentile": _finite(number.sample.percentile(number.reported)),
        "p": _finite(number.corrected),
        "seeds": number.sample.num_seeds,
        "deterministic": number.is_deterministic,
        "exploratory": number.exploratory,
        "verdict": number.verdict,
    }


def _comparison(comparison):
    pair = comparison.least_favourable or Pair((), ())
    entry = {
        "name": comparison.stated.name,
        "figure": comparison.stated.figure,
        "claim": comparison.stated.text,
        "ours": comparison.stated.ours,
        "relation": comparison.stated.relation,
        "pairs": len(comparison.pairs),
        "least_favourable": pair.label,
        "reported": _finite(pair.reported),
    }
    about = {"deterministic": comparison.is_deterministic, "exploratory": comparison.exploratory}
    return entry | _measured(comparison) | about


def _measured(comparison):
    pair = comparison.least_favourable or Pair((), ())
    return {
        "verdict": comparison.verdict,
        "effect": _finite(pair.difference.mean),
        "interval": _interval(comparison.interval),
        "p": _finite(comparison.corrected),
        "p_of_sign_flips": _finite(pair.difference.p_of_sign_flips(pair.margin)),
        "seeds": comparison.num_seeds,
    }


def _finite(value):
    """Round to ten decimals, beyond which processors and versions of SciPy differ; JSON has no nan."""
    return round(float(value), 10) if math.isfinite(value) else None


def _interval(ends):
    return [_finite(end) for end in ends]
