"""The layout of a canary that is a vessel: one row for each of its fixes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.engine.model import Canary


def vessel_canary(
    mmsi: int,
    expected: float | None,
    fixes: Iterable[tuple[float | None, float | None, float | None]],
    *,
    upstream: Mapping[str, tuple[tuple[JsonMapping, JsonMapping], ...]] | None = None,
    **columns: float | None,
) -> Canary:
    """Return a canary with the entity id of its MMSI.

    Args:
        mmsi: a reserved one.
        expected: its score.
        fixes: seconds since 1970 UTC, latitude and longitude in degrees.
        upstream: outputs of other models; where it is given, the canary needs them.
        columns: further columns, with one value for all rows.
    """
    rows = tuple(
        {"mmsi": mmsi, "observed_s": observed_s, "lat": lat, "lon": lon, **columns}
        for observed_s, lat, lon in fixes
    )
    return Canary(
        entity_id=str(mmsi),
        rows=rows,
        expected=expected,
        upstream=upstream or {},
        needs_upstream=bool(upstream),
    )
