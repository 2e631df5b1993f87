"""Reads from before the window: bounded, only what had arrived, thinned as numpy thins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from tests.maritime.conftest import COLUMNS, END, SHIP, Row, cycle_at, fix
from tests.maritime.stored import context_at, put

from airflow_detection.domain.inputs import Inputs
from airflow_detection.engine.model import BaseDetectionModel, ModelContext
from airflow_detection.maritime.models.ais_gap import AisGap
from airflow_detection.maritime.models.encounter import Encounter
from airflow_detection.maritime.models.gear_identity_collision import GearIdentityCollision
from airflow_detection.maritime.models.identity_collision import IdentityCollision
from airflow_detection.maritime.models.loitering import Loitering
from airflow_detection.maritime.tracks.fixes import Fixes, in_time_order, read_fixes
from airflow_detection.maritime.tracks.history import last_fixes, merged, thinned, thinned_fixes, times_before
from airflow_detection.store.connection import Connection
from airflow_detection.store.queries import load_queries

MODEL = Loitering("loitering", "1.0", {})
SINCE = END - timedelta(hours=6)


def fixes_of(rows: list[Row]) -> Fixes:
    return read_fixes(Inputs.of_rows(rows, COLUMNS))


def shown(fixes: Fixes) -> list[tuple[Any, ...]]:
    return list(zip(fixes.mmsi, fixes.observed_s, fixes.lat, fixes.lon, strict=True))


def wandering(seed: int, n: int) -> list[Row]:
    """Fixes of three vessels in the five hours before the window, two of them often in one second."""
    rng = np.random.default_rng(seed)
    return [
        fix(
            float(rng.integers(-18_000, 0)),
            float(np.round(rng.uniform(-0.3, 0.3), 2)),
            float(np.round(rng.uniform(179.7, 180.0), 2)) * int(rng.choice((-1, 1))),
            float(rng.integers(0, 5)),
            mmsi=SHIP + int(rng.integers(0, 3)),
        )
        for _ in range(n)
    ]


@pytest.mark.parametrize("step_s", [60.0, 300.0, 3600.0])
def test_the_database_thins_as_numpy_does(database: Connection, step_s: float) -> None:
    rows = wandering(3, 600)
    put(database, rows)
    ctx = context_at(database, END, MODEL)
    expected = shown(thinned(in_time_order(fixes_of(rows)), step_s))
    assert shown(in_time_order(thinned_fixes(ctx, SINCE, step_s))) == expected
    assert len(expected) < 600
    vessels = np.array([SHIP, SHIP + 2, -1], dtype=np.int64)
    some = thinned_fixes(ctx, SINCE, step_s, vessels)
    assert shown(in_time_order(some)) == [row for row in expected if row[0] != SHIP + 1]
    assert len(thinned_fixes(ctx, SINCE, step_s, vessels[2:])) == 0, "no canary is asked for"


def test_a_fix_is_kept_or_not_whatever_the_window(database: Connection) -> None:
    rows = [fix(s, 10.0, 20.0) for s in range(-1000, 1000, 70)]
    put(database, rows)
    whole = shown(thinned(in_time_order(fixes_of(rows)), 300.0))
    for minutes in range(0, 30, 4):
        end = END - timedelta(minutes=58) + timedelta(minutes=minutes)
        ctx = context_at(database, end, MODEL)
        both = thinned(merged(thinned_fixes(ctx, SINCE, 300.0), read_fixes(ctx.inputs)), 300.0)
        assert shown(both) == [row for row in whole if row[1] < end.timestamp()]


def test_the_last_usable_fix_before_the_window_is_found(database: Connection) -> None:
    put(database, [fix(-3600 * h, h, 20.0, mmsi=SHIP) for h in range(1, 5)])
    put(database, [fix(-60, 91, 181, mmsi=SHIP), fix(0, 50, 20, mmsi=SHIP), fix(600, 51, 20, mmsi=SHIP)])
    put(database, [fix(-3600 * 5 - 1, 7, 20, mmsi=SHIP + 1), fix(-10, 8, 9, mmsi=7)])
    ctx = context_at(database, END, MODEL)
    assert [row[:3] for row in shown(in_time_order(last_fixes(ctx, SINCE)))] == [
        (7, fix(-10, 0, 0)["observed_s"], 8.0),
        (SHIP, fix(-3600, 0, 0)["observed_s"], 1.0),
    ]
    assert len(last_fixes(context_at(database, END - timedelta(days=1), MODEL), SINCE)) == 0


def test_only_what_had_arrived_is_read(database: Connection) -> None:
    early, late = datetime(2020, 1, 2, tzinfo=UTC), datetime(2020, 1, 3, tzinfo=UTC)
    put(database, [fix(-600, 10, 20)], early)
    put(database, [fix(-60, 11, 20)], late)
    ctx = context_at(database, END, MODEL, early)
    vessels, starts = np.array([SHIP]), np.array([END.timestamp()])
    assert last_fixes(ctx, SINCE).lat.tolist() == [10.0]
    assert thinned_fixes(ctx, SINCE, 60.0).lat.tolist() == [10.0]
    assert thinned_fixes(ctx, SINCE, 60.0, vessels).lat.tolist() == [10.0]
    times = times_before(ctx, fixes_of([]), vessels, starts, span_s=7200, max_times=9)
    assert [t.tolist() for t in times] == [[fix(-600, 0, 0)["observed_s"]]]


def test_times_before_an_instant_are_of_its_span_and_the_last_ones(database: Connection) -> None:
    put(database, [fix(-60 * i, 10, 20) for i in range(1, 31)])
    now = fixes_of([fix(60 * i, 10, 20) for i in (3, 0, 2, 1, 1)])
    ctx = context_at(database, END, MODEL)
    start = fix(120, 0, 0)["observed_s"]

    def minutes(max_times: int, span_s: float, at_s: float = start) -> list[float]:
        vessels = np.array([SHIP + 1, SHIP], dtype=np.int64)
        none, times = times_before(
            ctx, now, vessels, np.array([at_s, at_s]), span_s=span_s, max_times=max_times
        )
        assert len(none) == 0
        return [(s - start) / 60 + 2 for s in times.tolist()]

    assert minutes(50, 300) == [-3, -2, -1, 0, 1, 2]
    assert minutes(4, 300) == [-1, 0, 1, 2]
    assert minutes(50, 120, start - 900) == [-15, -14, -13]
    assert times_before(ctx, now, np.zeros(0, dtype=np.int64), np.zeros(0), span_s=1, max_times=1) == []


def test_without_a_database_there_is_no_history() -> None:
    ctx = ModelContext(cycle=cycle_at())
    assert len(last_fixes(ctx, SINCE)) == 0
    assert len(thinned_fixes(ctx, SINCE, 300.0)) == 0
    assert len(merged(thinned_fixes(ctx, SINCE, 300.0), fixes_of([fix(0, 10, 20)]))) == 1


def test_two_transmitters_under_one_mmsi_are_both_kept() -> None:
    rows = [fix(10 * i, 10 + 5 * (i % 2), 20) for i in range(20)]
    assert len(thinned(in_time_order(fixes_of(rows)), 300.0)) == 2


class RecordingDatabase:
    """A database without rows, which keeps the statements of its queries."""

    def __init__(self) -> None:
        self.statements: list[str] = []

    def query(self, sql: str, params: Any = None) -> Inputs:
        self.statements.append(sql)
        return Inputs()


@pytest.mark.parametrize(
    "model_class", [AisGap, Encounter, GearIdentityCollision, IdentityCollision, Loitering]
)
def test_each_query_of_a_model_is_a_named_statement(model_class: type[BaseDetectionModel]) -> None:
    model, database = model_class("model"), RecordingDatabase()
    canary_rows = [row for canary in model.canaries(cycle_at()) for row in canary.rows]
    rows = [{**row, "mmsi": SHIP - row["mmsi"]} for row in canary_rows]  # of vessels that may be stored
    inputs = Inputs.of_rows(rows, (*COLUMNS, "vessel_name"))
    model.run(ModelContext(cycle=cycle_at(), params=model.params, inputs=inputs, database=database))
    named = {query.as_string() for query in load_queries("maritime_history", "detection").values()}
    assert database.statements
    assert set(database.statements) <= named
