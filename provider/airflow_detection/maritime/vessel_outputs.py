"""The output of a vessel, and the metrics of a run's vessels: the same layout for every model of vessels."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.maritime.score_metrics import score_metrics
from airflow_detection.maritime.severity import severity
from airflow_detection.maritime.tracks.mmsi import MMSI_LIMIT, station


def vessel_output(
    mmsi: int, score: float | None, n_pos: int, evidence: JsonMapping
) -> tuple[JsonMapping, JsonMapping]:
    """Return the input reference and the output of one vessel."""
    output = {
        "entity_id": str(mmsi),
        "mmsi": mmsi,
        "score": score,
        "severity": severity(score),
        "n_pos": n_pos,
        "evidence": evidence,
    }
    return {"mmsi": mmsi}, output


def unjudged(mmsi: int, evidence: JsonMapping) -> JsonMapping:
    """Add to the evidence why the station is not judged: what its MMSI says that it is."""
    return {**evidence, "not_judged": station(mmsi).value}


def vessel_metrics(
    outputs: Iterable[tuple[JsonMapping, JsonMapping]], **counts: Callable[[JsonMapping], int]
) -> dict[str, float | int | None]:
    """Count the real vessels (canaries are none), and return the metrics of their scores.

    Args:
        outputs: as `vessel_output` returns them.
        counts: metric -> how much the output of one vessel adds to it.
    """
    real = [output for _, output in outputs if 0 <= output["mmsi"] < MMSI_LIMIT]
    return {
        "vessel_count": len(real),
        **{name: sum(count(output) for output in real) for name, count in counts.items()},
        **score_metrics(output["score"] for output in real),
    }
