"""Files: the paths that users give, and writing so that nobody ever finds a part of a file."""

import os
import tempfile
from pathlib import Path

PARTIAL = ".partial"  # ends the names of files that are being written


def expanded(path):
    """Return a path that a user gave, as a `Path`; ~ is his home folder, though no shell has seen it."""
    return Path(os.path.expanduser(path))  # Path.expanduser fails where there is no home


def write_at_once(path, content):
    """Write a file, text or bytes, so that others find the old one or the new one, never a part.

    Raises:
        OSError: the disk is full, or the like; it names the file.
    """
    try:
        _write(path, content)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _write(path, content):
    file = tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL, delete=False)
    try:
        with file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(file.name, 0o644)
        os.replace(file.name, path)  # closed by now: Windows renames and removes no open file
    except BaseException:
        os.unlink(file.name)
        raise
