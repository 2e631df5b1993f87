"""A registered cycle in a real database, and manifests of runs in regular traffic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from tests.sample_registry import SETTINGS, register

from airflow_detection.cycle import planning
from airflow_detection.domain.reports import CanaryResult, FeatureProfile, RunReport
from airflow_detection.domain.specs import Mode, Outcome, VersionSpec
from airflow_detection.snapshot.verdicts.kinds import Verdict
from airflow_detection.snapshot.verdicts.period import verdicts
from airflow_detection.store import cycle_runs
from airflow_detection.store.database import Database
from airflow_detection.store.outputs import PostgresStore

Conn = psycopg.Connection[tuple[Any, ...]]
SCHEMA = "detection"
STEP = timedelta(minutes=5)
FIRST = datetime(2026, 3, 1, 6, tzinfo=UTC)


class ManifestHistory:
    """A registered cycle, to which manifests of runs in regular traffic are added."""

    def __init__(self, conn: Conn) -> None:
        self.conn = conn
        register(conn)
        self.store = PostgresStore(conn, conn, SCHEMA)

    def open(self, number: float, mode: Mode = Mode.AS_OF, **options: Any) -> planning.OpenedCycle:
        return planning.open_cycle(
            Database(self.conn, SETTINGS.schema), "fleet", FIRST + number * STEP, mode=mode, **options
        )

    def close(self, opened: planning.OpenedCycle) -> None:
        cycle_runs.record_summary(Database(self.conn, SCHEMA), opened.cycle, opened.mode, {})

    def run(
        self,
        opened: planning.OpenedCycle,
        version: VersionSpec,
        number: int,
        *,
        off: float = 0.0,
        flagged: int = 10,
        reads_since: datetime | None = None,
    ) -> None:
        """Store a success: 100 outputs that differ from cycle to cycle, and one canary, wrong by `off`."""
        outputs = [({"id": i}, {"id": str(i), "n": number, "score": float(i < flagged)}) for i in range(100)]
        report = RunReport(
            version=version, outcome=Outcome.SUCCEEDED, started_at=datetime.now(UTC),
            input_count=1000 + number % 7, input_digest=f"{number:064}",
            newest_input_at=opened.cycle.started_at - timedelta(seconds=9), output_count=100,
            reads_since=reads_since,
            canaries=(CanaryResult(name="-1", expected=0.5, observed=0.5 + off),),
            features=(FeatureProfile(name="lat", count=1000, null_count=0, distinct_count=700 + number % 5),),
        )  # fmt: skip
        model = opened.plan.models[version.model_id]
        self.store.save(model, version, opened.cycle, outputs, lambda _: (report, {}))

    def add_cycles(self, count: int) -> None:
        for number in range(count):
            opened = self.open(number)
            for version in opened.steps:
                self.run(opened, version, number)
            self.close(opened)

    def verdicts(self, first: int, end: int, *, use_model_registry: bool = True) -> list[Verdict]:
        return verdicts(
            Database(self.conn, SCHEMA),
            start=FIRST + first * STEP,
            end=FIRST + end * STEP,
            use_model_registry=use_model_registry,
        )
