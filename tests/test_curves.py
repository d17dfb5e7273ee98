"""The curves of a training: what is drawn of them, in which forms, and what is said about them in words."""

import base64
import dataclasses
import math
import re
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import to_hex

from common import curves
from common.curves import LiveCurve, compare, describe, describe_curves, plot_curves, show, to_pdf, to_svg
from study import claims

# Drawings

HISTORY = [
    {"train_loss": 1.5, "train_accuracy": 0.5, "test_accuracy": 0.6},
    {"train_loss": 0.75, "train_accuracy": 0.7, "test_accuracy": 0.65},
]
HELD_OUT = [{**epoch, "validation_accuracy": epoch["test_accuracy"] + 0.02} for epoch in HISTORY]
BETTER = [{name: value + 0.1 for name, value in epoch.items()} for epoch in HISTORY]


def axes_of(*args, **kwargs):
    return plot_curves(*args, **kwargs).axes[0]


def legend_of(*args, **kwargs):
    (legend,) = plot_curves(*args, **kwargs).legends
    return [text.get_text() for text in legend.get_texts()]


def test_the_same_histories_give_the_same_bytes_whatever_was_drawn_before():
    for draw in (to_svg, to_pdf):
        first = draw(plot_curves([HISTORY, BETTER], 0.8, 2))
        assert draw(plot_curves([BETTER])) != first
        assert draw(plot_curves([HISTORY, BETTER], 0.8, 2)) == first


def test_a_figure_becomes_an_svg_and_a_pdf():
    assert ElementTree.fromstring(to_svg(plot_curves([HISTORY]))).tag == "{http://www.w3.org/2000/svg}svg"
    pdf = to_pdf(plot_curves([HISTORY]))
    assert pdf.startswith(b"%PDF")
    assert b"CreationDate" not in pdf  # with which the bytes would change every second


def test_axes_and_curves_and_the_reported_line_are_labelled():
    axes = axes_of([HISTORY], 0.8123)
    assert axes.get_xlabel() == "epoch"
    assert "accuracy" in axes.get_ylabel()
    assert "loss" in axes.get_ylabel()
    curves = ["training loss", "training accuracy", "test accuracy, 0.6500 at the end"]
    assert legend_of([HISTORY], 0.8123) == [*curves, "reported test accuracy, 0.8123"]
    assert legend_of([HISTORY]) == curves


def test_curves_show_the_measures_against_the_epoch():
    axes = axes_of([HISTORY], 0.8)
    for line, name in zip(axes.lines[:3], HISTORY[0], strict=True):
        assert line.get_xdata().tolist() == [1, 2]
        assert line.get_ydata().tolist() == [epoch[name] for epoch in HISTORY]
    assert set(axes.lines[3].get_ydata()) == {0.8}
    assert len({to_hex(line.get_color()) for line in axes.lines}) == 4
    assert len({line.get_linestyle() for line in axes.lines[:3]}) == 3


def test_held_out_images_get_a_curve_of_their_own():
    assert legend_of([HELD_OUT])[3] == "validation accuracy"
    lines = axes_of([HELD_OUT]).lines
    assert lines[3].get_ydata().tolist() == [epoch["validation_accuracy"] for epoch in HELD_OUT]
    assert len({line.get_linestyle() for line in lines}) == len({to_hex(line.get_color()) for line in lines}) == 4


def test_several_histories_give_their_mean_and_a_band_over_their_range():
    assert legend_of([HISTORY, BETTER])[2] == "test accuracy, 0.7000 at the end"
    axes = axes_of([HISTORY, BETTER])
    for line, band, name in zip(axes.lines, axes.collections, HISTORY[0], strict=True):
        assert line.get_ydata() == pytest.approx([epoch[name] + 0.05 for epoch in HISTORY])
        corners = {(x, round(y, 6)) for x, y in band.get_paths()[0].vertices.tolist()}
        for epoch, histories in enumerate(zip(HISTORY, BETTER, strict=True), start=1):
            assert corners >= {(epoch, round(measures[name], 6)) for measures in histories}


