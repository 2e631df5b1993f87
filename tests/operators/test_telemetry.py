"""Metrics and log lines of a run, as Airflow gets them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from airflow.sdk.observability import stats
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from tests import sample_registry
from tests.operators.executions import EXECUTIONS

from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.specs import Execution, Outcome, Role, VersionSpec
from airflow_detection.operators.telemetry import emit, log_context

if TYPE_CHECKING:
    from tests.operators.airflow_runs import Cycles

pytestmark = pytest.mark.e2e

MODULES = {"AIRFLOW__DETECTION__ALLOWED_MODULES": "tests.sample_registry,tests.misbehaving_models"}


class RecordingStats:
    """A metrics backend that keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, Any, Any]] = []

    def incr(self, stat: str, count: int = 1, rate: float = 1, *, tags: Any = None) -> None:
        self.sent.append(("incr", stat, count, tags))

    def timing(self, stat: str, dt: Any, *, tags: Any = None) -> None:
        self.sent.append(("timing", stat, dt, tags))

    def gauge(
        self,
        stat: str,
        value: float,
        rate: float = 1,
        delta: bool = False,  # noqa: FBT001 - as Airflow has it
        *,
        tags: Any = None,
    ) -> None:
        self.sent.append(("gauge", stat, value, tags))


@pytest.fixture
def recording() -> Iterator[RecordingStats]:
    backend = RecordingStats()
    stats.initialize(factory=lambda: backend, export_legacy_names=False)  # type: ignore[arg-type, return-value]
    yield backend
    from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger

    stats.initialize(factory=NoStatsLogger, export_legacy_names=False)


def test_each_run_tells_its_outcome_duration_and_counts(recording: RecordingStats) -> None:
    version = VersionSpec(model_id="tracks", version="2", role=Role.SHADOW)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    report = RunReport(
        version=version,
        outcome=Outcome.FAILED,
        started_at=at,
        duration_ms=12.5,
        input_count=7,
        output_count=3,
    )
    emit("fleet", [report])
    tags = {"cycle": "fleet", "model": "tracks", "version": "2", "role": "SHADOW"}
    assert recording.sent == [
        ("incr", "detection.version.outcome", 1, tags | {"outcome": "FAILED"}),
        ("timing", "detection.version.duration", 12.5, tags),
        ("gauge", "detection.version.inputs", 7, tags),
        ("gauge", "detection.version.outputs", 3, tags),
    ]


def test_a_name_ends_no_tag_and_begins_no_metric(recording: RecordingStats) -> None:
    version = VersionSpec(model_id="a,b=c:1|c|#d", version="1\nx:1|c", role=Role.SHADOW)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    emit("e f", [RunReport(version=version, outcome=Outcome.FAILED, started_at=at, duration_ms=1.0)])
    tags = {"cycle": "e_f", "model": "a_b_c_1_c__d", "version": "1_x_1_c", "role": "SHADOW"}
    assert recording.sent[1] == ("timing", "detection.version.duration", 1.0, tags)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    return exporter


def test_each_run_is_a_span_below_the_one_of_its_task(
    recording: RecordingStats, spans: InMemorySpanExporter
) -> None:
    version = VersionSpec(model_id="tracks", version="2", role=Role.SHADOW)
    at = datetime(2026, 1, 1, tzinfo=UTC)
    failed = RunReport(
        version=version,
        outcome=Outcome.FAILED,
        started_at=at,
        duration_ms=20.0,
        stage_ms={"run": 20.0, "store": 5.0},
        error="told to fail",
    )
    ended = replace(failed, outcome=Outcome.SUCCEEDED, error=None, output_count=3)
    with trace.get_tracer("task").start_as_current_span("worker.tracks__2") as task:
        emit("fleet", [failed, ended])
    first, second, _ = spans.get_finished_spans()
    assert first.name == "detection.version"
    assert first.parent is not None
    assert first.parent.span_id == task.get_span_context().span_id
    began_ns = int(at.timestamp()) * 10**9
    assert (first.start_time, first.end_time) == (began_ns, began_ns + 25 * 10**6)
    assert dict(first.attributes or {}) == {
        "detection.cycle.id": "fleet",
        "detection.model.id": "tracks",
        "detection.model.version": "2",
        "detection.role": "SHADOW",
        "detection.replay": False,
        "detection.outcome": "FAILED",
        "detection.input.count": 0,
        "detection.output.count": 0,
        "detection.stage.run.duration": 0.02,
        "detection.stage.store.duration": 0.005,
    }
    assert (first.status.status_code, first.status.description) == (trace.StatusCode.ERROR, "told to fail")
    assert (second.status.status_code, second.attributes["detection.output.count"]) == (  # type: ignore[index]
        trace.StatusCode.UNSET,
        3,
    )


def test_every_line_of_the_task_log_carries_the_facts_of_the_run() -> None:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        with log_context({"model": "tracks", "role": "SHADOW"}):
            structlog.get_logger("anyone").info("inside")
        structlog.get_logger("anyone").info("outside")
    assert (lines[0]["model"], lines[0]["role"]) == ("tracks", "SHADOW")
    assert "model" not in lines[1]


@pytest.mark.parametrize("execution", EXECUTIONS)
def test_the_log_says_whose_failure_it_is(
    database: Any, cycles: Cycles, capsys: pytest.CaptureFixture[str], execution: Execution
) -> None:
    sample_registry.register(database, shadow={"fail": "terminal"})
    sample_registry.put_cycle(database, execution=execution)
    (run,) = cycles({}, AIRFLOW__LOGGING__COLORED_CONSOLE_LOG="False")
    assert run["state"] == "success"
    text = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    error = "tracks@2 failed: TerminalModelError"
    line = next(entry for entry in text.splitlines() if error in entry)
    facts = {"model": "tracks", "version": "2", "role": "SHADOW"}
    after = text[text.index(line) :][:4000]
    assert all(re.search(rf"\b{key}=['\"]?{value}\b", after) for key, value in facts.items()), after
    assert "cycle='fleet 2026" in after or "cycle=fleet 2026" in after


def test_a_shadow_that_hangs_is_ended_at_its_execution_timeout(
    database: Any, cycles: Cycles, tmp_path: Path
) -> None:
    """Whatever it catches; and it is not tried again, for the cycle would wait once more."""
    sample_registry.register(database)
    sample_registry.put_model(database, "tracks", task_options={"execution_timeout": 5, "retries": 2})
    entrypoint = "tests.misbehaving_models:MisbehavingModel"
    sample_registry.put_version(
        database, "tracks@3", Role.CHALLENGER, entrypoint=entrypoint, behaviour="hangs_and_ignores_signals"
    )
    (run,) = cycles({}, **MODULES)
    tasks = run["tasks"]
    assert (run["state"], tasks["tracks__3"], tasks["spoofing"]) == ("success", "failed", "success")
    assert sample_registry.outcomes(database)["tracks@3"] == "FAILED"
    query = "select error from detection.detection_model_runs where outcome = 'FAILED'"
    assert database.execute(query).fetchone() == (
        "TransientModelError: it had not ended after 5 s and was ended",
    )
