"""What the pages ask of the database besides what hook and command line ask: by named statements, limited."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from airflow_detection.store.database import Database
from airflow_detection.store.registry import Row, fetch

_rows = partial(fetch, table="pages")
BUCKETS = 20


def newest_cycles(db: Database, cycle_ids: Sequence[str]) -> dict[str, Row]:
    """Return of each cycle its newest instance (`at`, None if there is none) and the outcomes of that."""
    rows = _rows(db, name="newest_cycles", params={"cycle_ids": list(cycle_ids)})
    return {row["cycle_id"]: row for row in rows}


def model_facts(db: Database, model_id: str) -> Row:
    """Return a registered model, with the description of its cycle."""
    return _rows(db, name="model_facts", params={"model_id": model_id})[0]


def newest_of_model(db: Database, model_id: str) -> datetime | None:
    """Return the newest cycle of which a model has a manifest, UTC."""
    at: datetime | None = _rows(db, name="newest_of_model", params={"model_id": model_id})[0]["at"]
    return at


def model_series(db: Database, model_id: str, start: datetime, end: datetime, step: timedelta) -> list[Row]:
    """Return the runs of a model's versions in [start, end) by intervals of `step`, replays apart."""
    params = {"model_id": model_id, "start": start, "end": end, "step_s": step.total_seconds()}
    return _rows(db, name="model_series", params=params)


def opened_cycles(
    db: Database, cycle_id: str, *, before: tuple[datetime, str] | None = None, limit: int
) -> list[Row]:
    """Return the instances of a cycle that were opened before an instant and mode, the newest first."""
    at, mode = before or (None, "override")
    params = {"cycle_id": cycle_id, "before": at or "infinity", "before_mode": mode, "limit": limit}
    return _rows(db, name="opened_cycles", params=params)


def manifests_of_cycle(
    db: Database, cycle_id: str, at: datetime, *, version_id: int | None = None
) -> list[Row]:
    """Return the manifests of one cycle, replays last; of one version alone if it is given."""
    params = {"cycle_id": cycle_id, "at": at, "version_id": version_id}
    return _rows(db, name="manifests_of_cycle", params=params)


def standings(db: Database, start: datetime, end: datetime) -> list[Row]:
    """Return the standings of the hourly reports that touch [start, end), the oldest first."""
    return _rows(db, name="standings", params={"start": start, "end": end})


def newest_report(db: Database) -> Row | None:
    """Return what the newest hourly report says in short; None where there is none."""
    return next(iter(_rows(db, name="newest_report")), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOfVersion:
    """One run of a version: which cycle (UTC), and whether it is a replay."""

    model_id: str
    version_id: int
    at: datetime
    is_replay: bool

    def params(self) -> Row:
        """Return it as the parameters of a statement."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def score_span(db: Database, runs: Iterable[RunOfVersion]) -> tuple[float, float]:
    """Return the lowest and the highest score of some runs, at least 0 and 1."""
    rows = [_rows(db, name="score_span", params=run.params())[0] for run in runs]
    return min(row["low"] for row in rows), max(row["high"] for row in rows)


def score_buckets(db: Database, run: RunOfVersion, span: tuple[float, float]) -> list[int]:
    """Return how many outputs of a run have a score in each twentieth of a span, both ends included."""
    counts = [0] * BUCKETS
    low, high = span
    for row in _rows(db, name="score_buckets", params=run.params() | {"low": low, "high": high}):
        counts[row["bucket"] - 1] = row["outputs"]
    return counts


def run_metrics(db: Database, run: RunOfVersion, *, limit: int) -> dict[str, float]:
    """Return the metrics of a run, by key."""
    rows = _rows(db, name="run_metrics", params=run.params() | {"limit": limit})
    return {row["metric_key"]: row["metric_value"] for row in rows}


def features_before(db: Database, run: RunOfVersion, *, limit: int) -> list[list[Row]]:
    """Return the profiles of columns in the runs of the same version before one, the newest first."""
    rows = _rows(db, name="usual_features", params=run.params() | {"limit": limit})
    return [row["features"] for row in rows]


def run_outputs(
    db: Database, run: RunOfVersion, *, champion_id: int | None, q: str | None, after: int, limit: int
) -> list[Row]:
    """Return outputs of a run behind the first `after`, the highest first, beside the champion's scores.

    Args:
        q: those alone whose entity id has this text in it, whatever its case.
    """
    params = run.params() | {"champion_id": champion_id, "q": q, "after": after, "limit": limit}
    return _rows(db, name="run_outputs", params=params)


MAX_READ = 200_000
"""Outputs that are read one by one for the ones of an entity: a tenth of a second or so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityPeriod:
    """An entity in [start, end), UTC, as some models saw it."""

    entity_id: str
    model_ids: Sequence[str]
    start: datetime
    end: datetime

    def params(self) -> Row:
        """Return it as the parameters of a statement."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {
            "model_ids": list(self.model_ids)
        }


def complete_from(db: Database, entity: EntityPeriod) -> datetime:
    """Return from which cycle of the period on an entity's outputs are read whatever their score, UTC.

    All of them where the table has its index of entities; else as many of the newest cycles as have MAX_READ
    outputs together.
    """
    rows = _rows(db, name="complete_from", params=entity.params() | {"rows": MAX_READ, "schema": db.schema})
    at: datetime = rows[0]["at"]
    return at


def entity_outputs(db: Database, entity: EntityPeriod, complete: datetime, *, limit: int) -> list[Row]:
    """Return what models said of an entity, by version and time; before `complete` only scores above 0.3."""
    params = entity.params() | {"complete_from": complete, "limit": limit}
    return _rows(db, name="entity_outputs", params=params)


def newest_flagged(db: Database, entity_id: str, model_ids: Sequence[str]) -> datetime | None:
    """Return the newest cycle in which models gave an entity a score above 0.3, UTC."""
    params = {"entity_id": entity_id, "model_ids": list(model_ids)}
    at: datetime | None = _rows(db, name="newest_flagged", params=params)[0]["at"]
    return at


def newest_of_models(db: Database, model_ids: Sequence[str]) -> datetime | None:
    """Return the newest cycle for which models have a manifest, UTC."""
    at: datetime | None = _rows(db, name="newest_of_models", params={"model_ids": list(model_ids)})[0]["at"]
    return at


def entities(
    db: Database, q: str, *, model_ids: Sequence[str], cycle_ids: Sequence[str], limit: int
) -> list[Row]:
    """Return entities whose id begins with a text, the one that was seen last first."""
    params = {"q": q, "model_ids": list(model_ids), "cycle_ids": list(cycle_ids), "limit": limit}
    return _rows(db, name="entities", params=params)


def reports(db: Database, *, kind: str | None, before: int | None, limit: int) -> list[Row]:
    """Return stored reports in short, the newest first; those alone whose number is below `before`."""
    return _rows(db, name="reports", params={"kind": kind, "before": before, "limit": limit})


def report(db: Database, snapshot_id: int) -> Row | None:
    """Return one stored report as its JSON; None if there is none of this number."""
    return next(iter(_rows(db, name="report", params={"snapshot_id": snapshot_id})), None)


def verdict_basis(db: Database, cycle_id: str, since: datetime, end: datetime) -> str:
    """Return a text that differs once something was written that verdicts on [since, end) rest on."""
    params = {"cycle_id": cycle_id, "since": since, "end": end}
    return str(_rows(db, name="verdict_basis", params=params)[0]["basis"])
