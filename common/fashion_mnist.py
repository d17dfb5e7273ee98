"""Find Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747) on this machine, or fetch it, and read it.

The four files are looked for in this order: the folder that the user names, the project's `data/`, the folder of
Debian's package `dataset-fashion-mnist`. If none has them they are fetched into `data/`, by torchvision or, where only
Debian's mirrors can be reached, out of Debian's package. Whatever their origin, and on every load, the bytes are
compared with the data set's known SHA-256.
"""

import gzip
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import zlib
from pathlib import Path

from filelock import FileLock

from common import ROOT
from common.errors import UserError
from common.files import expanded

DATA = ROOT / "data"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
LAYOUT = Path("FashionMNIST/raw")  # where torchvision keeps the files, below its root

FILES = {  # name: size in bytes and SHA-256 when decompressed
    "train-images-idx3-ubyte": (47040016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"),
    "train-labels-idx1-ubyte": (60008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"),
    "t10k-images-idx3-ubyte": (7840016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"),
    "t10k-labels-idx1-ubyte": (10008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
}
CHECKSUM = hashlib.sha256("".join(digest for _, digest in FILES.values()).encode()).hexdigest()

NUM_TRAIN, NUM_TEST = 60000, 10000  # images
CLASSES = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


class DataError(UserError):
    """Fashion-MNIST is missing or damaged; the message says where, and what helps."""


def load(root=None):
    """Read the whole data set.

    Args:
        root: a folder with the four files, plain or gzipped, in it or in its `FashionMNIST/raw`; None looks in the
            folder that the environment variable FASHION_MNIST names, then in the usual places.

    Returns:
        Training images (60000, 28, 28), training labels (60000,), test images (10000, 28, 28), test labels (10000,),
        all tensors of bytes.

    Raises:
        DataError: a file is missing from a folder that the user named, or damaged, or nothing could be fetched.
    """
    import numpy as np  # slow imports that finding the data can do without
    import torch

    folder = find(root)
    arrays = [np.frombuffer(_read(folder, name), np.uint8) for name in FILES]
    # The checksums have vouched for headers of 16 bytes before the images and 8 before the labels.
    train_images, train_labels, test_images, test_labels = (torch.from_numpy(array.copy()) for array in arrays)
    return train_images[16:].view(-1, 28, 28), train_labels[8:], test_images[16:].view(-1, 28, 28), test_labels[8:]


def find(root=None):
    """Return the folder that holds the four files, fetching them into `data/` if need be; arguments as in `load`."""
    root = root or os.environ.get("FASHION_MNIST")
    if root:
        root = expanded(root)
        for folder in (root, root / LAYOUT):
            if not _missing(folder):
                return folder
        missing = _missing(root)
        raise DataError(f"{root} has no {missing[0]} nor {missing[0]}.gz: expected a folder with {', '.join(FILES)}")
    for folder in (DATA / LAYOUT, DEBIAN):
        if not _missing(folder):
            return folder
    try:
        DATA.mkdir(exist_ok=True)
        with FileLock(
            DATA / "fetching.lock", mode=0o666
        ):  # several notebooks may start at once: the first one fetches
            if _missing(DATA / LAYOUT):
                _fetch(DATA / LAYOUT)
    except OSError as error:
        raise DataError(f"Fashion-MNIST can't be fetched into {DATA}: {error.strerror or error}") from None
    return DATA / LAYOUT


def _missing(folder):
    return [name for name in FILES if not (folder / name).is_file() and not (folder / f"{name}.gz").is_file()]


def _read(folder, name):
    path = folder / name if (folder / name).is_file() else folder / f"{name}.gz"
    size, digest = FILES[name]
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            content = file.read(size + 1)  # never more, whatever a damaged file unpacks to
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} can't be read ({error}): replace it, or delete it to fetch it anew") from None
    actual = hashlib.sha256(content).hexdigest()
    if actual != digest:
        raise DataError(
            f"{path} is damaged: {'over ' * (len(content) > size)}{min(len(content), size)} bytes with SHA-256 "
            f"{actual[:12]}…, expected {size} bytes with {digest[:12]}…; replace it, or delete it to fetch it anew"
        )
    return content


def _fetch(folder):
    """Fetch the four files into `folder`, each appearing there only when complete and checked."""
    failures = []
    sources = {"torchvision": _fetch_by_torchvision, "Debian's package dataset-fashion-mnist": _fetch_from_debian}
    for source_name, source in sources.items():
        with tempfile.TemporaryDirectory(dir=folder.parents[1]) as scratch:
            try:
                fetched = source(Path(scratch))
                for name in FILES:
                    (Path(scratch) / name).write_bytes(_read(fetched, name))
                folder.mkdir(parents=True, exist_ok=True)
                for name in FILES:
                    os.replace(Path(scratch) / name, folder / name)
                return
            except Exception as error:  # however a source fails, the next one is tried
                reason = " ".join(str(error).split()) or type(error).__name__
                failures.append(f"{source_name}: {reason}")
    raise DataError(
        f"Fashion-MNIST is neither in {DATA / LAYOUT} nor in {DEBIAN}, and fetching it failed "
        f"({'; '.join(failures)}). Where there is a network, run again; elsewhere put the files "
        f"{', '.join(FILES)} into {DATA / LAYOUT}, or name their folder in the environment variable FASHION_MNIST"
    )


def _fetch_by_torchvision(scratch):
    from torchvision.datasets import FashionMNIST  # a slow import, needed once in the life of a checkout

    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # seconds; torchvision itself would wait for ever
    try:
        FashionMNIST(scratch, download=True)
    finally:
        socket.setdefaulttimeout(patience)
    return scratch / LAYOUT


def _fetch_from_debian(scratch):
    if not shutil.which("apt-get"):
        raise DataError("no apt-get on this machine")
    # Own lists and cache below the scratch folder: neither root nor an earlier `apt-get update` is needed.
    for part in ("lists/partial", "cache/archives/partial"):
        (scratch / part).mkdir(parents=True)
    lists, cache = f"-oDir::State::Lists={scratch / 'lists'}", f"-oDir::Cache={scratch / 'cache'}"
    for command in (["update"], ["download", "dataset-fashion-mnist"]):
        _run(["apt-get", "-qq", lists, cache, "-oAPT::Sandbox::User=root", *command], scratch)
    (package,) = scratch.glob("dataset-fashion-mnist_*.deb")
    _run(["dpkg-deb", "-x", package, scratch / "package"], scratch)
    return scratch / "package" / DEBIAN.relative_to("/")


def _run(command, folder):
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
    if done.returncode:
        raise DataError(f"{command[0]} failed: {done.stderr.decode(errors='replace').strip()[-200:]}")
