"""Files are written whole or not at all."""

import errno
import os

import psutil
import pytest
from conftest import names_in

from common.files import write_at_once


@pytest.mark.parametrize("old", [None, b"old"])
def test_text_and_bytes_are_written_whole(tmp_path, old):
    path = tmp_path / "file"
    for content, expected in [("new é\n", "new é\n".encode()), (b"\xff\x00", b"\xff\x00"), ("", b"")]:
        path.unlink(missing_ok=True)
        if old:
            path.write_bytes(old)
        write_at_once(path, content)
        assert path.read_bytes() == expected
        assert names_in(tmp_path) == ["file"]
        assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("function", ["replace", "fsync"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failed_write_leaves_everything_as_it_was(tmp_path, monkeypatch, function, old):
    path = tmp_path / "file"
    if old:
        path.write_bytes(old)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, function, fail)
    for content in ("new", b"new"):
        with pytest.raises(OSError, match="disk full"):
            write_at_once(path, content)
        assert names_in(tmp_path) == (["file"] if old else [])
        assert not old or path.read_bytes() == old


def test_content_is_on_the_disk_before_it_replaces_the_old(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda *given: (calls.append("fsync"), fsync(*given)))
    monkeypatch.setattr(os, "replace", lambda *given: (calls.append("replace"), replace(*given)))
    write_at_once(tmp_path / "file", "new")
    assert calls == ["fsync", "replace"]


@pytest.mark.parametrize("fails", [False, True])
def test_no_file_is_open_while_it_is_renamed_or_removed(tmp_path, monkeypatch, fails):
    """Windows would refuse."""
    replace, unlink, touched = os.replace, os.unlink, []

    def closed(path):
        touched.append(path)
        assert path not in [file.path for file in psutil.Process().open_files()]

    def checked_replace(source, target):
        closed(source)
        if fails:
            raise OSError(errno.ENOSPC, "disk full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", checked_replace)
    monkeypatch.setattr(os, "unlink", lambda path: (closed(path), unlink(path)))
    if fails:
        with pytest.raises(OSError, match="disk full"):
            write_at_once(tmp_path / "file", "new")
    else:
        write_at_once(tmp_path / "file", "new")
    assert len(touched) == 1 + fails
