"""Ships that hardly move, far from shore, on common time steps: what `encounter` and `loitering` look at."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.errors import TerminalModelError
from airflow_detection.maritime.params import positive
from airflow_detection.maritime.tracks.coast import offshore_km
from airflow_detection.maritime.tracks.duration import half_life_score
from airflow_detection.maritime.tracks.fixes import Fixes, iso_utc
from airflow_detection.maritime.tracks.gear_fixes import gear_mmsis
from airflow_detection.maritime.tracks.history import thinned, thinned_fixes
from airflow_detection.maritime.tracks.mmsi import SHIPS, is_of_kind
from airflow_detection.maritime.tracks.nowhere import is_crowd, without_nowhere
from airflow_detection.maritime.tracks.separation import separate
from airflow_detection.maritime.tracks.steps import MAX_BREAK_STEPS, Steps, resampled, runs
from airflow_detection.maritime.tracks.vessel_types import vessels_of_classes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_detection.domain.specs import Window
    from airflow_detection.engine.model import ModelContext

STEP_S = 300.0
LONG_GAP_S, GAP_WEIGHT = 1800.0, 0.3
"""A gap between fixes longer than so many seconds takes up to that share of the score: it is interpolated."""
OPEN_S = 1800.0
"""Seconds; an episode that was seen longer ago is not known to go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Steps without a long break, up to the window or into it; steps since 1970, and their row numbers.

    `is_start_seen`: it does not begin where the history does. `gap_share` is the share of the steps between
    fixes that are more than half an hour apart.
    """

    first_row: int
    last_row: int
    first_step: int
    last_step: int
    is_start_seen: bool
    gap_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """A ship slow and offshore for a stretch; its last place, degrees; `is_open`: it is known to go on."""

    stretch: Stretch
    place: tuple[float, float]
    is_open: bool

    @property
    def duration_s(self) -> float:
        """From the first step to the last, seconds."""
        return (self.stretch.last_step - self.stretch.first_step) * STEP_S

    def evidence(self, mmsi: int, threshold_s: float) -> JsonMapping:
        """Describe it for the output of one of its vessels."""
        return {**self.timing(threshold_s), **self.position()}

    def timing(self, threshold_s: float) -> JsonMapping:
        """Describe when it was and how long it lasted, beside how long it has to."""
        return {
            "is_open": self.is_open,
            "started_at": iso_utc(self.stretch.first_step * STEP_S),
            "is_start_seen": self.stretch.is_start_seen,
            "last_seen_at": iso_utc(self.stretch.last_step * STEP_S),
            "duration_s": self.duration_s,
            "threshold_s": threshold_s,
            "interpolated_share": round(self.stretch.gap_share, 3),
        }

    def position(self) -> JsonMapping:
        """Describe where it was."""
        return {"place": [round(degrees, 5) for degrees in self.place]}


E = TypeVar("E", bound=Episode)


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowShipRule(ABC):
    """The bounds of an episode, slow and offshore, and how far back it is looked for.

    `min_duration_s`: an episode takes so long at least, seconds. `max_speed_kn`: slower than this, knots.
    `offshore_km`: as far from the nearest shore, kilometres. `history_h`: hours back from the window's end.
    Between fixes further apart than `max_gap_s`, seconds, it is not known where a ship was. Vessels of
    `classes_at_work` (of `vessel_types.CLASSES`) do for a living what is looked for.
    """

    min_duration_s: float
    max_speed_kn: float
    offshore_km: float
    history_h: float
    max_gap_s: float
    classes_at_work: frozenset[str]

    @abstractmethod
    def episodes(self, ctx: ModelContext, now: Fixes) -> Mapping[int, Episode]:
        """Find the longest episode of each vessel that reaches into the window, by MMSI.

        Args:
            ctx: of the run.
            now: the usable fixes of the inputs, as `in_time_order` gives them.
        """

    def score(self, duration_s: float, gap_share: float = 0.0) -> float:
        """Score a duration: 0 below the least, 0.5 there, 0.75 at twice; a step less counts as the least.

        What lasts so long has its first and last step inside it, which may be a step nearer to each other.
        What is interpolated over long gaps weighs less, by up to `GAP_WEIGHT`.
        """
        if duration_s < self.min_duration_s - STEP_S:
            return 0.0
        score = half_life_score(max(duration_s, self.min_duration_s), self.min_duration_s)
        return score * (1 - GAP_WEIGHT * gap_share)

    def vessels(self, ctx: ModelContext, now: Fixes) -> NDArray[np.int64]:
        """Return the MMSI with a slow or speedless fix offshore, ascending: ships that are not at work.

        Nor drifting gear, which sends a ship's MMSI and a name of its own.
        """
        is_offshore = offshore_km(now.lat, now.lon) >= self.offshore_km
        slow = np.unique(now.mmsi[is_offshore & ~(now.sog_kn >= self.max_speed_kn)])
        slow = slow[is_of_kind(slow, SHIPS)]
        at_work = vessels_of_classes(ctx.inputs, self.classes_at_work) | gear_mmsis(ctx.inputs)
        return slow[~np.isin(slow, list(at_work))]

    def all_steps(self, fixes: Fixes) -> Steps:
        """Return where vessels were every five minutes, at any speed, by (track, step).

        Fixes under one MMSI are separated into tracks that a ship can sail: between two transmitters, where
        nobody is, no step lies. Positions that are nowhere are left out. `fixes` are in order, as
        `in_time_order` gives them.
        """
        fixes = without_nowhere(thinned(fixes, STEP_S))
        return resampled(
            fixes, separate(fixes), step_s=STEP_S, max_gap_s=self.max_gap_s, long_gap_s=LONG_GAP_S
        )

    def slow_steps(self, steps: Steps) -> Steps:
        """Return the steps at which vessels were slow and offshore, and not in a crowd at one point."""
        steps = steps.take(steps.speed_kn < self.max_speed_kn)
        steps = steps.take(offshore_km(steps.lat, steps.lon) >= self.offshore_km)
        return steps.take(~is_crowd(steps))

    def earlier(self, ctx: ModelContext, vessels: NDArray[np.int64]) -> Fixes:
        """Return the fixes of these vessels in the hours before the window, thinned."""
        return thinned_fixes(ctx, ctx.window.end - timedelta(hours=self.history_h), STEP_S, vessels)

    def stretches(
        self,
        window: Window,
        group: NDArray[np.int64],
        step: NDArray[np.int64],
        in_gap: NDArray[np.bool_],
    ) -> Iterator[Stretch]:
        """Iterate over the stretches that reach into the window, of rows ordered by (group, step).

        `in_gap` tells which rows lie between fixes more than half an hour apart.
        """
        start_s = window.start.timestamp()
        seen_from_s = window.end.timestamp() - self.history_h * 3600 + self.max_gap_s
        rows = runs(group, step)
        for first, last in zip(rows.first.tolist(), rows.last.tolist(), strict=True):
            if step[last] * STEP_S >= start_s:
                yield Stretch(
                    first_row=first,
                    last_row=last,
                    first_step=int(step[first]),
                    last_step=int(step[last]),
                    is_start_seen=bool(step[first] * STEP_S > seen_from_s),
                    gap_share=float(in_gap[first : last + 1].mean()),
                )


def keep_longest(episodes: dict[int, E], mmsi: int, episode: E) -> None:
    """Put an episode of a vessel in place of a shorter one; of two that are as long, the first stays."""
    if mmsi not in episodes or episode.duration_s > episodes[mmsi].duration_s:
        episodes[mmsi] = episode


def least_duration_s(params: JsonMapping, default_h: float, history_h: float) -> float:
    """Read `min_duration_h`, hours, as seconds.

    Raises:
        TerminalModelError: it is not a number above 0, or more than the history can hold.
    """
    min_duration_h = positive(params, "min_duration_h", default_h)
    if history_h < min_duration_h:
        raise TerminalModelError(
            f"param 'history_h' is {history_h:g}: must be at least 'min_duration_h', {min_duration_h:g}"
        )
    return min_duration_h * 3600.0


def is_open(now: Fixes, mmsi: int, step: int, window: Window) -> bool:
    """Tell whether a vessel is known to do at the window's end what it did at `step`, its last slow one.

    Not if that was more than half an hour ago, nor if it was heard since and had moved on.
    """
    heard_s = float(now.observed_s[now.mmsi == mmsi].max(initial=0.0))
    age_s = window.end.timestamp() - step * STEP_S
    return age_s <= OPEN_S and heard_s - step * STEP_S <= (MAX_BREAK_STEPS + 1) * STEP_S
