"""What a process has started and left behind: it comes to its parent's parent, which ends it.

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
_MOST_S = 2.0
_forking = threading.Lock()
_ours: set[int] = set()


@contextmanager
def adopting() -> Iterator[frozenset[int]]:
    """Processes that lose their parent below this one become its children; gives those it has already."""
    before = ctypes.c_int(0)
    libc = None
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield frozenset(_children())
    finally:
        if libc is not None and not before.value:
            with contextlib.suppress(AttributeError):
                libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def started(fork: Callable[[], int]) -> int:
    """Fork a process that is no orphan until `collected` says that it is no more; 0 in the process itself."""
    with _forking:
        if pid := fork():
            _ours.add(pid)
        return pid


def collected(pid: int) -> None:
    """The process is no more: its number may become another's."""
    _ours.discard(pid)


def end_orphans(others: Collection[int]) -> bool:
    """Kill and collect the children that are neither `started` nor among `others`, and those they leave.

    Returns whether there were any.
    """
    end_at, were_any = time.monotonic() + _MOST_S, False
    with _forking:
        while found := [pid for pid in _children() if pid not in others and pid not in _ours]:
            were_any = True
            for pid in found:
                with contextlib.suppress(ProcessLookupError, PermissionError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
            if time.monotonic() > end_at:  # it starts more than can be ended
                break
    return were_any


def _children() -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (thread / "children").read_text().split())
    return found
