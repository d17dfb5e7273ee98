"""Finding, checking and fetching the data set: with the real files, but never with a network."""

import gzip
import shutil
import subprocess
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import ROOT

from common import fashion_mnist
from common.fashion_mnist import FILES, LAYOUT, DataError

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILES
TORCHVISION, DEBIAN = "_fetch_by_torchvision", "_fetch_from_debian"

each_source = pytest.mark.parametrize("source", [TORCHVISION, DEBIAN])
some_files = pytest.mark.parametrize("name", [TRAIN_IMAGES, TEST_LABELS])


@pytest.fixture(scope="module")
def plain(data_folder, tmp_path_factory):
    """Make a folder with the four files, not gzipped."""
    folder = tmp_path_factory.mktemp("plain")
    for name in FILES:
        if (Path(data_folder) / name).is_file():
            (folder / name).symlink_to(Path(data_folder) / name)
        else:
            (folder / name).write_bytes(gzip.decompress((Path(data_folder) / f"{name}.gz").read_bytes()))
    return folder


@pytest.fixture(scope="module")
def gzipped(plain, tmp_path_factory):
    """Make a folder with the four files, gzipped in another way than by their authors."""
    folder = tmp_path_factory.mktemp("gzipped")
    for name in FILES:
        (folder / f"{name}.gz").write_bytes(gzip.compress((plain / name).read_bytes(), 1))
    return folder


@pytest.fixture(autouse=True)
def network(monkeypatch, tmp_path):
    """Give each test places of its own, all empty, and sources that fail unless the test says what they offer."""
    network = SimpleNamespace(offers={}, used=[])

    def source_named(source):
        def fetch(scratch):
            network.used.append(source)
            offer = network.offers.get(source, OSError("no route to host"))
            if isinstance(offer, Exception):
                (scratch / "half a file").write_bytes(b"half")
                raise offer
            return put(scratch / "found", offer)

        return fetch

    monkeypatch.delenv("FASHION_MNIST")
    monkeypatch.setattr(fashion_mnist, "DATA", tmp_path / "data")
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
    for source in (TORCHVISION, DEBIAN):
        monkeypatch.setattr(fashion_mnist, source, source_named(source))
    yield network
    shutil.rmtree(tmp_path)  # 50 MB a test, which pytest would keep


def put(folder, origin):
    """Fill a folder with links to another one's files."""
    folder.mkdir(parents=True)
    for file in origin.iterdir():
        (folder / file.name).symlink_to(file.resolve())
    return folder


def rewrite(path, change):
    """Put changed content in the place of a link, leaving alone what the link leads to."""
    content = change(path.read_bytes())
    path.unlink()
    path.write_bytes(content)


def flip_bit(position):
    def change(content):
        content = bytearray(content)
        content[position] ^= 1
        return bytes(content)

    return change


def files_below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def error_of_loading(*args):
    """Return the message of the DataError that loading raises, which has to be a single line."""
    with pytest.raises(DataError) as info:
        fashion_mnist.load(*args)
    assert "\n" not in str(info.value)
    return str(info.value)


def assert_fetched(plain):
    """Check that `data/` holds the four files, every byte right, and nothing else but the lock."""
    data = fashion_mnist.DATA
    assert fashion_mnist.find() == data / LAYOUT
    assert files_below(data) - {"fetching.lock"} == {str(LAYOUT / name) for name in FILES}
    assert {path.name for path in data.iterdir()} <= {"FashionMNIST", "fetching.lock"}
    for name in FILES:
        assert not (data / LAYOUT / name).is_symlink()
        assert (data / LAYOUT / name).read_bytes() == (plain / name).read_bytes()


# What is loaded


