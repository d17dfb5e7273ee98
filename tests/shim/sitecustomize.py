"""Counts the steps of a batch at which something can go wrong, and makes one of them fail.

Every Python process of a batch under test imports this file at its start, as its `sitecustomize`. Environment
variables say where: FAULT_FOLDER is watched, FAULT_LOG gets a line a step, from all processes in their true order, and
the step with the number FAULT_AT, from 0, fails in the way that FAULT_KIND says.
"""

import _posixsubprocess
import builtins
import errno
import fcntl
import io
import os
import signal
import subprocess
from functools import wraps

ERRORS = {"error": errno.EIO, "disk full": errno.ENOSPC, "no permission": errno.EACCES}


def step(name, path="", before_failing=None):
    if "FAULT_LOG" not in os.environ:
        return
    descriptor = os.open(os.environ["FAULT_LOG"], os.O_RDWR | os.O_APPEND | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        number = os.pread(descriptor, 1 << 20, 0).count(b"\n")
        os.write(descriptor, f"{name} {path}\n".encode())
    finally:
        os.close(descriptor)
    if number != int(os.environ["FAULT_AT"]):
        return
    if before_failing:
        before_failing()
    if os.environ["FAULT_KIND"] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    code = ERRORS[os.environ["FAULT_KIND"]]
    raise OSError(code, os.strerror(code), path)


def is_watched(path):
    return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(os.environ.get("FAULT_FOLDER", "\0"))


def watched_open(file, mode="r", *args, **kwargs):
    if not is_watched(file) or not set(mode) & set("wax+"):
        return plain_open(file, mode, *args, **kwargs)
    step("open", file)
    opened = plain_open(file, mode, *args, **kwargs)
    plain_write = opened.write

    def write(content):
        def write_half():
            plain_write(content[: len(content) // 2])
            opened.flush()

        step("write", file, write_half)
        return plain_write(content)

    opened.write = write
    return opened


def watched(function, name, path_of):
    @wraps(function)
    def wrapper(*args, **kwargs):
        path = path_of(*args)
        if path is None or is_watched(path):
            step(name, path or "")
        return function(*args, **kwargs)

    return wrapper


plain_open = io.open
io.open = builtins.open = watched_open
os.fsync = watched(os.fsync, "fsync", lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}"))
os.replace = watched(os.replace, "rename", lambda source, target: target)
os.fork = watched(os.fork, "start", lambda: None)
subprocess._fork_exec = watched(subprocess._fork_exec, "start", lambda *args: None)
_posixsubprocess.fork_exec = watched(_posixsubprocess.fork_exec, "start", lambda *args: None)  # multiprocessing's
