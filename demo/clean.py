"""`make demo-clean`: end the processes that a demo left, and remove its state directory."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import psutil

from demo.errors import DemoError
from demo.settings import CHECKOUT
from demo.supervisor import is_alive

END_TIMEOUT_S = 45.0
KILL_TIMEOUT_S = 10.0
POLL_S = 0.05
MODULES = frozenset({"demo", "demo.supervisor"})  # run as `python -m`


def main() -> None:
    """Clean the state directory that STATE names, else `.demo`."""
    state = Path(os.environ.get("STATE") or CHECKOUT / ".demo").resolve()
    try:
        print(clean(state))
    except (DemoError, OSError) as exc:
        sys.exit(f"error: {exc}")


def clean(state: Path) -> str:
    """End what runs in the state directory and remove it; return one line that says so.

    Raises:
        DemoError: the directory is not a demo's.
    """
    if not state.exists():
        return f"{state} is not there: nothing to clean"
    if not (state / "state.json").exists() and any(state.iterdir()):
        raise DemoError(f"{state} holds no demo, so it was left as it is")
    ended = end_leftovers(state, with_main=True)
    shutil.rmtree(state)
    return f"{state} removed" + (f", {ended} processes ended" if ended else "")


def end_leftovers(state: Path, *, with_main: bool = False) -> int:
    """End the processes of an earlier demo in `state`; return how many there were.

    With `with_main` the main process of a demo that is still in use is ended first, as Ctrl-C would.
    """
    pids = state / "pids"
    if not pids.exists():
        return 0
    main_pid, supervisor_pid = map(int, pids.read_text().split())
    family = [process for process in psutil.process_iter() if _is_in_session_of(process, supervisor_pid)]
    if with_main:
        _end(_of_demo(main_pid), signal.SIGTERM, END_TIMEOUT_S)
    _end(_of_demo(supervisor_pid), signal.SIGTERM, END_TIMEOUT_S)
    _end(family, signal.SIGTERM, KILL_TIMEOUT_S)
    _end(family, signal.SIGKILL, KILL_TIMEOUT_S)
    pids.unlink(missing_ok=True)
    return len(family)


def _is_in_session_of(process: psutil.Process, supervisor_pid: int) -> bool:
    """Tell whether a process is in the session that the supervisor leads, or led until it was killed."""
    if not _of_demo(supervisor_pid) and psutil.pid_exists(supervisor_pid):
        return False  # another program has this process id now
    try:
        return os.getsid(process.pid) == supervisor_pid
    except OSError:
        return False


def _of_demo(pid: int) -> list[psutil.Process]:
    """Return the process, as a list, if its command line is that of a demo; else nothing."""
    try:
        process = psutil.Process(pid)
        return [process] if any(argument in MODULES for argument in process.cmdline()) else []
    except psutil.NoSuchProcess:
        return []


def _end(processes: list[psutil.Process], signum: signal.Signals, timeout_s: float) -> None:
    alive = [process for process in processes if is_alive(process)]
    for process in alive:
        process.send_signal(signum)
    deadline = time.monotonic() + timeout_s
    while any(map(is_alive, alive)) and time.monotonic() < deadline:
        time.sleep(POLL_S)


if __name__ == "__main__":
    main()
