"""Made-up runs and what it takes to judge them, for the tests of the statistics."""

import math

from conftest import made_up_record
from hypothesis import settings
from hypothesis import strategies as st
from scipy import stats

from common.account import Account, state_of_net
from study.audit import beginning

accuracies = st.integers(0, 10000).map(lambda number: number / 10000)
few_examples = settings(max_examples=40, deadline=None)


def runs_of(setting, accuracies):
    """Build the records of a setting's runs, with seeds from 0 up."""
    return [made_up_record(setting, seed, accuracy) for seed, accuracy in enumerate(accuracies)]


def feign_training(net, parameters, history):
    """Give a network the account of a training that never was."""
    net.account = Account(beginning(parameters))
    for measures in history:
        net.account.add(measures, state_of_net(net))


def confidence(events):
    """Return the 95 % confidence interval of the probability of what happened in a share of many trials."""
    return stats.binomtest(sum(events), len(events)).proportion_ci(0.95)


def significant(p_values):
    """Go down from the smallest p-value as Holm says; return the places of those that are significant at 5 %."""
    places = set()
    tested = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    for step, (p, place) in enumerate(tested):
        if p > 0.05 / (len(tested) - step):
            break
        places.add(place)
    return places
