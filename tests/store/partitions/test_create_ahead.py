"""Table partitions are created ahead by the clock, from catalog bounds, in UTC."""

# ruff: noqa: S608 - statements on the tables of a schema that the test itself has made

from __future__ import annotations

import itertools
from datetime import datetime, timedelta

import psycopg
import pytest
from tests.store.partition_schema import (
    METRICS,
    US,
    PartitionSchema,
    Writer,
    assert_months,
    both_steps,
    label,
    month,
    now,
)

from airflow_detection.errors import MissingPartition
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.create import create, ensure_month
from airflow_detection.store.partitions.plan import Phase, plan
from airflow_detection.store.partitions.upkeep import UpkeepReport


@both_steps
def test_a_fresh_table_gets_its_months_and_a_second_run_does_nothing(schema: PartitionSchema) -> None:
    first = schema.upkeep(Phase.ENSURE)
    assert first.is_success
    assert [r.outcome for r in first.results] == ["done"] * 4
    assert_months(schema.partitions(), month(0), 4)
    assert schema.upkeep(Phase.ENSURE) == UpkeepReport()
    assert schema.log("action", "outcome") == [("create", "done")] * 4


@both_steps
def test_months_are_made_by_the_clock_after_half_a_year_without_data(schema: PartitionSchema) -> None:
    schema.add_old_months(6)
    assert schema.upkeep(Phase.ENSURE).is_success
    assert [p.lower for p in schema.partitions()] == [month(-6), *(month(n) for n in range(4))]


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"])
@pytest.mark.parametrize("start", ["2026-03-08T06:59:59Z", "2026-11-01T05:59:59Z", "2026-10-03T15:29:59Z"])
def test_no_session_time_zone_moves_a_bound(schema: PartitionSchema, zone: str, start: str) -> None:
    at = datetime.fromisoformat(start)
    schema.policy(ahead="35 months")
    schema.run("select set_config('TimeZone', %s, false)", zone)
    actions = plan(Database(schema.conn, schema.name), now=at, phases=(Phase.ENSURE,))
    for action in actions:
        assert create(Database(schema.conn, schema.name), METRICS, (action.lower, action.upper))  # type: ignore[arg-type]
    assert schema.run("show timezone") == [(zone,)]
    assert_months(schema.partitions(), month(0, at), 36)
    assert plan(Database(schema.conn, schema.name), now=at, phases=(Phase.ENSURE,)) == ()


@both_steps
def test_a_row_at_midnight_utc_and_one_a_microsecond_before_fall_on_either_side(
    schema: PartitionSchema,
) -> None:
    schema.upkeep(Phase.ENSURE)
    schema.run("set timezone = 'America/New_York'")
    for at in (month(1), month(1) - US):
        schema.insert(at)
    rows = schema.run(f"select tableoid::regclass::text from @{METRICS} order by cycle_started_at")
    assert [name.split(".")[1] for (name,) in rows] == schema.names()[:2]


@pytest.mark.parametrize(
    ("at", "bounds"),
    [("2028-02-29T23:59:59Z", ("2028-02-01", "2028-03-01")),
     ("2027-12-31T23:59:59Z", ("2027-12-01", "2028-01-01")),
     ("2027-02-28T12:00:00Z", ("2027-02-01", "2027-03-01"))],
)  # fmt: skip
def test_a_leap_february_and_the_end_of_a_year_end_where_they_should(
    schema: PartitionSchema, at: str, bounds: tuple[str, str]
) -> None:
    instant = datetime.fromisoformat(at)
    actions = plan(Database(schema.conn, schema.name), now=instant, phases=(Phase.ENSURE,))
    assert create(Database(schema.conn, schema.name), METRICS, (actions[0].lower, actions[0].upper))  # type: ignore[arg-type]
    assert [(str(p.lower)[:10], str(p.upper)[:10]) for p in schema.partitions()] == [bounds]


@both_steps
def test_a_gap_in_the_middle_is_filled(schema: PartitionSchema) -> None:
    schema.add_partition(month(0), month(1), "now")
    schema.add_partition(month(2), month(3), "later")
    assert schema.upkeep(Phase.ENSURE).is_success
    assert_months(schema.partitions(), month(0), 4)


def test_what_weekly_partitions_leave_of_a_month_is_filled(schema: PartitionSchema) -> None:
    schema.add_partition(month(1) + timedelta(days=7), month(1) + timedelta(days=14), "week")
    assert schema.upkeep(Phase.ENSURE).is_success
    spans = [p.span for p in schema.partitions()]
    assert len(spans) == 6
    assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))


