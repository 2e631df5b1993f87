"""Signs that a run did not read what was there, each as a sentence.

Its history is gone, it leaves out the newest rows, it read other scores than its upstreams have, it ran with
other params, or a ratio that holds for each entity has moved. Its canaries are right all the same: they bring
rows of their own.
"""

from __future__ import annotations

from collections.abc import Iterator

from airflow_detection.domain.thresholds import Thresholds
from airflow_detection.engine.reads import RATIO, READ, SHARED
from airflow_detection.snapshot.verdicts.baseline import median
from airflow_detection.snapshot.verdicts.column_faults import MIN_ROWS, Numbers
from airflow_detection.snapshot.verdicts.history import History
from airflow_detection.snapshot.verdicts.runs import ManifestRun

HISTORY_SHARE = 0.5
"""Share of the usual rows from before the window below which part of them is gone."""

MIN_ENTITIES = 10
"""Entities whose history is read, from which on there is a usual number of rows."""

MIN_PAST, MIN_PAST_RUNS = 1 / 3, 3
"""Share of the rows of a window that cycles before it must have had, and runs to compare with."""

MIN_NEWER, NEWER_FACTOR = 10, 3
"""Rows newer than the newest one that a model used, and the multiple of the most that is usual."""

READ_TOLERANCE = 0.01
"""Share by which the mean of the scores that were read may differ from that of the upstream's."""

MIN_RATIOS, MIN_RATIO_SHIFT, RATIO_MARGIN, RATIO_ERRORS = 30, 0.026, 1.2, 3.5
"""Entities that a mean ratio needs; how far it moves at least, of how far it ever was, and of its error."""


def blind_faults(run: ManifestRun) -> Iterator[str]:
    """Yield what needs no comparison with other runs."""
    if run.other_params or run.reads.get("params_differ"):
        yield "it ran with other params than those that are registered"
    for name, had in run.features.items():
        read = run.features.get(READ + name.removeprefix(SHARED)) if name.startswith(SHARED) else None
        if read is None:
            continue
        upstream = name.removeprefix(SHARED)
        if read.count != had.count or (read.mean is None) != (had.mean is None):
            yield f"it read {read.count} scores of {upstream}, which has {had.count}"
        elif read.mean is None or had.mean is None:
            continue
        elif abs(read.mean - had.mean) > READ_TOLERANCE * abs(had.mean):
            yield f"the mean of the scores it read of {upstream} is {read.mean:.4g}, not {had.mean:.4g}"


def read_faults(
    run: ManifestRun, history: History, thresholds: Thresholds, numbers: Numbers
) -> Iterator[str]:
    """Yield what shows beside the runs before; the measures go into `numbers`."""
    yield from _lost_history(run, history, numbers)
    yield from _stale_rows(run, history, numbers)
    for name in run.features:
        if name.startswith(RATIO):
            yield from _moved_ratio(name, run, history, thresholds.min_history_cycles // 3, numbers)


def _lost_history(run: ManifestRun, history: History, numbers: Numbers) -> Iterator[str]:
    """Far fewer rows from before the window, though the cycles of that time had as many.

    Not after an outage, on a fresh database or in a backfill: there either the rows are as many as before, or
    those of the cycles of that time are as few. Where fewer entities are asked for, each has as many rows.
    """
    rows = run.reads.get("history_rows")
    past = [m.run for m in history.recent if "history_rows" in m.run.reads and m.run.past_rows]
    if rows is None or run.past_rows < MIN_PAST * run.input_count or len(past) < MIN_PAST_RUNS:
        return
    usual = [r.reads["history_rows"] for r in past]
    entities = [r.reads.get("history_entities", 0.0) for r in past]
    if median(entities) < MIN_ENTITIES or median(usual) < MIN_ROWS:
        return
    numbers["history_rows"], numbers["history_rows_usual"] = rows, median(usual)

    def is_low(now: float, before: list[float]) -> bool:
        return now < HISTORY_SHARE * median(before)

    by_row = [r.reads["history_rows"] / r.past_rows for r in past]
    each = [count / max(of, 1.0) for count, of in zip(usual, entities, strict=True)]
    own = run.reads.get("history_entities", 0.0)
    is_less_each = not own or is_low(rows / own, each)
    if is_low(rows, usual) and is_low(rows / run.past_rows, by_row) and is_less_each:
        yield f"it found {rows:.0f} rows from before its window; {median(usual):.0f} are usual"


def _stale_rows(run: ManifestRun, history: History, numbers: Numbers) -> Iterator[str]:
    newer = run.reads.get("newer_rows")
    past = [m.run.reads["newer_rows"] for m in history.healthy if "newer_rows" in m.run.reads]
    if newer is None or not past:
        return
    numbers["newer_rows"] = newer
    if newer >= MIN_NEWER and newer > NEWER_FACTOR * max(past):
        yield f"{newer:.0f} rows are newer than the newest that it used; at most {max(past):.0f} are usual"


def _moved_ratio(
    name: str, run: ManifestRun, history: History, min_cycles: int, numbers: Numbers
) -> Iterator[str]:
    """Compare a mean ratio with those of all healthy runs: what creeps in does not become usual.

    Where rows are fewer, so are entities, and rows of each: the mean's error grows as their number falls.
    """
    now = run.features[name]
    profiles = [p for m in history.healthy if (p := m.run.features.get(name)) is not None]
    past = [p.mean for p in profiles if p.mean is not None]
    if now.mean is None or now.count < MIN_RATIOS or len(past) < min_cycles:
        return
    usual = median(past)
    widening = max(median([float(p.count) for p in profiles]) / now.count, 1.0)
    error = median([p.deviation or 0.0 for p in profiles]) / now.count**0.5
    farthest = RATIO_MARGIN * max(abs(mean - usual) for mean in past)
    limit = max(widening * max(farthest, MIN_RATIO_SHIFT), RATIO_ERRORS * error)
    numbers[name], numbers[f"{name}_limit"] = round(now.mean, 6), round(limit, 6)
    if abs(now.mean - usual) > limit:
        yield f"the mean of {name.removeprefix(RATIO)} is {now.mean:.4g}; {usual:.4g} is usual"
