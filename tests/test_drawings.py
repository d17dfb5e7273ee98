"""The report's drawings and the captions that they are shown with, on made-up runs and on the committed records."""

import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from conftest import ROOT, made_up_record, study_of

from common import fashion_mnist
from common.curves import to_svg
from report import drawings, figures, network
from report.publish import draw_all
from report.sentences import caption
from study import claims, signals
from study.candidates import training_cost
from study.record import TRAINING_VERSIONS
from study.study import Study
from tests.made_up_results import SWITCHED_ON, factorial_study, grid_study, number, study_of_figures, study_with


@pytest.fixture(scope="module")
def committed():
    return Study.read()


@pytest.fixture
def shown(monkeypatch):
    """Collect what is displayed, as pairs of the data and their metadata."""
    displayed = []
    monkeypatch.setattr(figures, "display", lambda data, metadata, raw: displayed.append((data, metadata)))
    return displayed


def about(shown):
    """Return the number, caption and alternative text of the only drawing that was displayed."""
    (_, metadata), _ = shown
    return [metadata["image/svg+xml"][name] for name in ("number", "caption", "alt")]


def with_figures(*positions):
    """Return the project's claims with some figures only, or with others in addition."""
    all_figures = claims.load().figures
    chosen = {f"figure_{n}": all_figures.get(f"figure_{n}", all_figures["figure_9"]) for n in positions}
    return replace(claims.load(), figures={name: replace(figure, name=name) for name, figure in chosen.items()})


def points_of(axes, marker=None):
    """List the finite points of the lines of an axes, or of those with some marker."""
    lines = [line for line in axes.lines if marker in (None, line.get_marker())]
    points = [(x, y) for line in lines for x, y in zip(*line.get_data(), strict=True)]
    return [point for point in points if np.isfinite(point).all()]


def lie_within(axes, points):
    (left, right), (bottom, top) = axes.get_xlim(), sorted(axes.get_ylim())
    return all(left <= x <= right and bottom <= y <= top for x, y in points)


# What is committed


def test_the_committed_drawings_are_made_from_the_committed_records(committed):
    drawn = draw_all(committed)
    for name, drawing in drawn.items():
        assert (ROOT / "figures" / f"{name}.svg").read_bytes() == to_svg(drawing).encode(), name
    others = {"benchmark"}  # drawn by make bench
    assert {path.stem for path in (ROOT / "figures").glob("*.svg")} == drawn.keys() | others


def test_the_committed_figures_have_three_seeds_or_more_of_the_reports_settings(committed):
    for name, figure in claims.load().figures.items():
        records = committed.figures[name].records
        seeds = [record["seed"] for record in records]
        assert len(seeds) >= 3
        assert seeds == sorted(set(seeds))
        stated = {parameter: value for parameter, value in figure.stated.items() if parameter != "num_rounds"}
        for record in records:
            assert stated.items() <= record.items()
            assert record["train_limit"] == 60000
            assert record["num_validation"] == 0
            assert record["training_version"] == TRAINING_VERSIONS[record["device"]]
            assert len(record["test_accuracies"]) == record["num_epochs"]


def test_a_folder_without_runs_gives_sentences_instead_of_drawings(tmp_path, shown):
    empty = Study.read(tmp_path)
    assert draw_all(empty).keys() == {"classes", "claims", "signals"}
    for show in (
        figures.show_steps,
        figures.show_grid,
        figures.show_images,
        figures.show_effects,
        figures.show_candidates,
    ):
        assert "make sweeps" in show(empty).data
    figures.show_figure(empty, "figure_4")
    figures.show_added_figures(empty, after=1)
    assert shown == []


# Curves


def test_the_curves_of_a_figure_lie_within_the_axes_however_high_the_loss():
    setting = claims.load().figures["figure_5"].setting
    runs = [made_up_record(setting, seed, 0.8, train_losses=[7.0 + seed] + [1.0] * 14) for seed in range(2)]
    curves, close_up = drawings.draw_result(study_of(runs).figures["figure_5"]).axes
    assert len(points_of(curves)) >= 3 * 15
    assert lie_within(curves, points_of(curves, marker="."))
    assert lie_within(close_up, points_of(close_up, marker="."))


def test_what_the_reports_figure_leaves_out_is_on_grey():
    """Figure 5 is the last of three rounds of five epochs."""
    study = study_of([made_up_record(claims.load().figures[name].setting) for name in ("figure_4", "figure_5")])
    curves = drawings.draw_result(study.figures["figure_5"]).axes[0]
    (grey,) = curves.patches
    assert (grey.get_x(), grey.get_width()) == (0.5, 10)
    assert not drawings.draw_result(study.figures["figure_4"]).axes[0].patches