def test_the_data_set_has_the_known_shapes_class_counts_mean_and_deviation(plain):
    train_images, train_labels, test_images, test_labels = tensors = fashion_mnist.load(plain)
    assert [tuple(tensor.shape) for tensor in tensors] == [(60000, 28, 28), (60000,), (10000, 28, 28), (10000,)]
    assert {tensor.dtype for tensor in tensors} == {torch.uint8}
    assert train_labels.bincount().tolist() == [6000] * len(fashion_mnist.CLASSES)
    assert test_labels.bincount().tolist() == [1000] * len(fashion_mnist.CLASSES)
    pixels = torch.bincount(train_images.flatten(), minlength=256).double()
    values = torch.arange(256) / 255
    mean = (pixels * values).sum() / pixels.sum()
    deviation = ((pixels * (values - mean) ** 2).sum() / pixels.sum()).sqrt()
    assert mean.item() == pytest.approx(0.2860, abs=5e-5)
    assert deviation.item() == pytest.approx(0.3530, abs=5e-5)
    assert test_images.max() == 255


@pytest.mark.parametrize("given", ["root", "variable"])
def test_a_named_folder_may_begin_with_the_sign_for_home(given, plain, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    put(tmp_path / "images", plain)
    if given == "variable":
        monkeypatch.setenv("FASHION_MNIST", "~/images")
    assert fashion_mnist.find("~/images" if given == "root" else None) == tmp_path / "images"


@pytest.mark.parametrize("place", [".", LAYOUT])
@pytest.mark.parametrize("kind", ["plain", "gzipped"])
def test_a_named_folder_may_hold_plain_or_gzipped_files_itself_or_as_torchvision_does(kind, place, request, tmp_path):
    put(tmp_path / "named" / place, request.getfixturevalue(kind))
    _, train_labels, _, test_labels = fashion_mnist.load(str(tmp_path / "named"))
    assert train_labels[:5].tolist() == [9, 0, 0, 3, 0]
    assert test_labels[:5].tolist() == [9, 2, 1, 1, 6]


def test_plain_and_gzipped_files_may_stand_side_by_side(plain, gzipped, tmp_path):
    folder = put(tmp_path / "named", plain)
    (folder / TEST_IMAGES).unlink()
    (folder / f"{TEST_IMAGES}.gz").symlink_to(gzipped / f"{TEST_IMAGES}.gz")
    assert len(fashion_mnist.load(folder)[2]) == 10000


# Where it is looked for


def test_places_are_tried_in_the_documented_order(plain, gzipped, monkeypatch, tmp_path, network):
    network.offers = {TORCHVISION: plain, DEBIAN: gzipped}
    debian = put(fashion_mnist.DEBIAN, gzipped)
    assert fashion_mnist.find() == debian
    data = put(fashion_mnist.DATA / LAYOUT, plain)
    assert fashion_mnist.find() == data
    environment = put(tmp_path / "environment", plain)
    monkeypatch.setenv("FASHION_MNIST", str(environment))
    assert fashion_mnist.find() == environment
    argument = put(tmp_path / "argument", plain)
    assert fashion_mnist.find(argument) == argument
    assert network.used == []


def test_the_folder_of_debians_package_is_read_without_fetching(gzipped, network):
    put(fashion_mnist.DEBIAN, gzipped)
    assert len(fashion_mnist.load()[0]) == 60000
    assert network.used == []
    assert not fashion_mnist.DATA.exists()


@pytest.mark.parametrize("way", ["argument", "environment"])
@some_files
def test_a_file_missing_from_a_named_folder_is_an_error_that_names_both(
    name, way, plain, monkeypatch, tmp_path, network
):
    network.offers[TORCHVISION] = plain
    folder = put(tmp_path / "named", plain)
    (folder / name).unlink()
    monkeypatch.setenv("FASHION_MNIST", str(folder if way == "environment" else plain))
    message = error_of_loading(*[folder] * (way == "argument"))
    assert message.startswith(f"{folder} has no {name} ")
    assert "expected a folder with" in message
    assert network.used == []


def test_a_named_folder_that_does_not_exist_is_an_error_that_names_it(tmp_path):
    assert str(tmp_path / "nowhere") in error_of_loading(tmp_path / "nowhere")


# Damaged files


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda content: content[:-1], id="truncated"),
        pytest.param(lambda content: content + b"\0", id="too-long"),
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(flip_bit(3), id="bit-in-header"),
        pytest.param(flip_bit(-1), id="bit-in-body"),
        pytest.param(lambda content: content[::-1], id="reversed"),
    ],
)
@some_files
def test_a_damaged_plain_file_is_an_error_that_names_it_and_helps(name, change, plain):
    folder = put(fashion_mnist.DATA / LAYOUT, plain)
    rewrite(folder / name, change)
    message = error_of_loading()
    assert message.startswith(f"{folder / name} ")
    assert "damaged" in message
    assert "replace it, or delete it" in message


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda content: content[: len(content) // 2], id="truncated"),
        pytest.param(lambda content: content[:-1], id="last-byte-missing"),
        pytest.param(lambda content: content[:5], id="header-truncated"),
        pytest.param(lambda content: b"", id="empty"),
        pytest.param(lambda content: b"<html>not found</html>", id="not-gzip"),
        pytest.param(lambda content: gzip.compress(b""), id="nothing-within"),
        pytest.param(lambda content: gzip.compress(zlib.decompress(content, 31) + b"\0", 1), id="too-long"),
        pytest.param(lambda content: content + b"more", id="garbage-behind"),
        pytest.param(flip_bit(2), id="bit-in-header"),
        *(pytest.param(flip_bit(n), id=f"bit-in-body-{n}") for n in (10, 12, 1000, 4000)),
        pytest.param(flip_bit(-6), id="bit-in-checksum"),
    ],
)
def test_a_damaged_gzipped_file_is_an_error_that_names_it_and_helps(change, plain, gzipped):
    folder = put(fashion_mnist.DATA / LAYOUT, plain)
    (folder / TRAIN_LABELS).unlink()
    damaged = folder / f"{TRAIN_LABELS}.gz"
    damaged.write_bytes(change((gzipped / damaged.name).read_bytes()))
    message = error_of_loading()
    assert message.startswith(f"{damaged} ")
    assert "replace it, or delete it" in message


