"""Time limit for code that runs in this process; `isolation` limits code that runs in another."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

REPEAT_S = 0.5


@contextmanager
def alarm(after_s: float, on_timeout: Callable[[], None]) -> Iterator[None]:
    """Call `on_timeout` after `after_s` seconds, and each REPEAT_S seconds until the block ends.

    `on_timeout` raises the exception that ends the block. Outside of the main thread, which alone gets
    signals, nothing is limited. A timer that was set before, such as that of a task's execution timeout, goes
    on; if it ends sooner, it is left alone.
    """
    outer_s, began = signal.getitimer(signal.ITIMER_REAL)[0], time.monotonic()
    if threading.current_thread() is not threading.main_thread() or 0 < outer_s <= after_s:
        yield
        return
    before = signal.signal(signal.SIGALRM, lambda *_: on_timeout())
    signal.setitimer(signal.ITIMER_REAL, after_s, REPEAT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if outer_s:
            signal.setitimer(signal.ITIMER_REAL, max(0.001, outer_s - (time.monotonic() - began)))