@pytest.mark.parametrize("positions", [[4], range(2, 10), range(2, 11)])
def test_the_overview_has_a_panel_for_each_figure(positions):
    stated = with_figures(*positions)
    runs = [made_up_record(figure.setting, accuracy=0.7) for figure in stated.figures.values()]
    panels = drawings.draw_overview(list(study_of(runs, stated).figures.values())).axes
    visible = [axes for axes in panels if axes.get_visible()]
    assert [axes.get_title().split(":")[0] for axes in visible] == [f"{position}" for position in positions]
    for axes in visible:
        assert sum(y == 0.7 for _, y in points_of(axes, marker=".")) >= 10


def test_the_reports_steps_are_drawn_beside_ours_and_beside_chance():
    figures_and_runs = {2: (0.1, [0.1, 0.1]), 3: (0.7, [0.70, 0.72]), 4: (0.75, [0.71, 0.75]), 5: (0.6, [0.8, 0.8])}
    study = study_of_figures(figures_and_runs)
    (axes,) = drawings.draw_steps(study).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Figure 4", "Figure 5"]
    for marker, expected in {"D": [(5, 0), (-15, 1)], "o": [(2, 0), (7, 1)]}.items():
        assert np.allclose(points_of(axes, marker), expected)
    by_chance = [1.96 * 100 * variance**0.5 for variance in (0.0002 + 0.0008, 0.0008)]  # of both settings' runs
    bars = [bar for bar in axes.patches if bar.get_width()]
    assert [-bar.get_x() for bar in bars] == pytest.approx(by_chance, rel=1e-3)
    assert [bar.get_width() for bar in bars] == pytest.approx([2 * half for half in by_chance], rel=1e-3)
    assert lie_within(axes, points_of(axes))
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first step on top


# All numbers


def test_the_drawing_of_numbers_shows_every_run_and_every_reported_number_once(committed):
    def shown(marker):
        low, high = drawings.draw_numbers(committed).axes
        points = [x for x, _ in points_of(low, marker) if x < high.get_xlim()[0]]
        points += [x for x, _ in points_of(high, marker) if x >= high.get_xlim()[0]]
        assert low.get_xlim()[0] <= min(points)
        assert max(points) <= high.get_xlim()[1]
        return sorted(points)

    assert shown("o") == sorted(a for n in committed.numbers for a in n.sample.accuracies)
    assert shown("D") == sorted(n.reported for n in committed.numbers)


@pytest.mark.parametrize(
    ("numbers", "ends"),
    [
        ([number(0.85, 0.84, 0.84)], (0, 0.92)),
        ([number(0.85, 0.93, 0.93)], (0, 0.93)),
        ([number(0.99, 0.84, 0.84)], (0, 0.99)),
        ([number(0.85, -0.1, -0.1), number(0.1, 0.1)], (-0.1, 0.92)),
        ([number(0.85)], (0, 0.92)),
        ([number(0.85, 0.5, 0.9)], (0, 1)),  # whose range of runs is cut to what accuracies can be
    ],
)
def test_the_scale_of_numbers_reaches_as_far_as_there_are_runs_and_reported_numbers(numbers, ends):
    low, high = drawings.draw_numbers(study_with(numbers=numbers)).axes
    assert (low.get_xlim()[0], high.get_xlim()[1]) == ends
    assert low.get_xlim()[1] == high.get_xlim()[0] == claims.load().scales["accuracy"][1]
    drawn = {
        marker: {x for axes in (low, high) for x, y in points_of(axes, marker) if lie_within(axes, [(x, y)])}
        for marker in "oD"
    }
    assert drawn["o"] == {accuracy for n in numbers for accuracy in n.sample.accuracies}
    assert drawn["D"] == {n.reported for n in numbers}


def test_each_number_is_drawn_in_the_row_of_its_label():
    numbers = [replace(number(0.8, 0.81, 0.82), label="one"), replace(number(0.9, 0.88), label="two")]
    low, high = drawings.draw_numbers(study_with(numbers=numbers)).axes
    assert [label.get_text() for label in low.get_yticklabels()] == ["one", "two"]
    assert set(points_of(high, "D")) == {(0.8, 0), (0.9, 1)}
    assert set(points_of(high, "o")) == {(0.81, 0), (0.82, 0), (0.88, 1)}


# The grid


def test_the_grid_holds_the_means_of_its_27_settings(committed):
    epochs, batch_sizes, rates, means = drawings.grid_means(committed)
    assert means.shape == (3, 3, 3)
    place = epochs.index(15), batch_sizes.index(128), rates.index(0.2)
    assert means[place] == committed.figures["figure_5"].sample.mean


