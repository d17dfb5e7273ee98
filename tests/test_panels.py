"""The panels, in a process, in a JupyterLab that a browser shows, and where there is nobody to press a button."""

import json
import signal
import sys
import threading
import time
from types import ModuleType

import ipywidgets as widgets
import playwright.sync_api
import pytest
import torch
from conftest import PATIENCE, run_by_papermill

import my_utils as mu
from common import fashion_mnist
from common.parameters import IMPLIED, PARAMETERS
from report.panels import Training, browse, inside, mistakes, progress, runs
from report.panels.parts import to_html
from report.panels.progress import Progress
from report.panels.training import WITHOUT_CONTROL, Trained
from study import claims, notebooks
from study.study import Study

LOAD = fashion_mnist.load  # of all images


@pytest.fixture
def training(few_images, monkeypatch):
    """Make a panel as a person has it before them, with a small training; there are 200 test images."""
    monkeypatch.setattr(mu, "somebody_is_looking", lambda: True)
    monkeypatch.setattr(Training, "latest", None)
    return Training("figure_4", num_epochs=2, train_limit=300)


@pytest.fixture
def shown(monkeypatch):
    """Collect what the panels display."""
    displayed = []
    for module in (browse, inside, mistakes):
        monkeypatch.setattr(module, "display", displayed.append)
    return displayed


def finish(training):
    training.thread.join(timeout=60)
    assert not training.thread.is_alive()


def test_a_panel_trains_as_the_figures_notebook_does(training, one_thread):
    curves = []
    training.curve.observe(lambda change: curves.append(change["new"]), "value")
    training.run_button.click()
    finish(training)
    assert len(set(curves)) == 3  # empty, and after each of two epochs
    assert training.status.value.startswith(
        "Done, epoch 2 of 2. Test accuracy: the report gives <b>0.8508</b> for Figure 4"
    )
    train_iter, test_iter = mu.load_data_fashion_mnist(256, train_limit=300, device="cpu")
    net = mu.net_of(notebooks.defaults("figure_4"))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, fused=True)
    history = list(mu.train_epochs(net, train_iter, test_iter, torch.nn.CrossEntropyLoss(), 2, optimizer))
    assert f"this run <b>{history[-1]['test_accuracy']:.4f}</b>" in training.status.value
    assert (training.trained.predicted == training.trained.labels).float().mean() == pytest.approx(
        history[-1]["test_accuracy"]
    )


def test_a_training_that_gets_lost_takes_the_same_shortcut_as_train(training, monkeypatch, one_thread):
    """In the first epoch all weights become NaN, the second measures what that gives, and no other is needed."""
    calls, curves = [], []
    monkeypatch.setattr(mu, "train_epoch", lambda *args, run=mu.train_epoch: calls.append(args) or run(*args))
    training.set_parameters({"learning_rate": 1e30, "num_epochs": 5})
    training.curve.observe(lambda change: curves.append(change["new"]), "value")
    training.run_button.click()
    finish(training)
    assert len(calls) == 2
    assert training.status.value.startswith("Done, epoch 5 of 5. Test accuracy: the report gives <b>0.8508</b>")
    assert "this run <b>0.1000</b>" in training.status.value
    assert not training.trained.predicted.any()  # every image is given the first class
    assert len(set(curves)) == 6  # empty, and after each epoch


def test_stop_ends_a_training_at_once_and_run_starts_another(training):
    training.set_parameters({"num_epochs": 1000, "train_limit": 60000})
    training.run_button.click()
    while not training.progress.value:
        time.sleep(0.01)
    assert training.run_button.disabled
    training.stop_button.click()
    finish(training)
    assert training.status.value.startswith("Stopped in epoch ")
    assert (training.run_button.disabled, training.stop_button.disabled) == (False, True)
    training.set_parameters({"num_epochs": 1, "train_limit": 300})
    training.run_button.click()
    finish(training)
    assert training.status.value.startswith("Done, epoch 1 of 1")


def reach(monkeypatch, clicks):
    """Let a training's thread do something after its first batch, as if a person had done it just then."""
    count = iter(range(10**9))

    def add(progress, cost, add=Progress.add):
        add(progress, cost)
        if next(count) == 0:
            clicks()

    monkeypatch.setattr(Progress, "add", add)


def accuracies_of(training):
    return [epoch["test_accuracy"] for epoch in training.runs[-1].history]


