"""Storing outputs: exactly, once, and never an older attempt over a newer one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import numpy as np
import psycopg
import pytest

from airflow_detection.domain.inputs import MaterializedOutputs
from airflow_detection.domain.reports import CanaryResult, FeatureProfile, RunReport
from airflow_detection.domain.scores import Events
from airflow_detection.domain.specs import Cycle, Mode, ModelSpec, Outcome, Role, VersionSpec
from airflow_detection.errors import (
    MissingPartition,
    PlanError,
    RegistryUnavailable,
    StaleAttempt,
    StorageError,
    UnstorableValue,
)
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.cycle_runs import record_plan, record_summary, recorded_plan
from airflow_detection.store.database import Database
from airflow_detection.store.encoding import encode
from airflow_detection.store.manifests import manifests, record_missing_run
from airflow_detection.store.outputs import PostgresStore
from airflow_detection.store.partitions.create import ensure_cycle_months

AT = datetime(2026, 3, 5, 12, tzinfo=UTC)
CYCLE = Cycle(cycle_id="sea", started_at=AT, lookback=timedelta(hours=1))
MODEL = ModelSpec(model_id="spoofing", cycle_id="sea", score_key="score", entity_key="mmsi")
RUNS = "select {} from detection.detection_model_runs"
OUTPUTS = (
    "select entity_id, score, input_ref, outputs from detection.detection_model_run_outputs order by ctid"
)


@pytest.fixture
def version(database: Connection, registered_version: VersionSpec) -> VersionSpec:
    """A registered version, with table partitions for its cycle."""
    ensure_cycle_months(Database(database, "detection"), AT)
    return registered_version


@pytest.fixture
def store(database: Connection) -> PostgresStore:
    return PostgresStore(database, database, "detection", code_version="v1")


def report(version: VersionSpec, count: int = 0, **changes: Any) -> RunReport:
    defaults = {"outcome": Outcome.SUCCEEDED, "started_at": AT, "duration_ms": 12.5, "output_count": count}
    return RunReport(version=version, **(defaults | changes))


def save(store: PostgresStore, version: VersionSpec, rows: Any, **metrics: float) -> RunReport:
    return store.save(MODEL, version, CYCLE, rows, lambda count: (report(version, count), metrics))


def row(mmsi: Any = 1, score: Any = 0.5, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return {"mmsi": mmsi}, {"score": score, **more}


def count(database: Connection, table: str) -> int:
    row = database.execute(f"select count(*) from detection.{table}").fetchone()  # noqa: S608
    assert row
    return int(row[0])


def test_what_is_saved_is_what_upstream_reads(store: PostgresStore, version: VersionSpec) -> None:
    rows = [row(7, 0.25, evidence=[{"at": 1, "name": "Ærø ☃"}], none=None), row("x", None), row(9, 1)]
    save(store, version, rows)
    upstream = store.upstream(version, CYCLE)
    assert len(upstream) == 3
    assert [(dict(a), dict(b)) for a, b in upstream] == [
        ({"mmsi": 7}, {"score": 0.25, "evidence": ({"at": 1, "name": "Ærø ☃"},), "none": None}),
        ({"mmsi": "x"}, {"score": None}),
        ({"mmsi": 9}, {"score": 1}),
    ]
    assert upstream.columns() == (("7", "x", "9"), (0.25, None, 1.0))


def test_upstream_outputs_are_read_only_at_every_depth(store: PostgresStore, version: VersionSpec) -> None:
    save(store, version, [row(evidence={"inner": [1]})])
    ((ref, output),) = store.upstream(version, CYCLE)
    for target in (ref, output, output["evidence"]):
        with pytest.raises(TypeError):
            target["mine"] = 1
    assert output["evidence"]["inner"] == (1,)


def test_two_upstreams_can_be_read_at_once_on_one_connection(
    store: PostgresStore, version: VersionSpec
) -> None:
    save(store, version, [row(n) for n in range(12_000)])
    first, second = iter(store.upstream(version, CYCLE)), iter(store.upstream(version, CYCLE))
    for _ in range(6000):
        assert next(first)[0] == next(second)[0]
    del first
    assert sum(1 for _ in second) == 6000


def test_every_plain_column_of_an_output_is_stored(
    database: Connection, store: PostgresStore, version: VersionSpec
) -> None:
    save(store, version, [row()])
    rows = database.execute(
        "select cycle_started_at, model_id, version_id, role::text, is_replay, entity_id, score, "
        "cycle_duration_ms "
        "from detection.detection_model_run_outputs"
    ).fetchall()
    assert rows == [(AT, "spoofing", version.version_id, "PRIMARY", False, "1", 0.5, 12.5)]


def test_the_manifest_and_the_metrics_are_stored(
    database: Connection, store: PostgresStore, version: VersionSpec
) -> None:
    run_report = report(
        version,
        1,
        input_count=3,
        stage_ms={"detect": 1.5},
        canaries=(
            CanaryResult(name="c", expected=1.0, observed=0.75),
            CanaryResult(name="d", expected=1.0, observed=math.nan),
        ),
        features=(FeatureProfile(name="sog", count=3, null_count=1, distinct_count=2),),
    )
    store.save(MODEL, version, CYCLE, [row()], lambda _: (run_report, {"a": 1.0, "b": -2.5}))
    rows = database.execute(
        RUNS.format(
            "input_count, output_count, stage_ms, canaries, features, code_version, started_at, "
            "failed_attempt"
        )
    ).fetchall()
    assert rows == [
        (
            3,
            1,
            {"detect": 1.5},
            [
                {"name": "c", "expected": 1.0, "observed": 0.75, "is_present": True, "error": 0.25},
                {"name": "d", "expected": 1.0, "observed": None, "is_present": True, "error": None},
            ],
            [
                {
                    "name": "sog",
                    "count": 3,
                    "null_count": 1,
                    "distinct_count": 2,
                    "mean": None,
                    "deviation": None,
                }
            ],
            "v1",
            AT,
            None,
        )
    ]
    metrics = database.execute(
        "select metric_key, metric_value, role::text, cycle_started_at "
        "from detection.detection_model_metrics "
        "order by metric_key"
    ).fetchall()
    assert metrics == [("a", 1.0, "PRIMARY", AT), ("b", -2.5, "PRIMARY", AT)]


def test_the_manifest_counts_scores_and_knows_its_inputs(
    database: Connection, store: PostgresStore, version: VersionSpec
) -> None:
    scores = [None, 0.0, 0.1, 0.3, 0.4, 0.5, 0.7, 0.71, 1]
    run_report = report(version, len(scores), input_digest="abc", newest_input_at=AT - timedelta(minutes=2))
    store.save(MODEL, version, CYCLE, [row(n, s) for n, s in enumerate(scores)], lambda _: (run_report, {}))
    query = RUNS.format("score_counts, input_digest, newest_input_at")
    counts = {"scored": 8, "null": 1, "gt0": 7, "medium": 5, "high": 3, "critical": 2, "flagged": 3}
    assert database.execute(query).fetchall() == [(counts, "abc", AT - timedelta(minutes=2))]
    store.save(replace(MODEL, score_key=None), version, CYCLE, [row()], lambda _: (run_report, {}))
    assert database.execute(query).fetchall()[0][0] == {}


@pytest.mark.parametrize("is_spooled", [True, False])
def test_the_manifest_counts_by_the_models_own_threshold_and_severities_and_says_which_they_were(
    database: Connection, store: PostgresStore, version: VersionSpec, *, is_spooled: bool
) -> None:
    outputs = [row(n, score) for n, score in enumerate((0.2, 0.4, 0.65, 0.8, 0.97))]
    run_report = report(version, len(outputs))

    def counted(events: Events) -> tuple[object, ...]:
        rows = outputs if is_spooled else MaterializedOutputs(outputs, 1.0)
        store.save(replace(MODEL, events=events), version, CYCLE, rows, lambda _: (run_report, {}))
        return database.execute(RUNS.format("score_counts, score_edges")).fetchall()[0]

    counts = {"scored": 5, "null": 0, "gt0": 5, "medium": 4, "high": 2, "critical": 1}
    edges = {"gt0": 0, "medium": 0.3, "high": 0.7, "critical": 0.95}
    severity = {"HIGH": 0.7, "CRITICAL": 0.95}
    assert counted({"above": 0.6, "severity": severity}) == (
        {**counts, "flagged": 3}, {**edges, "flagged": 0.6},
    )  # fmt: skip
    assert counted(False) == (
        {**counts, "high": 3, "critical": 2}, {**edges, "high": 0.5, "critical": 0.7},
    ), "a model without events flags nothing"  # fmt: skip


def test_no_outputs_leave_a_manifest_with_zero(
    database: Connection, store: PostgresStore, version: VersionSpec
) -> None:
    save(store, version, [])
    manifest = manifests(Database(database, "detection"), "sea", AT)[version.version_id, False]
    assert (manifest.outcome, manifest.output_count, manifest.role, manifest.error) == (
        Outcome.SUCCEEDED,
        0,
        Role.PRIMARY,
        None,
    )
    assert len(store.upstream(version, CYCLE)) == 0
    assert store.upstream(version, CYCLE).columns() == ((), ())


def test_a_rerun_replaces_outputs_and_metrics(
    database: Connection, store: PostgresStore, version: VersionSpec
) -> None:
    save(store, version, [row(n) for n in range(5)], old=1.0, both=1.0)
    save(store, version, [row(99)], both=2.0)
    assert [r[0] for r in database.execute(OUTPUTS)] == ["99"]
    rows = database.execute(
        "select metric_key, metric_value from detection.detection_model_metrics"
    ).fetchall()
    assert rows == [("both", 2.0)]
    assert count(database, "detection_model_runs") == 1


def test_a_replay_never_touches_what_was_live(
    database: Connection, store: PostgresStore, version: VersionSpec
) -> None:
    save(store, version, [row(1)])
    replay = VersionSpec(
        model_id="spoofing", version="1", role=Role.SHADOW, version_id=version.version_id, is_replay=True
    )
    save(store, replay, [row(2), row(3)])
    assert store.upstream(version, CYCLE).columns()[0] == ("1",)
    assert store.upstream(replay, CYCLE).columns()[0] == ("2", "3")
    assert set(manifests(Database(database, "detection"), "sea", AT)) == {
        (version.version_id, False),
        (version.version_id, True),
    }


def test_outputs_are_streamed_from_a_generator_in_bounded_memory(
    database: Connection, store: PostgresStore, version: VersionSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_detection.store.outputs.MEMORY_BYTES", 4096)
    asked: list[int] = []

    def generate() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        for number in range(20_000):
            asked.append(number)
            yield row(number, number / 20_000, text="y" * 50)

    run_report = save(store, version, generate())
    assert run_report.output_count == len(asked) == count(database, "detection_model_run_outputs") == 20_000
    assert store.upstream(version, CYCLE).columns()[0][:3] == ("0", "1", "2")


def test_a_generator_that_raises_leaves_the_old_result(
    database: Connection, store: PostgresStore, version: VersionSpec
) -> None:
    save(store, version, [row(1)])

    def broken() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        yield row(2)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        save(store, version, broken())
    assert [r[0] for r in database.execute(OUTPUTS)] == ["1"]


def test_a_stale_attempt_is_refused_and_changes_nothing(
    database: Connection, store: PostgresStore, version: VersionSpec
) -> None:
    newer = PostgresStore(database, database, "detection")
    save(newer, version, [row(2)])
    with pytest.raises(StaleAttempt) as caught:
        save(store, version, [row(1), row(1)])
    assert caught.value.attempt < caught.value.newest
    store.save_failure(MODEL, version, CYCLE, report(version, outcome=Outcome.FAILED, error="late"))
    assert [r[0] for r in database.execute(OUTPUTS)] == ["2"]
    assert database.execute(RUNS.format("outcome::text, error, failed_attempt")).fetchall() == [
        ("SUCCEEDED", None, None)
    ]


def test_begin_makes_an_old_store_the_newest_again(
    database: Connection, store: PostgresStore, version: VersionSpec
) -> None:
    save(PostgresStore(database, database, "detection"), version, [row(2)])
    store.begin(version, CYCLE)
    save(store, version, [row(3)])
    assert [r[0] for r in database.execute(OUTPUTS)] == ["3"]


def test_a_failed_rerun_keeps_the_old_result_and_says_so(
    database: Connection, store: PostgresStore, version: VersionSpec
) -> None:
    save(store, version, [row(1)], m=1.0)
    rerun = PostgresStore(database, database, "detection")
    rerun.save_failure(
        MODEL, version, CYCLE, report(version, outcome=Outcome.FAILED, error="it\0broke\ud800")
    )
    assert [r[0] for r in database.execute(OUTPUTS)] == ["1"]
    assert count(database, "detection_model_metrics") == 1
    ((outcome, error, failed, attempt),) = database.execute(
        RUNS.format("outcome::text, error, failed_attempt, attempt")
    ).fetchall()
    assert (outcome, error) == ("SUCCEEDED", "it\ufffdbroke?")
    assert failed > attempt
    save(PostgresStore(database, database, "detection"), version, [row(5)])
    assert database.execute(RUNS.format("error, failed_attempt")).fetchall() == [(None, None)]


def test_a_first_failure_leaves_a_failed_manifest_that_a_retry_replaces(
    database: Connection, store: PostgresStore, version: VersionSpec
) -> None:
    store.save_failure(MODEL, version, CYCLE, report(version, outcome=Outcome.FAILED, error="no"))
    manifest = manifests(Database(database, "detection"), "sea", AT)[version.version_id, False]
    assert (manifest.outcome, manifest.error) == (Outcome.FAILED, "no")
    save(store, version, [row()])
    assert (
        manifests(Database(database, "detection"), "sea", AT)[version.version_id, False].outcome
        is Outcome.SUCCEEDED
    )


def test_a_missing_month_is_named_and_nothing_is_written(
    database: Connection, store: PostgresStore, version: VersionSpec
) -> None:
    elsewhere = Cycle(cycle_id="sea", started_at=datetime(2031, 1, 1, tzinfo=UTC), lookback=CYCLE.lookback)
    with pytest.raises(MissingPartition, match="2031-01") as caught:
        store.save(MODEL, version, elsewhere, [row()], lambda n: (report(version, n), {}))
    assert caught.value.table == "detection_model_run_outputs"
    assert count(database, "detection_model_runs") == 0


def test_an_unregistered_version_is_a_storage_error(store: PostgresStore, version: VersionSpec) -> None:
    stranger = VersionSpec(model_id="spoofing", version="9", role=Role.PRIMARY, version_id=9999)
    with pytest.raises(StorageError, match="foreign key"):
        save(store, stranger, [])


def test_a_lost_connection_is_the_registry_being_unavailable(
    dsn: str, database: Connection, version: VersionSpec
) -> None:
    with connect(dsn) as lost:
        store = PostgresStore(lost, lost, "detection")
        database.execute("select pg_terminate_backend(%s)", (lost.info.backend_pid,))
        with pytest.raises(RegistryUnavailable):
            save(store, version, [row()])
    assert count(database, "detection_model_run_outputs") == 0


@pytest.mark.parametrize(
    ("output", "path", "reason"),
    [
        ({"speed": math.nan}, "outputs.speed", "not a finite number"),
        ({"a": [1, {"b": math.inf}]}, "outputs.a[1].b", "not a finite number"),
        ({"a": np.float32("inf")}, "outputs.a", "not a finite number"),
        ({"a": np.array([1.0, math.nan])}, "outputs.a", "not a finite number"),
        ({"name": "x\0y"}, "outputs.name", "NUL"),
        ({"a": {"k\0": 1}}, "outputs.a", "key"),
        ({"a": {1: 2}}, "outputs.a", "key 1"),
        ({"a": {1, 2}}, "outputs.a", "set"),
        ({"a": b"raw"}, "outputs.a", "bytes"),
        ({"a": Decimal("1.5")}, "outputs.a", "Decimal"),
        ({"a": [2**64]}, "outputs.a[0]", "64 bits"),
        ({"a": -(2**63) - 1}, "outputs.a", "64 bits"),
        ({"a": datetime(2026, 1, 1)}, "outputs.a", "time zone"),  # noqa: DTZ001
        ({"a": "\ud800"}, "outputs.a", "cannot be written"),
        ({"a": object()}, "outputs.a", "object"),
        ({"score": math.nan}, "outputs.score", "not a finite number"),
        ({"score": -math.inf}, "outputs.score", "not a finite number"),
        ({"score": "0.5"}, "outputs.score", "not a number"),
        ({"score": True}, "outputs.score", "not a number"),
        ({"score": Decimal(1)}, "outputs.score", "not a number"),
        ({"score": 10**400}, "outputs.score", "range"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_entity_and_place(
    database: Connection,
    store: PostgresStore,
    version: VersionSpec,
    output: dict[str, Any],
    path: str,
    reason: str,
) -> None:
    save(store, version, [row(1)])
    with pytest.raises(UnstorableValue, match="'235000001'") as caught:
        save(store, version, [row(2), ({"mmsi": 235000001}, {"score": 0.5} | output)])
    assert (caught.value.entity, caught.value.path) == ("235000001", path)
    assert reason in caught.value.reason
    assert [r[0] for r in database.execute(OUTPUTS)] == ["1"]


@pytest.mark.parametrize(
    ("pair", "path"),
    [
        (({"mmsi": 1}, {}), "outputs.score"),
        (({}, {"score": 1.0}), "outputs.mmsi"),
        (({"mmsi": "a\0b"}, {"score": 1.0}), "outputs.mmsi"),
        (({"mmsi": [1]}, {"score": 1.0}), "outputs.mmsi"),
        (({"mmsi": 1, "x": math.nan}, {"score": 1.0}), "input_ref.x"),
        (({"mmsi": 1}, [1]), "outputs_per_input[0]"),
        ("no pair", "outputs_per_input[0]"),
    ],
)
def test_a_row_of_the_wrong_shape_is_refused(
    store: PostgresStore, version: VersionSpec, pair: Any, path: str
) -> None:
    with pytest.raises(UnstorableValue) as caught:
        save(store, version, [pair])
    assert caught.value.path == path


def test_a_value_that_nests_itself_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["me"] = loop
    with pytest.raises(UnstorableValue, match="levels deep"):
        encode("e", "outputs", loop)


def test_a_metric_that_is_not_finite_is_refused(store: PostgresStore, version: VersionSpec) -> None:
    with pytest.raises(UnstorableValue, match=r"metrics\.m"):
        save(store, version, [row()], m=math.inf)


def test_values_that_json_can_hold_are_stored_exactly(
    database: Connection, store: PostgresStore, version: VersionSpec
) -> None:
    values = {
        "text": "null and \\u0000 as text",
        "none": None,
        "max": 2**63 - 1,
        "array": np.array([1, 2]),
        "strided": np.arange(6)[::3],
        "half": np.float16(0.5),
        "proxy": MappingProxyType({"t": (1, 2)}),
        "at": datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
        "day": date(2026, 1, 1),
    }
    save(store, version, [({"mmsi": np.int64(5)}, {"score": np.float32(0.5), **values})])
    assert database.execute(OUTPUTS).fetchall() == [
        (
            "5",
            0.5,
            {"mmsi": 5},
            {
                "score": 0.5,
                "text": "null and \\u0000 as text",
                "none": None,
                "max": 2**63 - 1,
                "array": [1, 2],
                "strided": [0, 3],
                "half": 0.5,
                "proxy": {"t": [1, 2]},
                "at": "2026-01-01T00:00:00+00:00",
                "day": "2026-01-01",
            },
        )
    ]


def test_a_model_without_keys_stores_neither_score_nor_entity(
    database: Connection, store: PostgresStore, version: VersionSpec
) -> None:
    plain = ModelSpec(model_id="spoofing", cycle_id="sea")
    store.save(plain, version, CYCLE, [({}, {})], lambda n: (report(version, n), {}))
    assert database.execute(OUTPUTS).fetchall() == [(None, None, {}, {})]


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "America/Los_Angeles"])
def test_the_session_time_zone_changes_nothing(database: Connection, version: VersionSpec, zone: str) -> None:
    database.execute("select set_config('TimeZone', %s, false)", (zone,))
    edge = Cycle(
        cycle_id="sea", started_at=datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC), lookback=CYCLE.lookback
    )
    ensure_cycle_months(Database(database, "detection"), edge.started_at)
    store = PostgresStore(database, database, "detection")
    store.save(MODEL, version, edge, [row()], lambda n: (report(version, n), {"m": 1.0}))
    rows = database.execute(
        "select tableoid::regclass::text, extract(epoch from cycle_started_at) "
        "from detection.detection_model_run_outputs"
    ).fetchall()
    assert rows == [("detection.detection_model_run_outputs_p2026_02", edge.started_at.timestamp())]
    assert len(store.upstream(version, edge)) == 1


def test_a_missing_run_is_noted_once_and_gives_way_to_a_real_one(
    database: Connection, store: PostgresStore, version: VersionSpec
) -> None:
    for outcome, error in ((Outcome.SKIPPED, "upstream failed"), (Outcome.FAILED, "killed")):
        record_missing_run(Database(database, "detection"), CYCLE, version, outcome, error)
    manifest = manifests(Database(database, "detection"), "sea", AT)[version.version_id, False]
    assert (manifest.outcome, manifest.error, manifest.attempt) == (Outcome.SKIPPED, "upstream failed", 0)
    save(store, version, [row()])
    assert manifests(Database(database, "detection"), "sea", AT)[version.version_id, False].error is None


def test_the_plan_of_a_cycle_is_recorded_and_found_again(database: Connection, version: VersionSpec) -> None:
    assert recorded_plan(Database(database, "detection"), "sea", AT, Mode.AS_OF) is None
    opened = record_plan(
        Database(database, "detection"), CYCLE, Mode.AS_OF, {"b": 1, "a": MappingProxyType({})}, "d1", "run"
    )
    reopened = record_plan(Database(database, "detection"), CYCLE, Mode.AS_OF, {"b": 1, "a": {}}, "d1", "run")
    assert reopened > opened
    recorded = recorded_plan(Database(database, "detection"), "sea", AT, Mode.AS_OF)
    assert recorded
    assert (recorded.plan, recorded.digest, recorded.opened_at) == ({"a": {}, "b": 1}, "d1", reopened)
    assert record_plan(Database(database, "detection"), CYCLE, Mode.AS_OF, {}, "d2", None) > reopened
    assert recorded_plan(Database(database, "detection"), "sea", AT, Mode.OVERRIDE) is None


def test_a_summary_needs_a_cycle_that_was_opened(database: Connection, version: VersionSpec) -> None:
    with pytest.raises(PlanError, match="never opened"):
        record_summary(Database(database, "detection"), CYCLE, Mode.AS_OF, {"executed": 1})
    record_plan(Database(database, "detection"), CYCLE, Mode.AS_OF, {}, "d", None)
    record_summary(Database(database, "detection"), CYCLE, Mode.AS_OF, {"executed": 1})
    rows = database.execute(
        "select summary, closed_at >= opened_at from detection.detection_cycle_runs"
    ).fetchall()
    assert rows == [({"executed": 1}, True)]


def test_a_killed_writer_leaves_the_old_result(dsn: str, database: Connection, version: VersionSpec) -> None:
    save(PostgresStore(database, database, "detection"), version, [row(1)])
    with connect(dsn) as other, connect(dsn) as blocker:
        store = PostgresStore(other, other, "detection")
        pid = other.info.backend_pid
        database.execute(
            "create function detection.die() returns trigger language plpgsql as $$ begin "
            f"perform pg_terminate_backend({pid}); return new; end $$"
        )
        database.execute(
            "create trigger die before insert on detection.detection_model_metrics "
            "for each row execute function detection.die()"
        )
        with pytest.raises(RegistryUnavailable):
            save(store, version, [row(2), row(3)], m=1.0)
        assert blocker.execute(OUTPUTS).fetchall()[0][0] == "1"
        assert count(database, "detection_model_run_outputs") == 1
    assert isinstance(other, psycopg.Connection)


def test_of_writers_at_once_the_latest_attempt_wins_whole(
    dsn: str, database: Connection, version: VersionSpec
) -> None:
    def one(number: int) -> tuple[int, int]:
        with connect(dsn) as conn:
            store = PostgresStore(conn, conn, "detection")
            attempt = store.begin(version, CYCLE)
            try:
                save(store, version, [row(number) for _ in range(500)], m=float(number))
            except StaleAttempt:
                return (0, number)
            return (attempt, number)

    with ThreadPoolExecutor(8) as pool:
        winner = max(pool.map(one, range(8)))[1]
    assert [r[0] for r in database.execute(OUTPUTS)] == [str(winner)] * 500
    rows = database.execute("select metric_value from detection.detection_model_metrics").fetchall()
    assert rows == [(float(winner),)]


def test_an_entity_that_the_output_leaves_null_is_that_of_its_input(
    store: PostgresStore, version: VersionSpec
) -> None:
    save(
        store, version, [({"mmsi": 4}, {"mmsi": None, "score": None}), ({"mmsi": 4}, {"mmsi": 5, "score": 0})]
    )
    assert store.upstream(version, CYCLE).columns() == (("4", "5"), (None, 0.0))


def test_upstream_knows_the_score_key_of_its_model(
    database: Connection, store: PostgresStore, version: VersionSpec
) -> None:
    assert store.upstream(version, CYCLE).score_key is None
    database.execute("update detection.detection_models set score_key = 'risk'")
    assert store.upstream(version, CYCLE).score_key == "risk"
