"""`make demo-clean`: end what a demo left running, and remove its state."""

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


def main() -> None:
    """Clean the state directory that STATE names, else `.demo`."""
    state = Path(os.environ.get("STATE") or CHECKOUT / ".demo").resolve()
    try:
        print(clean(state))
    except (DemoError, OSError) as exc:
        sys.exit(f"error: {exc}")


def clean(state: Path) -> str:
    """End what runs in `state`, remove it, and say so in one line.

    Raises:
        DemoError: the directory is not a demo's.
    """
    if not state.exists():
        return f"{state} is not there: nothing to clean"
    if not (state / "state.json").exists() and any(state.iterdir()):
        raise DemoError(f"{state} holds no demo, so it was left as it is")
    ended = end_leftovers(state, runner_too=True)
    shutil.rmtree(state)
    return f"{state} removed" + (f", {ended} processes ended" if ended else "")


def end_leftovers(state: Path, *, runner_too: bool = False) -> int:
    """End the processes of an earlier demo in `state`; return how many there were.

    With `runner_too` a demo that is still in use is ended as well.
    """
    pids = state / "pids"
    if not pids.exists():
        return 0
    runner, keeper = (int(word) for word in pids.read_text().split())
    family = [process for process in psutil.process_iter() if _belongs(process, keeper)]
    if runner_too:
        _end(_of_demo(runner), signal.SIGTERM, END_TIMEOUT_S)
    _end(_of_demo(keeper), signal.SIGTERM, END_TIMEOUT_S)
    _end(family, signal.SIGTERM, KILL_TIMEOUT_S)
    _end(family, signal.SIGKILL, KILL_TIMEOUT_S)
    pids.unlink(missing_ok=True)
    return len(family)


def _belongs(process: psutil.Process, keeper: int) -> bool:
    """Whether a process sits in the session that the keeper leads, or led until it was killed."""
    if not _of_demo(keeper) and psutil.pid_exists(keeper):
        return False  # another program has the number now
    try:
        return os.getsid(process.pid) == keeper
    except OSError:
        return False


def _of_demo(pid: int) -> list[psutil.Process]:
    """Return the process if it is one of ours, going by its command line."""
    try:
        process = psutil.Process(pid)
        return [process] if any(word in {"demo", "demo.supervisor"} for word in process.cmdline()) else []
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