@pytest.fixture
def expected(one_thread):
    """The test accuracies of the small training, and of the same with dropout and another seed."""

    def run(**changes):
        parameters = notebooks.defaults("figure_4") | {"train_limit": 300} | changes
        train_iter, test_iter = mu.load_data_fashion_mnist(256, seed=parameters["seed"], train_limit=300, device="cpu")
        net = mu.net_of(parameters)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, fused=True)
        loss = torch.nn.CrossEntropyLoss(label_smoothing=changes.get("label_smoothing", 0.0))
        return [epoch["test_accuracy"] for epoch in mu.train_epochs(net, train_iter, test_iter, loss, 2, optimizer)]

    return run


def test_a_double_click_starts_one_training_with_the_right_numbers(training, expected):
    training.set_parameters({"dropout": 0.3, "label_smoothing": 0.2})
    training.run_button.click()
    thread = training.thread
    training.run_button.click()
    training.seeds_button.click()
    assert training.thread is thread  # a second one would change the random numbers of the dropout
    finish(training)
    assert len(training.runs) == 1
    assert accuracies_of(training) == expected(dropout=0.3, label_smoothing=0.2)
    training.run_button.click()  # and it is heard again
    finish(training)
    assert training.thread is not thread


def test_run_pressed_while_a_training_stops_does_not_undo_the_stop(training, monkeypatch):
    def clicks():
        training.stop_button.click()
        training.stop_button.click()
        training.run_button.click()

    reach(monkeypatch, clicks)
    training.run_button.click()
    finish(training)
    assert training.status.value == "Stopped in epoch 1."
    assert (training.run_button.disabled, training.stop_button.disabled) == (False, True)


def test_in_colab_a_click_lasts_as_long_as_its_training_and_an_interrupt_stops_it(training, monkeypatch, interrupts):
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    training.run_button.click()
    assert training.status.value.startswith("Done, epoch 2 of 2")
    training.set_parameters({"num_epochs": 1000})
    reach(monkeypatch, lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))
    training.run_button.click()
    assert training.status.value.startswith("Stopped in epoch ")
    assert (training.run_button.disabled, training.stop_button.disabled) == (False, True)


def test_stop_pressed_before_anything_runs_stops_nothing(training):
    training.stop_button.click()
    training.run_button.click()
    finish(training)
    assert training.status.value.startswith("Done, epoch 2 of 2")


def test_a_training_stopped_before_its_first_batch_leaves_no_network(training, monkeypatch):
    def load(*args, load=mu.load_data_fashion_mnist, **options):
        training.stop_button.click()
        return load(*args, **options)

    monkeypatch.setattr(mu, "load_data_fashion_mnist", load)
    training.run_button.click()
    finish(training)
    assert training.status.value == "Stopped in epoch 1."
    assert training.trained is None


def test_what_is_chosen_in_mid_training_changes_only_the_next_one(training, monkeypatch, expected):
    def clicks():
        training.figure.value = "figure_9"
        training.controls["num_epochs"].value = 1
        assert "figure_4" in training.runs[-1].figure.name

    reach(monkeypatch, clicks)
    training.run_button.click()
    finish(training)
    assert accuracies_of(training) == expected()
    assert training.status.value.startswith(
        "Done, epoch 2 of 2. Test accuracy: the report gives <b>0.8508</b> for Figure 4"
    )
    assert "This run differs from Figure 4 in num_epochs 2, train_limit 300." in training.status.value
    assert training.parameters()["optimizer_name"] == "Adam"


def test_other_panels_shown_in_mid_training_leave_its_random_numbers_alone(training, monkeypatch, expected, shown):
    def clicks():
        inside.show_network(training)
        mistakes.show_mistakes(training)

    reach(monkeypatch, clicks)
    training.set_parameters({"dropout": 0.3})
    training.run_button.click()
    finish(training)
    assert accuracies_of(training) == expected(dropout=0.3)
    assert "The network trained above" in shown[0].children[2].value


def test_a_cell_below_draws_the_same_random_numbers_whatever_was_clicked(training):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    again = Training("figure_4", num_epochs=1, train_limit=300, dropout=0.3)
    again.run_button.click()
    finish(again)
    assert again.runs[-1].is_done
    assert torch.equal(torch.rand(4), expected)


