"""One claim of the report, tested by a reader's own runs: notebooks/test_a_claim.ipynb."""

import difflib
import time
from dataclasses import replace
from functools import cached_property

from IPython.display import Markdown, display

from common.curves import show
from common.formatting import count, interval, minutes, points, spread
from common.interrupts import never_lost
from common.parameters import ParameterError
from report.drawings import draw_claim
from report.verdict import WORDS, committed_claim, in_words, remark
from study import claims
from study.many_seeds import make
from study.outcomes import LEAST_SEEDS
from study.plan import EPOCH, Run, share_out, trainings
from study.study import Study
from study.table import read_records

LISTED = 8  # pairs of a claim that are named one by one
AT_ONCE = 8  # seeds on a GPU, before their differences are shown
KNOWN = ("num_rounds", "device")  # of no interest in a line about a run
RELATIONS = {  # what is said of each pair, and which of several decides
    "better": ("the first is said to be better than the second", "smallest"),
    "no_better": ("the first is said to be no better than the second", "largest"),
}


class ClaimTest:
    """A claim, tested with some seeds.

    Args:
        claim: its name in claims.yaml.
        num_seeds: each setting is trained with; the first is 0.
        trial_epochs: of the longest training; the others are shortened alike. 0 trains as long as the claim says.
        device, runs_folder: as of a run.

    Attributes:
        claim: the `study.claims.Claim`, of a trial with its shortened settings.
        trial: in what it is a trial, in words; else an empty text.

    Raises:
        ParameterError: there is no such claim, or in so short a trial its settings would be the same.
    """

    def __init__(self, claim, num_seeds, trial_epochs=0, device="auto", runs_folder="runs"):
        stated = claims.load().comparisons
        if claim not in stated:
            near = difflib.get_close_matches(claim, stated, n=3, cutoff=0.4) or stated
            raise ParameterError(
                f"claim is {claim!r}: expected a name under comparisons in claims.yaml, such as {', '.join(near)}"
            )
        self.claim, self.trial = stated[claim], ""
        longest = max(setting["num_epochs"] for _, setting in self.claim.runs)
        if 0 < trial_epochs < longest:
            self.claim = shortened(self.claim, trial_epochs / longest)
            self.trial = f"{count(trial_epochs, 'epoch')} in place of {longest}"
        if any(claims.are_same(*pair) for pair in self.claim.pairs):
            raise ParameterError(
                f"trial_epochs is {trial_epochs}: expected more, up to {longest}, since some settings of {claim} "
                "differ in nothing but their number of epochs, and are the same in so short a trial; or 0"
            )
        self.num_seeds = num_seeds
        self.own = {"device": device, "runs_folder": runs_folder}

    @cached_property
    def trainings(self):
        """Pairs of notebook and setting; the beginning of a long training serves for a shorter one."""
        return [(notebook, setting | self.own) for notebook, setting in trainings(self.claim.runs)]

    def runs(self, seeds):
        """List the runs with some seeds, as `study.plan.Run`."""
        return [Run(notebook, setting | {"seed": seed}) for seed in seeds for notebook, setting in self.trainings]

    @property
    def missing(self):
        """The runs that have left no record yet."""
        return [run for run in self.runs(range(self.num_seeds)) if not run.record_path.exists()]

    @property
    def comparison(self):
        """What the runs so far say, as a `study.verdicts.Comparison`: of the seeds that all settings have."""
        records = [record for run in self.runs(range(self.num_seeds)) for record in read_records(run.record_path)]
        alone = replace(claims.load(), comparisons={self.claim.name: self.claim})
        (comparison,) = Study(records, alone, {}).comparisons
        return comparison

    def describe(self):
        """Say what is claimed, and which settings are compared."""
        claim, labels = self.claim, [pair.label for pair in self.comparison.pairs]
        text = f"**{claim.text}** (Figure {claim.figure})."
        if claim.ours:
            text += f" What the report leaves open and we have chosen: {claim.ours}."
        if claim.relation == "rising":
            rise = "What decides is the rise of the straight line through their accuracies, from its start to its end."
            return Markdown(f"{text}\n\nAccuracy is said to rise along {len(claim.runs)} settings. {rise}")
        said, decisive = RELATIONS[claim.relation]
        if claim.margin:
            said += f" by more than {spread(claim.margin)} {'% of its accuracy' if claim.relative else 'points'}"
        if len(labels) > 1:
            said += f"; of the {len(labels)} true differences the {decisive} decides"
        more = [f"and {len(labels) - LISTED} more"] if len(labels) > LISTED else []
        listed = "\n".join(f"- {label}" for label in [*labels[:LISTED], *more])
        return Markdown(f"{text} Of {'this pair' if len(labels) == 1 else 'each pair'} {said}:\n\n{listed}")

    def estimate(self):
        """Say how many trainings it takes, and about how long."""
        runs, missing = self.runs(range(self.num_seeds)), self.missing
        text = f"**Trial: {self.trial}.** " * bool(self.trial) + count(len(runs), "training")
        if len(missing) < len(runs):
            text += f", of which {len(runs) - len(missing)} are there already"
        if not missing:
            return Markdown(f"{text}.")
        times = "many times less on this GPU" if runs[0].uses_gpu else "two or three times as long on an old machine"
        took = f"about **{minutes(seconds(missing))}** on one core of the machine in `figures/benchmark.json`"
        return Markdown(f"{text}. Time: {took}, {times}.")

    @never_lost()
    def run(self):
        """Train what is missing, seed by seed, and show the differences as they come.

        Whoever interrupts it keeps the seeds that are complete.
        """
        missing = self.missing
        progress = Progress(missing)
        picture = f"claim-{time.time_ns()}"
        show(*self.picture(), display_id=picture)
        at_once = AT_ONCE if missing and missing[0].uses_gpu else 1
        try:
            for start in range(0, self.num_seeds, at_once):
                seeds = range(start, start + at_once)
                for job in share_out([run for run in missing if run.parameters["seed"] in seeds]):
                    progress.begin(job)
                    make(job, progress.on_epoch)
                show(*self.picture(), display_id=picture, update=True)
        except KeyboardInterrupt:
            done = count(self.comparison.num_seeds, "seed")
            progress.say(f"Stopped: {done} of {self.num_seeds} are complete. Run this cell again to go on.")
        else:
            progress.say(f"{count(len(missing), 'training')} in {minutes(time.monotonic() - progress.started)}.")

    def picture(self):
        """Draw what the runs so far say, beside the committed ones: a figure and its alternative text."""
        comparison, committed = self.comparison, committed_claim(self.claim.name)
        return draw_claim(comparison, self.num_seeds, committed, self.trial), describe_claim(comparison, committed)

    def verdict(self):
        """Say what follows from the runs so far, beside the committed verdict."""
        return Markdown("\n\n".join([self.own_verdict(), self.committed_verdict()]))

    def own_verdict(self):
        comparison = self.comparison
        if comparison.num_seeds < LEAST_SEEDS:
            return f"Seeds that are complete: {comparison.num_seeds}. A verdict takes {LEAST_SEEDS}."
        pair = comparison.least_favourable
        decides = f" of the pair that decides, {pair.label}," if len(comparison.pairs) > 1 else ""
        seeds = count(comparison.num_seeds, "seed")
        text = (
            f"**{'In this trial' if self.trial else 'Of your own'}, with {seeds}: the claim "
            f"{WORDS[comparison.verdict][0]}{remark(comparison.is_deterministic, False)}.** The measured difference"
            f"{decides} is {points(pair.difference.mean)} points, its interval "
            f"{interval(comparison.interval, points)}."
        )
        return text + self.about_trial() * bool(self.trial)

    def about_trial(self):
        return (
            f" It is a trial, {self.trial}: short trainings differ in other ways than long ones, so it says nothing "
            "about the claim itself."
        )

    def committed_verdict(self):
        committed = committed_claim(self.claim.name)
        if committed is None:
            return "There is no committed verdict on this claim."
        return f"The committed runs, at full length: {in_words(committed)}."


