"""The panels, in a process, in a JupyterLab that a browser shows, and where there is nobody to press a button."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
import torch
from conftest import ROOT, run_by_papermill

import my_utils as mu
from common import fashion_mnist
from common.parameters import PARAMETERS
from report.panels import Training, browse, inside, mistakes
from report.panels.parts import to_html
from report.panels.training import WITHOUT_CONTROL
from study import notebooks
from study.study import Study

CHROMIUM = shutil.which("chromium")
# matplotlib is given a tensor of PyTorch, whose way into an array NumPy calls old.
PATIENCE = 60_000  # milliseconds that the browser waits for anything: busy machines are slow


@pytest.fixture
def training(monkeypatch):
    """Make a panel as a person has it before them, with a small training."""
    monkeypatch.setattr(mu, "somebody_is_looking", lambda: True)
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
    history = mu.train(net, train_iter, test_iter, torch.nn.CrossEntropyLoss(), 2, optimizer)
    assert f"this run <b>{history[-1]['test_accuracy']:.4f}</b>" in training.status.value
    assert (training.predicted == training.labels).float().mean() == pytest.approx(history[-1]["test_accuracy"])


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
    assert not training.predicted.any()  # every image is given the first class
    assert len(set(curves)) == 6  # empty, and after each epoch


def test_stop_ends_a_training_at_once_and_run_starts_another(training):
    training.set_parameters({"num_epochs": 1000, "train_limit": 60000})
    training.run_button.click()
    while not training.progress.value:
        time.sleep(0.01)
    assert training.run_button.disabled
    training.stop_button.click()
    finish(training)
    assert training.status.value == "Stopped in epoch 1."
    assert (training.run_button.disabled, training.stop_button.disabled) == (False, True)
    training.set_parameters({"num_epochs": 1, "train_limit": 300})
    training.run_button.click()
    finish(training)
    assert training.status.value.startswith("Done, epoch 1 of 1")


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
    for figure in (f"figure_{number}" for number in range(2, 10)):
        training.figure.value = "figure_9" if figure == "figure_2" else "figure_2"
        training.figure.value = figure
        setting = {"schedule": "constant"} | notebooks.defaults(figure)
        parameters = training.parameters()
        assert parameters == {name: setting[name] for name in parameters}
        assert parameters.keys() == training.controls.keys()


def test_a_setting_that_makes_no_sense_is_answered_in_one_line(training):
    for name, value, message in [
        ("num_hidden", "256, many, 64, 32, 16", "num_hidden is [256, ' many', 64, 32, 16]: expected a list of five"),
        ("learning_rate", -1, "learning_rate is -1.0: expected a number above 0"),
        ("train_limit", 0, "train_limit is 0: expected a whole number from 1 to 60000"),
    ]:
        valid, training.controls[name].value = training.controls[name].value, value
        training.run_button.click()
        assert training.thread is None
        assert message in training.status.value.replace("&#x27;", "'")
        training.controls[name].value = valid


def test_what_goes_wrong_in_the_training_is_told(training, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST", "/nowhere")
    training.run_button.click()
    finish(training)
    assert training.status.value.startswith("<b>DataError: /nowhere has no")
    assert not training.run_button.disabled


def test_mistakes_are_found_by_class(training):
    training.labels = torch.tensor([0, 1, 1, 2, 2])
    training.predicted = torch.tensor([0, 1, 2, 1, 0])
    assert mistakes.find_mistakes(training).tolist() == [2, 3, 4]
    assert mistakes.find_mistakes(training, truth=2).tolist() == [3, 4]
    assert mistakes.find_mistakes(training, guess=1).tolist() == [3]
    assert mistakes.find_mistakes(training, truth=2, guess=0).tolist() == [4]


def test_the_network_that_was_trained_is_looked_into_as_soon_as_there_is_one(training, shown):
    inside.show_network(training)
    numbers, patchings, sentence, picture = shown[0].children
    assert "The network is untrained" in sentence.value
    untrained = picture.value
    training.run_button.click()
    finish(training)
    guess = fashion_mnist.CLASSES[training.predicted[0]]
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
    wrong = (training.predicted != training.labels).sum().item()
    assert sentence.value == f"{wrong:,} of 10,000 test images are wrong in this way."
    assert pictures.layout.display is None
    assert page.max == -(-wrong // 24)
    gallery = pictures.children[1]
    first = gallery.value
    page.value = 2
    assert gallery.value != first
    truth.value = 6  # shirts
    assert page.value == 1
    of_shirts = ((training.predicted != 6) & (training.labels == 6)).sum().item()
    assert sentence.value.startswith(f"{of_shirts:,} of 10,000 ")
    guess.value = 6  # none of them is taken for one
    assert sentence.value.startswith("0 of 10,000 ")


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


@pytest.fixture(scope="module")
def lab(tmp_path_factory, data_folder):
    """Start JupyterLab in a folder of its own with a copy of the notebook, and give the notebook's address."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed (Debian: apt-get install chromium)")
    folder = tmp_path_factory.mktemp("lab")
    (folder / "work").mkdir()
    shutil.copy(ROOT / "notebooks" / "explore.ipynb", folder / "work")
    (folder / "work" / "project").symlink_to(ROOT)
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"fetchNews": "false"}')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    options = {"ServerApp.port": port, "IdentityProvider.token": "token", "ServerApp.root_dir": folder / "work"}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    with open(folder / "log", "w") as log:
        server = subprocess.Popen(
            [*command, *(f"--{name}={value}" for name, value in options.items())],
            env=os.environ
            | {"JUPYTER_CONFIG_DIR": str(folder / "config"), "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")}
            | {"JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces")},
            stdout=log,
            stderr=log,
        )
    try:
        wait_for(f"{address}/api?token=token", server, folder / "log")
        yield f"{address}/doc/tree/explore.ipynb?token=token"
    finally:
        server.terminate()
        server.wait(timeout=60)


