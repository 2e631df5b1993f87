"""Table partitions of days beside those of months: what the policy says counts for those not made yet."""

# ruff: noqa: S608 - statements on the tables of a schema that the test itself has made

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from tests.store.partition_schema import METRICS, PartitionSchema, month, now

from airflow_detection.cli.partitions import recreate_lines, size_rows
from airflow_detection.errors import MissingPartition
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.catalog import LAST, Span, Step, day_of, month_of, period_of
from airflow_detection.store.partitions.create import PARTITIONED, ensure_cycle_months, ensure_month
from airflow_detection.store.partitions.plan import ActionKind, Phase, plan

DAY = timedelta(days=1)


def spans(schema: PartitionSchema) -> list[Span]:
    return [p.span for p in schema.partitions()]


def set_policy(schema: PartitionSchema, **columns: object) -> None:
    for column, value in columns.items():
        schema.run(f"update @detection_partition_policies set {column} = %s", value)


def test_a_day_ends_at_midnight_utc() -> None:
    assert day_of(datetime.fromisoformat("2028-02-29T23:59:59.999999+00:00"))[1] == month_of(
        datetime(2028, 3, 1, tzinfo=UTC)
    )[0]  # fmt: skip
    assert day_of(datetime.fromisoformat("2026-03-01T05:00:00+09:00"))[0] == datetime(2026, 2, 28, tzinfo=UTC)
    assert day_of(LAST) == (datetime(9999, 12, 31, tzinfo=UTC), LAST)
    assert period_of(datetime(2026, 5, 7, tzinfo=UTC), Step.MONTH) == month_of(
        datetime(2026, 5, 7, tzinfo=UTC)
    )


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"])
@pytest.mark.parametrize("start", ["2026-03-07T23:59:59Z", "2026-10-31T12:00:00Z", "2027-12-31T23:59:59Z"])
def test_no_session_time_zone_moves_the_bound_of_a_day(
    schema: PartitionSchema, zone: str, start: str
) -> None:
    set_policy(schema, step="day", ahead="9 days")
    schema.run("select set_config('TimeZone', %s, false)", zone)
    first = day_of(datetime.fromisoformat(start))[0]
    planned = plan(
        Database(schema.conn, schema.name), now=datetime.fromisoformat(start), phases=(Phase.ENSURE,)
    )
    assert [(a.lower, a.upper) for a in planned] == [
        (first + n * DAY, first + (n + 1) * DAY) for n in range(10)
    ]
    assert [a.partition for a in planned] == [
        f"{METRICS}_p{first + n * DAY:%Y_%m_%d}" for n in range(10)
    ]  # fmt: skip


def test_days_begin_where_the_months_that_exist_end_and_months_where_the_days_end(
    schema: PartitionSchema,
) -> None:
    schema.add_partition(month(0), month(1), "now")
    end = month(1)
    ahead = (end - now()) + timedelta(days=3)
    set_policy(schema, step="day", ahead=ahead)
    assert schema.upkeep(Phase.ENSURE).is_success
    days = spans(schema)[1:]
    assert spans(schema)[0] == (month(0), end)
    assert days == [(end + n * DAY, end + (n + 1) * DAY) for n in range(len(days))]
    assert len(days) == 4
    set_policy(schema, ahead="2 months", step="month")
    assert schema.upkeep(Phase.ENSURE).is_success
    after = spans(schema)[1 + len(days) :]
    assert after == [(days[-1][1], month(2)), (month(2), month(3))]
    assert all(a[1] == b[0] for a, b in itertools.pairwise(spans(schema)))
    assert schema.upkeep(Phase.ENSURE).results == ()


@pytest.mark.parametrize(
    ("columns", "message"),
    [({"ahead": "23 hours"}, "ahead_check"), ({"retention": "23 hours"}, "retention_check"),
     ({"step": "week"}, "step_check"), ({"step": "month"}, "ahead_check|retention_check")],
)  # fmt: skip
def test_a_policy_that_no_table_can_follow_is_refused(
    schema: PartitionSchema, columns: dict[str, object], message: str
) -> None:
    schema.use_days()
    with pytest.raises(psycopg.errors.CheckViolation, match=message):
        set_policy(schema, **columns)


