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
from airflow_detection.engine.isolation.child import Outbox
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
from airflow_detection.engine.run_log import Telling, run_facts, run_logger
from airflow_detection.errors import RegistryUnavailable, TerminalModelError, TransientModelError

GRACE_S = 2.0
"""How long a process that was told to end, or that has reported, may take before it is killed."""

MAX_LINES = 10_000
"""Log lines of one version that are passed on; the number of the others is told at its end."""

_POLL_S = 0.05
_log = run_logger("airflow_detection.engine")
_PRINTED = "airflow_detection.model"
Facts = Mapping[str, Any]  # Any: JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
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


class Base(Protocol):
    """Where the results of children go; the engine knows no database."""

    def access(self, limits: Limits) -> AbstractContextManager[Access]:
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


class _ChildStore:
    """The child's store: outputs go into the file, the report to the parent."""

    def __init__(self, base: Base, access: Access | None, file: IO[bytes], outbox: Outbox) -> None:
        self._base, self._access, self._file, self._outbox = base, access, file, outbox

    def save(
        self, model: ModelSpec, version: VersionSpec, cycle: Cycle, outputs: Iterable[Pair], finish: Finish
    ) -> RunReport:
        facts = dict(self._base.spool(self._file, model, outputs))
        report, metrics = finish(facts["count"])
        process.allow_reporting()
        told = {"report": report_json(report), "metrics": dict(metrics), "spool": facts}
        self._outbox.send(process.RESULT, told)
        return report

    def save_failure(self, model: ModelSpec, version: VersionSpec, cycle: Cycle, report: RunReport) -> None:
        process.allow_reporting()
        self._outbox.send(process.RESULT, {"report": report_json(report), "metrics": {}, "spool": {}})

    def upstream(self, version: VersionSpec, cycle: Cycle) -> Upstream:
        if self._access is None:
            raise RegistryUnavailable("there is no access to the database")
        return self._access.upstream(version, cycle)


class _Run:
    """One version's process, and what has been heard of it."""

    def __init__(self, job: Job, base: Base, limits: Limits) -> None:
        self.job, self.limits = job, limits
        self.file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed in `close`
        self.began = time.monotonic()
        self.deadline = self.began + limits.timeout_s
        self.result: dict[str, Any] | None = None  # Any: JSON
        self.backend: Facts | None = None
        self.fault: Exception | None = None
        self.line_count, self.last_line = 0, ""
        self.is_told = self.is_overdue = self.has_left = False
        self.child = process.fork(
            lambda outbox: _work(job, base, limits, self.file, outbox),
            keep=[self.file.fileno()],
            memory_bytes=limits.memory_bytes,
        )

    def hear(self, *, at_end: bool = False) -> None:
        """Take in what the process has said by now."""
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

    def press(self, now: float) -> None:
        """Tell a process that is past its time to end; kill it when it has been told."""
        if now < self.deadline:
            return
        self.is_overdue = self.is_overdue or self.result is None
        self.child.kill(signal.SIGKILL if self.is_told else signal.SIGTERM)
        self.is_told, self.deadline = True, now + GRACE_S

    def why(self) -> Exception | None:
        """Why there is no result; None if there is one."""
        if self.fault is not None:
            return self.fault
        if self.is_overdue:
            return TransientModelError(f"it had not ended after {self.limits.timeout_s:g} s and was ended")
        if self.result is not None:
            return None
        status, said = self.child.status or 0, f": {self.last_line}" if self.last_line else ""
        if status < 0:
            name = signal.Signals(-status).name
            return TransientModelError(f"its process was ended by {name} before it had a result{said}")
        return TerminalModelError(f"its process exited with status {status} before it had a result{said}")

    def close(self) -> None:
        """End the process if it has not ended, and give everything back."""
        self.child.end()
        self.child.close()
        self.file.close()


