"""Stored positions of a test, and runs of models over them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_detection.domain.specs import Cycle
from airflow_detection.engine.model import BaseDetectionModel, ModelContext
from airflow_detection.store.connection import Connection
from airflow_detection.store.database import Database
from airflow_detection.store.reader import Reader

Row = dict[str, Any]

QUERY = """
select mmsi, extract(epoch from observed_at)::float8 as observed_s, lat, lon, sog_kn::float8 as sog_kn
  from ais_positions
 where observed_at >= :window_start and observed_at < :window_end and loaded_at <= :opened_at
 order by random()
"""


def put(database: Connection, rows: Iterable[Mapping[str, Any]], loaded_at: datetime | None = None) -> None:
    """Store positions in any order."""
    shuffled = list(rows)
    random.Random(1).shuffle(shuffled)
    with database.cursor() as cur:
        cur.executemany(
            "insert into detection.ais_positions (mmsi, observed_at, lat, lon, sog_kn, loaded_at)"
            " values (%s, to_timestamp(%s), %s, %s, %s, coalesce(%s, now())) on conflict do nothing",
            [(r["mmsi"], r["observed_s"], r["lat"], r["lon"], r.get("sog_kn"), loaded_at) for r in shuffled],
        )


def context_at(
    database: Connection,
    end: datetime,
    model: BaseDetectionModel,
    opened_at: datetime | None = None,
    **shared: Any,
) -> ModelContext:
    """Return the context of a model for the hour before `end`."""
    cycle = Cycle(cycle_id="maritime", started_at=end, lookback=timedelta(hours=1))
    window = {
        "window_start": cycle.window.start,
        "window_end": end,
        "opened_at": opened_at or datetime.now(UTC) + timedelta(hours=1),
    }
    reader = Reader(Database(database, "detection"), window)
    return ModelContext(
        cycle=cycle, params=model.params, inputs=reader.query(QUERY), database=reader, shared=shared
    )


def run_at(
    database: Connection,
    end: datetime,
    model: BaseDetectionModel,
    opened_at: datetime | None = None,
    **shared: Any,
) -> dict[str, Row]:
    """Run a model on stored positions, and return its outputs by entity, one each."""
    pairs = list(model.run(context_at(database, end, model, opened_at, **shared)).outputs_per_input)
    outputs = {output["entity_id"]: dict(output) for _, output in pairs}
    assert len(outputs) == len(pairs)
    return outputs


def cycles(first: datetime, count: int, minutes: int = 5) -> list[datetime]:
    """Return the ends of `count` windows."""
    return [first + timedelta(minutes=minutes * i) for i in range(count)]


def replayed(
    database: Connection, ends: list[datetime], model: BaseDetectionModel, **shared: Any
) -> dict[datetime, dict[str, Row]]:
    """Run the cycles in order, then shuffled: the rows have to be the same."""
    outputs = {end: run_at(database, end, model, **shared) for end in ends}
    shuffled = list(ends)
    random.Random(7).shuffle(shuffled)
    for end in shuffled:
        assert run_at(database, end, model, **shared) == outputs[end]
    return outputs


class Upstream:
    """A champion's outputs, as its dependents see them."""

    def __init__(self, scores: Mapping[int, float | None]) -> None:
        self.scores = {str(mmsi): score for mmsi, score in scores.items()}

    def columns(self) -> tuple[list[str | None], list[float | None]]:
        return list(self.scores), list(self.scores.values())