def test_a_cycle_makes_the_day_that_it_is_in(schema: PartitionSchema) -> None:
    at = datetime(2026, 1, 31, 23, 55, tzinfo=UTC)
    for table in PARTITIONED:
        schema.run(
            "insert into @detection_partition_policies (table_name) values (%s) on conflict do nothing", table
        )
    schema.use_days()
    ensure_cycle_months(Database(schema.conn, schema.name), at)
    ensure_cycle_months(Database(schema.conn, schema.name), at + timedelta(minutes=5))
    for table in PARTITIONED:
        assert [(p.name, p.span) for p in schema.partitions(table)] == [
            (f"{table}_p2026_01_31", day_of(at)), (f"{table}_p2026_02_01", day_of(at + DAY)),
        ]  # fmt: skip


def test_a_cycle_two_days_beyond_those_made_ahead_comes_from_a_wrong_clock(schema: PartitionSchema) -> None:
    schema.use_days()
    db, today = Database(schema.conn, schema.name), day_of(now())[0]
    assert ensure_month(db, METRICS, today + 4 * DAY)
    with pytest.raises(MissingPartition, match=f"{today + 6 * DAY:%Y-%m-%d}"):
        ensure_month(db, METRICS, today + 6 * DAY)


def test_today_is_kept_and_yesterday_goes(schema: PartitionSchema) -> None:
    schema.use_days()
    set_policy(schema, retention="1 day", grace="0")
    today = day_of(now())[0]
    for age in (3, 2, 1, 0):
        schema.add_partition(today - age * DAY, today + (1 - age) * DAY, f"old_{age}")
    schema.upkeep(Phase.RETAIN)
    report = schema.upkeep(Phase.RETAIN)
    assert [(r.action.kind, r.action.partition) for r in report.results] == [
        (ActionKind.DROP, "old_3"), (ActionKind.DROP, "old_2"),
    ]  # fmt: skip
    assert schema.names() == ["old_1", "old_0"]


def test_a_backfill_holds_its_own_days_and_not_those_between(schema: PartitionSchema) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.use_days()
    first = datetime(2026, 1, 5, tzinfo=UTC)
    for n in range(3):
        schema.add_partition(first + n * DAY, first + (n + 1) * DAY, f"day_{n}")
    for n in (0, 2):
        schema.run(
            "insert into @detection_cycle_runs (cycle_id, cycle_started_at, mode, plan, plan_digest) "
            "values ('backfill', %s, 'as_of', '{}', '')",
            first + n * DAY,
        )
    results = schema.upkeep(Phase.RETAIN).results
    assert [(r.action.partition, r.action.kind) for r in results] == [
        ("day_0", ActionKind.KEEP), ("day_1", ActionKind.DETACH), ("day_2", ActionKind.KEEP),
    ]  # fmt: skip


def test_the_rows_of_a_default_partition_are_moved_to_days(schema: PartitionSchema) -> None:
    schema.run(f"create table @spare partition of @{METRICS} default")
    schema.use_days()
    set_policy(schema, empties_default=True)
    first = datetime(2026, 1, 31, 23, tzinfo=UTC)
    for hours in (0, 1, 2, 30):
        schema.insert(first + timedelta(hours=hours))
    assert schema.upkeep(Phase.ENSURE).is_success
    assert [p.lower for p in schema.partitions() if p.lower and p.lower < month(-1)] == [
        datetime(2026, 1, 31, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 2, tzinfo=UTC),
    ]  # fmt: skip
    assert schema.run("select count(*) from @spare") == [(0,)]


def retire_three_days(schema: PartitionSchema) -> None:
    """Leave three days of February, with a row each, detached: `day_0`, `day_1` and `day_2`."""
    schema.upkeep(Phase.ENSURE)
    schema.use_days()
    first = datetime(2026, 2, 1, tzinfo=UTC)
    for n in range(3):
        schema.add_partition(first + n * DAY, first + (n + 1) * DAY, f"day_{n}")
        schema.insert(first + n * DAY)
    schema.upkeep(Phase.RETAIN)


def test_a_month_of_days_is_brought_back_and_a_day_alone(schema: PartitionSchema) -> None:
    retire_three_days(schema)
    db = Database(schema.conn, schema.name)
    assert recreate_lines(db, "2026-02-02")[-1] == f"{METRICS} 2026-02-02: is back"
    lines = [line for line in recreate_lines(db, "2026-02") if line.startswith(METRICS)]
    assert lines[:4] == [
        f"{METRICS} 2026-02-01: is back",
        f"{METRICS} 2026-02-02: was there",
        f"{METRICS} 2026-02-03: is back",
        f"{METRICS} 2026-02-04: is new and empty: no detached table has it",
    ]  # fmt: skip
    assert len(lines) == 28
    assert schema.run(f"select count(*) from @{METRICS}") == [(3,)]


