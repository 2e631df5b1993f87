"""Judgement of a run by the runs before it: pure functions, by precedence.

1. It left no result: DID_NOT_RUN, FAILED, SKIPPED_UPSTREAM. It had no input: NO_INPUT.
2. Its outputs cannot be relied on: SILENT_FAULT.
3. The feed is late or many of its rows are missing: INPUT_DEGRADED.
4. Against the healthy cycles before it, far less or far more than usual: SUSPECT, NO_SIGNAL_UNUSUAL, SURGE.
5. NO_SIGNAL, or OK; WARMING_UP while there is too little history.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from airflow_detection.domain.specs import Outcome
from airflow_detection.domain.thresholds import Thresholds
from airflow_detection.snapshot.verdicts.baseline import fit
from airflow_detection.snapshot.verdicts.column_faults import Numbers
from airflow_detection.snapshot.verdicts.feed_faults import feed_faults, is_feed_silent
from airflow_detection.snapshot.verdicts.history import History, Measures
from airflow_detection.snapshot.verdicts.kinds import Verdict, VerdictKind
from airflow_detection.snapshot.verdicts.run_faults import silent_faults
from airflow_detection.snapshot.verdicts.runs import ManifestRun

_RATES = (("gt0", "scored"), ("critical", "gt0"))
_DEFAULT = Thresholds()


def judge_all(runs: Iterable[ManifestRun], thresholds: Thresholds = _DEFAULT) -> Iterator[Verdict]:
    """Judge the runs of one version, in order of time; each is part of the history of those after it."""
    history = History(thresholds.history_cycles)
    for run in runs:
        yield judge(run, history, thresholds)


def judge(run: ManifestRun, history: History, thresholds: Thresholds = _DEFAULT) -> Verdict:
    """Judge one run by the history of its version, to which the run is added afterwards."""
    measures = history.measure(run, thresholds.stale_cycles)
    numbers: Numbers = {"history": len(history.healthy), **_counts(run)}
    no_result = _without_result(run)
    if no_result is not None:
        return _verdict(run, no_result, [run.error] if run.error else [], numbers)
    is_silent = is_feed_silent(run, history, thresholds, numbers)
    kind, reasons = _conclude(measures, history, thresholds, numbers, is_silent=is_silent)
    history.add(measures, kind, is_silent=is_silent)
    return _verdict(run, kind, reasons, numbers)


def _without_result(run: ManifestRun) -> VerdictKind | None:
    if run.outcome is Outcome.FAILED:
        return VerdictKind.FAILED
    if run.outcome is Outcome.SKIPPED:
        return VerdictKind.SKIPPED_UPSTREAM
    return VerdictKind.DID_NOT_RUN if run.outcome is None else None


def _conclude(
    measures: Measures, history: History, thresholds: Thresholds, numbers: Numbers, *, is_silent: bool
) -> tuple[VerdictKind, list[str]]:
    run = measures.run
    faults = list(silent_faults(measures, history, thresholds, numbers)) if run.input_count else []
    missing = list(feed_faults(measures, history, thresholds, numbers)) if run.input_count else []
    if is_silent:
        missing.insert(0, _silence_reason(run, history))
    if faults:
        return VerdictKind.SILENT_FAULT, faults + missing
    if missing:
        return VerdictKind.INPUT_DEGRADED, missing
    if not run.input_count:
        return VerdictKind.NO_INPUT, ["no rows in the window"]
    if not run.has_past:
        return VerdictKind.WARMING_UP, [
            f"it reads from {run.reads_since:%Y-%m-%d %H:%M} on; inputs came later"
        ]
    if len(history.comparable) < thresholds.min_history_cycles:
        count, min_count = len(history.comparable), thresholds.min_history_cycles
        return VerdictKind.WARMING_UP, [f"{count} of {min_count} healthy cycles to compare with"]
    return _against_baseline(run, history.comparable, thresholds, numbers)


def _silence_reason(run: ManifestRun, history: History) -> str:
    since = run.newest_input_at or history.silent_since
    return f"no row since {since:%H:%M:%S}" if since else "the feed is silent"


def _against_baseline(
    run: ManifestRun, healthy: Iterable[ManifestRun], thresholds: Thresholds, numbers: Numbers
) -> tuple[VerdictKind, list[str]]:
    low: list[str] = []
    high: list[str] = []
    first: list[str] | None = None  # the first rate that deviates decides: more, weaker findings are a surge
    for part, whole in _RATES:
        if part not in run.score_counts or whole not in run.score_counts:
            continue
        k, n = run.score_counts[part], run.score_counts[whole]
        edge = run.score_edges.get(part)
        past = [
            r.score_counts
            for r in healthy
            if part in r.score_counts and whole in r.score_counts and r.score_edges.get(part) == edge
        ]
        usual = fit([c[part] for c in past], [c[whole] for c in past], len(past) / run.overlap)
        if usual is None or not 0 <= k <= n:
            continue
        numbers[f"{part}|{whole}"] = round(usual.mean, 6)
        if usual.is_near(k, n):
            continue
        lower, upper = usual.tails(k, n)
        numbers[f"p_low {part}|{whole}"], numbers[f"p_high {part}|{whole}"] = lower, upper
        reason = f"{k} of {n} ({part} of {whole}) where {n * usual.mean:.1f} are usual: p = %.1g"
        for side, tail in ((low, lower), (high, upper)):
            if tail < thresholds.p_value:
                side.append(reason % tail)
                first = side if first is None else first
    if first is low:  # the canaries are right here: a wrong one is a SILENT_FAULT
        kind = VerdictKind.NO_SIGNAL_UNUSUAL if run.canaries else VerdictKind.SUSPECT
        return kind, low + high
    if first is high:
        return VerdictKind.SURGE, high + low
    if run.score_counts and not run.score_counts.get("medium"):
        return VerdictKind.NO_SIGNAL, []
    return VerdictKind.OK, []


def _counts(run: ManifestRun) -> Numbers:
    if run.outcome is not Outcome.SUCCEEDED:
        return {}
    return {"input_count": run.input_count, "output_count": run.output_count, **run.score_counts}


def _verdict(run: ManifestRun, kind: VerdictKind, reasons: list[str], numbers: Numbers) -> Verdict:
    return Verdict(
        cycle_id=run.cycle_id,
        cycle_started_at=run.cycle_started_at,
        model_id=run.model_id,
        version_id=run.version_id,
        version=run.version,
        role=run.role,
        kind=kind,
        reasons=tuple(reasons),
        numbers=numbers,
    )
