"""Migrations: once each, under a lock, and never edited."""

from __future__ import annotations

import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from airflow_detection.domain.specs import CycleSettings
from airflow_detection.errors import MigrationError
from airflow_detection.store import registry, roles
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import (
    check,
    installed_packs,
    migrate,
    migrations,
    packs,
    require_pack,
)
from airflow_detection.store.partitions.plan import Phase, UpkeepLimits
from airflow_detection.store.partitions.upkeep import apply
from airflow_detection.store.queries import composed, sql_root

NAMES = [m.name for m in migrations() if m.pack is None]
OF_THE_PACK = [m.name for m in migrations() if m.pack == "maritime"]
BEFORE_PACKS = sorted((*NAMES, *OF_THE_PACK))  # one series, and everybody had the tables of the pack

CATALOG = """
select kind, name, definition from (
    select 'column' as kind, table_name || '.' || column_name as name,
           concat_ws(' ', data_type, udt_name, is_nullable, column_default, ordinal_position) as definition
    from information_schema.columns where table_schema = %(schema)s
    union all
    select 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
    from pg_constraint where connamespace = %(schema)s::regnamespace
    union all
    select 'index', indexname, indexdef from pg_indexes where schemaname = %(schema)s
    union all
    select 'function', proname, prosrc from pg_proc where pronamespace = %(schema)s::regnamespace
    union all
    select 'trigger', tgrelid::regclass || '.' || tgname, pg_get_triggerdef(t.oid)
    from pg_trigger t join pg_class c on c.oid = tgrelid
    where c.relnamespace = %(schema)s::regnamespace and not tgisinternal
) definitions order by kind, name, definition
"""


def folder_with(tmp_path: Path, names: list[str], label: str) -> Path:
    folder = tmp_path / label
    folder.mkdir()
    for name in names:
        (path,) = (sql_root() / "migrations").rglob(f"{name}.sql")
        shutil.copy(path, folder)
    return folder


def definitions(conn: Connection) -> list[tuple[str, str, str]]:
    return conn.execute(CATALOG, {"schema": "detection"}).fetchall()


def test_four_migrators_at_once_apply_each_migration_once(empty_dsn: str) -> None:
    def one(_: int) -> list[str]:
        with connect(empty_dsn) as conn:
            return migrate(Database(conn))

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(one, range(4)))
    assert sorted(done, key=len) == [[], [], [], NAMES]
    with connect(empty_dsn) as conn:
        check(Database(conn))


def test_a_second_run_has_nothing_to_do(database: Connection) -> None:
    assert migrate(Database(database)) == []


def test_a_dry_run_names_everything_and_changes_nothing(empty_dsn: str) -> None:
    with connect(empty_dsn) as conn:
        assert migrate(Database(conn), dry_run=True) == NAMES
        assert conn.execute("select count(*) from pg_namespace where nspname = 'detection'").fetchone() == (
            0,
        )
        with pytest.raises(MigrationError) as caught:
            check(Database(conn))
    assert str(caught.value) == (
        f"schema 'detection' lacks migrations ({NAMES[0]} to {NAMES[-1]}): run 'airflow detection db migrate'"
    )


@pytest.mark.parametrize("number", range(1, len(BEFORE_PACKS) + 1))
def test_from_every_earlier_number_the_schema_is_as_from_scratch(
    empty_dsn: str, database: Connection, tmp_path: Path, number: int
) -> None:
    earlier = BEFORE_PACKS[:number]
    with connect(empty_dsn) as conn:
        assert migrate(Database(conn), folder=folder_with(tmp_path, earlier, "part")) == earlier
        later = [name for name in (*NAMES, *OF_THE_PACK) if name not in earlier]
        named = () if {*earlier} & {*OF_THE_PACK} else packs()
        assert migrate(Database(conn), packs=named) == later
        check(Database(conn))
        assert definitions(conn) == definitions(database)
        assert len(definitions(conn)) > 100


def tables(conn: Connection) -> set[str]:
    return {name.partition(".")[0] for kind, name, _ in definitions(conn) if kind == "column"}


