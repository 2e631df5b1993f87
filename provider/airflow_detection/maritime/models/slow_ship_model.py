"""The run of `encounter` and `loitering`: the longest episode of each ship that hardly moves, scored."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.specs import Cycle
from airflow_detection.engine.model import Canary, ModelContext, ModelResult
from airflow_detection.maritime.models.offshore_model import OffshoreModel
from airflow_detection.maritime.tracks.fixes import TIME, in_time_order, read_fixes
from airflow_detection.maritime.tracks.mmsi import SHIPS, station
from airflow_detection.maritime.tracks.slow_ships import STEP_S, Episode, SlowShipRule
from airflow_detection.maritime.vessel_canaries import vessel_canary
from airflow_detection.maritime.vessel_outputs import unjudged, vessel_metrics, vessel_output


class SlowShipModel(OffshoreModel):
    """One output per vessel of the window: 0 where it has no episode, null below two fixes.

    The score is 1 - 0.5 ** (duration / least duration) from the least duration on: 0.5 there, 0.75 at twice;
    less where much of it is interpolated. Ships are judged (ITU-R M.585); that of another station is null.
    """

    features: ClassVar[tuple[str, ...]] = ("lat", "lon", "sog_kn")

    @staticmethod
    @abstractmethod
    def rule(params: JsonMapping) -> SlowShipRule:
        """Read the params; see `OffshoreModel.rule`."""

    def run(self, ctx: ModelContext) -> ModelResult:
        """Judge every vessel that has a row in the inputs.

        Raises:
            TerminalModelError: a param is not a number or out of bounds, or an input column is missing.
        """
        rule = self.rule(ctx.params)
        fixes = read_fixes(ctx.inputs)
        now = in_time_order(fixes)
        episodes = rule.episodes(ctx, now)
        n_pos = Counter(now.mmsi.tolist())
        outputs = [_output(m, n_pos[m], episodes.get(m), rule) for m in np.unique(fixes.mmsi).tolist()]
        return ModelResult(
            outputs_per_input=outputs,
            metrics=vessel_metrics(outputs),
            features=now.features((*self.features, TIME)),
        )


def _output(
    mmsi: int, n_pos: int, episode: Episode | None, rule: SlowShipRule
) -> tuple[JsonMapping, JsonMapping]:
    """Return the output of one vessel; without an episode of the least duration, null below two fixes."""
    score = rule.score(episode.duration_s, episode.stretch.gap_share) if episode else 0.0
    if episode and score:
        return vessel_output(mmsi, score, n_pos, episode.evidence(mmsi, rule.min_duration_s))
    if station(mmsi) not in SHIPS:
        return vessel_output(mmsi, None, n_pos, unjudged(mmsi, {"is_open": False}))
    return vessel_output(mmsi, None if n_pos < 2 else score, n_pos, {"is_open": False})


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowShipCanaries:
    """The canaries of a cycle, with a fix at each five-minute step; numbers of steps.

    `newest` is the last step before the window's end, counted from 1970. An episode of `least` steps lasts
    the least duration, one of `long` steps two and a half times as long. What ends `before` steps before
    the newest ends before the window.
    """

    newest: int
    least: int
    long: int
    before: int

    @classmethod
    def of(cls, cycle: Cycle, rule: SlowShipRule) -> SlowShipCanaries:
        """Count the steps of a cycle and a rule."""
        window, least = cycle.window, math.ceil(rule.min_duration_s / STEP_S)
        return cls(
            newest=math.ceil(window.end.timestamp() / STEP_S) - 1,
            least=least,
            long=round(2.5 * least),
            before=round((window.end - window.start).total_seconds() / STEP_S) + 1,
        )

    def canary(
        self,
        mmsi: int,
        expected: float | None,
        places: Sequence[tuple[float, float]],
        *,
        sog_kn: float,
        ago: int = 0,
    ) -> Canary:
        """Return a vessel that was at `places` (degrees, the newest first), the last time `ago` steps ago."""
        fixes = [((self.newest - ago - k) * STEP_S, lat, lon) for k, (lat, lon) in enumerate(places)]
        return vessel_canary(mmsi, expected, fixes, sog_kn=sog_kn)
