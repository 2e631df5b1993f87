"""Signs of a fault in a column, each as a sentence: null, constant, shifted, or made of fewer rows.

Three kinds of columns have profiles: those from which a model says it computed, those of the newest rows of
the inputs (`NEWEST`), and the entities of the outputs (`ENTITIES`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scipy import stats

from airflow_detection.domain.thresholds import Thresholds
from airflow_detection.engine.canary import ENTITY_PROFILE
from airflow_detection.snapshot.verdicts.baseline import high_rate, low_limit, median, spread
from airflow_detection.snapshot.verdicts.history import (
    FRESH_MARGIN,
    READ_PROFILES,
    FeatureMeasures,
    History,
    Measures,
    is_extra_profile,
)
from airflow_detection.snapshot.verdicts.runs import ManifestRun
from airflow_detection.store.input_facts import NEWEST, ROWS, STATES

MIN_ROWS = 50
"""Rows, or outputs, that a ratio needs to be compared."""

WHOLE_ROWS = (ENTITY_PROFILE, NEWEST + ROWS, NEWEST + STATES)
"""Profiles of whole rows and of entities, which repeat each other in no burst."""

STEADY_SHARE = 0.95
"""A measure of at least this share of its last healthy value is not compared any further."""

Numbers = dict[str, Any]  # Any: JSON values


def column_faults(
    measures: Measures, history: History, thresholds: Thresholds, numbers: Numbers
) -> Iterator[str]:
    """Yield every sign, by column; the measures go into `numbers`."""
    run = measures.run
    last = history.healthy[-1].features
    for name, feature in measures.features.items():
        if name.startswith(READ_PROFILES):
            continue
        yield from _null_faults(name, feature, history, run, thresholds, numbers)
        count = run.features[name].count - run.features[name].null_count
        before = last.get(name)
        if before is not None and not is_extra_profile(name):
            yield from _used_row_faults(name, feature, before, history, thresholds, numbers)
        if count < MIN_ROWS:
            continue
        if not is_extra_profile(name):
            yield from _distinct_faults(name, feature, run, history, thresholds, numbers)
        elif before is not None:
            yield from _repeat_faults(name, feature, before, run, history, thresholds, numbers)
        if before is not None:
            yield from _shift_faults(name, feature, before, count, history, thresholds, numbers)


def _null_faults(
    name: str,
    feature: FeatureMeasures,
    history: History,
    run: ManifestRun,
    thresholds: Thresholds,
    numbers: Numbers,
) -> Iterator[str]:
    for measure, noun in (("null_rate", "rows"), ("fresh_null_rate", "newly arrived rows")):
        rate = getattr(feature, measure)
        if rate is None or rate <= thresholds.feature_null_floor:
            continue
        rates = history.past(name, measure)
        if not rates:
            continue
        highest = max(rates)
        base = max(highest, thresholds.feature_null_floor)
        limit = high_rate(highest, thresholds.feature_null_floor, thresholds.feature_null_factor)
        if rate > limit and is_improbable(rate, base, run.output_count, thresholds):
            numbers[f"{name}.null_rate"], numbers[f"{name}.null_limit"] = round(rate, 4), round(limit, 4)
            if name == ENTITY_PROFILE:
                seen = f"{rate:.0%} of the outputs are about nobody in the inputs"
                yield f"{seen}; at most {highest:.1%} is usual"
            else:
                yield f"{_text_of(name)} is null in {rate:.0%} of the {noun}; at most {highest:.1%} is usual"
            return


def _distinct_ratio(name: str, feature: FeatureMeasures, run: ManifestRun, history: History) -> float | None:
    """Return the distinct values of a column over its rows, or over the most that were usual.

    More rows than ever, such as payments of a burst, may repeat each other's values, as those of a second or
    of an account; a fault leaves fewer values than usual. Whole rows that repeat each other stay a sign.
    """
    if feature.distinct_ratio is None or name in WHOLE_ROWS:
        return feature.distinct_ratio
    counts = [p.count - p.null_count for m in history.healthy if (p := m.run.features.get(name)) is not None]
    profile = run.features[name]
    rows = profile.count - profile.null_count
    return feature.distinct_ratio * rows / min(rows, max(counts, default=rows) or rows)


def _distinct_faults(
    name: str,
    feature: FeatureMeasures,
    run: ManifestRun,
    history: History,
    thresholds: Thresholds,
    numbers: Numbers,
) -> Iterator[str]:
    share = thresholds.feature_distinct_share
    ratio, ratios = _distinct_ratio(name, feature, run, history), history.past(name, "distinct_ratio")
    if ratio is not None and ratios and ratio < share * max(ratios) and ratio < share * median(ratios):
        numbers[f"{name}.distinct_ratio"] = round(ratio, 6)
        numbers[f"{name}.distinct_limit"] = round(share * median(ratios), 6)
        yield f"{name} has {ratio:.2%} distinct values; {median(ratios):.1%} is usual"
        return
    fresh, past = feature.fresh_distinct, history.past(name, "fresh_distinct")
    if fresh is not None and (feature.fresh_rows or 0.0) > max(history.past(name, "fresh_rows"), default=0.0):
        fresh = max(fresh, feature.fresh_values or 0.0)  # of a burst it is enough that values arrive as usual
    share -= FRESH_MARGIN
    if fresh is None or not past or fresh >= share * max(past):
        return
    limit = low_limit(past, thresholds.input_mad_factor, share)
    if fresh < limit:
        numbers[f"{name}.fresh_distinct"] = round(fresh, 4)
        numbers[f"{name}.fresh_distinct_limit"] = round(limit, 4)
        yield f"newly arrived rows bring {fresh:.0%} of the usual distinct values of {name}"


def _repeat_faults(
    name: str,
    feature: FeatureMeasures,
    before: FeatureMeasures,
    run: ManifestRun,
    history: History,
    thresholds: Thresholds,
    numbers: Numbers,
) -> Iterator[str]:
    ratio, share = _distinct_ratio(name, feature, run, history), thresholds.distinct_share
    if ratio is None or before.distinct_ratio is None or ratio >= STEADY_SHARE * before.distinct_ratio:
        return
    ratios = [r for f in _recent(name, history) if (r := f.distinct_ratio) is not None]
    lowest = min(ratios[: -thresholds.stale_cycles] or ratios)  # the last ones may share rows with this one
    if ratio < share * lowest:
        numbers[f"{name}.distinct_ratio"] = round(ratio, 6)
        numbers[f"{name}.distinct_limit"] = round(share * lowest, 6)
        yield f"{ratio:.1%} of {_text_of(name)} are different; at least {lowest:.1%} are usual"


def _shift_faults(
    name: str,
    feature: FeatureMeasures,
    before: FeatureMeasures,
    count: int,
    history: History,
    thresholds: Thresholds,
    numbers: Numbers,
) -> Iterator[str]:
    """The mean moved by more than a share of the standard deviation, a larger one where rows are few."""
    if feature.mean is None or feature.deviation is None or before.mean is None or before.deviation is None:
        return
    if abs(feature.mean - before.mean) <= thresholds.shift_share / 2 * before.deviation:
        return
    recent = _recent(name, history)
    means = [f.mean for f in recent if f.mean is not None]
    width = max(feature.deviation, median([f.deviation or 0.0 for f in recent]))
    counts = [float(m.run.features[name].count) for m in history.recent if name in m.run.features]
    widening = max(median(counts) / count, 1.0) ** 0.5
    limit = max(thresholds.shift_share * widening * width, thresholds.input_mad_factor * spread(means))
    usual = median(means)
    if abs(feature.mean - usual) > limit:
        numbers[f"{name}.mean"], numbers[f"{name}.usual_mean"] = feature.mean, usual
        numbers[f"{name}.mean_limit"] = round(limit, 6)
        yield f"the mean of {_text_of(name)} is {feature.mean:.4g}; {usual:.4g} is usual"


def _used_row_faults(
    name: str,
    feature: FeatureMeasures,
    before: FeatureMeasures,
    history: History,
    thresholds: Thresholds,
    numbers: Numbers,
) -> Iterator[str]:
    """A model computed from a smaller share of the rows than is usual."""
    used, share = feature.used_share, thresholds.distinct_share
    if used is None or before.used_share is None or used >= STEADY_SHARE * before.used_share:
        return
    lowest = min(u for f in _recent(name, history) if (u := f.used_share) is not None)
    rows = history.healthy[-1].run.features[name].count
    if rows >= MIN_ROWS and used < share * lowest:
        numbers[f"{name}.used_share"], numbers[f"{name}.used_limit"] = (
            round(used, 6),
            round(share * lowest, 6),
        )
        yield f"{name} was computed from {used:.0%} of the rows; at least {lowest:.0%} is usual"


def _recent(name: str, history: History) -> list[FeatureMeasures]:
    return [f for m in history.recent if (f := m.features.get(name)) is not None]


def _text_of(name: str) -> str:
    """Name a column in a sentence."""
    if name == ENTITY_PROFILE:
        return "the outputs' entities"
    column = name.removeprefix(NEWEST)
    if column == name:
        return name
    return {ROWS: "the newest rows", STATES: "the newest rows without their time"}.get(
        column, f"{column} in the newest rows"
    )


def is_improbable(rate: float, base: float, entities: int, thresholds: Thresholds) -> bool:
    """Tell whether so many nulls are improbable, counted by entity: one may lack a field in all its rows."""
    if entities <= 0:
        return False
    return float(stats.binom.sf(round(rate * entities) - 1, entities, min(base, 1.0))) < thresholds.p_value
