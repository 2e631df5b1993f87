"""The metrics that every maritime model reports of its scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

EDGES = (("0", 0.0), ("03", 0.3), ("05", 0.5), ("07", 0.7))


def score_metrics(scores: Iterable[float | None]) -> dict[str, float | int | None]:
    """Share of null scores (None of no score at all), and how many exceed 0, 0.3, 0.5, 0.7."""
    held = list(scores)
    known = [score for score in held if score is not None]
    return {
        "score_null_rate": 1 - len(known) / len(held) if held else None,
        **{f"score_gt{label}_count": sum(score > edge for score in known) for label, edge in EDGES},
    }