def test_the_test_accuracy_is_drawn_once_more_so_close_up_that_its_band_can_be_seen():
    start = [{"train_loss": 2.0, "train_accuracy": 0.1, "test_accuracy": 0.2}] * 2
    curves, close_up = plot_curves([start + HISTORY, start + BETTER], 0.8).axes
    assert [line.get_label() for line in close_up.lines] == [line.get_label() for line in curves.lines[2:]]
    for here, there in zip(close_up.lines, curves.lines[2:], strict=True):
        assert here.get_xydata().tolist() == there.get_xydata().tolist()
        assert here.get_color() == there.get_color()
    assert curves.get_ylim()[1] > 2
    assert close_up.get_ylim() == pytest.approx((0.58, 0.82))  # of the second half, and the reported one


def test_a_close_up_of_nothing_and_of_what_never_changes_have_limits():
    nothing = dict.fromkeys(HISTORY[0])
    assert plot_curves([[nothing]]).axes[1].get_ylim() == pytest.approx((-0.1, 1.1))
    guessing = HISTORY[0] | {"test_accuracy": 0.1}
    assert plot_curves([[guessing] * 3], 0.1).axes[1].get_ylim() == pytest.approx((0.09, 0.11))


def test_a_loss_that_is_no_number_is_said_in_the_legend():
    for value in (None, math.nan, math.inf):
        history = [{**epoch, "train_loss": value} for epoch in HISTORY]
        assert legend_of([history, history])[:2] == ["training loss (not a number)", "training accuracy"]
        assert to_svg(plot_curves([history]))


def test_a_curve_ends_where_the_loss_stops_being_a_number():
    for value in (None, math.nan):
        figure = plot_curves([[HISTORY[0], {**HISTORY[1], "train_loss": value}]])
        assert to_svg(figure)
        assert figure.axes[0].lines[0].get_ydata()[0] == 1.5
        assert figure.axes[0].get_ylim()[1] >= 1.5


@pytest.mark.parametrize(("first_reported_epoch", "parts"), [(1, 0), (2, 1)])
def test_epochs_before_the_reports_curve_have_a_grey_background(first_reported_epoch, parts):
    panels = plot_curves([HISTORY], 0.8, first_reported_epoch).axes
    assert [text.get_text() for axes in panels for text in axes.texts] == ["not in the report's figure"] * parts
    for axes in panels:
        assert len(axes.patches) == parts
        for patch in axes.patches:
            assert patch.get_extents().transformed(axes.transData.inverted()).x1 == pytest.approx(1.5)


def test_a_shown_figure_is_a_drawing_with_its_alternative_text(monkeypatch):
    shown = []
    monkeypatch.setattr("common.curves.display", lambda *args, **kwargs: shown.append((args, kwargs)))
    show(plot_curves([HISTORY]), alt='Rising "curves" of <1.')
    (((drawing,), options),) = shown
    assert drawing["image/svg+xml"] == to_svg(plot_curves([HISTORY]))
    assert ElementTree.fromstring(drawing["text/html"].replace(">", "/>")).get("alt") == 'Rising "curves" of <1.'
    assert base64.b64decode(drawing["application/pdf"]) == to_pdf(plot_curves([HISTORY]))
    assert options == {"metadata": {"image/svg+xml": {"alt": 'Rising "curves" of <1.'}}, "raw": True}


# A training under way


def test_a_training_under_way_has_room_for_all_its_epochs_and_the_legend_says_how_far_it_is():
    figure = plot_curves([HISTORY], 0.8, num_epochs=10)
    for axes in figure.axes:
        assert axes.get_xlim() == (0.5, 10.5)
    assert legend_of([HISTORY], num_epochs=10)[2] == "test accuracy, 0.6500 after epoch 2"
    assert legend_of([HISTORY], num_epochs=2)[2] == "test accuracy, 0.6500 at the end"


@pytest.mark.parametrize("num_epochs", [1, 2, 3, 10, 15, 40])
def test_ticks_are_whole_epochs(num_epochs):
    for axes in plot_curves([HISTORY[:1] * num_epochs]).axes:
        ticks = [tick for tick in axes.get_xticks() if 0.5 <= tick <= num_epochs + 0.5]
        assert ticks
        assert all(tick == int(tick) for tick in ticks)


