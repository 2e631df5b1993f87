"""Forked child process without the parent's open files; it reports to the parent through pipes.

Standard library only. Code in the child can hang, exit, be killed or write nonsense: the parent sees the end
of a pipe and an exit status, and the child cannot reach anything that the parent has open.
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
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.engine.isolation.environment import replace_environment
from airflow_detection.engine.isolation.orphans import tracked_fork, untrack
from airflow_detection.engine.isolation.structlog_lines import detach_structlog

FRAME_HEADER = struct.Struct(">cI")
"""Header of a frame: its kind, and the length of the body in bytes."""
LOG, RESULT, BACKEND = b"L", b"R", b"B"
"""Kinds of frames: a log record, the result of the run, the server process of the child's session."""
MAX_FRAME_BYTES = 16 * 2**20
_MAX_LINE = 64 * 1024
_CHUNK_BYTES = 2**16
_MAX_READ_BYTES = 2**20  # of one pipe at a time: other processes wait while one writes without end
_REPORTING_BYTES = 32 * 2**20
_SPOOL_BYTES = 16 * 2**30
_PR_SET_PDEATHSIG = 1
_FIRST_FREE = 3  # descriptor behind the standard ones


_parents_objects: list[object] = []
"""Objects that a child has no use for; if one were deleted, it would close a descriptor of the child."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """Bounds and surroundings of a child.

    `memory_bytes` may be allocated beyond what the parent has allocated, `file_bytes` written into one file;
    None sets no bound. `folder` is the folder in which it works and keeps temporary files, `environment` the
    names of the variables that it has besides those that each has.
    """

    folder: str
    memory_bytes: int | None = None
    file_bytes: int | None = None
    environment: Collection[str] = ()


class CorruptFrame(ValueError):
    """The bytes in the pipe are not a frame."""


class FrameWriter:
    """Writes frames to the parent: the child's end of the pipe."""

    def __init__(self, fd: int, pid: int) -> None:
        self._fd, self._pid, self._lock = fd, pid, threading.Lock()

    def send(self, kind: bytes, values: JsonMapping) -> None:
        """Write one frame; a process that the child itself has forked exits instead."""
        if os.getpid() != self._pid:
            os._exit(0)
        body = json.dumps(values).encode()
        with self._lock:
            unsent = memoryview(FRAME_HEADER.pack(kind, len(body)) + body)
            while unsent:
                unsent = unsent[os.write(self._fd, unsent) :]


