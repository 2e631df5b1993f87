"""A version in shards: the same result as of the whole, stored once, whatever becomes of single shards."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests import sample_registry
from tests.misbehaving_models import BEHAVIOURS
from tests.sample_registry import AT
from tests.store.servers import pooler

from airflow_detection.cycle import inline, planning
from airflow_detection.cycle.replay import replay
from airflow_detection.cycle.shard_ranges import ShardRanges
from airflow_detection.cycle.shards import ShardStore
from airflow_detection.cycle.task import run_task
from airflow_detection.cycle.versions import VersionRequest
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.scores import EventRule
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Cycle, Mode, ModelSpec, Outcome, Role
from airflow_detection.engine.job import not_run_report
from airflow_detection.engine.model import BaseDetectionModel, Canary, ModelContext, ModelResult
from airflow_detection.engine.sql_model import SqlDetectionModel
from airflow_detection.errors import StaleAttempt, StorageError
from airflow_detection.store import shards as shard_store
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.grants import grant
from airflow_detection.store.reader import Reader
from airflow_detection.store.spool import encode_outputs

SETTINGS = Settings(allowed_prefixes=("tests.cycle.test_shards",), inline_timeout_s=60, inline_memory_mib=256)
QUERY = "select id, value, at from seen where at < :window_end order by id, value"
CANARY = {"int": "-7", "text": "canary:seven", "uuid": "ffffffff-ffff-ffff-ffff-ffffffffffff"}
OUTPUTS = """
select entity_id, score, input_ref::text, outputs::text from detection.detection_model_run_outputs
 join detection.detection_model_versions using (version_id)
 where version = %s and is_replay = %s order by detection_model_run_outputs.ctid
"""
MANIFEST = """
select outcome::text, role::text, input_count, output_count, output_digest, score_counts, score_edges,
       canaries, params_digest, artifact_sha256, newest_input_at, reads_since, history_tables, error
  from detection.detection_model_runs join detection.detection_model_versions using (version_id)
 where version = %s and is_replay = %s
"""
METRICS = """
select metric_key, metric_value from detection.detection_model_metrics
  join detection.detection_model_versions using (version_id)
 where version = %s and is_replay = %s and metric_key <> 'cycle_duration_ms' order by 1