class Forked:
    """Runs each version in a process of its own; this one alone writes to the database.

    What a version leaves running is ended with it: while versions run, this process should start no other.

    Args:
        base: what the children read from, and where this process stores what they found.
        limits: what a model's versions may take.
        telling: makes another logging system's lines carry the facts of a run.
    """

    def __init__(
        self, base: Base, limits: Callable[[ModelSpec], Limits], telling: Telling | None = None
    ) -> None:
        self._base, self._limits, self._telling = base, limits, telling

    def run(self, jobs: Sequence[Job], at_once: int) -> list[RunReport]:
        """Run each job, at most `at_once` at a time; the reports are in the order of the jobs."""
        waiting, running = deque(enumerate(jobs)), dict[int, _Run]()
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
                        run.has_left = end_orphans(others)
                        reports[number] = self._conclude(run, selector)
            finally:  # a task that is ended in the middle of it leaves nothing behind
                for run in running.values():
                    run.close()
                    self._end_backend(run)
                end_orphans(others)
        return [reports[number] for number in range(len(jobs))]

    def _start(self, job: Job, selector: selectors.BaseSelector) -> _Run:
        run = _Run(job, self._base, self._limits(job.model))
        for fd in (run.child.frames_fd, run.child.text_fd, run.child.pidfd):
            if fd is not None:
                selector.register(fd, selectors.EVENT_READ, run)
        return run

    def _ended(self, selector: selectors.BaseSelector, running: Mapping[int, _Run]) -> list[int]:
        """Wait until something happens; returns the numbers of those that have ended."""
        wait_s = min(run.deadline for run in running.values()) - time.monotonic()
        if any(run.child.pidfd is None for run in running.values()):
            wait_s = min(wait_s, _POLL_S)
        spoken = {id(key.data): key.data for key, _ in selector.select(max(wait_s, 0.0))}
        for run in spoken.values():
            with run_facts(run.job.version, run.job.cycle, self._telling):
                run.hear()
        now, ended = time.monotonic(), []
        for number, run in running.items():
            if run.child.has_ended():
                ended.append(number)
            else:
                run.press(now)
        self._forget_closed(selector, spoken.values())
        return ended

    def _forget_closed(self, selector: selectors.BaseSelector, runs: Iterable[_Run]) -> None:
        """A process that closed its pipe and goes on would be 'ready' for ever: only its end counts then."""
        for run in runs:
            for fd in (run.child.frames_fd, run.child.text_fd):
                if run.child.is_closed(fd):
                    with suppress(KeyError):
                        selector.unregister(fd)

    def _conclude(self, run: _Run, selector: selectors.BaseSelector) -> RunReport:
        job = run.job
        with run_facts(job.version, job.cycle, self._telling):
            try:
                run.hear(at_end=True)
                if run.line_count > MAX_LINES:
                    _log.warning("%d log lines were left out", run.line_count - MAX_LINES)
                return self._stored(run)
            except Exception as error:
                report = replace(not_run(job.version, Outcome.FAILED, ""), duration_ms=_ms_since(run.began))
                return failed(self._base, job.model, report, job.cycle, error)
            finally:
                for fd in (run.child.frames_fd, run.child.text_fd, run.child.pidfd):
                    if fd is not None:
                        with suppress(KeyError):
                            selector.unregister(fd)
                run.close()
                if run.is_told or run.has_left or run.child.status:
                    self._end_backend(run)

    def _stored(self, run: _Run) -> RunReport:
        """Store what the process found; raises what is wrong with it."""
        job = run.job
        if (reason := run.why()) is not None:
            raise reason
        told = run.result or {}
        if told.keys() != {"report", "metrics", "spool"} or not isinstance(told["spool"], dict):
            raise MalformedReport("the report has not the fields of one")
        report = report_of(told["report"], job.version)
        if report.outcome is Outcome.SUCCEEDED:
            return self._base.save(
                run.file, told["spool"], job.model, job.cycle, report, metrics_of(told["metrics"])
            )
        if (report.error or "").startswith("MemoryError") and run.limits.memory_bytes is not None:
            told_mib = f"MemoryError: it may allocate {run.limits.memory_bytes / 2**20:g} MiB"
            report = replace(report, error=told_mib)
        save_failure(self._base, job.model, report, job.cycle)
        return report

    def _end_backend(self, run: _Run) -> None:
        if run.backend is not None:
            with suppress(Exception):  # the session's own limits end it, if only later
                self._base.end(run.backend)


def _work(job: Job, base: Base, limits: Limits, file: IO[bytes], outbox: Outbox) -> None:
    """What the child does."""
    nothing_ran = not_run(job.version, Outcome.FAILED, "")
    with ExitStack() as stack:
        try:
            access = stack.enter_context(base.access(limits))
        except Exception as error:
            failed(_ChildStore(base, None, file, outbox), job.model, nothing_ran, job.cycle, error)
            return
        if access.backend:
            outbox.send(process.BACKEND, access.backend)
        store = _ChildStore(base, access, file, outbox)
        try:
            run_job(job, store, access.database)
        except MemoryError as error:  # so little was left that the failure could not be told
            process.allow_reporting()
            failed(store, job.model, nothing_ran, job.cycle, error)


def _ms_since(began: float) -> float:
    return (time.monotonic() - began) * 1000