def test_a_new_schema_has_the_tables_of_a_pack_once_it_is_named(empty_dsn: str, database: Connection) -> None:
    with connect(empty_dsn) as conn:
        db = Database(conn)
        assert migrate(db) == NAMES
        check(db)
        of_the_pack = tables(database) - tables(conn)
        assert of_the_pack == {
            "ais_files", "ais_positions", "ais_positions_default", "gear_identity_collisions",
        }  # fmt: skip
        assert all(table.startswith("detection_") for table in tables(conn))
        assert installed_packs(db) == frozenset()
        with pytest.raises(MigrationError, match=r"no tables of the pack 'maritime': run .* --pack maritime"):
            require_pack(db, "maritime")

        assert migrate(db, packs=packs(), dry_run=True) == OF_THE_PACK
        assert migrate(db, packs=["maritime"]) == OF_THE_PACK
        assert definitions(conn) == definitions(database)
        assert installed_packs(db) == {"maritime"}
        require_pack(db, "maritime")
        assert migrate(db) == []


def test_a_database_from_before_packs_keeps_its_rows_and_is_brought_up_unasked(
    empty_dsn: str, tmp_path: Path
) -> None:
    with connect(empty_dsn) as conn:
        db = Database(conn)
        migrate(db, folder=folder_with(tmp_path, BEFORE_PACKS[:10], "before"))
        conn.execute("insert into detection.ais_positions (mmsi, observed_at) values (1, '2026-01-01Z')")
        migrate(db)
        assert conn.execute("select mmsi from detection.ais_positions").fetchall() == [(1,)]
        assert installed_packs(db) == {"maritime"}


def test_what_is_new_in_a_pack_reaches_the_schemas_that_have_it(
    database: Connection, empty_dsn: str, tmp_path: Path
) -> None:
    folder = tmp_path / "m"
    shutil.copytree(sql_root() / "migrations", folder)
    (folder / "9000_core.sql").write_text("create table {schema}.detection_more (n int)")
    (folder / "maritime" / "8999_pack.sql").write_text("create table {schema}.ais_more (n int)")
    assert migrate(Database(database), folder=folder) == ["9000_core", "8999_pack"]
    with connect(empty_dsn) as conn:
        assert migrate(Database(conn), folder=folder) == [*NAMES, "9000_core"]


def test_an_unknown_pack_is_refused(database: Connection) -> None:
    for dry_run in (True, False):
        with pytest.raises(MigrationError, match="there is no pack 'payments' with tables of its own"):
            migrate(Database(database), packs=["payments"], dry_run=dry_run)


def test_no_migration_of_the_core_touches_a_table_of_a_pack() -> None:
    for migration in migrations():
        if migration.pack is None:
            assert not re.search(r"\b(ais_|gear_|maritime)", migration.text), migration.name


def test_an_edited_migration_is_refused(database: Connection, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(sql_root() / "migrations", tmp_path / "edited"))
    with (folder / f"{NAMES[1]}.sql").open("a") as file:
        file.write("-- edited\n")
    for dry_run in (True, False):
        with pytest.raises(MigrationError, match=f"{NAMES[1]} was edited"):
            migrate(Database(database), dry_run=dry_run, folder=folder)


def test_a_database_that_is_newer_is_refused(database: Connection) -> None:
    database.execute(
        "insert into detection.detection_migrations (name, checksum) values ('9999_future', 'x')"
    )
    with pytest.raises(MigrationError, match="9999_future"):
        check(Database(database))


def test_a_migration_that_slips_in_before_an_applied_one_is_refused(empty_dsn: str, tmp_path: Path) -> None:
    with connect(empty_dsn) as conn:
        migrate(Database(conn), folder=folder_with(tmp_path, [NAMES[0]], "first"))
        late = folder_with(tmp_path, [NAMES[0]], "late")
        (late / "0000_late.sql").write_text("select 1")
        with pytest.raises(MigrationError, match="0000_late was added before"):
            migrate(Database(conn), folder=late)


def test_a_migration_that_fails_leaves_nothing_and_the_lock_is_free(empty_dsn: str, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, [NAMES[0]], "broken")
    (folder / "0002_broken.sql").write_text("create table {schema}.half (a int); select 1/0;")
    with connect(empty_dsn) as conn, connect(empty_dsn) as other:
        with pytest.raises(MigrationError, match=r"0002_broken failed: .*division"):
            migrate(Database(conn), folder=folder)
        assert conn.execute("select to_regclass('detection.half')").fetchone() == (None,)
        (folder / "0002_broken.sql").write_text("create table {schema}.half (a int);")
        assert migrate(Database(other), folder=folder) == ["0002_broken"]