@both_steps
def test_rows_in_the_way_in_a_default_partition_are_moved_and_counted(schema: PartitionSchema) -> None:
    schema.run(f"create table @spare partition of @{METRICS} default")
    for n in range(5):
        schema.insert(month(1) + timedelta(hours=n))
    schema.insert(month(-40))
    report = schema.upkeep(Phase.ENSURE)
    assert report.is_success
    assert [r.details for r in report.results if r.details] == ["5 rows out of the default partition"]
    assert schema.run("select count(*) from @spare") == [(1,)]
    assert schema.run(f"select count(*) from @{METRICS}") == [(6,)]
    assert schema.run(f"select count(*) from @{schema.names()[2]}") == [(5,)]
    moved = schema.run(
        "select details ->> 'moved' from @detection_maintenance_log where details ->> 'moved' <> '0'"
    )
    assert moved == [("5",)]


@pytest.mark.parametrize("count", [100_000, pytest.param(2_000_000, marks=pytest.mark.long)])
def test_many_rows_elsewhere_in_a_default_partition_stay_and_stall_nobody(
    schema: PartitionSchema, count: int
) -> None:
    schema.run(f"create table @spare partition of @{METRICS} default")
    schema.run(
        "insert into @spare select 'm', 1, 'PRIMARY', false, 'k', 1, '2001-01-01Z' "
        f"from generate_series(1, {count})"
    )
    with Writer(schema, month(-40)) as writer:
        assert schema.upkeep(Phase.ENSURE).is_success
    assert schema.run("select count(*) from @spare where cycle_started_at < '2002-01-01'") == [(count,)]
    assert writer.worst_s < 1, writer.worst_s
    assert not writer.errors


@both_steps
@pytest.mark.parametrize("kind", ["detached", "unrelated"])
def test_a_table_that_has_the_wanted_name_is_left_alone(schema: PartitionSchema, kind: str) -> None:
    taken = f"{METRICS}_p{label(month(0))}".replace("-", "_")
    if kind == "detached":
        schema.add_partition(month(0), month(1), taken)
        schema.insert(now())
        schema.run(f"alter table @{METRICS} detach partition @{taken}")
    else:
        schema.run(f"create table @{taken} as select 1 as precious")
    assert schema.upkeep(Phase.ENSURE).is_success
    assert schema.run(f"select count(*) from @{taken}") == [(1,)]
    assert schema.names()[0] == f"{taken}_2"


def test_a_name_of_63_bytes_gets_partitions_with_names_of_their_own(schema: PartitionSchema) -> None:
    name = "é" * 31 + "t"
    schema.run(f'create table @"{name}" (at timestamptz not null) partition by range (at)')
    schema.run("insert into @detection_partition_policies (table_name) values (%s)", name)
    assert schema.upkeep(Phase.ENSURE).is_success
    names = schema.names(name)
    assert len(set(names)) == 4
    assert all(len(n.encode()) <= 63 and f"_p{month(i):%Y_%m}" in n for i, n in enumerate(names))


@both_steps
def test_rows_of_the_far_future_are_rejected(schema: PartitionSchema) -> None:
    schema.upkeep(Phase.ENSURE)
    far = month(40)
    with pytest.raises(MissingPartition, match=f"{far:%Y-%m-%d}"):
        ensure_month(Database(schema.conn, schema.name), METRICS, far)
    with pytest.raises(psycopg.errors.CheckViolation, match="no partition of relation"):
        schema.insert(far)
    assert len(schema.partitions()) == 4


@both_steps
def test_a_child_is_like_its_parent_in_all_that_matters(schema: PartitionSchema) -> None:
    schema.run("create role keeper_of_" + schema.name)
    schema.run("create role reader_of_" + schema.name)
    schema.run(
        f"alter table @{METRICS} add primary key (model_id, cycle_started_at);"
        f"alter table @{METRICS} alter metric_key set storage external;"
        f"grant usage, create on schema {schema.name} to keeper_of_{schema.name};"
        f"alter table @{METRICS} owner to keeper_of_{schema.name};"
        f"grant select, insert on @{METRICS} to reader_of_{schema.name} with grant option;"
        f"grant update (metric_value) on @{METRICS} to reader_of_{schema.name};"
        f"alter default privileges in schema {schema.name} "
        f"grant delete on tables to reader_of_{schema.name}"
    )
    schema.upkeep(Phase.ENSURE)
    query = """
        select pg_get_userbyid(relowner),
          (select array_agg(a::text order by a::text) from aclexplode(relacl) a),
          (select array_agg((attname, attstorage, attnotnull, attacl::text)::text order by attnum)
             from pg_attribute where attrelid = c.oid and attnum > 0),
          (select array_agg((indisprimary, indisunique, indkey::text)::text order by indkey::text)
             from pg_index where indrelid = c.oid),
          (select array_agg((contype, conkey::text)::text order by contype, conkey::text)
             from pg_constraint where conrelid = c.oid)
          from pg_class c where c.oid = %s::regclass"""
    (parent,) = schema.run(query, f"{schema.name}.{METRICS}")
    (child,) = schema.run(query, f"{schema.name}.{schema.names()[0]}")
    assert child == parent
    assert parent[0] == f"keeper_of_{schema.name}"