@pytest.fixture
def live(monkeypatch):
    """Return a function that makes a live curve, and what it has shown: lines, and figures before they were drawn."""
    now, shown = [0.0], {"line": [], "curve": []}

    class Handle:
        def __init__(self, content):
            self.name = "line" if "image/svg+xml" not in content else "curve"
            self.update(content, raw=True)

        def update(self, content, raw):
            shown[self.name].append(content.get("image/svg+xml") or content["text/plain"])

    def make(*args):
        curve = LiveCurve(*args)
        curve.wait = lambda seconds: now.__setitem__(0, now[0] + seconds)
        return curve, shown

    monkeypatch.setattr(curves, "display", lambda content, raw, display_id: Handle(content))
    monkeypatch.setattr(curves, "drawing", lambda figure, alt: {"image/svg+xml": figure})
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return make


def test_a_live_curve_says_the_epoch_the_batch_and_the_time_left(live):
    curve, shown = live(2, 10)
    for number in range(1, 11):
        curve.wait(4)
        curve.on_batch(number)
    curve.on_epoch(HISTORY[:1])
    curve.on_batch(1)  # too soon after the last one to be told
    curve.wait(40)
    curve.on_epoch(HISTORY)
    assert shown["line"] == [
        "epoch 1 of 2",
        "epoch 1 of 2, batch 1 of 10, 1:16 left",
        *(f"epoch 1 of 2, batch {n} of 10, {(20 - n) * 4 // 60}:{(20 - n) * 4 % 60:02d} left" for n in range(2, 11)),
        "epoch 2 of 2, 0:40 left",
        f"2 epochs in 1:20: {describe(HISTORY[1])}",
    ]


def test_a_live_curve_of_batches_that_nobody_has_counted_says_what_it_knows(live):
    curve, shown = live(2)
    curve.wait(10)
    curve.on_batch(7)
    curve.on_epoch(HISTORY[:1])
    assert shown["line"][1:] == ["epoch 1 of 2, batch 7", "epoch 2 of 2, 0:10 left"]


def test_a_live_curve_grows_as_long_as_drawing_takes_a_tenth_of_the_time_and_ends_complete(live, monkeypatch):
    curve, shown = live(30)
    monkeypatch.setattr(curves, "drawing", lambda figure, alt: curve.wait(0.5) or {"image/svg+xml": figure})
    for epoch in range(1, 31):
        curve.wait(1)  # second, that the epoch takes
        curve.on_epoch(HISTORY[:1] * epoch)
    assert [len(figure.axes[0].lines[0].get_xdata()) for figure in shown["curve"][1:]] == [1, 6, 11, 16, 21, 26, 30]


def test_a_live_curve_is_there_before_the_first_epoch_and_its_axes_stay(live):
    curve, shown = live(2)
    for end in (1, 2):
        curve.on_epoch(HISTORY[:end])
    names = ["training loss", "training accuracy", "test accuracy"]
    for figure, label in zip(shown["curve"], ["", ", 0.6000 after epoch 1", ", 0.6500 at the end"], strict=True):
        (axes,) = figure.axes
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == [*names[:2], names[2] + label]
        assert axes.get_xlim() == (0.5, 2.5)
        assert axes.get_xlabel() == "epoch"
        assert to_svg(figure)
    assert [len(line.get_xdata()) for line in shown["curve"][1].axes[0].lines] == [1, 1, 1]


def test_a_live_curve_is_drawn_in_the_projects_style_whatever_matplotlib_is_set_to(live):
    with mpl.rc_context({"axes.facecolor": "black", "font.size": 30}):
        _, shown = live(2)
    (figure,) = shown["curve"]
    assert to_hex(figure.axes[0].get_facecolor()) == "#ffffff"
    assert figure.axes[0].xaxis.label.get_size() == 9