def test_a_schema_of_any_name_can_be_migrated_beside_another(database: Connection) -> None:
    assert migrate(Database(database, 'Odd "name')) == NAMES
    check(Database(database, 'Odd "name'))
    check(Database(database))


def test_migrations_need_autocommit(database: Connection) -> None:
    database.autocommit = False
    with pytest.raises(MigrationError, match="autocommit"):
        migrate(Database(database))


def test_two_migrations_of_one_number_are_refused(tmp_path: Path) -> None:
    for name in ("0001_a.sql", "0001_b.sql"):
        (tmp_path / name).write_text("select 1")
    with pytest.raises(MigrationError):
        migrations(tmp_path)
    with pytest.raises(MigrationError):
        migrations(tmp_path / "nowhere")
    (tmp_path / "pack").mkdir()
    (tmp_path / "0001_b.sql").rename(tmp_path / "pack" / "0001_b.sql")
    with pytest.raises(MigrationError):
        migrations(tmp_path)


QUICK = UpkeepLimits(lock_timeout=timedelta(milliseconds=100), attempts=4, pause=timedelta(milliseconds=50))


def altering(tmp_path: Path) -> Path:
    """The migrations, and one that needs a table for itself."""
    folder = Path(shutil.copytree(sql_root() / "migrations", tmp_path / "altering"))
    (folder / "9000_alters.sql").write_text("alter table {schema}.detection_cycles add column x int;")
    return folder


def test_behind_a_reader_a_migration_gives_up_and_keeps_nobody_waiting(
    database: Connection, dsn: str, tmp_path: Path
) -> None:
    longest_s = [0.0]
    is_over = threading.Event()

    def read() -> None:
        with connect(dsn) as conn:
            while not is_over.is_set():
                began = time.monotonic()
                conn.execute("select count(*) from detection.detection_cycles")
                longest_s[0] = max(longest_s[0], time.monotonic() - began)

    with connect(dsn) as idle, idle.transaction():
        idle.execute("select count(*) from detection.detection_cycles")
        reader = threading.Thread(target=read)
        reader.start()
        with pytest.raises(MigrationError, match=r"9000_alters got no lock in 4 attempts, each of 0\.1 s"):
            migrate(Database(database), folder=altering(tmp_path), limits=QUICK)
        is_over.set()
        reader.join()
    assert 0 < longest_s[0] < 2
    assert database.execute("show lock_timeout").fetchone() == ("0",)


def test_a_migration_is_tried_until_the_reader_has_ended(
    database: Connection, dsn: str, tmp_path: Path
) -> None:
    with connect(dsn) as idle:
        idle.execute("begin; select count(*) from detection.detection_cycles")
        timer = threading.Timer(0.5, lambda: idle.execute("commit"))
        timer.start()
        limits = replace(QUICK, attempts=100)
        assert migrate(Database(database), folder=altering(tmp_path), limits=limits) == ["9000_alters"]
        timer.join()


PLAIN = {
    "a cycle": "insert into detection.detection_cycles (cycle_id, schedule, lookback, start_date)"
    " values (%s, '* * * * *', '1 hour', '2026-01-01Z')",
    "a model": "insert into detection.detection_models (model_id, cycle_id, entrypoint) values (%s, 'c', '')",
    "a version": "insert into detection.detection_model_versions (model_id, version) values ('m', %s)",
    "an upstream": "insert into detection.detection_model_dependencies (model_id, depends_on)"
    " values ('m', %s)",
}


def put_plain_ids(conn: Connection) -> None:
    for statement, name in zip(list(PLAIN.values())[:2], "cm", strict=True):
        conn.execute(statement.encode(), (name,))


@pytest.mark.parametrize("what", PLAIN)
def test_the_database_refuses_braces_and_control_characters_in_what_names_things(
    database: Connection, what: str
) -> None:
    put_plain_ids(database)
    for character in "{}\x01\t\n\x1b\x1f\x7f\x80\x9b\x9f\u2028\u2029":
        with pytest.raises(psycopg.errors.CheckViolation):
            database.execute(PLAIN[what].encode(), (f"a{character}b",))
    for name in ("{a", "a}"):
        with pytest.raises(psycopg.errors.CheckViolation):
            database.execute(PLAIN[what].encode(), (name,))
    database.execute(PLAIN[what].encode(), ("å|`*<a>:\"'$%\\船\u202e.-_",))


