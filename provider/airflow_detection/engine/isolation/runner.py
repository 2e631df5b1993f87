"""Running versions in processes of their own: whatever one does to itself, the cycle goes on."""

from __future__ import annotations

import logging
import selectors
import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import IO, Any, Protocol

from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.specs import Cycle, ModelSpec, Outcome, VersionSpec
from airflow_detection.engine.canary import Pair
from airflow_detection.engine.isolation import child as process
from airflow_detection.engine.isolation.child import FrameWriter
from airflow_detection.engine.isolation.orphans import adopting, end_orphans
from airflow_detection.engine.isolation.report_json import (
    MalformedReport,
    metrics_of,
    report_json,
    report_of,
    strict_loads,
)
from airflow_detection.engine.job import Finish, Job, failed, not_run, run_job, save_failure
from airflow_detection.engine.model import ReadOnlyDatabase, Upstream
from airflow_detection.engine.run_log import LogContext, run_facts, run_logger
from airflow_detection.errors import RegistryUnavailable, TerminalModelError, TransientModelError

GRACE_S = 2.0
"""Seconds that a process that got SIGTERM, or that has reported, has to end before it is killed."""

MAX_LINES = 10_000
"""Log lines of one version that are passed on; at its end the number of the others is logged."""

_POLL_S = 0.05
_log = run_logger("airflow_detection.engine")
_PRINTED = "airflow_detection.model"
Facts = Mapping[str, Any]  # Any: JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """What one version may take: seconds from start to end, and bytes beyond what its parent holds."""

    timeout_s: float
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What a child has of the database: connections of its own, for reading alone.

    `backend` tells the parent what to end should the child have to be killed.
    """

    upstream: Callable[[VersionSpec, Cycle], Upstream]
    database: ReadOnlyDatabase | None = None
    backend: Facts = field(default_factory=dict)


class ChildStore(Protocol):
    """Where the results of children go; the engine knows no database."""

    def access(self, limits: ProcessLimits) -> AbstractContextManager[Access]:
        """In the child: open what it reads from."""

    def spool(self, file: IO[bytes], model: ModelSpec, outputs: Iterable[Pair]) -> Facts:
        """In the child: write the outputs into the file; returns what `save` needs beside it."""

    def save(
        self,
        file: IO[bytes],
        facts: Facts,
        model: ModelSpec,
        cycle: Cycle,
        report: RunReport,
        metrics: Mapping[str, float],
    ) -> RunReport:
        """In the parent: store what a child has written or selected; returns the report as it is stored."""

    def save_failure(self, model: ModelSpec, version: VersionSpec, cycle: Cycle, report: RunReport) -> None:
        """In the parent: store the manifest of a failure."""

    def end(self, backend: Facts) -> None:
        """In the parent: end what a killed child has left running."""


class _SpoolingStore:
    """The child's store: outputs go into the file, the report to the parent."""

    def __init__(
        self, child_store: ChildStore, access: Access | None, file: IO[bytes], writer: FrameWriter
    ) -> None:
        self._store, self._access, self._file, self._writer = child_store, access, file, writer

    def save(
        self, model: ModelSpec, version: VersionSpec, cycle: Cycle, outputs: Iterable[Pair], finish: Finish
    ) -> RunReport:
        facts = dict(self._store.spool(self._file, model, outputs))
        report, metrics = finish(facts["count"])
        process.allow_reporting()
        result = {"report": report_json(report), "metrics": dict(metrics), "spool": facts}
        self._writer.send(process.RESULT, result)
        return report

    def save_failure(self, model: ModelSpec, version: VersionSpec, cycle: Cycle, report: RunReport) -> None:
        process.allow_reporting()
        self._writer.send(process.RESULT, {"report": report_json(report), "metrics": {}, "spool": {}})

    def upstream(self, version: VersionSpec, cycle: Cycle) -> Upstream:
        if self._access is None:
            raise RegistryUnavailable("there is no access to the database")
        return self._access.upstream(version, cycle)