def test_own_runs_are_marked_in_both_panels_and_within_the_close_up():
    own = [{**HISTORY[0], "test_accuracy": 0.2}, {**HISTORY[0], "test_accuracy": 0.3}]
    figure = plot_curves([HISTORY], own=[own])
    for axes in figure.axes:
        (marks,) = [line for line in axes.lines if line.get_marker() == "x"]
        assert (list(marks.get_xdata()), list(marks.get_ydata())) == ([1, 2], [0.2, 0.3])
    assert figure.axes[1].get_ylim()[0] < 0.3
    assert "test accuracy, your own run" in [text.get_text() for text in figure.legends[0].get_texts()]


# Words


def test_curves_are_described_by_their_last_values():
    text = describe_curves([*HISTORY, {"train_loss": 0.12345, "train_accuracy": 0.9, "test_accuracy": 0.87654}], 0.8)
    for part in ["over 3 epochs", "at 0.123, 0.9000 and 0.8765.", "reported test accuracy, 0.8."]:
        assert part in text


def test_an_epoch_is_described_by_its_measures():
    text = "training loss 1.5000, training accuracy 0.5000, test accuracy 0.6000, validation accuracy 0.6200"
    assert describe(HELD_OUT[0]) == text


@pytest.mark.parametrize(
    ("accuracy", "reported", "said"),
    [
        (0.8412, 0.83, "1.12 points more"),
        (0.8, 0.8812, "8.12 points less"),
        (0.8401, 0.84, "**0.8401**, 0.01 points more"),
        (0.84, 0.84, "so does this run"),
        (0.84, 0.84004, "so does this run"),
    ],
)
def test_accuracies_are_compared_in_points_with_the_right_sign(accuracy, reported, said):
    text = compare(accuracy, reported).data
    assert said in text
    assert f"**{reported:g}**" in text
    assert ("more" in text) == (said.endswith("more"))
    assert ("less" in text) == (said.endswith("less"))


@given(st.integers(0, 10000), st.floats(0, 1), st.floats(-0.0003, 0.0003))
@settings(deadline=None)
def test_two_accuracies_are_the_same_or_differ_by_more_than_no_points(correct, far, near):
    accuracy = correct / 10000
    for reported in (far, accuracy + near):
        text = compare(accuracy, reported).data
        assert not re.search(r"\b0\.00 points", text)
        assert ("so does this run" in text) == (f"{100 * abs(accuracy - reported):.2f}" == "0.00")


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("figure_4", {}, ""),
        ("figure_4", {"seed": 7, "device": "cuda", "runs_folder": "x", "learning_rate": 0.10}, ""),
        ("figure_5", {"num_rounds": 1}, ""),
        ("figure_4", {"train_limit": 20000}, " This run differs from Figure 4 in train_limit 20000."),
        (
            "figure_7",
            {
                "weight_decay": 1e-06,
                "batch_norm": True,
                "augmentation": ["RandomErasing"],
                "num_hidden": [9, 8, 7, 6, 5],
            },
            " This run differs from Figure 7 in weight_decay 0.000001, batch_norm True, "
            "augmentation ['RandomErasing'], num_hidden [9, 8, 7, 6, 5].",
        ),
        ("figure_4", {"schedule": "one_cycle"}, " This run differs from Figure 4 in schedule one_cycle."),
        ("figure_4", {"schedule": "constant"}, ""),
    ],
)
def test_a_run_of_another_setting_says_in_what_it_differs_from_the_figure(name, changes, said):
    figure = claims.load().figures[name]
    text = compare(0.8, figure.reported, figure, figure.setting | changes).data
    assert f"the report gives **{figure.reported:g}** for Figure {figure.number}" in text
    assert (text.split("points less.") + text.split("so does this run."))[1] == said


def test_values_saved_in_the_notebook_are_not_taken_for_the_figures():
    figure = claims.load().figures["figure_4"]
    saved = figure.setting | {"train_limit": 5000, "learning_rate": 0.5}
    text = compare(0.8, 0.8508, dataclasses.replace(figure, setting=saved), saved).data
    assert text.endswith("This run differs from Figure 4 in learning_rate 0.5, train_limit 5000.")
