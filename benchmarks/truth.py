"""Scorecard of the reference models: maritime cases with right answers, and a real day.

Each case is a file of positions; `expected.json` beside them bounds the scores of the vessels that it names.
`CASES=folder` names another folder of the same form, `NOAA=0` leaves the real day out.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo
from tests.postgres import postgres

from airflow_detection.cycle import closing, inline, planning
from airflow_detection.cycle.versions import cycle_reader, read_inputs
from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.settings import Settings
from airflow_detection.domain.specs import Mode
from airflow_detection.engine.entrypoints import Registry
from airflow_detection.engine.model import BaseDetectionModel, ModelContext
from airflow_detection.maritime.ais.load import load_file
from airflow_detection.registration.apply import apply_file
from airflow_detection.snapshot.verdicts.period import verdicts
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database
from airflow_detection.store.migrations import migrate

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "shared/data"
REGISTRY = HERE.parent / "dags/registry/maritime.yaml"
SETTINGS = Settings(schema="detection")
FIRST, LAST, STEP = (datetime(2026, 3, 2, 0, 30, tzinfo=UTC), datetime(2026, 3, 2, 21, 30, tzinfo=UTC),
                     timedelta(minutes=15))  # fmt: skip
ANY = ("spoofing", "identity_collision", "encounter")
"""The models of which the highest score counts for the bound `any`."""

DAY, CYCLES = datetime(2020, 1, 1, tzinfo=UTC), 288
CLONES = (303457000, 338189586, 366614000, 1193046, 368059550, 338182085, 338034287)
"""MMSI of two transmitters: in seven hours of the day or more, fixes over 10 NM apart at more than 100 kn."""

Json = dict[str, Any]  # Any: a result line
Detectors = Mapping[str, BaseDetectionModel]
Scores = Mapping[str, dict[int, float]]
"""The highest score of each MMSI over all cycles, by model; an MMSI without an output is missing."""


def run() -> Iterator[Json]:
    """Yield a line for each case, and one for all."""
    folder = Path(os.environ.get("CASES") or DATA / "maritime_cases")
    lines: list[Json] = []
    with postgres(is_durable=False) as server:
        for line in chain(_cases(server, folder), _real_day(server)):
            lines.append(line)
            yield line
    right = sum(line["ok"] for line in lines)
    yield {"bench": "truth", "case": "all", "right": right, "of": len(lines)}


def _cases(server: str, folder: Path) -> Iterator[Json]:
    if not (folder / "expected.json").exists():
        return
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    with _database(server, "detection_truth_cases") as conn:
        apply_file(Database(conn, SETTINGS.schema), REGISTRY)
        detectors = _detectors(conn)
        for case, facts in sorted(expected.items()):
            conn.execute("truncate detection.ais_positions")
            load_file(conn, folder / f"{case}.csv", schema=SETTINGS.schema)
            conn.execute("analyze detection.ais_positions")
            highest = _highest_scores(conn, detectors)
            got = {
                name: _bounded(highest, name, bound, facts["mmsi"]) for name, bound in facts["expect"].items()
            }
            is_right = all(_holds(got[name], bound) for name, bound in facts["expect"].items())
            yield _line(case, facts["expect"], got, is_right=is_right)


def _detectors(conn: Connection) -> Detectors:
    """Return the champions' models."""
    opened = planning.open_cycle(Database(conn, SETTINGS.schema), "maritime", FIRST, mode=Mode.AS_OF)
    models = Registry(opened.plan.models.values(), allowed_prefixes=SETTINGS.allowed_prefixes)
    return {model_id: models.instantiate(v) for model_id, v in opened.plan.primaries.items()}


def _highest_scores(conn: Connection, detectors: Detectors) -> Scores:
    """Run the champions over the cycles of a case."""
    highest: Scores = defaultdict(dict)
    at = FIRST
    while at <= LAST:
        for model_id, outputs in _outputs(conn, at, detectors).items():
            for output in outputs:
                named = output.get("mmsis") or (output.get("evidence") or {}).get("mmsis") or [output["mmsi"]]
                for mmsi in map(int, named):
                    score = output["score"] or 0.0
                    highest[model_id][mmsi] = max(score, highest[model_id].get(mmsi, 0.0))
        at += STEP
    return highest


def _outputs(
    conn: Connection, at: datetime, detectors: Detectors, cpu_s: list[float] | None = None
) -> dict[str, list[Mapping[str, Any]]]:
    """Return the outputs of each champion in one cycle, run in this process.

    `cpu_s` gets the processor time of each model's run, seconds.
    """
    opened = planning.open_cycle(Database(conn, SETTINGS.schema), "maritime", at, mode=Mode.AS_OF)
    reader = cycle_reader(Database(conn, SETTINGS.schema), opened)
    inputs = read_inputs(reader, opened.spec)
    outputs: dict[str, list[Mapping[str, Any]]] = {}
    for model_id in opened.plan.topo_order:
        champion = opened.plan.primaries[model_id]
        ctx = ModelContext(
            cycle=opened.cycle,
            params=champion.params,
            inputs=Inputs(inputs.columns),
            shared={u: _Outputs(outputs[u]) for u in opened.plan.upstreams(model_id)},
            database=reader,
        )
        began = time.thread_time()
        outputs[model_id] = [o for _, o in detectors[model_id].run(ctx).outputs_per_input]
        if cpu_s is not None:
            cpu_s.append(time.thread_time() - began)
    return outputs