class Child:
    """The child as its parent sees it: reads its frames and printed lines, ends it, and gets its status."""

    def __init__(self, pid: int, frames_fd: int, text_fd: int) -> None:
        self.pid, self.frames_fd, self.text_fd = pid, frames_fd, text_fd
        self._frame_buffer, self._text_buffer = bytearray(), bytearray()
        self._closed: set[int] = set()
        self.pidfd = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
        self.status: int | None = None

    def frames(self, *, at_end: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the (kind, body) of the frames that are complete by now, without waiting.

        Raises:
            CorruptFrame: the bytes in the pipe are not a frame.
        """
        buffer = self._frame_buffer
        buffer += self._read_available(self.frames_fd, at_end=at_end)
        while len(buffer) >= FRAME_HEADER.size:
            kind, length = FRAME_HEADER.unpack_from(buffer)
            if kind not in (LOG, RESULT, BACKEND) or length > MAX_FRAME_BYTES:
                raise CorruptFrame(
                    f"frame begins with {bytes(buffer[:16])!r}: must be L, R or B and a length up to"
                    f" {MAX_FRAME_BYTES}"
                )
            if len(buffer) < FRAME_HEADER.size + length:
                return
            body = bytes(buffer[FRAME_HEADER.size : FRAME_HEADER.size + length])
            del buffer[: FRAME_HEADER.size + length]
            yield kind, body

    def lines(self, *, at_end: bool = False) -> Iterator[str]:
        """Iterate over the printed lines complete by now, without waiting; at the end over the rest too."""
        self._text_buffer += self._read_available(self.text_fd, at_end=at_end)
        while (
            b"\n" in self._text_buffer or len(self._text_buffer) > _MAX_LINE or (at_end and self._text_buffer)
        ):
            line, newline, rest = self._text_buffer.partition(b"\n")
            if not newline:
                line, rest = self._text_buffer[:_MAX_LINE], self._text_buffer[_MAX_LINE:]
            self._text_buffer = bytearray(rest)
            if line.strip():
                yield line.decode(errors="replace").rstrip()

    def is_closed(self, fd: int) -> bool:
        """Tell whether no process can write to this pipe any more."""
        return fd in self._closed

    def has_ended(self) -> bool:
        """Tell whether the process has ended; `status` is set from then on."""
        if self.status is None:
            with contextlib.suppress(ChildProcessError):
                info = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if info is None:
                    return False
                self.kill(signal.SIGKILL)  # the rest of its group, before its id can be used again
            self.status = self._reap()
        return True

    def kill(self, number: signal.Signals) -> None:
        """Send a signal to the process and to its process group."""
        for send in (os.killpg, os.kill):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                send(self.pid, number)

    def end(self) -> None:
        """Kill the process if it has not ended, and wait for it."""
        if self.status is None:
            self.kill(signal.SIGKILL)
            self.status = self._reap()

    def close(self) -> None:
        """Close the pipes."""
        for fd in (self.frames_fd, self.text_fd, self.pidfd):
            if fd is not None:
                with contextlib.suppress(OSError):
                    os.close(fd)

    def _read_available(self, fd: int, *, at_end: bool) -> bytes:
        data, max_bytes = bytearray(), 4 * MAX_FRAME_BYTES if at_end else _MAX_READ_BYTES
        with contextlib.suppress(BlockingIOError):
            while len(data) < max_bytes:
                chunk = os.read(fd, _CHUNK_BYTES)
                if not chunk:
                    self._closed.add(fd)
                    break
                data += chunk
        return bytes(data)

    def _reap(self) -> int:
        try:
            return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        except ChildProcessError:  # other code of this process has waited for it
            return 255
        finally:
            untrack(self.pid)


def occupy_standard_descriptors() -> None:
    """Open the null device in place of standard descriptors that this process lacks: no file gets them."""
    while (fd := os.open(os.devnull, os.O_RDWR)) < _FIRST_FREE:
        os.set_inheritable(fd, True)
    os.close(fd)


def fork(work: Callable[[FrameWriter], None], confinement: Confinement, keep: Collection[int] = ()) -> Child:
    """Run `work` in a child process.

    Args:
        keep: file descriptors that the child shares with its parent; it has no others of the parent's.

    The child never returns from here. It starts with one thread, and locks that other threads of the parent
    held are never released in it: models are therefore imported in the child alone.
    """
    frames_in, frames_out = os.pipe()
    text_in, text_out = os.pipe()
    parent = os.getpid()
    with warnings.catch_warnings():
        # Python 3.12 warns where other threads run, such as those of a metrics exporter. The child needs none
        # of their locks but those that Python, glibc and logging renew; if it hangs, its timeout ends it.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = tracked_fork(os.fork)
    if pid == 0:
        _run_in_child(work, parent, frames_out, text_out, keep, confinement)
    for fd in (frames_out, text_out):
        os.close(fd)
    for fd in (frames_in, text_in):
        os.set_blocking(fd, False)
    with contextlib.suppress(OSError):  # parent and child both set it: either may come first
        os.setpgid(pid, pid)
    return Child(pid, frames_in, text_in)


def limit_memory(more_bytes: int) -> None:
    """Limit what this process may allocate from now on; beyond the limit it gets a MemoryError."""
    soft = _allocated_bytes() + more_bytes
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    with_reserve = soft + _REPORTING_BYTES
    hard = with_reserve if hard == resource.RLIM_INFINITY else min(hard, with_reserve)
    resource.setrlimit(resource.RLIMIT_DATA, (min(soft, hard), hard))


def limit_files(max_bytes: int) -> None:
    """Limit the size of files that this process writes to; beyond the limit it gets an OSError (EFBIG)."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # it would end the process
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with_spool = max(max_bytes, _SPOOL_BYTES)
    hard = with_spool if hard == resource.RLIM_INFINITY else min(hard, with_spool)
    resource.setrlimit(resource.RLIMIT_FSIZE, (min(max_bytes, hard), hard))


def allow_spool() -> None:
    """Raise the limit of file sizes, where there is one, to that of encoded outputs: 16 GiB."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def free_memory_reserve() -> None:
    """Raise the memory limit to its reserve: a report must be written even where memory is used up."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


@contextlib.contextmanager
def limits_restored() -> Iterator[None]:
    """Put the limits of memory and file sizes back, at the end, to what they are now."""
    limits = {kind: resource.getrlimit(kind) for kind in (resource.RLIMIT_DATA, resource.RLIMIT_FSIZE)}
    try:
        yield
    finally:
        for kind, limit in limits.items():
            resource.setrlimit(kind, limit)


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
            free_memory_reserve()
            text = str(record.msg)
        except Exception:
            text = f"a log line that cannot be written: {record.msg!r:.200}"
        self._writer.send(LOG, {"name": record.name, "level": record.levelno, "text": text[:_MAX_LINE]})


def _run_in_child(
    work: Callable[[FrameWriter], None],
    parent: int,
    frames_fd: int,
    text_fd: int,
    keep: Collection[int],
    confinement: Confinement,
) -> NoReturn:
    status = 1
    try:
        gc.freeze()  # objects of the parent are not collected, and thereby closed, here
        _detach_from(parent)
        _replace_descriptors({frames_fd, *keep}, text_fd)
        frame_writer = FrameWriter(frames_fd, os.getpid())
        _send_logs_to(frame_writer)
        _confine(confinement)
        work(frame_writer)
        status = 0
    except BaseException:
        with contextlib.suppress(BaseException):
            traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
            ctypes.CDLL(None).fflush(None)
        os._exit(status)


def _confine(confinement: Confinement) -> None:
    replace_environment(confinement.environment, confinement.folder)
    sys.path[:] = map(os.path.abspath, sys.path)
    os.chdir(confinement.folder)
    tempfile.tempdir = None  # asked for anew
    if confinement.memory_bytes is not None:
        limit_memory(confinement.memory_bytes)
    if confinement.file_bytes is not None:
        limit_files(confinement.file_bytes)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # it would hold all that the task has in memory


def _detach_from(parent: int) -> None:
    """Take a process group, reset the signals, and have the kernel end this process with its parent."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with contextlib.suppress(OSError, AttributeError):  # Linux; elsewhere the timeout ends it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def _replace_descriptors(kept: Collection[int], text_fd: int) -> None:
    """Put the null device in place of each descriptor of the parent; what is logged goes to the text pipe.

    They are replaced, not closed: an object that still uses one (a driver, a logger) writes to the null
    device, and no new file gets its number. So no driver can close the parent's session on the server, and no
    line reaches the task's supervisor. The parent's standard streams stay alive, because those of an Airflow
    task close their descriptors when they are deleted.
    """
    null, log_fd = os.open(os.devnull, os.O_RDWR), detach_structlog()
    for path in list(Path("/dev/fd").iterdir()):
        fd = int(path.name)
        if fd not in kept and fd not in (null, text_fd):
            with contextlib.suppress(OSError):
                os.fstat(fd)
                os.dup2(null, fd, inheritable=fd < 3)
    for fd in (1, 2):
        os.dup2(text_fd, fd)
    if log_fd is not None and log_fd > 2:  # loggers keep the file that was given to them
        os.dup2(text_fd, log_fd, inheritable=False)
    _discard_c_output()
    names = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")
    _parents_objects.extend(getattr(sys, name) for name in names)
    sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc]  # noqa: SIM115
    for name, fd in (("stdout", 1), ("stderr", 2)):
        stream = open(fd, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def _discard_c_output() -> None:
    """Discard what C code of the parent has printed and not flushed; its own process prints it."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        libc = ctypes.CDLL(None)
        libc["__fpurge"](ctypes.c_void_p.in_dll(libc, "stdout"))


def _send_logs_to(frame_writer: FrameWriter) -> None:
    """Make every logger, and warnings, go to the parent; the handlers of the parent are removed."""
    for logger in logging.Logger.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            _parents_objects.extend(logger.handlers)
            logger.handlers.clear()
            logger.propagate = True
    _parents_objects.extend(logging.root.handlers)
    logging.root.handlers[:] = [_PipeHandler(frame_writer)]
    for is_captured in (False, True):  # anew: Airflow has put a function of its own in place
        logging.captureWarnings(is_captured)


def _allocated_bytes() -> int:
    """Return the bytes that count for RLIMIT_DATA by now; 0 where the system does not give them."""
    with contextlib.suppress(OSError, ValueError), Path("/proc/self/status").open() as file:
        for line in file:
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return 0
