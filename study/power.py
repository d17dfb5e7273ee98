"""What the rule can be expected to decide, and how often it errs: `python -m study.power`, in a minute.

Studies are simulated whole, with all claims and their correction, from the records of the seeds that planned the
protocol. A simulated seed scatters like these: normally, with the same covariances between settings.
"""

import gc
import math
from dataclasses import dataclass

import numpy as np

from study import rule
from study.outcomes import CONTRADICTED, EQUAL, HOLDS, LEAST_SEEDS
from study.study import Study

NUM_STUDIES = 1000
TRUTHS = ("none", "epsilon", "measured")  # gains of all claims: 0, the least that counts, those of the earlier seeds


@dataclass(frozen=True)
class Scatter:
    """A claim's measured differences, from which others are drawn.

    Attributes:
        name: of the claim.
        relation: as in `claims.Claim`.
        mean: of the differences less the margin, (pairs,).
        deviations: from the mean, (pairs, seeds).
    """

    name: str
    relation: str
    mean: np.ndarray
    deviations: np.ndarray

    def draw(self, z, mean):
        """Draw numbers (studies, pairs, seeds) around means (studies, pairs) from normal ones (studies, seeds, n)."""
        scattered = np.einsum("pn,csn->cps", self.deviations, z) / (self.deviations.shape[1] - 1) ** 0.5
        return mean[..., None] + scattered

    def gain(self, mean):
        """Return the gains, (studies,), that the claim is about, if the true means are these, (studies, pairs)."""
        return mean.max(1) if self.relation == "no_better" else mean.min(1)


def scatters(study):
    """List the `Scatter` of each claim whose runs scatter, from the seeds before those of the protocol."""
    first = study.claims.protocol.seeds[0]
    earlier = Study([record for record in study.records if record["seed"] < first], study.claims, {})
    found = []
    for comparison in earlier.comparisons:
        if comparison.num_seeds >= LEAST_SEEDS and not comparison.is_deterministic:
            mean = comparison.excess.mean(1)
            deviations = comparison.excess - mean[:, None]
            found.append(Scatter(comparison.stated.name, comparison.stated.relation, mean, deviations))
    return found


def simulate(claims, found, num_seeds, truth="expected", num_studies=NUM_STUDIES):
    """Judge simulated studies.

    Args:
        claims: a `claims.Claims`.
        found: as from `scatters`.
        num_seeds: of each study.
        truth: one of `TRUTHS`, or "expected": the measured gains, as uncertain as the earlier seeds leave them.

    Returns:
        From the name of a claim to its verdicts and its true gains, one a study.
    """
    generator = np.random.default_rng(0)
    known = max(scatter.deviations.shape[1] for scatter in found)
    z = generator.standard_normal((num_studies, num_seeds, known))
    doubt = generator.standard_normal((num_studies, known)) / known**0.5
    p, gains = {}, {}
    for scatter in found:
        n = scatter.deviations.shape[1]
        mean = np.tile(scatter.mean, (num_studies, 1))
        if truth == "expected":
            mean = scatter.draw(doubt[:, None, :n], mean)[..., 0]
        elif truth != "measured":
            mean = np.zeros_like(mean) + (claims.protocol.epsilon if truth == "epsilon" else 0)
        drawn = scatter.draw(z[..., :n], mean)
        p[scatter.name] = rule.p_values(scatter.relation, drawn, claims.protocol.epsilon)
        gains[scatter.name] = scatter.gain(mean)
    level, unknown = claims.protocol.level, len(claims.comparisons) - len(found)
    together = np.stack([rule.p_of_claim(values) for values in p.values()], axis=1)
    # Claims of which nothing is known are counted as ones that stay undecided.
    gc.freeze()  # statsmodels collects garbage at each call, which takes long where there is much to look through
    times = np.array([rule.correct(np.append(row, [1.0] * unknown), level)[1][: len(found)] for row in together])
    gc.unfreeze()
    return {
        name: (np.array([rule.decide(q, level / m) for q, m in zip(values, own, strict=True)]), gains[name])
        for (name, values), own in zip(p.items(), times.T, strict=True)
    }


def is_false(relation, verdicts, gains, epsilon):
    """Say which verdicts are false, given the true gains: booleans (studies,)."""
    if relation == "no_better":
        return ((verdicts == HOLDS) & (gains >= epsilon)) | ((verdicts == CONTRADICTED) & (gains <= 0))
    wrong_side = ((verdicts == HOLDS) & (gains <= 0)) | ((verdicts == CONTRADICTED) & (gains >= 0))
    return wrong_side | ((verdicts == EQUAL) & (np.abs(gains) >= epsilon))


def rate_of_false_decisions(claims, found, num_seeds, truth, num_studies=NUM_STUDIES):
    """Return the share of studies in which the rule decides at least one claim falsely."""
    judged = simulate(claims, found, num_seeds, truth, num_studies)
    relations = {scatter.name: scatter.relation for scatter in found}
    wrong = [is_false(relations[name], *outcome, claims.protocol.epsilon) for name, outcome in judged.items()]
    return float(np.any(wrong, axis=0).mean())


