"""The one parent of every server of the demo; when its standard input ends, it ends all of them.

It runs as the leader of a session of its own, so nothing it starts is lost: whoever holds the other end of
the pipe may stop, fail or be killed, and the end of the pipe ends the session. It reads one JSON object per
line, `{"start": program}` with the fields of `demo.programs.Program`, and writes
`{"started": name, "pid": n}`, `{"exited": name, "code": n}` and, when a program cannot be started,
`{"failed": name, "reason": text}`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

POLL_S = 0.05
GRACE_S = 5.0
KILL_GRACE_S = 2.0


class Child(NamedTuple):
    """A started program: its process, and in which tier it stops (the highest tier first)."""

    process: subprocess.Popen[bytes]
    tier: int
    stop_signal: int


def main() -> None:
    """Keep the children of one demo until standard input ends or a SIGTERM comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _leave)
    children: dict[str, Child] = {}
    try:
        for line in _lines(children):
            _start(json.loads(line)["start"], children)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop_all(children)


def _leave(signum: int, _frame: object) -> None:
    raise SystemExit(128 + signum)


def _lines(children: dict[str, Child]) -> Iterator[bytes]:
    """Yield the lines of standard input until it ends, reporting children that end in between."""
    pending = b""
    while True:
        ready, _, _ = select.select([0], [], [], POLL_S)
        if ready:
            chunk = os.read(0, 65536)
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            yield from lines
        for name in [name for name, child in children.items() if child.process.poll() is not None]:
            _say(exited=name, code=children.pop(name).process.returncode)


def _say(**event: object) -> None:
    print(json.dumps(event), flush=True)


def _start(program: dict[str, Any], children: dict[str, Child]) -> None:
    # Any: the object comes from JSON; the other side builds it from the typed `Program`.
    name = program["name"]
    try:
        with Path(program["log"]).open("ab") as log:
            process = subprocess.Popen(
                program["argv"],
                env=program["env"],
                cwd=program["cwd"],
                user=program["user"],
                group=program["group"],
                extra_groups=None if program["user"] is None else [],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
    except OSError as exc:
        _say(failed=name, reason=str(exc))
        return
    children[name] = Child(process, program["tier"], program["stop_signal"])
    _say(started=name, pid=process.pid)


def stop_all(children: dict[str, Child]) -> None:
    """End every child, tier by tier, and then whatever is left of this session."""
    for tier in sorted({child.tier for child in children.values()}, reverse=True):
        members = [child for child in children.values() if child.tier == tier]
        family = list(_descendants(members))
        for child in members:
            _signal(child.process.pid, child.stop_signal)
        _wait_for((child.process for child in members), GRACE_S)
        _end(family)
    _end([process for process in psutil.process_iter() if _in_session(process)])


def _descendants(members: Iterable[Child]) -> Iterator[psutil.Process]:
    for child in members:
        try:
            process = psutil.Process(child.process.pid)
            yield process
            yield from process.children(recursive=True)
        except psutil.NoSuchProcess:
            continue


def _wait_for(processes: Iterable[subprocess.Popen[bytes]], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    for process in processes:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return


def _in_session(process: psutil.Process) -> bool:
    if process.pid == os.getpid():
        return False
    try:
        return os.getsid(process.pid) == os.getsid(0)
    except OSError:
        return False


def _end(processes: list[psutil.Process]) -> None:
    """Ask what is left to end, then end it; each is checked to be the process it was (start time)."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        alive = [process for process in processes if is_alive(process)]
        for process in alive:
            _signal(process.pid, signum)
        deadline = time.monotonic() + KILL_GRACE_S
        while any(map(is_alive, alive)) and time.monotonic() < deadline:
            time.sleep(POLL_S)


def is_alive(process: psutil.Process) -> bool:
    """Whether a process still does something; one that nobody has waited for yet does not."""
    try:
        return bool(process.is_running()) and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except ProcessLookupError:
        return


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # the reader is gone; the children have been ended all the same
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
