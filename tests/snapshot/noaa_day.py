"""The NOAA day, into which faults are planted: the reference models on it, and the manifests of their runs.

The engine, the models, the encoding and the facts of the inputs are the real ones; only the rows end in
memory instead of Postgres, so that a day of cycles takes seconds. One test goes through Postgres.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_detection.domain.inputs import Inputs
from airflow_detection.domain.json_values import JsonMapping
from airflow_detection.domain.reports import RunReport
from airflow_detection.domain.specs import Cycle, ModelSpec, Role, VersionSpec
from airflow_detection.engine.job import run_version
from airflow_detection.engine.model import BaseDetectionModel
from airflow_detection.maritime.models.spoofing import Spoofing
from airflow_detection.maritime.models.track_quality import TrackQuality
from airflow_detection.snapshot.verdicts.judge import judge_all
from airflow_detection.snapshot.verdicts.kinds import Verdict
from airflow_detection.snapshot.verdicts.runs import ManifestRun
from airflow_detection.store.input_facts import with_profiles
from airflow_detection.store.spool import Encoder

NOAA_DAY = Path(__file__).resolve().parents[3] / "shared/data/noaa_ais_2020-01-01/positions.csv.gz"
COLUMNS = ("mmsi", "observed_s", "lat", "lon", "sog_kn", "cog_deg", "heading_deg")
MMSI, TIME, LAT, LON, SOG, COG, HEADING = range(7)
DAY = datetime(2020, 1, 1, tzinfo=UTC)
STEP, LOOKBACK = timedelta(minutes=5), timedelta(hours=1)
STARTS = (62, 97, 133, 171, 208, 251)
"""Cycles of the day at which a fault sets in."""

Rows = np.ndarray[Any, np.dtype[np.float64]]
Pair = tuple[JsonMapping, JsonMapping]
Models = Mapping[str, BaseDetectionModel]

SPECS = {
    "track_quality": ModelSpec(model_id="track_quality", score_key="score", entity_key="entity_id"),
    "spoofing": ModelSpec(
        model_id="spoofing", depends_on=("track_quality",), score_key="score", entity_key="entity_id"
    ),
}
VERSIONS = {
    name: VersionSpec(model_id=name, version="1.0", role=Role.PRIMARY, version_id=number, params=params)
    for number, (name, params) in enumerate((("track_quality", {}), ("spoofing", {"v_max_kn": 50})), 1)
}


def models() -> dict[str, BaseDetectionModel]:
    return {
        "track_quality": TrackQuality("track_quality", "1.0"),
        "spoofing": Spoofing("spoofing", "1.0", {"v_max_kn": 50}),
    }


def read_day() -> Rows:
    """Return every row of the day, by time: shape (n, 7), columns as COLUMNS."""
    if not NOAA_DAY.exists():
        pytest.skip("the NOAA day is not here: ../shared/data/noaa_ais_2020-01-01 is absent")
    with gzip.open(NOAA_DAY, "rt", encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        next(lines)
        return np.array([
            (float(mmsi), datetime.fromisoformat(at).replace(tzinfo=UTC).timestamp(),
             *(float(value) if value else np.nan for value in others))
            for mmsi, at, *others in lines
        ])  # fmt: skip


def cycle_at(number: int) -> Cycle:
    return Cycle(cycle_id="maritime", started_at=DAY + number * STEP, lookback=LOOKBACK)


def window(rows: Rows, number: int) -> Rows:
    """Return the rows of one cycle's window, as the input query orders them."""
    end = (DAY + number * STEP).timestamp()
    in_window = rows[(rows[:, TIME] >= end - LOOKBACK.total_seconds()) & (rows[:, TIME] < end)]
    return in_window[np.lexsort([in_window[:, c] for c in (LON, LAT, TIME, MMSI)])]


def inputs_of(rows: Rows) -> Inputs:
    columns = {}
    for index, name in enumerate(COLUMNS):
        values = rows[:, index].tolist()
        columns[name] = tuple(int(v) if index == MMSI else None if v != v else v for v in values)
    return with_profiles(Inputs(columns), "observed_s")


