"""A process of its own: forked, cut off from everything that its parent holds, heard through pipes.

Standard library only. What runs in the child can hang, exit, be killed or write nonsense: the parent sees an
end of the pipe and a status, and nothing that the parent has open is within the child's reach.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import logging
import os
import resource
import signal
import struct
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from airflow_detection.engine.isolation.orphans import collected, started

HEAD = struct.Struct(">cI")
"""A frame: its kind, the length of what follows."""
LOG, RESULT, BACKEND = b"L", b"R", b"B"
MAX_FRAME_BYTES = 16 * 2**20
_MAX_LINE = 64 * 1024
_READ_BYTES = 2**16
_MOST_BYTES = 2**20  # of one pipe at a time: a process that never stops talking is not alone
_REPORTING_BYTES = 32 * 2**20
_PR_SET_PDEATHSIG = 1


class CorruptFrame(ValueError):
    """What came through the pipe is no frame."""


class FrameWriter:
    """The child's end: frames to the parent."""

    def __init__(self, fd: int, pid: int) -> None:
        self._fd, self._pid, self._lock = fd, pid, threading.Lock()

    def send(self, kind: bytes, facts: Mapping[str, Any]) -> None:  # Any: JSON
        """Write one frame; a process that the child itself has forked says nothing."""
        if os.getpid() != self._pid:
            os._exit(0)
        body = json.dumps(facts).encode()
        with self._lock:
            held = memoryview(HEAD.pack(kind, len(body)) + body)
            while held:
                held = held[os.write(self._fd, held) :]


class _PipeHandler(logging.Handler):
    """Sends log records to the parent as text."""

    def __init__(self, frame_writer: FrameWriter) -> None:
        super().__init__()
        self._writer = frame_writer

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
            if record.exc_info and record.exc_info[0]:
                text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        except MemoryError:
            allow_reporting()
            text = str(record.msg)
        except Exception:
            text = f"a log line that cannot be written: {record.msg!r:.200}"
        self._writer.send(LOG, {"name": record.name, "level": record.levelno, "text": text[:_MAX_LINE]})


