"""Faults planted into cycles on a real database: cycles, manifests, verdicts, the hourly report."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from tests.conftest import clone
from tests.snapshot import noaa_day_stored
from tests.snapshot.noaa_day import DAY, STEP
from tests.snapshot.planted_faults import SWITCH

from airflow_detection.snapshot import collector
from airflow_detection.snapshot.report import Status
from airflow_detection.snapshot.sections.catalog import sections
from airflow_detection.snapshot.verdicts.kinds import Verdict, VerdictKind
from airflow_detection.snapshot.verdicts.period import verdicts
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database

FIRST, START, LIMIT = 13, 33, 3
"""Cycles of the day: the first with a whole window, where a fault sets in, and how many may pass."""

SINCE = DAY + (START - 1) * STEP
FEED_FAULTS = {
    "speed null": "update detection.ais_positions set sog_kn = null where observed_at >= %s",
    "latitude null": "update detection.ais_positions set lat = null where observed_at >= %s",
    "position constant": "update detection.ais_positions set lat = 27, lon = -80 where observed_at >= %s",
    "ingest stopped": "delete from detection.ais_positions where observed_at >= %s",
    "half of the rows lost":
        "delete from detection.ais_positions where observed_at >= %s and extract(second from observed_at) < 30",  # noqa: E501
}  # fmt: skip


@pytest.fixture(scope="module")
def healthy(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Name of a database in which the clean cycles before a fault ran."""
    with clone(server, template) as dsn, connect(dsn) as conn:
        noaa_day_stored.load(conn, noaa_day_stored.planted_registry(tmp_path_factory.mktemp("planted")))
        noaa_day_stored.run(conn, range(FIRST, START))
        name = conn.info.dbname
        conn.close()
        yield name


@pytest.fixture
def clean_runs(server: str, healthy: str) -> Iterator[Connection]:
    """A copy of it."""
    with clone(server, healthy) as dsn, connect(dsn) as conn:
        yield conn


def bad_verdicts(conn: Connection) -> list[Verdict]:
    judged = verdicts(
        Database(conn, "detection"),
        start=DAY + START * STEP,
        end=DAY + (START + LIMIT) * STEP,
        use_model_registry=True,
    )
    return [verdict for verdict in judged if verdict.kind.is_bad]


def report_status(conn: Connection) -> tuple[Status, str]:
    end = DAY + (START + LIMIT) * STEP
    report = collector.take(Database(conn, "detection"), sections(), start=end - timedelta(hours=1), end=end)
    return report.section("verdicts").status, report.headline


def test_clean_cycles_raise_no_alarm(clean_runs: Connection) -> None:
    noaa_day_stored.run(clean_runs, range(START, START + LIMIT))
    assert bad_verdicts(clean_runs) == []
    assert report_status(clean_runs)[0] is Status.OK


@pytest.mark.parametrize(
    "fault", ["zero-filled scores", "all null", "identity as float", "seconds read as minutes", "v_max x20"]
)
def test_a_broken_model_is_found(clean_runs: Connection, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setenv(SWITCH, fault)
    noaa_day_stored.run(clean_runs, range(START, START + LIMIT))
    bad = bad_verdicts(clean_runs)
    assert {(v.model_id, v.kind) for v in bad} == {("spoofing", VerdictKind.SILENT_FAULT)}
    assert bad[0].cycle_started_at == DAY + START * STEP
    status, headline = report_status(clean_runs)
    assert status is Status.BAD
    assert "spoofing" in headline


@pytest.mark.parametrize("fault", FEED_FAULTS)
def test_a_broken_feed_is_found(clean_runs: Connection, fault: str) -> None:
    clean_runs.execute(FEED_FAULTS[fault].encode(), (SINCE,))
    noaa_day_stored.run(clean_runs, range(START, START + LIMIT))
    lost = fault in ("ingest stopped", "half of the rows lost")
    kind = VerdictKind.INPUT_DEGRADED if lost else VerdictKind.SILENT_FAULT
    assert kind in {v.kind for v in bad_verdicts(clean_runs)}
    assert report_status(clean_runs)[0] is Status.BAD


def test_a_cycle_that_hung_up_is_found(clean_runs: Connection) -> None:
    """The cycles before were opened long after their time, as a backfill opens them: the next is expected."""
    assert {v.kind for v in bad_verdicts(clean_runs)} == {VerdictKind.DID_NOT_RUN}
    assert len(bad_verdicts(clean_runs)) == 2 * LIMIT
