"""The demo's side of its supervisor process: start programs, notice when one ends, end them all."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from demo.errors import DemoError

STOP_TIMEOUT_S = 40.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A program to run; `user` and `group` are numeric ids to run as.

    `tier` orders the stop: the highest is stopped first.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    log: str
    tier: int = 1
    user: int | None = None
    group: int | None = None
    stop_signal: int = int(signal.SIGTERM)


@dataclass(slots=True)
class Supervisor:
    """A running supervisor process (a context manager; leaving it ends everything it started).

    The process leads a session of its own, so Ctrl-C in the terminal reaches only the demo's main process,
    which then closes the pipe between the two.
    """

    log_dir: Path
    pid_file: Path
    process: subprocess.Popen[bytes] = field(init=False)
    pids: dict[str, int] = field(init=False, default_factory=dict)
    exits: dict[str, int] = field(init=False, default_factory=dict)
    _listener: threading.Thread = field(init=False)
    _failures: dict[str, str] = field(init=False, default_factory=dict)

    def __enter__(self) -> Self:
        with (self.log_dir / "supervisor.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "demo.supervisor"],
                cwd=Path(__file__).parents[1],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self.pid_file.write_text(f"{os.getpid()}\n{self.process.pid}\n")
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End everything; a second Ctrl-C while that goes on changes nothing."""
        previous = {s: signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            with suppress(BrokenPipeError):
                _pipe(self.process.stdin).close()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_TIMEOUT_S)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self._listener.join()
            _pipe(self.process.stdout).close()
            self.pid_file.unlink(missing_ok=True)
            for signum, handler in previous.items():
                signal.signal(signum, handler)

    def start(self, program: Program) -> int:
        """Start a program and return its process id.

        Raises:
            DemoError: it could not be started.
        """
        self.exits.pop(program.name, None)
        self.pids.pop(program.name, None)
        self._send({"start": {**asdict(program), "argv": list(program.argv), "env": dict(program.env)}})
        while program.name not in self.pids:
            if reason := self._failures.pop(program.name, None):
                raise DemoError(f"{program.name} could not be started: {reason}")
            self._check_process()
            time.sleep(POLL_S / 5)
        return self.pids[program.name]

    def finish(self, program: Program) -> None:
        """Wait for the end of a program that was started.

        Raises:
            DemoError: it ended with another code than 0.
        """
        while program.name not in self.exits:
            self._check_process()
            time.sleep(POLL_S)
        if code := self.exits.pop(program.name):
            raise self._exit_error(program.name, code)

    def check(self) -> None:
        """Raise DemoError when a program that was started, and not waited for, has ended."""
        self._check_process()
        for name, code in list(self.exits.items()):
            raise self._exit_error(name, code)

    def _exit_error(self, name: str, code: int) -> DemoError:
        return DemoError(exit_message(name, code, self.log_dir / f"{name}.log"))

    def _check_process(self) -> None:
        if self.process.poll() is not None:
            raise DemoError("the demo's processes were ended from outside")

    def _send(self, message: object) -> None:
        pipe = _pipe(self.process.stdin)
        try:
            pipe.write(json.dumps(message).encode() + b"\n")
            pipe.flush()
        except BrokenPipeError as exc:
            raise DemoError("the demo's processes were ended from outside") from exc

    def _listen(self) -> None:
        for line in _pipe(self.process.stdout):
            match json.loads(line):
                case {"started": str(name), "pid": int(pid)}:
                    self.pids[name] = pid
                case {"exited": str(name), "code": int(code)}:
                    self.exits[name] = code
                case {"failed": str(name), "reason": str(reason)}:
                    self._failures[name] = reason


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:  # cannot be: the supervisor is started with both pipes
        raise DemoError("the supervisor process has no pipe")
    return pipe


def exit_message(name: str, code: int, log: Path) -> str:
    """Return the message about a program that ended: its code, and the last line of its log."""
    text = log.read_text(errors="replace") if log.exists() else ""
    return f"the {name} ended with code {code}: {last_line(text)} (see {log})"


def last_line(text: str) -> str:
    """Return the last line that is not blank, at most 200 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it wrote nothing"
