"""The severity that a score stands for."""

from __future__ import annotations

from airflow_detection.domain.scores import SEVERITY_THRESHOLDS


def severity(score: float | None) -> str | None:
    """Return the severity of a score in [0, 1]; None at 0, and where the score cannot be known."""
    if score:
        for threshold, name in SEVERITY_THRESHOLDS:
            if score > threshold:
                return name
    return None