def test_ids_from_before_stay_readable_and_can_be_retired(empty_dsn: str, tmp_path: Path) -> None:
    name = "{{1}}\x1b"
    before = [migration for migration in NAMES if migration < "0014"]
    with connect(empty_dsn) as conn:
        db = Database(conn)
        migrate(db, folder=folder_with(tmp_path, before, "before"))
        put_plain_ids(conn)
        for statement in PLAIN.values():
            conn.execute(statement.encode(), (name,))
        conn.execute(
            "insert into detection.detection_model_roles (version_id, model_id, model_no, role, valid)"
            " select version_id, model_id, model_no, 'PRIMARY', tstzrange(clock_timestamp() + '1 ms', null)"
            " from detection.detection_models join detection.detection_model_versions using (model_id)"
            " where model_id = 'm' and version = %s",
            [name],
        )
        assert migrate(db) == [migration for migration in NAMES if migration >= "0014"]
        assert name in registry.cycle_ids(db)
        assert [m.model_id for m in registry.model_specs(db)] == ["m", name]
        (model,) = registry.models_at(db, "c", None)
        assert (model.primary and model.primary.version, model.depends_on) == (name, (name,))
        assert roles.assign_role(db, model_id="m", version=name, role=None)
        assert registry.models_at(db, "c", None)[0].versions == ()


def names(line: str) -> set[str]:
    return set(re.findall("detection_[a-z_]+", line))


def grant_as_before_labels(db: Database) -> None:
    """Grant what the roles had before there was a table of labels, or one of shards."""
    lines = (sql_root() / "roles.sql").read_text().splitlines()
    text = "\n".join(line for line in lines if not {"detection_labels", "detection_shards"} & names(line))
    db.conn.execute(composed(text, db.schema))


def test_the_settings_of_cycles_from_before_are_in_force_since_ever(empty_dsn: str, tmp_path: Path) -> None:
    before = [migration for migration in NAMES if migration < "0017"]
    with connect(empty_dsn) as conn:
        db = Database(conn)
        migrate(db, folder=folder_with(tmp_path, before, "before"))
        put_plain_ids(conn)
        conn.execute("update detection.detection_cycles set lookback = '90 min', input_query = 'select 1'")
        grant_as_before_labels(db)
        migrate(db)
        conn.execute("set role detection_writer")
        for at in (datetime(1990, 1, 1, tzinfo=UTC), None):
            assert registry.settings_at(db, "c", at) == CycleSettings(
                lookback=timedelta(minutes=90), input_query="select 1"
            )
        conn.execute("set role detection_admin")
        conn.execute("update detection.detection_cycles set lookback = '2 hours'")
        assert registry.settings_at(db, "c", None).lookback == timedelta(hours=2)


def test_positions_from_before_stay_where_they_are_and_are_kept(empty_dsn: str, tmp_path: Path) -> None:
    before = folder_with(tmp_path, [name for name in BEFORE_PACKS if name < "0030"], "before")
    this_month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    ahead = datetime(2106, 2, 7, tzinfo=UTC)
    with connect(empty_dsn) as conn:
        db = Database(conn, "detection")
        migrate(db, folder=before)
        conn.cursor().executemany(
            "insert into detection.ais_positions (mmsi, observed_at, lat, lon) values (%s, %s, 1, 2)",
            [(1, this_month - timedelta(days=700)), (2, this_month), (3, ahead)],
        )
        migrate(db)
        found = conn.execute("select mmsi, tableoid::regclass::text from detection.ais_positions order by 1")
        first, second, third = found.fetchall()
        assert (first, second) == (
            (1, "detection.ais_positions_before"), (2, "detection.ais_positions_before"),
        )  # fmt: skip
        assert third == (3, "detection.ais_positions_default")
        kept = conn.execute(
            "select retention from detection.detection_partition_policies where table_name = 'ais_positions'"
        )
        assert kept.fetchone() == (None,), "nothing goes before its retention is set"
        assert apply(db, Phase.ENSURE, now=datetime.now(UTC)).is_success
        assert conn.execute("select count(*) from detection.ais_positions").fetchone() == (3,)
        with pytest.raises(psycopg.errors.UniqueViolation):
            conn.execute(
                "insert into detection.ais_positions (mmsi, observed_at, lat, lon) values (2, %s, 1, 2)",
                (this_month,),
            )