class Progress:
    """A line that says what is trained, and how long the rest will take."""

    def __init__(self, runs):
        self.total, self.done = sum(run.cost for run in runs), 0.0
        self.expected, self.started = seconds(runs), time.monotonic()
        self.line = display({"text/plain": "…"}, raw=True, display_id=True)

    def begin(self, job):
        """Take notice of a job that begins, and say so."""
        self.job = job
        self.tell(1)

    def on_epoch(self, epoch, _):
        """Take notice of the end of an epoch."""
        self.done += self.job.epoch_cost
        self.tell(min(epoch + 1, self.job.first.parameters["num_epochs"]))

    def tell(self, epoch):
        num_epochs, passed = self.job.first.parameters["num_epochs"], time.monotonic() - self.started
        left = passed * (self.total - self.done) / self.done if self.done else self.expected
        self.say(f"{self.job.name(KNOWN)}: epoch {epoch} of {num_epochs}, about {minutes(left)} left")

    def say(self, text):
        self.line.update({"text/plain": text}, raw=True)


def seconds(runs):
    """Say how long some runs take one after the other on a core, without the start of a notebook each."""
    return EPOCH * sum(run.cost for run in runs)


def shortened(claim, share):
    """Return a claim with the same settings, trained for a share of their epochs, but at least for one."""

    def short(setting):
        changes = {"num_epochs": max(1, round(share * setting["num_epochs"])), "num_rounds": 1}
        return {name: changes.get(name, value) for name, value in setting.items()}

    runs = tuple((notebook, short(setting)) for notebook, setting in claim.runs)
    return replace(claim, runs=runs, pairs=tuple((short(first), short(second)) for first, second in claim.pairs))


def describe_claim(comparison, committed):
    """Put the drawing of `draw_claim` into words, as its alternative text."""
    pair = comparison.least_favourable
    if pair is None:
        return "Empty axes for the differences between the settings of a claim, seed by seed."
    differences = ", ".join(map(points, pair.difference.accuracies))
    text = f"Dots for the differences seed by seed, {differences} points; their mean is {points(pair.difference.mean)}"
    if comparison.num_seeds > 1:
        text += f", and the 95 % interval has shrunk to {interval(comparison.interval, points)}"
    if committed and committed["effect"] is not None:
        text += f". Beside them the committed runs: {points(committed['effect'])}"
    return f"{text}."
