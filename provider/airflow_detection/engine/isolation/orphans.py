"""Orphaned processes: those that a version's process has started and left behind are ended too.

Linux only (a child subreaper, and `/proc`); elsewhere such a process lives on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
_MAX_ENDING_S = 2.0
_fork_lock = threading.Lock()
_tracked_pids: set[int] = set()


@contextmanager
def subreaper() -> Iterator[frozenset[int]]:
    """Make this process a subreaper: processes below it that lose their parent become its children.

    Gives the ids of the children that it has already.
    """
    before = ctypes.c_int(0)
    libc = None
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield frozenset(_child_pids())
    finally:
        if libc is not None and not before.value:
            with contextlib.suppress(AttributeError):
                libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def tracked_fork(fork: Callable[[], int]) -> int:
    """Fork a process that does not count as an orphan until `untrack`; return its id, 0 in the child."""
    with _fork_lock:
        if pid := fork():
            _tracked_pids.add(pid)
        return pid


def untrack(pid: int) -> None:
    """Forget a process that has been waited for: its id may become another's."""
    _tracked_pids.discard(pid)


def end_orphans(earlier_children: Collection[int]) -> bool:
    """Kill the orphaned processes among the children, wait for them, and do so with those that they leave.

    Orphaned are the children that are neither tracked nor among `earlier_children`. Returns whether there
    were any.
    """
    end_at, were_any = time.monotonic() + _MAX_ENDING_S, False
    with _fork_lock:
        while orphans := [
            pid for pid in _child_pids() if pid not in earlier_children and pid not in _tracked_pids
        ]:
            were_any = True
            for pid in orphans:
                with contextlib.suppress(ProcessLookupError, PermissionError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
            if time.monotonic() > end_at:  # more are started than can be ended
                break
    return were_any


def _child_pids() -> list[int]:
    pids: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):
                pids += map(int, (thread / "children").read_text().split())
    return pids
