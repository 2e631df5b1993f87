"""Writers that are killed, cut off, refused or late: the old result or the new one is stored, whole."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from airflow_detection.domain.inputs import MaterializedOutputs
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.specs import Cycle, ModelSpec, Outcome, Role, VersionSpec
from airflow_detection.errors import DetectionError, RegistryUnavailable, StaleAttempt, StorageError
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.outputs import PostgresStore
from airflow_detection.store.partitions.create import PARTITIONED, ensure_cycle_months, ensure_month

AT = datetime(2026, 3, 5, 12, tzinfo=UTC)
CYCLE = Cycle(cycle_id="sea", started_at=AT, lookback=timedelta(hours=1))
MODEL = ModelSpec(model_id="spoofing", cycle_id="sea", score_key="score", entity_key="mmsi")
ROWS = 3000
OUTPUTS = """
select array_agg(distinct outputs->>'result'), count(*), count(distinct entity_id)
  from detection.detection_model_run_outputs
"""
METRICS = "select array_agg(metric_value::int::text) from detection.detection_model_metrics"
RUNS = """
select array_agg(output_count), array_agg(output_digest), min(outcome::text)
  from detection.detection_model_runs
"""
EVENTS = """
select array_agg(distinct details->>'result'), count(*)
  from detection.detection_events where status <> 'RETRACTED'
