"""The reports of a version's shards, as one: what its manifest says."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from airflow_detection.domain.reports import CanaryResult, FeatureProfile, RunReport

REPEATED = 100
"""A value that occurs so often in a shard, on average, is one of a few that each shard has."""

_READS = {"history_oldest_s": min, "history_newest_s": max, "params_differ": max, "counts_need_past": max}
"""How what was read becomes one number; all else is added up."""


def merged_report(shards: Sequence[RunReport], entity_key: str) -> RunReport:
    """Return the report of a version of those of its shards, which are in order and have all succeeded.

    Counts and durations are added up: they are those of the work, however many workers there were. The peak
    of memory is that of the largest shard. Of each canary the worst result counts.
    """
    first = shards[0]
    newest = [shard.newest_input_at for shard in shards if shard.newest_input_at is not None]
    since = [shard.reads_since for shard in shards if shard.reads_since is not None]
    peaks = [shard.peak_memory_bytes for shard in shards if shard.peak_memory_bytes is not None]
    return replace(
        first,
        started_at=min(shard.started_at for shard in shards),
        duration_ms=_total(shard.duration_ms for shard in shards),
        input_count=sum(shard.input_count for shard in shards),
        input_digest=_digest([shard.input_digest for shard in shards], entity_key),
        newest_input_at=max(newest, default=None),
        reads_since=min(since, default=None),
        reads=_merged_reads([shard.reads for shard in shards]),
        history_tables=tuple(dict.fromkeys(table for shard in shards for table in shard.history_tables)),
        output_count=sum(shard.output_count for shard in shards),
        stage_ms=_sums([shard.stage_ms for shard in shards]),
        peak_memory_bytes=max(peaks, default=None),
        canaries=_merged_canaries([canary for shard in shards for canary in shard.canaries]),
        features=_merged_features([profile for shard in shards for profile in shard.features], entity_key),
        merges={},
    )


def merged_metrics(shards: Sequence[RunReport], metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the metrics of a version of those of its shards, each merged as the model has it.

    One that is in excess of all floats is left out.
    """
    merges = shards[0].merges
    merged: dict[str, float] = {}
    for key in dict.fromkeys(key for values in metrics for key in values):
        known = [(float(v[key]), s.output_count) for v, s in zip(metrics, shards, strict=True) if key in v]
        numbers = [number for number, _ in known]
        match merges.get(key):
            case "max":
                merged[key] = max(numbers)
            case "min":
                merged[key] = min(numbers)
            case "mean":
                mean = _mean(known)
                merged[key] = _total(number / len(numbers) for number in numbers) if mean is None else mean
            case _:
                merged[key] = _total(numbers)
    return {key: value for key, value in merged.items() if math.isfinite(value)}


def _digest(digests: Sequence[str | None], entity_key: str) -> str | None:
    """Return a digest of the digests of all shards; it begins with what shards it is of."""
    if None in digests:
        return None
    whole = hashlib.sha256(json.dumps(digests).encode()).hexdigest()
    return f"shards-1:{entity_key}:{len(digests)}:{whole}"


def _sums(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for numbers in values for name in numbers)
    return {name: _total(numbers.get(name, 0.0) for numbers in values) for name in names}


def _merged_reads(reads: Sequence[Mapping[str, float]]) -> dict[str, float]:
    merged = _sums(reads)
    for name, merge in _READS.items():
        if name in merged:
            merged[name] = merge(numbers[name] for numbers in reads if name in numbers)
    return merged


def _merged_canaries(results: Iterable[CanaryResult]) -> tuple[CanaryResult, ...]:
    """Return the worst result of each canary, present only where each shard has found it."""
    worst: dict[str, CanaryResult] = {}
    for result in results:
        other = worst.setdefault(result.name, result)
        is_present = result.is_present and other.is_present
        worst[result.name] = replace(max(other, result, key=_badness), is_present=is_present)
    return tuple(worst.values())


def _badness(result: CanaryResult) -> float:
    if (result.expected is None) != (result.observed is None):
        return math.inf
    return result.error or 0.0


def _merged_features(profiles: Iterable[FeatureProfile], entity_key: str) -> tuple[FeatureProfile, ...]:
    by_name: dict[str, list[FeatureProfile]] = {}
    for profile in profiles:
        by_name.setdefault(profile.name, []).append(profile)
    return tuple(
        FeatureProfile(
            name=name,
            count=sum(part.count for part in parts),
            null_count=sum(part.null_count for part in parts),
            distinct_count=_distinct(parts, is_entity=name == entity_key),
            **_moments(parts),
        )
        for name, parts in by_name.items()
    )


def _distinct(parts: Sequence[FeatureProfile], *, is_entity: bool) -> int:
    """Return how many values differ: exactly for entities, each of which is in one shard.

    Where each shard has the same few values, again and again, it is as many as the shard with the most of
    them has; else as many as all shards together.
    """
    counts = [part.distinct_count for part in parts]
    known = sum(part.count - part.null_count for part in parts)
    return max(counts) if not is_entity and known >= REPEATED * sum(counts) else sum(counts)


def _moments(parts: Sequence[FeatureProfile]) -> dict[str, float | None]:
    """Return mean and standard deviation of the values of all shards."""
    known = [
        (part.mean, part.deviation, part.count - part.null_count)
        for part in parts
        if part.mean is not None and part.deviation is not None
    ]
    mean = _mean([(m, n) for m, _, n in known])
    if mean is None:
        return {"mean": None, "deviation": None}
    square = _mean([(d * d + (m - mean) * (m - mean), n) for m, d, n in known])
    if square is None:
        return {"mean": None, "deviation": None}
    return {"mean": mean, "deviation": math.sqrt(square)}


def _mean(weighted: Sequence[tuple[float, int]]) -> float | None:
    """Return the mean of numbers by their weights; without any weight, or in excess of all floats, None."""
    weight = sum(n for _, n in weighted)
    mean = _total(number * n for number, n in weighted) / weight if weight else math.nan
    return mean if math.isfinite(mean) else None


def _total(numbers: Iterable[float]) -> float:
    """Return the sum of numbers, rounded once; infinity where it is in excess of all floats."""
    try:
        return math.fsum(numbers)
    except (OverflowError, ValueError):
        return math.inf