@pytest.mark.parametrize(("name", "other"), [(TEST_LABELS, TRAIN_LABELS), (TRAIN_IMAGES, TEST_IMAGES)])
def test_a_file_under_the_name_of_another_is_an_error(name, other, plain):
    folder = put(fashion_mnist.DATA / LAYOUT, plain)
    rewrite(folder / name, lambda _: (folder / other).read_bytes())
    assert error_of_loading().startswith(f"{folder / name} is damaged")


def test_a_damaged_file_once_deleted_is_fetched_anew(plain, network):
    network.offers[TORCHVISION] = plain
    folder = put(fashion_mnist.DATA / LAYOUT, plain)
    rewrite(folder / TEST_LABELS, flip_bit(0))
    error_of_loading()
    (folder / TEST_LABELS).unlink()
    fashion_mnist.load()
    assert network.used == [TORCHVISION]
    assert_fetched(plain)


# Fetching


def test_torchvision_is_asked_first_and_alone_if_it_delivers(plain, gzipped, network):
    network.offers = {TORCHVISION: plain, DEBIAN: gzipped}
    assert len(fashion_mnist.load()[0]) == 60000
    assert network.used == [TORCHVISION]
    assert_fetched(plain)


def test_a_second_load_fetches_nothing(plain, network):
    network.offers[TORCHVISION] = plain
    assert fashion_mnist.find() == fashion_mnist.find()
    assert network.used == [TORCHVISION]


