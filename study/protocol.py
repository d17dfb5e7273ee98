"""The protocol: which runs decide the claims, in the order of their importance, and which ones are made besides.

What decides, by which rule and with which seeds, stands in claims.yaml, and was committed before the first of these
runs. Earlier seeds planned it; they decide nothing.
"""

from dataclasses import dataclass, replace
from itertools import chain

from study.plan import Run, sweep_settings, training, trainings
from study.record import determinants, made_on


@dataclass(frozen=True)
class Planned:
    """Some runs of one setting.

    Attributes:
        notebook: that runs it, such as "figure_4".
        setting: complete parameters of a run but for the seed.
        seeds: a range.
        decides: whether a verdict rests on them.
    """

    notebook: str
    setting: dict
    seeds: range
    decides: bool


def runs(claims):
    """List the protocol's runs, each setting once, the most important first.

    The figures come first, then the claims, those that take the least training first, then what decides no claim.
    Where short runs are the beginnings of longer ones, only the longest is there.

    Args:
        claims: a `claims.Claims`.

    Returns:
        A list of `Planned`.
    """
    figures = [(name, figure.setting) for name, figure in claims.figures.items()]
    planned = {}
    for notebook, setting in chain(*_groups(claims)):
        key = training(setting)
        longest = planned.get(key)
        if longest is None:
            planned[key] = Planned(notebook, without_seed(setting), claims.protocol.seeds, decides=True)
        elif _is_longer(setting, longest.setting):
            planned[key] = replace(longest, notebook=notebook, setting=without_seed(setting))
    besides = {}
    for name, seeds in claims.protocol.besides.items():
        for notebook, setting in figures if name == "figures" else sweep_settings(name, claims):
            longest = planned.get(training(setting))
            # A figure's own runs say which images they recognise; the beginnings of longer ones don't.
            own = name == "figures" and _is_longer(longest.setting, setting)
            key = (training(setting), own and setting["num_epochs"])
            before = besides.get(key)
            if own or (longest is None and (before is None or _is_longer(setting, before.setting))):
                besides[key] = Planned(notebook, without_seed(setting), seeds, decides=False)
    return [*planned.values(), *besides.values()]


def missing_runs(claims, records, kind, changes):
    """List the protocol's runs that a kind of processor has to make, where no kind has made all that go together.

    Those of one claim go together, seed by seed, since they are compared; so do the factorial's, and those of a sweep
    with images held out. The most important come first.

    Args:
        claims: a `claims.Claims`.
        records: all that there are.
        kind: of processor, as from `record.made_on`.
        changes: parameters that determine no numbers.

    Returns:
        A list of `plan.Run`.
    """
    made = {kind: set()}
    for record in records:
        made.setdefault(made_on(record), set()).add(_experiment(record))
    planned = runs(claims)
    longest = {training(run.setting): run for run in reversed(planned)}
    compared = [*((group, claims.protocol.seeds) for group in _groups(claims)), *_groups_besides(claims)]
    groups = [([longest[training(setting)] for _, setting in group], seeds) for group, seeds in compared]
    missing = {}
    for group, seeds in [*groups, *(([run], run.seeds) for run in planned if not run.decides)]:
        for seed in seeds:
            together = {_experiment(run.setting | {"seed": seed}): run for run in group}
            if not any(together.keys() <= experiments for experiments in made.values()):
                missing |= {key: (run, seed) for key, run in together.items() if key not in made[kind]}
    return [Run(run.notebook, run.setting | {"seed": seed} | changes) for run, seed in missing.values()]


def _experiment(parameters):
    return repr(sorted(determinants(parameters).items()))


def _groups(claims):
    """List what is judged together: lists of pairs of notebook and setting, the most important first."""
    figures = [[(name, figure.setting)] for name, figure in claims.figures.items()]
    of_figures = {training(setting) for ((_, setting),) in figures}
    by_cost = sorted(claims.comparisons.values(), key=lambda claim: _cost(claim, of_figures))
    reported = [[(sweep.notebook, row.setting)] for sweep in claims.sweeps.values() for row in sweep.reported]
    return [*figures, *(claim.runs for claim in by_cost), *reported]


def _groups_besides(claims):
    """List what is compared though it decides no claim: groups as of `_groups`, each with its seeds."""
    groups = []
    for name, seeds in claims.protocol.besides.items():
        if name == "factorial":
            groups.append((sweep_settings(name, claims), seeds))
        if name == "held_out":
            sweeps = [claims.sweeps[sweep] for sweep in claims.held_out]
            groups += [([(sweep.notebook, setting) for setting in sweep.held_out], seeds) for sweep in sweeps]
    return groups


def _cost(claim, done):
    """Return the cost of a claim's runs with one seed, without those that are done."""
    missing = [run for run in trainings(claim.runs) if training(run[1]) not in done]
    return sum(Run(notebook, setting).cost for notebook, setting in missing)


def _is_longer(setting, other):
    return setting["num_epochs"] > other["num_epochs"]


def without_seed(setting):
    """Return a setting without the seed that its notebook has."""
    return {name: value for name, value in setting.items() if name != "seed"}
