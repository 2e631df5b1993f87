"""Signs that the outputs of a run that succeeded cannot be relied on, each as a sentence."""

from __future__ import annotations

from collections.abc import Iterator

from airflow_detection.domain.reports import CanaryResult
from airflow_detection.domain.thresholds import Thresholds
from airflow_detection.snapshot.verdicts.baseline import fit, high_rate, low_limit, median, quantile
from airflow_detection.snapshot.verdicts.column_faults import MIN_ROWS, Numbers, column_faults, is_improbable
from airflow_detection.snapshot.verdicts.history import History, Measures
from airflow_detection.snapshot.verdicts.read_faults import blind_faults, read_faults
from airflow_detection.snapshot.verdicts.runs import ManifestRun

STEADY_INPUT_SHARE = 0.85
"""Share of the usual inputs from which on fewer inputs do not explain fewer outputs."""

MAX_OUTPUTS_FACTOR = 1.5
"""Multiple of the highest number of outputs of as many rows above which outputs are too many."""


def silent_faults(
    measures: Measures, history: History, thresholds: Thresholds, numbers: Numbers
) -> Iterator[str]:
    """Yield every sign, the surest first; the measures go into `numbers`."""
    run = measures.run
    yield from _canary_faults(run, history, thresholds, numbers)
    yield from blind_faults(run)
    yield from _bucket_faults(run)
    yield from _frozen_outputs(run, history.last)
    if len(history.healthy) * 3 >= thresholds.min_history_cycles:
        yield from _null_score_faults(run, history, thresholds, numbers)
        yield from _coverage_faults(run, history, thresholds, numbers)
        yield from column_faults(measures, history, thresholds, numbers)
        yield from read_faults(run, history, thresholds, numbers)


def _canary_faults(
    run: ManifestRun, history: History, thresholds: Thresholds, numbers: Numbers
) -> Iterator[str]:
    wrong = [canary for canary in run.canaries if is_wrong(canary, thresholds.canary_tolerance)]
    numbers["canaries"], numbers["canaries_wrong"] = len(run.canaries), len(wrong)
    for canary in wrong:
        observed = _text(canary.observed) if canary.is_present else "nothing"
        yield f"canary {canary.name}: expected {_text(canary.expected)}, got {observed}"
    usual = min((len(m.run.canaries) for m in history.healthy), default=0)
    if usual and not run.canaries:
        yield f"no canary ran; {usual} are usual"


def is_wrong(canary: CanaryResult, tolerance: float) -> bool:
    """Tell whether a canary is missing, or its score off by more than the tolerance."""
    if not canary.is_present or (canary.expected is None) != (canary.observed is None):
        return True
    return canary.error is not None and canary.error > tolerance


def _bucket_faults(run: ManifestRun) -> Iterator[str]:
    buckets = sorted((edge, name) for name, edge in run.score_edges.items() if name in run.score_counts)
    names = ("scored", *(name for _, name in buckets)) if buckets else ()
    counts = [run.score_counts[name] for name in names]
    if counts != sorted(counts, reverse=True):
        yield f"score buckets do not nest: {', '.join(f'{n} {run.score_counts[n]}' for n in names)}"


def _frozen_outputs(run: ManifestRun, last: ManifestRun | None) -> Iterator[str]:
    """The same outputs as those of the cycle before, on other inputs.

    Inputs that differ in their digest but not in their number are no sign: entities at rest that report by
    the clock give such inputs.
    """
    if last is None or not run.output_count or run.output_digest is None:
        return
    is_same_output = run.output_digest == last.output_digest
    is_other_input = run.input_digest != last.input_digest and run.input_count != last.input_count
    if is_same_output and is_other_input:
        yield f"the same {run.output_count} outputs as at {last.cycle_started_at:%H:%M}, on other inputs"


def _null_score_faults(
    run: ManifestRun, history: History, thresholds: Thresholds, numbers: Numbers
) -> Iterator[str]:
    rate = run.score_null_rate
    if rate is None:
        return
    numbers["score_null_rate"] = round(rate, 4)
    if not rate:
        yield from _missing_nulls(run, history, thresholds, numbers)
    if rate <= thresholds.score_null_floor:
        return
    past = [r for m in history.healthy if (r := m.run.score_null_rate) is not None]
    if not past:
        return
    usual = quantile(past, 0.99)
    limit = high_rate(usual, thresholds.score_null_floor, thresholds.score_null_factor)
    numbers["score_null_limit"] = round(limit, 4)
    base = max(usual, thresholds.score_null_floor)
    if rate > limit and is_improbable(rate, base, run.output_count, thresholds):
        yield f"{rate:.0%} of the scores are null; up to {usual:.1%} is usual"


def _missing_nulls(
    run: ManifestRun, history: History, thresholds: Thresholds, numbers: Numbers
) -> Iterator[str]:
    """No null score where some are usual: a score was given where there is no basis for one."""
    past = [m.run for m in history.healthy if m.run.score_null_rate is not None]
    nulls = [r.score_counts["null"] for r in past]
    if not nulls or not min(nulls):
        return
    usual = fit(nulls, [r.output_count for r in past], len(past) / run.overlap)
    if usual is None:
        return
    numbers["p_low null"], _ = usual.tails(0, run.output_count)
    if numbers["p_low null"] < thresholds.p_value:
        yield f"no score is null; {usual.mean:.1%} are usual"


def _coverage_faults(
    run: ManifestRun, history: History, thresholds: Thresholds, numbers: Numbers
) -> Iterator[str]:
    """Too many outputs, or fewer from as many rows, so that part of the rows was left out.

    Only outputs without a finding are a measure of that: there is one for each entity, while findings may
    come and go.
    """
    past = [m.run for m in history.healthy]
    max_outputs = max(r.output_count for r in past)
    is_more = run.output_count > max(MAX_OUTPUTS_FACTOR * max_outputs, max_outputs + MIN_ROWS)
    if is_more and run.input_count * STEADY_INPUT_SHARE <= max(r.input_count for r in past):
        yield f"{run.output_count} outputs; at most {max_outputs} are usual for as many rows"
    if run.output_count >= thresholds.input_share * max_outputs:
        return
    mads, share = thresholds.input_mad_factor, thresholds.input_share
    is_low = run.output_count < low_limit([float(r.output_count) for r in past], mads, share)
    usual = [float(r.unflagged_count) for r in past]
    is_low &= run.unflagged_count < low_limit(usual, mads, share)
    if is_low and run.input_count >= STEADY_INPUT_SHARE * median([float(r.input_count) for r in past]):
        unflagged, expected = run.unflagged_count, median(usual)
        numbers["unflagged"], numbers["unflagged_usual"] = unflagged, expected
        yield f"{unflagged} outputs without a finding; {expected:.0f} are usual for as many rows"


def _text(score: float | None) -> str:
    return "null" if score is None else f"{score:.6g}"