"""


def write(dsn: str, version_id: int, result: int, *, is_materialized: bool = True, rows: int = ROWS) -> None:
    """Store result number `result`, which shows in each of its rows, in its metric and in its events."""
    with connect(dsn) as conn:
        save(
            PostgresStore(conn, conn, "detection"),
            version_id,
            result,
            is_materialized=is_materialized,
            rows=rows,
        )


def save(
    store: PostgresStore, version_id: int, result: int, *, is_materialized: bool = True, rows: int = ROWS
) -> None:
    version = VersionSpec(model_id="spoofing", version="1", role=Role.PRIMARY, version_id=version_id)
    pairs = [
        ({"n": n}, {"mmsi": n, "score": 0.9 if n % 10 == 0 else 0.1, "result": result, "text": "x" * 300})
        for n in range(rows)
    ]
    report = RunReport(version=version, outcome=Outcome.SUCCEEDED, started_at=AT, output_count=rows)
    outputs = MaterializedOutputs(pairs, 1.0) if is_materialized else iter(pairs)
    store.save(MODEL, version, CYCLE, outputs, lambda _: (report, {"result": float(result)}))


@dataclass
class ResultStore:
    """Store of numbered results of one run, with a connection to its database."""

    conn: Connection
    dsn: str
    version_id: int

    def result(self) -> int:
        """The number of the result that is stored; fails unless all tables hold the same."""
        with self.conn.transaction():
            self.conn.execute("set transaction isolation level repeatable read")
            results, count, entities = self.conn.execute(OUTPUTS).fetchone() or ()
            metrics = self.conn.execute(METRICS).fetchone()
            counts, digests, outcome = self.conn.execute(RUNS).fetchone() or ()
            events = self.conn.execute(EVENTS).fetchone()
        assert len(results) == 1, results
        assert (count, entities, counts, outcome) == (ROWS, ROWS, [ROWS], "SUCCEEDED")
        assert metrics == (results,)
        assert events == (results, ROWS // 10)
        assert self.digests.setdefault(int(results[0]), digests) == digests
        return int(results[0])

    @property
    def digests(self) -> dict[int, Any]:
        return self.__dict__.setdefault("_digests", {})

    def write(self, result: int, **options: Any) -> None:
        write(self.dsn, self.version_id, result, **options)


@pytest.fixture
def result_store(database: Connection, dsn: str, registered_version: VersionSpec) -> ResultStore:
    ensure_cycle_months(Database(database, "detection"), AT)
    store = ResultStore(database, dsn, registered_version.version_id)
    store.write(1)
    assert store.result() == 1
    return store


def wait_for_silence(result_store: ResultStore) -> None:
    """Wait until the server has ended what a dead client left behind."""
    others = (
        "select count(*) from pg_stat_activity where datname = current_database() "
        "and pid <> pg_backend_pid() and backend_type = 'client backend'"
    )
    end = time.monotonic() + 30
    while result_store.conn.execute(others).fetchone() != (0,):
        assert time.monotonic() < end, "a backend stayed"
        time.sleep(0.005)


def kill_writers(result_store: ResultStore, count: int, chance: random.Random) -> int:
    """Start `count` writers and SIGKILL each at a random moment; return how many had stored their result."""
    began = time.monotonic()
    result_store.write(1)
    usual_s = time.monotonic() - began
    fork = multiprocessing.get_context("fork")
    stored, done = 1, 0
    for number in range(2, count + 2):
        writer = fork.Process(
            target=_write_alone, args=(result_store.dsn, result_store.version_id, number, number % 2 == 0)
        )
        writer.start()
        assert writer.pid is not None
        time.sleep(chance.uniform(0, 1.3 * usual_s))
        with contextlib.suppress(ProcessLookupError):
            os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        wait_for_silence(result_store)
        result = result_store.result()
        assert result in (stored, number)
        done += result == number
        stored = result
    return done


def _write_alone(dsn: str, version_id: int, result: int, is_materialized: bool) -> None:  # noqa: FBT001 - args of a process
    write(dsn, version_id, result, is_materialized=is_materialized)
    os._exit(0)


def test_a_writer_that_is_killed_leaves_the_old_result_or_the_new_one(result_store: ResultStore) -> None:
    kill_writers(result_store, 12, random.Random(1))


@pytest.mark.long
def test_two_hundred_writers_that_are_killed_leave_the_old_result_or_the_new_one(
    result_store: ResultStore,
) -> None:
    done = kill_writers(result_store, 200, random.Random(2))
    assert 0 < done < 200  # moments before and after the commit were both met


def test_a_writer_whose_backend_is_ended_leaves_the_old_result_or_the_new_one(
    result_store: ResultStore,
) -> None:
    chance, stored = random.Random(3), 1
    for number in range(2, 14):
        with connect(result_store.dsn) as conn:
            store = PostgresStore(conn, conn, "detection")
            killer = threading.Timer(
                chance.uniform(0, 0.15),
                lambda pid: result_store.conn.execute("select pg_terminate_backend(%s)", (pid,)),
                (conn.info.backend_pid,),
            )
            killer.start()
            with contextlib.suppress(RegistryUnavailable):
                save(store, result_store.version_id, number)
            killer.join()
        wait_for_silence(result_store)
        result = result_store.result()
        assert result in (stored, number)
        stored = result


class Proxy:
    """Proxy that forwards `limit` bytes between a client and Postgres, then drops both connections."""

    def __init__(self, folder: str, port: str, limit: int) -> None:
        self._path, self._left = f"{folder}/.s.PGSQL.{port}", limit
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._path)
        pumps = [
            threading.Thread(target=self._pump, args=ends) for ends in ((client, server), (server, client))
        ]
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        for end in (client, server, self._listener):
            end.close()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(8192):
                self._left -= len(data)
                if self._left < 0:
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_a_connection_that_drops_after_any_number_of_bytes_leaves_the_old_result_or_the_new_one(
    result_store: ResultStore,
) -> None:
    target = conninfo_to_dict(result_store.dsn)
    folder, port = str(target.get("host")), str(target.get("port", 5432))
    if not folder.startswith("/"):
        pytest.skip("the server is reached by TCP")
    chance, stored = random.Random(4), 1
    for number in range(2, 12):
        proxy = Proxy(folder, port, chance.randrange(2_000, 1_400_000))
        dsn = make_conninfo(result_store.dsn, host="127.0.0.1", port=proxy.port)
        with contextlib.suppress(RegistryUnavailable):
            write(dsn, result_store.version_id, number)
        wait_for_silence(result_store)
        result = result_store.result()
        assert result in (stored, number)
        stored = result


@pytest.mark.parametrize("is_materialized", [True, False])
@pytest.mark.parametrize("row", [0, 1, 1500, ROWS - 1])
def test_an_error_on_any_row_leaves_the_old_result(
    result_store: ResultStore,
    row: int,
    is_materialized: bool,  # noqa: FBT001
) -> None:
    result_store.conn.execute(
        "create function detection.full() returns trigger language plpgsql as $$ begin "
        f"if new.entity_id = '{row}' then raise 'no space left' using errcode = 'disk_full'; end if; "
        "return new; end $$"
    )
    result_store.conn.execute(
        "create trigger full_disk before insert on detection.detection_model_run_outputs "
        "for each row execute function detection.full()"
    )
    with pytest.raises(DetectionError, match="no space left"):
        result_store.write(2, is_materialized=is_materialized)
    assert result_store.result() == 1


@pytest.mark.parametrize("table", ["model_metrics", "model_runs", "events"])
def test_an_error_behind_the_outputs_leaves_the_old_result(result_store: ResultStore, table: str) -> None:
    result_store.conn.execute(
        "create function detection.refuse() returns trigger language plpgsql as $$ begin "
        "raise 'refused' using errcode = 'integrity_constraint_violation'; end $$"
    )
    result_store.conn.execute(
        f"create trigger refuse before insert or update on detection.detection_{table} "
        "for each row execute function detection.refuse()"
    )
    with pytest.raises(StorageError, match="refused"):
        result_store.write(2)
    assert result_store.result() == 1


def test_attempts_at_once_leave_one_result_and_the_latest_start_wins(
    result_store: ResultStore, dsn: str
) -> None:
    connections = [connect(dsn) for _ in range(4)]
    stores = [PostgresStore(conn, conn, "detection") for conn in connections]  # numbered in this order
    stale: list[int] = []

    def one(number: int) -> None:
        try:
            save(stores[number], result_store.version_id, number + 2)
        except StaleAttempt:
            stale.append(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in (3, 1, 0, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for conn in connections:
        conn.close()
    assert result_store.result() == 5
    assert 3 not in stale


def test_an_old_attempt_that_wakes_up_late_changes_nothing(result_store: ResultStore, dsn: str) -> None:
    with connect(dsn) as conn:
        old = PostgresStore(conn, conn, "detection")
        result_store.write(2)
        for is_materialized in (True, False):
            with pytest.raises(StaleAttempt):
                save(old, result_store.version_id, 3, is_materialized=is_materialized)
            assert result_store.result() == 2


@pytest.fixture
def small_disk(result_store: ResultStore) -> Iterator[str]:
    """A tablespace on a file system of 8 MB, where this process may mount one."""
    import subprocess
    import tempfile
    from pathlib import Path

    mount = Path(tempfile.mkdtemp(prefix="detection-small-"))
    owner = Path(str(result_store.conn.execute("show data_directory").fetchone()[0]))  # type: ignore[index]
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(mount)], check=False, capture_output=True
    )
    if mounted.returncode:
        mount.rmdir()
        pytest.skip("no right to mount a file system")
    try:
        folder = mount / "space"
        folder.mkdir(mode=0o700)
        os.chown(folder, owner.stat().st_uid, owner.stat().st_gid)
        result_store.conn.execute(f"create tablespace detection_small location '{folder}'")
        yield "detection_small"
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=False)
        mount.rmdir()


def test_a_tablespace_that_is_full_leaves_the_old_result(result_store: ResultStore, small_disk: str) -> None:
    result_store.conn.execute(
        f"alter table detection.detection_model_run_outputs_p2026_03 set tablespace {small_disk}"
    )
    assert result_store.result() == 1
    with pytest.raises(DetectionError, match="space"):
        result_store.write(2, rows=40_000)
    assert result_store.result() == 1
    result_store.conn.execute(
        "alter table detection.detection_model_run_outputs_p2026_03 set tablespace pg_default"
    )
    result_store.conn.execute(f"drop tablespace {small_disk}")
    assert result_store.result() == 1
    assert isinstance(result_store.conn, psycopg.Connection)


IDENTITIES = """
select c.relname from pg_class c
 where c.relnamespace = 'detection'::regnamespace and c.relkind in ('r', 'p') and c.relreplident = 'd'
   and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)