class MemoryOutputs:
    """A champion's outputs, in memory."""

    def __init__(self, pairs: list[Pair]) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __iter__(self) -> Any:
        return iter(self._pairs)

    def columns(self) -> Any:
        return (
            tuple(output["entity_id"] for _, output in self._pairs),
            tuple(output["score"] for _, output in self._pairs),
        )


class MemoryStore:
    """The engine's store: outputs are encoded as for Postgres, and their facts kept."""

    def __init__(self) -> None:
        self.pairs: list[Pair] = []
        self.facts: dict[str, Any] = {}

    def save(
        self, model: ModelSpec, version: VersionSpec, cycle: Cycle, outputs: Iterable[Pair], finish: Any
    ) -> RunReport:
        self.pairs = list(outputs)
        encoder = Encoder(model)
        for _ in encoder.batches(self.pairs):
            pass
        self.facts = {"output_digest": encoder.digest, "score_counts": dict(encoder.score_counts)}
        report, _ = finish(encoder.count)
        return report  # type: ignore[no-any-return]

    def save_failure(self, model: ModelSpec, version: VersionSpec, cycle: Cycle, report: RunReport) -> None:
        self.facts = {}

    def upstream(self, version: VersionSpec, cycle: Cycle) -> Any:
        raise NotImplementedError


def run_cycle(number: int, rows: Rows, detectors: Models) -> list[ManifestRun]:
    """Run the models on the rows of a window; return their manifests."""
    inputs, cycle, runs, shared = inputs_of(rows), cycle_at(number), [], {}
    for name, spec in SPECS.items():
        store = MemoryStore()
        upstreams = {u: shared[u] for u in spec.depends_on}
        report = run_version(
            spec,
            VERSIONS[name],
            cycle,
            detector=detectors[name],
            inputs=inputs,
            shared=upstreams,
            store=store,
        )
        shared[name] = MemoryOutputs(store.pairs)
        runs.append(
            ManifestRun(
                cycle_id=cycle.cycle_id, cycle_started_at=cycle.started_at, model_id=name,
                version_id=report.version.version_id, version="1.0", role=Role.PRIMARY, step=STEP,
                lookback=LOOKBACK, outcome=report.outcome, error=report.error,
                input_count=report.input_count, input_digest=report.input_digest,
                newest_input_at=report.newest_input_at, output_count=report.output_count,
                canaries=report.canaries, features={f.name: f for f in report.features}, **store.facts,
            )
        )  # fmt: skip
    return runs


class Day:
    """The clean day's manifests, computed as far as they are asked for, and scenes that branch off it."""

    def __init__(self) -> None:
        self.rows = read_day()
        self._runs: list[list[ManifestRun]] = [[]]
        self._detectors = models()

    def clean(self, until: int) -> list[list[ManifestRun]]:
        """Return the runs of the cycles 1 to `until` - 1, by cycle."""
        while len(self._runs) < until:
            number = len(self._runs)
            self._runs.append(run_cycle(number, window(self.rows, number), self._detectors))
        return self._runs[1:until]

    def scene(
        self,
        start: int,
        cycles: int,
        *,
        feed: Callable[[Rows, int], Rows] | None = None,
        detectors: Models | None = None,
    ) -> list[Verdict]:
        """Return the verdicts of `cycles` cycles from `start` on; `feed(window rows, number)` alters rows."""
        detectors = models() if detectors is None else detectors
        before = self.clean(start)
        after = []
        for number in range(start, start + cycles):
            rows = window(self.rows, number)
            after.append(run_cycle(number, feed(rows.copy(), number) if feed else rows, detectors))
        return judged([*before, *after])[-cycles * len(SPECS) :]


def judged(cycles: list[list[ManifestRun]]) -> list[Verdict]:
    """Return the verdicts of every run, by cycle."""
    by_model = [judge_all([runs[index] for runs in cycles]) for index in range(len(SPECS))]
    return [verdict for of_cycle in zip(*by_model, strict=True) for verdict in of_cycle]
