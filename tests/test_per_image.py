"""Statistics over the test images, on made-up records with known answers."""

import base64

import numpy as np
import pytest
from conftest import made_up_record, study_of
from scipy import stats

from report.sentences import images_sentence
from study import notebooks, per_image


def record(figure, seed, correct):
    """Build a record of a figure's setting that recognised the given images: booleans (10000,)."""
    written = base64.b64encode(np.packbits(correct)).decode()
    return made_up_record(notebooks.defaults(figure), seed, float(correct.mean()), notebook=figure, correct=written)


def images(first_wrong, num_wrong):
    """Mark all test images as recognised but some in a row."""
    correct = np.ones(10000, bool)
    correct[first_wrong : first_wrong + num_wrong] = False
    return correct


def test_two_runs_disagree_on_the_images_that_just_one_recognises():
    assert per_image.mean_disagreement(np.array([images(0, 100), images(50, 100)])) == pytest.approx(0.01)
    assert per_image.mean_disagreement(np.array([images(0, 100), images(0, 100)])) == 0
    three = np.array([images(0, 100), images(0, 100), images(100, 100)])
    assert per_image.mean_disagreement(three) == pytest.approx(2 / 3 * 0.02)


def test_a_step_gets_its_gain_and_the_share_of_single_runs_that_show_it():
    table = [record("figure_3", seed, images(0, 2000)) for seed in (0, 1)]
    table += [record("figure_4", 0, images(0, 1500)), record("figure_4", 1, images(0, 2001))]
    (step,) = per_image.judge_steps(study_of(table))
    assert (step.first, step.second, step.seeds) == ("figure_3", "figure_4", 2)
    assert step.gain == pytest.approx((500 - 1) / 2 / 10000)
    assert step.significant == 1  # 500 images won and none lost is beyond chance, one lost is not
    assert step.disagreement == pytest.approx(0.0501)
    assert step.predicted == pytest.approx((0.0501 / 20000) ** 0.5)
    assert step.measured == pytest.approx(np.std([0.85, 0.7999], ddof=1))
    before, after = np.full(10000, 1.0), np.full(10000, 1.0)
    before[:2000], after[:1500], after[1500:2000], after[2000] = 0, 0, 0.5, 0.5
    assert step.p_images == pytest.approx(stats.ttest_rel(after, before).pvalue)


def test_runs_that_differ_by_chance_alone_are_seldom_called_different():
    generator = np.random.default_rng(0)
    called_different = []
    for _ in range(60):
        table = [
            record(figure, seed, generator.random(10000) < 0.88)
            for figure in ("figure_6", "figure_7")
            for seed in (0, 1)
        ]
        (step,) = per_image.judge_steps(study_of(table))
        called_different.append(step.p_images < 0.05)
    assert sum(called_different) <= stats.binom.ppf(0.999, len(called_different), 0.05)


def test_a_step_needs_two_seeds_in_common():
    table = [record("figure_3", seed, images(0, 100)) for seed in (0, 1)]
    table += [record("figure_4", seed, images(0, 100)) for seed in (1, 2)]
    assert per_image.judge_steps(study_of(table)) == []


def test_a_run_that_was_cut_to_fewer_epochs_says_nothing_about_images():
    setting = notebooks.defaults("figure_4")
    own = record("figure_4", 1, images(0, 100))
    longer = record("figure_4", 0, images(0, 100)) | {"num_epochs": 15, "test_accuracies": [0.9] * 15}
    recognised = per_image.recognised_images(study_of([longer, own]), setting)
    assert list(recognised) == [1]
    assert (recognised[1] == images(0, 100)).all()


def test_images_of_a_trial_are_those_of_its_runs():
    table = [
        record(figure, seed, images(0, num_wrong)) | {"train_limit": 600}
        for figure, num_wrong in (("figure_3", 2000), ("figure_4", 1000))
        for seed in (0, 1)
    ]
    assert per_image.judge_steps(study_of(table)) == []
    (step,) = per_image.judge_steps(study_of(table, overrides={"train_limit": 600}))
    assert step.gain == pytest.approx(0.1)


def test_the_share_of_runs_that_recognise_an_image_counts_figures_3_to_9():
    table = [
        record("figure_2", 0, images(0, 10000)),
        record("figure_3", 0, images(0, 100)),
        record("figure_9", 0, images(50, 100)),
    ]
    study = study_of(table)
    share, num_runs = per_image.share_recognised(study)
    assert num_runs == 2
    assert (share[:50] == 0.5).all()
    assert (share[50:100] == 0).all()
    assert (share[150:] == 1).all()
    text = images_sentence(study).data
    assert "98.5 % are recognised by each of the 2 runs" in text
    assert "0.5 % by none, and 1.0 % by a quarter" in text