"""


def test_a_publication_for_all_tables_does_not_stop_a_result_from_being_replaced(
    result_store: ResultStore,
) -> None:
    result_store.conn.execute("create publication everything for all tables")
    result_store.write(2)
    assert result_store.result() == 2
    assert result_store.conn.execute(IDENTITIES).fetchall() == []


def test_a_month_that_comes_back_is_in_the_publication_as_the_others(result_store: ResultStore) -> None:
    database = Database(result_store.conn, "detection")
    result_store.conn.execute("create publication everything for all tables")
    for table in PARTITIONED:
        month = f"{table}_p2026_03"
        result_store.conn.execute(f"alter table detection.{table} detach partition detection.{month}")
        result_store.conn.execute(f"alter table detection.{month} replica identity default")
        result_store.conn.execute(
            "insert into detection.detection_maintenance_log "
            "(action, table_name, partition_name, bounds, outcome, details) "
            "values ('detach', %s, %s, '[2026-03-01Z, 2026-04-01Z)', 'done', "
            "jsonb_build_object('oid', %s::regclass::oid::bigint))",
            (table, month, f"detection.{month}"),
        )
        assert ensure_month(database, table, AT, recreate_expired=True)
    assert result_store.result() == 1
    result_store.write(2)
    assert result_store.result() == 2


def test_a_table_without_an_identity_is_a_refusal_and_no_silence(result_store: ResultStore) -> None:
    result_store.conn.execute("create publication everything for all tables")
    result_store.conn.execute(
        "alter table detection.detection_model_run_outputs_p2026_03 replica identity nothing"
    )
    with pytest.raises(StorageError, match="replica identity"):
        result_store.write(2)
    assert result_store.result() == 1