def test_the_drawing_of_the_grid_writes_every_mean_and_every_reported_accuracy(committed):
    means = drawings.grid_means(committed)[-1]
    *panels, _ = drawings.draw_grid(committed).axes
    texts = [text.get_text().split("\n") for axes in panels for text in axes.texts]
    assert [text[0] for text in texts] == [f"{mean:.4f}" for mean in means.flatten()]
    reported = [f"({entry.accuracy:.4f})" for entry in claims.load().sweeps["grid"].reported]
    assert sorted(text[1] for text in texts if len(text) > 1) == sorted(reported)


def test_a_setting_of_the_grid_that_was_not_run_stays_empty():
    study = grid_study(seeds_of_512=[], seeds_of_others=[0])
    means = drawings.grid_means(study)[-1]
    assert np.isnan(means).sum() == 9
    *panels, _ = drawings.draw_grid(study).axes
    assert sum(len(axes.texts) for axes in panels) == 18


@pytest.mark.parametrize(
    ("seeds_of_512", "seeds_of_others", "expected"),
    [([0], [0], "over 1 seed,"), ([0, 1], [0, 1], "over 2 seeds,"), ([0], [0, 1, 2], "over 1 to 3 seeds,")],
)
def test_the_caption_of_the_grid_counts_its_seeds(shown, seeds_of_512, seeds_of_others, expected):
    figures.show_grid(grid_study(seeds_of_512, seeds_of_others))
    assert expected in about(shown)[1]


# Effects, images, signals


def test_effects_are_drawn_from_made_up_runs(shown):
    """Batch norm is worth 2 points and everything else nothing."""
    study = factorial_study()
    effects = {effect.factors: effect.sample.mean for effect in study.effects}
    assert effects[("batch norm",)] == pytest.approx(SWITCHED_ON, abs=0.0005)
    assert all(abs(value) < 0.0005 for factors, value in effects.items() if factors != ("batch norm",))
    (axes,) = drawings.draw_effects(study).axes
    assert [label.get_text() for label in axes.get_yticklabels()][:3] == ["Adam", "weight decay", "batch norm"]
    assert points_of(axes, "o") == [(100 * effect.sample.mean, row) for row, effect in enumerate(study.effects)]
    assert lie_within(axes, points_of(axes))
    figures.show_effects(study)
    assert "3 seeds, lines are 95 % intervals." in about(shown)[1]
    assert "batch norm +2.00" in about(shown)[2]


def test_the_steps_of_the_report_are_drawn_beside_the_effects():
    steps, names = claims.load().factorial.steps, list(claims.load().factorial.factors)
    settings = [claims.load().figures[f"figure_{n}"].setting for n in range(5, 9)]
    runs = [made_up_record(setting, 5, 0.8 + 0.01 * place) for place, setting in enumerate(settings)]
    (axes,) = drawings.draw_effects(study_of(factorial_study().records + runs)).axes
    diamonds = dict((row, x) for x, row in points_of(axes, "D"))
    assert sorted(diamonds) == sorted(names.index(name) for name in steps)
    assert diamonds[names.index("weight decay")] == pytest.approx(1)


def candidate_runs(accuracies, num_seeds):
    """Make runs of some of the candidates without a limit, each with a held-out accuracy of its own."""
    held_out = claims.load().beyond["no_limit"].held_out
    return [
        made_up_record(
            held_out[name], seed, validation_accuracies=[accuracy + 0.001 * seed] * held_out[name]["num_epochs"]
        )
        for name, accuracy in accuracies.items()
        for seed in range(num_seeds)
    ]


def test_candidates_are_drawn_at_their_cost_with_the_chosen_one_ringed(shown):
    search = claims.load().beyond["no_limit"]
    other = next(name for name in search.candidates if name != search.chosen)
    study = study_of(candidate_runs({search.chosen: 0.904, other: 0.901}, num_seeds=3))
    (axes,) = drawings.draw_candidates(study.measured_candidates).axes
    cost_of_figure_9 = training_cost(study.claims.figures["figure_9"].setting)
    places = {
        name: (training_cost(search.candidates[name]) / cost_of_figure_9, pytest.approx(mean))
        for name, mean in {search.chosen: 0.905, other: 0.902}.items()
    }
    (ring,) = [line for line in axes.lines if line.get_label() == "chosen"]
    assert list(zip(*ring.get_data(), strict=True)) == [places[search.chosen]]
    marked = [point for marker in "o^sD" for point in points_of(axes, marker)]
    assert all(place in marked for place in places.values())
    seeds = [y for _, y in points_of(axes, ".")]
    assert sorted(seeds) == pytest.approx([0.901, 0.902, 0.903, 0.904, 0.905, 0.906])
    figures.show_candidates(study)
    _, _, alt = about(shown)
    assert alt.startswith("A mark for each of 2 candidates")
    assert alt.endswith("from 0.9020 to 0.9050.")


