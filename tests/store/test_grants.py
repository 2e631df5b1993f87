"""The roles of the database: each can do its work, and not more."""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier
from tests import sample_registry
from tests.sample_registry import AT, SCHEMA, SETTINGS

from airflow_detection.cycle import closing, inline, planning
from airflow_detection.domain.specs import Mode, Outcome, Role
from airflow_detection.errors import MigrationError
from airflow_detection.store import registry, roles
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.grants import ROLES, grant, grant_login, rights_beyond_reading
from airflow_detection.store.migrations import migrate
from airflow_detection.store.partitions.create import ensure_cycle_months
from airflow_detection.store.partitions.plan import ActionKind, Phase, UpkeepLimits
from airflow_detection.store.partitions.upkeep import apply
from airflow_detection.store.queries import sql_root

Connection = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def granted(database: Connection) -> Connection:
    sample_registry.register(database)
    ensure_cycle_months(Database(database, SCHEMA), AT)
    grant(Database(database, SCHEMA))
    grant(Database(database, SCHEMA))
    return database


@contextmanager
def acting(dsn: str, role: str) -> Iterator[Connection]:
    with connect(dsn) as conn:
        conn.execute("select set_config('role', %s, false)", [role])
        yield conn


WRITES = (
    "insert into detection.detection_models (model_id, cycle_id, entrypoint) values ('x', 'fleet', 'm')",
    "update detection.detection_cycles set schedule = '* * * * *'",
    "update detection.detection_model_roles set superseded_at = now()",
    "delete from detection.detection_model_versions",
    "insert into detection.detection_confirmations (cycle_id, models) values ('fleet', '{}')",
    "create table detection.mine ()",
    "truncate detection.detection_model_run_outputs",
    "drop table detection.detection_events",
    "alter table detection.detection_events add column x int",
)


@pytest.mark.parametrize("role", ["detection_reader", "detection_writer"])
@pytest.mark.parametrize("statement", WRITES)
def test_neither_reader_nor_writer_touches_registry_or_schema(
    granted: Connection, dsn: str, role: str, statement: str
) -> None:
    with acting(dsn, role) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute(statement.encode())


def test_a_reader_reads_and_writes_no_results(granted: Connection, dsn: str) -> None:
    with acting(dsn, "detection_reader") as conn:
        assert [m.model_id for m in registry.models_at(Database(conn, SCHEMA), "fleet", AT)] == [
            "spoofing",
            "tracks",
        ]
        for table in ("detection_model_runs", "detection_model_run_outputs", "detection_events"):
            name = psycopg.sql.Identifier("detection", table)
            conn.execute(psycopg.sql.SQL("select * from {}").format(name))
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute(psycopg.sql.SQL("delete from {}").format(name))
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("select nextval('detection.detection_attempts')")


def test_a_writer_runs_a_whole_cycle_twice(granted: Connection, dsn: str) -> None:
    for _ in range(2):
        with acting(dsn, "detection_writer") as conn:
            db = Database(conn, SETTINGS.schema)
            opened = planning.open_cycle(db, "fleet", AT, mode=Mode.AS_OF)
            for report in inline.run_steps(db, SETTINGS, opened, opened.steps):
                assert report.outcome is Outcome.SUCCEEDED, report.error
            closing.close_cycle(db, "fleet", AT, mode=Mode.AS_OF, task_states={})
    assert set(sample_registry.outcomes(granted).values()) == {"SUCCEEDED"}


def test_an_admin_changes_the_registry(granted: Connection, dsn: str) -> None:
    with acting(dsn, "detection_admin") as conn:
        sample_registry.put_model(conn, "more")
        sample_registry.put_version(conn, "more@1", Role.PRIMARY, since=None)
        roles.assign_role(Database(conn, SCHEMA), model_id="tracks", version="2", role=Role.PRIMARY)