def wait_for(address, server, log):
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5)
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(log.read_text())


@pytest.fixture
def page(lab):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(PATIENCE)
        page.goto(lab)
        yield page
        browser.close()


def changed(page, image, before):
    """Wait until a picture is another one, and return its new address in the browser."""
    page.wait_for_function("([image, before]) => image.src != before", arg=[image.element_handle(), before])
    return image.get_attribute("src")


def test_every_panel_works_in_a_browser(page):
    page.get_by_text("| Idle").wait_for()
    page.locator(".lm-MenuBar-itemLabel:text-is('Run')").click()
    page.locator(".lm-Menu-itemLabel:text-is('Run All Cells')").click()

    def button(text):
        return page.locator(f".jp-OutputArea button:has-text('{text}')")

    button("Figure 9").wait_for()
    curve, network, _, gallery, figure = (page.locator("img.widget-image").nth(index) for index in range(5))

    assert not gallery.is_visible()  # the panel of the mistakes waits for a training
    page.get_by_label("train_limit").fill("300")
    page.get_by_label("train_limit").press("Tab")
    empty = curve.get_attribute("src")
    button("Run").click()
    first = changed(page, curve, empty)
    changed(page, curve, changed(page, curve, first))
    button("Stop").click()
    page.get_by_text("Stopped in epoch").wait_for()

    gallery.wait_for(state="visible")
    everything = gallery.get_attribute("src")
    page.get_by_label("taken for").select_option(fashion_mnist.CLASSES[0])
    changed(page, gallery, everything)

    trained = network.get_attribute("src")
    button("16 patches of 7×7").click()
    cut = changed(page, network, trained)
    page.get_by_text("in 16 patches of 7×7 pixels").wait_for()
    page.locator(".noUi-handle").first.press("ArrowRight")
    changed(page, network, cut)
    page.get_by_text("Test image 1, pullover").wait_for()

    figure_2 = figure.get_attribute("src")
    button("Figure 9").click()
    page.get_by_text("Batch 32, dropout 0.01.").wait_for()
    changed(page, figure, figure_2)