@dataclass(frozen=True, slots=True)
class _Outputs:
    """Outputs of a champion, in memory."""

    outputs: Sequence[Mapping[str, Any]]

    def __len__(self) -> int:
        return len(self.outputs)

    def __iter__(self) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        return (({}, output) for output in self.outputs)

    def columns(self) -> tuple[Sequence[str | None], Sequence[float | None]]:
        return [o["entity_id"] for o in self.outputs], [o["score"] for o in self.outputs]


def _bounded(highest: Scores, name: str, bound: str, vessels: Sequence[int]) -> float:
    """Return the score that a bound is about; a lower bound is about each vessel with an output."""
    names = ANY if name == "any" else (name,)
    found = [max(highest[n].get(mmsi, 0.0) for n in names)
             for mmsi in vessels if any(mmsi in highest[n] for n in names)]  # fmt: skip
    return round((min if bound.startswith(">") else max)(found, default=0.0), 3)


def _holds(score: float, bound: str) -> bool:
    limit = float(bound.lstrip("<>="))
    return score > limit if bound.startswith(">") else score <= limit


def _real_day(server: str) -> Iterator[Json]:
    """Judge a whole real day: clones, normal vessels, verdicts and events."""
    folder = DATA / "noaa_ais_2020-01-01"
    if not folder.exists() or os.environ.get("NOAA") == "0":
        return
    with _database(server, "detection_truth_day") as conn:
        db = Database(conn, SETTINGS.schema)
        apply_file(db, REGISTRY)
        load_file(conn, folder / "positions.csv.gz", schema=SETTINGS.schema)
        conn.execute("analyze")
        for number in range(1, CYCLES + 1):
            at = DAY + number * timedelta(minutes=5)
            planning.open_cycle(db, "maritime", at, mode=Mode.AS_OF)
            inline.run_inline(db, SETTINGS, "maritime", at, mode=Mode.AS_OF)
            closing.close_cycle(db, "maritime", at, mode=Mode.AS_OF, task_states={})
        yield from _day_lines(conn, _conflicting(folder / "vessels.csv"))


def _day_lines(conn: Connection, conflicting: frozenset[int]) -> Iterator[Json]:
    top = {int(mmsi): score for mmsi, score in conn.execute(HIGHEST).fetchall()}
    found = sum(top[mmsi] > 0.7 for mmsi in CLONES)
    yield _line("noaa_clones", f"{len(CLONES)} above 0.7", found, is_right=found == len(CLONES))
    normal = [score for mmsi, score in top.items() if mmsi not in conflicting]
    above = sum(score > 0.3 for score in normal)
    yield _line("noaa_normal", f"0 of {len(normal)} above 0.3", above, is_right=not above)
    judged = verdicts(Database(conn, SETTINGS.schema), start=DAY, end=DAY + timedelta(days=1, minutes=5),
                      use_model_registry=True)  # fmt: skip
    bad = sum(verdict.kind.is_bad for verdict in judged)
    yield _line("noaa_verdicts", f"0 of {len(judged)} bad", bad, is_right=not bad)
    critical = {int(mmsi) for (mmsi,) in conn.execute(CRITICAL).fetchall()} - set(CLONES)
    yield _line("noaa_critical", "0 not of a clone", len(critical), is_right=not critical)
    ms = max(_cpu_ms(conn))
    yield _line("noaa_model_cpu_ms", "<=1000", round(ms, 1), is_right=ms <= 1000)


def _cpu_ms(conn: Connection) -> Iterator[float]:
    """Yield the processor time of all champions in one cycle, milliseconds, for every second hour of the day.

    What the database spends for them is not in it.
    """
    detectors = _detectors(conn)
    for detector in detectors.values():
        detector.prepare()
    for number in range(24, CYCLES + 1, 24):
        cpu_s: list[float] = []
        _outputs(conn, DAY + number * timedelta(minutes=5), detectors, cpu_s)
        yield 1000.0 * sum(cpu_s)


HIGHEST = """
select entity_id, coalesce(max(score), 0) from detection.detection_model_run_outputs
 where model_id = 'spoofing' and role = 'PRIMARY' group by 1
"""
CRITICAL = """
select distinct entity_id from detection.detection_events
 where model_id = 'identity_collision' and severity = 'CRITICAL' and status <> 'RETRACTED'
"""


def _conflicting(path: Path) -> frozenset[int]:
    """Return the vessels of the day that have a hop which no ship can sail."""
    lines = [line.split(",") for line in path.read_text(encoding="utf-8").splitlines()]
    column = lines[0].index("sel_conflict_full_rate")
    return frozenset(int(line[0]) for line in lines[1:] if line[column] == "true")


@contextmanager
def _database(server: str, name: str) -> Iterator[Connection]:
    """Connection to a fresh, migrated database."""
    with connect(server) as admin:
        admin.execute(f"drop database if exists {name} with (force)".encode())
        admin.execute(f"create database {name}".encode())
    with connect(make_conninfo(server, dbname=name)) as conn:
        migrate(Database(conn, SETTINGS.schema), packs=("maritime",))
        yield conn


def _line(case: str, expected: object, got: object, *, is_right: bool) -> Json:
    return {"bench": "truth", "case": case, "expected": expected, "got": got, "ok": int(is_right)}