class Child:
    """The parent's end: reads frames and printed lines, ends the process, learns how it ended."""

    def __init__(self, pid: int, frames_fd: int, text_fd: int) -> None:
        self.pid, self.frames_fd, self.text_fd = pid, frames_fd, text_fd
        self._frames, self._text = bytearray(), bytearray()
        self._closed: set[int] = set()
        self.pidfd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
        self.status: int | None = None

    def frames(self, *, at_end: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """The frames that are whole by now, without waiting.

        Raises:
            CorruptFrame: something else came.
        """
        self._frames += self._available(self.frames_fd, at_end=at_end)
        while len(self._frames) >= HEAD.size:
            kind, length = HEAD.unpack_from(self._frames)
            if kind not in (LOG, RESULT, BACKEND) or length > MAX_FRAME_BYTES:
                raise CorruptFrame(
                    f"the version's process wrote {bytes(self._frames[:16])!r} where a report goes"
                )
            if len(self._frames) < HEAD.size + length:
                return
            body = bytes(self._frames[HEAD.size : HEAD.size + length])
            del self._frames[: HEAD.size + length]
            yield kind, body

    def lines(self, *, at_end: bool = False) -> Iterator[str]:
        """What was printed: whole lines, and the rest of one at the end; without waiting."""
        self._text += self._available(self.text_fd, at_end=at_end)
        while b"\n" in self._text or len(self._text) > _MAX_LINE or (at_end and self._text):
            line, found, rest = self._text.partition(b"\n")
            if not found:
                line, rest = self._text[:_MAX_LINE], self._text[_MAX_LINE:]
            self._text = bytearray(rest)
            if line.strip():
                yield line.decode(errors="replace").rstrip()

    def is_closed(self, fd: int) -> bool:
        """Whether nobody will write to this pipe any more."""
        return fd in self._closed

    def _available(self, fd: int, *, at_end: bool) -> bytes:
        found, most = bytearray(), 4 * MAX_FRAME_BYTES if at_end else _MOST_BYTES
        with contextlib.suppress(BlockingIOError):
            while len(found) < most:
                read = os.read(fd, _READ_BYTES)
                if not read:
                    self._closed.add(fd)
                    break
                found += read
        return bytes(found)

    def has_ended(self) -> bool:
        """Whether the process is no more; its status is known from then on."""
        if self.status is None:
            with contextlib.suppress(ChildProcessError):
                info = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if info is None:
                    return False
                self.kill(signal.SIGKILL)  # what it has started and left: while its id is still its own
            self.status = self._reaped()
        return True

    def _reaped(self) -> int:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:  # somebody else has collected it
            return 255
        finally:
            collected(self.pid)

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to the process and to what it has started."""
        for send in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                send(self.pid, number)

    def end(self) -> None:
        """Kill it and wait for it."""
        if self.status is None:
            self.kill(signal.SIGKILL)
            self.status = self._reaped()

    def close(self) -> None:
        """Give the pipes back."""
        for fd in (self.frames_fd, self.text_fd, self.pidfd):
            if fd is not None:
                with contextlib.suppress(OSError):
                    os.close(fd)


def fork(
    work: Callable[[FrameWriter], None], *, keep: Collection[int] = (), memory_bytes: int | None = None
) -> Child:
    """Run `work` in a child process.

    Args:
        keep: descriptors that the child shares with its parent; it has no other of the parent's.
        memory_bytes: how much more than its parent holds now the child may allocate.

    The child never returns from here. It starts with one thread: locks of other threads stay as they were,
    which is why models are imported in the child alone.
    """
    frames_in, frames_out = os.pipe()
    text_in, text_out = os.pipe()
    parent = os.getpid()
    with warnings.catch_warnings():
        # Python 3.12 warns of threads (of a metrics exporter, say): the child takes no lock of theirs but
        # those that Python, glibc and logging renew in a child, and one that hangs is ended at its timeout.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = started(os.fork)
    if pid == 0:
        _child(work, parent, frames_out, text_out, keep, memory_bytes)
    for fd in (frames_out, text_out):
        os.close(fd)
    for fd in (frames_in, text_in):
        os.set_blocking(fd, False)
    with contextlib.suppress(OSError):  # either of the two comes first
        os.setpgid(pid, pid)
    return Child(pid, frames_in, text_in)


def _child(
    work: Callable[[FrameWriter], None],
    parent: int,
    frames_fd: int,
    text_fd: int,
    keep: Collection[int],
    memory_bytes: int | None,
) -> NoReturn:
    status = 1
    try:
        gc.freeze()  # nothing that the parent made is collected, and thereby closed, here
        _own_process(parent)
        _replace_descriptors({frames_fd, *keep}, text_fd)
        frame_writer = FrameWriter(frames_fd, os.getpid())
        _log_to(frame_writer)
        if memory_bytes is not None:
            limit_memory(memory_bytes)
        work(frame_writer)
        status = 0
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _own_process(parent: int) -> None:
    """Signals as at a start, a process group of its own, and no life beyond the parent's."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with contextlib.suppress(OSError, AttributeError):  # Linux; elsewhere the timeout has to do
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def _replace_descriptors(kept: Collection[int], text_fd: int) -> None:
    """Put the null device in place of each descriptor of the parent, and the text pipe behind print.

    They are replaced, not closed: whoever still holds one (a driver, a logger) writes into nothing, and no
    new file gets its number. No goodbye of a database driver reaches a server, no line the supervisor.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for path in list(Path("/dev/fd").iterdir()):
        fd = int(path.name)
        if fd not in kept and fd not in (null, text_fd):
            with contextlib.suppress(OSError):
                os.fstat(fd)
                os.dup2(null, fd, inheritable=fd < 3)
    os.dup2(text_fd, 1)
    os.dup2(text_fd, 2)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream = open(fd, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)


def _log_to(frame_writer: FrameWriter) -> None:
    """Every logger sends to the parent; handlers of the parent are let go."""
    for logger in logging.Logger.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.handlers.clear()
            logger.propagate = True
    logging.root.handlers[:] = [_PipeHandler(frame_writer)]


def limit_memory(more_bytes: int) -> None:
    """Bound what this process may allocate from now on; beyond it there is a MemoryError."""
    bound = _allocated_bytes() + more_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = bound + _REPORTING_BYTES if hard == resource.RLIM_INFINITY else min(hard, bound + _REPORTING_BYTES)
    resource.setrlimit(resource.RLIMIT_DATA, (min(bound, most), most))


def allow_reporting() -> None:
    """Let go of the last of the bound: a report has to be written where the memory is used up."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _allocated_bytes() -> int:
    """What counts for RLIMIT_DATA by now; 0 where the system does not tell."""
    with contextlib.suppress(OSError, ValueError), Path("/proc/self/status").open() as file:
        for line in file:
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return 0
