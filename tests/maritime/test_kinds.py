"""Kinds of traffic that models get wrong, each planted with starts, distances and rates drawn at random."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from tests.conftest import clone
from tests.maritime.stored import context_at

from airflow_detection.domain.inputs import Inputs
from airflow_detection.engine.model import BaseDetectionModel
from airflow_detection.maritime.models.ais_gap import AisGap
from airflow_detection.maritime.models.encounter import Encounter
from airflow_detection.maritime.models.identity_collision import IdentityCollision
from airflow_detection.maritime.models.loitering import Loitering
from airflow_detection.maritime.models.position_unavailable import PositionUnavailable
from airflow_detection.maritime.models.spoofing import Spoofing
from airflow_detection.maritime.models.track_quality import TrackQuality
from airflow_detection.maritime.simulation import kinds
from airflow_detection.maritime.simulation.kinds import TrafficKind
from airflow_detection.store.connection import Connection, connect

START = datetime(2026, 3, 2, tzinfo=UTC)
STEP = timedelta(minutes=45)
MODELS: dict[str, BaseDetectionModel] = {
    "spoofing": Spoofing("spoofing", "1.0", {"v_max_kn": 50}),
    "identity_collision": IdentityCollision("identity_collision", "1.0", {"separation_km": 20}),
    "encounter": Encounter("encounter"),
    "loitering": Loitering("loitering"),
    "ais_gap": AisGap("ais_gap"),
    "position_unavailable": PositionUnavailable("position_unavailable"),
    "track_quality": TrackQuality("track_quality"),
}
SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 20))]


def put(conn: Connection, kind: TrafficKind) -> None:
    conn.execute("truncate detection.ais_positions")
    with (
        conn.cursor() as cur,
        cur.copy(
            "copy detection.ais_positions (mmsi, observed_at, lat, lon, sog_kn, heading_deg) from stdin"
        ) as copy,
    ):
        for r in kind.reports:
            at = START + timedelta(seconds=round(r.second))
            copy.write_row((r.mmsi, at, round(r.lat, 5), round(r.lon, 5), r.sog_kn, 511))


def highest(conn: Connection, kind: TrafficKind, name: str) -> dict[int, float]:
    """Return the highest score of each vessel over the cycles, one every 45 minutes."""
    model, found = MODELS[name], dict[int, float]()
    seconds = [r.second for r in kind.reports]
    at, last = START + timedelta(seconds=min(seconds)), START + timedelta(seconds=max(seconds)) + STEP
    while at <= last:
        at += STEP
        ctx = context_at(conn, at, model)
        if kind.vessel_type is not None:
            typed = {**ctx.inputs.columns, "vessel_type": (kind.vessel_type,) * len(ctx.inputs)}
            ctx = replace(ctx, inputs=Inputs(typed))
        if kind.names:
            names = tuple(map(kind.names.get, ctx.inputs.columns.get("mmsi", ())))
            ctx = replace(ctx, inputs=Inputs({**ctx.inputs.columns, "vessel_name": names}))
        for _, output in model.run(ctx).outputs_per_input:
            for mmsi in output.get("mmsis") or [output["mmsi"]]:
                found[mmsi] = max(found.get(mmsi, 0.0), output["score"] or 0.0)
    return found


@pytest.fixture(scope="module")
def conn(server: str, template: str) -> Iterator[Connection]:
    with clone(server, template) as dsn, connect(dsn) as opened:
        yield opened


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("make", kinds.KINDS, ids=lambda make: make.__name__)
def test_a_kind_gets_the_right_answer(
    conn: Connection, make: Callable[[Random], TrafficKind], seed: int
) -> None:
    kind = make(Random(seed))
    put(conn, kind)
    for name, (low, high) in kind.expect.items():
        scores = highest(conn, kind, name)
        for mmsi in kind.mmsis:
            score = scores.get(mmsi, 0.0)
            assert low is None or score > low, (name, mmsi, score)
            assert score <= high, (name, mmsi, score)
