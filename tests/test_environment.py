"""The machine and the environment of whoever runs it: cores, locales, closed pipes, homes, settings of matplotlib."""

import ast
import errno
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import matplotlib
import nbformat
import pytest
from conftest import ROOT, TINY, record_files, refusal, run_notebook

import reproduce
from common.curves import plot_curves, to_pdf, to_svg
from common.files import expanded, write_at_once
from common.formatting import points
from report import drawings
from study import signals, stopping

SOURCES = sorted(
    path
    for pattern in ("*.py", *(f"{folder}/**/*.py" for folder in "common fast study report benchmarks tests".split()))
    for path in ROOT.glob(pattern)
)
LIST = [sys.executable, ROOT / "reproduce.py", "3", "4", "--list", "--output"]
HISTORY = [{"train_loss": 1.5, "train_accuracy": 0.5, "test_accuracy": 0.6}] * 2


# Cores, pipes


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no such way to be given fewer cores")
def test_as_many_runs_are_made_at_a_time_as_the_process_may_use_cores(tmp_path):
    one = {min(os.sched_getaffinity(0))}
    listing = [*LIST, tmp_path]
    done = subprocess.run(listing, preexec_fn=lambda: os.sched_setaffinity(0, one), capture_output=True, text=True)
    assert "and 1 at a time they would take about" in done.stdout


@pytest.mark.parametrize(("memory", "jobs"), [(0.5, 1), (4, 3), (64, 8)])
def test_no_more_runs_are_made_at_a_time_than_memory_is_free_for(memory, jobs, monkeypatch, capsys):
    monkeypatch.setattr("dask.system.CPU_COUNT", 8)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(total=64 * 2**30, available=64 * 2**30))
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", int(memory * 2**30))  # of a container
    assert reproduce.jobs_that_fit([], says_so=True) == jobs
    sentence = f"{memory:.1f} GB of memory are free: {jobs} run" if jobs < 8 else ""
    assert capsys.readouterr().out.startswith(sentence)
    assert reproduce.jobs_that_fit([], says_so=False) == jobs
    assert capsys.readouterr().out == ""


def test_whoever_reads_the_first_line_only_gets_it_and_no_traceback(tmp_path):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*LIST, tmp_path], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_no_file_takes_the_place_of_a_standard_stream_that_was_closed():
    printing = "import sys; print('to nowhere', flush=True); print('as well', file=sys.stderr, flush=True)"
    asked = f"""if True:
        import os, subprocess, sys, reproduce
        reproduce.close_no_standard_stream()
        assert os.open(reproduce.__file__, os.O_RDONLY) > 2
        subprocess.run([sys.executable, "-c", {printing!r}], check=True)
    """
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", sys.executable, "-c", asked], cwd=ROOT)
        assert done.returncode == 0, closed


@pytest.mark.parametrize("script", ["reproduce.py", "colab.py"])
def test_a_script_finds_the_project_though_python_looks_in_no_folder_by_itself(script, tmp_path):
    command = [sys.executable, "-P", ROOT / script, "--help"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0


# Stopping


def test_a_signal_stops_even_what_would_handle_it_itself():
    def wait_for_ever():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)
        threading.Event().wait()

    with pytest.raises(stopping.Stopped) as stopped, stopping.stoppable():
        stopping.call_stoppably(wait_for_ever)
    assert stopped.value.code == 143


def test_a_signal_waits_for_the_end_of_what_must_not_be_cut_short():
    steps = []

    def work():
        with stopping.unstoppable():
            signal.raise_signal(signal.SIGTERM)
            steps.append("the block went on")
        steps.append("and what comes after it did not")

    with pytest.raises(stopping.Stopped), stopping.stoppable():
        work()
    assert steps == ["the block went on"]


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping.stoppable():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


# Files


def encoding_is_missing(call):
    """Say whether a call reads or writes text in whatever encoding the machine has."""
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)
    if name not in ("open", "read_text", "write_text") or "encoding" in {word.arg for word in call.keywords}:
        return False
    if name != "open":
        return True
    if isinstance(function, ast.Attribute) and ast.unparse(function.value) in ("os", "gzip", "tarfile"):
        return False
    given = [word.value for word in call.keywords if word.arg == "mode"]
    given += call.args[1:2] if isinstance(function, ast.Name) else call.args[:1]
    return all(isinstance(mode, ast.Constant) and "b" not in mode.value for mode in given)


def calls_without_encoding(source):
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and encoding_is_missing(node)
    ]


def test_every_text_file_is_opened_with_its_encoding():
    for path in SOURCES:
        assert calls_without_encoding(path.read_text(encoding="utf-8")) == [], path
    for path in ROOT.glob("notebooks/*.ipynb"):
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "code":
                assert calls_without_encoding(cell.source) == [], path


@pytest.mark.parametrize("source", ["open(p)", "p.open('w')", "p.read_text()", "open(p, mode='r')"])
def test_the_search_for_missing_encodings_finds_them(source):
    assert calls_without_encoding(source)
    assert not calls_without_encoding("open(p, 'rb'), p.open('wb'), os.open(p, 0), p.read_text(encoding='utf-8')")


def test_a_character_that_a_terminal_has_not_got_is_written_plainly(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    reproduce.speak_any_encoding()
    print(f"{points(-0.01)} … ü", flush=True)
    assert written.getvalue().split() == [b"-1.00", b"...", b"?"]


def test_the_sign_for_home_is_read_in_every_path(tmp_path, monkeypatch, few_images):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/a") == tmp_path / "a"
    assert reproduce.parse(["4", "--output", "~/out"]).output == tmp_path / "out"
    run_notebook("figure_4", num_epochs=1, train_limit=600, runs_folder="~/runs")
    assert len(record_files(tmp_path)) == 1


def test_a_user_of_no_name_has_no_home():
    assert expanded("~nobody_of_this_name/a") == Path("~nobody_of_this_name/a")


def test_a_batch_gives_a_user_without_a_name_the_home_that_jupyter_needs(monkeypatch):
    monkeypatch.setenv("HOME", "")  # to be put back after the test
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    with pytest.raises(RuntimeError):
        Path.home()
    reproduce.main(["4", "--list"])
    assert Path.home().is_dir()


def test_a_full_disk_is_one_line_that_names_the_file_and_helps(tmp_path, monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left") as full:
        write_at_once(tmp_path / "runs.jsonl", "content")
    assert not list(tmp_path.iterdir())

    def run(batch):
        raise full.value

    monkeypatch.setattr(reproduce.Batch, "run", run)
    line = refusal("4", *TINY, "--output", tmp_path)
    assert (
        f"{tmp_path / 'runs.jsonl'}: No space left on device: free some space; all finished records are kept" in line
    )


# matplotlib


def test_a_users_settings_of_matplotlib_change_no_drawing():
    def draw():
        curves = plot_curves([HISTORY], 0.8)
        return to_svg(curves), to_pdf(curves), to_svg(drawings.draw_signals(signals.read()))

    users = {
        "text.usetex": True,
        "axes.facecolor": "black",
        "savefig.facecolor": "black",
        "savefig.bbox": "tight",
        "savefig.dpi": 30,
        "font.family": "serif",
        "svg.fonttype": "none",
        "lines.linewidth": 7,
    }
    usual = draw()
    with matplotlib.rc_context(users):
        assert draw() == usual


def test_every_module_draws_in_the_projects_style():
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        if path.parent.name != "tests" and "from matplotlib.figure import Figure" in text:
            assert text.count("with styled(") >= text.count(" = Figure("), path
        if path.name != "curves.py" and path.parent.name != "tests":
            assert "style.context(" not in text, path
