"""History of a version before a cycle: its healthy runs, and the newly arrived rows of each.

Windows overlap: of an hour's rows all but the newest minutes were there a cycle ago, and a fault of the feed
shows in a twelfth of them. The difference between the counts of two windows is the rows that newly arrived
less those that left the window, which arrived an hour ago. So each measure exists twice, of the whole window
and of the newly arrived rows.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime

from airflow_detection.domain.reports import FeatureProfile
from airflow_detection.domain.specs import Outcome
from airflow_detection.engine.canary import ENTITY_PROFILE
from airflow_detection.engine.reads import RATIO, READ, SHARED
from airflow_detection.snapshot.verdicts.kinds import VerdictKind
from airflow_detection.snapshot.verdicts.runs import ManifestRun
from airflow_detection.store.input_facts import NEWEST

MIN_REFERENCE_ROWS = 30
"""Rows that a window needs to be the reference for newly arrived rows."""

READ_PROFILES = (SHARED, READ, RATIO)
"""Prefixes of profiles that are judged by rules of their own (`read_faults`)."""

FRESH_MARGIN = 0.1
"""Subtracted from limits on shares of newly arrived rows: a difference of windows has more noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureMeasures:
    """Measures of one feature; None where one cannot be computed.

    `fresh_null_rate` is of the newly arrived rows. `fresh_distinct` is the rate at which distinct values
    arrive relative to that of rows, both relative to a window ago: 1 is as usual, 0 is none; `fresh_rows` and
    `fresh_values` are the two rates. `used_share` is the number of rows from which the model computed it over
    all rows that it was given.
    """

    null_rate: float | None = None
    distinct_ratio: float | None = None
    mean: float | None = None
    deviation: float | None = None
    fresh_null_rate: float | None = None
    fresh_distinct: float | None = None
    fresh_rows: float | None = None
    fresh_values: float | None = None
    plain_distinct: float | None = None  # without the correction for a burst a window ago
    used_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """Measures by which a run is compared with others.

    `arrivals` is the rate of newly arrived rows over that of a window ago; `plain_arrivals` the same without
    the correction for a burst a window ago.
    """

    run: ManifestRun
    arrivals: float | None = None
    plain_arrivals: float | None = None
    features: dict[str, FeatureMeasures] = field(default_factory=dict)


class History:
    """The runs of one version up to a cycle, in order of time; add each run once, with its verdict.

    Args:
        size: the number of healthy runs to keep; `comparable` are those whose inputs reached back far enough.
    """

    def __init__(self, size: int) -> None:
        self.healthy: deque[Measures] = deque(maxlen=size)
        self.comparable: deque[ManifestRun] = deque(maxlen=size)
        self.last: ManifestRun | None = None
        self.silent_since: datetime | None = None
        self._runs: dict[datetime, Measures] = {}

    def add(self, measures: Measures, kind: VerdictKind, *, is_silent: bool = False) -> None:
        """Add a run, unless it is off the grid; `is_silent` where the feed had stopped."""
        run = measures.run
        if run.outcome is not Outcome.SUCCEEDED or run.is_off_grid:
            return
        if is_silent:
            self.silent_since = self.silent_since or run.newest_input_at or run.cycle_started_at
        elif run.input_count:
            self.silent_since = None
        self.last = run
        self._runs[run.cycle_started_at] = measures
        for at in list(self._runs):
            if at >= run.cycle_started_at - 2 * run.lookback:
                break
            del self._runs[at]
        if kind.is_healthy:
            self.healthy.append(measures)
            if run.has_past:
                self.comparable.append(run)

    def past(self, feature: str, measure: str) -> list[float]:
        """Return a measure of a feature in the healthy runs that have it."""
        features = (m.features.get(feature) for m in self.healthy)
        return [v for f in features if f is not None and (v := getattr(f, measure)) is not None]

    @property
    def recent(self) -> list[Measures]:
        """The healthy runs of the last two windows, or of the last third of what is kept."""
        if not self.healthy:
            return []
        min_runs = (self.healthy.maxlen or 0) // 3
        return list(self.healthy)[-max(round(2 * self.healthy[-1].run.overlap), min_runs) :]

    def measure(self, run: ManifestRun, cycles: int) -> Measures:
        """Measure a run; newly arrived are the rows of the last `cycles` cycles."""
        back = cycles * run.step
        reference = self._runs.get(run.cycle_started_at - back) if back < run.lookback else None
        if reference is None:
            return Measures(run=run, features={name: _plain(f, run) for name, f in run.features.items()})
        window_ago = self._runs.get(run.cycle_started_at - round(run.overlap) * run.step)
        share = back / run.lookback
        arrivals = plain = None
        if reference.run.input_count >= MIN_REFERENCE_ROWS:
            plain = _fresh(run.input_count, reference.run.input_count, share)
            arrivals = max(plain + _burst(window_ago.plain_arrivals if window_ago else None), 0.0)
        features = {}
        for name, profile in run.features.items():
            if is_extra_profile(name):
                features[name] = _plain(profile, run)
                continue
            feature_ago = window_ago.features.get(name) if window_ago else None
            before = reference.run.features.get(name)
            burst = _burst(feature_ago.plain_distinct if feature_ago else None)
            features[name] = _feature(_plain(profile, run), profile, before, share, burst)
        return Measures(run=run, arrivals=arrivals, plain_arrivals=plain, features=features)


def _burst(rate: float | None) -> float:
    """Return the excess of a rate over 1: rows of a burst that leave the window are not a loss."""
    return max((rate or 1.0) - 1.0, 0.0)


def _fresh(now: float, before: float, share: float) -> float:
    """Return the rows of the newest `share` of a window over those of an equal time a window ago."""
    return 1 + (now - before) / (share * before)


def is_extra_profile(name: str) -> bool:
    """Tell whether a profile is of the newest rows or of the outputs, and not of a model's column."""
    return name.startswith((NEWEST, *READ_PROFILES)) or name == ENTITY_PROFILE


def _plain(profile: FeatureProfile, run: ManifestRun) -> FeatureMeasures:
    non_null = profile.count - profile.null_count
    return FeatureMeasures(
        null_rate=profile.null_count / profile.count if profile.count else None,
        distinct_ratio=profile.distinct_count / non_null if non_null else None,
        mean=profile.mean,
        deviation=profile.deviation,
        used_share=profile.count / run.input_count if run.input_count else None,
    )


def _feature(
    plain: FeatureMeasures, profile: FeatureProfile, before: FeatureProfile | None, share: float, burst: float
) -> FeatureMeasures:
    if before is None or before.count < MIN_REFERENCE_ROWS:
        return plain
    fresh_null = distinct_rate = row_rate = value_rate = None
    arrived = profile.count - before.count + share * before.count
    if arrived >= share * MIN_REFERENCE_ROWS:
        nulls = profile.null_count - before.null_count + share * before.null_count
        fresh_null = min(max(nulls / arrived, 0.0), 1.0)
    non_null_before = before.count - before.null_count
    if non_null_before >= MIN_REFERENCE_ROWS and before.distinct_count:
        row_rate = max(_fresh(profile.count - profile.null_count, non_null_before, share), 0.0)
        value_rate = max(_fresh(profile.distinct_count, before.distinct_count, share), 0.0)
        distinct_rate = 1 + (value_rate - row_rate) / max(row_rate, 1.0)
    return replace(
        plain,
        fresh_null_rate=fresh_null,
        fresh_distinct=None if distinct_rate is None else max(distinct_rate + burst, 0.0),
        fresh_rows=row_rate,
        fresh_values=value_rate,
        plain_distinct=distinct_rate,
    )