@pytest.mark.parametrize(
    "failure",
    [
        OSError("no route to host"),
        RuntimeError("Error downloading\ntrain-images"),
        subprocess.TimeoutExpired("apt-get", 300),
        DataError("no apt-get on this machine"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_debians_package_is_fetched_where_torchvision_fails(failure, plain, network):
    network.offers = {TORCHVISION: failure, DEBIAN: plain}
    fashion_mnist.find()
    assert network.used == [TORCHVISION, DEBIAN]
    assert_fetched(plain)


def test_a_source_that_delivers_a_damaged_file_is_not_used_and_nothing_of_it_remains(
    plain, gzipped, tmp_path, network
):
    damaged = put(tmp_path / "damaged", plain)
    rewrite(damaged / TEST_LABELS, flip_bit(-1))
    network.offers = {TORCHVISION: damaged, DEBIAN: gzipped}
    fashion_mnist.find()
    assert network.used == [TORCHVISION, DEBIAN]
    assert_fetched(plain)


@pytest.mark.parametrize("present", [[TRAIN_IMAGES], [TEST_LABELS, TRAIN_LABELS]], ids=len)
def test_a_fetch_that_was_interrupted_is_made_good_by_the_next(present, plain, network):
    network.offers[TORCHVISION] = plain
    folder = put(fashion_mnist.DATA / LAYOUT, plain)
    for name in FILES.keys() - set(present):
        (folder / name).unlink()
    rewrite(folder / present[0], lambda content: content[:1000])
    fashion_mnist.find()
    assert_fetched(plain)


def test_when_all_sources_fail_one_error_lists_them_and_helps(plain, tmp_path, network):
    damaged = put(tmp_path / "damaged", plain)
    rewrite(damaged / TRAIN_IMAGES, lambda content: content[:100])
    network.offers = {TORCHVISION: RuntimeError("Error downloading\ntrain-images"), DEBIAN: damaged}
    message = error_of_loading()
    tried = [
        str(fashion_mnist.DATA / LAYOUT),
        str(fashion_mnist.DEBIAN),
        "torchvision: Error downloading train-images",
    ]
    for part in [*tried, "Debian's package dataset-fashion-mnist: ", "is damaged", "FASHION_MNIST", *FILES]:
        assert part in message
    assert network.used == [TORCHVISION, DEBIAN]
    assert files_below(fashion_mnist.DATA) <= {"fetching.lock"}
    assert not list(fashion_mnist.DATA.glob("*/"))


@each_source
def test_a_source_without_one_of_the_files_is_not_used(source, plain, tmp_path, network):
    partial = put(tmp_path / "partial", plain)
    (partial / TEST_LABELS).unlink()
    network.offers[source] = partial
    assert TEST_LABELS in error_of_loading()
    assert files_below(fashion_mnist.DATA) <= {"fetching.lock"}


RACE = """
import multiprocessing, sys, time
from pathlib import Path
import torch  # which loading needs: imported once it serves all processes
from common import fashion_mnist

origin, fashion_mnist.DATA, fashion_mnist.DEBIAN = map(Path, sys.argv[1:])

def source(scratch):
    with open(fashion_mnist.DATA.parent / "uses", "a") as uses:
        uses.write("used\\n")
    time.sleep(0.5)
    return origin

def work(start):
    start.wait()
    assert len(fashion_mnist.load()[1]) == 60000

fashion_mnist._fetch_by_torchvision = source
context = multiprocessing.get_context("fork")
start = context.Barrier(4)
processes = [context.Process(target=work, args=[start]) for _ in range(4)]
for process in processes:
    process.start()
for process in processes:
    process.join()
sys.exit(any(process.exitcode for process in processes))
"""


def test_of_several_processes_that_start_at_once_one_fetches_and_all_load(plain, tmp_path):
    folders = [plain, fashion_mnist.DATA, fashion_mnist.DEBIAN]
    done = subprocess.run(
        [sys.executable, "-c", RACE, *folders], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "uses").read_text(encoding="utf-8") == "used\n"
    assert_fetched(plain)
