"""Scores in [0, 1]: the buckets that count them, and the severities that they stand for."""

from __future__ import annotations

SCORE_BUCKETS = {"gt0": 0.0, "gt03": 0.3, "gt05": 0.5, "gt07": 0.7}
"""Score buckets of a manifest, ascending: how many outputs score above each edge; the buckets nest."""

FLAGGED_BUCKET = "gt05"
FLAGGED_ABOVE = SCORE_BUCKETS[FLAGGED_BUCKET]
"""A score above this flags its entity: severity HIGH begins here."""

SEVERITIES = ("CRITICAL", "HIGH", "MEDIUM", "LOW")
SEVERITY_THRESHOLDS = tuple(zip(sorted(SCORE_BUCKETS.values(), reverse=True), SEVERITIES, strict=True))
"""A score above the number has the severity; the highest applies."""
