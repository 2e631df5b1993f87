"""Ships that fall silent: gaps between fixes, and the open gap of a ship that is silent still."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.engine.model import Canary, ModelContext, ModelResult
from airflow_detection.errors import TerminalModelError
from airflow_detection.maritime.models.offshore_model import OffshoreModel
from airflow_detection.maritime.models.track_quality import mostly_dropped
from airflow_detection.maritime.params import positive
from airflow_detection.maritime.tracks.coast import offshore_km
from airflow_detection.maritime.tracks.duration import half_life_score
from airflow_detection.maritime.tracks.fixes import TIME, Fixes, in_time_order, iso_utc, read_fixes
from airflow_detection.maritime.tracks.geo import KM_PER_NM, FloatArray
from airflow_detection.maritime.tracks.history import last_fixes, last_fixes_of, merged, times_before
from airflow_detection.maritime.tracks.hops import hops, is_impossible
from airflow_detection.maritime.tracks.mmsi import SHIPS, is_of_kind, station
from airflow_detection.maritime.tracks.separation import without_lone_fixes
from airflow_detection.maritime.vessel_canaries import vessel_canary
from airflow_detection.maritime.vessel_outputs import unjudged, vessel_metrics, vessel_output

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from airflow_detection.domain.specs import Cycle

BEFORE_S = 12 * 3600.0  # how often a ship was heard before a gap is judged by so many seconds
SATELLITE_FIXES = 14
TERRESTRIAL_FIXES = 6  # fewer are too few for a median
MAX_FIXES = 50
BEFORE = 2  # fixes from before the window: from the last one on alone a false one would not show
V_MAX_KN = 50.0
TERRESTRIAL_WEIGHT = 0.6  # to leave the range of the receivers looks the same
_CLOCK_S = 1e-3  # tolerance: floating point has seconds since 1970 to a microsecond


class AisGap(OffshoreModel):
    """One output per vessel of the window, and one per vessel that is silent: 0 where no gap meets its rule.

    Ships are judged (ITU-R M.585); the score of any other station is null. A false fix in between ends no
    gap. The event of an open gap stays open until the vessel is heard (`is_ongoing`).

    Params:
        satellite_min_h: a gap that starts offshore lasts so long at least, hours (12).
        satellite_offshore_nm: what is offshore, nautical miles (50).
        terrestrial_intervals: any other gap lasts so many of the vessel's own median intervals (20),
        terrestrial_min_h: and so long, at least, hours (3).
        history_h: how old the last fix before an open gap may be, hours: longer ones are not told again (36).
        longest_h: how old it may be when the gap ends, hours (720).
        max_dropped_share: the score is null where `track_quality` dropped more than this share (0.9).
    """

    features: ClassVar[tuple[str, ...]] = ("lat", "lon")

    @staticmethod
    def rule(params: JsonMapping) -> _GapRule:
        """Read the params; see `OffshoreModel.rule`."""
        satellite_min_h = positive(params, "satellite_min_h", 12.0)
        terrestrial_min_h = positive(params, "terrestrial_min_h", 3.0)
        history_h = positive(params, "history_h", 36.0)
        longest_h = max(positive(params, "longest_h", 720.0), history_h)
        longer_h = max(satellite_min_h, terrestrial_min_h)
        if history_h < longer_h:
            raise TerminalModelError(
                f"param 'history_h' is {history_h:g}: must be at least {longer_h:g}, "
                "the longer of 'satellite_min_h' and 'terrestrial_min_h'"
            )
        return _GapRule(
            satellite_min_s=satellite_min_h * 3600.0,
            offshore_nm=positive(params, "satellite_offshore_nm", 50.0),
            intervals=positive(params, "terrestrial_intervals", 20.0),
            terrestrial_min_s=terrestrial_min_h * 3600.0,
            history_h=history_h,
            longest_h=longest_h,
            max_dropped_share=positive(params, "max_dropped_share", 0.9),
        )

    def run(self, ctx: ModelContext) -> ModelResult:
        """Judge the gaps that end in the window, and those that are open at its end.

        Raises:
            TerminalModelError: a param is not a number or out of bounds, or an input column is missing.
        """
        rule = self.rule(ctx.params)
        fixes = read_fixes(ctx.inputs)
        now = in_time_order(fixes.take(is_of_kind(fixes.mmsi, SHIPS)))
        recent = _recent(ctx, now, rule)
        gaps = _gaps(recent, ctx.window.start.timestamp(), ctx.window.end.timestamp())
        scored = _scored_gaps(ctx, now, gaps, rule)
        outputs = list(_outputs(ctx, fixes, now, recent, scored, rule))
        return ModelResult(
            outputs_per_input=outputs,
            metrics=vessel_metrics(
                outputs,
                open_gap_count=lambda output: bool(output["score"] and output["evidence"]["is_open"]),
            ),
            features=now.features((*self.features, TIME)),
        )

    def canaries(self, cycle: Cycle) -> Iterator[Canary]:
        """Offshore: long, long enough, not long enough, too seldom heard (null); coastal; a single fix.

        And long ones that were heard since, but not where; and of which `track_quality` dropped most (null),
        or just not too much.
        """
        rule, end = self.rule(self.params), cycle.window.end.timestamp()
        mid_atlantic, harbour = (0.0, -25.0), (29.7, -95.0)

        def canary(
            mmsi: int, expected: float | None, silent_s: float, fixes: int, place: tuple[float, float]
        ) -> Canary:
            """A vessel heard every ten minutes, then silent up to the end of the window."""
            return vessel_canary(mmsi, expected, [(end - silent_s - 600.0 * i, *place) for i in range(fixes)])

        long_s, short_s = rule.satellite_min_s, rule.terrestrial_s(600.0)
        yield canary(-1, 1 - 0.5**2.5, 2.5 * long_s, 20, mid_atlantic)
        yield canary(-2, 0.5, long_s, SATELLITE_FIXES, mid_atlantic)
        yield canary(-3, 0.0, 0.95 * long_s, 20, mid_atlantic)
        yield canary(-4, None, 3 * long_s, SATELLITE_FIXES - 1, mid_atlantic)
        yield canary(-5, 0.75 * TERRESTRIAL_WEIGHT, 2 * short_s, 20, harbour)
        yield canary(-6, 0.0, 0.95 * short_s, 20, harbour)
        yield canary(-7, None, 60.0, 1, harbour)
        lost = canary(-123_456_789, 0.75, 2 * long_s, 20, mid_atlantic)  # as long as a real MMSI
        unplaced = {"mmsi": -123_456_789, "observed_s": end - 60.0, "lat": 91.0, "lon": 181.0}
        yield replace(lost, rows=(*lost.rows, unplaced))
        for mmsi, expected, share in ((-8, None, 1.0), (-9, 0.75, 0.99 * rule.max_dropped_share)):
            quality = (({"mmsi": mmsi}, {"entity_id": str(mmsi), "score": share}),)
            dropped = canary(mmsi, expected, 2 * long_s, 20, mid_atlantic)
            if expected is not None or rule.max_dropped_share < 1:
                yield replace(dropped, upstream={"track_quality": quality}, needs_upstream=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _GapRule:
    satellite_min_s: float
    offshore_nm: float
    intervals: float
    terrestrial_min_s: float
    history_h: float
    longest_h: float
    max_dropped_share: float

    def terrestrial_s(self, median_s: float) -> float:
        """Return how long a vessel that was heard every `median_s` must be silent, seconds."""
        return max(self.terrestrial_min_s, self.intervals * median_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gaps:
    """Gaps, shape (n,): `first` is the fix before one, `end_s` the fix after it or the window's end."""

    first: Fixes
    end_s: FloatArray
    is_open: NDArray[np.bool_]

    @property
    def duration_s(self) -> FloatArray:
        return np.maximum(self.end_s - self.first.observed_s, 0.0)

    def take(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> _Gaps:
        return _Gaps(first=self.first.take(index), end_s=self.end_s[index], is_open=self.is_open[index])


def _recent(ctx: ModelContext, now: Fixes, rule: _GapRule) -> Fixes:
    """Return the fixes of the window and the last ones before it, of ships, without false ones."""
    before = last_fixes(ctx, ctx.window.end - timedelta(hours=rule.history_h), BEFORE)
    returned = np.setdiff1d(now.mmsi, before.mmsi)
    long_ago = ctx.window.end - timedelta(hours=rule.longest_h)
    recent = merged(before.take(is_of_kind(before.mmsi, SHIPS)),
                    last_fixes_of(ctx, long_ago, returned, BEFORE), now)  # fmt: skip
    own = hops(recent)
    doubtful = np.unique(recent.mmsi[own.first[is_impossible(recent, own, V_MAX_KN)]])
    if not len(doubtful):
        return recent
    is_doubtful = np.isin(recent.mmsi, doubtful)
    more = merged(recent.take(is_doubtful), last_fixes_of(ctx, long_ago, doubtful, MAX_FIXES))
    return merged(recent.take(~is_doubtful), without_lone_fixes(more))


def _gaps(fixes: Fixes, start_s: float, end_s: float) -> _Gaps:
    """Return all gaps of time-ordered fixes that end in [start, end), and those that are open at the end."""
    is_open = np.append(fixes.mmsi[1:] != fixes.mmsi[:-1], True)[: len(fixes)]
    following = np.where(is_open, end_s, np.append(fixes.observed_s[1:], end_s)[: len(fixes)])
    ended = following >= start_s
    return _Gaps(first=fixes.take(ended), end_s=following[ended], is_open=is_open[ended])


@dataclass(frozen=True, slots=True, kw_only=True)
class _ScoredGap:
    """A gap of the least length; the score is None where it cannot be known."""

    mmsi: int
    score: float | None
    evidence: JsonMapping


def _scored_gaps(ctx: ModelContext, now: Fixes, gaps: _Gaps, rule: _GapRule) -> dict[int, _ScoredGap]:
    """Return the clearest gap of each vessel that has one of the least length, by MMSI."""
    gaps = gaps.take(gaps.duration_s >= min(rule.satellite_min_s, rule.terrestrial_min_s) - _CLOCK_S)
    offshore_nm = offshore_km(gaps.first.lat, gaps.first.lon) / KM_PER_NM
    least_s = np.where(offshore_nm >= rule.offshore_nm, rule.satellite_min_s, rule.terrestrial_min_s)
    is_long = gaps.duration_s >= least_s - _CLOCK_S
    gaps, offshore_nm = gaps.take(is_long), offshore_nm[is_long]
    starts = gaps.first.observed_s
    times_by_gap = times_before(ctx, now, gaps.first.mmsi, starts, span_s=BEFORE_S, max_times=MAX_FIXES)
    clearest: dict[int, _ScoredGap] = {}
    for k, (mmsi, times) in enumerate(zip(gaps.first.mmsi.tolist(), times_by_gap, strict=True)):
        gap = _scored(gaps, k, times, float(offshore_nm[k]), rule)
        earlier = clearest.get(mmsi)
        if earlier is None or _clearness(gap) >= _clearness(earlier):
            clearest[mmsi] = gap
    return clearest


def _scored(gaps: _Gaps, k: int, times: FloatArray, offshore_nm: float, rule: _GapRule) -> _ScoredGap:
    is_satellite = offshore_nm >= rule.offshore_nm
    duration_s, start_s = float(gaps.duration_s[k]), float(gaps.first.observed_s[k])
    median_s = float(np.median(np.diff(times))) if len(times) > 1 else None
    threshold_s = score = None
    if is_satellite and len(times) >= SATELLITE_FIXES:
        threshold_s = rule.satellite_min_s
    elif not is_satellite and len(times) >= TERRESTRIAL_FIXES and median_s is not None:
        threshold_s = rule.terrestrial_s(median_s)
    if threshold_s is not None:
        weight = 1.0 if is_satellite else TERRESTRIAL_WEIGHT
        is_met = duration_s >= threshold_s - _CLOCK_S
        score = weight * half_life_score(duration_s, threshold_s) if is_met else 0.0
    evidence = {
        "rule": "satellite" if is_satellite else "terrestrial",
        "is_open": bool(gaps.is_open[k]),
        "started_at": iso_utc(start_s),
        "ended_at": None if gaps.is_open[k] else iso_utc(gaps.end_s[k]),
        "duration_s": duration_s,
        "threshold_s": threshold_s,
        "from": [float(gaps.first.lat[k]), float(gaps.first.lon[k])],
        "offshore_nm": round(offshore_nm, 1),
        "fixes_before": len(times),
        "median_interval_s": median_s,
    }
    return _ScoredGap(mmsi=int(gaps.first.mmsi[k]), score=score, evidence=evidence)


def _clearness(gap: _ScoredGap) -> float:
    """Rank a gap: one that meets its rule, before one of which that cannot be known, before the others."""
    return gap.score if gap.score else (1e-9 if gap.score is None else 0.0)


def _outputs(
    ctx: ModelContext, fixes: Fixes, now: Fixes, recent: Fixes, scored: dict[int, _ScoredGap], rule: _GapRule
) -> Iterator[tuple[JsonMapping, JsonMapping]]:
    present = set(np.unique(fixes.mmsi).tolist())
    n_recent, n_pos = _fix_counts(recent), _fix_counts(now)
    dropped = mostly_dropped(ctx, rule.max_dropped_share)
    silent = {mmsi for mmsi, gap in scored.items() if gap.score and gap.evidence["is_open"]}
    for mmsi in sorted(present | silent):
        gap = scored.get(mmsi)
        score = gap.score if gap else 0.0
        has_no_position = mmsi in present and mmsi not in n_pos
        if has_no_position or str(mmsi) in dropped or (gap is None and n_recent[mmsi] < 2):
            score = None
        evidence = gap.evidence if gap else {"is_open": False}
        if station(mmsi) not in SHIPS:
            score, evidence = None, unjudged(mmsi, evidence)
        ref, output = vessel_output(mmsi, score, n_pos[mmsi], evidence)
        if gap and score:
            started_at, is_ongoing = evidence["started_at"], bool(evidence["is_open"])
            output = {**output, "episode": started_at, "is_ongoing": is_ongoing}
        yield ref, output


def _fix_counts(fixes: Fixes) -> Counter[int]:
    vessels, counts = np.unique(fixes.mmsi, return_counts=True)
    return Counter(dict(zip(vessels.tolist(), counts.tolist(), strict=True)))