def test_effects_of_one_seed_have_no_intervals(shown):
    figures.show_effects(study_of([record for record in factorial_study().records if record["seed"] == 0]))
    assert "1 seed, too few for intervals." in about(shown)[1]


def test_the_hardest_and_the_most_disputed_images_are_drawn_with_their_labels(data_folder):
    share = np.ones(10000)
    share[[70, 3]], share[[8, 900]] = 0, 0.5
    *_, images, labels = fashion_mnist.load()
    panels = drawings.draw_images(share, count=2).axes
    for axes, image in zip(panels, (3, 70, 8, 900), strict=True):
        assert np.array_equal(axes.images[0].get_array(), images[image])
        assert axes.get_title() == fashion_mnist.CLASSES[labels[image]]
    assert [axes.get_ylabel() for axes in panels] == ["recognised\nby none", "", "most\ndisputed", ""]


def test_each_class_is_drawn_by_its_first_test_image_under_its_name(data_folder):
    *_, images, labels = fashion_mnist.load()
    panels = drawings.draw_classes().axes
    assert [axes.get_title() for axes in panels] == list(fashion_mnist.CLASSES)
    for position, axes in enumerate(panels):
        first = next(image for image, label in zip(images, labels, strict=True) if label == position)
        assert np.array_equal(axes.images[0].get_array(), first)


def test_every_measured_signal_and_every_finite_loss_is_drawn():
    measured = signals.read()
    outputs, gradients, losses = drawings.draw_signals(measured).axes
    for axes, name in ((outputs, "outputs"), (gradients, "gradients")):
        drawn = sorted(y for _, y in points_of(axes, "o"))
        assert drawn == sorted(y for values in measured.values() for y in values[name])
        assert lie_within(axes, points_of(axes))
    finite = [loss for values in measured.values() for run in values["losses"] for loss in run if loss is not None]
    assert sorted(y for _, y in points_of(losses)) == sorted(finite)
    assert lie_within(losses, points_of(losses))


def test_the_report_reads_the_committed_measurement_of_signals(tmp_path):
    shutil.copy(ROOT / "figures" / signals.FILE, tmp_path)
    assert signals.read(tmp_path) == signals.read()


# Numbers, captions, alternative texts


def test_a_drawing_is_shown_with_number_caption_and_alternative_text_in_every_form(shown):
    study = study_of_figures({4: (0.85, [0.84, 0.86])})
    figures.show_figure(study, "figure_4")
    (data, metadata), (only_caption, about_caption) = shown
    text = caption(study.figures["figure_4"])
    alt = metadata["image/svg+xml"]["alt"]
    assert metadata["image/svg+xml"] == {"caption": text, "alt": alt, "label": "fig-4", "number": 4, "width": "100%"}
    assert "reported test accuracy, 0.85." in alt
    assert "ends at 0.8500;" in alt
    assert data["image/svg+xml"] == to_svg(drawings.draw_result(study.figures["figure_4"]))
    assert data["text/html"].startswith('<figure id="fig-4"><img ')
    assert f'alt="{alt}"' in data["text/html"]
    assert f"<figcaption>Figure 4: {text}</figcaption>" in data["text/html"]
    assert only_caption == {"text/html": "", "text/markdown": f"[*Figure 4:*]{{#fig-4}} {text}"}
    assert about_caption == {"caption_of": "fig-4"}


def test_drawings_that_the_report_does_not_have_get_letters(shown, committed, data_folder):
    study = study_of(factorial_study().records + grid_study([0], [0]).records)
    study.__dict__["share_recognised"] = np.linspace(0, 1, 10000), 8
    shows = {
        "A": partial(figures.show_steps, committed),
        "B": figures.show_classes,
        "C": network.show_model,
        "D": partial(figures.show_numbers, study),
        "E": partial(figures.show_signals, study),
        "F": partial(figures.show_grid, study),
        "G": partial(figures.show_images, study),
        "H": partial(figures.show_effects, study),
        "I": partial(figures.show_candidates, committed),
    }
    for letter, show in shows.items():
        show()
        letter_shown, text, alt = about(shown)
        assert letter_shown == letter
        assert text
        assert len(alt) > 20
        shown.clear()


def test_figures_that_somebody_added_are_shown_after_the_reports(shown):
    stated = with_figures(8, 9, 10, 11)
    runs = [made_up_record(stated.figures["figure_9"].setting)]
    figures.show_added_figures(study_of(runs, stated), after=9)
    assert [metadata["image/svg+xml"]["number"] for _, metadata in shown[::2]] == [10, 11]


def test_the_alternative_text_of_numbers_counts_the_verdicts(shown):
    figures.show_numbers(study_with(numbers=[number(0.8, 0.8, 0.81, 0.79), number(0.9, 0.8, 0.81, 0.79)]))
    assert about(shown)[2].endswith("Of 2 numbers 1 holds and 1 is contradicted.")