@pytest.fixture
def logins(granted: Connection) -> Iterator[list[str]]:
    """Two logins that are members of `detection_admin`, and of nothing else."""
    names = [f"ops_{uuid.uuid4().hex[:8]}" for _ in range(2)]
    for name in names:
        granted.execute(SQL("create role {} login in role detection_admin").format(Identifier(name)))
    yield names
    for name in names:
        granted.execute(SQL("drop owned by {0}; drop role {0}").format(Identifier(name)))


@contextmanager
def logged_in(dsn: str, login: str) -> Iterator[Connection]:
    """Connection with the rights of this login, not those of the tests' own."""
    with connect(dsn) as conn:
        conn.execute(SQL("set session authorization {}").format(Identifier(login)))
        yield conn


def test_a_login_that_is_an_admin_alone_migrates_makes_months_and_retires_one(
    granted: Connection, dsn: str, logins: list[str], tmp_path: Path
) -> None:
    one, other = logins
    granted.execute("create table detection.january partition of detection.detection_model_metrics"
                    " for values from ('2019-01-01') to ('2019-02-01')")  # fmt: skip
    grant(Database(granted, SCHEMA))
    shutil.copytree(sql_root() / "migrations", tmp_path / "m")
    (tmp_path / "m" / "9998_more.sql").write_text(
        "create table {schema}.detection_more (n int);\n"
        "alter table {schema}.detection_events add column more int;\n"
        "create type {schema}.detection_kind as enum ('a');\n"
    )
    old = datetime(2020, 1, 5, tzinfo=UTC)
    with logged_in(dsn, one) as conn:
        assert migrate(Database(conn, SCHEMA), folder=tmp_path / "m") == ["9998_more"]
        ensure_cycle_months(Database(conn, SCHEMA), old)
        assert apply(
            Database(conn, SCHEMA), Phase.ENSURE, now=datetime.now(UTC), limits=UpkeepLimits()
        ).results
    (tmp_path / "m" / "9999_last.sql").write_text(
        "alter table {schema}.detection_more add column m {schema}.detection_kind;\n"
    )
    with logged_in(dsn, other) as conn:
        assert migrate(Database(conn, SCHEMA), folder=tmp_path / "m") == ["9999_last"]
        conn.execute("update detection.detection_partition_policies set retention = '1 year', grace = '0'")
        kinds = set()
        for _ in range(2):
            report = apply(Database(conn, SCHEMA), Phase.RETAIN, now=datetime.now(UTC), limits=UpkeepLimits())
            assert not report.failed
            kinds |= {(r.action.kind, r.outcome) for r in report.results if r.action.partition == "january"}
        assert kinds == {(ActionKind.DETACH, "done"), (ActionKind.DROP, "done")}
    owners = granted.execute(
        "select distinct pg_get_userbyid(relowner) from pg_class"
        " where relnamespace = 'detection'::regnamespace"
    ).fetchall()
    assert owners == [("detection_admin",)]
    with acting(dsn, "detection_reader") as conn:
        assert conn.execute("select * from detection.detection_more").fetchall() == []


def test_an_admin_rules_its_own_schema_alone(granted: Connection, dsn: str, logins: list[str]) -> None:
    granted.execute("create schema elsewhere; create table elsewhere.private (n int)")
    for statement in (
        "create schema mine",
        "create table elsewhere.mine (n int)",
        "select * from elsewhere.private",
        "drop schema elsewhere cascade",
        "create role more_of_them",
        "alter role detection_reader superuser",
        "select * from pg_authid",
        "set session_replication_role = replica",
        "copy detection.detection_events to '/tmp/events'",
    ):
        with logged_in(dsn, logins[0]) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute(statement.encode())


