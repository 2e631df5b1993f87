"""Supervisor process: the parent of every server of the demo; it ends them all when its standard input ends.

It leads a session of its own, so no process that it starts outlives the demo: the process at the other end
of the pipe may stop, fail or be killed, and the end of the pipe ends the session. It reads one JSON object
per line, `{"start": program}` with the fields of `demo.programs.Program`, and writes
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
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil

from demo.programs import Program

POLL_S = 0.05
GRACE_S = 5.0
KILL_GRACE_S = 2.0


class Child(NamedTuple):
    """A started program: its process, and in which tier it stops (the highest tier first)."""

    process: subprocess.Popen[bytes]
    tier: int
    stop_signal: int


def main() -> None:
    """Supervise the programs of one demo until standard input ends or a SIGTERM comes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _exit)
    children: dict[str, Child] = {}
    try:
        for line in _lines(children):
            _start(Program(**json.loads(line)["start"]), children)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        stop_all(children)


def _exit(signum: int, _frame: object) -> None:
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
            _report(exited=name, code=children.pop(name).process.returncode)


def _report(**event: object) -> None:
    print(json.dumps(event), flush=True)


def _start(program: Program, children: dict[str, Child]) -> None:
    try:
        process = launch(program)
    except OSError as exc:
        _report(failed=program.name, reason=str(exc))
        return
    children[program.name] = Child(process, program.tier, program.stop_signal)
    _report(started=program.name, pid=process.pid)


def launch(program: Program, *, has_own_session: bool = False) -> subprocess.Popen[bytes]:
    """Start a program as a child of this process; OSError when it cannot be started."""
    with Path(program.log).open("ab") as log:
        return subprocess.Popen(
            program.argv,
            env=program.env,
            cwd=program.cwd,
            user=program.user,
            group=program.group,
            extra_groups=None if program.user is None else [],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=has_own_session,
        )


def stop_all(children: Mapping[str, Child]) -> None:
    """End every child, tier by tier, and then whatever is left of this session."""
    stop_children(children.values())
    _end([process for process in psutil.process_iter() if _in_session(process)])


def stop_children(children: Collection[Child]) -> None:
    """End every child with its descendants, tier by tier."""
    for tier in sorted({child.tier for child in children}, reverse=True):
        members = [child for child in children if child.tier == tier]
        family = list(_descendants(members))
        for child in members:
            _signal(child.process.pid, child.stop_signal)
        _wait_for((child.process for child in members), GRACE_S)
        _end(family)


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
    """Send SIGTERM, then SIGKILL, to those alive; psutil compares start times, so no later process is hit."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        alive = [process for process in processes if is_alive(process)]
        for process in alive:
            _signal(process.pid, signum)
        deadline = time.monotonic() + KILL_GRACE_S
        while any(map(is_alive, alive)) and time.monotonic() < deadline:
            time.sleep(POLL_S)


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process runs; one that has ended and was not waited for yet (a zombie) does not."""
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
    except BrokenPipeError:  # nobody reads any more; the children have been ended all the same
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