def test_panels_below_follow_the_training_of_a_cell_that_is_run_again(training, shown):
    inside.show_network(training)
    mistakes.show_mistakes(training)
    again = Training("figure_4", num_epochs=1, train_limit=300)
    again.run_button.click()
    finish(again)
    assert "The network trained above" in shown[0].children[2].value
    assert "test images are taken for another class" in shown[1].children[0].value


def test_two_panels_never_train_at_once(training, monkeypatch, expected):
    other = Training("figure_4", num_epochs=2, train_limit=300, dropout=0.3, seed=1)
    reach(monkeypatch, other.run_button.click)
    training.run_button.click()
    finish(training)
    finish(other)
    assert training.status.value.startswith("Stopped in epoch 1")
    assert accuracies_of(other) == expected(dropout=0.3, seed=1)


def test_an_error_in_mid_training_leaves_a_panel_that_can_run_again(training, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(mu, "evaluate_accuracy", lambda *_: 1 / 0)
        training.run_button.click()
        finish(training)
    assert training.status.value == "<b>ZeroDivisionError: division by zero</b>"
    assert (training.run_button.disabled, training.stop_button.disabled) == (False, True)
    training.run_button.click()
    finish(training)
    assert training.status.value.startswith("Done")


def test_images_chosen_while_a_training_ends_are_those_of_one_network(training, shown, monkeypatch):
    """The new network is right about all images: the old one's mistakes must not be shown with its classes."""
    mistakes.show_mistakes(training)
    training.run_button.click()
    finish(training)
    sentence, filters, pictures = shown[0].children
    receive, labels = training.when_trained["mistakes"], training.trained.labels
    thread = threading.Thread(target=receive, args=(Trained(None, labels.clone(), labels),))

    def draw_gallery(images, trained, numbers, draw=mistakes.draw_gallery):
        if thread.ident is None:
            thread.start()
        assert (trained.predicted[numbers] != trained.labels[numbers]).all()
        return draw(images, trained, numbers)

    monkeypatch.setattr(mistakes, "draw_gallery", draw_gallery)
    filters.children[2].value = 2
    thread.join(timeout=60)
    assert sentence.value == "0 of 200 test images are taken for another class."
    assert 'alt="Test images: none."' in pictures.children[1].value


def test_three_seeds_are_run_and_set_beside_the_reported_number(training, expected):
    training.set_parameters({"seed": 4})
    fills = []
    training.progress.observe(lambda change: fills.append(change["new"]), "value")
    training.seeds_button.click()
    finish(training)
    last = [expected(seed=seed)[-1] for seed in (4, 5, 6)]
    assert [run.accuracy for run in training.runs] == last
    mean, low, high = sum(last) / 3, min(last), max(last)
    assert training.status.value.startswith("Seed 6, 3 of 3. Done, epoch 2 of 2.")
    assert (
        f"<b>3 seeds of this setting</b> (4, 5, 6): mean {mean:.4f}, from {low:.4f} to {high:.4f}; "
        "the 0.8508 that the report gives for Figure 4 lies above this range."
    ) in training.status.value
    assert f"Thin lines are earlier runs. seed 4: test accuracy {last[0]:.4f}; seed 5:" in training.curve.value
    assert fills[:-1] == sorted(fills[:-1])  # it fills once
    assert fills[-1] == 0


def test_stop_ends_the_training_of_several_seeds_altogether(training, monkeypatch):
    reach(monkeypatch, training.stop_button.click)
    training.seeds_button.click()
    finish(training)
    assert training.status.value == "Seed 0, 1 of 3. Stopped in epoch 1."
    assert len(training.runs) == 1


def run_of(figure, *accuracies, **changes):
    figure = claims.load().figures[figure]
    measures = [dict.fromkeys(("train_loss", "train_accuracy", "test_accuracy"), value) for value in accuracies]
    return runs.Run(figure, runs.setting_of(figure) | {"num_epochs": 2} | changes, measures)


def test_earlier_runs_are_named_by_what_differs(one_thread):
    seeds = [run_of("figure_4", 0.5, 0.6, seed=seed) for seed in (0, 1)]
    assert runs.labels_of(seeds) == ["seed 0", "seed 1"]
    rates = [run_of("figure_4", 0.5, 0.6, learning_rate=rate, seed=0) for rate in (0.1, 0.2)]
    assert runs.labels_of(rates) == ["learning_rate 0.1", "learning_rate 0.2"]
    others = [run_of("figure_4", 0.5, 0.6), run_of("figure_9", 0.5, seed=1)]
    assert runs.labels_of(others) == ["Figure 4", "Figure 9, seed 1"]


def test_earlier_runs_are_thin_lines_behind_the_new_one():
    earlier = [run_of("figure_4", 0.5, 0.6, seed=0), run_of("figure_4", 0.4, seed=1)]
    figure = runs.draw_runs([*earlier, run_of("figure_4", 0.7, seed=2)])
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts[-2:] == ["seed 0: 0.6000", "seed 1: 0.4000, stopped after epoch 1"]
    assert figure.legends[0].get_title().get_text() == "this run: seed 2"
    assert not figure.legends[0].get_frame_on()
    for axes in figure.axes:
        thin = [line for line in axes.lines if line.get_linewidth() == 1]
        assert [list(line.get_ydata()) for line in thin] == [[0.5, 0.6], [0.4]]
    low, high = figure.axes[1].get_ylim()
    assert low < 0.4 < 0.7 < high
    assert all(axes.get_xlim() == (0.5, 2.5) for axes in figure.axes)


def test_the_axes_before_the_first_epoch_look_like_those_after_it():
    before, after = (runs.draw_runs([run_of("figure_4", *accuracies)]) for accuracies in ((), (0.5,)))
    for figure in (before, after):
        assert not figure.legends[0].get_frame_on()
        assert {text.get_fontsize() for text in figure.legends[0].get_texts()} == {9}
    assert runs.describe_runs([run_of("figure_4")]).startswith("Empty axes for 2 epochs.")


def test_a_run_made_again_takes_the_place_of_the_first_and_only_whole_runs_are_averaged():
    made = []
    for run in (
        run_of("figure_4", seed=9),
        run_of("figure_4", 0.5, 0.6, seed=0),
        run_of("figure_4", 0.1, seed=1),
        run_of("figure_4", 0.5, 0.6, seed=0),
        run_of("figure_4", 0.5, 0.9, seed=2),
    ):
        made = runs.add_run(made, run)
    assert [run.parameters["seed"] for run in made] == [1, 0, 2]
    assert runs.describe_seeds(made).startswith(
        "**2 seeds of this setting** (0, 2): mean 0.7500, from 0.6000 to 0.9000"
    )
    assert "lies within this range" in runs.describe_seeds(made)
    assert runs.describe_seeds(made[:1]) == ""


def test_progress_tells_the_time_left(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    bar, left = widgets.FloatProgress(max=1), widgets.HTML()
    shown = Progress(bar, left, num_trainings=2)
    shown.start(10)
    now[0] = 10.0
    shown.add(5)
    assert (bar.value, left.value) == (0.25, "0:30 left")
    shown.start(10)
    now[0] = 30.0
    shown.add(5)
    assert (bar.value, left.value) == (0.75, "0:10 left")


def test_a_cell_that_is_run_again_stops_the_training_of_its_first_run(training):
    training.set_parameters({"num_epochs": 1000})
    training.run_button.click()
    Training("figure_4")
    finish(training)
    assert training.status.value.startswith("Stopped")


def test_the_controls_are_the_parameters_each_with_its_choices_and_a_tooltip(training):
    assert list(training.controls) == [name for name in PARAMETERS if name not in WITHOUT_CONTROL]
    for name, control in training.controls.items():
        parameter = PARAMETERS[name]
        assert control.description == name
        assert control.tooltip == parameter.help
        if parameter.type is bool:
            assert control.value in (False, True)
        elif parameter.choices:
            options = [value for _, value in control.options] if name == "patching" else list(control.options)
            assert options == list(parameter.choices)
        else:
            control.value = {int: 7, float: 0.7, list: "7, 7, 7, 7, 7"}[parameter.type]
            value = training.parameters()[name]
            assert parameter.is_valid(value)
            assert type(value) is parameter.type


def test_choosing_a_figure_takes_over_its_setting(training):
    training.set_parameters({"seed": 3})
    for figure in (f"figure_{number}" for number in range(2, 10)):
        training.figure.value = "figure_9" if figure == "figure_2" else "figure_2"
        training.figure.value = figure
        setting = IMPLIED | notebooks.defaults(figure) | {"train_limit": 300, "seed": 3}  # they stay
        parameters = training.parameters()
        assert parameters == {name: setting[name] for name in parameters}
        assert parameters.keys() == training.controls.keys()


def test_a_setting_that_makes_no_sense_is_answered_in_one_line(training):
    for name, value, message in [
        ("num_hidden", "256, many, 64, 32, 16", "num_hidden is [256, ' many', 64, 32, 16]: expected a list of five"),
        ("learning_rate", -1, "learning_rate is -1.0: expected a finite number above 0"),
        ("train_limit", 0, "train_limit is 0: expected a whole number from 1 to 60000"),
    ]:
        valid, training.controls[name].value = training.controls[name].value, value
        training.run_button.click()
        assert training.thread is None
        assert message in training.status.value.replace("&#x27;", "'")
        training.controls[name].value = valid


def test_what_goes_wrong_in_the_training_is_told(training, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "load", LOAD)
    monkeypatch.setenv("FASHION_MNIST", "/nowhere")
    training.run_button.click()
    finish(training)
    assert training.status.value.startswith("<b>DataError: /nowhere has no")
    assert not training.run_button.disabled


def test_mistakes_are_found_by_class(training):
    trained = Trained(None, predicted=torch.tensor([0, 1, 2, 1, 0]), labels=torch.tensor([0, 1, 1, 2, 2]))
    assert mistakes.find_mistakes(trained).tolist() == [2, 3, 4]
    assert mistakes.find_mistakes(trained, truth=2).tolist() == [3, 4]
    assert mistakes.find_mistakes(trained, guess=1).tolist() == [3]
    assert mistakes.find_mistakes(trained, truth=2, guess=0).tolist() == [4]


def test_the_network_that_was_trained_is_looked_into_as_soon_as_there_is_one(training, shown):
    inside.show_network(training)
    numbers, patchings, sentence, picture = shown[0].children
    assert "The network is untrained" in sentence.value
    untrained = picture.value
    training.run_button.click()
    finish(training)
    guess = fashion_mnist.CLASSES[training.trained.predicted[0]]
    assert f"The network trained above takes it for <b>{guess}</b>." in sentence.value
    assert picture.value != untrained
    patchings.value = 1
    assert "in 16 patches of 7×7 pixels. The network is untrained" in sentence.value
    patchings.value, numbers.value = 0, 1
    assert sentence.value.startswith(
        "Test image 1, <b>pullover</b>, in 4 patches of 14×14 pixels. The network trained"
    )


def test_mistakes_are_counted_and_turned_page_by_page(training, shown):
    mistakes.show_mistakes(training)
    sentence, filters, pictures = shown[0].children
    truth, guess, page = filters.children
    assert sentence.value.startswith("Nothing is trained yet")
    assert pictures.layout.display == "none"
    training.run_button.click()
    finish(training)
    wrong = (training.trained.predicted != training.trained.labels).sum().item()
    assert sentence.value == f"{wrong} of 200 test images are taken for another class."
    assert pictures.layout.display is None
    assert page.max == -(-wrong // 24)
    gallery = pictures.children[1]
    first = gallery.value
    page.value = 2
    assert gallery.value != first
    truth.value = 6  # shirts
    assert page.value == 1
    predicted, labels = training.trained.predicted, training.trained.labels
    shirts = (labels == 6).sum().item()
    wrong = ((predicted != 6) & (labels == 6)).sum().item()
    assert sentence.value == f"{wrong} of {shirts} test images of class shirt are taken for another class."
    assert ("shirt", 6) not in guess.options  # it would be no mistake
    guess.value = 4
    wrong = ((predicted == 4) & (labels == 6)).sum().item()
    verb = "is" if wrong == 1 else "are"
    assert sentence.value == f"{wrong} of {shirts} test images of class shirt {verb} taken for coat."
    assert ("coat", 4) not in truth.options
    truth.value = mistakes.ANY
    assert f"of {(labels != 4).sum()} test images of other classes" in sentence.value
    assert ("shirt", 6) in guess.options
    assert guess.value == 4


def test_every_figure_can_be_browsed_with_its_caption_and_its_verdict(shown, monkeypatch):
    monkeypatch.setattr(mu, "somebody_is_looking", lambda: True)
    browse.show_figures("figures")
    chosen, drawing, sentence = shown[0].children
    pictures = set()
    for name, result in Study.read().figures.items():
        chosen.value = name
        pictures.add(drawing.value)
        assert f"reported {result.figure.reported:.4f}, measured {result.sample.mean:.4f}, " in sentence.value
        assert "<b>The number " in sentence.value
        assert "**" not in sentence.value
    assert len(pictures) == len(chosen.options) == 8


def test_a_folder_without_figures_is_a_sentence(shown, tmp_path):
    browse.show_figures(tmp_path)
    assert shown[0].data == f"There are no figures in `{tmp_path}` yet: run `python reproduce.py`."


def test_sentences_for_widgets_are_escaped():
    assert to_html("**a <b>** *c*\n\n- d\n- e & f") == "<b>a &lt;b&gt;</b> <i>c</i><br>• d<br>• e &amp; f"


def test_where_nobody_looks_every_panel_is_a_described_picture(tmp_path):
    notebook = run_by_papermill("explore", tmp_path / "out.ipynb", num_epochs=1, train_limit=300)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/svg+xml" in output.get("data", {})]
    assert len(pictures) == 5
    assert all(len(output.metadata["image/svg+xml"]["alt"]) > 20 for output in pictures)
    assert "application/vnd.jupyter.widget-view+json" not in json.dumps(notebook)


# In a browser


@pytest.fixture
def page(lab_page):
    return lab_page("explore")


def src(image):
    return image.get_attribute("src")


def changed(image, before):
    """Wait until a picture is another one, and return its new address in the browser."""
    playwright.sync_api.expect(image).not_to_have_attribute("src", before, timeout=PATIENCE)
    return src(image)


SCROLLBARS = """() => [...document.querySelectorAll(".jp-OutputArea *")].filter(
    (e) => e.tagName != "SELECT" && e.clientWidth && ["auto", "scroll"].includes(getComputedStyle(e).overflowX)
        && e.scrollWidth > e.clientWidth).map((e) => e.className)"""
# Notes of each new picture whether it could be painted as soon as it was there: otherwise it would flicker.
WATCH = """() => { window.late = 0; window.seen = 0; new MutationObserver((changes) => { for (const change of changes)
    for (const node of change.addedNodes) if (node.tagName == "IMG") { window.seen++;
        requestAnimationFrame(() => { if (!node.complete) window.late++; }); } }
    ).observe(document.body, {childList: true, subtree: true}); }"""


def test_every_panel_works_in_a_browser(page):
    page.get_by_text("| Idle").wait_for()
    page.locator(".lm-MenuBar-itemLabel:text-is('Run')").click()
    page.locator(".lm-Menu-itemLabel:text-is('Run All Cells')").click()

    def button(text):
        return page.locator(f".jp-OutputArea button:text-is('{text}')")

    def picture(alt):
        return page.locator(f".jp-OutputArea img[alt^='{alt}']")

    button("Figure 9").wait_for()
    network, figure = picture("Test image "), picture("Training curves")
    assert picture("Empty axes for 10 epochs").is_visible()
    assert not picture("Test images").is_visible()  # the panel of the mistakes waits for a training
    assert not page.get_by_label("train_limit").is_visible()
    page.get_by_text("All other hyper-parameters").click()
    page.get_by_label("train_limit").fill("300")
    page.get_by_label("train_limit").press("Tab")
    page.evaluate(WATCH)
    button("Run").dblclick()
    changed(picture("Curves of"), changed(picture("Curves of"), src(picture("Curves of"))))
    button("Stop").click()
    page.get_by_text("Stopped in epoch").wait_for()

    gallery = picture("Test images")
    gallery.wait_for()
    everything = src(gallery)
    page.get_by_label("taken for").select_option(fashion_mnist.CLASSES[0])
    changed(gallery, everything)

    trained = src(network)
    button("16 patches of 7×7").click()
    cut = changed(network, trained)
    page.get_by_text("in 16 patches of 7×7 pixels").wait_for()
    page.locator(".noUi-handle").first.press("ArrowRight")
    changed(network, cut)
    page.get_by_text("Test image 1, pullover").wait_for()

    figure_2 = src(figure)
    button("Figure 9").click()
    page.get_by_text("Batch 32, dropout 0.01.").wait_for()
    changed(figure, figure_2)

    assert page.evaluate("window.seen") > 5
    assert page.evaluate("window.late") == 0
    for width in (1280, 700, 390):
        page.set_viewport_size({"width": width, "height": 1000})
        page.wait_for_function(f"document.querySelector('.jp-OutputArea').clientWidth < {width}")
        assert page.evaluate(SCROLLBARS) == [], width