class _ChildRun:
    """One version's process, and what it has reported."""

    def __init__(self, job: Job, child_store: ChildStore, limits: ProcessLimits) -> None:
        self.job, self.limits = job, limits
        self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed in `close`
        self.began = time.monotonic()
        self.deadline = self.began + limits.timeout_s
        self.result: dict[str, Any] | None = None  # Any: JSON
        self.backend: Facts | None = None
        self.fault: Exception | None = None
        self.line_count, self.last_line = 0, ""
        self.was_terminated = self.is_overdue = self.left_orphans = False
        self.child = process.fork(
            lambda writer: _work(job, child_store, limits, self.file, writer),
            keep=[self.file.fileno()],
            memory_bytes=limits.memory_bytes,
        )

    def read_pipes(self, *, at_end: bool = False) -> None:
        """Read what the process has written by now: frames, and lines of text."""
        try:
            for kind, body in self.child.frames(at_end=at_end):
                self._take(kind, strict_loads(body))
        except Exception as error:  # whatever it says, and however: it is the version's own fault
            self.fault = TerminalModelError(f"its process reported garbage: {error}")
            self.child.kill(signal.SIGKILL)
        for line in self.child.lines(at_end=at_end):
            self.last_line = line
            self._pass_on(_PRINTED, logging.INFO, line)

    def _take(self, kind: bytes, facts: Any) -> None:  # Any: JSON
        if kind == process.LOG:
            self._pass_on(str(facts["name"]), int(facts["level"]), str(facts["text"]))
        elif kind == process.BACKEND and self.backend is None:  # said before any code of a model is loaded
            self.backend = facts
        elif kind == process.RESULT and self.result is None:
            self.result = facts
            self.deadline = time.monotonic() + GRACE_S

    def _pass_on(self, name: str, level: int, text: str) -> None:
        self.line_count += 1
        if self.line_count <= MAX_LINES and (logger := run_logger(name)).isEnabledFor(level):
            logger.log(level, "%s", text.encode(errors="backslashreplace").decode())  # no half characters

    def enforce_deadline(self, now: float) -> None:
        """Terminate a process that is past its deadline, and kill it when that did not end it."""
        if now < self.deadline:
            return
        self.is_overdue = self.is_overdue or self.result is None
        self.child.kill(signal.SIGKILL if self.was_terminated else signal.SIGTERM)
        self.was_terminated, self.deadline = True, now + GRACE_S

    def failure(self) -> Exception | None:
        """The reason why there is no result; None if there is one."""
        if self.fault is not None:
            return self.fault
        if self.is_overdue:
            return TransientModelError(f"it had not ended after {self.limits.timeout_s:g} s and was ended")
        if self.result is not None:
            return None
        status, last_line = self.child.status or 0, f": {self.last_line}" if self.last_line else ""
        if status < 0:
            name = signal.Signals(-status).name
            return TransientModelError(f"its process was ended by {name} before it had a result{last_line}")
        return TerminalModelError(
            f"its process exited with status {status} before it had a result{last_line}"
        )

    def close(self) -> None:
        """End the process if it has not ended, and give everything back."""
        self.child.end()
        self.child.close()
        self.file.close()


