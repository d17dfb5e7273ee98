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
from conftest import ROOT

import claims
import cluster
import explore
import fashion_mnist
import my_utils as mu
from model import get_possible_patches

CHROMIUM = shutil.which("chromium")
PATIENCE = 60_000  # milliseconds that the browser waits for anything: busy machines are slow


@pytest.fixture
def training(monkeypatch):
    """Make a panel as a person has it before them, with a small training."""
    monkeypatch.setattr(mu, "somebody_is_looking", lambda: True)
    return explore.Training("figure_4", num_epochs=2, train_limit=300)


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
    torch.manual_seed(0)
    net = explore.make_net(claims.notebook_defaults("figure_4"))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, fused=True)
    history = mu.train(net, train_iter, test_iter, torch.nn.CrossEntropyLoss(), 2, optimizer)
    assert f"this run <b>{history[-1]['test_accuracy']:.4f}</b>" in training.status.value
    assert (training.predicted == training.labels).float().mean() == pytest.approx(history[-1]["test_accuracy"])


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
    explore.Training("figure_4")
    finish(training)
    assert training.status.value.startswith("Stopped")


@pytest.mark.parametrize("figure", [f"figure_{number}" for number in range(2, 10)])
def test_choosing_a_figure_takes_over_its_setting(training, figure):
    training.figure.value = "figure_9" if figure == "figure_2" else "figure_2"
    training.figure.value = figure
    setting = {"schedule": "constant"} | claims.notebook_defaults(figure)
    parameters = training.parameters()
    assert parameters == {name: setting[name] for name in parameters}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("num_hidden", "256, many, 64, 32, 16", "num_hidden is [256, ' many', 64, 32, 16]: expected a list of five"),
        ("learning_rate", -1, "learning_rate is -1.0: expected a number above 0"),
        ("train_limit", 0, "train_limit is 0: expected a whole number from 1 to 60000"),
    ],
)
def test_a_setting_that_makes_no_sense_is_answered_in_one_line(training, name, value, message):
    training.controls[name].value = value
    training.run_button.click()
    assert training.thread is None
    assert message in training.status.value.replace("&#x27;", "'")


def test_what_goes_wrong_in_the_training_is_told(training, monkeypatch):
    monkeypatch.setenv("FASHION_MNIST", "/nowhere")
    training.run_button.click()
    finish(training)
    assert training.status.value.startswith("<b>DataError: /nowhere has no")
    assert not training.run_button.disabled


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("patching", range(5))
def test_an_image_is_followed_to_the_networks_own_scores(patching, batch_norm):
    setting = claims.notebook_defaults("figure_9") | {"patching": patching, "batch_norm": batch_norm}
    net = explore.make_net(setting).eval()
    X = torch.rand(1, 1, 28, 28)
    steps = explore.follow(net, X)
    num_patches, dims = get_possible_patches(784)[patching]
    P, K = num_patches, dims * dims
    rows_and_columns = [
        (P, K),
        (P, 256),
        (256, P),
        (256, 128),
        (256, 64),
        (64, 256),
        (64, 32),
        (64, 16),
        (1, 16),
        (1, 10),
    ]
    assert [matrix.shape for _, _, matrix in steps] == rows_and_columns
    assert torch.allclose(torch.from_numpy(steps[-1][2]), net(X), atol=1e-5)
    assert any("batch norm" in name for _, name, _ in steps) == batch_norm


def test_mistakes_are_found_by_class(training):
    training.labels = torch.tensor([0, 1, 1, 2, 2])
    training.predicted = torch.tensor([0, 1, 2, 1, 0])
    assert explore.find_mistakes(training).tolist() == [2, 3, 4]
    assert explore.find_mistakes(training, truth=2).tolist() == [3, 4]
    assert explore.find_mistakes(training, guess=1).tolist() == [3]
    assert explore.find_mistakes(training, truth=2, guess=0).tolist() == [4]


def test_where_nobody_looks_every_panel_is_a_described_picture():
    notebook = cluster.execute_notebook(ROOT, "explore", {"num_epochs": 1, "train_limit": 300})
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
