"""Helpers of the maritime tests: cycles, inputs of plain rows, and the NOAA day where it is at hand."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.specs import Cycle
from airflow_detection.engine.model import BaseDetectionModel, ModelContext

NOAA_DAY = Path(__file__).resolve().parents[3] / "shared/data/noaa_ais_2020-01-01/positions.csv.gz"
END = datetime(2020, 1, 1, 12, tzinfo=UTC)
COLUMNS = ("mmsi", "observed_s", "lat", "lon", "sog_kn", "cog_deg", "heading_deg")
SHIP = 366_000_001

Row = dict[str, Any]


def fix(
    second: float, lat: float | None, lon: float | None, sog: float | None = None, mmsi: int = SHIP
) -> Row:
    """Return one input row, `second` after the start of the window."""
    start = (END - timedelta(hours=1)).timestamp()
    return {"mmsi": mmsi, "observed_s": start + second, "lat": lat, "lon": lon, "sog_kn": sog}


def cycle_at(end: datetime = END) -> Cycle:
    """Return a cycle whose window is the hour before `end`."""
    return Cycle(cycle_id="maritime", started_at=end, lookback=timedelta(hours=1))


def outputs_of(
    model: BaseDetectionModel, rows: Sequence[Mapping[str, Any]] | Inputs, **shared: Any
) -> dict[str, Row]:
    """Run a model, and return its outputs by entity."""
    inputs = rows if isinstance(rows, Inputs) else Inputs.of_rows(rows, COLUMNS)
    ctx = ModelContext(cycle=cycle_at(), params=model.params, inputs=inputs, shared=shared)
    pairs = list(model.run(ctx).outputs_per_input)
    assert all(ref == {"mmsi": output["mmsi"]} for ref, output in pairs)
    outputs = {output["entity_id"]: dict(output) for _, output in pairs}
    assert len(outputs) == len(pairs), "one output a vessel"
    return outputs


@pytest.fixture(scope="session")
def noaa_day() -> list[tuple[Any, ...]]:
    """The rows of the NOAA day as the input query selects them, in order of time."""
    if not NOAA_DAY.exists():
        pytest.skip("the NOAA day is not here: ../shared/data/noaa_ais_2020-01-01 is absent")
    with gzip.open(NOAA_DAY, "rt", encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        next(lines)
        return [
            (
                int(mmsi),
                datetime.fromisoformat(time).replace(tzinfo=UTC).timestamp(),
                *(float(value) if value else None for value in others),
            )
            for mmsi, time, *others in lines
        ]