def rate_with_optional_stopping(num_seeds, level, num_studies=NUM_STUDIES):
    """Return how often a gain is found that isn't there, at the end, and by who looks after every seed from 3 on."""
    drawn = np.random.default_rng(0).standard_normal((num_studies, 1, num_seeds))
    looks = [
        2 * rule.p_values("better", drawn[..., :n], 1.0)[:, :2].min(1) <= level
        for n in range(LEAST_SEEDS, num_seeds + 1)
    ]
    return float(looks[-1].mean()), float(np.any(looks, axis=0).mean())


def seeds_needed(comparison, power=0.9, most=1000):
    """Return with how many seeds a claim would be decided, were the true gains and scatter those measured.

    Args:
        comparison: a `verdicts.Comparison` with three seeds or more.
        power: the probability of a decision.

    Returns:
        A number that is right within a tenth; None if over `most`.
    """
    mean = comparison.excess.mean(1)
    scatter = Scatter("", comparison.stated.relation, mean, comparison.excess - mean[:, None])
    num_seeds = LEAST_SEEDS
    while num_seeds <= most:
        z = np.random.default_rng(0).standard_normal((200, num_seeds, comparison.num_seeds))
        drawn = scatter.draw(z, np.tile(mean, (len(z), 1)))
        p = rule.p_of_claim(rule.p_values(scatter.relation, drawn, comparison.protocol.epsilon))
        if (p <= comparison.level).mean() >= power:
            return num_seeds
        num_seeds = math.ceil(1.1 * num_seeds)
    return None


def power_table(study, num_studies=NUM_STUDIES):
    """Say what is expected of each claim: rows of its name, gain and deviation, and shares of simulated studies."""
    claims, found = study.claims, scatters(study)
    num_seeds = len(claims.protocol.seeds)
    planned = simulate(claims, found, num_seeds, num_studies=num_studies)
    others = [simulate(claims, found, n, num_studies=num_studies) for n in (num_seeds // 2, 2 * num_seeds)]
    without = simulate(claims, found, num_seeds, "none", num_studies)
    rows = []
    for scatter in found:
        verdicts, _ = planned[scatter.name]
        shares = [float((verdicts == decision).mean()) for decision in rule.DECISIONS]
        decided = [float(np.isin(other[scatter.name][0], rule.DECISIONS).mean()) for other in others]
        no_gain = HOLDS if scatter.relation == "no_better" else EQUAL
        found_equal = float((without[scatter.name][0] == no_gain).mean())
        worst = scatter.mean.argmax() if scatter.relation == "no_better" else scatter.mean.argmin()
        deviation = float((scatter.deviations[worst] ** 2).sum() / (scatter.deviations.shape[1] - 1)) ** 0.5
        gain = float(scatter.gain(scatter.mean[None])[0])
        rows.append((scatter.name, gain, deviation, *shares, sum(shares), *decided, found_equal))
    return rows


def report(study, num_studies=NUM_STUDIES):
    """Write everything as Markdown: the expected power of each claim, and how often the rule errs."""
    claims = study.claims
    num_seeds, level = len(claims.protocol.seeds), claims.protocol.level
    decided = f"Decided with {num_seeds}"
    head = ["Claim", "Gain", "Deviation", "Holds", "Contradicted", "Equal", decided]
    head += [f"with {num_seeds // 2}", f"with {2 * num_seeds}", "Without a gain"]
    lines = [f"| {' | '.join(head)} |", f"|:--|{'--:|' * (len(head) - 1)}"]
    for name, gain, deviation, *shares in power_table(study, num_studies):
        written = " | ".join(f"{100 * share:.0f} %" for share in shares)
        lines.append(f"| {claims.comparisons[name].text} | {100 * gain:+.2f} | {100 * deviation:.2f} | {written} |")
    found = scatters(study)
    rates = {truth: rate_of_false_decisions(claims, found, num_seeds, truth, num_studies) for truth in TRUTHS}
    fixed, stopped = rate_with_optional_stopping(num_seeds, level, num_studies)
    lines += [
        "",
        f"Studies of {num_seeds} seeds in which at least one of all claims is decided falsely: "
        f"{100 * rates['none']:.1f} % if no gain is there, {100 * rates['epsilon']:.1f} % if every gain is "
        f"{100 * claims.protocol.epsilon:g} points, {100 * rates['measured']:.1f} % if all gains are those measured; "
        f"{100 * level:g} % are allowed.",
        "",
        f"One test of a gain that isn't there finds it in {100 * fixed:.1f} % of cases, and in {100 * stopped:.1f} % "
        f"if somebody looks after every seed from {LEAST_SEEDS} to {num_seeds} and stops at the first finding. That "
        "is why the number of seeds is fixed.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(report(Study.read()))
