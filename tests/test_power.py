"""What the rule is expected to decide, and how often it errs: simulated quickly, and as the docs have it."""

import re

import numpy as np
import pytest
from conftest import ROOT
from scipy import stats

from study import claims, power
from study.outcomes import CONTRADICTED, EQUAL, HOLDS
from study.samples import Pair
from study.study import Study
from tests.made_up import confidence
from tests.made_up_results import comparison

CLAIMS = claims.load()
PAGE = (ROOT / "docs" / "power.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def study():
    return Study.read()


@pytest.fixture(scope="module")
def found(study):
    return power.scatters(study)


@pytest.mark.parametrize("truth", power.TRUTHS)
def test_at_most_5_percent_of_studies_decide_any_claim_falsely(found, truth):
    rate = power.rate_of_false_decisions(CLAIMS, found, 32, truth, 1000)
    assert confidence([True] * round(1000 * rate) + [False] * round(1000 * (1 - rate))).low <= 0.05


def test_a_verdict_is_false_if_the_truth_says_something_else():
    verdicts, epsilon = np.array([HOLDS, CONTRADICTED, EQUAL]), 0.002
    for gain, wrong in {
        0.0: [True, True, False],
        0.001: [False, True, False],
        0.01: [False, True, True],
        -0.01: [True, False, True],
    }.items():
        assert power.is_false("better", verdicts, np.full(3, gain), epsilon).tolist() == wrong
    for gain, wrong in {0.0: [False, True], 0.001: [False, False], 0.01: [True, False]}.items():
        assert power.is_false("no_better", verdicts[:2], np.full(2, gain), epsilon).tolist() == wrong


def test_equality_is_found_where_the_truth_is_no_gain_and_seeds_scatter_little(found):
    verdicts, _ = power.simulate(CLAIMS, found, 32, "none", 300)["weight_decay"]
    assert (verdicts == EQUAL).mean() > 0.95


def test_simulated_runs_scatter_as_the_measured_ones(found):
    scatter = next(scatter for scatter in found if scatter.name == "smaller_batches")
    z = np.random.default_rng(0).standard_normal((2000, 8, 8))
    drawn = scatter.draw(z, np.tile(scatter.mean, (2000, 1)))  # (studies, pairs, seeds)
    flat = drawn.transpose(1, 0, 2).reshape(3, -1)
    assert np.cov(flat) == pytest.approx(np.cov(scatter.deviations), rel=0.1)
    assert flat.mean(1) == pytest.approx(scatter.mean, abs=1e-4)


def test_who_looks_after_every_seed_finds_three_times_as_many_gains_that_are_not_there():
    fixed, stopped = power.rate_with_optional_stopping(32, 0.05, 1000)
    assert 0.03 < fixed < 0.07
    assert stopped > 3 * fixed


def test_the_seeds_needed_are_those_with_which_a_claim_is_decided_9_times_of_10():
    """Of one pair alone: the power of Student's test by the noncentral t distribution."""
    differences = 0.01 * (1 + np.array([-1.2, 0.3, 0.9, -0.6, 0.6]))
    undecided = comparison(Pair(tuple(0.8 + differences), (0.8,) * 5))
    needed = power.seeds_needed(undecided)
    shares = []
    for n in (0.8 * needed, 1.2 * needed):
        effect = differences.mean() / differences.std(ddof=1) * n**0.5
        shares.append(stats.nct.sf(stats.t.isf(0.025, n - 1), n - 1, effect))
    assert shares[0] < 0.9 < shares[1]


def test_the_page_on_power_has_what_the_command_prints_but_for_the_luck_of_the_draw(study):
    """The committed table is of 1000 simulated studies, this one of 200."""
    rows = {row[0]: row for row in power.power_table(study, 200)}
    written = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if re.match(r"\| .*%", line)]
    assert [line[0] for line in written] == [CLAIMS.comparisons[name].text for name in rows]
    for line, (name, gain, deviation, *shares) in zip(written, rows.values(), strict=True):
        assert line[1:3] == [f"{100 * gain:+.2f}", f"{100 * deviation:.2f}"], name
        for cell, share in zip(line[3:], shares, strict=True):
            assert int(cell.removesuffix(" %")) / 100 == pytest.approx(share, abs=0.13), name
