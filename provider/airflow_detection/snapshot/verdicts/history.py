"""What is known of a version before a cycle: its healthy runs, and what newly arrived in each.

Windows overlap: of an hour's rows all but the newest minutes were there a cycle ago, and a fault of the feed
shows in a twelfth of them. The difference between two windows tells what arrived: what came in less what
fell out, and what fell out came an hour ago. So each measure exists twice, of the whole window and of what
newly arrived.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime

from airflow_detection.domain.reports import FeatureProfile
from airflow_detection.domain.specs import Outcome
from airflow_detection.engine.canary import ENTITIES
from airflow_detection.snapshot.verdicts.kinds import VerdictKind
from airflow_detection.snapshot.verdicts.runs import ManifestRun
from airflow_detection.store.input_facts import NEWEST

MIN_REFERENCE_ROWS = 30
"""A window with fewer rows says nothing about what newly arrived."""

FRESH_MARGIN = 0.1
"""So much further has a share of what newly arrived to fall: in a difference of windows noise weighs more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureMeasures:
    """Of one feature; None where it cannot be known.

    `fresh_null_rate` is of the newly arrived rows. `fresh_distinct` is how fast distinct values arrive
    beside how fast rows do, both relative to a window ago: 1 is as usual, 0 none at all. `used_share` is how
    many rows the model computed it from, of all that it was given.
    """

    null_rate: float | None = None
    distinct_ratio: float | None = None
    mean: float | None = None
    deviation: float | None = None
    fresh_null_rate: float | None = None
    fresh_distinct: float | None = None
    plain_distinct: float | None = None  # before a burst of a window ago is made up for
    used_share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What a run is compared by.

    `arrivals` is the rate of newly arrived rows over that of a window ago; `plain_arrivals` the same before
    a burst of a window ago is made up for.
    """

    run: ManifestRun
    arrivals: float | None = None
    plain_arrivals: float | None = None
    features: dict[str, FeatureMeasures] = field(default_factory=dict)


class History:
    """The runs of one version up to a cycle, in order of time; give each run once, with its verdict.

    Args:
        size: healthy runs to keep; `comparable` are those that had the past they read.
    """

    def __init__(self, size: int) -> None:
        self.healthy: deque[Measures] = deque(maxlen=size)
        self.comparable: deque[ManifestRun] = deque(maxlen=size)
        self.last: ManifestRun | None = None
        self.silent_since: datetime | None = None
        self._runs: dict[datetime, Measures] = {}

    def add(self, measures: Measures, kind: VerdictKind, *, is_silent: bool = False) -> None:
        """Take in a run; `is_silent` where the feed was found to have stopped."""
        run = measures.run
        if run.outcome is not Outcome.SUCCEEDED:
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
        """What a measure of a feature was in the healthy runs, where it is known."""
        held = (m.features.get(feature) for m in self.healthy)
        return [v for f in held if f is not None and (v := getattr(f, measure)) is not None]

    @property
    def recent(self) -> list[Measures]:
        """The healthy runs of the last two windows, or of the last third of what is kept."""
        if not self.healthy:
            return []
        least = (self.healthy.maxlen or 0) // 3
        return list(self.healthy)[-max(round(2 * self.healthy[-1].run.overlap), least) :]

    def measure(self, run: ManifestRun, cycles: int) -> Measures:
        """Measure a run; newly arrived is what came in the last `cycles` cycles."""
        back = cycles * run.step
        reference = self._runs.get(run.cycle_started_at - back) if back < run.lookback else None
        if reference is None:
            return Measures(run=run, features={name: _plain(f, run) for name, f in run.features.items()})
        ago = self._runs.get(run.cycle_started_at - round(run.overlap) * run.step)
        share = back / run.lookback
        arrivals = plain = None
        if reference.run.input_count >= MIN_REFERENCE_ROWS:
            plain = _fresh(run.input_count, reference.run.input_count, share)
            arrivals = max(plain + _burst(ago.plain_arrivals if ago else None), 0.0)
        features = {}
        for name, profile in run.features.items():
            if is_apart(name):
                features[name] = _plain(profile, run)
                continue
            once = ago.features.get(name) if ago else None
            before = reference.run.features.get(name)
            burst = _burst(once.plain_distinct if once else None)
            features[name] = _feature(_plain(profile, run), profile, before, share, burst)
        return Measures(run=run, arrivals=arrivals, plain_arrivals=plain, features=features)


def _burst(rate: float | None) -> float:
    """What fell out of the window beyond the usual: a burst of an hour ago is no loss now."""
    return max((rate or 1.0) - 1.0, 0.0)


def _fresh(now: float, before: float, share: float) -> float:
    """How much arrived in the newest `share` of a window, over what arrived in as long a window ago."""
    return 1 + (now - before) / (share * before)


def is_apart(name: str) -> bool:
    """Whether a profile is of the newest rows alone, or of the outputs, and not of a model's column."""
    return name.startswith(NEWEST) or name == ENTITIES


def _plain(profile: FeatureProfile, run: ManifestRun) -> FeatureMeasures:
    known = profile.count - profile.null_count
    return FeatureMeasures(
        null_rate=profile.null_count / profile.count if profile.count else None,
        distinct_ratio=profile.distinct_count / known if known else None,
        mean=profile.mean,
        deviation=profile.deviation,
        used_share=profile.count / run.input_count if run.input_count else None,
    )


def _feature(
    plain: FeatureMeasures, profile: FeatureProfile, before: FeatureProfile | None, share: float, burst: float
) -> FeatureMeasures:
    if before is None or before.count < MIN_REFERENCE_ROWS:
        return plain
    fresh_null = distinct_rate = None
    came = profile.count - before.count + share * before.count
    if came >= share * MIN_REFERENCE_ROWS:
        nulls = profile.null_count - before.null_count + share * before.null_count
        fresh_null = min(max(nulls / came, 0.0), 1.0)
    was_known = before.count - before.null_count
    if was_known >= MIN_REFERENCE_ROWS and before.distinct_count:
        known = max(_fresh(profile.count - profile.null_count, was_known, share), 0.0)
        distinct = max(_fresh(profile.distinct_count, before.distinct_count, share), 0.0)
        distinct_rate = 1 + (distinct - known) / max(known, 1.0)
    return replace(
        plain,
        fresh_null_rate=fresh_null,
        fresh_distinct=None if distinct_rate is None else max(distinct_rate + burst, 0.0),
        plain_distinct=distinct_rate,
    )