OPTIONS = "select o.* from pg_class c, pg_options_to_table(c.reloptions) o where c.oid = %s order by 1"


def test_new_leaves_have_the_storage_parameters_of_the_policy(schema: PartitionSchema) -> None:
    ensure_month(Database(schema.conn, schema.name), METRICS, now())
    assert schema.run(OPTIONS, schema.partitions()[0].oid) == [
        ("autovacuum_analyze_scale_factor", "0.02"), ("autovacuum_freeze_min_age", "0"),
        ("autovacuum_vacuum_insert_scale_factor", "0.05"),
    ]  # fmt: skip
    set_policy(schema, leaf_options='{"autovacuum_enabled": false, "autovacuum_vacuum_insert_threshold": -1}')
    schema.upkeep(Phase.ENSURE)
    assert schema.run(OPTIONS, schema.partitions()[1].oid) == [
        ("autovacuum_enabled", "false"), ("autovacuum_vacuum_insert_threshold", "-1"),
    ]  # fmt: skip
    assert len(schema.run(OPTIONS, schema.partitions()[0].oid)) == 3, "what exists is left as it is"
    set_policy(schema, leaf_options="{}", ahead="4 months")
    schema.upkeep(Phase.ENSURE)
    assert schema.run(OPTIONS, schema.partitions()[-1].oid) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [('{"autovacuum_vacuum_insert_scale_factor": 101}', "= 101: must be a number from 0 to 100"),
     ('{"autovacuum_vacuum_threshold": 1.5}', "= 1.5: must be a whole number from 0 to 2147483647"),
     ('{"autovacuum_enabled": "maybe"}', '= "maybe": must be true or false'),
     ('{"autovacuum_freeze_min_age": null}', "= null: must be a whole number from 0"),
     ('{"fillfactor": 10}', "has fillfactor: must be one of autovacuum_analyze_scale_factor, "),
     ("[1]", r"has \[1\]: must be an object of names and values")],
)  # fmt: skip
def test_storage_parameters_are_checked_with_a_sentence(
    schema: PartitionSchema, options: str, message: str
) -> None:
    with pytest.raises(psycopg.errors.CheckViolation, match=f"^leaf_options of {METRICS} .*{message}"):
        set_policy(schema, leaf_options=options)


def test_sizes_tell_bytes_rows_and_what_is_detached(schema: PartitionSchema) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.add_old_months(40)
    schema.run(
        f"insert into @{METRICS} select 'm', 1, 'PRIMARY', false, 'k', n, %s from generate_series(1, 900) n",
        now(),
    )
    schema.run(f"vacuum analyze @{schema.names()[1]}")
    schema.upkeep(Phase.RETAIN)
    listed = list(size_rows(Database(schema.conn, schema.name), now=now(), table=METRICS))
    assert [(row["from"], row["state"]) for row in listed] == [
        *((month(n).isoformat(), "attached") for n in range(4)), (month(-40).isoformat(), "detached"),
    ]  # fmt: skip
    assert listed[0]["rows"] == 900
    assert (listed[0]["table_bytes"], listed[0]["index_bytes"]) == schema.run(
        "select pg_table_size(%(oid)s), pg_indexes_size(%(oid)s)".replace(
            "%(oid)s", str(schema.partitions()[0].oid)
        )
    )[0]
    assert listed[0]["vacuumed_at"]
    assert "autovacuum_freeze_min_age=0" in str(listed[0]["options"])


@pytest.mark.parametrize("is_first_dropped", [False, True])
def test_days_are_brought_back_where_the_policy_has_months_again(
    schema: PartitionSchema, *, is_first_dropped: bool
) -> None:
    retire_three_days(schema)
    set_policy(schema, ahead="3 months", retention="6 months", step="month")
    if is_first_dropped:
        schema.run("drop table @day_0")
    new = "is new and empty: no detached table has it"
    lines = recreate_lines(Database(schema.conn, schema.name), "2026-02")
    assert [line for line in lines if line.startswith(METRICS)] == [
        f"{METRICS} 2026-02-01: {new if is_first_dropped else 'is back'}",
        f"{METRICS} 2026-02-02: is back",
        f"{METRICS} 2026-02-03: is back",
        f"{METRICS} 2026-02-04: {new}",
    ]
    assert schema.run(f"select count(*) from @{METRICS}") == [(3 - is_first_dropped,)]
