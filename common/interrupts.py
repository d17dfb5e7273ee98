"""Interrupts that nobody loses, though Python only prints an exception that comes while it frees an object."""

import _thread
import sys
import time
from contextlib import contextmanager


@contextmanager
def never_lost(again=_thread.interrupt_main):
    """Interrupt once more, in a block, whenever Python has dropped an interrupt: after a drawing much is freed.

    Args:
        again: function without arguments that interrupts the main thread; it is called in another one.
    """
    usual = sys.unraisablehook

    def call_later():
        time.sleep(0.01)  # seconds, in which Python goes on to where an exception is raised
        again()

    def notice(unraisable):
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            _thread.start_new_thread(call_later, ())  # Thread would take a lock that may be held here
        else:
            usual(unraisable)

    sys.unraisablehook = notice
    try:
        yield
    finally:
        sys.unraisablehook = usual
