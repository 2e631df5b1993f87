"""Table partitions are made by the clock, from catalog bounds, in UTC."""

# ruff: noqa: S608 - statements on the tables of a schema that the test itself has made

from __future__ import annotations

import itertools
from datetime import datetime, timedelta

import psycopg
import pytest
from tests.store.partition_schema import METRICS, US, PartitionSchema, Writer, assert_months, month, now

from airflow_detection.errors import MissingPartition
from airflow_detection.store.database import Database
from airflow_detection.store.partitions.create import create, ensure_month
from airflow_detection.store.partitions.plan import Phase, plan
from airflow_detection.store.partitions.upkeep import UpkeepReport


def test_a_fresh_table_gets_its_months_and_a_second_run_does_nothing(place: PartitionSchema) -> None:
    first = place.keep(Phase.ENSURE)
    assert first.is_success
    assert [r.outcome for r in first.results] == ["done"] * 4
    assert_months(place.parts(), month(0), 4)
    assert place.keep(Phase.ENSURE) == UpkeepReport()
    assert place.log("action", "outcome") == [("create", "done")] * 4


def test_months_are_made_by_the_clock_after_half_a_year_without_data(place: PartitionSchema) -> None:
    place.old(6)
    assert place.keep(Phase.ENSURE).is_success
    assert [p.lower for p in place.parts()] == [month(-6), *(month(n) for n in range(4))]


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"])
@pytest.mark.parametrize("start", ["2026-03-08T06:59:59Z", "2026-11-01T05:59:59Z", "2026-10-03T15:29:59Z"])
def test_no_session_time_zone_moves_a_bound(place: PartitionSchema, zone: str, start: str) -> None:
    at = datetime.fromisoformat(start)
    place.policy(ahead="35 months")
    place.run("select set_config('TimeZone', %s, false)", zone)
    actions = plan(Database(place.conn, place.schema), now=at, phases=(Phase.ENSURE,))
    for action in actions:
        assert create(Database(place.conn, place.schema), METRICS, (action.lower, action.upper))  # type: ignore[arg-type]
    assert place.run("show timezone") == [(zone,)]
    assert_months(place.parts(), month(0, at), 36)
    assert plan(Database(place.conn, place.schema), now=at, phases=(Phase.ENSURE,)) == ()


def test_a_row_at_midnight_utc_and_one_a_microsecond_before_fall_on_either_side(
    place: PartitionSchema,
) -> None:
    place.keep(Phase.ENSURE)
    place.run("set timezone = 'America/New_York'")
    for at in (month(1), month(1) - US):
        place.row(at)
    found = place.run(f"select tableoid::regclass::text from @{METRICS} order by cycle_started_at")
    assert [name.split(".")[1] for (name,) in found] == place.names()[:2]


@pytest.mark.parametrize(
    ("at", "bounds"),
    [("2028-02-29T23:59:59Z", ("2028-02-01", "2028-03-01")),
     ("2027-12-31T23:59:59Z", ("2027-12-01", "2028-01-01")),
     ("2027-02-28T12:00:00Z", ("2027-02-01", "2027-03-01"))],
)  # fmt: skip
def test_a_leap_february_and_the_end_of_a_year_end_where_they_should(
    place: PartitionSchema, at: str, bounds: tuple[str, str]
) -> None:
    instant = datetime.fromisoformat(at)
    actions = plan(Database(place.conn, place.schema), now=instant, phases=(Phase.ENSURE,))
    assert create(Database(place.conn, place.schema), METRICS, (actions[0].lower, actions[0].upper))  # type: ignore[arg-type]
    assert [(str(p.lower)[:10], str(p.upper)[:10]) for p in place.parts()] == [bounds]


def test_a_gap_in_the_middle_is_filled(place: PartitionSchema) -> None:
    place.part(month(0), month(1), "now")
    place.part(month(2), month(3), "later")
    assert place.keep(Phase.ENSURE).is_success
    assert_months(place.parts(), month(0), 4)


def test_what_weekly_partitions_leave_of_a_month_is_filled(place: PartitionSchema) -> None:
    place.part(month(1) + timedelta(days=7), month(1) + timedelta(days=14), "week")
    assert place.keep(Phase.ENSURE).is_success
    spans = [p.span for p in place.parts()]
    assert len(spans) == 6
    assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))


