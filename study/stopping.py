"""Stop a batch: by Ctrl-C, by a kill, or by closing its terminal; what it has started ends with it."""

import _thread
import os
import signal
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from multiprocessing import resource_tracker

from jupyter_core.utils import ensure_event_loop

from common.interrupts import never_lost

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
OF_TERMINALS = [number for number in SIGNALS if number != signal.SIGTERM]  # sent to workers as well


class Stopped(KeyboardInterrupt):
    """Somebody wants the batch to end.

    Attributes:
        code: what the process ends with then, as shells expect it.
    """

    def __init__(self, number):
        super().__init__()
        self.code = 128 + number


@contextmanager
def stoppable():
    """Let a signal raise `Stopped` in a block; further ones are ignored while that cleans up, but for a Ctrl-C."""
    raised = []

    def stop(number, frame):
        if not raised:
            raised.append(number)
            os.write(2, b"stopping ...\n")  # printing is not allowed here
            raise Stopped(number)
        if number == signal.SIGINT:
            os._exit(128 + number)

    with _handled_by(stop), never_lost(lambda: _thread.interrupt_main(raised.pop())):
        yield


@contextmanager
def unstoppable():
    """Let signals wait for the end of a block that would leave a mess if it were cut short.

    What a terminal sends reaches no process that starts there: it would print its own traceback.
    """
    waiting = []
    try:
        with _handled_by(lambda number, frame: waiting.append(number)), _blocked():
            yield
    finally:
        if waiting:
            signal.raise_signal(waiting[0])


def call_stoppably(function, *arguments):
    """Call a function that would handle signals itself, as nbclient does, in a thread, where it can't."""
    future = Future()

    def call():
        try:
            try:
                result = function(*arguments)
            finally:
                ensure_event_loop().close()  # that of this thread, which nbclient leaves open
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=call, daemon=True).start()
    return future.result()


def leave_to_the_batch():
    """Let what a terminal sends pass, in a worker, though not in a kernel that it starts: the batch ends both."""
    for number in OF_TERMINALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, OF_TERMINALS)


@contextmanager
def _blocked():
    """Start processes in which what a terminal sends is blocked, where the system has that."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, OF_TERMINALS)
    try:
        resource_tracker.ensure_running()  # multiprocessing's own helper, whose start unblocks in some Pythons
        signal.pthread_sigmask(signal.SIG_BLOCK, OF_TERMINALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _handled_by(handler):
    """Hand signals to a function, but those that the process was started to ignore, as by nohup."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    taken = {number: old for number, old in before.items() if old is not signal.SIG_IGN}
    try:
        for number in taken:
            signal.signal(number, handler)
        yield
    finally:
        for number, old in taken.items():
            signal.signal(number, old)
