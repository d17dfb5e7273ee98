"""Statistics over the test images, on made-up records with known answers."""

import base64

import numpy as np
import pytest
from scipy import stats

import claims
import fashion_mnist
import per_image
import records

KNOWN = claims.load()


def record(figure, seed, correct):
    """Build a record of a figure's setting that recognised the given images: booleans (10000,)."""
    setting = claims.notebook_defaults(figure) | {"seed": seed}
    return {
        "notebook": figure,
        **{name: value for name, value in setting.items() if name not in records.NOT_IN_KEY},
        "test_accuracy": float(correct.mean()),
        "test_accuracies": [float(correct.mean())] * setting["num_epochs"],
        "correct": base64.b64encode(np.packbits(correct)).decode(),
        "training_version": records.TRAINING_VERSION,
    }


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
    (step,) = per_image.judge_steps(table, KNOWN)
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
    found = []
    for _ in range(60):
        table = [
            record(figure, seed, generator.random(10000) < 0.88)
            for figure in ("figure_6", "figure_7")
            for seed in (0, 1)
        ]
        (step,) = per_image.judge_steps(table, KNOWN)
        found.append(step.p_images < 0.05)
    assert sum(found) <= stats.binom.ppf(0.999, len(found), 0.05)


def test_a_step_needs_two_seeds_in_common():
    table = [record("figure_3", seed, images(0, 100)) for seed in (0, 1)]
    table += [record("figure_4", seed, images(0, 100)) for seed in (1, 2)]
    assert per_image.judge_steps(table, KNOWN) == []


def test_a_run_that_was_cut_to_fewer_epochs_says_nothing_about_images():
    longer = record("figure_4", 0, images(0, 100)) | {"num_epochs": 15, "test_accuracies": [0.9] * 15}
    found, seeds = per_image.recognised_images([longer], claims.notebook_defaults("figure_4"))
    assert len(found) == len(seeds) == 0


def test_the_share_of_runs_that_recognise_an_image_counts_figures_3_to_9():
    table = [
        record("figure_2", 0, images(0, 10000)),
        record("figure_3", 0, images(0, 100)),
        record("figure_9", 0, images(50, 100)),
    ]
    share, num_runs = per_image.share_recognised(table, KNOWN)
    assert num_runs == 2
    assert (share[:50] == 0.5).all()
    assert (share[50:100] == 0).all()
    assert (share[150:] == 1).all()
    text = per_image.describe_images(share, num_runs).data
    assert "98.5 % are recognised by each of the 2 runs" in text
    assert "0.5 % by none, and 1.0 % by a quarter" in text


def test_the_drawing_shows_the_hardest_and_the_most_disputed_images_with_their_labels():
    share = np.ones(10000)
    hard, disputed = [7, 300, 9999], [0, 17, 5000]
    share[hard], share[disputed] = 0, 0.5
    panels = per_image.draw_images(share, count=3).axes
    *_, test_images, test_labels = fashion_mnist.load()
    for axes, image in zip(panels, hard + disputed, strict=True):
        assert axes.get_title() == fashion_mnist.CLASSES[test_labels[image]]
        assert (np.asarray(axes.images[0].get_array()) == test_images[image].numpy()).all()
