"""The metrics that every maritime model reports of its scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_EDGES = {"gt0": 0.0, "gt03": 0.3, "gt05": 0.5, "gt07": 0.7}


def score_metrics(scores: Iterable[float | None]) -> dict[str, float | int | None]:
    """Return the share of null scores (None without any score), and how many exceed 0, 0.3, 0.5, 0.7."""
    every = list(scores)
    numbers = [score for score in every if score is not None]
    return {
        "score_null_rate": 1 - len(numbers) / len(every) if every else None,
        **{f"score_{name}_count": sum(score > edge for score in numbers) for name, edge in _EDGES.items()},
    }