def test_rows_in_the_way_in_a_default_partition_are_moved_and_counted(place: PartitionSchema) -> None:
    place.run(f"create table @spare partition of @{METRICS} default")
    for n in range(5):
        place.row(month(1) + timedelta(hours=n))
    place.row(month(-40))
    report = place.keep(Phase.ENSURE)
    assert report.is_success
    assert [r.fact for r in report.results if r.fact] == ["5 rows out of the default partition"]
    assert place.run("select count(*) from @spare") == [(1,)]
    assert place.run(f"select count(*) from @{METRICS}") == [(6,)]
    assert place.run(f"select count(*) from @{place.names()[2]}") == [(5,)]
    moved = place.run(
        "select details ->> 'moved' from @detection_maintenance_log where details ->> 'moved' <> '0'"
    )
    assert moved == [("5",)]


@pytest.mark.parametrize("count", [100_000, pytest.param(2_000_000, marks=pytest.mark.long)])
def test_many_rows_elsewhere_in_a_default_partition_stay_and_stall_nobody(
    place: PartitionSchema, count: int
) -> None:
    place.run(f"create table @spare partition of @{METRICS} default")
    place.run(
        "insert into @spare select 'm', 1, 'PRIMARY', false, 'k', 1, '2001-01-01Z' "
        f"from generate_series(1, {count})"
    )
    with Writer(place, month(-40)) as writer:
        assert place.keep(Phase.ENSURE).is_success
    assert place.run("select count(*) from @spare where cycle_started_at < '2002-01-01'") == [(count,)]
    assert writer.worst_s < 1, writer.worst_s
    assert not writer.errors


@pytest.mark.parametrize("kind", ["detached", "unrelated"])
def test_a_table_that_has_the_wanted_name_is_left_alone(place: PartitionSchema, kind: str) -> None:
    wanted = f"{METRICS}_p{month(0):%Y_%m}"
    if kind == "detached":
        place.part(month(0), month(1), wanted)
        place.row(now())
        place.run(f"alter table @{METRICS} detach partition @{wanted}")
    else:
        place.run(f"create table @{wanted} as select 1 as precious")
    assert place.keep(Phase.ENSURE).is_success
    assert place.run(f"select count(*) from @{wanted}") == [(1,)]
    assert place.names()[0] == f"{wanted}_2"


def test_a_name_of_63_bytes_gets_partitions_with_names_of_their_own(place: PartitionSchema) -> None:
    name = "é" * 31 + "t"
    place.run(f'create table @"{name}" (at timestamptz not null) partition by range (at)')
    place.run("insert into @detection_partition_policies (table_name) values (%s)", name)
    assert place.keep(Phase.ENSURE).is_success
    names = place.names(name)
    assert len(set(names)) == 4
    assert all(len(n.encode()) <= 63 and f"_p{month(i):%Y_%m}" in n for i, n in enumerate(names))


def test_rows_of_the_far_future_are_rejected(place: PartitionSchema) -> None:
    place.keep(Phase.ENSURE)
    far = month(40)
    with pytest.raises(MissingPartition, match=f"{far:%Y-%m}"):
        ensure_month(Database(place.conn, place.schema), METRICS, far)
    with pytest.raises(psycopg.errors.CheckViolation, match="no partition of relation"):
        place.row(far)
    assert len(place.parts()) == 4


def test_a_child_is_like_its_parent_in_all_that_matters(place: PartitionSchema) -> None:
    place.run("create role keeper_of_" + place.schema)
    place.run("create role reader_of_" + place.schema)
    place.run(
        f"alter table @{METRICS} add primary key (model_id, cycle_started_at);"
        f"alter table @{METRICS} alter metric_key set storage external;"
        f"grant usage, create on schema {place.schema} to keeper_of_{place.schema};"
        f"alter table @{METRICS} owner to keeper_of_{place.schema};"
        f"grant select, insert on @{METRICS} to reader_of_{place.schema} with grant option;"
        f"grant update (metric_value) on @{METRICS} to reader_of_{place.schema};"
        f"alter default privileges in schema {place.schema} "
        f"grant delete on tables to reader_of_{place.schema}"
    )
    place.keep(Phase.ENSURE)
    facts = """
        select pg_get_userbyid(relowner),
          (select array_agg(a::text order by a::text) from aclexplode(relacl) a),
          (select array_agg((attname, attstorage, attnotnull, attacl::text)::text order by attnum)
             from pg_attribute where attrelid = c.oid and attnum > 0),
          (select array_agg((indisprimary, indisunique, indkey::text)::text order by indkey::text)
             from pg_index where indrelid = c.oid),
          (select array_agg((contype, conkey::text)::text order by contype, conkey::text)
             from pg_constraint where conrelid = c.oid)
          from pg_class c where c.oid = %s::regclass"""
    (parent,) = place.run(facts, f"{place.schema}.{METRICS}")
    (child,) = place.run(facts, f"{place.schema}.{place.names()[0]}")
    assert child == parent
    assert parent[0] == f"keeper_of_{place.schema}"
