"""The severity that a score stands for."""

from __future__ import annotations

THRESHOLDS = ((0.7, "CRITICAL"), (0.5, "HIGH"), (0.3, "MEDIUM"), (0.0, "LOW"))
"""A score above the number has the severity; the highest applies."""


def severity(score: float | None) -> str | None:
    """Return the severity of a score in [0, 1]; None at 0, and where the score cannot be known."""
    if score is None:
        return None
    return next((name for threshold, name in THRESHOLDS if score > threshold), None)
