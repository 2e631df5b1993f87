"""Positions that are nowhere: ships that say 0, 0, jump to one point together, or lie on each other."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.engine.model import BaseDetectionModel, Canary, ModelContext, ModelResult
from airflow_detection.maritime.params import positive
from airflow_detection.maritime.score_metrics import score_metrics
from airflow_detection.maritime.severity import severity
from airflow_detection.maritime.tracks.coast import load_shorelines
from airflow_detection.maritime.tracks.fixes import Fixes, in_time_order, iso_utc, read_fixes
from airflow_detection.maritime.tracks.history import HISTORY_TABLES, merged, thinned_fixes
from airflow_detection.maritime.tracks.mmsi import VESSELS, is_of_kind, is_reserved
from airflow_detection.maritime.tracks.nowhere import (
    MANY,
    SharedPoint,
    crowds,
    is_nowhere,
    jumping,
    shared_points,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_detection.domain.specs import Cycle

MAX_SHOWN = 100
VESSELS_SCALE = 3.5
BEFORE_S = 1800.0  # steps of what is read from before the window: where ships were at first


class PositionUnavailable(BaseDetectionModel):
    """One output per point at which vessels say that they are and cannot be; the vessels are listed.

    The entity is the point, in tenths of degrees. The score is 1 - exp(-vessels / 3.5): above 0.5, and so an
    event, from three vessels on. Ships and their boats are judged (ITU-R M.585).

    Params:
        within_minutes: how long after the first the last vessel jumps, minutes (60).
        history_h: from when on it is known where the vessels were before, hours before the window (12).
    """

    features: ClassVar[tuple[str, ...]] = ("lat", "lon")
    history_tables: ClassVar[tuple[str, ...]] = HISTORY_TABLES
    counts_need_past: ClassVar[bool] = False

    @classmethod
    def prepare(cls) -> None:
        """Read the shorelines."""
        load_shorelines()

    def run(self, ctx: ModelContext) -> ModelResult:
        """Look for such points among the rows of the window.

        Raises:
            TerminalModelError: a param is not a number or out of bounds, or an input column is missing.
        """
        positive(ctx.params, "within_minutes", 60.0)
        now = in_time_order(read_fixes(ctx.inputs))
        now = now.take(is_of_kind(now.mmsi, VESSELS))
        reserved = is_reserved(now.mmsi)
        real = _outputs(ctx, now.take(~reserved), "")
        canaries = _outputs(ctx, now.take(reserved), "canary:")
        return ModelResult(
            outputs_per_input=[*real, *canaries],
            metrics={
                "point_count": len(real),
                "position_unavailable_count": len({m for _, o in real for m in o["mmsis"]}),
                **score_metrics(output["score"] for _, output in real),
            },
            features=now.features(self.features),
        )

    def reads_since(self, cycle: Cycle) -> datetime:
        """Return the instant from which places before the window are looked for, UTC."""
        return _since(cycle, self.params)

    def canaries(self, cycle: Cycle) -> Iterator[Canary]:
        """Three vessels that jump to one point in mid-Atlantic, and one that says 0, 0."""
        start = cycle.window.start.timestamp()

        def row(mmsi: int, second: float, lat: float, lon: float) -> JsonMapping:
            return {"mmsi": mmsi, "observed_s": start + second, "lat": lat, "lon": lon}

        jumps = [
            row(mmsi, 60.0 * k, *place)
            for mmsi in (-1, -2, -3)
            for k, place in enumerate(((30.0 - mmsi, -40.0), (35.04, -25.04)))
        ]
        yield Canary(entity_id="canary:35.0,-25.0", rows=tuple(jumps), expected=_score(3))
        yield Canary(entity_id="canary:0.0,0.0", rows=(row(-4, 0.0, 0.0, 0.0),), expected=_score(1))


def _since(cycle: Cycle, params: JsonMapping) -> datetime:
    return cycle.window.start - timedelta(hours=positive(params, "history_h", 12.0))


def _jumps(ctx: ModelContext, now: Fixes) -> list[SharedPoint]:
    """Return the points to which vessels jumped in the window; for many it is read where they were before."""
    within_s = 60.0 * positive(ctx.params, "within_minutes", 60.0)
    vessels = jumping(now)
    if len(vessels) < MANY:
        return shared_points(now, within_s)
    before = thinned_fixes(ctx, _since(ctx.cycle, ctx.params), BEFORE_S, vessels)
    return shared_points(merged(before, now), within_s, ctx.window.start.timestamp())


def _score(vessels: int) -> float:
    return -math.expm1(-vessels / VESSELS_SCALE)


def _outputs(ctx: ModelContext, fixes: Fixes, label: str) -> list[tuple[JsonMapping, JsonMapping]]:
    points = [("jump", point) for point in _jumps(ctx, fixes)]
    at_origin = fixes.take(is_nowhere(fixes))
    if len(at_origin):
        points.append(("origin", SharedPoint.of(at_origin)))
    points += [("crowd", point) for point in crowds(fixes)]
    by_entity: dict[str, tuple[JsonMapping, JsonMapping]] = {}
    for kind, point in sorted(points, key=lambda p: len(p[1].mmsis)):  # of several in one cell the largest
        entity = f"{label}{point.lat + 0.0:.1f},{point.lon + 0.0:.1f}".replace("-0.0", "0.0")
        by_entity[entity] = ({"point": entity}, _output(entity, kind, point))
    return [by_entity[entity] for entity in sorted(by_entity)]


def _output(entity: str, kind: str, point: SharedPoint) -> JsonMapping:
    score = _score(len(point.mmsis))
    return {
        "entity_id": entity,
        "score": score,
        "severity": severity(score),
        "mmsis": point.mmsis[:MAX_SHOWN],
        "evidence": {
            "kind": kind,
            "place": [round(point.lat, 5), round(point.lon, 5)],
            "vessels": len(point.mmsis),
            "first_seen_at": iso_utc(point.first_s),
            "last_seen_at": iso_utc(point.last_s),
        },
    }