def test_an_owner_who_may_make_roles_grants_them_without_being_a_superuser(
    empty_dsn: str, server: str
) -> None:
    name = f"owner_{uuid.uuid4().hex[:8]}"
    with connect(empty_dsn) as conn:
        conn.execute(SQL("create role {} login createrole").format(Identifier(name)))
        grantable = SQL("grant detection_reader, detection_writer, detection_admin to {} with admin option")
        for role in ROLES:
            conn.execute(SQL("do $$ begin create role {} nologin; exception when duplicate_object then"
                             " null; end $$").format(Identifier(role)))  # fmt: skip
        conn.execute(grantable.format(Identifier(name)))
        database = Identifier(str(conn.info.dbname))
        conn.execute(SQL("grant create on database {} to {}").format(database, Identifier(name)))
    try:
        with logged_in(empty_dsn, name) as conn:
            migrate(Database(conn, SCHEMA))
            grant(Database(conn, SCHEMA))
            grant(Database(conn, SCHEMA))
            sample_registry.register(conn)
    finally:
        with connect(empty_dsn) as conn:
            conn.execute(SQL("drop owned by {0} cascade; drop role {0}").format(Identifier(name)))


def test_an_owner_makes_its_own_logins_and_models_read_as_one_that_can_do_nothing_else(
    empty_dsn: str, database: Connection
) -> None:
    owner, models = (f"{name}_{uuid.uuid4().hex[:8]}" for name in ("owner", "models"))
    with connect(empty_dsn) as conn:
        conn.execute(SQL("create role {} login createrole").format(Identifier(owner)))
        for role in ROLES:  # of the whole server: another test may have made them
            conn.execute(SQL("do $$ begin create role {} nologin; exception when duplicate_object then"
                             " null; end $$").format(Identifier(role)))  # fmt: skip
            conn.execute(SQL("grant {} to {} with admin option").format(Identifier(role), Identifier(owner)))
        database_name = Identifier(str(conn.info.dbname))
        conn.execute(SQL("alter database {} owner to {}").format(database_name, Identifier(owner)))
    try:
        with logged_in(empty_dsn, owner) as conn:
            db = Database(conn, SCHEMA)
            migrate(db)
            grant(db)
            assert not grant_login(db, owner, ROLES, password="")
            assert grant_login(db, models, ROLES[:1], password="password")  # noqa: S106
            assert not grant_login(db, models, ROLES[:1], password="another")  # noqa: S106
            sample_registry.register(conn)
            (owns,) = rights_beyond_reading(db)
            assert re.fullmatch(rf"models read as '{owner}', which owns \d+ tables of .*", owns)
        target = make_conninfo(empty_dsn, user=models, password="password")  # noqa: S106
        with connect(target) as conn:
            db = Database(conn, SCHEMA)
            assert list(rights_beyond_reading(db)) == []
            assert registry.cycle_ids(db)
            for statement in FORBIDDEN:
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    conn.execute(statement.encode())
    finally:
        with connect(empty_dsn) as conn:
            conn.execute(SQL("alter database {} owner to current_user").format(database_name))
            for role in (owner, models):
                conn.execute(SQL("drop owned by {0} cascade; drop role {0}").format(Identifier(role)))


FORBIDDEN = (
    "select pg_create_physical_replication_slot('kept')",
    "select pg_read_file('PG_VERSION')",
    "select pg_reload_conf()",
    "select pg_ls_dir('.')",
    "copy (select 1) to program 'true'",
    "set role detection_admin",
    "create table detection.mine ()",
)


def test_a_schema_that_is_everybodys_is_not_taken_over(empty_dsn: str) -> None:
    with connect(empty_dsn) as conn:
        migrate(Database(conn, "public"))
        with pytest.raises(MigrationError, match="needs a schema of its own"):
            grant(Database(conn, "public"))


def test_no_role_can_log_in_or_rule(granted: Connection) -> None:
    rights = granted.execute(
        "select bool_or(rolcanlogin or rolsuper or rolcreaterole or rolcreatedb or rolbypassrls)"
        " from pg_roles where rolname = any(%s)",
        [list(ROLES)],
    ).fetchone()
    assert rights == (False,)
