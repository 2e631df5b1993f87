"""A whole real day of ship positions: 288 cycles in inline mode, twice, and the outputs of each model.

`python -m benchmarks.noaa_day PAGE` also writes the figures as a Markdown page.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import Any

import psycopg
from tests.postgres import postgres

from airflow_detection.cycle import closing, inline, planning
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode, Outcome, Role
from airflow_detection.maritime.ais.load import load_file
from airflow_detection.registration.apply import apply_file
from airflow_detection.store.connection import connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import migrate

HERE = Path(__file__).resolve().parent
POSITIONS = HERE.parents[1] / "shared/data/noaa_ais_2020-01-01/positions.csv.gz"
REGISTRY = HERE.parent / "dags/registry/maritime.yaml"
DAY = datetime(2020, 1, 1, tzinfo=UTC)
STEP = timedelta(minutes=5)
CYCLES = 288
LIMIT_MS = 1000.0
SETTINGS = Settings(schema="detection")

INTRODUCTION = (
    "What the reference models find on 2020-01-01: 288 cycles of five minutes, each of the last hour, "
    "over 196,472 positions of 938 vessels (a trimmed day in which anomalous vessels are over-represented). "
    "Written by `python -m benchmarks.noaa_day docs/models/noaa_day.md`, which replays the day twice, the "
    "second time in a shuffled order, and fails unless every row is the same. Counts are sums over cycles: "
    "what lasts an hour counts twelve times."
)
HEADING = (
    "| model | version | role | cycles | inputs | outputs | null | > 0 | > 0.3 | > 0.5 | > 0.7 | median ms |"
)

Row = dict[str, Any]  # Any: a row holds what its statement selects
Conn = psycopg.Connection[Any]  # Any: as above

MODEL_TIME = """
select cycle_started_at,
       sum(coalesce((stage_ms->>'run')::float8, 0) + coalesce((stage_ms->>'outputs')::float8, 0))
  from detection.detection_model_runs group by 1 order by 1
"""
DIGESTS = """
select r.cycle_started_at, r.model_id, v.version, r.outcome::text, r.output_count, r.output_digest,
       r.score_counts, coalesce(o.rows, 0), o.content
  from detection.detection_model_runs r
  join detection.detection_model_versions v using (version_id)
  left join lateral (
       select count(*) as rows, md5(string_agg(md5(concat_ws('|', entity_id, score, input_ref, outputs)), ''
                                               order by entity_id, input_ref::text, outputs::text)) as content
         from detection.detection_model_run_outputs o
        where o.cycle_started_at = r.cycle_started_at and o.model_id = r.model_id
          and o.version_id = r.version_id and o.is_replay = r.is_replay) o on true
 order by 1, 2, 3
"""
EVENTS = """
select category, entity_id, severity::text, status::text, score, first_seen_at, last_seen_at
  from detection.detection_events where status <> 'RETRACTED' order by 1, 2, 6
"""
COUNTS = """
select r.model_id, v.version, r.role::text, count(*) as cycles, sum(r.input_count) as inputs,
       sum(r.output_count) as outputs, sum((r.score_counts->>'null')::int) as null,
       sum((r.score_counts->>'gt0')::int) as gt0, sum((r.score_counts->>'medium')::int) as medium,
       sum((r.score_counts->>'high')::int) as high, sum((r.score_counts->>'critical')::int) as critical,
       percentile_cont(0.5) within group (
           order by (stage_ms->>'run')::float8 + (stage_ms->>'outputs')::float8) as ms
  from detection.detection_model_runs r join detection.detection_model_versions v using (version_id)
 group by 1, 2, 3 order by min(r.started_at), 3, 2
"""
SEVERITIES = """
select coalesce(outputs->>'severity', 'none') as severity, count(*)
  from detection.detection_model_run_outputs o join detection.detection_model_versions v using (version_id)
 where o.model_id = %(model_id)s and v.version = %(version)s group by 1
"""
TOP = """
select entity_id, count(*) filter (where score > 0.7) as critical,
       count(*) filter (where score > 0.3) as medium,
       max(score) as top
  from detection.detection_model_run_outputs o join detection.detection_model_versions v using (version_id)
 where o.model_id = %(model_id)s and v.version = %(version)s and score > 0
 group by 1 order by 2 desc, 3 desc, 4 desc, 1 limit 6
