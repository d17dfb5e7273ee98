"""What the records say about the claims. The rule was committed before the first run that counts.

* What is compared is a run's late accuracy: the mean test accuracy of its last three epochs. Two settings are paired
  by seed, so that they share their first weights where their nets are alike, and the order of the images where their
  batches are.
* **A is better than each of some others** by more than a margin, mostly 0: the gain is the smallest true difference of
  these pairs, less the margin. The claim *holds* if the gain's interval lies above 0, is *contradicted* if it lies
  below, is *practically equal* if it lies within 0.2 points on both sides of 0, and is *undecided* otherwise.
* **None is better**: the gain is the largest true difference. The claim *holds* if the interval ends below 0.2 points,
  and is *contradicted* if it lies above 0 and doesn't.
* **Accuracy rises** from setting to setting: the gain is the rise of the straight line through them, judged likewise.
* The interval is Student's. Its level is such that a false decision on any claim has a probability of 5 % over all of
  them together: after Holm, over the claims whose runs scatter. Outcomes that are the same with every seed are called
  *deterministic* and have no test.
* Verdicts rest on the protocol's seeds alone, once all of them are there for every setting of a claim, each seed's
  runs on one kind of processor; of several kinds the one that made most of the protocol's runs counts. Until then
  earlier seeds give them, and they are *exploratory*.
* With fewer than three seeds nothing is decided.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import stats

from study import claims, rule
from study.outcomes import LEAST_SEEDS, UNTESTED
from study.reported import changes_in_words, reported_accuracy
from study.samples import Pair, late_accuracy


@dataclass(frozen=True)
class Comparison:
    """A claim and the runs of its settings.

    Attributes:
        stated: the `claims.Claim`.
        pairs: a tuple of `Pair`.
        protocol: the `claims.Protocol` by which it is judged.
        exploratory: whether the runs are not those of the protocol.
        in_order: of a rising claim the accuracies (settings, seeds), else None.
        corrected: p after Holm's correction; nan if there are too few runs, or these don't scatter.
        times: by how many times smaller than the level it has to be.
    """

    stated: claims.Claim
    pairs: tuple
    protocol: claims.Protocol
    exploratory: bool = True
    in_order: np.ndarray | None = None
    corrected: float = float("nan")
    times: int = 1

    @property
    def num_seeds(self):
        return min(pair.difference.num_seeds for pair in self.pairs)

    @property
    def is_deterministic(self):
        return self.num_seeds >= LEAST_SEEDS and all(pair.is_deterministic for pair in self.pairs)

    @property
    def excess(self):
        """Differences less the margin, (pairs, seeds)."""
        return np.array([pair.excess for pair in self.pairs])

    @cached_property
    def p_of_decisions(self):
        """Before any correction, in the order of `rule.DECISIONS`, one-sided."""
        if self.num_seeds < LEAST_SEEDS:
            return np.full(len(rule.DECISIONS), np.nan)
        return rule.p_values(self.stated.relation, self.excess, self.protocol.epsilon)

    @property
    def p(self):
        """Of the claim, before Holm's correction; nan if there is nothing to test."""
        return float("nan") if self.is_deterministic else float(rule.p_of_claim(self.p_of_decisions))

    @property
    def level(self):
        """At which it is decided, after Holm."""
        return self.protocol.level / self.times

    @property
    def verdict(self):
        return UNTESTED if self.num_seeds < LEAST_SEEDS else rule.decide(self.p_of_decisions, self.level)

    @property
    def interval(self):
        """Of the least favourable difference, at the level at which the claim is decided."""
        if self.num_seeds < 2:
            return float("nan"), float("nan")
        low, high = rule.interval(self.stated.relation, self.excess, self.level)
        return low + self.pairs[0].margin, high + self.pairs[0].margin

    @property
    def least_favourable(self):
        """The pair that speaks most against the claim; None if there are no runs."""
        sign = -1 if self.stated.relation == "no_better" else 1
        return min(self.pairs, key=lambda pair: sign * pair.difference.mean) if self.num_seeds else None

    def with_seeds(self, number):
        """Return the comparison as the first so many seeds alone would have it."""
        cut = tuple(replace(p, first=p.first[:number], second=p.second[:number]) for p in self.pairs)
        return replace(self, pairs=cut)

    @property
    def share_of_ladders(self):
        """Of the seeds, the share with which accuracy rises at each step of a rising claim."""
        return float((np.diff(self.in_order, axis=0) > 0).all(0).mean())

    @property
    def p_of_page(self):
        """Of Page's test for a trend of the ranks, one-sided: a check on a rising claim."""
        return float(stats.page_trend_test(self.in_order.T, method="asymptotic").pvalue)


def judge_comparisons(study, late=True):
    """Judge every comparison of the claims, their p-values corrected together.

    Args:
        late: whether by late accuracies, as the rule says, or by those after the last epoch, to see what that changes.

    Returns:
        A list of `Comparison`.
    """
    protocol = study.claims.protocol
    late_epochs = protocol.late_epochs if late else 1
    comparisons = [_compare(study, claim, late_epochs) for claim in study.claims.comparisons.values()]
    corrected, times = rule.correct([comparison.p for comparison in comparisons], protocol.level)
    corrections = zip(comparisons, corrected.tolist(), times.tolist(), strict=True)
    return [replace(comparison, corrected=p, times=number) for comparison, p, number in corrections]


def _compare(study, claim, late_epochs):
    settings = [setting for _, setting in claim.runs]
    runs, decides = study.runs_of(settings)
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in runs)))
    accuracies = np.array([[late_accuracy(by_seed[s], late_epochs) for s in seeds] for by_seed in runs])

    def measured(setting):
        return accuracies[settings.index(setting)]

    def reported(setting):
        return reported_accuracy(study.claims, setting)

    def pair(first, second):
        gap = reported(first) - reported(second)
        return Pair(
            tuple(measured(first).tolist()),
            tuple(measured(second).tolist()),
            claim.margin,
            claim.relative,
            gap / reported(second) if claim.relative else gap,
            _difference_in_words(first, second),
        )

    if claim.relation == "rising":
        start, risen = accuracies[0], accuracies[0] + rule.rise(accuracies)
        in_all = float(rule.rise(np.array([[reported(setting)] for setting in settings]))[0])
        line = Pair(tuple(risen.tolist()), tuple(start.tolist()), reported=in_all, label="last against first")
        return Comparison(claim, (line,), study.claims.protocol, not decides, accuracies)
    pairs = tuple(pair(first, second) for first, second in claim.pairs)
    return Comparison(claim, pairs, study.claims.protocol, not decides)


def _difference_in_words(first, second):
    """Say in what two settings differ, such as "rate 0.1 against 0.2"."""
    names = [n for n in first if n != "num_rounds" and n in second and first[n] != second[n]]
    mine, other = (changes_in_words({name: setting[name] for name in names}) for setting in (first, second))
    shared = mine[: mine.rindex(" ") + 1] if len(names) == 1 and " " in mine else ""  # rate 0.1 against 0.2
    return f"{mine} against {other.removeprefix(shared)}"