"""
EVENTS = "select entity_id, severity::text, status::text from detection.detection_events order by 1"


class PerEntity(BaseDetectionModel):
    """Adds up the values of each entity."""

    features = ("id", "value")
    shard_by = "entity"
    metrics_of_shards = {"largest": "max", "smallest": "min", "mean_score": "mean"}

    def run(self, ctx: ModelContext) -> ModelResult:
        params, rows = ctx.params, defaultdict[Any, list[Any]](list)
        for row in ctx.inputs.rows():
            entity = str(row["id"]) if isinstance(row["id"], UUID) else row["id"]
            rows[entity].append(row["value"])
        if params.get("at", "nobody") in rows and not Path(params.get("until", "")).is_file():
            if params["behaviour"] == "kills its task":
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(30)
            BEHAVIOURS[params["behaviour"]](ctx)
        if params.get("other"):
            rows["somebody else"] = []
        real = {e: v for e, v in rows.items() if str(e) not in CANARY.values()}
        scores = {e: (sum(v) % 100) / 100 for e, v in rows.items()}
        return ModelResult(
            outputs_per_input=[
                ({"id": entity}, {"id": entity, "score": scores[entity], "values": values})
                for entity, values in rows.items()
            ],
            metrics={
                "entities": len(real),
                "largest": max(map(sum, real.values()), default=None),
                "smallest": min(map(sum, real.values()), default=None),
                "mean_score": sum(scores[e] for e in real) / len(real) if real else None,
            },
        )

    def canaries(self, cycle: Cycle) -> Iterator[Canary]:
        kind = self.params.get("kind", "text")
        value: Any = int(CANARY[kind]) if kind == "int" else CANARY[kind]
        rows = tuple({"id": value, "value": n, "at": cycle.window.start} for n in (10, 30))
        yield Canary(entity_id=CANARY[kind], rows=rows, expected=0.4)


class Whole(PerEntity):
    """Judges all entities at once."""

    shard_by = None


class OneStatement(SqlDetectionModel):
    """Is one SELECT."""

    statement = "select 'a' as entity, 0.5 as score, '{}'::jsonb as outputs"


def put(
    conn: Any,
    entities: list[Any],
    *,
    kind: str = "text",
    query: str = QUERY,
    entrypoint: str = "PerEntity",
    shadows: Sequence[dict[str, Any]] = (),
    shards: int = 1,
    **params: Any,
) -> None:
    """Register a cycle over a table with three rows of each entity, out of order, and open it."""
    names = {"int": "bigint", "text": "text", "uuid": "uuid"}
    conn.execute(f"create table detection.seen (id {names[kind]}, value int, at timestamptz)")
    for n in range(3):
        for place, entity in enumerate(reversed(entities)):
            values = (entity, 7 * place + n, AT - timedelta(minutes=n + 1))
            conn.execute("insert into detection.seen values (%s, %s, %s)", values)
    sample_registry.put_cycle(conn, input_query=query, time_key="at")
    put_model(conn, shards, entrypoint)
    sample_registry.put_version(conn, "m@1", Role.PRIMARY, kind=kind, **params)
    for n, own in enumerate(shadows):
        sample_registry.put_version(conn, f"m@{n + 2}", Role.SHADOW, kind=kind, **{**params, **own})
    open_cycle(conn)


def put_model(conn: Any, shards: int, entrypoint: str = "PerEntity") -> None:
    options = {"shards": shards} if shards > 1 else {}
    entrypoint = f"tests.cycle.test_shards:{entrypoint}"
    sample_registry.put_model(conn, "m", entrypoint=entrypoint, task_options=options)


def open_cycle(conn: Any) -> planning.OpenedCycle:
    return planning.open_cycle(Database(conn, "detection"), "fleet", AT, mode=Mode.AS_OF)


def run(
    conn: Any, shard: int | None = None, shards: int | None = None, version: str | None = None
) -> RunReport:
    """Run a version as its task does, or a shard as the mapped task does."""
    request = VersionRequest(model_id="m", version=version, cycle_id="fleet", started_at=AT, is_opened=True)
    return run_task(Database(conn, "detection"), SETTINGS, request, shard=shard, shards=shards)


def run_all(conn: Any, shards: int, version: str | None = None) -> RunReport:
    """Run each shard, and put them together."""
    for shard in range(shards):
        report = run(conn, shard, shards, version)
        assert report.outcome is Outcome.SUCCEEDED, report.error
    return run(conn, None, shards, version)


def stored(conn: Any, version: str = "1", *, is_replay: bool = False) -> dict[str, list[Any]]:
    queries = {"outputs": OUTPUTS, "manifest": MANIFEST, "metrics": METRICS}
    found: dict[str, list[Any]] = {
        name: conn.execute(query.encode(), (version, is_replay)).fetchall() for name, query in queries.items()
    }
    found["metrics"] = [(key, pytest.approx(value, rel=1e-12)) for key, value in found["metrics"]]
    return {**found, "events": conn.execute(EVENTS.encode()).fetchall()}


def staged(conn: Any) -> list[tuple[int, int]]:
    """Return the shards that are staged, and the number of their chunks."""
    return list(
        conn.execute(
            "select shard, count(c.chunk)::int from detection.detection_shards s"
            " left join detection.detection_shard_chunks c using"
            " (cycle_id, cycle_started_at, version_id, is_replay, shard_count, shard)"
            " group by 1 order by 1"
        )
    )


def reset(conn: Any) -> None:
    conn.execute("delete from detection.detection_model_run_outputs")
    conn.execute("delete from detection.detection_model_runs")
    conn.execute("delete from detection.detection_events")


HOSTILE = [
    "", " ", "a", "A", "a ", "Z", "ä", "aa", "é", "e\u0301", "'; drop table detection.seen; --", '"', "\\",
    "%s", "%(x)s", ":window_end", "{}", "$$", "null", "None", "\n", "\t", "\U0001f6f3", "\uffff", "z" * 1000,
]  # fmt: skip
KEYS: dict[str, list[Any]] = {
    "int": [-(2**63), -7000, -1, 0, 1, 2, 3, 10, 11, 100, 2**31, 2**63 - 1],
    "text": HOSTILE,
    "uuid": [f"{n:08x}-0000-4000-8000-{n:012x}" for n in (0, 1, 9, 10, 15, 255, 4096, 2**31)],
}


@pytest.mark.parametrize("shards", [3, 40])
@pytest.mark.parametrize("kind", KEYS)
def test_shards_store_what_the_whole_does_byte_for_byte(database: Any, kind: str, shards: int) -> None:
    order = "id" if kind == "int" else 'id::text collate "C"'
    put(database, [*KEYS[kind], None], kind=kind, query=QUERY.replace("order by id", f"order by {order}"))
    assert run(database).outcome is Outcome.SUCCEEDED
    whole = stored(database)
    assert len(whole["outputs"]) == len(KEYS[kind]) + 1
    reset(database)
    report = run_all(database, shards)
    assert report.outcome is Outcome.SUCCEEDED, report.error
    assert stored(database) == whole
    assert staged(database) == []


@pytest.mark.parametrize("shards", [2, 5])
def test_shards_of_a_query_in_another_order_store_the_same_set_of_rows(database: Any, shards: int) -> None:
    put(database, HOSTILE, query="select id, value, at from seen where at < :window_end order by value desc;")
    assert run(database).outcome is Outcome.SUCCEEDED
    whole = stored(database)
    reset(database)
    assert run_all(database, shards).outcome is Outcome.SUCCEEDED
    of_shards = stored(database)
    assert sorted(map(repr, of_shards["outputs"])) == sorted(map(repr, whole["outputs"]))
    assert of_shards["metrics"] == whole["metrics"]


@pytest.mark.parametrize("entities", [[], ["a"], [None]])
def test_there_may_be_fewer_entities_than_shards_or_none(database: Any, entities: list[Any]) -> None:
    put(database, entities)
    assert run(database).outcome is Outcome.SUCCEEDED
    whole = stored(database)
    reset(database)
    assert run_all(database, 4).outcome is Outcome.SUCCEEDED
    assert stored(database) == whole
    assert whole["manifest"][0][7] == [
        {"name": CANARY["text"], "expected": 0.4, "observed": 0.4, "is_present": True, "error": 0.0}
    ], "canaries travel with each shard"


ENTITIES = ["a", "b", "c", "d", "e", "f"]


def in_a_task(dsn: str, shard: int | None, shards: int, *, dies: bool = False) -> int:
    """Run a shard, or what is left, in a process of its own; `dies`: it is killed behind its transaction.

    Returns the status that it ended with.
    """
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_RDWR), 2)
            with connect(dsn) as conn:
                report = run(conn, shard, shards)
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(0 if report.outcome is Outcome.SUCCEEDED else 3)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def of_whole(conn: Any) -> dict[str, list[Any]]:
    """Return what the whole stores, and forget it."""
    assert run(conn).outcome is Outcome.SUCCEEDED
    found = stored(conn)
    reset(conn)
    return found


def test_a_shard_that_is_killed_behind_its_transaction_is_there(database: Any, dsn: str) -> None:
    put(database, ENTITIES)
    whole = of_whole(database)
    assert in_a_task(dsn, 1, 3, dies=True) == signal.SIGKILL
    assert [shard for shard, _ in staged(database)] == [1]
    assert stored(database)["outputs"] == stored(database)["manifest"] == [], "no half of a result is seen"
    assert in_a_task(dsn, 1, 3) == 0, "the retry"
    assert [in_a_task(dsn, shard, 3) for shard in (0, 2)] == [0, 0]
    assert stored(database)["outputs"] == stored(database)["manifest"] == []
    assert in_a_task(dsn, None, 3, dies=True) == signal.SIGKILL
    assert stored(database) == whole
    assert run_all(database, 3).outcome is Outcome.SUCCEEDED, "all of it once more"
    assert stored(database) == whole


def test_a_shard_that_is_killed_before_its_transaction_has_left_nothing(
    database: Any, dsn: str, tmp_path: Path
) -> None:
    until = tmp_path / "until"
    put(database, ENTITIES, at="c", behaviour="kills its task", until=str(until))
    assert in_a_task(dsn, 0, 3) == 0
    assert in_a_task(dsn, 1, 3) == signal.SIGKILL
    assert [shard for shard, _ in staged(database)] == [0]
    until.touch()
    assert in_a_task(dsn, 1, 3) == in_a_task(dsn, 2, 3) == 0
    assert run(database, None, 3).outcome is Outcome.SUCCEEDED
    of_shards = stored(database)
    reset(database)
    assert of_shards == {**of_whole(database), "events": of_shards["events"]}


def test_a_failed_shard_fails_the_version_and_its_retry_mends_it(database: Any, tmp_path: Path) -> None:
    until = tmp_path / "until"
    put(database, ENTITIES, at="c", behaviour="raises", until=str(until))
    assert run(database, 0, 3).outcome is Outcome.SUCCEEDED
    report = run(database, 1, 3)
    assert report.outcome is Outcome.FAILED
    assert (report.error or "").startswith("shard 1 of 3: RuntimeError: out of luck")
    assert stored(database)["manifest"][0][0] == "FAILED"
    assert stored(database)["manifest"][0][-1] == report.error
    assert run(database, None, 3).error == report.error, "its own task tries it again, and fails as it does"
    until.touch()
    assert run(database, 1, 3).outcome is Outcome.SUCCEEDED
    assert run(database, None, 3).outcome is Outcome.SUCCEEDED, "what nobody has run is run by it"
    of_shards = stored(database)
    assert of_shards["manifest"][0][0] == "SUCCEEDED"
    assert of_shards["manifest"][0][-1] is None
    assert len(of_shards["outputs"]) == len(ENTITIES)


def test_an_earlier_success_stays_in_force_until_all_shards_are_there(database: Any, tmp_path: Path) -> None:
    until = tmp_path / "until"
    until.touch()
    put(database, ENTITIES, at="c", behaviour="raises", until=str(until))
    assert run_all(database, 3).outcome is Outcome.SUCCEEDED
    earlier = stored(database)
    until.unlink()
    database.execute("update detection.seen set value = value + 1")
    assert run(database, 0, 3).outcome is Outcome.SUCCEEDED
    assert stored(database) == earlier
    assert run(database, 1, 3).outcome is Outcome.FAILED
    later = stored(database)
    assert later["outputs"] == earlier["outputs"]
    assert later["manifest"][0][:-1] == earlier["manifest"][0][:-1]
    assert later["manifest"][0][-1].startswith("shard 1 of 3: ")
    until.touch()
    assert run(database, 1, 3).outcome is run(database, 2, 3).outcome is Outcome.SUCCEEDED
    assert run(database, None, 3).outcome is Outcome.SUCCEEDED
    assert stored(database)["outputs"] != earlier["outputs"]


def store_of(conn: Any, opened: planning.OpenedCycle, shards: int = 3) -> ShardStore:
    """Return the store of an attempt that begins now."""
    run = shard_store.ShardedRun(
        cycle=opened.cycle,
        version=opened.steps[0],
        shard_count=shards,
        opened_at=opened.opened_at,
        score_edges=EventRule().edges,
    )
    return ShardStore(Database(conn, "detection"), SETTINGS, opened, run)


def stage_empty(store: ShardStore, shard: int) -> None:
    """Stage a shard without outputs."""
    empty = shard_store.StagedShard(shard=shard, report={}, metrics={}, score_counts={})
    spool = encode_outputs(BytesIO(), ModelSpec(model_id="m"), [])
    shard_store.stage(store._db, store.run, empty, spool, store.store.attempt)


def test_shards_that_were_counted_at_other_edges_do_not_count(database: Any) -> None:
    put(database, ENTITIES)
    for shard in range(3):
        assert run(database, shard, 3).outcome is Outcome.SUCCEEDED
    database.execute("update detection.detection_models set events = '{\"above\": 0.01}'")
    assert run(database, None, 3).outcome is Outcome.SUCCEEDED
    of_shards = stored(database)
    assert of_shards["events"]
    reset(database)
    assert of_shards == of_whole(database)


def test_what_is_staged_can_be_read_again_where_the_first_reading_broke_off(database: Any, dsn: str) -> None:
    """As it is when the connection that writes was lost and another one was opened."""
    put(database, ENTITIES)
    opened = planning.planned_cycle(Database(database, "detection"), "fleet", AT, mode=Mode.AS_OF)
    for shard in range(3):
        assert run(database, shard, 3).outcome is Outcome.SUCCEEDED
    with connect(dsn) as conn, shard_store.snapshot(conn):
        db, of_run = Database(conn, "detection"), store_of(database, opened).run
        outputs = shard_store.StagedOutputs(db, of_run, shard_store.staged(db, of_run), len(ENTITIES))
        broken_off = outputs.chunks(b"|")
        first = next(broken_off)
        assert next(outputs.chunks(b"|")) == first


def test_a_shard_whose_process_tells_another_number_of_outputs_is_not_staged(database: Any) -> None:
    put(database, ENTITIES)
    opened = planning.planned_cycle(Database(database, "detection"), "fleet", AT, mode=Mode.AS_OF)
    store, step, file = store_of(database, opened), opened.steps[0], BytesIO()
    facts = store.spool(file, ModelSpec(model_id="m"), [({}, {})])
    report = replace(not_run_report(step, Outcome.SUCCEEDED, ""), output_count=99)
    with pytest.raises(StorageError, match="1 encoded outputs were found, not 99"):
        store.save(file, facts, opened.plan.models["m"], opened.cycle, report, {})
    assert staged(database) == []


def test_shards_of_runs_that_never_ended_go_after_a_week(database: Any) -> None:
    put(database, ENTITIES)
    assert run(database, 2, 3).outcome is Outcome.SUCCEEDED
    database.execute("update detection.detection_shards set staged_at = staged_at - interval '8 days'")
    assert run(database, 0, 3).outcome is Outcome.SUCCEEDED
    assert [shard for shard, _ in staged(database)] == [0]


def test_a_stale_attempt_at_a_shard_changes_nothing(database: Any) -> None:
    put(database, ENTITIES)
    opened = planning.planned_cycle(Database(database, "detection"), "fleet", AT, mode=Mode.AS_OF)
    early = store_of(database, opened)
    assert run(database, 1, 3).outcome is Outcome.SUCCEEDED
    before = staged(database)
    with pytest.raises(StaleAttempt):
        stage_empty(early, 1)
    assert staged(database) == before
    stage_empty(early, 0)
    assert run(database, 0, 3).outcome is Outcome.SUCCEEDED, "a later one writes over it"
    assert run(database, 2, 3).outcome is Outcome.SUCCEEDED
    assert run(database, None, 3).outcome is Outcome.SUCCEEDED
    result = stored(database)
    with pytest.raises(StaleAttempt):
        stage_empty(early, 2)
    assert staged(database) == []
    assert stored(database) == result
    failed = not_run_report(opened.steps[0], Outcome.FAILED, "too late")
    early.save_failure(opened.plan.models["m"], opened.steps[0], opened.cycle, failed)
    assert stored(database) == result


def test_two_tasks_that_run_the_same_shard_leave_one(database: Any, dsn: str) -> None:
    put(database, ENTITIES)
    whole = of_whole(database)
    with ThreadPoolExecutor(6) as pool:
        shards = [pool.submit(in_a_task, dsn, shard, 3) for shard in (0, 1, 2, 0, 1, 2)]
        assert {future.result() for future in shards} <= {0, 3 << 8}
    assert [shard for shard, _ in staged(database)] == [0, 1, 2]
    with ThreadPoolExecutor(2) as pool:
        closings = [pool.submit(in_a_task, dsn, None, 3) for _ in range(2)]
        assert 0 in {future.result() for future in closings}
    assert stored(database) == whole


@pytest.mark.parametrize(
    ("other_began", "outcome"), [("earlier", Outcome.SUCCEEDED), ("later", Outcome.SKIPPED)]
)
def test_shards_that_another_process_has_put_together_meanwhile_are_run_again(
    database: Any, monkeypatch: pytest.MonkeyPatch, other_began: str, outcome: Outcome
) -> None:
    put(database, ENTITIES)
    whole, put_together = of_whole(database), ShardStore.put_together
    opened = planning.planned_cycle(Database(database, "detection"), "fleet", AT, mode=Mode.AS_OF)
    others = [store_of(database, opened)] if other_began == "earlier" else []

    def after_another(store: ShardStore, model: ModelSpec) -> RunReport | None:
        calls.append(store)
        if len(calls) == 1:
            other = others[0] if others else store_of(database, opened)
            assert put_together(other, model) is not None
            shard_store.clear(Database(database, "detection"), other.run, store.store.attempt)
        return put_together(store, model)

    calls: list[ShardStore] = []
    monkeypatch.setattr(ShardStore, "put_together", after_another)
    assert run(database, None, 3).outcome is outcome
    assert staged(database) == []
    assert stored(database) == whole


def test_shards_of_another_opening_of_the_cycle_do_not_count(database: Any) -> None:
    put(database, ENTITIES)
    assert run(database, 0, 3).outcome is Outcome.SUCCEEDED
    open_cycle(database)
    database.execute("update detection.seen set value = value + 1")
    assert run(database, None, 3).outcome is Outcome.SUCCEEDED
    of_shards = stored(database)
    reset(database)
    assert of_shards == of_whole(database)


def test_shards_behind_a_pooler_store_what_the_whole_does(database: Any, dsn: str) -> None:
    put(database, ENTITIES)
    whole = of_whole(database)
    with pooler(dsn) as pooled, connect(pooled) as conn:
        assert run_all(conn, 3).outcome is Outcome.SUCCEEDED
        assert stored(conn) == whole
        assert staged(conn) == []


def test_shards_need_no_more_than_a_writers_rights(database: Any, dsn: str) -> None:
    put(database, ENTITIES)
    whole = of_whole(database)
    grant(Database(database, "detection"))
    database.execute("grant select on detection.seen to detection_writer")
    login = f"writer_{uuid4().hex[:8]}"
    name = sql.Identifier(login)
    database.execute(sql.SQL("create role {} login password 'pw' in role detection_writer").format(name))
    try:
        with connect(make_conninfo(dsn, user=login, password="pw")) as conn:  # noqa: S106
            assert run_all(conn, 3).outcome is Outcome.SUCCEEDED
    finally:
        database.execute(sql.SQL("drop role {}").format(name))
    assert stored(database) == whole
    assert staged(database) == []


def test_the_task_of_a_version_runs_only_the_shards_that_are_not_there(database: Any) -> None:
    put(database, ENTITIES)
    assert run(database, 0, 3).outcome is Outcome.SUCCEEDED
    database.execute("update detection.seen set value = 1000")
    assert run(database, None, 3).outcome is Outcome.SUCCEEDED
    values = [json.loads(outputs)["values"] for *_, outputs in stored(database)["outputs"]]
    assert [1000 in of_entity for of_entity in values] == [False, False, True, True, True, True]


def test_all_versions_of_a_cycle_have_the_same_shards(database: Any) -> None:
    put(database, ENTITIES, shadows=[{}, {}])
    for version in (None, "2"):
        assert run_all(database, 3, version).outcome is Outcome.SUCCEEDED
    database.execute("insert into detection.seen select 'A' || n, 1, now() from generate_series(1, 100) n")
    bounds = "select shard_bounds from detection.detection_cycle_runs"
    assert database.execute(bounds).fetchall() == [({"text:3:id": ["c", "e"]},)]
    digests = database.execute("select input_digest from detection.detection_model_runs").fetchall()
    assert len(set(digests)) == 1
    assert digests[0][0].startswith("shards-1:id:3:")
    open_cycle(database)
    assert database.execute(bounds).fetchall() == [({},)], "where other rows may have come"


def test_rows_that_arrive_meanwhile_are_in_one_shard_each(database: Any) -> None:
    put(database, ENTITIES, query="select id, value, at from seen order by id, value")
    assert run(database, 1, 3).outcome is Outcome.SUCCEEDED
    for entity in ("", "a1", "cc", "zz", None):
        database.execute("insert into detection.seen values (%s, 1, now())", (entity,))
    assert run(database, 0, 3).outcome is run(database, 2, 3).outcome is Outcome.SUCCEEDED
    assert run(database, None, 3).outcome is Outcome.SUCCEEDED
    entities = [entity for entity, *_ in stored(database)["outputs"]]
    assert entities == ["", "a", "a1", "b", "c", "d", "e", "f", "zz", None]


WAYS = ["other versions", "a Dag of one's own", "inline", "as run", "replay", "override"]


@pytest.mark.parametrize("how", WAYS)
def test_every_way_to_run_a_version_stores_the_same(database: Any, how: str) -> None:
    put(database, ENTITIES, shadows=[{}])
    db = Database(database, "detection")
    whole: dict[str, Any] = {}
    for shards in (1, 3):
        reset(database)
        put_model(database, shards)
        opened = open_cycle(database)
        is_replay, version = how in ("replay", "override"), "1"
        if is_replay:
            assert run(database).outcome is Outcome.SUCCEEDED
            version = "2"
        if how == "other versions":
            reports = inline.run_steps(db, SETTINGS, opened, opened.steps)
            assert [report.outcome for report in reports] == [Outcome.SUCCEEDED] * 2
        elif how == "a Dag of one's own":
            database.execute("delete from detection.detection_cycle_runs")
            request = VersionRequest(model_id="m", cycle_id="fleet", started_at=AT)
            assert run_task(db, SETTINGS, request).outcome is Outcome.SUCCEEDED
        elif how == "inline":
            inline.run_inline(db, SETTINGS, "fleet", AT, mode=Mode.AS_OF)
        elif how == "as run":
            planning.open_cycle(db, "fleet", AT, mode=Mode.AS_RUN)
            request = VersionRequest(model_id="m", cycle_id="fleet", started_at=AT, mode=Mode.AS_RUN)
            for shard in (*range(shards), None) if shards > 1 else (None,):
                assert run_task(db, SETTINGS, request, shard=shard).outcome is Outcome.SUCCEEDED
        elif how == "replay":
            replayed = list(replay(db, SETTINGS, "fleet", ["m@2"], [AT]))
            assert [r.report.outcome for r in replayed] == [Outcome.SUCCEEDED]
        else:
            planning.open_cycle(db, "fleet", AT, mode=Mode.OVERRIDE, replay=["m@2"])
            inline.run_inline(db, SETTINGS, "fleet", AT, mode=Mode.OVERRIDE)
        found = stored(database, version, is_replay=is_replay)
        assert found["manifest"]
        whole = whole or found
        assert found == whole
    assert staged(database) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"entrypoint": "Whole"}, "its class Whole has shard_by None: must be 'entity'"),
        ({"entrypoint": "OneStatement"}, "its class OneStatement has shard_by None: must be 'entity'"),
        (
            {"query": "select id as mmsi, value, at from seen"},
            "its entity_key 'id' is no column of input_query",
        ),
        ({"query": "select at as id, value, at from seen"}, "its entity_key 'id' is of type timestamptz"),
        ({"query": None}, "cycle 'fleet' has no input_query"),
        ({"query": "select id, value, at from seen where nothing"}, "the query was refused"),
        ({"other": True}, "output about 'somebody else'"),
    ],
)
def test_what_cannot_run_in_shards_says_so(database: Any, change: dict[str, Any], reason: str) -> None:
    put(database, ENTITIES, **change)
    report = run(database, 0, 2)
    assert report.outcome is Outcome.FAILED
    assert not report.is_transient
    assert reason in (report.error or "")
    assert staged(database) == []


@given(
    st.lists(st.tuples(st.text(max_size=3), st.integers(-5, 5)), max_size=30),
    st.integers(2, 7),
)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_ranges_part_any_rows(database: Any, rows: list[tuple[str, int]], count: int) -> None:
    """Each row is in one shard, in the order of all rows."""
    rows = [(text.replace("\0", ""), n) for text, n in rows]
    database.execute("create temporary table if not exists given (id text, n int)")
    database.execute("truncate given")
    with database.cursor() as cursor:
        cursor.executemany("insert into given values (%s, %s)", rows)
    query = 'select id, n from given order by id collate "C", n'
    db = Database(database, "detection")
    ordered = sorted(rows, key=lambda row: (row[0].encode(), row[1]))
    bounds = list({ordered[len(ordered) * n // count][0] for n in range(1, count)} if rows else set())
    bounds.sort(key=str.encode)
    ranges = ShardRanges(column="id", is_text=True, bounds=bounds)
    found: list[tuple[str, int]] = []
    for shard in range(count + 1):
        text, params = ranges.query(query, shard)
        inputs = Reader(db, params).read(text)
        found += zip(inputs["id"], inputs["n"], strict=True)
    assert found == ordered