"""


def run() -> dict[str, Any]:  # Any: a JSON object
    """Replay the day twice; return the result line, and fail when a row differs."""
    result, _ = replay()
    return result


def replay(page: Path | None = None) -> tuple[dict[str, Any], list[Row]]:
    """Replay the day twice; return the result line and the counts, and write `page` if one is named."""
    if not POSITIONS.exists():
        return {"skipped": "the NOAA day is not here"}, []
    with postgres() as server:
        dsn = new_database(server)
        with connect(dsn) as conn:
            migrate(Database(conn, SETTINGS.schema), packs=("maritime",))
            apply_file(Database(conn, SETTINGS.schema), REGISTRY)
            load_file(conn, POSITIONS, schema=SETTINGS.schema)
            conn.execute("analyze")
            cycle_ms: list[float] = []
            passes, events = [], []
            order = [DAY + number * STEP for number in range(1, CYCLES + 1)]
            for _ in range(2):
                cycle_ms += _pass(conn, order)
                order = Random(1).sample(order, CYCLES)
                passes.append(conn.execute(DIGESTS).fetchall())
                events.append(conn.execute(EVENTS).fetchall())
            differing = [a[:3] for a, b in zip(*passes, strict=True) if a != b]
            failed = [row for row in passes[-1] if row[3] != Outcome.SUCCEEDED.value]
            assert not failed, failed[:3]
            assert not differing, f"{len(differing)} runs differ between the two passes: {differing[:5]}"
            assert events[0] == events[1], "the events differ between the two passes"
            model_ms = [float(row[1]) for row in conn.execute(MODEL_TIME)]
            counts = _rows(conn, COUNTS)
            if page:
                page.write_text("\n".join(_page(conn, counts)) + "\n", encoding="utf-8")
    vigintiles = quantiles(model_ms, n=20)
    return {
        "bench": "noaa_day",
        "n": CYCLES,
        "repeats": 2,
        "ours_ms": round(median(model_ms), 1),
        "p95_ms": round(vigintiles[18], 1),
        "max_ms": round(max(model_ms), 1),
        "limit_ms": LIMIT_MS,
        "speedup_vs_limit": round(LIMIT_MS / median(model_ms), 2),
        "cycle_wall_ms": round(median(cycle_ms), 1),
        "runs": len(passes[0]),
        "differing": len(differing),
        "events": len(events[0]),
    }, counts


def new_database(server: str) -> str:
    with connect(server) as conn:
        conn.execute("drop database if exists detection_noaa_day with (force)")
        conn.execute("create database detection_noaa_day")
    return psycopg.conninfo.make_conninfo(server, dbname="detection_noaa_day")


def _pass(conn: Conn, order: list[datetime]) -> Iterator[float]:
    """Run every cycle of the day once, in this order; yield the milliseconds of each."""
    for at in order:
        started_at = datetime.now(UTC)
        planning.open_cycle(Database(conn, SETTINGS.schema), "maritime", at, mode=Mode.AS_OF)
        report = inline.run_inline(Database(conn, SETTINGS.schema), SETTINGS, "maritime", at, mode=Mode.AS_OF)
        summary = closing.close_cycle(
            Database(conn, SETTINGS.schema), "maritime", at, mode=Mode.AS_OF, task_states={}
        )
        assert not summary.failed, [r.error for r in report.reports if r.error]
        yield (datetime.now(UTC) - started_at).total_seconds() * 1000


def _rows(conn: Conn, query: str, params: Row | None = None) -> list[Row]:
    with conn.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        return cursor.execute(query.encode(), params).fetchall()


def _page(conn: Conn, counts: list[Row]) -> Iterator[str]:
    yield from ("# The NOAA day", "", INTRODUCTION, "", HEADING, "|---|---|---|" + "--:|" * 9)
    for row in counts:
        null = row["null"] or 0
        share = f"{null / row['outputs']:.1%}" if row["outputs"] else "-"
        buckets = " | ".join(f"{row[name] or 0:,}" for name in ("gt0", "medium", "high", "critical"))
        yield (
            f"| {row['model_id']} | {row['version']} | {row['role']} | {row['cycles']} | {row['inputs']:,} "
            f"| {row['outputs']:,} | {null:,} ({share}) | {buckets} | {row['ms']:.1f} |"
        )
    for row in counts:
        params = {"model_id": row["model_id"], "version": row["version"]}
        severities = {r["severity"]: r["count"] for r in _rows(conn, SEVERITIES, params)}
        yield from ("", f"## {row['model_id']} {row['version']} ({row['role']})", "")
        levels = ("LOW", "MEDIUM", "HIGH", "CRITICAL", "none")
        yield "Severities: " + ", ".join(f"{name} {severities.get(name, 0):,}" for name in levels) + "."
        top = _rows(conn, TOP, params) if row["role"] == Role.PRIMARY.value else []
        if top:
            yield from (
                "",
                "| entity | cycles above 0.7 | cycles above 0.3 | highest score |",
                "|---|--:|--:|--:|",
            )
        for entity in top:
            figures = (entity["critical"], entity["medium"], f"{entity['top']:.3f}")
            yield f"| {entity['entity_id']} | {' | '.join(map(str, figures))} |"


if __name__ == "__main__":
    print(replay(Path(sys.argv[1]) if len(sys.argv) > 1 else None)[0])
