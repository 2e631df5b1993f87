"""What runs really read, on stored cycles of the real day: history that is gone, stale rows, other params."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from tests.conftest import clone
from tests.snapshot import noaa_day_stored
from tests.snapshot.noaa_day import DAY, STEP
from tests.snapshot.planted_faults import SWITCH, Pair

from airflow_detection.domain.inputs import Inputs
from airflow_detection.engine.model import BaseDetectionModel, ModelContext, ModelResult
from airflow_detection.maritime.models.risk_score import RiskScore
from airflow_detection.maritime.models.spoofing import Spoofing
from airflow_detection.snapshot.verdicts.kinds import Verdict, VerdictKind
from airflow_detection.snapshot.verdicts.period import verdicts
from airflow_detection.store.connection import Connection, connect
from airflow_detection.store.database import Database

STARTS, BEFORE, LIMIT = (46, 62, 97, 133, 171, 208, 251), 23, 3
"""Cycles of the day at which a fault sets in, how many clean ones run before, and how many may pass."""

MODELS = ("track_quality", "spoofing", "loitering", "risk_score")


LOADED_AGAIN = """
    update detection.ais_positions set loaded_at = now() + interval '1 hour' where observed_at < %s
"""


class Zeros:
    """Scores of an upstream, read as zero."""

    def __init__(self, upstream: Any) -> None:
        self._upstream = upstream

    def __len__(self) -> int:
        return len(self._upstream)

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._upstream)

    def columns(self) -> Any:
        entities, scores = self._upstream.columns()
        return entities, tuple(
            score if str(entity).startswith("-") else 0.0
            for entity, score in zip(entities, scores, strict=True)
        )


def _older(minutes: float) -> Callable[[ModelContext], ModelContext]:
    def changed(ctx: ModelContext) -> ModelContext:
        until = ctx.window.end.timestamp() - 60 * minutes
        rows = [row for row in ctx.inputs.rows() if row["mmsi"] < 0 or row["observed_s"] < until]
        return replace(ctx, inputs=Inputs.of_rows(rows, tuple(ctx.inputs.columns)))

    return changed


def _blind(ctx: ModelContext) -> ModelContext:
    return replace(ctx, shared={name: Zeros(upstream) for name, upstream in ctx.shared.items()})


FAULTS: Mapping[str, tuple[str, Callable[[ModelContext], ModelContext] | None]] = {
    "15 minutes old": ("spoofing", _older(15)),
    "the newest ten minutes left out": ("spoofing", _older(10)),
    "other params": ("spoofing", None),
    "upstreams read as zero": ("risk_score", _blind),
}


class _Switched(BaseDetectionModel):
    """The reference model of the same id, broken as the environment says."""

    inner: ClassVar[type[BaseDetectionModel]]

    def __init__(self, model_id: str, version: str = "0", params: Any = None) -> None:
        import os

        model, change = FAULTS.get(os.environ.get(SWITCH, ""), ("", None))
        self._change = change if model == model_id else None
        if model == model_id and change is None:
            params = {**params, "v_max_kn": 500}
        super().__init__(model_id, version, params)
        self._model = self.inner(model_id, version, self.params)

    def run(self, ctx: ModelContext) -> ModelResult:
        ctx = replace(ctx, params=self.params)
        return self._model.run(self._change(ctx) if self._change else ctx)

    def canaries(self, cycle: Any) -> Any:
        return self._model.canaries(cycle)

    def reads_since(self, cycle: Any) -> Any:
        return self._model.reads_since(cycle)


class SwitchedSpoofing(_Switched):
    inner, counts_need_past = Spoofing, False


class SwitchedRisk(_Switched):
    inner = RiskScore


def registry(folder: Path) -> Path:
    loaded = yaml.safe_load(noaa_day_stored.MARITIME.read_text())
    models = {name: loaded["models"][name] for name in MODELS}
    for name, model in models.items():
        model["versions"] = {"1.0": model["versions"]["1.0"]}
        model["depends_on"] = [u for u in model.get("depends_on", ()) if u in MODELS]
        model["task_options"] = {"environment": [SWITCH]}
        if name in ("spoofing", "risk_score"):
            switched = {"spoofing": SwitchedSpoofing, "risk_score": SwitchedRisk}[name]
            model["entrypoint"] = f"{__name__}:{switched.__name__}"
    models["loitering"]["versions"]["1.0"]["params"] = {"min_duration_h": 1, "history_h": 3}
    models["risk_score"]["versions"]["1.0"]["params"] = {"weights": {"spoofing": 0.35, "loitering": 0.15}}
    file = folder / "reads.yaml"
    file.write_text(yaml.safe_dump({**loaded, "models": models}))
    return file


@dataclass(frozen=True, slots=True)
class Runs:
    """A database in which the clean cycles before `start` ran."""

    conn: Connection
    start: int

    def at(self, number: int) -> datetime:
        """The instant of a cycle, counted from `start`."""
        return DAY + (self.start + number) * STEP

    def run(self, first: int = 0, until: int = LIMIT) -> None:
        noaa_day_stored.run(self.conn, range(self.start + first, self.start + until))

    def judged(self, first: int = 0) -> list[Verdict]:
        db = Database(self.conn, "detection")
        return verdicts(db, start=self.at(first), end=self.at(LIMIT), use_model_registry=True)

    def bad(self, first: int = 0) -> set[tuple[str, VerdictKind]]:
        return {(v.model_id, v.kind) for v in self.judged(first) if v.kind.is_bad}


@pytest.fixture(
    scope="module", params=[STARTS[0], *(pytest.param(s, marks=pytest.mark.long) for s in STARTS[1:])]
)
def healthy(
    request: pytest.FixtureRequest, server: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, int]]:
    """Name of a database in which the clean cycles before a fault ran, and where the fault sets in."""
    with pytest.MonkeyPatch.context() as patch, clone(server, template) as dsn, connect(dsn) as conn:
        prefixes = (*noaa_day_stored.SETTINGS.allowed_prefixes, __name__)
        patch.setattr(
            noaa_day_stored, "SETTINGS", replace(noaa_day_stored.SETTINGS, allowed_prefixes=prefixes)
        )
        noaa_day_stored.load(conn, registry(tmp_path_factory.mktemp("reads")))
        Runs(conn, request.param).run(-BEFORE, 0)
        name = conn.info.dbname
        conn.close()
        yield name, request.param


@pytest.fixture
def runs(server: str, healthy: tuple[str, int]) -> Iterator[Runs]:
    """A copy of it."""
    name, start = healthy
    with clone(server, name) as dsn, connect(dsn) as conn:
        yield Runs(conn, start)


@pytest.mark.long
def test_clean_cycles_raise_no_alarm_on_a_fresh_database_either(runs: Runs) -> None:
    runs.run()
    assert runs.bad(-BEFORE) == set()


@pytest.mark.long
def test_a_database_that_holds_no_past_at_all_raises_no_alarm(runs: Runs) -> None:
    """A feed that begins with the window of the first cycle: nothing lies before it."""
    first = runs.at(-BEFORE)
    runs.conn.execute("delete from detection.ais_positions where observed_at < %s", (first - 12 * STEP,))
    runs.conn.execute("truncate detection.detection_model_runs, detection.detection_cycle_runs")
    runs.run(-BEFORE)
    assert runs.bad(-BEFORE) == set()


@pytest.mark.long
def test_a_backfill_that_runs_meanwhile_raises_no_alarm(runs: Runs) -> None:
    """Cycles from before the first one, between those of the present."""
    first = -BEFORE - 3 * LIMIT
    for number in range(LIMIT):
        runs.run(first + 3 * number, first + 3 * number + 3)
        runs.run(number, number + 1)
    assert runs.bad(first) == set()


@pytest.mark.parametrize("how", ["deleted", pytest.param("loaded again", marks=pytest.mark.long)])
def test_history_that_is_gone_is_found(runs: Runs, how: str) -> None:
    statement = (
        "delete from detection.ais_positions where observed_at < %s" if how == "deleted" else LOADED_AGAIN
    )
    runs.conn.execute(statement, (runs.at(-12),))
    runs.run()
    found = runs.bad()
    assert {("spoofing", VerdictKind.SILENT_FAULT), ("loitering", VerdictKind.SILENT_FAULT)} <= found
    reasons = [r for v in runs.judged() for r in v.reasons]
    assert any("rows from before its window" in reason for reason in reasons)


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_that_does_not_read_what_is_there_is_found(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv(SWITCH, fault)
    runs.run()
    assert runs.bad() == {(FAULTS[fault][0], VerdictKind.SILENT_FAULT)}


@pytest.mark.long
@pytest.mark.parametrize("factor", [1.852, 0.5144], ids=["km/h", "m/s"])
def test_speeds_in_another_unit_ship_by_ship_are_found(runs: Runs, factor: float) -> None:
    creeping = """
        update detection.ais_positions set sog_kn = sog_kn * %(factor)s
         where (mmsi * 0.6180339887) %% 1 < extract(epoch from observed_at - %(since)s::timestamptz) / 7200
    """
    runs.conn.execute(creeping, {"since": runs.at(-1), "factor": factor})
    runs.run()
    assert ("track_quality", VerdictKind.SILENT_FAULT) in runs.bad()


@pytest.mark.long
def test_an_outage_is_no_loss_of_history(runs: Runs) -> None:
    """Nothing for two hours, then all of it again: the rows of the outage are missing for good."""
    begin, end = runs.at(-22), runs.at(-2)
    runs.conn.execute(
        "delete from detection.ais_positions where observed_at >= %s and observed_at < %s", (begin, end)
    )
    runs.conn.execute("delete from detection.detection_model_runs where cycle_started_at >= %s", (begin,))
    runs.run()
    reasons = [r for v in runs.judged() for r in v.reasons if "before its window" in r]
    assert reasons == []