class SubprocessRunner:
    """Runs each version in a process of its own; this one alone writes to the database.

    What a version leaves running is ended with it: while versions run, this process should start no other.

    Args:
        child_store: what the children read from, and where this process stores what they found.
        limits: what a model's versions may take.
        log_context: makes another logging system's lines carry the facts of a run.
    """

    def __init__(
        self,
        child_store: ChildStore,
        limits: Callable[[ModelSpec], ProcessLimits],
        log_context: LogContext | None = None,
    ) -> None:
        self._store, self._limits, self._log_context = child_store, limits, log_context

    def run(self, jobs: Sequence[Job], at_once: int) -> list[RunReport]:
        """Run each job, at most `at_once` at a time; the reports are in the order of the jobs."""
        waiting, running = deque(enumerate(jobs)), dict[int, _ChildRun]()
        reports: dict[int, RunReport] = {}
        with selectors.DefaultSelector() as selector, adopting() as others:
            try:
                while waiting or running:
                    while waiting and len(running) < at_once:
                        number, job = waiting.popleft()
                        running[number] = self._start(job, selector)
                    for number in self._ended(selector, running):
                        run = running.pop(number)
                        # Before its outputs are read: nothing of it may still write to them.
                        run.left_orphans = end_orphans(others)
                        reports[number] = self._conclude(run, selector)
            finally:  # a task that is ended in the middle of it leaves nothing behind
                for run in running.values():
                    run.close()
                    self._end_backend(run)
                end_orphans(others)
        return [reports[number] for number in range(len(jobs))]

    def _start(self, job: Job, selector: selectors.BaseSelector) -> _ChildRun:
        run = _ChildRun(job, self._store, self._limits(job.model))
        for fd in (run.child.frames_fd, run.child.text_fd, run.child.pidfd):
            if fd is not None:
                selector.register(fd, selectors.EVENT_READ, run)
        return run

    def _ended(self, selector: selectors.BaseSelector, running: Mapping[int, _ChildRun]) -> list[int]:
        """Wait until something happens; returns the numbers of those that have ended."""
        wait_s = min(run.deadline for run in running.values()) - time.monotonic()
        if any(run.child.pidfd is None for run in running.values()):
            wait_s = min(wait_s, _POLL_S)
        ready_runs = {id(key.data): key.data for key, _ in selector.select(max(wait_s, 0.0))}
        for run in ready_runs.values():
            with run_facts(run.job.version, run.job.cycle, self._log_context):
                run.read_pipes()
        now, ended = time.monotonic(), []
        for number, run in running.items():
            if run.child.has_ended():
                ended.append(number)
            else:
                run.enforce_deadline(now)
        self._forget_closed(selector, ready_runs.values())
        return ended

    def _forget_closed(self, selector: selectors.BaseSelector, runs: Iterable[_ChildRun]) -> None:
        """A process that closed its pipe and goes on would be 'ready' for ever: only its end counts then."""
        for run in runs:
            for fd in (run.child.frames_fd, run.child.text_fd):
                if run.child.is_closed(fd):
                    with suppress(KeyError):
                        selector.unregister(fd)

    def _conclude(self, run: _ChildRun, selector: selectors.BaseSelector) -> RunReport:
        job = run.job
        with run_facts(job.version, job.cycle, self._log_context):
            try:
                run.read_pipes(at_end=True)
                if run.line_count > MAX_LINES:
                    _log.warning("%d log lines were left out", run.line_count - MAX_LINES)
                return self._stored(run)
            except Exception as error:
                report = replace(not_run(job.version, Outcome.FAILED, ""), duration_ms=_ms_since(run.began))
                return failed(self._store, job.model, report, job.cycle, error)
            finally:
                for fd in (run.child.frames_fd, run.child.text_fd, run.child.pidfd):
                    if fd is not None:
                        with suppress(KeyError):
                            selector.unregister(fd)
                run.close()
                if run.was_terminated or run.left_orphans or run.child.status:
                    self._end_backend(run)

    def _stored(self, run: _ChildRun) -> RunReport:
        """Store what the process found; raises what is wrong with it."""
        job = run.job
        if (reason := run.failure()) is not None:
            raise reason
        result = run.result or {}
        if result.keys() != {"report", "metrics", "spool"} or not isinstance(result["spool"], dict):
            raise MalformedReport("the report has not the fields of one")
        report = report_of(result["report"], job.version)
        if report.outcome is Outcome.SUCCEEDED:
            return self._store.save(
                run.file, result["spool"], job.model, job.cycle, report, metrics_of(result["metrics"])
            )
        if (report.error or "").startswith("MemoryError") and run.limits.memory_bytes is not None:
            error = f"MemoryError: it may allocate {run.limits.memory_bytes / 2**20:g} MiB"
            report = replace(report, error=error)
        save_failure(self._store, job.model, report, job.cycle)
        return report

    def _end_backend(self, run: _ChildRun) -> None:
        if run.backend is not None:
            with suppress(Exception):  # the session's own limits end it, if only later
                self._store.end(run.backend)


def _work(
    job: Job, child_store: ChildStore, limits: ProcessLimits, file: IO[bytes], writer: FrameWriter
) -> None:
    """What the child does."""
    nothing_ran = not_run(job.version, Outcome.FAILED, "")
    with ExitStack() as stack:
        try:
            access = stack.enter_context(child_store.access(limits))
        except Exception as error:
            failed(_SpoolingStore(child_store, None, file, writer), job.model, nothing_ran, job.cycle, error)
            return
        if access.backend:
            writer.send(process.BACKEND, access.backend)
        store = _SpoolingStore(child_store, access, file, writer)
        try:
            run_job(job, store, access.database)
        except MemoryError as error:  # so little was left that the failure could not be stored
            process.allow_reporting()
            failed(store, job.model, nothing_ran, job.cycle, error)


def _ms_since(began: float) -> float:
    return (time.monotonic() - began) * 1000
